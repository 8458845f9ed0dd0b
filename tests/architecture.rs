//! The shape of the source: rooms use only rooms below them, every file says why it exists, and stays readable.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The longest a file may be, in lines; a flat table may be longer if it is listed.
const LINES_MAX: usize = 450;
const LINES_MAX_SCRIPT: usize = 250;
const FLAT_TABLES: &[&str] = &["src/observe/metrics.rs"];

fn sources() -> Vec<(PathBuf, String)> {
    sources_in("rs")
}

/// The files below `src` with this extension.
fn sources_in(extension: &str) -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    let mut folders = vec![root.join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a source folder is readable") {
            let path = entry.expect("an entry of a source folder").path();
            if path.file_name().is_some_and(|name| name == "node_modules") {
                continue;
            } else if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == extension) {
                let text = std::fs::read_to_string(&path).expect("a source file is UTF-8");
                found.push((path.strip_prefix(root).expect("under the root").to_owned(), text));
            }
        }
    }
    found.sort();
    found
}

/// Rooms and their ranks, from the table in `src/lib.rs`: `| 5 | [`cli`]: … |`.
fn ranks() -> BTreeMap<String, u32> {
    let map = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).expect("src/lib.rs");
    let rows = map.lines().filter_map(|line| {
        let (rank, rooms) = line.strip_prefix("//! | ")?.split_once(" | ")?;
        Some((rank.trim().parse::<u32>().ok()?, rooms))
    });
    let mut ranks = BTreeMap::new();
    for (rank, rooms) in rows {
        for room in rooms.split("[`").skip(1).filter_map(|r| r.split_once("`]")) {
            ranks.insert(room.0.to_owned(), rank);
        }
    }
    ranks
}

/// `src/cache/store.rs` → `cache`; the crate's root, binaries and the page (which is no Rust but for its build script) belong to no room.
fn room(path: &Path) -> Option<String> {
    let below = path.strip_prefix("src").ok()?;
    let first = below.components().next()?.as_os_str().to_str()?;
    let name = first.trim_end_matches(".rs");
    (!matches!(name, "lib" | "main" | "bin" | "page")).then(|| name.to_owned())
}

/// The rooms a file names by `crate::room`, and by `crate::{a, b::c}`.
fn uses(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let code = text.lines().map(|line| if line.trim_start().starts_with("//") { "" } else { line });
    let code: Vec<&str> = code.collect();
    for (number, line) in code.iter().enumerate() {
        for rest in line.split("crate::").skip(1) {
            if let Some(list) = rest.strip_prefix('{') {
                let joined =
                    std::iter::once(list).chain(code[number + 1..].iter().copied()).collect::<Vec<_>>().join(" ");
                found.extend(top_level_names(&joined).into_iter().map(|name| (number + 1, name)));
            } else {
                let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                found.push((number + 1, name));
            }
        }
    }
    found
}

fn top_level_names(list: &str) -> Vec<String> {
    let (mut depth, mut names, mut name, mut in_path) = (0, Vec::new(), String::new(), false);
    for c in list.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                names.push(std::mem::take(&mut name));
                in_path = false;
            }
            ':' if depth == 0 => in_path = true,
            c if depth == 0 && !in_path && (c.is_alphanumeric() || c == '_') => name.push(c),
            _ => {}
        }
    }
    names.push(name);
    names.retain(|n| !n.is_empty());
    names
}

#[test]
fn rooms_use_only_rooms_below_them() {
    let ranks = ranks();
    assert!(ranks.len() >= 8, "the table of ranks in src/lib.rs was not understood: {ranks:?}");
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let Some(from) = room(&path) else { continue };
        let Some(rank) = ranks.get(&from) else {
            wrong.push(format!("{}: room `{from}` has no rank in src/lib.rs", path.display()));
            continue;
        };
        for (line, to) in uses(&text).into_iter().filter(|(_, to)| *to != from) {
            match ranks.get(&to) {
                Some(other) if other < rank => {}
                Some(other) => wrong.push(format!(
                    "{}:{line}: `{from}` (rank {rank}) uses `{to}` (rank {other}): only lower ranks may be used",
                    path.display()
                )),
                None => wrong.push(format!("{}:{line}: `crate::{to}` is no room of src/lib.rs", path.display())),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_file_opens_with_why_it_exists() {
    let silent: Vec<_> = sources().into_iter().filter(|(_, text)| !text.starts_with("//! ")).map(|(p, _)| p).collect();
    assert!(silent.is_empty(), "these files do not open with a `//!` header: {silent:?}");
}

#[test]
fn every_file_is_readable_in_one_sitting() {
    let long: Vec<_> = sources()
        .into_iter()
        .filter(|(path, _)| !FLAT_TABLES.iter().any(|t| Path::new(t) == path))
        .map(|(path, text)| (text.lines().count(), path))
        .filter(|(lines, _)| *lines > LINES_MAX)
        .collect();
    assert!(long.is_empty(), "longer than {LINES_MAX} lines: {long:?}");
}

#[test]
fn every_file_of_the_page_says_why_and_is_short() {
    let scripts = sources_in("ts");
    assert!(scripts.len() > 20, "the page's scripts are below src/page");
    let wrong: Vec<_> = scripts
        .into_iter()
        .filter(|(path, text)| {
            let is_test = path.to_string_lossy().ends_with(".test.ts");
            text.lines().count() > LINES_MAX_SCRIPT || !(is_test || text.starts_with("// "))
        })
        .map(|(path, _)| path)
        .collect();
    assert!(wrong.is_empty(), "longer than {LINES_MAX_SCRIPT} lines, or without a header: {wrong:?}");
}

#[test]
fn a_use_of_several_rooms_is_understood() {
    let text =
        "// use crate::comment;\nuse crate::{cache::{Store, fill}, http,\n  origin::pool};\nlet x = crate::edge::y();";
    let names: Vec<String> = uses(text).into_iter().map(|(_, name)| name).collect();
    assert_eq!(names, ["cache", "http", "origin", "edge"]);
}
