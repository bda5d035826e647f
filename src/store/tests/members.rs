//! Who members are is kept, and what they moved themselves.

use super::*;
use crate::zerotier::members::Member;
use crate::zerotier::{self, NodeId, Roster};

pub const NETWORK: zerotier::NetworkId = zerotier::NetworkId(0x460c_acee_2d00_a7e1);

fn node(n: u64) -> NodeId {
    NodeId::new(n).unwrap()
}

fn member(name: &str, last: u8, listed: bool) -> Member {
    let addresses = [[10, 0, 0, last].into()].into();
    Member { name: name.to_owned(), addresses, authorized: Some(last != 2), listed }
}

/// Two members, one of which is not let in, and an address with a name.
pub fn roster() -> Roster {
    let mut roster = Roster::default();
    roster.tell(Some(NETWORK), node(1), member("one", 1, true));
    roster.tell(Some(NETWORK), node(2), member("", 2, false));
    roster.name_address([10, 0, 0, 9].into(), "printer");
    roster
}

fn tell(writer: &mut Writer, network: NetworkId, roster: &Roster) {
    writer.begin().unwrap();
    writer.tell(network, &roster.of(Some(NETWORK))).unwrap();
    writer.commit().unwrap();
}

#[test]
fn what_was_told_comes_back() {
    let (_dir, db) = place();
    let mut writer = Writer::open(&db).unwrap();
    let network = writer.network(&NETWORK.to_string(), "").unwrap();
    assert!(writer.roster().unwrap().is_empty());
    tell(&mut writer, network, &roster());
    assert_eq!(writer.roster().unwrap(), roster());
    assert_eq!(Reader::open(&db).unwrap().roster().unwrap(), roster());
    let rows = |table: &str| ask(&db, &format!("SELECT count(*) FROM {table}"));
    let before = [rows("member"), rows("assignment"), rows("address_name")];
    assert_eq!(before, [2, 2, 1]);
    tell(&mut writer, network, &roster());
    assert_eq!([rows("member"), rows("assignment"), rows("address_name")], before);

    // A name alone lets nobody in.
    let mut named = Roster::default();
    named.tell(None, node(2), Member { name: "two".to_owned(), ..Member::default() });
    tell(&mut writer, network, &named);
    assert_eq!(writer.roster().unwrap().of(Some(NETWORK)).told()[&node(2)].authorized, Some(false));

    // Another name, and an address that went to another: it was the first one's all the same.
    let mut later = Roster::default();
    later.tell(Some(NETWORK), node(1), Member { name: "first".to_owned(), ..Member::default() });
    later.tell(Some(NETWORK), node(2), Member { listed: true, ..member("two", 1, true) });
    later.name_address([10, 0, 0, 9].into(), "copier");
    tell(&mut writer, network, &later);
    let mut both = roster();
    both.merge(&later);
    assert_eq!(writer.roster().unwrap(), both);
    let members = both.of(Some(NETWORK));
    assert_eq!((members.name(node(1)), members.told()[&node(2)].addresses.len()), ("first", 2));
    drop(writer);
    Reader::open(&db).unwrap().check().unwrap();
}

#[test]
fn what_members_moved_adds_up_whatever_is_told() {
    let (_dir, db) = place();
    let mut writer = Writer::open(&db).unwrap();
    let network = writer.network(&NETWORK.to_string(), "").unwrap();
    let add = |writer: &mut Writer, own: &[(u64, (u64, u64))]| {
        writer.begin().unwrap();
        writer.add_own(network, &own.iter().map(|(n, own)| (node(*n), *own)).collect()).unwrap();
    };
    add(&mut writer, &[(1, (10, 1)), (7, (0, 5))]);
    writer.commit().unwrap();
    add(&mut writer, &[(1, (1, 1))]);
    writer.rollback().unwrap();
    tell(&mut writer, network, &roster());
    add(&mut writer, &[(1, (5, 0))]);
    writer.commit().unwrap();
    let kept = |n, sent_bytes, received_bytes| KeptMember { network, node: node(n), sent_bytes, received_bytes };
    assert_eq!(writer.members().unwrap(), [kept(1, 15, 1), kept(7, 0, 5), kept(2, 0, 0)]);
    // One that is known by its MAC alone is told of by nobody.
    assert_eq!(writer.roster().unwrap(), roster());

    writer.conn.execute("UPDATE member SET sent_bytes = 1 WHERE node = '0000000001'", []).unwrap();
    assert!(line(writer.members()).contains("is damaged") && line(writer.roster()).contains("is damaged"));
    writer.begin().unwrap();
    assert!(line(writer.add_own(network, &[(node(1), (1, 1))].into())).contains("is damaged"));
}
