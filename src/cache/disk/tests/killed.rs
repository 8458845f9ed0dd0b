//! A process that is killed at any moment: what its tickets said was written is there, what they said was removed is not.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use super::*;

const FOLDER: &str = "REELGATE_TEST_DISK_FOLDER";
const SIZE: u64 = 64 * MIB;
const ROUNDS: u64 = 12;

fn bytes_of(version: u64) -> usize {
    (version as usize * 7919) % 400_000
}

/// The child's part: nothing, unless the test below runs it.
#[tokio::test]
async fn child_that_writes_until_it_is_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let log = open(Path::new(&folder), SIZE).await;
    let said = |line: String| std::io::stdout().write_all(line.as_bytes()).expect("the parent listens");
    for n in 1..20_000 {
        // Versions grow over restarts too.
        let version = (log.epoch() << 32) + n;
        let ticket = log.offer(record(key(n % 10), version, bytes_of(n))).expect("there is room");
        if n % 3 == 0 {
            // Others wait in the queue when the end comes.
            ticket.written().await.expect("the disk works");
            said(format!("\nwritten {} {version} {}\n", n % 10, bytes_of(n)));
        }
        if n % 7 == 0 {
            log.remove(key(n % 10), version).expect("there is room").written().await.expect("the disk works");
            said(format!("\nremoved {} {version} 0\n", n % 10));
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_killed_process_loses_nothing_it_was_told_and_nothing_removed_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let test = "cache::disk::tests::killed::child_that_writes_until_it_is_killed";
    let mut written: HashMap<u64, (u64, usize)> = HashMap::new();
    let mut removed: HashMap<u64, u64> = HashMap::new();
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut take = |line: String| {
            let words: Vec<&str> = line.split(' ').collect();
            if let ["written" | "removed", n, version, bytes] = words[..] {
                let (n, version) = (n.parse().unwrap(), version.parse().unwrap());
                if words[0] == "written" {
                    written.insert(n, (version, bytes.parse().unwrap()));
                } else {
                    removed.insert(n, version);
                }
                return true;
            }
            false
        };
        let mut told = 0;
        while told < 5 + round * 3 {
            told += u64::from(take(lines.next().expect("the child writes until it is killed")));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        lines.for_each(|line| _ = take(line));
        let log = open(folder.path(), SIZE).await;
        for n in 0..10 {
            let found = log.peek(key(n));
            let gone = removed.get(&n).copied().unwrap_or(0);
            if let Some(found) = found {
                assert!(found.version > gone, "{n} came back: {found:?}, removed {gone}");
                let bytes = bytes_of(found.version & 0xFFFF_FFFF);
                assert!(holds(&log, key(n), found.version, bytes).await);
            }
            if let Some((version, _)) = written.get(&n).filter(|(version, _)| *version > gone) {
                // A newer one, or its removal, may have been written without anyone having been told.
                assert!(found.is_none_or(|found| found.version >= *version), "{n} went back to {found:?}");
            }
        }
        assert!(log.stats().objects > 0, "something is left");
        assert_eq!(log.stats().read_errors, 0);
    }
}
