//! What the edge remembers of one request while it walks through the phases. It holds no bodies and no credentials.

use super::ahead::Found;
use super::follow::Follow;
use super::generation::Generation;
use super::keep::Validation;
use super::refresh::Refresh;
use super::renditions::Source;
use super::slices::{Order, Part, SliceNotes};
use crate::cache::FillTime;
use crate::cache::disk::Ticket;
use crate::config::Site;
use crate::http::cache_control::RequestCacheControl;
use crate::http::cache_status::Fwd;
use crate::http::forwarded::Client;
use crate::http::traceparent::Trace;
use crate::media::class::Class;
use crate::media::upstream::address::Asked;
use crate::observe::Metrics;
use crate::origin::{Failure, Pick, Pool, Tried};
use crate::transport::Connection;
use http::{HeaderName, HeaderValue};
use pingora_cache::CacheKey;
use pingora_proxy::SubrequestSpawner;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// The address of a client on a unix socket, which has none: it is on this machine.
pub const UNIX_CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// See the module.
pub struct Context {
    pub generation: Arc<Generation>,
    /// Absent for sessions without a connection of ours.
    pub connection: Option<Arc<Connection>>,
    pub started: Instant,
    pub trace: Option<Trace>,
    /// Who asks, and over what: behind trusted proxies, what they say.
    pub client: Client,
    /// Host as asked for, lower case, without port.
    pub host: Option<String>,
    /// Host and port as asked for.
    pub authority: Option<String>,
    /// Path and query as asked for, before rewriting; for the log.
    pub target: String,
    pub site: Option<Arc<Site>>,
    /// Its place in the configuration's `sites`.
    pub site_index: Option<usize>,
    pub class: Class,
    /// An upgrade or an event stream: no read deadline, long idle time.
    pub long_lived: bool,
    pub cache: CacheNotes,
    pub origin: OriginNotes,
    /// Counts in `reelgate_requests_in_flight`, also when the task is cancelled and never reaches the log.
    pub in_flight: Option<InFlightGauge>,
    /// Set when the answer is ours and not an origin's or the cache's.
    pub own_answer: bool,
    pub first_byte: Option<Duration>,
    /// A label from a fixed list: why the request failed.
    pub error: Option<&'static str>,
    /// What the client is told of a refusal.
    pub refusal: Option<String>,
    /// This request is the cache's own, to refresh what a client has been given stale.
    pub refresh: Option<Refresh>,
    /// This request is the cache's own, for a part of a sliced object.
    pub part: Option<Part>,
    /// This request is for nobody: what it gets goes into the store.
    pub inquiry: bool,
    /// What starts requests of our own on behalf of this one, once it was taken; see `subrequests`.
    pub spawner: OnceLock<Arc<SubrequestSpawner>>,
    /// This request answers for a client's.
    pub follow: Option<Follow>,
    /// This request is the cache's own, for what something is made of.
    pub source: Option<Source>,
    /// It is for something that is made here.
    pub rendition: Option<Asked>,
    /// The `cache` label of an answer that another request gave.
    pub answered_as: Option<&'static str>,
    pub slices: SliceNotes,
}

/// What the cache did for this request.
#[derive(Default)]
pub struct CacheNotes {
    /// Why the cache was not asked, in RFC 9211 terms.
    pub bypass: Option<Fwd>,
    pub detail: Option<&'static str>,
    /// Waited for or followed another request's fill.
    pub collapsed: bool,
    /// The origin's answer goes into the store.
    pub stored: bool,
    pub ttl_s: Option<i64>,
    /// The request's key, with its hash.
    pub key: Option<CacheKey>,
    /// What was looked up before Pingora's cache does; see `ahead`.
    pub(super) ahead: Option<Found>,
    /// There was an object, but not this variant of it.
    pub vary_miss: bool,
    /// Why what was found went to be validated.
    pub fwd: Option<Fwd>,
    /// What the client's own directives ask for; nothing where the site ignores them.
    pub asked: RequestCacheControl,
    pub filling: Filling,
    /// A 304 to a request of ours, until what it validates is brought up to date.
    pub validation: Option<Validation>,
    /// A range was asked for, and the bytes it is one of are refused (`Accept-Encoding: identity;q=0`).
    pub refuses_identity: bool,
    /// The client has left while its fill runs on.
    pub client_left: AtomicBool,
    /// The client was given the head of a whole body.
    pub whole_follows: bool,
    /// What an unsafe request made untrue is noted on the disks when these resolve.
    pub removals: Vec<Ticket>,
    /// What the rest of the body would be asked for with, until it is decided whether it is kept.
    pub(super) rest: Option<Arc<Order>>,
    /// Fields left out of what is stored; this client gets them.
    pub withheld: Vec<(HeaderName, HeaderValue)>,
}

/// What a request may do to the store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Filling {
    #[default]
    Allowed,
    /// It may validate what is stored; what is not is not fetched for it.
    UpdatesOnly,
    /// It may be answered from the store, and else goes on as it came.
    Never,
}

/// What the origin did for this request.
#[derive(Default)]
pub struct OriginNotes {
    pub pool: Option<Arc<Pool>>,
    pub pick: Option<Pick>,
    pub tried: Tried,
    /// How the last try failed: what the client is told when no other server is left.
    pub failure: Option<Failure>,
    pub asked: Option<Instant>,
    /// When that was, for purges; held until the answer is stored.
    pub time: Option<FillTime>,
    /// Informational answers so far.
    pub informational: u32,
    pub status: Option<u16>,
    pub elapsed: Option<Duration>,
    pub server: Option<String>,
    /// `Retry-After` of the 503 we owe when no server could be picked.
    pub retry_after: Option<Duration>,
    pub body_bytes: u64,
    /// It is asked for codings of our choice, not the client's.
    pub coding_is_ours: bool,
}

/// One request of `reelgate_requests_in_flight`.
pub struct InFlightGauge(Arc<Metrics>);

impl InFlightGauge {
    pub fn enter(metrics: &Arc<Metrics>) -> Self {
        metrics.requests_in_flight.inc();
        Self(metrics.clone())
    }
}

impl Drop for InFlightGauge {
    fn drop(&mut self) {
        self.0.requests_in_flight.dec();
    }
}

impl Context {
    pub fn new(generation: Arc<Generation>) -> Self {
        Self {
            generation,
            connection: None,
            started: Instant::now(),
            trace: None,
            client: Client { address: UNIX_CLIENT, peer_trusted: false, secure: false, host: None },
            host: None,
            authority: None,
            target: String::new(),
            site: None,
            site_index: None,
            class: Class::Other,
            long_lived: false,
            cache: CacheNotes::default(),
            origin: OriginNotes::default(),
            in_flight: None,
            own_answer: false,
            first_byte: None,
            error: None,
            refusal: None,
            refresh: None,
            part: None,
            inquiry: false,
            spawner: OnceLock::new(),
            follow: None,
            source: None,
            rendition: None,
            answered_as: None,
            slices: SliceNotes::default(),
        }
    }
    /// A request of our own: the client it is for has been admitted, and is logged by its own request.
    pub fn is_ours(&self) -> bool {
        self.refresh.is_some() || self.part.is_some() || self.follow.is_some() || self.source.is_some() || self.inquiry
    }
}
