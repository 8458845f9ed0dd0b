//! New inputs out of known ones, the same ones in each run: bytes changed, cut off, left out, doubled, put in, and two inputs joined,
//! mostly where the format has its seams.

use std::ops::Range;
use std::path::Path;

/// Longer inputs say nothing new.
const BYTES_MAX: usize = 8192;

/// How often: what the test asks for, or `REELGATE_FUZZ_RUNS`.
pub fn runs(usual: u32) -> u32 {
    std::env::var("REELGATE_FUZZ_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(usual)
}

/// The files of a folder beside this one, by name.
pub fn corpus(folder: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(folder);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.expect("a readable folder").path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} has no inputs", folder.display());
    files.iter().map(|file| std::fs::read(file).expect("a readable file")).collect()
}

/// What a format has to say about itself.
#[derive(Clone, Copy)]
pub struct Format {
    /// Where an input has its seams: sorted, within it.
    pub seams: fn(&[u8]) -> Vec<usize>,
    /// What is worth putting in there.
    pub pieces: &'static [&'static [u8]],
    /// A change only this format knows.
    pub change: fn(&mut fastrand::Rng, &mut Vec<u8>),
}

/// See the module.
pub struct Mutator {
    pub random: fastrand::Rng,
    format: Format,
}

impl Mutator {
    pub fn new(format: Format) -> Self {
        Self { random: fastrand::Rng::with_seed(0x5eed), format }
    }

    /// One of `pool`, changed a few times.
    pub fn one_of(&mut self, pool: &[Vec<u8>]) -> Vec<u8> {
        let mut input = self.pick(pool).clone();
        for _ in 0..self.random.usize(1..5) {
            match self.random.u8(0..9) {
                0 => input.truncate(self.place(&input)),
                1 => drop(input.drain(self.range(&input))),
                2 => {
                    let part = input[self.range(&input)].to_vec();
                    self.put_in(&mut input, &part);
                }
                3 => {
                    let piece = self.format.pieces[self.random.usize(..self.format.pieces.len())];
                    self.put_in(&mut input, piece);
                }
                4 => {
                    let other = self.pick(pool).clone();
                    let (keep, from) = (self.place(&input), self.place(&other));
                    input.truncate(keep);
                    input.extend_from_slice(&other[from..]);
                }
                5 if !input.is_empty() => {
                    let at = self.random.usize(..input.len());
                    input[at] ^= 1 << self.random.u8(..8);
                }
                6 if !input.is_empty() => {
                    let at = self.random.usize(..input.len());
                    input[at] = self.random.u8(..);
                }
                _ => (self.format.change)(&mut self.random, &mut input),
            }
        }
        input.truncate(BYTES_MAX);
        input
    }

    fn pick<'a>(&mut self, pool: &'a [Vec<u8>]) -> &'a Vec<u8> {
        &pool[self.random.usize(..pool.len())]
    }

    fn put_in(&mut self, input: &mut Vec<u8>, piece: &[u8]) {
        let at = self.place(input);
        drop(input.splice(at..at, piece.iter().copied()));
    }

    /// A seam, or any place.
    fn place(&mut self, input: &[u8]) -> usize {
        let seams = (self.format.seams)(input);
        if seams.is_empty() || self.random.u8(..4) == 0 {
            self.random.usize(..=input.len())
        } else {
            seams[self.random.usize(..seams.len())]
        }
    }

    fn range(&mut self, input: &[u8]) -> Range<usize> {
        let (one, other) = (self.place(input), self.place(input));
        one.min(other)..one.max(other)
    }
}
