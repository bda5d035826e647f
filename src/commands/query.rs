//! What a report is asked for.

use std::rc::Rc;

use anyhow::{bail, ensure};

use super::place::Clock;
use super::{names, say};
use crate::cli::{Ends, Form, Output, Periods};
use crate::period::Every;
use crate::report::{By, Format, Named, Query};
use crate::store::Reader;
use crate::time::Timestamp;
use crate::traffic::End;
use crate::when::When;
use crate::zerotier::{NetworkId, Roster};
use crate::zone::Zone;

/// What to say where members are asked for and cannot be told.
pub(super) const WHICH_NETWORK: &str = "which member a MAC is depends on the network: give --network-id";

/// The query of the flags; `bound` makes times of the words.
pub(super) fn query(output: &Output, bound: fn(When) -> Timestamp) -> anyhow::Result<Query> {
    let roster = names::read_all(&output.who.names)?;
    let clock = Clock::new(output.tz.as_deref(), output.month_start())?;
    let (every, total) = (output.every(), output.every == Some(Periods::Total));
    let page = output.format == Some(Form::Report(Format::Html));
    let since = clock.time("--since", output.since.as_deref())?.map(bound);
    let until = clock.time("--until", output.until.as_deref())?.map(bound);
    if let (Some(from), Some(to)) = (since, until)
        && from >= to
        && !output.quiet
    {
        say(&format!("ztmon: --since is {from} and --until is {to}: there is no time in between, and nothing counts"));
    }
    Ok(Query {
        by: output.by,
        // Without periods it is only printed.
        zone: if output.every.is_some() { clock.zone()? } else { clock.zone().unwrap_or(Zone::UTC) },
        every: if page { every.or(Some(Every::Hour)) } else { every },
        total,
        since,
        until,
        only: only(&output.addr),
        page,
        fits: page && every.is_none(),
        named: Named {
            network: output.who.network_id.or_else(|| roster.only_network()),
            roster,
            chosen: output.member.clone(),
        },
    })
}

/// Whether an end is one of those chosen, if any are.
fn only(chosen: &[Ends]) -> Option<Rc<dyn Fn(End) -> bool>> {
    if chosen.is_empty() {
        return None;
    }
    let chosen = chosen.to_vec();
    Some(Rc::new(move |end| {
        chosen.iter().any(|one| match (one, end) {
            (Ends::Range(range), End::Addr(addr)) => range.contains(addr),
            (Ends::Pseudo(pseudo), end) => *pseudo == end,
            _ => false,
        })
    }))
}

/// An error if a replay is about members and nothing says who they are, or its names are of another network.
pub(super) fn check_members(query: &Query) -> anyhow::Result<()> {
    let Named { roster, network, chosen } = &query.named;
    names::check(roster, *network, &[])?;
    if query.by == By::Member || !chosen.is_empty() {
        ensure!(network.is_some(), "{WHICH_NETWORK}");
    }
    check_chosen(roster, chosen)
}

/// An error if a database has no network with the id that was given, and none that it could be of; or if what was `told`
/// is of others.
pub(super) fn check_network(reader: &Reader, given: Option<NetworkId>, told: &Roster) -> anyhow::Result<()> {
    let Some(given) = given else { return Ok(()) };
    let have = reader.networks()?;
    let could_be = |name: &String| name.parse::<NetworkId>().map_or(true, |id| id == given);
    ensure!(
        have.is_empty() || have.iter().any(could_be),
        "--network-id {given} is not in the database, which has {}: give one of these, or leave the flag out",
        have.join(", ")
    );
    let known: Vec<NetworkId> = have.iter().filter_map(|name| name.parse().ok()).collect();
    names::check(told, Some(given), &known)
}

/// Whether a report from a database is about members, and neither the database nor the flags say of which network.
pub(super) fn lacks_network(reader: &Reader, query: &Query) -> anyhow::Result<bool> {
    let Named { network, chosen, .. } = &query.named;
    let is_about_members = query.by == By::Member || !chosen.is_empty();
    if !is_about_members || network.is_some() {
        return Ok(false);
    }
    Ok(reader.networks()?.iter().all(|name| name.parse::<NetworkId>().is_err()))
}

/// An error if nobody goes by a name that was chosen.
pub(super) fn check_chosen(roster: &Roster, chosen: &[String]) -> anyhow::Result<()> {
    let unknown = chosen.iter().find(|name| !roster.knows(name));
    if let Some(name) = unknown {
        bail!("--member '{name}': no member has this name; give the node id, ten hex digits, or --names");
    }
    Ok(())
}
