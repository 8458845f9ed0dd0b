//! What compression leaves alone, by type, size, wish of the origin and configuration; and that it does not leave alone more.

use super::codec::CODINGS;
use super::{BROWSER, accepting, coding_of, decoded, text, words};
use crate::support::{Edge, Origin, Reply, Request, Response};

/// As the origin gave it, with nothing that speaks of codings.
#[track_caller]
fn expect_untouched(answer: &Response, body: &[u8], name: &str) {
    assert_eq!((answer.status, coding_of(answer)), (200, ""), "{name}: {answer:?}");
    assert!(answer.complete && answer.body == body, "{name}: {} bytes", answer.body.len());
    assert_eq!(answer.header("vary"), None, "{name}");
    assert_eq!(answer.header("etag"), Some("\"v1\""), "{name}");
    assert_eq!(answer.header("content-length"), Some(body.len().to_string().as_str()), "{name}");
    assert_eq!(answer.header("accept-ranges"), Some("bytes"), "{name}");
}

fn typed(kind: &str, body: &str) -> Reply {
    let reply = Reply::cacheable(body).header("ETag", "\"v1\"").header("Accept-Ranges", "bytes");
    if kind.is_empty() { reply } else { reply.header("Content-Type", kind) }
}

#[test]
fn media_and_what_is_compressed_already_pass_as_they_are() {
    let body = words(1, 5000);
    let content = body.clone();
    let kinds = [
        "video/mp4",
        "video/mp2t",
        "video/webm",
        "video/iso.segment",
        "audio/mp4",
        "audio/mpeg",
        "audio/ogg",
        "image/jpeg",
        "image/png",
        "image/webp",
        "image/avif",
        "application/zip",
        "application/gzip",
        "application/octet-stream",
        "font/woff2",
        "application/mp4",
        "application/pdf",
        "",
    ];
    let origin = Origin::start()
        .handle("*", move |request| typed(kinds[request.target[1..].parse::<usize>().expect("a number")], &content));
    let edge = Edge::of(&origin).run();
    for (i, kind) in kinds.iter().enumerate() {
        for accepted in [BROWSER, BROWSER, "br", "identity;q=0, gzip"] {
            let answer = edge.send(&accepting(&format!("/{i}"), accepted));
            expect_untouched(&answer, body.as_bytes(), &format!("{kind:?} to {accepted:?}"));
        }
    }
}

#[test]
fn text_in_all_its_kinds_is_coded() {
    let body = words(2, 5000);
    let content = body.clone();
    let kinds = [
        "text/plain",
        "text/html; charset=utf-8",
        "TEXT/CSS",
        "text/vtt",
        "text/javascript",
        "text/xml",
        "application/json",
        "application/javascript",
        "application/xml",
        "application/dash+xml",
        "application/vnd.apple.mpegurl",
        "application/x-mpegURL",
        "audio/mpegurl",
        "image/svg+xml",
        "application/wasm",
        "application/manifest+json",
        "application/problem+json",
        "application/ttml+xml",
        "application/x-subrip",
    ];
    let origin = Origin::start()
        .handle("*", move |request| typed(kinds[request.target[1..].parse::<usize>().expect("a number")], &content));
    let edge = Edge::of(&origin).run();
    let mut uncoded = Vec::new();
    for (i, kind) in kinds.iter().enumerate() {
        for _ in 0..2 {
            let answer = edge.send(&accepting(&format!("/{i}"), BROWSER)).expect_status(200);
            assert_eq!(decoded(&answer), body, "{kind}");
            if coding_of(&answer) != "br" {
                uncoded.push(*kind);
            }
        }
    }
    assert!(uncoded.is_empty(), "not coded: {uncoded:?}");
}

#[test]
fn an_origin_that_forbids_transforming_is_obeyed() {
    let body = words(3, 5000);
    let reply = |reply: Reply| reply.header("Content-Type", "text/plain").header("ETag", "\"v1\"");
    let coded = super::codec::encode("gzip", body.as_bytes());
    let origin = Origin::start()
        .route("/kept", reply(Reply::ok(body.clone())).header("Cache-Control", "max-age=60, No-Transform"))
        .route("/passing", reply(Reply::ok(body.clone())).header("Cache-Control", "no-store,no-transform"))
        .route(
            "/coded",
            reply(Reply::ok(coded.clone()))
                .header("Cache-Control", "no-transform, max-age=60")
                .header("Content-Encoding", "gzip")
                .header("Vary", "Accept-Encoding"),
        );
    let edge = Edge::of(&origin).run();
    for path in ["/kept", "/kept", "/passing"] {
        let answer = edge.send(&accepting(path, BROWSER)).expect_status(200);
        assert_eq!((coding_of(&answer), answer.header("etag")), ("", Some("\"v1\"")), "{path}");
        assert_eq!(answer.text(), body, "{path}");
    }
    for _ in 0..2 {
        let answer = edge.send(&accepting("/coded", BROWSER)).expect_status(200);
        assert_eq!((coding_of(&answer), answer.header("etag")), ("gzip", Some("\"v1\"")));
        assert!(answer.body == coded, "the origin's own bytes");
    }
}

/// RFC 9111, 5.2.1.6: a client may forbid it as well.
#[test]
fn a_client_that_forbids_transforming_gets_the_right_bytes() {
    let body = words(4, 5000);
    let origin = Origin::start().route("/a", text(body.clone()));
    let edge = Edge::of(&origin).run();
    for _ in 0..2 {
        let answer = edge.send(&accepting("/a", BROWSER).header("Cache-Control", "no-transform")).expect_status(200);
        assert_eq!(decoded(&answer), body);
    }
}

#[test]
fn what_is_small_stays_as_it_is_unless_identity_is_forbidden() {
    let body = words(5, 300);
    let origin = Origin::start().route("/a", text(body.clone())).route("/empty", text(""));
    let edge = Edge::of(&origin).run();
    for _ in 0..2 {
        let answer = edge.send(&accepting("/a", BROWSER)).expect_status(200);
        assert_eq!((coding_of(&answer), answer.text()), ("", body.clone()));
    }
    for _ in 0..2 {
        let answer = edge.send(&accepting("/a", "zstd, identity;q=0")).expect_status(200);
        assert_eq!((coding_of(&answer), decoded(&answer)), ("zstd", body.clone()));
        let empty = edge.send(&accepting("/empty", BROWSER)).expect_status(200);
        assert_eq!(decoded(&empty), "");
    }
    assert!(edge.send(&accepting("/empty", "gzip, *;q=0")).expect_status(200).complete);
}

#[test]
fn what_is_large_is_not_stored_coded() {
    let body = words(6, 300_000);
    let origin = Origin::start().route("/a", text(body.clone()));
    let edge = Edge::of(&origin).set("compression.max_size", "200KiB").run();
    for _ in 0..4 {
        let answer = edge.send(&accepting("/a", BROWSER)).expect_status(200);
        assert_eq!(decoded(&answer), body);
    }
    assert_eq!(super::runs(&edge, "stored", None), 0.0);
}

#[test]
fn parts_from_the_origin_pass() {
    let body = words(7, 5000);
    let part = body[100..1200].to_owned();
    let origin = Origin::start().handle("/a", move |request| {
        let reply = if request.header("range").is_some() {
            Reply::status_with(206, part.clone()).header("Content-Range", "bytes 100-1199/5000")
        } else {
            Reply::ok(words(7, 5000))
        };
        reply.header("Content-Type", "text/plain").header("Cache-Control", "no-store").header("ETag", "\"v1\"")
    });
    let edge = Edge::of(&origin).run();
    let answer = edge.send(&accepting("/a", BROWSER).header("Range", "bytes=100-1199")).expect_status(206);
    assert_eq!((coding_of(&answer), answer.text()), ("", body[100..1200].to_owned()));
    assert_eq!((answer.header("content-range"), answer.header("etag")), (Some("bytes 100-1199/5000"), Some("\"v1\"")));
    let sent = origin.last("/a").header("accept-encoding").unwrap_or_default();
    assert!(sent.is_empty() || sent == "identity", "a range of coded bytes was invited: {sent}");
}

/// An origin may cut a range out of its coded form (RFC 9110, 14.1.1): those bytes mean nothing decoded.
#[test]
fn a_part_of_a_coded_body_is_never_taken_for_a_part_of_the_plain_one() {
    let coded = super::codec::encode("gzip", words(8, 5000).as_bytes());
    let part = coded[10..200].to_vec();
    let range = format!("bytes 10-199/{}", coded.len());
    let origin = Origin::start().handle("/a", move |_| {
        Reply::status_with(206, part.clone())
            .header("Content-Range", &range)
            .header("Content-Encoding", "gzip")
            .header("Content-Type", "text/plain")
    });
    let edge = Edge::of(&origin).run();
    let answer = edge.send(&accepting("/a", "gzip").header("Range", "bytes=10-199"));
    let untouched = answer.status == 206 && coding_of(&answer) == "gzip" && answer.body == coded[10..200];
    assert!(untouched || answer.status == 502, "{answer:?}");
}

#[test]
fn a_site_may_decide_otherwise() {
    let body = words(9, 3000);
    let kind = "application/x-notes";
    let origin = Origin::start()
        .route("/text", text(body.clone()))
        .route("/notes", typed(kind, &body))
        .route("/passing", Reply::ok(body.clone()).header("Content-Type", "text/plain"));
    let coding = |key: &str, value: serde_json::Value, path: &str| {
        let edge = Edge::of(&origin).set(key, value).run();
        let mut coding = String::new();
        for _ in 0..2 {
            let answer = edge.send(&accepting(path, BROWSER)).expect_status(200);
            assert_eq!(decoded(&answer), body, "{key} {path}");
            coding = coding_of(&answer).to_owned();
        }
        coding
    };
    assert_eq!(coding("compression.enabled", false.into(), "/text"), "");
    assert_eq!(coding("sites.0.compression.enabled", false.into(), "/text"), "");
    assert_eq!(coding("sites.0.compression.min_size", "4KiB".into(), "/text"), "");
    assert_eq!(coding("sites.0.compression.max_size", "2KiB".into(), "/text"), "");
    assert_eq!(coding("sites.0.compression.uncached", false.into(), "/passing"), "");
    assert_eq!(coding("sites.0.compression.uncached", true.into(), "/passing"), "br");
    assert_eq!(coding("sites.0.compression.types", serde_json::json!([kind]), "/notes"), "br");
    assert_eq!(coding("sites.0.compression.types", serde_json::json!([kind]), "/text"), "");
    assert_eq!(coding("compression.codings", serde_json::json!(["gzip", "zstd"]), "/text"), "gzip");
}

/// Digests of the plain body are lies beside a coded one (RFC 9530, 3; RFC 1864).
#[test]
fn digests_of_the_plain_body_do_not_go_with_a_coded_one() {
    let digests = ["Content-MD5", "Content-Digest", "Repr-Digest"];
    let reply = digests.iter().fold(text(words(10, 3000)), |reply, name| reply.header(name, "sha-256=:AAAA:"));
    let origin = Origin::start().route("/a", reply);
    let edge = Edge::of(&origin).run();
    for _ in 0..2 {
        let answer = edge.send(&accepting("/a", BROWSER)).expect_status(200);
        assert_ne!(coding_of(&answer), "");
        for name in digests {
            assert_eq!(answer.header(name), None, "{name}");
        }
    }
    assert!(edge.get("/a").expect_hit().header("repr-digest").is_some(), "of the plain body they are true");
}

#[test]
fn head_tells_what_get_would() {
    let body = words(11, 5000);
    let origin = Origin::start().route("/a", text(body));
    let edge = Edge::of(&origin).run();
    for coding in CODINGS {
        let get = super::warm(&edge, "/a", coding, &[]);
        let head = edge.send(&Request::new("HEAD", "/a").header("Accept-Encoding", coding)).expect_status(200);
        for name in ["content-encoding", "etag", "vary", "content-length", "content-type", "accept-ranges"] {
            assert_eq!(head.header(name), get.header(name), "{coding}: {name}");
        }
    }
}

#[test]
fn answers_that_have_no_body_or_are_no_text_of_the_origin_stay_right() {
    let body = words(12, 5000);
    let origin = Origin::start()
        .route("/204", Reply::status(204).header("Content-Type", "text/plain"))
        .route("/404", Reply::status_with(404, body.clone()).header("Content-Type", "text/html"))
        .handle("/post", |request| Reply::ok(request.body.clone()).header("Content-Type", "application/json"));
    let edge = Edge::of(&origin).run();
    let empty = edge.send(&accepting("/204", BROWSER)).expect_status(204);
    assert_eq!((coding_of(&empty), empty.body.len()), ("", 0));
    assert_eq!(decoded(&edge.send(&accepting("/404", BROWSER)).expect_status(404)), body);
    let post = Request::new("POST", "/post").header("Accept-Encoding", BROWSER).body(body.clone());
    assert_eq!(decoded(&edge.send(&post).expect_status(200)), body);
}
