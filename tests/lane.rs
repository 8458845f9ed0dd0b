//! Plain hits are answered before Pingora sees them (`src/edge/lane.rs`). Whatever a client can see of a request, or an operator, is
//! the same on both ways. A field that nobody knows keeps a request on Pingora's way, and so makes the other half of each pair.

use crate::support::{
    Connection, Edge, EdgeBuilder, Gate, Origin, Reply, Request, Response, Step, eventually, letters,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Of the lane's one line in the log, at `trace`.
const TAKEN: &str = "answered at once";
/// What the lane does not know.
const OTHER_WAY: (&str, &str) = ("X-Of-Somebody", "1");
const LAST_MODIFIED: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
/// Nothing turns stale between the halves of a pair.
const A_DAY: &str = "max-age=86400";
const TARGETS: [&str; 24] = [
    "/k",
    "/k",
    "/k",
    "/k?a=b&c",
    "/k?",
    "//k",
    "/x/../k",
    "/%6b",
    "/small.ts",
    "/page.html",
    "/list.m3u8",
    "/data.json",
    "/large",
    "/empty",
    "/varies",
    "/tagged",
    "/stale",
    "/no-store",
    "/no-cache",
    "/chunked",
    "/missing",
    "/moved",
    "/cookie",
    "/dated",
];
const FIELDS: [(&str, &str); 62] = [
    ("Accept", "*/*"),
    ("accept", "text/html,application/xhtml+xml;q=0.9"),
    ("Accept", "text/event-stream"),
    ("Accept-Encoding", "identity"),
    ("Accept-Encoding", "gzip, deflate, br"),
    ("Accept-Encoding", "br;q=0.5, zstd"),
    ("ACCEPT-ENCODING", "identity;q=0, gzip"),
    ("Accept-Encoding", "*;q=0"),
    ("Accept-Language", "de"),
    ("Authorization", "Bearer x"),
    ("Cache-Control", "no-cache"),
    ("Cache-Control", "no-store"),
    ("Cache-Control", "max-age=0"),
    ("Cache-Control", "max-age=5000"),
    ("Cache-Control", "min-fresh=1"),
    ("Cache-Control", "min-fresh=500000"),
    ("Cache-Control", "max-stale"),
    ("Cache-Control", "only-if-cached"),
    ("Cache-Control", "what, is=\"this, no-cache\""),
    ("CDN-Loop", "other"),
    ("Connection", "keep-alive"),
    ("Connection", "close"),
    ("Connection", "keep-alive, x-of-nobody"),
    ("Content-Length", "0"),
    ("Cookie", "a=b"),
    ("Expect", "100-continue"),
    ("Expect", "more"),
    ("Forwarded", "for=192.0.2.7;host=forwarded.example;proto=https"),
    ("Host", "another.example"),
    ("If-Match", "\"k\""),
    ("If-Modified-Since", LAST_MODIFIED),
    ("If-Modified-Since", "Sun, 06 Nov 1994 08:49:36 GMT"),
    ("If-Modified-Since", "yesterday"),
    ("If-None-Match", "\"k\""),
    ("If-None-Match", "W/\"k\""),
    ("If-None-Match", "\"x\", \"k\""),
    ("If-None-Match", "\"x\""),
    ("If-None-Match", "*"),
    ("If-Range", "\"k\""),
    ("If-Unmodified-Since", LAST_MODIFIED),
    ("Keep-Alive", "timeout=5"),
    ("Origin", "https://player.example"),
    ("Origin", "https://stranger.example"),
    ("Pragma", "no-cache"),
    ("Priority", "u=1"),
    ("Range", "bytes=0-9"),
    ("Range", "bytes=-0"),
    ("Referer", "https://player.example/?api_key=x"),
    ("Sec-Fetch-Mode", "cors"),
    ("sec-ch-ua-platform", "\"Linux\""),
    ("TE", "trailers"),
    ("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ("Transfer-Encoding", "chunked"),
    ("Upgrade", "websocket"),
    ("User-Agent", "player/1 (x)"),
    ("Via", "1.1 before"),
    ("X-Forwarded-For", "192.0.2.9"),
    ("X-Forwarded-For", "nonsense"),
    ("X-Forwarded-Host", "forwarded.example"),
    ("X-Forwarded-Proto", "https"),
    ("X-Real-IP", "192.0.2.8"),
    ("X-Method-Override", "POST"),
];

fn origin() -> Origin {
    let kept = |body: &str, tag: &str| {
        Reply::ok(body)
            .header("Cache-Control", A_DAY)
            .header("ETag", &format!("\"{tag}\""))
            .header("Last-Modified", LAST_MODIFIED)
    };
    let as_type = |reply: Reply, content_type: &str| reply.header("Content-Type", content_type);
    Origin::start()
        .route("/k", as_type(kept(&letters(1, 1024), "k"), "application/octet-stream").header("Server", "s"))
        .route("/small.ts", as_type(kept("small", "s"), "video/mp2t"))
        .route("/page.html", as_type(kept(&letters(2, 5000), "p"), "text/html"))
        .route("/list.m3u8", as_type(kept("#EXTM3U\n", "l"), "application/vnd.apple.mpegurl"))
        .route("/data.json", as_type(kept(&letters(3, 3000), "d"), "application/json").header("Vary", "Origin"))
        .route("/large", kept(&letters(4, 40_000), "k"))
        .route("/empty", kept("", "k"))
        .route("/varies", kept("v", "k").header("Vary", "Accept-Language"))
        .route("/tagged", kept("t", "k").header("Cache-Tag", "a, b").header("Alt-Svc", "h3=\":1\"").header("X-A", "1"))
        .route("/stale", Reply::ok("s").header("Cache-Control", "max-age=0").header("ETag", "\"k\""))
        .route("/no-store", Reply::ok("n").header("Cache-Control", "no-store"))
        .route("/no-cache", Reply::ok("n").header("Cache-Control", "no-cache").header("ETag", "\"k\""))
        .route("/chunked", kept("chunked", "k").chunked())
        .route("/missing", Reply::status_with(404, "missing").header("Cache-Control", A_DAY))
        .route("/moved", Reply::status(301).header("Location", "/k").header("Cache-Control", A_DAY))
        .route("/cookie", kept("c", "k").header("Set-Cookie", "a=b"))
        .route("/dated", kept("d", "k").header("Date", "some day").header("Age", "7"))
}

fn edge(origin: &Origin) -> EdgeBuilder {
    // Forms are made once, whoever asks how often, and none on the way: its bytes depend on how those it is made of come. The lane
    // says so in the log.
    Edge::of(origin)
        .tls()
        .set("workers", 1)
        .set("compression", json!({"popular_after": 1_000_000, "uncached": false}))
        .set("log.level", "trace")
}

/// A request in the making.
#[derive(Debug, Clone)]
struct Asked {
    method: &'static str,
    target: &'static str,
    fields: Vec<(&'static str, &'static str)>,
    version: &'static str,
    sent: Sent,
}

#[derive(Debug, Clone, Copy)]
enum Sent {
    Whole,
    /// In two pieces, this much of it first.
    Split(usize),
    /// Twice at once.
    Twice,
}

impl Asked {
    fn random(random: &mut fastrand::Rng) -> Self {
        let method = random.choice(["GET", "GET", "GET", "GET", "HEAD", "HEAD", "OPTIONS"]).unwrap();
        let few = random.usize(0..4) + if random.u8(0..8) == 0 { 3 } else { 0 };
        let fields = (0..few).filter_map(|_| random.choice(FIELDS)).collect();
        let sent = match random.u8(0..10) {
            0 => Sent::Split(random.usize(1..60)),
            1 => Sent::Twice,
            _ => Sent::Whole,
        };
        let version = if random.u8(0..20) == 0 { "HTTP/1.0" } else { "HTTP/1.1" };
        Self { method, target: random.choice(TARGETS).unwrap(), fields, version, sent }
    }

    fn plain(target: &'static str) -> Self {
        Self { method: "GET", target, fields: Vec::new(), version: "HTTP/1.1", sent: Sent::Whole }
    }

    fn bytes(&self, more: Option<(&str, &str)>) -> Vec<u8> {
        let mut head = format!("{} {} {}\r\nHost: media.example:81\r\n", self.method, self.target, self.version);
        for (name, value) in self.fields.iter().copied().chain(more) {
            head += &format!("{name}: {value}\r\n");
        }
        head += "\r\n";
        if self.fields.contains(&("Transfer-Encoding", "chunked")) {
            head += "0\r\n\r\n";
        }
        head.into_bytes()
    }

    /// What comes back, until the connection has nothing more to say to it. None: the connection was closed before.
    fn send(&self, connection: &mut Connection, other_way: bool) -> Vec<Response> {
        let bytes = self.bytes(other_way.then_some(OTHER_WAY));
        let mut answers = 1;
        match self.sent {
            Sent::Whole => drop(connection.send(bytes)),
            Sent::Split(at) => {
                let (first, second) = bytes.split_at(at.min(bytes.len()));
                connection.send(first);
                // Sometimes it is read apart, sometimes not; both have to do.
                std::thread::yield_now();
                connection.send(second);
            }
            Sent::Twice => {
                connection.send(bytes.repeat(2));
                answers = 2;
            }
        }
        (0..answers).map_while(|_| connection.response(self.method)).collect()
    }
}

/// What does not depend on when it was made.
fn timeless(mut response: Response) -> Response {
    let hit = response.is_hit();
    for (name, value) in &mut response.headers {
        match name.to_ascii_lowercase().as_str() {
            "age" => value.clear(),
            "date" if !hit => value.clear(),
            "cache-status" => {
                let parts = value.split("; ").map(|part| if part.starts_with("ttl=") { "ttl" } else { part });
                *value = parts.collect::<Vec<_>>().join("; ");
            }
            _ => {}
        }
    }
    response
}

/// One client on each way, and one that goes before both.
struct Pair<'a> {
    open: Box<dyn Fn() -> Connection + 'a>,
    connections: [Option<Connection>; 3],
}

impl<'a> Pair<'a> {
    fn new(open: impl Fn() -> Connection + 'a) -> Self {
        Self { open: Box::new(open), connections: [None, None, None] }
    }

    fn send(&mut self, client: usize, asked: &Asked, other_way: bool) -> Vec<Response> {
        let mut connection = self.connections[client].take().unwrap_or_else(|| (self.open)());
        let answers = asked.send(&mut connection, other_way);
        let goes_on = answers.last().is_some_and(|last| last.header("connection") == Some("keep-alive"));
        // Of what was sent twice the second is dropped or answered; either way the connection is not to be guessed about.
        if goes_on && !matches!(asked.sent, Sent::Twice) {
            self.connections[client] = Some(connection);
        }
        answers.into_iter().map(timeless).collect()
    }

    #[track_caller]
    fn expect_alike(&mut self, asked: &Asked) {
        // What has to be filled, coded or validated first.
        self.send(0, asked, true);
        let (lane, other) = (self.send(1, asked, false), self.send(2, asked, true));
        assert_eq!(format!("{lane:#?}"), format!("{other:#?}"), "{asked:?}");
    }
}

fn lines(edge: &Edge) -> Vec<Value> {
    let mut lines: Vec<Value> = edge.stdout().lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    for line in &mut lines {
        let line = line.as_object_mut().expect("an object");
        line.retain(|name, _| !matches!(name.as_str(), "time" | "duration_s" | "first_byte_s" | "origin_s"));
        // A trace is begun where the client has none.
        if line.get("trace_id").is_some_and(|id| id != "0af7651916cd43dd8448eb211c80319c") {
            line.remove("trace_id");
        }
    }
    lines
}

/// What is counted, but for times, for what is not of requests, and for an origin's bytes: of what it is asked for anew, some may come
/// after its client has been answered.
fn counted(edge: &Edge) -> BTreeMap<String, f64> {
    let text = edge.admin_get("/metrics").expect_status(200).text();
    let samples = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.rsplit_once(' '));
    let samples = samples.filter_map(|(series, value)| Some((series.to_owned(), value.parse().ok()?)));
    let of_requests = |series: &str| {
        !["process_", "reelgate_connections", "reelgate_uptime", "_sum", "_bucket", "origin_body_bytes"]
            .iter()
            .any(|part| series.contains(part))
    };
    samples.filter(|(series, _)| of_requests(series)).collect()
}

fn difference(before: &BTreeMap<String, f64>, after: &BTreeMap<String, f64>) -> BTreeMap<String, f64> {
    let changed = after.iter().map(|(series, value)| (series.clone(), value - before.get(series).unwrap_or(&0.0)));
    changed.filter(|(_, by)| *by != 0.0).collect()
}

fn taken(edge: &Edge) -> usize {
    edge.stderr().matches(TAKEN).count() + edge.stdout().matches(TAKEN).count()
}

fn expect_alike_under(edge: &Edge, seed: u64, rounds: usize, tls: bool) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut pair = Pair::new(|| match tls {
        true => Connection::open_tls(edge.https()),
        false => Connection::open(edge.http()),
    });
    for target in TARGETS {
        pair.expect_alike(&Asked::plain(target));
    }
    for _ in 0..rounds {
        pair.expect_alike(&Asked::random(&mut random));
    }
    eventually("the lane took its part", || taken(edge) > rounds / 20);
}

#[test]
fn both_ways_answer_alike() {
    let origin = origin();
    let edge = edge(&origin).run();
    expect_alike_under(&edge, 1, 500, false);
}

#[test]
fn both_ways_answer_alike_over_tls() {
    let origin = origin();
    let edge = edge(&origin).run();
    expect_alike_under(&edge, 2, 200, true);
}

#[test]
fn both_ways_answer_alike_under_rules() {
    let origin = origin();
    let edge = edge(&origin)
        .set("trusted_proxies", json!(["127.0.0.0/8"]))
        .set("sites.0.cors", json!({"origins": ["https://player.example"], "credentials": true}))
        .set("sites.0.headers.response", json!({"set": {"X-Set": "1"}, "add": {"Via": "2 x"}, "remove": ["Server"]}))
        .set("sites.0.redirects", json!([{"from": "^/list", "to": "/k"}]))
        .set("sites.0.deny", json!(["192.0.2.9"]))
        .set("sites.0.cache.key", json!({"query": "sorted", "ignore": ["a"]}))
        .run();
    expect_alike_under(&edge, 3, 300, false);
}

#[test]
fn both_ways_are_logged_and_counted_alike() {
    let origin = origin();
    let edge = edge(&origin).run();
    let mut random = fastrand::Rng::with_seed(4);
    // What the origin is asked for each time may differ by when it is asked.
    let changing = ["/page.html", "/stale", "/no-cache"];
    let simple = |asked: &Asked| matches!(asked.sent, Sent::Whole) && !changing.contains(&asked.target);
    let asked: Vec<Asked> = std::iter::repeat_with(|| Asked::random(&mut random)).filter(simple).take(150).collect();
    let mut pair = Pair::new(|| Connection::open(edge.http()));
    let mut ask = |client, other_way| {
        let before = (lines(&edge).len(), counted(&edge), taken(&edge));
        for asked in &asked {
            pair.send(client, asked, other_way);
        }
        // A request may be written after the next one on another connection; none after the one that comes when all have ended.
        eventually("all have ended", || edge.metrics().value("reelgate_requests_in_flight", &[]) == 0.0);
        pair.send(client, &Asked::plain("/k?end"), other_way);
        let ended = || lines(&edge)[before.0..].iter().any(|line| line["target"] == "/k?end");
        eventually("every request is in the log", ended);
        (lines(&edge).split_off(before.0), difference(&before.1, &counted(&edge)), taken(&edge) - before.2)
    };
    ask(0, true);
    ask(0, true);
    let (lane, other) = (ask(1, false), ask(2, true));
    assert!(lane.2 > 10 && other.2 == 0, "the lane took {} and {}", lane.2, other.2);
    let sorted = |lines: &[Value]| {
        let mut lines: Vec<String> = lines.iter().map(Value::to_string).collect();
        lines.sort_unstable();
        lines
    };
    assert_eq!(sorted(&lane.0), sorted(&other.0));
    assert_eq!(lane.1, other.1);
}

#[test]
fn a_connection_ends_after_as_many_requests() {
    let origin = origin();
    let edge = edge(&origin).set("limits.requests_per_connection", 5).run();
    Asked::plain("/k").send(&mut Connection::open(edge.http()), true).remove(0).expect_miss();
    for ways in [[false; 5], [true; 5], [false, true, false, true, false], [true, false, false, false, true]] {
        let mut connection = Connection::open(edge.http());
        for (number, other_way) in ways.into_iter().enumerate() {
            let answer = Asked::plain("/k").send(&mut connection, other_way).remove(0);
            let expected = if number == 4 { "close" } else { "keep-alive" };
            assert_eq!(answer.header("connection"), Some(expected), "request {number} of {ways:?}");
        }
        assert!(connection.read_to_end().is_empty());
    }
    eventually("the lane took all that a connection may go on after", || taken(&edge) == 9);
}

#[test]
fn a_rate_counts_both_ways_together() {
    let origin = origin();
    let edge = edge(&origin).set("sites.0.rate", json!({"requests_per_second": 0.001, "burst": 5})).run();
    let mut connection = Connection::open(edge.http());
    let statuses: Vec<u16> = [true, false, false, true, false, false, false, true]
        .into_iter()
        .map(|other_way| Asked::plain("/k").send(&mut connection, other_way).remove(0).status)
        .collect();
    assert_eq!(statuses, [200, 200, 200, 200, 200, 200, 429, 429]);
}

#[test]
fn a_purge_and_a_reload_reach_the_lane() {
    let origin = origin();
    let edge = edge(&origin).run();
    let mut connection = Connection::open(edge.http());
    let mut ask = || Asked::plain("/k").send(&mut connection, false).remove(0);
    ask().expect_miss();
    ask().expect_hit();
    let before = taken(&edge);
    ask().expect_hit();
    eventually("the lane took it", || taken(&edge) > before);
    let purge =
        Request::new("POST", "/api/v1/purge").header("Content-Type", "application/json").body(r#"{"all": true}"#);
    purge.send(edge.admin()).expect_status(200);
    ask().expect_miss();
    ask().expect_hit();
    edge.configure("sites.0.deny", json!(["127.0.0.0/8"]));
    edge.reload();
    eventually("the new rules hold", || ask().status == 403);
}

#[test]
fn a_stopping_edge_says_that_the_connection_ends() {
    let gate = Gate::new();
    let half = || Step::Send(letters(0, 100_000).into());
    let slow = Reply::ok("").length(200_000).steps(vec![half(), Step::Wait(gate.clone()), half()]);
    let origin = origin().route("/slow", slow);
    let edge = edge(&origin).set("shutdown.notice", "3s").set("shutdown.drain_timeout", "60s").run();
    let mut connection = Connection::open(edge.http());
    Asked::plain("/k").send(&mut connection, false).remove(0).expect_miss();
    Asked::plain("/k").send(&mut connection, false).remove(0).expect_hit();
    // Keeps the process.
    let mut busy = Connection::open(edge.http());
    busy.send(Request::get("/slow").to_bytes());
    assert_eq!(busy.head().map(|head| head.status), Some(200));
    edge.sigterm();
    let mut said_so = false;
    eventually("it says so, or closes what is idle", || {
        let answers = Asked::plain("/k").send(&mut connection, false);
        said_so = answers.first().is_some_and(|answer| answer.header("connection") == Some("close"));
        said_so || answers.is_empty()
    });
    assert!(connection.read_to_end().is_empty());
    gate.open();
}
