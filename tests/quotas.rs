//! Quotas: the verb, the report and the gauges of `serve`, on a clock that the tests set.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[allow(dead_code)]
#[path = "faults/shim.rs"]
mod shim;
mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::{TempDir, tempdir};
use ztmon::time::Timestamp;
use ztmon::zone::Zone;

use shim::Shim;
use support::numbers::{Metrics, Total};
use support::pcap::{Capture, Frame, Packet};
use support::serve::{Serve, Setup};
use support::{Ended, OBSERVER, eventually, prometheus, real, run, ztmon};

const QUOTAS: &str = r#"
tz = "Europe/Berlin"

[[quota]]
name = "alice"
client = "10.0.0.1"
bytes = "5kB"
period = "month"
start-day = 14

[[quota]]
name = "sent by alice"
client = "10.0.0.1"
bytes = 1_000_000
period = "month"
start-day = 14
direction = "sent"

[[quota]]
name = "group"
group = ["10.0.0.1", "10.0.0.2"]
bytes = "1MiB"
period = "month"
start-day = 14
"#;

const NAMES: [&str; 3] = ["alice", "sent by alice", "group"];

/// A database, quotas and a clock.
struct Place {
    dir: TempDir,
    shim: Shim,
}

impl Place {
    fn new(quotas: &str, now: &str) -> Place {
        let dir = tempdir().unwrap();
        std::fs::write(dir.path().join("quotas.toml"), quotas).unwrap();
        let place = Place { shim: Shim::new(&dir.path().join("ztmon.db")), dir };
        place.set_clock(now);
        place
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn quotas(&self) -> PathBuf {
        self.file("quotas.toml")
    }

    /// From now on it is about this time.
    fn set_clock(&self, now: &str) {
        self.shim.set_clock(seconds(now) - Timestamp::now().clamped().0);
    }

    fn feels(&self, mut command: Command) -> Command {
        command.envs(self.shim.environment());
        command
    }

    /// Runs a verb with these quotas on the database.
    fn run(&self, verb: &[&str]) -> Ended {
        let mut command = self.feels(ztmon());
        run(command.args(verb).arg("--quotas").arg(self.quotas()).arg("--db").arg(self.file("ztmon.db")))
    }

    /// A `serve` that plays these frames.
    fn serve(&self, frames: Vec<Frame>, flags: &[&str]) -> Serve<'static> {
        let (source, count) = (self.file("source.pcap"), frames.len() as u64);
        Capture(frames).write(&source);
        let setup = self.shim.around(Setup::new(&self.file("ztmon.db")));
        let setup = setup.source(&source, "max").args(["--tee", "none", "--quotas"]).args([self.quotas()]).args(flags);
        let serve = setup.start();
        serve.wait_for_log(&format!("played {count} frames, all there are"), 1);
        serve
    }
}

fn seconds(time: &str) -> i64 {
    Zone::absolute(time).unwrap().clamped().0
}

/// A packet of 10.0.0.`src` to 10.0.0.`dst`.
fn packet(time: &str, src: u8, dst: u8, len: u16) -> Frame {
    static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let data = Packet { src: [10, 0, 0, src], dst: [10, 0, 0, dst], len, number }.frame();
    Frame { time: seconds(time) as u64 * 1_000_000, len: 14 + u32::from(len), data }
}

fn used(metrics: &Metrics) -> [u64; 3] {
    NAMES.map(|name| metrics.sum_where("ztmon_quota_used_bytes", "quota", name))
}

/// The rows of JSON.
fn rows(ended: &Ended) -> Vec<Value> {
    let json: Value = serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}"));
    json["rows"].as_array().unwrap().clone()
}

fn used_by_check(place: &Place) -> Vec<u64> {
    let ended = place.run(&["quota", "check", "--origin", "live", "--format", "json"]);
    rows(&ended).iter().map(|row| row["used_bytes"].as_u64().unwrap()).collect()
}

/// What the clients 1 and 2 moved from a time on, by the report of pairs.
fn used_by_report(place: &Place, since: &str, until: &str) -> [u64; 3] {
    let mut report = ztmon();
    report.args(["report", "--quiet", "--format", "csv", "--by", "pair", "--since", since, "--until", until, "--db"]);
    let csv = run(report.arg(place.file("ztmon.db"))).stdout;
    let pairs = csv.lines().skip(1).map(|line| line.split(',').collect::<Vec<_>>());
    let mut used = [0; 3];
    for pair in pairs {
        let bytes: u64 = pair[2].parse().unwrap();
        let is = |end: &str| pair[..2].contains(&end);
        used[0] += if is("10.0.0.1") { bytes } else { 0 };
        used[1] += if pair[0] == "10.0.0.1" { bytes } else { 0 };
        used[2] += if is("10.0.0.1") || is("10.0.0.2") { bytes } else { 0 };
    }
    used
}

#[test]
fn gauges_reports_and_checks_agree_over_restarts_and_periods() {
    let place = Place::new(QUOTAS, "2026-11-20T12:00:00Z");
    let frames = vec![
        // The month before, by a second; this one, at both its ends; the next.
        packet("2026-11-13T22:59:59Z", 1, 3, 1001),
        packet("2026-11-13T23:00:00Z", 1, 3, 100),
        packet("2026-11-19T12:00:00Z", 3, 1, 200),
        packet("2026-11-19T12:00:01Z", 1, 2, 400),
        packet("2026-11-19T12:00:02Z", 2, 1, 800),
        packet("2026-11-19T12:00:03Z", 2, 3, 1200),
        packet("2026-12-13T22:59:59Z", 3, 2, 60),
        packet("2026-12-13T23:00:00Z", 1, 2, 70),
        packet("2026-12-20T12:00:00Z", 2, 3, 80),
    ];
    let serve = place.serve(frames, &[]);
    let november = [1500, 500, 2760];
    let metrics = serve.scrape_at(9, Total::default());
    assert_eq!(used(&metrics), november, "{}", metrics.text);
    assert_eq!(metrics.sum_where("ztmon_quota_limit_bytes", "quota", "group"), 1 << 20);
    let end =
        |metrics: &Metrics| metrics.sum_where("ztmon_quota_period_end_timestamp_seconds", "quota", "alice") as i64;
    assert_eq!(end(&metrics), seconds("2026-12-14T00:00:00+01:00"));
    assert_eq!(used_by_check(&place), november);
    assert_eq!(used_by_report(&place, "2026-11-14T00:00:00+01:00", "2026-12-14T00:00:00+01:00"), november);

    // Killed, it comes back with the same, and adds.
    serve.signal(Signal::KILL);
    serve.end();
    let serve = place.serve(vec![packet("2026-11-20T12:00:00Z", 1, 9, 1000)], &[]);
    let more = [2500, 1500, 3760];
    eventually("what is added", || (used(&serve.scrape()) == more).then_some(()));

    // The month ends without a packet.
    place.set_clock("2026-12-13T23:00:00Z");
    let december = [70, 70, 150];
    let metrics = eventually("the next month", || {
        let metrics = serve.scrape();
        assert!(metrics.has("ztmon_quota_used_bytes"), "at no time is it unknown: {}", metrics.text);
        (end(&metrics) > seconds("2026-12-14T00:00:00Z")).then_some(metrics)
    });
    assert_eq!(used(&metrics), december);
    assert_eq!(end(&metrics), seconds("2027-01-14T00:00:00+01:00"));
    serve.stop();
    // What comes late is the old one's.
    let late = vec![packet("2026-12-13T22:59:00Z", 1, 2, 5000), packet("2026-12-13T23:00:01Z", 1, 2, 600)];
    let serve = place.serve(late, &[]);
    eventually("what came in time", || (used(&serve.scrape()) == december.map(|bytes| bytes + 600)).then_some(()));
    serve.stop();
    assert_eq!(used_by_check(&place), december.map(|bytes| bytes + 600));
    place.set_clock("2026-12-13T22:59:00Z");
    assert_eq!(used_by_check(&place), more.map(|bytes| bytes + 5000));
}

#[test]
fn a_file_that_changes_is_read_again() {
    let place = Place::new(QUOTAS, "2026-11-20T12:00:00Z");
    let serve = place.serve(vec![packet("2026-11-20T12:00:00Z", 1, 2, 1000)], &[]);
    eventually("the packet", || (used(&serve.scrape()) == [1000; 3]).then_some(()));
    let write = |text: &str| {
        // In its place, as editors do.
        std::fs::write(place.file("new"), text).unwrap();
        std::fs::rename(place.file("new"), place.quotas()).unwrap();
    };
    write(&QUOTAS.replace("start-day = 14\n", "start-day = 14\ncolour = 1\n"));
    let line = serve.wait_for_log("'colour' means nothing here", 1);
    assert!(line.contains("quotas.toml:10: ") && line.ends_with("what it told before stays known"), "{line}");
    assert_eq!(used(&serve.scrape()), [1000; 3]);
    std::fs::remove_file(place.quotas()).unwrap();
    serve.wait_for_log("quotas.toml: No such file", 1);
    assert_eq!(used(&serve.scrape()), [1000; 3]);
    write(&QUOTAS.replace("sent by alice", "else").replace("\"sent\"", "\"received\"").replace("5kB", "6kB"));
    let metrics = eventually("another quota", || {
        let metrics = serve.scrape();
        (metrics.sum_where("ztmon_quota_limit_bytes", "quota", "else") > 0).then_some(metrics)
    });
    assert_eq!(used(&metrics)[2], 1000, "one that stayed is known all the time");
    let metrics = eventually("what it used", || {
        let metrics = serve.scrape();
        let known = metrics.samples.iter().filter(|sample| sample.name == "ztmon_quota_used_bytes").count();
        (known == 3).then_some(metrics)
    });
    assert_eq!(used(&metrics), [1000, 0, 1000]);
    assert_eq!(metrics.sum_where("ztmon_quota_used_bytes", "quota", "else"), 0);
    assert_eq!(serve.logged("colour"), 1);
    serve.stop();
}

#[test]
fn check_says_whether_one_is_exceeded() {
    let place = Place::new(QUOTAS, "2026-11-24T00:00:00+01:00");
    assert!(place.run(&["quota", "check"]).refusal().contains("there is no database"));
    let serve = place.serve(vec![packet("2026-11-20T12:00:00Z", 1, 2, 2000)], &[]);
    eventually("the packet", || (used(&serve.scrape()) == [2000; 3]).then_some(()));
    serve.stop();
    let csv = "quota,period_start,period_end,used_bytes,limit_bytes,remaining_bytes,share,projected_bytes,exceeded\r\n\
               alice,2026-11-14T00:00:00+01:00,2026-12-14T00:00:00+01:00,2000,5000,3000,0.4,";
    let ended = place.run(&["quota", "check"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
    assert!(ended.stdout.starts_with(csv), "{ended:?}");
    let projected = rows(&place.run(&["quota", "check", "--format", "json"]))[0]["projected_bytes"].as_u64().unwrap();
    // The clock runs on.
    assert!((5990..=6000).contains(&projected), "{projected}");
    let table = place.run(&["report", "--format", "table"]).stdout;
    let lines: Vec<_> = table.lines().collect();
    assert!(lines[0].starts_with("quota             used    limit  share"), "{table}");
    assert!(lines[1].starts_with("alice          2.00 kB  5.00 kB  40.0%"), "{table}");
    assert_eq!(lines[4], "time zone: Europe/Berlin (+01:00)");

    let text = QUOTAS.replace("5kB", "1999").replace("alice\"\nclient", "al,ice\"\nclient");
    std::fs::write(place.quotas(), text).unwrap();
    let ended = place.run(&["quota", "check"]);
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.stdout.contains("\r\n\"al,ice\",2026-11-14T00:00:00+01:00,"), "{ended:?}");
    assert!(ended.stdout.contains(",2000,1999,0,1.0005,") && ended.stdout.contains(",true\r\n"), "{ended:?}");
    assert_eq!(place.run(&["report"]).code, Some(0), "a report only reports");
    assert_eq!(place.run(&["quota", "check", "--origin", "import"]).code, Some(0));

    for flags in [&["--since", "today"][..], &["--every", "day"], &["--by", "pair"], &["--top", "1"]] {
        assert!(place.run(&[&["report"], flags].concat()).refusal().contains("cannot be used with"), "{flags:?}");
    }
    assert!(place.run(&["quota", "check", "--format", "openmetrics"]).refusal().contains("openmetrics"));
    assert!(place.run(&["report", "--format", "openmetrics"]).refusal().contains("quotas come as table"));
    std::fs::write(place.quotas(), QUOTAS.replace("client = \"10.0.0.1\"", "member = \"bob\"")).unwrap();
    let refused = place.run(&["quota", "check"]);
    assert!(refused.refusal().contains("quotas.toml: quota 'alice': no member is called 'bob'"), "{refused:?}");
    std::fs::write(place.quotas(), QUOTAS.replace("month", "year")).unwrap();
    assert!(place.run(&["quota", "check"]).refusal().ends_with("quotas.toml:8: give hour, day, week or month"));
    let serve = Setup::new(&place.file("ztmon.db")).source(&place.file("source.pcap"), "max");
    let ended = run(&mut serve.args(["--quotas"]).args([place.quotas()]).command());
    assert!(ended.refusal().ends_with("quotas.toml:8: give hour, day, week or month"));
}

#[test]
fn periods_are_those_of_the_zone() {
    let place = Place::new(QUOTAS, "2026-11-20T12:00:00Z");
    place.serve(Vec::new(), &[]).stop();
    for (now, zone, period, start, end) in [
        // Days of 23 and 25 hours, and a zone of 45 minutes.
        ("2026-03-29T10:00:00Z", "Europe/Berlin", "day", "2026-03-29T00:00:00+01:00", "2026-03-30T00:00:00+02:00"),
        ("2026-10-25T10:00:00Z", "Europe/Berlin", "day", "2026-10-25T00:00:00+02:00", "2026-10-26T00:00:00+01:00"),
        ("2026-01-01T00:00:00Z", "Asia/Kathmandu", "hour", "2026-01-01T05:00:00+05:45", "2026-01-01T06:00:00+05:45"),
        ("2026-11-22T23:30:00Z", "UTC", "week", "2026-11-16T00:00:00+00:00", "2026-11-23T00:00:00+00:00"),
        ("2026-11-22T23:30:00Z", "Europe/Berlin", "week", "2026-11-23T00:00:00+01:00", "2026-11-30T00:00:00+01:00"),
        (
            "2026-02-13T22:59:00Z",
            "Europe/Berlin",
            "month\"\nstart-day = 14 # \"",
            "2026-01-14T00:00:00+01:00",
            "2026-02-14T00:00:00+01:00",
        ),
        (
            "2028-02-28T12:00:00Z",
            "UTC",
            "month\"\nstart-day = 31 # \"",
            "2028-01-31T00:00:00+00:00",
            "2028-02-29T00:00:00+00:00",
        ),
        (
            "2028-02-29T00:00:30Z",
            "UTC",
            "month\"\nstart-day = 31 # \"",
            "2028-02-29T00:00:00+00:00",
            "2028-03-31T00:00:00+00:00",
        ),
        ("2026-04-01T00:00:00Z", "Europe/Berlin", "month", "2026-04-01T00:00:00+02:00", "2026-05-01T00:00:00+02:00"),
    ] {
        place.set_clock(now);
        let quota = format!("[[quota]]\nname = \"q\"\nclient = \"10.0.0.1\"\nbytes = 1\nperiod = \"{period}\"\n");
        std::fs::write(place.quotas(), quota).unwrap();
        let check = &["quota", "check", "--format", "json", "--tz", zone];
        let row = &rows(&place.run(check))[0];
        assert_eq!(
            (row["period_start"].as_str(), row["period_end"].as_str()),
            (Some(start), Some(end)),
            "{now} {zone}"
        );
        assert_eq!(
            row["projected_bytes"].is_null(),
            now.contains(":00:30") || period == "hour" || zone == "Europe/Berlin" && period == "week"
        );
    }
}

#[test]
fn of_members_their_own_traffic_counts() {
    let quotas = "[[quota]]\nname = \"a\"\nmember = \"6df5629e82\"\nbytes = 1\nperiod = \"month\"\n\
                  [[quota]]\nname = \"b\"\ngroup = [\"bob\"]\nbytes = \"1GB\"\nperiod = \"month\"\n";
    let frames = Capture::read(&real("tee-both.pcap")).0;
    let now = Timestamp::new((frames[0].time / 1_000_000) as i64, 0).to_string();
    let place = Place::new(quotas, &now);
    std::fs::write(place.file("names.csv"), "87dc5b55d9,bob\n").unwrap();
    let names = place.file("names.csv").display().to_string();
    let count = frames.len() as u64;
    let flags =
        ["--tz", "UTC", "--network-id", NETWORK, "--names", &names, "--tee", "both", "--observer-mac", OBSERVER];
    let setup = place.shim.around(Setup::new(&place.file("ztmon.db"))).source(&real("tee-both.pcap"), "max");
    let serve = setup.args(["--quotas"]).args([place.quotas()]).args(flags).start();
    serve.wait_for_log(&format!("played {count} frames"), 1);
    let metrics = serve.scrape_at(count, Total::default());
    let own = |node: &str| {
        let of = |direction: &str| metrics.sum_where(&format!("zerotier_member_{direction}_bytes_total"), "node", node);
        of("sent") + of("received")
    };
    let of = |name: &str| metrics.sum_where("ztmon_quota_used_bytes", "quota", name);
    assert!(own("6df5629e82") > 500_000 && own("87dc5b55d9") > 100_000, "{}", metrics.text);
    assert_eq!((of("a"), of("b")), (own("6df5629e82"), own("87dc5b55d9")));
    let expected = vec![of("a"), of("b")];
    serve.stop();
    // The database knows the name.
    let ended = place.run(&["quota", "check", "--tz", "UTC", "--format", "json"]);
    assert_eq!(ended.code, Some(1));
    let found: Vec<_> = rows(&ended).iter().map(|row| row["used_bytes"].as_u64().unwrap()).collect();
    assert_eq!(found, expected);
}

#[test]
fn a_period_that_cuts_what_is_kept_takes_no_other_quota_along() {
    let quota = |name: &str, bytes: u32, period: &str| {
        format!("[[quota]]\nname = \"{name}\"\nclient = \"10.0.0.1\"\nbytes = {bytes}\nperiod = \"{period}\"\n")
    };
    let all = [
        quota("month", 9000, "month"),
        quota("day", 100, "day"),
        quota("also", 1, "month"),
        quota("week", 9000, "week"),
    ];
    let place = Place::new(&format!("tz = \"Asia/Kathmandu\"\n{}", all.concat()), "2026-11-20T12:00:00Z");
    let used = |serve: &Serve| {
        let metrics = serve.scrape();
        let of = |name: &str| {
            let mut all = metrics.samples.iter().filter(|sample| sample.name == "ztmon_quota_used_bytes");
            all.find(|sample| sample.labels["quota"] == name).map(|sample| sample.value.clone())
        };
        ["month", "day", "also", "week"].map(of)
    };
    let known = |bytes: [Option<&str>; 4]| bytes.map(|bytes| bytes.map(str::to_owned));
    // November begins there at 18:15 in UTC.
    let frames = [("2026-10-31T18:10:00Z", 1000), ("2026-10-31T18:20:00Z", 2000), ("2026-11-20T11:00:00Z", 400)];
    let serve = place.serve(frames.map(|(time, len)| packet(time, 1, 2, len)).to_vec(), &[]);
    eventually("what was counted", || {
        (used(&serve) == known([Some("2400"), Some("400"), Some("2400"), Some("400")])).then_some(())
    });
    serve.stop();
    // Old history is looked after at the start.
    let serve = place.serve(Vec::new(), &[]);
    let db = rusqlite::Connection::open(place.file("ztmon.db")).unwrap();
    let longest = || db.query_row("SELECT max(seconds) FROM bucket", [], |row| row.get(0));
    eventually("a bucket of an hour", || (longest() == Ok(3600)).then_some(()));
    serve.stop();

    let serve = place.serve(vec![packet("2026-11-20T11:30:00Z", 2, 1, 600)], &[]);
    let why = "what it used is unknown until its next period: 2026-10-31T18:15:00Z falls inside a bucket that is kept as \
               one: the nearest bounds are 2026-10-31T18:00:00Z and 2026-10-31T19:00:00Z; this database keeps what is \
               older than a week by 60 minutes: one that is made with a shorter --bucket can be cut there";
    serve.wait_for_log(&format!("quota 'month': {why}"), 1);
    eventually("the others", || (used(&serve) == known([None, Some("1000"), None, Some("1000")])).then_some(()));
    place.set_clock("2026-11-30T18:15:00Z");
    eventually("December", || (used(&serve) == [0; 4].map(|bytes| Some(bytes.to_string()))).then_some(()));
    assert_eq!((serve.logged("quota 'month'"), serve.logged("quota 'also'")), (1, 1));
    serve.stop();

    place.set_clock("2026-11-20T12:00:00Z");
    let lines = format!("ztmon: quota 'also': {why}\nztmon: quota 'month': {why}\n");
    let ended = place.run(&["quota", "check"]);
    assert_eq!((ended.code, &ended.stderr), (Some(2), &lines), "{ended:?}");
    let rows_of: Vec<_> = ended.stdout.lines().skip(1).collect();
    let november = "2026-11-01T00:00:00+05:45,2026-12-01T00:00:00+05:45";
    assert_eq!(
        (rows_of[0], rows_of[2]),
        (&*format!("month,{november},,9000,,,,"), &*format!("also,{november},,1,,,,"))
    );
    assert!(rows_of[1].contains(",1000,100,0,") && rows_of[1].ends_with(",true"), "{ended:?}");
    assert!(rows_of[3].contains(",1000,9000,8000,") && rows_of[3].ends_with(",false"), "{ended:?}");
    let ended = place.run(&["report", "--format", "json"]);
    assert_eq!((ended.code, &ended.stderr), (Some(1), &lines), "{ended:?}");
    let fields = ["used_bytes", "remaining_bytes", "share", "projected_bytes", "exceeded"];
    let month = &rows(&ended)[0];
    assert!(fields.iter().all(|field| month[field].is_null()), "{month}");
    assert_eq!(rows(&ended)[3]["used_bytes"], 1000);
    let table = place.run(&["quota", "check", "--format", "table"]).stdout;
    assert!(table.lines().nth(1).unwrap().starts_with("month        -  9.00 kB"), "{table}");
    std::fs::write(place.quotas(), "tz = \"Asia/Kathmandu\"\n".to_owned() + &all[1]).unwrap();
    assert_eq!(place.run(&["quota", "check"]).code, Some(1), "what is not asked for takes nothing along");
}

#[test]
fn a_member_is_told_where_one_network_has_an_id() {
    let quotas = "[[quota]]\nname = \"a\"\nmember = \"6df5629e82\"\nbytes = 1\nperiod = \"month\"\n";
    let place = Place::new(quotas, "2026-11-22T12:00:00Z");
    let import = |file: &str, flags: &[&str]| {
        let mut replay = ztmon();
        replay.args(["replay", "--quiet", "--observer-mac", OBSERVER, "--db"]).arg(place.file("ztmon.db"));
        assert_eq!(run(replay.args(flags).arg(real(file))).code, Some(0));
    };
    import("tee-inbound.pcap", &["--tee", "one"]);
    let refused = place.run(&["quota", "check"]);
    assert!(refused.refusal().ends_with("which member a MAC is depends on the network: give --network-id"));
    import("tee-both.pcap", &["--network-id", NETWORK]);
    let used = |flags: &[&str]| {
        let ended = place.run(&[&["quota", "check", "--format", "json"], flags].concat());
        rows(&ended)[0]["used_bytes"].as_u64().unwrap()
    };
    let of_one = used(&[]);
    assert!(of_one > 500_000 && used(&["--network-id", NETWORK]) > of_one, "{of_one}");
}

/// The network of `testdata/real`.
const NETWORK: &str = "460cacee2d00a7e1";

#[test]
fn the_alerts_of_the_documentation_work() {
    if !prometheus::is_there("promtool") {
        return;
    }
    let docs = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/quotas.md")).unwrap();
    let rules = docs.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    let dir = tempdir().unwrap();
    std::fs::write(dir.path().join("rules.yml"), rules).unwrap();
    // By minutes: half of it at once, and then a hundredth of it in each hour; another stands still.
    let test = r#"
rule_files: [rules.yml]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - { series: 'ztmon_quota_used_bytes{quota="alice"}', values: '30000+10x6000' }
      - { series: 'ztmon_quota_limit_bytes{quota="alice"}', values: '60000x6000' }
      - { series: 'ztmon_quota_period_end_timestamp_seconds{quota="alice"}', values: '360000x6000' }
      - { series: 'ztmon_quota_used_bytes{quota="bob"}', values: '30000x6000' }
      - { series: 'ztmon_quota_limit_bytes{quota="bob"}', values: '60000x6000' }
      - { series: 'ztmon_quota_period_end_timestamp_seconds{quota="bob"}', values: '360000x6000' }
    alert_rule_test:
      - { eval_time: 20h, alertname: QuotaNearlyUsed, exp_alerts: [] }
      - { eval_time: 20h, alertname: QuotaExceeded, exp_alerts: [] }
      - eval_time: 20h
        alertname: QuotaWillBeExceeded
        exp_alerts: [{ exp_labels: { quota: alice }, exp_annotations: { summary: "alice will have moved 90kB at the end of its period" } }]
      - eval_time: 31h
        alertname: QuotaNearlyUsed
        exp_alerts: [{ exp_labels: { quota: alice }, exp_annotations: { summary: "alice has moved 48.6kB" } }]
      - { eval_time: 50h, alertname: QuotaExceeded, exp_alerts: [] }
      - eval_time: 51h
        alertname: QuotaExceeded
        exp_alerts: [{ exp_labels: { quota: alice }, exp_annotations: { summary: "alice has moved 60.6kB, more than its quota" } }]
"#;
    std::fs::write(dir.path().join("test.yml"), test).unwrap();
    for words in [["check", "rules", "rules.yml"], ["test", "rules", "test.yml"]] {
        let ended = run(Command::new("promtool").args(words).current_dir(dir.path()));
        assert_eq!(ended.code, Some(0), "{words:?}: {ended:?}");
    }
}
