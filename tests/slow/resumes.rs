//! Who goes on from the origin: how many at once, and by what it is known to be the same version.

use super::*;
use std::time::SystemTime;

/// Whatever the number of slow clients: the origin is asked, and memory held, for so many only.
#[test]
fn who_finds_no_place_in_time_is_aborted_and_counted() {
    let (gate, body) = (Gate::new(), pattern(SLOW));
    let held = gate.clone();
    let origin = Origin::start().handle("*", move |request| match request.path() {
        "/slow/it" if request.header("Range").is_some() => ranged(request, &body, 0).gated(&held),
        "/slow/it" => ranged(request, &body, 0),
        _ => Reply::cacheable(pattern(OTHER)),
    });
    let edge = edge(&origin).set("limits.resumes", 1).run();
    let (mut players, mut answers) = (Vec::new(), Vec::new());
    runtime().block_on(async {
        for speech in [Speech::Http1, Speech::Http2, Speech::Http3] {
            let mut player = open(speech, &edge).await;
            answers.push(stall(&mut player, "/slow/it").await);
            players.push(player);
        }
        expect_whole(&edge, "/slow/it", SLOW).await;
    });
    press(&edge, "others");
    let (mut third, mut second, mut first) = (answers.pop(), answers.pop(), answers.pop());
    let rest = |answer: &mut Option<Answer>| {
        let mut answer = answer.take().expect("asked once");
        runtime().spawn(async move { answer.rest().await })
    };
    let first = rest(&mut first);
    eventually("the first asks the origin", || gate.arrived() == 1);
    let second = runtime().block_on(rest(&mut second)).expect("no panic");
    assert!(second.is_err(), "it found no place, and is not cut short");
    assert!((let_go(&edge, "too_many") - 1.0).abs() < 0.5);
    edge.expect_metric("reelgate_limits_reached_total", &[("limit", "resumes")], 1.0);
    assert_eq!(gate.arrived(), 1, "the origin was not asked for the second");
    // Who waits for a place gets it when the first ends.
    let third = rest(&mut third);
    edge.expect_metric("reelgate_limits_reached_total", &[("limit", "resumes")], 2.0);
    gate.open();
    for one in [first, third] {
        let got = runtime().block_on(one).expect("no panic").expect("whole");
        assert!(got == pattern(SLOW)[1000..], "{} bytes", got.len());
    }
    assert!((let_go(&edge, "origin") - 2.0).abs() < 0.5);
}

/// What changed twice in one second has two versions of one modification date (RFC 9110 §8.8.2.2): only the `Date` of the answer that the
/// bytes came in tells whether that may be.
#[test]
fn a_304_makes_no_modification_date_stronger() {
    let body = pattern(BARE);
    let origin = Origin::start().handle("*", move |request| {
        let modified = if request.path().contains("young") { YOUNG } else { OLD };
        let dated = |reply: Reply, date: &str| reply.header("Last-Modified", modified).header("Date", date);
        if request.header("If-Modified-Since").is_some() {
            let now = httpdate::fmt_http_date(SystemTime::now());
            return dated(Reply::status(304), &now).header("Cache-Control", "max-age=3600");
        }
        let Some(range) = request.header("Range") else {
            return dated(Reply::ok(&*body).header("Cache-Control", "max-age=0"), SOON_AFTER);
        };
        let first: usize = range["bytes=".len()..].split('-').next().expect("first").parse().expect("a number");
        let part = format!("bytes {first}-{}/{BARE}", BARE - 1);
        dated(Reply::status_with(206, &body[first..]).header("Content-Range", &part), SOON_AFTER)
    });
    let edge = edge(&origin).run();
    for (name, goes_on) in [("old", true), ("young", false)] {
        let paths = [0, 1, 2].map(|at| format!("/{name}/{at}"));
        let (mut players, mut answers) = (Vec::new(), Vec::new());
        for path in &paths[..2] {
            runtime().block_on(expect_whole(&edge, path, BARE));
            let validated = edge.get(path);
            assert!(validated.cache_status().contains("fwd-status=304"), "{}", validated.cache_status());
            players.push(runtime().block_on(open(Speech::Http1, &edge)));
            answers.extend(players.last_mut().map(|player| runtime().block_on(stall(player, path))));
        }
        // Two are held, and a third fits only in place of one of them.
        eventually("the third is kept", || {
            drop(edge.get(&paths[2]));
            edge.get(&paths[2]).is_hit()
        });
        let rests: Vec<_> = answers.iter_mut().map(|answer| runtime().block_on(answer.rest())).collect();
        assert!(rests.iter().flatten().all(|rest| *rest == pattern(BARE)[1000..]), "{name}: whole or an error");
        let asked =
            origin.received().iter().filter(|r| r.path().contains(name) && r.header("If-Range").is_some()).count();
        assert_eq!((asked > 0, rests.iter().all(Result::is_ok)), (goes_on, goes_on), "{name}");
    }
}

const OLD: &str = "Sun, 06 Nov 1994 07:00:00 GMT";
/// Half a minute before the answer.
const YOUNG: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const SOON_AFTER: &str = "Sun, 06 Nov 1994 08:50:07 GMT";
