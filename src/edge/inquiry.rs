//! Requests of the edge's own, for nobody: what they get goes into the store, as if a client had asked. So what is made ahead of any
//! client becomes an ordinary object, by the site's own rules, with its tags.
//!
//! Invariants: an inquiry is no client's: it is neither limited, nor logged, nor counted as one, and nothing of a client is in it. It
//! says that it is the least urgent (RFC 9218 §4.1).

use super::Edge;
use pingora_core::protocols::http::{HttpTask, ServerSession};
use pingora_proxy::{HttpProxy, Session, SubrequestSpawner, subrequest};
use std::io::Cursor;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// Between two pieces of an answer, and until the first: about what an origin may take.
const PIECE_TIME_MAX: Duration = Duration::from_secs(120);

/// Marks an inquiry among subrequests.
struct Inquiry;

/// Makes inquiries.
pub struct Asker {
    spawner: SubrequestSpawner,
}

/// What came of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inquired {
    pub status: u16,
    pub body_bytes: u64,
    /// The body came to its end.
    pub whole: bool,
}

impl Asker {
    pub fn new(proxy: Arc<HttpProxy<Edge>>) -> Self {
        Self { spawner: SubrequestSpawner::new(proxy) }
    }

    /// Gets what lies at a host's path, as clients name them, and lets go of it. None: there was no answer.
    pub async fn ask(&self, host: &str, path: &str) -> Option<Inquired> {
        let head = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nPriority: u=7\r\n\r\n").into_bytes();
        let mut template = ServerSession::new_http1(Box::new(Cursor::new(head)));
        if !matches!(template.read_request().await, Ok(true)) {
            tracing::warn!("an inquiry could not be written as a request");
            return None;
        }
        let mark: subrequest::UserCtx = Box::new(Inquiry);
        let child = subrequest::Ctx::builder().user_ctx(mark).build();
        let (child, mut handle) = self.spawner.create_subrequest(&template, child);
        tokio::spawn(child.run());
        let mut inquired = None;
        loop {
            let piece = timeout(PIECE_TIME_MAX, handle.rx.recv()).await.ok()?;
            let ended = match piece {
                Some(HttpTask::Header(header, ended)) if !header.status.is_informational() => {
                    inquired = Some(Inquired { status: header.status.as_u16(), body_bytes: 0, whole: false });
                    ended
                }
                Some(HttpTask::Body(bytes, ended)) => {
                    if let (Some(inquired), Some(bytes)) = (&mut inquired, bytes) {
                        inquired.body_bytes += bytes.len() as u64;
                    }
                    ended
                }
                Some(HttpTask::Done) => true,
                Some(HttpTask::Header(..) | HttpTask::Trailer(_)) => false,
                Some(_) | None => return inquired,
            };
            if ended {
                return inquired.map(|inquired| Inquired { whole: true, ..inquired });
            }
        }
    }
}

/// Whether a request is one.
pub(super) fn of(session: &mut Session) -> bool {
    let given = session.subrequest_ctx.as_mut().and_then(|given| given.user_ctx_mut());
    given.is_some_and(|given| given.is::<Inquiry>())
}
