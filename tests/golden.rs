//! Every capture under `testdata/` gives the answer that lies beside it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod fixtures;

use std::collections::HashSet;

use fixtures::Fixture;

/// What differs, as lines for a person; none if all is as it should be.
fn differences(fixture: &Fixture) -> Vec<String> {
    let mut found = Vec::new();
    let Some(csv) = fixture.beside("csv") else { return vec!["it has no answer".to_owned()] };
    let exit = fixture.beside("exit").map_or(0, |text| text.trim().parse::<i32>().unwrap());
    let mut differs = |what: &str, want: &str, got: &str| {
        if want != got {
            found.push(format!("{what}: expected\n{want}but got\n{got}"));
        }
    };

    let quiet = fixture.replay(&["--quiet", "--format", "csv"]);
    let stderr = String::from_utf8(quiet.stderr).unwrap();
    differs("exit status", &format!("{exit}\n"), &format!("{}\n", quiet.status.code().unwrap_or(-1)));
    differs("standard output", &csv, &String::from_utf8(quiet.stdout).unwrap());
    let want = fixture.beside("stderr").unwrap_or_default();
    if !alike(&want, &stderr) {
        differs("standard error", &want, &stderr);
    }

    if exit == 2 {
        return found;
    }
    // Not quiet: all lines of the summary, and no warning beyond them. CSV is what a pipe gets unasked.
    let talking = fixture.replay(&[]);
    differs("standard output without --format", &csv, &String::from_utf8(talking.stdout).unwrap());
    let stderr = String::from_utf8(talking.stderr).unwrap();
    let summary = fixture.beside("summary").expect("every capture has a summary");
    for line in summary.lines().filter(|line| !stderr.lines().any(|other| other == *line)) {
        found.push(format!("standard error lacks\n{line}\nand has\n{stderr}"));
    }
    for line in stderr.lines().filter(|line| line.starts_with("warning:")) {
        if !summary.lines().any(|other| other == line) {
            found.push(format!("unexpected: {line}"));
        }
    }
    found
}

/// Whether the text is as wanted; `[...]` stands for any text within a line.
fn alike(want: &str, text: &str) -> bool {
    let line = |want: &str, line: &str| match want.split_once("[...]") {
        Some((start, end)) => line.len() >= start.len() + end.len() && line.starts_with(start) && line.ends_with(end),
        None => want == line,
    };
    want.lines().count() == text.lines().count() && want.lines().zip(text.lines()).all(|(want, text)| line(want, text))
}

#[test]
fn every_capture_gives_the_answer_beside_it() {
    let fixtures = fixtures::all();
    assert!(fixtures.len() > 100, "the captures are gone: {}", fixtures.len());
    let mut failed = 0;
    for fixture in &fixtures {
        for difference in differences(fixture) {
            eprintln!("{}: {difference}\n", fixture.name());
            failed += 1;
        }
    }
    assert_eq!(failed, 0, "differences, see above");
}

#[test]
fn every_answer_has_its_capture() {
    let fixtures = fixtures::all();
    let names: HashSet<_> = fixtures.iter().map(|fixture| fixture.folder.join(fixture.name())).collect();
    assert_eq!(names.len(), fixtures.len(), "two captures share an answer");
    let folders: HashSet<_> = fixtures.iter().map(|fixture| fixture.folder.clone()).collect();
    for folder in folders {
        for entry in folder.read_dir().unwrap() {
            let path = entry.unwrap().path();
            let (stem, ending) = (path.file_stem().unwrap().to_str().unwrap(), path.extension().unwrap());
            let answers = ["csv", "args", "summary", "stderr", "exit"].iter().any(|answer| ending == *answer);
            let name = folder.join(format!("{}/{stem}", folder.file_name().unwrap().to_str().unwrap()));
            assert!(!answers || names.contains(&name), "{} belongs to no capture", path.display());
        }
    }
}

/// What the answers are made of must hold in the answers too: all that was sent was received.
#[test]
fn sent_is_received_in_every_answer() {
    for fixture in fixtures::all() {
        let csv = fixture.beside("csv").unwrap();
        if !csv.starts_with("addr,") {
            continue;
        }
        let mut sums = [0; 4];
        for row in csv.lines().skip(1) {
            for (sum, cell) in sums.iter_mut().zip(row.split(',').skip(1)) {
                *sum += cell.parse::<u64>().unwrap();
            }
        }
        assert_eq!((sums[0], sums[2]), (sums[1], sums[3]), "{}", fixture.name());
    }
}

#[test]
fn the_comparison_itself_can_fail() {
    assert!(alike("a [...] c\n", "a b c\n") && !alike("a [...] c\n", "a b d\n") && !alike("a\n", "a\nb\n"));
    let fixture = |name: &str| fixtures::all().into_iter().find(|fixture| fixture.name() == name).unwrap();
    let mut wrong = fixture("tee/two-sided");
    assert_eq!(differences(&wrong), Vec::<String>::new());
    wrong.args = vec!["--tee".to_owned(), "none".to_owned()];
    assert!(!differences(&wrong).is_empty());
    wrong.capture = "no-such.pcap".to_owned();
    assert_eq!(differences(&wrong), ["it has no answer"]);
}
