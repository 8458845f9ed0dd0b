//! Purges over the real binary: what they reach, what they leave, and how they are asked for. Under load: `load.rs`.

use crate::support::{Connection, Edge, Gate, Origin, Reply, Request, Response, Step, eventually, letters, reelgate};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering};

/// An origin whose answer to everything is its target and how often it was asked for.
fn counting() -> Origin {
    let asked = AtomicUsize::new(0);
    Origin::start().handle("*", move |request| {
        let count = asked.fetch_add(1, Ordering::SeqCst);
        Reply::cacheable(format!("{} {count}", request.target))
    })
}

fn ask(edge: &Edge, purge: &Value) -> Response {
    let request = Request::new("POST", "/api/v1/purge")
        .header("Connection", "close")
        .header("Content-Type", "application/json")
        .body(purge.to_string());
    request.send(edge.admin())
}

#[track_caller]
fn purge(edge: &Edge, purge: &Value) -> Value {
    let answer = ask(edge, purge).expect_status(200).json();
    assert!(answer["id"].as_str().is_some_and(|id| !id.is_empty()), "{answer}");
    assert!(answer["at"].as_str().is_some_and(|at| at.ends_with('Z')), "{answer}");
    assert_eq!(answer["soft"].as_bool(), Some(purge["soft"].as_bool().unwrap_or(false)), "{answer}");
    answer
}

/// Asks for each, so that all are stored.
#[track_caller]
fn fill(edge: &Edge, targets: &[&str]) {
    for target in targets {
        edge.get(target).expect_status(200);
        edge.get(target).expect_hit();
    }
}

#[track_caller]
fn expect_purged(edge: &Edge, targets: &[&str]) {
    for target in targets {
        assert!(!edge.get(target).expect_status(200).is_hit(), "{target} was not purged");
    }
}

#[track_caller]
fn expect_kept(edge: &Edge, targets: &[&str]) {
    for target in targets {
        assert!(edge.get(target).expect_status(200).is_hit(), "{target} was purged");
    }
}

#[test]
fn a_url_is_purged_alone() {
    let origin = counting();
    let edge = Edge::of(&origin).run();
    let all = ["/a", "/a?x=1", "/a?x=2", "/a/", "/a/b", "/"];
    for url in ["http://localhost/a?x=1", "https://LOCALHOST:8443/a?x=1#top", "http://localhost/b/../%61?x=1"] {
        fill(&edge, &all);
        purge(&edge, &json!({ "url": url }));
        expect_purged(&edge, &["/a?x=1"]);
        expect_kept(&edge, &["/a", "/a?x=2", "/a/", "/a/b", "/"]);
    }
    edge.expect_metric("reelgate_purges_total", &[("selector", "url"), ("soft", "false")], 3.0);
}

#[test]
fn a_prefix_is_bytes_of_the_normalised_url() {
    let origin = counting();
    let edge = Edge::of(&origin).run();
    let all = ["/a", "/ab", "/a/b", "/a/b?x", "/b", "/~c/d"];
    for (prefix, purged) in [
        ("http://localhost/a", &["/a", "/ab", "/a/b", "/a/b?x"][..]),
        ("http://localhost/a/", &["/a/b", "/a/b?x"]),
        ("https://localhost:1/a/b?", &["/a/b?x"]),
        ("http://localhost/%7Ec/%64", &["/~c/d"]),
        ("http://localhost/A", &[]),
        ("http://localhost", &all),
    ] {
        fill(&edge, &all);
        purge(&edge, &json!({ "prefix": prefix }));
        let kept: Vec<_> = all.iter().copied().filter(|target| !purged.contains(target)).collect();
        expect_kept(&edge, &kept);
        expect_purged(&edge, purged);
    }
}

#[test]
fn a_tag_reaches_all_answers_that_carried_it() {
    let origin = Origin::start()
        .route("/comma", Reply::cacheable("x").header("Cache-Tag", "film 1, poster"))
        .route("/space", Reply::cacheable("x").header("Surrogate-Key", "poster other"))
        .route("/both", Reply::cacheable("x").header("Cache-Tag", "other").header("Surrogate-Key", "film"))
        .route("/none", Reply::cacheable("x"));
    let edge = Edge::of(&origin).run();
    let all = ["/comma", "/space", "/both", "/none"];
    for (tag, purged) in [
        ("poster", &["/comma", "/space"][..]),
        ("film 1", &["/comma"]),
        ("film", &["/both"]),
        ("other", &["/space", "/both"]),
        ("1", &[]),
        ("Poster", &[]),
    ] {
        fill(&edge, &all);
        purge(&edge, &json!({ "tag": tag }));
        let kept: Vec<_> = all.iter().copied().filter(|target| !purged.contains(target)).collect();
        expect_kept(&edge, &kept);
        expect_purged(&edge, purged);
    }
    for target in all {
        let answer = edge.get(target);
        assert_eq!((answer.fields("cache-tag"), answer.fields("surrogate-key")), (0, 0), "{target}");
    }
}

#[test]
fn all_is_all_and_the_bytes_are_given_back() {
    let origin = counting();
    let edge = Edge::of(&origin).run();
    let all = ["/a", "/b", "/c/d?e"];
    fill(&edge, &all);
    purge(&edge, &json!({ "all": true }));
    edge.expect_metric("reelgate_cache_objects", &[("tier", "memory")], 0.0);
    edge.expect_metric("reelgate_bans", &[], 0.0);
    expect_purged(&edge, &all);
    expect_kept(&edge, &all);
}

#[test]
fn a_soft_purge_revalidates_and_a_hard_one_forgets() {
    let origin = Origin::start().handle("/a", |request| {
        let reply = if request.header("if-none-match").is_some() { Reply::status(304) } else { Reply::ok("body") };
        reply.header("ETag", "\"1\"").header("Cache-Control", "max-age=60, stale-if-error=60")
    });
    let edge = Edge::of(&origin).run();
    for selector in
        [json!({ "url": "http://localhost/a" }), json!({ "prefix": "http://localhost/" }), json!({ "all": true })]
    {
        fill(&edge, &["/a"]);
        let mut soft = selector.clone();
        soft["soft"] = true.into();
        purge(&edge, &soft);
        let revalidated = edge.get("/a").expect_status(200);
        assert_eq!((revalidated.text().as_str(), revalidated.is_hit()), ("body", false), "{selector}");
        assert!(origin.last("/a").header("if-none-match").is_some(), "{selector}: a soft purge revalidates");
        edge.get("/a").expect_hit();
        purge(&edge, &selector);
        edge.get("/a").expect_status(200).expect_miss();
        assert!(origin.last("/a").header("if-none-match").is_none(), "{selector}: a hard purge asks anew");
    }
    purge(&edge, &json!({ "all": true, "soft": true }));
    origin.set_route("/a", Reply::status(500));
    assert_eq!(edge.get("/a").text(), "body", "a soft purge leaves it for when the origin fails");
    purge(&edge, &json!({ "all": true }));
    edge.get("/a").expect_status(500);
}

#[test]
fn every_variant_of_a_url_goes() {
    let origin = Origin::start().handle("/a", |request| {
        Reply::cacheable(request.header("accept-language").unwrap_or_default()).header("Vary", "Accept-Language")
    });
    let edge = Edge::of(&origin).run();
    let get = |language: &str| edge.send(&Request::get("/a").header("Accept-Language", language)).expect_status(200);
    for language in ["de", "fr", "en"] {
        get(language);
        assert!(get(language).is_hit(), "{language}");
    }
    purge(&edge, &json!({ "url": "http://localhost/a" }));
    for language in ["fr", "de", "en"] {
        let answer = get(language);
        assert!(!answer.is_hit() && answer.text() == language, "{language}: {answer:?}");
        assert!(get(language).is_hit(), "{language}");
    }
}

#[test]
fn the_host_counts_only_where_the_key_has_it() {
    let origin = counting();
    let edge = Edge::of(&origin).set("sites.0.hosts", json!(["one.test", "two.test"])).run();
    let get = |host: &str| edge.send(&Request::get("/a").host(host)).expect_status(200);
    for host in ["one.test", "two.test"] {
        get(host);
    }
    purge(&edge, &json!({ "url": "https://One.Test:8443/a" }));
    assert!(!get("one.test:80").is_hit() && get("two.test").is_hit());
    purge(&edge, &json!({ "prefix": "http://two.test/" }));
    assert!(get("one.test").is_hit() && !get("two.test").is_hit());
    for body in [json!({ "url": "http://three.test/a" }), json!({ "prefix": "http://three.test/" })] {
        let refused = ask(&edge, &body).expect_status(400);
        assert!(refused.text().contains("no site"), "{refused:?}");
    }
}

#[test]
fn a_prefix_reaches_every_site_below_it_and_no_other() {
    let origin = counting();
    let edge = Edge::of(&origin)
        .set(
            "sites",
            json!([
                { "origin": "main", "name": "films", "hosts": ["h.test"], "paths": ["/films"] },
                { "origin": "main", "name": "rest", "hosts": ["h.test"] },
            ]),
        )
        .run();
    let get = |target: &str| edge.send(&Request::get(target).host("h.test")).expect_status(200);
    let all = ["/films", "/films/1", "/filmstrip", "/fi", "/other"];
    for (prefix, purged) in [
        ("http://h.test/fi", &["/films", "/films/1", "/filmstrip", "/fi"][..]),
        ("http://h.test/films", &["/films", "/films/1", "/filmstrip"]),
        ("http://h.test/films/", &["/films/1"]),
        ("http://h.test/o", &["/other"]),
    ] {
        for target in all {
            get(target);
        }
        purge(&edge, &json!({ "prefix": prefix }));
        for target in all {
            assert_eq!(get(target).is_hit(), !purged.contains(&target), "{target} by {prefix}");
        }
    }
}

#[test]
fn rewritten_urls_are_purged_as_clients_ask_for_them() {
    let origin = counting();
    let edge = Edge::of(&origin).set("sites.0.rewrites", json!([{ "from": "^/old/(.*)$", "to": "/new/$1" }])).run();
    fill(&edge, &["/old/a"]);
    expect_kept(&edge, &["/new/a"]);
    for (purged, asked) in [
        (json!({ "url": "http://localhost/old/a" }), "/new/a"),
        (json!({ "url": "http://localhost/new/a" }), "/old/a"),
        (json!({ "prefix": "http://localhost/old/" }), "/old/a"),
    ] {
        fill(&edge, &["/new/a", "/old/a"]);
        purge(&edge, &purged);
        expect_purged(&edge, &[asked]);
    }
    // Filled under one URL, purged under the other, also when the sweep has been by.
    purge(&edge, &json!({ "all": true }));
    fill(&edge, &["/new/a"]);
    purge(&edge, &json!({ "prefix": "http://localhost/old/" }));
    purge(&edge, &json!({ "url": "http://localhost/elsewhere" }));
    expect_kept(&edge, &["/new/a"]);
    eventually("the sweep has been by", || edge.metrics().value("reelgate_bans", &[]) < 2.0);
    expect_purged(&edge, &["/old/a"]);
}

#[test]
fn the_key_rules_of_a_site_are_those_of_its_purges() {
    let origin = counting();
    let edge = Edge::of(&origin).set("sites.0.cache.key", json!({ "query": "sorted", "ignore": ["utm_*"] })).run();
    for purged in [
        json!({ "url": "http://localhost/a?b=2&a=1" }),
        json!({ "url": "http://localhost/a?a=1&utm_x=y&b=2" }),
        json!({ "prefix": "http://localhost/a?a=1&utm_x=" }),
    ] {
        fill(&edge, &["/a?b=2&a=1&utm_source=z", "/a"]);
        purge(&edge, &purged);
        expect_purged(&edge, &["/a?a=1&b=2"]);
        expect_kept(&edge, &["/a"]);
    }
}

#[test]
fn a_running_fill_ends_for_its_followers_and_for_nobody_else() {
    let gate = Gate::new();
    let (early, late) = (letters(1, 40_000), letters(2, 40_000));
    let steps = vec![Step::Send(early.clone().into()), Step::Wait(gate.clone()), Step::Send(late.clone().into())];
    let origin = Origin::start().route("/a", Reply::cacheable("").length(80_000).steps(steps));
    let edge = Edge::of(&origin).run();
    let mut clients: Vec<_> = (0..2).map(|_| Connection::open(edge.http())).collect();
    for client in &mut clients {
        client.send(Request::get("/a").to_bytes());
        assert_eq!(client.head().map(|head| head.status), Some(200));
        client.read(40_000);
    }
    purge(&edge, &json!({ "url": "http://localhost/a" }));
    origin.set_route("/a", Reply::cacheable("new"));
    assert_eq!(edge.get("/a").expect_status(200).expect_miss().text(), "new");
    assert_eq!(edge.get("/a").expect_hit().text(), "new");
    gate.open();
    for client in &mut clients {
        assert_eq!(client.read(40_000), late.as_bytes(), "who began before the purge is served to the end");
    }
    assert_eq!(edge.get("/a").expect_hit().text(), "new", "the old fill takes no place");
    assert_eq!(origin.count("/a"), 2);
}

#[test]
fn an_answer_the_origin_was_asked_for_before_the_purge_is_never_fresh() {
    for soft in [false, true] {
        let gate = Gate::new();
        let origin = Origin::start().route("/a", Reply::cacheable("old").gated(&gate));
        let edge = Edge::of(&origin).run();
        let address = edge.http();
        let first = std::thread::spawn(move || Request::get("/a").send(address));
        eventually("the origin is asked", || gate.arrived() >= 1);
        purge(&edge, &json!({ "url": "http://localhost/a", "soft": soft }));
        origin.set_route("/a", Reply::cacheable("new"));
        // It waits for the fill that runs, and must not be content with it.
        let later = std::thread::spawn(move || Request::get("/a").send(address));
        eventually("both wait", || edge.metrics().value("reelgate_requests_in_flight", &[]) >= 2.0);
        gate.open();
        assert_eq!(first.join().expect("a client ends").text(), "old");
        assert_eq!(later.join().expect("a client ends").text(), "new", "soft: {soft}");
        assert_eq!(edge.get("/a").expect_hit().text(), "new");
    }
}

#[test]
fn purges_that_can_mean_nothing_are_refused() {
    let origin = counting();
    let edge = Edge::of(&origin).set("admin.token", "correct-horse-battery").run();
    let send = |token: &str, body: &Value| {
        Request::new("POST", "/api/v1/purge")
            .header("Connection", "close")
            .header("Content-Type", "application/json")
            .header("Authorization", &format!("Bearer {token}"))
            .body(body.to_string())
            .send(edge.admin())
    };
    fill(&edge, &["/a"]);
    for body in [
        json!({}),
        json!({ "url": "http://localhost/a", "all": true }),
        json!({ "url": "/a" }),
        json!({ "url": "ftp://localhost/a" }),
        json!({ "url": "http://user@localhost/a" }),
        json!({ "prefix": "http://localhost/a%2" }),
        json!({ "prefix": "" }),
        json!({ "tag": " " }),
        json!({ "tag": "a, b" }),
        json!({ "surrogate": "x" }),
    ] {
        let answer = send("correct-horse-battery", &body).expect_status(400);
        assert!(answer.header("content-type").is_some_and(|kind| kind.contains("problem+json")), "{answer:?}");
    }
    send("wrong", &json!({ "all": true })).expect_status(401);
    expect_kept(&edge, &["/a"]);
    send("correct-horse-battery", &json!({ "all": true })).expect_status(200);
    expect_purged(&edge, &["/a"]);
}

#[test]
fn the_command_purges_and_says_so() {
    let origin = counting();
    let edge = Edge::of(&origin).set("admin.token", "correct-horse-battery").run();
    let file = edge.config_file();
    let file = file.to_str().expect("a temporary path is UTF-8");
    let run = |arguments: &[&str]| {
        let output = reelgate(&[&["purge"], arguments].concat());
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.code(), said)
    };
    let all = ["/a", "/b", "/c/1", "/c/2"];
    fill(&edge, &all);
    let (code, said) = run(&["-c", file, "--url", "http://localhost/a", "--url", "http://localhost/b?token=s3cret"]);
    assert_eq!((code, said.lines().count()), (Some(0), 2), "{said}");
    assert!(said.contains("http://localhost/a") && !said.contains("s3cret"), "{said}");
    expect_purged(&edge, &["/a"]);
    expect_kept(&edge, &["/b", "/c/1"]);
    let (code, said) = run(&["-c", file, "--prefix", "http://localhost/c/", "--soft"]);
    assert_eq!(code, Some(0), "{said}");
    expect_purged(&edge, &["/c/1"]);
    edge.expect_metric("reelgate_purges_total", &[("selector", "prefix"), ("soft", "true")], 1.0);
    assert_eq!(run(&["-c", file, "--tag", "x", "y"]).0, Some(0));
    edge.expect_metric("reelgate_purges_total", &[("selector", "tag")], 2.0);
    assert_eq!(run(&["-c", file, "--all"]).0, Some(0));
    expect_purged(&edge, &all);

    let (code, said) = run(&["-c", file, "--url", "/a", "--tag", "x"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("absolute") && said.contains("purged tag x"), "one that fails holds up no other: {said}");
    let admin = format!("http://{}", edge.admin());
    let (code, said) = run(&["--admin", &admin, "--all"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("REELGATE_TOKEN"), "{said}");
    for wrong in [
        &["-c", file][..],
        &["-c", file, "--all", "--url", "http://localhost/a"],
        &["--all"],
        &["-c", file, "--admin", &admin, "--all"],
        &["-c", "/nowhere/at/all.yaml", "--all"],
        &["--admin", "nonsense", "--all"],
    ] {
        assert_eq!(run(wrong).0, Some(2), "{wrong:?}");
    }
}

#[test]
fn explain_tells_the_tags_and_whether_a_purge_hides_it() {
    let origin = Origin::start().route("/a", Reply::cacheable("x").header("Cache-Tag", "film,poster"));
    let edge = Edge::of(&origin).run();
    fill(&edge, &["/a"]);
    let explain = || edge.admin_get("/api/v1/explain?url=http%3A%2F%2Flocalhost%2Fa").expect_status(200).json();
    assert_eq!(
        (&explain()["object"]["tags"], &explain()["object"]["purged"]),
        (&json!(["film", "poster"]), &Value::Null)
    );
    purge(&edge, &json!({ "tag": "film", "soft": true }));
    assert!(explain()["object"]["ttl_s"].as_i64().is_some_and(|ttl| ttl <= 0), "{}", explain());
    purge(&edge, &json!({ "tag": "film" }));
    let explained = explain();
    assert_eq!(explained["tier"], Value::Null, "{explained}");
}
