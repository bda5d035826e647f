//! `ztmon report`: totals from the database.

use std::io::{self, Write};
use std::ops::Range;

use anyhow::bail;
use serde_json::json;

use super::output::{Destination, Sums};
use super::query::{WHICH_NETWORK, check_chosen, check_network, lacks_network, query};
use super::{Status, place, quota, say};
use crate::cli::{self, Form, Origins};
use crate::report::{Cut, Query, fitting, thousands};
use crate::store::{self, KeptAsOne, Reader};
use crate::time::Timestamp;
use crate::traffic::{Counts, Origin, Row, Seen};
use crate::when::When;

pub(super) fn run(args: cli::Report) -> anyhow::Result<Status> {
    if let Some(file) = &args.quotas {
        return quota::report(&args, file);
    }
    let output = &args.output;
    let mut query = query(output, When::between_buckets)?;
    let range = bucket("--since", query.since)?..bucket("--until", query.until)?;
    let (origin, origin_name) = origin(args.origin);
    let database = place::database(args.db.as_deref());
    database.must_exist()?;
    let reader = Reader::open(&database.path)?;
    let destination = Destination::open(output)?;
    let [wal, shm] = store::companions(&database.path);
    destination.must_not_be([database.path.as_path(), &wal, &shm])?;

    // Coverage is that of the bytes beside it, whatever `serve` commits or deletes meanwhile.
    let moment = reader.moment()?;
    check_network(&reader, output.who.network_id, &query.named.roster)?;
    if !output.quiet && lacks_network(&reader, &query)? {
        say(&format!("ztmon: {WHICH_NETWORK}"));
    }
    let told = std::mem::take(&mut query.named.roster);
    query.named.roster = reader.roster()?;
    query.named.roster.merge(&told);
    check_chosen(&query.named.roster, &query.named.chosen)?;
    let (since, until) = (query.since, query.until);
    let read = |query: Query| Gathered::read(&reader, output, origin, range.clone(), query);
    let gathered = if query.fits {
        // Which periods fit is only known when all has been read; and buckets that are kept may be too long for any.
        let all = Query { every: None, page: false, ..query.clone() };
        query.every = read(all)?.seen.map(|seen| fitting(since.unwrap_or(seen.first), until.unwrap_or(seen.last)));
        match read(query.clone()) {
            Err(error) if error.is::<KeptAsOne>() || error.is::<Cut>() => read(Query { every: None, ..query })?,
            read => read?,
        }
    } else {
        read(query)?
    };
    let Gathered { mut sums, total, seen } = gathered;
    sums.set_now(Timestamp::now());
    if origin != Some(Origin::Import) {
        sums.see(&reader)?;
    }
    let path = database.path.display().to_string();
    let time = |of: fn(Seen) -> Timestamp| seen.map(|seen| of(seen).to_string());
    let (first, last) = (time(|seen| seen.first), time(|seen| seen.last));
    let mut summary = json!({
        "database": path,
        "origin": origin_name,
        "bytes": total.bytes,
        "packets": total.packets,
        "first_seen": first,
        "last_seen": last,
    });
    // A report of times that are all kept has nothing to say of it.
    let live_from =
        reader.live_from()?.filter(|from| origin != Some(Origin::Import) && since.is_none_or(|since| since < *from));
    if let Some(live_from) = live_from {
        summary["live_from"] = json!(live_from.to_string());
    }
    // Whoever the page is for may take all day to read it.
    drop(moment);
    // Zeros would say that nothing was there.
    destination.print(sums, output, (live_from.or(since), until), &summary)?;
    if !output.quiet {
        let line = match (first, last) {
            (Some(first), Some(last)) => {
                format!("{path}: {} packets from {first} to {last}\n", thousands(total.packets))
            }
            _ => format!("{path}: no packets\n"),
        };
        let of_before =
            live_from.map(|from| format!("{path}: live history from {from} on; what was before is deleted\n"));
        let line = line + &of_before.unwrap_or_default();
        io::stderr().write_all(line.as_bytes()).ok();
    }
    Ok(Status::Done)
}

/// What was read.
struct Gathered {
    sums: Sums,
    total: Counts,
    seen: Option<Seen>,
}

impl Gathered {
    fn read(
        reader: &Reader,
        output: &cli::Output,
        origin: Option<Origin>,
        range: Range<Option<i64>>,
        query: Query,
    ) -> anyhow::Result<Self> {
        let mut sums = Sums::new(output, query)?;
        let (mut total, mut seen) = (Counts::default(), None::<Seen>);
        let (cuts, is_series) = (sums.cuts(), output.format == Some(Form::OpenMetrics));
        if is_series {
            // Whose a row is may show in another one.
            reader.first_seen(origin, |network, endpoint, first| sums.know(network, endpoint, first))?;
        }
        let each = |network: &str, bucket, row: Row| {
            let shows = sums.shows(network, &row);
            // What others moved says which period is the last.
            if shows || !is_series {
                sums.add(network, bucket, &row)?;
            }
            if !shows {
                return Ok(());
            }
            if !row.src.end.repeats() {
                total.add(row.counts);
            }
            seen.get_or_insert(row.seen).merge(row.seen);
            Ok(())
        };
        if is_series {
            reader.buckets(origin, range, each)?;
        } else {
            reader.rows(origin, range, cuts, each)?;
        }
        if output.every().is_some() {
            reader.first_seen(origin, |network, endpoint, first| sums.know(network, endpoint, first))?;
        }
        Ok(Gathered { sums, total, seen })
    }
}

/// The origin that is asked for, if one is, and the word for it.
pub(super) fn origin(origins: Origins) -> (Option<Origin>, &'static str) {
    match origins {
        Origins::Only(Origin::Live) => (Some(Origin::Live), "live"),
        Origins::Only(Origin::Import) => (Some(Origin::Import), "import"),
        Origins::All => (None, "all"),
    }
}

/// A bound in seconds, which must fall between two kept buckets.
fn bucket(flag: &str, bound: Option<Timestamp>) -> anyhow::Result<Option<i64>> {
    let Some(bound) = bound else { return Ok(None) };
    let bucket = bound.bucket();
    let (earlier, later) = (Timestamp::new(bucket.start, 0), Timestamp::new(bucket.end(), 0));
    if earlier == bound {
        return Ok(Some(bucket.start));
    }
    bail!("{flag} {bound} falls inside a five-minute bucket of the database: the nearest are {earlier} and {later}")
}
