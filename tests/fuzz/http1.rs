//! Random and mutated HTTP/1 heads at a running edge: it never panics, goes on answering, and no connection ever carries a
//! second request to the origin.

use super::mutate::{Format, Mutator, corpus, runs};
use crate::support::{Connection, Edge, Origin, Reply};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use std::cell::{Cell, RefCell};
use std::collections::HashSet;

const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n";

fn line() -> impl Strategy<Value = Vec<u8>> {
    let method = prop_oneof![
        6 => Just("GET".to_owned()),
        4 => Just("POST".to_owned()),
        1 => Just("HEAD".to_owned()),
        1 => Just("OPTIONS".to_owned()),
        1 => "[A-Z]{1,8}",
        1 => "[ -~]{1,6}",
    ];
    let target = prop_oneof![
        6 => "/[a-c]",
        2 => "/[a-z./%;?&=\\\\2eEfF05cC#]{0,30}",
        1 => "http://localhost/[a-c.%/]{0,10}",
        1 => Just("*".to_owned()),
        1 => "\\PC{0,12}",
    ];
    let version = prop_oneof![8 => Just("HTTP/1.1"), 2 => Just("HTTP/1.0"), 1 => Just("HTTP/2.0"), 1 => Just("HTTP/1.2"), 1 => Just("")];
    (method, target, version).prop_map(|(m, t, v)| format!("{m} {t} {v}\r\n").into_bytes())
}

fn field() -> impl Strategy<Value = Vec<u8>> {
    let known = prop_oneof![
        Just("Content-Length: 5"),
        Just("Content-Length: 0"),
        Just("Content-Length: 46"),
        Just("Content-Length: 5, 5"),
        Just("Transfer-Encoding: chunked"),
        Just("Transfer-Encoding: identity"),
        Just("Transfer-Encoding:\tchunked"),
        Just("Transfer_Encoding: chunked"),
        Just("Connection: close"),
        Just("Connection: keep-alive, Content-Length"),
        Just("Connection: Upgrade"),
        Just("Upgrade: websocket"),
        Just("Expect: 100-continue"),
        Just("Range: bytes=0-1,2-3"),
        Just("If-None-Match: *"),
        Just("Host: other"),
        Just("Host:"),
        Just("Accept: text/event-stream"),
        Just("Keep-Alive: timeout=1"),
        Just("Cache-Control: no-store"),
        Just("X-Forwarded-For: \"1.2.3.4"),
        Just("Forwarded: for=\"[::1\";host=\"a\\"),
        Just("CDN-Loop: reelgate;id=\""),
        Just("traceparent: 00-0-0-0"),
        Just(" folded"),
        Just(":"),
    ];
    let random = prop::collection::vec(any::<u8>(), 0..40);
    prop_oneof![6 => known.prop_map(|f| f.as_bytes().to_vec()), 1 => random].prop_map(|mut field| {
        field.extend(b"\r\n");
        field
    })
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    let chunked = format!("5\r\nhello\r\n0\r\n\r\n{SMUGGLED}");
    let extended = format!("5;a=\"\n\"\r\nhello\r\n0\r\nX: y\r\n\r\n{SMUGGLED}");
    prop_oneof![
        Just(Vec::new()),
        Just(SMUGGLED.as_bytes().to_vec()),
        Just(format!("hello{SMUGGLED}").into_bytes()),
        Just(chunked.into_bytes()),
        Just(extended.into_bytes()),
        Just(format!("0\r\n\r\n{SMUGGLED}").into_bytes()),
        prop::collection::vec(any::<u8>(), 0..200),
    ]
}

/// A request, and bytes of it changed, left out or doubled.
fn request() -> impl Strategy<Value = Vec<u8>> {
    let whole = (line(), any::<prop::sample::Index>(), prop::collection::vec(field(), 0..6), body()).prop_map(
        |(mut bytes, at, mut fields, body)| {
            fields.insert(at.index(fields.len() + 1), b"Host: localhost\r\n".to_vec());
            bytes.extend(fields.concat());
            bytes.extend(b"\r\n");
            bytes.extend(body);
            bytes
        },
    );
    let mutation = (any::<prop::sample::Index>(), 0u8..4, any::<u8>());
    (whole, prop::collection::vec(mutation, 0..3)).prop_map(|(mut bytes, mutations)| {
        for (at, kind, byte) in mutations {
            let at = at.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => drop(bytes.remove(at)),
                2 => bytes.insert(at, byte),
                _ => bytes.insert(at, b"\r\n \t:;,\0"[usize::from(byte % 8)]),
            }
        }
        bytes
    })
}

/// Seams: lines.
const HTTP1: Format = Format {
    seams: |input| (0..=input.len()).filter(|at| *at == 0 || input[at - 1] == b'\n').collect(),
    pieces: &[
        b"Content-Length: 0\r\n",
        b"Content-Length: 18446744073709551616\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
        b"Connection: host, close\r\n",
        b"Host: a, b\r\n",
        b"Range: bytes=-0\r\n",
        b"Expect: 100-continue\r\n",
        b" folded\r\n",
        b"0\r\n\r\n",
        b"ffffffffffffffff\r\n",
        b"\r\n",
        b"\r",
        b"\0",
    ],
    change: |random, input| {
        // A letter's case, or a blank beside it.
        if let Some(at) = (!input.is_empty()).then(|| random.usize(..input.len())) {
            if input[at].is_ascii_alphabetic() {
                input[at] ^= 0x20
            } else {
                input.insert(at, b" \t"[random.usize(..2)])
            }
        }
    },
};

#[test]
fn no_bytes_make_the_edge_panic_stop_or_smuggle() {
    let origin = Origin::start().handle("*", |r| match r.path() {
        "/a" => Reply::cacheable("a").header("ETag", "\"a\""),
        "/b" => Reply::cacheable("b".repeat(5000)).chunked(),
        _ => Reply::ok("other"),
    });
    let edge = Edge::of(&origin).set("limits.connections_per_address", 1000).run();
    let (cases, sent) = (Cell::new(0_usize), RefCell::new(Vec::new()));
    let try_one = |bytes: Vec<u8>| -> Result<(), TestCaseError> {
        let number = cases.get();
        cases.set(number + 1);
        // A line may end in a bare LF, too (RFC 9112 §2.2).
        let marked = match bytes.iter().position(|byte| *byte == b'\n') {
            Some(at) => [&bytes[..=at], format!("X-Case: {number}\r\n").as_bytes(), &bytes[at + 1..]].concat(),
            None => bytes,
        };
        let answer = Connection::open(edge.http()).send(&marked).finish_sending().read_to_end();
        let text = String::from_utf8_lossy(&answer);
        prop_assert!(!text.contains(" 500 Internal"), "{}: {text}", marked.escape_ascii());
        sent.borrow_mut().push(marked);
        Ok(())
    };
    let config = Config { cases: runs(600), failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let outcome = runner.run(&request(), try_one);
    let (mut mutator, pool) = (Mutator::new(HTTP1), corpus("http1"));
    for _ in 0..runs(600) {
        if let Err(failure) = try_one(mutator.one_of(&pool)) {
            panic!("{failure}");
        }
    }
    assert!(edge.exited().is_none(), "the edge is gone");
    assert_eq!(edge.get("/alive").text(), "other");
    assert!(!edge.stderr().contains("panicked"), "{}", edge.stderr());
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
    // Only now: a client that leaves does not wait for what the origin gets.
    // The origin is stricter than RFC 9110 §9.1 about methods; a request of a case is still one.
    let garbage: Vec<String> = origin.garbage().into_iter().filter(|head| !head.contains("\r\nX-Case: ")).collect();
    assert!(garbage.is_empty(), "{garbage:?}");
    let received = origin.received();
    let mut seen = HashSet::new();
    for request in received.iter().filter(|request| request.path() != "/alive") {
        let case = request.header("x-case").and_then(|case| case.parse::<usize>().ok());
        let from = case.and_then(|case| sent.borrow().get(case).map(|bytes| bytes.escape_ascii().to_string()));
        assert!(seen.insert(case) && from.is_some(), "a second request: {} of {from:?}", request.head);
        assert!(request.path() != "/smuggled", "{} of {from:?}", request.head);
        assert!(request.target.starts_with('/') || request.target == "*", "{} of {from:?}", request.head);
        for name in ["cdn-loop", "via", "x-forwarded-for"] {
            assert!(request.header(name).is_some(), "without {name}: {} of {from:?}", request.head);
        }
    }
    assert!(seen.len() > 20, "hardly anything came through: {} of {}", seen.len(), cases.get());
}
