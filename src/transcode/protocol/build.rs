//! Builds: what makes films, as one line of text that tells whether another one makes the same. Programs, then ` + ` and a name for each
//! kind of hardware that encodes beside the processor, and at last the processor. Pure.

/// What of a build must be the same for one sidecar to go on with what another has begun: the programs. What comes after them, ` + ` and a
/// name, is what they run on.
pub fn programs(build: &str) -> &str {
    build.split_once(" + ").map_or(build, |(programs, _)| programs)
}

/// What of a build software's bytes depend on: the programs and the processor, which is named last, without what else encodes there.
pub fn software(build: &str) -> String {
    let (programs, processor) = (programs(build), processor(build));
    processor.map_or_else(|| programs.to_owned(), |processor| format!("{programs} + {processor}"))
}

fn processor(build: &str) -> Option<&str> {
    build.rsplit_once(" + ").map(|(_, processor)| processor)
}

/// What encodes there, beside the processor.
fn hardware(build: &str) -> impl Iterator<Item = &str> {
    let between = build.split_once(" + ").and_then(|(_, rest)| rest.rsplit_once(" + ")).map(|(between, _)| between);
    between.into_iter().flat_map(|between| between.split(" + "))
}

/// Whether a film that one build has looked into is to be looked into again now that there is another: that has other programs, or something
/// that encodes and was not there. What has gone, software stands in for; another processor finds out the same.
pub fn sees_more(known: &str, now: &str) -> bool {
    programs(known) != programs(now) || hardware(now).any(|name| hardware(known).all(|there| there != name))
}

/// Whether an encoder is there, by its name: software always is.
pub fn encodes(build: &str, encoder: &str) -> bool {
    encoder.starts_with("lib") || hardware(build).any(|name| name == encoder)
}

/// A build on the processor of another one: what is found on one is made on the other, with bytes of its own.
pub fn moved(known: &str, now: &str) -> String {
    match (known.rsplit_once(" + "), processor(now)) {
        (Some((known, _)), Some(processor)) => format!("{known} + {processor}"),
        _ => known.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_processor_or_a_device_that_went_makes_no_film_be_looked_into_again() {
        for (known, now, again) in [
            ("a + cpu-1", "a + cpu-1", false),
            ("a + cpu-1", "a + cpu-2", false),
            ("a + nvenc + cpu-1", "a + cpu-2", false),
            ("a + nvenc + vaapi + cpu-1", "a + vaapi + cpu-1", false),
            ("a + cpu-1", "a + nvenc + cpu-1", true),
            ("a + vaapi + cpu-1", "a + nvenc + cpu-1", true),
            ("a + cpu-1", "b + cpu-1", true),
            ("a", "a + cpu-1", false),
            ("a", "b", true),
        ] {
            assert_eq!(sees_more(known, now), again, "{known}, {now}");
        }
        assert_eq!(moved("a + nvenc + cpu-1", "a + cpu-2"), "a + nvenc + cpu-2");
        let there = ["libx265", "nvenc", "vaapi"].map(|encoder| encodes("a + nvenc + cpu-1", encoder));
        assert_eq!(there, [true, true, false]);
        assert_eq!([moved("a", "a + cpu-2"), moved("a + cpu-1", "a")], ["a", "a + cpu-1"]);
        assert_eq!(
            [software("a + nvenc + cpu-1"), software("a + cpu-1"), software("a")],
            ["a + cpu-1", "a + cpu-1", "a"]
        );
    }
}
