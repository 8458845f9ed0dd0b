//! Content codings between origin, store and client (RFC 9110 §8.4): which coding an origin is asked for, and which form of an
//! answer a client gets.
//!
//! The store keeps identity and, beside it, the forms made of it (`cache`). Answers that are not stored, and those whose length
//! is not known until their fill ends, are coded on their way by [`OnTheWay`]; what an origin coded on our behalf is undone
//! by [`FromOrigin`]. What may be coded at all is decided in `http::content_coding`, once per stored answer.
//!
//! Never codes a part of a body: a request with `Range` is one for the identity, whatever else it accepts.

use super::Edge;
use super::coders::{FromOrigin, OnTheWay};
use super::context::{Context, Filling};
use super::keep::kept;
use crate::cache::{Given, Wanted};
use crate::config::{Compression, OriginCoding};
use crate::http::content_coding::{self, Accepts, BodyCoding, Choice, Coding, rules};
use crate::http::freshness::Storable;
use http::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG, RANGE, TRANSFER_ENCODING, VARY,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use pingora_cache::{CacheMeta, CachePhase};
use pingora_error::Result;
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::Session;
use std::sync::Arc;

/// The highest levels for answers coded on their way, by [`Coding::index`]: fast ones, since each client pays for its own.
const ON_THE_WAY_LEVELS_MAX: [u32; 3] = [3, 2, 3];

/// What we ask an origin for where all of it is undone.
const DECODABLE: HeaderValue = HeaderValue::from_static("br, zstd, gzip");
const IDENTITY: HeaderValue = HeaderValue::from_static("identity");

impl Edge {
    /// A part of a body is a part of its identity. A client that refuses that one gets a coded whole, where there is one.
    pub(super) fn settle_range_coding(&self, session: &mut Session, ctx: &mut Context) -> Result<()> {
        if !session.req_header().headers.contains_key(RANGE) {
            return Ok(());
        }
        ctx.cache.refuses_identity = !Accepts::of(&session.req_header().headers).allows_identity();
        if !ctx.cache.refuses_identity {
            session.req_header_mut().insert_header(ACCEPT_ENCODING, IDENTITY)?;
        }
        Ok(())
    }

    /// What the origin is asked for, by `compression.origin`; only for what may be stored.
    pub(super) fn ask_for_coding(
        &self,
        session: &Session,
        request: &mut RequestHeader,
        ctx: &mut Context,
    ) -> Result<()> {
        let Some(site) = ctx.site.as_ref().filter(|site| site.compression.enabled) else { return Ok(()) };
        // HEAD for what is not here passes, but tells of what GET would store.
        let of_the_store = session.cache.enabled() || ctx.cache.filling == Filling::UpdatesOnly;
        ctx.origin.coding_is_ours = of_the_store && site.compression.origin != OriginCoding::Pass;
        if ctx.origin.coding_is_ours {
            let recode = site.compression.origin == OriginCoding::Recode && !request.headers.contains_key(RANGE);
            request.insert_header(ACCEPT_ENCODING, if recode { DECODABLE } else { IDENTITY })?;
        }
        Ok(())
    }

    /// Undoes the coding of an answer that was coded because we asked for it.
    pub(super) fn undo_coding(&self, session: &mut Session, response: &ResponseHeader, ctx: &Context) {
        let BodyCoding::One(coding) = content_coding::of_body(&response.headers) else { return };
        if !ctx.origin.coding_is_ours || !rules::has_whole_body(response.status.as_u16(), &response.headers) {
            return;
        }
        // Not to be touched; but what the client cannot read is of no use to it.
        let accepts = Accepts::of(&session.req_header().headers);
        if rules::forbids_transforms(&response.headers) && accepts.allows(coding) {
            return;
        }
        if let Some(module) = session.upstream_modules_ctx.get_mut::<FromOrigin>() {
            module.begin(coding, &self.metrics);
        }
    }

    /// What storing has to know: whether the answer may be coded, and what of its `Vary` is settled by asking for what we like.
    pub(super) fn note_codable(&self, response: &ResponseHeader, kept: &mut Storable, ctx: &Context) {
        let Some(site) = ctx.site.as_ref().filter(|site| site.compression.enabled) else { return };
        kept.codable = is_codable(&site.compression, response);
        if !ctx.origin.coding_is_ours {
            return;
        }
        let name = ACCEPT_ENCODING.as_str();
        kept.vary.retain(|field| field != name);
        // Whole coded, so we could not undo it: it is for clients that ask alike.
        if content_coding::of_body(&response.headers) != BodyCoding::None {
            let at = kept.vary.partition_point(|field| field.as_str() < name);
            kept.vary.insert(at, name.to_owned());
        }
    }

    /// Whether this answer must be coded though a range of it was asked for: the client refuses the identity.
    pub(super) fn is_coded_whole(&self, session: &Session, response: &ResponseHeader, ctx: &Context) -> bool {
        let Some(site) = ctx.site.as_ref().filter(|_| ctx.cache.refuses_identity) else { return false };
        let codings = &site.compression.codings;
        let must = matches!(Accepts::of(&session.req_header().headers).choose(codings), Choice::Must(_));
        must && site.compression.enabled && is_codable(&site.compression, response)
    }

    /// Gives the client the form of the answer that it likes best, as far as there is one.
    pub(super) fn encode(&self, session: &mut Session, response: &mut ResponseHeader, ctx: &Context) -> Result<()> {
        let Some(site) = ctx.site.as_ref() else { return Ok(()) };
        let settings = &site.compression;
        let not_modified = response.status == StatusCode::NOT_MODIFIED;
        let form = form(session.req_header(), response, session.cache.maybe_cache_meta(), ctx);
        let (coding, bytes_min) = match form {
            Form::AsItIs => return Ok(()),
            Form::Varies => return say_it_varies(response),
            Form::Coded { coding, bytes_min } => (coding, bytes_min),
        };
        say_it_varies(response)?;
        let make = !not_modified && session.req_header().method != Method::HEAD;
        let given = self.form(session, response, settings, coding, bytes_min, make);
        let bytes = match given {
            Given::Form { bytes } => bytes,
            Given::Identity => return Ok(()),
            Given::NoForm if !make => None,
            Given::NoForm => match self.code_on_the_way(session, settings, coding) {
                true => None,
                false => return Ok(()),
            },
        };
        if let Some(tag) = response.headers.get(ETAG).and_then(|tag| rules::weak_etag(tag.to_str().ok()?)) {
            response.insert_header(ETAG, tag)?;
        }
        if not_modified {
            return Ok(());
        }
        for name in &rules::UNTRUE_AFTER_CODING {
            response.remove_header(name);
        }
        response.insert_header(CONTENT_ENCODING, HeaderValue::from_static(coding.token()))?;
        match bytes {
            Some(bytes) => {
                response.remove_header(&TRANSFER_ENCODING);
                response.insert_header(CONTENT_LENGTH, bytes)?;
            }
            None if make => response.insert_header(TRANSFER_ENCODING, HeaderValue::from_static("chunked"))?,
            None => {}
        }
        Ok(())
    }

    /// The stored form, where the answer comes from the store.
    fn form(
        &self,
        session: &mut Session,
        response: &ResponseHeader,
        settings: &Compression,
        coding: Coding,
        bytes_min: u64,
        make: bool,
    ) -> Given {
        let wanted = Wanted {
            coding,
            level: settings.levels[coding.index()],
            popular_after: settings.popular_after,
            popular_level: settings.popular_levels[coding.index()],
            bytes_min,
            bytes_max: settings.max_bytes,
            make,
        };
        let hit = match session.cache.phase() {
            CachePhase::Hit
            | CachePhase::Stale
            | CachePhase::StaleUpdating
            | CachePhase::Revalidated
            | CachePhase::RevalidatedNoCache(_) => Some(session.cache.hit_handler()),
            _ => session.cache.miss_body_reader(),
        };
        match hit {
            Some(hit) => self.store.code(hit, &wanted),
            None if content_length(&response.headers).is_some_and(|bytes| bytes < bytes_min) => Given::Identity,
            None => Given::NoForm,
        }
    }

    /// False: too many are under way.
    fn code_on_the_way(&self, session: &mut Session, settings: &Compression, coding: Coding) -> bool {
        let Ok(permit) = Arc::clone(&self.on_the_way).try_acquire_owned() else {
            self.metrics.limits_reached.with_label_values(&["coded_on_the_way"]).inc();
            return false;
        };
        let level = settings.levels[coding.index()].min(ON_THE_WAY_LEVELS_MAX[coding.index()]);
        let Some(module) = session.downstream_modules_ctx.get_mut::<OnTheWay>() else { return false };
        module.begin(coding, level, permit, &self.metrics);
        true
    }
}

/// Which form of an answer a client gets, as far as the rules know.
pub(super) enum Form {
    /// The same for everyone.
    AsItIs,
    /// This one gets it as it is, and another one may not.
    Varies,
    /// This one, where it is or can be made.
    Coded { coding: Coding, bytes_min: u64 },
}

/// See [`Form`]. `stored`: what the answer was made of.
pub(super) fn form(
    request: &RequestHeader,
    response: &ResponseHeader,
    stored: Option<&CacheMeta>,
    ctx: &Context,
) -> Form {
    let Some(site) = ctx.site.as_ref().filter(|site| site.compression.enabled && !ctx.long_lived) else {
        return Form::AsItIs;
    };
    let settings = &site.compression;
    let not_modified = response.status == StatusCode::NOT_MODIFIED;
    let part = response.status == StatusCode::PARTIAL_CONTENT;
    let codable = match stored.map(|meta| (kept(meta), meta.response_header().status)) {
        // The refusal of a range is no form of it.
        Some((Some(kept), status)) => kept.codable && (not_modified || part || response.status == status),
        _ if part => is_part_of_codable(settings, response),
        _ => settings.uncached && is_codable(settings, response),
    };
    if !codable {
        return Form::AsItIs;
    }
    let whole_bytes = match stored {
        Some(meta) => content_length(meta.headers()),
        None if part => None,
        None => content_length(&response.headers),
    };
    let accepts = Accepts::of(&request.headers);
    let choice = accepts.choose(&settings.codings);
    // Too small to be worth it: the same for everyone, but for who wants nothing else.
    if whole_bytes.is_some_and(|bytes| bytes < settings.min_bytes) && !matches!(choice, Choice::Must(_)) {
        return Form::AsItIs;
    }
    match choice {
        // It says so as the whole would (RFC 9110 §15.3.7), and is never coded.
        _ if part => Form::Varies,
        Choice::Identity => Form::Varies,
        Choice::Coded(coding) => Form::Coded { coding, bytes_min: settings.min_bytes },
        Choice::Must(coding) => Form::Coded { coding, bytes_min: 0 },
    }
}

pub(super) fn say_it_varies(response: &mut ResponseHeader) -> Result<()> {
    if rules::vary_lacks_accept_encoding(&response.headers) {
        response.append_header(VARY, HeaderValue::from_static("Accept-Encoding"))?;
    }
    Ok(())
}

/// Whether an answer may be coded and is of a type that is worth it. Its size is looked at by whoever has it.
pub(super) fn is_codable(settings: &Compression, response: &ResponseHeader) -> bool {
    let content_type = response.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    content_type.is_some_and(|content_type| settings.types.matches(content_type))
        && rules::may_be_coded(response.status.as_u16(), &response.headers)
}

/// Whether the whole, of which an origin gave this part, may be coded.
fn is_part_of_codable(settings: &Compression, response: &ResponseHeader) -> bool {
    let content_type = response.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    content_type.is_some_and(|content_type| settings.types.matches(content_type))
        && content_coding::of_body(&response.headers) == BodyCoding::None
        && !rules::forbids_transforms(&response.headers)
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
