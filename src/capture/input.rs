//! The bytes of a file, decompressed: a window that moves forward.

use std::io::{self, BufRead, BufReader, Read};

use flate2::{Decompress, FlushDecompress, Status};
use zstd::stream::raw::{Decoder, InBuffer, Operation, OutBuffer};

use super::ahead::{Ahead, Chunk, HEADROOM};

/// How much is read at a time.
const CHUNK: usize = 256 * 1024;

/// A moving window over a stream of bytes.
///
/// A fault of the stream (a read error, broken compression) is kept until the bytes before it have been consumed:
/// what came before damage stands.
pub(super) struct Input {
    reader: Reader,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Offset of `start` in the decompressed stream.
    offset: u64,
    fault: Option<io::Error>,
    /// Whether a thread of its own may read on.
    pub(super) goes_ahead: bool,
}

enum Reader {
    /// As long as there is little to read.
    Here(Box<dyn Read + Send>),
    Ahead(Ahead),
    Ended,
}

impl Input {
    /// Looks at the first bytes of `reader` and unpacks gzip (RFC 1952) or zstd (RFC 8878), one layer.
    pub(super) fn new(mut reader: impl Read + Send + 'static) -> io::Result<Self> {
        // A pipe may hand over the magic in pieces.
        let mut magic = Vec::new();
        reader.by_ref().take(4).read_to_end(&mut magic)?;
        let again = io::Cursor::new(magic.clone()).chain(reader);
        let reader: Box<dyn Read + Send> = match *magic {
            [0x1f, 0x8b, ..] => Box::new(Gzip::new(again)),
            // A zstd frame, or a skippable one before it.
            [0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18] => Box::new(Zstd::new(again)?),
            _ => Box::new(again),
        };
        let reader = Reader::Here(reader);
        Ok(Input { reader, buffer: vec![0; CHUNK], start: 0, end: 0, offset: 0, fault: None, goes_ahead: false })
    }

    /// Offset of the next byte in the decompressed stream.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// All bytes that are there now.
    pub(super) fn window(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// The next `len` bytes, or as many as there are before the end.
    pub(super) fn peek(&mut self, len: usize) -> &[u8] {
        if self.end - self.start < len {
            self.fill(len);
        }
        &self.buffer[self.start..self.end.min(self.start + len)]
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
        if self.goes_ahead && self.offset >= CHUNK as u64 {
            self.read_ahead();
        }
        while self.end - self.start < len {
            let read = match &mut self.reader {
                Reader::Ended => return,
                Reader::Ahead(ahead) => ahead.next().map(|chunk| self.append(chunk)),
                Reader::Here(reader) => {
                    self.buffer.copy_within(self.start..self.end, 0);
                    (self.start, self.end) = (0, self.end - self.start);
                    if self.end == self.buffer.len() {
                        self.buffer.resize(len.min(self.buffer.len() * 2), 0);
                    }
                    reader.read(&mut self.buffer[self.end..]).inspect(|read| self.end += read)
                }
            };
            match read {
                Ok(0) => self.reader = Reader::Ended,
                Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                    self.reader = Reader::Ended;
                    self.fault = Some(error);
                }
                _ => (),
            }
        }
    }

    /// Where there was more than a chunk there may be much more, which is worth a thread.
    fn read_ahead(&mut self) {
        self.reader = match std::mem::replace(&mut self.reader, Reader::Ended) {
            Reader::Here(reader) => Ahead::start(reader).map_or_else(Reader::Here, Reader::Ahead),
            other => other,
        };
    }

    /// Puts a chunk behind what is left: says how much came.
    fn append(&mut self, (mut chunk, len): Chunk) -> usize {
        let left = &self.buffer[self.start..self.end];
        let done_with = match HEADROOM.checked_sub(left.len()) {
            Some(start) => {
                chunk[start..HEADROOM].copy_from_slice(left);
                (self.start, self.end) = (start, HEADROOM + len);
                std::mem::replace(&mut self.buffer, chunk)
            }
            None => {
                self.buffer.truncate(self.end);
                self.buffer.drain(..self.start);
                self.buffer.extend_from_slice(&chunk[HEADROOM..HEADROOM + len]);
                (self.start, self.end) = (0, self.buffer.len());
                chunk
            }
        };
        if let Reader::Ahead(ahead) = &self.reader {
            ahead.give_back(done_with);
        }
        len
    }
}

/// Gzip members, one after another, and zeros that pad the last.
///
/// flate2's own reader drops what it has unpacked in a call that ends in damage.
struct Gzip<R> {
    reader: BufReader<R>,
    decoder: Decompress,
    in_member: bool,
    fault: Option<io::Error>,
}

/// The largest window of deflate, as a power of 2.
const WINDOW_BITS: u8 = 15;

impl<R: Read> Gzip<R> {
    fn new(reader: R) -> Self {
        let reader = BufReader::with_capacity(CHUNK, reader);
        Gzip { reader, decoder: Decompress::new_gzip(WINDOW_BITS), in_member: true, fault: None }
    }
}

impl<R: Read> Read for Gzip<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(fault) = self.fault.take() {
                return Err(fault);
            }
            let bytes = self.reader.fill_buf()?;
            if !self.in_member {
                let zeros = bytes.iter().take_while(|&&byte| byte == 0).count();
                match bytes {
                    [] => return Ok(0),
                    bytes if zeros == bytes.len() => self.reader.consume(zeros),
                    _ => {
                        self.reader.consume(zeros);
                        self.decoder = Decompress::new_gzip(WINDOW_BITS);
                        self.in_member = true;
                    }
                }
                continue;
            }
            let over = bytes.is_empty();
            let (consumed, unpacked) = (self.decoder.total_in(), self.decoder.total_out());
            let status = self.decoder.decompress(bytes, out, FlushDecompress::None);
            let read = (self.decoder.total_out() - unpacked) as usize;
            self.reader.consume((self.decoder.total_in() - consumed) as usize);
            match status {
                Ok(Status::StreamEnd) => self.in_member = false,
                Ok(_) if over && read == 0 => self.fault = Some(ends_early("gzip member")),
                Ok(_) => (),
                Err(error) => self.fault = Some(io::Error::other(format!("broken gzip: {error}"))),
            }
            if read > 0 {
                return Ok(read);
            }
        }
    }
}

/// Zstd frames, one after another.
///
/// The library's own reader hands a small frame to a shortcut that yields nothing at all when the checksum behind it is
/// wrong, and a call that ends in damage yields nothing. Here the decoder is fed a block at a time, and gives each before
/// it sees anything of the next.
struct Zstd<R> {
    reader: BufReader<R>,
    decoder: Decoder<'static>,
    /// How many bytes it asks for, mostly with the header of the block that comes after; 0 between frames.
    wants: usize,
}

/// What a frame's header needs at least.
const FRAME_START: usize = 5;
const BLOCK_HEADER: usize = 3;

impl<R: Read> Zstd<R> {
    fn new(reader: R) -> io::Result<Self> {
        Ok(Zstd { reader: BufReader::with_capacity(CHUNK, reader), decoder: Decoder::new()?, wants: 0 })
    }
}

impl<R: Read> Read for Zstd<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            let bytes = self.reader.fill_buf()?;
            let over = bytes.is_empty();
            if over && self.wants == 0 {
                return Ok(0);
            }
            if self.wants == 0 {
                self.decoder.reinit()?;
                self.wants = FRAME_START + BLOCK_HEADER;
            }
            let step = if self.wants > BLOCK_HEADER { self.wants - BLOCK_HEADER } else { self.wants };
            let mut input = InBuffer::around(&bytes[..bytes.len().min(step)]);
            let mut output = OutBuffer::around(&mut *out);
            self.wants = self
                .decoder
                .run(&mut input, &mut output)
                .map_err(|error| io::Error::other(format!("broken zstd: {error}")))?;
            let read = output.pos();
            let used = input.pos();
            self.reader.consume(used);
            if read > 0 {
                return Ok(read);
            }
            if over && self.wants > 0 {
                return Err(ends_early("zstd frame"));
            }
        }
    }
}

fn ends_early(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, format!("the file ends inside a {what}"))
}
