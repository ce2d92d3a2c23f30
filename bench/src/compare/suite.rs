//! The public suite of libiscsi against the same targets (tests/peers/iscsi-suite).

use std::process::Stdio;

use anyhow::{Context, Result};
use serde_json::Value;
use tokio::process::Command;

use super::Found;
use crate::process::has_program;
use crate::servers::{Address, Places};

/// Its totals, or None where the suite is not installed.
pub(super) async fn run(places: &Places, address: &Address) -> Result<Option<Found>> {
    let Address::Iscsi { portal, target, lun } = address else { return Ok(None) };
    if !has_program("iscsi-test-cu") || !has_program("python3") {
        return Ok(None);
    }
    let output = Command::new(places.scripts.join("iscsi-suite"))
        .arg(format!("iscsi://{portal}/{target}/{lun}"))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let said = String::from_utf8(output.await?.stdout)?;
    summary(&said).context("the suite says no summary").map(Some)
}

/// The last line has the totals; what did not pass is named.
fn summary(said: &str) -> Option<Found> {
    let lines: Vec<Value> =
        said.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let totals = lines.last()?.get("summary")?;
    let count = |word: &str| totals.get(word).and_then(Value::as_u64).unwrap_or(0);
    let bad: Vec<&str> = lines
        .iter()
        .filter(|line| !matches!(line["result"].as_str(), Some("pass" | "skip") | None))
        .filter_map(|line| line["test"].as_str())
        .collect();
    let failed = count("fail") + count("timeout") + count("crash");
    let mut told = format!("{} pass, {} skip, {failed} fail", count("pass"), count("skip"));
    if !bad.is_empty() {
        told.push_str(&format!(" ({})", bad.join(", ")));
    }
    Some(Found::new(failed == 0, told))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_totals_name_what_failed() {
        let said = r#"{"test": "Read10.Simple", "result": "pass"}
{"test": "Reserve6.Simple", "result": "fail"}
{"summary": {"pass": 1, "fail": 1, "skip": 2}, "total": 4}
"#;
        let found = summary(said).unwrap();
        assert_eq!(
            (found.holds, found.told.as_str()),
            (false, "1 pass, 2 skip, 1 fail (Reserve6.Simple)")
        );
        assert!(summary("").is_none() && summary("{\"test\": \"a\"}\n").is_none());
    }
}
