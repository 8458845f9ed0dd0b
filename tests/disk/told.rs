//! What operators see of the hybrid store: tiers, disks, and what is asked for most.

use super::world::{World, get, path};
use super::{edge, recovered, stop, written};
use crate::support::{Edge, eventually};
use serde_json::{Value, json};

fn stats(edge: &Edge) -> Value {
    edge.admin_get("/api/v1/stats").expect_status(200).json()
}

#[test]
fn stats_tell_hits_by_tier_and_how_each_disk_is() {
    let world = World::new();
    let edge = edge(&world).set("cache.disk.write_budget", "1GiB/s");
    let running = edge.clone().run();
    let path = path("film", 300_000);
    get(&running, &path);
    written(&running, 1);
    stop(&running);
    let running = edge.run();
    recovered(&running);
    get(&running, &path);
    get(&running, &path);
    let stats = stats(&running);
    assert_eq!((&stats["cache"]["disk"]["hits"], &stats["cache"]["memory"]["hits"]), (&json!(1), &json!(1)), "{stats}");
    let disk = &stats["disks"][0];
    assert_eq!((&disk["disk"], &disk["state"], &disk["objects"]), (&json!("0"), &json!("ok"), &json!(1)));
    assert_eq!((&disk["capacity_bytes"], &disk["write_bytes_per_second_max"]), (&json!(1 << 30), &json!(1 << 30)));
    assert!(disk["bytes"].as_u64() > Some(300_000) && disk["queue_capacity_bytes"].as_u64() > Some(0), "{disk}");
}

#[test]
fn a_disk_that_is_away_is_told_with_its_reason() {
    let world = World::new();
    let builder = edge(&world);
    std::fs::write(builder.folder().join("cache"), "").expect("written");
    let disk = stats(&builder.run())["disks"][0].clone();
    assert_eq!(disk["state"], "degraded");
    assert!(disk["reason"].as_str().is_some_and(|reason| reason.contains("cannot be used")), "{disk}");
}

#[test]
fn what_is_asked_for_most_is_told_without_tokens() {
    let world = World::new();
    let edge = edge(&world).run();
    let (hot, cold) = (path("hot", 1000), path("cold", 1000));
    for _ in 0..9 {
        get(&edge, &hot);
    }
    edge.get(&format!("{cold}?api_key=s3cret")).expect_status(200);
    eventually("all are counted", || stats(&edge)["top"]["objects"].as_array().is_some_and(|all| all.len() == 2));
    eventually("each is counted", || stats(&edge)["top"]["objects"][0]["requests"] == 9);
    let top = stats(&edge)["top"].clone();
    assert_eq!(
        (&top["objects"][0]["name"], &top["objects"][0]["bytes"]),
        (&json!(format!("localhost{hot}")), &json!(9000))
    );
    assert_eq!((&top["tags"][0]["name"], &top["tags"][0]["requests"]), (&json!("hot"), &json!(9)), "{top}");
    assert!(!top.to_string().contains("s3cret"), "{top}");
    assert!(top["objects"][1]["name"].as_str().is_some_and(|name| name.contains("/o/cold/")), "{top}");
}
