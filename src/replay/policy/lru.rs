//! Least recently used: a list through two vectors, indexed by object.

use super::Policy;

const NONE: u32 = u32::MAX;

#[derive(Debug)]
pub(in crate::replay) struct Lru<'a> {
    weights: &'a [u64],
    capacity: u64,
    bytes: u64,
    newer: Vec<u32>,
    older: Vec<u32>,
    held: Vec<bool>,
    newest: u32,
    oldest: u32,
}

impl<'a> Lru<'a> {
    pub(in crate::replay) fn new(weights: &'a [u64], capacity: u64) -> Self {
        let none = vec![NONE; weights.len()];
        let held = vec![false; weights.len()];
        Self { weights, capacity, bytes: 0, newer: none.clone(), older: none, held, newest: NONE, oldest: NONE }
    }

    fn unlink(&mut self, object: u32) {
        let (newer, older) = (self.newer[object as usize], self.older[object as usize]);
        match newer {
            NONE => self.newest = older,
            newer => self.older[newer as usize] = older,
        }
        match older {
            NONE => self.oldest = newer,
            older => self.newer[older as usize] = newer,
        }
    }

    fn link_newest(&mut self, object: u32) {
        self.newer[object as usize] = NONE;
        self.older[object as usize] = self.newest;
        match self.newest {
            NONE => self.oldest = object,
            newest => self.newer[newest as usize] = object,
        }
        self.newest = object;
    }
}

impl Policy for Lru<'_> {
    fn visit(&mut self, _: usize, object: u32) -> bool {
        let held = self.held[object as usize];
        if held {
            self.unlink(object);
            self.link_newest(object);
        }
        held
    }

    fn insert(&mut self, _: usize, object: u32, weight: u64) {
        while self.bytes + weight > self.capacity && self.oldest != NONE {
            let gone = self.oldest;
            self.unlink(gone);
            self.held[gone as usize] = false;
            self.bytes -= self.weights[gone as usize];
        }
        self.bytes += weight;
        self.held[object as usize] = true;
        self.link_newest(object);
    }
}
