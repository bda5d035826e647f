//! From endpoints to members: while rows come, sums are kept by endpoint, as what a later row shows may decide whose an
//! earlier one was.

use std::collections::{BTreeMap, BTreeSet};

use super::builder::{Known, Part};
use super::sums::Parties;
use super::{Party, Query};
use crate::traffic::Endpoint;
use crate::zerotier::{Members, NetworkId, NodeId, Roster, Whose};

/// Who members are, and which of them a report is about.
#[derive(Clone, Default)]
pub struct Named {
    /// What was told of them.
    pub roster: Roster,
    /// The id of networks whose name does not say it.
    pub network: Option<NetworkId>,
    /// Names or node ids of those that are shown; nobody is all.
    pub chosen: Vec<String>,
}

/// The members of one network of a report.
#[derive(Default)]
pub(super) struct NetworkMembers {
    pub(super) members: Members,
    /// Those that are shown, if not all are.
    chosen: Option<BTreeSet<NodeId>>,
}

/// What a member sent and received for others: bytes.
pub(super) type Forwarded = [u64; 2];

impl Named {
    pub(super) fn of(&self, network: &str) -> NetworkMembers {
        let members = self.roster.of(network.parse().ok().or(self.network));
        let chosen = self.chosen.iter().flat_map(|name| members.called(name)).collect();
        NetworkMembers { chosen: Some(chosen).filter(|_| !self.chosen.is_empty()), members }
    }
}

impl NetworkMembers {
    /// Whether an endpoint is of a member that is shown.
    pub(super) fn shows(&self, endpoint: Endpoint) -> bool {
        let Some(chosen) = &self.chosen else { return true };
        self.members.whose(endpoint).is_some_and(|whose| chosen.contains(&whose.node))
    }

    /// The line that an endpoint counts in, if it is shown, and whether it is forwarded there.
    fn line_of(&self, party: Party) -> Option<(Party, bool)> {
        let Party::At(endpoint) = party else { return Some((party, false)) };
        match self.members.whose(endpoint) {
            _ if !self.shows(endpoint) => None,
            Some(Whose { node, own }) => Some((Party::Member(node), !own)),
            None => Some((Party::End(endpoint.end), false)),
        }
    }
}

/// Puts what is kept by endpoint together by member, and returns what each forwarded, by network, by the start of the period
/// and by the number of the member.
pub(super) fn fold(
    parties: &mut Parties,
    parts: &mut [Part],
    known: &mut Vec<Known>,
    networks: &mut [NetworkMembers],
) -> BTreeMap<(u32, i64, u32), Forwarded> {
    let of_parts = parts.iter().flat_map(|part| part.sums.firsts().map(|number| (part.network, number)));
    let of_known = known.iter().map(|known| (known.network, known.who.0));
    for (network, number) in of_parts.chain(of_known) {
        if let Party::At(endpoint) = parties.party(number) {
            networks[network as usize].members.note(endpoint);
        }
    }
    let mut forwarded: BTreeMap<(u32, i64, u32), Forwarded> = BTreeMap::new();
    let mut line_of = |network: u32, number: u32| {
        let (party, forwards) = networks[network as usize].line_of(parties.party(number))?;
        Some((parties.number(party), forwards))
    };
    for Part { start, network, sums } in parts {
        *sums = std::mem::take(sums).regrouped(|number, moved| {
            let (line, forwards) = line_of(*network, number)?;
            if forwards {
                let sums = forwarded.entry((*network, *start, line)).or_default();
                sums.iter_mut().zip(moved).for_each(|(sum, more)| *sum = sum.saturating_add(more));
            }
            Some(line)
        });
    }
    known.retain_mut(|known| {
        let line = line_of(known.network, known.who.0);
        known.who = line.map_or(known.who, |(line, _)| (line, line));
        line.is_some()
    });
    known.retain(|known| parties.who(super::By::Member, known.who).has_client());
    forwarded
}

impl Query {
    /// What the line of an endpoint is kept under until all have come.
    pub(super) fn party(&self, endpoint: Endpoint) -> Party {
        match self.by {
            super::By::Member => Party::At(endpoint),
            _ => Party::End(endpoint.end),
        }
    }
}
