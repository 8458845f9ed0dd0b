//! The HTTP application as one connection sees it: with the options of its listener and the limits in force when it was accepted.
//! Everything else is delegated.

use super::connection;
use crate::config::Limits;
use crate::observe::Lifecycle;
use async_trait::async_trait;
use pingora_core::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream};
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::http::v2::server::H2Options;
use pingora_core::server::ShutdownWatch;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::sync::watch;

/// HTTP/2 receive windows: an upload of 100 Mbit/s at 80 ms, and four of them.
pub(super) const H2_STREAM_WINDOW_BYTES: u32 = 1 << 20;
pub(super) const H2_CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// What one HTTP/2 stream may hold of its response while the client's window is closed.
const H2_SEND_BUFFER_BYTES: usize = 256 << 10;
/// Streams reset by us because the client broke the protocol, before its connection is closed.
const H2_LOCAL_RESETS_MAX: usize = 256;

fn options(limits: &Limits, h2c: bool) -> HttpServerOptions {
    let mut options = HttpServerOptions::default();
    options.h2c = h2c;
    // Pingora counts reuses, not requests.
    options.keepalive_request_limit = limits.requests_per_connection_max.checked_sub(1);
    options.h2_idle_timeout = Some(limits.idle_timeout);
    options
}

fn h2_options(limits: &Limits) -> H2Options {
    let mut options = H2Options::new();
    options
        .max_header_list_size(u32::try_from(limits.header_bytes_max).unwrap_or(u32::MAX))
        .max_concurrent_streams(limits.http2_streams_max)
        .max_pending_accept_reset_streams(limits.http2_pending_resets_max)
        .max_local_error_reset_streams(Some(H2_LOCAL_RESETS_MAX))
        .initial_window_size(H2_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(H2_CONNECTION_WINDOW_BYTES)
        .max_send_buffer_size(H2_SEND_BUFFER_BYTES);
    options
}

/// See the module.
pub(super) struct ConnectionApp<A> {
    app: Arc<A>,
    options: HttpServerOptions,
    h2_options: H2Options,
    /// HTTP/2 only; starts at 0 where there is no limit.
    requests_left: AtomicU32,
    lifecycle: Arc<Lifecycle>,
    /// Turned true when `requests_left` runs out.
    leave: Arc<watch::Sender<bool>>,
}

impl<A> ConnectionApp<A> {
    /// `h2c`: HTTP/2's preface has been seen in clear.
    pub(super) fn new(
        app: Arc<A>,
        limits: &Limits,
        h2c: bool,
        lifecycle: Arc<Lifecycle>,
        leave: Arc<watch::Sender<bool>>,
    ) -> Self {
        let (options, h2_options) = (options(limits, h2c), h2_options(limits));
        let requests_left = AtomicU32::new(limits.requests_per_connection_max);
        Self { app, options, h2_options, requests_left, lifecycle, leave }
    }
}

#[async_trait]
impl<A: HttpServerApp + Send + Sync + 'static> HttpServerApp for ConnectionApp<A> {
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        let _held = self.lifecycle.hold();
        if session.as_http1().is_some() {
            if let Some(connection) = session.digest().and_then(connection::connection) {
                connection.head.set_reuses_left(session.get_keepalive_reuses_remaining());
                connection.head.await_head();
            }
            // No deadline of Pingora's, where the connection may be kept: the guard has one for idle connections and one for
            // heads, while Pingora's is for each read and can be set by the client (`Keep-Alive: timeout=`).
            if session.get_keepalive().is_some() {
                session.set_keepalive(Some(0));
            }
        } else if self.requests_left.fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| n.checked_sub(1)) == Ok(1) {
            self.leave.send_replace(true);
        }
        self.app.process_new_http(session, shutdown).await
    }

    fn h2_options(&self) -> Option<H2Options> {
        Some(self.h2_options.clone())
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        Some(&self.options)
    }

    async fn http_cleanup(&self) {
        self.app.http_cleanup().await;
    }
}
