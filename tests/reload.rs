//! Changing the configuration of a running edge: all of it or nothing of it, and nobody in flight notices.

use crate::support::{Connection, Edge, Gate, Origin, Reply, Request, Step, eventually, letters};
use serde_json::json;

fn named(name: &'static str) -> Origin {
    Origin::start().handle("*", move |_| Reply::ok(name))
}

#[test]
fn a_changed_file_takes_effect() {
    let (one, two) = (named("one"), named("two"));
    let edge = Edge::of(&one).run();
    assert_eq!(edge.get("/").text(), "one");
    edge.configure("origins.main.servers", json!([two.url()]));
    eventually("the new origin is asked", || edge.get("/").text() == "two");
    edge.expect_metric("reelgate_config_reload_success", &[], 1.0);
}

#[test]
fn a_file_written_in_place_takes_effect() {
    let (one, two) = (named("one"), named("two"));
    let edge = Edge::of(&one).run();
    let text = std::fs::read_to_string(edge.config_file()).expect("the configuration is readable");
    std::fs::write(edge.config_file(), text.replace(&one.url(), &two.url())).expect("the configuration is written");
    eventually("the new origin is asked", || edge.get("/").text() == "two");
}

#[test]
fn sighup_takes_effect() {
    let (one, two) = (named("one"), named("two"));
    let edge = Edge::of(&one).run();
    edge.configure("origins.main.servers", json!([two.url()]));
    edge.reload();
    eventually("the new origin is asked", || edge.get("/").text() == "two");
    assert!(edge.exited().is_none(), "SIGHUP must not end it");
}

/// An embedded origin is started by the reload, and another one beside the first by the next.
#[test]
fn a_library_may_come_and_change() {
    let one = named("one");
    let edge = Edge::of(&one).run();
    assert_eq!(edge.get("/").text(), "one");
    for film in ["first", "second"] {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join(format!("{film}.mp4")), letters(0, 1000)).expect("a film");
        edge.configure("origins.main", json!({"kind": "library", "folders": [folder.path()]}));
        // The list of the library before may be fresh in the cache for some seconds.
        eventually("the library is served", || edge.get(&format!("/titles.json?q={film}")).text().contains(film));
        edge.expect_metric("reelgate_config_reload_success", &[], 1.0);
    }
    edge.configure("origins.main", json!({"kind": "http", "servers": [one.url()]}));
    eventually("the first origin is back", || edge.get("/back").text() == "one");
}

#[test]
fn a_broken_file_leaves_the_old_one_in_force() {
    let one = named("one");
    let edge = Edge::of(&one).run();
    edge.expect_metric("reelgate_config_reload_success", &[], 1.0);
    let good = std::fs::read_to_string(edge.config_file()).expect("the configuration is readable");
    for broken in ["sites: [", "listen: []\nnonsense: 1\n", ""] {
        edge.write_config(broken);
        edge.reload();
        edge.expect_metric("reelgate_config_reload_success", &[], 0.0);
        assert_eq!(edge.get("/").text(), "one", "{broken:?}");
        edge.write_config(&good);
        edge.reload();
        edge.expect_metric("reelgate_config_reload_success", &[], 1.0);
    }
    assert!(edge.stderr().contains("nonsense"), "the log says what is wrong");
    edge.write_config(&good.replace("sites", "sits"));
    edge.reload();
    eventually("the log says what to do", || edge.stderr().contains("did you mean `sites`?"));
}

#[test]
fn a_request_in_flight_keeps_its_configuration() {
    let gate = Gate::new();
    let half = letters(0, 100_000);
    let steps = vec![Step::Send(half.clone().into()), Step::Wait(gate.clone()), Step::Send(half.clone().into())];
    let one = Origin::start().route("/slow", Reply::ok("").length(200_000).steps(steps));
    let two = named("two");
    let edge = Edge::of(&one).set("sites.0.headers.response.set", json!({"X-Configuration": "old"})).run();
    let mut connection = Connection::open(edge.http());
    connection.send(Request::get("/slow").to_bytes());
    let head = connection.head().expect("an answer has begun");
    assert_eq!(head.header("x-configuration"), Some("old"));
    edge.configure("sites.0.headers.response.set", json!({"X-Configuration": "new"}));
    edge.configure("origins.main.servers", json!([two.url()]));
    eventually("the new configuration is in force", || edge.get("/").text() == "two");
    gate.open();
    assert_eq!(connection.read(200_000), half.repeat(2).as_bytes());
    let next = connection.exchange(&Request::get("/"));
    assert_eq!((next.text().as_str(), next.header("x-configuration")), ("two", Some("new")));
}

#[test]
fn what_is_kept_survives_a_reload() {
    let origin = Origin::start().handle("*", |_| Reply::cacheable("kept"));
    let edge = Edge::of(&origin).run();
    edge.get("/a").expect_miss();
    edge.configure("sites.0.headers.response.set", json!({"X-New": "1"}));
    eventually("the new configuration is in force", || edge.get("/a").header("x-new") == Some("1"));
    edge.get("/a").expect_hit();
    assert_eq!(origin.count("/a"), 1);
}

#[test]
fn many_reloads_under_load_lose_no_request() {
    let origin = named("one");
    let edge = Edge::of(&origin).run();
    let address = edge.http();
    let stop = Gate::new();
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let stop = stop.clone();
            std::thread::spawn(move || {
                let mut connection = Connection::open(address);
                let mut answered = 0;
                while !stop.is_open() {
                    connection.exchange(&Request::get("/")).expect_status(200);
                    answered += 1;
                }
                answered
            })
        })
        .collect();
    for i in 0..10 {
        let value = i.to_string();
        edge.configure("sites.0.headers.response.set", json!({ "X-Turn": value }));
        edge.reload();
        eventually("the turn is in force", || edge.get("/").header("x-turn") == Some(value.as_str()));
    }
    stop.open();
    for client in clients {
        assert!(client.join().expect("no request was lost") > 0);
    }
}

#[test]
fn variables_of_the_environment_are_filled_in_at_each_load() {
    let origin = named("one");
    let edge = Edge::of(&origin)
        .environment("REELGATE_TEST_VALUE", "from outside")
        .set("sites.0.headers.response.set", json!({"X-Value": "${REELGATE_TEST_VALUE}"}))
        .run();
    assert_eq!(edge.get("/").header("x-value"), Some("from outside"));
    edge.configure("sites.0.headers.response.set", json!({"X-Value": "${REELGATE_TEST_VALUE} again"}));
    eventually("the new value is in force", || edge.get("/").header("x-value") == Some("from outside again"));
}
