//! ztmon's command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    ztmon::allocator::give_back_large_blocks();
    ztmon::commands::run(ztmon::cli::parse(std::env::args_os()))
}
