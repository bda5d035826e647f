//! Reads who members are: a list that somebody wrote, or a controller's JSON as it is. Which of them it is shows in the
//! content. Any bytes may come in.
//!
//! - CSV (RFC 4180): `address,name` names an address, `node,name` the member with this node id. A header, blank lines and
//!   lines that begin with `#` are passed over.
//! - ZeroTier Central's members: an array of objects with `nodeId`, `networkId`, `name` and `config`.
//! - A self-hosted controller's: one object with `address`, `nwid`, `name` and `ipAssignments`; an array of such; an object
//!   of such by node id, or of revisions alone; any of these as `data`.

use std::net::IpAddr;

use serde_json::{Map, Value};

use super::members::{Member, Roster};
use super::{NetworkId, NodeId};
use crate::plain;

/// The largest file that is read, in bytes.
pub const MAX_BYTES: usize = 16 << 20;

/// The most members and addresses that are told of in one file.
const MAX_ENTRIES: usize = 100_000;

/// What to say of JSON that is something else.
const WRONG: &str = "there are no members in it: give a list of them as ZeroTier Central or a controller answers";

/// A member has one of these at least.
const OF_MEMBERS: [&str; 5] = ["networkId", "nwid", "name", "ipAssignments", "authorized"];

/// What the first field of a header may be, without what is neither letter nor digit.
const HEADERS: [&str; 10] =
    ["addressornode", "address", "addr", "ipaddress", "ip", "node", "nodeid", "member", "memberid", "id"];

/// What `bytes` tell.
///
/// # Errors
/// In one line, what is wrong and what to do; where lines matter, it begins with `line N: `.
pub fn parse(bytes: &[u8]) -> Result<Roster, String> {
    if bytes.len() > MAX_BYTES {
        return Err(format!("it is larger than {} MiB: give a list of members", MAX_BYTES >> 20));
    }
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err("it is UTF-16: save it as UTF-8".to_owned());
    }
    // A name may have been written in any encoding. What is not UTF-8 in it shows as U+FFFD.
    let text = String::from_utf8_lossy(bytes);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    match text.trim_start().chars().next() {
        Some('{' | '[') => {
            let value: Value = serde_json::from_str(text).map_err(|error| {
                format!("line {}: the JSON is damaged at column {}: save it again", error.line(), error.column())
            })?;
            members(&value, None)
        }
        _ => csv(text),
    }
}

/// What a controller's JSON tells. Members that do not say of which network they are, are of `network`.
///
/// # Errors
/// In one line, what is wrong and what to do.
pub fn members(value: &Value, network: Option<NetworkId>) -> Result<Roster, String> {
    let mut roster = Roster::default();
    let value = match value {
        Value::Object(object) if object.contains_key("error") => return Err(WRONG.to_owned()),
        Value::Object(object) if node_of(object).is_none() => object.get("data").unwrap_or(value),
        value => value,
    };
    match value {
        Value::Object(object) if node_of(object).is_some() => tell(&mut roster, network, None, object, false)?,
        Value::Object(by_node) => {
            for (key, member) in by_node {
                let node = key.parse::<NodeId>().map_err(|_| WRONG)?;
                match member {
                    Value::Object(object) => tell(&mut roster, network, Some(node), object, true)?,
                    // Its revision.
                    Value::Number(_) => roster.tell(network, node, Member { listed: true, ..Member::default() }),
                    _ => return Err(WRONG.to_owned()),
                }
            }
        }
        Value::Array(list) => {
            for member in list {
                tell(&mut roster, network, None, member.as_object().ok_or(WRONG)?, true)?;
            }
        }
        _ => return Err(WRONG.to_owned()),
    }
    Ok(roster)
}

/// Adds one member, which may be known by the `node` that stands before it.
fn tell(
    roster: &mut Roster,
    network: Option<NetworkId>,
    node: Option<NodeId>,
    member: &Map<String, Value>,
    listed: bool,
) -> Result<(), String> {
    let node = node_of(member).or(node).ok_or("a member in it has no node id (nodeId or address)")?;
    // Peers, too, have an address.
    if !OF_MEMBERS.iter().any(|key| member.contains_key(*key)) {
        return Err(format!("what it says of {node} is not what a member has ({}); {WRONG}", OF_MEMBERS.join(", ")));
    }
    let text = |key: &str| member.get(key).and_then(Value::as_str).unwrap_or_default();
    let network = [text("networkId"), text("nwid")].iter().find_map(|id| id.parse().ok()).or(network);
    let config = member.get("config").and_then(Value::as_object).unwrap_or(member);
    let assigned = config.get("ipAssignments").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    // With or without the prefix's length; what is no address is of no use here.
    let addresses = assigned.iter().filter_map(|addr| addr.as_str()?.split('/').next()?.parse().ok()).collect();
    let authorized = config.get("authorized").and_then(Value::as_bool);
    roster.tell(network, node, Member { name: text("name").trim().to_owned(), addresses, authorized, listed });
    fits(roster)
}

/// Central has a `nodeId`, a controller an `address`; the `id` is the one or the other with more before it.
fn node_of(member: &Map<String, Value>) -> Option<NodeId> {
    ["nodeId", "address", "id"].iter().find_map(|key| member.get(*key)?.as_str()?.parse().ok())
}

fn fits(roster: &Roster) -> Result<(), String> {
    let fits = roster.len() <= MAX_ENTRIES;
    if fits { Ok(()) } else { Err(format!("it has more than {MAX_ENTRIES} entries: give fewer")) }
}

fn csv(text: &str) -> Result<Roster, String> {
    let mut roster = Roster::default();
    let mut records = Records { rest: text, line: 1 };
    let mut first = true;
    while let Some((line, fields)) = records.next().transpose()? {
        let [who, name] = &*fields else {
            let count = fields.len();
            return Err(format!(
                "line {line}: give two fields, address-or-node,name, not {count} (quote a comma: \"a, b\")"
            ));
        };
        let is_header = std::mem::take(&mut first) && is_header(who);
        match (who.parse::<IpAddr>(), who.parse::<NodeId>()) {
            (Ok(addr), _) => roster.name_address(addr, name),
            (_, Ok(node)) => roster.tell(None, node, Member { name: name.clone(), ..Member::default() }),
            _ if is_header => (),
            _ => {
                let who: String = plain::replaced(who).chars().take(60).collect();
                return Err(format!("line {line}: '{who}' is neither an address nor a node id of ten hex digits"));
            }
        }
        fits(&roster)?;
    }
    Ok(roster)
}

fn is_header(field: &str) -> bool {
    let word: String = field.chars().filter(char::is_ascii_alphanumeric).collect();
    HEADERS.contains(&word.to_ascii_lowercase().as_str())
}

/// The records of a CSV text, each with the line it begins in.
struct Records<'a> {
    rest: &'a str,
    line: usize,
}

impl Records<'_> {
    /// Takes so many bytes from the text.
    fn take(&mut self, bytes: usize) -> &str {
        let (taken, rest) = self.rest.split_at(bytes);
        self.rest = rest;
        self.line += taken.matches('\n').count();
        taken
    }

    /// Takes what comes before the first of these characters, or all.
    fn take_until(&mut self, ends: &[char]) -> &str {
        self.take(self.rest.find(ends).unwrap_or(self.rest.len()))
    }

    /// Takes a field and says whether another one follows.
    fn field(&mut self) -> Result<(String, bool), String> {
        let line = self.line;
        let blank = self.rest.len() - self.rest.trim_start_matches([' ', '\t']).len();
        self.take(blank);
        let mut field = String::new();
        if self.rest.starts_with('"') {
            loop {
                self.take(1);
                field.push_str(self.take_until(&['"']));
                if self.rest.is_empty() {
                    return Err(format!("line {line}: a quote is never closed: add \""));
                }
                self.take(1);
                if !self.rest.starts_with('"') {
                    break;
                }
                // Two of them stand for one.
                field.push('"');
            }
            if !self.take_until(&[',', '\n']).trim().is_empty() {
                return Err(format!("line {line}: there is something behind a quoted field: quote all of it"));
            }
        } else {
            field.push_str(self.take_until(&[',', '\n']));
        }
        let more = self.rest.starts_with(',');
        self.take(usize::from(!self.rest.is_empty()));
        Ok((field.trim().to_owned(), more))
    }
}

impl Iterator for Records<'_> {
    type Item = Result<(usize, Vec<String>), String>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let line = self.rest.lines().next()?.trim();
            if !(line.is_empty() || line.starts_with('#')) {
                break;
            }
            self.take_until(&['\n']);
            self.take(usize::from(!self.rest.is_empty()));
        }
        let line = self.line;
        let mut fields = Vec::new();
        loop {
            match self.field() {
                Ok((field, true)) => fields.push(field),
                Ok((field, false)) => {
                    fields.push(field);
                    return Some(Ok((line, fields)));
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const NETWORK: NetworkId = NetworkId(0x460c_acee_2d00_a7e1);

    fn names(text: &str) -> Vec<(String, String)> {
        let members = parse(text.as_bytes()).unwrap().of(Some(NETWORK));
        let addresses = members.address_names().iter().map(|(addr, name)| (addr.to_string(), name.clone()));
        let nodes = members.told().iter().map(|(node, member)| (node.to_string(), member.name.clone()));
        addresses.chain(nodes).collect()
    }

    fn pairs(of: &[(&str, &str)]) -> Vec<(String, String)> {
        of.iter().map(|(who, name)| (who.to_string(), name.to_string())).collect()
    }

    #[test]
    fn a_list_of_names() {
        let text = "\u{feff}address,name\r\n# the office\r\n10.147.20.11,Ann\r\n\r\nfd00::2 , \"Bob, the \"\"second\"\"\"\r\n\
                    6DF5629E82,\"two\nlines\"\n  # more\n1234567890,ten digits\n10.0.0.9,";
        assert_eq!(
            names(text),
            pairs(&[
                ("10.147.20.11", "Ann"),
                ("fd00::2", "Bob, the \"second\""),
                ("1234567890", "ten digits"),
                ("6df5629e82", "two\nlines"),
            ])
        );
        assert!(names("").is_empty() && names("#\n\n").is_empty());
        for header in
            ["address-or-node,name", "node,name", "Node ID,Name", "\"node_id\",x", "ADDR,", "#\nip address,name"]
        {
            assert!(names(header).is_empty(), "{header}");
        }
        let not_utf8 = parse(b"10.0.0.1,M\xfcller\n").unwrap().of(None);
        assert_eq!(not_utf8.address_name("10.0.0.1".parse().unwrap()), "M\u{fffd}ller");
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        for (text, error) in [
            ("10.0.0.1,a\n10.0.0.300,b", "line 2: '10.0.0.300' is neither an address nor a node id of ten hex digits"),
            ("10.0.0.1,a\nnode,name", "line 2: 'node' is neither"),
            ("10.0.0.300,a", "line 1: '10.0.0.300' is neither"),
            ("zzz,bob", "line 1: 'zzz' is neither an address nor a node id of ten hex digits"),
            ("# ours\n\u{e4},bob\n", "line 2: '\u{e4}' is neither"),
            ("node,name\nnode,name", "line 2: 'node' is neither"),
            ("\"10.0\r\n1\",a", "line 1: '10.0\u{fffd}\u{fffd}1' is neither"),
            ("10.0.0.1,\"a\nb\"\n10.0.0.2,a,b", "line 3: give two fields, address-or-node,name, not 3"),
            ("10.0.0.1", "line 1: give two fields"),
            ("\n10.0.0.1,\"a", "line 2: a quote is never closed"),
            ("10.0.0.1,\"a\" b", "line 1: there is something behind a quoted field"),
            ("\n[{\"nodeId\":\n}]", "line 3: the JSON is damaged at column 1"),
            ("[1]", "there are no members in it"),
            ("{\"error\": \"no such network\"}", "there are no members in it"),
            ("{\"data\": [], \"error\": \"not allowed\"}", "there are no members in it"),
            ("{\"data\": {\"members\": []}}", "there are no members in it"),
            ("{\"6df5629e82\": null}", "there are no members in it"),
            ("{\"6df5629e82\": \"Ann\"}", "there are no members in it"),
            ("[\"6df5629e82\"]", "there are no members in it"),
            ("[{\"name\": \"x\"}]", "a member in it has no node id"),
            // A node's peers, and a node's state.
            (
                "[{\"address\": \"6df5629e82\", \"latency\": 3, \"paths\": [], \"role\": \"LEAF\"}]",
                "what it says of 6df5629e82 is not what a member has (networkId, nwid, name, ipAssignments, authorized); \
                 there are no members in it: give a list of them as ZeroTier Central or a controller answers",
            ),
            ("{\"address\": \"6df5629e82\", \"online\": true, \"config\": {}}", "what it says of 6df5629e82 is not"),
        ] {
            let found = parse(text.as_bytes()).unwrap_err();
            assert!(found.starts_with(error) && !found.contains(char::is_control), "{text:?}: {found}");
        }
        for utf16 in [&b"\xff\xfe1\0,\0a\0"[..], b"\xfe\xff\x001\0,\0a"] {
            assert_eq!(parse(utf16).unwrap_err(), "it is UTF-16: save it as UTF-8");
        }
        let many: String = (0..=MAX_ENTRIES).map(|n| format!("{n:010x},\n")).collect();
        assert!(parse(many.as_bytes()).unwrap_err().starts_with("it has more than 100000 entries"));
        assert!(parse(&vec![b' '; MAX_BYTES + 1]).unwrap_err().starts_with("it is larger than 16 MiB"));
    }

    /// As ZeroTier Central answers, without what does not matter here.
    const CENTRAL: &str = r#"[{"id": "460cacee2d00a7e1-6df5629e82", "type": "Member", "clock": 1763810391000,
        "networkId": "460cacee2d00a7e1", "nodeId": "6df5629e82", "controllerId": "460cacee2d", "hidden": false,
        "name": "Ann", "description": "her laptop", "online": true, "physicalAddress": "198.51.100.7",
        "config": {"activeBridge": false, "address": "6df5629e82", "authorized": true, "capabilities": [],
        "id": "6df5629e82", "ipAssignments": ["10.147.20.11", "fd00::b/88"], "nwid": "460cacee2d00a7e1"}},
        {"id": "460cacee2d00a7e1-87dc5b55d9", "networkId": "460cacee2d00a7e1", "nodeId": "87dc5b55d9", "name": null,
        "config": {"authorized": false, "ipAssignments": []}}]"#;

    /// As a self-hosted controller answers for one member.
    const CONTROLLER: &str = r#"{"activeBridge": false, "address": "6df5629e82", "authorized": true, "capabilities": [],
        "creationTime": 1763810391000, "id": "6df5629e82", "identity": "6df5629e82:0:key",
        "ipAssignments": ["10.147.20.11", "fd00::b"], "name": "Ann", "nwid": "460cacee2d00a7e1", "objtype": "member",
        "revision": 4, "tags": [], "vMajor": 1, "vMinor": 14}"#;

    #[test]
    fn the_json_of_controllers_as_it_is() {
        let ann = |listed| Member {
            name: "Ann".to_owned(),
            addresses: ["10.147.20.11".parse().unwrap(), "fd00::b".parse().unwrap()].into(),
            authorized: Some(true),
            listed,
        };
        let node = "6df5629e82".parse::<NodeId>().unwrap();
        for (text, listed) in [
            (CENTRAL.to_owned(), true),
            (CONTROLLER.to_owned(), false),
            (format!("[{CONTROLLER}]"), true),
            (format!("{{\"6df5629e82\": {CONTROLLER}}}"), true),
            (format!("{{\"data\": [{CONTROLLER}], \"meta\": {{\"totalCount\": 1}}}}"), true),
        ] {
            let roster = parse(text.as_bytes()).unwrap();
            assert_eq!(roster.only_network(), Some(NETWORK), "{text}");
            assert_eq!(roster.of(Some(NETWORK)).told()[&node], ann(listed), "{text}");
            assert!(roster.of(Some(NetworkId(1))).told().is_empty());
        }
        let central = parse(CENTRAL.as_bytes()).unwrap().of(Some(NETWORK));
        let other = &central.told()[&"87dc5b55d9".parse().unwrap()];
        assert!(other.authorized == Some(false) && other.name.is_empty() && other.listed);

        // Revisions do not say of which network they are; who asked for them knows.
        let revisions = r#"{"6df5629e82": 4, "87dc5b55d9": 1}"#;
        let by_file = parse(revisions.as_bytes()).unwrap().of(Some(NETWORK));
        assert!(by_file.told().len() == 2 && !by_file.told().values().any(|member| member.listed));
        let asked_for = members(&serde_json::from_str(revisions).unwrap(), Some(NETWORK)).unwrap();
        assert_eq!(asked_for.only_network(), Some(NETWORK));
        let listed = asked_for.of(Some(NETWORK));
        assert!(listed.told().len() == 2 && listed.told().values().all(|member| member.listed));
        assert!(asked_for.of(Some(NetworkId(1))).told().is_empty());
        assert!(parse(b"[]").unwrap().is_empty() && parse(b"{}").unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused_in_one_line(bytes in vec(any::<u8>(), 0..200)) {
            if let Err(error) = parse(&bytes) {
                prop_assert!(!error.contains(char::is_control), "{error}");
            }
        }

        #[test]
        fn any_name_survives_quoting(name in any::<String>()) {
            let text = format!("10.0.0.1,\"{}\"\r\n", name.replace('"', "\"\""));
            let members = parse(text.as_bytes()).unwrap().of(None);
            prop_assert_eq!(members.address_name("10.0.0.1".parse().unwrap()), name.trim());
        }
    }
}
