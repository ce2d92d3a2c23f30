//! Programs of the system that the agent runs, each with an end.

use std::process::Output;
use std::time::Duration;

use tokio::process::Command;

/// Run it to its end, whatever that is.
///
/// # Errors
/// It cannot be started, or has not ended in time, and is killed.
pub(super) async fn run(line: &[&str], limit: Duration) -> Result<Output, String> {
    let (program, arguments) = line.split_first().ok_or("no program")?;
    let mut command = Command::new(program);
    let output = command.args(arguments).stdin(std::process::Stdio::null()).kill_on_drop(true);
    match tokio::time::timeout(limit, output.output()).await {
        Ok(Ok(output)) => Ok(output),
        Ok(Err(why)) => Err(format!("{program}: {why}")),
        Err(_) => Err(format!("{program}: no end within {limit:?}")),
    }
}

/// The last that it said about what went wrong.
pub(super) fn said(output: &Output) -> String {
    let all = [&output.stderr[..], &output.stdout[..]].concat();
    let all = String::from_utf8_lossy(&all);
    all.trim().lines().last().unwrap_or("it failed").to_owned()
}

/// Run it to a good end.
///
/// # Errors
/// [`run`], or what it said.
pub(super) async fn call(line: &[&str], limit: Duration) -> Result<String, String> {
    let output = run(line, limit).await?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(format!("{}: {}", line.join(" "), said(&output))),
    }
}
