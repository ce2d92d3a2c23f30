//! fio: its arguments, and what its JSON says.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::Moved;
use crate::pattern::{Access, Pattern};
use crate::servers::Address;

/// Does this fio know both protocols?
pub(super) fn has_engines(program: &Path) -> bool {
    let output = std::process::Command::new(program).arg("--enghelp").output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    text.is_ok_and(|text| {
        let has = |name: &str| text.split_whitespace().any(|word| word == name);
        has("libiscsi") && has("nbd")
    })
}

fn arguments(address: &Address, pattern: Pattern, seconds: f64, volume_bytes: u64) -> Vec<String> {
    let kind = match pattern.access {
        Access::RandomRead => "randread",
        Access::RandomWrite => "randwrite",
        Access::SequentialRead => "read",
        Access::SequentialWrite => "write",
    };
    let mut arguments: Vec<String> =
        ["--name=load", "--thread", "--group_reporting", "--time_based", "--norandommap"]
            .map(str::to_owned)
            .to_vec();
    // The engines differ in what they do before a command counts as sent: only the time from
    // submission to completion compares them.
    arguments.extend(["--lat_percentiles=1", "--clat_percentiles=0"].map(str::to_owned));
    arguments.extend([
        "--randrepeat=0".to_owned(),
        "--output-format=json".to_owned(),
        format!("--rw={kind}"),
        format!("--bs={}", pattern.block_bytes),
        format!("--iodepth={}", pattern.depth),
        format!("--numjobs={}", pattern.connections),
        format!("--size={volume_bytes}"),
        format!("--runtime={}ms", (seconds * 1e3).round()),
    ]);
    if pattern.flush {
        arguments.push("--fsync=1".to_owned());
    }
    match address {
        Address::Iscsi { portal, target, lun } => {
            // fio takes a colon for the end of a file's name.
            let name = format!("iscsi://{portal}/{target}/{lun}").replace(':', "\\:");
            arguments.extend(["--ioengine=libiscsi".to_owned(), format!("--filename={name}")]);
        }
        Address::Nbd { port } => {
            let uri = format!("--uri=nbd://127.0.0.1:{port}/");
            arguments.extend(["--ioengine=nbd".to_owned(), uri]);
        }
    }
    arguments
}

pub(super) async fn run(
    program: &Path,
    address: &Address,
    pattern: Pattern,
    seconds: f64,
    volume_bytes: u64,
) -> Result<Moved> {
    let output = super::on_core(pattern.cores, program.as_os_str())
        .args(arguments(address, pattern, seconds, volume_bytes))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let limit = Duration::from_secs_f64(seconds * 4.0 + 20.0);
    let output = tokio::time::timeout(limit, output).await.context("fio does not end")??;
    let said = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "fio: {} {error} {said}", output.status);
    parse(&said, pattern.access.is_write()).with_context(|| format!("fio said: {said} {error}"))
}

/// The group's figures. Warnings may stand before the JSON.
fn parse(said: &str, is_write: bool) -> Option<Moved> {
    let json: Value = serde_json::from_str(said.get(said.find('{')?..)?).ok()?;
    let job = json.pointer("/jobs/0")?;
    let side = job.get(if is_write { "write" } else { "read" })?;
    let number = |path: &str| side.pointer(path).and_then(Value::as_f64);
    let microseconds =
        |percentile: &str| number(&format!("/lat_ns/percentile/{percentile}")).map(|ns| ns / 1e3);
    let ios = number("/total_ios").filter(|ios| *ios > 0.0)?;
    let iops = number("/iops").filter(|iops| *iops > 0.0)?;
    Some(Moved {
        ios,
        seconds: ios / iops,
        p50_us: microseconds("50.000000"),
        p99_us: microseconds("99.000000"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_say_the_pattern_and_escape_the_address() {
        let address =
            Address::Iscsi { portal: "127.0.0.1:9".into(), target: "iqn.a:b".into(), lun: 1 };
        let found = arguments(&address, "rw4k-1fx2".parse().unwrap(), 1.5, 4096);
        for wanted in [
            "--rw=randwrite",
            "--bs=4096",
            "--iodepth=1",
            "--numjobs=2",
            "--fsync=1",
            "--runtime=1500ms",
            "--filename=iscsi\\://127.0.0.1\\:9/iqn.a\\:b/1",
        ] {
            assert!(found.iter().any(|one| one == wanted), "{wanted} in {found:?}");
        }
        let found = arguments(&Address::Nbd { port: 7 }, "sr1m-4".parse().unwrap(), 1.0, 4096);
        assert!(found.contains(&"--uri=nbd://127.0.0.1:7/".to_owned()));
        assert!(!found.contains(&"--fsync=1".to_owned()));
    }

    #[test]
    fn the_right_side_of_the_answer_is_read() {
        let said = r#"warning: x
            {"jobs": [{"read": {"total_ios": 0, "iops": 0.0},
            "write": {"total_ios": 300, "iops": 150.0,
            "lat_ns": {"percentile": {"50.000000": 2500, "99.000000": 9000}}}}]}"#;
        let moved = parse(said, true).unwrap();
        let wanted = Moved { ios: 300.0, seconds: 2.0, p50_us: Some(2.5), p99_us: Some(9.0) };
        assert_eq!(moved, wanted);
        assert_eq!(parse(said, false), None, "nothing was read");
        assert_eq!(parse("no json", true), None);
        assert_eq!(parse("{\"jobs\": []}", true), None);
    }
}
