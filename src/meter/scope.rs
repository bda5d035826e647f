//! The address ranges whose addresses are clients.

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

/// One range of addresses: a network without host bits, or a single address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr(IpNet);

impl Cidr {
    /// Whether `addr` is in it.
    pub fn contains(&self, addr: IpAddr) -> bool {
        self.0.contains(&addr)
    }
}

impl FromStr for Cidr {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        if let Ok(addr) = s.parse::<IpAddr>() {
            return Ok(Cidr(IpNet::from(addr)));
        }
        let net: IpNet = s.parse().map_err(|_| "give an address range like 10.147.20.0/24 or fd00::/8".to_owned())?;
        match net.trunc() {
            network if network == net => Ok(Cidr(net)),
            network => Err(format!("has host bits set; the network meant is {network}")),
        }
    }
}

/// Whose addresses are clients.
#[derive(Clone, Debug)]
pub struct Scope(Vec<Cidr>);

/// Private, link-local and shared addresses: RFC 1918, RFC 3927, RFC 6598, RFC 4193, RFC 4291.
const DEFAULT: [&str; 7] =
    ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "100.64.0.0/10", "fc00::/7", "fe80::/10"];

impl Scope {
    /// The ranges given, or the default ones if there are none.
    pub fn new(ranges: Vec<Cidr>) -> Self {
        if ranges.is_empty() { Self::default() } else { Scope(ranges) }
    }

    /// Whether `addr` is a client's.
    pub fn contains(&self, addr: IpAddr) -> bool {
        self.0.iter().any(|range| range.contains(addr))
    }
}

impl Default for Scope {
    fn default() -> Self {
        Scope(DEFAULT.iter().filter_map(|range| range.parse().ok()).collect())
    }
}

/// The ranges as they were given, separated by spaces.
impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, range) in self.0.iter().enumerate() {
            write!(f, "{}{}", if i == 0 { "" } else { " " }, range.0)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_private_shared_and_link_local() {
        let scope = Scope::default();
        assert_eq!(scope.0.len(), DEFAULT.len());
        for client in
            ["10.255.0.1", "172.31.255.255", "192.168.0.0", "169.254.9.9", "100.127.0.1", "fd00::1", "febf::1"]
        {
            assert!(scope.contains(client.parse().unwrap()), "{client}");
        }
        for other in ["11.0.0.1", "172.32.0.1", "100.128.0.0", "8.8.8.8", "fec0::1", "2001:db8::1", "::ffff:10.0.0.1"] {
            assert!(!scope.contains(other.parse().unwrap()), "{other}");
        }
    }

    #[test]
    fn host_bits_are_an_error_that_names_the_network() {
        assert_eq!("10.0.0.1/8".parse::<Cidr>().unwrap_err(), "has host bits set; the network meant is 10.0.0.0/8");
        assert!("fd00::1/8".parse::<Cidr>().unwrap_err().ends_with("fd00::/8"));
    }

    #[test]
    fn an_address_alone_is_itself() {
        let scope = Scope::new(vec!["203.0.113.12".parse().unwrap(), "2001:db8::7".parse().unwrap()]);
        assert!(scope.contains("203.0.113.12".parse().unwrap()) && scope.contains("2001:db8::7".parse().unwrap()));
        assert!(!scope.contains("203.0.113.13".parse().unwrap()) && !scope.contains("10.0.0.1".parse().unwrap()));
    }
}
