//! The counters of `/metrics` over time, for a past that nobody scraped: OpenMetrics as
//! `promtool tsdb create-blocks-from openmetrics` takes it.
//!
//! A sample says what was counted before it. All series have some from the start of the history to its end, so that the
//! difference of any two moments is what was counted between them. While a counter stands still its value is only
//! repeated as often as Prometheus asks, for which a sample is good for five minutes; where it rises there is one at
//! either end of the step.

use std::collections::HashMap;
use std::io::{self, Write};

use super::{COUNTERS, OTHER_ENDS, about_client, about_other_end, escape};
use crate::time::Bucket;
use crate::traffic::{End, Row};

/// A series, in the order in which they are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Series {
    /// Which of the `COUNTERS`, and after all of them again for other ends.
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

/// Seconds for which a value that does not change is not repeated, if the steps are shorter: less than the five minutes
/// after which Prometheus forgets it.
const HOLD_SECONDS: i64 = 240;

/// Seconds in which nothing at all was counted that are too many to be filled with samples: there was no capture, or some
/// packet has the time of a clock that was not set.
const MAX_PAUSE_SECONDS: i64 = 366 * 86_400;

/// Whose series there are, and over which time.
#[derive(Debug, Default)]
pub struct History {
    networks: Vec<String>,
    /// By number, with the number of the network.
    owners: Vec<(u32, End)>,
    numbers: HashMap<(u32, End), u32>,
    /// Starts and ends between which nothing is longer than a pause may be, in seconds.
    spans: Vec<(i64, i64)>,
    /// When the step ends that is not over.
    now: Option<i64>,
}

impl History {
    /// Takes note of what was counted in an interval. Gives the increments, to be sorted and summed.
    pub fn count(&mut self, network: &str, bucket: Bucket, row: &Row) -> impl Iterator<Item = Increment> + use<> {
        self.cover(bucket.start, bucket.end());
        let network = self.network(network);
        let counts = row.counts;
        let [src, dst] = [row.src.end, row.dst.end].map(|end| (self.owner(network, end), end.is_addr()));
        // As in `COUNTERS`.
        let moved = [(dst, counts.bytes), (src, counts.bytes), (dst, counts.packets), (src, counts.packets)];
        let increments = moved.into_iter().enumerate().filter_map(move |(family, ((owner, is_client), amount))| {
            let family = if is_client { family } else { family + COUNTERS.len() } as u32;
            Some(Increment { series: Series { family, owner: owner? }, end: bucket.end(), amount })
        });
        increments.filter(|increment| increment.amount > 0)
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
                self.owner(number as u32, end);
            }
            number
        });
        number as u32
    }

    /// The number of an end, if it is one that counts.
    fn owner(&mut self, network: u32, end: End) -> Option<u32> {
        // The far end of a packet beyond the limit of pairs is counted by a row of its own.
        (end != End::Beyond).then(|| {
            *self.numbers.entry((network, end)).or_insert_with(|| {
                self.owners.push((network, end));
                self.owners.len() as u32 - 1
            })
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
            for (owner, (network, end)) in self.owners.iter().enumerate() {
                if end.is_addr() == of_clients {
                    let network = match self.has_networks() {
                        true => format!(",network=\"{}\"", escape(&self.networks[*network as usize])),
                        false => String::new(),
                    };
                    let begin = format!("{name}_total{{{label}=\"{end}\"{network}{labels}}} ");
                    writer.series(Series { family: number as u32, owner: owner as u32 }, &begin)?;
                }
            }
        }
        writer.out.write_all(b"# EOF\n")
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

    /// Writes a series whose lines begin so.
    fn series(&mut self, series: Series, begin: &str) -> io::Result<()> {
        let step = self.steps.seconds;
        let hold = step * (HOLD_SECONDS / step).max(1);
        let mut value = 0_u64;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Timestamp;
    use crate::traffic::{Counts, Endpoint, Seen};

    /// So many bytes in a packet from one to another in the step that ends then.
    struct Moved(&'static str, &'static str, &'static str, u64, i64);

    fn written(step: i64, moved: &[Moved], labels: &[(&str, &str)], range: (Option<i64>, Option<i64>)) -> String {
        let mut history = History::default();
        let mut increments = Vec::new();
        for Moved(network, src, dst, bytes, end) in moved {
            let endpoint = |end: &str| Endpoint { end: end.parse().unwrap(), mac: None };
            let counts = Counts { bytes: *bytes, packets: 1, copies: 0 };
            let row =
                Row { src: endpoint(src), dst: endpoint(dst), counts, seen: Seen::at(Timestamp::new(end - 1, 0)) };
            increments.extend(history.count(network, Bucket { start: end - 15, seconds: 15 }, &row));
        }
        history.extend(range.0, range.1);
        increments.sort_unstable();
        let labels: Vec<_> = labels.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let mut out = Vec::new();
        history.write(&mut out, step, &labels, increments.into_iter().map(Ok)).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn samples(text: &str, series: &str) -> Vec<(u64, i64)> {
        let lines = text.lines().filter_map(|line| line.strip_prefix(series)?.strip_prefix("} "));
        lines.map(|line| line.split_once(' ').map(|(v, t)| (v.parse().unwrap(), t.parse().unwrap())).unwrap()).collect()
    }

    const SENT: &str = r#"zerotier_host_sent_bytes_total{addr="10.0.0.1""#;

    #[test]
    fn one_packet_in_full() {
        let text = written(15, &[Moved("", "10.0.0.1", "external", 100, 30)], &[("job", "a\"b")], (None, None));
        let mut want = String::new();
        for (name, role, what, sum) in [
            ("received_bytes", "receiver", "Bytes of IP packets", 0),
            ("sent_bytes", "sender", "Bytes of IP packets", 100),
            ("received_packets", "receiver", "IP packets", 0),
            ("sent_packets", "sender", "IP packets", 1),
        ] {
            want += &format!("# HELP zerotier_host_{name} {what} whose {role} is the client at addr.\n");
            want += &format!("# TYPE zerotier_host_{name} counter\n");
            for (value, time) in [(0, 0), (0, 15), (sum, 30)].into_iter().filter(|(_, time)| sum > 0 || *time != 15) {
                want += &format!("zerotier_host_{name}_total{{addr=\"10.0.0.1\",job=\"a\\\"b\"}} {value} {time}\n");
            }
        }
        let (clients, others) = text.split_at(text.find("# HELP zerotier_other").unwrap());
        assert_eq!(clients, want);
        assert_eq!(
            others.lines().filter(|line| line.starts_with("zerotier_other_end_")).count(),
            2 * (3 + 2 + 2) + 2 * (2 + 2 + 2)
        );
        let external = r#"zerotier_other_end_received_bytes_total{end="external",job="a\"b""#;
        assert_eq!(samples(others, external), [(0, 0), (0, 15), (100, 30)]);
        assert!(others.ends_with("} 0 30\n# EOF\n"), "{others}");
    }

    #[test]
    fn nothing_is_written_of_nothing() {
        let text = written(15, &[], &[], (Some(0), Some(9000)));
        assert!(text.lines().all(|line| line.starts_with('#')) && text.ends_with("# EOF\n"), "{text}");
    }

    #[test]
    fn a_value_is_repeated_in_time_and_a_rise_has_two_ends() {
        let packet = |bytes, end| Moved("", "10.0.0.1", "10.0.0.2", bytes, end);
        let text = written(15, &[packet(1, 15), packet(2, 30), packet(3, 600)], &[], (Some(-7), Some(1000)));
        let want = [(0, -30), (0, 0), (1, 15), (3, 30), (3, 270), (3, 510), (3, 585), (6, 600), (6, 840), (6, 1005)];
        assert_eq!(samples(&text, SENT), want);
        // Whoever sent nothing is there all the same.
        let received = text.replace("host_received", "host_sent").replace("10.0.0.2", "10.0.0.9");
        assert_eq!(samples(&received, SENT)[..6], [(0, -30), (0, 210), (0, 450), (0, 690), (0, 930), (0, 1005)]);
        // In longer steps at each of them.
        let text = written(300, &[packet(1, 15), packet(2, 30), packet(3, 1200)], &[], (None, None));
        assert_eq!(samples(&text, SENT), [(0, -300), (0, 0), (3, 300), (3, 600), (3, 900), (6, 1200)]);
    }

    #[test]
    fn the_step_that_is_not_over_ends_now() {
        let row = |end: i64| {
            let [src, dst] = ["10.0.0.1", "10.0.0.2"].map(|end| Endpoint { end: end.parse().unwrap(), mac: None });
            let counts = Counts { bytes: 1, packets: 1, copies: 0 };
            (
                Bucket { start: end - 300, seconds: 300 },
                Row { src, dst, counts, seen: Seen::at(Timestamp::new(end - 1, 0)) },
            )
        };
        let written = |now| {
            let mut history = History::default();
            let rows = [300, 3600, 3900, 4200].map(row);
            let mut increments: Vec<_> =
                rows.iter().flat_map(|(bucket, row)| history.count("", *bucket, row)).collect();
            increments.sort_unstable();
            history.end_step(now);
            let mut out = Vec::new();
            history.write(&mut out, 900, &[], increments.into_iter().map(Ok)).unwrap();
            samples(&String::from_utf8(out).unwrap(), SENT)
        };
        let first = [(0, -900), (0, 0), (1, 900), (1, 1800), (1, 2700), (2, 3600)];
        // In it, at its start, at its end; long ago, and in a step in which nothing was.
        for (now, last) in [(4100, 4100), (3600, 3601), (4500, 4500), (-9, 4500), (1000, 4500)] {
            let found = written(now);
            assert_eq!((&found[..6], &found[6..]), (&first[..], &[(4, last)][..]), "{now}");
        }
        assert_eq!(written(3000)[5..], [(2, 3000), (2, 3600), (4, 4500)], "what comes later has its own time");
    }

    #[test]
    fn a_pause_of_years_stays_empty() {
        let packet = |bytes, end| Moved("", "10.0.0.1", "10.0.0.2", bytes, end);
        let (year, now) = (365 * 86_400, 1_800_000_000);
        // In no order: what came last lies between the others.
        let moved = [packet(1, 15), packet(2, now), packet(4, now - year), packet(8, now - 2 * year)];
        let found = samples(&written(15, &moved, &[], (Some(-2 * year), Some(now + 2 * year))), SENT);
        assert_eq!(found[..4], [(0, -15), (0, 0), (1, 15), (1, now - 2 * year - 30)]);
        assert_eq!((found[5], found[found.len() - 1]), ((9, now - 2 * year), (15, now)));
        assert!(found[3..].windows(2).all(|pair| pair[1].1 - pair[0].1 <= 240), "the rest is of one piece");
    }

    #[test]
    fn several_networks_are_told_apart() {
        let packet = |network, bytes, end| Moved(network, "10.0.0.1", "10.0.0.2", bytes, end);
        let text = written(15, &[packet("", 1, 15), packet("zt\"0", 2, 30)], &[], (None, None));
        assert_eq!(samples(&text, &format!(r#"{SENT},network="""#)), [(0, -15), (0, 0), (1, 15), (1, 30)]);
        assert_eq!(samples(&text, &format!(r#"{SENT},network="zt\"0""#)), [(0, -15), (0, 15), (2, 30)]);
        assert_eq!(
            text.matches("zerotier_other_end_sent_bytes_total{end=\"multicast\",network=\"\"} 0 -15").count(),
            1
        );
    }
}
