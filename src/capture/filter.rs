//! Capture filters in libpcap's language (pcap-filter(7)).

use std::collections::HashMap;
use std::io::Write;
use std::os::fd::IntoRawFd;

use anyhow::bail;
use pcap::{BpfInstruction, BpfProgram, Capture, Linktype, Offline};

use crate::frame::{Frame, LinkType};

/// A capture filter, compiled once per link type that it meets.
pub struct Filter {
    expression: String,
    /// What libpcap made of it, also where it refused.
    programs: HashMap<Kind, Result<BpfProgram, String>>,
}

/// What a program is compiled for: the link type, and for BSD loopback the byte order of the machine that captured,
/// which its frames show.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Kind {
    link: LinkType,
    big_endian: bool,
}

// libpcap's own interpreter, linked through the pcap crate, which runs it with the captured length in place of the
// frame's: `greater 200` would never match a cut frame.
#[allow(unsafe_code)]
unsafe extern "C" {
    fn bpf_filter(program: *const BpfInstruction, data: *const u8, original_len: u32, captured_len: u32) -> u32;
}

impl Filter {
    /// A filter; it is compiled when its first frame comes.
    pub fn new(expression: String) -> Self {
        Filter { expression, programs: HashMap::new() }
    }

    /// Whether the filter lets a frame through; an error if it cannot be compiled for the frame's link type.
    #[inline]
    pub fn accepts(&mut self, frame: &Frame<'_>) -> anyhow::Result<bool> {
        // Part by part: handed over as a whole, every frame would have to stand in memory, filter or not.
        self.accepts_parts(frame.link, frame.original_len, frame.data)
    }

    fn accepts_parts(&mut self, link: LinkType, original_len: u32, data: &[u8]) -> anyhow::Result<bool> {
        // A family is a small number: the byte that is not 0 tells the order.
        let big_endian = link == LinkType::NULL && matches!(data, [0, _, _, family, ..] if *family != 0);
        let kind = Kind { link, big_endian };
        let compiled = self.programs.entry(kind).or_insert_with(|| compile(&self.expression, kind));
        match compiled {
            Ok(program) => Ok(matches(program, original_len, data)),
            Err(reason) => bail!("{reason}"),
        }
    }
}

/// Compiles as for a file of that kind: for a device libpcap would ask for what only the kernel knows of a frame, and
/// would know IPv6 on BSD loopback by this system's number alone.
fn compile(expression: &str, kind: Kind) -> Result<BpfProgram, String> {
    let compiled = file_of(kind).and_then(|capture| Ok(capture.compile(expression, true)?));
    compiled.map_err(|error| {
        let name = Linktype(kind.link.0 as i32).get_name().unwrap_or_else(|_| format!("type {}", kind.link.0));
        format!("--filter '{expression}' cannot be used on frames of link type {name}: {error}")
    })
}

/// A capture file without frames, as libpcap reads it.
fn file_of(Kind { link, big_endian }: Kind) -> anyhow::Result<Capture<Offline>> {
    // Files have several numbers for raw IP, libpcap has one.
    let LinkType(link) = match link {
        LinkType::RAW_12 | LinkType::RAW_14 => LinkType::RAW,
        other => other,
    };
    let order = |word: u32| if big_endian { word.to_be_bytes() } else { word.to_le_bytes() };
    let versions = if big_endian { 2 << 16 | 4 } else { 4 << 16 | 2 };
    let header = [0xa1b2_c3d4, versions, 0, 0, 262_144, link].map(order).concat();
    let (reader, mut writer) = std::io::pipe()?;
    // It fits into any pipe.
    writer.write_all(&header)?;
    drop(writer);
    // SAFETY: the descriptor is given away here, and nobody else has it.
    #[allow(unsafe_code)]
    let capture = unsafe { Capture::from_raw_fd(reader.into_raw_fd()) };
    Ok(capture?)
}

fn matches(program: &BpfProgram, original_len: u32, data: &[u8]) -> bool {
    let instructions = program.get_instructions();
    // An empty program is one that accepts everything.
    if instructions.is_empty() {
        return true;
    }
    // SAFETY: the program comes from pcap_compile for a file, which ends every one in a return, only jumps forward
    // within it and asks for nothing beyond the frame; it lives as long as the call. The data pointer is good for the
    // captured length, and bpf_filter reads nothing further.
    #[allow(unsafe_code)]
    let accepted = unsafe { bpf_filter(instructions.as_ptr(), data.as_ptr(), original_len, data.len() as u32) };
    accepted > 0
}
