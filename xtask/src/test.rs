//! `cargo xtask test`: from the cheap to the dear, and a table at the end.

use std::path::Path;
use std::process::Command;

use crate::steps::{self, Board, Outcome, has_program};
use crate::{fuzz, openapi, peers, tidy};

/// Run everything; a step that fails does not hide those after it.
pub(crate) fn run(board: &mut Board, root: &Path, with_peers: bool) {
    board.run("tidy", || tidy::check(root));
    board.run("format", || cargo(root, &["fmt", "--all", "--check"]));
    let clippy =
        ["clippy", "--workspace", "--all-targets", "--test", "e2e", "--", "-D", "warnings"];
    board.run("clippy", || cargo(root, &clippy));
    board.run("dependencies", || dependencies(root));
    board.run("openapi", || openapi::run(root, true));
    board.run("tests", || cargo(root, &["test", "--workspace", "--no-fail-fast"]));
    fuzz::run(board, root, None, None);
    if !with_peers {
        board.run("peers", || Outcome::Skipped("left out by --no-peers".into()));
        return;
    }
    board.run("install peers", || peers::install(&peers::TESTED));
    board.run("install what is measured", || peers::install(&peers::MEASURED));
    // Its tests say themselves which peer they miss.
    let peers = ["test", "-p", "cli", "--test", "e2e", "--", "--nocapture", "--test-threads=1"];
    board.run("peers", || cargo(root, &peers));
    // That the measuring works, never how fast anything is.
    let mut bench = vec!["run", "--quiet", "-p", "bench", "--", "bench", "--quick"];
    bench.extend(["--size", "64MiB", "--seconds", "0.2", "--backing", "memory"]);
    bench.extend(["--patterns", "rr4k-1,sw128k-8"]);
    bench.extend(["--works", "read4k-4,sync4k-1,create-2,read-2x3"]);
    board.run("bench, a trial", || cargo(root, &bench));
}

fn cargo(root: &Path, arguments: &[&str]) -> Outcome {
    steps::execute(&mut steps::cargo(root, arguments))
}

/// Licences, duplicate versions and sources, as deny.toml says. It looks at the crates of every
/// platform, also at those that no build here has fetched.
fn dependencies(root: &Path) -> Outcome {
    if !has_program("cargo-deny") {
        return Outcome::Skipped("cargo-deny is not installed (.ci/run installs it)".into());
    }
    let fetched = steps::execute(&mut steps::cargo(root, &["fetch", "--locked", "--quiet"]));
    if !matches!(fetched, Outcome::Passed(_)) {
        return Outcome::Skipped("the crates of other platforms cannot be fetched".into());
    }
    let mut command = Command::new("cargo-deny");
    command.current_dir(root).args(["--offline", "check", "bans", "licenses", "sources"]);
    steps::execute(&mut command)
}
