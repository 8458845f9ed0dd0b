//! While a body is still coming: what has come is given at once, to all who wait, each in the coding it takes.

use super::codec::{Beginning, CODINGS, decode};
use super::{accepting, coding_of, decoded, fetch, text, words};
use crate::support::{Edge, Gate, Origin, Player, Reply, Speech, Step, eventually, patience, runtime};
use http::Method;

/// The first half, and the second when the gate opens.
fn halves(reply: Reply, body: &str, gate: &Gate) -> Reply {
    let (first, second) = body.split_at(body.len() / 2);
    reply.chunked().steps(vec![Step::Send(first.into()), Step::Wait(gate.clone()), Step::Send(second.into())])
}

/// Reads on until `wanted` bytes are decoded; the answer goes on.
async fn read_half(answer: &mut crate::support::Answer, wanted: usize) -> Result<Vec<u8>, String> {
    let mut beginning = Beginning::new(answer.header("content-encoding"));
    let mut coded = Vec::new();
    loop {
        let data = answer.next().await?.ok_or("ended before the gate opened")?;
        coded.extend_from_slice(&data);
        if beginning.feed(&data)?.len() >= wanted {
            return Ok(coded);
        }
    }
}

#[test]
fn the_first_words_of_a_slow_text_do_not_wait_for_the_last() {
    let body = words(1, 4000);
    let origin = Origin::start();
    let edge = Edge::of(&origin).tls().run();
    for (number, kept) in ["max-age=60", "no-store"].into_iter().enumerate() {
        for speech in Speech::ALL {
            for coding in CODINGS {
                let gate = Gate::new();
                let name = format!("{speech:?} {coding} {kept}");
                let path = format!("/{number}/{speech:?}/{coding}");
                let reply = Reply::ok("").header("Content-Type", "text/plain").header("Cache-Control", kept);
                origin.set_route(&path, halves(reply, &body, &gate));
                runtime().block_on(async {
                    let mut player = Player::open(speech, edge.speaks(speech), None).await.expect("a connection");
                    let asked = player.ask(Method::GET, &path, &[("accept-encoding", coding)]).await;
                    let mut answer = asked.unwrap_or_else(|e| panic!("{name}: no head before the end: {e}"));
                    assert_eq!(answer.header("content-encoding"), coding, "{name}");
                    let half = tokio::time::timeout(patience() / 4, read_half(&mut answer, body.len() / 2)).await;
                    let half = half.unwrap_or_else(|_| panic!("{name}: nothing until the end"));
                    let mut coded = half.unwrap_or_else(|e| panic!("{name}: {e}"));
                    gate.open();
                    coded.extend(answer.rest().await.expect("the rest"));
                    assert_eq!(decode(coding, &coded).as_deref(), Ok(body.as_bytes()), "{name}");
                });
            }
        }
    }
}

#[test]
fn server_sent_events_are_left_alone_and_come_at_once() {
    let event = format!("data: {}\n\n", words(2, 2000).replace('\n', " "));
    let gate = Gate::new();
    let reply = Reply::ok("").header("Content-Type", "text/event-stream").header("Cache-Control", "no-cache");
    let steps = vec![Step::Send(event.clone().into()), Step::Wait(gate.clone()), Step::Send(event.clone().into())];
    let origin = Origin::start().route("/a", reply.chunked().steps(steps));
    let edge = Edge::of(&origin).tls().run();
    for speech in Speech::ALL {
        gate.close();
        runtime().block_on(async {
            let mut player = Player::open(speech, edge.speaks(speech), None).await.expect("a connection");
            let asked = player.ask(Method::GET, "/a", &[("accept-encoding", super::BROWSER)]).await;
            let mut answer = asked.expect("a head");
            assert_eq!(answer.header("content-encoding"), "", "{speech:?}");
            let first = answer.read(event.len()).await.expect("an event before the next");
            assert_eq!(first, event.as_bytes(), "{speech:?}");
            gate.open();
            assert_eq!(answer.rest().await.expect("the end"), event.as_bytes(), "{speech:?}");
        });
    }
}

/// One fill, and all who want it meanwhile: each gets what has come, in its own coding, and the whole in the end.
#[test]
fn followers_of_a_fill_get_right_bytes_in_every_coding() {
    let body = words(3, 100_000);
    for origin_coding in ["", "gzip"] {
        let gate = Gate::new();
        let mut reply = text("");
        let mut bytes = body.clone().into_bytes();
        if !origin_coding.is_empty() {
            bytes = super::codec::encode(origin_coding, &bytes);
            reply = reply.header("Content-Encoding", origin_coding);
        }
        let (first, second) = bytes.split_at(bytes.len() / 2);
        let steps = vec![Step::Send(first.into()), Step::Wait(gate.clone()), Step::Send(second.into())];
        let origin = Origin::start().route("/a", reply.length(bytes.len() as u64).steps(steps));
        let edge = Edge::of(&origin).tls().run();
        let accepted = ["br", "", "gzip", "zstd", "identity;q=0, gzip", "br", "*;q=0", "zstd;q=0.1"];
        let clients: Vec<_> = accepted
            .into_iter()
            .enumerate()
            .map(|(i, accepted)| {
                let speech = Speech::ALL[i % 4];
                let (address, body) = (edge.speaks(speech), body.clone());
                let client = runtime().spawn(async move {
                    let mut player = Player::open(speech, address, None).await?;
                    let mut answer = player.ask(Method::GET, "/a", &[("accept-encoding", accepted)]).await?;
                    let bytes = answer.rest().await?;
                    let coding = answer.header("content-encoding");
                    let plain = decode(coding, &bytes)?;
                    let forbidden = accepted.contains("identity;q=0") && coding.is_empty();
                    let unasked = !coding.is_empty() && !accepted.contains(coding);
                    if plain != body.as_bytes() || forbidden || unasked {
                        return Err(format!("{accepted}: {} bytes as {coding:?}", plain.len()));
                    }
                    Ok::<_, String>(())
                });
                if i == 0 {
                    eventually("the fill has begun", || gate.arrived() >= 1);
                }
                client
            })
            .collect();
        gate.open();
        for client in clients {
            runtime().block_on(client).expect("no panic").unwrap_or_else(|e| panic!("origin {origin_coding:?}: {e}"));
        }
        assert_eq!(origin.count("/a"), 1, "one fill for all");
        for coding in CODINGS {
            assert_eq!(decoded(&super::warm(&edge, "/a", coding, &[])), body);
        }
    }
}

/// A follower in another coding reads while the fill runs; it does not wait for its end.
#[test]
fn a_follower_reads_coded_bytes_while_the_fill_runs() {
    let body = words(4, 40_000);
    let origin = Origin::start();
    let edge = Edge::of(&origin).tls().run();
    for known in [false, true] {
        let gate = Gate::new();
        let path = format!("/{known}");
        let reply = Reply::ok("").header("Content-Type", "text/plain").header("Cache-Control", "max-age=60");
        let reply = halves(reply, &body, &gate);
        origin.set_route(&path, if known { reply.length(body.len() as u64) } else { reply });
        runtime().block_on(async {
            let mut answers = Vec::new();
            let mut failures = Vec::new();
            for speech in Speech::ALL {
                for coding in ["gzip", "br", "zstd", ""] {
                    let name = format!("{speech:?} {coding}, length known: {known}");
                    let mut player = Player::open(speech, edge.speaks(speech), None).await.expect("a connection");
                    let asked = player.ask(Method::GET, &path, &[("accept-encoding", coding)]).await;
                    let mut answer = asked.unwrap_or_else(|e| panic!("{name}: {e}"));
                    let wait = patience() / 20;
                    match tokio::time::timeout(wait, read_half(&mut answer, body.len() / 2)).await {
                        Ok(half) => answers.push((player, answer, half.unwrap_or_else(|e| panic!("{name}: {e}")))),
                        Err(_) => failures.push(format!("{name}: nothing while the fill runs")),
                    }
                }
            }
            gate.open();
            for (_player, mut answer, mut coded) in answers {
                coded.extend(answer.rest().await.expect("the rest"));
                assert_eq!(decode(answer.header("content-encoding"), &coded).as_deref(), Ok(body.as_bytes()));
            }
            assert!(failures.is_empty(), "{}", failures.join("\n"));
        });
        assert_eq!(origin.count(&path), 1);
    }
}

#[test]
fn a_client_that_leaves_in_the_middle_of_coding_leaves_a_whole_body() {
    let body = words(5, 400_000);
    let gate = Gate::new();
    let reply = Reply::ok("").header("Content-Type", "text/plain").header("Cache-Control", "max-age=60");
    let origin = Origin::start().route("/a", halves(reply, &body, &gate));
    let edge = Edge::of(&origin).run();
    runtime().block_on(async {
        let mut player = Player::open(Speech::Http1, edge.http(), None).await.expect("a connection");
        let mut answer = player.ask(Method::GET, "/a", &[("accept-encoding", "br")]).await.expect("a head");
        answer.next().await.expect("a beginning");
    });
    gate.open();
    for coding in ["br", "gzip", "zstd", ""] {
        let answer = edge.send(&accepting("/a", coding)).expect_status(200);
        assert_eq!((decoded(&answer), coding_of(&answer)), (body.clone(), coding));
    }
}

/// The origin dies in the middle of a plain body: what was coded so far must not end like a whole one.
#[test]
fn a_body_cut_short_is_cut_short_in_every_coding() {
    let body = words(6, 60_000);
    let origin = Origin::start();
    let edge = Edge::of(&origin).tls().run();
    for kept in ["max-age=60", "no-store"] {
        let reply = || Reply::ok(body.clone()).header("Content-Type", "text/plain").header("Cache-Control", kept);
        for (framing, broken) in
            [("length", reply().die_after(30_000)), ("chunked", reply().chunked().die_after(30_000))]
        {
            for coding in CODINGS {
                let path = format!("/{kept}/{framing}/{coding}");
                origin.set_route(&path, broken.clone());
                for speech in Speech::ALL {
                    let outcome = fetch(&edge, speech, &path, coding);
                    let seen = outcome.as_ref().map_or(true, |(status, _)| *status >= 500);
                    assert!(seen, "{path} {speech:?}: taken for whole: {outcome:?}");
                }
                origin.set_route(&path, reply());
                assert_eq!(decoded(&edge.send(&accepting(&path, coding))), body, "{path}: the next is whole");
            }
        }
    }
}
