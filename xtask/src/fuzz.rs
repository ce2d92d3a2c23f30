//! `cargo xtask fuzz`: every fuzz target on the toolchain that builds everything else.
//!
//! Without a time each target gets its seeds and a fixed number of their mutations from a fixed
//! seed: the slice that `cargo xtask test` runs, so that no target rots. With a time it is a
//! campaign, whose finds stay in `fuzz/corpus`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::steps::{self, Board, Outcome};

/// Mutations of a slice, for each target.
const SLICE_RUNS: u32 = 20_000;
/// The longest input; that of most targets is far below.
const INPUT_BYTES_MAX: u32 = 16 << 10;

/// What the fuzzer's runtime needs to see where an input leads, and what opens the doors to
/// codecs that are private otherwise.
const FLAGS: [&str; 8] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cllvm-args=-simplifycfg-branch-fold-threshold=0",
    "-Ccodegen-units=1",
    "--cfg=fuzzing",
];

/// Build the targets, then run those that are meant: `only` one of them, or all.
pub(crate) fn run(board: &mut Board, root: &Path, only: Option<&str>, seconds: Option<u64>) {
    let mut built = None;
    board.run("build the fuzz targets", || match build(root) {
        Ok(directory) => {
            built = Some(directory);
            Outcome::passed()
        }
        Err(outcome) => outcome,
    });
    let Some(directory) = built else { return };
    let targets = match targets(root) {
        Ok(targets) => targets,
        Err(why) => return board.run("fuzz", || Outcome::Failed(why.to_string())),
    };
    let meant: Vec<_> = targets.iter().filter(|name| only.is_none_or(|o| *name == o)).collect();
    if meant.is_empty() {
        let known = targets.join(", ");
        return board.run("fuzz", || Outcome::Failed(format!("the targets are {known}")));
    }
    for name in meant {
        board.run(&format!("fuzz {name}"), || fuzz(root, &directory, name, seconds));
    }
}

/// One target for each file.
fn targets(root: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(root.join("fuzz/fuzz_targets"))? {
        let path = entry?.path();
        names.extend(path.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned));
    }
    names.sort_unstable();
    Ok(names)
}

/// Gives the directory of the programs.
fn build(root: &Path) -> Result<PathBuf, Outcome> {
    if !steps::has_program("c++") {
        return Err(Outcome::Skipped("no C++ compiler for the fuzzer's runtime".into()));
    }
    let triple = host_triple().ok_or(Outcome::Failed("rustc does not tell its host".into()))?;
    // With a target named, build scripts and macros are left as they are.
    let arguments = ["build", "--manifest-path", "fuzz/Cargo.toml", "--release", "--bins"];
    let mut command = steps::cargo(root, &arguments);
    command.args(["--target", &triple]);
    command.env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\u{1f}"));
    match steps::execute(&mut command) {
        Outcome::Passed(_) => Ok(root.join("fuzz/target").join(triple).join("release")),
        other => Err(other),
    }
}

fn host_triple() -> Option<String> {
    let program = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(program).arg("-vV").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.lines().find_map(|line| line.strip_prefix("host: ")).map(str::to_owned)
}

fn fuzz(root: &Path, programs: &Path, name: &str, seconds: Option<u64>) -> Outcome {
    let corpus = root.join("fuzz/corpus").join(name);
    let artifacts = root.join("fuzz/artifacts").join(name);
    let scratch = root.join("fuzz/target/slice").join(name);
    let _ = fs::remove_dir_all(&scratch);
    for directory in [&corpus, &artifacts, &scratch] {
        if let Err(why) = fs::create_dir_all(directory) {
            return Outcome::Failed(format!("{}: {why}", directory.display()));
        }
    }
    let mut command = Command::new(programs.join(name));
    command.arg(format!("-max_len={INPUT_BYTES_MAX}"));
    command.arg(format!("-artifact_prefix={}/", artifacts.display()));
    command.args(["-print_final_stats=1", "-timeout=20", "-rss_limit_mb=2048"]);
    match seconds {
        Some(seconds) => command.arg(format!("-max_total_time={seconds}")),
        // What it finds on the way is not kept: the next slice is the same.
        None => command.args([format!("-runs={SLICE_RUNS}"), "-seed=1".into()]).arg(&scratch),
    };
    command.arg(&corpus);
    let output = match command.output() {
        Ok(output) => output,
        Err(why) => return Outcome::Failed(format!("{}: {why}", steps::sentence(&command))),
    };
    let log = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        Outcome::Passed(summary(&log))
    } else {
        eprintln!("{log}");
        Outcome::Failed(format!("the input is in {}", artifacts.display()))
    }
}

/// Executions, coverage counters and size of the corpus, from the runtime's own lines.
fn summary(log: &str) -> String {
    let executed =
        log.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
    let last = log.lines().rev().find(|line| line.contains(" cov: ")).unwrap_or_default();
    let words: Vec<&str> = last.split_whitespace().collect();
    let after = |word: &str| {
        words.iter().position(|known| *known == word).and_then(|at| words.get(at + 1)).copied()
    };
    format!(
        "{} executions, coverage {}, corpus {}",
        executed.unwrap_or("?").trim(),
        after("cov:").unwrap_or("?"),
        after("corp:").unwrap_or("?"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_is_that_of_the_last_line() {
        let log = "#2\tINITED cov: 5 ft: 6 corp: 1/1b exec/s: 0\n\
            #9\tDONE   cov: 319 ft: 1406 corp: 112/118Kb lim: 5028 exec/s: 44726 rss: 28Mb\n\
            stat::number_of_executed_units: 89452\n";
        assert_eq!(summary(log), "89452 executions, coverage 319, corpus 112/118Kb");
        assert_eq!(summary(""), "? executions, coverage ?, corpus ?");
    }

    #[test]
    fn each_target_has_seeds() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let targets = targets(root).unwrap();
        assert!(targets.len() >= 13);
        for name in targets {
            let seeds = fs::read_dir(root.join("fuzz/corpus").join(&name)).unwrap();
            let names = seeds.map(|entry| entry.unwrap().file_name());
            let count = names.filter(|name| name.to_string_lossy().starts_with("seed-")).count();
            assert!(count > 0, "{name}");
        }
    }
}
