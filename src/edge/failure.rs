//! Errors of a request → the status a client sees and the reason metrics and logs carry. Nothing of the error's text
//! reaches the client: it can hold addresses and targets.

use pingora_error::{Error, ErrorSource, ErrorType};

/// How a request failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    /// 0: the client is gone, there is nobody to answer.
    pub status: u16,
    /// A label from a fixed list.
    pub reason: &'static str,
}

/// Our own refusals travel through Pingora as `HTTPStatus`; the rest is classified by who failed and how.
pub fn classify(error: &Error) -> Failure {
    use ErrorType::*;
    let of = |status, reason| Failure { status, reason };
    match (error.esource(), error.etype()) {
        (ErrorSource::Upstream, HTTPStatus(status)) => of(*status, "origin_status"),
        (_, HTTPStatus(status)) => of(*status, refusal(*status)),
        (ErrorSource::Downstream, ReadTimedout) => of(408, "client_stalled"),
        (ErrorSource::Downstream, InvalidHTTPHeader) => of(400, "bad_request"),
        (ErrorSource::Downstream, WriteTimedout) => of(0, "client_stalled"),
        (ErrorSource::Downstream, _) => of(0, "client_gone"),
        (_, ConnectTimedout | TLSHandshakeTimedout) => of(504, "connect_timeout"),
        (_, ConnectRefused) => of(502, "connect_refused"),
        (_, ConnectNoRoute | ConnectError | SocketError | BindError | ConnectProxyFailure) => of(502, "connect"),
        (_, TLSHandshakeFailure | InvalidCert | HandshakeError | TLSWantX509Lookup) => of(502, "tls"),
        (ErrorSource::Upstream, ReadTimedout | WriteTimedout) => of(504, "timeout"),
        (ErrorSource::Upstream, InvalidHTTPHeader | H1Error | H2Error | H2Downgrade | InvalidH2) => of(502, "protocol"),
        (ErrorSource::Upstream, ReadError | WriteError | ConnectionClosed) => of(502, "reset"),
        (ErrorSource::Upstream, _) => of(502, "origin"),
        (_, _) => of(500, "internal"),
    }
}

/// Why a request was refused before it reached an origin.
fn refusal(status: u16) -> &'static str {
    match status {
        400 => "bad_request",
        403 => "forbidden",
        405 => "method",
        408 => "client_stalled",
        421 => "no_site",
        429 => "rate",
        431 => "headers_too_large",
        503 => "unavailable",
        508 => "loop",
        _ => "refused",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(source: ErrorSource, kind: ErrorType) -> u16 {
        let mut error = Error::new(kind);
        error.esource = source;
        classify(&error).status
    }

    #[test]
    fn refused_reset_and_garbage_are_502_and_timeouts_504() {
        assert_eq!(at(ErrorSource::Upstream, ErrorType::ConnectRefused), 502);
        assert_eq!(at(ErrorSource::Upstream, ErrorType::ConnectionClosed), 502);
        assert_eq!(at(ErrorSource::Upstream, ErrorType::InvalidHTTPHeader), 502);
        assert_eq!(at(ErrorSource::Upstream, ErrorType::ConnectTimedout), 504);
        assert_eq!(at(ErrorSource::Upstream, ErrorType::ReadTimedout), 504);
    }

    #[test]
    fn a_slow_client_is_408_and_a_gone_one_gets_nothing() {
        assert_eq!(at(ErrorSource::Downstream, ErrorType::ReadTimedout), 408);
        assert_eq!(at(ErrorSource::Downstream, ErrorType::ConnectionClosed), 0);
    }

    #[test]
    fn our_own_refusals_keep_their_status() {
        assert_eq!(at(ErrorSource::Unset, ErrorType::HTTPStatus(508)), 508);
    }
}
