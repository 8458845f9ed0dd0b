//! S3-FIFO as published: Algorithm 1 of Yang, Zhang, Qiu, Yue, Rashmi: "FIFO queues are all you need for cache eviction",
//! SOSP '23. The paper counts objects; here the queues are weighed in bytes (*small* a tenth of the cache, *main* the rest) and
//! the ghosts stand for as many bytes as *main* may hold. Ours (`cache::eviction`) differs in how ghosts are bounded and in
//! that *main* may take what *small* leaves free; both are shown so that the difference is.

use std::collections::VecDeque;

use super::Policy;

const VISITS_MAX: u8 = 3;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Nowhere,
    Small,
    Main,
    /// The number of the stay: an entry in the ghosts' queue with another one is left over from an earlier stay.
    Ghost(u32),
}

#[derive(Debug)]
pub(in crate::replay) struct S3Fifo<'a> {
    weights: &'a [u64],
    capacity: u64,
    places: Vec<Place>,
    visits: Vec<u8>,
    small: VecDeque<u32>,
    main: VecDeque<u32>,
    ghosts: VecDeque<(u32, u32)>,
    small_bytes: u64,
    main_bytes: u64,
    ghost_bytes: u64,
    /// Ghosts that are no leftovers.
    ghost_count: usize,
    stay: u32,
}

impl<'a> S3Fifo<'a> {
    pub(in crate::replay) fn new(weights: &'a [u64], capacity: u64) -> Self {
        Self {
            weights,
            capacity,
            places: vec![Place::Nowhere; weights.len()],
            visits: vec![0; weights.len()],
            small: VecDeque::new(),
            main: VecDeque::new(),
            ghosts: VecDeque::new(),
            small_bytes: 0,
            main_bytes: 0,
            ghost_bytes: 0,
            ghost_count: 0,
            stay: 0,
        }
    }

    fn small_share(&self) -> u64 {
        self.capacity / 10
    }

    fn main_share(&self) -> u64 {
        self.capacity - self.small_share()
    }

    fn evict(&mut self) {
        if self.small_bytes > 0 && (self.small_bytes >= self.small_share() || self.main_bytes == 0) {
            self.evict_small();
        } else {
            self.evict_main();
        }
    }

    fn evict_small(&mut self) {
        while let Some(object) = self.small.pop_front() {
            let weight = self.weights[object as usize];
            self.small_bytes -= weight;
            if self.visits[object as usize] <= 1 {
                self.remember(object);
                return;
            }
            while self.main_bytes + weight > self.main_share() && self.main_bytes > 0 {
                self.evict_main();
            }
            self.enter_main(object);
        }
    }

    fn evict_main(&mut self) {
        while let Some(object) = self.main.pop_front() {
            if self.visits[object as usize] == 0 {
                self.main_bytes -= self.weights[object as usize];
                self.places[object as usize] = Place::Nowhere;
                return;
            }
            self.visits[object as usize] -= 1;
            self.main.push_back(object);
        }
    }

    fn enter_main(&mut self, object: u32) {
        self.visits[object as usize] = 0;
        self.places[object as usize] = Place::Main;
        self.main_bytes += self.weights[object as usize];
        self.main.push_back(object);
    }

    fn remember(&mut self, object: u32) {
        self.stay = self.stay.wrapping_add(1);
        self.places[object as usize] = Place::Ghost(self.stay);
        self.ghosts.push_back((object, self.stay));
        self.ghost_bytes += self.weights[object as usize];
        self.ghost_count += 1;
        while self.ghost_bytes > self.main_share() {
            let Some((oldest, stay)) = self.ghosts.pop_front() else { break };
            if self.places[oldest as usize] == Place::Ghost(stay) {
                self.places[oldest as usize] = Place::Nowhere;
                self.forget_ghost(oldest);
            }
        }
        if self.ghosts.len() > 2 * self.ghost_count + 1024 {
            let places = &self.places;
            self.ghosts.retain(|(object, stay)| places[*object as usize] == Place::Ghost(*stay));
        }
    }

    fn forget_ghost(&mut self, object: u32) {
        self.ghost_bytes -= self.weights[object as usize];
        self.ghost_count -= 1;
    }
}

impl Policy for S3Fifo<'_> {
    fn visit(&mut self, _: usize, object: u32) -> bool {
        let held = matches!(self.places[object as usize], Place::Small | Place::Main);
        if held {
            let visits = &mut self.visits[object as usize];
            *visits = (*visits + 1).min(VISITS_MAX);
        }
        held
    }

    fn insert(&mut self, _: usize, object: u32, weight: u64) {
        while self.small_bytes + self.main_bytes + weight > self.capacity {
            self.evict();
        }
        if let Place::Ghost(_) = self.places[object as usize] {
            self.forget_ghost(object);
            self.enter_main(object);
        } else {
            self.visits[object as usize] = 0;
            self.places[object as usize] = Place::Small;
            self.small_bytes += weight;
            self.small.push_back(object);
        }
    }
}
