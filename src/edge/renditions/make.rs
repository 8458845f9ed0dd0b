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
use super::memory::{HEAD_BYTES_MAX, PLAYLIST_BYTES_MAX, Paid};
use super::source::{Fetched, Sources};
use crate::http::precondition::{Outcome, Validators, evaluate};
use crate::http::problem::{self, Problem};
use crate::media::ladder::Rung;
use crate::media::upstream::address::{Asked, Resource, resolve};
use crate::media::upstream::multivariant::{self, Size};
use crate::media::upstream::playlist;
use crate::media::upstream::{Container, Unfit, fmp4, is_independent, mpegts};
use crate::observe::Metrics;
use crate::transcode::Error;
use crate::transcode::protocol::{self, AddedPart, RenditionJob};
use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderName, RETRY_AFTER, VARY, X_CONTENT_TYPE_OPTIONS,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use sha2::{Digest, Sha256};
use std::io;
use std::sync::Arc;

/// Changes with everything that changes what is made.
const RECIPE: &[u8] = b"1";
const HLS: &str = "application/vnd.apple.mpegurl";
/// On everything that was made, to purge it.
const TAG: &str = "reelgate-renditions";
const CACHE_TAG: HeaderName = HeaderName::from_static("cache-tag");
const SURROGATE_KEY: HeaderName = HeaderName::from_static("surrogate-key");

type Answer = Response<UnsyncBoxBody<Bytes, io::Error>>;

/// One request for what is added.
pub(super) struct Order {
    pub asked: Asked,
    pub sources: Sources,
    pub sidecar: Arc<Sidecar>,
    pub metrics: Arc<Metrics>,
    /// Of the origin.
    pub origin: String,
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
    /// With its length.
    body: (u64, UnsyncBoxBody<Bytes, io::Error>),
    etag: String,
    content_type: &'static str,
    /// Without their bytes; the playlist is the first.
    of: Vec<Fetched>,
}

/// What a playlist says of what is to be made.
struct Listed {
    container: Container,
    segment: String,
    map: Option<String>,
    before: Option<String>,
    sequence: u64,
    part: protocol::Part,
    list: Fetched,
}

/// Bytes that are paid for until the last of them is gone.
struct Owned {
    bytes: Bytes,
    _paid: Paid,
}

impl AsRef<[u8]> for Owned {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
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
        let _room = match self.asked.resource {
            Resource::Playlist => None,
            _ => Some(self.sidecar.room.try_acquire().map_err(|_| Failed::Sidecar(Error::Busy))?),
        };
        let paid = self.sidecar.memory.for_list().await.map_err(Failed::Sidecar)?;
        let list = self.fetch(&self.asked.source, PLAYLIST_BYTES_MAX).await?;
        if self.asked.resource == Resource::Playlist {
            return self.playlist(list, paid);
        }
        let listed = self.listed(list)?;
        // Nothing is held of what is waited for from here on.
        drop(paid);

        let memory = &self.sidecar.memory;
        let mut paid = memory.for_segment().await.map_err(Failed::Sidecar)?;
        let map = async {
            match &listed.map {
                Some(map) => self.fetch_uri(map, HEAD_BYTES_MAX).await.map(Some),
                None => Ok(None),
            }
        };
        let segment = self.fetch_uri(&listed.segment, memory.segment_bytes_max);
        let (map, segment) = tokio::try_join!(map, segment)?;
        let (head, map) = map.map(Fetched::apart).unzip();
        let (head, (bytes, segment)) = (head.unwrap_or_default(), segment.apart());
        paid.keep(head.len() + bytes.len());
        let (container, looked_at) = (listed.container, [head.clone(), bytes.clone()]);
        let alone = blocking(move || stands_alone(container, &looked_at[0], &looked_at[1])).await??;
        let (paid_before, before) = match &listed.before {
            Some(before) if !alone => {
                let mut paid = memory.for_before().await.map_err(Failed::Sidecar)?;
                let before = self.fetch_uri(before, memory.segment_bytes_max).await?;
                paid.keep(before.body.len());
                (Some(paid), Some(before))
            }
            _ => (None, None),
        };
        let (before_bytes, before) = before.map(Fetched::apart).unzip();
        let before_bytes = before_bytes.unwrap_or_default();

        let wanted = wanted(&listed, &rung, size, head.len(), before_bytes.len());
        let bytes = [head, before_bytes, bytes];
        let build = self.sidecar.build().await.ok_or_else(|| Failed::Sidecar(Error::Away("no build".to_owned())))?;
        let hashed = (wanted.clone(), Arc::clone(&build), bytes.clone());
        let etag = blocking(move || etag(&hashed.0, &hashed.1, &hashed.2)).await?;
        let of: Vec<Fetched> = [Some(listed.list), map, before, Some(segment)].into_iter().flatten().collect();
        let content_type = container.content_type();
        if has(request, &etag) {
            return Ok(Made { body: whole(Bytes::new()), etag, content_type, of });
        }
        let job = RenditionJob {
            title: format!("{} {}", self.origin, &hex::encode(Sha256::digest(&self.asked.source))[..8]),
            rung: rung.name,
            segment: listed.sequence,
            wanted,
        };
        let body = self.sidecar.client.rendition(&job, &build, bytes).await.map_err(|error| {
            match error {
                Error::Unfit(_) | Error::Failed(_) => {
                    tracing::warn!(%error, "a segment of an added rung could not be made")
                }
                Error::Away(_) | Error::Busy | Error::Changed => tracing::debug!(%error, "no segment of an added rung"),
            }
            Failed::Sidecar(error)
        })?;
        drop((paid, paid_before));
        Ok(Made { body, etag, content_type, of })
    }

    fn playlist(&self, list: Fetched, mut paid: Paid) -> Result<Made, Failed> {
        let (body, list) = list.apart();
        let text = std::str::from_utf8(&body).map_err(|_| Unfit::Unreadable)?;
        let written = Bytes::from(playlist::write(text, &playlist::read(text)?, &self.asked.source));
        let etag = hex::encode(&Sha256::digest(&written)[..16]);
        paid.keep(written.len());
        let body = whole(Bytes::from_owner(Owned { bytes: written, _paid: paid }));
        Ok(Made { body, etag, content_type: HLS, of: vec![list] })
    }

    /// What is wanted of a playlist, without the playlist.
    fn listed(&self, list: Fetched) -> Result<Listed, Failed> {
        let (body, list) = list.apart();
        let media = playlist::read(std::str::from_utf8(&body).map_err(|_| Unfit::Unreadable)?)?;
        let (segment, before, part) = match &self.asked.resource {
            Resource::Playlist => return Err(Failed::NoSuch),
            Resource::Init { tag } => (media.first_of_map(tag).ok_or(Failed::NoSuch)?, None, protocol::Part::Head),
            Resource::Segment { sequence, tag } => {
                let (segment, before) = media.find(*sequence, tag).ok_or(Failed::NoSuch)?;
                (segment, before, protocol::Part::Segment)
            }
        };
        Ok(Listed {
            container: media.container,
            segment: segment.uri.to_owned(),
            map: segment.map.map(str::to_owned),
            before: before.map(|before| before.uri.to_owned()),
            sequence: segment.sequence,
            part,
            list,
        })
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
        let (length, body) = made.body;
        let mut response = Response::new(body);
        if has(request, &made.etag) {
            response = Response::new(whole(Bytes::new()).1);
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        } else {
            response.headers_mut().insert(CONTENT_LENGTH, length.into());
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

fn whole(bytes: Bytes) -> (u64, UnsyncBoxBody<Bytes, io::Error>) {
    (bytes.len() as u64, Full::new(bytes).map_err(|never| match never {}).boxed_unsync())
}

/// Work on megabytes: the threads that answer clients go on meanwhile.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failed> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| Failed::Sidecar(Error::Failed("looking at a segment panicked".to_owned())))
}

/// Whether the client, or the cache, has it.
fn has(request: &Parts, etag: &str) -> bool {
    let etag = format!("\"{etag}\"");
    let validators = Validators { etag: Some(&etag), last_modified: None };
    evaluate(&request.method, &request.headers, validators) == Outcome::NotModified
}

/// Whether a segment can be decoded without the one before.
fn stands_alone(container: Container, head: &[u8], segment: &[u8]) -> Result<bool, Unfit> {
    Ok(match container {
        Container::MpegTs => is_independent(&mpegts::read(segment)?.frames),
        Container::Fmp4 => is_independent(&fmp4::head(head)?.segment(segment)?.frames),
    })
}

fn wanted(listed: &Listed, rung: &Rung, size: Size, head_bytes: usize, before_bytes: usize) -> AddedPart {
    AddedPart {
        container: listed.container,
        part: listed.part,
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

fn etag(wanted: &AddedPart, build: &str, bytes: &[Bytes]) -> String {
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
    let mut response = Response::new(whole(Bytes::from(body)).1);
    *response.status_mut() = status;
    let fields = response.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        fields.insert(RETRY_AFTER, HeaderValue::from_static("2"));
    }
    response
}
