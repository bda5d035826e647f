//! What the copies say about the capture itself.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::fmt;

use super::ledger::Pair;
use super::{Settings, Stats, Tee};
use crate::copies::Copies;
use crate::packet::Mac;
use crate::traffic::Directory;

/// Below so many unicast packets in scope nothing is said about the settings.
const ENOUGH: u64 = 1_000;

/// MACs that are named, at most: whoever spoofs them may have any number.
const MAX_APART: usize = 100;

/// Lengths at which frames were cut.
#[derive(Clone, Debug, Default)]
pub(super) struct Cuts {
    at_rule: u64,
    elsewhere: HashMap<usize, u64>,
    ipv4_too_short: u64,
    ipv6_too_short: u64,
    shortest: Option<usize>,
}

impl Cuts {
    /// A packet in scope of which `len` bytes of Ethernet payload were captured, and not all.
    #[inline(always)]
    pub(super) fn record(&mut self, len: u32, rule: u16) {
        if len == u32::from(rule) {
            self.at_rule += 1;
        } else {
            self.record_elsewhere(len as usize);
        }
    }

    fn record_elsewhere(&mut self, len: usize) {
        *self.elsewhere.entry(len).or_default() += 1;
    }

    /// A packet that was cut before its addresses end.
    pub(super) fn before_addresses(&mut self, len: usize, ipv6: bool) {
        *if ipv6 { &mut self.ipv6_too_short } else { &mut self.ipv4_too_short } += 1;
        self.shortest = Some(self.shortest.map_or(len, |shortest| shortest.min(len)));
    }

    /// Those of the rule, and others, that were not there `before`.
    fn since(&self, before: &Cuts) -> Cuts {
        let more = |(len, count): (&usize, &u64)| (*len, count - before.elsewhere.get(len).unwrap_or(&0));
        let elsewhere = self.elsewhere.iter().map(more).collect();
        Cuts { at_rule: self.at_rule - before.at_rule, elsewhere, ..Cuts::default() }
    }

    /// The commonest length other than the rule's, if over 90 % of the cut frames have another than the rule's.
    fn another_length(&self) -> Option<usize> {
        let elsewhere: u64 = self.elsewhere.values().sum();
        if elsewhere * 10 <= (elsewhere + self.at_rule) * 9 {
            return None;
        }
        self.elsewhere.iter().max_by_key(|&(&len, &count)| (count, Reverse(len))).map(|(&len, _)| len)
    }
}

/// What the settings are judged by, up to a moment.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    unicast: u64,
    pairs: u64,
    /// Pairs and frames.
    shadow: (u64, u64),
    cuts: Cuts,
}

impl Evidence {
    /// What does not fit the settings in what came since `judged`, which becomes all of this; if that is enough.
    fn judge(self, judged: &mut Evidence, settings: &Settings) -> Vec<Warning> {
        let mut warnings = Vec::new();
        let unicast = self.unicast - judged.unicast;
        if unicast < ENOUGH {
            return warnings;
        }
        let per_mille = |pairs: u64, frames: u64| (2 * pairs * 1000).checked_div(frames);
        let paired = per_mille(self.pairs - judged.pairs, unicast);
        let in_shadow = per_mille(self.shadow.0 - judged.shadow.0, self.shadow.1 - judged.shadow.1);
        match (settings.tee, paired, in_shadow) {
            (Tee::Both, Some(per_mille @ ..Copies::HARDLY_PAIRED), _) => {
                warnings.push(Warning::HardlyPaired { per_mille })
            }
            (Tee::One, _, Some(per_mille @ 501..)) => warnings.push(Warning::MostlyPaired { per_mille }),
            _ => (),
        }
        if let (true, Some(len)) = (settings.tee != Tee::None, self.cuts.since(&judged.cuts).another_length()) {
            warnings.push(Warning::OtherLength { len, rule: settings.tee_bytes });
        }
        *judged = self;
        warnings
    }
}

/// How complete a capture is, by its [`Copies`].
#[derive(Clone, Debug, PartialEq)]
pub struct Diagnosis {
    /// Packets seen with their copy.
    pub pairs: u64,
    /// Packets whose window passed without one, of members that tee.
    pub singles: u64,
    /// Packets whose window has not passed.
    pub pending: u64,
    /// Singles from or to a MAC that is in no pair at all: the MACs with the most of them, a hundred at most.
    pub apart: Vec<Apart>,
    /// Such singles of all other MACs.
    pub apart_rest: u64,
    /// What does not fit together.
    pub warnings: Vec<Warning>,
}

/// Singles that say nothing about loss, because one end never has copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Apart {
    /// The MAC that is in no pair.
    pub mac: Mac,
    /// Packets from or to it.
    pub singles: u64,
    /// Its packets came whole: it is the observer's own. Otherwise it is a member that does not tee.
    pub observer: bool,
}

/// Something about the capture that contradicts the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Warning {
    /// `--tee both`, and hardly a packet has a copy.
    HardlyPaired {
        /// Paired frames in a thousand.
        per_mille: u64,
    },
    /// `--tee one`, and most packets have a copy.
    MostlyPaired {
        /// Paired frames in a thousand.
        per_mille: u64,
    },
    /// Frames were cut at another length than `--tee-bytes`.
    OtherLength {
        /// Bytes of Ethernet payload in most of them.
        len: usize,
        /// `--tee-bytes`.
        rule: u16,
    },
    /// Frames end before the addresses do.
    TooShort {
        /// How many IPv4 packets.
        ipv4: u64,
        /// How many IPv6 packets.
        ipv6: u64,
        /// Bytes of Ethernet payload in the shortest of them.
        len: usize,
    },
    /// Packets could not be remembered until their copies came.
    Overflow {
        /// How many.
        packets: u64,
    },
}

impl Diagnosis {
    pub(super) fn new(
        settings: &Settings,
        stats: &Stats,
        pending: u64,
        (directory, pairs): (&Directory, &[Pair]),
        cuts: &Cuts,
        shadow: (u64, u64),
        judged: &mut Evidence,
    ) -> Self {
        let mut apart = apart(directory, pairs, settings.observer);
        let sum = |apart: &[Apart]| apart.iter().map(|apart| apart.singles).sum::<u64>();
        let singles = stats.singles - sum(&apart);
        let apart_rest = apart.get(MAX_APART..).map_or(0, sum);
        apart.truncate(MAX_APART);
        let evidence = Evidence { unicast: stats.unicast, pairs: stats.pairs, shadow, cuts: cuts.clone() };
        let mut warnings = evidence.judge(judged, settings);
        if let Some(len) = cuts.shortest {
            warnings.push(Warning::TooShort { ipv4: cuts.ipv4_too_short, ipv6: cuts.ipv6_too_short, len });
        }
        if stats.overflows > 0 {
            warnings.push(Warning::Overflow { packets: stats.overflows });
        }
        Diagnosis { pairs: stats.pairs, singles, pending, apart, apart_rest, warnings }
    }

    /// The estimated share of packets of which no copy arrived, if it can be told.
    pub fn missed_share(&self) -> Option<f64> {
        Copies { pairs: self.pairs, singles: self.singles }.missed_share()
    }
}

/// What is known of a MAC.
#[derive(Clone, Copy, Default)]
struct Sum {
    /// Never apart: in a pair, or known to be the observer's.
    paired: bool,
    /// Singles from or to it.
    singles: u64,
    /// Those that are attributed to it.
    apart: u64,
    whole: bool,
}

/// Attributes singles to MACs that are in no pair; where both ends are such, to the one with more of them.
fn apart(directory: &Directory, pairs: &[Pair], observer: Option<Mac>) -> Vec<Apart> {
    // Numbered in their order, because there may be very many and all pairs are visited three times.
    let mut macs: Vec<Mac> = directory.endpoints().iter().filter_map(|endpoint| endpoint.mac).collect();
    macs.sort_unstable();
    macs.dedup();
    let number = |mac| macs.binary_search(&mac).ok();
    let numbers: Vec<_> = directory.endpoints().iter().map(|endpoint| endpoint.mac.and_then(number)).collect();
    let ends = |(src, dst): (u32, u32)| [numbers[src as usize], numbers[dst as usize]].into_iter().flatten();

    let mut sums = vec![Sum::default(); macs.len()];
    let all = || pairs.iter().zip(directory.pairs().iter().copied());
    let paired = all().filter(|(pair, _)| pair.paired).flat_map(|(_, numbers)| ends(numbers));
    paired.chain(observer.and_then(number)).for_each(|mac| sums[mac].paired = true);
    let lonely = || all().filter(|(pair, _)| pair.singles > 0);
    for (pair, numbers) in lonely() {
        ends(numbers).for_each(|mac| sums[mac].singles += pair.singles);
    }
    for (pair, numbers) in lonely() {
        let alone = ends(numbers).filter(|&mac| !sums[mac].paired);
        if let Some(most) = alone.max_by_key(|&mac| (sums[mac].singles, Reverse(mac))) {
            sums[most].apart += pair.singles;
            sums[most].whole |= pair.whole;
        }
    }
    let of = |(&mac, sum): (&Mac, Sum)| Apart { mac, singles: sum.apart, observer: sum.whole };
    let mut found: Vec<Apart> = macs.iter().zip(sums).filter(|(_, sum)| sum.apart > 0).map(of).collect();
    found.sort_unstable_by_key(|apart| (Reverse(apart.singles), apart.mac));
    found
}

impl fmt::Display for Apart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Apart { mac, singles, observer } = self;
        write!(f, "{singles} singles are from or to {mac}, which is in no pair: ")?;
        if *observer {
            write!(f, "the observer's own traffic; give --observer-mac {mac}")
        } else {
            f.write_str("a member that sends no copies, or the observer itself")
        }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = |per_mille: &u64| format!("{}.{} %", per_mille / 10, per_mille % 10);
        match self {
            Warning::HardlyPaired { per_mille } => write!(
                f,
                "only {} of the unicast packets have a copy: if the rule is one-sided give --tee one, if this is no tee --tee none",
                percent(per_mille)
            ),
            Warning::MostlyPaired { per_mille } => write!(
                f,
                "{} of the unicast packets have a copy, so each counts twice: if the rule is two-sided give --tee both",
                percent(per_mille)
            ),
            Warning::OtherLength { len, rule } => write!(
                f,
                "frames are cut at {len} bytes and not at {rule}, so copies may not match: give --tee-bytes {len}, if that is the rule's length"
            ),
            Warning::Overflow { packets } => {
                write!(f, "{packets} packets could not wait for their copies, because too many did")
            }
            Warning::TooShort { ipv4, ipv6, len } => {
                let which = match (ipv4, ipv6) {
                    (ipv4, 0) => format!("{ipv4} IPv4 packets were"),
                    (0, ipv6) => format!("{ipv6} IPv6 packets were"),
                    (ipv4, ipv6) => format!("{ipv4} IPv4 and {ipv6} IPv6 packets were"),
                };
                write!(
                    f,
                    "{which} cut at {len} bytes, before the addresses end, and could not be counted: a tee rule needs 20 bytes for IPv4 and 40 for IPv6"
                )
            }
        }
    }
}
