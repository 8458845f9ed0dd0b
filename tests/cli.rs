//! The command line: what each command says and with which exit code it ends (0 good, 1 failed, 2 bad usage or configuration).

use crate::support::{Edge, Origin, Reply, free_port, reelgate};
use serde_json::{Value, json};
use std::path::Path;

fn text(path: &Path) -> &str {
    path.to_str().expect("a temporary path is UTF-8")
}

fn code(arguments: &[&str]) -> Option<i32> {
    reelgate(arguments).status.code()
}

fn check(content: &str) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("x.yaml");
    std::fs::write(&file, content).expect("the file is written");
    let output = reelgate(&["check", "-c", text(&file)]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    (output.status.code(), said)
}

#[test]
fn the_configuration_of_the_contract_is_good() {
    let (code, said) = check(
        "listen:\n  - address: 0.0.0.0:8080\n  - address: 0.0.0.0:8443\n    tls: self-signed            # or {cert: …, key: …}\n    \
         http3: true\norigins:\n  media:\n    kind: http                  # http | jellyfin | plex | library\n    servers: \
         [http://127.0.0.1:9000]\nsites:\n  - origin: media               # hosts\ncache:\n  memory: 512MiB\n  disk: { path: \
         ./cache, size: 20GiB }\nadmin: { address: 127.0.0.1:9090 }\n",
    );
    assert_eq!(code, Some(0), "{said}");
    assert!(!said.contains("not built yet"), "all of it is built: {said}");
}

#[test]
fn every_error_is_shown_at_once_with_its_place() {
    let (code, said) = check(
        "listen:\n  - address: nonsense\norigins:\n  a: { kind: http, servers: [http://127.0.0.1:1], colour: red }\nsites:\n  - \
         origin: missing\ncache: { memory: lots }\nlog: { level: info, level: warn }\n",
    );
    assert_eq!(code, Some(2), "{said}");
    for part in ["nonsense", "colour", "missing", "lots", "level"] {
        assert!(said.contains(part), "{part} is not named: {said}");
    }
    for line in [2, 4, 6, 7, 8] {
        assert!(said.contains(&format!(":{line}:")), "line {line} is not named: {said}");
    }
}

#[test]
fn a_kind_not_built_yet_is_an_error() {
    for kind in ["jellyfin", "plex"] {
        let (code, said) = check(&format!(
            "listen: [{{address: 127.0.0.1:8080}}]\norigins: {{a: {{kind: {kind}, servers: [http://127.0.0.1:1]}}}}\nsites: \
             [{{origin: a}}]\n"
        ));
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(kind), "{said}");
    }
}

#[test]
fn bad_usage_is_2() {
    for arguments in
        [&["nonsense"][..], &["serve"], &["check", "-c", "/nonexistent/x.yaml"], &["serve", "--nonsense"], &[]]
    {
        assert_eq!(code(arguments), Some(2), "{arguments:?}");
    }
    for command in ["purge --all", "explain http://localhost/a", "optimise a"] {
        let arguments: Vec<&str> = command.split(' ').collect();
        let output = reelgate(&arguments);
        assert_eq!(output.status.code(), Some(2), "{command}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("--config <FILE>|--admin <URL>"), "either names the edge: {said}");
    }
    assert_eq!((code(&["--help"]), code(&["--version"]), code(&["serve", "--help"])), (Some(0), Some(0), Some(0)));
}

#[test]
fn online_finds_what_is_out_of_reach() {
    let origin = Origin::start();
    let file = Edge::of(&origin).write();
    assert_eq!(code(&["check", "-c", file.name(), "--online"]), Some(0));
    let gone = Edge::of_url(&format!("http://127.0.0.1:{}", free_port()));
    let file = gone.write();
    assert_eq!(
        (code(&["check", "-c", file.name()]), code(&["check", "-c", file.name(), "--online"])),
        (Some(0), Some(1))
    );
    // Added rungs need a transcoder as libraries do.
    let program = "/nonexistent/transcoder";
    let file = Edge::of(&origin).set("origins.main.add_renditions", "auto").set("transcode.program", program).write();
    let output = reelgate(&["check", "-c", file.name(), "--online"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains(&format!("{program} cannot be started")), "{said}");
    assert_eq!(output.status.code(), Some(0), "origins are there without it");
}

#[test]
fn show_is_complete_masked_and_readable_again() {
    let origin = Origin::start();
    let builder = Edge::of(&origin).set("admin.token", "hunter2-4f6a").set("sites.0.name", "films");
    let file = builder.write();
    let output = reelgate(&["config", "show", "-c", file.name()]);
    assert_eq!(output.status.code(), Some(0));
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!shown.contains("hunter2"), "{shown}");
    let value: Value = serde_yaml::from_str(&shown).expect("config show writes YAML");
    assert_eq!(value["sites"][0]["name"], "films");
    assert!(value["limits"]["header_timeout"].is_string(), "defaults are filled in: {shown}");
    let again = file.path().with_file_name("again.yaml");
    std::fs::write(&again, shown).expect("the file is written");
    assert_eq!(code(&["check", "-c", text(&again)]), Some(0));
}

#[test]
fn variables_are_filled_in() {
    let (code, said) = check(
        "listen: [{address: \"127.0.0.1:${REELGATE_TEST_UNSET:-8080}\"}]\norigins: {a: {kind: http, servers: \
         [http://127.0.0.1:1]}}\nsites: [{origin: a}]\n",
    );
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = check(
        "listen: [{address: \"127.0.0.1:${REELGATE_TEST_UNSET}\"}]\norigins: {a: {kind: http, servers: \
         [http://127.0.0.1:1]}}\nsites: [{origin: a}]\n",
    );
    assert_eq!(code, Some(2));
    assert!(said.contains("REELGATE_TEST_UNSET"), "{said}");
}

#[test]
fn the_schema_is_draft_7() {
    let output = reelgate(&["config", "schema"]);
    assert_eq!(output.status.code(), Some(0));
    let schema: Value = serde_json::from_slice(&output.stdout).expect("config schema writes JSON");
    assert!(schema["$schema"].as_str().is_some_and(|s| s.contains("draft-07")), "{}", schema["$schema"]);
    for key in ["listen", "origins", "sites", "cache", "admin", "limits", "log", "shutdown", "trusted_proxies"] {
        assert!(schema["properties"][key].is_object(), "{key} is not in the schema");
    }
}

#[test]
fn explain_says_why() {
    let origin = Origin::start().route("/a", Reply::cacheable("x"));
    let file = Edge::of(&origin).set("sites.0.name", "films").write();
    let output = reelgate(&["explain", "-c", file.name(), "http://localhost/a?b=c"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("films"), "{output:?}");
}

#[test]
fn shells_get_their_completions() {
    for shell in ["bash", "zsh", "fish"] {
        let output = reelgate(&["completions", shell]);
        assert_eq!(output.status.code(), Some(0), "{shell}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("reelgate"), "{shell}");
    }
}

#[test]
fn a_builder_of_the_harness_writes_what_it_is_told() {
    let origin = Origin::start();
    let file = Edge::of(&origin).set("sites.1", json!({"origin": "main", "hosts": ["a.test"]})).write();
    let value: Value = serde_yaml::from_str(&std::fs::read_to_string(file.path()).expect("readable")).expect("YAML");
    assert_eq!(value["sites"][1]["hosts"][0], "a.test");
}
