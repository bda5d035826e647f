//! ztmon against a second implementation of the counting rules, over generated captures (`tests/oracle/`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// `python3`, or why not. Where the tests must be complete, its absence is a failure.
fn python() -> Option<Command> {
    let missing = ["python3", "zstd"]
        .into_iter()
        .find(|name| Command::new(name).arg("--version").output().map_or(true, |output| !output.status.success()));
    let Some(missing) = missing else {
        let mut python = Command::new("python3");
        // Leaves no compiled files behind in the source.
        python.arg("-B").current_dir(folder());
        return Some(python);
    };
    assert!(std::env::var("CI").is_err(), "{missing} is missing");
    eprintln!("skipped: {missing} is missing");
    None
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle")
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn ztmon_counts_as_the_second_implementation_does() {
    let Some(mut python) = python() else { return };
    let output = python.args(["compare.py", env!("CARGO_BIN_EXE_ztmon"), "0", "400"]).output().unwrap();
    let text = text(&output);
    assert!(output.status.success() && text.ends_with("401 passed, 0 failed\n"), "{text}");
}

#[test]
fn the_second_implementation_counts_as_computed_by_hand() {
    let Some(mut python) = python() else { return };
    let output = python.args(["-m", "unittest", "-q", "test_count"]).output().unwrap();
    let text = text(&output);
    assert!(output.status.success() && text.ends_with("OK\n"), "{text}");
}
