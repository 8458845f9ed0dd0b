//! Requests of the edge's own, for nobody: what they get goes into the store, as if a client had asked. So what is made ahead of any
//! client becomes an ordinary object, by the site's own rules, with its tags.
//!
//! Invariants: an inquiry is no client's: it is neither limited, nor logged, nor counted as one, and nothing of a client is in it. It
//! says that it is the least urgent (RFC 9218 §4.1).

use super::Edge;
use super::subrequests;
use pingora_proxy::{HttpProxy, Session, SubrequestSpawner};
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
        let mut incoming = subrequests::start(&self.spawner, head, Box::new(Inquiry)).await?;
        let status = loop {
            let header = timeout(PIECE_TIME_MAX, incoming.head()).await.ok()??;
            if !header.status.is_informational() {
                break header.status.as_u16();
            }
        };
        let mut body_bytes = 0;
        while let Some(bytes) = timeout(PIECE_TIME_MAX, incoming.bytes()).await.ok()? {
            body_bytes += bytes.len() as u64;
        }
        Some(Inquired { status, body_bytes, whole: incoming.is_whole() })
    }
}

/// Whether a request is one.
pub(super) fn of(session: &mut Session) -> bool {
    let given = session.subrequest_ctx.as_mut().and_then(|given| given.user_ctx_mut());
    given.is_some_and(|given| given.is::<Inquiry>())
}
