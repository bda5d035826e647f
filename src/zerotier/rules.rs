//! The tee: the flow rule that makes a network send the observer a copy of its packets, as text or JSON to paste.

use std::fmt;
use std::str::FromStr;

use serde_json::{Value, json};

use super::NodeId;

/// The shortest useful tee: an IPv6 header up to its destination address. IPv4 needs 20 bytes, but the rule takes both.
pub const MIN_BYTES: u32 = 40;

/// The longest useful tee: a longer copy no longer fits ZeroTier's UDP payload of 1,432 bytes, of which 51 are its own
/// headers. Every copy would then cost a second packet, and ztmon reads nothing that far behind the headers.
pub const MAX_BYTES: u32 = 1381;

/// What a copy has on the wire besides the copied bytes: IPv4, UDP and ZeroTier's headers.
const OVERHEAD: u32 = 79;

/// Who sends a copy of a packet between two members.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sides {
    /// Its sender and its receiver: copies can be paired, and those without a twin show how many copies are lost.
    #[default]
    Both,
    /// Its sender: what members sent, delivered or not.
    Sender,
    /// Its receiver: what reached members and passed their rules.
    Receiver,
}

impl Sides {
    /// How many bytes to copy unless told otherwise. Pairing wants enough of a packet to tell it from the next one;
    /// without pairing the IP header will do, and a few bytes more for VLAN tags.
    pub fn default_bytes(self) -> u32 {
        match self {
            Sides::Both => 128,
            Sides::Sender | Sides::Receiver => 64,
        }
    }

    /// The value of `--tee` that counts what this rule sends.
    pub fn tee_option(self) -> &'static str {
        match self {
            Sides::Both => "both",
            Sides::Sender | Sides::Receiver => "one",
        }
    }

    /// How many copies of a unicast packet are sent.
    fn copies(self) -> u32 {
        match self {
            Sides::Both => 2,
            Sides::Sender | Sides::Receiver => 1,
        }
    }
}

impl fmt::Display for Sides {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Sides::Both => "both",
            Sides::Sender => "sender",
            Sides::Receiver => "receiver",
        })
    }
}

impl FromStr for Sides {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "both" => Ok(Sides::Both),
            "sender" => Ok(Sides::Sender),
            "receiver" => Ok(Sides::Receiver),
            _ => Err(format!("'{s}' is no side: give both, sender or receiver")),
        }
    }
}

/// Where the rule is to be pasted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Into the flow rules of a network, with what there is to know as comments.
    #[default]
    Text,
    /// Into a `POST /controller/network/NWID` to a self-hosted controller: a whole rule set, which accepts everything.
    Json,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Format::Text => "text",
            Format::Json => "json",
        })
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "text" => Ok(Format::Text),
            "json" => Ok(Format::Json),
            _ => Err(format!("'{s}' is no format of rules: give text or json")),
        }
    }
}

/// The rule that copies the first `bytes` of each IP packet to `observer`, complete to its last newline.
///
/// `bytes` counts from behind the Ethernet header, as `tee` does, and lies between [`MIN_BYTES`] and [`MAX_BYTES`];
/// `None` stands for [`Sides::default_bytes`].
pub fn rules(observer: NodeId, sides: Sides, bytes: Option<u32>, format: Format) -> Result<String, String> {
    let bytes = bytes.unwrap_or_else(|| sides.default_bytes());
    if !(MIN_BYTES..=MAX_BYTES).contains(&bytes) {
        return Err(format!(
            "cannot tee {bytes} bytes: give {MIN_BYTES} (an IPv6 header) to {MAX_BYTES} (what fits one UDP packet)"
        ));
    }
    Ok(match format {
        Format::Text => text(observer, sides, bytes),
        Format::Json => format!("{:#}\n", json(observer, sides, bytes)),
    })
}

/// The rule itself. Matches are evaluated from left to right, so the side comes after all the EtherTypes.
fn line(observer: NodeId, sides: Sides, bytes: u32) -> String {
    let side = match sides {
        Sides::Both => "",
        Sides::Sender => " and not chr inbound",
        Sides::Receiver => " and chr inbound",
    };
    format!("tee {bytes} {observer} ethertype ipv4 or ethertype ipv6{side};")
}

fn text(observer: NodeId, sides: Sides, bytes: u32) -> String {
    let line = line(observer, sides, bytes);
    let copy = bytes + OVERHEAD;
    let megabits = f64::from(10_000 * sides.copies() * copy * 8) / 1e6;
    let copies = match sides {
        Sides::Both => {
            "\
# - Two copies of each packet between two members, one from its sender and one from its receiver.
#   Copies without a twin show how many are lost on the way.
# - Of a broadcast or multicast, one copy from the sender and one from each receiver."
        }
        Sides::Sender => {
            "\
# - One copy of each packet, from its sender: half as many as from both sides, but nothing shows
#   how many copies are lost. Packets count once they are sent, even if they never arrive.
# - Of a broadcast or multicast, one copy too."
        }
        Sides::Receiver => {
            "\
# - One copy of each packet, from its receiver: half as many as from both sides, but nothing shows
#   how many copies are lost. Packets count only if they arrive.
# - Of a broadcast or multicast, one copy from each receiver."
        }
    };
    // At its target the line ends the evaluation where it matches; `not chr inbound` cannot match what comes in.
    let observer_rules = match sides {
        Sides::Both | Sides::Receiver => {
            "\
# - The network's flow rules no longer protect the observer: it accepts whatever this line
#   matches. Firewall its ZeroTier device on the host."
        }
        Sides::Sender => {
            "\
# - The observer accepts packets that were never meant for it: firewall its ZeroTier device on
#   the host. What the network's rules drop on arrival there is lost to ztmon, copies included."
        }
    };
    let order = match sides {
        Sides::Both => "",
        Sides::Sender | Sides::Receiver => " (matches are taken from left to right)",
    };
    format!(
        "\
# ztmon: every member copies the first {bytes} bytes of its IP packets to the observer {observer}.
# Paste this above the first drop or accept line of the network's flow rules: what those lines
# decide never reaches a line below them.

{line}

# What it costs
{copies}
# - Nothing for the observer's own packets, which it sees anyway.
# - Up to {copy} bytes on the wire per copy ({OVERHEAD} + {bytes}, over IPv4), from the member that copies.
# - All copies go to the observer: 10,000 packets a second among members make up to {megabits:.1} Mbit/s.
#
# What to mind
# - Tell ztmon the same: ztmon serve --tee {tee} --tee-bytes {bytes}
# - Have no other tee or watch line: of those that match a packet only the last one sends, and
#   one in a capability sends more copies.
{observer_rules}
# - Frames with a VLAN tag are left out. To take them in, write `or ethertype 0x8100` right after
#   `ethertype ipv6`{order}; each tag uses up 4 of the {bytes} bytes.
# - Below {MIN_BYTES} bytes ztmon cannot count IPv6, below 20 nothing at all.
",
        tee = sides.tee_option(),
    )
}

fn json(observer: NodeId, sides: Sides, bytes: u32) -> Value {
    let side =
        |not: bool| json!({"type": "MATCH_CHARACTERISTICS", "not": not, "or": false, "mask": "8000000000000000"});
    let mut rules = vec![
        json!({"type": "MATCH_ETHERTYPE", "not": false, "or": false, "etherType": 0x0800}),
        json!({"type": "MATCH_ETHERTYPE", "not": false, "or": true, "etherType": 0x86dd}),
    ];
    match sides {
        Sides::Both => {}
        Sides::Sender => rules.push(side(true)),
        Sides::Receiver => rules.push(side(false)),
    }
    rules.push(json!({"type": "ACTION_TEE", "address": observer.to_string(), "length": bytes}));
    rules.push(json!({"type": "ACTION_ACCEPT"}));
    json!({"rules": rules, "capabilities": [], "tags": []})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observer() -> NodeId {
        "89e92ceee5".parse().unwrap()
    }

    #[test]
    fn rules_are_the_golden_ones() {
        let golden = [
            (Sides::Both, Format::Text, include_str!("golden/both.txt")),
            (Sides::Both, Format::Json, include_str!("golden/both.json")),
            (Sides::Sender, Format::Text, include_str!("golden/sender.txt")),
            (Sides::Sender, Format::Json, include_str!("golden/sender.json")),
            (Sides::Receiver, Format::Text, include_str!("golden/receiver.txt")),
            (Sides::Receiver, Format::Json, include_str!("golden/receiver.json")),
        ];
        for (sides, format, golden) in golden {
            let printed = rules(observer(), sides, None, format).unwrap();
            assert_eq!(printed, golden, "{sides} {format}");
            assert_eq!(rules(observer(), sides, Some(sides.default_bytes()), format), Ok(printed));
        }
    }

    #[test]
    fn text_is_one_rule_and_comments() {
        for sides in [Sides::Both, Sides::Sender, Sides::Receiver] {
            for bytes in [MIN_BYTES, MAX_BYTES] {
                let text = rules(observer(), sides, Some(bytes), Format::Text).unwrap();
                let rule: Vec<_> = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
                assert_eq!(rule, [line(observer(), sides, bytes)]);
                assert!(text.lines().all(|line| line.len() <= 100 && line.trim_end() == line && line.is_ascii()));
                assert!(text.ends_with('\n') && !text.ends_with("\n\n"));
            }
        }
    }

    #[test]
    fn a_useless_length_is_refused() {
        for bytes in [0, 39, 1382, 65_536, u32::MAX] {
            let error = rules(observer(), Sides::Both, Some(bytes), Format::Text).unwrap_err();
            assert_eq!(
                error,
                format!("cannot tee {bytes} bytes: give 40 (an IPv6 header) to 1381 (what fits one UDP packet)")
            );
        }
    }

    #[test]
    fn words_read_as_they_print() {
        for sides in [Sides::Both, Sides::Sender, Sides::Receiver] {
            assert_eq!(sides.to_string().parse(), Ok(sides));
        }
        for format in [Format::Text, Format::Json] {
            assert_eq!(format.to_string().parse(), Ok(format));
        }
        assert!("one".parse::<Sides>().is_err());
        assert!("csv".parse::<Format>().is_err());
    }
}
