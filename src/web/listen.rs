//! The listening socket.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};

use anyhow::{Context, anyhow};
use socket2::{Domain, Protocol, Socket, Type};

/// Connections that may wait to be accepted; the system may allow fewer.
const BACKLOG: i32 = 4096;

/// What the system may keep of an answer for a client that does not take it. By itself it would take megabytes.
const SEND_BUFFER_BYTES: usize = 256 * 1024;

/// Listens on `address`: `:9123` (all addresses, IPv4 and IPv6), `127.0.0.1:9123`, `[::1]:9123` or `name:9123`.
/// Port 0 takes any free one. Of a name with several addresses, the first that can be bound is taken, IPv4 before IPv6.
///
/// # Errors
/// One line that says what is wrong with the address and what to do.
pub fn listen(address: &str) -> anyhow::Result<TcpListener> {
    let (host, port) = split(address).with_context(|| {
        format!("cannot listen on {address:?}: not an address like :9123, 127.0.0.1:9123, [::1]:9123 or name:9123")
    })?;
    let bound = match host {
        "" => bind_everywhere(port),
        host => bind_first(resolve(host, port).map_err(|why| anyhow!("cannot listen on {address:?}: {why}"))?),
    };
    bound.map_err(|error| anyhow!("cannot listen on {address:?}: {}", explain(&error)))
}

/// Host and port, the host without brackets; empty for all addresses.
fn split(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    // `+9123` is a number to Rust, but no port.
    let port = port.bytes().all(|byte| byte.is_ascii_digit()).then(|| port.parse().ok())??;
    let host = match host.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']').filter(|inner| inner.contains(':'))?,
        None if host.contains([':', ']', '/', ' ']) => return None,
        None => host,
    };
    Some((host, port))
}

fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    let mut found: Vec<_> = match (host, port).to_socket_addrs() {
        Ok(found) => found.collect(),
        Err(error) => return Err(format!("{host:?} has no address ({error})")),
    };
    found.sort_by_key(SocketAddr::is_ipv6);
    Ok(found)
}

/// One socket for both families, or for IPv4 alone where there is no IPv6.
fn bind_everywhere(port: u16) -> io::Result<TcpListener> {
    match bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)), true) {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
            bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)), false)
        }
        bound => bound,
    }
}

fn bind_first(addresses: Vec<SocketAddr>) -> io::Result<TcpListener> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        match bind(address, false) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn bind(address: SocketAddr, both_families: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for the old connections' TIME_WAIT.
    socket.set_reuse_address(true)?;
    if both_families {
        socket.set_only_v6(false)?;
    }
    // Every accepted connection inherits it.
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn explain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "the port is in use; choose another with --listen-address".into(),
        io::ErrorKind::AddrNotAvailable => "no such address on this host; choose another with --listen-address".into(),
        io::ErrorKind::PermissionDenied => {
            "not permitted (ports below 1024 are privileged); choose another with --listen-address".into()
        }
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::{listen, split};

    #[test]
    fn addresses_fall_apart_into_host_and_port() {
        assert_eq!(split(":9123"), Some(("", 9123)));
        assert_eq!(split("127.0.0.1:0"), Some(("127.0.0.1", 0)));
        assert_eq!(split("[::1]:9123"), Some(("::1", 9123)));
        assert_eq!(split("[fe80::1%eth0]:9123"), Some(("fe80::1%eth0", 9123)));
        assert_eq!(split("observer.example:80"), Some(("observer.example", 80)));
    }

    #[test]
    fn anything_else_is_refused() {
        for bad in [
            "",
            ":",
            "9123",
            "host",
            "host:",
            ":65536",
            ":-1",
            ":+1",
            ":http",
            "::1:9123",
            "[::1]",
            "[::1:9123",
            "::1]:9123",
            "[]:9123",
            "[host]:9123",
            "http://host:80",
            "a b:80",
        ] {
            assert_eq!(split(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn addresses_that_cannot_be_listened_on_say_why() {
        assert!(listen("localhost:0").is_ok());
        let holder = listen(":0").unwrap();
        let taken = holder.local_addr().unwrap().port();
        for (address, why) in [
            (format!(":{taken}"), "the port is in use; choose another with --listen-address"),
            (format!("127.0.0.1:{taken}"), "the port is in use; choose another with --listen-address"),
            ("192.0.2.1:0".into(), "no such address on this host"),
            ("9123".into(), "not an address like :9123, 127.0.0.1:9123"),
            ("no-such-host.invalid:0".into(), "\"no-such-host.invalid\" has no address"),
        ] {
            let error = format!("{:#}", listen(&address).unwrap_err());
            assert!(error.contains(why) && error.contains(&address) && !error.contains('\n'), "{error}");
        }
    }
}
