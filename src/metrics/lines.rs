//! The clients' counters as text: four lines for each of very many.

use super::clients::Counters;
use super::{Listing, Network, Uptime};

/// What the lines of a network's clients have in common in all families, gathered in one walk over the clients: what lies
/// side by side is read four times over in a fraction of the time.
#[derive(Default)]
pub(super) struct Lines {
    /// What comes after `addr="`, up to the value, of one client after the other.
    middles: String,
    /// Where each client's ends, and its values.
    clients: Vec<(usize, Counters)>,
    /// The family that says who they are, but its head.
    pub(super) infos: String,
}

/// The family that says who the clients are.
pub(super) const HOST_INFO: &str = "zerotier_host_info";
pub(super) const ABOUT_HOST_INFO: &str = "Who the client at addr is: its member's node id, and a name; always 1.";

/// Digits of the largest value, and the end of the line.
const MAX_VALUE_BYTES: usize = 21;

impl Lines {
    /// Of the clients that are shown, with more labels behind their addresses.
    pub(super) fn of(network: &Network, labels: &str, listing: &Listing, now: Uptime) -> Self {
        let mut lines = Lines::default();
        lines.clients.reserve(network.clients.listed());
        for (addr, who, counters) in network.clients.shown(listing, now) {
            for part in [addr, "\"", labels, "} "] {
                lines.middles.push_str(part);
            }
            for part in [HOST_INFO, "{addr=\"", addr, "\",", who, labels, "} 1\n"] {
                lines.infos.push_str(part);
            }
            lines.clients.push((lines.middles.len(), *counters));
        }
        lines
    }

    /// Room for a family whose lines begin so.
    pub(super) fn max_bytes(&self, begin: &str) -> usize {
        self.middles.len() + self.clients.len() * (begin.len() + MAX_VALUE_BYTES)
    }

    /// Writes a family whose lines begin so.
    pub(super) fn write(&self, page: &mut String, begin: &str, value: impl Fn(&Counters) -> u64) {
        let mut digits = itoa::Buffer::new();
        let mut from = 0;
        for (to, counters) in &self.clients {
            for part in [begin, &self.middles[from..*to], digits.format(value(counters)), "\n"] {
                page.push_str(part);
            }
            from = *to;
        }
    }
}
