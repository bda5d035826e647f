//! One capture file, whatever its format.

use std::fmt;
use std::io::{self, Read};
use std::ops::ControlFlow;

use super::classic::Classic;
use super::input::Input;
use super::pcapng::Pcapng;
use super::record::{Damage, Next};
use crate::frame::Frame;

/// A capture file (or stream): pcap or pcapng, plain, gzip or zstd, recognised by content.
///
/// Frames are not copied: they are shown in the window that was read.
pub struct CaptureFile {
    input: Input,
    format: Format,
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
        Ok(CaptureFile { input, format: format.ok_or(Error::NotACapture)? })
    }

    /// From here on a thread of its own may read what is long. Not before the caller has given up its rights: a thread
    /// keeps those that it began with.
    pub fn go_ahead(&mut self) {
        self.input.goes_ahead = true;
    }

    /// Gives `each` the frames, one after another, until it breaks off, with why, or the file ends. The frame at which
    /// it breaks off is the first of the next call. After an error there are no more.
    ///
    /// # Errors
    /// If the file is damaged.
    #[inline]
    pub fn read<B>(&mut self, mut each: impl FnMut(&Frame<'_>) -> ControlFlow<B>) -> Result<Option<B>, Error> {
        loop {
            let window = self.input.window();
            let mut rest = window;
            let halt = loop {
                // One place for both formats, so that what is done with a frame is compiled into the loop.
                let next = match &mut self.format {
                    Format::Classic(classic) => classic.next(rest),
                    Format::Pcapng(pcapng) => pcapng.next(rest),
                };
                rest = match next {
                    Ok(Next::Frame(frame, behind)) => match each(&frame) {
                        ControlFlow::Continue(()) => behind,
                        ControlFlow::Break(why) => break Halt::BrokenOff(why),
                    },
                    Ok(Next::Other(behind)) => behind,
                    Ok(Next::Wanted(len, inside)) => break Halt::Wanted(len, inside),
                    Err(damage) => break Halt::Damage(damage),
                };
            };
            let read = window.len() - rest.len();
            self.input.consume(read);
            let damage = match halt {
                Halt::BrokenOff(why) => return Ok(Some(why)),
                Halt::Damage(damage) => damage.to_string(),
                Halt::Wanted(len, inside) => {
                    let there = self.input.peek(len).len();
                    match self.input.fault() {
                        _ if there == len => continue,
                        None if there == 0 => return Ok(None),
                        None => Damage::Ends(inside).to_string(),
                        Some(fault) => fault.to_string(),
                    }
                }
            };
            return Err(Error::Damaged { offset: self.input.offset(), what: damage });
        }
    }
}

/// Why the walk through a window ended.
enum Halt<B> {
    BrokenOff(B),
    Wanted(usize, &'static str),
    Damage(Damage),
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
