//! Frames from a device, through libpcap.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pcap::{Active, Capture, Device, Error};

use crate::frame::{Frame, LinkType, Statistics};
use crate::packet::Mac;
use crate::time::Timestamp;

/// How long the kernel may gather frames before it hands over a batch, in milliseconds.
const BATCH_MILLIS: i32 = 50;

/// Frames taken in one go before the caller gets a word in.
pub const BATCH_FRAMES: usize = 4096;

/// The one instruction of a socket filter that lets nothing pass: return 0 bytes.
#[cfg(target_os = "linux")]
const RETURN_NOTHING: socket2::SockFilter = socket2::SockFilter::new(6, 0, 0, 0);

/// What begins the names of ZeroTier's devices: Linux and FreeBSD, Windows, macOS.
#[cfg(not(target_os = "macos"))]
const PREFIXES: [&str; 2] = ["zt", "ZeroTier"];
#[cfg(target_os = "macos")]
const PREFIXES: [&str; 3] = ["zt", "ZeroTier", "feth"];

/// A device of this machine.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Its name.
    pub name: String,
    /// Its addresses.
    pub addresses: Vec<std::net::IpAddr>,
}

/// The ZeroTier devices that are there now.
pub fn zerotier_devices() -> Vec<Candidate> {
    let is_zerotier = |name: &str| PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    let all = Device::list().unwrap_or_default();
    all.into_iter().filter(|device| is_zerotier(&device.name)).map(Candidate::from).collect()
}

/// The device of this name, if it is there now.
pub fn device(name: &str) -> Option<Candidate> {
    Device::list().unwrap_or_default().into_iter().find(|device| device.name == name).map(Candidate::from)
}

impl From<Device> for Candidate {
    fn from(device: Device) -> Self {
        let addresses = device.addresses.iter().map(|address| address.addr).collect();
        Candidate { name: device.name, addresses }
    }
}

/// The device's own MAC, where the system tells it (Linux).
pub fn device_mac(name: &str) -> Option<Mac> {
    let text = std::fs::read_to_string(Path::new("/sys/class/net").join(name).join("address")).ok()?;
    text.trim().parse().ok().filter(|mac: &Mac| mac.bits() != 0)
}

/// The number that the system gave the device (Linux). A device that went away and came back has another, and a capture
/// on the old one stays silent without an error.
fn index(name: &str) -> io::Result<u32> {
    let text = std::fs::read_to_string(Path::new("/sys/class/net").join(name).join("ifindex"))?;
    text.trim().parse().map_err(io::Error::other)
}

/// Whether a device is up; also where the system does not say (other than Linux).
fn is_up(name: &str) -> bool {
    const IFF_UP: u32 = 1;
    let text = std::fs::read_to_string(Path::new("/sys/class/net").join(name).join("flags")).unwrap_or_default();
    let flags = text.trim().strip_prefix("0x").and_then(|hex| u32::from_str_radix(hex, 16).ok());
    flags.is_none_or(|flags| flags & IFF_UP != 0)
}

/// The devices that are being captured, by their numbers. A device that is renamed keeps its number: its frames must not
/// be counted under both names while the capture under the old one comes to its end.
static CAPTURED: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

fn captured() -> MutexGuard<'static, BTreeSet<u32>> {
    CAPTURED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A device that nobody else captures; it is free again when this is dropped.
struct Claim(u32);

impl Claim {
    fn new(index: u32) -> Result<Self, Error> {
        match captured().insert(index) {
            true => Ok(Claim(index)),
            false => Err(Error::PcapError("it is captured under another name".to_owned())),
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        captured().remove(&self.0);
    }
}

/// An open capture.
pub struct Live {
    capture: Capture<Active>,
    /// Bytes that the kernel buffers.
    buffer: i32,
    device: String,
    /// None where the system does not tell the number (other than Linux).
    claim: Option<Claim>,
    link: LinkType,
    /// libpcap counts in 32 bits; these are the differences, summed up.
    statistics: Statistics,
    last: (u32, u32),
}

impl Live {
    /// Starts to capture on a device, `snaplen` bytes of each frame; the kernel buffers `buffer` bytes, so that a busy
    /// moment loses nothing. Needs CAP_NET_RAW on Linux. Not promiscuous: ZeroTier hands the observer's device what is
    /// meant for it, copies included.
    pub fn open(device: &str, snaplen: i32, buffer: i32) -> Result<Self, Error> {
        let claim = index(device).ok().map(Claim::new).transpose()?;
        let capture = Capture::from_device(device)?
            .snaplen(snaplen)
            .promisc(false)
            .buffer_size(buffer)
            .timeout(BATCH_MILLIS)
            .open()?
            .setnonblock()?;
        let link = LinkType(u32::try_from(capture.get_datalink().0).unwrap_or(u32::MAX));
        let statistics = Statistics::default();
        Ok(Live { capture, buffer, device: device.to_owned(), claim, link, statistics, last: (0, 0) })
    }

    /// The link type of its frames.
    pub fn link(&self) -> LinkType {
        self.link
    }

    /// Readable when there are frames.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.capture.as_fd()
    }

    /// How long the buffer takes to be half full, if 2.5 Gbit come in a second: over a million frames that a rule cut.
    pub fn half_full_after(&self) -> Duration {
        Duration::from_nanos(u64::from(self.buffer.unsigned_abs()) * 8 / 5)
    }

    /// Gives `each` the frames that wait, a bounded number of them; says how many there were.
    ///
    /// After an error there may be frames left: [`Live::finish`] gives them.
    pub fn read(&mut self, mut each: impl FnMut(&Frame<'_>)) -> Result<usize, Error> {
        let link = self.link;
        self.capture.dispatch(Some(BATCH_FRAMES), |packet| {
            let header = packet.header;
            // The field has 32 bits on some platforms.
            #[allow(clippy::useless_conversion)]
            let seconds = i64::from(header.ts.tv_sec);
            let micros = u64::try_from(header.ts.tv_usec).unwrap_or(0);
            each(&Frame {
                time: Timestamp::new(seconds, micros * 1000),
                link,
                original_len: header.len,
                data: packet.data,
            });
        })
    }

    /// Takes in nothing more, and gives `each` what has arrived until now.
    pub fn finish(&mut self, each: impl FnMut(&Frame<'_>)) {
        // Frames that go on arriving would be received and never read. Where this fails, few are.
        #[cfg(target_os = "linux")]
        socket2::SockRef::from(&self.capture).attach_filter(&[RETURN_NOTHING]).ok();
        // The kernel still gathers the last batch; it does so for a device that is gone, too.
        std::thread::sleep(Duration::from_millis(2 * BATCH_MILLIS as u64));
        self.drain(each);
    }

    /// Gives `each` what is still queued, past the errors that a vanished device brings in between. Where frames come
    /// faster than they are taken in, it ends all the same.
    fn drain(&mut self, mut each: impl FnMut(&Frame<'_>)) {
        let (mut errors, mut batches) = (0, 0);
        while errors < 3 && batches < self.buffer as usize / BATCH_FRAMES / 64 {
            batches += 1;
            match self.read(&mut each) {
                Ok(0) => return,
                Ok(_) => (),
                Err(_) => errors += 1,
            }
        }
    }

    /// Why no frames can come, though there was no error: the device was replaced, or it is down, which libpcap sits out.
    pub fn lost(&self) -> Option<&'static str> {
        let captured = self.claim.as_ref().map(|claim| claim.0);
        match index(&self.device) {
            Ok(now) if captured != Some(now) => Some("the device was replaced"),
            Err(error) if error.kind() == io::ErrorKind::NotFound && captured.is_some() => Some("the device is gone"),
            // Not to be told for want of descriptors, say, is no news of the device.
            _ => (!is_up(&self.device)).then_some("the device is down"),
        }
    }

    /// Packets received and dropped since the capture was opened.
    pub fn statistics(&mut self) -> Statistics {
        if let Ok(now) = self.capture.stats() {
            let since = |now: u32, last: u32| u64::from(now.wrapping_sub(last));
            self.statistics.received += since(now.received, self.last.0);
            self.statistics.dropped += since(now.dropped, self.last.1);
            self.last = (now.received, now.dropped);
        }
        self.statistics
    }
}

/// An error that says what to do, if this process may not capture at all. Otherwise a thread that has time is to drop
/// what comes back: to close such a socket takes Linux some ten milliseconds.
pub fn check_permission() -> anyhow::Result<impl Send> {
    // Of no protocol: it receives nothing.
    #[cfg(target_os = "linux")]
    let tried = socket2::Socket::new(socket2::Domain::PACKET, socket2::Type::RAW, None);
    #[cfg(not(target_os = "linux"))]
    let tried = Live::open("lo", 64, 1 << 20).map(|_| ());
    match tried {
        Err(error) if error.to_string().to_lowercase().contains("permi") => anyhow::bail!(
            "not allowed to capture ({error}): run as root or with CAP_NET_RAW (systemd: AmbientCapabilities=CAP_NET_RAW)"
        ),
        tried => Ok(tried.ok()),
    }
}
