//! The chain of hops as X-Forwarded-For and Forwarded (RFC 7239 §4) write it, read and written. Believes nobody: who may
//! be trusted is the parent's question.

use super::HOPS_MAX;
use crate::http::fields::{HeaderView, is_token, list, name_and_value, split_outside_quotes, unquote};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// One hop: who spoke to the proxy that wrote it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hop {
    /// None: `unknown`, obfuscated (§6.3), or nothing readable.
    pub address: Option<IpAddr>,
    /// An obfuscated identifier, `_` and all.
    pub obfuscated: Option<String>,
    pub proto: Option<String>,
    pub host: Option<String>,
}

impl Hop {
    pub fn as_x_forwarded_for(&self) -> String {
        match (&self.address, &self.obfuscated) {
            (Some(address), _) => address.to_string(),
            (None, Some(identifier)) => identifier.clone(),
            (None, None) => "unknown".to_owned(),
        }
    }

    /// Without `by`, which names the inside of another's network.
    pub fn as_forwarded(&self) -> String {
        let node = match (self.address, &self.obfuscated) {
            (Some(address), _) => for_node(address),
            (None, Some(identifier)) => identifier.clone(),
            (None, None) => "unknown".to_owned(),
        };
        let pair = |name: &str, value: &Option<String>| {
            value.as_ref().map(|value| format!(";{name}={}", quote(value))).unwrap_or_default()
        };
        format!("for={node}{}{}", pair("host", &self.host), pair("proto", &self.proto))
    }
}

/// An address as a node: IPv6 in brackets and quotes (§6).
pub fn for_node(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("\"[{address}]\""),
    }
}

/// A token as it is, anything else as a quoted-string. Control characters do not occur: [`unquote`] refuses them.
pub fn quote(value: &str) -> String {
    if is_token(value.as_bytes()) {
        value.to_owned()
    } else {
        format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
    }
}

/// The last [`HOPS_MAX`] hops, in order.
fn last_hops(mut hops: Vec<Hop>) -> Vec<Hop> {
    hops.drain(..hops.len().saturating_sub(HOPS_MAX));
    hops
}

pub fn hops_of_x_forwarded_for<H: HeaderView>(headers: &H) -> Vec<Hop> {
    last_hops(list(headers.all("x-forwarded-for")).map(node).collect())
}

pub fn hops_of_forwarded<H: HeaderView>(headers: &H) -> Vec<Hop> {
    last_hops(list(headers.all("forwarded")).map(forwarded_element).collect())
}

fn forwarded_element(element: &[u8]) -> Hop {
    let mut hop = Hop::default();
    for pair in split_outside_quotes(element, b';') {
        let (name, Some(value)) = name_and_value(pair) else { continue };
        match name.to_ascii_lowercase().as_slice() {
            b"for" => hop = Hop { proto: hop.proto, host: hop.host, ..node(value) },
            b"proto" => hop.proto = unquote(value).filter(|proto| is_token(proto.as_bytes())),
            b"host" => hop.host = unquote(value).filter(|host| !host.is_empty()),
            _ => {}
        }
    }
    hop
}

/// §6: an address, with or without port, in quotes or not; `unknown`; or an obfuscated identifier.
fn node(value: &[u8]) -> Hop {
    let text = unquote(value).unwrap_or_default();
    let identifier = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let obfuscated = text.starts_with('_') && text.len() <= 64 && text.bytes().all(identifier);
    Hop { address: address(&text), obfuscated: obfuscated.then_some(text), ..Hop::default() }
}

fn address(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address.to_canonical());
    }
    if let Some(literal) = text.strip_prefix('[') {
        let (address, port) = literal.split_once(']')?;
        let address: Ipv6Addr = address.parse().ok()?;
        return (port.is_empty() || port.starts_with(':')).then_some(IpAddr::V6(address).to_canonical());
    }
    let (address, _port) = text.split_once(':')?;
    address.parse::<Ipv4Addr>().ok().map(IpAddr::V4)
}

/// The last member of a list field: what the peer itself wrote.
pub fn rightmost<H: HeaderView>(headers: &H, name: &str) -> Option<String> {
    list(headers.all(name)).last().and_then(unquote).filter(|text| !text.is_empty())
}
