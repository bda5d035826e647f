//! `--format openmetrics`: every packet once, in its step, by the rules that Prometheus has for such text.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use proptest::prelude::*;
use support::numbers::{Metrics, Total, history, replay};
use support::pcap::{Capture, Frame, Packet, SECOND};
use support::serve::Setup;
use support::{OBSERVER, real, run, ztmon};
use tempfile::tempdir;
use ztmon::store::{Source, Writer};
use ztmon::time::Timestamp;
use ztmon::traffic::{Counts, Delta, DeltaRow, Directory, Endpoint, Origin, Seen};

const NOTHING: Total = Total { sent_bytes: 0, received_bytes: 0, sent_packets: 0, received_packets: 0 };

/// What `replay` writes of a file.
fn replayed(file: &Path, flags: &[&str]) -> String {
    let ended = run(ztmon().args(["replay", "--quiet", "--format", "openmetrics"]).args(flags).arg(file));
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
    ended.stdout
}

/// The ends that packets are made from: clients, somebody beyond the network, and a group.
const ENDS: [[u8; 4]; 6] =
    [[10, 0, 0, 1], [10, 0, 0, 2], [10, 0, 3, 1], [192, 168, 7, 7], [8, 8, 8, 8], [224, 0, 0, 5]];

/// A name of a family without what it counts, and the owner's label.
fn owner(end: [u8; 4]) -> (&'static str, String) {
    match end {
        [8, ..] => ("zerotier_other_end", "external".to_owned()),
        [224, ..] => ("zerotier_other_end", "multicast".to_owned()),
        [a, b, c, d] => ("zerotier_host", format!("{a}.{b}.{c}.{d}")),
    }
}

#[derive(Clone, Debug)]
struct Sent {
    /// Microseconds since the epoch.
    time: u64,
    src: usize,
    dst: usize,
    len: u16,
}

/// Packets in an order of their own: most a little after the one before, some long after it, some before it.
fn packets() -> impl Strategy<Value = Vec<Sent>> {
    let step = prop_oneof![4 => 0..2_000_000_i64, 2 => 0..400_000_000_i64, 1 => 0..20_000_000_000_i64, 2 => -40_000_000..0_i64];
    let packet = (step, 0..4_usize, 0..ENDS.len(), 20..1500_u16);
    prop::collection::vec(packet, 1..80).prop_map(|packets| {
        let mut time = 1_700_000_000 * SECOND as i64;
        let sent = packets.into_iter().map(|(step, src, dst, len)| {
            time += step;
            Sent { time: time as u64, src, dst, len }
        });
        sent.collect()
    })
}

/// Series by name and owner: what is counted in the steps that end at the times.
type Increments = BTreeMap<(String, String), BTreeMap<i64, u64>>;

/// By a list, packet by packet.
fn counted(packets: &[Sent], step: i64) -> Increments {
    let mut counted = Increments::new();
    for Sent { time, src, dst, len } in packets {
        let end = ((*time / SECOND) as i64 / step + 1) * step;
        for (who, way) in [(*src, "sent"), (*dst, "received")] {
            let (family, owner) = owner(ENDS[who]);
            for (unit, amount) in [("bytes", u64::from(*len)), ("packets", 1)] {
                let series = (format!("{family}_{way}_{unit}_total"), owner.clone());
                *counted.entry(series).or_default().entry(end).or_default() += amount;
            }
        }
    }
    counted
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_packet_counts_once_and_in_its_step(
        packets in packets(),
        step in prop::sample::select(vec![1_i64, 7, 15, 60, 300, 3600]),
        bounds in prop::option::of((0..20_000_u64, 1..20_000_u64)),
    ) {
        let dir = tempdir().unwrap();
        let file = dir.path().join("random.pcap");
        let mut capture = Capture::default();
        for (number, Sent { time, src, dst, len }) in packets.iter().enumerate() {
            let packet = Packet { src: ENDS[*src], dst: ENDS[*dst], len: *len, number: number as u32 };
            let data = packet.frame();
            capture.0.push(Frame { time: *time, len: data.len() as u32, data });
        }
        capture.write(&file);
        let mut flags = vec!["--tee".to_owned(), "none".to_owned(), "--step".to_owned(), format!("{step}s")];
        let mut expected = packets.clone();
        if let Some((since, length)) = bounds {
            let rfc3339 = |seconds: u64| {
                let (hours, left) = (seconds / 3600, seconds % 3600);
                format!("2023-11-14T{:02}:{:02}:{:02}Z", 22 + hours, left / 60, left % 60)
            };
            // From 22:13:20 on; at most until midnight.
            let (since, until) = (800 + since % 2000, 800 + since % 2000 + 1 + length % 2000);
            flags.extend(["--since".to_owned(), rfc3339(since), "--until".to_owned(), rfc3339(until)]);
            let micros = |seconds: u64| (1_699_999_200 + seconds) * SECOND;
            expected.retain(|sent| micros(since) <= sent.time && sent.time < micros(until));
        }
        let flags: Vec<_> = flags.iter().map(String::as_str).collect();
        let text = replayed(&file, &flags);
        let (found, infos): (Vec<_>, Vec<_>) = history(&text).into_iter().partition(|it| it.name.ends_with("_total"));
        let clients = found.iter().filter(|series| series.name == "zerotier_host_sent_bytes_total").count();
        prop_assert_eq!(infos.len(), clients);
        let want = counted(&expected, step);
        for series in &found {
            let name = (series.name.clone(), series.labels.values().next().unwrap().clone());
            prop_assert_eq!(series.increments(), want.get(&name).cloned().unwrap_or_default(), "{:?}", name);
            prop_assert!(series.samples.iter().all(|(time, _)| time % step == 0));
            let longest = step.max(240);
            prop_assert!(series.samples.windows(2).all(|two| two[1].0 - two[0].0 <= longest), "{:?}", series);
            prop_assert_eq!(series.samples[0].1, 0);
            // They all exist over the same time.
            let range = |samples: &[(i64, u64)]| (samples[0].0, samples[samples.len() - 1].0);
            prop_assert_eq!(range(&series.samples), range(&found[0].samples));
        }
        let names: BTreeSet<_> =
            found.iter().map(|series| (&series.name, series.labels.values().next().unwrap())).collect();
        prop_assert!(want.keys().all(|(name, owner)| names.contains(&(name, owner))));
        prop_assert_eq!(names.len(), found.len());
    }
}

#[test]
fn the_series_are_those_of_metrics() {
    let dir = tempdir().unwrap();
    let names = dir.path().join("names.csv");
    // One of them moves nothing.
    std::fs::write(&names, "6df5629e82,Ann\n10.147.20.12,\"B, the \"\"exit\"\"\"\n0123456789,idle\n").unwrap();
    let flags = ["--observer-mac", OBSERVER, "--network-id", "460cacee2d00a7e1", "--names", names.to_str().unwrap()];
    let serve = Setup::new(&dir.path().join("ztmon.db")).source(&real("tee-both.pcap"), "max").args(flags).start();
    let scraped = serve.scrape_at(3398, NOTHING);
    serve.stop();
    let scraped = scraped.samples.into_iter().filter(|sample| sample.name.starts_with("zerotier_"));
    let scraped: BTreeMap<_, _> = scraped.map(|it| ((it.name, it.labels), it.value.parse::<u64>().unwrap())).collect();
    let text = replayed(&real("tee-both.pcap"), &flags);
    let written = history(&text).into_iter().map(|it| ((it.name, it.labels), it.samples[it.samples.len() - 1].1));
    assert_eq!(written.collect::<BTreeMap<_, _>>(), scraped);
    for (name, series) in
        [("zerotier_member_sent_bytes_total", 5), ("zerotier_member_info", 5), ("zerotier_host_info", 12)]
    {
        assert_eq!(scraped.keys().filter(|(of, _)| of == name).count(), series, "{name}");
    }
    // The database knows them by itself.
    let report = run(ztmon()
        .args(["report", "--quiet", "--format", "openmetrics", "--db"])
        .arg(dir.path().join("ztmon.db"))
        .args(["--step", "1h"]));
    let reported =
        history(&report.stdout).into_iter().map(|it| ((it.name, it.labels), it.samples[it.samples.len() - 1].1));
    assert_eq!(reported.collect::<BTreeMap<_, _>>(), scraped);
}

#[test]
fn the_last_values_are_the_report_whatever_counts() {
    let mut flags = vec![
        &["--both-ends"][..],
        &["--tee", "one"],
        &["--max-addresses", "3"],
        &["--max-pairs", "2"],
        &["--since", "2026-11-22T11:19:51.5Z", "--until", "2026-11-22T11:20:10Z"],
    ];
    if cfg!(feature = "live") {
        flags.push(&["--filter", "udp or host 10.147.20.13"]);
    }
    for (flags, step) in flags.into_iter().zip(["1s", "2s", "7s", "15s", "1m", "1d"]) {
        let last: String = history(&replayed(&real("tee-both.pcap"), &[flags, &["--step", step]].concat()))
            .into_iter()
            .map(|series| {
                let labels: Vec<_> = series.labels.iter().map(|(name, value)| format!("{name}=\"{value}\"")).collect();
                format!("{}{{{}}} {}\n", series.name, labels.join(","), series.samples[series.samples.len() - 1].1)
            })
            .collect();
        Metrics::parse(&last).totals().assert_same(&replay(&real("tee-both.pcap"), flags));
    }
}

#[test]
fn labels_are_added_to_all_series_and_escaped() {
    let text = replayed(&real("tee-both.pcap"), &["--label", r#"job=a "b" \"#, "--label=network=8056c2e21c000001"]);
    let found = history(&text);
    assert!(
        found
            .iter()
            .all(|series| { series.labels["job"] == r#"a "b" \"# && series.labels["network"] == "8056c2e21c000001" })
    );
}

#[test]
fn series_reach_from_since_to_until_but_never_beyond_now() {
    let dir = tempdir().unwrap();
    let file = dir.path().join("recent.pcap");
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
    let (packet, before) = (now() - 3600, now());
    let mut capture = Capture::default();
    let data = Packet { src: ENDS[0], dst: ENDS[1], len: 100, number: 1 };
    capture.add_teed(packet as u64 * SECOND, &data);
    capture.write(&file);
    let range = |flags: &[&str]| {
        let found = history(&replayed(&file, flags));
        let samples = &found[0].samples;
        (samples[0].0, samples[samples.len() - 1].0)
    };
    let step = packet - packet % 15;
    assert_eq!(range(&[]), (step - 15, step + 15));
    let rfc3339 = |time: i64| chrono::DateTime::from_timestamp(time, 0).unwrap().to_rfc3339();
    let (since, until) = (rfc3339(step - 900), rfc3339(step + 899));
    assert_eq!(range(&["--since", &since, "--until", &until]), (step - 915, step + 900));
    let (_, end) = range(&["--until", &rfc3339(before + 86_400)]);
    assert!(before <= end && end < now() + 15, "{before} {end}");
}

/// A sample of a time that is still to come would be refused, or be taken for the latest.
#[test]
fn what_a_database_has_ends_now() {
    let dir = tempdir().unwrap();
    let (file, db) = (dir.path().join("recent.pcap"), dir.path().join("recent.db"));
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
    let mut capture = Capture::default();
    let before = now();
    for (number, time) in [before - 4000, before].into_iter().enumerate() {
        let data = Packet { src: ENDS[0], dst: ENDS[1], len: 100, number: number as u32 };
        capture.add_teed(time as u64 * SECOND, &data);
    }
    capture.write(&file);
    assert_eq!(run(ztmon().args(["replay", "--quiet", "--db"]).args([&db, &file])).code, Some(0));
    let tomorrow = chrono::DateTime::from_timestamp(before - before % 300 + 86_400, 0).unwrap().to_rfc3339();
    for flags in [&[][..], &["--step", "15m"], &["--step", "1d"], &["--step", "1h", "--until", "now"]] {
        let flags: Vec<_> = flags.iter().map(|flag| if *flag == "now" { tomorrow.as_str() } else { *flag }).collect();
        let mut report = ztmon();
        report.args(["report", "--quiet", "--format", "openmetrics", "--db"]).arg(&db).args(&flags);
        let ended = run(&mut report);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        for series in history(&ended.stdout) {
            let (time, value) = series.samples[series.samples.len() - 1];
            assert!(before <= time && time <= now() + 1, "{flags:?}: {series:?}");
            let is_sent = series.name.ends_with("sent_packets_total")
                && series.labels.get("addr").is_some_and(|addr| addr == "10.0.0.1");
            assert!(!is_sent || value == 2, "{flags:?}: {series:?}");
        }
    }
}

/// While its disk fails for long, `serve` keeps what waits by the hour and then by the day.
#[test]
fn a_bucket_of_a_day_wants_steps_of_a_day() {
    let dir = tempdir().unwrap();
    let db = dir.path().join("long.db");
    let midnight = 20_000 * 86_400;
    let mut writer = Writer::open(&db).unwrap();
    let mut source = Source::new(writer.network("", "").unwrap(), Origin::Live);
    let client = |last: u8| Endpoint { end: format!("10.0.0.{last}").parse().unwrap(), mac: None };
    let delta = Delta { endpoints: vec![client(1), client(2)], pairs: vec![(0, 1)], rows: Vec::new() };
    let mut directory = Directory::default();
    directory.extend(&delta);
    let row = |second: i64, seconds| {
        let time = Timestamp::new(second, 0);
        let counts = Counts { bytes: 1000, packets: 1, copies: 0 };
        DeltaRow::new(0, time.bucket(), counts, Seen::at(time)).widened(seconds)
    };
    writer.begin().unwrap();
    writer.add(&mut source, &directory, &[row(midnight + 7, 300), row(midnight + 7200, 86_400)]).unwrap();
    writer.commit().unwrap();
    drop(writer);
    let report = |more: &[&str]| {
        let args = ["report", "--quiet", "--tz", "UTC", "--format", "openmetrics", "--db"];
        run(ztmon().args(args).arg(&db).args(more))
    };
    for flags in [&[][..], &["--step", "1d"]] {
        let ended = report(flags);
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
        let found = history(&ended.stdout);
        let sent =
            found.iter().find(|it| it.name == "zerotier_host_sent_bytes_total" && it.labels["addr"] == "10.0.0.1");
        assert_eq!(sent.unwrap().increments(), BTreeMap::from([(midnight + 86_400, 2000)]));
    }
    assert!(report(&["--step", "1h"]).refusal().contains("keeps sums of 1d; give --step 1d or a multiple of it"));
    assert!(report(&["--since", "2024-10-04T01:00:00Z"]).refusal().contains("kept as one"));
}

#[test]
fn what_does_not_go_together_is_refused() {
    let file = real("tee-both.pcap");
    for (flags, why) in [
        (&["--format", "openmetrics", "--top", "3"][..], "--top does not go with --format openmetrics"),
        (&["--format", "openmetrics", "--by", "address"], "--by does not go with --format openmetrics"),
        (&["--format", "openmetrics", "--sort=total"], "--sort does not go with --format openmetrics"),
        (&["--format", "csv", "--step", "15s"], "--step needs --format openmetrics"),
        (&["--label", "job=x"], "--label needs --format openmetrics"),
        (&["--format", "openmetrics", "--step", "0.5s"], "give whole seconds up to a day"),
        (&["--format", "openmetrics", "--label", "addr=x"], "series have a label 'addr' already"),
        (&["--format", "openmetrics", "--label", "name=x"], "series have a label 'name' already"),
        (&["--format", "openmetrics", "--label", "a=x", "--label", "a=y"], "--label a is given twice"),
    ] {
        let ended = run(ztmon().arg("replay").args(flags).arg(&file));
        assert!(ended.refusal().contains(why), "{ended:?}");
    }
}
