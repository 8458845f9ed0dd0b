//! The same clients where objects are kept in parts, and where ranges are asked for.

use super::*;

/// Beside what is pressed in, not all of it fits into the memory.
const FILM: usize = 24 * MIB;
const FILMS: Asked = Asked { prefix: "/film/", suffix: ".mkv", fields: &[], bytes: FILM };
/// As browsers and players begin.
const RANGES: Asked = Asked { prefix: "/slow/", suffix: "", fields: &[("range", "bytes=0-")], bytes: SLOW };

/// `/film/…` is an object of [`FILM`] bytes in the version the counter is at; all else is [`OTHER`] bytes.
fn films(version: &Arc<AtomicU64>) -> Origin {
    let (version, body) = (Arc::clone(version), pattern(FILM));
    Origin::start().handle("*", move |request| match request.path().starts_with(FILMS.prefix) {
        true => ranged(request, &body, version.load(Ordering::SeqCst)),
        false => Reply::cacheable(pattern(OTHER)),
    })
}

fn edge_with_slices(origin: &Origin) -> EdgeBuilder {
    edge(origin).set("cache.slices.enabled", true)
}

fn expect_sliced(edge: &Edge) {
    edge.expect_metric_at_least("reelgate_slice_runs_total", &[("outcome", "complete")], 1.0);
}

#[test]
fn who_falls_behind_a_film_in_parts_goes_on_from_the_disk() {
    let origin = films(&Arc::default());
    let edge = edge_with_slices(&origin).set("cache.disk", json!({"path": "./cache", "size": "1GiB"})).run();
    let asked = parking_lot::Mutex::new(Vec::new());
    let rests = rests_of(&edge, &FILMS, |speech| {
        eventually("it is on the disk", || {
            edge.metrics().value("reelgate_disk_queue_bytes", &[]) < 1.0
                && edge.metrics().value("reelgate_disk_accepted_total", &[]) >= 1.0
        });
        asked.lock().push((FILMS.path(speech), origin.count(&FILMS.path(speech))));
    });
    assert_whole_of(rests, FILM);
    for (path, count) in asked.into_inner() {
        assert_eq!(origin.count(&path), count, "{path}: the origin was asked again");
    }
    expect_sliced(&edge);
}

#[test]
fn without_a_disk_who_falls_behind_a_film_in_parts_goes_on_from_the_origin() {
    let origin = films(&Arc::default());
    let edge = edge_with_slices(&origin).run();
    let asked = parking_lot::Mutex::new(Vec::new());
    let rests = rests_of(&edge, &FILMS, |speech| asked.lock().push((speech, origin.received().len())));
    assert_whole_of(rests, FILM);
    let (received, asked) = (origin.received(), asked.into_inner());
    for (speech, count) in asked {
        let again: Vec<_> = received[count..].iter().filter(|request| request.path() == FILMS.path(speech)).collect();
        assert!(!again.is_empty(), "{speech:?}: what had to make room was asked for again");
        assert!(again.iter().all(|request| request.header("If-Range").as_deref() == Some("\"v0\"")), "{speech:?}");
    }
    expect_sliced(&edge);
}

#[test]
fn who_falls_behind_a_film_in_parts_that_is_no_more_is_aborted() {
    let version = Arc::default();
    let origin = films(&version);
    let edge = edge_with_slices(&origin).run();
    let rests = rests_of(&edge, &FILMS, |_| {
        version.fetch_add(1, Ordering::SeqCst);
    });
    assert!(rests.iter().all(Result::is_err), "{:?}", rests.iter().map(Result::is_err).collect::<Vec<_>>());
    expect_sliced(&edge);
}

/// The request that finds out what the object is and the one for its rest are both on behalf of one client.
#[test]
fn who_asked_for_a_range_of_what_is_kept_whole_goes_on_from_the_origin() {
    let origin = origin(&Arc::default());
    let edge = edge_with_slices(&origin).set("cache.slices.min_size", "32MiB").run();
    let rests = rests_of(&edge, &RANGES, |_| {});
    let count = rests.len() as f64;
    assert_whole(rests);
    assert!((let_go(&edge, "origin") - count).abs() < 0.5, "{}", let_go(&edge, "origin"));
}

#[test]
fn what_is_kept_whole_beside_parts_is_let_go_and_resumed_the_same() {
    let version = Arc::default();
    let origin = origin(&version);
    let edge = edge_with_slices(&origin).run();
    let rests = rests(&edge, |speech| {
        version.fetch_add(u64::from(speech == Speech::Http3), Ordering::SeqCst);
    });
    let (whole, aborted) = rests.split_at(rests.len() - 2);
    assert_whole(whole.to_vec());
    assert!(aborted.iter().all(Result::is_err), "another version by then");
    assert!((let_go(&edge, "origin") - whole.len() as f64).abs() < 0.5, "{}", let_go(&edge, "origin"));
    assert!((let_go(&edge, "changed") - aborted.len() as f64).abs() < 0.5, "{}", let_go(&edge, "changed"));
}
