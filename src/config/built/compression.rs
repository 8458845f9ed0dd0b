//! `compression`, as one site has it: which answers are coded, in what, and what is asked of origins.

use crate::http::content_coding::Coding;
use crate::http::content_coding::types::TypeRules;

/// `compression` with a site's own `sites[].compression` over it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compression {
    pub enabled: bool,
    /// In order of preference; at least one, each once.
    pub codings: Vec<Coding>,
    pub types: TypeRules,
    /// Smaller answers of known length stay as they are.
    pub min_bytes: u64,
    /// Larger stored answers stay as they are. Never less than `min_bytes`.
    pub max_bytes: u64,
    /// Of the first coded form, by [`Coding::index`]; within the coding's range.
    pub levels: [u32; 3],
    /// Hits of a coded form, after which it is coded anew; 0: never.
    pub popular_after: u32,
    /// Of the form made then, by [`Coding::index`]; within the coding's range.
    pub popular_levels: [u32; 3],
    pub origin: OriginCoding,
    /// Whether answers that are not stored are coded on their way.
    pub uncached: bool,
}

/// `compression.origin`: what an origin is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OriginCoding {
    /// Any coding we can undo; the identity is kept.
    Recode,
    /// What the client accepts; coded answers are kept and passed as they came.
    Pass,
    /// No coding.
    Identity,
}
