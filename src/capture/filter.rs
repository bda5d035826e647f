//! Capture filters in libpcap's language (pcap-filter(7)).

use std::collections::HashMap;

use anyhow::Context;
use pcap::{BpfInstruction, BpfProgram, Capture, Linktype};

use crate::frame::{Frame, LinkType};

/// A capture filter, compiled once per link type that it meets.
pub struct Filter {
    expression: String,
    programs: HashMap<LinkType, BpfProgram>,
}

// libpcap's own interpreter. The pcap crate runs it with the captured length in place of the frame's, so that
// `greater 200` would never match a cut frame.
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
    pub fn accepts(&mut self, frame: &Frame<'_>) -> anyhow::Result<bool> {
        if !self.programs.contains_key(&frame.link) {
            self.programs.insert(frame.link, compile(&self.expression, frame.link)?);
        }
        Ok(self.programs.get(&frame.link).is_some_and(|program| matches(program, frame)))
    }
}

fn compile(expression: &str, link: LinkType) -> anyhow::Result<BpfProgram> {
    // libpcap knows raw IP under its own platform's number, files have several.
    let dlt = match link {
        LinkType::RAW | LinkType::RAW_12 | LinkType::RAW_14 => Linktype::from_name("RAW")?,
        LinkType(number) => Linktype(i32::try_from(number)?),
    };
    let compiled = Capture::dead(dlt).and_then(|capture| capture.compile(expression, true));
    compiled.with_context(|| {
        let name = dlt.get_name().unwrap_or_else(|_| format!("type {}", link.0));
        format!("--filter '{expression}' cannot be used on frames of link type {name}")
    })
}

fn matches(program: &BpfProgram, frame: &Frame<'_>) -> bool {
    let instructions = program.get_instructions();
    // An empty program is one that accepts everything.
    if instructions.is_empty() {
        return true;
    }
    // SAFETY: the program comes from pcap_compile, which ends every one in a return and only jumps forward within it;
    // the data pointer is good for the captured length, and bpf_filter reads nothing beyond that.
    #[allow(unsafe_code)]
    let accepted =
        unsafe { bpf_filter(instructions.as_ptr(), frame.data.as_ptr(), frame.original_len, frame.data.len() as u32) };
    accepted > 0
}
