//! A names file of any bytes tells something, or what is wrong with it in one line.

use ztmon::zerotier::{NetworkId, Roster, names};

pub fn run(bytes: &[u8]) {
    let roster = match names::parse(bytes) {
        Ok(roster) => roster,
        Err(error) => {
            assert!(!error.is_empty() && !error.contains(char::is_control), "{error:?}");
            return;
        }
    };
    // Nothing is told that is not in the bytes: an entry takes some.
    assert!(roster.len() <= bytes.len());
    let mut twice = roster.clone();
    twice.merge(&roster);
    assert_eq!(twice, roster);
    let mut again = Roster::default();
    again.merge(&roster);
    assert_eq!(again, roster);
    for network in [None, roster.only_network(), Some(NetworkId(1))] {
        let members = roster.of(network);
        for (node, member) in members.told() {
            assert!(member.name.chars().count() <= 255 && members.name(*node) == member.name);
            for addr in &member.addresses {
                let holder = members.holder(*addr, None).expect("it is assigned to somebody");
                assert!(members.told()[&holder].addresses.contains(addr));
            }
        }
    }
}
