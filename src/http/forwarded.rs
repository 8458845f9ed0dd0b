//! Who the client is behind trusted proxies, and what the origin is told about it (X-Forwarded-*, RFC 7239).
//!
//! Invariants: from a peer that is not trusted nothing is believed and nothing passes on. From a trusted one the chain is
//! read from its right end and only through trusted hops; the first address that is not trusted is the client. Where
//! X-Forwarded-For and Forwarded tell of different clients, one of them came through a proxy that writes only the other,
//! perhaps from the client itself: neither is believed. A peer on a unix socket is given as 127.0.0.1.

mod chain;

use super::fields::HeaderView;
use super::key::normalise_host;
use chain::{Hop, hops_of_forwarded, hops_of_x_forwarded_for, quote, rightmost};
use http::{HeaderMap, HeaderName, Method};
use ipnet::IpNet;
use std::net::IpAddr;

/// Hops of a chain that are read and passed on, counted from the right.
pub const HOPS_MAX: usize = 32;

/// What is known of a request's sender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// The client's address; the peer's, or that of the last trusted hop, where nothing further is known.
    pub address: IpAddr,
    /// Whether the peer is a trusted proxy.
    pub peer_trusted: bool,
    /// The client asked over TLS.
    pub secure: bool,
    /// The host a trusted proxy says the client asked for, as sent, port included; a valid one.
    pub host: Option<String>,
}

/// Resolves the client of a request. `secure`: the connection from the peer is TLS.
pub fn resolve<H: HeaderView>(peer: IpAddr, secure: bool, trusted: &[IpNet], headers: &H) -> Client {
    let peer = peer.to_canonical();
    let is_trusted = |address: IpAddr| trusted.iter().any(|net| net.contains(&address));
    if !is_trusted(peer) {
        return Client { address: peer, peer_trusted: false, secure, host: None };
    }
    let old = hops_of_x_forwarded_for(headers);
    let new = hops_of_forwarded(headers);
    let (old_client, _) = walk(peer, &old, is_trusted);
    let (new_client, new_hop) = walk(peer, &new, is_trusted);
    let address = match (old.is_empty(), new.is_empty()) {
        (false, true) => old_client,
        (true, _) => new_client,
        (false, false) if old_client == new_client => old_client,
        (false, false) => peer,
    };
    // What the hop nearest to the client says in Forwarded, else what the peer itself wrote.
    let proto = rightmost(headers, "x-forwarded-proto").or_else(|| new_hop?.proto.clone());
    let host = rightmost(headers, "x-forwarded-host").or_else(|| new_hop?.host.clone());
    Client {
        address,
        peer_trusted: true,
        secure: match proto.map(|proto| proto.to_ascii_lowercase()).as_deref() {
            Some("https" | "wss") => true,
            Some("http" | "ws") => false,
            _ => secure,
        },
        host: host.filter(|host| normalise_host(host).is_ok()),
    }
}

/// Follows the chain from its right end. Answers the client and the hop that named it.
fn walk(peer: IpAddr, hops: &[Hop], is_trusted: impl Fn(IpAddr) -> bool) -> (IpAddr, Option<&Hop>) {
    let mut client = (peer, None);
    for hop in hops.iter().rev() {
        let Some(address) = hop.address else { return client };
        client = (address, Some(hop));
        if !is_trusted(address) {
            return client;
        }
    }
    client
}

/// Fields an origin may take for the client, the host, the port or the path of a request in place of what is in the key, or
/// that its frameworks read so; besides all of `X-Forwarded-…`.
const CLAIMS: [&str; 18] = [
    "cf-connecting-ip",
    "client-ip",
    "fastly-client-ip",
    "front-end-https",
    "true-client-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-forwarded",
    "x-forwarder-for",
    "x-host",
    "x-http-host-override",
    "x-original-host",
    "x-original-uri",
    "x-original-url",
    "x-originating-ip",
    "x-remote-addr",
    "x-rewrite-url",
    "x-url-scheme",
];

/// Fields that change the method where an origin obeys them.
const METHOD_OVERRIDES: [&str; 3] = ["x-http-method", "x-http-method-override", "x-method-override"];

/// The received fields to drop before a request is passed on, besides those that [`outgoing`] replaces: from a peer that is
/// not trusted what only a proxy may say, and from everyone another method for a GET or HEAD, whose answer would be kept as
/// that of a GET. Unkeyed, each could put the answer to one request under the key of another.
pub fn claims_to_drop(client: &Client, method: &Method, headers: &HeaderMap) -> Vec<HeaderName> {
    let safe = matches!(*method, Method::GET | Method::HEAD);
    let dropped = |name: &str| {
        // CGI knows no difference between `_` and `-`.
        let name = name.replace('_', "-");
        let claim = name.starts_with("x-forwarded-") || CLAIMS.contains(&name.as_str());
        (claim && !client.peer_trusted) || (safe && METHOD_OVERRIDES.contains(&name.as_str()))
    };
    headers.keys().filter(|name| dropped(name.as_str())).cloned().collect()
}

/// The fields towards the origin; each *replaces* what was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    pub x_forwarded_for: String,
    /// `http` or `https`
    pub x_forwarded_proto: &'static str,
    /// None where the request named no host.
    pub x_forwarded_host: Option<String>,
    pub x_real_ip: String,
    /// RFC 7239
    pub forwarded: String,
}

/// What the origin is told: the received chain and the peer where the peer is trusted, else the peer alone.
/// `host` is the Host (or `:authority`) received.
pub fn outgoing<H: HeaderView>(peer: IpAddr, client: &Client, host: Option<&str>, headers: &H) -> Outgoing {
    let peer = peer.to_canonical();
    let (mut old, mut new) = match client.peer_trusted {
        true => (hops_of_x_forwarded_for(headers), hops_of_forwarded(headers)),
        false => (Vec::new(), Vec::new()),
    };
    // A proxy that writes one of the two is understood by an origin that reads the other (RFC 7239 §7.4).
    if old.is_empty() {
        old.clone_from(&new);
    } else if new.is_empty() {
        new.clone_from(&old);
    }
    let host = client.host.as_deref().or_else(|| host.filter(|host| normalise_host(host).is_ok()));
    let proto = if client.secure { "https" } else { "http" };
    let mut x_forwarded_for: Vec<String> = old.iter().map(Hop::as_x_forwarded_for).collect();
    x_forwarded_for.push(peer.to_string());
    let mut forwarded: Vec<String> = new.iter().map(Hop::as_forwarded).collect();
    let host_pair = host.map(|host| format!(";host={}", quote(host))).unwrap_or_default();
    forwarded.push(format!("for={}{host_pair};proto={proto}", chain::for_node(peer)));
    Outgoing {
        x_forwarded_for: x_forwarded_for.join(", "),
        x_forwarded_proto: proto,
        x_forwarded_host: host.map(str::to_owned),
        x_real_ip: client.address.to_string(),
        forwarded: forwarded.join(", "),
    }
}

#[cfg(test)]
mod tests;
