//! Every mistake is reported, at its own place; nothing panics.

use super::{SAMPLE, read};
use proptest::prelude::*;

/// Lines and columns of what was found in `text`.
fn places(text: &str) -> Vec<(usize, usize)> {
    read(text).unwrap_err().list.iter().map(|found| (found.line, found.column)).collect()
}

#[test]
fn all_errors_are_reported_at_once_each_at_its_place() {
    let text = "\
listen:
  - adress: 0.0.0.0:8080
    address: 8080
  - address: 0.0.0.0:80
    protocols: [http1, http4]
    http3: yes
limits:
  idle_timeout: 30
  idle_timeout: 20s
  http2_streams: 0
origins:
  media: {kind: htp, servers: [ftp://x]}
  other: {kind: plex}
sites:
  - origin: medai
    headers: {request: {set: {Host: a, \"X Y\": b}}}
    rewrites: [{from: \"(a\", to: b}, {from: (a), to: \"/$1x\"}]
  - origin: ${NOT_SET}
  - {name: x}
cache: {memory: 512M, colour: red}
admin: {address: 0.0.0.0:9090}
";
    let found = read(text).unwrap_err();
    let shown = found.render(false);
    for (line, column, words) in [
        (2, 5, "`adress`"),
        (2, 5, "did you mean `address`?"),
        (3, 14, "0.0.0.0:8080"),
        (5, 24, "did you mean `http1`?"),
        (6, 12, "write true"),
        (8, 17, "30s"),
        (9, 3, "given twice"),
        (10, 18, "1 to 10000"),
        (12, 17, "did you mean `http`?"),
        (12, 32, "scheme"),
        (13, 17, "not built yet"),
        (15, 13, "did you mean `media`?"),
        (16, 37, "cannot be changed"),
        (16, 40, "header name"),
        (17, 23, "regular expression"),
        (17, 53, "no group `1x`"),
        (18, 13, "`NOT_SET` is not set"),
        (19, 5, "`origin` is missing"),
        (20, 17, "MiB"),
        (20, 23, "unknown key `colour`"),
        (21, 18, "token"),
    ] {
        let there = found.list.iter().any(|one| {
            (one.line, one.column) == (line, column)
                && (one.message.contains(words) || one.advice.as_ref().is_some_and(|advice| advice.contains(words)))
        });
        assert!(there, "{line}:{column} {words}\n{shown}");
    }
}

#[test]
fn what_contradicts_itself_is_refused() {
    for (part, change, words) in [
        ("8443", "8080", "given twice"),
        ("  - origin: media", "  - origin: media\n  - origin: media", "two sites answer for"),
        ("  - origin: media", "  - {origin: media, name: a}\n  - {origin: media, name: a, paths: [/b]}", "site name"),
        ("127.0.0.1:9090", "0.0.0.0:8080, token: x", "one of `listen`"),
        ("127.0.0.1:9090", "\"[::]:9090\"", "beyond loopback"),
        ("127.0.0.1:9090", "\"[::]:9090\", token: \"\"", "beyond loopback"),
        ("    tls: self-signed", "   ", "needs `tls`"),
        ("    http3", "    protocols: []\n    http3", "speaks nothing"),
        ("    http3", "    proxy_protocol: true\n    http3", "trusted"),
        ("    http3", "    proxy_protocol: true\n    http3", "cannot go with"),
        ("kind: http ", "kind: library ", "belongs to"),
        ("servers: [http://127.0.0.1:9000]", "folders: [a]", "`servers` is missing"),
        ("[http://127.0.0.1:9000]", "[{url: http://a, weight: 0}]", "out of range"),
        ("[http://127.0.0.1:9000]", "[http://a, http://a]", "given twice"),
        ("[http://127.0.0.1:9000]", "[http://a]\n    timeouts: {connect: 1m}", "shorter than"),
        ("memory: 512MiB", "memory: 1KiB", "too small"),
        ("- origin: media", "- origin: media\n    redirects: [{from: a, to: /b, status: 200}]", "redirect's status"),
        ("- origin: media", "- origin: media\n    redirects: [{from: a, to: b}]", "redirect's target"),
        ("- origin: media", "- origin: media\n    cors: {origins: [\"*\"], credentials: true}", "credentials"),
        ("- origin: media", "- origin: media\n    allow: [10.0.0.300]", "not a network"),
        ("- origin: media", "- origin: media\n    hosts: [http://a]", "scheme"),
    ] {
        assert!(SAMPLE.contains(part));
        let found = read(&SAMPLE.replacen(part, change, 1)).expect_err(change).to_string();
        assert!(found.contains(words), "{change}: {found}");
    }
}

#[test]
fn one_mistake_is_one_error() {
    for (part, change) in [
        ("tls: self-signed", "tls: self-singed"),
        ("[http://127.0.0.1:9000]", "[127.0.0.1:9000]"),
        ("[http://127.0.0.1:9000]", "http://127.0.0.1:9000"),
        ("kind: http ", "kind: htp "),
        ("origin: media", "origin: medai"),
        ("  - origin: media", "  - {origin: media, hosts: a.b}\n  - origin: media"),
        ("  - origin: media", "  - {origin: media, paths: [a]}\n  - origin: media"),
        ("    http3", "    protocols: [http4]\n    http3"),
        ("127.0.0.1:9090", "0.0.0.0:9090, token: \"${NOT_SET}\""),
        ("memory: 512MiB", "memory: 512M"),
    ] {
        assert!(SAMPLE.contains(part));
        let found = read(&SAMPLE.replacen(part, change, 1)).expect_err(change);
        assert_eq!(found.count(crate::config::Severity::Error), 1, "{change}: {found}");
    }
}

#[test]
fn missing_blocks_are_named() {
    let found = read("workers: 2\n").unwrap_err().to_string();
    assert!(["listen", "origins", "sites"].iter().all(|key| found.contains(&format!("`{key}` is missing"))), "{found}");
    let found = read("listen: []\norigins: {}\nsites: []\n").unwrap_err();
    assert_eq!(found.list.iter().map(|found| found.line).collect::<Vec<_>>(), [1, 2, 3], "{found}");
    assert!(read("").unwrap_err().to_string().contains("empty"));
    assert!(read("5").unwrap_err().to_string().contains("mapping"));
    assert!(read("[]").unwrap_err().to_string().contains("mapping"));
}

#[test]
fn common_slips_are_told_how_it_is_written() {
    let text = "\
listen:
  - address: LISTEN
origins:
  media: { kind: http, servers: SERVERS }
sites:
  - origin: media
cache:
  MEMORY
";
    let good = [("LISTEN", "127.0.0.1:8080"), ("SERVERS", "[http://127.0.0.1:8096]"), ("MEMORY", "memory: 64MiB")];
    for (what, written, advice) in [
        ("LISTEN", "::1:8080", "\"[::1]:8080\""),
        ("LISTEN", "[::1]:8080", "needs quotes"),
        ("LISTEN", "127.0.0.1:70000", "65535"),
        ("LISTEN", "127.0.0.1:8080\n    tls: true", "{ cert: …, key: … }"),
        ("SERVERS", "http://127.0.0.1:8096", "[one, two]"),
        ("SERVERS", "[http://127.0.0.1:8096", "left open"),
        ("SERVERS", "[\"http://::1:8096\"]", "http://[::1]:8096"),
        ("SERVERS", "[http://$ORIGIN]", "${NAME}"),
        ("MEMORY", "memory 64MiB", "colon"),
        ("MEMORY", "disk: ./cache", "{ path: …, size: … }"),
        ("MEMORY", "disk: { path: ./cache, size: 20 }", "20GiB"),
    ] {
        let slip = good
            .iter()
            .fold(text.to_owned(), |text, (name, good)| text.replace(name, if *name == what { written } else { good }));
        let shown = read(&slip).map(|_| String::new()).unwrap_or_else(|found| found.render(false));
        assert!(shown.contains(advice), "{written}: {shown}");
    }
}

#[test]
fn bad_syntax_is_one_error_at_its_line() {
    assert_eq!(places(&SAMPLE.replace("[http:", "[[http:")).len(), 1);
    assert_eq!(places("listen:\n\t- address: a\n").len(), 1);
    assert_eq!(places("a: 1\n---\nb: 2\n"), [(2, 1)]);
    assert_eq!(places("listen: *nothing\n").len(), 1);
    assert_eq!(places("listen: !include other.yaml\n").len(), 1);
}

#[test]
fn hostile_files_are_refused_quickly() {
    let started = std::time::Instant::now();
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..30 {
        let alias = format!("*a{}", level - 1);
        bomb += &format!("a{level}: &a{level} [{}]\n", [alias.as_str(); 9].join(", "));
    }
    let deep = "[".repeat(100_000);
    let block = (0..2000).map(|depth| format!("{}a:\n", " ".repeat(depth))).take(700).collect::<String>();
    let large = "a: b\n".repeat(300_000);
    let many = (0..100_000).map(|key| format!("k{key}: 1\n")).collect::<String>();
    for text in [bomb, deep, block, large, many] {
        let found = read(&text).unwrap_err();
        assert!(found.list.len() <= super::super::diagnose::DIAGNOSTICS_MAX);
    }
    assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
}

/// Lines of the sample with a key, and the key.
fn keys() -> Vec<(usize, &'static str)> {
    let key = |line: &'static str| line.trim_start_matches([' ', '-']).split(':').next().filter(|key| !key.is_empty());
    SAMPLE.lines().enumerate().filter_map(|(index, line)| Some((index, key(line)?))).collect()
}

#[test]
fn every_key_of_the_sample_misspelt_is_reported_at_its_own_line() {
    for (index, key) in keys().into_iter().filter(|(_, key)| *key != "media") {
        let lines = SAMPLE
            .lines()
            .enumerate()
            .map(|(at, line)| if at == index { line.replacen(key, &format!("{key}zz"), 1) } else { line.to_owned() });
        let text = lines.collect::<Vec<_>>().join("\n");
        let found = read(&text).unwrap_err();
        let own = found.list.iter().any(|one| one.line == index + 1 && one.message.contains(&format!("`{key}zz`")));
        assert!(own, "{key}: {found}");
    }
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in "(?s).{0,200}") {
        let _ = read(&text);
    }

    #[test]
    fn arbitrary_yaml_never_panics(text in "[a-z0-9:{}\\[\\],&*!|>'\"#%@$ \n\t-]{0,120}") {
        let _ = read(&text);
    }

    #[test]
    fn a_damaged_sample_never_panics(at in 0..SAMPLE.len(), cut in 0usize..8, put in "[a-z0-9:{}\\[\\],&*$ \n-]{0,6}") {
        let end = (at + cut).min(SAMPLE.len());
        if SAMPLE.is_char_boundary(at) && SAMPLE.is_char_boundary(end) {
            let _ = read(&format!("{}{put}{}", &SAMPLE[..at], &SAMPLE[end..])).map(|loaded| super::super::show(&loaded));
        }
    }

    #[test]
    fn a_damaged_value_is_reported_at_its_own_line(which in 0usize..9) {
        let values = ["0.0.0.0:8080", "0.0.0.0:8443", "self-signed", "true", "http ", "http://127.0.0.1:9000", "512MiB", "20GiB", "127.0.0.1:9090"];
        let value = values[which];
        let line = SAMPLE[..SAMPLE.find(&format!(" {value}")).or(SAMPLE.find(value)).unwrap()].lines().count().max(1);
        let found = read(&SAMPLE.replacen(&format!(": {value}"), ": wrong!", 1).replacen(&format!("[{value}"), "[wrong!", 1)).unwrap_err();
        prop_assert!(found.list.iter().any(|one| one.line == line), "{value} {line}: {found}");
    }
}

#[test]
fn transcoders_on_other_hosts_need_tls_and_say_who_is_believed() {
    let base =
        "listen: [{address: 0.0.0.0:8080}]\norigins: {m: {kind: library, folders: [/films]}}\nsites: [{origin: m}]\n";
    let tls = "tls: {ca: ca.pem, cert: edge.pem, key: edge.key}";
    for (block, column, words) in [
        ("{servers: [http://gpu.lan:9443], TLS}", 23, "https://"),
        ("{servers: [unix:/run/x.sock], TLS}", 23, "https://"),
        ("{servers: [https://gpu.lan/x], TLS}", 23, "no path"),
        ("{servers: [https://gpu.lan, https://GPU.lan:443], TLS}", 40, "given twice"),
        ("{servers: [https://gpu.lan]}", 13, "needs `tls`"),
        ("{servers: [https://gpu.lan], tls: {ca: x, cert: y}}", 46, "`key` is missing"),
        ("{TLS}", 13, "is for `servers`"),
        ("{local: false}", 20, "nobody is left"),
    ] {
        let found = read(&format!("{base}transcode: {}\n", block.replace("TLS", tls))).unwrap_err();
        let shown = found.render(false);
        assert!(shown.contains(words), "{block}: {shown}");
        assert!(found.list.iter().all(|found| found.line == 4), "{block}: {shown}");
        assert!(found.list.iter().any(|found| found.column == column), "{block}: {column}: {shown}");
    }
    let loaded = read(&format!("{base}transcode: {{servers: [https://gpu.lan:9443], {tls}}}\n")).unwrap();
    let remote = loaded.config.transcode.unwrap().remote.unwrap();
    assert_eq!(remote.addresses[0].to_string(), "gpu.lan:9443");
    assert!(remote.tls.key.is_absolute());
}
