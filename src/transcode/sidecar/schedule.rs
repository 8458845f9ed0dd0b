//! Which waiting run starts next: pure.
//!
//! Invariants: the more urgent goes first, the older among equals; whoever waits becomes more urgent by a class every
//! [`RISE_EVERY`], so that nothing waits for ever; where there are two slots or more, one takes only what somebody sits and
//! waits for.

use std::time::Duration;

/// How long a waiting run stays in its class before it counts as one of the next.
const RISE_EVERY: Duration = Duration::from_secs(5);

/// Most urgent first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Somebody jumped: the picture stands still.
    Seek,
    /// Somebody starts.
    First,
    /// The next segment of somebody who plays and has some in store.
    Sequential,
    /// What that one will ask for soon.
    Prefetch,
    /// What a popular title still lacks.
    Background,
}

impl Priority {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Seek => "seek",
            Self::First => "first",
            Self::Sequential => "sequential",
            Self::Prefetch => "prefetch",
            Self::Background => "background",
        }
    }

    /// What a run's process is to be nice by (`setpriority(2)`): where cores are short, those have them whose segments somebody waits
    /// for.
    pub fn niceness(self) -> i32 {
        match self {
            Self::Seek | Self::First | Self::Sequential => 0,
            Self::Prefetch => 5,
            Self::Background => 15,
        }
    }

    /// A person waits in front of a picture that does not move.
    pub fn is_interactive(self) -> bool {
        matches!(self, Self::Seek | Self::First)
    }
}

/// Slots, and what is in them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slots {
    pub all: usize,
    pub taken: usize,
    /// Of these by what is not interactive.
    pub taken_by_others: usize,
}

impl Slots {
    /// Whether a run of this class may start.
    pub fn have_room_for(self, priority: Priority) -> bool {
        let for_others = if self.all > 1 { self.all - 1 } else { self.all };
        self.taken < self.all && (priority.is_interactive() || self.taken_by_others < for_others)
    }
}

/// The index of the run that starts next, if one may: of each its class and how long it has waited.
pub fn next(waiting: impl Iterator<Item = (Priority, Duration)>, slots: Slots) -> Option<usize> {
    let rank = |priority: Priority, waited: Duration| {
        f64::from(priority as u8) - (waited.as_secs() / RISE_EVERY.as_secs()) as f64
    };
    let startable = waiting.enumerate().filter(|(_, (priority, _))| slots.have_room_for(*priority));
    let ranked = startable.map(|(index, (priority, waited))| (index, rank(priority, waited), waited));
    ranked.min_by(|a, b| a.1.total_cmp(&b.1).then(b.2.cmp(&a.2))).map(|(index, ..)| index)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FREE: Slots = Slots { all: 2, taken: 0, taken_by_others: 0 };

    fn first(waiting: &[(Priority, u64)], slots: Slots) -> Option<usize> {
        next(waiting.iter().map(|(priority, waited_s)| (*priority, Duration::from_secs(*waited_s))), slots)
    }

    #[test]
    fn the_more_urgent_goes_first_then_the_older() {
        use Priority::*;
        assert_eq!(first(&[(Background, 0), (Prefetch, 0), (Sequential, 0), (First, 0), (Seek, 0)], FREE), Some(4));
        assert_eq!(first(&[(Sequential, 1), (Sequential, 3), (Sequential, 2)], FREE), Some(1));
        assert_eq!(first(&[], FREE), None);
    }

    #[test]
    fn nothing_starves_behind_an_endless_stream_of_seeks() {
        use Priority::*;
        assert_eq!(first(&[(Seek, 0), (Background, 19)], FREE), Some(0));
        assert_eq!(first(&[(Seek, 0), (Background, 20)], FREE), Some(1), "four classes up, and older");
    }

    #[test]
    fn one_slot_is_kept_for_interactive_work_however_long_others_wait() {
        use Priority::*;
        let one_left = Slots { all: 2, taken: 1, taken_by_others: 1 };
        assert_eq!(first(&[(Sequential, 600), (Prefetch, 600)], one_left), None);
        assert_eq!(first(&[(Sequential, 600), (First, 0)], one_left), Some(1));
        let by_a_seek = Slots { all: 2, taken: 1, taken_by_others: 0 };
        assert_eq!(first(&[(Sequential, 0)], by_a_seek), Some(0));
        assert_eq!(first(&[(Seek, 0)], Slots { all: 2, taken: 2, taken_by_others: 1 }), None);
        // One slot cannot be shared out.
        assert_eq!(first(&[(Background, 0)], Slots { all: 1, taken: 0, taken_by_others: 0 }), Some(0));
    }
}
