//! `compression`: each coding once, sizes in order, and what a site changes of it.

use super::super::built::*;
use super::super::raw::*;
use super::Builder;
use crate::http::content_coding::Coding;
use crate::http::content_coding::types::TypeRules;
use std::sync::Arc;

impl Builder<'_> {
    /// The top level, as a site has it that changes nothing.
    pub(super) fn compression(&mut self) -> Compression {
        let raw = &self.raw.compression;
        let mut codings: Vec<Coding> = Vec::new();
        for (index, coding) in raw.codings.iter().map(|coding| coding_of(*coding)).enumerate() {
            if codings.contains(&coding) {
                let at = format!("compression.codings[{index}]");
                self.error(&at, format!("`{coding}` is given twice"), Some("name each coding once"));
                continue;
            }
            codings.push(coding);
        }
        let (first, popular) = (&raw.levels, &raw.popular_levels);
        let built = Compression {
            enabled: raw.enabled,
            codings,
            types: type_rules(&raw.types),
            min_bytes: raw.min_size.0,
            max_bytes: raw.max_size.0,
            levels: by_index(first.br, first.zstd, first.gzip),
            popular_after: raw.popular_after,
            popular_levels: by_index(popular.br, popular.zstd, popular.gzip),
            origin: origin_of(raw.origin),
            uncached: raw.uncached,
        };
        for coding in Coding::ALL {
            let (before, after) = (built.levels[coding.index()], built.popular_levels[coding.index()]);
            if built.popular_after > 0 && after < before {
                let at = format!("compression.popular_levels.{coding}");
                let advice = format!("raise it above {before}, or switch this off with popular_after: 0");
                self.warning(&at, "popular answers would get larger: less than in `levels`", Some(&advice));
            }
        }
        self.sizes("compression", &built);
        built
    }

    pub(super) fn site_compression(
        &mut self,
        index: usize,
        raw: &RawSiteCompression,
        common: &Arc<Compression>,
    ) -> Arc<Compression> {
        if *raw == RawSiteCompression::default() {
            return common.clone();
        }
        let built = Compression {
            enabled: raw.enabled.unwrap_or(common.enabled),
            types: raw.types.as_deref().map_or_else(|| common.types.clone(), type_rules),
            min_bytes: raw.min_size.map_or(common.min_bytes, |size| size.0),
            max_bytes: raw.max_size.map_or(common.max_bytes, |size| size.0),
            origin: raw.origin.map_or(common.origin, origin_of),
            uncached: raw.uncached.unwrap_or(common.uncached),
            ..Compression::clone(common)
        };
        if raw.min_size.is_some() || raw.max_size.is_some() {
            self.sizes(&format!("sites[{index}].compression"), &built);
        }
        Arc::new(built)
    }

    fn sizes(&mut self, at: &str, built: &Compression) {
        if built.min_bytes > built.max_bytes {
            let key = if self.places.has(&format!("{at}.min_size")) { "min_size" } else { "max_size" };
            let advice = "raise max_size or lower min_size; to compress nothing, set enabled: false";
            self.error(&format!("{at}.{key}"), "`min_size` is larger than `max_size`: no answer is both", Some(advice));
        }
    }
}

/// Entries whose form the decoder has checked.
fn type_rules(entries: &[String]) -> TypeRules {
    TypeRules::parse(entries).unwrap_or_default()
}

fn coding_of(raw: RawCoding) -> Coding {
    match raw {
        RawCoding::Br => Coding::Brotli,
        RawCoding::Zstd => Coding::Zstd,
        RawCoding::Gzip => Coding::Gzip,
    }
}

fn origin_of(raw: RawOriginCoding) -> OriginCoding {
    match raw {
        RawOriginCoding::Recode => OriginCoding::Recode,
        RawOriginCoding::Pass => OriginCoding::Pass,
        RawOriginCoding::Identity => OriginCoding::Identity,
    }
}

fn by_index(br: u32, zstd: u32, gzip: u32) -> [u32; 3] {
    Coding::ALL.map(|coding| match coding {
        Coding::Brotli => br,
        Coding::Zstd => zstd,
        Coding::Gzip => gzip,
    })
}
