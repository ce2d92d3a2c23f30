//! What a crate must not touch: the world outside, except in the rooms made for it.

use super::Page;
use crate::source::Source;

/// A rule: these words of code stand only in these crates. Tests and xtask are free.
struct Wall {
    words: &'static [&'static str],
    crates: &'static [&'static str],
    /// Files elsewhere that may, for a reason of their own.
    files: &'static [&'static str],
    why: &'static str,
}

impl Wall {
    fn is_open_to(&self, page: &Page, name: &str) -> bool {
        self.crates.contains(&name) || self.files.contains(&page.path.as_str())
    }
}

const WALLS: [Wall; 5] = [
    Wall {
        words: &["std::fs", "tokio::fs", "File::open", "File::create"],
        crates: &["env", "cli"],
        // SQLite opens its file itself; this one prepares it with the right mode.
        files: &["crates/control/src/catalog/sqlite.rs"],
        why: "files are reached through env, so that the simulator can stand in",
    },
    Wall {
        words: &["Instant::now", "SystemTime::now", "Timestamp::now"],
        crates: &["env", "cli"],
        // How long a request took, for its metric: nothing is decided by it.
        files: &["crates/server/src/attend.rs"],
        why: "time comes from env::Clock, so that a test can turn it",
    },
    Wall {
        words: &["thread::spawn", "thread::Builder", "thread::scope"],
        crates: &["env", "node", "cli"],
        files: &[],
        why: "threads are the workers' of node and env, nobody else's",
    },
    Wall {
        words: &["tokio::"],
        crates: &["env", "store", "control", "node", "host", "server", "cli", "sim"],
        files: &[],
        why: "protocols, models and the contract know no runtime",
    },
    Wall {
        words: &["tokio::spawn", "tokio::time", "tokio::net", "spawn_blocking"],
        crates: &["env", "control", "node", "host", "server", "cli", "sim"],
        files: &[],
        why: "the store runs on whatever executor polls it",
    },
];

/// Values in, values out.
const PURE: [&str; 5] = ["model", "scsi", "iscsi", "nfs", "guard"];
const IMPURE_WORDS: [&str; 5] = ["async fn", "TcpStream", "UdpSocket", "std::process", "std::env"];

pub(super) fn check(page: &Page, source: &Source) -> Vec<String> {
    let Some(name) = page.crate_name().filter(|_| !page.is_test()) else {
        return Vec::new();
    };
    let mut wrong = Vec::new();
    let lines = source.lines();
    let turns_with_tokio = lines.iter().any(|line| line.contains("use tokio::time::Instant;"));
    for (number, (line, test)) in (1..).zip(lines.iter().zip(source.test_lines())) {
        if test {
            continue;
        }
        for wall in WALLS.iter().filter(|wall| !wall.is_open_to(page, name)) {
            for word in wall.words.iter().filter(|word| line.contains(**word)) {
                // Tokio's own clock is one that a test can turn.
                if *word == "Instant::now" && turns_with_tokio {
                    continue;
                }
                wrong.push(format!("{}:{number}: {word} in {name}: {}", page.path, wall.why));
            }
        }
        if PURE.contains(&name) {
            for word in IMPURE_WORDS.iter().filter(|word| line.contains(**word)) {
                wrong.push(format!("{}:{number}: {word} in {name}, which is pure", page.path));
            }
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::super::tests::page;
    use super::*;

    fn findings(path: &str, text: &str) -> Vec<String> {
        check(&page(path, text), &Source::new(text))
    }

    #[test]
    fn walls_hold_in_code_and_leave_tests_and_comments_alone() {
        let text = "use std::fs;\n";
        assert!(findings("crates/store/src/pool.rs", text)[0].contains("std::fs in store"));
        assert!(findings("crates/env/src/files.rs", text).is_empty());
        assert!(findings("crates/store/tests/pool.rs", text).is_empty());
        assert!(findings("xtask/src/main.rs", text).is_empty());
        assert!(findings("crates/store/src/pool.rs", "// std::fs is not for us\n").is_empty());
        let test = "#[cfg(test)]\nmod tests {\n    use std::fs;\n}\n";
        assert!(findings("crates/store/src/pool.rs", test).is_empty());
    }

    #[test]
    fn pure_crates_know_no_runtime() {
        assert_eq!(findings("crates/scsi/src/a.rs", "async fn a() { tokio::x() }\n").len(), 2);
        assert!(
            findings("crates/store/src/a.rs", "async fn a() { tokio::sync::x() }\n").is_empty()
        );
        assert_eq!(findings("crates/store/src/a.rs", "fn a() { tokio::spawn(x) }\n").len(), 1);
        let now = "fn a() { Instant::now() }\n";
        assert_eq!(findings("crates/control/src/a.rs", now).len(), 1);
        let tokio = format!("use tokio::time::Instant;\n{now}");
        assert!(findings("crates/control/src/a.rs", &tokio).is_empty());
    }
}
