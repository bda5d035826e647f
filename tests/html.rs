//! Pages from the command line, as a browser shows and prints them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rusqlite::Connection;
use support::pcap::{Capture, Packet, SECOND};
use support::serve::Setup;
use support::{Ended, OBSERVER, eventually, real, run, skip, ztmon};
use tempfile::TempDir;

const HOUR: u64 = 3600;

/// What a program prints that must succeed.
fn printed(args: &[&str]) -> String {
    let ended = run(ztmon().args(args));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    ended.stdout
}

fn page_of_the_real_network(more: &[&str]) -> String {
    let capture = real("tee-both.pcap");
    let args = ["replay", "--observer-mac", OBSERVER, "--format", "html", "--tz", "Europe/Berlin"];
    printed(&[&args[..], more, &[capture.to_str().unwrap()]].concat())
}

/// Hosts that send outside every few hours, from 2020-03-01 on.
fn capture(folder: &Path, days: u64) -> String {
    let path = folder.join(format!("{days}.pcap"));
    let mut capture = Capture::default();
    for number in 0..days * 6 {
        let (src, len) = ([10, 0, 0, 1 + (number % 9) as u8], 100 + (number * 37 % 1300) as u16);
        let packet = Packet { src, dst: [192, 0, 2, 1], len, number: number as u32 };
        capture.add_teed((1_583_020_800 + number * 4 * HOUR) * SECOND, &packet);
    }
    capture.write(&path);
    path.to_str().unwrap().to_owned()
}

/// The page was looked at when it was taken in. Style and script have their own tests.
#[test]
fn the_page_of_a_real_network_is_as_it_was() {
    let page = page_of_the_real_network(&[]);
    let (start, rest) = page.split_once("<style>").unwrap();
    let (body, end) = rest.split_once("</style>").unwrap().1.split_once("<script>").unwrap();
    let hash = start.split_once("style-src ").unwrap().0.to_owned();
    let viewport = start.split_once("<meta name=").unwrap().1;
    let found = format!("{hash}…\n<meta name={viewport}…{body}…{}", end.split_once("</script>").unwrap().1);
    let wanted = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/html/tee-both.html");
    let wanted = fs::read_to_string(wanted).unwrap_or_default();
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("tee-both.html");
    fs::write(&kept, &found).unwrap();
    assert!(found == wanted, "the page has changed: compare {} with testdata/html", kept.display());
}

#[test]
fn a_database_gives_the_page_that_replay_printed() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("ztmon.db");
    let db = db.to_str().unwrap();
    // By the hour, by the day, by the month.
    for days in [2, 20, 120] {
        let file = capture(folder.path(), days);
        let args = ["--format", "html", "--tz", "Asia/Kathmandu", "--quiet"];
        fs::remove_file(db).ok();
        let replayed = printed(&[&["replay", "--db", db, &file], &args[..]].concat());
        let every = ["hour", "day", "month"][[2, 20, 120].iter().position(|other| *other == days).unwrap()];
        assert!(replayed.contains(&format!("Bytes by {every}")), "{days}");
        assert_eq!(printed(&[&["report", "--db", db], &args[..]].concat()), replayed, "{days}");
        let args = [&args[..], &["--every", "week", "--by", "pair", "--top", "3"]].concat();
        let replayed = printed(&[&["replay", &file], &args[..]].concat());
        assert!(replayed.contains("Bytes by week"));
        assert_eq!(printed(&[&["report", "--db", db], &args[..]].concat()), replayed, "{days}");
    }
}

#[test]
fn what_is_kept_too_long_for_every_period_has_no_chart() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("ztmon.db");
    let path = db.to_str().unwrap();
    printed(&["replay", "--quiet", "--db", path, &capture(folder.path(), 2)]);
    let report = |more: &[&str]| {
        let args = ["report", "--quiet", "--db", path, "--format", "html", "--tz", "Asia/Kathmandu"];
        run(ztmon().args(args).args(more))
    };
    let page = report(&[]).stdout;
    assert!(page.contains("Bytes by hour"), "{page}");
    // Buckets of an hour, and hours that begin at a quarter past.
    let nothing = folder.path().join("nothing.pcap");
    Capture::default().write(&nothing);
    let serve = Setup::new(&db).source(&nothing, "max").start();
    let kept = || Connection::open(&db).unwrap().query_row("SELECT min(seconds) FROM bucket", [], |row| row.get(0));
    eventually("longer buckets", || (kept() == Ok(3600)).then_some(()));
    serve.stop();
    let totals = |page: &str| {
        page.split("<section id=\"totals\">").nth(1).unwrap().split("</section>").next().unwrap().to_owned()
    };
    let kept = report(&[]).stdout;
    assert!(!kept.contains("id=\"time\"") && !kept.contains("id=\"periods\""), "{kept}");
    assert_eq!(totals(&kept), totals(&page));
    assert!(report(&["--every", "hour"]).refusal().contains("kept as one"));
}

#[test]
fn periods_that_cannot_be_read_are_not_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path().join("ztmon.db");
    let path = db.to_str().unwrap();
    printed(&["replay", "--quiet", "--db", path, &capture(folder.path(), 2)]);
    let report = || run(ztmon().args(["report", "--quiet", "--db", path, "--format", "html", "--tz", "UTC"]));
    assert!(report().stdout.contains("Bytes by hour"));
    // The sums of the days are still sound.
    Connection::open(&db).unwrap().execute("UPDATE usage SET bytes = bytes + 1", []).unwrap();
    assert!(report().refusal().contains("is damaged"));
}

/// A browser with a folder of its own.
struct Browser {
    folder: TempDir,
}

impl Browser {
    /// None if there is none.
    fn find() -> Option<Self> {
        if Command::new("chromium").arg("--version").output().is_err() {
            skip("chromium is missing");
            return None;
        }
        Some(Browser { folder: tempfile::tempdir().unwrap() })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Opens a page.
    fn open(&self, page: &str, args: &[&str]) -> Ended {
        let file = self.path("page.html");
        fs::write(&file, page).unwrap();
        let mut command = Command::new("chromium");
        // What it says on its console it says on standard error as well.
        command.args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr"]);
        // It would ask for the time, for updates and more; nothing of that is to leave this machine.
        command.args(["--disable-background-networking", "--disable-component-update", "--disable-sync"]);
        command.args(["--disable-features=NetworkTimeServiceQuerying,OptimizationHints", "--no-first-run"]);
        command.arg("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1");
        command.arg(format!("--user-data-dir={}", self.path("profile").display()));
        command.arg(format!("--log-net-log={}", self.path("net.json").display()));
        command.env("HOME", self.folder.path()).args(args).arg(format!("file://{}", file.display()));
        let ended = run(&mut command);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        ended
    }

    /// Opens a page that has nothing to complain of and wants nothing from the network; what was written to `name`.
    fn shows(&self, page: &str, name: &str, args: &[&str]) -> Vec<u8> {
        let flag = if name.ends_with(".pdf") { "print-to-pdf" } else { "screenshot" };
        let ended = self.open(page, &[args, &[&format!("--{flag}={}", self.path(name).display())]].concat());
        assert!(!ended.stderr.contains("CONSOLE"), "{}", ended.stderr);
        assert_eq!(self.asked_for(), Vec::<String>::new());
        fs::read(self.path(name)).unwrap()
    }

    /// What pages asked for on the network. What the browser itself wants has no origin.
    fn asked_for(&self) -> Vec<String> {
        let log = fs::read_to_string(self.path("net.json")).unwrap();
        assert!(log.starts_with("{\"constants\":") && log.lines().count() > 10, "no log: {log}");
        let value = |line: &str, key: &str| {
            let (_, rest) = line.split_once(&format!("\"{key}\":\""))?;
            Some(rest.split('"').next().unwrap().to_owned())
        };
        let of_page = |line: &&str| value(line, "initiator").is_some_and(|origin| origin != "not an origin");
        log.lines()
            .filter(of_page)
            .filter_map(|line| value(line, "url"))
            .filter(|url| !url.starts_with("file:"))
            .collect()
    }
}

#[test]
fn a_browser_shows_and_prints_it_without_a_complaint_and_without_a_network() {
    let Some(browser) = Browser::find() else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = capture(folder.path(), 40);
    let page = printed(&["replay", "--quiet", "--format", "html", "--tz", "UTC", &file]);
    let wide = browser.shows(&page, "light.png", &["--window-size=1200,2000"]);
    let dark = ["--window-size=1200,2000", "--blink-settings=preferredColorScheme=0"];
    let dark = browser.shows(&page, "dark.png", &dark);
    let narrow = browser.shows(&page, "narrow.png", &["--window-size=500,2000"]);
    for picture in [&wide, &dark, &narrow] {
        assert!(picture.starts_with(b"\x89PNG") && picture.len() > 20_000, "{} bytes", picture.len());
    }
    assert!(wide != dark, "dark is light");
    let paper = browser.shows(&page, "page.pdf", &["--no-pdf-header-footer"]);
    assert!(paper.starts_with(b"%PDF") && paper.len() > 10_000, "{} bytes", paper.len());
}

#[test]
fn the_script_sorts_and_no_other_runs() {
    let Some(browser) = Browser::find() else { return };
    let page = page_of_the_real_network(&[]);
    let order = |dom: &str| -> Vec<String> {
        let rows = dom.split("<section id=\"totals\">").nth(1).unwrap().split("</tbody>").next().unwrap();
        let address = |row: &str| row.split("class=\"address\">").nth(1).unwrap().split('<').next().unwrap().to_owned();
        rows.split("<tbody>").nth(1).unwrap().split("<tr>").skip(1).map(address).collect()
    };
    let click = "<script>document.querySelectorAll('#totals button')[1].click()</script></body>";
    let clicks = page.replace("</body>", click);
    // The page forbids all other scripts, and the browser says so.
    let forbidden = browser.open(&clicks, &["--dump-dom"]);
    assert!(forbidden.stderr.contains("CONSOLE"), "{}", forbidden.stderr);
    assert_eq!(order(&forbidden.stdout), order(&page));
    // Sent the most: 919 kB, 452 kB, 180 kB, 128 kB.
    let policy = page.split("<meta http-equiv=").nth(1).unwrap().split("/>").next().unwrap();
    let allowed = clicks.replace(&format!("<meta http-equiv={policy}/>"), "");
    let sorted = order(&browser.open(&allowed, &["--dump-dom"]).stdout);
    let first = ["10.147.20.11", "10.147.20.12", "fd46:cac:ee2d:a7:e199:936d:f562:9e82", "10.147.20.13"];
    assert_eq!(sorted[..4], first);
}

#[test]
fn the_browser_would_have_complained() {
    let Some(browser) = Browser::find() else { return };
    let page = "<!DOCTYPE html><img src='http://127.0.0.1:9/x.png'><script>console.error('wrong')</script>";
    let ended = browser.open(page, &["--dump-dom"]);
    assert!(ended.stderr.contains("CONSOLE"), "{}", ended.stderr);
    assert_eq!(browser.asked_for(), ["http://127.0.0.1:9/x.png"]);
}
