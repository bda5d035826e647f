//! Sends the frames of a capture of `benches/workload` into a device, over and over, at a steady rate:
//! `cargo run --release --example send -- DEVICE FILE PACKETS_PER_SECOND SECONDS`. Prints how many it has sent, and in
//! how many seconds.

use std::fs::File;
use std::io::{self, BufReader, ErrorKind, IoSlice, Read, Seek, SeekFrom};
use std::thread;
use std::time::{Duration, Instant};

use pcap::{Active, Capture};
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, sendmmsg};

/// Frames in one call.
const BATCH: u64 = 64;
/// Pauses are no shorter, so that they cost little; what is due meanwhile goes at once.
const PAUSE: Duration = Duration::from_micros(200);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [device, path, rate, seconds] = &*arguments else {
        return Err("give a device, a file, a rate and seconds".into());
    };
    let (rate, seconds): (f64, f64) = (rate.parse()?, seconds.parse()?);
    // It sees nothing of what it sends itself.
    let sender = Capture::from_device(device.as_str())?.buffer_size(1 << 20).snaplen(64).open()?;
    let mut file = BufReader::with_capacity(1 << 20, File::open(path)?);
    file.seek(SeekFrom::Start(24))?;

    let (whole, start, mut sent) = ((rate * seconds) as u64, Instant::now(), 0);
    let mut frames = vec![Vec::new(); BATCH as usize];
    while sent < whole {
        let due = ((start.elapsed().as_secs_f64() * rate) as u64).min(whole);
        while sent < due {
            let batch = &mut frames[..(due - sent).min(BATCH) as usize];
            batch.iter_mut().try_for_each(|frame| read(&mut file, frame))?;
            send(&sender, batch)?;
            sent += batch.len() as u64;
        }
        thread::sleep(PAUSE);
    }
    println!("{sent} {}", start.elapsed().as_secs_f64());
    Ok(())
}

/// Sends frames with as few calls as it takes.
fn send(sender: &Capture<Active>, frames: &[Vec<u8>]) -> io::Result<()> {
    let slices: Vec<_> = frames.iter().map(|frame| [IoSlice::new(frame)]).collect();
    let mut controls: Vec<_> = frames.iter().map(|_| SendAncillaryBuffer::default()).collect();
    let mut messages: Vec<_> =
        slices.iter().zip(&mut controls).map(|(slice, control)| MMsgHdr::new(slice, control)).collect();
    let mut rest = &mut messages[..];
    while !rest.is_empty() {
        let sent = sendmmsg(sender, rest, SendFlags::empty())?;
        rest = &mut rest[sent..];
    }
    Ok(())
}

/// Reads the next frame; after the last one, the first.
fn read(file: &mut (impl Read + Seek), frame: &mut Vec<u8>) -> io::Result<()> {
    let mut head = [0; 16];
    match file.read_exact(&mut head) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
            file.seek(SeekFrom::Start(24))?;
            file.read_exact(&mut head)?;
        }
        read => read?,
    }
    frame.resize(u32::from_le_bytes([head[8], head[9], head[10], head[11]]) as usize, 0);
    file.read_exact(frame)
}
