//! Bans against a list that remembers everything.

use std::time::Duration;

use pingora_cache::CacheMeta;
use pingora_http::ResponseHeader;
use proptest::prelude::*;

use super::*;

const KEYS: [&str; 6] = ["s h /", "s h /a", "s h /a/b", "s h /ab", "s h /a/b?c", "t  /a"];
const TAGS: [&str; 3] = ["x", "y", "film 1"];
const PREFIXES: [&str; 6] = ["s h /", "s h /a", "s h /a/", "s h /a/b?", "t  /", "s h /a/b?c"];

fn bans(bounds: Bounds) -> Bans {
    Bans::with_bounds(bounds, Arc::new(Metrics::new()))
}

fn unbounded() -> Bans {
    bans(Bounds { bans_max: 1000, prefix_bytes_max: 100_000 })
}

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn head(time: FillTime, url: &str, tags: &[&str]) -> CacheMeta {
    let mut header = ResponseHeader::build(200, None).expect("valid status");
    for tag in tags {
        header.append_header("cache-tag", *tag).expect("valid field");
    }
    let mut meta = CacheMeta::new(at(0), at(0), 0, 0, header);
    meta.extensions_mut().insert(AskedFor { time, url: url.into(), has_aliases: true });
    meta
}

fn stamp(bans: &Bans, time: FillTime, url: &str, tags: &[&str]) -> Stamp {
    Stamp::new(bans, &crate::cache::key(url), &head(time, url, tags))
}

/// What happens to objects, and what a naive list would say of them.
#[derive(Debug, Clone)]
enum Step {
    Ask,
    Arrive { url: usize, tags: Vec<usize> },
    Ban { selector: Selector, soft: bool },
    Revalidate(usize),
    Sweep,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let selector = prop_oneof![
        1 => Just(Selector::All),
        4 => (0..KEYS.len()).prop_map(|key| Selector::Key(KEYS[key].to_owned())),
        4 => (0..TAGS.len()).prop_map(|tag| Selector::Tag(TAGS[tag].to_owned())),
        4 => prop::collection::vec(0..PREFIXES.len(), 1..3)
            .prop_map(|all| Selector::Prefixes(all.iter().map(|prefix| PREFIXES[*prefix].to_owned()).collect())),
    ];
    let step = prop_oneof![
        3 => Just(Step::Ask),
        4 => (0..KEYS.len(), prop::collection::vec(0..TAGS.len(), 0..3))
            .prop_map(|(url, tags)| Step::Arrive { url, tags }),
        4 => (selector, any::<bool>()).prop_map(|(selector, soft)| Step::Ban { selector, soft }),
        2 => (0..8usize).prop_map(Step::Revalidate),
        2 => Just(Step::Sweep),
    ];
    prop::collection::vec(step, 1..60)
}

struct Object {
    url: usize,
    tags: Vec<usize>,
    stamp: Stamp,
    /// How many bans there were when its bytes, and its head, were asked for.
    bytes_from: usize,
    head_from: usize,
    /// A sweep has marked it stale.
    marked_stale: bool,
}

fn reaches(selector: &Selector, object: &Object) -> bool {
    match selector {
        Selector::All => true,
        Selector::Key(key) => KEYS[object.url] == key,
        Selector::Tag(tag) => object.tags.iter().any(|of| TAGS[*of] == tag),
        Selector::Prefixes(prefixes) => prefixes.iter().any(|prefix| KEYS[object.url].starts_with(prefix)),
    }
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Expected {
    Clear,
    Stale,
    Gone,
}

fn expected(list: &[(Selector, bool)], object: &Object) -> Expected {
    let hard = list[object.bytes_from..].iter().any(|(selector, soft)| !soft && reaches(selector, object));
    let soft = list[object.head_from..].iter().any(|(selector, soft)| *soft && reaches(selector, object));
    if hard {
        Expected::Gone
    } else if soft {
        Expected::Stale
    } else {
        Expected::Clear
    }
}

fn said(bans: &Bans, object: &Object) -> Expected {
    match bans.verdict(&object.stamp) {
        Verdict::Gone => Expected::Gone,
        Verdict::Stale(_) => Expected::Stale,
        Verdict::Clear if object.marked_stale => Expected::Stale,
        Verdict::Clear => Expected::Clear,
    }
}

/// Runs the steps on both; `exact`: the table is never full.
fn run(bans: &Bans, steps: Vec<Step>, exact: bool) -> Result<(), TestCaseError> {
    let mut list: Vec<(Selector, bool)> = Vec::new();
    let mut asked: Vec<(FillTime, usize)> = Vec::new();
    let mut objects: Vec<Object> = Vec::new();
    for step in steps {
        match step {
            Step::Ask => asked.push((bans.now(), list.len())),
            Step::Arrive { url, tags } => {
                let Some((time, from)) = asked.pop() else { continue };
                let names: Vec<&str> = tags.iter().map(|tag| TAGS[*tag]).collect();
                let stamp = stamp(bans, time, KEYS[url], &names);
                objects.push(Object { url, tags, stamp, bytes_from: from, head_from: from, marked_stale: false });
            }
            Step::Ban { selector, soft } => {
                bans.add(&Ban { selector: selector.clone(), soft, at: at(list.len() as u64) });
                list.push((selector, soft));
            }
            Step::Revalidate(which) => {
                let Some((time, from)) = asked.pop() else { continue };
                let count = objects.len();
                let Some(object) = objects.get_mut(which % count.max(1)) else { continue };
                let names: Vec<&str> = object.tags.iter().map(|tag| TAGS[*tag]).collect();
                // What the revalidation says is older than what the object says of itself: the store would not be asked.
                if from < object.head_from {
                    continue;
                }
                object.stamp = stamp(bans, time, KEYS[object.url], &names).revalidated(&object.stamp);
                object.head_from = from;
                object.marked_stale = false;
            }
            Step::Sweep => {
                let pass = bans.sweep_begins();
                let through = pass.judged_through;
                objects.retain_mut(|object| match bans.verdict(&object.stamp) {
                    Verdict::Gone => false,
                    Verdict::Stale(_) => {
                        object.stamp = object.stamp.settled(through);
                        object.marked_stale = true;
                        true
                    }
                    Verdict::Clear => true,
                });
                bans.prune(pass, through);
            }
        }
        for object in &objects {
            let (said, expected) = (said(bans, object), expected(&list, object));
            prop_assert!(said == expected || (!exact && said > expected), "{:?} for {:?}", said, expected);
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn verdicts_are_those_of_a_list_that_remembers_everything(steps in steps()) {
        run(&unbounded(), steps, true)?;
    }

    #[test]
    fn a_full_table_purges_more_never_less(steps in steps(), bans_max in 2..6usize) {
        run(&bans(Bounds { bans_max, prefix_bytes_max: 20 }), steps, false)?;
    }

    #[test]
    fn every_prefix_of_a_url_is_found(prefixes in prop::collection::vec("[ab]{0,6}", 0..20), url in "[ab]{0,8}") {
        let bans = unbounded();
        let stamp = stamp(&bans, bans.now(), &url, &[]);
        bans.add(&Ban { selector: Selector::Prefixes(prefixes.clone()), soft: false, at: at(0) });
        let reached = prefixes.iter().any(|prefix| url.starts_with(prefix));
        prop_assert_eq!(bans.verdict(&stamp) == Verdict::Gone, reached);
    }
}

#[test]
fn a_fill_asked_for_before_a_ban_is_reached_whenever_it_arrives() {
    let bans = unbounded();
    let (early, url) = (bans.now(), "s h /a");
    bans.add(&Ban { selector: Selector::Key(url.to_owned()), soft: false, at: at(0) });
    let late = bans.now();
    assert_eq!(bans.verdict(&stamp(&bans, early, url, &[])), Verdict::Gone);
    assert_eq!(bans.verdict(&stamp(&bans, late, url, &[])), Verdict::Clear);
}

#[test]
fn a_ban_lives_as_long_as_a_fill_from_before_it_runs() {
    let bans = unbounded();
    let early = bans.now();
    bans.add(&Ban { selector: Selector::Tag("x".to_owned()), soft: false, at: at(0) });
    bans.add(&Ban { selector: Selector::All, soft: true, at: at(1) });
    let pass = bans.sweep_begins();
    assert!(!bans.prune(pass, pass.judged_through));
    assert_eq!(bans.metrics.bans.get(), 2);
    assert_eq!(bans.verdict(&stamp(&bans, early, "s h /a", &["x"])), Verdict::Gone);
    let pass = bans.sweep_begins();
    assert!(bans.prune(pass, pass.judged_through));
    assert_eq!(bans.metrics.bans.get(), 0);
}

#[test]
fn bans_are_kept_for_what_the_disk_holds_and_for_what_comes_back_from_it() {
    let bans = unbounded();
    let object = stamp(&bans, bans.now(), "s h /a", &["x"]);
    bans.disk_holds_from(Some(object.oldest()));
    bans.add(&Ban { selector: Selector::Tag("x".to_owned()), soft: true, at: at(0) });
    let sweep = || {
        let pass = bans.sweep_begins();
        bans.prune(pass, pass.judged_through)
    };
    assert!(sweep(), "another pass would free nothing");
    assert_eq!(bans.metrics.bans.get(), 1);
    let restored = Arc::new(Stamp::from_bytes(&bans, &object.to_bytes(&bans)).expect("a stamp"));
    let restored = bans.hold(restored);
    bans.disk_holds_from(None);
    assert!(!sweep(), "it is on its way into memory");
    assert_eq!(bans.verdict(&restored.stamp), Verdict::Stale(at(0)));
    drop(restored);
    assert!(sweep());
    assert_eq!(bans.metrics.bans.get(), 0);
}

#[test]
fn an_answer_with_more_tags_than_are_kept_has_every_tag() {
    let bans = unbounded();
    let long = "a".repeat(crate::http::tags::TAG_BYTES_MAX + 1);
    let stamp = stamp(&bans, bans.now(), "s h /a", &[&long]);
    bans.add(&Ban { selector: Selector::Tag("other".to_owned()), soft: false, at: at(0) });
    assert_eq!(bans.verdict(&stamp), Verdict::Gone);
}

#[test]
fn a_full_table_is_counted() {
    let bans = bans(Bounds { bans_max: 3, prefix_bytes_max: 100 });
    for key in KEYS {
        bans.add(&Ban { selector: Selector::Key(key.to_owned()), soft: false, at: at(0) });
    }
    assert!(bans.metrics.bans.get() <= 3);
    assert!(bans.metrics.limits_reached.with_label_values(&["bans"]).get() > 0);
}

#[test]
fn an_alias_is_judged_by_its_own_url_also_when_the_object_was_cleared() {
    let bans = unbounded();
    let stamp = stamp(&bans, bans.now(), "s h /a", &[]);
    bans.add(&Ban { selector: Selector::Prefixes(vec!["s h /old/".to_owned()]), soft: false, at: at(0) });
    assert_eq!(bans.verdict(&stamp), Verdict::Clear);
    assert_eq!(bans.verdict_on_alias(&stamp, "s h /old/a"), Verdict::Gone);
    assert_eq!(bans.verdict_on_alias(&stamp, "s h /new/a"), Verdict::Clear);
    assert_eq!(stamp.aliases_from(), Some(0));
}
