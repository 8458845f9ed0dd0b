//! Origins that code themselves: what is asked of them, what becomes of it, and that nothing broken is ever taken for a body.

use super::codec::{CODINGS, decode, encode};
use super::{BROWSER, accepting, coded_text, coding_of, decoded, fetch, text, warm, words};
use crate::support::{Curl, Edge, Nginx, Origin, Reply, Request, Speech, eventually};
use std::io::Write as _;

/// Codes in the client's first coding, as servers do, and says so.
fn negotiating(body: String) -> Origin {
    Origin::start().handle("*", move |request| {
        let accepted = request.header("accept-encoding").unwrap_or_default();
        let first = accepted.split(',').map(|one| one.split(';').next().unwrap_or_default().trim());
        match first.into_iter().find(|one| CODINGS.contains(one)) {
            Some(coding) => coded_text(coding, &body),
            None => text(body.clone()).header("Vary", "Accept-Encoding"),
        }
    })
}

#[test]
fn recode_asks_for_what_it_can_decode_and_keeps_one_body_for_all() {
    let body = words(1, 8000);
    let origin = negotiating(body.clone());
    let edge = Edge::of(&origin).run();
    for accepted in ["br", "", "gzip", "zstd", BROWSER, "identity", "snappy"] {
        for _ in 0..2 {
            let answer = edge.send(&accepting("/a", accepted)).expect_status(200);
            assert_eq!(decoded(&answer), body, "{accepted}");
        }
    }
    assert_eq!(origin.count("/a"), 1, "Vary: Accept-Encoding of the origin does not split what is decoded");
    let asked = origin.last("/a").header("accept-encoding").unwrap_or_default();
    assert!(asked.contains("gzip"), "{asked:?}: less to carry from the origin");
    let decodable =
        |one: &str| ["br", "zstd", "gzip", "identity"].contains(&one.split(';').next().unwrap_or_default().trim());
    assert!(asked.split(',').all(decodable), "{asked:?}");
    edge.expect_metric_at_least("reelgate_compression_runs_total", &[("kind", "decoded")], 1.0);
    edge.send(&Request::get("/b").header("Range", "bytes=0-9").header("Accept-Encoding", "gzip"));
    let part = edge.send(&accepting("/a", "gzip").header("Range", "bytes=5-14")).expect_status(206);
    assert_eq!((coding_of(&part), part.text()), ("", body[5..15].to_owned()));
}

#[test]
fn pass_keeps_what_the_origin_coded_to_the_byte() {
    let body = words(2, 8000);
    let origin = negotiating(body.clone());
    let edge = Edge::of(&origin).set("compression.origin", "pass").run();
    for coding in CODINGS {
        let first = edge.send(&accepting("/a", coding)).expect_status(200);
        let again = edge.send(&accepting("/a", coding)).expect_hit();
        for answer in [&first, &again] {
            assert_eq!((coding_of(answer), answer.header("etag")), (coding, Some("\"v1\"")));
            assert!(answer.body == encode(coding, body.as_bytes()), "{coding}: the origin's own bytes");
        }
    }
    let plain = edge.send(&accepting("/a", "identity")).expect_status(200);
    assert_eq!((coding_of(&plain), plain.text()), ("", body.clone()));
    for coding in CODINGS {
        assert_eq!(coding_of(&edge.send(&accepting("/a", coding)).expect_hit()), coding, "each variant is kept");
    }
}

/// What the origin left plain is still coded by the edge.
#[test]
fn pass_codes_what_the_origin_did_not() {
    let body = words(3, 8000);
    let origin = Origin::start().route("/a", text(body.clone()));
    let edge = Edge::of(&origin).set("compression.origin", "pass").run();
    for coding in CODINGS {
        assert_eq!(decoded(&warm(&edge, "/a", coding, &[])), body);
    }
    assert_eq!(decoded(&edge.send(&accepting("/a", "identity"))), body);
}

#[test]
fn identity_asks_the_origin_for_no_coding() {
    let body = words(4, 8000);
    let origin = negotiating(body.clone());
    let edge = Edge::of(&origin).set("compression.origin", "identity").run();
    let answer = warm(&edge, "/a", "gzip", &[]);
    assert_eq!((coding_of(&answer), decoded(&answer)), ("gzip", body));
    let asked = origin.last("/a").header("accept-encoding").unwrap_or_default();
    assert!(asked.is_empty() || asked == "identity", "{asked}");
}

#[test]
fn nginx_with_gzip_on_and_curl_agree_with_us() {
    let (page, film) = (words(5, 40_000), crate::support::pattern(50_000));
    let nginx = Nginx::with(
        "gzip on; gzip_http_version 1.0; gzip_proxied any; gzip_vary on; gzip_min_length 20; gzip_types text/plain \
         application/vnd.apple.mpegurl; location / { add_header Cache-Control \"public, max-age=60\"; }",
    );
    let nginx = nginx.file("page.txt", &page).file("list.m3u8", words(6, 3000)).file("film.mp4", &film);
    for way in ["recode", "pass", "identity"] {
        let edge = Edge::of_url(&nginx.url()).set("compression.origin", way).tls().run();
        let ways: [fn(&Edge, &str) -> Curl; 4] = [
            |edge, path| Curl::http(edge.http(), path).http1(),
            |edge, path| Curl::http(edge.http(), path).http2(),
            |edge, path| Curl::https(edge.https(), path).http1(),
            |edge, path| Curl::https(edge.https(), path).http2(),
        ];
        for curl in ways {
            for accepted in ["", "gzip", "br", "zstd", "br, gzip;q=0.5"] {
                for _ in 0..2 {
                    // curl decodes, by libraries that are not ours; an Accept-Encoding of its own is replaced.
                    let field = format!("Accept-Encoding: {accepted}");
                    let asked = |path: &str| curl(&edge, path).arg("--compressed").header(&field).send();
                    let answer = asked("/page.txt");
                    assert!(answer.text() == page, "{way} {accepted}: {:?}", answer.headers);
                    assert_eq!(
                        answer.header("content-encoding").is_some(),
                        !accepted.is_empty(),
                        "{way} {accepted}: {:?}",
                        answer.headers
                    );
                    assert!(asked("/list.m3u8").text() == words(6, 3000), "{way} {accepted}");
                }
            }
            let whole = curl(&edge, "/film.mp4").arg("--compressed").send();
            assert!(whole.body == film && whole.header("content-encoding").is_none(), "{way}: {:?}", whole.headers);
            let part = curl(&edge, "/page.txt").arg("--compressed").header("Range: bytes=100-299").send();
            assert_eq!((part.status, part.text()), (206, page[100..300].to_owned()), "{way}: {:?}", part.headers);
        }
    }
}

/// Every way in which a coded body may be broken.
fn damaged(coding: &str, body: &str) -> Vec<(&'static str, Reply)> {
    let whole = encode(coding, body.as_bytes());
    let as_is = |bytes: Vec<u8>| text(bytes).header("Content-Encoding", coding);
    let mut flipped = whole.clone();
    let middle = flipped.len() / 2;
    flipped[middle..middle + 8].iter_mut().for_each(|byte| *byte ^= 0xa5);
    vec![
        ("truncated, with the length of what is left", as_is(whole[..whole.len() / 2].to_vec())),
        ("truncated by one byte", as_is(whole[..whole.len() - 1].to_vec())),
        ("truncated, chunked", as_is(whole[..whole.len() / 2].to_vec()).chunked()),
        ("cut off by the connection", as_is(whole.clone()).die_after(whole.len() / 2)),
        ("until close, cut off", as_is(whole[..whole.len() / 2].to_vec()).until_close()),
        ("damaged", as_is(flipped)),
        ("not coded at all", as_is(body.into())),
        ("nothing but a beginning", as_is(whole[..3].to_vec())),
    ]
}

#[test]
fn a_broken_coding_is_an_abort_and_never_stored() {
    let body = words(7, 30_000);
    let origin = Origin::start();
    let edge = Edge::of(&origin).tls().run();
    let mut failures = Vec::new();
    for coding in CODINGS {
        for (at, (name, reply)) in damaged(coding, &body).into_iter().enumerate() {
            // Brotli has no checksum: what is flipped may decode to something. zstd's is optional.
            let may_decode = name == "damaged" && coding != "gzip";
            let path = format!("/{coding}/{at}");
            origin.set_route(&path, reply);
            for (i, accepted) in ["", "br", "gzip", "zstd"].into_iter().enumerate() {
                let outcome = fetch(&edge, Speech::ALL[(i + at) % 4], &path, accepted);
                let whole = outcome.as_ref().is_ok_and(|(status, _)| *status < 500);
                if whole && !may_decode {
                    failures.push(format!("{coding} {name}, to {accepted:?}: taken for whole: {outcome:?}"));
                }
            }
            if may_decode {
                continue;
            }
            origin.set_route(&path, coded_text(coding, &body));
            let next = edge.send(&accepting(&path, "gzip"));
            if next.status != 200
                || next.is_hit()
                || decode(coding_of(&next), &next.body).as_deref() != Ok(body.as_bytes())
            {
                failures.push(format!("{coding} {name}: the next is {} {:?}", next.status, next.headers));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    edge.expect_metric_at_least("reelgate_compression_failures_total", &[], 1.0);
    assert_eq!(edge.get("/gzip/0").expect_status(200).text(), body, "the edge lives");
}

/// 512 MiB of zeros in a few kilobytes, again and again: memory stays bounded, whatever comes of it.
#[test]
fn a_bomb_costs_no_memory() {
    const BYTES: usize = 512 << 20;
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).expect("an encoder");
    let block = vec![0; 1 << 20];
    for _ in 0..BYTES >> 20 {
        encoder.write_all(&block).expect("a Vec takes bytes");
    }
    let bomb = encoder.finish().expect("a Vec takes bytes");
    assert!(bomb.len() < 64 << 10, "{}", bomb.len());
    let cached = text(bomb.clone()).header("Content-Encoding", "zstd");
    let passing = Reply::ok(bomb).header("Content-Type", "text/plain").header("Content-Encoding", "zstd");
    let origin = Origin::start().route("/cached", cached).route("/passing", passing);
    let edge = Edge::of(&origin).set("cache.memory", "16MiB").tls().run();
    edge.get("/nothing");
    let before = edge.resident_bytes();
    for path in ["/cached", "/passing"] {
        for speech in Speech::ALL.into_iter().cycle().take(12) {
            let outcome = fetch(&edge, speech, path, "");
            let right = outcome.as_ref().map_or(true, |(status, bytes)| *status >= 500 || *bytes == BYTES);
            assert!(right, "{path} {speech:?}: {outcome:?}");
            let grown = edge.resident_bytes().saturating_sub(before);
            assert!(grown < 256 << 20, "{path} {speech:?}: {grown} bytes more");
            let kept = edge.metrics().value("reelgate_cache_bytes", &[("tier", "memory")]);
            assert!(kept <= f64::from(16 << 20), "{kept} bytes kept");
        }
    }
    origin.set_route("/cached", text("good"));
    eventually("the next good answer is served", || edge.get("/cached").text() == "good");
}

/// A coding nobody knows goes through as it is, for those who asked for it.
#[test]
fn a_coding_we_do_not_know_passes() {
    let origin = Origin::start()
        .route("/a", text("odd bytes").header("Content-Encoding", "dcb"))
        .route("/two", text(encode("gzip", &encode("gzip", b"twice"))).header("Content-Encoding", "gzip, gzip"));
    let edge = Edge::of(&origin).run();
    for _ in 0..2 {
        let answer = edge.send(&accepting("/a", "dcb, gzip")).expect_status(200);
        assert_eq!((coding_of(&answer), answer.text().as_str()), ("dcb", "odd bytes"));
        let twice = edge.send(&accepting("/two", "gzip")).expect_status(200);
        match coding_of(&twice) {
            "gzip, gzip" => assert!(twice.body == encode("gzip", &encode("gzip", b"twice"))),
            coding => assert_eq!(decode(coding, &twice.body).as_deref(), Ok(&b"twice"[..]), "{:?}", twice.headers),
        }
    }
}

/// Media that an origin codes all the same is decoded or passed, never both or neither.
#[test]
fn coded_media_stays_right() {
    let body = words(8, 5000);
    let origin = Origin::start().route(
        "/a",
        Reply::cacheable(encode("gzip", body.as_bytes()))
            .header("Content-Type", "video/mp4")
            .header("Content-Encoding", "gzip"),
    );
    let edge = Edge::of(&origin).run();
    for accepted in ["gzip", "br", "gzip", "", "identity"] {
        let answer = edge.send(&accepting("/a", accepted)).expect_status(200);
        assert_eq!(decoded(&answer), body, "{accepted}: {:?}", answer.headers);
    }
}
