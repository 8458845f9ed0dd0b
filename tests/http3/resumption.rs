//! A session may be taken up again, by a ticket; requests in its first flight (0-RTT) never are: whoever caught them could send them
//! again (RFC 8470).

use super::client::Talk;
use crate::support::{Edge, Origin, Reply, eventually, http3_settings_with, patience, runtime};
use rustls::NamedGroup;
use rustls::client::{ClientSessionMemoryCache, ClientSessionStore, Resumption};
use rustls::client::{Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::ServerName;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

fn origin() -> Origin {
    Origin::start().route("*", Reply::ok("x"))
}

#[test]
fn a_session_is_taken_up_again_by_its_ticket() {
    let origin = origin();
    let edge = Edge::of(&origin).tls().run();
    let told = Talk::with(&edge).connect("resume", true).get("/").run();
    told.stream(0).expect(200);
    assert!(told.is("resumed"), "{told:?}");
    assert!(!Talk::with(&edge).get("/").run().is("resumed"));
}

#[test]
fn early_requests_of_aioquic_are_refused_and_answered_after_the_handshake() {
    let origin = origin();
    let edge = Edge::of(&origin).tls().run();
    let told = Talk::with(&edge).connect("early", true).send("POST", "/pay", &[], json!({"body": "1"})).end().run();
    assert!(told.is("early_sent") && !told.is("early_accepted") && !told.is("answered_early"), "{told:?}");
    assert!(told.is("resumed"), "the ticket itself is good: {told:?}");
    told.stream(0).expect(200);
    assert_eq!(origin.count("/pay"), 1);
}

/// Session tickets, kept; `says_early` makes them say that the server takes early data.
#[derive(Debug)]
struct Tickets {
    kept: ClientSessionMemoryCache,
    got: AtomicUsize,
    given: AtomicUsize,
    says_early: AtomicBool,
}

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, name: ServerName<'static>, group: NamedGroup) {
        self.kept.set_kx_hint(name, group);
    }

    fn kx_hint(&self, name: &ServerName<'_>) -> Option<NamedGroup> {
        self.kept.kx_hint(name)
    }

    fn set_tls12_session(&self, name: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.kept.set_tls12_session(name, value);
    }

    fn tls12_session(&self, name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.kept.tls12_session(name)
    }

    fn remove_tls12_session(&self, name: &ServerName<'static>) {
        self.kept.remove_tls12_session(name);
    }

    fn insert_tls13_ticket(&self, name: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.kept.insert_tls13_ticket(name, value);
        self.got.fetch_add(1, Ordering::Relaxed);
    }

    fn take_tls13_ticket(&self, name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        let mut ticket = self.kept.take_tls13_ticket(name)?;
        self.given.fetch_add(1, Ordering::Relaxed);
        if self.says_early.load(Ordering::Relaxed) {
            ticket._private_set_max_early_data_size(u32::MAX);
        }
        Some(ticket)
    }
}

#[test]
fn early_requests_of_quinn_are_refused_and_answered_after_the_handshake() {
    let origin = origin();
    let edge = Edge::of(&origin).tls().run();
    let tickets = Arc::new(Tickets {
        kept: ClientSessionMemoryCache::new(8),
        got: AtomicUsize::new(0),
        given: AtomicUsize::new(0),
        says_early: AtomicBool::new(false),
    });
    let settings = http3_settings_with(|tls| {
        tls.enable_early_data = true;
        tls.resumption = Resumption::store(Arc::clone(&tickets) as Arc<dyn ClientSessionStore>);
    });
    let work = async {
        let mut endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().expect("an address")).expect("an endpoint");
        endpoint.set_default_client_config(settings);
        let connect = || endpoint.connect(edge.https(), "localhost").expect("a way");
        let first = connect().await.expect("a connection");
        eventually("tickets have come", || tickets.got.load(Ordering::Relaxed) >= 2);
        first.close(0x100_u32.into(), b"");

        let honest = connect().into_0rtt().err().expect("the ticket allows no early data").await.expect("a connection");
        assert_eq!(tickets.given.load(Ordering::Relaxed), 1);
        honest.close(0x100_u32.into(), b"");

        tickets.says_early.store(true, Ordering::Relaxed);
        let (connection, accepted) = connect().into_0rtt().expect("the ticket seems to allow early data");
        // :method POST, :scheme https, :authority localhost, :path /, whole in the first flight.
        let head = [&[0x01, 0x10, 0x00, 0x00, 0xd4, 0xd7, 0x50, 0x09][..], b"localhost", &[0xc1]].concat();
        let (mut send, mut receive) = connection.open_bi().await.expect("a stream");
        send.write_all(&head).await.expect("sent");
        send.finish().expect("sent");
        assert!(!accepted.await, "early data was accepted");
        let lost = receive.read_to_end(1000).await;
        assert!(matches!(lost, Err(quinn::ReadToEndError::Read(quinn::ReadError::ZeroRttRejected))), "{lost:?}");

        let opened = h3::client::new(h3_quinn::Connection::new(connection)).await;
        let (mut driver, mut sender) = opened.expect("a connection");
        let driver = tokio::spawn(async move { drop(driver.wait_idle().await) });
        let mut stream = sender
            .send_request(http::Request::get("https://localhost/").body(()).expect("a request"))
            .await
            .expect("sent");
        stream.finish().await.expect("sent");
        assert_eq!(stream.recv_response().await.expect("an answer").status(), 200);
        driver.abort();
    };
    runtime().block_on(async { tokio::time::timeout(patience(), work).await.expect("in time") });
    assert_eq!(origin.count("/"), 1, "the one after the handshake");
}
