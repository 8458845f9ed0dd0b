//! What went wrong with a request to an origin, and what counts against its server. Pure.
//!
//! What counts, for ejection and for the breaker alike: failures of the connection (refused, reset, TLS, timeouts, garbage)
//! and the statuses a gateway uses for them, 502 and 504. What does not: 4xx and other 5xx. Plex answers 503 for a part
//! nobody has decided on and 509 above its bandwidth limit: were those counted, one viewer could take the origin away from
//! all. A 5xx that does not count is no success either: it ends no row of failures.

use pingora_error::{Error, ErrorSource, ErrorType, RetryType};

/// Why a request to an origin failed. Also the `reason` label of `reelgate_origin_errors_total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Refused, or no route.
    Connect,
    /// No connection (TCP and TLS) in time.
    ConnectTimeout,
    /// The handshake failed or the certificate was not accepted.
    Tls,
    /// Connected, but an answer, or its next part, did not come in time; or the request was not taken in time.
    Timeout,
    /// The connection ended within an exchange.
    Reset,
    /// Bytes that are not HTTP.
    Protocol,
    /// A kept connection turned out to be closed or closing, or not to speak HTTP/2 after all: the server is not to blame,
    /// and the request may go again on another connection.
    Stale,
    /// Our own side failed (no port or descriptor left): the server is not to blame.
    Local,
}

impl Failure {
    /// Reads an error of Pingora's. `reused`: the connection had served another request before. None: the client's or our
    /// own doing, nothing to hold against the origin.
    pub fn of(error: &Error, reused: bool) -> Option<Self> {
        if *error.esource() != ErrorSource::Upstream {
            return None;
        }
        match error.retry {
            RetryType::ReusedOnly if reused => return Some(Self::Stale),
            // Pingora decides so for GOAWAY, REFUSED_STREAM and a downgrade to HTTP/1.1: the request was not processed.
            RetryType::Decided(true) => return Some(Self::Stale),
            _ if reused && *error.etype() == ErrorType::WriteError => return Some(Self::Stale),
            _ => {}
        }
        Some(match error.etype() {
            ErrorType::ConnectTimedout | ErrorType::TLSHandshakeTimedout => Self::ConnectTimeout,
            ErrorType::ConnectRefused
            | ErrorType::ConnectNoRoute
            | ErrorType::ConnectError
            | ErrorType::ConnectProxyFailure => Self::Connect,
            ErrorType::TLSWantX509Lookup
            | ErrorType::TLSHandshakeFailure
            | ErrorType::InvalidCert
            | ErrorType::HandshakeError => Self::Tls,
            ErrorType::ReadTimedout | ErrorType::WriteTimedout => Self::Timeout,
            ErrorType::InvalidHTTPHeader | ErrorType::H1Error | ErrorType::H2Error => Self::Protocol,
            ErrorType::Custom("PingTimedout") => Self::Timeout,
            ErrorType::Custom(name) if name.starts_with("Invalid") => Self::Protocol,
            ErrorType::ReadError | ErrorType::WriteError | ErrorType::ConnectionClosed | ErrorType::Custom(_) => {
                Self::Reset
            }
            ErrorType::HTTPStatus(_) => return None,
            _ => Self::Local,
        })
    }

    /// The label of metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::ConnectTimeout => "connect_timeout",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::Reset => "reset",
            Self::Protocol => "protocol",
            Self::Stale => "stale",
            Self::Local => "local",
        }
    }

    /// The status a client gets when no retry follows: 504 for a timeout, else 502 (500 where we are to blame).
    pub fn status(self) -> u16 {
        match self {
            Self::ConnectTimeout | Self::Timeout => 504,
            Self::Local => 500,
            _ => 502,
        }
    }

    /// Whether it counts against the server.
    pub fn counts(self) -> bool {
        !matches!(self, Self::Stale | Self::Local)
    }

    /// Whether the origin cannot have seen the request, so that any method may go again.
    pub fn nothing_sent(self) -> bool {
        matches!(self, Self::Connect | Self::ConnectTimeout | Self::Tls)
    }

    /// Whether another address of the same server may do better.
    pub(super) fn is_of_the_address(self) -> bool {
        matches!(self, Self::Connect | Self::ConnectTimeout)
    }
}

/// What a status says about the server that sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    Good,
    /// It answers, but not as it should; neither a success nor a failure.
    Neutral,
    Bad,
}

/// Judges a status; see the module's header for the reasons.
pub fn judge(status: u16) -> Judgement {
    match status {
        502 | 504 => Judgement::Bad,
        500.. => Judgement::Neutral,
        _ => Judgement::Good,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upstream(etype: ErrorType) -> Box<Error> {
        Error::new_up(etype)
    }

    #[test]
    fn each_error_has_its_reason_and_status() {
        for (etype, failure, status) in [
            (ErrorType::ConnectRefused, Failure::Connect, 502),
            (ErrorType::ConnectTimedout, Failure::ConnectTimeout, 504),
            (ErrorType::TLSHandshakeFailure, Failure::Tls, 502),
            (ErrorType::InvalidCert, Failure::Tls, 502),
            (ErrorType::ReadTimedout, Failure::Timeout, 504),
            (ErrorType::ConnectionClosed, Failure::Reset, 502),
            (ErrorType::InvalidHTTPHeader, Failure::Protocol, 502),
            (ErrorType::Custom("PingTimedout"), Failure::Timeout, 504),
            (ErrorType::Custom("PrematureBodyEnd"), Failure::Reset, 502),
            (ErrorType::Custom("InvalidChunk"), Failure::Protocol, 502),
            (ErrorType::InternalError, Failure::Local, 500),
        ] {
            let read = Failure::of(&upstream(etype.clone()), false);
            assert_eq!(read, Some(failure), "{etype:?}");
            assert_eq!(failure.status(), status);
        }
    }

    #[test]
    fn a_kept_connection_that_was_closed_is_not_the_servers_failure() {
        let mut error = upstream(ErrorType::ConnectionClosed);
        error.retry = RetryType::ReusedOnly;
        assert_eq!(Failure::of(&error, true), Some(Failure::Stale));
        assert_eq!(Failure::of(&error, false), Some(Failure::Reset), "on a new connection it is");
        assert_eq!(Failure::of(&upstream(ErrorType::WriteError), true), Some(Failure::Stale));
        let mut going_away = upstream(ErrorType::H2Error);
        going_away.retry = true.into();
        assert_eq!(Failure::of(&going_away, false), Some(Failure::Stale));
        assert!(!Failure::Stale.counts());
    }

    #[test]
    fn a_client_that_leaves_is_not_held_against_the_origin() {
        assert_eq!(Failure::of(&Error::new_down(ErrorType::WriteError), false), None);
        assert_eq!(Failure::of(&Error::new_in(ErrorType::InternalError), false), None);
    }

    #[test]
    fn plex_refusals_do_not_count() {
        for status in [401, 403, 404, 429] {
            assert_eq!(judge(status), Judgement::Good);
        }
        for status in [500, 501, 503, 505, 509] {
            assert_eq!(judge(status), Judgement::Neutral);
        }
        assert_eq!((judge(502), judge(504)), (Judgement::Bad, Judgement::Bad));
    }
}
