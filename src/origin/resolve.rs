//! Names to addresses, through the system's resolver (so `/etc/hosts`, mDNS and search domains work as everywhere else).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::endpoint::ADDRESSES_PER_NAME_MAX;
use crate::config::ServerAddress;

/// The one address of a server that is not a name.
pub(super) fn literal(address: &ServerAddress) -> Option<SocketAddr> {
    match address {
        ServerAddress::Tcp { host, port } => host.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, *port)),
        ServerAddress::Unix(_) => None,
    }
}

/// The name and port of a server that has to be resolved.
pub(super) fn name(address: &ServerAddress) -> Option<(&str, u16)> {
    match address {
        ServerAddress::Tcp { host, port } if literal(address).is_none() => Some((host, *port)),
        _ => None,
    }
}

/// All addresses of a name, in the resolver's order (RFC 6724), without repeats, at most [`ADDRESSES_PER_NAME_MAX`].
/// An empty answer is an error.
pub(super) async fn lookup(host: &str, port: u16, timeout: Duration) -> io::Result<Vec<SocketAddr>> {
    let found = tokio::time::timeout(timeout, tokio::net::lookup_host((host, port)))
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the resolver did not answer in time"))??;
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for address in found {
        if addresses.len() < ADDRESSES_PER_NAME_MAX && !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    }
    Ok(addresses)
}
