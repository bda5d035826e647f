//! ztmon's command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    ztmon::commands::run(ztmon::cli::parse(std::env::args_os()))
}
