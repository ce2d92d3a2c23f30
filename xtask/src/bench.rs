//! `cargo xtask bench` and `cargo xtask compare`: both are the crate `bench`, built for speed.

use std::path::Path;

use crate::peers;
use crate::steps::{self, Board, Outcome};

/// Build what is measured and what measures it, then hand over; `task` is the verb of the crate.
pub(crate) fn run(board: &mut Board, root: &Path, task: &str, arguments: &[String]) {
    let asks = arguments.iter().any(|argument| ["--help", "-h"].contains(&argument.as_str()));
    if !asks {
        board.run("install peers", || peers::install(&peers::MEASURED));
    }
    let mut build = steps::cargo(root, &["build", "--release", "-p", "cli", "-p", "bench"]);
    let mut outcome = steps::execute(&mut build);
    if matches!(outcome, Outcome::Passed(_)) {
        // `run`, not the file: the target directory may be elsewhere.
        let mut command = steps::cargo(root, &["run", "--release", "--quiet", "-p", "bench", "--"]);
        command.arg(task).args(arguments);
        outcome = steps::execute(&mut command);
    }
    board.run(task, || outcome);
}
