//! Properties of the meter.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::{Evidence, Limits, Meter, Scope, Settings, Tee, Warning};
use crate::frame::{Frame, LinkType};
use crate::packet::Mac;
use crate::time::{SECOND, Span, Timestamp};
use crate::traffic::{Counts, Delta, Directory, End, Outcome, Row};

const T: i128 = 1_700_000_000 * SECOND;
/// Clients 10.0.0.0 to 10.0.0.5 are behind the MACs 02:00:00:00:00:00 to …:05; the observer is 02:00:00:00:00:05.
const OBSERVER: u8 = 5;

/// An IPv4 packet of 60 bytes or more in an Ethernet frame cut to 128 bytes of payload.
fn ethernet(src: u8, dst: u8, id: u16, len: u16) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, dst, 2, 0, 0, 0, 0, src, 8, 0, 0x45, 0];
    frame.extend(len.to_be_bytes());
    frame.extend(id.to_be_bytes());
    frame.extend([0, 0, 64, 17, 0, 0, 10, 0, 0, src, 10, 0, 0, dst]);
    frame.resize(14 + usize::from(len).min(128), 0);
    frame
}

/// The same to all.
fn broadcast(src: u8, id: u16, len: u16) -> Vec<u8> {
    let mut frame = ethernet(src, 255, id, len);
    frame[..6].fill(255);
    frame
}

/// A frame at a time after [`T`].
type Sent = (i128, Vec<u8>);

fn feed(meter: &mut Meter, frames: &[Sent]) -> Vec<Outcome> {
    let link = LinkType::ETHERNET;
    let frame = |(time, data): &Sent| {
        meter.frame(&Frame { time: Timestamp(T + time), link, original_len: data.len() as u32, data })
    };
    frames.iter().map(frame).collect()
}

fn settings(tee: Tee) -> Settings {
    Settings { tee, ..Settings::default() }
}

/// The rows of deltas, each pair of ends summed up over all buckets.
fn rows(deltas: &[Delta]) -> Vec<Row> {
    let mut directory = Directory::default();
    let mut sums: Vec<Row> = Vec::new();
    for delta in deltas {
        directory.extend(delta);
        for row in delta.rows.iter().map(|row| directory.row(row)) {
            match sums.iter_mut().find(|sum| (sum.src, sum.dst) == (row.src, row.dst)) {
                Some(sum) => {
                    sum.counts.add(row.counts);
                    // A row that brings only a copy says nothing about when.
                    if row.counts.packets > 0 {
                        sum.seen.merge(row.seen);
                    }
                }
                None => sums.push(row),
            }
        }
    }
    sums
}

/// Bytes and packets of all senders and of all receivers.
fn sides(rows: &[Row]) -> (Counts, Counts) {
    let (mut sent, mut received) = (Counts::default(), Counts::default());
    for row in rows {
        if row.src.end != End::Beyond {
            sent.add(row.counts);
        }
        if row.dst.end != End::Beyond {
            received.add(row.counts);
        }
    }
    (sent, received)
}

fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => (0..6_u8, 0..6_u8, 0..4_u16, 60..200_u16).prop_map(|(src, dst, id, len)| ethernet(src, dst, id, len)),
        1 => (0..6_u8, 0..2_u16, 60..200_u16).prop_map(|(src, id, len)| broadcast(src, id, len)),
        // From and to somebody outside.
        1 => (0..6_u8, any::<bool>(), any::<bool>()).prop_map(|(client, from, to)| {
            let mut frame = ethernet(client, client, 0, 100);
            if from { frame[26] = 203 }
            if to { frame[30] = 203 }
            frame
        }),
        1 => vec(any::<u8>(), 0..80),
    ]
}

fn any_settings() -> impl Strategy<Value = Settings> {
    let tee = select(vec![Tee::Both, Tee::Both, Tee::One, Tee::None]);
    let limits = (0..8_usize, 0..8_usize).prop_map(|(addresses, pairs)| Limits { addresses, pairs });
    let limits = prop_oneof![Just(Limits::default()), limits];
    let window = prop_oneof![Just(2 * SECOND), 0..5 * SECOND];
    let observer = prop::option::of(Just(Mac([2, 0, 0, 0, 0, OBSERVER])));
    (tee, 1..200_u16, window, any::<bool>(), observer, limits, any::<u64>()).prop_map(
        |(tee, tee_bytes, window, both_ends, observer, limits, seed)| Settings {
            tee,
            tee_bytes,
            window: Span(window),
            scope: Scope::default(),
            both_ends,
            observer,
            limits,
            seed,
        },
    )
}

#[test]
fn a_rule_that_becomes_another_is_told_of_whatever_was_before() {
    let mut meter = Meter::new(settings(Tee::One));
    let mut judged = Evidence::default();
    let mut number = 0;
    let mut told_after = |meter: &mut Meter, packets: u16, times: usize| {
        for id in number..number + packets {
            let sent = (i128::from(id) * 1_000_000, ethernet(0, 1, id, 60));
            feed(meter, &vec![sent; times]);
        }
        number += packets;
        meter.diagnosis_since(&mut judged).warnings
    };
    assert_eq!(told_after(&mut meter, 10_000, 1), []);
    assert_eq!(told_after(&mut meter, 400, 2), [], "too few");
    let told = told_after(&mut meter, 400, 2);
    assert!(matches!(told[..], [Warning::MostlyPaired { .. }]), "{told:?}");
    assert_eq!(told_after(&mut meter, 400, 2), [], "too few since then");
    assert_eq!(meter.diagnosis().warnings, [], "of all that came hardly any has a copy");
}

proptest! {
    /// Every frame has one outcome, and what was counted was sent and received.
    #[test]
    fn sums_add_up(settings in any_settings(), frames in vec((-SECOND..9 * SECOND, any_frame()), 0..80)) {
        let both_ends = settings.both_ends;
        let mut meter = Meter::new(settings);
        let outcomes = feed(&mut meter, &frames);
        let stats = meter.stats();
        for outcome in Outcome::ALL {
            let told = outcomes.iter().filter(|told| **told == outcome).count() as u64;
            prop_assert_eq!(stats.outcomes.get(outcome), told);
        }
        prop_assert_eq!(stats.outcomes.frames(), frames.len() as u64);

        let rows = rows(&[meter.take()]);
        let (sent, received) = sides(&rows);
        prop_assert_eq!((sent.bytes, sent.packets), (received.bytes, received.packets));
        prop_assert_eq!(sent.packets, stats.outcomes.get(Outcome::Counted));
        // Bytes by the headers themselves: bytes 16 and 17 of every frame counted, which is never one of the wild ones
        // unless it is sound.
        let stated = |(_, frame): &Sent| u64::from(u16::from_be_bytes([frame[16], frame[17]]));
        let counted = frames.iter().zip(&outcomes).filter(|(_, outcome)| **outcome == Outcome::Counted);
        prop_assert_eq!(sent.bytes, counted.map(|(frame, _)| stated(frame)).sum::<u64>());
        // Each row's packets lie within the run, and no row is empty.
        prop_assert!(rows.iter().all(|row| row.counts.packets > 0 && row.seen.first <= row.seen.last));
        if both_ends {
            prop_assert!(rows.iter().all(|row| ![row.src.end, row.dst.end].contains(&End::External)));
        }
        // A copy belongs to a packet.
        prop_assert!(rows.iter().all(|row| row.counts.copies <= row.counts.packets));
        let pairs = meter.stats().pairs;
        prop_assert!(pairs <= stats.outcomes.get(Outcome::Copy));
    }

    /// Two-sided: whatever the order and the times within the window, each packet counts once.
    #[test]
    fn a_doubled_stream_counts_once(
        packets in vec((0..5_u8, 0..5_u8, 60..1500_u16), 1..40), order in vec((any::<u32>(), 0..=2 * SECOND), 80),
    ) {
        let mut frames = Vec::new();
        for (id, (src, dst, len)) in packets.iter().enumerate() {
            for _ in 0..2 {
                let (at, time) = order[frames.len()];
                frames.push((at, (time, ethernet(*src, *dst, id as u16, *len))));
            }
        }
        frames.sort_by_key(|(at, _)| *at);
        let frames: Vec<Sent> = frames.into_iter().map(|(_, frame)| frame).collect();
        let mut meter = Meter::new(settings(Tee::Both));
        feed(&mut meter, &frames);
        let stats = meter.stats();
        let count = packets.len() as u64;
        prop_assert_eq!((stats.outcomes.get(Outcome::Counted), stats.outcomes.get(Outcome::Copy)), (count, count));
        prop_assert_eq!((stats.pairs, stats.singles), (count, 0));
        let (sent, _) = sides(&rows(&[meter.take()]));
        let bytes = packets.iter().map(|(.., len)| u64::from(*len)).sum::<u64>();
        prop_assert_eq!(sent, Counts { bytes, packets: count, copies: count });
    }

    /// Identical packets are told apart by nothing: of n within the window every second one is a copy.
    #[test]
    fn of_identical_packets_every_second_is_a_copy(times in vec(0..=2 * SECOND, 1..30)) {
        let frames: Vec<Sent> = times.iter().map(|time| (*time, ethernet(0, 1, 7, 100))).collect();
        let outcomes = feed(&mut Meter::new(settings(Tee::Both)), &frames);
        for (at, outcome) in outcomes.iter().enumerate() {
            prop_assert_eq!(*outcome, if at % 2 == 0 { Outcome::Counted } else { Outcome::Copy });
        }
    }

    /// A broadcast that reaches any number of receivers within the window counts once, under either tee.
    #[test]
    fn a_broadcast_counts_once(times in vec(0..=SECOND, 1..30), one: bool) {
        let frames: Vec<Sent> = times.iter().map(|time| (*time, broadcast(0, 7, 100))).collect();
        let mut meter = Meter::new(settings(if one { Tee::One } else { Tee::Both }));
        feed(&mut meter, &frames);
        let counts = Counts { bytes: 100, packets: 1, copies: 0 };
        prop_assert_eq!(sides(&rows(&[meter.take()])), (counts, counts));
    }

    /// Beyond the window nothing is a copy.
    #[test]
    fn beyond_the_window_nothing_is_a_copy(gaps in vec(2 * SECOND + 1..9 * SECOND, 1..20), group: bool) {
        let mut time = 0;
        let frames: Vec<Sent> = gaps
            .iter()
            .map(|gap| {
                time += gap;
                (time, if group { broadcast(0, 7, 100) } else { ethernet(0, 1, 7, 100) })
            })
            .collect();
        let outcomes = feed(&mut Meter::new(settings(Tee::Both)), &frames);
        prop_assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Counted));
    }

    /// The observer's own traffic is neither a copy nor remembered: without it all others have the same outcomes.
    #[test]
    fn own_traffic_leaves_the_others_alone(frames in vec((0..4 * SECOND, any_frame()), 0..60)) {
        let observer = Mac([2, 0, 0, 0, 0, OBSERVER]);
        let own = |frame: &Sent| {
            let unicast = frame.1.first().is_some_and(|byte| byte & 1 == 0);
            unicast && frame.1.len() >= 12 && (frame.1[5] == OBSERVER || frame.1[11] == OBSERVER)
        };
        // The clock is everybody's, so let it stand.
        let frames: Vec<Sent> = frames.into_iter().map(|(_, frame)| (0, frame)).collect();
        let with = Settings { observer: Some(observer), ..settings(Tee::Both) };
        let all = feed(&mut Meter::new(with.clone()), &frames);
        let others: Vec<Sent> = frames.iter().filter(|frame| !own(frame)).cloned().collect();
        let alone = feed(&mut Meter::new(with), &others);
        let kept: Vec<Outcome> =
            frames.iter().zip(&all).filter(|(frame, _)| !own(frame)).map(|(_, outcome)| *outcome).collect();
        prop_assert_eq!(kept, alone);
        for (frame, outcome) in frames.iter().zip(&all) {
            prop_assert!(!(own(frame) && *outcome == Outcome::Copy));
        }
    }

    /// That frames wait for each other changes nothing, however far apart they are.
    #[test]
    fn deferred_frames_count_alike(
        settings in any_settings(),
        frames in vec((prop_oneof![9 => -SECOND..900 * SECOND, 1 => any::<i128>().prop_map(|time| time >> 35)], any_frame()), 0..200),
    ) {
        let (mut at_once, mut deferred) = (Meter::new(settings.clone()), Meter::new(settings));
        feed(&mut at_once, &frames);
        for (time, data) in &frames {
            let (time, original_len) = (Timestamp(T + time), data.len() as u32);
            deferred.defer(&Frame { time, link: LinkType::ETHERNET, original_len, data });
        }
        prop_assert_eq!(deferred.take().rows, at_once.take().rows);
        prop_assert_eq!(deferred.stats(), at_once.stats());
        prop_assert_eq!(deferred.diagnosis(), at_once.diagnosis());
    }

    /// When deltas are taken changes nothing of what they add up to.
    #[test]
    fn deltas_add_up(settings in any_settings(), frames in vec((-SECOND..900 * SECOND, any_frame()), 0..60), cuts in vec(any::<Index>(), 0..5)) {
        let mut whole = Meter::new(settings.clone());
        let outcomes = feed(&mut whole, &frames);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(frames.len() + 1)).collect();
        cuts.sort_unstable();
        let mut parts = Meter::new(settings);
        let (mut deltas, mut told, mut from) = (Vec::new(), Vec::new(), 0);
        for cut in cuts.into_iter().chain([frames.len()]) {
            told.extend(feed(&mut parts, &frames[from..cut]));
            from = cut;
            deltas.push(parts.take());
        }
        prop_assert_eq!(told, outcomes);
        let sorted = |mut rows: Vec<Row>| {
            rows.sort_by_key(|row| format!("{:?}", (row.src, row.dst)));
            rows
        };
        prop_assert_eq!(sorted(rows(&deltas)), sorted(rows(&[whole.take()])));
        prop_assert_eq!(parts.stats(), whole.stats());
        prop_assert_eq!(parts.diagnosis(), whole.diagnosis());
    }

    /// The key of the fingerprints decides nothing that shows.
    #[test]
    fn the_seed_never_shows(frames in vec((0..4 * SECOND, any_frame()), 0..60), seeds: (u64, u64)) {
        let outcomes = |seed| feed(&mut Meter::new(Settings { seed, ..settings(Tee::Both) }), &frames);
        prop_assert_eq!(outcomes(seeds.0), outcomes(seeds.1));
    }

    /// Any bytes on any link at any time that a file can state: no panic, and one outcome each.
    #[test]
    fn any_frames_have_outcomes(
        settings in any_settings(),
        frames in vec((any::<i64>(), any::<u64>(), 0..300_u32, any::<u32>(), vec(any::<u8>(), 0..90)), 0..30),
    ) {
        let mut meter = Meter::new(settings);
        for (offset, stamp, link, original_len, data) in &frames {
            let time = Timestamp((i128::from(*stamp) + i128::from(*offset)) * SECOND);
            meter.frame(&Frame { time, link: LinkType(*link), original_len: *original_len, data });
            meter.frame(&Frame { time, link: LinkType::ETHERNET, original_len: *original_len, data });
        }
        prop_assert_eq!(meter.stats().outcomes.frames(), 2 * frames.len() as u64);
        meter.diagnosis();
        let (sent, received) = sides(&rows(&[meter.take()]));
        prop_assert_eq!((sent.bytes, sent.packets), (received.bytes, received.packets));
    }
}

#[test]
fn a_clock_that_was_set_back_doubles_nothing_once_it_is_told() {
    let mut meter = Meter::new(Settings::default());
    let hour = Span::seconds(3600);
    let early = Timestamp::new(1_700_000_000, 0);
    let twice = |meter: &mut Meter, time: Timestamp, id: u8| {
        let mut ip = [0; 20];
        (ip[0], ip[3], ip[5]) = (0x45, 20, id);
        ip[12..].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
        let frame = Frame { time, link: LinkType::RAW, original_len: 20, data: &ip };
        [meter.frame(&frame), meter.frame(&frame)]
    };
    assert_eq!(twice(&mut meter, early + hour, 1), [Outcome::Counted, Outcome::Copy]);
    // By the rules for recordings: the latest time stands, and nothing can wait an hour behind it.
    assert!(meter.is_past(early) && !meter.is_past(early + hour));
    assert_eq!(twice(&mut meter, early, 2), [Outcome::Counted, Outcome::Counted]);
    meter.clock_set_back(early);
    assert!(!meter.is_past(early));
    assert_eq!(twice(&mut meter, early, 3), [Outcome::Counted, Outcome::Copy]);
}
