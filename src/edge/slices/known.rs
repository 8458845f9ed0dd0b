//! What is remembered of objects that are not sliced, so that they are not asked for twice each time: for a while, and of so many.

use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

const KEYS_MAX: usize = 8192;
const REMEMBERED: Duration = Duration::from_secs(600);

/// What an earlier answer said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note {
    /// It does not answer ranges, or not in a way that parts could be kept.
    Ordinary,
    /// It does, but it is small: fetched whole.
    Small,
    /// It came whole, and was too large to keep so.
    Large,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Known(Mutex<Notes>);

#[derive(Debug, Default)]
struct Notes {
    notes: HashMap<u128, (Note, Instant), ahash::RandomState>,
    order: VecDeque<u128>,
}

impl Known {
    pub fn of(&self, key: u128) -> Option<Note> {
        let notes = self.0.lock();
        let (note, at) = notes.notes.get(&key)?;
        (at.elapsed() < REMEMBERED).then_some(*note)
    }

    pub fn note(&self, key: u128, note: Note) {
        let mut notes = self.0.lock();
        if notes.notes.insert(key, (note, Instant::now())).is_none() {
            notes.order.push_back(key);
        }
        if notes.order.len() > KEYS_MAX
            && let Some(oldest) = notes.order.pop_front()
        {
            notes.notes.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_forgotten_when_there_are_too_many() {
        let known = Known::default();
        for key in 0..=KEYS_MAX as u128 {
            known.note(key, Note::Small);
        }
        known.note(KEYS_MAX as u128, Note::Large);
        assert_eq!((known.of(0), known.of(1)), (None, Some(Note::Small)));
        assert_eq!(known.of(KEYS_MAX as u128), Some(Note::Large));
    }
}
