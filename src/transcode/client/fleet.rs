//! Which of several sidecars is asked. Pure.
//!
//! What one makes depends on its build: programs, and what they run on. All that is made of a title is made by one kind of programs: by any
//! of the sidecars that have them, each title by the same one as long as that is there, better by one whose whole build is the film's.
//! A film that nobody knows yet is looked into by the build *in force*: that of the first in the order of preference, the one on this
//! host being last. When a build has not been there for [`GRACE`], another one is in force; films whose programs nobody has by then are
//! looked into again. When the preferred build is back for [`STEADY`], it is in force again.
//!
//! Invariant: no film is given to a sidecar of other programs than its own.

use super::super::protocol::{moved, programs, sees_more};
use siphasher::sip::SipHasher13;
use std::hash::Hasher;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// A restart of a sidecar changes nothing.
const GRACE: Duration = Duration::from_secs(10);
/// One that comes and goes does not change everything each time.
const STEADY: Duration = Duration::from_secs(60);
/// The first pause for one that failed a request; each further one is twice as long.
const SHUN_MIN: Duration = Duration::from_secs(1);
const SHUN_MAX: Duration = Duration::from_secs(30);

/// All sidecars, and what is known of each; see the module.
#[derive(Debug)]
pub struct Fleet {
    /// The preferred first, the one on this host last.
    members: Vec<Member>,
    in_force: Option<Arc<str>>,
}

#[derive(Debug, Clone)]
struct Member {
    name: Arc<str>,
    local: bool,
    /// Whether it was ever looked at.
    looked: bool,
    /// What it said last.
    build: Option<Arc<str>>,
    /// It answers.
    up_since: Option<Instant>,
    /// When it did last.
    seen: Option<Instant>,
    /// Requests that failed in a row.
    failures: u32,
    shunned_until: Option<Instant>,
}

impl Member {
    fn is_up(&self, now: Instant) -> bool {
        self.up_since.is_some() && !self.is_shunned(now)
    }

    fn is_shunned(&self, now: Instant) -> bool {
        self.shunned_until.is_some_and(|until| now < until)
    }

    fn has(&self, build: &str) -> bool {
        self.build.as_deref() == Some(build)
    }

    fn can_make(&self, build: &str) -> bool {
        self.build.as_deref().is_some_and(|own| programs(own) == programs(build))
    }
}

/// Why nobody can be asked.
#[derive(Debug, PartialEq, Eq)]
pub enum Nobody {
    /// Not now.
    Away,
    /// Not any more: the film is to be looked into again.
    OtherBuild,
}

impl Fleet {
    /// The preferred first.
    pub fn new(members: impl Iterator<Item = (Arc<str>, bool)>) -> Self {
        let members = members.map(|(name, local)| Member {
            name,
            local,
            looked: false,
            build: None,
            up_since: None,
            seen: None,
            failures: 0,
            shunned_until: None,
        });
        Self { members: members.collect(), in_force: None }
    }

    /// A look at a member has found its build, or none.
    pub fn looked(&mut self, member: usize, build: Option<&str>, now: Instant) {
        let member = &mut self.members[member];
        member.looked = true;
        match build {
            Some(build) => {
                if !member.has(build) {
                    (member.build, member.up_since) = (Some(build.into()), None);
                }
                member.up_since.get_or_insert(now);
                if !member.is_shunned(now) {
                    member.seen = Some(now);
                }
            }
            None => member.up_since = None,
        }
        self.decide(now);
    }

    /// It did not answer a request.
    pub fn failed(&mut self, member: usize, now: Instant) {
        let member = &mut self.members[member];
        let pause = SHUN_MIN * 2_u32.pow(member.failures.min(5));
        member.failures = member.failures.saturating_add(1);
        member.shunned_until = Some(now + pause.min(SHUN_MAX));
        self.decide(now);
    }

    /// It is shunned no more.
    pub fn answered(&mut self, member: usize) {
        (self.members[member].failures, self.members[member].shunned_until) = (0, None);
    }

    /// The build that looks into films; None: nobody was there yet.
    pub fn in_force(&mut self, now: Instant) -> Option<Arc<str>> {
        self.decide(now);
        self.in_force.clone()
    }

    fn decide(&mut self, now: Instant) {
        let preferred = self.preferred(now);
        let Some(current) = &self.in_force else {
            self.in_force = preferred.and_then(|member| member.build.clone());
            return;
        };
        let Some(preferred) = preferred.filter(|member| !member.has(current)) else { return };
        let is_steady = preferred.up_since.is_some_and(|since| now.duration_since(since) >= STEADY);
        if is_steady || self.is_gone(now, |member| member.has(current)) {
            self.in_force = preferred.build.clone();
        }
    }

    /// None: nobody is there, or a better one may be in a moment.
    fn preferred(&self, now: Instant) -> Option<&Member> {
        self.members.iter().find(|member| !member.looked || member.is_up(now)).filter(|member| member.looked)
    }

    /// None of these is there, and none was a moment ago or may be in a moment.
    fn is_gone(&self, now: Instant, those: impl Fn(&Member) -> bool) -> bool {
        let may_be = |member: &Member| match member.seen {
            _ if !member.looked => true,
            Some(seen) => those(member) && (member.is_up(now) || now.duration_since(seen) < GRACE),
            None => false,
        };
        !self.members.iter().any(may_be)
    }

    /// Whom to ask for what is made by a build, in order; `key`: of the title.
    pub fn candidates(&self, build: &str, key: &[u8], now: Instant) -> Result<Vec<usize>, Nobody> {
        let can_make = |(_, member): &(usize, &Member)| member.can_make(build) && member.is_up(now);
        let mut candidates: Vec<_> = self.members.iter().enumerate().filter(can_make).collect();
        if candidates.is_empty() {
            let others = self.members.iter().any(|member| member.is_up(now));
            let is_gone = self.is_gone(now, |member| member.can_make(build));
            return Err(if others && is_gone { Nobody::OtherBuild } else { Nobody::Away });
        }
        let order = |member: &Member| (member.local, !member.has(build), std::cmp::Reverse(score(&member.name, key)));
        candidates.sort_by_key(|(_, member)| order(member));
        Ok(candidates.into_iter().map(|(index, _)| index).collect())
    }

    /// Whether a film of this build should be looked into again: nobody makes it any more, or, where nobody plays it, another build
    /// is in force.
    pub fn is_outdated(&mut self, build: &str, is_idle: bool, now: Instant) -> bool {
        let is_other = |in_force: &Arc<str>| sees_more(build, in_force) || *moved(build, in_force) != *build;
        let Some(in_force) = self.in_force(now).filter(is_other) else { return false };
        let makes = |member: &Member| member.has(&in_force) && member.is_up(now);
        let is_gone = self.is_gone(now, |member| member.can_make(build));
        (is_idle || is_gone) && self.members.iter().any(makes)
    }

    /// Whether it answers, and what it said that it is.
    pub fn standing(&self, member: usize, now: Instant) -> (bool, Option<Arc<str>>) {
        (self.members[member].is_up(now), self.members[member].build.clone())
    }
}

/// Rendezvous hashing: whoever comes or goes, only the titles that are theirs move.
fn score(name: &str, key: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new();
    hasher.write(name.as_bytes());
    hasher.write_u8(0xff);
    hasher.write(key);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn fleet() -> (Fleet, Instant) {
        let names = [("one", false), ("two", false), ("local", true)];
        (Fleet::new(names.into_iter().map(|(name, local)| (name.into(), local))), Instant::now())
    }

    fn is(fleet: &mut Fleet, now: Instant, builds: [Option<&str>; 3]) {
        builds.into_iter().enumerate().for_each(|(member, build)| fleet.looked(member, build, now));
    }

    #[test]
    fn at_the_start_the_preferred_ones_are_waited_for() {
        let (mut fleet, now) = fleet();
        fleet.looked(2, Some("b"), now);
        assert_eq!(fleet.in_force(now), None);
        assert_eq!(fleet.candidates("a", b"t", now), Err(Nobody::Away), "the one with it may be there in a moment");
        fleet.looked(0, None, now);
        assert_eq!(fleet.in_force(now), None);
        fleet.looked(1, Some("a"), now);
        assert_eq!(fleet.in_force(now).as_deref(), Some("a"));
    }

    #[test]
    fn titles_are_spread_and_stay_where_they_are_when_another_one_goes() {
        let (mut fleet, now) = fleet();
        is(&mut fleet, now, [Some("a"), Some("a"), Some("a")]);
        let first = |fleet: &Fleet| {
            let keys = (0..200_u32).map(u32::to_be_bytes);
            keys.map(|key| fleet.candidates("a", &key, now).unwrap()[0]).collect::<Vec<_>>()
        };
        let before = first(&fleet);
        let ones = before.iter().filter(|member| **member == 0).count();
        assert!((60..140).contains(&ones), "{ones}");
        assert!(before.iter().all(|member| *member != 2), "the one here is for when the others are away");
        fleet.looked(1, None, now);
        assert!(first(&fleet).iter().all(|member| *member == 0));
        fleet.looked(1, Some("a"), now);
        assert_eq!(first(&fleet), before);
        is(&mut fleet, now, [None, None, Some("a")]);
        assert_eq!(fleet.candidates("a", b"t", now), Ok(vec![2]));
    }

    #[test]
    fn another_build_takes_over_only_after_a_while_and_gives_back_only_when_that_is_steady() {
        let (mut fleet, mut now) = fleet();
        is(&mut fleet, now, [Some("a"), None, Some("b")]);
        assert_eq!(fleet.candidates("b", b"t", now), Ok(vec![2]), "what it had begun it goes on with");
        fleet.looked(0, None, now);
        assert_eq!((fleet.candidates("a", b"t", now), fleet.in_force(now).as_deref()), (Err(Nobody::Away), Some("a")));
        assert!(!fleet.is_outdated("a", true, now));
        now += GRACE;
        assert_eq!(fleet.candidates("a", b"t", now), Err(Nobody::OtherBuild));
        assert_eq!(fleet.in_force(now).as_deref(), Some("b"));
        assert!(fleet.is_outdated("a", false, now) && !fleet.is_outdated("b", true, now));

        now += SECOND;
        fleet.looked(0, Some("a"), now);
        assert_eq!(fleet.in_force(now).as_deref(), Some("b"));
        now += STEADY - SECOND;
        fleet.looked(0, None, now);
        fleet.looked(0, Some("a"), now);
        now += SECOND;
        assert_eq!(fleet.in_force(now).as_deref(), Some("b"), "it was away in between");
        now += STEADY;
        fleet.looked(0, Some("a"), now);
        fleet.looked(2, Some("b"), now);
        assert_eq!(fleet.in_force(now).as_deref(), Some("a"));
        assert!(fleet.is_outdated("b", true, now) && !fleet.is_outdated("b", false, now), "who plays is not disturbed");
    }

    #[test]
    fn the_same_programs_elsewhere_stand_in_at_once_and_are_in_force_after_a_while() {
        let (mut fleet, mut now) = fleet();
        is(&mut fleet, now, [Some("a + gpu"), Some("a + x"), Some("a + y")]);
        for key in 0..20_u8 {
            assert_eq!(fleet.candidates("a + gpu", &[key], now), Ok(vec![0, 1, 2]), "its own first");
            assert_eq!(fleet.candidates("a + x", &[key], now), Ok(vec![1, 0, 2]));
            assert_eq!(fleet.candidates("a + y", &[key], now).unwrap()[2], 2, "this host is the last");
        }
        fleet.looked(0, None, now);
        assert_eq!(fleet.candidates("a + gpu", b"t", now), Ok(vec![1, 2]));
        assert_eq!(fleet.in_force(now).as_deref(), Some("a + gpu"));
        now += GRACE;
        assert_eq!(fleet.in_force(now).as_deref(), Some("a + x"));
        assert!(!fleet.is_outdated("a + gpu", false, now), "it is made as it is known");
        fleet.looked(0, Some("a + gpu"), now);
        now += STEADY;
        assert_eq!(fleet.in_force(now).as_deref(), Some("a + gpu"));
    }

    #[test]
    fn with_everybody_away_nothing_changes() {
        let (mut fleet, mut now) = fleet();
        is(&mut fleet, now, [Some("a"), Some("b"), None]);
        is(&mut fleet, now, [None, None, None]);
        now += GRACE * 100;
        assert_eq!(fleet.candidates("a", b"t", now), Err(Nobody::Away));
        assert_eq!(fleet.in_force(now).as_deref(), Some("a"));
        assert!(!fleet.is_outdated("a", true, now) && !fleet.is_outdated("b", true, now));
    }

    #[test]
    fn one_that_fails_requests_is_shunned_for_growing_times_though_it_looks_well() {
        let (mut fleet, mut now) = fleet();
        is(&mut fleet, now, [Some("a"), Some("a"), Some("b")]);
        fleet.failed(0, now);
        assert_eq!(fleet.candidates("a", b"t", now), Ok(vec![1]));
        now += SECOND;
        assert_eq!(fleet.candidates("a", b"t", now).unwrap().len(), 2);
        for _ in 0..8 {
            fleet.failed(0, now);
            fleet.failed(1, now);
        }
        is(&mut fleet, now, [Some("a"), Some("a"), Some("b")]);
        assert_eq!(fleet.candidates("a", b"t", now), Err(Nobody::Away));
        now += GRACE;
        is(&mut fleet, now, [Some("a"), Some("a"), Some("b")]);
        assert_eq!(fleet.candidates("a", b"t", now), Err(Nobody::OtherBuild));
        now += SHUN_MAX;
        assert_eq!(fleet.candidates("a", b"t", now).unwrap().len(), 2);
        fleet.answered(0);
        fleet.failed(0, now);
        now += SECOND;
        assert_eq!(fleet.candidates("a", b"t", now).unwrap().len(), 2);
    }

    #[test]
    fn one_that_has_another_build_by_now_has_it_from_now_on() {
        let (mut fleet, now) = fleet();
        is(&mut fleet, now, [Some("a"), None, None]);
        fleet.looked(0, Some("b"), now);
        assert_eq!(fleet.in_force(now).as_deref(), Some("b"));
        assert_eq!(fleet.candidates("a", b"t", now), Err(Nobody::OtherBuild));
    }
}
