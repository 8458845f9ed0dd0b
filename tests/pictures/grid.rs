//! Segments of three difficult films, asked for out of order: each on the grid to the tick, each frame the right one.

use super::world::{Sidecar, expect_on_grid, numbered, numbers, tool};

const ORDER: [u64; 9] = [7, 0, 1, 2, 5, 8, 4, 3, 6];

#[test]
fn difficult_films_are_on_the_grid_to_the_tick_whatever_the_order() {
    let sidecar = Sidecar::start();
    let x264 = ["-c:v", "libx264", "-preset", "ultrafast", "-threads", "1"];
    let film = |name: &str, rate: &str, more: &[&str]| {
        sidecar.film(name, &[&["-f", "lavfi", "-i", &numbered(rate, "33")], &x264[..], more].concat());
    };
    film("long.mp4", "25", &["-g", "400", "-bf", "3"]);
    let open = "open-gop=1:keyint=75:bframes=3:b-adapt=0";
    film("open.mkv", "30000/1001", &["-x264-params", open, "-output_ts_offset", "0.023"]);
    let wild = "select='if(mod(floor(t)\\,2)\\,1\\,not(mod(n\\,3)))'";
    film("wild.mp4", "60", &["-vf", wild, "-vsync", "vfr", "-g", "120"]);

    for (name, frames, timescale, ticks) in
        [("long.mp4", 825, 10_000, 400), ("open.mkv", 990, 30_000, 1001), ("wild.mp4", 1582, 10_032, 209)]
    {
        let film = sidecar.known(name);
        assert_eq!(
            (film.grid.frames, film.grid.timescale(), film.grid.frame_ticks()),
            (frames, timescale, ticks),
            "{name}"
        );
        let order = &ORDER.map(|segment| segment.min(film.grid.segments() - 1));
        let joined = expect_on_grid(&sidecar, name, &film, "240p", order);
        let numbers = numbers(&sidecar.written(&joined));
        assert_eq!(numbers.len() as u64, frames, "{name}: frames decoded");
        if name == "wild.mp4" {
            expect_nearest(&sidecar.path(name).display().to_string(), &numbers, film.grid.frame_rate.as_f64());
        } else {
            let wrong = numbers.iter().enumerate().find(|(frame, number)| *frame as u64 != **number);
            assert_eq!(wrong, None, "{name}: a frame and the number on it");
        }
    }
}

/// Each frame of the grid shows the frame of the source that had begun by then, to half a frame of the grid.
#[track_caller]
fn expect_nearest(source: &str, found: &[u64], rate: f64) {
    let times = tool("ffprobe", &["-select_streams", "v", "-show_entries", "frame=pts_time", "-of", "csv=p=0", source]);
    let times = String::from_utf8_lossy(&times).into_owned();
    let times: Vec<f64> = times.lines().filter_map(|line| line.trim_end_matches(',').parse().ok()).collect();
    let painted = super::world::numbers(source);
    assert_eq!(times.len(), painted.len());
    for (frame, number) in found.iter().enumerate() {
        let shown = painted.iter().position(|painted| painted == number).expect("a frame of the source");
        let now = frame as f64 / rate;
        let half = 0.5 / rate + 0.001;
        assert!(times[shown] <= now + half, "frame {frame} shows {number}, which begins later");
        let next = times.get(shown + 1).copied().unwrap_or(f64::MAX);
        assert!(next >= now - half, "frame {frame} shows {number}, which is over");
    }
}

#[test]
fn a_head_is_the_same_from_every_sidecar_and_so_are_segments() {
    let (one, other) = (Sidecar::start(), Sidecar::start());
    let arguments = ["-f", "lavfi", "-i", &numbered("25", "9"), "-c:v", "libx264", "-preset", "ultrafast", "-g", "50"];
    for sidecar in [&one, &other] {
        sidecar.film("film.mp4", &arguments);
    }
    let film = one.known("film.mp4");
    assert_eq!(film, other.known("film.mp4"));
    for rung in ["240p", "source"] {
        // One begins with the last segment, the other with the head.
        let last = one.segment("film.mp4", &film, rung, 2).expect("a segment");
        let init = other.init("film.mp4", &film, rung).expect("a head");
        assert_eq!(one.init("film.mp4", &film, rung), Ok(init), "{rung}");
        assert_eq!(other.segment("film.mp4", &film, rung, 2), Ok(last), "{rung}");
    }
}
