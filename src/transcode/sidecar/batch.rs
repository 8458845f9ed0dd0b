//! Several segments from one run of ffmpeg: the film is opened, sought in and decoded once. Pure.
//!
//! Each segment has an encoder and an output of its own. One encoder for all of them would carry its rate control over from
//! segment to segment: other bytes than those of a segment made alone, under the same entity-tag. With an encoder each they are
//! the same, and what is saved is nearly as much: a keyframe begins each segment anyway.

use std::ops::Range;

/// Makes the command line for some frames into one for the segments that these frames are: `outputs` has their frames, and the
/// descriptors they are written to. None where the line is not of the shape this is made for (pictures filtered by `-vf`).
pub fn split(line: &[String], outputs: &[(Range<u64>, i32)]) -> Option<Vec<String>> {
    let input = line.iter().position(|word| word == "-i")? + 2;
    let (before, options) = (line.get(..input)?, line.get(input..)?);
    let (last, options) = options.split_last()?;
    let (mut stream, mut filter, mut shared) = (None, None, Vec::new());
    let mut words = options.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "-map" => stream = words.next(),
            "-vf" => filter = words.next(),
            "-frames:v" => drop(words.next()),
            _ => shared.push(word),
        }
    }
    let (stream, filter) = (stream?, filter?);
    let first = outputs.first()?.0.start;
    let mut graph = format!("[{stream}]{filter},split={}", outputs.len());
    graph.extend((0..outputs.len()).map(|output| format!("[all{output}]")));
    let mut result = before.to_vec();
    let mut rest = Vec::new();
    for (output, (frames, descriptor)) in outputs.iter().enumerate() {
        let (start, end) = (frames.start.checked_sub(first)?, frames.end.checked_sub(first)?);
        graph += &format!(";[all{output}]trim=start_frame={start}:end_frame={end}[part{output}]");
        rest.extend(["-map".to_owned(), format!("[part{output}]"), "-frames:v".to_owned(), (end - start).to_string()]);
        rest.extend(shared.iter().map(|word| (*word).clone()));
        rest.push(if output == 0 { last.clone() } else { format!("pipe:{descriptor}") });
    }
    result.extend(["-filter_complex".to_owned(), graph]);
    result.extend(rest);
    Some(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn golden() {
        let line = words(
            "-ss 3 -copyts -i film -map 0:1 -an -vf scale=2:2,trim=end_frame=250 -frames:v 250 -g 100 -f mp4 pipe:1",
        );
        let expected = "-ss 3 -copyts -i film -filter_complex [0:1]scale=2:2,trim=end_frame=250,split=3[all0][all1][all2];\
                        [all0]trim=start_frame=0:end_frame=100[part0];[all1]trim=start_frame=100:end_frame=200[part1];\
                        [all2]trim=start_frame=200:end_frame=250[part2] \
                        -map [part0] -frames:v 100 -an -g 100 -f mp4 pipe:1 -map [part1] -frames:v 100 -an -g 100 -f mp4 pipe:7 \
                        -map [part2] -frames:v 50 -an -g 100 -f mp4 pipe:9";
        let outputs = [(400..500, 1), (500..600, 7), (600..650, 9)];
        assert_eq!(split(&line, &outputs).unwrap().join(" "), expected);
    }

    #[test]
    fn a_line_without_a_filter_is_left_alone() {
        assert_eq!(split(&words("-i film -map 0:1 -c copy pipe:1"), &[(0..1, 1), (1..2, 3)]), None);
        assert_eq!(split(&words("-version"), &[(0..1, 1)]), None);
        assert_eq!(split(&[], &[]), None);
    }
}
