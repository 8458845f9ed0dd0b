//! The bytes of HTTP/3's streams, from what QUIC brings to what Pingora gets or the error that goes back: a request's stream (frames,
//! QPACK, fields), and a client's control stream. In one process and without a socket, so that many inputs are tried.
//!
//! Each gives a request, an error with a code of RFC 9114 or 9204, or "more"; however it is cut into packets the same; and no
//! more is kept than the limits allow. What is taken for a request could be written as one HTTP/1.1 head and no more.

#[path = "mutate.rs"]
mod mutate;

use super::code::{Broken, Code};
use super::control::Control;
use super::message::{Fault, Message};
use super::wire::{Frames, Place, put_varint, varint};
use bytes::Bytes;
use http::{Method, Version, request};
use mutate::{Format, Mutator, Tried, corpus, runs};
use pingora_core::protocols::http::v1::client::http_req_header_to_wire;
use pingora_http::RequestHeader;
use std::collections::HashSet;
use std::fmt::Debug;

const FIELDS_BYTES_MAX: usize = 2048;
const FRAME_BYTES_MAX: usize = 4096;
/// Inputs that did something new are changed further, so many of them.
const POOL_MAX: usize = 1000;

const HTTP3: Format = Format {
    seams: frame_seams,
    pieces: &[
        // Empty DATA, DATA, empty HEADERS, reserved types, SETTINGS, PUSH_PROMISE, frames of HTTP/2.
        &[0x00, 0x00],
        &[0x00, 0x03, 0x61, 0x62, 0x63],
        &[0x01, 0x02, 0x00, 0x00],
        &[0x21, 0x00],
        &[0x40, 0x5f, 0x01, 0x00],
        &[0x04, 0x00],
        &[0x04, 0x04, 0x06, 0x44, 0x00, 0x33],
        &[0x05, 0x01, 0x00],
        &[0x06, 0x08, 0, 0, 0, 0, 0, 0, 0, 0],
        &[0x07, 0x01, 0x04],
        &[0x0d, 0x01, 0x08],
        &[0x80, 0x0f, 0x07, 0x00, 0x04, 0x00, 0x75, 0x3d, 0x31],
        // Lengths: a HEADERS frame of 2^62 - 1, a DATA frame of 2^30, in more bytes than needed.
        &[0x01, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        &[0x00, 0x80, 0x00, 0x00, 0x00],
        &[0xc0, 0, 0, 0, 0, 0, 0, 0x01, 0x40, 0x02],
        // Parts of sections: indexed fields, literals with and without a name of the table, coded strings, integers without an end.
        &[0xc1],
        &[0xd1],
        &[0xd7],
        &[0x50, 0x01, 0x61],
        &[0x54, 0x01, 0x35],
        &[0x54, 0x81, 0x1f],
        &[0x23, b't', b'e', b'-', 0x00],
        &[0x22, b't', b'e', 0x08, b't', b'r', b'a', b'i', b'l', b'e', b'r', b's'],
        &[0x27, 0x03, b'c', b'o', b'n', b'n', b'e', b'c', b't', b'i', b'o', b'n', 0x00],
        &[0x24, b'h', b'o', b's', b't', 0x09, b'l', b'o', b'c', b'a', b'l', b'h', b'o', b's', b't'],
        &[0x21, b'a', 0x04, b'\r', b'\n', b'b', b':'],
        &[0x29, 0x1f],
        &[0x3f, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        &[0x10],
        &[0x80],
    ],
    change,
};

/// Frames that are whole: where each begins, where its length does, its content, its end.
fn frames(input: &[u8]) -> Vec<[usize; 4]> {
    let (mut frames, mut at) = (Vec::new(), 0);
    while let Some((_, kind)) = varint(&input[at..])
        && let Some((length, bytes)) = varint(&input[at + kind..])
        && let Some(end) = usize::try_from(length).ok().and_then(|length| length.checked_add(at + kind + bytes))
        && end <= input.len()
    {
        frames.push([at, at + kind, at + kind + bytes, end]);
        at = end;
    }
    frames
}

fn frame_seams(input: &[u8]) -> Vec<usize> {
    let frames = frames(input);
    frames.iter().flat_map(|frame| frame[..3].to_vec()).chain([frames.last().map_or(0, |frame| frame[3])]).collect()
}

fn change(random: &mut fastrand::Rng, input: &mut Vec<u8>) {
    if random.bool() { change_a_content(random, input) } else { change_an_integer(random, input) }
}

/// Fields of a frame are left out, doubled or put in, and its length is right again.
fn change_a_content(random: &mut fastrand::Rng, input: &mut Vec<u8>) {
    let frames = frames(input);
    let Some([_, length, content, end]) = frames.get(random.usize(..frames.len().max(1))).copied() else { return };
    let mut changed = input[content..end].to_vec();
    let (one, other) = (random.usize(..=changed.len()), random.usize(..=changed.len()));
    let part = one.min(other)..one.max(other);
    let new = match random.u8(..3) {
        0 => Vec::new(),
        1 => changed[part.clone()].repeat(random.usize(2..40)),
        _ => [&changed[part.clone()], HTTP3.pieces[random.usize(..HTTP3.pieces.len())]].concat(),
    };
    drop(changed.splice(part, new));
    let mut put = Vec::new();
    put_varint(&mut put, changed.len() as u64);
    put.extend(changed);
    drop(input.splice(length..end, put));
}

/// A frame's type or length becomes another, or is written in more bytes.
fn change_an_integer(random: &mut fastrand::Rng, input: &mut Vec<u8>) {
    let seams = frame_seams(input);
    let at = seams[random.usize(..seams.len())];
    let Some((value, length)) = varint(&input[at..]) else { return };
    let mut put = Vec::new();
    match random.u8(..6) {
        0 => put_varint(&mut put, value + 1),
        1 => put_varint(&mut put, value.saturating_sub(1)),
        2 => put_varint(&mut put, random.u64(..1 << 62)),
        3 => put_varint(&mut put, (input.len() - at - length) as u64),
        4 => put.extend((0xc000_0000_0000_0000 | value).to_be_bytes()),
        _ => put_varint(&mut put, random.u64(..16)),
    }
    drop(input.splice(at..at + length, put));
}

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
        let cut = mutator.cuts(input);
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
        let cut = mutator.cuts(input);
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
