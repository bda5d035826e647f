//! What the ZeroTier service on this machine knows: who this node is, and which network a device belongs to.

use std::fs;
use std::net::IpAddr;
#[cfg(target_os = "linux")]
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::capture::live;
use crate::packet::Mac;
use crate::web::client::{Client, Url};
use crate::zerotier::{NetworkId, NodeId, identity};

/// Where ZeroTier keeps the public half of this node's identity, which begins with the node's id.
const IDENTITY: &str = "/var/lib/zerotier-one/identity.public";

/// What its service wants to hear from those who ask.
const TOKEN: &str = "/var/lib/zerotier-one/authtoken.secret";

/// Where it listens, and the longest it may take. Frames wait meanwhile, where the kernel buffers them.
const SERVICE: &str = "http://127.0.0.1:9993";
const AT_MOST: Duration = Duration::from_millis(500);

/// How this node finds out whose traffic a device has.
pub(super) struct Own {
    given: Option<NetworkId>,
    node: Option<NodeId>,
    service: Option<(Client, String)>,
}

impl Own {
    /// With the rights there are now. `given` is the network, if the user said which.
    pub(super) fn now(given: Option<NetworkId>) -> Self {
        let token = fs::read_to_string(TOKEN).ok().map(|token| token.trim().to_owned());
        let token = token.filter(|token| !token.is_empty() && token.bytes().all(|c| c.is_ascii_graphic()));
        let client = SERVICE.parse::<Url>().ok().and_then(|url| Client::new(url).ok());
        Own { given, node: own_node(), service: client.zip(token) }
    }

    /// The port that the service is asked at, if it can be.
    #[cfg(target_os = "linux")]
    pub(super) fn port(&self) -> Option<u16> {
        self.service.as_ref().map(|(client, _)| client.url().port())
    }

    /// The network behind a device, if that can be told: as the user said, by what the device is called and has, or by
    /// what the service says.
    pub(super) fn network_of(&self, name: &str, mac: Option<Mac>) -> Option<NetworkId> {
        let derived = || {
            let addresses: Vec<IpAddr> = live::device(name).map(|device| device.addresses).unwrap_or_default();
            identity::network_of_device(name, mac, &addresses, self.node.or_else(own_node))
        };
        self.given.or_else(derived).or_else(|| self.ask(name))
    }

    /// Whether the network behind a device is fine, as far as the service says: it says so of one that it has joined, is
    /// let into, and finds.
    pub(super) fn is_fine(&self, device: &str) -> bool {
        let status = self.network(device).and_then(|network| network["status"].as_str().map(str::to_owned));
        status.is_none_or(|status| status == "OK")
    }

    fn ask(&self, device: &str) -> Option<NetworkId> {
        self.network(device)?["id"].as_str()?.parse().ok()
    }

    /// What the service says of the network behind a device.
    fn network(&self, device: &str) -> Option<Value> {
        let (client, token) = self.service.as_ref()?;
        let answer =
            client.get("/network", ("X-ZT1-Auth", token), AT_MOST).ok().filter(|answer| answer.status == 200)?;
        let networks: Vec<Value> = serde_json::from_slice(&answer.body).ok()?;
        networks.into_iter().find(|network| network["portDeviceName"].as_str() == Some(device))
    }
}

/// The file that [`own_node`] reads, or while there is none, the directory where ZeroTier will put it.
#[cfg(target_os = "linux")]
pub(super) fn identity() -> &'static Path {
    let file = Path::new(IDENTITY);
    if file.exists() { file } else { file.parent().unwrap_or(file) }
}

/// This node's id, if ZeroTier has written down who it is.
fn own_node() -> Option<NodeId> {
    fs::read_to_string(IDENTITY).ok()?.split(':').next()?.parse().ok()
}
