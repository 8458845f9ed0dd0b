//! The PROXY protocol, versions 1 and 2 (HAProxy, doc/proxy-protocol.txt): who the client is, said by a load balancer in front.
//!
//! Parts: [`step`] says how many bytes belong to the header for certain, so that not one byte after it is read; [`decode`] turns
//! a whole header into addresses; [`read`] does both on a socket. Invariant: whether the peer may be believed is not decided here.

use ppp::{v1, v2};
use std::net::SocketAddr;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Longest line of version 1, with its CRLF (section 2.1).
const V1_BYTES_MAX: usize = 107;
/// Longest header of version 2 we read, with its TLVs (which are skipped): what any balancer sends fits many times.
const V2_BYTES_MAX: usize = 2048;
/// The fixed part of version 2 (section 2.2).
const V2_FIXED_BYTES: usize = 16;
/// Both versions have more bytes than this, and differ within them.
const SIGNATURE_BYTES: usize = 12;

/// What a header says: the client and what it connected to. None: it speaks for itself (`LOCAL`, a health check) or says nothing
/// usable (`UNKNOWN`, unix sockets); the socket's own addresses hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ProxyHeader {
    pub(super) addresses: Option<(SocketAddr, SocketAddr)>,
}

/// Why a connection's first bytes are no PROXY header.
#[derive(Debug)]
pub(super) enum ProxyError {
    Absent,
    TooLong,
    Malformed,
    Io(std::io::Error),
}

impl std::fmt::Display for ProxyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Absent => f.write_str("the connection does not begin with a PROXY header"),
            Self::TooLong => write!(f, "the PROXY header is longer than {V2_BYTES_MAX} bytes"),
            Self::Malformed => f.write_str("the PROXY header is malformed"),
            Self::Io(error) => write!(f, "reading the PROXY header: {error}"),
        }
    }
}

/// What to do after the bytes read so far.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// This many more bytes are part of the header, whatever they are.
    Read(usize),
    Complete,
}

/// Pure: see [`Step`].
pub(super) fn step(seen: &[u8]) -> Result<Step, ProxyError> {
    let signature = &seen[..seen.len().min(SIGNATURE_BYTES)];
    let keyword = b"PROXY ";
    let is_v2 = v2::PROTOCOL_PREFIX.starts_with(signature);
    let is_v1 = signature.starts_with(&keyword[..keyword.len().min(signature.len())]);
    if !is_v1 && !is_v2 {
        return Err(ProxyError::Absent);
    }
    // Before the first byte it may be either; the shortest line of version 1 has 15 bytes.
    if seen.len() < SIGNATURE_BYTES {
        return Ok(Step::Read(SIGNATURE_BYTES - seen.len()));
    }
    if is_v2 {
        if seen.len() < V2_FIXED_BYTES {
            return Ok(Step::Read(V2_FIXED_BYTES - seen.len()));
        }
        let whole = V2_FIXED_BYTES + usize::from(u16::from_be_bytes([seen[14], seen[15]]));
        return match whole {
            whole if whole > V2_BYTES_MAX => Err(ProxyError::TooLong),
            whole if whole > seen.len() => Ok(Step::Read(whole - seen.len())),
            _ => Ok(Step::Complete),
        };
    }
    match seen {
        [line @ .., b'\r', b'\n'] if !line.contains(&b'\r') && !line.contains(&b'\n') => Ok(Step::Complete),
        _ if seen.len() >= V1_BYTES_MAX => Err(ProxyError::TooLong),
        // A CR that is not the last byte, or any LF here, is not the end of a line.
        [line @ .., b'\r'] if !line.contains(&b'\r') && !line.contains(&b'\n') => Ok(Step::Read(1)),
        line if line.contains(&b'\r') || line.contains(&b'\n') => Err(ProxyError::Malformed),
        _ => Ok(Step::Read(2.min(V1_BYTES_MAX - seen.len()))),
    }
}

/// Pure: a whole header, exactly.
pub(super) fn decode(header: &[u8]) -> Result<ProxyHeader, ProxyError> {
    let addresses = if header.starts_with(v2::PROTOCOL_PREFIX) {
        let header = v2::Header::try_from(header).map_err(|_| ProxyError::Malformed)?;
        match (header.command, header.addresses) {
            (v2::Command::Local, _) | (_, v2::Addresses::Unspecified | v2::Addresses::Unix(_)) => None,
            (v2::Command::Proxy, v2::Addresses::IPv4(a)) => Some((
                SocketAddr::from((a.source_address, a.source_port)),
                SocketAddr::from((a.destination_address, a.destination_port)),
            )),
            (v2::Command::Proxy, v2::Addresses::IPv6(a)) => Some((
                SocketAddr::from((a.source_address, a.source_port)),
                SocketAddr::from((a.destination_address, a.destination_port)),
            )),
        }
    } else {
        match v1::Header::try_from(header).map_err(|_| ProxyError::Malformed)?.addresses {
            v1::Addresses::Unknown => None,
            v1::Addresses::Tcp4(a) => Some((
                SocketAddr::from((a.source_address, a.source_port)),
                SocketAddr::from((a.destination_address, a.destination_port)),
            )),
            v1::Addresses::Tcp6(a) => Some((
                SocketAddr::from((a.source_address, a.source_port)),
                SocketAddr::from((a.destination_address, a.destination_port)),
            )),
        }
    };
    Ok(ProxyHeader { addresses })
}

/// Reads a header and not one byte more. Has no deadline of its own.
pub(super) async fn read<S: AsyncRead + Unpin>(io: &mut S) -> Result<ProxyHeader, ProxyError> {
    let mut seen = Vec::with_capacity(V1_BYTES_MAX);
    while let Step::Read(more) = step(&seen)? {
        let had = seen.len();
        seen.resize(had + more, 0);
        // One read, not read_exact: what is no header is refused by its first bytes, not waited for.
        let read = io.read(&mut seen[had..]).await.map_err(ProxyError::Io)?;
        if read == 0 {
            return Err(ProxyError::Io(std::io::ErrorKind::UnexpectedEof.into()));
        }
        seen.truncate(had + read);
    }
    decode(&seen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let mut header = v2::PROTOCOL_PREFIX.to_vec();
        header.extend([0x20 | command, family]);
        header.extend((body.len() as u16).to_be_bytes());
        header.extend(body);
        header
    }

    /// Runs the reader over bytes in memory, at most `chunk` at a time; returns its answer and how many bytes it took.
    fn run(bytes: &[u8], chunk: usize) -> (Result<ProxyHeader, ProxyError>, usize) {
        let mut seen = Vec::new();
        loop {
            match step(&seen) {
                Err(error) => return (Err(error), seen.len()),
                Ok(Step::Complete) => return (decode(&seen), seen.len()),
                Ok(Step::Read(more)) => {
                    assert!(more > 0);
                    let rest = &bytes[seen.len()..];
                    let read = more.min(chunk).min(rest.len());
                    if read == 0 {
                        let end = std::io::ErrorKind::UnexpectedEof.into();
                        return (Err(ProxyError::Io(end)), seen.len());
                    }
                    seen.extend_from_slice(&rest[..read]);
                    assert!(seen.len() <= V2_BYTES_MAX);
                }
            }
        }
    }

    fn addresses(header: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
        run(header, usize::MAX).0.unwrap().addresses
    }

    #[test]
    fn both_versions_say_who_the_client_is() {
        let expected = Some(("192.0.2.1:56324".parse().unwrap(), "198.51.100.2:443".parse().unwrap()));
        assert_eq!(addresses(b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n"), expected);
        let body = [192, 0, 2, 1, 198, 51, 100, 2, 220, 4, 1, 187];
        assert_eq!(addresses(&v2(1, 0x11, &body)), expected);
        let with_tlv = [&body[..], &[4, 0, 3, 1, 2, 3]].concat();
        assert_eq!(addresses(&v2(1, 0x11, &with_tlv)), expected, "TLVs are skipped");
        let six = addresses(b"PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n").unwrap();
        assert_eq!(six.0, "[2001:db8::1]:1".parse().unwrap());
    }

    #[test]
    fn health_checks_and_unknowns_keep_the_peers_address() {
        assert_eq!(addresses(b"PROXY UNKNOWN\r\n"), None);
        assert_eq!(addresses(b"PROXY UNKNOWN ff::1 ff::2 1 2\r\n"), None);
        assert_eq!(addresses(&v2(0, 0x11, &[192, 0, 2, 1, 198, 51, 100, 2, 220, 4, 1, 187])), None);
        assert_eq!(addresses(&v2(0, 0, &[])), None);
    }

    #[test]
    fn what_is_no_header_is_refused_by_its_first_bytes() {
        assert!(matches!(run(b"GET / HTTP/1.1\r\n", 1), (Err(ProxyError::Absent), 1)));
        assert!(matches!(run(&v2(1, 0x11, &vec![0; 3000]), 1), (Err(ProxyError::TooLong), V2_FIXED_BYTES)));
        let endless = [&b"PROXY TCP4 "[..], &[b'1'; 200]].concat();
        assert!(matches!(run(&endless, 7), (Err(ProxyError::TooLong), V1_BYTES_MAX)));
        assert!(run(b"PROXY TCP4 \n192.0.2.1 192.0.2.2 1 2\r\n", 99).0.is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), chunk in 1usize..64) {
            let _ = run(&bytes, chunk);
            let _ = run(&[v2::PROTOCOL_PREFIX, &bytes].concat(), chunk);
            let _ = run(&[b"PROXY TCP4 ", &bytes[..]].concat(), chunk);
            let _ = decode(&bytes);
        }

        #[test]
        fn no_byte_after_the_header_is_taken(
            tail in prop::collection::vec(any::<u8>(), 0..64),
            body in prop::collection::vec(any::<u8>(), 0..300),
            port in any::<u16>(),
            chunk in 1usize..64,
        ) {
            let line = format!("PROXY TCP4 192.0.2.1 192.0.2.2 {port} 443\r\n").into_bytes();
            for header in [line, b"PROXY UNKNOWN\r\n".to_vec(), v2(0, 0, &body)] {
                let (answer, taken) = run(&[&header[..], &tail].concat(), chunk);
                prop_assert!(answer.is_ok(), "{answer:?} for {:?}", header.escape_ascii().to_string());
                prop_assert_eq!(taken, header.len());
            }
        }
    }
}
