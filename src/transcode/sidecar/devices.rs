//! What encodes: how much it takes at once, and whether it is worth asking. Pure.
//!
//! - [`Devices`]: software first, then what there is beside it; of devices that can do the same, the one with the least to do.
//! - *Slots* are learned: a device that says that it is full has one less than were running, and gets one back now and then.
//! - A *breaker* opens when runs for several titles fail in a row for the device's or the machine's sake: requests are refused at
//!   once, until after a pause one run is let through to try. What fails for a film's sake is not told here.
//!
//! Invariants: never no slot at all; one title opens nothing; a breaker that is open lets one run through after each pause.

use super::encoders::Encoder;
use super::nodes::Node;
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

/// Titles that failed one after another, before the device is to blame.
const TITLES_MAX: usize = 4;
const PAUSE_MIN: Duration = Duration::from_secs(2);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// After this long without being full, a device is tried with one more.
const RELIEF: Duration = Duration::from_secs(300);

/// A title that failed on a device is made by software for so long.
const AVOIDED: Duration = Duration::from_secs(300);
const AVOIDED_MAX: usize = 256;

/// One device; software is one too.
#[derive(Debug)]
pub struct Device {
    pub name: String,
    /// None: software.
    pub node: Option<Node>,
    /// What was found to work on it; of software nobody asks.
    works: HashSet<&'static str>,
    /// Titles that failed here, and until when they are not tried again.
    avoided: HashMap<String, Instant>,
    slots_max: usize,
    slots: usize,
    /// When it was full the last time, or got a slot back.
    full: Option<Instant>,
    failed: HashSet<String>,
    breaker: Breaker,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Breaker {
    Closed,
    Open {
        until: Instant,
        pause: Duration,
    },
    /// One run is on its way to see.
    Trying {
        pause: Duration,
    },
}

impl Device {
    fn new(name: &str, node: Option<Node>, slots: usize) -> Self {
        Self {
            name: name.to_owned(),
            node,
            works: HashSet::new(),
            avoided: HashMap::new(),
            slots_max: slots,
            slots,
            full: None,
            failed: HashSet::new(),
            breaker: Breaker::Closed,
        }
    }

    pub fn is_software(&self) -> bool {
        self.node.is_none()
    }

    /// Whether [`Self::admits`] would let somebody through.
    fn would_admit(&self, now: Instant) -> bool {
        match self.breaker {
            Breaker::Closed => true,
            Breaker::Open { until, .. } => now >= until,
            Breaker::Trying { .. } => false,
        }
    }

    /// A title failed here, and is left to software for a while.
    pub fn avoid(&mut self, title: &str, now: Instant) {
        if self.avoided.len() >= AVOIDED_MAX {
            self.avoided.retain(|_, until| *until > now);
        }
        if self.avoided.len() < AVOIDED_MAX {
            self.avoided.insert(title.to_owned(), now + AVOIDED);
        }
    }

    fn avoids(&self, title: &str, now: Instant) -> bool {
        self.avoided.get(title).is_some_and(|until| *until > now)
    }

    /// How many may run at once.
    pub fn slots(&mut self, now: Instant) -> usize {
        if let Some(full) = self.full.filter(|full| now.duration_since(*full) >= RELIEF) {
            self.slots = (self.slots + 1).min(self.slots_max);
            self.full = (self.slots < self.slots_max).then_some(full.max(now));
        }
        self.slots
    }

    /// Whether it may be asked for more. Where it was open long enough, who asks is let through to try.
    pub fn admits(&mut self, now: Instant) -> bool {
        match self.breaker {
            Breaker::Closed => true,
            Breaker::Open { until, pause } if now >= until => {
                self.breaker = Breaker::Trying { pause };
                true
            }
            Breaker::Open { .. } | Breaker::Trying { .. } => false,
        }
    }

    pub fn succeeded(&mut self) {
        self.failed.clear();
        self.breaker = Breaker::Closed;
    }

    /// It said that it is full, with so many running.
    pub fn was_full(&mut self, running: usize, now: Instant) {
        self.slots = running.saturating_sub(1).clamp(1, self.slots);
        self.full = Some(now);
    }

    /// A run failed for good, and not for its film's sake; true where that opened the breaker.
    pub fn failed(&mut self, title: &str, now: Instant) -> bool {
        if self.failed.len() < TITLES_MAX {
            self.failed.insert(title.to_owned());
        }
        let pause = match self.breaker {
            Breaker::Closed if self.failed.len() < TITLES_MAX => return false,
            Breaker::Closed => PAUSE_MIN,
            Breaker::Trying { pause } => (pause * 2).min(PAUSE_MAX),
            Breaker::Open { .. } => return false,
        };
        self.breaker = Breaker::Open { until: now + pause, pause };
        true
    }

    /// A run that was let through to try cannot tell: it was given up, or failed for its film's sake.
    pub fn gave_up(&mut self, now: Instant) {
        if let Breaker::Trying { pause } = self.breaker {
            self.breaker = Breaker::Open { until: now + pause, pause };
        }
    }
}

/// All there are.
#[derive(Debug)]
pub struct Devices(Vec<Device>);

impl Devices {
    /// Where software is.
    pub const SOFTWARE: usize = 0;

    pub fn new(software_slots: usize, nodes: Vec<Node>) -> Self {
        let nodes = nodes.into_iter().map(|node| Device::new(&node.name.clone(), Some(node.clone()), node.slots));
        Self(std::iter::once(Device::new("cpu", None, software_slots)).chain(nodes).collect())
    }

    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// `which` < [`Self::count`].
    pub fn at(&mut self, which: usize) -> &mut Device {
        &mut self.0[which]
    }

    pub fn name_of(&self, which: usize) -> &str {
        &self.0[which].name
    }

    /// So many may run at once in all.
    pub fn slots(&mut self, now: Instant) -> usize {
        self.0.iter_mut().map(|device| device.slots(now)).sum()
    }

    /// By name, as a survey found it.
    pub fn found(&mut self, name: &str, encoder: &'static str, works: bool) {
        for device in self.0.iter_mut().filter(|device| device.name == name) {
            if works {
                device.works.insert(encoder)
            } else {
                device.works.remove(encoder)
            };
        }
    }

    /// By its name; 0: there is none of that name.
    pub fn slots_of(&self, name: &str) -> usize {
        self.0.iter().find(|device| device.name == name).map_or(0, |device| device.slots)
    }

    /// Where a title is to be encoded: on the least loaded device on which that encoder works, else in software. `taken`: what runs
    /// on each.
    pub fn best(&self, encoder: &Encoder, title: &str, taken: impl Fn(usize) -> usize, now: Instant) -> usize {
        let fit = |(_, device): &(usize, &Device)| {
            device.works.contains(encoder.name) && device.would_admit(now) && !device.avoids(title, now)
        };
        let load = |(which, device): &(usize, &Device)| (taken(*which) * 1000 / device.slots.max(1), *which);
        self.0.iter().enumerate().filter(fit).min_by_key(load).map_or(Self::SOFTWARE, |(which, _)| which)
    }
}

#[cfg(test)]
mod tests {
    use super::super::encoders::named;
    use super::super::nodes::Kind;
    use super::*;

    #[test]
    fn the_least_loaded_device_that_can_takes_it_and_software_what_none_can() {
        let node = |name: &str| Node { kind: Kind::Nvidia, name: name.into(), path: "/".into(), number: 0, slots: 4 };
        let mut devices = Devices::new(2, vec![node("nvidia0"), node("nvidia1")]);
        let (now, nvenc) = (Instant::now(), named("h264_nvenc").unwrap());
        let best = |devices: &Devices, taken: [usize; 3]| devices.best(nvenc, "film", |which| taken[which], now);
        assert_eq!(best(&devices, [0, 0, 0]), Devices::SOFTWARE, "nobody has looked");
        devices.found("nvidia0", "h264_nvenc", true);
        devices.found("nvidia1", "h264_nvenc", true);
        devices.found("nvidia1", "av1_nvenc", true);
        assert_eq!([best(&devices, [9, 0, 0]), best(&devices, [0, 3, 2]), best(&devices, [0, 3, 3])], [1, 2, 1]);
        devices.at(1).avoid("film", now);
        assert_eq!(best(&devices, [0, 0, 4]), 2, "this title failed on the first");
        assert_eq!(devices.best(nvenc, "film", |_| 0, now + AVOIDED), 1, "a while ago");
        for title in ["a", "b", "c", "d"] {
            devices.at(2).failed(title, now);
        }
        assert_eq!(best(&devices, [0, 0, 0]), Devices::SOFTWARE, "the other one fails for everybody");
        assert_eq!(devices.best(named("av1_nvenc").unwrap(), "film", |_| 0, now + PAUSE_MAX), 2);
        devices.found("nvidia1", "av1_nvenc", false);
        assert_eq!(devices.best(named("av1_nvenc").unwrap(), "film", |_| 0, now + PAUSE_MAX), Devices::SOFTWARE);
        assert_eq!((devices.slots(now), devices.slots_of("nvidia1"), devices.name_of(2)), (10, 4, "nvidia1"));
    }

    #[test]
    fn a_full_device_gets_its_slots_back_one_by_one() {
        let mut device = Device::new("gpu", None, 8);
        let now = Instant::now();
        device.was_full(4, now);
        assert_eq!(device.slots(now), 3);
        device.was_full(1, now);
        assert_eq!(device.slots(now), 1, "never none");
        assert_eq!(device.slots(now + RELIEF), 2);
        assert_eq!(device.slots(now + RELIEF), 2, "and then a pause");
        let mut later = now + RELIEF;
        for _ in 0..10 {
            later += RELIEF;
            device.slots(later);
        }
        assert_eq!(device.slots(later), 8, "not more than it was given");
    }

    #[test]
    fn one_broken_film_opens_nothing_and_several_do_until_one_run_succeeds() {
        let mut device = Device::new("cpu", None, 2);
        let now = Instant::now();
        for _ in 0..100 {
            assert!(!device.failed("broken", now));
        }
        assert!(device.admits(now));
        assert!(!device.failed("b", now) && !device.failed("c", now));
        device.succeeded();
        assert!(!device.failed("b", now) && !device.failed("c", now) && !device.failed("d", now), "in a row");
        assert!(device.failed("e", now) && !device.admits(now));
        let later = now + PAUSE_MIN;
        assert!(device.admits(later) && !device.admits(later), "one goes to see");
        assert!(device.failed("f", later) && !device.admits(later + PAUSE_MIN), "and longer");
        let later = later + 2 * PAUSE_MIN;
        assert!(device.admits(later));
        device.gave_up(later);
        assert!(!device.admits(later), "nobody knows");
        let later = later + 2 * PAUSE_MIN;
        assert!(device.admits(later));
        device.succeeded();
        assert!(device.admits(later) && device.admits(later));
    }
}
