//! Playlists that lie, lead elsewhere, or never end; URLs nobody was given.

use super::{adding, ready};
use crate::support::{Origin, Reply};
use reelgate::media::upstream::address::{self, tag};

const VARIANT: &str = "#EXT-X-STREAM-INF:BANDWIDTH=2500000,CODECS=\"avc1.64001E\",RESOLUTION=640x360\n";

#[test]
fn nobody_but_the_origin_is_ever_asked() {
    let elsewhere = Origin::start();
    let host = elsewhere.url();
    for uri in [
        format!("{host}/i.m3u8"),
        format!("{}/i.m3u8", host.trim_start_matches("http:")),
        "file:///etc/passwd".to_owned(),
    ] {
        let master = format!("#EXTM3U\n{VARIANT}{uri}\n");
        let origin = Origin::start().route("/m.m3u8", Reply::cacheable(master.clone()));
        let edge = ready(adding(&origin.url()).run());
        assert_eq!(edge.get("/m.m3u8").expect_status(200).text(), master);
    }
    let segment = format!("{host}/0.ts");
    let list = format!("#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n{segment}\n#EXT-X-ENDLIST\n");
    let origin = Origin::start().route("/i.m3u8", Reply::cacheable(list));
    let edge = ready(adding(&origin.url()).run());
    let url = format!("/_reelgate/240p-640x360-30000/i.m3u8/0-{}.ts", tag(&segment, None));
    edge.get(&url).expect_status(404);
    assert_eq!(elsewhere.count("*"), 0);
}

#[test]
fn what_goes_in_circles_or_is_too_long_is_left_as_it_is() {
    let circle = format!("#EXTM3U\n{VARIANT}m.m3u8\n");
    let own = format!("#EXTM3U\n{VARIANT}_reelgate/240p-640x360-30000/i.m3u8\n");
    let huge = format!("#EXTM3U\n{VARIANT}i.m3u8\n{}", "# and so on\n".repeat(200_000));
    let many = format!("#EXTM3U\n{}", format!("{VARIANT}i.m3u8\n").repeat(1000));
    let encrypted = "#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI=\"k\"\n#EXTINF:4,\n0.ts\n#EXT-X-ENDLIST\n";
    let secret = format!("#EXTM3U\n{VARIANT}secret.m3u8\n");
    let origin = Origin::start()
        .route("/m.m3u8", Reply::cacheable(circle.clone()))
        .route("/own.m3u8", Reply::cacheable(own.clone()))
        .route("/huge.m3u8", Reply::cacheable(huge.clone()))
        .route("/many.m3u8", Reply::cacheable(many.clone()))
        .route("/s.m3u8", Reply::cacheable(secret.clone()))
        .route("/secret.m3u8", Reply::cacheable(encrypted));
    let edge = ready(adding(&origin.url()).run());
    for (path, text) in
        [("/m.m3u8", circle), ("/own.m3u8", own), ("/huge.m3u8", huge), ("/many.m3u8", many), ("/s.m3u8", secret)]
    {
        assert!(edge.get(path).expect_status(200).text() == text, "{path}");
        assert!(edge.get(path).expect_status(200).text() == text, "{path}, again");
    }
    edge.get("/_reelgate/240p-640x360-30000/secret.m3u8").expect_status(404);
}

#[test]
fn a_ladder_that_came_in_chunks_goes_on_whole() {
    let list = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n0.ts\n#EXT-X-ENDLIST\n";
    let origin = Origin::start()
        .route("/m.m3u8", Reply::cacheable(format!("#EXTM3U\n{VARIANT}i.m3u8\n")).chunked())
        .route("/i.m3u8", Reply::cacheable(list).chunked());
    let edge = ready(adding(&origin.url()).run());
    for path in ["/m.m3u8", "/m.m3u8", "/_reelgate/240p-640x360-30000/i.m3u8", "/i.m3u8"] {
        let answer = edge.get(path).expect_status(200);
        assert!(answer.complete && answer.text().starts_with("#EXTM3U"), "{path}");
        let framed = [answer.header("transfer-encoding"), answer.header("content-length")];
        assert_eq!(framed.iter().flatten().count(), 1, "{path}: {framed:?}");
    }
    assert!(edge.get("/m.m3u8").text().contains("_reelgate/"), "it is a ladder that gets a rung");
}

#[test]
fn urls_nobody_was_given_make_nothing() {
    let list = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n0.ts\n#EXT-X-ENDLIST\n";
    let garbage = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\ngarbage.ts\n#EXT-X-ENDLIST\n";
    let origin = Origin::start()
        .route("/i.m3u8", Reply::cacheable(list))
        .route("/garbage.m3u8", Reply::cacheable(garbage))
        .route("/garbage.ts", Reply::cacheable(vec![0x47; 1880]));
    let edge = ready(adding(&origin.url()).run());
    for path in [
        "/_reelgate",
        "/_reelgate/240p/i.m3u8",
        "/_reelgate/2160p-640x360-30000/i.m3u8",
        "/_reelgate/360p-1280x720-30000/i.m3u8",
        "/_reelgate/240p-640x360-30000/i.m3u8/0-0000000000000000.ts",
        "/_reelgate/240p-640x360-30000/i.m3u8/99-0000000000000000.ts",
        "/_reelgate/240p-640x360-30000/_reelgate/240p-640x360-30000/i.m3u8",
        "/_reelgate/240p-640x360-30000/none.m3u8",
    ] {
        let refused = edge.get(path).expect_status(404);
        assert_eq!(refused.header("cache-control"), Some("no-store"), "{path}");
    }
    let (tag, gone) = (tag("garbage.ts", None), tag("0.ts", None));
    edge.get(&format!("/_reelgate/240p-640x360-30000/garbage.m3u8/0-{tag}.ts")).expect_status(404);
    edge.get(&format!("/_reelgate/240p-640x360-30000/i.m3u8/0-{gone}.ts")).expect_status(404);
    assert_eq!(origin.count("/_reelgate"), 0);
    assert!(address::is_reserved("/_reelgate"));
}
