//! The lane beside an application: who answers what, and when the next request is read.

use super::harness::*;
use crate::transport::{Answered, Connection, Lane};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::AsyncWriteExt;

const BODY_BYTES: usize = 12_000;

/// Answers heads that begin with `GET /quick`, and counts.
#[derive(Debug, Default)]
struct Quick(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    given: AtomicUsize,
    sent: AtomicUsize,
    failed: AtomicUsize,
}

#[derive(Debug)]
struct Gone(Arc<Counts>);

impl Lane for Quick {
    fn answer(
        &self,
        _connection: &Arc<Connection>,
        head: &[u8],
        out: &mut Vec<u8>,
        room: usize,
    ) -> Option<Box<dyn Answered>> {
        out.extend_from_slice(format!("HTTP/1.1 200 OK\r\nContent-Length: {BODY_BYTES}\r\n\r\n").as_bytes());
        out.extend_from_slice(&[b'q'; BODY_BYTES]);
        if !head.starts_with(b"GET /quick") || !head.ends_with(b"\r\n\r\n") || out.len() > room {
            return None;
        }
        self.0.given.fetch_add(1, Ordering::SeqCst);
        Some(Box::new(Gone(Arc::clone(&self.0))))
    }
}

impl Answered for Gone {
    fn end(self: Box<Self>, outcome: Result<(), &io::Error>) {
        let count = if outcome.is_ok() { &self.0.sent } else { &self.0.failed };
        count.fetch_add(1, Ordering::SeqCst);
    }
}

fn with_lane(limits: crate::config::Limits) -> (Server, Arc<Counts>) {
    let counts = Arc::new(Counts::default());
    (serve_with(listen(), shared_with(limits, Some(Arc::new(Quick(Arc::clone(&counts)))))), counts)
}

#[tokio::test]
async fn the_lane_and_the_application_share_a_connection() {
    let (server, counts) = with_lane(limits());
    let mut client = server.connect().await;
    for (path, by_lane) in [("/quick", true), ("/", false), ("/quick", true), ("/quick", true), ("/", false)] {
        let answer = get(&mut client, path).await;
        assert_eq!(answer.ends_with('q'), by_lane, "{path}: {answer}");
    }
    assert_eq!(counts.given.load(Ordering::SeqCst), 3);
    eventually(|| counts.sent.load(Ordering::SeqCst) == 3).await;
}

#[tokio::test]
async fn what_comes_in_pieces_or_with_more_is_the_applications() {
    let (server, counts) = with_lane(limits());
    let mut client = server.connect().await;
    get(&mut client, "/").await;
    client.write_all(b"GET /qui").await.unwrap();
    // Time in which the server reads the first piece: it is about two reads, and nothing tells when the first has been.
    tokio::time::sleep(Duration::from_millis(300)).await;
    client.write_all(b"ck HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    assert!(read_response(&mut client).await.contains("client="));
    client.write_all(b"GET /quick HTTP/1.1\r\nHost: a\r\n\r\nGET").await.unwrap();
    assert!(read_response(&mut client).await.contains("client="));
    assert_eq!(counts.given.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_answered_until_its_socket_is_full_and_then_let_go() {
    let (server, counts) = with_lane(crate::config::Limits { stall_timeout: Duration::from_secs(1), ..limits() });
    let mut client = server.connect().await;
    let count = |of: &AtomicUsize| of.load(Ordering::SeqCst);
    for asked in 1.. {
        if client.write_all(b"GET /quick HTTP/1.1\r\nHost: a\r\n\r\n").await.is_err() {
            break;
        }
        // The next is read only once this one is with the socket.
        eventually(|| count(&counts.sent) >= asked || count(&counts.failed) > 0).await;
        assert!(count(&counts.given) <= asked);
        if count(&counts.failed) > 0 {
            break;
        }
    }
    assert_eq!((count(&counts.failed), count(&counts.given)), (1, count(&counts.sent) + 1));
    assert_eq!(server.limit_reached("stall_timeout"), 1);
}
