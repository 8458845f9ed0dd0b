//! An independent suite judges the HTTP cache: `http-cache-tests` (Mark Nottingham, BSD-3), its server as the origin and its
//! command line as the client, with the edge as it comes between them. It is not ours and is not changed; what it makes of each
//! case, it says itself (`tests/conformance/judge.mjs`).
//!
//! The published version is of 2021, a year before RFC 9111: [`AT_ODDS`] lists what it asks for and must not get. A case of that list
//! that passes fails the test, as does every other required case that does not, and fewer optimal ones than [`OPTIMAL_MIN`].

use crate::support::{Edge, eventually, free_port, patience};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Required and optimal cases the suite has for a shared cache, without [`SUITE_LEFT_OUT`]; fewer: it did not run whole.
const CASES: [(&str, usize); 2] = [("required", 157), ("optimal", 86)];
/// Optimal cases that pass. Those that do not ask for what is refused on purpose: answers with `Set-Cookie` (not stored), partial
/// content whose length is not what its `Content-Range` says, or that no validator ties to the rest (RFC 9110 §15.3.7.3), a
/// language chosen by the cache, and a 304 for what changed after the date the client named (RFC 9111 §4.3.2).
const OPTIMAL_MIN: usize = 77;
/// `Surrogate-Control` is a note of 2001 that became no standard; RFC 9213, its successor, has cases in `rfc9111/cases.rs`.
const SUITE_LEFT_OUT: &str = "surrogate-control";

const AGE: &str = "RFC 9111 §5.1: the first member of a list counts, and an Age that is no number is ignored";
const SET_COOKIE: &str = "an answer with Set-Cookie is not stored, unless the site says so, and then without it";
const NO_ANSWER: &str =
    "it looks for a field of the origin's answer, but the origin gave none: the 502 is the edge's own";

/// Required cases that must not pass, and why.
const AT_ODDS: [(&str, &str); 17] = [
    ("304-etag-update-response-ETag", "RFC 9111 §4.3.4: a 304 of another version must not update what is stored"),
    ("304-etag-update-response-Set-Cookie", SET_COOKIE),
    ("age-parse-dup-0", AGE),
    ("age-parse-dup-0-twoline", AGE),
    ("age-parse-dup-old", AGE),
    ("age-parse-float", AGE),
    ("age-parse-negative", AGE),
    ("age-parse-nonnumeric", AGE),
    ("age-parse-numeric-parameter", AGE),
    ("age-parse-parameter", AGE),
    ("age-parse-prefix-twoline", AGE),
    ("headers-store-Set-Cookie", SET_COOKIE),
    ("headers-store-Transfer-Encoding", "a body in a transfer coding nobody knows cannot be passed on: 502"),
    ("stale-close-must-revalidate", NO_ANSWER),
    ("stale-close-no-cache", NO_ANSWER),
    ("stale-close-proxy-revalidate", NO_ANSWER),
    ("stale-close-s-maxage=2", NO_ANSWER),
];

/// What `judge.mjs` prints of each case.
#[derive(Debug, Clone, Deserialize)]
struct Case {
    suite: String,
    id: String,
    kind: String,
    verdict: String,
    reason: String,
}

impl Case {
    fn passed(&self) -> bool {
        self.verdict == "pass"
    }

    /// Some are for browsers' caches only.
    fn is_for_us(&self) -> bool {
        self.suite != SUITE_LEFT_OUT && self.verdict != "not for this kind of cache"
    }
}

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance").join(path)
}

/// The suite's server; killed when dropped.
struct Server {
    child: Child,
    port: u16,
    folder: tempfile::TempDir,
}

impl Server {
    fn start() -> Self {
        let script = here("node_modules/http-cache-tests/server/server.mjs");
        assert!(script.exists(), "the suite is not installed (tests/run does it: npm ci in tests/conformance)");
        for _ in 0..5 {
            let (port, folder) = (free_port(), tempfile::tempdir().expect("a temporary folder"));
            let mut child = Command::new("node")
                .arg(&script)
                .current_dir(folder.path())
                .env("npm_config_protocol", "http")
                .env("npm_config_port", port.to_string())
                .env("npm_config_pidfile", "server.pid")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                // Node would make the test's own error stream non-blocking.
                .stderr(Stdio::null())
                .spawn()
                .expect("node runs (tests/run installs it)");
            let mut gone = false;
            eventually("the suite's server listens", || {
                gone = child.try_wait().expect("a child can be waited for").is_some();
                gone || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
            });
            if !gone {
                return Self { child, port, folder };
            }
        }
        panic!("the suite's server did not start on five ports in turn");
    }

    /// All cases through the edge, about a quarter of a minute: they wait for answers to go stale.
    fn judge(&self, edge: &Edge) -> Vec<Case> {
        let results = self.folder.path().join("results.json");
        let deadline = patience().as_secs() * 6;
        let asked = Command::new("timeout")
            .arg(deadline.to_string())
            .args(["node", "--no-warnings"])
            .arg(here("node_modules/http-cache-tests/cli.mjs"))
            .current_dir(self.folder.path())
            .env("npm_config_base", format!("http://{}", edge.http()))
            .env("npm_config_id", "")
            .env("npm_package_config_id", "")
            .stdin(Stdio::null())
            .stdout(std::fs::File::create(&results).expect("a file for the results"))
            .output()
            .expect("timeout (coreutils) runs");
        let said = String::from_utf8_lossy(&asked.stderr);
        assert!(asked.status.success(), "the suite did not run to its end in {deadline} s ({}): {said}", asked.status);
        let judged = Command::new("node")
            .arg(here("judge.mjs"))
            .stdin(std::fs::File::open(&results).expect("the results"))
            .output()
            .expect("node runs");
        let said = String::from_utf8_lossy(&judged.stderr);
        assert!(judged.status.success(), "judge.mjs: {said}");
        serde_json::from_slice(&judged.stdout).unwrap_or_else(|error| panic!("judge.mjs: {error}: {said}"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What stands between these results and the goal; empty: nothing.
fn faults(cases: &BTreeMap<String, Case>) -> Vec<String> {
    let at_odds = BTreeMap::from(AT_ODDS);
    let mut faults = Vec::new();
    for (kind, expected) in CASES {
        let count = cases.values().filter(|case| case.kind == kind).count();
        if count != expected {
            faults.push(format!("{count} {kind} cases were run, not {expected}"));
        }
    }
    for case in cases.values().filter(|case| case.kind == "required") {
        match at_odds.get(case.id.as_str()) {
            Some(why) if case.passed() => faults.push(format!("{} passes, although {why}", case.id)),
            None if !case.passed() => faults.push(format!("{}: {} ({})", case.id, case.verdict, case.reason)),
            _ => {}
        }
    }
    let optimal = cases.values().filter(|case| case.kind == "optimal");
    let (passed, others): (Vec<_>, Vec<_>) = optimal.partition(|case| case.passed());
    if passed.len() < OPTIMAL_MIN {
        let others: Vec<_> = others.iter().map(|case| format!("{} ({})", case.id, case.reason)).collect();
        faults.push(format!("{} optimal cases pass, not {OPTIMAL_MIN}; not: {}", passed.len(), others.join(", ")));
    }
    faults
}

/// Cases count by the clock, with a second or less to spare, which a busy machine does not always have: one that fails is given
/// a second run, and fails the test if it fails again.
#[test]
fn the_independent_suite_finds_what_it_may() {
    let server = Server::start();
    let edge = Edge::of_url(&format!("http://127.0.0.1:{}", server.port)).run();
    let mut best: BTreeMap<String, Case> = BTreeMap::new();
    let mut found = Vec::new();
    for _ in 0..2 {
        for case in server.judge(&edge).into_iter().filter(Case::is_for_us) {
            if !best.get(&case.id).is_some_and(Case::passed) {
                best.insert(case.id.clone(), case);
            }
        }
        found = faults(&best);
        if found.is_empty() {
            break;
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
    let known: BTreeSet<_> = best.keys().map(String::as_str).collect();
    let gone: Vec<_> = AT_ODDS.iter().map(|(id, _)| *id).filter(|id| !known.contains(id)).collect();
    assert!(gone.is_empty(), "no longer in the suite: {gone:?}");
    let passed = |kind| best.values().filter(|case| case.kind == kind && case.passed()).count();
    println!("required: {} of {}, optimal: {} of {}", passed("required"), CASES[0].1, passed("optimal"), CASES[1].1);
}
