//! A device that encodes, and fails. There is none where this runs: ffmpeg behind a script stands in for it, which makes with libx264,
//! otherwise set, what `h264_nvenc` was asked for, or says what drivers say.

use super::Sidecar;
use super::batches::{segment, with_film_and_devices};
use crate::streams::{film, library, rendition, script, title, wait_until_ready};
use crate::support::{Origin, Reply, runtime};
use http_body_util::BodyExt;
use reelgate::media::codec::Codec;
use reelgate::media::fragment;
use reelgate::transcode::protocol::{EncoderStatus, Job};
use serde_json::json;
use std::path::Path;

/// With a file `broken` beside it the device fails at once; with `midway` after some bytes.
const DEVICE: &str = r#"here=$(dirname "$0")
case " $* " in *" h264_nvenc "*) device=1 ;; *) exec "$FFMPEG" "$@" ;; esac
[ -e "$here/broken" ] && { echo '[h264_nvenc @ 0x55d0] OpenEncodeSessionEx failed: incompatible client key (21): (no details)' >&2; exit 1; }
left=$#
while [ $left -gt 0 ]; do
    word=$1; shift; left=$((left - 1))
    case "$word" in
        -hwaccel|-hwaccel_device|-hwaccel_output_format|-extra_hw_frames|-gpu|-surfaces|-tune|-rc|-forced-idr|-no-scenecut)
            shift; left=$((left - 1)); continue ;;
        h264_nvenc) word=libx264 ;;
        p3) word=superfast ;;
        *scale_cuda=*) word=$(printf %s "$word" | sed 's/scale_cuda=\([0-9]*:[0-9]*\):interp_algo=bicubic:format/scale=\1,format/') ;;
    esac
    set -- "$@" "$word"
done
[ -e "$here/midway" ] && { "$FFMPEG" "$@" | head -c 60000; echo '[h264_nvenc @ 0x55d0] EncodePicture failed!: generic error (20)' >&2; exit 1; }
exec "$FFMPEG" "$@""#;

/// A folder like `/dev` with one GPU.
fn devices() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("nvidia0"), "").expect("a node");
    folder
}

fn with_device(arguments: &[&str]) -> (Sidecar, Job, tempfile::TempDir) {
    let devices = devices();
    let folder = devices.path().display().to_string();
    let (sidecar, head) =
        with_film_and_devices(DEVICE, &[&["--devices", &folder, "--ahead", "0", "--jobs", "2"], arguments].concat());
    (sidecar, head, devices)
}

impl Sidecar {
    /// A segment's bytes, and which encoder made it.
    #[track_caller]
    fn made_by(&self, job: &Job) -> (Vec<u8>, String) {
        runtime().block_on(async {
            let (body, encoder) = self.client.segment(job).await.expect("an answer");
            let bytes = body.collect().await.expect("the whole segment").to_bytes().to_vec();
            let encoder = encoder.encoder.expect("it is encoded");
            // Each run of a device is told apart.
            (bytes, encoder.split_once('-').map_or(encoder.clone(), |(name, _)| name.to_owned()))
        })
    }

    fn set(&self, fault: &str, is: bool) {
        let path = self.folder.path().join(fault);
        if is { std::fs::write(path, "").expect("a file") } else { std::fs::remove_file(path).expect("it was there") }
    }

    fn encoders_found(&self) -> Vec<EncoderStatus> {
        runtime().block_on(self.client.report()).encoders.into_iter().map(|of| of.encoder).collect()
    }
}

fn of(job: &Job, title: &str, number: u64) -> Job {
    Job { title: title.into(), ..segment(job, number) }
}

/// The types of the units of a segment's first picture (ITU-T H.264 table 7-1): it begins with its own parameter sets.
#[track_caller]
fn expect_parameter_sets(bytes: &[u8]) {
    let run = fragment::read(bytes).expect("a fragment");
    let first = &run.data[..run.samples[0].bytes as usize];
    let (mut kinds, mut at) = (Vec::new(), 0);
    while let Some(length) = first.get(at..at + 4) {
        kinds.push(first[at + 4] & 0x1f);
        at += 4 + u32::from_be_bytes(length.try_into().expect("four bytes")) as usize;
    }
    let place = |kind| kinds.iter().position(|there| *there == kind);
    assert!(place(7).is_some() && place(7) < place(8) && place(8) < place(5), "{kinds:?}");
}

#[test]
fn a_film_is_made_by_the_device_and_by_software_where_that_fails() {
    let (sidecar, head, _devices) = with_device(&[]);
    assert_eq!(head.film.encoders[&Codec::H264], "h264_nvenc");
    assert!(head.film.build.contains(" + h264_nvenc"), "{}", head.film.build);
    let found = sidecar.encoders_found();
    let of_device = found.iter().filter(|found| found.device == "nvidia0");
    let states: Vec<_> = of_device.map(|found| (found.encoder.as_str(), found.state.as_str(), found.slots)).collect();
    let expected = [("h264_nvenc", "works", 4), ("hevc_nvenc", "no_driver", 4), ("av1_nvenc", "not_compiled_in", 4)];
    assert_eq!(states, expected);

    let (on_device, encoder) = sidecar.made_by(&segment(&head, 0));
    assert_eq!(encoder, "h264_nvenc");
    let jobs = runtime().block_on(sidecar.client.report()).jobs;
    assert!(jobs.iter().all(|of| of.job.device == "nvidia0"), "{jobs:?}");

    sidecar.set("broken", true);
    let (stand_in, encoder) = sidecar.made_by(&of(&head, "film", 1));
    assert_eq!(encoder, "libx264");
    sidecar.expect_counts(&[("software_fallback", 1), ("failure", 0), ("retry", 0)]);
    for bytes in [&on_device, &stand_in] {
        expect_parameter_sets(bytes);
    }
    // It said that it is full: half of it is asked for.
    let slots = sidecar.encoders_found().iter().find(|found| found.device == "nvidia0").expect("it").slots;
    assert_eq!(slots, 2);
    sidecar.set("broken", false);
    assert_eq!(sidecar.made_by(&segment(&head, 2)).1, "libx264", "this title has been through enough");
    assert_eq!(sidecar.made_by(&of(&head, "another", 2)).1, "h264_nvenc", "others have not");
}

#[test]
fn a_segment_of_which_somebody_has_a_part_is_cut_off_and_the_next_request_gets_all_of_another() {
    let (sidecar, head, _devices) = with_device(&[]);
    sidecar.set("midway", true);
    let job = segment(&head, 1);
    let (first, by) = runtime().block_on(async {
        let (body, encoder) = sidecar.client.segment(&job).await.expect("it begins well");
        (body.collect().await.map(|_| ()), encoder)
    });
    assert!(first.is_err() && by.encoder.as_ref().is_some_and(|by| by.starts_with("h264_nvenc-")), "{first:?} {by:?}");
    sidecar.expect_counts(&[("failure", 1)]);
    let (whole, encoder) = sidecar.made_by(&job);
    assert_eq!(encoder, "libx264");
    expect_parameter_sets(&whole);
    // The same as software alone makes of it.
    let (alone, alone_head) =
        with_film_and_devices("exec \"$FFMPEG\" \"$@\"", &["--encoders", "software", "--ahead", "0"]);
    assert!(alone.made_by(&segment(&alone_head, 1)).0 == whole);
}

#[test]
fn what_may_encode_is_what_the_configuration_says() {
    let (sidecar, head, _devices) = with_device(&["--encoders", "vaapi,software", "--device-jobs", "3"]);
    assert_eq!(head.film.encoders[&Codec::H264], "libx264");
    assert!(sidecar.encoders_found().iter().all(|found| !found.encoder.ends_with("_nvenc")));
}

#[test]
fn segments_of_two_encoders_by_turns_play_under_one_head() {
    let (sidecar, head, _devices) = with_device(&[]);
    let init = runtime().block_on(sidecar.client.init(&head)).expect("a head");
    assert!(init.1.encoder.as_ref().is_some_and(|by| by.starts_with("h264_nvenc-")), "{:?}", init.1);
    let init_of_software = {
        sidecar.set("broken", true);
        let again = Job { title: "software".into(), ..head.clone() };
        let made = runtime().block_on(sidecar.client.init(&again)).expect("a head");
        sidecar.set("broken", false);
        assert_eq!(made.1.encoder.as_deref(), Some("libx264"));
        made.0
    };
    assert_eq!(fragment::coded(&init.0), fragment::coded(&init_of_software), "the same profile and level");
    assert!(init.0 != init_of_software, "and yet another one");

    let segments = head.film.grid.segments();
    let mut origin = Origin::start().route("/init.mp4", cors(init.0.to_vec(), "video/mp4"));
    let mut list =
        "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:4\n#EXT-X-PLAYLIST-TYPE:VOD\n#EXT-X-INDEPENDENT-SEGMENTS\n\
                    #EXT-X-MAP:URI=\"init.mp4\"\n"
            .to_owned();
    for number in 0..segments {
        let in_software = number % 2 == 1;
        if in_software {
            sidecar.set("broken", true);
        }
        let (bytes, encoder) = sidecar.made_by(&of(&head, &format!("turn {number}"), number));
        if in_software {
            sidecar.set("broken", false);
        }
        assert_eq!(encoder, if in_software { "libx264" } else { "h264_nvenc" });
        expect_parameter_sets(&bytes);
        origin = origin.route(&format!("/{number}.m4s"), cors(bytes, "video/mp4"));
        list += &format!("#EXTINF:4.000000,\n{number}.m4s\n");
    }
    let kind = "application/vnd.apple.mpegurl";
    let level = fragment::coded(&init.0).expect("what it is").codecs();
    let master = format!("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=500000,CODECS=\"{level}\"\nvideo.m3u8\n");
    let list = list + "#EXT-X-ENDLIST\n";
    let origin = origin
        .route("/video.m3u8", cors(list.into_bytes(), kind))
        .route("/master.m3u8", cors(master.into_bytes(), kind));
    let result = crate::browser::played(&format!("{}/master.m3u8", origin.url()));
    // A picture that waits a moment after a seek is a busy machine's; one that cannot be decoded is an error.
    assert_eq!((&result["fatal"], &result["errors"]), (&json!([]), &json!([])), "{result}");
    assert!(result["frames"].as_u64().is_some_and(|frames| frames >= 24 * 25), "{result}");
}

fn cors(body: Vec<u8>, kind: &str) -> Reply {
    Reply::ok(body).header("Content-Type", kind).header("Access-Control-Allow-Origin", "*")
}

#[test]
fn what_software_made_in_a_devices_stead_has_an_entity_tag_of_its_own() {
    let (films, tools, devices) =
        (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"), devices());
    film(&films.path().join("Film.mp4"), "25", "12", &[]);
    let path = std::env::var("PATH").expect("a PATH");
    let real =
        std::env::split_paths(&path).map(|folder| folder.join("ffmpeg")).find(|path| path.is_file()).expect("ffmpeg");
    script(tools.path(), "ffmpeg", &format!("#!/bin/sh\nFFMPEG={}\n{DEVICE}\n", real.display()));
    let program = Path::new(env!("CARGO_BIN_EXE_reelgate-transcoder"));
    let wrapped = format!("#!/bin/sh\nexec {} \"$@\" --devices {}\n", program.display(), devices.path().display());
    let program = script(tools.path(), "transcoder", &wrapped);
    let edge = library(films.path())
        .set("transcode.ahead", json!(0))
        .set("transcode.program", program.display().to_string())
        .environment("PATH", &format!("{}:{path}", tools.path().display()))
        .run();
    wait_until_ready(&edge);
    let (folder, ..) = rendition(&edge, &title(&edge, "Film"), "240p");
    let tag = |file: &str| {
        let answer = edge.get(&format!("{folder}/{file}")).expect_status(200);
        answer.header("etag").expect("a tag").to_owned()
    };
    let on_device = tag("0.m4s");
    assert!(on_device.contains("-240p-0.m4s-h264_nvenc-"), "{on_device}");
    std::fs::write(tools.path().join("broken"), "").expect("a file");
    let stand_in = tag("1.m4s");
    assert!(stand_in.ends_with("-240p-1.m4s-libx264\""), "{stand_in}");
    assert_eq!(tag("1.m4s"), stand_in, "kept as it is");
    edge.expect_metric("reelgate_transcoder_events_total", &[("event", "software_fallback")], 1.0);
    edge.expect_metric("reelgate_transcoder_encoder_up", &[("device", "nvidia0"), ("encoder", "h264_nvenc")], 1.0);
    edge.expect_metric("reelgate_transcoder_encoder_up", &[("device", "nvidia0"), ("encoder", "hevc_nvenc")], 0.0);
}
