//! Boxes by hand: a head, and a segment of two fragments with B-frames.

use super::super::super::fragment;
use super::segment::{BOXES_MAX, Steps};
use super::*;
use proptest::prelude::*;

fn boxed(kind: &[u8; 4], payload: &[u8]) -> Vec<u8> {
    fragment::boxed(kind, &[payload])
}

fn nested(path: &[&[u8; 4]], payload: &[u8]) -> Vec<u8> {
    path.iter().rev().fold(payload.to_vec(), |inner, kind| boxed(kind, &inner))
}

fn init(entry: &[u8; 4], description: u8) -> Vec<u8> {
    let entries = [&[0, 0, 0, 0, 0, 0, 0, 1][..], &boxed(entry, &[description; 90])].concat();
    let header = [&[0; 12][..], &30_000_u32.to_be_bytes(), &[0; 8]].concat();
    let media = [
        boxed(b"mdhd", &header),
        boxed(b"hdlr", b"\0\0\0\0\0\0\0\0vide\0\0"),
        nested(&[b"minf", b"stbl", b"stsd"], &entries),
    ]
    .concat();
    let track = [
        boxed(b"tkhd", &[&[0; 12][..], &7_u32.to_be_bytes(), &[9; 68]].concat()),
        boxed(b"edts", b"kept"),
        boxed(b"mdia", &media),
    ]
    .concat();
    let extends = nested(&[b"mvex", b"trex"], &[0, 7, 1, 1001, 0, 0x1_0000].map(u32::to_be_bytes).concat());
    [boxed(b"ftyp", b"iso5"), boxed(b"moov", &[boxed(b"trak", &track), extends].concat())].concat()
}

/// Two fragments, B-frames in the first.
fn segment(decode: u32) -> Vec<u8> {
    let fragment = |decode: u32, first: u32, offsets: &[i32]| {
        let run: Vec<u8> = offsets.iter().flat_map(|offset| offset.to_be_bytes()).collect();
        let run = [
            &0x0100_0805_u32.to_be_bytes()[..],
            &(offsets.len() as u32).to_be_bytes(),
            &[0; 4],
            &first.to_be_bytes(),
            &run,
        ]
        .concat();
        let track = [
            boxed(b"tfhd", &[0x2_0000_u32, 7].map(u32::to_be_bytes).concat()),
            boxed(b"tfdt", &[0_u32, decode].map(u32::to_be_bytes).concat()),
            boxed(b"trun", &run),
        ]
        .concat();
        [boxed(b"moof", &[boxed(b"mfhd", &[0; 8]), boxed(b"traf", &track)].concat()), boxed(b"mdat", b"data")].concat()
    };
    [
        boxed(b"styp", b"msdh"),
        fragment(decode, 0x0200_0000, &[1001, 2002, 0]),
        fragment(decode + 3003, 0x1_0000, &[1001]),
    ]
    .concat()
}

#[test]
fn frames_are_found_and_others_take_their_places() {
    let (init, bytes) = (init(b"avc1", 1), segment(90_090));
    let head = head(&init).unwrap();
    assert_eq!((head.timescale, head.track), (30_000, 7));
    let source = head.segment(&bytes).unwrap();
    let shown: Vec<_> = source.frames.iter().map(|frame| (frame.decode, frame.shown, frame.is_key)).collect();
    assert_eq!(
        shown,
        [(90_090, 91_091, true), (91_091, 93_093, false), (92_092, 92_092, false), (93_093, 94_094, false)]
    );
    let made = source.with(&head, &[vec![1; 5], vec![2; 6], vec![3], vec![4]]).unwrap();
    let found = head.segment(&made).unwrap();
    let times: Vec<_> = found.frames.iter().map(|frame| (frame.decode, frame.shown, frame.is_key)).collect();
    assert_eq!(
        times,
        [(90_090, 91_091, true), (91_091, 92_092, false), (92_092, 93_093, false), (93_093, 94_094, false)]
    );
    assert!(made.starts_with(&boxed(b"styp", b"msdh")) && made.ends_with(&[1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 3, 4]));
    assert_eq!(source.with(&head, &[vec![1]]), None);
    let moved = source.video_from(&head, 100).unwrap();
    assert_eq!(head.segment(&moved).unwrap().frames[3].shown, 3_000_000 + 4004);
}

#[test]
fn a_head_is_that_of_the_origin_with_another_picture() {
    let (source, encoded) = (init(b"hvc1", 1), init(b"avc1", 2));
    let made = head(&source).unwrap().with(&encoded, (426, 240)).unwrap();
    assert_eq!(head(&made).unwrap().timescale, 30_000);
    let entry = made.windows(4).position(|window| window == b"avc1").unwrap();
    assert_eq!(made[entry + 4..entry + 94], [2; 90]);
    let size = [(426_u32 << 16).to_be_bytes(), (240_u32 << 16).to_be_bytes()].concat();
    assert!(made.windows(8).any(|window| window == size) && made.windows(8).any(|window| window == b"edtskept"));
}

#[test]
fn what_is_not_supported_is_said() {
    assert_eq!(head(&init(b"encv", 1)).err(), Some(Unfit::Encrypted));
    assert_eq!(head(&init(b"av01", 1)).err(), Some(Unfit::Streams));
    assert_eq!(head(b"").err(), Some(Unfit::Unreadable));
    let init = init(b"avc1", 1);
    assert_eq!(head(&init).unwrap().segment(b"").err(), Some(Unfit::Unreadable));
}

/// A head and a segment with sound in front of the picture.
fn with_sound() -> (Vec<u8>, Vec<u8>) {
    let picture = init(b"avc1", 1);
    let movie = child(&picture, b"moov").unwrap();
    let header = [&[0; 12][..], &48_000_u32.to_be_bytes(), &[0; 8]].concat();
    let entries = [&[0, 0, 0, 0, 0, 0, 0, 1][..], &boxed(b"mp4a", &[3; 20])].concat();
    let media = [
        boxed(b"mdhd", &header),
        boxed(b"hdlr", b"\0\0\0\0\0\0\0\0soun\0\0"),
        nested(&[b"minf", b"stbl", b"stsd"], &entries),
    ];
    let sound = boxed(b"trak", &boxed(b"mdia", &media.concat()));
    let head = [boxed(b"ftyp", b"iso5"), boxed(b"moov", &[&sound, movie].concat())].concat();
    let video = segment(90_090);
    let fragment = child(&video, b"moof").unwrap();
    let own = boxed(b"traf", child(fragment, b"traf").unwrap());
    let track = |place: u32| {
        let run = [0x0000_0201_u32, 2, place, 3, 2].map(u32::to_be_bytes).concat();
        let header = [0x2_0000_u32, 8].map(u32::to_be_bytes).concat();
        let time = [0_u32, 77].map(u32::to_be_bytes).concat();
        boxed(b"traf", &[boxed(b"tfhd", &header), boxed(b"tfdt", &time), boxed(b"trun", &run)].concat())
    };
    let moof = |place| boxed(b"moof", &[boxed(b"mfhd", &[0; 8]), track(place), own.clone()].concat());
    let place = moof(0).len() as u32 + 8 + 4;
    (head, [moof(place), boxed(b"mdat", b"datasound...")].concat())
}

#[test]
fn sound_stays_as_it_is_in_a_fragment_of_its_own() {
    let (init, bytes) = with_sound();
    let head = head(&init).unwrap();
    let source = head.segment(&bytes).unwrap();
    assert_eq!((head.place, source.frames.len()), (1, 3));
    let made = source.with(&head, &[vec![1], vec![2], vec![3]]).unwrap();
    assert_eq!(head.segment(&made).unwrap().frames.len(), 3);
    let second = made.windows(4).rposition(|window| window == b"moof").unwrap() - 4;
    let (moof, data) = (child(&made[second..], b"moof").unwrap(), child(&made[second..], b"mdat").unwrap());
    assert_eq!(data, b"sound");
    let run = child(child(moof, b"traf").unwrap(), b"trun").unwrap();
    let place = number(run, 8, 4).unwrap() as usize;
    assert_eq!(&made[second + place..], b"sound");
    let time = child(child(moof, b"traf").unwrap(), b"tfdt").unwrap();
    assert_eq!(number(time, 4, 4), Some(77));
    let (width, height) = (426, 240);
    let changed = head.with(&self::init(b"avc1", 2), (width, height)).unwrap();
    assert_eq!(super::head(&changed).unwrap().place, 1);
    let sound = child(&init, b"moov").and_then(|movie| child(movie, b"trak")).unwrap();
    assert_eq!(child(&changed, b"moov").and_then(|movie| child(movie, b"trak")).unwrap(), sound);
}

/// A head with so many defaults.
fn head_with_defaults(count: u32) -> Vec<u8> {
    let plain = init(b"avc1", 1);
    let track = boxed(b"trak", child(&plain, b"moov").and_then(|movie| child(movie, b"trak")).unwrap());
    let defaults = (0..count).map(|of| boxed(b"trex", &[0, of, 1, 1001, 4, 0x1_0000].map(u32::to_be_bytes).concat()));
    let extends = boxed(b"mvex", &defaults.collect::<Vec<_>>().concat());
    [boxed(b"ftyp", b"iso5"), boxed(b"moov", &[track, extends].concat())].concat()
}

/// A fragment with a run of nothing for each of these tracks.
fn empty_runs(tracks: impl Iterator<Item = u32>) -> Vec<u8> {
    let tracks = tracks.map(|track| {
        let header = boxed(b"tfhd", &[0x2_0000_u32, track].map(u32::to_be_bytes).concat());
        boxed(
            b"traf",
            &[header, boxed(b"tfdt", &[0; 8]), boxed(b"trun", &[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0])].concat(),
        )
    });
    boxed(b"moof", &tracks.collect::<Vec<_>>().concat())
}

#[test]
fn a_hostile_segment_takes_a_step_for_each_box_and_so_many_at_most() {
    // Fragments that each look for their defaults among all that there are.
    let init = head_with_defaults(TRACKS_MAX as u32);
    let head = head(&init).unwrap();
    let others = (0..500).map(|_| empty_runs(8..24)).collect::<Vec<_>>().concat();
    let bytes = [segment(0), others].concat();
    let mut steps = Steps::new(BOXES_MAX);
    let source = head.segment_within(&bytes, &mut steps).unwrap();
    assert_eq!((source.frames.len(), BOXES_MAX - steps.left()), (4, 1 + 2 * (2 + 5) + 500 * (1 + 16 * 4)));
    assert!(source.video_from(&head, 100).is_some() && source.with(&head, &vec![vec![1]; 4]).is_some());
    // Millions of boxes: the limit ends it, not the bytes.
    for hostile in [boxed(b"moof", b""), boxed(b"free", b""), empty_runs(std::iter::repeat_n(9, 100))] {
        let mut steps = Steps::new(BOXES_MAX);
        let bytes = [segment(0), hostile.repeat((16 << 20) / hostile.len())].concat();
        assert_eq!(head.segment_within(&bytes, &mut steps).err(), Some(Unfit::TooLong));
        assert_eq!(steps.left(), 0);
    }
}

#[test]
fn a_head_has_so_many_tracks_and_defaults_and_no_more() {
    assert_eq!(head(&head_with_defaults(TRACKS_MAX as u32 + 1)).err(), Some(Unfit::TooLong));
    let plain = init(b"avc1", 1);
    let sound = boxed(b"trak", &boxed(b"mdia", &boxed(b"hdlr", b"\0\0\0\0\0\0\0\0soun\0\0")));
    let movie = [&sound.repeat(TRACKS_MAX), child(&plain, b"moov").unwrap()].concat();
    assert_eq!(head(&[boxed(b"ftyp", b"iso5"), boxed(b"moov", &movie)].concat()).err(), Some(Unfit::TooLong));
}

#[test]
fn runs_that_name_the_same_bytes_again_and_again_make_nothing_of_them() {
    let (init, _) = with_sound();
    let head = head(&init).unwrap();
    let run = [0x0000_0001_u32, 1000, 0].map(u32::to_be_bytes).concat();
    let header = [0x2_0010_u32, 8, 40].map(u32::to_be_bytes).concat();
    let track = [boxed(b"tfhd", &header), boxed(b"tfdt", &[0; 8]), boxed(b"trun", &run).repeat(5000)].concat();
    let sound = boxed(b"moof", &[boxed(b"mfhd", &[0; 8]), boxed(b"traf", &track)].concat());
    let bytes = [segment(90_090), sound, boxed(b"mdat", &[0; 40_000])].concat();
    let source = head.segment(&bytes).unwrap();
    assert_eq!(source.with(&head, &vec![vec![1]; 4]), None, "200 MB of 0.2");
}

/// Boxes within boxes, of the kinds that are looked at.
fn any_boxes() -> impl Strategy<Value = Vec<u8>> {
    let kind =
        prop::sample::select(vec![*b"moof", *b"traf", *b"tfhd", *b"tfdt", *b"trun", *b"mfhd", *b"mdat", *b"styp"]);
    let leaf = (kind.clone(), proptest::collection::vec(prop_oneof![Just(0_u8), Just(8), any::<u8>()], 0..24));
    let leaf = leaf.prop_map(|(kind, payload)| boxed(&kind, &payload));
    leaf.prop_recursive(5, 200, 12, move |inner| {
        (kind.clone(), proptest::collection::vec(inner, 0..12)).prop_map(|(kind, inner)| boxed(&kind, &inner.concat()))
    })
}

proptest! {
    #[test]
    fn damaged_segments_are_read_without_panic(changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..9), of_head in any::<bool>(), sound in any::<bool>()) {
        let (mut init, mut bytes) = if sound { with_sound() } else { (init(b"avc1", 1), segment(90_090)) };
        for (at, byte) in changes {
            let damaged = if of_head { &mut init } else { &mut bytes };
            let at = at.index(damaged.len());
            damaged[at] = byte;
        }
        if let Ok(head) = head(&init) {
            let _ = head.with(&init, (16, 16));
            if let Ok(segment) = head.segment(&bytes) {
                let _ = segment.video_from(&head, 100);
                let _ = segment.with(&head, &vec![vec![1]; segment.frames.len()]);
            }
        }
    }

    #[test]
    fn whatever_the_boxes_are_the_work_is_in_proportion_to_them(others in proptest::collection::vec(any_boxes(), 0..8)) {
        let (init, own) = with_sound();
        let head = head(&init).unwrap();
        let bytes = [&own[..], &others.concat()].concat();
        let mut steps = Steps::new(BOXES_MAX);
        let read = head.segment_within(&bytes, &mut steps);
        prop_assert!(BOXES_MAX - steps.left() <= bytes.len() / 8);
        if let Ok(source) = read {
            let frames = source.frames.len();
            prop_assert!(source.video_from(&head, 100).is_none_or(|moved| moved.len() == bytes.len()));
            let made = source.with(&head, &vec![vec![1]; frames]);
            prop_assert!(made.is_none_or(|made| made.len() <= 2 * bytes.len() + 17 * frames + 200));
        }
    }
}
