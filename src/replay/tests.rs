//! Simulations against brute force, inputs as a whole, and what a person sees.

use super::read::{Counts, ReadError, read};
use super::reference::{Extent, Reference, mix};
use super::*;
use proptest::prelude::*;

const LIMITS: Limits = Limits { memory_bytes: 1 << 30, threads: 1, sample: 1.0 };

fn trace(requests: &[(u64, u64)]) -> Trace {
    let mut builder = TraceBuilder::new(LIMITS);
    for (key, bytes) in requests {
        builder.add(Reference { key: mix(*key), bytes: *bytes, extent: Extent::Whole });
    }
    builder.finish()
}

fn settings(sizes: &[u64], policies: &[PolicyName]) -> Settings {
    let (sizes, policies) = (sizes.to_vec(), policies.to_vec());
    Settings { sizes, policies, object_bytes_max: None, overhead_bytes: 0, threads: 1 }
}

fn hits(requests: &[(u64, u64)], size: u64, policy: PolicyName) -> u64 {
    simulate(&trace(requests), &settings(&[size], &[policy]), &|_| {})[0].hits
}

/// Least recently used, as one writes it on a napkin.
fn lru_hits(requests: &[(u64, u64)], size: u64) -> u64 {
    let mut held: Vec<(u64, u64)> = Vec::new();
    let mut hits = 0;
    for &(key, bytes) in requests {
        if let Some(at) = held.iter().position(|(other, _)| *other == key) {
            let object = held.remove(at);
            held.push(object);
            hits += 1;
        } else if bytes <= size {
            while held.iter().map(|(_, bytes)| bytes).sum::<u64>() + bytes > size {
                held.remove(0);
            }
            held.push((key, bytes));
        }
    }
    hits
}

/// The most hits any cache could have: every choice is tried.
fn most_hits(requests: &[(u64, u64)], size: u64) -> u64 {
    fn from(requests: &[(u64, u64)], held: u32, size: u64, weights: &[u64; 6]) -> u64 {
        let Some((&(key, _), rest)) = requests.split_first() else { return 0 };
        let hit = u64::from(held >> key & 1);
        let with = held | 1 << key;
        // Any subset of what is at hand may be held on.
        let subsets = (0..=with).filter(|subset| subset & !with == 0);
        let fits =
            subsets.filter(|subset| (0..6).filter(|o| subset >> o & 1 == 1).map(|o| weights[o]).sum::<u64>() <= size);
        hit + fits.map(|subset| from(rest, subset, size, weights)).max().unwrap_or(0)
    }
    let mut weights = [0; 6];
    requests.iter().for_each(|(key, bytes)| weights[*key as usize] = *bytes);
    from(requests, 0, size, &weights)
}

fn of_one_size() -> impl Strategy<Value = Vec<(u64, u64)>> {
    prop::collection::vec((0..12_u64).prop_map(|key| (key, 1)), 0..120)
}

/// Sizes follow from the key.
fn of_many_sizes() -> impl Strategy<Value = Vec<(u64, u64)>> {
    prop::collection::vec((0..12_u64).prop_map(|key| (key, 1 + mix(key) % 9)), 0..120)
}

fn few() -> impl Strategy<Value = Vec<(u64, u64)>> {
    prop::collection::vec((0..4_u64).prop_map(|key| (key, 1 + key % 3)), 0..7)
}

proptest! {
    #[test]
    fn lru_is_lru(requests in of_many_sizes(), size in 1..40_u64) {
        prop_assert_eq!(hits(&requests, size, PolicyName::Lru), lru_hits(&requests, size));
    }

    #[test]
    fn nothing_beats_belady_where_sizes_are_equal(requests in of_one_size(), size in 1..10_u64) {
        let best = hits(&requests, size, PolicyName::Belady);
        for policy in [PolicyName::Lru, PolicyName::S3fifo, PolicyName::Reelgate] {
            prop_assert!(hits(&requests, size, policy) <= best, "{policy:?}");
        }
    }

    #[test]
    fn nothing_beats_the_bound(requests in of_many_sizes(), size in 1..40_u64) {
        let outcomes = simulate(&trace(&requests), &settings(&[size], &PolicyName::ALL), &|_| {});
        let bound = outcomes[4];
        for outcome in &outcomes {
            prop_assert!(outcome.hits <= bound.hits && outcome.hit_bytes <= bound.hit_bytes, "{outcome:?} {bound:?}");
            prop_assert!(outcome.origin_bytes >= bound.origin_bytes);
            // Every miss of a whole object brings exactly that.
            prop_assert_eq!(outcome.hit_bytes + outcome.origin_bytes, outcome.requested_bytes);
        }
    }

    #[test]
    fn the_bound_and_belady_stand_beside_the_best_there_is(requests in few(), size in 1..6_u64) {
        let most = most_hits(&requests, size);
        prop_assert!(hits(&requests, size, PolicyName::Bound) >= most);
        prop_assert!(hits(&requests, size, PolicyName::Belady) <= most);
        let equal: Vec<_> = requests.iter().map(|(key, _)| (*key, 1)).collect();
        prop_assert_eq!(hits(&equal, size, PolicyName::Belady), most_hits(&equal, size));
    }

    #[test]
    fn a_cache_of_everything_misses_each_object_once(requests in of_many_sizes()) {
        let trace = trace(&requests);
        let misses = trace.distinct_objects() as u64;
        for outcome in simulate(&trace, &settings(&[trace.footprint_bytes().max(1) * 2], &PolicyName::ALL), &|_| {}) {
            prop_assert_eq!(outcome.requests - outcome.hits, misses, "{:?}", outcome.policy);
        }
    }

    #[test]
    fn threads_change_nothing(requests in of_many_sizes(), threads in 2..5_usize) {
        let (trace, one) = (trace(&requests), settings(&[5, 20, 10, 20], &PolicyName::ALL));
        let many = Settings { threads, ..one.clone() };
        prop_assert_eq!(simulate(&trace, &one, &|_| {}), simulate(&trace, &many, &|_| {}));
    }

    #[test]
    fn no_input_panics(bytes in prop::collection::vec(any::<u8>(), 0..400), text in "[{}\\[\\]\",0-9a-z \\n/]{0,200}") {
        for format in [Format::Json, Format::Combined, Format::Csv, Format::OracleGeneral] {
            for input in [&bytes[..], text.as_bytes()] {
                let mut builder = TraceBuilder::new(LIMITS);
                let _ = read(&mut { input }, format, &KeyRules::plain(), &mut builder);
                let trace = builder.finish();
                simulate(&trace, &settings(&[10], &PolicyName::ALL), &|_| {});
                let _ = Format::guess("", input);
            }
        }
    }
}

fn read_text(text: &str, format: Format) -> (Result<Counts, ReadError>, Trace) {
    let mut builder = TraceBuilder::new(LIMITS);
    let counts = read(&mut text.as_bytes(), format, &KeyRules::plain(), &mut builder);
    (counts, builder.finish())
}

#[test]
fn a_wrong_line_is_counted_and_skipped_and_named() {
    let long = format!("1,{},5\n", "x".repeat(200_000));
    let (counts, trace) = read_text(&format!("time,key,size\n1,a,5\n\nnonsense\n{long}2,a,5"), Format::Csv);
    let counts = counts.expect("mostly good");
    assert_eq!((counts.lines, counts.wrong, trace.requests()), (4, 2, 2));
    assert_eq!(counts.first_wrong.map(|(line, _)| line), Some(4));
}

#[test]
fn an_input_of_another_format_is_an_error_with_a_line() {
    let (error, _) = read_text("hello\nworld\n", Format::Json);
    let text = error.expect_err("no JSON").to_string();
    assert!(text.starts_with("line 1: ") && text.contains("2 of 2") && text.contains("--format"), "{text}");
    let mostly_wrong = "1,a,5\n".repeat(100) + &"wrong\n".repeat(5000);
    assert!(
        matches!(read_text(&mostly_wrong, Format::Csv).0, Err(ReadError::Wrong { counts, .. }) if counts.lines < 1200)
    );
}

#[test]
fn a_record_cut_short_is_counted() {
    let mut builder = TraceBuilder::new(LIMITS);
    let counts = read(&mut &[1_u8; 24 + 24 + 7][..], Format::OracleGeneral, &KeyRules::plain(), &mut builder);
    assert_eq!(counts.expect("two are whole").wrong, 1);
    assert_eq!(builder.finish().requests(), 2);
}

#[test]
fn what_is_too_large_passes_and_evicts_nothing() {
    let requests = [(1, 10), (2, 50), (1, 10), (2, 50)];
    let settings = Settings { object_bytes_max: Some(20), ..settings(&[1000], &PolicyName::ALL) };
    for outcome in simulate(&trace(&requests), &settings, &|_| {}) {
        assert_eq!((outcome.hits, outcome.origin_bytes), (1, 110), "{:?}", outcome.policy);
    }
}

#[test]
fn absurd_sizes_overflow_nothing() {
    let lines: String = (0..9).map(|n| format!("1,{},{}\n", n % 3, u64::MAX - n % 2)).collect();
    let (counts, trace) = read_text(&lines, Format::Csv);
    assert_eq!((counts.expect("nine lines").wrong, trace.footprint_bytes()), (0, u64::MAX));
    let settings = Settings { overhead_bytes: u64::MAX, ..settings(&[1, i64::MAX as u64], &PolicyName::ALL) };
    for overhead_bytes in [0, 1, u64::MAX] {
        let settings = Settings { overhead_bytes, ..settings.clone() };
        assert_eq!(simulate(&trace, &settings, &|_| {}).len(), 10);
    }
}

#[test]
fn a_part_that_misses_fills_nothing_and_costs_only_itself() {
    let mut builder = TraceBuilder::new(LIMITS);
    for (bytes, extent) in [(3, Extent::Part), (10, Extent::Whole), (4, Extent::Part), (0, Extent::Cut)] {
        builder.add(Reference { key: 1, bytes, extent });
    }
    for outcome in simulate(&builder.finish(), &settings(&[10], &[PolicyName::Lru, PolicyName::Reelgate]), &|_| {}) {
        assert_eq!((outcome.hits, outcome.hit_bytes, outcome.origin_bytes), (2, 4, 13));
    }
}

#[test]
fn a_scan_costs_lru_more_than_s3_fifo() {
    let hot = || (0..3).flat_map(|_| 0..20_u64);
    let scan = |round: u64| (0..200).map(move |n| 1000 + round * 200 + n);
    let requests: Vec<_> = (0..20).flat_map(|round| hot().chain(scan(round))).map(|key| (key, 10)).collect();
    let lru = hits(&requests, 500, PolicyName::Lru);
    for policy in [PolicyName::S3fifo, PolicyName::Reelgate] {
        assert!(hits(&requests, 500, policy) > lru + 200, "{policy:?}: {} {lru}", hits(&requests, 500, policy));
    }
}

#[test]
fn a_sample_tells_nearly_what_the_whole_tells() {
    let mut state = 1_u64;
    let requests: Vec<(u64, u64)> = (0..200_000)
        .map(|_| {
            state = mix(state.wrapping_add(0x9e37_79b9_7f4a_7c15));
            // Popularity falls with the key: uniform in its logarithm.
            let key = (40_000_f64.powf((state >> 11) as f64 / (1_u64 << 53) as f64)) as u64;
            (key, 1000)
        })
        .collect();
    let whole = trace(&requests);
    let size = whole.footprint_bytes() / 10;
    let mut builder = TraceBuilder::new(Limits { sample: 0.25, ..LIMITS });
    // The very hottest objects make or break a small sample; leave them out of both.
    let cold: Vec<_> = requests.iter().copied().filter(|(key, _)| *key > 200).collect();
    cold.iter()
        .for_each(|(key, bytes)| builder.add(Reference { key: mix(*key), bytes: *bytes, extent: Extent::Whole }));
    let sample = builder.finish();
    for policy in PolicyName::ALL {
        let of = |trace: &Trace| simulate(trace, &settings(&[size], &[policy]), &|_| {})[0].hit_ratio();
        let (sampled, exact) = (of(&sample), of(&trace(&cold)));
        assert!((sampled - exact).abs() < 0.03, "{policy:?}: {sampled} {exact}");
    }
}

#[test]
fn a_person_sees_this() {
    let requests = [(1, 1024), (2, 1024), (1, 1024), (3, 2048), (1, 1024), (2, 1024)];
    let trace = trace(&requests);
    let outcomes = simulate(&trace, &settings(&[2048, 4096], &[PolicyName::Lru, PolicyName::Belady]), &|_| {});
    let counts = Counts { lines: 7, not_cached: 1, ..Counts::default() };
    let report = Report { trace: &trace, counts, outcomes: &outcomes };
    let text = report.summary() + "\n" + &report.table() + "\n" + &report.plot();
    let expected = "\
6 requests of 3 objects, 4.0KiB in all
1 lines left out: no request of a cache

  size  policy  requests  hit %  byte-hit %  origin bytes
2.0KiB  lru            6  16.67       14.29        6.0KiB
        belady         6  50.00       42.86        4.0KiB
4.0KiB  lru            6  50.00       42.86        4.0KiB
        belady         6  50.00       42.86        4.0KiB

hit % by size, a full bar is 50.0 %
              2.0KiB      4.0KiB
lru       ▃▃▃▃  16.7  ████  50.0
belady    ████  50.0  ████  50.0
";
    assert_eq!(text, expected);
    assert_eq!(report.json()["outcomes"][0]["hits"], 1);
}
