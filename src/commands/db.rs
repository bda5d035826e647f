//! `ztmon db`: looking after the database.

mod info;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::{Status, place, say};
use crate::cli::{Db, Forget};
use crate::meter::Scope;
use crate::report::thousands;
use crate::store::{self, Forgotten, Merged, Part, Reader, Repaired, Writer};
use crate::traffic::Overlap;
use crate::when::When;

pub(super) fn run(args: Db) -> anyhow::Result<Status> {
    match args {
        Db::Info { db, format, imports } => info::run(db.as_deref(), format, imports),
        Db::Check { db } => check(db.as_deref()),
        Db::Repair { db, output } => repair(db.as_deref(), output),
        Db::Merge { files, output, overlap } => merge(&files, &output, overlap),
        Db::Forget(args) => forget(&args),
    }
}

fn check(db: Option<&Path>) -> anyhow::Result<Status> {
    let database = place::database(db);
    database.must_exist()?;
    Reader::open(&database.path)?.check()?;
    print(&format!("{} is sound\n", database.path.display()))?;
    Ok(Status::Done)
}

fn repair(db: Option<&Path>, output: Option<PathBuf>) -> anyhow::Result<Status> {
    let database = place::database(db);
    database.must_exist()?;
    let output = output.unwrap_or_else(|| {
        let mut name = database.path.clone().into_os_string();
        name.push(".repaired");
        name.into()
    });
    let Repaired { kept, lost } = store::repair(&database.path, &output)?;
    let kept: Vec<_> = kept.iter().map(|(table, rows)| format!("{} of {table}", thousands(*rows))).collect();
    print(&format!(
        "{}: saved into {}, rows: {}\n{} is as it was\n",
        database.path.display(),
        output.display(),
        kept.join(", "),
        database.path.display()
    ))?;
    for lost in &lost {
        say(&format!("ztmon: lost: {lost}"));
    }
    Ok(if lost.is_empty() { Status::Done } else { Status::Partly })
}

fn merge(files: &[PathBuf], output: &Path, overlap: Option<Overlap>) -> anyhow::Result<Status> {
    let Merged { parts, left_out } = store::merge(files, output, overlap)?;
    let mut text = String::new();
    for Part { path, live, seen_better, imports, imported_twice, live_elsewhere } in &parts {
        let path = path.display();
        text += &format!("{path}: {} live buckets, {} imported files\n", thousands(*live), thousands(*imports));
        if *seen_better > 0 {
            let buckets = thousands(*seen_better);
            text +=
                &format!("{path}: not taken, as another database saw no less of that time: {buckets} live buckets\n");
        }
        if *imported_twice > 0 {
            let files = thousands(*imported_twice);
            text += &format!("{path}: not taken, as another database has them: {files} imported files\n");
        }
        if live_elsewhere.packets > 0 {
            let (packets, bytes) = (thousands(live_elsewhere.packets), thousands(live_elsewhere.bytes));
            text += &format!(
                "{path}: left out, as another database captured that time live: {packets} imported packets ({bytes} bytes)\n"
            );
        }
    }
    print(&format!("{text}{}: merged\n", output.display()))?;
    for left_out in &left_out {
        say(&format!("ztmon: left out: {left_out}"));
    }
    Ok(if left_out.is_empty() { Status::Done } else { Status::Partly })
}

fn forget(args: &Forget) -> anyhow::Result<Status> {
    let clock = place::Clock::new(args.tz.as_deref(), 1)?;
    let last_seen_before = clock.time("--last-seen-before", args.last_seen_before.as_deref())?.map(When::time);
    let ranges = Some(Scope::new(args.addr.clone())).filter(|_| !args.addr.is_empty());
    let database = place::database(args.db.as_deref());
    database.must_exist()?;
    // An empty or older one is not to be made or changed for this.
    drop(Reader::open(&database.path)?);
    let mut writer = Writer::open(&database.path).with_context(|| database.cannot_open())?;
    let Forgotten { addresses, sent_bytes, received_bytes } = writer.forget(
        |addr, totals| {
            ranges.as_ref().is_none_or(|ranges| ranges.contains(addr))
                && last_seen_before.is_none_or(|time| totals.seen.last < time)
                && args.less_than.is_none_or(|bytes| totals.sent_bytes.saturating_add(totals.received_bytes) < bytes)
        },
        args.dry_run,
    )?;
    if addresses > 0
        && !args.dry_run
        && let Err(error) = writer.shrink()
    {
        say(&format!("ztmon: {error:#}; they are forgotten, and the file is as large as before"));
    }
    print(&format!(
        "{}: {} {} address(es), which sent {} and received {} bytes\n",
        database.path.display(),
        if args.dry_run { "would forget" } else { "forgot" },
        thousands(addresses),
        thousands(sent_bytes),
        thousands(received_bytes),
    ))?;
    Ok(Status::Done)
}

/// A reader that has gone away is no error.
fn print(text: &str) -> anyhow::Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to standard output")
        }
        _ => Ok(()),
    }
}
