//! Any frames at any times: each has the outcome that the rules say, and what was counted was sent and received.

use std::collections::HashMap;
use std::io;
use std::sync::LazyLock;

use ztmon::frame::{Frame, LinkType};
use ztmon::meter::{Limits, Meter, Settings, Tee};
use ztmon::packet::{Mac, Packet};
use ztmon::parse::{self, Reject};
use ztmon::report::{self, Builder, By, Format, Sort, Style};
use ztmon::time::{BUCKET_SECONDS, SECOND, Span, Timestamp};
use ztmon::traffic::{Counts, Delta, Directory, End, Outcome};

const LINKS: [LinkType; 10] = [
    LinkType::ETHERNET,
    LinkType::NULL,
    LinkType::RAW_12,
    LinkType::RAW_14,
    LinkType::RAW,
    LinkType::LOOP,
    LinkType::LINUX_SLL,
    LinkType::IPV4,
    LinkType::IPV6,
    LinkType::LINUX_SLL2,
];

/// The observer of the captures in `testdata/real`.
const OBSERVER: Mac = Mac([0xe2, 0x53, 0x1a, 0x4b, 0xb7, 0x7c]);

/// The scope is the same for all; to read it takes longer than to count.
static SETTINGS: LazyLock<Settings> = LazyLock::new(Settings::default);

/// Three bytes of settings, then steps: a byte that says which, and what it needs.
pub fn run(bytes: &[u8]) {
    let mut input = Input(bytes);
    let settings = input.settings();
    let mut meter = Meter::new(settings.clone());
    let mut rules = Rules::new(&settings);
    let mut sums = Sums::default();
    let (mut frames, mut bytes) = (0, 0);
    let (mut time, mut link, mut data) = (0, LinkType::ETHERNET, &[][..]);
    while let Some([how]) = input.take() {
        time = match how >> 4 & 3 {
            0 => time,
            1 => time + (i128::from(input.number::<1>()) << 26),
            2 => time + i128::from(input.number::<8>() as i64),
            _ => i128::from(input.number::<8>() as i64) * SECOND,
        };
        let again = how & 0x40 != 0;
        match how & 15 {
            // The clock goes on without a frame, or was set back.
            15 => {
                meter.advance(Timestamp(time));
                rules.advance(time);
                sums.take(meter.take());
                continue;
            }
            14 => {
                meter.clock_set_back(Timestamp(time));
                rules.restart(time);
                continue;
            }
            _ if again => (),
            13 => link = LinkType(input.number::<2>() as u32),
            at => link = LINKS[usize::from(at) % LINKS.len()],
        }
        if !again {
            data = input.data();
        }
        let original_len = if how & 0x80 != 0 { input.number::<4>() as u32 } else { data.len() as u32 };
        let frame = Frame { time: Timestamp(time), link, original_len, data };
        let parsed = parse::packet(&frame);
        is_sound(&frame, &parsed);
        let outcome = rules.outcome(&parsed, time);
        assert_eq!(meter.frame(&frame), outcome, "{frame:?}");
        frames += 1;
        if let (Ok(packet), Outcome::Counted) = (parsed, outcome) {
            bytes += u64::from(packet.len);
        }
    }
    sums.take(meter.take());

    let stats = meter.stats();
    assert_eq!(stats.outcomes.frames(), frames);
    let packets = stats.outcomes.get(Outcome::Counted);
    assert_eq!(sums.sent, Counts { bytes, packets, copies: stats.pairs });
    assert_eq!((sums.received.bytes, sums.received.packets), (bytes, packets));
    let diagnosis = meter.diagnosis();
    if settings.tee == Tee::Both {
        assert_eq!(stats.unicast, 2 * stats.pairs + stats.singles + diagnosis.pending);
    }
    assert!(diagnosis.missed_share().is_none_or(|share| (0.0..=1.0).contains(&share)));
    sums.report(bytes, frames);
}

/// What comes in. What is missing at its end is 0.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn number<const N: usize>(&mut self) -> u64 {
        let bytes = self.take::<N>().unwrap_or([0; N]);
        bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
    }

    /// Two bytes of length, and so many bytes.
    fn data(&mut self) -> &'a [u8] {
        let len = self.number::<2>() as usize;
        let (data, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        data
    }

    fn settings(&mut self) -> Settings {
        let (flags, window, tee_bytes) = (self.number::<1>(), self.number::<1>(), self.number::<1>());
        let small = Limits { addresses: 2, pairs: 3 };
        Settings {
            tee: [Tee::Both, Tee::Both, Tee::One, Tee::None][flags as usize & 3],
            tee_bytes: tee_bytes as u16,
            window: Span(i128::from(window) * SECOND / 8),
            both_ends: flags & 4 != 0,
            observer: (flags & 8 != 0).then_some(OBSERVER),
            limits: if flags & 16 != 0 { small } else { Limits::default() },
            ..SETTINGS.clone()
        }
    }
}

/// What must hold of whatever comes out of the parser.
fn is_sound(frame: &Frame<'_>, parsed: &Result<Packet<'_>, Reject>) {
    let known = LINKS.contains(&frame.link);
    match parsed {
        Ok(packet) => {
            let header = if packet.flow.src().is_ipv6() { 40 } else { 20 };
            assert!(known && packet.flow.src().is_ipv6() == packet.flow.dst().is_ipv6());
            assert!(packet.len >= header && packet.len <= 1 << 20);
            assert!(packet.bytes.len() >= header as usize && packet.tag_bytes.is_multiple_of(4));
            assert!(packet.captured_len >= packet.bytes.len() + packet.tag_bytes);
            assert!(packet.captured_len <= frame.data.len());
            assert_eq!(packet.flow.macs().is_some(), frame.link == LinkType::ETHERNET);
        }
        Err(reject) => assert_eq!(reject.outcome() == Outcome::UnsupportedLink, !known),
    }
}

/// The rules of scope and copies, the plain way.
struct Rules<'a> {
    settings: &'a Settings,
    latest: i128,
    /// The last unpaired packet of each key, or the last counted one: when it was.
    unicast: HashMap<Vec<u8>, i128>,
    groups: HashMap<Vec<u8>, i128>,
}

impl<'a> Rules<'a> {
    fn new(settings: &'a Settings) -> Self {
        Rules { settings, latest: i128::MIN / 2, unicast: HashMap::new(), groups: HashMap::new() }
    }

    fn advance(&mut self, time: i128) {
        self.latest = self.latest.max(time);
    }

    fn restart(&mut self, time: i128) {
        *self = Rules { latest: time, ..Rules::new(self.settings) };
    }

    fn outcome(&mut self, parsed: &Result<Packet<'_>, Reject>, time: i128) -> Outcome {
        self.advance(time);
        let packet = match parsed {
            Ok(packet) => packet,
            Err(reject) => return reject.outcome(),
        };
        let Settings { tee, tee_bytes, window, ref scope, both_ends, observer, .. } = *self.settings;
        let src = scope.contains(packet.flow.src());
        let dst = !packet.flow.to_group() && scope.contains(packet.flow.dst());
        if !(if both_ends { src && dst } else { src || dst }) {
            return Outcome::OutOfScope;
        }
        let own = packet.flow.macs().is_some_and(|(src, dst)| observer == Some(src) || observer == Some(dst));
        if tee == Tee::None || !packet.flow.to_group() && (own || tee == Tee::One) {
            return Outcome::Counted;
        }
        let len = usize::from(tee_bytes).saturating_sub(packet.tag_bytes).min(packet.bytes.len());
        let key = packet.bytes[..len].to_vec();
        let waiting = if packet.flow.to_group() { &mut self.groups } else { &mut self.unicast };
        let near = |then: i128| self.latest - then <= window.0 && (time - then).abs() <= window.0;
        if waiting.get(&key).is_some_and(|&then| near(then)) {
            if !packet.flow.to_group() {
                waiting.remove(&key);
            }
            return Outcome::Copy;
        }
        if self.latest - time <= window.0 {
            waiting.insert(key, time);
        } else {
            waiting.remove(&key);
        }
        Outcome::Counted
    }
}

/// What the deltas add up to.
struct Sums {
    directory: Directory,
    sent: Counts,
    received: Counts,
    by_address: Builder,
    by_pair: Builder,
}

impl Default for Sums {
    fn default() -> Self {
        Sums {
            directory: Directory::default(),
            sent: Counts::default(),
            received: Counts::default(),
            by_address: Builder::new(By::Address),
            by_pair: Builder::new(By::Pair),
        }
    }
}

impl Sums {
    fn take(&mut self, delta: Delta) {
        self.directory.extend(&delta);
        for row in &delta.rows {
            assert_eq!((row.bucket.start % 300, row.bucket.seconds), (0, BUCKET_SECONDS));
            assert_eq!([row.seen().first.bucket(), row.seen().last.bucket()], [row.bucket; 2]);
            assert!(row.seen().first <= row.seen().last && row.counts != Counts::default());
            let (bucket, row) = (row.bucket, self.directory.row(row));
            if row.src.end != End::Beyond {
                self.sent.add(row.counts);
            }
            if row.dst.end != End::Beyond {
                self.received.add(row.counts);
            }
            for builder in [&mut self.by_address, &mut self.by_pair] {
                assert!(builder.add("", bucket, &row).is_ok());
            }
        }
    }

    /// The lines of reports add up to `bytes`, and any format prints them.
    fn report(self, bytes: u64, any: u64) {
        for (by, builder) in [(By::Address, self.by_address), (By::Pair, self.by_pair)] {
            let report = builder.finish(Sort::Total, Some(2));
            let style = Style { width: 80, ansi: false };
            let mut csv = Vec::new();
            assert!(report::write(&mut csv, &report, Format::Csv, &serde_json::Value::Null, style).is_ok());
            let csv = String::from_utf8(csv).unwrap();
            let columns: Vec<&str> = csv.lines().next().unwrap().split(',').collect();
            let sum = |name| {
                let at = columns.iter().position(|column| *column == name).unwrap();
                csv.lines().skip(1).map(|line| line.split(',').nth(at).unwrap().parse::<u64>().unwrap()).sum::<u64>()
            };
            let names = if by == By::Address { &["sent_bytes", "received_bytes"][..] } else { &["bytes"] };
            names.iter().for_each(|name| assert_eq!(sum(*name), bytes));
            let format = [Format::Table, Format::Csv, Format::Json][any as usize % 3];
            assert!(report::write(&mut io::sink(), &report, format, &serde_json::Value::Null, style).is_ok());
        }
    }
}
