//! Steps of a task: each runs, is timed, and stands in the closing table.

use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

/// What came of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Done; the text is a remark for the table and may be empty.
    Passed(String),
    /// The text says what is wrong.
    Failed(String),
    /// The text says why it could not run.
    Skipped(String),
}

impl Outcome {
    /// Passed, without a remark.
    pub(crate) fn passed() -> Self {
        Self::Passed(String::new())
    }
}

/// The steps so far.
#[derive(Default)]
pub(crate) struct Board {
    rows: Vec<(String, Outcome, Duration)>,
}

impl Board {
    /// Run one step and note what came of it. A failure does not stop those after it: one run
    /// shows all that is wrong.
    pub(crate) fn run(&mut self, name: &str, step: impl FnOnce() -> Outcome) {
        eprintln!("\n== {name}");
        let begin = Instant::now();
        let outcome = step();
        if let Outcome::Failed(why) | Outcome::Skipped(why) = &outcome {
            eprintln!("{why}");
        }
        self.rows.push((name.to_owned(), outcome, begin.elapsed()));
    }

    /// Print the table; failure when a step failed.
    pub(crate) fn close(&self) -> ExitCode {
        eprint!("\n{}", self.table());
        let failed = self.rows.iter().any(|(_, outcome, _)| matches!(outcome, Outcome::Failed(_)));
        if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }

    fn table(&self) -> String {
        let width = self.rows.iter().map(|(name, ..)| name.len()).max().unwrap_or(0);
        let mut text = String::new();
        for (name, outcome, time) in &self.rows {
            let (word, remark) = match outcome {
                Outcome::Passed(remark) => ("ok", remark),
                Outcome::Failed(why) => ("FAILED", why),
                Outcome::Skipped(why) => ("skipped", why),
            };
            let remark = remark.lines().next().unwrap_or_default();
            let seconds = time.as_secs_f64();
            let row = format!("{word:<8} {name:<width$} {seconds:>7.1} s  {remark}");
            text.push_str(row.trim_end());
            text.push('\n');
        }
        text
    }
}

/// The cargo that runs us, in the workspace.
pub(crate) fn cargo(root: &Path, arguments: &[&str]) -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.current_dir(root).args(arguments);
    command
}

/// Run a command whose output the reader sees.
pub(crate) fn execute(command: &mut Command) -> Outcome {
    match command.status() {
        Ok(status) if status.success() => Outcome::passed(),
        Ok(status) => Outcome::Failed(format!("{}: {status}", sentence(command))),
        Err(why) => Outcome::Failed(format!("{}: {why}", sentence(command))),
    }
}

/// The command as one would type it.
pub(crate) fn sentence(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let words = std::iter::once(program).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Is there such a program in the search path?
pub(crate) fn has_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(name).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_tells_each_outcome_apart_and_a_failure_fails() {
        let mut board = Board::default();
        board.run("fmt", Outcome::passed);
        board.run("deny", || Outcome::Skipped("cargo-deny is not installed".into()));
        assert_eq!(board.close(), ExitCode::SUCCESS);
        board.run("tests", || Outcome::Failed("two tests\nmore".into()));
        let table = board.table();
        assert!(table.contains("ok       fmt"), "{table}");
        assert!(table.contains("skipped  deny"), "{table}");
        assert!(table.contains("cargo-deny is not installed"), "{table}");
        assert!(table.contains("FAILED   tests") && !table.contains("more"), "{table}");
        assert_eq!(board.close(), ExitCode::FAILURE);
    }

    #[test]
    fn a_missing_program_is_a_failure_that_names_it() {
        let outcome = execute(&mut Command::new("no-such-program-here"));
        assert!(matches!(outcome, Outcome::Failed(why) if why.contains("no-such-program-here")));
        assert!(has_program("sh") && !has_program("no-such-program-here"));
    }
}
