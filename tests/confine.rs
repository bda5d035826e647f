//! What `ztmon serve` gives up once it runs, and that it works without. Most of this takes root, to have much to give up.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use support::numbers::{Total, replay, report};
use support::serve::{Serve, Setup};
use support::{real, run, skip, ztmon};
use tempfile::{TempDir, tempdir};

const NOTHING: Total = Total { sent_bytes: 0, received_bytes: 0, sent_packets: 0, received_packets: 0 };

/// Frames in tee-both.pcap.
const FRAMES: u64 = 3398;

/// Somebody who is not root.
const SOMEBODY: u32 = 54_321;

/// A directory that others can reach, and its owner.
fn directory_of(owner: u32, mode: u32) -> (TempDir, PathBuf) {
    let outer = tempdir().unwrap();
    fs::set_permissions(outer.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let inner = outer.path().join("home");
    fs::create_dir(&inner).unwrap();
    chown(&inner, Some(owner), Some(owner)).unwrap();
    fs::set_permissions(&inner, PermissionsExt::from_mode(mode)).unwrap();
    (outer, inner)
}

fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        skip("another user's directory takes root");
    }
    root
}

/// That all threads belong to this user and have these capabilities and no others; gives what their bounding sets have.
fn assert_confined(serve: &Serve, user: u32, capabilities: u64) -> u64 {
    let (mut threads, mut bounding) = (0, 0);
    for task in fs::read_dir(format!("/proc/{}/task", serve.pid())).unwrap() {
        let text = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        let status: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once(":\t")).collect();
        let set = |name| u64::from_str_radix(status[name], 16).unwrap();
        assert_eq!((set("CapEff"), set("CapPrm")), (capabilities, capabilities), "{text}");
        assert_eq!((set("CapInh"), set("CapAmb")), (0, 0), "{text}");
        bounding |= set("CapBnd");
        assert_eq!(status["NoNewPrivs"], "1", "{text}");
        assert_eq!(status["Uid"], [user.to_string().as_str(); 4].join("\t"), "{text}");
        threads += 1;
    }
    assert!(threads >= 3, "{threads} threads");
    let capabilities = if capabilities == 0 { "no capabilities" } else { "CAP_NET_RAW only" };
    serve.wait_for_log(&format!("INFO confined: user {user}, {capabilities}; "), 1);
    bounding
}

/// That the database is one whole file again, with everything in it.
fn assert_closed(db: &Path) {
    for companion in ["-wal", "-shm"] {
        assert!(!Path::new(&format!("{}{companion}", db.display())).exists(), "{companion} is left");
    }
    let copy = tempdir().unwrap();
    let copied = copy.path().join("copy.db");
    fs::copy(db, &copied).unwrap();
    assert_eq!(report(&copied, "live"), report(db, "live"));
}

#[test]
fn a_source_takes_no_privileges() {
    let dir = tempdir().unwrap();
    let db = dir.path().join("ztmon.db");
    let serve = Setup::new(&db).source(&real("tee-both.pcap"), "0.001").start();
    serve.wait_for_log("playing it", 1);
    assert_confined(&serve, rustix::process::geteuid().as_raw(), 0);
    assert!(serve.scrape().float("process_open_fds") > 3.0);
    serve.stop();
    assert_closed(&db);
}

#[test]
fn the_database_may_be_given_in_any_way() {
    let (dir, other) = (tempdir().unwrap(), tempdir().unwrap());
    let expected = replay(&real("tee-both.pcap"), &[]);
    fs::create_dir(dir.path().join("sub")).unwrap();
    symlink(other.path(), dir.path().join("linked")).unwrap();
    symlink(other.path().join("target.db"), dir.path().join("link.db")).unwrap();
    fs::File::create(other.path().join("target.db")).unwrap();
    let temporary = std::env::temp_dir().join(format!("ztmon-{}.db", std::process::id()));
    for (given, is) in [
        ("ztmon.db", dir.path().join("ztmon.db")),
        ("./sub/../sub/ztmon.db", dir.path().join("sub/ztmon.db")),
        ("linked/ztmon.db", other.path().join("ztmon.db")),
        ("link.db", other.path().join("target.db")),
        (temporary.to_str().unwrap(), temporary.clone()),
    ] {
        let mut command = ztmon();
        command.current_dir(&dir);
        let serve = Setup::by(command, None, Path::new(given)).source(&real("tee-both.pcap"), "max").start();
        assert_eq!(serve.scrape_at(FRAMES, NOTHING).totals(), expected, "{given}");
        serve.stop();
        assert_closed(&is);
        assert_eq!(report(&is, "live"), expected, "{given}");
    }
    fs::remove_file(temporary).unwrap();
}

#[test]
fn root_goes_on_as_the_owner_of_the_directory() {
    if !is_root() {
        return;
    }
    let expected = replay(&real("tee-both.pcap"), &[]);
    for mode in [0o755, 0o700] {
        let (_outer, home) = directory_of(SOMEBODY, mode);
        let db = home.join("ztmon.db");
        // The first time root makes the file, the second time it is there.
        let serve = Setup::new(&db).source(&real("tee-both.pcap"), "max").start();
        assert_eq!(serve.scrape_at(FRAMES, NOTHING).totals(), expected);
        assert!(serve.scrape().float("process_open_fds") > 3.0);
        serve.stop();
        assert_closed(&db);
        let serve = Setup::new(&db).source(&real("tee-both.pcap"), "max").start();
        assert_eq!(serve.scrape_at(FRAMES, expected.sum()).totals(), expected.plus(&expected));
        serve.stop();
        assert_closed(&db);
        assert_eq!(report(&db, "live"), expected.plus(&expected));

        // Killed, it leaves what the next one needs.
        let serve = Setup::new(&db).source(&real("tee-both.pcap"), "max").start();
        let all = serve.scrape_at(FRAMES, expected.plus(&expected).sum()).totals();
        drop(serve);
        let serve = Setup::new(&db).source(&real("tee-both.pcap"), "0.001").start();
        serve.wait_for_log("playing it", 1);
        assert_eq!(assert_confined(&serve, SOMEBODY, 0), 0);
        assert_eq!(serve.scrape().totals(), all);
        serve.stop();
        assert_closed(&db);
    }
}

#[test]
fn a_directory_that_only_privileges_can_write_is_refused() {
    if !is_root() {
        return;
    }
    // Root that may not become another user.
    let (_outer, home) = directory_of(SOMEBODY, 0o755);
    let mut command = Command::new("setpriv");
    command.env_remove("ZTMON_DB").args(["--bounding-set=-setuid", "--inh-caps=-setuid"]);
    command.arg(env!("CARGO_BIN_EXE_ztmon"));
    let setup = Setup::by(command, None, &home.join("ztmon.db")).source(&real("tee-both.pcap"), "max");
    let ended = run(&mut setup.command());
    let refusal = ended.stderr.lines().last().unwrap();
    assert_eq!(ended.code, Some(2), "{ended:?}");
    let expected = format!("without them user 0 cannot write in {}: ", home.display());
    assert!(refusal.starts_with("ztmon: ") && refusal.contains(&expected), "{ended:?}");

    // An owner who cannot reach it.
    let (_outer, home) = directory_of(0, 0o700);
    fs::create_dir(home.join("sub")).unwrap();
    chown(home.join("sub"), Some(SOMEBODY), None).unwrap();
    let ended = run(&mut Setup::new(&home.join("sub/ztmon.db")).source(&real("tee-both.pcap"), "max").command());
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains(&format!("without them user {SOMEBODY} cannot write in ")), "{ended:?}");
}

#[cfg(feature = "live")]
mod live {
    use std::net::TcpListener;

    use rusqlite::Connection;
    use rustix::fs::{XattrFlags, setxattr};
    use support::eventually;
    use support::net::Namespace;
    use support::pcap::{Capture, Packet, SECOND};
    use support::server::{Reply, Server};

    use super::*;

    const NET_ADMIN: u64 = 1 << 12;
    const NET_RAW: u64 = 1 << 13;

    /// A node, one of its networks, and the device and the MAC that it has there.
    const NODE: &str = "89e92ceee5";
    const NETWORK: &str = "8056c2e21c000001";
    const DEVICE: &str = "ztmjfmfyq5";
    const MAC: &str = "02:89:e9:30:0c:27";

    /// Becomes the rest of its arguments, with a filter as if the kernel had no Landlock: system call 444, which begins a
    /// set of rules, fails with ENOSYS, all others pass.
    const WITHOUT_LANDLOCK: &str = r#"
import ctypes, os, struct, sys
steps = [(0x20, 0, 0, 0), (0x15, 0, 1, 444), (0x06, 0, 0, 0x00050026), (0x06, 0, 0, 0x7fff0000)]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
program = ctypes.create_string_buffer(struct.pack("HP", len(steps), ctypes.addressof(code)))
assert ctypes.CDLL(None).prctl(22, ctypes.c_ulong(2), program) == 0
os.execvp(sys.argv[1], sys.argv[1:])
"#;

    fn add_device(net: &Namespace) {
        net.add_device(DEVICE, "wire", Some(MAC));
    }

    /// Sends ten packets with their copies and waits until they count on top of all before them.
    fn ten_more(net: &Namespace, serve: &Serve, round: u32) {
        let mut capture = Capture::default();
        for number in 0..10 {
            let packet = Packet { src: [10, 0, 0, 1], dst: [10, 0, 0, 2], len: 100, number: round * 10 + number };
            capture.add_teed(SECOND + u64::from(number) * 10_000, &packet);
        }
        net.play("wire", &capture);
        let metrics = serve.scrape_at(u64::from(round) * 20, NOTHING);
        assert_eq!(metrics.totals().of("", "10.0.0.1").sent_packets, u64::from(round) * 10);
    }

    /// That it captures on a device, and on the one that comes in its place; gives what the bounding sets have.
    fn assert_captures(net: &Namespace, setup: Setup, user: u32) -> u64 {
        add_device(net);
        let serve = setup.start();
        serve.wait_for_log("capturing on", 1);
        ten_more(net, &serve, 1);
        assert_confined(&serve, user, NET_RAW);
        net.ip(&["link", "del", DEVICE]);
        serve.wait_for_log(": lost", 1);
        add_device(net);
        serve.wait_for_log("capturing on", 2);
        ten_more(net, &serve, 2);
        let bounding = assert_confined(&serve, user, NET_RAW);
        let metrics = serve.scrape();
        assert!(metrics.float("process_open_fds") > 3.0 && metrics.has("process_threads"), "{}", metrics.text);
        let log = serve.stop().stderr;
        assert!(log.contains("; files by Landlock") || log.contains("; no Landlock in this kernel"), "{log}");
        bounding
    }

    /// The program, where everybody may run it.
    fn program(dir: &Path) -> PathBuf {
        let program = dir.join("ztmon");
        fs::copy(env!("CARGO_BIN_EXE_ztmon"), &program).unwrap();
        fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        program
    }

    /// The flags with which `setpriv` becomes somebody.
    fn somebody() -> [String; 3] {
        [format!("--reuid={SOMEBODY}"), format!("--regid={SOMEBODY}"), "--clear-groups".to_owned()]
    }

    #[test]
    fn root_keeps_one_capability() {
        let Some(net) = Namespace::new() else { return };
        let dir = tempdir().unwrap();
        let db = dir.path().join("ztmon.db");
        assert_eq!(assert_captures(&net, Setup::within(&net, &db), 0), 0);
        assert_closed(&db);
    }

    #[test]
    fn root_captures_as_the_owner_of_the_directory() {
        let Some(net) = Namespace::new() else { return };
        let (_outer, home) = directory_of(SOMEBODY, 0o700);
        let db = home.join("ztmon.db");
        assert_eq!(assert_captures(&net, Setup::within(&net, &db), SOMEBODY), 0);
        assert_closed(&db);
    }

    #[test]
    fn ambient_capabilities_are_enough() {
        let Some(net) = Namespace::new() else { return };
        let (outer, home) = directory_of(SOMEBODY, 0o700);
        let mut command = net.command("setpriv");
        // As systemd does with AmbientCapabilities, and some more.
        let capabilities = ["--inh-caps=+net_raw,+chown", "--ambient-caps=+net_raw,+chown", "--no-new-privs"];
        command.args(somebody()).args(capabilities).arg(program(outer.path()));
        let db = home.join("ztmon.db");
        assert_captures(&net, Setup::by(command, Some(&net), &db), SOMEBODY);
        assert_closed(&db);
    }

    #[test]
    fn file_capabilities_are_enough() {
        let Some(net) = Namespace::new() else { return };
        for capabilities in [NET_RAW, NET_RAW | NET_ADMIN] {
            let (outer, home) = directory_of(SOMEBODY, 0o700);
            let program = program(outer.path());
            // As setcap writes them: version 2, effective; permitted and inheritable.
            let words = [0x0200_0001, capabilities as u32, 0, 0, 0];
            let value: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            if let Err(error) = setxattr(&program, "security.capability", &value, XattrFlags::empty()) {
                return skip(&format!("file capabilities: {error}"));
            }
            let mut command = net.command("setpriv");
            command.args(somebody()).arg(program);
            let db = home.join("ztmon.db");
            assert_captures(&net, Setup::by(command, Some(&net), &db), SOMEBODY);
            assert_closed(&db);
            net.ip(&["link", "del", DEVICE]);
        }
    }

    /// A `serve` that finds in ZeroTier's directory what `prepare` puts there, with the program behind `before`.
    fn beside_zerotier<'n>(net: &'n Namespace, db: &Path, prepare: &str, before: &[&str]) -> Serve<'n> {
        let mut command = net.command("sh");
        // The namespace's programs have mounts of their own.
        let script =
            format!("set -e; mount -t tmpfs none /var/lib; mkdir -m 700 /var/lib/zerotier-one; {prepare}; exec \"$@\"");
        command.args(["-c", &script, "sh"]).args(before).arg(env!("CARGO_BIN_EXE_ztmon"));
        Setup::by(command, Some(net), db).start()
    }

    /// What the database has the network as, once there is one.
    fn network(db: &Path) -> String {
        let db = db.canonicalize().unwrap();
        eventually("a network", || {
            let conn = Connection::open(&db).unwrap();
            conn.query_row("SELECT name FROM network", [], |row| row.get(0)).ok()
        })
    }

    #[test]
    fn the_nodes_id_is_known_though_only_root_may_read_it() {
        let Some(net) = Namespace::new() else { return };
        let (_outer, home) = directory_of(SOMEBODY, 0o700);
        let db = home.join("ztmon.db");
        add_device(&net);
        let prepare = format!("echo {NODE}:0:key > /var/lib/zerotier-one/identity.public");
        let serve = beside_zerotier(&net, &db, &prepare, &[]);
        assert_eq!(network(&db), NETWORK);
        assert_confined(&serve, SOMEBODY, NET_RAW);
        serve.stop();
    }

    /// What the service says of its networks, as it answers at `/network`.
    const NETWORKS: &str = r#"[{"allowDefault": false, "assignedAddresses": ["10.147.20.20/24"], "id": "a09acf0233e4b070",
        "mac": "72:a1:c6:00:46:9a", "mtu": 2800, "name": "other", "portDeviceName": "ztother", "status": "OK"},
        {"allowDefault": false, "assignedAddresses": [], "id": "8056c2e21c000001", "mac": "02:89:e9:30:0c:27", "mtu": 2800,
        "name": "ours", "portDeviceName": "ztours", "routes": [], "status": "OK", "type": "PRIVATE"}]"#;

    #[test]
    fn the_service_says_whose_a_device_is_that_has_another_name() {
        let Some(net) = Namespace::new() else { return };
        let server = Server::on(net.run(|| TcpListener::bind("127.0.0.1:9993").unwrap()));
        let prepare = "echo t0ken > /var/lib/zerotier-one/authtoken.secret";
        for (reply, expected) in [
            (Reply::Json(NETWORKS.to_owned()), NETWORK),
            (Reply::Half(NETWORKS.to_owned()), "ztours"),
            (Reply::Status(401), "ztours"),
            (Reply::Nothing, "ztours"),
        ] {
            server.reply("/network", reply);
            let (_outer, home) = directory_of(SOMEBODY, 0o700);
            let db = home.join("ztmon.db");
            net.add_device("ztours", "wire", Some(MAC));
            let serve = beside_zerotier(&net, &db, prepare, &[]);
            serve.wait_for_log("capturing on ztours", 1);
            assert_eq!(network(&db), expected);
            ten_more(&net, &serve, 1);
            assert!(server.asked().last().unwrap().head.contains("\r\nX-ZT1-Auth: t0ken\r\n"));
            assert!(!serve.stop().stderr.contains("t0ken"));
            net.ip(&["link", "del", "ztours"]);
        }
        server.let_go();
    }

    #[test]
    fn while_the_service_says_that_the_network_is_not_ok_nothing_is_covered() {
        let Some(net) = Namespace::new() else { return };
        let server = Server::on(net.run(|| TcpListener::bind("127.0.0.1:9993").unwrap()));
        let prepare = "echo t0ken > /var/lib/zerotier-one/authtoken.secret";
        let refused = NETWORKS.replace("\"OK\"", "\"ACCESS_DENIED\"");
        for (reply, is_fine) in
            [(Reply::Json(refused), false), (Reply::Json(NETWORKS.to_owned()), true), (Reply::Status(401), true)]
        {
            server.reply("/network", reply);
            let (_outer, home) = directory_of(SOMEBODY, 0o700);
            let db = home.join("ztmon.db");
            net.add_device("ztours", "wire", Some(MAC));
            let serve = beside_zerotier(&net, &db, prepare, &[]);
            serve.wait_for_log("capturing on ztours", 1);
            if !is_fine {
                serve.wait_for_log("ztours: ZeroTier says that the network is not OK", 1);
            }
            ten_more(&net, &serve, 1);
            std::thread::sleep(std::time::Duration::from_secs(3));
            serve.stop();
            let conn = rusqlite::Connection::open(&db).unwrap();
            let sql = "SELECT sum(covered_seconds), sum(frames) FROM coverage";
            let (seconds, frames): (i64, i64) = conn.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
            // Until it was asked for the first time all was well.
            assert!(if is_fine { seconds >= 3 } else { seconds <= 1 }, "{seconds} seconds");
            assert_eq!(frames, 20);
            net.ip(&["link", "del", "ztours"]);
        }
        server.let_go();
    }

    #[test]
    fn the_network_may_be_said() {
        let Some(net) = Namespace::new() else { return };
        let dir = tempdir().unwrap();
        let db = dir.path().join("ztmon.db");
        net.add_device("ztours", "wire", None);
        let serve = Setup::within(&net, &db).args(["--network-id", NETWORK]).start();
        serve.wait_for_log("capturing on ztours", 1);
        assert_eq!(network(&db), NETWORK);
        serve.stop();
        let several = Setup::within(&net, &db).args(["--network-id", NETWORK, "--zerotier-device", "all"]);
        let ended = run(&mut several.command());
        assert!(ended.refusal().contains("--network-id is the network of one device"), "{ended:?}");
    }

    #[test]
    fn landlock_keeps_files_apart() {
        let Some(net) = Namespace::new() else { return };
        let without = ["python3", "-c", WITHOUT_LANDLOCK];
        // ZeroTier's directory may be read; what a link there leads to, may not.
        for (elsewhere, before, expected) in
            [(false, &[][..], NETWORK), (true, &[], DEVICE), (true, &without[..], NETWORK)]
        {
            if !before.is_empty() && Command::new("python3").arg("--version").output().is_err() {
                return skip("python3 is not installed");
            }
            let dir = tempdir().unwrap();
            let db = dir.path().join("ztmon.db");
            let serve = beside_zerotier(&net, &db, "true", before);
            let line = serve.wait_for_log("INFO confined: user 0, CAP_NET_RAW only; ", 1);
            if before.is_empty() && !line.ends_with("; files by Landlock") {
                return skip(&line);
            }
            assert!(before.is_empty() || line.ends_with("; no Landlock in this kernel"), "{line}");
            let outside = tempdir().unwrap();
            let identity = PathBuf::from(format!("/proc/{}/root/var/lib/zerotier-one/identity.public", serve.pid()));
            let file = if elsewhere { outside.path().join("file") } else { identity.clone() };
            fs::write(&file, format!("{NODE}:0:key")).unwrap();
            if elsewhere {
                symlink(&file, &identity).unwrap();
            }
            add_device(&net);
            assert_eq!(network(&db), expected, "{elsewhere} {before:?}");
            assert_confined(&serve, 0, NET_RAW);
            serve.stop();
            net.ip(&["link", "del", DEVICE]);
        }
    }
}
