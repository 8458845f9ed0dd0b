//! Random and mutated streams at a running edge: it never panics, goes on answering, and an origin sees only whole, plain requests.

use super::h3_format::{HTTP3, put_varint};
use super::mutate::{Mutator, corpus, runs};
use crate::support::{Edge, Origin, Player, Reply, Speech, http3_settings, patience, runtime};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::net::SocketAddr;

fn frame(kind: usize, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_varint(&mut out, kind as u64);
    put_varint(&mut out, content.len() as u64);
    out.extend(content);
    out
}

/// Every name and value spelled out (RFC 9204, section 4.5.6).
fn section(fields: &[(String, String)]) -> Vec<u8> {
    let mut out = vec![0, 0];
    let string = |out: &mut Vec<u8>, pattern: u8, mask: usize, text: &str| {
        if text.len() < mask {
            out.push(pattern | text.len() as u8);
        } else {
            let rest = text.len() - mask;
            out.extend([pattern | mask as u8, 0x80 | (rest & 0x7f) as u8, (rest >> 7) as u8]);
        }
        out.extend(text.as_bytes());
    };
    for (name, value) in fields {
        string(&mut out, 0x20, 7, name);
        string(&mut out, 0, 127, value);
    }
    out
}

fn field() -> impl Strategy<Value = (String, String)> {
    let pair = |name: &str, value: &str| Just((name.to_owned(), value.to_owned()));
    prop_oneof![
        pair("content-length", "5"),
        pair("content-length", "0"),
        pair("content-length", "99999999999999999999"),
        pair("transfer-encoding", "chunked"),
        pair("te", "trailers"),
        pair("host", "localhost"),
        pair("host", "other"),
        pair(":path", "/b"),
        pair(":protocol", "websocket"),
        pair("expect", "100-continue"),
        pair("range", "bytes=0-1,2-3"),
        pair("cookie", "a=1"),
        pair("priority", "u=0, i"),
        pair("if-none-match", "*"),
        ("[a-zA-Z:_ -]{0,9}", "\\PC{0,20}"),
    ]
}

fn head() -> impl Strategy<Value = Vec<u8>> {
    let target = prop_oneof![4 => Just("/a".to_owned()), 1 => "/[a-z./%;?&=\\\\2eEfF05cC#]{0,30}", 1 => "\\PC{0,12}"];
    let method = prop_oneof![4 => Just("GET".to_owned()), 2 => Just("POST".to_owned()), 1 => "[A-Z]{0,8}", 1 => "[a-z(): ]{1,3} "];
    (method, target, prop::collection::vec(field(), 0..5), any::<prop::sample::Index>()).prop_map(
        |(method, target, more, at)| {
            let of = |name: &str, value: String| (name.to_owned(), value);
            let mut fields = vec![
                of(":method", method),
                of(":scheme", "https".to_owned()),
                of(":authority", "localhost".to_owned()),
                of(":path", target),
            ];
            for field in more {
                // Now and then before a pseudo-header field.
                let place = if at.index(8) == 0 { at.index(fields.len()) } else { fields.len() };
                fields.insert(place, field);
            }
            frame(1, &section(&fields))
        },
    )
}

/// What goes on one stream: whether it is a request's, its bytes, and how it ends: 0 clean, 1 reset, 2 left open.
fn stream() -> impl Strategy<Value = (bool, Vec<u8>, u8)> {
    let kind = prop_oneof![6 => Just(0_usize), 1 => Just(1), 1 => 0_usize..16, 1 => Just(0x21), 1 => Just(0x700)];
    let any_frame = (kind, prop::collection::vec(any::<u8>(), 0..40)).prop_map(|(kind, content)| frame(kind, &content));
    let bytes =
        (head(), prop::collection::vec(any_frame, 0..3)).prop_map(|(head, rest)| [head, rest.concat()].concat());
    let cut = prop::option::weighted(0.3, (any::<prop::sample::Index>(), any::<u8>()));
    let of_request = prop::bool::weighted(0.85);
    (of_request, bytes, cut, 0_u8..3).prop_map(|(of_request, mut bytes, cut, end)| {
        if let Some((at, byte)) = cut {
            let at = at.index(bytes.len());
            match byte % 3 {
                0 => bytes.truncate(at),
                1 => bytes[at] = byte,
                _ => bytes.insert(at, byte),
            }
        }
        (of_request, bytes, end)
    })
}

async fn throw(endpoint: &quinn::Endpoint, address: SocketAddr, streams: &[(bool, Vec<u8>, u8)]) -> Result<(), String> {
    let connection = endpoint.connect(address, "localhost").map_err(|e| e.to_string())?;
    let connection = connection.await.map_err(|e| format!("no connection: {e}"))?;
    let mut open = Vec::new();
    for (of_request, bytes, end) in streams {
        // The edge may have closed the connection by now, as it should.
        let (mut send, receive) = if *of_request {
            let Ok((send, receive)) = connection.open_bi().await else { return Ok(()) };
            (send, Some(receive))
        } else {
            let Ok(send) = connection.open_uni().await else { return Ok(()) };
            (send, None)
        };
        let _ = send.write_all(bytes).await;
        match end {
            0 => drop(send.finish()),
            1 => drop(send.reset(0x10c_u32.into())),
            _ => open.push(send),
        }
        if let (0, Some(mut receive)) = (end, receive) {
            // An answer, a reset, or the end of the connection: never silence.
            let read = tokio::time::timeout(patience(), receive.read_to_end(1 << 20)).await;
            read.map(drop).map_err(|_| format!("no answer to {bytes:02x?}"))?;
        }
    }
    connection.close(0x100_u32.into(), b"");
    Ok(())
}

#[test]
fn random_streams_leave_the_edge_answering() {
    let origin = Origin::start().route("*", Reply::cacheable("x"));
    let edge = Edge::of(&origin).tls().set("limits.http3_resets", 100_000).set("log.access.enabled", false).run();
    let endpoint = runtime().block_on(async {
        let mut endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().expect("an address")).expect("an endpoint");
        endpoint.set_default_client_config(http3_settings());
        endpoint
    });
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config { failure_persistence: None, ..Config::default() }, rng);
    let (mut mutator, pool) = (Mutator::new(HTTP3), corpus("h3-request"));
    for _ in 0..runs(400) {
        let mut streams = prop::collection::vec(stream(), 1..5).new_tree(&mut runner).expect("a value").current();
        let changed = (true, mutator.one_of(&pool), mutator.random.u8(..3));
        streams.insert(mutator.random.usize(..=streams.len()), changed);
        let outcome = runtime().block_on(throw(&endpoint, edge.https(), &streams));
        assert_eq!(outcome, Ok(()), "{streams:02x?}");
    }
    // The scripted origin takes letters only for a method; any token is one.
    let is_request = |head: &String| {
        let mut words = head.lines().next().unwrap_or_default().split(' ');
        let method = words.next().is_some_and(|word| http::Method::from_bytes(word.as_bytes()).is_ok());
        let target = words.next().is_some_and(|word| word.starts_with('/') || word == "*");
        method && target && words.eq(["HTTP/1.1"])
    };
    let garbage: Vec<String> = origin.garbage().into_iter().filter(|head| !is_request(head)).collect();
    assert_eq!(garbage, Vec::<String>::new(), "an origin got what is no request");
    runtime().block_on(async {
        let mut player = Player::open(Speech::Http3, edge.https(), None).await.expect("a connection");
        assert_eq!(player.get("/after").await.expect("an answer").status, 200);
    });
    edge.expect_metric("reelgate_requests_in_flight", &[], 0.0);
}
