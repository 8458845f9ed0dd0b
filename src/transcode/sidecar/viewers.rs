//! Who seems to be watching, told from what is asked for: the edge knows nothing of players, and sends what it has not got. Pure.
//!
//! A *head* is a place in a rendition from which somebody reads on. What follows a head is sequential and moves it; anything else
//! is a jump, and a new head. What a head is likely to want next is planned from how long it has been reading.
//!
//! Invariants: so many renditions, and heads in each, are remembered, never more; nothing is planned for one that asked once.

use super::schedule::Priority;
use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::ops::Range;
use std::time::{Duration, Instant};

/// A head that asked for nothing so long is gone.
const GONE_AFTER: Duration = Duration::from_secs(60);
const RENDITIONS_MAX: usize = 512;
const HEADS_MAX: usize = 4;
/// Segments remembered of a rendition: an hour and more.
const ASKED_MAX: usize = 1024;
/// What lies between two segments asked for may have come from the cache.
const SKIP_MAX: u64 = 4;
/// Segments in a row from which a title counts as being watched: a minute.
const WATCHED_STREAK: u64 = 15;

/// Segments kept ready in front of a head.
const PREFETCH_WINDOW: u64 = 4;
/// And where a title is popular: a minute and a half.
const BACKGROUND_WINDOW: u64 = 24;

#[derive(Debug, Clone, Copy)]
struct Head {
    segment: u64,
    streak: u64,
    seen: Instant,
}

/// What is known of who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    pub priority: Priority,
    /// Segments asked for in a row, this one too.
    pub streak: u64,
    /// Heads in this rendition.
    pub viewers: usize,
}

/// What to make before it is asked for: segments from `after` on, at most `window` of them, `batch` at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    pub priority: Priority,
    pub window: u64,
    pub batch: u64,
}

/// Who reads on from where, in renditions that `K` names.
#[derive(Debug)]
pub struct Viewers<K> {
    renditions: HashMap<K, Rendition>,
}

#[derive(Debug, Default)]
struct Rendition {
    heads: Vec<Head>,
    /// Segments asked for: who asked keeps them.
    asked: HashSet<u64>,
}

impl<K: Hash + Eq + Clone> Viewers<K> {
    pub fn new() -> Self {
        Self { renditions: HashMap::new() }
    }

    /// Somebody asked for a segment.
    pub fn asked(&mut self, rendition: &K, segment: u64, now: Instant) -> Seen {
        if !self.renditions.contains_key(rendition) && self.renditions.len() >= RENDITIONS_MAX {
            self.forget(now);
        }
        let Rendition { heads, asked } = self.renditions.entry(rendition.clone()).or_default();
        heads.retain(|head| now.duration_since(head.seen) < GONE_AFTER);
        if heads.is_empty() || asked.len() >= ASKED_MAX {
            asked.clear();
        }
        asked.insert(segment);
        let follows = |head: &&mut Head| (head.segment..=head.segment + SKIP_MAX).contains(&segment);
        // The nearest one behind, so that of two viewers each moves their own.
        let head = heads.iter_mut().filter(follows).max_by_key(|head| head.segment);
        let streak = match head {
            Some(head) => {
                head.streak += u64::from(segment > head.segment);
                (head.segment, head.seen) = (segment, now);
                head.streak
            }
            None => {
                if heads.len() >= HEADS_MAX {
                    let oldest = heads.iter().enumerate().min_by_key(|(_, head)| head.seen).map(|(at, _)| at);
                    oldest.map(|at| heads.swap_remove(at));
                }
                heads.push(Head { segment, streak: 1, seen: now });
                1
            }
        };
        let priority = match (segment, streak) {
            (0, _) => Priority::First,
            (_, 1) => Priority::Seek,
            _ => Priority::Sequential,
        };
        Seen { priority, streak, viewers: heads.len() }
    }

    /// Whether somebody has asked for a segment lately: it need not be made ahead.
    pub fn have_asked(&self, rendition: &K, segment: u64) -> bool {
        self.renditions.get(rendition).is_some_and(|rendition| rendition.asked.contains(&segment))
    }

    fn forget(&mut self, now: Instant) {
        self.renditions
            .retain(|_, Rendition { heads, .. }| heads.iter().any(|head| now.duration_since(head.seen) < GONE_AFTER));
        let seen = |heads: &[Head]| heads.iter().map(|head| head.seen).max();
        if self.renditions.len() >= RENDITIONS_MAX {
            let oldest = self
                .renditions
                .iter()
                .min_by_key(|(_, rendition)| seen(&rendition.heads))
                .map(|(rendition, _)| rendition.clone());
            oldest.map(|rendition| self.renditions.remove(&rendition));
        }
    }
}

/// What to make for one who was seen, of pictures of so many pixels.
pub fn plan(seen: Seen, pixels: u64) -> Option<Plan> {
    if seen.streak < 2 {
        return None;
    }
    // A batch has an encoder for each segment, and each has its own memory.
    let batch_max = match pixels {
        0..=921_600 => 8,
        921_601..=2_100_000 => 4,
        _ => 2,
    };
    let popular = seen.viewers > 1 || seen.streak >= WATCHED_STREAK;
    Some(match popular {
        true => Plan { priority: Priority::Background, window: BACKGROUND_WINDOW, batch: batch_max },
        false => Plan { priority: Priority::Prefetch, window: PREFETCH_WINDOW, batch: batch_max.min(PREFETCH_WINDOW) },
    })
}

impl Plan {
    /// The next batch after `segment`, of segments of which none `is_there`; None where enough is there, or under way.
    pub fn next_batch(&self, segment: u64, segments: u64, is_there: impl Fn(u64) -> bool) -> Option<Range<u64>> {
        let end = segments.min(segment.saturating_add(1 + self.window));
        let first = (segment + 1..end).find(|ahead| !is_there(*ahead))?;
        // Half a window is enough for now: batches should be whole.
        if first - segment > self.window / 2 + 1 {
            return None;
        }
        let last = (first..segments.min(first + self.batch)).take_while(|ahead| !is_there(*ahead)).last()?;
        Some(first..last + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Priority::*;
    use proptest::prelude::*;

    #[test]
    fn a_start_a_run_a_jump_and_a_run_again() {
        let mut viewers = Viewers::new();
        let now = Instant::now();
        let mut asked = |segment| {
            let seen = viewers.asked(&"360p", segment, now);
            (seen.priority, seen.streak)
        };
        assert_eq!([asked(0), asked(1), asked(2)], [(First, 1), (Sequential, 2), (Sequential, 3)]);
        assert_eq!([asked(40), asked(41)], [(Seek, 1), (Sequential, 2)]);
        assert_eq!(asked(3), (Sequential, 4), "the first one goes on");
        assert_eq!(asked(41), (Sequential, 2), "asked for again: no step");
        assert!(viewers.have_asked(&"360p", 40) && !viewers.have_asked(&"360p", 42));
    }

    #[test]
    fn who_was_away_for_a_minute_begins_anew() {
        let mut viewers = Viewers::new();
        let now = Instant::now();
        viewers.asked(&1, 7, now);
        assert_eq!(viewers.asked(&1, 8, now + GONE_AFTER).priority, Seek);
        assert_eq!(viewers.asked(&2, 9, now + GONE_AFTER).priority, Seek, "another rendition");
    }

    #[test]
    fn batches_fill_the_window_and_wait_until_half_of_it_is_gone() {
        let seen = |streak, viewers| Seen { priority: Sequential, streak, viewers };
        assert_eq!(plan(seen(1, 1), 1), None);
        let prefetch = plan(seen(2, 1), 640 * 360).unwrap();
        assert_eq!(prefetch, Plan { priority: Prefetch, window: 4, batch: 4 });
        assert_eq!(prefetch.next_batch(1, 100, |_| false), Some(2..6));
        assert_eq!(prefetch.next_batch(2, 100, |n| n < 6), None);
        assert_eq!(prefetch.next_batch(3, 100, |n| n < 6), Some(6..10));
        assert_eq!(prefetch.next_batch(1, 4, |_| false), Some(2..4), "the end of the film");
        assert_eq!(prefetch.next_batch(3, 4, |_| false), None);
        assert_eq!(prefetch.next_batch(1, 100, |n| n == 3), Some(2..3), "no segment twice");
        assert_eq!(plan(seen(15, 1), 640 * 360).unwrap().priority, Background);
        assert_eq!(plan(seen(2, 2), 3840 * 2160).unwrap().batch, 2);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn never_more_is_remembered_than_allowed(asked in prop::collection::vec((0_u16..2000, 0_u64..10_000), 0..1500)) {
            let mut viewers = Viewers::new();
            let now = Instant::now();
            for (rendition, segment) in asked {
                let seen = viewers.asked(&rendition, segment, now);
                prop_assert!(seen.viewers <= HEADS_MAX && seen.streak >= 1);
            }
            prop_assert!(viewers.renditions.len() <= RENDITIONS_MAX);
        }
    }
}
