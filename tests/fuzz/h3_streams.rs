//! The bytes of HTTP/3's streams, from what QUIC brings to what Pingora gets or the error that goes back: a request's stream (frames,
//! QPACK, fields), and a client's control stream. In one process and without a socket, so that many inputs are tried.
//!
//! Each gives a request, an error with a code of RFC 9114 or 9204, or "more"; however it is cut into packets the same; and no
//! more is kept than the limits allow. What is taken for a request could be written as one HTTP/1.1 head and no more.

#[path = "h3_format.rs"]
mod h3_format;
#[path = "mutate.rs"]
mod mutate;

use super::code::{Broken, Code};
use super::control::Control;
use super::message::{Fault, Message};
use super::wire::{Frames, Place};
use bytes::Bytes;
use h3_format::HTTP3;
use http::{Method, Version, request};
use mutate::{Mutator, corpus, runs};
use pingora_core::protocols::http::v1::client::http_req_header_to_wire;
use pingora_http::RequestHeader;
use std::collections::HashSet;
use std::fmt::Debug;

const FIELDS_BYTES_MAX: usize = 2048;
const FRAME_BYTES_MAX: usize = 4096;
/// Inputs that did something new are changed further, so many of them.
const POOL_MAX: usize = 1000;

/// A request as far as it came.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    head: Option<String>,
    fields: usize,
    body: u64,
    ended: bool,
}

fn read_request(pieces: &[&[u8]], ends: bool) -> Result<Told, Fault> {
    let mut message = Message::new(FIELDS_BYTES_MAX, FRAME_BYTES_MAX as u64);
    let mut told = Told { head: None, fields: 0, body: 0, ended: false };
    for piece in pieces {
        message.push(Bytes::copy_from_slice(piece));
        // A buffer may have room for twice what is in it.
        assert!(message.held() <= piece.len() + 2 * FRAME_BYTES_MAX, "{} bytes kept", message.held());
        if told.head.is_none() {
            let Some(head) = message.head()? else { continue };
            check(&head);
            told.fields = head.headers.len();
            told.head = Some(format!("{} {} {:?}", head.method, head.uri, head.headers));
        }
        while let Some(data) = message.data()? {
            assert!(!data.is_empty(), "a piece of nothing");
            told.body += data.len() as u64;
        }
    }
    if ends {
        message.end()?;
        assert!(message.is_done() && told.head.is_some(), "an end without a request");
        told.ended = true;
    }
    assert_eq!(message.received(), told.body);
    Ok(told)
}

/// What every request that is taken must be.
fn check(head: &request::Parts) {
    let size: usize = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
    assert!(size <= FIELDS_BYTES_MAX, "{size} bytes of fields");
    for name in ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"] {
        assert!(!head.headers.contains_key(name), "{name} in HTTP/3");
    }
    for name in ["host", "content-length"] {
        assert!(head.headers.get_all(name).iter().count() < 2, "{name} twice");
    }
    let host = head.headers.get("host").map(|host| host.as_bytes());
    match (head.uri.authority(), host) {
        (Some(authority), Some(host)) => assert_eq!(authority.as_str().as_bytes(), host, "two hosts"),
        (one, other) => assert!(one.is_some() || other.is_some(), "no host"),
    }
    if head.method == Method::CONNECT {
        return assert!(head.uri.path_and_query().is_none(), "CONNECT with a path");
    }
    let target = head.uri.path_and_query().expect("a path").as_str();
    assert!(target.starts_with('/') || (target == "*" && head.method == Method::OPTIONS), "{target}");
    assert!(!target.bytes().any(|byte| byte <= b' ' || byte == b'#' || byte == 0x7f), "{target}");

    let mut header = RequestHeader::from(head.clone());
    header.set_version(Version::HTTP_11);
    let wire = http_req_header_to_wire(&header).expect("HTTP/1.1 can be written");
    let lines = wire.windows(2).filter(|pair| pair == b"\r\n").count();
    assert_eq!(lines, head.headers.len() + 2, "{}", wire.escape_ascii());
    let bare = wire.iter().filter(|byte| matches!(byte, b'\r' | b'\n' | 0)).count();
    assert_eq!(bare, 2 * lines, "{}", wire.escape_ascii());
}

fn read_control(pieces: &[&[u8]]) -> Result<(), Code> {
    let control = Control::new(8);
    let mut frames = Frames::new(Place::Control);
    for piece in pieces {
        control.read(&mut frames, Bytes::copy_from_slice(piece))?;
        assert!(frames.held() <= 2 * FRAME_BYTES_MAX, "{} bytes kept", frames.held());
    }
    Ok(())
}

/// Cuts an input into pieces, as a network might.
fn cut<'a>(random: &mut fastrand::Rng, input: &'a [u8]) -> Vec<&'a [u8]> {
    let mut rest = input;
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        let most = if random.bool() { 3 } else { rest.len() };
        let (piece, after) = rest.split_at(random.usize(1..=most.min(rest.len())));
        pieces.push(piece);
        rest = after;
    }
    pieces
}

/// Says which input it was, should what it is tried on panic.
struct Tried<'a>(&'a [u8]);

impl Drop for Tried<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("with this input: {}", self.0.escape_ascii());
        }
    }
}

/// Tries the corpus, then changes of it and of whatever did something new (as `try_one` tells); what is new is written into the
/// folder `REELGATE_FUZZ_KEEP` names.
fn fuzz<T: Debug>(folder: &str, usual_runs: u32, mut try_one: impl FnMut(&mut Mutator, &[u8]) -> T) -> HashSet<String> {
    let mut mutator = Mutator::new(HTTP3);
    let mut pool = corpus(folder);
    let known = pool.len();
    let mut seen = HashSet::new();
    for input in &pool {
        let tried = Tried(input);
        seen.insert(format!("{:?}", try_one(&mut mutator, tried.0)));
    }
    let kept = std::env::var_os("REELGATE_FUZZ_KEEP").map(|kept| std::path::Path::new(&kept).join(folder));
    for _ in 0..runs(usual_runs) {
        let input = mutator.one_of(&pool);
        let tried = Tried(&input);
        let what = format!("{:?}", try_one(&mut mutator, tried.0));
        drop(tried);
        if seen.insert(what) && pool.len() < known + POOL_MAX {
            if let Some(kept) = &kept {
                std::fs::create_dir_all(kept).expect("a folder");
                std::fs::write(kept.join(format!("changed-{:03}", pool.len() - known)), &input).expect("written");
            }
            pool.push(input);
        }
    }
    seen
}

#[test]
fn any_request_stream_is_a_request_an_error_or_unfinished() {
    let connection =
        [Code::FRAME_UNEXPECTED, Code::FRAME_ERROR, Code::EXCESSIVE_LOAD, Code::QPACK_DECOMPRESSION_FAILED];
    let stream = [Code::REQUEST_INCOMPLETE, Code::MESSAGE_ERROR];
    let seen = fuzz("h3-request", 20_000, |mutator, input| {
        let ends = mutator.random.u8(..4) > 0;
        let whole = read_request(&[input], ends);
        let cut = cut(&mut mutator.random, input);
        assert_eq!(read_request(&cut, ends), whole, "in other packets");
        match &whole {
            Err(Fault::Broken(Broken::Connection(code))) => assert!(connection.contains(code), "{code}"),
            Err(Fault::Broken(Broken::Stream(code))) => assert!(stream.contains(code), "{code}"),
            Err(Fault::TooLarge) | Ok(_) => {}
        }
        // What is new: another outcome, or another shape of request.
        whole.map(|told| (told.head.is_some(), told.fields, told.body.checked_ilog2(), told.ended))
    });
    for code in connection.map(Broken::Connection).into_iter().chain(stream.map(Broken::Stream)) {
        let fault: Result<(), Fault> = Err(Fault::Broken(code));
        assert!(seen.contains(&format!("{fault:?}")), "never {code:?}");
    }
    assert!(seen.contains(&format!("{:?}", Err::<(), _>(Fault::TooLarge))), "never too large");
    assert!(seen.iter().any(|what| what.starts_with("Ok((true")), "never a request");
}

#[test]
fn any_control_stream_is_heard_or_ends_the_connection() {
    let codes = [
        Code::FRAME_UNEXPECTED,
        Code::FRAME_ERROR,
        Code::EXCESSIVE_LOAD,
        Code::ID_ERROR,
        Code::SETTINGS_ERROR,
        Code::MISSING_SETTINGS,
    ];
    let seen = fuzz("h3-control", 10_000, |mutator, input| {
        let whole = read_control(&[input]);
        let cut = cut(&mut mutator.random, input);
        assert_eq!(read_control(&cut), whole, "in other packets");
        if let Err(code) = whole {
            assert!(codes.contains(&code), "{code}");
        }
        whole
    });
    for code in codes {
        assert!(seen.contains(&format!("{:?}", Err::<(), _>(code))), "never {code}");
    }
}
