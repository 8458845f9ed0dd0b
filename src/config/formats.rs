//! What a text must look like, by the `format` its schema names. One table for the decoder (a message at the value's own
//! place), and the parsing functions the builder uses again; both therefore agree on what is accepted.
//!
//! Messages never repeat the text itself: it may be a credential, and the snippet shows it (starred out) anyway.

use super::built::{ListenAddress, ServerAddress};
use super::units::{ByteSize, TimeSpan, WriteBudget};
use crate::http::content_coding::types::TypeRules;
use ipnet::IpNet;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;

/// Checks `text` against a format of ours; formats that are not ours are JSON Schema's own and hold anyway.
///
/// # Errors
/// Says what is wrong and how to write it.
pub fn check(format: &str, text: &str) -> Result<(), String> {
    match format {
        "byte-size" => ByteSize::parse(text).map(drop),
        "write-budget" => WriteBudget::parse(text).map(drop),
        "time-span" => TimeSpan::parse(text).map(drop),
        "positive-time-span" => match TimeSpan::parse(text)? {
            span if span.0.is_zero() => Err("must be longer than zero".to_owned()),
            _ => Ok(()),
        },
        "listen-address" => listen_address(text).map(drop),
        "socket-address" => socket_address(text).map(drop),
        "network" => network(text).map(drop),
        "label" => label(text),
        "host-pattern" => host_pattern(text).map(drop),
        "authority" => authority(text),
        "server-name" => server_name(text),
        "server-url" => server_url(text).map(drop),
        "https-server" => https_server(text).map(drop),
        "path-prefix" => path_prefix(text),
        "request-path" => request_path(text),
        "path-regex" => regex::Regex::new(text).map(drop).map_err(|error| {
            let error = error.to_string();
            let reason = error.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            format!("not a regular expression: {reason}")
        }),
        "header-name" => http::HeaderName::try_from(text)
            .map(drop)
            .map_err(|_| "not a header name; letters, digits and `-`, like X-Frame-Options".to_owned()),
        "header-value" => http::HeaderValue::try_from(text)
            .map(drop)
            .map_err(|_| "not a header value; visible characters, spaces and tabs only".to_owned()),
        "http-method" => http::Method::try_from(text)
            .ok()
            .filter(|_| text.bytes().all(|byte| byte.is_ascii_uppercase()))
            .map(drop)
            .ok_or_else(|| "not a method; write it in capitals, like GET".to_owned()),
        "cors-origin" => cors_origin(text),
        "status-range" => status_range(text).map(drop),
        "log-filter" => log_filter(text),
        "media-type" => TypeRules::check(text),
        "non-empty" if text.trim().is_empty() => Err("must not be empty".to_owned()),
        _ => Ok(()),
    }
}

/// `0.0.0.0:8080`, `[::]:8080` or `unix:/run/reelgate.sock`.
pub fn listen_address(text: &str) -> Result<ListenAddress, String> {
    match text.strip_prefix("unix:") {
        Some("") => Err("`unix:` needs a path, like unix:/run/reelgate.sock".to_owned()),
        Some(path) => Ok(ListenAddress::Unix(PathBuf::from(path))),
        None => socket_address(text).map(ListenAddress::Tcp),
    }
}

/// An IP address and a port; the error says what is missing.
pub fn socket_address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(address);
    }
    let parts = text.rsplit_once(':').filter(|(_, port)| port.len() > 1 && port.bytes().all(|b| b.is_ascii_digit()));
    let advice = if let Some((host, port)) = parts.filter(|(host, _)| host.parse::<Ipv6Addr>().is_ok()) {
        format!("an IPv6 address stands in brackets, with quotes: \"[{host}]:{port}\"")
    } else if parts.is_some_and(|(_, port)| port.parse::<u16>().is_err()) {
        "a port is a number up to 65535".to_owned()
    } else if let Ok(port) = text.trim_start_matches([':', '*']).trim_start_matches(':').parse::<u16>() {
        format!("it needs an IP address and a port, like 0.0.0.0:{port} (every IPv4 address) or [::]:{port} (IPv6)")
    } else if let Ok(address) = text.parse::<IpAddr>() {
        format!("the port is missing; write {}", SocketAddr::new(address, 8080))
    } else if let Some(port) = text.strip_prefix("localhost:") {
        format!("names are not resolved here; write 127.0.0.1:{}", super::units::excerpt(port))
    } else {
        "write an IP address and a port, like 0.0.0.0:8080 or [::]:8080".to_owned()
    };
    Err(format!("not an address; {advice}"))
}

/// A network in CIDR notation, or one address. IPv4 written as IPv6 (`::ffff:192.0.2.0/120`) becomes IPv4, as clients'
/// addresses do: else it would match nobody, and a `deny` of it would let everyone in.
pub fn network(text: &str) -> Result<IpNet, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(address.to_canonical()));
    }
    let network = text
        .parse::<IpNet>()
        .map_err(|_| "not a network; write CIDR like 10.0.0.0/8 or fd00::/8, or one IP address".to_owned())?;
    if network.trunc() != network {
        return Err(format!("has bits set beyond its prefix; did you mean {}?", network.trunc()));
    }
    let mapped = network.prefix_len().checked_sub(96).zip(match network {
        IpNet::V6(network) => network.addr().to_ipv4_mapped(),
        IpNet::V4(_) => None,
    });
    let mapped = mapped.and_then(|(prefix, address)| IpNet::new(address.into(), prefix).ok());
    Ok(mapped.unwrap_or(network))
}

fn label(text: &str) -> Result<(), String> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'/' | b'*' | b':');
    if text.is_empty() || text.len() > 100 || !text.bytes().all(good) {
        return Err("a name has 1 to 100 letters, digits, `-`, `_` or `.`".to_owned());
    }
    Ok(())
}

/// A host of a site, in lower case: a name, `*.` and a name, or an IP address (IPv6 in brackets).
pub fn host_pattern(text: &str) -> Result<String, String> {
    let host = text.to_ascii_lowercase();
    if host.contains("://") || host.contains('/') {
        return Err("write only the host, without scheme or path".to_owned());
    }
    if host == "*" {
        return Err("leave `hosts` out to match every host".to_owned());
    }
    let name = host.strip_prefix("*.").unwrap_or(&host);
    if name.contains('*') {
        return Err("`*` stands only at the beginning, as in *.example.org".to_owned());
    }
    if name.starts_with('[') {
        let inner = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        return match inner.and_then(|inner| inner.parse::<std::net::Ipv6Addr>().ok()) {
            Some(_) => Ok(host),
            None => Err("not an IPv6 address in brackets, without a port".to_owned()),
        };
    }
    if name.contains(':') {
        return Err("write the host without a port; IPv6 addresses stand in brackets".to_owned());
    }
    is_name(name).then_some(host).ok_or_else(|| "not a host name; letters, digits, `-` and `.`".to_owned())
}

/// Whether `name` is a DNS name (underscores allowed, as container networks use them) or an IPv4 address.
fn is_name(name: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    name.len() <= 253 && name.split('.').all(|part| !part.is_empty() && part.len() <= 63 && part.bytes().all(good))
}

/// A Host header's value: host and maybe a port.
fn authority(text: &str) -> Result<(), String> {
    match text.parse::<http::uri::Authority>() {
        Ok(authority) if !authority.as_str().contains('@') && !authority.host().is_empty() => Ok(()),
        _ => {
            Err("not a host; write a name and maybe a port, like media.example.org or media.example.org:8096"
                .to_owned())
        }
    }
}

fn server_name(text: &str) -> Result<(), String> {
    let good = rustls_pki_types::ServerName::try_from(text).is_ok();
    good.then_some(())
        .ok_or_else(|| "not a server name; write the name in the certificate, like media.example.org".to_owned())
}

/// `http://host:port`, `https://host` or `unix:/path`; whether to speak TLS.
pub fn server_url(text: &str) -> Result<(ServerAddress, bool), String> {
    if let Some(path) = text.strip_prefix("unix:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        return if path.is_empty() {
            Err("`unix:` needs a path, like unix:/run/media.sock".to_owned())
        } else {
            Ok((ServerAddress::Unix(PathBuf::from(path)), false))
        };
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err("not a URL; write http:// or https:// and a host, like http://127.0.0.1:8096".to_owned());
    };
    let tls = match scheme.to_ascii_lowercase().as_str() {
        "http" => false,
        "https" => true,
        _ => return Err("this scheme is not supported; use http://, https:// or unix:/path".to_owned()),
    };
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.contains('$') {
        return Err("not a URL; a variable is written ${NAME}".to_owned());
    }
    if !authority.contains('[') && authority.matches(':').count() > 1 {
        return Err("not a URL; an IPv6 address stands in brackets, like \"http://[::1]:8096\"".to_owned());
    }
    if authority.contains('@') {
        return Err("credentials do not belong in a server's URL; set the header instead, as in \
                    headers.request.set.Authorization of the site"
            .to_owned());
    }
    if authority.contains(['/', '?', '#']) {
        return Err("a server has no path; to prefix one, use the site's `rewrites`".to_owned());
    }
    let parsed = authority
        .parse::<http::uri::Authority>()
        .map_err(|_| "not a URL; write it like http://127.0.0.1:8096 or https://media.example.org".to_owned())?;
    let host = parsed.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    let good_host = host.parse::<IpAddr>().is_ok() || is_name(&host);
    let port_text = parsed.as_str().rsplit_once("]").map_or(parsed.as_str(), |(_, tail)| tail);
    let port = match port_text.rsplit_once(':') {
        None => Some(if tls { 443 } else { 80 }),
        Some((_, port)) => port.parse::<u16>().ok().filter(|port| *port != 0),
    };
    match port {
        Some(port) if good_host => Ok((ServerAddress::Tcp { host, port }, tls)),
        Some(_) => Err("the URL's host is not a name or an IP address".to_owned()),
        None => Err("the URL's port is not a number from 1 to 65535".to_owned()),
    }
}

/// A server of `transcode.servers`: `https://gpu.lan:9443`.
pub fn https_server(text: &str) -> Result<ServerAddress, String> {
    match server_url(text)? {
        (address, true) => Ok(address),
        (_, false) => Err("films and jobs go over TLS alone; write https://, like https://gpu.lan:9443".to_owned()),
    }
}

fn path_prefix(text: &str) -> Result<(), String> {
    if !text.starts_with('/') {
        return Err("a path begins with `/`".to_owned());
    }
    if text.contains(['?', '#', '*']) {
        return Err("a path prefix has no `?`, `#` or `*`; everything below it matches".to_owned());
    }
    if text.split('/').any(|part| part == ".." || part == ".") {
        return Err("a path prefix has no `.` or `..` segments; requests are normalised first".to_owned());
    }
    let printable = text.bytes().all(|byte| byte.is_ascii_graphic());
    printable.then_some(()).ok_or_else(|| "percent-encode spaces and letters beyond ASCII".to_owned())
}

fn request_path(text: &str) -> Result<(), String> {
    let good = text.starts_with('/') && text.parse::<http::uri::PathAndQuery>().is_ok();
    good.then_some(()).ok_or_else(|| "not a path; it begins with `/`, like /health".to_owned())
}

/// A serialised origin (Fetch Standard, "serializing a request origin"), or `*`.
fn cors_origin(text: &str) -> Result<(), String> {
    if text == "*" {
        return Ok(());
    }
    let Some((scheme, authority)) = text.split_once("://") else {
        return Err("write scheme and host, like https://app.example.org, or \"*\"".to_owned());
    };
    if authority.contains('/') || text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err("an origin is lower case and has no path, not even a `/` at the end".to_owned());
    }
    let good = !scheme.is_empty() && authority.parse::<http::uri::Authority>().is_ok() && !authority.contains('@');
    good.then_some(()).ok_or_else(|| "not an origin; write it like https://app.example.org".to_owned())
}

/// `200`, or `200-399`.
pub fn status_range(text: &str) -> Result<RangeInclusive<u16>, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (first.trim().parse::<u16>(), last.trim().parse::<u16>()) {
        (Ok(first), Ok(last)) if (100..=599).contains(&first) && first <= last && last <= 599 => Ok(first..=last),
        _ => Err("not a status code or a range of them, like 200 or 200-399".to_owned()),
    }
}

fn log_filter(text: &str) -> Result<(), String> {
    use tracing_subscriber::filter::EnvFilter;
    let levels = ["off", "error", "warn", "info", "debug", "trace"];
    // The filter's own parser slices what is not ASCII in the middle of a character, and panics.
    let ascii = text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    // A bare word that is no level would silently be taken for a target.
    let known = text.split(',').all(|part| part.contains(['=', '[', ':']) || levels.contains(&part.trim()));
    if ascii && known && !text.trim().is_empty() && EnvFilter::builder().parse(text).is_ok() {
        return Ok(());
    }
    Err("not a log level; use error, warn, info, debug or trace, or a filter like warn,reelgate=debug".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_mapped_network_is_the_one_that_clients_are_in() {
        for (text, client) in
            [("::ffff:192.0.2.0/120", "192.0.2.7"), ("::ffff:192.0.2.7", "192.0.2.7"), ("::/0", "::1")]
        {
            assert!(network(text).unwrap().contains(&client.parse::<IpAddr>().unwrap()), "{text}");
        }
    }

    #[test]
    fn what_people_write_is_accepted() {
        for (format, text) in [
            ("listen-address", "[::]:8080"),
            ("listen-address", "unix:/run/r.sock"),
            ("network", "10.0.0.0/8"),
            ("network", "::1"),
            ("host-pattern", "*.Example.org"),
            ("host-pattern", "[::1]"),
            ("server-url", "http://[::1]:9000/"),
            ("server-url", "https://media_1.lan"),
            ("server-url", "unix:/run/media.sock"),
            ("path-prefix", "/films/"),
            ("cors-origin", "https://app.example.org:8443"),
            ("status-range", "200-399"),
            ("log-filter", "warn,reelgate=debug"),
            ("server-name", "media.lan"),
        ] {
            assert_eq!(check(format, text), Ok(()), "{format}: {text}");
        }
    }

    #[test]
    fn mistakes_come_with_advice() {
        for (format, text, advice) in [
            ("listen-address", "8080", "0.0.0.0:8080"),
            ("listen-address", ":8080", "[::]:8080"),
            ("listen-address", "*:8080", "[::]:8080"),
            ("listen-address", "localhost:8080", "127.0.0.1:8080"),
            ("listen-address", "10.0.0.1", "port"),
            ("network", "10.0.0.1/8", "10.0.0.0/8"),
            ("network", "everyone", "CIDR"),
            ("host-pattern", "https://a.b", "scheme"),
            ("host-pattern", "a.b:80", "port"),
            ("host-pattern", "a.*.b", "beginning"),
            ("server-url", "127.0.0.1:8096", "http://"),
            ("server-url", "http://a:b@c", "Authorization"),
            ("server-url", "http://a/b", "rewrites"),
            ("server-url", "ftp://a", "scheme"),
            ("server-url", "http://a:99999", "URL"),
            ("path-prefix", "films", "begins"),
            ("path-regex", "(", "regular expression"),
            ("header-name", "X Y", "header name"),
            ("cors-origin", "https://a/", "no path"),
            ("status-range", "399-200", "200-399"),
            ("log-filter", "verbose", "info"),
            ("log-filter", "H\u{51c29}=", "info"),
            ("positive-time-span", "0s", "longer"),
        ] {
            let error = check(format, text).unwrap_err();
            assert!(error.contains(advice), "{format}: {text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,40}") {
            for format in ["listen-address", "network", "host-pattern", "server-url", "path-prefix", "cors-origin",
                "status-range", "log-filter", "authority", "label", "path-regex", "server-name", "request-path"] {
                let _ = check(format, &text);
            }
        }
    }
}
