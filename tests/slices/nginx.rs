//! Slices of a real server's files: nginx, also beyond 4 GiB, over every protocol.

use super::{GIB, MIB, get_range, range};
use crate::support::{Edge, Nginx, Player, Request, Speech, eventually, free_port, runtime};
use http::Method;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::Path;

const TOTAL: u64 = 5 * GIB + 4321;

/// A sparse file with bytes of its own around the places where arithmetic of 31 and 32 bits ends, and at both ends.
fn sparse(path: &Path) {
    let mut file = File::create(path).expect("a file");
    file.set_len(TOTAL).expect("a sparse file");
    for at in [0, 2 * GIB - MIB, 4 * GIB - MIB, TOTAL - 2 * MIB] {
        let mut bytes = vec![0; 2 << 20];
        fastrand::fill(&mut bytes);
        file.seek(SeekFrom::Start(at)).expect("a place in the file");
        file.write_all(&bytes).expect("room on the disk");
    }
}

fn bytes_of(path: &Path, range: Range<u64>) -> Vec<u8> {
    let mut file = File::open(path).expect("the file");
    file.seek(SeekFrom::Start(range.start)).expect("a place in the file");
    let mut bytes = vec![0; (range.end - range.start) as usize];
    file.read_exact(&mut bytes).expect("so many bytes");
    bytes
}

#[test]
fn ranges_of_a_file_beyond_4_gib_are_its_bytes_over_every_protocol() {
    let nginx = Nginx::start();
    let path = nginx.root().join("film.mp4");
    sparse(&path);
    let edge = Edge::of_url(&nginx.url()).tls().set("cache.memory", "128MiB").run();
    runtime().block_on(async {
        for speech in Speech::ALL {
            let mut player = Player::open(speech, edge.speaks(speech), None).await.expect("a connection");
            for _ in 0..12 {
                let places = [0, 2 * GIB - MIB, 4 * GIB - MIB, TOTAL - 2 * MIB, 3 * GIB];
                let start = places[fastrand::usize(..places.len())] + fastrand::u64(..MIB);
                let wanted = start..(start + 1 + fastrand::u64(..MIB)).min(TOTAL);
                let field = range(wanted.clone());
                let mut answer = player.ask(Method::GET, "/film.mp4", &[("range", &field)]).await.expect("a head");
                assert_eq!(answer.status, 206);
                let says = format!("bytes {}-{}/{TOTAL}", wanted.start, wanted.end - 1);
                assert_eq!(answer.header("content-range"), says);
                assert!(
                    answer.rest().await.expect("whole") == bytes_of(&path, wanted.clone()),
                    "{speech:?} {wanted:?}"
                );
            }
            let head = player.ask(Method::HEAD, "/film.mp4", &[]).await.expect("a head");
            assert_eq!(head.header("content-length"), TOTAL.to_string());
            let beyond = format!("bytes={TOTAL}-");
            let beyond = player.ask(Method::GET, "/film.mp4", &[("range", &beyond)]).await.expect("a head");
            assert_eq!(
                (beyond.status.as_u16(), beyond.header("content-range")),
                (416, format!("bytes */{TOTAL}").as_str())
            );
        }
    });
}

#[test]
fn a_film_replaced_on_disk_aborts_who_watches_it_and_plays_anew() {
    let nginx = Nginx::with("location / { add_header Cache-Control \"public, max-age=600\"; }");
    let path = nginx.root().join("film.mp4");
    std::fs::write(&path, vec![b'a'; 64 << 20]).expect("a film");
    let edge = Edge::of_url(&nginx.url()).tls().run();
    runtime().block_on(async {
        for (i, speech) in Speech::ALL.into_iter().enumerate() {
            let (old, new) = (b'a' + i as u8, b'b' + i as u8);
            let mut player = Player::open(speech, edge.speaks(speech), Some(65_536)).await.expect("a connection");
            let mut answer = player.get("/film.mp4").await.expect("a head");
            assert!(answer.read(100_000).await.expect("first bytes").iter().all(|byte| *byte == old), "{speech:?}");
            let next = nginx.root().join("next");
            // Of another length: nginx's tags are made of the time in seconds and the length.
            std::fs::write(&next, vec![new; (64 << 20) + i + 1]).expect("another film");
            std::fs::rename(&next, &path).expect("the film is replaced");
            let mut seen = 0;
            let ended = loop {
                match answer.next().await {
                    Ok(Some(bytes)) => {
                        seen += bytes.len();
                        assert!(bytes.iter().all(|byte| *byte == old), "{speech:?}: bytes of both versions");
                    }
                    Ok(None) => break false,
                    Err(_) => break true,
                }
            };
            assert!(ended, "{speech:?}: {seen} bytes, and no abort");
            eventually("the new version plays", || {
                let part = get_range(&edge, "/film.mp4", 0..1000);
                part.status == 206 && part.body.iter().all(|byte| *byte == new)
            });
        }
    });
}

#[test]
fn an_origin_over_http2_is_asked_for_parts_too() {
    let port = free_port();
    let server = format!("listen 127.0.0.1:{port} http2; location / {{ add_header Cache-Control max-age=60; }}");
    let bytes = crate::support::pattern(24 << 20);
    let nginx = Nginx::with(&server).file("film.mp4", &bytes);
    let edge = Edge::of_url(&format!("http://127.0.0.1:{port}")).set("origins.main.protocol", "http2").run();
    let part = get_range(&edge, "/film.mp4", 9 * MIB + 1..11 * MIB).expect_status(206);
    assert!(part.body == bytes[(9 << 20) + 1..11 << 20]);
    let whole = edge.get("/film.mp4").expect_status(200);
    assert!(whole.complete && whole.body == bytes);
    edge.get("/film.mp4").expect_hit();
    drop(nginx);
}

#[test]
fn a_film_without_ranges_is_sliced_too_and_conditions_are_answered_here() {
    let nginx = Nginx::start();
    let path = nginx.root().join("film.mp4");
    let mut bytes = vec![0; 24 << 20];
    fastrand::fill(&mut bytes);
    std::fs::write(&path, &bytes).expect("a film");
    let edge = Edge::of_url(&nginx.url()).run();
    let whole = edge.get("/film.mp4").expect_status(200).expect_miss();
    assert!(whole.complete && whole.body == bytes);
    assert_eq!(whole.header("accept-ranges"), Some("bytes"));
    let requests = nginx.requests();
    assert!(edge.get("/film.mp4").expect_status(200).expect_hit().body == bytes);
    assert!(get_range(&edge, "/film.mp4", 5 * MIB + 1..6 * MIB).expect_hit().body == bytes[(5 << 20) + 1..6 << 20]);
    let tag = whole.header("etag").expect("nginx tells versions apart").to_owned();
    edge.send(&Request::get("/film.mp4").header("If-None-Match", &tag)).expect_status(304);
    let modified = whole.header("last-modified").expect("a date").to_owned();
    edge.send(&Request::get("/film.mp4").header("If-Modified-Since", &modified)).expect_status(304);
    assert_eq!(nginx.requests(), requests);
}
