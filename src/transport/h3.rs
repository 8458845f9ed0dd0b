//! HTTP/3 (RFC 9114) on QUIC: each request becomes a session of Pingora's own HTTP application, the one that serves HTTP/1.1 and
//! HTTP/2, so whatever the edge does it does here too.
//!
//! | part | what it does |
//! |---|---|
//! | [`endpoint`] | who may come in, limits of QUIC |
//! | [`sockets`] | several sockets on one address, and clients that move |
//! | [`congestion`] | how fast it sends |
//! | [`connection`] | one connection: its streams, silence, a drain |
//! | [`request`] | one request, from its stream to Pingora |
//! | [`session`] | what Pingora sees of it |
//! | [`receive`], [`send`] | the two halves of a request's stream |
//! | [`turns`] | which answer hands over its bytes next |
//! | [`message`] | what comes on it, as a request; pure |
//! | [`control`] | SETTINGS, GOAWAY, priorities |
//! | [`budget`] | what a client may waste |
//! | [`wire`], [`qpack`], [`huffman`], [`static_table`], [`fields`], [`code`] | frames, fields and errors; pure |
//!
//! QUIC itself is quinn's. HTTP/3's framing is ours: the h3 crate (0.0.8) takes a pseudo-header field twice, keeps frames of any
//! length whole, knows no priorities, and copies bodies.
//!
//! Invariants: a stream that does not end well is reset. A client holds no more of our memory than the windows of its connection
//! and one piece of each answer. No 0-RTT: replayed requests would reach origins (RFC 8470). No dynamic table, so no request waits
//! for another stream. Nothing is pushed.

mod budget;
mod code;
mod congestion;
mod connection;
mod control;
mod endpoint;
mod fields;
#[cfg(test)]
#[path = "../../tests/fuzz/h3_streams.rs"]
mod fuzz;
mod huffman;
mod message;
mod qpack;
mod receive;
mod request;
mod send;
mod session;
mod sockets;
mod static_table;
mod turns;
mod wire;

pub(super) use endpoint::QuicListener;
