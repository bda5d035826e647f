//! The verbs: the only places that know everything, and the only ones that ask for the time.

mod backfill;
mod db;
mod import;
mod names;
mod output;
mod place;
mod query;
mod quota;
mod replay;
mod report;
mod rules;
mod serve;
mod summary;

use std::io::Write;
use std::process::ExitCode;

use crate::cli::{self, Cli, Command, Usage};
use crate::plain;

/// How a verb ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    /// All well.
    Done = 0,
    /// Some of the input failed, and the rest is done; or a quota is exceeded.
    Partly = 1,
    /// Nothing could be done; or nobody can tell whether a quota is exceeded.
    Nothing = 2,
}

/// Does what the arguments say; the exit status is that of the process.
pub fn run(arguments: Result<Cli, Usage>) -> ExitCode {
    let ended = match arguments {
        Ok(cli) => match cli.command {
            Command::Replay(args) => replay::run(*args),
            Command::Report(args) => report::run(args),
            Command::Db(args) => db::run(args),
            Command::Quota(args) => quota::run(args),
            Command::Rules(args) => rules::run(&args),
            Command::Serve(args) => serve::run(*args),
        },
        Err(Usage::Clap(help)) if !help.use_stderr() => {
            // A closed pipe is no reason to fail.
            help.print().ok();
            Ok(Status::Done)
        }
        Err(Usage::Clap(error)) => Err(anyhow::anyhow!(cli::in_one_line(&error))),
        Err(Usage::NoVerb(line)) => {
            say("ztmon: no command given; there are serve, replay, report, quota, rules and db (see ztmon --help)");
            say(&format!("try: {line}"));
            Ok(Status::Nothing)
        }
    };
    let status = ended.unwrap_or_else(|error| {
        say(&format!("ztmon: {error:#}"));
        Status::Nothing
    });
    ExitCode::from(status as u8)
}

/// A line on standard error. `eprintln!` would panic where nobody reads it.
fn say(line: &str) {
    // A file may have any name. In one piece.
    std::io::stderr().write_all(format!("{}\n", plain::escaped(line)).as_bytes()).ok();
}
