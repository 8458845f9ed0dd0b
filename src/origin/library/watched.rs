//! What of which titles is watched these days, told from the segments clients are given, whether from a cache or not.
//!
//! Each segment given counts one, and half as much after [`HALF_LIFE_S`]; so a title's score is about how many segments of it were
//! watched lately. The table is small, and outlives a restart in the index.
//!
//! Invariants: at most [`TITLES_MAX`] titles, [`RENDITIONS_MAX`] renditions of each and short texts; what is watched least makes
//! room. It knows nobody who watches: the host and the path are those of the title.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};

/// Three days.
const HALF_LIFE_S: f64 = 3.0 * 24.0 * 3600.0;
pub const TITLES_MAX: usize = 1000;
const RENDITIONS_MAX: usize = 16;
/// Hosts, prefixes and names of renditions are shorter, but for somebody's play.
const TEXT_BYTES_MAX: usize = 255;
/// A rendition is watched if it is watched at least so much as the most watched one of its kind.
const WATCHED_SHARE: f64 = 0.2;

/// By title.
#[derive(Debug, Default)]
pub struct Watched {
    titles: HashMap<String, Entry>,
}

/// How one title is watched.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Seconds since 1970: when the scores were these.
    at_s: i64,
    /// By rendition.
    scores: BTreeMap<String, f64>,
    /// The title's address, as it was asked for last: host (and port), and what stands before `/t/`.
    pub host: String,
    pub prefix: String,
    /// Not in the index yet.
    #[serde(skip)]
    dirty: bool,
}

/// A title's segment, by its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    pub prefix: &'a str,
    pub title: &'a str,
    pub rendition: &'a str,
}

impl<'a> Place<'a> {
    /// Of `…/t/{title}/{rendition}/{version}/{n}.m4s` (or `.vtt`); None: it is none.
    pub fn read(path: &'a str) -> Option<Self> {
        let mut parts = path.rsplitn(6, '/');
        let (file, _version, rendition, title, t, prefix) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let number = file.strip_suffix(".m4s").or_else(|| file.strip_suffix(".vtt"))?;
        let is_short = [prefix, rendition].iter().all(|text| text.len() <= TEXT_BYTES_MAX);
        (t == "t" && is_short && number.bytes().all(|byte| byte.is_ascii_digit())).then_some(Self {
            prefix,
            title,
            rendition,
        })
    }
}

impl Watched {
    /// Somebody was given a segment.
    pub fn note(&mut self, host: &str, place: Place, now_s: i64) {
        if host.len() > TEXT_BYTES_MAX {
            return;
        }
        if !self.titles.contains_key(place.title) {
            self.make_room(now_s);
        }
        let entry = self.titles.entry(place.title.to_owned()).or_insert_with(|| Entry {
            at_s: now_s,
            scores: BTreeMap::new(),
            host: String::new(),
            prefix: String::new(),
            dirty: true,
        });
        entry.add(place.rendition, 1.0, now_s);
        if entry.host != host || entry.prefix != place.prefix {
            (entry.host, entry.prefix) = (host.to_owned(), place.prefix.to_owned());
        }
    }

    /// What was known before a restart, beside what came since.
    pub fn recall(&mut self, before: impl IntoIterator<Item = (String, Entry)>, now_s: i64) {
        for (title, entry) in before {
            match self.titles.get_mut(&title) {
                Some(there) => entry.scores_at(now_s).for_each(|(rendition, score)| there.add(rendition, score, now_s)),
                None => {
                    self.make_room(now_s);
                    self.titles.insert(title, entry);
                }
            }
        }
    }

    /// What was noted since it was last asked so.
    pub fn take_changes(&mut self) -> Vec<(String, Entry)> {
        let changed = self.titles.iter_mut().filter(|(_, entry)| entry.dirty);
        let taken = changed.map(|(title, entry)| {
            entry.dirty = false;
            (title.clone(), entry.clone())
        });
        taken.collect()
    }

    /// Titles of which at least so many segments were watched lately, the most watched first.
    pub fn most(&self, segments_min: f64, titles_max: usize, now_s: i64) -> Vec<(String, Entry)> {
        let mut all: Vec<_> = self.titles.iter().map(|(title, entry)| (entry.of_pictures(now_s), title)).collect();
        all.retain(|(score, _)| *score >= segments_min);
        all.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(b.1)));
        all.into_iter().take(titles_max).map(|(_, title)| (title.clone(), self.titles[title].clone())).collect()
    }

    fn make_room(&mut self, now_s: i64) {
        if self.titles.len() < TITLES_MAX {
            return;
        }
        let least = self.titles.iter().min_by(|a, b| a.1.of_all(now_s).total_cmp(&b.1.of_all(now_s)));
        let least = least.map(|(title, _)| title.clone());
        least.map(|title| self.titles.remove(&title));
    }
}

impl Entry {
    fn scores_at(&self, now_s: i64) -> impl Iterator<Item = (&str, f64)> {
        let halves = (now_s - self.at_s).max(0) as f64 / HALF_LIFE_S;
        let left = 0.5_f64.powf(halves);
        self.scores.iter().map(move |(rendition, score)| (rendition.as_str(), score * left))
    }

    fn add(&mut self, rendition: &str, more: f64, now_s: i64) {
        // A clock that was set back halves nothing.
        if now_s > self.at_s {
            self.scores = self.scores_at(now_s).map(|(name, score)| (name.to_owned(), score)).collect();
            self.at_s = now_s;
        }
        self.dirty = true;
        if let Some(score) = self.scores.get_mut(rendition) {
            *score += more;
            return;
        }
        if self.scores.len() >= RENDITIONS_MAX {
            let least = self.scores.iter().min_by(|a, b| a.1.total_cmp(b.1)).map(|(name, _)| name.clone());
            least.map(|name| self.scores.remove(&name));
        }
        self.scores.insert(rendition.to_owned(), more);
    }

    fn of_all(&self, now_s: i64) -> f64 {
        self.scores_at(now_s).map(|(_, score)| score).sum()
    }

    /// The score of a title is that of its pictures: sound comes with them, and would count twice.
    fn of_pictures(&self, now_s: i64) -> f64 {
        self.scores_at(now_s).filter(|(name, _)| kind(name) == "video").map(|(_, score)| score).sum()
    }

    /// Its renditions that are watched, pictures first, the most watched first.
    pub fn renditions(&self) -> Vec<&str> {
        let score_of = |name: &String| self.scores.get(name).copied().unwrap_or(0.0);
        let most = |of: &str| {
            let same = self.scores.keys().filter(|name| kind(name) == of);
            same.map(score_of).fold(0.0, f64::max)
        };
        let mut watched: Vec<&String> =
            self.scores.keys().filter(|name| score_of(name) >= WATCHED_SHARE * most(kind(name))).collect();
        let rank = |name: &str| ["video", "audio", "text"].iter().position(|of| *of == kind(name));
        watched.sort_by(|a, b| rank(a).cmp(&rank(b)).then_with(|| score_of(b).total_cmp(&score_of(a))));
        watched.into_iter().map(String::as_str).collect()
    }
}

fn kind(rendition: &str) -> &'static str {
    match rendition {
        _ if rendition.starts_with("audio-") => "audio",
        _ if rendition.starts_with("text-") => "text",
        _ => "video",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAY_S: i64 = 24 * 3600;

    fn place<'a>(title: &'a str, rendition: &'a str) -> Place<'a> {
        Place { prefix: "", title, rendition }
    }

    fn titles(watched: &Watched, least: f64, now_s: i64) -> Vec<String> {
        watched.most(least, 10, now_s).into_iter().map(|(title, _)| title).collect()
    }

    #[test]
    fn segments_are_known_by_their_address_and_nothing_else_is_counted() {
        let place = Place::read("/films/t/abc/360p/0123/17.m4s");
        assert_eq!(place, Some(Place { prefix: "/films", title: "abc", rendition: "360p" }));
        assert_eq!(Place::read("/t/abc/text-3/v/0.vtt").map(|place| place.prefix), Some(""));
        for other in
            ["/t/abc/360p/v/init.mp4", "/t/abc/360p/index.m3u8", "/x/abc/360p/v/1.m4s", "/abc/360p/v/1.m4s", "", "///"]
        {
            assert_eq!(Place::read(other), None, "{other}");
        }
    }

    #[test]
    fn what_was_watched_lately_comes_before_what_was_watched_more_long_ago() {
        let mut watched = Watched::default();
        (0..100).for_each(|_| watched.note("h", place("old", "720p"), 0));
        (0..100).for_each(|_| watched.note("h", place("old", "audio-1"), 0));
        let now_s = 12 * DAY_S;
        (0..10).for_each(|_| watched.note("h", place("new", "720p"), now_s));
        assert_eq!(titles(&watched, 5.0, now_s), ["new", "old"], "four half-lives: 6.25 are left");
        assert_eq!(titles(&watched, 7.0, now_s), ["new"], "sound does not count twice");
        assert_eq!(titles(&watched, 5.0, now_s + 3 * DAY_S), ["new"]);
        assert_eq!(watched.most(0.0, 1, now_s).len(), 1);
    }

    #[test]
    fn renditions_that_nobody_stays_with_are_left_out() {
        let mut watched = Watched::default();
        for (rendition, times) in
            [("360p", 3), ("1080p", 40), ("720p", 20), ("audio-2", 9), ("audio-1", 1), ("text-3", 1)]
        {
            (0..times).for_each(|_| watched.note("h", place("a", rendition), 0));
        }
        assert_eq!(watched.most(0.0, 1, 0)[0].1.renditions(), ["1080p", "720p", "audio-2", "text-3"]);
    }

    #[test]
    fn a_restart_knows_it_and_adds_what_came_meanwhile() {
        let mut before = Watched::default();
        (0..8).for_each(|_| before.note("one:8080", place("a", "720p"), 0));
        let saved = before.take_changes();
        assert!(before.take_changes().is_empty(), "saved once");
        let text = serde_json::to_string(&saved).unwrap();
        let saved: Vec<(String, Entry)> = serde_json::from_str(&text).unwrap();
        let mut after = Watched::default();
        after.note("two", place("a", "720p"), 3 * DAY_S);
        after.recall(saved, 3 * DAY_S);
        assert_eq!(titles(&after, 5.0, 3 * DAY_S), ["a"], "half of eight, and one");
        assert!(titles(&after, 5.1, 3 * DAY_S).is_empty());
        assert_eq!(after.most(0.0, 1, 3 * DAY_S)[0].1.host, "two");
        assert_eq!(after.take_changes().len(), 1);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(8))]

        #[test]
        fn the_table_is_bounded(noted in prop::collection::vec((0_u16..3000, 0_u8..40), 0..4000)) {
            let mut watched = Watched::default();
            for (at, (title, rendition)) in noted.into_iter().enumerate() {
                watched.note("h", place(&title.to_string(), &format!("{rendition}p")), at as i64);
            }
            prop_assert!(watched.titles.len() <= TITLES_MAX);
            prop_assert!(watched.titles.values().all(|entry| entry.scores.len() <= RENDITIONS_MAX));
        }

        #[test]
        fn any_path_can_be_read(path in "\\PC{0,60}") {
            Place::read(&path);
        }
    }
}
