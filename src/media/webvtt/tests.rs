//! Files as programs write them, and any text at all.

use super::*;
use proptest::prelude::*;

fn cue(start_ms: u64, end_ms: u64, text: &str) -> Cue {
    Cue { start_ms, end_ms, settings: String::new(), text: text.into() }
}

#[test]
fn a_file_is_read_and_written_anew() {
    let file = "\u{feff}WEBVTT - a film\r\nX-TIMESTAMP-MAP=MPEGTS:9,LOCAL:00:00:00.000\r\n\r\nSTYLE\r\n::cue { color: red }\r\n\r\n\
                NOTE a comment\r\n\r\n1\r\n00:01.000 --> 00:02.500 line:0 region:x align:start\r\n<i>Hello</i>\r\nworld\r\n\r\n\
                01:00:00.000 --> 01:00:01.000\r\nA & B --> C";
    let cues = parse(file).unwrap();
    assert_eq!(
        write(&cues),
        "WEBVTT\nX-TIMESTAMP-MAP=MPEGTS:0,LOCAL:00:00:00.000\n\n00:00:01.000 --> 00:00:02.500 line:0 align:start\n<i>Hello</i>\nworld\n\n\
         01:00:00.000 --> 01:00:01.000\nA &amp; B --&gt; C\n"
    );
    assert_eq!(parse("WEBVTT"), Ok(vec![]));
    assert_eq!(parse("WEBVTT\n\n00:01.000 --> 00:01.000\nno time\n\n00:01.000 --> 00:02.000\n"), Ok(vec![]));
}

#[test]
fn what_is_no_webvtt_is_refused() {
    for file in ["", "WEBVTTX", "1\n00:00:01,000 --> 00:00:02,000\nSubRip", "<html>"] {
        assert_eq!(parse(file), Err(Wrong::NotWebVtt), "{file}");
    }
    for times in [
        "00:01 --> 00:02",
        "1:00.000 --> 00:02.000",
        "00:60.000 --> 00:61.000",
        "-->",
        "00:01.000 --> x",
        "9999:00:00.000 --> 00:01.000",
    ] {
        assert_eq!(parse(&format!("WEBVTT\n\n{times}\nx")), Err(Wrong::Times), "{times}");
    }
    let many = format!("WEBVTT\n\n{}", "00:01.000 --> 00:02.000\nx\n\n".repeat(CUES_MAX + 1));
    assert_eq!(parse(&many), Err(Wrong::TooMany));
}

#[test]
fn an_empty_line_within_a_cue_loses_nothing() {
    assert_eq!(parse("WEBVTT\n\n00:01.000 --> 00:02.000\nabove\n\nbelow\n"), Ok(vec![cue(1000, 2000, "above\nbelow")]));
}

#[test]
fn a_cue_of_a_million_pieces_is_cleaned_once() {
    let start = "WEBVTT\n\n00:01.000 --> 00:02.000\n";
    for piece in ["x\n\n", "<\n\n", "<b>\n\n", "\u{7}\n\n"] {
        let cues = parse(&format!("{start}{}", piece.repeat(1_000_000))).unwrap();
        assert!(cues.iter().all(|cue| cue.text.len() <= CUE_BYTES_MAX + TAG_BYTES_MAX), "{piece:?}");
    }
    let line = parse(&format!("{start}{}", "<".repeat(4_000_000))).unwrap();
    assert!(line[0].text.starts_with("&lt;&lt;") && line[0].text.len() <= CUE_BYTES_MAX + TAG_BYTES_MAX);
}

#[test]
fn no_tag_but_those_of_webvtt_goes_through() {
    for (said, kept) in [
        ("<b>bold</b> <c.yellow>x</c> <v Ann>hi</v>", "<b>bold</b> <c.yellow>x</c> <v Ann>hi</v>"),
        ("<script>alert(1)</script>", "alert(1)"),
        ("<img src=x onerror=alert(1)>", ""),
        ("<i onclick=x>a</i>", "a</i>"),
        ("<font color=\"#fff\">white</font>", "white"),
        ("<00:00:01.000>now", "now"),
        ("1 < 2 & 3 > 2", "1 &lt; 2 &amp; 3 &gt; 2"),
        ("I <3 you <i>all</i>", "I &lt;3 you <i>all</i>"),
        ("a << b <i>", "a &lt;&lt; b <i>"),
        ("<\nb>", "&lt;\nb&gt;"),
        ("&amp; &nbsp; &copy; &#233; &#x10; &#+5;", "&amp; &nbsp; &amp;copy; &#233; &amp;#x10; &amp;#+5;"),
        ("bell\u{7} tab\tend", "bell tab end"),
    ] {
        assert_eq!(clean(said), kept);
    }
}

#[test]
fn a_cue_over_a_boundary_is_in_both_segments() {
    let cues = [cue(0, 1000, "a"), cue(900, 1100, "b"), cue(1000, 2000, "c")];
    let texts = |from, to| between(&cues, from, to).into_iter().map(|cue| cue.text).collect::<String>();
    assert_eq!((texts(0, 1000), texts(1000, 2000), texts(2000, 3000)), ("ab".into(), "bc".into(), String::new()));
}

#[test]
fn times_count_from_the_title_not_from_the_file() {
    let cues = vec![cue(500, 900, "before"), cue(500, 1500, "over"), cue(2000, 3000, "in")];
    assert_eq!(earlier(cues.clone(), 1000), [cue(0, 500, "over"), cue(1000, 2000, "in")]);
    assert_eq!(earlier(cues, -1000)[0], cue(1500, 1900, "before"));
}

fn any_cue() -> impl Strategy<Value = Cue> {
    let settings = proptest::sample::select(vec!["", "line:0", "align:start position:10%"]);
    (0_u64..400_000_000, 1_u64..100_000, settings, "([a-z<>&;./ -]|\\PC|\n){0,40}").prop_filter_map(
        "a cue has text",
        |(start_ms, length, settings, text)| {
            let text = clean(&text);
            (!text.is_empty()).then(|| Cue { start_ms, end_ms: start_ms + length, settings: settings.into(), text })
        },
    )
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(cues in proptest::collection::vec(any_cue(), 0..8)) {
        prop_assert_eq!(parse(&write(&cues)), Ok(cues));
    }

    #[test]
    fn any_text_is_read_and_what_is_kept_is_plain(file in "(WEBVTT\n\n)?((00:01\\.000 --> 00:02\\.000|NOTE|STYLE|\\PC{0,20}|<[a-z/]{0,5}|[&<>\n-]{0,4})\n?){0,12}") {
        for cue in parse(&file).unwrap_or_default() {
            prop_assert!(!cue.text.contains("-->") && !cue.text.contains("\n\n") && !cue.text.contains('\r'));
            prop_assert_eq!(clean(&cue.text), cue.text);
        }
    }
}
