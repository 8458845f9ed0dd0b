//! Everything at once: an origin that fails in every way, clients that abort, stall, seek and ask conditionally over every
//! protocol, a reload each second, and a cache too small for what is asked. No test here is about speed.
//!
//! What must hold: a body that looks whole is whole and of one version; nothing grows or leaks; the numbers add up.
//!
//! Environment: `REELGATE_CHAOS_S` (seconds, default 12), `REELGATE_CHAOS_SEED` (of the random choices; printed on failure).

use crate::support::{
    Answer, Edge, Origin, Player, Received, Reply, Speech, Step, eventually, patience, pause, runtime,
};
use http::Method;
use parking_lot::Mutex;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const OBJECTS: usize = 60;
const CLIENTS: usize = 48;
const SIZE_MIN: usize = 1 << 10;
const SIZE_MAX: usize = 4 << 20;
const CACHE_BYTES: u64 = 32 << 20;
/// Beside the cache and 15 % of it: the runtime, and for each connection its buffers and what Pingora has in hand for it. The
/// program itself is not counted: its pages are the file's, and a debug build has three times as many.
/// So have a debug build's futures: a request holds several times the bytes it does in a release build.
const OTHER_BYTES: u64 = if cfg!(debug_assertions) { 112 << 20 } else { 64 << 20 };

/// What the origin has: the bytes of an object in a version, cut from one random block, so that none is like another.
struct Titles {
    block: Vec<u8>,
    versions: Vec<AtomicU64>,
}

impl Titles {
    fn new() -> Self {
        let mut block = vec![0; SIZE_MAX + (1 << 16)];
        fastrand::Rng::with_seed(1).fill(&mut block);
        Self { block, versions: (0..OBJECTS).map(|_| AtomicU64::new(1)).collect() }
    }

    /// From 1 KiB to 4 MiB, as many small as large ones.
    fn size(object: usize) -> usize {
        let share = object as f64 / (OBJECTS - 1) as f64;
        (SIZE_MIN as f64 * (SIZE_MAX as f64 / SIZE_MIN as f64).powf(share)) as usize
    }

    fn body(&self, object: usize, version: u64) -> &[u8] {
        let from = (object * 977 + version as usize * 7919) % (1 << 16);
        &self.block[from..from + Self::size(object)]
    }
}

/// A good answer, most of the time.
fn answer(titles: &Titles, request: &Received) -> Reply {
    let Some(object) = request.path().trim_start_matches('/').parse::<usize>().ok().filter(|o| *o < OBJECTS) else {
        return Reply::status(404);
    };
    let renewed = u64::from(fastrand::u8(..) < 20);
    let version = titles.versions[object].fetch_add(renewed, Ordering::SeqCst) + renewed;
    let body = titles.body(object, version);
    let tag = format!("\"{object}-{version}\"");
    let described = |reply: Reply, size: usize| {
        let reply = reply.header("Cache-Control", "public, max-age=1").header("ETag", &tag);
        reply.header("X-Version", &version.to_string()).header("X-Size", &size.to_string())
    };
    if request.header("if-none-match").is_some_and(|tags| tags.contains(&tag)) {
        return described(Reply::status(304), body.len());
    }
    if let Some((start, end)) = request.header("range").as_deref().and_then(range) {
        let end = end.min(body.len() - 1);
        let field = format!("bytes {start}-{end}/{}", body.len());
        return described(Reply::status(206), body.len())
            .header("Content-Range", &field)
            .length((end + 1 - start) as u64)
            .steps(vec![Step::Send(body[start..=end].to_vec())]);
    }
    let part = fastrand::usize(..body.len());
    let piece = |bytes: &[u8]| Step::Send(bytes.to_vec());
    let whole = || described(Reply::ok(body), body.len());
    let broken = |steps| described(Reply::ok(""), body.len()).length(body.len() as u64).steps(steps);
    match fastrand::u8(..100) {
        0..55 => whole(),
        55..62 => whole().chunked(),
        62..65 => whole().until_close(),
        65..70 => broken(vec![piece(&body[..part]), Step::Pause(Duration::from_millis(200)), piece(&body[part..])]),
        70..76 => broken(vec![piece(&body[..part]), Step::Close]),
        76..82 => broken(vec![piece(&body[..part]), Step::Reset]),
        82..86 => described(Reply::ok(""), body.len()).chunked().steps(vec![piece(&body[..part]), Step::Close]),
        86..88 => broken(vec![piece(&body[..part]), Step::Hang]),
        // More than was promised. It is another representation, so it has another tag: a 304 for the whole one must not fit it.
        88..92 => Reply::ok("")
            .header("Cache-Control", "public, max-age=1")
            .header("ETag", &format!("\"{object}-{version}-{part}\""))
            .header("X-Version", &version.to_string())
            .header("X-Size", &part.to_string())
            .length(part as u64)
            .steps(vec![piece(body)]),
        92..94 => Reply::hang(),
        94..96 => Reply::raw(vec![Step::Reset]),
        96..98 => Reply::bytes("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"),
        _ => Reply::status(500),
    }
}

/// `bytes=start-end`, both given.
fn range(field: &str) -> Option<(usize, usize)> {
    let (start, end) = field.strip_prefix("bytes=")?.split_once('-')?;
    Some((start.parse().ok()?, end.parse().ok()?))
}

/// What the clients saw.
#[derive(Default)]
struct Seen {
    asked: AtomicUsize,
    statuses: Mutex<BTreeMap<u16, usize>>,
    whole: AtomicUsize,
    hits: AtomicUsize,
    wrong: Mutex<Vec<String>>,
}

impl Seen {
    fn wrong(&self, what: String) {
        self.wrong.lock().push(what);
    }
}

/// Whether an answer that looks whole is.
fn judge(titles: &Titles, seen: &Seen, object: usize, answer: &Answer, body: &[u8], what: &str) {
    let number = |name: &str| answer.header(name).parse::<u64>().ok();
    let (Some(version), Some(size)) = (number("x-version"), number("x-size")) else {
        return seen.wrong(format!("{what}: {} without a version", answer.status));
    };
    let all = &titles.body(object, version)[..size as usize];
    let wanted = match answer.status.as_u16() {
        200 => all,
        206 => {
            let field = answer.header("content-range").trim_start_matches("bytes ").to_owned();
            let Some((start, end)) = field.split('/').next().and_then(|r| range(&format!("bytes={r}"))) else {
                return seen.wrong(format!("{what}: Content-Range {field:?}"));
            };
            &all[start..=end]
        }
        _ => return,
    };
    if body != wanted {
        let same = body.iter().zip(wanted).take_while(|(a, b)| a == b).count();
        let fields = format!("{:?} {}", answer.header("cache-status"), answer.header("etag"));
        seen.wrong(format!("{what}: {} bytes of {}, the same up to {same}; {fields}", body.len(), wanted.len()));
    }
    seen.whole.fetch_add(1, Ordering::SeqCst);
    let hit = answer.header("cache-status").contains("; hit");
    seen.hits.fetch_add(usize::from(hit), Ordering::SeqCst);
}

/// One request of a client; an error ends its connection.
async fn ask(
    player: &mut Player,
    titles: &Titles,
    seen: &Seen,
    rng: &mut fastrand::Rng,
    what: &str,
) -> Result<(), String> {
    // A few objects are wanted by all, as everywhere.
    let object = if rng.bool() { rng.usize(..OBJECTS) } else { 7 * rng.usize(..8) };
    let path = format!("/{object}");
    let size = Titles::size(object);
    let method = if rng.u8(..10) == 0 { Method::HEAD } else { Method::GET };
    let start = rng.usize(..size);
    let (wanted, tag) = (format!("bytes={start}-{}", rng.usize(start..size)), format!("\"{object}-{}\"", rng.u8(1..5)));
    let fields: &[(&str, &str)] = match rng.u8(..10) {
        0 | 1 => &[("range", &wanted)],
        2 => &[("if-none-match", &tag)],
        3 => &[("range", &wanted), ("if-range", &tag)],
        _ => &[],
    };
    seen.asked.fetch_add(1, Ordering::SeqCst);
    if rng.u8(..20) == 0 {
        // Gone before the answer.
        let impatience = Duration::from_millis(rng.u64(..20));
        let answer = tokio::time::timeout(impatience, player.ask(method, &path, fields)).await;
        if let Ok(Ok(answer)) = answer {
            *seen.statuses.lock().entry(answer.status.as_u16()).or_default() += 1;
        }
        return Err("left".into());
    }
    let head_only = method == Method::HEAD;
    let mut answer = player.ask(method, &path, fields).await?;
    *seen.statuses.lock().entry(answer.status.as_u16()).or_default() += 1;
    match rng.u8(..10) {
        0 => {
            answer.read(rng.usize(..size.min(100_000))).await?;
            return Err("left".into());
        }
        1 => tokio::time::sleep(Duration::from_millis(rng.u64(..1500))).await,
        _ => {}
    }
    let body = answer.rest().await?;
    if !head_only && matches!(answer.status.as_u16(), 200 | 206) {
        judge(titles, seen, object, &answer, &body, &format!("{what} {path} {fields:?}"));
    }
    Ok(())
}

fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).expect("the process lives").count()
}

#[test]
fn chaos_breaks_nothing() {
    let from_environment = |name: &str| std::env::var(name).ok().and_then(|s| s.parse::<u64>().ok());
    let lasting = Duration::from_secs(from_environment("REELGATE_CHAOS_S").unwrap_or(12));
    let seed = from_environment("REELGATE_CHAOS_SEED").unwrap_or_else(|| fastrand::u64(..));
    eprintln!("REELGATE_CHAOS_SEED={seed}");
    let titles = Arc::new(Titles::new());
    let at_origin = Arc::clone(&titles);
    let origin = Origin::start().handle("*", move |request| answer(&at_origin, request));
    let edge = Edge::of(&origin)
        .tls()
        .set("cache.memory", CACHE_BYTES.to_string())
        .set("cache.collapse_timeout", "2s")
        .set("limits.stall_timeout", "1s")
        .set("log.access.enabled", false)
        .set("origins.main.timeouts", json!({"connect": "1s", "first_byte": "1s", "read": "1s", "write": "1s"}))
        .set("origins.main.breaker.enabled", false)
        .set("origins.main.keepalive_idle", "1s")
        .run();
    let connections = || edge.metrics().value("reelgate_connections", &[]);
    let idle_descriptors = descriptors(edge.pid());

    let seen = Arc::new(Seen::default());
    let until = Instant::now() + lasting;
    let clients: Vec<_> = (0..CLIENTS)
        .map(|i| {
            let (titles, seen) = (Arc::clone(&titles), Arc::clone(&seen));
            let speech = Speech::ALL[i % Speech::ALL.len()];
            let address = edge.speaks(speech);
            let mut rng = fastrand::Rng::with_seed(seed.wrapping_add(i as u64));
            runtime().spawn(async move {
                while Instant::now() < until {
                    let narrow = rng.u8(..4) == 0;
                    let Ok(mut player) = Player::open(speech, address, narrow.then_some(8192)).await else { continue };
                    for _ in 0..rng.u8(1..20) {
                        let what = format!("{speech:?}");
                        let asked = ask(&mut player, &titles, &seen, &mut rng, &what).await;
                        if asked.is_err() || Instant::now() > until {
                            break;
                        }
                    }
                }
            })
        })
        .collect();

    let mut resident_max = 0;
    let mut rounds = 0u32;
    while Instant::now() < until {
        pause(Duration::from_millis(250));
        resident_max = resident_max.max(edge.resident_bytes());
        assert!(edge.metrics().value("reelgate_cache_bytes", &[("tier", "memory")]) <= CACHE_BYTES as f64);
        rounds += 1;
        match rounds % 8 {
            // Every other time the pool is another one.
            0 => edge.configure("origins.main.retry.attempts", 1 + rounds / 8 % 2),
            4 => edge.reload(),
            _ => {}
        }
    }
    runtime().block_on(async {
        for client in clients {
            tokio::time::timeout(2 * patience(), client).await.expect("a client hangs").expect("a client panicked");
        }
    });

    let wrong = std::mem::take(&mut *seen.wrong.lock());
    assert!(wrong.is_empty(), "{} wrong answers: {:#?}", wrong.len(), &wrong[..wrong.len().min(10)]);
    let allowed = CACHE_BYTES + CACHE_BYTES * 15 / 100 + OTHER_BYTES;
    assert!(resident_max <= allowed, "{resident_max} bytes resident, {allowed} allowed");
    let (asked, whole) = (seen.asked.load(Ordering::SeqCst), seen.whole.load(Ordering::SeqCst));
    let hits = seen.hits.load(Ordering::SeqCst);
    eprintln!("{asked} asked, {whole} whole, {hits} hits, {} MiB resident at most", resident_max >> 20);
    assert!(whole > asked / 4 && hits > whole / 10, "{asked} asked, {whole} whole, {hits} hits");

    edge.expect_metric("reelgate_requests_in_flight", &[], 0.0);
    eventually("all connections are gone", || connections() == 0.0);
    eventually("all descriptors are back", || descriptors(edge.pid()) <= idle_descriptors + 4);
    edge.expect_metric("reelgate_config_reload_success", &[], 1.0);
    let metrics = edge.metrics();
    let counted = metrics.value("reelgate_requests_total", &[]);
    let statuses = seen.statuses.lock().clone();
    let answered: usize = statuses.values().sum();
    assert!((answered..=asked).contains(&(counted as usize)), "{answered} answered, {asked} asked, {counted} counted");
    for (status, count) in &statuses {
        let counted = metrics.value("reelgate_requests_total", &[("status", &status.to_string())]) as usize;
        let unsure = asked - answered;
        assert!(
            (*count..=count + unsure).contains(&counted),
            "{status}: {count} seen, {counted} counted, {unsure} unsure"
        );
    }
}
