//! `ztmon rules`: the flow rule to paste.

use std::io::{self, Write};

use super::Status;
use crate::cli::Rules;
use crate::zerotier::rules;

pub(super) fn run(args: &Rules) -> anyhow::Result<Status> {
    let text = rules::rules(args.observer, args.sides, args.bytes, args.format).map_err(anyhow::Error::msg)?;
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(Status::Done),
    }
}
