//! One active check: a GET over a new connection with the settings real requests use, so that it tests what they will meet.

use std::fmt;

use pingora_core::connectors::http::Connector;
use pingora_core::upstreams::peer::HttpPeer;
use pingora_http::RequestHeader;

use crate::config::ActiveHealth;

/// Interim (1xx) responses borne before the answer.
const INTERIM_MAX: usize = 8;

/// Why a check failed.
#[derive(Debug)]
pub(super) enum CheckFailed {
    Timeout,
    Status(u16),
    /// Connecting, writing or reading failed; the type only: no text of the origin reaches a log.
    Connection(&'static str),
}

impl fmt::Display for CheckFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str("no answer in time"),
            Self::Status(status) => write!(f, "status {status}"),
            Self::Connection(reason) => f.write_str(reason),
        }
    }
}

/// Checks the server behind `peer` once, within `settings.timeout`. `host`: the Host field.
pub(super) async fn check(
    connector: &Connector,
    peer: &HttpPeer,
    host: &str,
    settings: &ActiveHealth,
) -> Result<(), CheckFailed> {
    let mut peer = peer.clone();
    // One stream per connection keeps it out of Pingora's pool of shared HTTP/2 connections, and it is dropped, not
    // released, at the end: every check connects anew.
    peer.options.max_h2_streams = 1;
    let exchange = async {
        let mut session = connector.get_http_session(&peer).await?.0;
        let mut request = RequestHeader::build("GET", settings.path.as_bytes(), Some(3))?;
        request.insert_header("host", host)?;
        request.insert_header("user-agent", concat!("reelgate/", env!("CARGO_PKG_VERSION")))?;
        request.insert_header("accept", "*/*")?;
        session.write_request_header(Box::new(request)).await?;
        session.finish_request_body().await?;
        let mut status = 0;
        for _ in 0..=INTERIM_MAX {
            session.read_response_header().await?;
            status = session.response_header().map_or(0, |header| header.status.as_u16());
            if status >= 200 {
                break;
            }
        }
        session.shutdown().await;
        Ok(status)
    };
    match tokio::time::timeout(settings.timeout, exchange).await {
        Err(_) => Err(CheckFailed::Timeout),
        Ok(Err(error)) => {
            let error: Box<pingora_error::Error> = error;
            Err(CheckFailed::Connection(error.etype().as_str()))
        }
        Ok(Ok(status)) if settings.status.contains(&status) => Ok(()),
        Ok(Ok(status)) => Err(CheckFailed::Status(status)),
    }
}
