//! Chains of proxies, trusted and not.

use super::*;
use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;

fn map(fields: &[(&str, &str)]) -> HeaderMap {
    fields
        .iter()
        .map(|(name, value)| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap()))
        .collect()
}

fn trusted() -> Vec<IpNet> {
    ["10.0.0.0/8", "fd00::/8", "127.0.0.1/32"].map(|net| net.parse().unwrap()).to_vec()
}

fn client(peer: &str, fields: &[(&str, &str)]) -> Client {
    resolve(peer.parse().unwrap(), false, &trusted(), &map(fields))
}

fn address(peer: &str, fields: &[(&str, &str)]) -> String {
    client(peer, fields).address.to_string()
}

fn told(peer: &str, host: &str, fields: &[(&str, &str)]) -> Outgoing {
    outgoing(peer.parse().unwrap(), &client(peer, fields), Some(host), &map(fields))
}

#[test]
fn nothing_is_believed_of_an_untrusted_peer() {
    let lies = [
        ("x-forwarded-for", "1.1.1.1"),
        ("forwarded", "for=1.1.1.1;proto=https;host=evil"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "evil"),
        ("x-real-ip", "1.1.1.1"),
    ];
    let found = client("203.0.113.9", &lies);
    assert_eq!(
        found,
        Client { address: "203.0.113.9".parse().unwrap(), peer_trusted: false, secure: false, host: None }
    );
    let told = told("203.0.113.9", "tv.example.org", &lies);
    assert_eq!(told.x_forwarded_for, "203.0.113.9");
    assert_eq!(told.x_real_ip, "203.0.113.9");
    assert_eq!(told.x_forwarded_proto, "http");
    assert_eq!(told.x_forwarded_host.as_deref(), Some("tv.example.org"));
    assert_eq!(told.forwarded, "for=203.0.113.9;host=tv.example.org;proto=http");
}

#[test]
fn the_chain_is_read_from_the_right_through_trusted_hops_only() {
    let xff = |value| address("10.0.0.1", &[("x-forwarded-for", value)]);
    assert_eq!(xff("198.51.100.7"), "198.51.100.7");
    assert_eq!(xff("6.6.6.6, 198.51.100.7, 10.0.0.2"), "198.51.100.7");
    assert_eq!(xff("6.6.6.6, unknown, 10.0.0.2"), "10.0.0.2");
    assert_eq!(xff("10.0.0.3, 10.0.0.2"), "10.0.0.3");
    assert_eq!(xff("not an address"), "10.0.0.1");
    assert_eq!(xff("198.51.100.7:51234"), "198.51.100.7");
    assert_eq!(xff("[2001:db8::1]:443"), "2001:db8::1");
    assert_eq!(xff("2001:db8::1"), "2001:db8::1");
}

#[test]
fn several_lines_are_one_chain() {
    let lines = [("x-forwarded-for", "6.6.6.6"), ("x-forwarded-for", "198.51.100.7"), ("x-forwarded-for", "10.9.9.9")];
    assert_eq!(address("10.0.0.1", &lines), "198.51.100.7");
}

#[test]
fn a_v4_peer_on_a_dual_stack_socket_is_the_same_peer() {
    assert_eq!(address("::ffff:10.0.0.1", &[("x-forwarded-for", "::ffff:198.51.100.7")]), "198.51.100.7");
    assert_eq!(address("::ffff:203.0.113.9", &[("x-forwarded-for", "1.1.1.1")]), "203.0.113.9");
}

#[test]
fn rfc7239_4_and_6_nodes() {
    let forwarded = |value| address("10.0.0.1", &[("forwarded", value)]);
    assert_eq!(forwarded("for=192.0.2.43"), "192.0.2.43");
    assert_eq!(forwarded("For=\"[2001:db8:cafe::17]:4711\""), "2001:db8:cafe::17");
    assert_eq!(forwarded("for=\"192.0.2.43:47011\";by=10.1.1.1"), "192.0.2.43");
    assert_eq!(forwarded("for=6.6.6.6, for=_gazonk, for=10.0.0.2"), "10.0.0.2");
    assert_eq!(forwarded("for=unknown"), "10.0.0.1");
    assert_eq!(forwarded("for=\"192.0.2.43"), "10.0.0.1");
}

#[test]
fn two_fields_that_disagree_are_not_believed() {
    let both = |old, new| address("10.0.0.1", &[("x-forwarded-for", old), ("forwarded", new)]);
    assert_eq!(both("198.51.100.7", "for=198.51.100.7"), "198.51.100.7");
    assert_eq!(both("198.51.100.7", "for=6.6.6.6"), "10.0.0.1");
}

#[test]
fn scheme_and_host_come_from_the_trusted_peer() {
    let found = client("10.0.0.1", &[("x-forwarded-proto", "http, HTTPS"), ("x-forwarded-host", "tv.org:8443")]);
    assert!(found.secure);
    assert_eq!(found.host.as_deref(), Some("tv.org:8443"));
    let found = client("10.0.0.1", &[("forwarded", "for=1.1.1.1;proto=https;host=\"tv.org:8443\", for=10.0.0.2")]);
    assert!(found.secure);
    assert_eq!(found.host.as_deref(), Some("tv.org:8443"));
    assert_eq!(client("10.0.0.1", &[("x-forwarded-host", "a/b")]).host, None);
    assert!(resolve("10.0.0.1".parse().unwrap(), true, &trusted(), &map(&[])).secure);
}

#[test]
fn behind_a_trusted_peer_the_chain_is_appended_to() {
    let told = told(
        "10.0.0.1",
        "inner:8080",
        &[("x-forwarded-for", "2001:db8::1, bad one"), ("x-forwarded-proto", "https"), ("x-forwarded-host", "tv.org")],
    );
    assert_eq!(told.x_forwarded_for, "2001:db8::1, unknown, 10.0.0.1");
    assert_eq!(told.x_real_ip, "10.0.0.1");
    assert_eq!(told.x_forwarded_proto, "https");
    assert_eq!(told.x_forwarded_host.as_deref(), Some("tv.org"));
    assert_eq!(told.forwarded, "for=\"[2001:db8::1]\", for=unknown, for=10.0.0.1;host=tv.org;proto=https");
}

#[test]
fn rfc7239_7_4_each_field_is_made_from_the_other() {
    let told = told("10.0.0.1", "h:1", &[("forwarded", "for=\"[2001:db8::1]:9\";proto=https;host=\"a:1\", for=_x")]);
    assert_eq!(told.x_forwarded_for, "2001:db8::1, _x, 10.0.0.1");
    assert_eq!(
        told.forwarded,
        "for=\"[2001:db8::1]\";host=\"a:1\";proto=https, for=_x, for=10.0.0.1;host=\"h:1\";proto=http"
    );
}

#[test]
fn an_endless_chain_is_cut_at_its_far_end() {
    let chain = vec!["10.0.0.2"; 1000].join(",");
    let told = told("10.0.0.1", "h", &[("x-forwarded-for", &chain)]);
    assert_eq!(told.x_forwarded_for.split(", ").count(), HOPS_MAX + 1);
}

proptest! {
    #[test]
    fn what_we_tell_is_well_formed_and_ends_with_the_peer(
        old in "([0-9a-f.:\\[\\]_, \"]|10\\.0\\.0\\.2,|unknown){0,30}", new in "(for=|[0-9.;=\"\\\\, _]|\\[::1\\]|proto=|host=){0,20}",
        peer in proptest::sample::select(vec!["10.0.0.1", "203.0.113.9", "fd00::1"]),
    ) {
        let fields = [("x-forwarded-for", old.as_str()), ("forwarded", new.as_str())];
        let told = told(peer, "h", &fields);
        prop_assert!(told.x_forwarded_for.ends_with(peer));
        // A second edge that trusts the first believes no more than the first one did.
        let again = [("x-forwarded-for", told.x_forwarded_for.as_str()), ("forwarded", told.forwarded.as_str())];
        if peer == "203.0.113.9" {
            prop_assert_eq!(client("10.0.0.99", &again).address.to_string(), peer);
        }
        for value in [told.x_forwarded_for, told.forwarded] {
            prop_assert!(HeaderValue::from_str(&value).is_ok());
        }
    }
}
