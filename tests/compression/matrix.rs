//! Every `Accept-Encoding` with every range, every condition, GET and HEAD, over what every kind of origin gives: the bytes are
//! the origin's, and the fields say how. What may come of a request is written here from RFC 9110 alone, without the edge's code.

use super::codec::{CODINGS, decode, encode};
use super::words;
use crate::support::{Edge, Origin, Player, Received, Reply, Speech, runtime};
use http::{HeaderMap, Method};
use std::fmt::Write as _;
use std::sync::Arc;

/// `Accept-Encoding`, and what is right for a body that may be coded: `-` is identity.
const ACCEPTED: [(Option<&str>, &[&str]); 22] = [
    (None, &["-"]),
    (Some(""), &["-"]),
    (Some("identity"), &["-"]),
    (Some("gzip"), &["gzip"]),
    (Some("GZip"), &["gzip"]),
    (Some("br"), &["br"]),
    (Some("zstd"), &["zstd"]),
    (Some("gzip, deflate, br, zstd"), &["br"]),
    (Some("gzip,deflate"), &["gzip"]),
    (Some("gzip;q=1, br;q=0.5, zstd;q=0.8"), &["gzip"]),
    (Some("br;q=0.2, zstd;q=0.9 , gzip;q=0.2"), &["zstd"]),
    (Some("gzip;q=0.001"), &["gzip"]),
    (Some("br;q=0, *"), &["zstd"]),
    (Some("br;q=0, gzip;q=0.000"), &["-"]),
    (Some("identity;q=0, gzip"), &["gzip"]),
    (Some("*;q=0, zstd;q=0.1"), &["zstd"]),
    (Some("*;q=0"), &["-"]),
    (Some("identity;q=0"), &["-"]),
    (Some("snappy"), &["-"]),
    (Some("compress, dcb"), &["-"]),
    (Some("gzip;q=lots, ;;=, br;"), &["-", "gzip", "br"]),
    (Some("gzip br"), &["-"]),
];

const RANGES: [Option<&str>; 6] =
    [None, Some("bytes=10-99"), Some("bytes=-50"), Some("bytes=100-"), Some("bytes=0-9,100-149"), Some("bytes=99999-")];

const MODIFIED: &str = "Wed, 01 Jan 2025 00:00:00 GMT";

const CONDITIONS: [Option<(&str, &str)>; 10] = [
    None,
    Some(("If-None-Match", "\"v1\"")),
    Some(("If-None-Match", "\"x\", W/\"v1\"")),
    Some(("If-None-Match", "\"v2\"")),
    Some(("If-Modified-Since", MODIFIED)),
    Some(("If-Modified-Since", "Tue, 31 Dec 2024 00:00:00 GMT")),
    Some(("If-Range", "\"v1\"")),
    Some(("If-Range", "W/\"v1\"")),
    Some(("If-Range", "\"v2\"")),
    Some(("If-Range", MODIFIED)),
];

/// What the origin gives: the first word of the path.
const FORMS: [&str; 7] = ["plain", "chunked", "gzip", "br", "zstd", "languages", "small"];

fn body(form: &str, language: &str) -> String {
    let seed = form.bytes().chain(language.bytes()).map(usize::from).sum();
    words(seed, if form == "small" { 400 } else { 5000 })
}

/// One request to be made.
#[derive(Clone, Copy)]
struct Combination {
    form: &'static str,
    accepted: usize,
    range: Option<&'static str>,
    condition: Option<(&'static str, &'static str)>,
    head: bool,
    language: &'static str,
}

impl Combination {
    fn fields(&self) -> Vec<(&'static str, &'static str)> {
        let accepted = ACCEPTED[self.accepted].0.map(|value| ("Accept-Encoding", value));
        let range = self.range.map(|value| ("Range", value));
        let language = Some(("Accept-Language", self.language));
        [accepted, range, self.condition, language].into_iter().flatten().collect()
    }

    fn name(&self) -> String {
        let mut name = format!("{} {}", if self.head { "HEAD" } else { "GET" }, self.form);
        for (field, value) in self.fields() {
            let _ = write!(name, " | {field}: {value}");
        }
        name
    }

    fn has(&self, condition: &str) -> Option<&'static str> {
        self.condition.filter(|(name, _)| *name == condition).map(|(_, value)| value)
    }

    /// Identity is forbidden, and there is another way.
    fn must_be_coded(&self) -> bool {
        matches!(ACCEPTED[self.accepted].0, Some("identity;q=0, gzip" | "*;q=0, zstd;q=0.1"))
    }

    /// The codings a 200 may have. Who asked for a range gets identity even where the range does not count; of a small body
    /// there is a coded form only once somebody had to have it.
    fn allows(&self, coding: &str) -> bool {
        let identity = (self.form == "small" || self.range.is_some()) && !self.must_be_coded();
        identity && coding == "-" || ACCEPTED[self.accepted].1.contains(&coding)
    }
}

fn all() -> Vec<Combination> {
    let mut all = Vec::new();
    for form in FORMS {
        for accepted in 0..ACCEPTED.len() {
            for range in RANGES {
                for condition in CONDITIONS {
                    for head in [false, true] {
                        let language = if (all.len() / 2) % 2 == 0 { "de" } else { "fr" };
                        all.push(Combination { form, accepted, range, condition, head, language });
                    }
                }
            }
        }
    }
    all
}

/// `bytes=…` on `length` bytes: the ranges that can be served.
fn ranges(range: &str, length: usize) -> Vec<(usize, usize)> {
    let set = range.strip_prefix("bytes=").expect("bytes");
    let served = set.split(',').filter_map(|one| {
        let (from, to) = one.split_once('-').expect("a range");
        let (from, to) = match (from.parse::<usize>(), to.parse::<usize>()) {
            (Ok(from), Ok(to)) => (from, to.min(length - 1)),
            (Ok(from), Err(_)) => (from, length - 1),
            (Err(_), Ok(last)) => (length.saturating_sub(last), length - 1),
            _ => panic!("a range: {one}"),
        };
        (from < length).then_some((from, to))
    });
    served.collect()
}

/// A server that codes in one way if it may, and cuts single ranges out of what it does not code.
fn answer(request: &Received) -> Reply {
    let form = request.path().split('/').nth(1).expect("a form").to_owned();
    let language = request.header("accept-language").unwrap_or_default();
    let plain = body(&form, if form == "languages" { &language } else { "" });
    let accepts = request.header("accept-encoding").unwrap_or_default();
    let coded = CODINGS.contains(&form.as_str()) && accepts.split(',').any(|one| one.trim().starts_with(&form));
    let common = |reply: Reply| {
        let reply = reply.header("Cache-Control", "public, max-age=600").header("ETag", "\"v1\"");
        let reply = reply.header("Last-Modified", MODIFIED).header("Content-Type", "text/plain; charset=utf-8");
        match form.as_str() {
            "languages" => reply.header("Vary", "Accept-Language"),
            "gzip" | "br" | "zstd" => reply.header("Vary", "accept-encoding"),
            _ => reply,
        }
    };
    let has = |name: &str, value: &str| request.header(name).is_some_and(|sent| sent.contains(value));
    let modified_since = request.header("if-none-match").is_none() && has("if-modified-since", MODIFIED);
    if has("if-none-match", "\"v1\"") || modified_since {
        return common(Reply::status(304));
    }
    if coded {
        return common(Reply::ok(encode(&form, plain.as_bytes()))).header("Content-Encoding", &form);
    }
    let holds = request.header("if-range").is_none_or(|value| value == "\"v1\"" || value == MODIFIED);
    if let Some(range) = request.header("range").filter(|range| holds && !range.contains(',')) {
        let Some(&(from, to)) = ranges(&range, plain.len()).first() else {
            return common(Reply::status(416)).header("Content-Range", &format!("bytes */{}", plain.len()));
        };
        let part = Reply::status_with(206, &plain.as_bytes()[from..=to]);
        return common(part).header("Content-Range", &format!("bytes {from}-{to}/{}", plain.len()));
    }
    let reply = common(Reply::ok(plain)).header("Accept-Ranges", "bytes");
    if form == "chunked" { reply.chunked() } else { reply }
}

struct Got {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Got {
    fn all(&self, name: &str) -> String {
        let values: Vec<_> = self.headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
        values.join(", ")
    }

    fn has(&self, name: &str) -> bool {
        self.headers.contains_key(name)
    }

    fn coding(&self) -> String {
        self.all("content-encoding")
    }
}

async fn ask(player: &mut Player, path: &str, combination: &Combination) -> Result<Got, String> {
    let method = if combination.head { Method::HEAD } else { Method::GET };
    let mut answer = player.ask(method, path, &combination.fields()).await?;
    let body = answer.rest().await?;
    Ok(Got { status: answer.status.as_u16(), headers: answer.headers.clone(), body })
}

fn check(good: bool, why: impl FnOnce() -> String) -> Result<(), String> {
    if good { Ok(()) } else { Err(why()) }
}

/// Common to a stored answer and one that is new: what is said is true.
fn judge(combination: &Combination, got: &Got, weak_tag: bool, stored: bool) -> Result<(), String> {
    let plain = body(combination.form, if combination.form == "languages" { combination.language } else { "" });
    let vary = got.all("vary").to_ascii_lowercase();
    let names = |name: &str| vary.split(',').any(|one| one.trim() == name);
    // A 304 of the origin's own passes as it is.
    if got.status != 416 && (stored || got.status != 304) {
        // What is too small to be coded is the same for all who do not insist.
        let varies = combination.form != "small" || !got.all("content-encoding").is_empty();
        check(!varies || names("accept-encoding"), || format!("Vary: {vary}"))?;
        check(combination.form != "languages" || names("accept-language"), || format!("Vary: {vary}"))?;
        check(vary.matches("accept-encoding").count() <= 1, || format!("Vary twice: {vary}"))?;
    }
    let tag = got.all("etag");
    // What passes was not decoded, and has kept its strong tag.
    let weak_tag = weak_tag && (stored || tag.starts_with("W/"));
    let identity_tag = if weak_tag { "W/\"v1\"" } else { "\"v1\"" };
    match got.status {
        200 => {
            let coding = got.coding();
            let named = if coding.is_empty() { "-" } else { &coding };
            check(combination.allows(named), || format!("coded as {named}"))?;
            let expected = if coding.is_empty() { identity_tag } else { "W/\"v1\"" };
            check(tag == expected, || format!("{named} with ETag: {tag}"))?;
            check(coding.is_empty() || !got.has("accept-ranges"), || "Accept-Ranges with a coded body".into())?;
            check(!got.has("content-range"), || "Content-Range with 200".into())?;
            let length = got.all("content-length");
            let whole = !length.is_empty();
            let kept = coding.is_empty() || combination.form != "small";
            check(!stored || !kept || whole, || format!("{named}: no Content-Length with what is stored whole"))?;
            if combination.head {
                return Ok(());
            }
            check(!whole || length == got.body.len().to_string(), || format!("Content-Length: {length}"))?;
            let decoded = decode(&coding, &got.body)?;
            check(decoded == plain.as_bytes(), || format!("{named}: {} bytes of another body", decoded.len()))
        }
        206 => {
            check(!got.has("content-encoding"), || "a part of a coded body".into())?;
            check(tag == identity_tag, || format!("206 with ETag: {tag}"))?;
            let parts = ranges(combination.range.unwrap_or("bytes=0-"), plain.len());
            if let [(from, to)] = parts[..] {
                let expected = format!("bytes {from}-{to}/{}", plain.len());
                check(got.all("content-range") == expected, || format!("Content-Range: {}", got.all("content-range")))?;
                let right = combination.head || got.body == plain.as_bytes()[from..=to];
                return check(right, || format!("{} wrong bytes", got.body.len()));
            }
            check(got.all("content-type").starts_with("multipart/byteranges"), || got.all("content-type"))?;
            let text = String::from_utf8_lossy(&got.body);
            let right = |(from, to): &(usize, usize)| {
                text.contains(&format!("bytes {from}-{to}/{}\r\n\r\n{}\r\n", plain.len(), &plain[*from..=*to]))
            };
            check(combination.head || parts.iter().all(right), || format!("wrong parts: {text}"))
        }
        304 => {
            check(got.body.is_empty(), || "a body".into())?;
            check(!got.has("content-encoding"), || "304 with Content-Encoding: caches would take it over".into())?;
            // The tag the 200, or the 206, would have had.
            let identity = combination.allows("-") && tag == identity_tag;
            let coded = CODINGS.iter().any(|coding| combination.allows(coding)) && tag == "W/\"v1\"";
            let its_own = !stored && tag == "\"v1\"";
            check(identity || coded || its_own, || format!("304 with ETag: {tag}"))
        }
        416 => {
            check(!got.has("content-encoding"), || "416 with Content-Encoding".into())?;
            let expected = format!("bytes */{}", plain.len());
            check(got.all("content-range") == expected, || format!("Content-Range: {}", got.all("content-range")))
        }
        other => Err(format!("status {other}")),
    }
}

/// The statuses a stored answer may have here.
fn statuses(combination: &Combination, weak_tag: bool) -> Vec<u16> {
    let plain = body(combination.form, if combination.form == "languages" { combination.language } else { "" });
    let matched = combination.has("If-None-Match").is_some_and(|value| value.contains("\"v1\""))
        || combination.has("If-Modified-Since") == Some(MODIFIED);
    if matched {
        return vec![304];
    }
    let holds = combination.has("If-Range").is_none_or(|value| value == MODIFIED || (value == "\"v1\"" && !weak_tag));
    let Some(range) = combination.range.filter(|_| holds && !combination.must_be_coded()) else { return vec![200] };
    let ranged = if ranges(range, plain.len()).is_empty() { 416 } else { 206 };
    // RFC 9110, 14.2: a range means nothing but with GET; that HEAD tells what GET would is wished for too.
    if combination.head { vec![200, ranged] } else { vec![ranged] }
}

/// Runs `combinations` dealt over every protocol; a failure names its combination.
#[track_caller]
fn run(edge: &Edge, combinations: Vec<(Combination, String)>, weak: &Arc<Vec<&'static str>>, stored: bool) {
    let tasks: Vec<_> = Speech::ALL
        .into_iter()
        .enumerate()
        .map(|(at, speech)| {
            let address = edge.speaks(speech);
            let weak = Arc::clone(weak);
            // Blocks of a prime number: no dimension falls together with a protocol.
            let mine: Vec<_> =
                combinations.iter().enumerate().filter(|(i, _)| (i / 7) % 4 == at).map(|(_, c)| c.clone()).collect();
            runtime().spawn(async move {
                let mut player = Player::open(speech, address, None).await.expect("a connection");
                let mut failures = Vec::new();
                for (combination, path) in mine {
                    let weak_tag = weak.contains(&combination.form);
                    let mut outcome = ask(&mut player, &path, &combination).await;
                    if outcome.is_err() {
                        // A server may close an idle connection just as it is used again: once more on a new one.
                        player = Player::open(speech, address, None).await.expect("a connection");
                        outcome = ask(&mut player, &path, &combination).await;
                    }
                    let verdict = outcome.and_then(|got| {
                        let right = !stored || statuses(&combination, weak_tag).contains(&got.status);
                        let hit = !stored || got.all("cache-status").contains("hit");
                        check(right, || format!("status {}", got.status))?;
                        check(hit, || format!("no hit: {}", got.all("cache-status")))?;
                        judge(&combination, &got, weak_tag, stored)
                    });
                    if let Err(why) = verdict {
                        failures.push(format!("{speech:?} {}: {why}", combination.name()));
                    }
                }
                failures
            })
        })
        .collect();
    let failures: Vec<String> =
        tasks.into_iter().flat_map(|task| runtime().block_on(task).expect("no panic")).collect();
    let shown = failures.iter().take(60).map(String::as_str).collect::<Vec<_>>().join("\n");
    assert!(failures.is_empty(), "{} of {} fail:\n{shown}", failures.len(), combinations.len());
}

/// The forms whose stored answer has a weak tag: what the origin coded may lose its strong one when it is decoded.
fn weak_forms(edge: &Edge) -> Arc<Vec<&'static str>> {
    let weak = |form: &&'static str| {
        let request = crate::support::Request::get(&format!("/{form}/tag")).header("Accept-Language", "de");
        let answer = edge.send(&request).expect_status(200);
        let is_weak = answer.header("etag").is_some_and(|tag| tag.starts_with("W/"));
        assert!(!is_weak || CODINGS.contains(form), "{form}: an identity body lost its strong tag");
        is_weak
    };
    Arc::new(FORMS.iter().copied().filter(weak).collect())
}

#[test]
fn every_combination_from_the_store_is_right() {
    let origin = Origin::start().handle("*", answer);
    let edge = Edge::of(&origin).set("log.access.enabled", false).tls().run();
    let weak = weak_forms(&edge);
    for form in FORMS {
        for language in ["de", "fr"] {
            for coding in CODINGS {
                super::warm(&edge, &format!("/{form}/stored"), coding, &[("Accept-Language", language)]);
            }
        }
    }
    let asked = origin.count("*");
    // All of two forms; of the others, which differ only until they are stored, every third.
    let chosen = all().into_iter().enumerate().filter(|(i, c)| i % 3 == 0 || matches!(c.form, "plain" | "gzip"));
    let combinations = chosen.map(|(_, combination)| (combination, format!("/{}/stored", combination.form)));
    run(&edge, combinations.collect(), &weak, true);
    assert_eq!(origin.count("*"), asked, "all were hits");
}

/// The same on objects nobody has asked for, every 13th of them, and each time once more with another `Accept-Encoding`: what
/// was stored by the first is right for the second.
#[test]
fn every_combination_is_right_when_it_is_new() {
    let origin = Origin::start().handle("*", answer);
    let edge = Edge::of(&origin).set("log.access.enabled", false).tls().run();
    let weak = weak_forms(&edge);
    let chosen = all().into_iter().enumerate().filter(|(i, combination)| {
        let plainest = combination.range.is_none() && combination.condition.is_none();
        i % 13 == 0 || plainest && !combination.head
    });
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for (i, combination) in chosen {
        let path = format!("/{}/new?{i}", combination.form);
        first.push((combination, path.clone()));
        let accepted = (combination.accepted + i) % ACCEPTED.len();
        second.push((Combination { accepted, range: None, condition: None, head: false, ..combination }, path));
    }
    run(&edge, first, &weak, false);
    run(&edge, second, &weak, false);
}
