//! Who members are, while `ztmon serve` runs: by MAC, from names files, from controllers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use support::numbers::{Metrics, Total};
use support::serve::{Serve, Setup};
use support::server::{Reply, Server};
use support::{OBSERVER, eventually, real, run};
use tempfile::tempdir;

const NOTHING: Total = Total { sent_bytes: 0, received_bytes: 0, sent_packets: 0, received_packets: 0 };
const FRAMES: u64 = 3398;

/// The network of the captures, and its members: A, B, C, and the observer.
const NETWORK: &str = "460cacee2d00a7e1";
const A: &str = "6df5629e82";
const B: &str = "87dc5b55d9";
const MEMBERS: [(&str, &str); 4] =
    [(A, "10.147.20.11"), (B, "10.147.20.12"), ("8a580ad6bc", "10.147.20.13"), ("f41a6659d0", "10.147.20.20")];

/// The node that has an address of tee-both.pcap, by testdata/real/README.md; C has the one of fe80::/10.
fn node_of(addr: &str) -> &'static str {
    let ending = |ending: &str| addr.ends_with(ending);
    match addr {
        _ if ending(".11") || ending("6d:f562:9e82") || ending("f6d:f562:9e82::1") => A,
        _ if ending(".12") || ending("87:dc5b:55d9") || ending("f87:dc5b:55d9::1") => B,
        _ if ending(".20") => MEMBERS[3].0,
        _ => MEMBERS[2].0,
    }
}

/// What each member sent and received itself, added up from the golden answer by address.
fn own() -> BTreeMap<String, [u64; 2]> {
    let csv = fs::read_to_string(real("tee-both.csv")).unwrap();
    let mut own: BTreeMap<String, [u64; 2]> = BTreeMap::new();
    for line in csv
        .lines()
        .skip(1)
        .filter(|line| line.contains(['.', ':']) && !line.starts_with(char::is_alphabetic) || line.starts_with('f'))
    {
        let cells: Vec<&str> = line.split(',').collect();
        let sums = own.entry(node_of(cells[0]).to_owned()).or_default();
        (0..2).for_each(|at| sums[at] += cells[1 + at].parse::<u64>().unwrap());
    }
    own
}

/// What `/metrics` says that members moved themselves.
fn shown(metrics: &Metrics) -> BTreeMap<String, [u64; 2]> {
    let mut shown: BTreeMap<String, [u64; 2]> = BTreeMap::new();
    for sample in &metrics.samples {
        let at = ["zerotier_member_sent_bytes_total", "zerotier_member_received_bytes_total"]
            .iter()
            .position(|name| sample.name == *name);
        if let Some(at) = at {
            shown.entry(sample.labels["node"].clone()).or_default()[at] = sample.value.parse().unwrap();
        }
    }
    shown
}

/// The names that a family gives, by address or node.
fn names(metrics: &Metrics, family: &str, by: &str) -> BTreeMap<String, String> {
    let all = metrics.samples.iter().filter(|sample| sample.name == family);
    let named: Vec<_> = all.map(|sample| (sample.labels[by].clone(), sample.labels["name"].clone())).collect();
    let map: BTreeMap<_, _> = named.iter().cloned().collect();
    assert_eq!(map.len(), named.len(), "each has one line: {named:?}");
    map
}

fn host_name(metrics: &Metrics, addr: &str) -> String {
    names(metrics, "zerotier_host_info", "addr")[addr].clone()
}

/// One that plays tee-both.pcap.
fn setup(db: &Path) -> Setup<'static> {
    Setup::new(db).source(&real("tee-both.pcap"), "max").args(["--observer-mac", OBSERVER, "--network-id", NETWORK])
}

/// One that has nothing more to add.
fn idle(db: &Path) -> Setup<'static> {
    Setup::new(db).source(&real("tee-both.pcap"), "0.000001").args(["--network-id", NETWORK])
}

/// Waits until names are so.
fn wait_for_name(serve: &Serve, addr: &str, name: &str) {
    eventually(&format!("{addr} called {name}"), || (host_name(&serve.scrape(), addr) == name).then_some(()));
}

fn central() -> String {
    let member = |(node, addr): &(&str, &str)| {
        let name = format!("{node}'s owner");
        format!(
            r#"{{"id":"{NETWORK}-{node}","networkId":"{NETWORK}","nodeId":"{node}","name":"{name}","description":"",
                "config":{{"authorized":true,"ipAssignments":["{addr}"]}}}}"#
        )
    };
    format!("[{}]", MEMBERS.iter().map(member).collect::<Vec<_>>().join(","))
}

fn self_hosted(node: &str, addr: &str, name: &str) -> String {
    format!(
        r#"{{"id":"{node}","address":"{node}","nwid":"{NETWORK}","authorized":true,"name":"{name}","revision":3,
            "ipAssignments":["{addr}"],"objtype":"member"}}"#
    )
}

#[test]
fn members_are_told_by_their_macs() {
    let dir = tempdir().unwrap();
    let db = dir.path().join("ztmon.db");
    let serve = setup(&db).start();
    let metrics = serve.scrape_at(FRAMES, NOTHING);
    assert_eq!(shown(&metrics), own());
    let nodes: BTreeMap<_, _> = metrics
        .samples
        .iter()
        .filter(|sample| sample.name == "zerotier_host_info")
        .map(|sample| (sample.labels["addr"].clone(), sample.labels["node"].clone()))
        .collect();
    let exported = metrics.samples.iter().filter(|sample| sample.name == "zerotier_host_sent_bytes_total").count();
    assert_eq!((nodes.len(), exported), (12, 12));
    for (addr, node) in &nodes {
        assert_eq!((node.as_str(), &host_name(&metrics, addr)), (node_of(addr), addr));
    }
    assert_eq!(names(&metrics, "zerotier_member_info", "node")[A], A);
    serve.stop();

    // The counters survive, and so does who is who.
    let serve = idle(&db).start();
    let again = eventually("the same", || Some(serve.scrape()).filter(|again| shown(again) == own()));
    assert_eq!(names(&again, "zerotier_host_info", "addr"), names(&metrics, "zerotier_host_info", "addr"));
    serve.stop();
    let sound = run(support::ztmon().args(["db", "check", "--db"]).arg(&db));
    assert_eq!(sound.code, Some(0), "{sound:?}");
}

#[test]
fn a_names_file_is_read_again_when_it_changes() {
    let dir = tempdir().unwrap();
    let (db, file) = (dir.path().join("ztmon.db"), dir.path().join("names.csv"));
    fs::write(
        &file,
        format!("address-or-node,name\n{A},Ann\n10.147.20.12,\"the \"\"second\"\", B\"\n0123456789,nobody yet\n"),
    )
    .unwrap();
    let serve = setup(&db).args(["--names".as_ref(), file.as_os_str()]).start();
    let metrics = serve.scrape_at(FRAMES, NOTHING);
    for addr in ["10.147.20.11", "100.64.5.11", "fd46:cac:ee2d:a7:e199:936d:f562:9e82"] {
        assert_eq!(host_name(&metrics, addr), "Ann");
    }
    assert_eq!(host_name(&metrics, "10.147.20.12"), "the \"second\", B");
    assert_eq!(host_name(&metrics, "100.64.5.12"), "100.64.5.12");
    assert_eq!(names(&metrics, "zerotier_member_info", "node")["0123456789"], "nobody yet");
    assert_eq!(shown(&metrics)["0123456789"], [0, 0], "before its first byte");

    // Written anew in its place, put in its place, broken, gone, and back.
    fs::write(&file, format!("{A},Anna\n")).unwrap();
    wait_for_name(&serve, "10.147.20.11", "Anna");
    let other = dir.path().join("other");
    fs::write(&other, format!("{A},Berta\n")).unwrap();
    fs::rename(&other, &file).unwrap();
    wait_for_name(&serve, "10.147.20.11", "Berta");
    fs::write(&file, format!("{A},Clara\n10.147.20.300,x\n")).unwrap();
    let told = serve.wait_for_log("names.csv: line 2: '10.147.20.300' is neither an address nor a node id", 1);
    assert!(told.contains(" WARN ") && told.ends_with("; what it told before stays known"), "{told}");
    assert_eq!(host_name(&serve.scrape(), "10.147.20.11"), "Berta");
    fs::remove_file(&file).unwrap();
    serve.wait_for_log("cannot read", 1);
    assert_eq!(host_name(&serve.scrape(), "10.147.20.11"), "Berta");
    fs::write(&file, format!("{A},\"De\r\nlta\x1b\"\n")).unwrap();
    wait_for_name(&serve, "10.147.20.11", "De\\u{d}\nlta\\u{1b}");
    assert_eq!(shown(&serve.scrape())[A], own()[A]);
    serve.stop();

    // The database remembers.
    let serve = idle(&db).start();
    wait_for_name(&serve, "10.147.20.11", "De\\u{d}\nlta\\u{1b}");
    assert_eq!(shown(&serve.scrape())["0123456789"], [0, 0]);
    serve.stop();
}

#[test]
fn a_list_of_one_network_says_which_it_is() {
    let dir = tempdir().unwrap();
    let (db, file) = (dir.path().join("ztmon.db"), dir.path().join("members.json"));
    fs::write(&file, central()).unwrap();
    let names = ["--names".as_ref(), file.as_os_str()];
    let flags = ["--observer-mac", OBSERVER];
    let serve = Setup::new(&db).source(&real("tee-both.pcap"), "max").args(flags).args(names).start();
    let metrics = serve.scrape_at(FRAMES, NOTHING);
    assert_eq!(shown(&metrics), own());
    assert_eq!(host_name(&metrics, "10.147.20.20"), "f41a6659d0's owner");
    serve.stop();
}

#[test]
fn a_controller_of_ones_own_tells_and_may_fail() {
    let dir = tempdir().unwrap();
    let (db, token) = (dir.path().join("ztmon.db"), dir.path().join("token"));
    fs::write(&token, "s3cret\n").unwrap();
    let server = Server::new();
    let path = format!("/controller/network/{NETWORK}/member");
    let member = |node: &str| format!("{path}/{node}");
    let revisions: Vec<String> = MEMBERS.iter().map(|(node, _)| format!("\"{node}\":3")).collect();
    server.reply(&path, Reply::Json(format!("{{{}}}", revisions.join(","))));
    for (node, addr) in MEMBERS {
        server.reply(&member(node), Reply::Json(self_hosted(node, addr, &format!("host {node}"))));
    }
    // The last one does not come whole.
    let (last, addr) = MEMBERS[3];
    server.reply(&member(last), Reply::Half(self_hosted(last, addr, "x")));

    let url = server.url();
    let setup = setup(&db).args(["--controller", &url, "--controller-token-file"]).args([&token]);
    let serve = setup.start();
    let told = serve.wait_for_log("the answer ends before its end; what is known of members stays so", 1);
    assert!(told.contains(&format!(" WARN {url}: ")), "{told}");
    // Half of the truth is none.
    assert_eq!(shown(&serve.scrape_at(FRAMES, NOTHING)), own());
    assert_eq!(host_name(&serve.scrape(), "10.147.20.11"), "10.147.20.11");

    // While it answers nothing at all, everything else goes on.
    server.reply(&member(last), Reply::Nothing);
    eventually("a question without answer", || (server.held() > 0).then_some(()));
    assert_eq!(shown(&serve.scrape()), own());
    assert!(server.held() > 0);
    server.reply(&member(last), Reply::Status(500));
    server.let_go();
    let before = server.asked().len();
    eventually("another question", || (server.asked().len() > before + 4).then_some(()));
    server.reply(&member(last), Reply::Json(self_hosted(last, addr, "host f41a6659d0")));
    serve.wait_for_log(&format!("{url}: network {NETWORK} has 4 members"), 1);
    wait_for_name(&serve, "10.147.20.11", "host 6df5629e82");
    wait_for_name(&serve, "10.147.20.20", "host f41a6659d0");
    assert_eq!(serve.logged("stays so"), 1, "once for all the failures in a row");
    assert!(server.asked().iter().all(|asked| asked.head.contains("\r\nX-ZT1-Auth: s3cret\r\n")));
    assert_eq!(shown(&serve.scrape()), own());
    let ended = serve.stop();
    assert!(!ended.stderr.contains("s3cret"));

    // Without a controller the database knows.
    let serve = idle(&db).start();
    wait_for_name(&serve, "10.147.20.20", "host f41a6659d0");
    serve.stop();
}

#[test]
fn one_that_was_deleted_meanwhile_is_of_the_asked_network_alone() {
    let dir = tempdir().unwrap();
    let (db, token) = (dir.path().join("ztmon.db"), dir.path().join("token"));
    fs::write(&token, "s3cret").unwrap();
    let other =
        Setup::new(&db).source(&real("tee-both.pcap"), "max").args(["--network-id", "8056c2e21c000001"]).start();
    other.scrape_at(FRAMES, NOTHING);
    other.stop();

    let server = Server::new();
    let path = format!("/controller/network/{NETWORK}/member");
    server.reply(&path, Reply::Json(format!("{{\"{A}\":3,\"0123456789\":1}}")));
    server.reply(&format!("{path}/{A}"), Reply::Json(self_hosted(A, MEMBERS[0].1, "Ann")));
    let url = server.url();
    let serve = idle(&db).args(["--controller", &url, "--controller-token-file"]).args([&token]).start();
    serve.wait_for_log(&format!("{url}: network {NETWORK} has 2 members"), 1);
    let metrics = eventually("two members", || Some(serve.scrape()).filter(|metrics| shown(metrics).len() == 2));
    assert!(metrics.text.contains("network=\"8056c2e21c000001\""), "{}", metrics.text);
    let named = names(&metrics, "zerotier_member_info", "node");
    assert_eq!((named[A].as_str(), named["0123456789"].as_str()), ("Ann", "0123456789"));
    serve.stop();
}

#[test]
fn central_tells() {
    let dir = tempdir().unwrap();
    let (db, token) = (dir.path().join("ztmon.db"), dir.path().join("token"));
    fs::write(&token, "t0ken").unwrap();
    // Whether the URL says that it is Central's API or not.
    for base in ["/api/v1", ""] {
        let server = Server::new();
        server.reply(&format!("/api/v1/network/{NETWORK}/member"), Reply::Json(central()));
        let url = format!("{}{base}", server.url());
        let serve = idle(&db).args(["--controller", &url, "--controller-token-file"]).args([&token]).start();
        serve.wait_for_log(&format!("network {NETWORK} has 4 members"), 1);
        eventually("four members", || (shown(&serve.scrape()).len() == 4).then_some(()));
        let metrics = serve.scrape();
        assert!(shown(&metrics).values().all(|own| *own == [0, 0]), "{}", metrics.text);
        assert_eq!(names(&metrics, "zerotier_member_info", "node")[B], format!("{B}'s owner"));
        let asked = server.asked().pop().unwrap();
        assert!(asked.head.contains("\r\nAuthorization: token t0ken\r\n"), "{asked:?}");
        serve.stop();
    }

    let server = Server::new();
    server.reply(&format!("/api/v1/network/{NETWORK}/member"), Reply::Status(403));
    let url = format!("{}/api/v1", server.url());
    let serve = idle(&db).args(["--controller", &url, "--controller-token-file"]).args([&token]).start();
    let told = serve.wait_for_log("it refuses the token (403): check --controller-token-file", 1);
    assert!(!told.contains("t0ken"));
    assert_eq!(names(&serve.scrape(), "zerotier_member_info", "node")[A], format!("{A}'s owner"));
    serve.stop();
}

#[test]
fn what_cannot_be_known_says_why_in_one_line() {
    let dir = tempdir().unwrap();
    let db = dir.path().join("ztmon.db");
    let names = dir.path().join("names.json");
    fs::write(&names, "[{\"nodeId\": 1}").unwrap();
    let ours = dir.path().join("ours.json");
    fs::write(&ours, central()).unwrap();
    let missing = dir.path().join("missing");
    let [names, ours, missing] = [&names, &ours, &missing].map(|path| path.to_str().unwrap());
    for (args, expected) in [
        (&["--names", names][..], "names.json: line 1: the JSON is damaged at column 14: save it again"),
        (&["--names", missing], "cannot read "),
        (
            &["--names", ours, "--network-id", "460cacee2d00a7e2"],
            "--names tells of members of 460cacee2d00a7e1 and of none of --network-id 460cacee2d00a7e2: give names of",
        ),
        (&["--names", "/dev/null"], "/dev/null is no file: give a names file"),
        (&["--network-id", "460cacee2d"], "'460cacee2d' is no network id: 16 hex digits"),
        (&["--controller", "http://127.0.0.1:1"], "--controller-token-file"),
        (&["--controller", "127.0.0.1:1", "--controller-token-file", names], "give a URL like http://127.0.0.1:9993"),
        (
            &["--controller", "http://127.0.0.1:1", "--controller-token-file", missing],
            "cannot read --controller-token-file",
        ),
    ] {
        let ended = run(&mut Setup::new(&db).source(&real("tee-both.pcap"), "max").args(args).command());
        assert!(ended.refusal().contains(expected), "{ended:?}");
    }
    assert!(!db.exists(), "a serve that cannot start makes no database");
}
