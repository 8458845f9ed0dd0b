//! SIGTERM: readiness goes first, what is in flight ends, and then the process is gone, not a grace period later.

use crate::support::{
    Connection, Edge, Gate, Origin, Player, Reply, Request, Speech, Step, eventually, letters, pause, runtime,
};
use std::net::TcpStream;
use std::time::{Duration, Instant};

const HALF: usize = 100_000;

/// Answers `/slow` in two halves around the gate; each is more than any buffer on the way holds back.
fn slow(gate: &Gate) -> Origin {
    let half = || Step::Send(letters(0, HALF).into());
    let steps = vec![half(), Step::Wait(gate.clone()), half()];
    Origin::start().route("/slow", Reply::ok("").length(2 * HALF as u64).steps(steps)).route("/", Reply::ok("x"))
}

#[test]
fn an_idle_edge_is_gone_at_once() {
    let origin = Origin::start().route("/", Reply::ok("x"));
    let edge = Edge::of(&origin).tls().set("shutdown.drain_timeout", "60s").run();
    let mut idle = Connection::open(edge.http());
    idle.exchange(&Request::get("/")).expect_status(200);
    let _silent = Connection::open(edge.http());
    let began = Instant::now();
    edge.sigterm();
    assert_eq!(edge.expect_exit().code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[test]
fn an_answer_in_flight_ends_and_then_the_process_does() {
    let gate = Gate::new();
    let origin = slow(&gate);
    let edge = Edge::of(&origin).set("shutdown.drain_timeout", "60s").run();
    let mut connection = Connection::open(edge.http());
    connection.send(Request::get("/slow").to_bytes());
    assert_eq!(connection.head().map(|h| h.status), Some(200));
    edge.sigterm();
    eventually("no new connection is taken", || TcpStream::connect(edge.http()).is_err());
    assert!(edge.exited().is_none(), "an answer is still in flight");
    gate.open();
    assert_eq!(connection.read(2 * HALF), letters(0, HALF).repeat(2).as_bytes());
    let began = Instant::now();
    assert_eq!(edge.expect_exit().code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(8), "{:?} after the last answer", began.elapsed());
}

#[test]
fn readiness_fails_before_connections_are_refused() {
    let origin = Origin::start().route("/", Reply::ok("x"));
    let edge = Edge::of(&origin).set("shutdown.notice", "5s").set("shutdown.drain_timeout", "20s").run();
    assert_eq!(edge.admin_get("/readyz").status, 200);
    edge.sigterm();
    eventually("readiness fails", || edge.admin_get("/readyz").status == 503);
    assert_eq!(edge.admin_get("/livez").status, 200);
    assert_eq!(edge.get("/").status, 200, "clients a balancer still sends are served during the notice");
    edge.expect_exit();
}

#[test]
fn an_answer_that_never_ends_is_cut_after_the_drain_timeout() {
    let gate = Gate::new();
    let origin = slow(&gate);
    let edge = Edge::of(&origin).set("shutdown.drain_timeout", "2s").run();
    let mut connection = Connection::open(edge.http());
    connection.send(Request::get("/slow").to_bytes());
    assert_eq!(connection.head().map(|h| h.status), Some(200));
    let began = Instant::now();
    edge.sigterm();
    edge.expect_exit();
    let took = began.elapsed();
    assert!(took > Duration::from_millis(1500) && took < Duration::from_secs(12), "{took:?}");
    assert!(connection.read(2 * HALF).len() < 2 * HALF, "a cut answer must not look whole");
}

#[test]
fn sigint_stops_too() {
    let origin = Origin::start().route("/", Reply::ok("x"));
    let edge = Edge::of(&origin).run();
    edge.signal("INT");
    assert_eq!(edge.expect_exit().code(), Some(0));
}

#[test]
fn a_request_after_sigterm_on_an_open_connection_is_answered_or_closed() {
    let gate = Gate::new();
    let origin = slow(&gate);
    let edge = Edge::of(&origin).run();
    let mut holder = Connection::open(edge.http());
    holder.send(Request::get("/slow").to_bytes());
    holder.head().expect("an answer has begun");
    let mut other = Connection::open(edge.http());
    other.exchange(&Request::get("/")).expect_status(200);
    edge.sigterm();
    pause(Duration::from_millis(300));
    other.send(Request::get("/").to_bytes());
    assert!(other.response("GET").is_none_or(|r| matches!(r.status, 200 | 503)), "never a broken answer");
    gate.open();
    edge.expect_exit();
}

#[test]
fn streams_in_flight_end_and_then_the_process_does() {
    for speech in [Speech::Http2, Speech::Http2Tls] {
        let gate = Gate::new();
        let origin = slow(&gate);
        let edge = Edge::of(&origin).tls().set("shutdown.drain_timeout", "60s").run();
        runtime().block_on(async {
            let mut player = Player::open(speech, edge.speaks(speech), None).await.expect("a connection");
            let mut answers = Vec::new();
            for _ in 0..5 {
                let mut answer = player.get("/slow").await.expect("a head");
                answer.read(1000).await.expect("first bytes");
                answers.push(answer);
            }
            edge.sigterm();
            eventually("no new connection is taken", || TcpStream::connect(edge.http()).is_err());
            assert!(edge.exited().is_none(), "{speech:?}: streams are still in flight");
            let late = player.get("/").await;
            assert!(late.is_err() || late.is_ok_and(|a| a.status == 200), "{speech:?}: refused or answered");
            gate.open();
            for answer in &mut answers {
                let rest = answer.rest().await.unwrap_or_else(|e| panic!("{speech:?}: {e}"));
                assert!(rest == letters(0, HALF).repeat(2).as_bytes()[1000..], "{speech:?}");
            }
            // The client keeps its connection open, as browsers do.
            let began = Instant::now();
            assert_eq!(edge.expect_exit().code(), Some(0));
            assert!(
                began.elapsed() < Duration::from_secs(3),
                "{speech:?}: {:?} after the last answer",
                began.elapsed()
            );
        });
    }
}

/// An edge with an open tunnel through TLS.
fn tunnelled(origin: &Origin, drain_timeout: &str) -> (Edge, Connection) {
    let edge = Edge::of(origin).tls().set("shutdown.drain_timeout", drain_timeout).run();
    let mut tunnel = Connection::open_tls(edge.https());
    let request = Request::get("/socket").header("Connection", "Upgrade").header("Upgrade", "websocket");
    tunnel.send(request.header("Sec-WebSocket-Version", "13").header("Sec-WebSocket-Key", "AAAA").to_bytes());
    assert_eq!(tunnel.head().map(|h| h.status), Some(101));
    (edge, tunnel)
}

#[test]
fn tunnels_are_cut_after_the_drain_timeout() {
    let origin = Origin::start().route("/socket", Reply::upgrade_echo());
    let (edge, mut tunnel) = tunnelled(&origin, "2s");
    let began = Instant::now();
    edge.sigterm();
    pause(Duration::from_millis(500));
    tunnel.send("still");
    assert_eq!(tunnel.read(5), b"still", "a tunnel lives until the drain timeout");
    edge.expect_exit();
    let took = began.elapsed();
    assert!(took > Duration::from_millis(1500) && took < Duration::from_secs(6), "{took:?}");
    assert!(tunnel.closed_within(Duration::from_secs(5)));
}

#[test]
fn a_second_sigterm_ends_at_once() {
    let origin = Origin::start().route("/socket", Reply::upgrade_echo());
    let (edge, mut tunnel) = tunnelled(&origin, "60s");
    edge.sigterm();
    eventually("it drains", || edge.stderr().contains("draining"));
    pause(Duration::from_millis(300));
    assert!(edge.exited().is_none(), "a tunnel is open");
    let began = Instant::now();
    edge.sigterm();
    assert_eq!(edge.expect_exit().code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert!(tunnel.closed_within(Duration::from_secs(5)));
}
