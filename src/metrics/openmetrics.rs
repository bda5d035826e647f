//! The counters of `/metrics` over time, for a past that nobody scraped: OpenMetrics as
//! `promtool tsdb create-blocks-from openmetrics` takes it.
//!
//! A sample says what was counted before it. All series have some from the start of the history to its end, so that the
//! difference of any two moments is what was counted between them. While a counter stands still its value is only
//! repeated as often as Prometheus asks, for which a sample is good for five minutes; where it rises there is one at
//! either end of the step.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io::{self, Write};

use super::lines::{ABOUT_HOST_INFO, HOST_INFO};
use super::members::{labels_of, name_of};
use super::{COUNTERS, MEMBERS, OTHER_ENDS, about_client, about_other_end, escape, head};
use crate::packet::Mac;
use crate::time::Bucket;
use crate::traffic::{End, Endpoint, Row};
use crate::zerotier::{Members, NetworkId, NodeId, Roster, Whose};

/// A series, in the order in which they are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Series {
    /// Which of the `COUNTERS`; after them come those of other ends, and those of `MEMBERS`.
    pub family: u32,
    /// Whose.
    pub owner: u32,
}

/// By how much a series rises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Increment {
    /// Which.
    pub series: Series,
    /// The end of the interval in which this was counted, in seconds since the epoch.
    pub end: i64,
    /// Bytes or packets.
    pub amount: u64,
}

/// Where the families of `MEMBERS` begin, and those of what a member sent and received.
const FIRST_OF_MEMBERS: u32 = 2 * COUNTERS.len() as u32;
const MEMBER_FAMILIES: [u32; 2] = [FIRST_OF_MEMBERS, FIRST_OF_MEMBERS + 1];

/// Seconds for which a value that does not change is not repeated, if the steps are shorter: less than the five minutes
/// after which Prometheus forgets it.
const HOLD_SECONDS: i64 = 240;

/// Seconds in which nothing at all was counted that are too many to be filled with samples: there was no capture, or some
/// packet has the time of a clock that was not set.
const MAX_PAUSE_SECONDS: i64 = 366 * 86_400;

/// Whose series there are, and over which time.
#[derive(Debug, Default)]
pub struct History {
    roster: Roster,
    /// The id of networks whose name does not say it.
    network: Option<NetworkId>,
    /// By the networks' names.
    members: HashMap<String, Members>,
    networks: Vec<String>,
    /// By number, with the number of the network and the first MAC.
    owners: Vec<(u32, End, Option<Mac>)>,
    numbers: HashMap<(u32, End), u32>,
    /// Members by number, with the number of the network.
    nodes: Vec<(u32, NodeId)>,
    node_numbers: HashMap<(u32, NodeId), u32>,
    /// The members whose own traffic that of endpoints is, as far as anybody asked.
    carriers: HashMap<(u32, Endpoint), Option<u32>>,
    /// Starts and ends between which nothing is longer than a pause may be, in seconds.
    spans: Vec<(i64, i64)>,
    /// When the step ends that is not over.
    now: Option<i64>,
}

impl History {
    /// One in which nothing was counted. Who members are is told by the roster, and `network` is the id of networks whose
    /// name does not say it.
    pub fn new(roster: Roster, network: Option<NetworkId>) -> Self {
        History { roster, network, ..History::default() }
    }

    /// Takes note of somebody on a network, who may show whose a MAC is. Increments that were given before stay.
    pub fn know(&mut self, network: &str, endpoint: Endpoint) {
        self.members_of(network).note(endpoint);
    }

    fn members_of(&mut self, network: &str) -> &mut Members {
        let History { roster, network: id, members, .. } = self;
        members.entry(network.to_owned()).or_insert_with(|| roster.of(network.parse().ok().or(*id)))
    }

    /// Takes note of what was counted in an interval. Gives the increments, to be sorted and summed.
    pub fn count(&mut self, network: &str, bucket: Bucket, row: &Row) -> impl Iterator<Item = Increment> + use<> {
        self.cover(bucket.start, bucket.end());
        let ends = [row.src, row.dst];
        let network = self.network(network);
        // As in `MEMBERS`.
        let own = self.carriers(network, ends).into_iter().zip(MEMBER_FAMILIES);
        let counts = row.counts;
        let [src, dst] = ends.map(|endpoint| (self.owner(network, endpoint), endpoint.end.is_addr()));
        // As in `COUNTERS`.
        let moved = [(dst, counts.bytes), (src, counts.bytes), (dst, counts.packets), (src, counts.packets)];
        let increments = moved.into_iter().enumerate().filter_map(move |(family, ((owner, is_client), amount))| {
            let family = if is_client { family } else { family + COUNTERS.len() } as u32;
            Some(Increment { series: Series { family, owner: owner? }, end: bucket.end(), amount })
        });
        let of_members = own.filter_map(move |(owner, family)| {
            Some(Increment { series: Series { family, owner: owner? }, end: bucket.end(), amount: counts.bytes })
        });
        increments.chain(of_members).filter(|increment| increment.amount > 0)
    }

    /// Lets all series begin at a time before the history, and end at one after it.
    pub fn extend(&mut self, since: Option<i64>, until: Option<i64>) {
        let start = self.spans.iter().map(|(start, _)| *start).min();
        let end = self.spans.iter().map(|(_, end)| *end).max();
        let (Some(start), Some(end)) = (start, end) else { return };
        if let Some(since) = since.filter(|since| *since >= start.saturating_sub(MAX_PAUSE_SECONDS)) {
            self.cover(since.min(start), start);
        }
        if let Some(until) = until.filter(|until| *until <= end.saturating_add(MAX_PAUSE_SECONDS)) {
            self.cover(end, until.max(end));
        }
    }

    /// The step that this second is in ends with it: no sample is to be of a time that is still to come. What was counted
    /// in later steps has the time that it says.
    pub fn end_step(&mut self, now: i64) {
        self.now = Some(now);
    }

    /// Whether series say which network they are of.
    pub fn has_networks(&self) -> bool {
        self.networks.len() > 1
    }

    fn cover(&mut self, start: i64, end: i64) {
        let near = |span: &&mut (i64, i64)| start <= span.1 + MAX_PAUSE_SECONDS && span.0 <= end + MAX_PAUSE_SECONDS;
        match self.spans.iter_mut().find(near) {
            Some(span) => *span = (span.0.min(start), span.1.max(end)),
            None => self.spans.push((start, end)),
        }
    }

    fn network(&mut self, name: &str) -> u32 {
        let known = self.networks.iter().position(|network| network == name);
        let number = known.unwrap_or_else(|| {
            self.networks.push(name.to_owned());
            let number = self.networks.len() - 1;
            // They have their series whatever happens.
            for end in OTHER_ENDS {
                self.owner(number as u32, Endpoint { end, mac: None });
            }
            // Where nobody can be told by a MAC, zeros would be wrong.
            let members = self.members_of(name);
            let is_told = members.network().is_some();
            let told = members.told().iter().filter(|(_, member)| is_told && member.may_join());
            for node in told.map(|(node, _)| *node).collect::<Vec<_>>() {
                self.node(number as u32, node);
            }
            number
        });
        number as u32
    }

    /// The number of an end, if it is one that counts.
    fn owner(&mut self, network: u32, Endpoint { end, mac }: Endpoint) -> Option<u32> {
        // The far end of a packet beyond the limit of pairs is counted by a row of its own.
        (end != End::Beyond).then(|| {
            let number = *self.numbers.entry((network, end)).or_insert_with(|| {
                self.owners.push((network, end, None));
                self.owners.len() as u32 - 1
            });
            let first = &mut self.owners[number as usize].2;
            *first = first.or(mac);
            number
        })
    }

    /// The numbers of the members whose own traffic these ends' is.
    fn carriers(&mut self, network: u32, ends: [Endpoint; 2]) -> [Option<u32>; 2] {
        if self.members[&self.networks[network as usize]].network().is_none() {
            return [None; 2];
        }
        for endpoint in ends {
            let is_new = !self.carriers.contains_key(&(network, endpoint));
            let members = self.members.get_mut(&self.networks[network as usize]).filter(|_| is_new);
            if members.is_some_and(|members| members.note(endpoint)) {
                // Its MAC may be that of others, too.
                self.carriers.clear();
            }
        }
        ends.map(|endpoint| match self.carriers.get(&(network, endpoint)) {
            Some(known) => *known,
            None => {
                let whose = self.members[&self.networks[network as usize]].whose(endpoint);
                let node = whose.filter(|whose| whose.own).map(|Whose { node, .. }| self.node(network, node));
                self.carriers.insert((network, endpoint), node);
                node
            }
        })
    }

    /// The number of a member.
    fn node(&mut self, network: u32, node: NodeId) -> u32 {
        *self.node_numbers.entry((network, node)).or_insert_with(|| {
            self.nodes.push((network, node));
            self.nodes.len() as u32 - 1
        })
    }

    /// Writes all series, with samples at multiples of `step` seconds, and with more `labels`. The increments come by
    /// series and time; they may be of intervals shorter than a step.
    pub fn write(
        &self,
        out: &mut dyn Write,
        step: i64,
        labels: &[(String, String)],
        increments: impl Iterator<Item = io::Result<Increment>>,
    ) -> io::Result<()> {
        let labels: String = labels.iter().map(|(name, value)| format!(",{name}=\"{}\"", escape(value))).collect();
        let steps = Steps { seconds: step, now: self.now };
        let spans = self.steps(steps);
        let mut writer = Writer { out, steps, spans, increments, next: None, line: String::new() };
        writer.advance()?;
        for (number, (name, what, role, _)) in COUNTERS.iter().chain(&COUNTERS).enumerate() {
            let of_clients = number < COUNTERS.len();
            let (name, label, about) = match of_clients {
                true => (format!("zerotier_host_{name}"), "addr", about_client(what, role)),
                false => (format!("zerotier_other_end_{name}"), "end", about_other_end(what, role)),
            };
            // The family's name is without what the samples' end in.
            write!(writer.out, "# HELP {name} {about}\n# TYPE {name} counter\n")?;
            for (owner, (network, end, _)) in self.owners.iter().enumerate() {
                if end.is_addr() == of_clients {
                    let network = self.network_label(*network);
                    let begin = format!("{name}_total{{{label}=\"{end}\"{network}{labels}}} ");
                    writer.series(Series { family: number as u32, owner: owner as u32 }, &begin, 0)?;
                }
            }
        }
        self.write_members(&mut writer, &labels)?;
        writer.out.write_all(b"# EOF\n")
    }

    /// The series of members, and who is who: by what is known now.
    fn write_members(
        &self,
        writer: &mut Writer<impl Iterator<Item = io::Result<Increment>>>,
        labels: &str,
    ) -> io::Result<()> {
        for ((name, about, kind, value), family) in MEMBERS.iter().zip(FIRST_OF_MEMBERS..) {
            writer.out.write_all(head(name.trim_end_matches("_total"), about, kind).as_bytes())?;
            for (owner, (network, node)) in self.nodes.iter().enumerate() {
                let members = &self.members[&self.networks[*network as usize]];
                let named = match value {
                    Some(_) => String::new(),
                    None => format!(",name=\"{}\"", name_of(members, *node)),
                };
                let begin = format!("{name}{{node=\"{node}\"{named}{}{labels}}} ", self.network_label(*network));
                let start = u64::from(value.is_none());
                writer.series(Series { family, owner: owner as u32 }, &begin, start)?;
            }
        }
        writer.out.write_all(head(HOST_INFO, ABOUT_HOST_INFO, "gauge").as_bytes())?;
        for (owner, (network, end, mac)) in self.owners.iter().enumerate().filter(|(_, (_, end, _))| end.is_addr()) {
            let members = &self.members[&self.networks[*network as usize]];
            let who = labels_of(members, *end, &end.to_string(), *mac);
            let begin = format!("{HOST_INFO}{{addr=\"{end}\",{who}{}{labels}}} ", self.network_label(*network));
            writer.series(Series { family: u32::MAX, owner: owner as u32 }, &begin, 1)?;
        }
        Ok(())
    }

    fn network_label(&self, network: u32) -> String {
        match self.has_networks() {
            true => format!(",network=\"{}\"", escape(&self.networks[network as usize])),
            false => String::new(),
        }
    }

    /// The times of the first and the last sample of each span. The first is a step early: a period may begin where the
    /// span does, and VictoriaMetrics finds no series at midnight (UTC) that is there only from midnight on.
    fn steps(&self, steps: Steps) -> Vec<(i64, i64)> {
        let mut spans = self.spans.clone();
        spans.sort_unstable();
        // They have grown, some of them towards each other.
        spans.dedup_by(|later, span| {
            let near = later.0 - span.1 <= MAX_PAUSE_SECONDS;
            if near {
                span.1 = span.1.max(later.1);
            }
            near
        });
        spans.iter().map(|(start, end)| (steps.before(start + 1) - steps.seconds, steps.end(*end))).collect()
    }
}

/// Where samples are.
#[derive(Clone, Copy)]
struct Steps {
    seconds: i64,
    /// Where one ends before it is over.
    now: Option<i64>,
}

impl Steps {
    /// The last multiple of a step before a time.
    fn before(self, time: i64) -> i64 {
        (time - 1).div_euclid(self.seconds) * self.seconds
    }

    /// The end of the step that ends at a time or goes on beyond it.
    fn end(self, time: i64) -> i64 {
        let start = self.before(time);
        let end = start + self.seconds;
        match self.now {
            Some(now) if (start..end).contains(&now) => now.max(start + 1),
            _ => end,
        }
    }
}

struct Writer<'a, I> {
    out: &'a mut dyn Write,
    steps: Steps,
    spans: Vec<(i64, i64)>,
    increments: I,
    next: Option<Increment>,
    line: String,
}

impl<I: Iterator<Item = io::Result<Increment>>> Writer<'_, I> {
    fn advance(&mut self) -> io::Result<()> {
        self.next = self.increments.next().transpose()?;
        Ok(())
    }

    /// The next rise of a series: the time of the sample that shows it first, and the sum.
    fn rise(&mut self, series: Series) -> io::Result<Option<(i64, u64)>> {
        let mut rise: Option<(i64, u64)> = None;
        while let Some(next) = self.next.filter(|next| next.series == series) {
            let time = self.steps.end(next.end);
            match &mut rise {
                Some((at, _)) if *at != time => break,
                Some((_, sum)) => *sum = sum.saturating_add(next.amount),
                None => rise = Some((time, next.amount)),
            }
            self.advance()?;
        }
        Ok(rise)
    }

    /// Writes a series whose lines begin so, from this value on.
    fn series(&mut self, series: Series, begin: &str, mut value: u64) -> io::Result<()> {
        let step = self.steps.seconds;
        let hold = step * (HOLD_SECONDS / step).max(1);
        let mut rise = self.rise(series)?;
        for (first, last) in self.spans.clone() {
            let mut at = first;
            self.sample(begin, value, at)?;
            loop {
                let here = rise.filter(|(time, _)| *time <= last);
                let still_at = here.map_or(last, |(time, _)| self.steps.before(time));
                while at < still_at {
                    at = still_at.min(at + hold);
                    self.sample(begin, value, at)?;
                }
                let Some((time, amount)) = here else { break };
                (at, value) = (time, value.saturating_add(amount));
                self.sample(begin, value, at)?;
                rise = self.rise(series)?;
            }
        }
        Ok(())
    }

    fn sample(&mut self, begin: &str, value: u64, time: i64) -> io::Result<()> {
        let mut digits = itoa::Buffer::new();
        self.line.clear();
        self.line.push_str(begin);
        self.line.push_str(digits.format(value));
        self.line.push(' ');
        self.line.push_str(digits.format(time));
        self.line.push('\n');
        self.out.write_all(self.line.as_bytes())
    }
}
