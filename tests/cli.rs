//! The real binary as a person or a script uses it: exit statuses, input, selection, output.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod run;

use std::fs;
use std::process::Stdio;

use run::{command, fed, finish, testdata, within, ztmon};

const TWO_SIDED: &str = "tee/two-sided.pcap";

fn rows(csv: &str) -> Vec<Vec<&str>> {
    csv.lines().skip(1).map(|row| row.split(',').collect()).collect()
}

// ---- exit statuses: 0 all well, 1 partly, 2 nothing

#[test]
fn usage_is_status_2_with_nothing_on_standard_output() {
    let file = testdata(TWO_SIDED);
    let wrong: [&[&str]; 14] = [
        &["replay"],
        &["nonsense"],
        &["replay", "--nonsense", &file],
        &["replay", "--tee", "three", &file],
        &["replay", "--tee-bytes", "0", &file],
        &["replay", "--tee-bytes", "65536", &file],
        &["replay", "--pair-window", "soon", &file],
        &["replay", "--scope", "10.0.0.1/8", &file],
        &["replay", "--observer-mac", "e2:53", &file],
        &["replay", "--since", "tomorrow", "--tz", "UTC", &file],
        &["replay", "--since", "2026-01-01", "--tz", "Mars/Olympus", &file],
        &["replay", "--top", "-1", &file],
        &["replay", "--format", "xml", &file],
        &["rules", "--observer", "89e92ceee"],
    ];
    for args in wrong {
        let err = ztmon(args).nothing();
        assert!(!err.contains("frames ="), "{args:?}: {err}");
    }
    let err = ztmon(&["replay", "--scope", "10.0.0.1/8", &file]).nothing();
    assert!(err.contains("the network meant is 10.0.0.0/8"), "{err}");
}

#[test]
fn without_a_verb_the_last_line_says_what_to_try() {
    let last = |args: &[&str]| ztmon(args).nothing().lines().last().unwrap().to_owned();
    assert_eq!(last(&[]), "try: ztmon serve");
    assert_eq!(
        last(&["-listen-address", ":9123", "-zerotier-device=zt0"]),
        "try: ztmon serve --listen-address :9123 --zerotier-device=zt0"
    );
    assert_eq!(last(&["--filter", "host 10.0.0.1"]), "try: ztmon serve --filter 'host 10.0.0.1'");
}

#[test]
fn help_and_version_are_no_errors() {
    for args in [&["--help"][..], &["-help"], &["replay", "--help"], &["report", "-h"], &["rules", "-help"]] {
        assert!(ztmon(args).ok().contains("Usage: ztmon"), "{args:?}");
    }
    assert_eq!(ztmon(&["--version"]).ok(), format!("ztmon {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn files_that_fail_are_named_also_when_quiet() {
    let (good, cut) = (testdata(TWO_SIDED), testdata("bad/pcap-record-cut.pcap"));
    let (text, missing) = (testdata("bad/no-capture-text.pcap"), "no-such-file.pcap");
    let alone = ztmon(&["replay", "--quiet", &good]);
    assert_eq!((alone.code, alone.err.as_str()), (Some(0), ""));

    // All failed.
    let err = ztmon(&["replay", "--quiet", missing]).nothing();
    assert!(err.starts_with("ztmon: no-such-file.pcap: ") && err.lines().count() == 1, "{err}");
    let err = ztmon(&["replay", "--quiet", &text, missing]).nothing();
    assert!(err.contains(&text) && err.contains(missing) && err.lines().count() == 2, "{err}");
    // A folder is no capture.
    assert_eq!(ztmon(&["replay", "--quiet", env!("CARGO_MANIFEST_DIR")]).nothing().lines().count(), 1);

    // Some failed: the rest is done and printed.
    for bad in [missing, &text] {
        for args in [["replay", "--quiet", &good, bad], ["replay", "--quiet", bad, &good]] {
            let run = ztmon(&args);
            assert_eq!((run.code, &run.out, run.err.lines().count()), (Some(1), &alone.out, 1), "{run:?}");
            assert!(run.err.contains(bad), "{run:?}");
        }
    }
    // Damaged: what came before is printed.
    let run = ztmon(&["replay", "--quiet", &cut]);
    assert_eq!((run.code, rows(&run.out).len(), run.err.lines().count()), (Some(1), 2, 1), "{run:?}");
    assert!(run.err.contains("damaged at byte 114"), "{run:?}");
    // Damaged before the first packet is still a capture, even if it is the only one.
    let run = ztmon(&["replay", "--quiet", &testdata("bad/pcap-first-record-cut.pcap")]);
    assert_eq!((run.code, rows(&run.out).len()), (Some(1), 0), "{run:?}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_of_any_name_has_one_line() {
    for name in ["no\nsuch.db", "no\u{1b}[31msuch.db", "no\u{202e}such.db"] {
        for args in [&["report", "--db", name][..], &["db", "check", "--db", name], &["replay", name]] {
            let err = ztmon(args).nothing();
            assert!(err.lines().count() == 1 && !err.contains(['\u{1b}', '\u{202e}']), "{err:?}");
        }
    }
}

#[test]
fn a_full_disk_is_an_error() {
    let full = || Stdio::from(fs::OpenOptions::new().write(true).open("/dev/full").unwrap());
    for args in [&["replay", "--quiet", &testdata(TWO_SIDED)][..], &["rules", "--observer", "89e92ceee5"]] {
        let mut command = command(args);
        let output = command.stdout(full()).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{err}");
        assert!(err.starts_with("ztmon: ") && err.lines().count() == 1, "{err}");
    }
}

#[test]
fn a_reader_that_went_away_is_no_error() {
    // The pipe has no reader from the start, so that every write meets a closed one.
    let closed = || Stdio::from(std::io::pipe().unwrap().1);
    let real = testdata("real/tee-both.pcap");
    for args in [
        &["replay", &real][..],
        &["replay", "--format", "json", "--by", "pair", &real],
        &["replay", "--format", "table", &real],
        &["rules", "--observer", "89e92ceee5"],
        &["replay", "--help"],
    ] {
        let output = command(args).stdout(closed()).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}: {err}");
        assert!(!err.contains("panicked") && !err.contains("ztmon:"), "{args:?}: {err}");
    }
    // Nor is one of standard error a reason to die.
    for (args, code) in
        [(&["replay", &real][..], 0), (&["replay", "no-such-file.pcap"], 2), (&["replay", "-", &real], 1)]
    {
        let status = command(args).stdout(Stdio::null()).stderr(closed()).status().unwrap();
        assert_eq!(status.code(), Some(code), "{args:?}");
    }
}

// ---- input

#[test]
fn a_dash_is_standard_input() {
    let real = testdata("real/tee-both.pcap");
    let want = ztmon(&["replay", &real]);
    let bytes = fs::read(&real).unwrap();
    assert_eq!(fed(&["replay", "-"], &bytes), want);
    // Damage is told of it too.
    let run = fed(&["replay", "--quiet", "-"], &bytes[..bytes.len() - 1]);
    assert_eq!(run.code, Some(1));
    assert!(run.err.starts_with("ztmon: standard input: damaged at byte "), "{run:?}");
    let err = fed(&["replay", "-"], b"").nothing();
    assert!(err.starts_with("ztmon: standard input: not a capture"), "{err}");
}

#[test]
fn the_old_exporters_single_dash_works() {
    let real = testdata("real/tee-both.pcap");
    let want = ztmon(&["replay", "--by", "pair", "--top", "3", "--quiet", &real]).ok();
    assert_eq!(ztmon(&["replay", "-by", "pair", "-top=3", "-quiet", &real]).ok(), want);
    // Behind two dashes nothing is a flag.
    let err = ztmon(&["replay", "--", "-quiet"]).nothing();
    assert!(err.contains("-quiet: "), "{err}");
}

// ---- selection

#[cfg(feature = "live")]
#[test]
fn a_filter_decides_what_is_a_frame() {
    // 100 + 200 from A to B and 300 back, each twice.
    let file = testdata(TWO_SIDED);
    let run = ztmon(&["replay", "--filter", "src host 10.0.0.1", &file]);
    assert!(run.err.starts_with("4 frames = 2 counted + 2 copies +"), "{run:?}");
    assert_eq!(rows(&run.ok())[0][..5], ["10.0.0.1", "300", "0", "2", "0"]);
    // `greater` asks for the frame's original length, here 14 + 1,500 and 14 + 1,040 of which 142 were captured.
    let cut = testdata("link/length-from-header.pcap");
    for (filter, frames) in [("greater 1514", 1), ("greater 1515", 0), ("less 1054", 1), ("greater 142", 2), ("", 2)] {
        let run = ztmon(&["replay", "--filter", filter, &cut]);
        assert!(run.err.starts_with(&format!("{frames} frames = {frames} counted")), "{filter}: {run:?}");
    }
}

#[cfg(feature = "live")]
#[test]
fn a_filter_that_cannot_be_compiled_is_status_2() {
    let err = ztmon(&["replay", "--filter", "host (", &testdata(TWO_SIDED)]).nothing();
    assert!(err.contains("--filter 'host ('") && err.lines().count() == 1, "{err}");
    // One that makes no sense on a later file's link type.
    let files = [testdata(TWO_SIDED), testdata("link/raw-101.pcap")];
    let err = ztmon(&["replay", "--filter", "ether host e2:00:00:00:00:0a", &files[0], &files[1]]).nothing();
    assert!(err.contains("--filter 'ether host e2:00:00:00:00:0a'"), "{err}");
}

#[test]
fn dates_are_read_in_the_zone_given() {
    // Frames at 2025-12-31T22:59:59.999999Z (100 bytes) and 23:00:00Z (200): New Year in Berlin.
    let file = testdata("time/since-date.pcap");
    let bytes = |args: &[&str]| {
        let run = ztmon(&[&["replay", "--quiet", &file], args].concat());
        rows(&run.ok()).first().map_or(0, |row| row[1].parse::<u64>().unwrap())
    };
    assert_eq!(bytes(&["--since", "2026-01-01", "--tz", "Europe/Berlin"]), 200);
    assert_eq!(bytes(&["--until", "2026-01-01", "--tz", "Europe/Berlin"]), 100);
    assert_eq!(bytes(&["--until", "2026-01-01", "--tz", "UTC"]), 300);
    assert_eq!(bytes(&["--since", "2026-01-01", "--tz", "UTC"]), 0);
    assert_eq!(bytes(&["--since", "2026-01-01T04:00", "--tz", "Asia/Yekaterinburg"]), 200);
    assert_eq!(bytes(&["--since", "2025-12-31T23:00:00Z", "--tz", "Asia/Tokyo"]), 200);
    assert_eq!(bytes(&["--since", "2025-12-31 22:59:59.999999", "--tz", "UTC"]), 300);
    // Without --tz the system's zone, as $TZ has it.
    let mut berlin = command(&["replay", "--quiet", "--since", "2026-01-01", &file]);
    berlin.env("TZ", "Europe/Berlin");
    assert_eq!(rows(&finish(berlin).ok())[0][1], "200");
}

// ---- output

#[test]
fn json_has_the_names_and_numbers_of_the_csv() {
    let real = testdata("real/tee-both.pcap");
    for by in ["address", "pair"] {
        let csv = ztmon(&["replay", "--by", by, "--format", "csv", &real]).ok();
        let json: serde_json::Value =
            serde_json::from_str(&ztmon(&["replay", "--by", by, "--format", "json", &real]).ok()).unwrap();
        let names: Vec<_> = csv.lines().next().unwrap().split(',').collect();
        let objects = json["rows"].as_array().unwrap();
        assert_eq!(objects.len(), rows(&csv).len());
        for (object, row) in objects.iter().zip(rows(&csv)) {
            let object = object.as_object().unwrap();
            assert_eq!(object.keys().collect::<Vec<_>>(), names);
            let values = object.values().map(|value| value.as_str().map_or(value.to_string(), str::to_owned));
            assert_eq!(values.collect::<Vec<_>>(), row);
            let numeric = object.values().map(|value| value.is_u64()).filter(|number| *number).count();
            assert_eq!(numeric, if by == "address" { 4 } else { 2 });
        }
        let summary = |name: &str| json["summary"][name].as_u64().unwrap();
        let outcomes = ["counted", "copies", "out_of_scope", "not_ip", "malformed", "unsupported_link"];
        assert_eq!(summary("frames"), outcomes.map(summary).iter().sum::<u64>());
        assert_eq!((summary("frames"), summary("counted"), summary("not_ip")), (3398, 1731, 37));
        // Packets, or packets sent: the fourth column of both.
        assert_eq!(rows(&csv).iter().map(|row| row[3].parse::<u64>().unwrap()).sum::<u64>(), summary("counted"));
    }
}

#[test]
fn a_table_is_for_people_and_a_pipe_gets_csv() {
    let file = testdata(TWO_SIDED);
    let table = ztmon(&["replay", "--format", "table", "--quiet", &file]).ok();
    assert!(table.contains("10.0.0.1") && table.contains("300 B") && !table.contains('\u{1b}'), "{table}");
    assert!(ztmon(&["replay", "--quiet", &file]).ok().starts_with("addr,sent_bytes,"));
}

#[test]
fn output_goes_to_a_file_that_keeps_what_it_had_until_then() {
    let folder = tempfile::tempdir().unwrap();
    let path = within(folder.path(), "out.csv");
    let old = "x".repeat(5000);
    fs::write(&path, &old).unwrap();
    // Nothing could be done: the old content stays.
    ztmon(&["replay", "--output", &path, "no-such-file.pcap"]).nothing();
    #[cfg(feature = "live")]
    ztmon(&["replay", "--output", &path, "--filter", "host (", &testdata(TWO_SIDED)]).nothing();
    assert_eq!(fs::read_to_string(&path).unwrap(), old);
    // All well: nothing of the old content stays, and nothing is printed.
    let want = ztmon(&["replay", &testdata(TWO_SIDED)]).ok();
    assert_eq!(ztmon(&["replay", "--output", &path, &testdata(TWO_SIDED)]).ok(), "");
    assert_eq!(fs::read_to_string(&path).unwrap(), want);
    // A place that cannot be written to is known before the work begins.
    let err = ztmon(&["replay", "--output", &within(folder.path(), "no/such/folder"), &testdata(TWO_SIDED)]).nothing();
    assert!(err.starts_with("ztmon: cannot write to ") && !err.contains("frames ="), "{err}");
}

#[test]
fn top_and_sort_agree_with_the_whole() {
    let real = testdata("real/tee-both.pcap");
    let whole = ztmon(&["replay", "--sort", "received", &real]).ok();
    let top = ztmon(&["replay", "--sort", "received", "--top", "2", &real]).ok();
    let (whole, top) = (rows(&whole), rows(&top));
    assert_eq!((whole[0][0], whole[1][0]), ("10.147.20.13", "10.147.20.12"));
    assert_eq!(top[..2], whole[..2]);
    let names: Vec<_> = top.iter().map(|row| row[0]).collect();
    assert_eq!(names[2..], ["external", "multicast", "rest"]);
    let sum = |rows: &[Vec<&str>], at: usize| rows.iter().map(|row| row[at].parse::<u64>().unwrap()).sum::<u64>();
    for at in 1..5 {
        assert_eq!(sum(&top, at), sum(&whole, at));
    }
    assert_eq!(rows(&ztmon(&["replay", "--top", "0", &real]).ok())[0][0], "external");
}

// ---- rules

#[test]
fn rules_are_to_be_pasted() {
    let rule = |args: &[&str]| {
        let text = ztmon(&[&["rules", "--observer", "89e92ceee5"], args].concat()).ok();
        text.lines().find(|line| line.starts_with("tee")).unwrap_or_default().to_owned()
    };
    assert_eq!(rule(&[]), "tee 128 89e92ceee5 ethertype ipv4 or ethertype ipv6;");
    assert!(rule(&["--bytes", "40"]).starts_with("tee 40 89e92ceee5 "));
    assert!(rule(&["--sides", "sender"]).starts_with("tee 64 89e92ceee5 "));
    assert_ne!(rule(&["--sides", "sender"]), rule(&["--sides", "receiver"]));
    let json = ztmon(&["rules", "--observer", "89e92ceee5", "--format", "json"]).ok();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let tee = json["rules"].as_array().unwrap().iter().find(|rule| rule["type"] == "ACTION_TEE").unwrap();
    assert_eq!((tee["address"].as_str(), tee["length"].as_u64()), (Some("89e92ceee5"), Some(128)));
    // A rule that shows no IPv6 addresses is refused.
    let err = ztmon(&["rules", "--observer", "89e92ceee5", "--bytes", "39"]).nothing();
    assert!(err.contains("39 bytes") && err.contains("40"), "{err}");
}

#[test]
fn a_standard_error_that_nobody_reads_is_no_panic() {
    let capture = testdata("tee/two-sided.pcap");
    for args in [&[][..], &["report", "--db", "/no/such.db"], &["replay", "--filter", "host (", &capture]] {
        let (_, closed) = std::io::pipe().unwrap();
        let status = command(args).stdout(Stdio::null()).stderr(closed).status().unwrap();
        assert_eq!(status.code(), Some(2), "{args:?}");
    }
}

#[test]
fn a_filter_that_cannot_be_compiled_is_an_error_even_if_no_frame_is_in_time() {
    let args = ["replay", "--filter", "host (", "--until", "1971-01-01", &testdata("tee/two-sided.pcap")];
    assert!(ztmon(&args).nothing().contains("--filter 'host ('"));
}

#[test]
fn standard_input_is_given_once() {
    assert!(ztmon(&["replay", "-", "-"]).nothing().contains("standard input can be read only once"));
}

#[test]
fn a_filter_asks_for_nothing_that_only_the_kernel_knows() {
    for filter in ["inbound", "ifindex 3"] {
        assert!(ztmon(&["replay", "--filter", filter, &testdata("tee/two-sided.pcap")]).nothing().contains(filter));
    }
}

/// One IPv4 and one IPv6 packet on BSD loopback, in a file of either byte order.
fn loopback(big_endian: bool, link: u32, inet6: u32) -> Vec<u8> {
    let order = |word: u32| if big_endian { word.to_be_bytes() } else { word.to_le_bytes() };
    let mut file = [order(0xa1b2_c3d4), order(if big_endian { 2 << 16 | 4 } else { 4 << 16 | 2 })].concat();
    [0, 0, 65_535, link].into_iter().for_each(|word| file.extend(order(word)));
    let mut ipv4 = [0; 28];
    (ipv4[0], ipv4[3], ipv4[9]) = (0x45, 28, 17);
    ipv4[12..20].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
    let mut ipv6 = [0; 48];
    (ipv6[0], ipv6[5], ipv6[6], ipv6[8], ipv6[23], ipv6[24], ipv6[39]) = (0x60, 8, 17, 0xfd, 1, 0xfd, 2);
    for (family, packet) in [(2, &ipv4[..]), (inet6, &ipv6[..])] {
        // LOOP is in network order, NULL in that of the machine that captured.
        let family = if link == 108 { u32::to_be_bytes(family) } else { order(family) };
        let len = packet.len() as u32 + 4;
        [0, 0, len, len].into_iter().for_each(|word| file.extend(order(word)));
        file.extend(family.iter().chain(packet));
    }
    file
}

#[test]
fn a_filter_knows_bsd_loopback_of_either_byte_order() {
    for (big_endian, link) in [(false, 0), (true, 0), (false, 108), (true, 108)] {
        for inet6 in [24, 28, 30] {
            let file = loopback(big_endian, link, inet6);
            for (filter, lens) in [("ip", vec!["28"]), ("ip6", vec!["48"]), ("udp", vec!["48", "28"])] {
                let args = ["replay", "--quiet", "--tee", "none", "--by", "pair", "--filter", filter, "-"];
                let csv = fed(&args, &file).ok();
                let found: Vec<_> = csv.lines().skip(1).filter_map(|line| line.split(',').nth(2)).collect();
                assert_eq!(found, lens, "{filter}, big-endian {big_endian}, link type {link}, family {inet6}");
            }
        }
    }
}

#[test]
fn what_contradicts_the_settings_is_said() {
    let said = |args: &[&str], capture: &str| {
        let run = ztmon(&[&["replay"], args, &[&testdata(capture)]].concat());
        assert_eq!(run.code, Some(0), "{run:?}");
        run.err
    };
    let fitting = said(&["--observer-mac", "e2:53:1a:4b:b7:7c"], "real/tee-both.pcap");
    assert!(!fitting.contains("warning") && !fitting.contains("apart"), "{fitting}");
    let unknown = said(&[], "real/tee-both.pcap");
    assert!(
        unknown.contains("140 apart (see below)") && unknown.contains("--observer-mac e2:53:1a:4b:b7:7c"),
        "{unknown}"
    );
    assert!(said(&[], "real/tee-inbound.pcap").contains("if the rule is one-sided give --tee one"));
    assert!(said(&["--tee", "one"], "real/tee-both.pcap").contains("if the rule is two-sided give --tee both"));
    assert!(said(&["--tee-bytes", "64"], "real/tee-both.pcap").contains("cut at 128 bytes and not at 64"));
    assert_eq!(ztmon(&["replay", "--quiet", &testdata("real/tee-inbound.pcap")]).err, "");
}
