//! A ladder that says all it should, and what becomes of others.

use super::*;
use proptest::prelude::*;

const MASTER: &str = "#EXTM3U\r\n#EXT-X-VERSION:6\r\n#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"a\",NAME=\"x, y\",URI=\"a.m3u8\"\r\n\
    #EXT-X-STREAM-INF:BANDWIDTH=3000000,AVERAGE-BANDWIDTH=2500000,CODECS=\"avc1.64001F,mp4a.40.2\",RESOLUTION=1280x720,FRAME-RATE=29.970,AUDIO=\"a\",NAME=\"a,b\"\r\n\
    720/i.m3u8?t=1\r\n\
    #EXT-X-STREAM-INF:BANDWIDTH=900000,CODECS=\"avc1.64001E,mp4a.40.2\",RESOLUTION=640x360,AUDIO=\"a\"\r\n360/i.m3u8\r\n# the end\r\n";

fn with(text: &str, wanted: &Wanted) -> String {
    let found = variants(text).unwrap();
    let source = source(&found.0).unwrap();
    insert(text, &found, source, &missing(&found.0, source, wanted))
}

#[test]
fn what_is_missing_is_inserted_after_the_last_variant() {
    let text = with(MASTER, &Wanted::Auto);
    let own = |line: &&str| line.contains("_reelgate") || line.contains("426x240") || line.contains("854x480");
    assert_eq!(
        text.lines().filter(own).collect::<Vec<_>>(),
        [
            "#EXT-X-STREAM-INF:BANDWIDTH=702000,AVERAGE-BANDWIDTH=492000,CODECS=\"avc1.640015,mp4a.40.2\",RESOLUTION=426x240,AUDIO=\"a\",FRAME-RATE=29.970",
            "720/_reelgate/240p-1280x720-29970/i.m3u8?t=1",
            "#EXT-X-STREAM-INF:BANDWIDTH=2572000,AVERAGE-BANDWIDTH=1592000,CODECS=\"avc1.64001F,mp4a.40.2\",RESOLUTION=854x480,AUDIO=\"a\",FRAME-RATE=29.970",
            "720/_reelgate/480p-1280x720-29970/i.m3u8?t=1",
        ]
    );
    assert_eq!(text.split_inclusive('\n').filter(|line| !own(line)).collect::<String>(), MASTER);
    assert!(text.ends_with("# the end\r\n"));
}

#[test]
fn nothing_is_offered_twice_or_above_the_source() {
    assert_eq!(with(MASTER, &Wanted::Heights(vec![360, 720, 1080])), MASTER);
    assert!(with(MASTER, &Wanted::Heights(vec![240])).contains("_reelgate/240p-"));
    let poor = MASTER.replace("BANDWIDTH=3000000", "BANDWIDTH=700000");
    assert_eq!(with(&poor, &Wanted::Auto), poor, "more bits than the source");
}

#[test]
fn each_group_of_sound_has_the_rung() {
    let surround = "#EXT-X-STREAM-INF:BANDWIDTH=3400000,CODECS=\"avc1.64001F,ec-3\",RESOLUTION=1280x720,FRAME-RATE=29.970,AUDIO=\"b\"\n720/i.m3u8?t=1\n";
    let text = with(&format!("{MASTER}{surround}"), &Wanted::Heights(vec![240]));
    assert_eq!(text.matches("720/_reelgate/240p-1280x720-29970/i.m3u8?t=1").count(), 2);
    assert!(text.contains("CODECS=\"avc1.640015,ec-3\",RESOLUTION=426x240,AUDIO=\"b\""));
}

#[test]
fn a_rung_is_read_in_one_spelling() {
    let (found, size) = rung("240p-1280x720-29970").unwrap();
    assert_eq!((found.height, size.height, size.named(&found).as_str()), (240, 720, "240p-1280x720-29970"));
    for other in [
        "240p",
        "240p-1280x720-029970",
        "240p-+1280x720-29970",
        "1080p-1280x720-29970",
        "720p-1280x720-29970",
        "240p-1280x720-29970-1",
        "240p-99999x99999-29970",
        "240p-1280x720-0",
        "240p-0x0-25000",
    ] {
        assert_eq!(rung(other), None, "{other}");
    }
}

#[test]
fn what_cannot_be_a_source_is_none() {
    let source_of = |text: &str| variants(text).ok().and_then(|(found, _)| source(&found).map(|v| v.uri.to_owned()));
    assert_eq!(source_of(MASTER).as_deref(), Some("720/i.m3u8?t=1"));
    let hdr = MASTER.replace("NAME=\"a,b\"", "VIDEO-RANGE=PQ");
    assert_eq!(source_of(&hdr).as_deref(), Some("360/i.m3u8"), "the best one that is not HDR");
    assert_eq!(source_of("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\na.m3u8\n"), None, "says nothing of itself");
    assert_eq!(variants("#EXTM3U\n#EXTINF:4,\na.ts\n"), Err(Unfit::Unreadable), "a media playlist");
    assert_eq!(variants("<html>"), Err(Unfit::Unreadable));
    assert_eq!(variants(""), Err(Unfit::Unreadable));
    let one = "#EXT-X-STREAM-INF:BANDWIDTH=1\na.m3u8\n";
    assert_eq!(variants(&format!("#EXTM3U\n{}", one.repeat(1000))), Err(Unfit::Unreadable), "endless");
    assert_eq!(variants(&format!("#EXTM3U\n#EXT-X-SESSION-KEY:METHOD=SAMPLE-AES\n{one}")), Err(Unfit::Encrypted));
}

proptest! {
    #[test]
    fn inserting_and_removing_gives_back_the_original(
        lines in proptest::collection::vec(
            "(#EXT-X-STREAM-INF:BANDWIDTH=[0-9]{1,8},CODECS=\"(avc1.64001F|hvc1|x)(,mp4a)?\",RESOLUTION=[0-9]{2,4}x[0-9]{2,4}(,AUDIO=\"[^\"\r\n]{0,3}\")?\r?\n[a-z/?]{1,9}|#[A-Z=\",:]{0,9}|)\r?\n", 0..9),
        last in "(#x|[a-z]{1,4})?",
    ) {
        let text = format!("#EXTM3U\n{}{last}", lines.concat());
        let Ok(found) = variants(&text) else { return Ok(()) };
        let Some(source) = source(&found.0) else { return Ok(()) };
        let rungs = missing(&found.0, source, &Wanted::Auto);
        let changed = insert(&text, &found, source, &rungs);
        let added = changed.len() - text.len();
        prop_assert_eq!(&changed[..found.1], &text[..found.1]);
        prop_assert_eq!(&changed[found.1 + added..], &text[found.1..]);
        for rung in rungs {
            prop_assert!(rung.height < source.height);
        }
    }
}
