//! The bans in force and what they say of an object: pure, no lock, no clock.
//!
//! Only the latest hard and the latest soft ban of each selector is kept, so asking costs one look per tag, one for the key and
//! a walk over those prefixes that the URL has, however many bans there are. Where the table would outgrow its bounds the oldest
//! quarter becomes a ban of everything that old: more is fetched again, nothing purged comes back.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::time::SystemTime;

/// What bans say of an object, from mild to severe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    Clear,
    /// Softly purged then: to be revalidated.
    Stale(SystemTime),
    Gone,
}

/// What a ban reaches, in the table's terms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reach {
    All,
    Key(u128),
    Tag(u64),
    Prefix(Box<[u8]>),
}

/// The longest prefix that is kept; of a longer one only its beginning, which reaches more. Longer than any key.
pub(super) const PREFIX_BYTES_MAX: usize = 32 << 10;

/// A ban of one of its selector's parts, with its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) number: u64,
    pub(super) soft: bool,
    pub(super) at: SystemTime,
    pub(super) reach: Reach,
}

/// An object, as bans see it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subject<'a> {
    pub(super) key: u128,
    pub(super) url: &'a [u8],
    /// More follows on `url`, nobody knows what: every prefix that begins with it reaches it.
    pub(super) url_is_cut: bool,
    pub(super) tags: &'a [u64],
    /// It has tags that are not in `tags`: every tag's ban reaches it.
    pub(super) more_tags: bool,
    /// Hard bans with a greater number reach it.
    pub(super) hard_from: u64,
    /// Soft bans with a greater number reach it.
    pub(super) soft_from: u64,
}

/// The latest bans of one selector; 0: none.
#[derive(Debug, Clone, Copy)]
struct Marks {
    hard: u64,
    soft: u64,
    soft_at: SystemTime,
}

impl Default for Marks {
    fn default() -> Self {
        Self { hard: 0, soft: 0, soft_at: SystemTime::UNIX_EPOCH }
    }
}

impl Marks {
    fn latest(&self) -> u64 {
        self.hard.max(self.soft)
    }

    fn add(&mut self, other: Self) {
        self.hard = self.hard.max(other.hard);
        if other.soft > self.soft {
            (self.soft, self.soft_at) = (other.soft, other.soft_at);
        }
    }

    fn verdict(&self, subject: &Subject<'_>) -> Verdict {
        if self.hard > subject.hard_from {
            Verdict::Gone
        } else if self.soft > subject.soft_from {
            Verdict::Stale(self.soft_at)
        } else {
            Verdict::Clear
        }
    }
}

/// The bounds of a table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) bans_max: usize,
    /// Of the prefixes' text together.
    pub(super) prefix_bytes_max: usize,
}

#[derive(Debug)]
pub(super) struct Table {
    bounds: Bounds,
    keys: HashMap<u128, Marks, ahash::RandomState>,
    tags: HashMap<u64, Marks, ahash::RandomState>,
    prefixes: BTreeMap<Box<[u8]>, Marks>,
    prefix_bytes: usize,
    /// The latest ban of any tag, for objects whose tags are not all known.
    any_tag: Marks,
    all: Marks,
}

impl Table {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            keys: HashMap::default(),
            tags: HashMap::default(),
            prefixes: BTreeMap::new(),
            prefix_bytes: 0,
            any_tag: Marks::default(),
            all: Marks::default(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len() + self.tags.len() + self.prefixes.len() + usize::from(self.all.latest() > 0)
    }

    pub(super) fn has_prefixes(&self) -> bool {
        !self.prefixes.is_empty()
    }

    /// All that it takes to build it again, in any order.
    pub(super) fn records(&self) -> Vec<Record> {
        let mut records = Vec::new();
        let mut push = |reach: Reach, marks: &Marks| {
            if marks.hard > 0 {
                let (number, at) = (marks.hard, SystemTime::UNIX_EPOCH);
                records.push(Record { number, soft: false, at, reach: reach.clone() });
            }
            if marks.soft > 0 {
                records.push(Record { number: marks.soft, soft: true, at: marks.soft_at, reach });
            }
        };
        push(Reach::All, &self.all);
        self.keys.iter().for_each(|(key, marks)| push(Reach::Key(*key), marks));
        self.tags.iter().for_each(|(tag, marks)| push(Reach::Tag(*tag), marks));
        self.prefixes.iter().for_each(|(prefix, marks)| push(Reach::Prefix(prefix.clone()), marks));
        records
    }

    /// Adds ban number `number`, greater than all before or of a table that is being built again. True: the table was full and
    /// its oldest bans were widened.
    pub(super) fn add(&mut self, reach: Reach, number: u64, soft: bool, at: SystemTime) -> bool {
        let marks = if soft {
            Marks { hard: 0, soft: number, soft_at: at }
        } else {
            Marks { hard: number, ..Marks::default() }
        };
        match reach {
            Reach::All => self.all.add(marks),
            Reach::Key(key) => self.keys.entry(key).or_default().add(marks),
            Reach::Tag(tag) => {
                self.tags.entry(tag).or_default().add(marks);
                self.any_tag.add(marks);
            }
            Reach::Prefix(prefix) => {
                let bytes = prefix.len();
                self.prefixes
                    .entry(prefix)
                    .or_insert_with(|| {
                        self.prefix_bytes += bytes;
                        Marks::default()
                    })
                    .add(marks);
            }
        }
        let mut widened = false;
        while self.len() > self.bounds.bans_max || self.prefix_bytes > self.bounds.prefix_bytes_max {
            self.widen_oldest();
            widened = true;
        }
        widened
    }

    /// The severest of what the bans say.
    pub(super) fn verdict(&self, subject: &Subject<'_>) -> Verdict {
        let mut verdict = self.all.verdict(subject);
        if let Some(marks) = self.keys.get(&subject.key) {
            verdict = verdict.max(marks.verdict(subject));
        }
        if subject.more_tags {
            verdict = verdict.max(self.any_tag.verdict(subject));
        } else if !self.tags.is_empty() {
            for marks in subject.tags.iter().filter_map(|tag| self.tags.get(tag)) {
                verdict = verdict.max(marks.verdict(subject));
            }
        }
        verdict.max(self.verdict_on_url(subject))
    }

    /// What bans of prefixes say.
    pub(super) fn verdict_on_url(&self, subject: &Subject<'_>) -> Verdict {
        let mut verdict = Verdict::Clear;
        if subject.url_is_cut {
            let from = self.prefixes.range::<[u8], _>((Bound::Included(subject.url), Bound::Unbounded));
            let longer = from.take_while(|(prefix, _)| prefix.starts_with(subject.url));
            verdict = longer.map(|(_, marks)| marks.verdict(subject)).max().unwrap_or(verdict);
        }
        let mut within = subject.url;
        // The greatest key up to `within` is either its prefix, or shares its first `common` bytes with it; and then so does
        // every key in between, so that only prefixes of those bytes are left to find. `within` shrinks each time.
        while let Some((prefix, marks)) =
            self.prefixes.range::<[u8], _>((Bound::Unbounded, Bound::Included(within))).next_back()
        {
            let common = prefix.iter().zip(within).take_while(|(a, b)| a == b).count();
            if common < prefix.len() {
                within = &within[..common];
                continue;
            }
            verdict = verdict.max(marks.verdict(subject));
            let Some(shorter) = common.checked_sub(1) else { break };
            within = &within[..shorter];
        }
        verdict
    }

    /// Forgets the bans up to number `through` (of prefixes: `prefixes_through`), which reach no object any more.
    pub(super) fn prune(&mut self, through: u64, prefixes_through: u64) {
        let lives = |marks: &Marks| marks.latest() > through;
        self.keys.retain(|_, marks| lives(marks));
        self.tags.retain(|_, marks| lives(marks));
        self.retain_prefixes(|marks| marks.latest() > through.min(prefixes_through));
        if !lives(&self.all) {
            self.all = Marks::default();
        }
    }

    fn retain_prefixes(&mut self, mut keep: impl FnMut(&Marks) -> bool) {
        let bytes = &mut self.prefix_bytes;
        self.prefixes.retain(|prefix, marks| {
            let kept = keep(marks);
            if !kept {
                *bytes -= prefix.len();
            }
            kept
        });
    }

    fn widen_oldest(&mut self) {
        let marks = self.keys.values().chain(self.tags.values()).chain(self.prefixes.values());
        let mut latest: Vec<u64> = marks.map(Marks::latest).collect();
        // Called only when there is more than one.
        let quarter = latest.len() / 4;
        let (_, &mut through, _) = latest.select_nth_unstable(quarter);
        let mut all = self.all;
        let mut keep = |marks: &Marks| {
            let kept = marks.latest() > through;
            if !kept {
                all.add(*marks);
            }
            kept
        };
        self.keys.retain(|_, marks| keep(marks));
        self.tags.retain(|_, marks| keep(marks));
        self.retain_prefixes(keep);
        self.all = all;
    }
}
