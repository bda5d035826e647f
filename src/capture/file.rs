//! One capture file, whatever its format.

use std::fmt;
use std::io::{self, Read};

use super::classic::Classic;
use super::input::Input;
use super::pcapng::Pcapng;
use super::record::{Damage, Record};
use crate::frame::Frame;

/// A capture file (or stream): pcap or pcapng, plain, gzip or zstd, recognised by content.
///
/// Frames are not copied: [`CaptureFile::advance`] moves to the next, [`CaptureFile::frame`] shows it.
pub struct CaptureFile {
    input: Input,
    format: Format,
    record: Option<Record>,
}

enum Format {
    Classic(Classic),
    Pcapng(Pcapng),
}

/// Why a file gives no (more) frames.
#[derive(Debug)]
pub enum Error {
    /// It cannot be read at all.
    Io(io::Error),
    /// Its first bytes are no capture's.
    NotACapture,
    /// It is damaged from here on; the frames before stand.
    Damaged {
        /// Where the damaged record begins, in decompressed bytes.
        offset: u64,
        /// What is wrong.
        what: String,
    },
}

impl CaptureFile {
    /// Reads the file header, or the first section header.
    pub fn new(reader: impl Read + Send + 'static) -> Result<Self, Error> {
        let mut input = Input::new(reader).map_err(Error::Io)?;
        let magic = input.peek(4);
        let format = if Classic::has_magic(magic) {
            Classic::open(&mut input).map(Format::Classic)
        } else if Pcapng::has_magic(magic) {
            Pcapng::open(&mut input).map(Format::Pcapng)
        } else {
            None
        };
        Ok(CaptureFile { input, format: format.ok_or(Error::NotACapture)?, record: None })
    }

    /// Moves to the next frame; `false` at the end. After an error there are no more.
    pub fn advance(&mut self) -> Result<bool, Error> {
        if let Some(record) = self.record.take() {
            self.input.consume(record.len);
        }
        let next = match &mut self.format {
            Format::Classic(classic) => classic.next(&mut self.input),
            Format::Pcapng(pcapng) => pcapng.next(&mut self.input),
        };
        let what = match (next, self.input.fault()) {
            (Ok(Some(record)), _) => {
                self.record = Some(record);
                return Ok(true);
            }
            (Ok(None), None) => return Ok(false),
            (Ok(None) | Err(Damage::Ends(_)), Some(fault)) => fault.to_string(),
            (Err(damage), _) => damage.to_string(),
        };
        Err(Error::Damaged { offset: self.input.offset(), what })
    }

    /// The frame that [`CaptureFile::advance`] moved to.
    pub fn frame(&self) -> Option<Frame<'_>> {
        let Record { time, link, original_len, skip, captured_len, .. } = self.record?;
        Some(Frame { time, link, original_len, data: self.input.peeked(skip, captured_len) })
    }
}

impl Error {
    /// Whether there were frames before it, or at least a header.
    pub fn is_damage(&self) -> bool {
        matches!(self, Error::Damaged { .. })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Io(error) => error.fmt(f),
            Error::NotACapture => f.write_str("not a capture: neither pcap nor pcapng, plain, gzip or zstd"),
            Error::Damaged { offset, what } => {
                write!(f, "damaged at byte {offset}: {what}; what came before is counted")
            }
        }
    }
}

impl std::error::Error for Error {}
