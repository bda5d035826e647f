use super::*;
use crate::time::Timestamp;
use crate::traffic::{Counts, Endpoint, Seen};

/// So many bytes in a packet from one to another in the step that ends then.
struct Moved(&'static str, &'static str, &'static str, u64, i64);

fn written(step: i64, moved: &[Moved], labels: &[(&str, &str)], range: (Option<i64>, Option<i64>)) -> String {
    let mut history = History::default();
    let mut increments = Vec::new();
    for Moved(network, src, dst, bytes, end) in moved {
        let endpoint = |end: &str| Endpoint { end: end.parse().unwrap(), mac: None };
        let counts = Counts { bytes: *bytes, packets: 1, copies: 0 };
        let row = Row { src: endpoint(src), dst: endpoint(dst), counts, seen: Seen::at(Timestamp::new(end - 1, 0)) };
        increments.extend(history.count(network, Bucket { start: end - 15, seconds: 15 }, &row));
    }
    history.extend(range.0, range.1);
    increments.sort_unstable();
    let labels: Vec<_> = labels.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    let mut out = Vec::new();
    history.write(&mut out, step, &labels, increments.into_iter().map(Ok)).unwrap();
    String::from_utf8(out).unwrap()
}

fn samples(text: &str, series: &str) -> Vec<(u64, i64)> {
    let lines = text.lines().filter_map(|line| line.strip_prefix(series)?.strip_prefix("} "));
    lines.map(|line| line.split_once(' ').map(|(v, t)| (v.parse().unwrap(), t.parse().unwrap())).unwrap()).collect()
}

const SENT: &str = r#"zerotier_host_sent_bytes_total{addr="10.0.0.1""#;

#[test]
fn one_packet_in_full() {
    let text = written(15, &[Moved("", "10.0.0.1", "external", 100, 30)], &[("job", "a\"b")], (None, None));
    let mut want = String::new();
    for (name, role, what, sum) in [
        ("received_bytes", "receiver", "Bytes of IP packets", 0),
        ("sent_bytes", "sender", "Bytes of IP packets", 100),
        ("received_packets", "receiver", "IP packets", 0),
        ("sent_packets", "sender", "IP packets", 1),
    ] {
        want += &format!("# HELP zerotier_host_{name} {what} whose {role} is the client at addr.\n");
        want += &format!("# TYPE zerotier_host_{name} counter\n");
        for (value, time) in [(0, 0), (0, 15), (sum, 30)].into_iter().filter(|(_, time)| sum > 0 || *time != 15) {
            want += &format!("zerotier_host_{name}_total{{addr=\"10.0.0.1\",job=\"a\\\"b\"}} {value} {time}\n");
        }
    }
    let (clients, others) = text.split_at(text.find("# HELP zerotier_other").unwrap());
    assert_eq!(clients, want);
    let (others, who) = others.split_at(others.find("# HELP zerotier_member").unwrap());
    let who: Vec<_> = who.lines().filter(|line| !line.starts_with("# HELP")).collect();
    let info = r#"zerotier_host_info{addr="10.0.0.1",node="",name="10.0.0.1",job="a\"b"} 1"#;
    assert_eq!(
        who,
        [
            "# TYPE zerotier_member_sent_bytes counter",
            "# TYPE zerotier_member_received_bytes counter",
            "# TYPE zerotier_member_info gauge",
            "# TYPE zerotier_host_info gauge",
            &format!("{info} 0"),
            &format!("{info} 30"),
            "# EOF"
        ]
    );
    assert_eq!(
        others.lines().filter(|line| line.starts_with("zerotier_other_end_")).count(),
        2 * (3 + 2 + 2) + 2 * (2 + 2 + 2)
    );
    let external = r#"zerotier_other_end_received_bytes_total{end="external",job="a\"b""#;
    assert_eq!(samples(others, external), [(0, 0), (0, 15), (100, 30)]);
    assert!(others.ends_with("} 0 30\n"), "{others}");
}

#[test]
fn nothing_is_written_of_nothing() {
    let text = written(15, &[], &[], (Some(0), Some(9000)));
    assert!(text.lines().all(|line| line.starts_with('#')) && text.ends_with("# EOF\n"), "{text}");
}

#[test]
fn a_value_is_repeated_in_time_and_a_rise_has_two_ends() {
    let packet = |bytes, end| Moved("", "10.0.0.1", "10.0.0.2", bytes, end);
    let text = written(15, &[packet(1, 15), packet(2, 30), packet(3, 600)], &[], (Some(-7), Some(1000)));
    let want = [(0, -30), (0, 0), (1, 15), (3, 30), (3, 270), (3, 510), (3, 585), (6, 600), (6, 840), (6, 1005)];
    assert_eq!(samples(&text, SENT), want);
    // Whoever sent nothing is there all the same.
    let received = text.replace("host_received", "host_sent").replace("10.0.0.2", "10.0.0.9");
    assert_eq!(samples(&received, SENT)[..6], [(0, -30), (0, 210), (0, 450), (0, 690), (0, 930), (0, 1005)]);
    // In longer steps at each of them.
    let text = written(300, &[packet(1, 15), packet(2, 30), packet(3, 1200)], &[], (None, None));
    assert_eq!(samples(&text, SENT), [(0, -300), (0, 0), (3, 300), (3, 600), (3, 900), (6, 1200)]);
}

#[test]
fn the_step_that_is_not_over_ends_now() {
    let row = |end: i64| {
        let [src, dst] = ["10.0.0.1", "10.0.0.2"].map(|end| Endpoint { end: end.parse().unwrap(), mac: None });
        let counts = Counts { bytes: 1, packets: 1, copies: 0 };
        (
            Bucket { start: end - 300, seconds: 300 },
            Row { src, dst, counts, seen: Seen::at(Timestamp::new(end - 1, 0)) },
        )
    };
    let written = |now| {
        let mut history = History::default();
        let rows = [300, 3600, 3900, 4200].map(row);
        let mut increments: Vec<_> = rows.iter().flat_map(|(bucket, row)| history.count("", *bucket, row)).collect();
        increments.sort_unstable();
        history.end_step(now);
        let mut out = Vec::new();
        history.write(&mut out, 900, &[], increments.into_iter().map(Ok)).unwrap();
        samples(&String::from_utf8(out).unwrap(), SENT)
    };
    let first = [(0, -900), (0, 0), (1, 900), (1, 1800), (1, 2700), (2, 3600)];
    // In it, at its start, at its end; long ago, and in a step in which nothing was.
    for (now, last) in [(4100, 4100), (3600, 3601), (4500, 4500), (-9, 4500), (1000, 4500)] {
        let found = written(now);
        assert_eq!((&found[..6], &found[6..]), (&first[..], &[(4, last)][..]), "{now}");
    }
    assert_eq!(written(3000)[5..], [(2, 3000), (2, 3600), (4, 4500)], "what comes later has its own time");
}

#[test]
fn a_pause_of_years_stays_empty() {
    let packet = |bytes, end| Moved("", "10.0.0.1", "10.0.0.2", bytes, end);
    let (year, now) = (365 * 86_400, 1_800_000_000);
    // In no order: what came last lies between the others.
    let moved = [packet(1, 15), packet(2, now), packet(4, now - year), packet(8, now - 2 * year)];
    let found = samples(&written(15, &moved, &[], (Some(-2 * year), Some(now + 2 * year))), SENT);
    assert_eq!(found[..4], [(0, -15), (0, 0), (1, 15), (1, now - 2 * year - 30)]);
    assert_eq!((found[5], found[found.len() - 1]), ((9, now - 2 * year), (15, now)));
    assert!(found[3..].windows(2).all(|pair| pair[1].1 - pair[0].1 <= 240), "the rest is of one piece");
}

#[test]
fn several_networks_are_told_apart() {
    let packet = |network, bytes, end| Moved(network, "10.0.0.1", "10.0.0.2", bytes, end);
    let text = written(15, &[packet("", 1, 15), packet("zt\"0", 2, 30)], &[], (None, None));
    assert_eq!(samples(&text, &format!(r#"{SENT},network="""#)), [(0, -15), (0, 0), (1, 15), (1, 30)]);
    assert_eq!(samples(&text, &format!(r#"{SENT},network="zt\"0""#)), [(0, -15), (0, 15), (2, 30)]);
    assert_eq!(text.matches("zerotier_other_end_sent_bytes_total{end=\"multicast\",network=\"\"} 0 -15").count(), 1);
}

/// A node that is not on the list is a member from when an address of its own shows that it is.
#[test]
fn members_have_what_is_their_own() {
    use crate::zerotier::identity::{mac, rfc4193};
    use crate::zerotier::members::Member;
    let network = NetworkId(0x460c_acee_2d00_a7e1);
    let [listed, other] = ["6df5629e82", "8a580ad6bc"].map(|node| node.parse::<NodeId>().unwrap());
    let mut roster = Roster::default();
    roster.tell(Some(network), listed, Member { name: "A".to_owned(), listed: true, ..Member::default() });
    let endpoint = |end: &str, node| Endpoint { end: end.parse().unwrap(), mac: Some(mac(network, node)) };
    let plan = endpoint(&rfc4193(network, other).to_string(), other);
    let written = |is_known: bool| {
        let mut history = History::new(roster.clone(), None);
        let name = network.to_string();
        if is_known {
            history.know(&name, plan);
        }
        let moved = [
            (endpoint("10.0.0.7", other), endpoint("10.0.0.1", listed)),
            (plan, endpoint("external", listed)),
            (endpoint("10.0.0.7", other), endpoint("10.0.0.1", listed)),
        ];
        let rows = moved.map(|(src, dst)| {
            let counts = Counts { bytes: 100, packets: 1, copies: 0 };
            Row { src, dst, counts, seen: Seen::at(Timestamp::new(7, 0)) }
        });
        let bucket = Bucket { start: 0, seconds: 15 };
        let mut increments: Vec<_> = rows.iter().flat_map(|row| history.count(&name, bucket, row)).collect();
        increments.sort_unstable();
        let mut out = Vec::new();
        history.write(&mut out, 15, &[], increments.into_iter().map(Ok)).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("zerotier_member_info{node=\"6df5629e82\",name=\"A\"} 1 15\n"), "{text}");
        ["sent_bytes_total{node=\"8a580ad6bc\"", "received_bytes_total{node=\"6df5629e82\""]
            .map(|series| samples(&text, &format!("zerotier_member_{series}")).pop())
    };
    assert_eq!(written(true), [Some((300, 15)), Some((200, 15))]);
    assert_eq!(written(false), [Some((200, 15)), Some((200, 15))]);
}
