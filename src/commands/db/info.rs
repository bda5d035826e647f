//! `ztmon db info`: what a database holds.

use std::fmt::Write;
use std::path::Path;

use serde_json::{Value, json};

use super::super::{Status, place};
use super::print;
use crate::cli::InfoFormat;
use crate::plain::escaped;
use crate::report::thousands;
use crate::store::{Import, Info, NetworkInfo, Reader, is_in_use};
use crate::traffic::Counts;

pub(super) fn run(db: Option<&Path>, format: InfoFormat, imports: bool) -> anyhow::Result<Status> {
    let database = place::database(db);
    database.must_exist()?;
    let in_use = is_in_use(&database.path);
    let info = Reader::open(&database.path)?.info()?;
    let path = database.path.display().to_string();
    match format {
        InfoFormat::Table => print(&table(&path, in_use, &info, imports)?)?,
        InfoFormat::Json => print(&format!("{:#}\n", json_of(&path, in_use, &info)))?,
    }
    Ok(Status::Done)
}

fn table(path: &str, in_use: bool, info: &Info, imports: bool) -> Result<String, std::fmt::Error> {
    let mut text = format!("{}\n", escaped(path));
    let mut line = |name: &str, value: String| writeln!(text, "  {name:<13}  {value}");
    let n = |number: u64| thousands(number);
    line("size", format!("{} bytes, {} of them free", n(info.size), n(info.free)))?;
    line("schema", format!("version {}", info.version))?;
    line("written now", if in_use { "yes, by serve or another ztmon" } else { "no" }.to_owned())?;
    line("older buckets", format!("{} minutes", info.seconds / 60))?;
    line(
        "live history",
        match info.live_from {
            Some(from) => format!("since {from}, what was before is deleted"),
            None => "all of it".to_owned(),
        },
    )?;
    let of_length = |(seconds, buckets): (&u32, &u64)| format!("{} of {} minutes", n(*buckets), seconds / 60);
    let buckets: Vec<_> = info.buckets.iter().map(of_length).collect();
    line("buckets", if buckets.is_empty() { "none".to_owned() } else { buckets.join(", ") })?;
    line("usage", format!("{} rows in buckets, {} in {} days", n(info.usage_rows), n(info.day_rows), n(info.days)))?;
    line("imports", n(info.imports.len() as u64))?;
    for network in &info.networks {
        let NetworkInfo { name, device, clients, pairs, live, imported, seen } = network;
        let name = if name.is_empty() { "without a name" } else { name };
        let on = if device.is_empty() || device == name { String::new() } else { format!(" on {device}") };
        writeln!(text, "\nnetwork {}", escaped(&format!("{name}{on}")))?;
        let mut line = |name: &str, value: String| writeln!(text, "  {name:<13}  {value}");
        line("clients", n(*clients))?;
        line("pairs", n(*pairs))?;
        for (name, Counts { bytes, packets, .. }) in [("live", live), ("imported", imported)] {
            line(name, format!("{} bytes in {} packets", n(*bytes), n(*packets)))?;
        }
        if let Some(seen) = seen {
            line("first packet", seen.first.to_string())?;
            line("last packet", seen.last.to_string())?;
        }
    }
    if imports {
        writeln!(text, "\nimported at           bytes           frames          name")?;
        for Import { name, size, imported_at, frames, .. } in &info.imports {
            let name = escaped(name);
            writeln!(text, "{imported_at:<20}  {:<14}  {:<14}  {name}", n(*size), n(*frames))?;
        }
    }
    Ok(text)
}

fn json_of(path: &str, in_use: bool, info: &Info) -> Value {
    let networks: Vec<_> = info
        .networks
        .iter()
        .map(|network| {
            json!({
                "name": network.name,
                "device": network.device,
                "clients": network.clients,
                "pairs": network.pairs,
                "live_bytes": network.live.bytes,
                "live_packets": network.live.packets,
                "imported_bytes": network.imported.bytes,
                "imported_packets": network.imported.packets,
                "first_seen": network.seen.map(|seen| seen.first.to_string()),
                "last_seen": network.seen.map(|seen| seen.last.to_string()),
            })
        })
        .collect();
    let imports: Vec<_> = info
        .imports
        .iter()
        .map(|import| {
            json!({
                "name": import.name,
                "sha256": import.sha256.map(|byte| format!("{byte:02x}")).concat(),
                "size_bytes": import.size,
                "imported_at": import.imported_at.to_string(),
                "frames": import.frames,
                "first_seen": import.seen.map(|seen| seen.first.to_string()),
                "last_seen": import.seen.map(|seen| seen.last.to_string()),
            })
        })
        .collect();
    let buckets = info.buckets.iter().map(|(seconds, buckets)| json!({ "seconds": seconds, "buckets": buckets }));
    json!({
        "database": path,
        "size_bytes": info.size,
        "free_bytes": info.free,
        "schema_version": info.version,
        "in_use": in_use,
        "bucket_seconds": info.seconds,
        "live_from": info.live_from.map(|from| from.to_string()),
        "buckets": buckets.collect::<Vec<_>>(),
        "usage_rows": info.usage_rows,
        "days": info.days,
        "day_rows": info.day_rows,
        "networks": networks,
        "imports": imports,
    })
}
