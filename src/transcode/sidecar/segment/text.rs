//! One segment of subtitles: ffmpeg's WebVTT, read and written anew by us.

use super::super::arguments;
use super::super::child::{Failure, Kill, run};
use super::{Sink, Tools};
use crate::media::fraction::Fraction;
use crate::media::webvtt::{self, Cue};
use crate::transcode::protocol::{Film, TextFormat};
use std::fs::File;
use std::io::{Read, Seek};

/// Of a minute of cues, or of a whole file.
const BYTES_MAX: usize = 4 << 20;
/// A line of the clock, or of a cue, is shorter.
const LINE_BYTES_MAX: usize = 64 * 1024;
/// Seconds of video read beyond a segment: in a file, cues lie near the pictures they are shown with, not always before them.
const BEYOND_S: f64 = 5.0;

/// A segment of a track of the film.
pub fn make(
    tools: &Tools,
    film: &Film,
    stream: u32,
    segment: u64,
    file: File,
    kill: &Kill,
    sink: &Sink,
) -> Result<(), Failure> {
    let beyond = || Failure::Mismatch("the title has no such segment".to_owned());
    let frames = film.grid.text_frames_of(segment).ok_or_else(beyond)?;
    film.text.iter().find(|text| text.stream == stream).ok_or_else(beyond)?;
    let from_ms = milliseconds(film.grid.time_of(frames.start));
    let to_ms = milliseconds(film.grid.time_of(frames.end));
    let mut reader = Reader {
        held: Vec::new(),
        cues: String::new(),
        tick_s: None,
        until_s: to_ms as f64 / 1000.0 + film.start.as_f64() + BEYOND_S,
        ended: false,
    };
    let bytes = file.metadata().map_err(|error| Failure::Machine(format!("the film: {}", error.kind())))?.len();
    let line = arguments::text(film, stream, &frames, arguments::look_back_s(film, bytes));
    let ran = run(&tools.ffmpeg, &line, file, kill, |bytes| reader.push(bytes));
    if !reader.ended {
        ran?;
    } else if kill.was_used() {
        return Err(Failure::Killed);
    }
    reader.rest();
    let cues = parsed(&reader.cues)?;
    let cues = webvtt::earlier(cues, milliseconds(film.start));
    publish(sink, &webvtt::between(&cues, from_ms.unsigned_abs(), to_ms.unsigned_abs()));
    Ok(())
}

/// A whole file beside the film. Its times count from the title's start.
pub fn file(
    tools: &Tools,
    film: &Film,
    format: TextFormat,
    file: File,
    kill: &Kill,
    sink: &Sink,
) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::Machine(format!("the subtitles cannot be read: {}", error.kind()));
    let mut start = Vec::new();
    (&file).take(BYTES_MAX as u64 + 1).read_to_end(&mut start).map_err(failed)?;
    if start.len() > BYTES_MAX {
        return Err(Failure::Failed("the subtitles are too long".to_owned()));
    }
    (&file).rewind().map_err(failed)?;
    // UTF-16 says so itself.
    let latin =
        std::str::from_utf8(&start).is_err() && !start.starts_with(b"\xff\xfe") && !start.starts_with(b"\xfe\xff");
    let mut said = Vec::new();
    run(&tools.ffmpeg, &arguments::text_file(format, latin), file, kill, |bytes| {
        said.extend_from_slice(bytes);
        if said.len() > BYTES_MAX { Err("the subtitles are too long".into()) } else { Ok(()) }
    })?;
    let cues = parsed(&String::from_utf8_lossy(&said))?;
    let end_ms = milliseconds(film.grid.time_of(film.grid.frames)).unsigned_abs();
    publish(sink, &webvtt::between(&cues, 0, end_ms));
    Ok(())
}

fn parsed(text: &str) -> Result<Vec<Cue>, Failure> {
    webvtt::parse(text).map_err(|wrong| Failure::Failed(wrong.to_string()))
}

fn publish(sink: &Sink, cues: &[Cue]) {
    sink.fragment(webvtt::write(cues).into_bytes());
}

fn milliseconds(time: Fraction) -> i64 {
    (time.as_f64() * 1000.0).round() as i64
}

/// Tells cues from the clock between them.
struct Reader {
    held: Vec<u8>,
    cues: String,
    /// Seconds of a tick of the clock.
    tick_s: Option<f64>,
    until_s: f64,
    /// The clock has passed the end.
    ended: bool,
}

impl Reader {
    fn push(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.held.extend_from_slice(bytes);
        while let Some(end) = self.held.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.held.drain(..=end).collect();
            self.line(&String::from_utf8_lossy(&line));
            if self.ended {
                return Err("the segment is over".into());
            }
        }
        if self.held.len() > LINE_BYTES_MAX || self.cues.len() > BYTES_MAX {
            return Err("the subtitles are too long".into());
        }
        Ok(())
    }

    /// What is no line yet is the last one, unless the run was ended in it.
    fn rest(&mut self) {
        let line = std::mem::take(&mut self.held);
        if !self.ended {
            self.line(&String::from_utf8_lossy(&line));
        }
    }

    /// `#tb 0: 1/1000`, `0,       1042,       1042,       40,     8362, 0x71dd3ea6`, or a cue's.
    fn line(&mut self, line: &str) {
        if let Some(base) = line.strip_prefix("#tb 0: ").and_then(|base| Fraction::parse(base.trim())) {
            self.tick_s.get_or_insert(base.as_f64());
            return;
        }
        if ["#extradata ", "#software: ", "#media_type ", "#codec_id ", "#dimensions ", "#sar "]
            .iter()
            .any(|header| line.starts_with(header))
        {
            return;
        }
        let mut fields = line.strip_prefix("0,").into_iter().flat_map(|fields| fields.split(',')).map(str::trim);
        let (time, sum) = (fields.next().and_then(|time| time.parse::<i64>().ok()), fields.nth(3));
        match time.filter(|_| sum.is_some_and(|sum| sum.starts_with("0x"))) {
            Some(ticks) => self.ended |= ticks as f64 * self.tick_s.unwrap_or(0.0) > self.until_s,
            None => self.cues.push_str(line),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cues_are_told_from_the_clock_and_the_clock_ends_the_run() {
        let mut reader = Reader { held: Vec::new(), cues: String::new(), tick_s: None, until_s: 2.0, ended: false };
        let said = "WEBVTT\n#extradata 0:       46, 0x6bb00f76\n#software: x\n#tb 0: 1/1000\n#media_type 0: video\n#codec_id 0: h264\n\
                    #dimensions 0: 320x180\n#sar 0: 1/1\n0,       1000,       1000,       40,     8362, 0x71dd3ea6\n\n00:01.000 --> 00:02.000\n\
                    0, he said, 1\n0,       1040,       1040,       40,     8362, 0x71dd3ea6, F=0x0, S=1,  8\n";
        for part in said.as_bytes().chunks(7) {
            assert_eq!(reader.push(part), Ok(()));
        }
        assert_eq!(reader.cues, "WEBVTT\n\n00:01.000 --> 00:02.000\n0, he said, 1\n");
        assert!(reader.push(b"0,  2001, 2001, 40, 8362, 0x1\n").is_err() && reader.ended);
        reader.rest();
        assert_eq!(webvtt::parse(&reader.cues).unwrap().len(), 1);
    }
}
