//! The pcapng file format (<https://datatracker.ietf.org/doc/draft-ietf-opsawg-pcapng/>).
//!
//! Ours, because the rules of what is damage and what stands are: pcap-file refuses a whole file for an option that
//! lies about its length, and has no bound on a block's size. It is the tests' second opinion.

use super::input::Input;
use super::record::{Damage, Next, max_captured_len, words};
use crate::frame::{Frame, LinkType};
use crate::time::{SECOND, Timestamp};

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const OBSOLETE_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;

const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;
/// A block's type and length, before its body.
const HEAD_LEN: usize = 8;
/// A block without a body: its type and its length, twice.
const MIN_BLOCK_LEN: usize = 12;
const MIN_SECTION_LEN: usize = 28;
/// The longest block that is believed: libpcap's limit.
const MAX_BLOCK_LEN: usize = 16 << 20;
/// Interfaces remembered in a section: a small compressed file could describe any number.
const MAX_INTERFACES: usize = 1 << 20;

const OPTION_TSRESOL: u16 = 9;
const OPTION_TSOFFSET: u16 = 14;

/// The section that is being read: its byte order and interfaces.
pub(super) struct Pcapng {
    big_endian: bool,
    interfaces: Vec<Interface>,
}

struct Interface {
    link: LinkType,
    snaplen: u32,
    /// The longest captured length that is believed.
    longest: u32,
    resolution: Resolution,
    /// Nanoseconds to be added to every time.
    offset: i128,
}

/// How the stamps of an interface become nanoseconds: its unit is 10⁻ⁿ or 2⁻ⁿ seconds.
#[derive(Clone, Copy)]
enum Resolution {
    /// So many in a unit.
    Times(u64),
    /// So many units in one. Beyond 10³⁸ a stamp of 64 bits is less than a nanosecond.
    Per(u128),
    /// 2⁻ⁿ seconds.
    Binary(u32),
}

impl Resolution {
    const MICROSECONDS: Resolution = Resolution::Times(1000);

    /// 10⁻ⁿ seconds.
    fn decimal(digits: u32) -> Self {
        match digits {
            0..=9 => Resolution::Times(10_u64.pow(9 - digits)),
            _ => Resolution::Per(10_u128.checked_pow(digits - 9).unwrap_or(u128::MAX)),
        }
    }
}

impl Pcapng {
    /// Whether these four bytes start such a file.
    pub(super) fn has_magic(magic: &[u8]) -> bool {
        magic == SECTION_HEADER.to_be_bytes()
    }

    /// Reads the first section header; `None` if it is none.
    pub(super) fn open(input: &mut Input) -> Option<Self> {
        let mut section = Pcapng { big_endian: false, interfaces: Vec::new() };
        let len = loop {
            let window = input.window();
            let wanted = match section.next(window).ok()? {
                Next::Wanted(len, _) => len,
                Next::Other(rest) => break window.len() - rest.len(),
                Next::Frame(..) => return None,
            };
            if input.peek(wanted).len() < wanted {
                return None;
            }
        };
        input.consume(len);
        Some(section)
    }

    /// Reads the block at the beginning of `window`.
    #[inline(always)]
    pub(super) fn next<'w>(&mut self, window: &'w [u8]) -> Result<Next<'w>, Damage> {
        let Some(head) = window.first_chunk::<MIN_BLOCK_LEN>() else {
            return Ok(Next::Wanted(MIN_BLOCK_LEN, "a block"));
        };
        if head.starts_with(&SECTION_HEADER.to_be_bytes()) {
            // First of all, because only it tells how to read its own length.
            self.start_section(head)?;
        }
        let [kind, stated_len] = words(head, self.big_endian);
        let len = stated_len as usize;
        let fixed = match kind {
            ENHANCED_PACKET | OBSOLETE_PACKET => 20,
            SECTION_HEADER => MIN_SECTION_LEN - MIN_BLOCK_LEN,
            INTERFACE => 8,
            SIMPLE_PACKET => 4,
            _ => 0,
        };
        if len < MIN_BLOCK_LEN + fixed || !len.is_multiple_of(4) || len > MAX_BLOCK_LEN {
            return Err(Damage::BlockLen(stated_len));
        }
        let Some((block, rest)) = window.split_at_checked(len) else {
            return Ok(Next::Wanted(len, "a block"));
        };
        let Some((body, trailer)) = block[HEAD_LEN..].split_last_chunk::<4>() else {
            return Err(Damage::BlockLen(stated_len));
        };
        if words(trailer, self.big_endian) != [stated_len] {
            return Err(Damage::Block("a block's two lengths differ"));
        }
        Ok(match kind {
            ENHANCED_PACKET | OBSOLETE_PACKET => Next::Frame(self.stamped_packet(body, kind == ENHANCED_PACKET)?, rest),
            SIMPLE_PACKET => Next::Frame(self.simple_packet(body)?, rest),
            kind => {
                self.describe(kind, body)?;
                Next::Other(rest)
            }
        })
    }

    #[cold]
    fn start_section(&mut self, head: &[u8; MIN_BLOCK_LEN]) -> Result<(), Damage> {
        self.big_endian = match [head[8], head[9], head[10], head[11]] {
            magic if u32::from_be_bytes(magic) == BYTE_ORDER_MAGIC => true,
            magic if u32::from_le_bytes(magic) == BYTE_ORDER_MAGIC => false,
            _ => return Err(Damage::Block("a section header's byte-order magic is wrong")),
        };
        Ok(())
    }

    /// Takes in a block that is no packet.
    #[cold]
    fn describe(&mut self, kind: u32, body: &[u8]) -> Result<(), Damage> {
        match kind {
            SECTION_HEADER if self.half(body, 4) != 1 => {
                return Err(Damage::Block("a section header's version is not 1"));
            }
            SECTION_HEADER => self.interfaces.clear(),
            INTERFACE if self.interfaces.len() == MAX_INTERFACES => {
                return Err(Damage::Block("a section describes more interfaces than can be"));
            }
            INTERFACE => {
                let interface = self.interface(body)?;
                self.interfaces.push(interface);
            }
            _ => (),
        }
        Ok(())
    }

    fn interface(&self, body: &[u8]) -> Result<Interface, Damage> {
        let link = LinkType::from_file(u32::from(self.half(body, 0)));
        let mut interface = Interface {
            link,
            snaplen: self.word(body, 4),
            longest: max_captured_len(link),
            resolution: Resolution::MICROSECONDS,
            offset: 0,
        };
        let mut options = &body[8..];
        // An option that says it is longer than what is left lies, and so may all behind it.
        while let [_, _, _, _, rest @ ..] = options {
            let (code, len) = (self.half(options, 0), usize::from(self.half(options, 2)));
            let Some(value) = rest.get(..len) else { break };
            match (code, value) {
                (0, _) => break,
                (OPTION_TSRESOL, &[unit]) if unit & 0x80 == 0 => {
                    interface.resolution = Resolution::decimal(u32::from(unit))
                }
                (OPTION_TSRESOL, &[unit]) => interface.resolution = Resolution::Binary(u32::from(unit & 0x7f)),
                (OPTION_TSOFFSET, value) => {
                    if let Ok(value) = value.try_into() {
                        let (big, little) = (i64::from_be_bytes(value), i64::from_le_bytes(value));
                        interface.offset = i128::from(if self.big_endian { big } else { little }) * SECOND;
                    }
                }
                _ => (),
            }
            options = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        }
        Ok(interface)
    }

    /// Enhanced and obsolete packet blocks differ in where the interface stands; the rest is alike.
    #[inline(always)]
    fn stamped_packet<'b>(&self, body: &'b [u8], is_enhanced: bool) -> Result<Frame<'b>, Damage> {
        let Some((fixed, data)) = body.split_first_chunk::<20>() else {
            return Err(Damage::BlockLen((body.len() + MIN_BLOCK_LEN) as u32));
        };
        let [first, high, low, captured_len, original_len] = words(fixed, self.big_endian);
        let number = if is_enhanced { first } else { u32::from(self.half(fixed, 0)) };
        let interface = self.interfaces.get(number as usize).ok_or(Damage::Interface(number))?;
        let data = data.get(..captured_len as usize).filter(|_| captured_len <= interface.longest);
        let data = data.ok_or(Damage::CapturedLen(captured_len))?;
        let time = interface.time(u64::from(high) << 32 | u64::from(low));
        Ok(Frame { time, link: interface.link, original_len, data })
    }

    fn simple_packet<'b>(&self, body: &'b [u8]) -> Result<Frame<'b>, Damage> {
        let interface = self.interfaces.first().ok_or(Damage::Interface(0))?;
        let original_len = self.word(body, 0);
        let snaplen = if interface.snaplen == 0 { u32::MAX } else { interface.snaplen };
        let captured_len = (original_len.min(snaplen) as usize).min(body.len() - 4);
        if captured_len > interface.longest as usize {
            return Err(Damage::CapturedLen(captured_len as u32));
        }
        Ok(Frame { time: interface.time(0), link: interface.link, original_len, data: &body[4..4 + captured_len] })
    }

    fn word(&self, bytes: &[u8], at: usize) -> u32 {
        let word = [bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]];
        if self.big_endian { u32::from_be_bytes(word) } else { u32::from_le_bytes(word) }
    }

    fn half(&self, bytes: &[u8], at: usize) -> u16 {
        let half = [bytes[at], bytes[at + 1]];
        if self.big_endian { u16::from_be_bytes(half) } else { u16::from_le_bytes(half) }
    }
}

impl Interface {
    /// The time of a stamp, rounded down to the nanosecond.
    #[inline(always)]
    fn time(&self, stamp: u64) -> Timestamp {
        let nanos = match self.resolution {
            Resolution::Times(nanos) => u128::from(stamp) * u128::from(nanos),
            Resolution::Per(units) => u128::from(stamp) / units,
            Resolution::Binary(bits) => (u128::from(stamp) * SECOND as u128) >> bits,
        };
        Timestamp(nanos as i128 + self.offset)
    }
}
