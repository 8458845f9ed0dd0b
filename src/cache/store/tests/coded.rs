//! Coded forms of stored bodies.

use super::super::super::simulation::room_for_objects;
use super::*;
use crate::cache::{Given, Wanted};
use crate::coding::Decoder;
use crate::http::content_coding::Coding;

fn wanted(coding: Coding) -> Wanted {
    Wanted { coding, level: 5, popular_after: 0, popular_level: 9, bytes_min: 0, bytes_max: 1 << 20, make: true }
}

/// Much smaller when it is coded.
fn text(bytes: usize) -> Vec<u8> {
    b"all work and no play ".iter().copied().cycle().take(bytes).collect()
}

async fn put_bytes(store: &'static MemoryStore, key: &CacheKey, bytes: &[u8]) {
    let (mut miss, _) = begin(store, key, Some(bytes.len())).await.expect("there is room");
    miss.write_body(Bytes::copy_from_slice(bytes), true).await.expect("written");
    miss.finish().await.map(|_| ()).expect("finished");
}

async fn decoded(hit: &mut HitHandler, coding: Coding) -> Vec<u8> {
    let coded = read_all(hit).await.expect("whole");
    let mut decoder = Decoder::new(coding, 1 << 20);
    let mut body = decoder.write(&coded).expect("valid").to_vec();
    body.extend_from_slice(&decoder.finish().expect("ended"));
    body
}

fn runs(store: &MemoryStore, coding: Coding, kind: &str) -> u64 {
    store.metrics.compression_runs.with_label_values(&[coding.token(), kind]).get()
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(std::time::Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn a_form_is_made_once_and_every_hit_decodes_to_the_body() {
    let store = store(1 << 20, 1 << 19);
    let body = text(20_000);
    put_bytes(store, &key("a"), &body).await;
    for coding in Coding::ALL {
        let mut readers = Vec::new();
        for _ in 0..5 {
            let mut hit = get(store, &key("a")).await.expect("a hit");
            assert_eq!(store.code(&mut hit, &wanted(coding)), Given::Form { bytes: None });
            readers.push(hit);
        }
        for reader in &mut readers {
            assert_eq!(decoded(reader, coding).await, body);
        }
        until("the form is kept", || runs(store, coding, "stored") == 1).await;
        let mut hit = get(store, &key("a")).await.expect("a hit");
        let Given::Form { bytes: Some(bytes) } = store.code(&mut hit, &wanted(coding)) else { panic!("a whole form") };
        assert!(bytes < 2_000, "{coding}: {bytes}");
        assert_eq!(decoded(&mut hit, coding).await, body);
        assert_eq!(runs(store, coding, "stored"), 1);
    }
}

#[tokio::test]
async fn a_form_of_a_running_fill_ends_with_it_and_fails_with_it() {
    let store = store(1 << 20, 1 << 19);
    let body = text(9_000);
    for fails in [false, true] {
        let key = key(if fails { "fails" } else { "ends" });
        let (mut miss, _owner) = begin(store, &key, Some(body.len())).await.expect("room");
        miss.write_body(Bytes::copy_from_slice(&body[..5_000]), false).await.expect("written");
        let mut follower = get(store, &key).await.expect("a running fill");
        assert_eq!(store.code(&mut follower, &wanted(Coding::Zstd)), Given::Form { bytes: None });
        let first = follower.read_body().await.expect("read").expect("what is there is flushed");
        let mut decoder = Decoder::new(Coding::Zstd, 1 << 20);
        let mut seen = decoder.write(&first).expect("valid").to_vec();
        if fails {
            drop(miss);
            assert!(read_all(&mut follower).await.is_err(), "never a clean end");
            continue;
        }
        miss.write_body(Bytes::copy_from_slice(&body[5_000..]), true).await.expect("written");
        miss.finish().await.map(|_| ()).expect("finished");
        seen.extend_from_slice(&decoder.write(&read_all(&mut follower).await.expect("whole")).expect("valid"));
        seen.extend_from_slice(&decoder.finish().expect("ended"));
        assert_eq!(seen, body);
    }
}

#[tokio::test]
async fn what_gets_no_smaller_is_given_as_it_is_from_then_on() {
    let store = store(1 << 20, 1 << 19);
    put_bytes(store, &key("noise"), &(0..2_000).map(|_| fastrand::u8(..)).collect::<Vec<_>>()).await;
    let mut hit = get(store, &key("noise")).await.expect("a hit");
    assert_eq!(store.code(&mut hit, &wanted(Coding::Gzip)), Given::Form { bytes: None });
    read_all(&mut hit).await.expect("whole");
    until("it was tried", || runs(store, Coding::Gzip, "stored") == 1).await;
    let mut hit = get(store, &key("noise")).await.expect("a hit");
    assert_eq!(store.code(&mut hit, &wanted(Coding::Gzip)), Given::Identity);
}

#[tokio::test]
async fn bounds_and_unknown_lengths_and_ranges_get_no_form() {
    let store = store(1 << 20, 1 << 19);
    put_bytes(store, &key("a"), &text(500)).await;
    let given = async |wanted: Wanted| store.code(&mut get(store, &key("a")).await.expect("a hit"), &wanted);
    assert_eq!(given(Wanted { bytes_min: 501, ..wanted(Coding::Gzip) }).await, Given::Identity);
    assert_eq!(given(Wanted { bytes_max: 499, ..wanted(Coding::Gzip) }).await, Given::Identity);
    let only_told = Wanted { make: false, ..wanted(Coding::Gzip) };
    assert_eq!(given(only_told).await, Given::Form { bytes: None });
    assert_eq!(runs(store, Coding::Gzip, "stored"), 0, "HEAD makes nothing");
    let mut ranged = get(store, &key("a")).await.expect("a hit");
    ranged.seek(10, Some(20)).expect("inside");
    assert_eq!(store.code(&mut ranged, &wanted(Coding::Gzip)), Given::NoForm);
    let (_miss, mut unknown) = begin(store, &key("b"), None).await.expect("room");
    assert_eq!(store.code(&mut unknown, &wanted(Coding::Gzip)), Given::NoForm);
}

#[tokio::test]
async fn popular_forms_are_made_anew_and_all_are_counted_and_go_with_their_body() {
    let store = store(1 << 20, 1 << 19);
    // Words in an order that a better level finds more in.
    let body: Vec<u8> =
        (0..8_000_u32).flat_map(|n| format!("{} ", n.wrapping_mul(2_654_435_761) >> 22).into_bytes()).collect();
    put_bytes(store, &key("a"), &body).await;
    let plain_bytes = store.stats().bytes;
    let popular = Wanted { level: 1, popular_after: 3, popular_level: 9, ..wanted(Coding::Gzip) };
    let mut sizes = Vec::new();
    until("made anew", || {
        let mut hit = get(store, &key("a")).now_or_never().flatten().expect("a hit");
        if let Given::Form { bytes: Some(bytes) } = store.code(&mut hit, &popular) {
            sizes.push(bytes);
        }
        runs(store, Coding::Gzip, "popular") == 1
    })
    .await;
    let mut hit = get(store, &key("a")).await.expect("a hit");
    let Given::Form { bytes: Some(better) } = store.code(&mut hit, &popular) else { panic!("a whole form") };
    assert!(better < sizes[0], "{better} of {}", sizes[0]);
    assert_eq!(decoded(&mut hit, Coding::Gzip).await, body);
    drop(hit);
    until("only the better form is paid for", || store.stats().bytes == plain_bytes + better).await;
    let weighed = store.policy.lock().bytes();
    assert_eq!(weighed, store.stats().bytes, "the policy weighs the forms too");
    store.remove(&key("a").to_compact());
    assert_eq!(store.stats().bytes, 0);
}

/// Half as large when it is coded.
fn digits(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|_| fastrand::u8(b'0'..=b'9')).collect()
}

/// Its readers alone have it then, as slow as they may be.
#[tokio::test]
async fn a_form_that_is_whole_after_its_body_has_left_gives_way_to_others() {
    for running in [true, false] {
        let settings = StoreSettings { bytes_max: 64_000, object_bytes_max: 32_000, hold_timeout: Duration::ZERO };
        let store = MemoryStore::new(settings, Arc::new(Metrics::new())).leak();
        let (body, name) = (digits(16_000), key("a"));
        let (mut miss, owner) = begin(store, &name, Some(body.len())).await.expect("room");
        miss.write_body(Bytes::copy_from_slice(&body[..8_000]), false).await.expect("written");
        if !running {
            miss.write_body(Bytes::copy_from_slice(&body[8_000..]), true).await.expect("written");
            miss.finish().await.map(|_| ()).expect("finished");
            let mut reader = get(store, &name).await.expect("a hit");
            assert_eq!(store.code(&mut reader, &wanted(Coding::Gzip)), Given::Form { bytes: None });
            store.remove(&name.to_compact());
            drop(owner);
            gives_way(store, reader).await;
            continue;
        }
        let mut reader = get(store, &name).await.expect("a running fill");
        assert_eq!(store.code(&mut reader, &wanted(Coding::Gzip)), Given::Form { bytes: None });
        reader.read_body().await.expect("read").expect("what is there is flushed");
        store.remove(&name.to_compact());
        miss.write_body(Bytes::copy_from_slice(&body[8_000..]), true).await.expect("written");
        miss.finish().await.map(|_| ()).expect("finished");
        drop(owner);
        gives_way(store, reader).await;
    }
}

async fn gives_way(store: &'static MemoryStore, mut reader: HitHandler) {
    until("the form is whole", || runs(store, Coding::Gzip, "stored") == 1).await;
    until("and its body is gone", || store.stats().bytes < 16_000).await;
    assert!(store.stats().bytes > 4_000, "the form is there, and paid for");
    let all = store.reserve(room_for_objects(64_000));
    assert!(all.is_some(), "{:?}", store.stats());
    assert!(read_all(&mut reader).await.is_err(), "it is aborted, not ended");
    drop((all, reader));
    assert_eq!((store.stats().bytes, store.policy.lock().bytes()), (0, 0), "no drift");
}
