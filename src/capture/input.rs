//! The bytes of a file, decompressed: a window that moves forward.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::GzDecoder;
use zstd::stream::raw::{Decoder, InBuffer, Operation, OutBuffer};

/// How much is read at a time.
const CHUNK: usize = 256 * 1024;

/// How much is asked of gzip at a time. Its decoder drops what it has unpacked in a call that ends in damage, so the
/// calls are kept small.
const GZIP_CHUNK: usize = 4 * 1024;

/// A moving window over a stream of bytes.
///
/// A fault of the stream (a read error, broken compression) is kept until the bytes before it have been consumed:
/// what came before damage stands.
pub(super) struct Input {
    reader: Box<dyn Read + Send>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Offset of `start` in the decompressed stream.
    offset: u64,
    ended: bool,
    fault: Option<io::Error>,
}

impl Input {
    /// Looks at the first bytes of `reader` and unpacks gzip (RFC 1952) or zstd (RFC 8878), one layer.
    pub(super) fn new(reader: impl Read + Send + 'static) -> io::Result<Self> {
        let mut reader = BufReader::with_capacity(CHUNK, reader);
        // A pipe may hand over the magic in pieces.
        let mut magic = Vec::new();
        reader.by_ref().take(4).read_to_end(&mut magic)?;
        let again = io::Cursor::new(magic.clone()).chain(reader);
        let reader: Box<dyn Read + Send> = match *magic {
            [0x1f, 0x8b, ..] => {
                Box::new(Gzip { decoder: Some(GzDecoder::new(BufReader::with_capacity(CHUNK, again))) })
            }
            // A zstd frame, or a skippable one before it.
            [0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18] => Box::new(Zstd::new(again)?),
            _ => Box::new(again),
        };
        Ok(Input { reader, buffer: vec![0; CHUNK], start: 0, end: 0, offset: 0, ended: false, fault: None })
    }

    /// Offset of the next byte in the decompressed stream.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// The next `len` bytes, or as many as there are before the end.
    pub(super) fn peek(&mut self, len: usize) -> &[u8] {
        if self.end - self.start < len {
            self.fill(len);
        }
        &self.buffer[self.start..self.end.min(self.start + len)]
    }

    /// The bytes that the last [`Input::peek`] looked at: `len` of them, `skip` further on.
    pub(super) fn peeked(&self, skip: usize, len: usize) -> &[u8] {
        &self.buffer[self.start + skip..self.start + skip + len]
    }

    /// Moves forward by at most what the last peek showed.
    pub(super) fn consume(&mut self, len: usize) {
        let len = len.min(self.end - self.start);
        self.start += len;
        self.offset += len as u64;
    }

    /// Why the stream ended, if not because it was over.
    pub(super) fn fault(&self) -> Option<&io::Error> {
        self.fault.as_ref()
    }

    /// Reads until `len` bytes are there or the stream ends. The buffer grows with what has really arrived, not with
    /// what a header claims.
    fn fill(&mut self, len: usize) {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        while self.end < len && !self.ended {
            if self.end == self.buffer.len() {
                self.buffer.resize(self.buffer.len() * 2, 0);
            }
            match self.reader.read(&mut self.buffer[self.end..]) {
                Ok(0) => self.ended = true,
                Ok(read) => self.end += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
                Err(error) => {
                    self.ended = true;
                    self.fault = Some(error);
                }
            }
        }
    }
}

/// Gzip members, one after another, and zeros that pad the last.
struct Gzip<R: BufRead> {
    decoder: Option<GzDecoder<R>>,
}

impl<R: BufRead> Read for Gzip<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let len = out.len().min(GZIP_CHUNK);
        while let Some(decoder) = &mut self.decoder {
            match decoder.read(&mut out[..len])? {
                0 => {
                    let rest = self.decoder.take().map(GzDecoder::into_inner);
                    self.decoder = match rest {
                        Some(mut rest) => skip_zeros(&mut rest)?.then(|| GzDecoder::new(rest)),
                        None => None,
                    };
                }
                read => return Ok(read),
            }
        }
        Ok(0)
    }
}

/// Passes zeros; says whether anything follows.
fn skip_zeros(reader: &mut impl BufRead) -> io::Result<bool> {
    loop {
        let bytes = reader.fill_buf()?;
        let zeros = bytes.iter().take_while(|&&byte| byte == 0).count();
        if zeros < bytes.len() || bytes.is_empty() {
            let more = !bytes.is_empty();
            reader.consume(zeros);
            return Ok(more);
        }
        reader.consume(zeros);
    }
}

/// Zstd frames, one after another.
///
/// The library's own reader hands a whole frame to a shortcut that yields nothing at all when the checksum behind the
/// frame is wrong. Here each frame starts with no room for output, which that shortcut declines.
struct Zstd<R: Read> {
    reader: BufReader<R>,
    decoder: Decoder<'static>,
    at_frame_start: bool,
}

impl<R: Read> Zstd<R> {
    fn new(reader: R) -> io::Result<Self> {
        Ok(Zstd { reader: BufReader::with_capacity(CHUNK, reader), decoder: Decoder::new()?, at_frame_start: true })
    }
}

impl<R: Read> Read for Zstd<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            let bytes = self.reader.fill_buf()?;
            let over = bytes.is_empty();
            if over && self.at_frame_start {
                return Ok(0);
            }
            let mut input = InBuffer::around(bytes);
            let room = if self.at_frame_start { 0 } else { out.len() };
            let mut output = OutBuffer::around(&mut out[..room]);
            let hint = self.decoder.run(&mut input, &mut output)?;
            let (read, used) = (output.pos(), input.pos());
            self.reader.consume(used);
            if hint == 0 {
                self.decoder.reinit()?;
            }
            // A frame of no content ends where it starts.
            self.at_frame_start = hint == 0;
            if read > 0 {
                return Ok(read);
            }
            if over && hint != 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the zstd frame ends early"));
            }
        }
    }
}
