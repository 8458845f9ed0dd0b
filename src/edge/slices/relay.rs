//! The answer of a probe to an object that is not sliced, given to the client that asked first: else such objects would be asked
//! for twice.

use super::super::Edge;
use super::super::context::Context;
use super::order::Answer;
use crate::http::byte_range::{self, Selection};
use crate::http::cache_status::Fwd;
use crate::http::slicing::ContentRange;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, RANGE};
use http::{HeaderMap, StatusCode};
use pingora_error::{Error, ErrorType, Result};
use pingora_http::ResponseHeader;
use pingora_proxy::Session;

/// The bytes of a body that the client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cut {
    skip: u64,
    /// None: all of it.
    take: Option<u64>,
}

impl Edge {
    /// Answers the client, where the answer is one to its very request. False: it is not.
    pub(super) async fn relay(&self, session: &mut Session, ctx: &mut Context, mut answer: Answer) -> Result<bool> {
        let is_part = answer.header.status == StatusCode::PARTIAL_CONTENT;
        if is_part && !self.range_counts(session, &answer.header) {
            return Ok(false);
        }
        let Some(mut cut) = fit(&session.req_header().headers, &mut answer.header) else { return Ok(false) };
        let is_range = session.req_header().headers.contains_key(RANGE);
        ctx.cache.bypass = Some(if is_range { Fwd::Partial } else { Fwd::UriMiss });
        ctx.origin.status = Some(answer.header.status.as_u16());
        ctx.origin.elapsed = answer.answered.as_ref().map(|answered| answered.elapsed);
        let mut header = answer.header.clone();
        let has_length = header.headers.contains_key(CONTENT_LENGTH);
        self.finish_headers(session, &mut header, ctx)?;
        session.write_response_header(header, false).await?;
        while let Some(bytes) = answer.next().await {
            let bytes = cut.of(bytes);
            if !bytes.is_empty() {
                session.write_response_body(Some(bytes), false).await?;
            }
            if cut.take == Some(0) {
                session.write_response_body(None, true).await?;
                return Ok(true);
            }
        }
        let is_short = has_length && cut.take.is_some_and(|left| left > 0);
        if !answer.is_whole() || is_short {
            return Err(Error::explain(ErrorType::ConnectionClosed, "the origin broke off").into_up());
        }
        session.write_response_body(None, true).await?;
        Ok(true)
    }
}

impl Cut {
    fn of(&mut self, mut bytes: Bytes) -> Bytes {
        let skipped = self.skip.min(bytes.len() as u64);
        self.skip -= skipped;
        let _ = bytes.split_to(skipped as usize);
        if let Some(left) = &mut self.take {
            bytes.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
            *left -= bytes.len() as u64;
        }
        bytes
    }
}

/// Makes the head of an answer to another range that of an answer to this request. None: it cannot be one.
fn fit(request: &HeaderMap, header: &mut ResponseHeader) -> Option<Cut> {
    match header.status {
        StatusCode::PARTIAL_CONTENT => {
            let ContentRange::Part { range: part, complete } = ContentRange::of(&header.headers)? else { return None };
            let Selection::Part(wanted) = byte_range::parse(request.get(RANGE)?.as_bytes(), complete) else {
                return None;
            };
            let length = header.headers.get(CONTENT_LENGTH).map(|length| length.as_bytes());
            let is_true = length.is_none_or(|length| length == part.length().to_string().as_bytes());
            if wanted.first < part.first || wanted.last > part.last || !is_true {
                return None;
            }
            header.insert_header(CONTENT_RANGE, wanted.content_range(complete)).ok()?;
            // Of a body that came in chunks nobody said how long it is.
            if header.headers.contains_key(CONTENT_LENGTH) {
                header.insert_header(CONTENT_LENGTH, wanted.length()).ok()?;
            }
            Some(Cut { skip: wanted.first - part.first, take: Some(wanted.length()) })
        }
        StatusCode::RANGE_NOT_SATISFIABLE | StatusCode::NOT_MODIFIED => None,
        _ => Some(Cut { skip: 0, take: None }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fitted(request: &[(&'static str, &str)], content_range: &str) -> Option<(Cut, String)> {
        let request = request.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        let mut header = ResponseHeader::build(206, None).unwrap();
        header.insert_header(CONTENT_RANGE, content_range).unwrap();
        let cut = fit(&request, &mut header)?;
        Some((cut, header.headers[CONTENT_RANGE].to_str().unwrap().to_owned()))
    }

    #[test]
    fn a_larger_part_is_cut_to_what_was_asked() {
        let (cut, range) = fitted(&[("range", "bytes=10-19")], "bytes 0-99/500").unwrap();
        assert_eq!((cut, range.as_str()), (Cut { skip: 10, take: Some(10) }, "bytes 10-19/500"));
        let (cut, _) = fitted(&[("range", "bytes=-5")], "bytes 0-99/100").unwrap();
        assert_eq!(cut, Cut { skip: 95, take: Some(5) });
        for outside in ["bytes=90-100", "bytes=0-", "bytes=-5", "bytes=0-1,5-6"] {
            assert_eq!(fitted(&[("range", outside)], "bytes 0-99/500"), None, "{outside}");
        }
        assert_eq!(fitted(&[], "bytes 0-99/500"), None);
        let request = HeaderMap::from_iter([(RANGE, "bytes=0-9".parse().unwrap())]);
        let mut header = ResponseHeader::build(206, None).unwrap();
        header.insert_header(CONTENT_RANGE, "bytes 0-99/500").unwrap();
        header.insert_header(CONTENT_LENGTH, 99).unwrap();
        assert_eq!(fit(&request, &mut header), None, "of another length than it says");
    }

    #[test]
    fn a_body_is_cut_across_its_pieces() {
        let mut cut = Cut { skip: 3, take: Some(4) };
        let pieces = [&b"ab"[..], b"cdef", b"ghij"].map(|piece| cut.of(Bytes::from_static(piece)));
        assert_eq!(pieces.concat(), b"defg");
        assert_eq!(cut.take, Some(0));
    }
}
