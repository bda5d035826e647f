//! How much of the time was seen of each network.

use std::collections::HashMap;

use anyhow::{Result, bail};
use rusqlite::{Connection, Row, ToSql, params};

use super::table::{Damage, NETWORK, OBSERVED, Puts};
use super::{NetworkId, count, to_sql};
use crate::coverage::{Observed, Seconds};
use crate::time::BUCKET_SECONDS;

/// What a verified row says.
fn observed(row: &Row) -> Result<Observed> {
    let (seconds, bits) = (row.get(2)?, row.get_ref(3)?.as_blob()?);
    let up = match seconds {
        0 => Some(Seconds::default()),
        BUCKET_SECONDS => Some(Seconds::all()),
        _ => Seconds::from_bits(bits).filter(|up| up.count() == seconds),
    };
    let Some(up) = up else { bail!(Damage(format!("{seconds} covered seconds are not those that it says"))) };
    Ok(Observed {
        up,
        frames: count(row, 4)?,
        teed: count(row, 5)?,
        dropped: count(row, 6)?,
        pairs: count(row, 7)?,
        singles: count(row, 8)?,
    })
}

/// Adds what was seen of a network, by the starts of the five minutes; `written` is the time by the history's clock.
pub(super) fn add<'a>(
    conn: &Connection,
    network: NetworkId,
    written: i64,
    more: impl IntoIterator<Item = (&'a i64, &'a Observed)>,
) -> Result<()> {
    let mut select = conn.prepare_cached(&OBSERVED.select("WHERE start = ?1 AND network = ?2"))?;
    let mut puts = Puts::new(conn, &OBSERVED)?;
    for (start, more) in more {
        let mut found = select.query(params![start, network.0])?;
        let (mut sum, mut before, mut written) = (*more, None, written);
        if let Some(row) = found.next()? {
            before = Some(OBSERVED.verify(row)?);
            sum.add(&observed(row)?);
            written = written.max(row.get(9)?);
        }
        drop(found);
        let seconds = sum.up.count();
        let which = if [0, BUCKET_SECONDS].contains(&seconds) { &[] } else { sum.up.bits() };
        let Observed { up: _, frames, teed, dropped, pairs, singles } = sum;
        let [frames, teed, dropped, pairs, singles] = [frames, teed, dropped, pairs, singles].map(to_sql);
        let values: [&dyn ToSql; 10] =
            [start, &network.0, &seconds, &which, &frames?, &teed?, &dropped?, &pairs?, &singles?, &written];
        puts.put(before, &values)?;
    }
    puts.seal()
}

/// Whether anything was seen before a time, and written by then.
pub(super) fn is_seen(conn: &Connection, before: i64, written: i64) -> Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM observed WHERE start < ?1 AND written <= ?2)";
    Ok(conn.query_row(sql, [before, written], |row| row.get(0))?)
}

/// Deletes it, of at most so many five minutes.
pub(super) fn forget(conn: &Connection, before: i64, written: i64, at_most: usize) -> Result<()> {
    let rest = "WHERE start < ?1 AND written <= ?2 ORDER BY start LIMIT ?3";
    let mut select = conn.prepare(&OBSERVED.select(rest))?;
    let mut rows = select.query(params![before, written, at_most as i64])?;
    let mut old = Vec::new();
    while let Some(row) = rows.next()? {
        old.push((OBSERVED.verify(row)?, [row.get(0)?, row.get(1)?]));
    }
    let mut puts = Puts::new(conn, &OBSERVED)?;
    for (checksum, key) in old {
        puts.remove(checksum, &key)?;
    }
    puts.seal()
}

/// Gives `each` the network's name, the start and what was seen of all five minutes, by ascending start.
pub(super) fn scan(conn: &Connection, mut each: impl FnMut(&str, i64, &Observed)) -> Result<()> {
    let mut names: HashMap<i64, String> = HashMap::new();
    NETWORK.scan(conn, |row| {
        names.insert(row.get(0)?, row.get(1)?);
        Ok(())
    })?;
    OBSERVED.scan(conn, |row| {
        let (start, network): (i64, i64) = (row.get(0)?, row.get(1)?);
        let Some(name) = names.get(&network) else { bail!(Damage(format!("network {network} has no row"))) };
        each(name, start, &observed(row)?);
        Ok(())
    })
}
