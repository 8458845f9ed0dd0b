//! Content codings (RFC 9110 §8.4, §12.5.3): which one a client wants, which one a body has.
//!
//! - [`Accepts`]: what a request's `Accept-Encoding` allows, and [`Accepts::choose`], what it is given.
//! - [`of_body`]: what a response's `Content-Encoding` says.
//! - [`types`]: which media types are worth coding, and which never are.
//! - [`rules`]: whether a response may be coded at all, and which of its fields are untrue afterwards.
//!
//! Knows no coder: [`Coding`] is a name. Holds no size, level or other taste of an operator's.

pub mod rules;
#[cfg(test)]
mod tests;
pub mod types;

use super::fields::{HeaderView, is_token, list, split_outside_quotes};

/// More members in `Accept-Encoding` than this are not read.
pub const MEMBERS_MAX: usize = 32;

/// q=1, in thousandths.
const Q_MAX: u16 = 1000;

/// A content coding we can make and undo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Coding {
    /// RFC 7932
    Brotli,
    /// RFC 8878
    Zstd,
    /// RFC 1952
    Gzip,
}

impl Coding {
    /// Every coding, in the order of [`Coding::index`].
    pub const ALL: [Self; 3] = [Self::Brotli, Self::Zstd, Self::Gzip];

    /// The registered name (RFC 9110 §16.6.1), as in `Content-Encoding` and configuration; also a metric label.
    pub const fn token(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        }
    }

    /// Reads a name in any letter case; `x-gzip` is gzip (§8.4.1.3).
    pub fn from_token(token: &[u8]) -> Option<Self> {
        if token.eq_ignore_ascii_case(b"x-gzip") {
            return Some(Self::Gzip);
        }
        Self::ALL.into_iter().find(|coding| token.eq_ignore_ascii_case(coding.token().as_bytes()))
    }

    /// Its place in arrays with one entry for each coding.
    pub const fn index(self) -> usize {
        match self {
            Self::Brotli => 0,
            Self::Zstd => 1,
            Self::Gzip => 2,
        }
    }
}

impl std::fmt::Display for Coding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.token())
    }
}

/// What a request accepts. The RFC lets a request without `Accept-Encoding` mean "anything" (§12.5.3 step 1); in practice such a
/// client is a program that decodes nothing, so it is given identity, as by every server.
///
/// Where a member repeats, the lowest weight counts: what a client refused once it is not sent. An error this way costs bytes;
/// the other way it costs a page that cannot be read. A member of its own is more specific than `*`, whatever its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Accepts {
    /// In thousandths, by [`Coding::index`]. 0: not acceptable.
    codings: [u16; 3],
    /// Only what was said of `identity` itself, or its exclusion by `*;q=0`.
    identity: Option<u16>,
}

/// What to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// As it is. Also where the client accepts nothing we have: it gets what there is, as from nginx and Apache, rather than the
    /// 406 that §12.5.3 does not require.
    Identity,
    /// Coded, where that is worth it.
    Coded(Coding),
    /// Coded, whatever the size: the client refuses identity.
    Must(Coding),
}

impl Accepts {
    /// Reads all lines of `Accept-Encoding`. A member that cannot be read is as if it were not there.
    pub fn of<H: HeaderView>(headers: &H) -> Self {
        let mut codings: [Option<u16>; 3] = [None; 3];
        let (mut identity, mut any) = (None, None);
        for member in list(headers.all("accept-encoding")).take(MEMBERS_MAX) {
            let Some((name, q)) = weighted(member) else { continue };
            let slot = if name == b"*" {
                &mut any
            } else if name.eq_ignore_ascii_case(b"identity") {
                &mut identity
            } else if let Some(coding) = Coding::from_token(name) {
                &mut codings[coding.index()]
            } else {
                continue;
            };
            *slot = Some(slot.map_or(q, |known: u16| known.min(q)));
        }
        Self {
            codings: codings.map(|q| q.or(any).unwrap_or(0)),
            // `*` with any other weight says of identity only what holds anyway: that it will do.
            identity: identity.or(any.filter(|q| *q == 0)),
        }
    }

    /// Whether a body in this coding may be sent.
    pub fn allows(&self, coding: Coding) -> bool {
        self.codings[coding.index()] > 0
    }

    /// Whether a body in no coding may be sent.
    pub fn allows_identity(&self) -> bool {
        self.identity != Some(0)
    }

    /// The best of `offered`: the highest weight, among equals the first. Identity wins only where the request names it with a
    /// higher weight than all of them; that it is acceptable by default is no preference.
    pub fn choose(&self, offered: &[Coding]) -> Choice {
        let mut best: Option<(Coding, u16)> = None;
        for coding in offered {
            let q = self.codings[coding.index()];
            if q > best.map_or(0, |(_, q)| q) {
                best = Some((*coding, q));
            }
        }
        match (best, self.identity) {
            (None, _) => Choice::Identity,
            (Some((coding, _)), Some(0)) => Choice::Must(coding),
            (Some((_, q)), Some(identity)) if identity > q => Choice::Identity,
            (Some((coding, _)), _) => Choice::Coded(coding),
        }
    }
}

/// `token [ OWS ";" OWS "q=" qvalue ]` (§12.4.2, §12.5.3). None for anything else.
fn weighted(member: &[u8]) -> Option<(&[u8], u16)> {
    // A closing `;` would leave no part behind, and is not in the grammar.
    if member.last() == Some(&b';') {
        return None;
    }
    let mut parts = split_outside_quotes(member, b';');
    let name = parts.next().filter(|name| is_token(name))?;
    let q = match parts.next() {
        None => Q_MAX,
        Some([b'q' | b'Q', b'=', value @ ..]) => qvalue(value)?,
        Some(_) => return None,
    };
    parts.next().is_none().then_some((name, q))
}

/// A weight in thousandths (§12.4.2): 0 to 1 with at most three decimals.
pub(super) fn qvalue(value: &[u8]) -> Option<u16> {
    let (whole, decimals) = match value {
        [whole] => (whole, &[][..]),
        [whole, b'.', decimals @ ..] => (whole, decimals),
        _ => return None,
    };
    if decimals.len() > 3 || !decimals.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digit = |at: usize| decimals.get(at).map_or(0, |digit| u16::from(digit - b'0'));
    let thousandths = digit(0) * 100 + digit(1) * 10 + digit(2);
    match whole {
        b'0' => Some(thousandths),
        b'1' if thousandths == 0 => Some(Q_MAX),
        _ => None,
    }
}

/// What a body is coded in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyCoding {
    /// Not coded.
    None,
    /// In one coding that we can undo.
    One(Coding),
    /// In several, or in one we do not know: to be passed as it is.
    Other,
}

/// Reads all lines of `Content-Encoding`. `identity` has no place there (§8.4.1), but origins send it, and it means nothing.
pub fn of_body<H: HeaderView>(headers: &H) -> BodyCoding {
    let mut found = BodyCoding::None;
    for member in list(headers.all("content-encoding")) {
        if member.eq_ignore_ascii_case(b"identity") {
            continue;
        }
        found = match (found, Coding::from_token(member)) {
            (BodyCoding::None, Some(coding)) => BodyCoding::One(coding),
            _ => return BodyCoding::Other,
        };
    }
    found
}
