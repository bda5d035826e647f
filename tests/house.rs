//! The layout holds: which module may know which, and where each crate may appear.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Every module with the modules it may name. Nouns know each other, the core knows nouns, edges know both and never
/// each other; only commands know everything.
const MAY_KNOW: [(&str, &[&str]); 24] = [
    ("time", &[]),
    ("frame", &["time"]),
    ("packet", &[]),
    ("traffic", &["packet", "time"]),
    ("plain", &[]),
    ("copies", &[]),
    ("coverage", &["time"]),
    ("zone", &["time"]),
    ("period", &["time", "zone"]),
    ("when", &["time", "zone", "period"]),
    ("parse", &["frame", "packet", "traffic"]),
    ("meter", &["frame", "packet", "time", "traffic", "copies", "parse"]),
    ("report", &["plain", "time", "traffic", "zone", "period", "copies", "coverage", "zerotier", "quota"]),
    ("quota", &["time", "traffic", "zone", "period", "meter", "zerotier"]),
    ("zerotier", &["packet", "plain", "traffic"]),
    ("metrics", &["frame", "packet", "plain", "time", "traffic", "meter", "zerotier"]),
    ("capture", &["frame", "packet", "plain", "time"]),
    ("store", &["time", "traffic", "coverage", "zerotier"]),
    ("web", &[]),
    ("cli", &["packet", "time", "traffic", "zone", "period", "meter", "quota", "report", "web", "zerotier"]),
    (
        "commands",
        &[
            "capture", "cli", "coverage", "frame", "meter", "metrics", "packet", "period", "plain", "quota", "report",
            "store", "time", "traffic", "web", "when", "zerotier", "zone",
        ],
    ),
    ("allocator", &[]),
    ("main", &[]),
    ("lib", &[]),
];

/// Crates that any module may name.
const EVERYWHERE: [&str; 2] = ["anyhow", "rustix"];

/// Where a crate may be named.
const AT_HOME: [(&str, &[&str]); 27] = [
    ("twox_hash", &["store"]),
    ("tempfile", &["store", "commands"]),
    ("sha2", &["commands"]),
    ("serde_json", &["report", "zerotier", "commands"]),
    ("etherparse", &["parse"]),
    ("ipnet", &["meter"]),
    ("itoa", &["metrics"]),
    ("hashbrown", &["meter", "report", "store"]),
    ("libc", &["allocator"]),
    ("pcap", &["capture"]),
    ("flate2", &["capture"]),
    ("zstd", &["capture"]),
    ("rusqlite", &["store"]),
    ("prometheus", &["metrics"]),
    ("hyper", &["web"]),
    ("hyper_util", &["web"]),
    ("tokio", &["web", "commands"]),
    ("rustls", &["web"]),
    ("rustls_native_certs", &["web"]),
    ("socket2", &["capture", "web"]),
    ("clap", &["cli"]),
    ("toml", &["cli"]),
    ("chrono", &["time", "zone", "period"]),
    ("chrono_tz", &["zone"]),
    ("iana_time_zone", &["commands"]),
    ("indicatif", &["commands"]),
    ("landlock", &["commands"]),
];

/// A source file: its top-level module, its path and its code.
struct Source {
    module: String,
    path: PathBuf,
    code: String,
}

/// The program's source files, unit tests and comments left out.
fn sources() -> Vec<Source> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let is_test = ["tests", "tests.rs"].iter().any(|name| path.file_name().unwrap() == *name);
            if path.is_dir() && !is_test {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") && !is_test {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    walk(&root, &mut files);
    assert!(files.len() > 30, "the sources are not where they were");
    files
        .into_iter()
        .map(|path| {
            let first = path.strip_prefix(&root).unwrap().components().next().unwrap();
            let module = first.as_os_str().to_str().unwrap().trim_end_matches(".rs").to_owned();
            let text = fs::read_to_string(&path).unwrap();
            let program = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
            let lines = program.lines().filter(|line| !line.trim_start().starts_with("//"));
            Source { module, code: lines.map(|line| format!("{line}\n")).collect(), path }
        })
        .collect()
}

/// The identifiers that follow `prefix` in the text.
fn names_after<'a>(text: &'a str, prefix: &str) -> BTreeSet<&'a str> {
    let name = |rest: &'a str| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap();
    text.match_indices(prefix).map(|(at, _)| name(&text[at + prefix.len()..])).collect()
}

#[test]
fn modules_know_only_what_stands_before_them() {
    let mut used = BTreeSet::new();
    for Source { module, path, code } in sources() {
        let Some((_, allowed)) = MAY_KNOW.iter().find(|(name, _)| *name == module) else {
            panic!("{} belongs to a module that MAY_KNOW does not list", path.display());
        };
        for known in names_after(&code, "crate::") {
            assert!(
                known == module || allowed.contains(&known),
                "{} names crate::{known}; {module} may know {allowed:?}",
                path.display()
            );
            used.insert((module.clone(), known.to_owned()));
        }
    }
    for (module, allowed) in MAY_KNOW {
        for known in allowed {
            assert!(used.contains(&(module.to_owned(), (*known).to_owned())), "{module} has no need to know {known}");
        }
    }
}

#[test]
fn every_crate_has_a_home() {
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).unwrap();
    let tables = manifest.split("\n[").filter(|table| {
        let head = table.lines().next().unwrap();
        head.ends_with("dependencies]") && !head.starts_with("dev-")
    });
    let names = tables.flat_map(|table| table.lines().skip(1)).filter_map(|line| line.split_once(" = "));
    let names: BTreeSet<_> = names.map(|(name, _)| name.replace('-', "_")).collect();
    let known: BTreeSet<_> = AT_HOME.iter().map(|(name, _)| *name).chain(EVERYWHERE).map(str::to_owned).collect();
    assert_eq!(names, known);
}

#[test]
fn crates_stay_at_home() {
    for Source { module, path, code } in sources() {
        for (name, homes) in AT_HOME {
            let named = code.match_indices(&format!("{name}::")).any(|(at, _)| {
                let before = code[..at].chars().next_back();
                !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
            });
            assert!(!named || homes.contains(&&*module), "{} names {name}, at home in {homes:?}", path.display());
        }
    }
}

#[test]
fn the_core_asks_no_clock_and_opens_nothing() {
    let core = [
        "frame", "packet", "traffic", "coverage", "zone", "period", "when", "parse", "meter", "report", "zerotier",
        "quota", "metrics",
    ];
    for Source { path, code, .. } in sources().into_iter().filter(|source| core.contains(&&*source.module)) {
        for forbidden in ["::now()", "std::fs", "std::net::Tcp", "std::env::", "Mutex", "File::"] {
            assert!(!code.contains(forbidden), "{} has {forbidden}", path.display());
        }
    }
}

#[test]
fn the_clock_is_asked_by_commands_alone() {
    for Source { module, path, code } in sources() {
        let asks = code.contains("Timestamp::now()") || code.contains("SystemTime");
        assert!(!asks || ["commands", "time"].contains(&&*module), "{} asks for the time", path.display());
    }
}

#[test]
fn unsafe_code_is_where_it_is_argued_for() {
    let argued = ["capture/filter.rs", "allocator.rs"];
    for Source { path, code, .. } in sources() {
        let is_unsafe = code.contains("unsafe {") || code.contains("unsafe extern") || code.contains("unsafe fn");
        assert!(!is_unsafe || argued.iter().any(|home| path.ends_with(home)), "{} has unsafe code", path.display());
    }
}

#[test]
fn nothing_is_printed_that_panics_where_nobody_reads() {
    for Source { path, code, .. } in sources() {
        assert!(!code.contains("println!"), "{} has println! or eprintln!", path.display());
    }
}

#[test]
fn files_can_be_read_in_one_sitting() {
    for Source { path, .. } in sources() {
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= 500, "{} has {lines} lines: split it by noun or phase", path.display());
    }
}

#[test]
fn nothing_is_put_into_drawers() {
    for Source { path, .. } in sources() {
        let name = path.file_stem().unwrap().to_str().unwrap();
        let drawer = ["util", "utils", "helpers", "common", "manager", "misc"].contains(&name);
        assert!(!drawer, "{} says nothing about what is in it", path.display());
    }
}
