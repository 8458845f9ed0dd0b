//! Purges as lookups see them, and what sweeping leaves.

use std::sync::Arc;

use super::super::super::bans::{AskedFor, Ban, FillTime, Selector, Stamp};
use super::super::super::verdict_on_alias;
use super::*;

fn ban(store: &MemoryStore, selector: Selector, soft: bool) {
    store.bans().add(&Ban { selector, soft, at: SystemTime::now() });
}

fn tag(tag: &str) -> Selector {
    Selector::Tag(tag.to_owned())
}

fn by_key(key: &str) -> Selector {
    Selector::Key(key.to_owned())
}

fn tagged(bytes: usize, url: &str, time: FillTime) -> CacheMeta {
    let mut meta = meta(Some(bytes));
    let header = meta.response_header_mut();
    header.insert_header("surrogate-key", "x y").expect("valid field");
    header.insert_header("etag", "\"1\"").expect("valid field");
    meta.extensions_mut().insert(AskedFor { time, url: url.into(), has_aliases: false });
    meta
}

/// A fill asked for now, with the tags `x` and `y`.
async fn begin_tagged(store: &'static MemoryStore, key: &CacheKey, url: &str) -> MissHandler {
    store.get_miss_handler(key, &tagged(100, url, store.bans().now()), &span()).await.expect("room")
}

async fn finish(mut miss: MissHandler) {
    miss.write_body(Bytes::from(vec![1; 100]), true).await.expect("written");
    miss.finish().await.map(|_| ()).expect("finished");
}

async fn put_tagged(store: &'static MemoryStore, url: &str) {
    finish(begin_tagged(store, &key(url), url).await).await;
}

async fn is_fresh(store: &'static MemoryStore, key: &CacheKey) -> Option<bool> {
    let found = store.lookup(key, &span()).await.expect("lookups do not fail");
    found.map(|(meta, _)| meta.is_fresh(SystemTime::now() + Duration::from_millis(1)))
}

#[tokio::test]
async fn a_hard_purge_hides_and_a_soft_one_makes_stale() {
    for selector in [tag("y"), by_key("s h /a"), Selector::Prefixes(vec!["s h /".to_owned()]), Selector::All] {
        let store = store(1 << 20, 1 << 19);
        put_tagged(store, "s h /a").await;
        ban(store, tag("z"), false);
        ban(store, by_key("s h /b"), false);
        ban(store, Selector::Prefixes(vec!["s h /a/".to_owned()]), false);
        assert_eq!(is_fresh(store, &key("s h /a")).await, Some(true));
        ban(store, selector.clone(), true);
        let (stale, _) = store.lookup(&key("s h /a"), &span()).await.expect("lookup").expect("still there");
        assert!(!stale.is_fresh(SystemTime::now()) && stale.serve_stale_if_error(SystemTime::now()), "{selector:?}");
        ban(store, selector.clone(), false);
        assert_eq!(is_fresh(store, &key("s h /a")).await, None, "{selector:?}");
        assert!(store.held(&key("s h /a").to_compact()).is_none());
        let told = store.contains(&key("s h /a").to_compact()).expect("an explanation still finds it");
        assert_eq!(told.verdict, Verdict::Gone);
        put_tagged(store, "s h /a").await;
        assert_eq!(is_fresh(store, &key("s h /a")).await, Some(true), "{selector:?}: what came later is not reached");
    }
}

#[tokio::test]
async fn every_variant_is_purged() {
    let store = store(1 << 20, 1 << 19);
    let mut variant = key("s h /a");
    variant.set_variance_key([7; 16]);
    finish(begin_tagged(store, &variant, "s h /a").await).await;
    assert_eq!(is_fresh(store, &variant).await, Some(true));
    ban(store, by_key("s h /a"), false);
    assert_eq!(is_fresh(store, &variant).await, None);
}

#[tokio::test]
async fn a_running_fill_goes_to_its_followers_and_to_no_later_request() {
    let store = store(1 << 20, 1 << 19);
    let miss = begin_tagged(store, &key("s h /a"), "s h /a").await;
    let mut follower = get(store, &key("s h /a")).await.expect("the fill is followed");
    ban(store, tag("x"), false);
    assert!(get(store, &key("s h /a")).await.is_none());
    let later = begin_tagged(store, &key("s h /a"), "s h /a").await;
    assert!(get(store, &key("s h /a")).await.is_some_and(|hit| follows_fill(&hit)));
    finish(miss).await;
    assert_eq!(read_all(&mut follower).await.expect("whole").len(), 100);
    finish(later).await;
    assert_eq!(is_fresh(store, &key("s h /a")).await, Some(true));
}

#[tokio::test]
async fn who_waited_for_a_fill_may_have_it_though_it_was_purged_meanwhile() {
    for soft in [false, true] {
        let store = store(1 << 20, 1 << 19);
        ban(store, tag("x"), soft);
        let mut waiting = key("s h /a");
        waiting.extensions.insert(store.begun());
        let miss = begin_tagged(store, &key("s h /a"), "s h /a").await;
        ban(store, tag("x"), soft);
        let mut late = key("s h /a");
        late.extensions.insert(store.begun());
        assert_eq!(is_fresh(store, &waiting).await, Some(true));
        assert_eq!(is_fresh(store, &late).await, soft.then_some(false));
        assert_eq!(is_fresh(store, &key("s h /a")).await, soft.then_some(false), "who does not say is taken for late");
        finish(miss).await;
        assert_eq!(is_fresh(store, &waiting).await, Some(true));
        assert_eq!(is_fresh(store, &late).await, soft.then_some(false));
    }
}

#[tokio::test]
async fn an_answer_asked_for_before_the_purge_is_never_fresh_whenever_it_comes() {
    for soft in [false, true] {
        let store = store(1 << 20, 1 << 19);
        let asked = store.bans().now();
        ban(store, by_key("s h /a"), soft);
        store.sweep().await;
        let head = tagged(100, "s h /a", asked);
        let miss = store.get_miss_handler(&key("s h /a"), &head, &span()).await.expect("room");
        assert_eq!(is_fresh(store, &key("s h /a")).await, soft.then_some(false));
        finish(miss).await;
        assert_eq!(is_fresh(store, &key("s h /a")).await, soft.then_some(false));
    }
}

#[tokio::test]
async fn a_revalidation_heals_what_was_softly_purged_before_it_was_asked_for_and_nothing_else() {
    let store = store(1 << 20, 1 << 19);
    let name = key("s h /a");
    put_tagged(store, "s h /a").await;
    let revalidate = async |time: FillTime| {
        let (mut head, _) = store.lookup(&name, &span()).await.expect("lookup").expect("there");
        let fresh = tagged(100, "s h /a", time);
        head.update_freshness(fresh.fresh_until(), 10, 10);
        head.extensions_mut().extend(fresh.extensions().clone());
        store.update_meta(&name, &head, &span()).await.expect("no failure")
    };
    let too_early = store.bans().now();
    ban(store, tag("x"), true);
    assert!(revalidate(too_early).await);
    assert_eq!(is_fresh(store, &name).await, Some(false), "the origin was asked before the purge");
    store.sweep().await;
    assert!(revalidate(store.bans().now()).await);
    assert_eq!(is_fresh(store, &name).await, Some(true));

    let (held, _) = store.lookup(&name, &span()).await.expect("lookup").expect("there");
    ban(store, tag("x"), false);
    let mut head = meta::copy(&held);
    head.extensions_mut().insert(AskedFor { time: store.bans().now(), url: "s h /a".into(), has_aliases: false });
    assert!(store.update_meta(&name, &head, &span()).await.expect("no failure"));
    assert_eq!(is_fresh(store, &name).await, None, "a 304 does not bring back bytes that were purged");
}

#[tokio::test]
async fn sweeping_frees_what_is_gone_and_forgets_the_bans() {
    let store = store(1 << 20, 1 << 19);
    for url in ["s h /a", "s h /b", "s h /c"] {
        put_tagged(store, url).await;
    }
    ban(store, by_key("s h /a"), false);
    ban(store, by_key("s h /b"), true);
    assert!(store.sweep().await, "nothing runs, so no ban is left");
    assert_eq!((store.stats().objects, store.metrics.bans.get()), (2, 0));
    assert!(store.contains(&key("s h /a").to_compact()).is_none());
    assert_eq!(is_fresh(store, &key("s h /b")).await, Some(false), "stale, without the ban");
    assert_eq!(is_fresh(store, &key("s h /c")).await, Some(true));
    ban(store, Selector::All, false);
    store.sweep().await;
    assert_eq!((store.stats().objects, store.stats().bytes), (0, 0), "every byte is given back");
}

#[tokio::test]
async fn what_other_urls_may_ask_for_keeps_the_bans_of_prefixes() {
    let store = store(1 << 20, 1 << 19);
    let mut head = tagged(100, "s h /old/a", store.bans().now());
    head.extensions_mut().insert(AskedFor { time: store.bans().now(), url: "s h /new/a".into(), has_aliases: true });
    finish(store.get_miss_handler(&key("s h /a"), &head, &span()).await.expect("room")).await;
    drop(head);
    ban(store, Selector::Prefixes(vec!["s h /old/".to_owned()]), false);
    assert!(!store.sweep().await);
    let hit = get(store, &key("s h /a")).await.expect("not purged under its own URL");
    assert_eq!(verdict_on_alias(store.bans(), &hit, "s h /old/a"), Verdict::Gone);
    assert_eq!(verdict_on_alias(store.bans(), &hit, "s h /new/a"), Verdict::Clear);
    drop(hit);
    ban(store, by_key("s h /a"), false);
    assert!(!store.sweep().await || store.metrics.bans.get() == 0);
    assert!(store.sweep().await, "with the object its bans go");
}

#[tokio::test]
async fn what_comes_back_from_the_disk_is_as_old_as_it_was() {
    let store = store(1 << 20, 1 << 19);
    let on_disk = |url| {
        let stamp = Stamp::new(store.bans(), &key(url), &tagged(100, url, store.bans().now()));
        stamp.to_bytes(store.bans())
    };
    store.bans().disk_holds_from(Some(0));
    let objects = [("s h /a", on_disk("s h /a")), ("s h /b", on_disk("s h /b"))];
    ban(store, by_key("s h /a"), false);
    assert!(store.sweep().await, "the rest is the disk's");
    for (url, stamp) in objects {
        let stamp = Arc::new(Stamp::from_bytes(store.bans(), &stamp).expect("a stamp"));
        let mut head = tagged(100, url, store.bans().now());
        head.extensions_mut().remove::<AskedFor>();
        head.extensions_mut().insert(store.bans().hold(stamp));
        finish(store.get_miss_handler(&key(url), &head, &span()).await.expect("room")).await;
    }
    assert!(get(store, &key("s h /a")).await.is_none(), "purged before it came back");
    assert!(get(store, &key("s h /b")).await.is_some());
    store.bans().disk_holds_from(None);
    assert!(store.sweep().await);
    assert_eq!((store.stats().objects, store.metrics.bans.get()), (1, 0));
}

#[tokio::test]
async fn tags_and_url_are_paid_for() {
    let store = store(1 << 20, 1 << 19);
    put_tagged(store, "s h /a").await;
    let short = store.stats().bytes;
    let store = self::store(1 << 20, 1 << 19);
    let url: Arc<str> = format!("s h /{}", "a".repeat(5000)).into();
    put_tagged(store, &url).await;
    assert!(store.stats().bytes >= short + 4900);
}
