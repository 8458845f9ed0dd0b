//! The harness: real sockets and real processes, no mocks. A test builds an [`Origin`] (scripted, may misbehave) or an
//! [`Nginx`], puts an [`Edge`] (the real `reelgate serve`) in front of it, and asks it as a client: [`Request`] and
//! [`Connection`] for HTTP/1.1 to the byte, [`Curl`] for HTTP/2 and TLS, [`Player`] where a client stalls or leaves.
//!
//! Invariants: no bare sleep (wait with [`eventually`] or a [`Gate`]); ports are picked, never fixed; everything started
//! here ends when its handle is dropped; what a server of ours or the edge panicked with fails the test that owns it.

mod client;
mod curl;
mod edge;
mod metrics;
mod nginx;
mod origin;
mod patience;
mod player;
mod reply;

pub use client::{Connection, Request, Response, parse_response};
pub use curl::{Curl, certificate, h2load};
pub use edge::{Edge, EdgeBuilder, reelgate};
pub use metrics::Samples;
pub use nginx::Nginx;
pub use origin::{Origin, Received};
pub use patience::{Gate, eventually, free_port, patience, pause, wait_for, wait_for_long};
pub use player::{Answer, Player, Speech, http3_settings, http3_settings_with, runtime};
pub use reply::{Reply, Step};

/// `bytes` bytes that differ at every offset modulo a prime, so that a shifted or mixed body is noticed.
pub fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|i| (i % 251) as u8).collect()
}

/// Like [`pattern`], of letters: for bodies compared as text, distinct by `seed`.
pub fn letters(seed: u8, bytes: usize) -> String {
    (0..bytes).map(|i| char::from(b'a' + ((i + usize::from(seed)) % 23) as u8)).collect()
}
