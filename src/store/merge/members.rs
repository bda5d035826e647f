//! Members: all that any of the databases was told of them.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use rusqlite::{Connection, ToSql};

use super::old::Old;
use crate::store::add::Finder;
use crate::store::table::{ADDRESS_NAME, ASSIGNMENT, Damage, MEMBER, Puts};
use crate::traffic::Origin;

/// A member's row in one of them.
struct Told {
    name: String,
    told: i64,
    authorized: i64,
    moved: Moved,
}

/// What it moved itself, and in which time, in seconds, its network was captured there.
struct Moved {
    first: i64,
    last: i64,
    sent: i64,
    received: i64,
}

/// Writes them; `id` is the number of a network.
///
/// A list of all members is believed before other words, and the first database before the others.
pub fn write(conn: &Connection, olds: &[Old], id: impl Fn(&str) -> Result<i64>) -> Result<()> {
    let mut members: BTreeMap<(i64, String), Vec<Told>> = BTreeMap::new();
    let mut addresses: BTreeSet<(i64, String, String)> = BTreeSet::new();
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    for old in olds {
        let mut numbers = BTreeMap::new();
        MEMBER.scan(old.conn, |row| {
            let of = row.get(1)?;
            let key: (i64, String) = (id(old.network(of)?)?, row.get(2)?);
            let (first, last) = old.spans.get(&(of, Origin::Live)).copied().unwrap_or_default();
            let moved = Moved { first, last, sent: row.get(6)?, received: row.get(7)? };
            let told = Told { name: row.get(3)?, told: row.get(4)?, authorized: row.get(5)?, moved };
            numbers.insert(row.get::<_, i64>(0)?, key.clone());
            members.entry(key).or_default().push(told);
            Ok(())
        })?;
        ASSIGNMENT.scan(old.conn, |row| {
            let member: i64 = row.get(1)?;
            let (network, node) = numbers.get(&member).ok_or_else(|| Damage(format!("member {member} has no row")))?;
            addresses.insert((*network, node.clone(), row.get(2)?));
            Ok(())
        })?;
        ADDRESS_NAME.scan(old.conn, |row| {
            names.entry(row.get(1)?).or_insert(row.get(2)?);
            Ok(())
        })?;
    }
    let mut puts = Puts::new(conn, &MEMBER)?;
    let mut numbers = BTreeMap::new();
    for ((key, mut told), id) in members.into_iter().zip(1_i64..) {
        told.sort_by_key(|member| -member.told);
        let best = &told[0];
        let name = told.iter().map(|member| &member.name).find(|name| !name.is_empty()).unwrap_or(&best.name);
        let (sent, received) = moved(told.iter().map(|member| &member.moved).collect());
        let values: [&dyn ToSql; 8] = [&id, &key.0, &key.1, name, &best.told, &best.authorized, &sent, &received];
        puts.put(None, &values)?;
        numbers.insert(key, id);
    }
    puts.seal()?;
    let mut assignment = Finder::new(conn, &ASSIGNMENT)?;
    for (network, node, addr) in addresses {
        let member = numbers.get(&(network, node)).context("a member has no number")?;
        assignment.id(&[member, &addr])?;
    }
    assignment.puts.seal()?;
    let mut puts = Puts::new(conn, &ADDRESS_NAME)?;
    for ((addr, name), id) in names.iter().zip(1_i64..) {
        puts.put(None, &[&id, addr, name])?;
    }
    puts.seal()
}

/// What a member moved itself: of databases that captured at one time the most, as each may have seen the same.
fn moved(mut parts: Vec<&Moved>) -> (i64, i64) {
    parts.sort_by_key(|part| part.first);
    let (mut sum, mut most, mut end) = ((0_i64, 0_i64), (0, 0), i64::MIN);
    for part in parts {
        if part.first > end {
            sum = (sum.0.saturating_add(most.0), sum.1.saturating_add(most.1));
            most = (0, 0);
        }
        most = (most.0.max(part.sent), most.1.max(part.received));
        end = end.max(part.last);
    }
    (sum.0.saturating_add(most.0), sum.1.saturating_add(most.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_moved_at_one_time_counts_once() {
        let part = |first, last, sent| Moved { first, last, sent, received: 2 * sent };
        assert_eq!(moved(vec![&part(0, 9, 5), &part(20, 29, 7)]), (12, 24));
        assert_eq!(moved(vec![&part(0, 25, 5), &part(20, 29, 7), &part(29, 40, 6), &part(41, 50, 1)]), (8, 16));
        assert_eq!(moved(vec![]), (0, 0));
    }
}
