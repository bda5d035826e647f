//! Network namespaces of their own, with veth pairs in place of ZeroTier's devices.

use std::fs::File;
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::{Ended, run, skip};

/// A network namespace, gone when dropped, with all its devices.
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// An empty one without IPv6, so that nobody says anything unasked; none without the privileges it takes.
    pub fn new() -> Option<Namespace> {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        if !rustix::process::geteuid().is_root() {
            skip("network namespaces take root");
            return None;
        }
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("ztmon-{}-{number}", std::process::id());
        let added = Command::new("ip").args(["netns", "add", &name]).output();
        match added {
            Ok(output) if output.status.success() => (),
            Ok(output) => {
                skip(&format!("ip netns add: {}", String::from_utf8_lossy(&output.stderr).trim()));
                return None;
            }
            Err(error) => {
                skip(&format!("ip (iproute2): {error}"));
                return None;
            }
        }
        let namespace = Namespace { name };
        // /proc/sys/net is that of whoever looks.
        namespace.run(|| {
            for which in ["all", "default", "lo"] {
                // A system without IPv6 has nothing to switch off.
                std::fs::write(format!("/proc/sys/net/ipv6/conf/{which}/disable_ipv6"), "1").ok();
            }
        });
        namespace.ip(&["link", "set", "lo", "up"]);
        Some(namespace)
    }

    /// A program in the namespace, where /sys shows its devices, too.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.env_remove("ZTMON_DB").args(["netns", "exec", &self.name, program]);
        command
    }

    /// `ip` in the namespace.
    pub fn ip(&self, args: &[&str]) {
        let ended = self.try_ip(args);
        assert_eq!(ended.code, Some(0), "ip {args:?}: {ended:?}");
    }

    /// The same, where it may fail.
    pub fn try_ip(&self, args: &[&str]) -> Ended {
        run(Command::new("ip").args(["-n", &self.name]).args(args))
    }

    /// Gives a device IPv6 addresses again.
    pub fn allow_ipv6(&self, device: &str) {
        let path = format!("/proc/sys/net/ipv6/conf/{device}/disable_ipv6");
        self.run(|| std::fs::write(path, "0").unwrap());
    }

    /// Adds a device, up and with ZeroTier's MTU. What is sent into `wire` arrives there.
    pub fn add_device(&self, device: &str, wire: &str, mac: Option<&str>) {
        let mac = mac.map_or(vec![], |mac| vec!["address", mac]);
        let peer = ["type", "veth", "peer", "name", wire, "mtu", "2800"];
        self.ip(&[&["link", "add", device, "mtu", "2800"], &mac[..], &peer].concat());
        self.ip(&["link", "set", wire, "up"]);
        self.ip(&["link", "set", device, "up"]);
    }

    /// Frames that a device had no room for.
    pub fn dropped(&self, device: &str) -> u64 {
        let ended = run(self.command("cat").arg(format!("/sys/class/net/{device}/statistics/rx_dropped")));
        ended.stdout.trim().parse().unwrap_or_else(|_| panic!("{ended:?}"))
    }

    /// Does something in the namespace.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let path = format!("/run/netns/{}", self.name);
        let inside = || {
            let namespace = File::open(path).unwrap();
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            work()
        };
        // A thread stays in its namespace, so it is one for this alone.
        thread::scope(|scope| scope.spawn(inside).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        Command::new("ip").args(["netns", "del", &self.name]).status().ok();
    }
}
