//! What stands behind a URL of ours, made of what is the origin's.
//!
//! | asked for | made of |
//! |---|---|
//! | a media playlist | the origin's, with other URLs |
//! | a head | the origin's, and the first segment that has it |
//! | a segment | the origin's with that number, its head, and the one before where it cannot be decoded without |
//!
//! An answer may be kept where all that it was made of is, and for as long. Its entity-tag stands for the bytes it was made of and for
//! who makes it, so a validation needs no encoder.

use super::Sidecar;
use super::source::{Fetched, Sources};
use crate::http::precondition::{Outcome, Validators, evaluate};
use crate::http::problem::{self, Problem};
use crate::media::ladder::Rung;
use crate::media::upstream::address::{Asked, Resource, resolve};
use crate::media::upstream::multivariant::{self, Size};
use crate::media::upstream::playlist::{self, Media};
use crate::media::upstream::{Container, Unfit, fmp4, is_independent, mpegts};
use crate::observe::Metrics;
use crate::transcode::Error;
use crate::transcode::protocol::{self, RenditionJob};
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderName, RETRY_AFTER, VARY, X_CONTENT_TYPE_OPTIONS};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body_util::Full;
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// Of media playlists: a day of four seconds.
pub(super) const PLAYLIST_BYTES_MAX: usize = 4 << 20;
const HEAD_BYTES_MAX: usize = 1 << 20;
const SEGMENT_BYTES_MAX: usize = 48 << 20;
/// Changes with everything that changes what is made.
const RECIPE: &[u8] = b"1";
const HLS: &str = "application/vnd.apple.mpegurl";
/// On everything that was made, to purge it.
const TAG: &str = "reelgate-renditions";
const CACHE_TAG: HeaderName = HeaderName::from_static("cache-tag");
const SURROGATE_KEY: HeaderName = HeaderName::from_static("surrogate-key");

type Answer = Response<Full<Bytes>>;

/// One request for what is added.
pub(super) struct Order {
    pub asked: Asked,
    pub sources: Sources,
    pub sidecar: Arc<Sidecar>,
    pub metrics: Arc<Metrics>,
    /// All of the URL is in the key: what repeats its query is for everyone who has that key.
    pub keyed: bool,
}

/// Why there is nothing.
enum Failed {
    /// The origin's answer to what it would be made of.
    Origin(StatusCode),
    NoAnswer,
    Unfit(Unfit),
    /// The playlist has no such segment, or not any more.
    NoSuch,
    Sidecar(Error),
}

impl From<Unfit> for Failed {
    fn from(unfit: Unfit) -> Self {
        Self::Unfit(unfit)
    }
}

/// What is to be answered, and of what it was made.
struct Made {
    body: Bytes,
    etag: String,
    content_type: &'static str,
    of: Vec<Fetched>,
}

impl Order {
    pub(super) async fn answer(&self, request: Parts) -> Answer {
        let kind = match self.asked.resource {
            Resource::Playlist => "playlist",
            Resource::Init { .. } => "head",
            Resource::Segment { .. } => "segment",
        };
        let made = self.make(&request).await;
        let outcome = match &made {
            Ok(_) => "made",
            Err(Failed::Origin(_) | Failed::NoAnswer) => "origin",
            Err(Failed::Unfit(_) | Failed::Sidecar(Error::Unfit(_))) => "unfit",
            Err(Failed::NoSuch) => "no_such",
            Err(Failed::Sidecar(Error::Busy)) => "busy",
            Err(Failed::Sidecar(Error::Away(_))) => "away",
            Err(Failed::Sidecar(Error::Changed | Error::Failed(_))) => "failed",
        };
        self.metrics.renditions.with_label_values(&[kind, outcome]).inc();
        if let Err(Failed::Unfit(unfit)) = &made {
            tracing::debug!(%unfit, kind, "nothing is made for an added rung");
        }
        match made {
            Ok(made) => self.given(&request, made),
            Err(why) => refused(&request.headers, &why),
        }
    }

    async fn make(&self, request: &Parts) -> Result<Made, Failed> {
        let (rung, size) = multivariant::rung(&self.asked.rung).ok_or(Failed::NoSuch)?;
        let list = self.fetch(&self.asked.source, PLAYLIST_BYTES_MAX).await?;
        let body = list.body.clone();
        let text = std::str::from_utf8(&body).map_err(|_| Unfit::Unreadable)?;
        let media = playlist::read(text)?;
        let (segment, before, part) = match &self.asked.resource {
            Resource::Playlist => {
                let body = Bytes::from(playlist::write(text, &media, &self.asked.source));
                let etag = hex::encode(&Sha256::digest(&body)[..16]);
                return Ok(Made { body, etag, content_type: HLS, of: vec![list] });
            }
            Resource::Init { tag } => (media.first_of_map(tag).ok_or(Failed::NoSuch)?, None, protocol::Part::Head),
            Resource::Segment { sequence, tag } => {
                let (segment, before) = media.find(*sequence, tag).ok_or(Failed::NoSuch)?;
                (segment, before, protocol::Part::Segment)
            }
        };
        let busy = |_| Failed::Sidecar(Error::Busy);
        let _room = self.sidecar.room.try_acquire().map_err(busy)?;
        let head = async {
            match segment.map {
                Some(map) => self.fetch_uri(map, HEAD_BYTES_MAX).await.map(Some),
                None => Ok(None),
            }
        };
        let (head, found) = tokio::try_join!(head, self.fetch_uri(segment.uri, SEGMENT_BYTES_MAX))?;
        let head_bytes = head.as_ref().map(|head| head.body.clone()).unwrap_or_default();
        let before = match (before, stands_alone(&media, &head_bytes, &found.body)?) {
            (Some(before), false) => Some(self.fetch_uri(before.uri, SEGMENT_BYTES_MAX).await?),
            _ => None,
        };
        let before_bytes = before.as_ref().map(|before| before.body.clone()).unwrap_or_default();
        let wanted = wanted(&media, &rung, size, part, head_bytes.len(), before_bytes.len());
        let bytes = [head_bytes, before_bytes, found.body.clone()];
        let build = self.sidecar.build().await.ok_or_else(|| Failed::Sidecar(Error::Away("no build".to_owned())))?;
        let etag = etag(&wanted, &build, &bytes);
        let of: Vec<Fetched> = [Some(list), head, before, Some(found)].into_iter().flatten().collect();
        let content_type = media.container.content_type();
        if has(request, &etag) {
            return Ok(Made { body: Bytes::new(), etag, content_type, of });
        }
        let body = self.sidecar.client.rendition(&wanted, &build, &bytes).await.map_err(|error| {
            match error {
                Error::Unfit(_) | Error::Failed(_) => {
                    tracing::warn!(%error, "a segment of an added rung could not be made")
                }
                Error::Away(_) | Error::Busy | Error::Changed => tracing::debug!(%error, "no segment of an added rung"),
            }
            Failed::Sidecar(error)
        })?;
        Ok(Made { body, etag, content_type, of })
    }

    /// What a URI of the origin's playlist means.
    async fn fetch_uri(&self, uri: &str, bytes_max: usize) -> Result<Fetched, Failed> {
        let target = resolve(&self.asked.source, self.sources.authority(), uri).ok_or(Unfit::Elsewhere)?;
        self.fetch(&target, bytes_max).await
    }

    async fn fetch(&self, target: &str, bytes_max: usize) -> Result<Fetched, Failed> {
        let found = self.sources.fetch(target, bytes_max).await.map_err(|_| Failed::NoAnswer)?;
        match found.header.status {
            StatusCode::OK => Ok(found),
            status => Err(Failed::Origin(status)),
        }
    }

    fn given(&self, request: &Parts, made: Made) -> Answer {
        let etag = format!("\"{}\"", made.etag);
        let mut response = Response::new(Full::new(made.body));
        if has(request, &made.etag) {
            response = Response::new(Full::default());
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        }
        let fields = response.headers_mut();
        let mut set = |name, value: &str| HeaderValue::try_from(value).map(|value| fields.insert(name, value));
        // Of a fixed alphabet.
        let _ = set(ETAG, &etag);
        let _ = set(CONTENT_TYPE, made.content_type);
        let _ = set(X_CONTENT_TYPE_OPTIONS, "nosniff");
        let fresh_s = match self.asked.resource {
            Resource::Playlist => made.of.iter().map(|found| found.fresh_s).min(),
            // The playlist only said which segment it is: its URL says so too.
            _ => made.of[1..].iter().map(|found| found.fresh_s).min(),
        };
        let shared =
            made.of.iter().all(|found| found.is_kept) && (self.keyed || self.asked.resource != Resource::Playlist);
        let _ = match (shared, fresh_s.unwrap_or(0)) {
            (true, seconds @ 1..) => set(CACHE_CONTROL, &format!("public, max-age={seconds}")),
            (true, _) => set(CACHE_CONTROL, "public, no-cache"),
            (false, _) => set(CACHE_CONTROL, "private, no-store"),
        };
        fields.append(CACHE_TAG, HeaderValue::from_static(TAG));
        for found in &made.of {
            for name in [CACHE_TAG, SURROGATE_KEY, VARY] {
                for value in found.header.headers.get_all(&name) {
                    if !fields.get_all(&name).iter().any(|known| known == value) {
                        fields.append(name.clone(), value.clone());
                    }
                }
            }
        }
        response
    }
}

/// Whether the client, or the cache, has it.
fn has(request: &Parts, etag: &str) -> bool {
    let etag = format!("\"{etag}\"");
    let validators = Validators { etag: Some(&etag), last_modified: None };
    evaluate(&request.method, &request.headers, validators) == Outcome::NotModified
}

/// Whether a segment can be decoded without the one before.
fn stands_alone(media: &Media<'_>, head: &[u8], segment: &[u8]) -> Result<bool, Unfit> {
    Ok(match media.container {
        Container::MpegTs => is_independent(&mpegts::read(segment)?.frames),
        Container::Fmp4 => is_independent(&fmp4::head(head)?.segment(segment)?.frames),
    })
}

fn wanted(
    media: &Media<'_>,
    rung: &Rung,
    size: Size,
    part: protocol::Part,
    head_bytes: usize,
    before_bytes: usize,
) -> RenditionJob {
    RenditionJob {
        container: media.container,
        part,
        width: rung.width,
        height: rung.height,
        source_height: size.height,
        bits_per_s: rung.bits_per_s,
        bits_per_s_max: rung.bits_per_s_max(),
        buffer_bits: rung.buffer_bits(),
        level: rung.level,
        head_bytes,
        before_bytes,
    }
}

fn etag(wanted: &RenditionJob, build: &str, bytes: &[Bytes]) -> String {
    let mut hash = Sha256::new();
    hash.update(RECIPE);
    hash.update(build.as_bytes());
    hash.update(serde_json::to_vec(wanted).unwrap_or_default());
    bytes.iter().for_each(|bytes| hash.update(bytes));
    hex::encode(&hash.finalize()[..16])
}

fn refused(headers: &HeaderMap, why: &Failed) -> Answer {
    let (status, detail) = match why {
        Failed::Origin(
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND | StatusCode::GONE),
        ) => (*status, "The origin does not give what this is made of."),
        Failed::Origin(_) | Failed::NoAnswer => {
            (StatusCode::BAD_GATEWAY, "The origin did not give what this is made of.")
        }
        Failed::Unfit(_) => (StatusCode::NOT_FOUND, "Nothing is made of this playlist, or of its segments."),
        Failed::NoSuch => (StatusCode::NOT_FOUND, "The playlist has no such segment: read it again."),
        Failed::Sidecar(Error::Away(_)) => (StatusCode::SERVICE_UNAVAILABLE, "Segments cannot be made just now."),
        Failed::Sidecar(Error::Busy) => {
            (StatusCode::SERVICE_UNAVAILABLE, "Too many segments are being made: try again.")
        }
        Failed::Sidecar(_) => (StatusCode::BAD_GATEWAY, "The segment could not be made."),
    };
    let json = problem::wants_json(headers);
    let (content_type, body) = Problem::of(status).body(detail, json);
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let fields = response.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        fields.insert(RETRY_AFTER, HeaderValue::from_static("2"));
    }
    response
}
