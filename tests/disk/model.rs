//! Random operations on the whole edge against a simple model: every byte of every answer is one of a version that may be given
//! then, and what must be kept is a hit. On all protocols, and with clients that stop reading for as long as they like.
//!
//! `REELGATE_TEST_SEED` repeats a run; `REELGATE_TEST_STEPS` sets its length.

use super::world::{World, body, claimed, expect_bytes, path, version_of};
use super::{edge_with, kill, purge, recovered, stop};
use crate::support::{Answer, Connection, Edge, EdgeBuilder, Player, Request, Response, Speech, runtime};
use http::{HeaderName, HeaderValue};
use serde_json::json;

/// Clients that have stopped reading, at once.
const STALLED_MAX: usize = 6;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kept {
    No,
    /// A GET must be a hit.
    Fresh,
    /// Softly purged: a GET asks the origin.
    Stale,
    /// A crash may have lost it.
    Perhaps,
}

#[derive(Debug, Clone)]
struct Known {
    path: String,
    /// No older version may be given.
    floor: u64,
    kept: Kept,
}

/// A client that has begun to read, and stopped.
struct Stalled {
    answer: Answer,
    _player: Player,
    path: String,
    version: u64,
    read: usize,
}

struct Model {
    random: fastrand::Rng,
    world: World,
    builder: EdgeBuilder,
    edge: Option<Edge>,
    known: Vec<Known>,
    stalled: Vec<Stalled>,
    log: Vec<String>,
}

/// As [`Edge::get`], over this protocol.
fn get_by(edge: &Edge, speech: Speech, path: &str) -> Response {
    runtime().block_on(async {
        let opened = Player::open(speech, edge.speaks(speech), None).await;
        let mut player = opened.unwrap_or_else(|error| panic!("{speech:?}: {error}"));
        let mut answer = player.get(path).await.unwrap_or_else(|error| panic!("{speech:?}, {path}: {error}"));
        let (mut body, mut complete) = (Vec::new(), true);
        loop {
            match answer.next().await {
                Ok(Some(bytes)) => body.extend_from_slice(&bytes),
                Ok(None) => break,
                Err(_) => {
                    complete = false;
                    break;
                }
            }
        }
        Response { body, complete, ..head_of(&answer) }
    })
}

fn head_of(answer: &Answer) -> Response {
    let field = |(name, value): (&HeaderName, &HeaderValue)| {
        (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    let headers = answer.headers.iter().map(field).collect();
    Response { status: answer.status.as_u16(), headers, ..Response::default() }
}

impl Model {
    fn edge(&self) -> &Edge {
        self.edge.as_ref().expect("it runs")
    }

    fn one(&mut self) -> usize {
        let at = self.random.usize(..self.known.len());
        if let Some(step) = self.log.last_mut() {
            *step += &format!(" of {at}");
        }
        at
    }

    fn note(&mut self, answer: &Response) {
        if let Some(step) = self.log.last_mut() {
            *step += &format!(": {} {:?}", answer.status, answer.cache_status());
        }
    }

    fn bytes(known: &Known) -> usize {
        known.path.rsplit('/').next().and_then(|bytes| bytes.parse().ok()).expect("a size")
    }

    /// After a whole answer: what the model expects now.
    #[track_caller]
    fn answered(&mut self, at: usize, version: u64, hit: bool) {
        let current = self.world.version(&self.known[at].path);
        let known = &mut self.known[at];
        assert!((known.floor..=current).contains(&version), "v{version}: {known:?}, the origin has v{current}");
        match known.kept {
            Kept::No => assert!(!hit, "{known:?}"),
            Kept::Fresh => assert!(hit, "{known:?}"),
            // Validated, or fetched: what the origin has.
            Kept::Stale => assert!(!hit && version == current, "{known:?}"),
            Kept::Perhaps => {}
        }
        if !hit {
            assert_eq!(version, current, "{known:?} came from the origin");
        }
        known.floor = version;
        known.kept = Kept::Fresh;
    }

    fn fill(&mut self) {
        let at = self.one();
        let path = self.known[at].path.clone();
        let speech = self.speech();
        let answer = get_by(self.edge(), speech, &path);
        self.note(&answer);
        let version = version_of(&path, &answer);
        self.answered(at, version, answer.is_hit());
    }

    /// Several at once, one of which may fill.
    fn follow(&mut self) {
        let at = self.one();
        let path = self.known[at].path.clone();
        let speeches = [0; 4].map(|_| self.speech());
        let (edge, path) = (self.edge(), path.as_str());
        let answers: Vec<_> = std::thread::scope(|scope| {
            let asking: Vec<_> = speeches.map(|speech| scope.spawn(move || get_by(edge, speech, path))).into();
            asking.into_iter().map(|asking| asking.join().expect("an answer")).collect()
        });
        let versions: Vec<u64> = answers.iter().map(|answer| version_of(path, answer)).collect();
        assert!(versions.iter().all(|version| *version == versions[0]), "{versions:?}");
        let hit = answers.iter().all(|answer| answer.is_hit());
        if self.known[at].kept == Kept::Fresh || hit || self.known[at].kept == Kept::Perhaps {
            self.answered(at, versions[0], hit);
        } else {
            // The first asked the origin, and the others may have come after it.
            self.answered(at, versions[0], false);
        }
    }

    fn speech(&mut self) -> Speech {
        let speech = Speech::ALL[self.random.usize(..Speech::ALL.len())];
        if let Some(step) = self.log.last_mut() {
            *step += &format!(" by {speech:?}");
        }
        speech
    }

    /// A client stops reading, until [`Self::read_on`]: it holds nobody up, and what it has not read may be let go.
    fn stall(&mut self) {
        if self.stalled.len() >= STALLED_MAX {
            return self.read_on();
        }
        let at = self.one();
        let known = self.known[at].clone();
        let speech = self.speech();
        let wanted = self.random.usize(..=Self::bytes(&known).min(20_000));
        let edge = self.edge();
        let (player, answer, bytes) = runtime().block_on(async {
            let narrow = (speech != Speech::Http3).then_some(4096);
            let mut player = Player::open(speech, edge.speaks(speech), narrow).await.expect("connected");
            let mut answer = player.get(&known.path).await.expect("a head");
            let bytes = answer.read(wanted).await.expect("first bytes");
            (player, answer, bytes)
        });
        let head = head_of(&answer);
        self.note(&head);
        let version = claimed(&head);
        assert!(version >= known.floor && (known.kept != Kept::No || !head.is_hit()), "v{version}: {known:?}");
        expect_bytes(&known.path, version, 0, &bytes, false);
        self.stalled.push(Stalled { answer, _player: player, path: known.path, version, read: wanted });
        if known.kept != Kept::Fresh {
            self.known[at].kept = Kept::Perhaps;
        }
    }

    /// It gets the rest of its version, from wherever that still is; only where nobody has it any more it is aborted.
    fn read_on(&mut self) {
        if self.stalled.is_empty() {
            return;
        }
        let at = self.random.usize(..self.stalled.len());
        let mut stalled = self.stalled.swap_remove(at);
        let (path, version) = (stalled.path.as_str(), stalled.version);
        match runtime().block_on(stalled.answer.rest()) {
            Ok(rest) => expect_bytes(path, version, stalled.read, &rest, true),
            Err(error) => {
                assert!(
                    self.world.version(path) > version,
                    "{path} v{version} was aborted at {}: {error}",
                    stalled.read
                );
            }
        }
    }

    /// The client leaves in the middle.
    fn cancel(&mut self) {
        let at = self.one();
        let known = self.known[at].clone();
        let mut connection = Connection::open(self.edge().http());
        connection.send(Request::get(&known.path).to_bytes());
        let head = connection.head().expect("a head");
        self.note(&head);
        let version = claimed(&head);
        assert!(version >= known.floor, "v{version}: {known:?}");
        let wanted = self.random.usize(..=Self::bytes(&known));
        let bytes = connection.read(wanted);
        expect_bytes(&known.path, version, 0, &bytes, false);
        connection.abort();
        if known.kept != Kept::Fresh {
            // The fill may go on, or not.
            self.known[at].kept = Kept::Perhaps;
        }
    }

    fn range(&mut self) {
        let at = self.one();
        let known = self.known[at].clone();
        let bytes = Self::bytes(&known);
        let first = self.random.usize(..bytes);
        let last = self.random.usize(first..bytes);
        let answer = self.edge().send(&Request::get(&known.path).header("Range", &format!("bytes={first}-{last}")));
        self.note(&answer);
        assert!(answer.complete, "{:?}", answer.headers);
        let version = claimed(&answer);
        assert!(version >= known.floor, "v{version}: {known:?}");
        match answer.status {
            206 => assert!(answer.body == body(&known.path, version)[first..=last], "{known:?} {first}-{last}"),
            // The origin answers with all of it.
            _ => assert_eq!(version_of(&known.path, &answer), version),
        }
        match known.kept {
            Kept::Fresh => assert!(answer.is_hit() && answer.status == 206, "{known:?}: {:?}", answer.headers),
            Kept::No => assert!(!answer.is_hit(), "{known:?}"),
            Kept::Stale | Kept::Perhaps => {}
        }
        if known.kept != Kept::Fresh {
            self.known[at].kept = Kept::Perhaps;
        }
    }

    fn purge(&mut self) {
        let at = self.one();
        let path = self.known[at].path.clone();
        if self.random.bool() {
            self.world.change(&path);
        }
        let soft = self.random.bool();
        let (what, reached): (_, fn(&str, &str) -> bool) = match self.random.u8(..8) {
            0 => (json!({"all": true, "soft": soft}), |_, _| true),
            1..3 => (json!({"tag": path.split('/').nth(2), "soft": soft}), |a, b| a == b),
            3..5 => (json!({"prefix": format!("http://localhost{path}"), "soft": soft}), |a, b| a == b),
            _ => (json!({"url": format!("http://localhost{path}"), "soft": soft}), |a, b| a == b),
        };
        purge(self.edge(), &what);
        let world = &self.world;
        for known in self.known.iter_mut().filter(|known| reached(&known.path, &path)) {
            known.floor = world.version(&known.path);
            known.kept = match known.kept {
                Kept::No => Kept::No,
                _ if !soft => Kept::No,
                Kept::Fresh | Kept::Stale => Kept::Stale,
                Kept::Perhaps => Kept::Perhaps,
            };
        }
    }

    fn invalidate(&mut self) {
        let at = self.one();
        let path = self.known[at].path.clone();
        self.world.change(&path);
        self.edge().send(&Request::new("POST", &path).body("x")).expect_status(204);
        self.known[at].floor = self.world.version(&path);
        self.known[at].kept = Kept::No;
    }

    /// Where a disk that is slow refused something, what it has is not known.
    fn forgive_refusals(&mut self) {
        if self.edge().metrics().value("reelgate_disk_refused_total", &[]) > 0.5 {
            self.forget();
        }
    }

    fn forget(&mut self) {
        for known in self.known.iter_mut().filter(|known| known.kept != Kept::No) {
            known.kept = Kept::Perhaps;
        }
    }

    fn restart(&mut self, ends: fn(&Edge)) {
        self.forgive_refusals();
        self.stalled.clear();
        ends(self.edge());
        self.edge = None;
        let running = self.builder.clone().run();
        recovered(&running);
        self.edge = Some(running);
    }

    fn step(&mut self) {
        let before = self.log.len();
        let (name, operation): (&str, fn(&mut Self)) = match self.random.u8(..76) {
            0..24 => ("fill", Self::fill),
            24..30 => ("follow", Self::follow),
            30..36 => ("cancel", Self::cancel),
            36..46 => ("range", Self::range),
            46..56 => ("purge", Self::purge),
            56..60 => ("invalidate", Self::invalidate),
            60..66 => ("stall", Self::stall),
            66..72 => ("read on", Self::read_on),
            72..74 => ("restart", |model| model.restart(stop)),
            _ => ("crash", |model| {
                model.restart(kill);
                model.forget();
            }),
        };
        self.log.push(format!("{before} {name}"));
        operation(self);
    }
}

impl Drop for Model {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{:#?}\nlast steps: {:#?}", self.known, &self.log[self.log.len().saturating_sub(40)..]);
        }
    }
}

fn run(memory: &str, bytes_max: usize) {
    let seed = std::env::var("REELGATE_TEST_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| fastrand::u64(..));
    let steps = std::env::var("REELGATE_TEST_STEPS").ok().and_then(|steps| steps.parse().ok()).unwrap_or(400);
    eprintln!("REELGATE_TEST_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let known =
        (0..10).map(|at| Known { path: path(at, random.usize(1..bytes_max)), floor: 1, kept: Kept::No }).collect();
    let world = World::new();
    let builder = edge_with(&world, memory, "256MiB").tls().set("cache.hold_timeout", "50ms");
    let edge = Some(builder.clone().run());
    let mut model = Model { random, world, builder, edge, known, stalled: Vec::new(), log: Vec::new() };
    for _ in 0..steps {
        model.step();
    }
}

#[test]
fn random_operations_agree_with_the_model() {
    run("64MiB", 600_000);
}

/// Everything goes down and comes up all the time.
#[test]
fn random_operations_with_little_memory_agree_with_the_model() {
    run("4MiB", 600_000);
}
