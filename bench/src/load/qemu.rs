//! `qemu-img bench`, which the packages have: no random order (a stride stands in for it), no
//! latencies, and a number of requests where fio takes a time.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

use super::{INITIATORS, Moved};
use crate::pattern::Pattern;
use crate::servers::Address;

/// Requests of the run that tells how many fill the time.
const TRIAL: u64 = 1000;
/// A stride that no read-ahead follows, for what is random elsewhere: an odd number of blocks.
const STRIDE_BLOCKS: u64 = 4099;

fn arguments(address: &Address, pattern: Pattern, requests: u64, volume_bytes: u64) -> Vec<String> {
    let image = match address {
        Address::Iscsi { portal, target, lun } => format!(
            "driver=raw,file.driver=iscsi,file.transport=tcp,file.portal={portal},\
             file.target={target},file.lun={lun},file.initiator-name={}",
            INITIATORS[1]
        ),
        Address::Nbd { port } => {
            format!("driver=raw,file.driver=nbd,file.host=127.0.0.1,file.port={port}")
        }
    };
    let block = u64::from(pattern.block_bytes);
    let step = if pattern.access.is_sequential() { block } else { block * STRIDE_BLOCKS };
    let mut arguments: Vec<String> = ["bench", "-t", "writeback"].map(str::to_owned).to_vec();
    arguments.extend([
        format!("-c{requests}"),
        format!("-d{}", pattern.depth),
        format!("-s{block}"),
        format!("-S{}", step % volume_bytes.max(1)),
    ]);
    if pattern.access.is_write() {
        arguments.push("-w".to_owned());
    }
    if pattern.flush {
        arguments.extend(["--flush-interval=1".to_owned(), "--no-drain".to_owned()]);
    }
    arguments.extend(["--image-opts".to_owned(), image]);
    arguments
}

pub(super) async fn run(
    address: &Address,
    pattern: Pattern,
    seconds: f64,
    volume_bytes: u64,
) -> Result<Moved> {
    let trial = round(address, pattern, TRIAL, volume_bytes).await?;
    let factor = (seconds / trial.max(1e-4)).clamp(1.0, 1e5);
    // The factor is bounded above.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let requests = (TRIAL as f64 * factor) as u64;
    let took = round(address, pattern, requests, volume_bytes).await?;
    let ios = requests as f64 * f64::from(pattern.connections);
    // The trial's requests were charged to the server as well.
    let trial_ios = TRIAL as f64 * f64::from(pattern.connections);
    let seconds = took + trial;
    Ok(Moved { ios: ios + trial_ios, seconds, p50_us: None, p99_us: None })
}

/// One process for each connection; the time of the slowest.
async fn round(
    address: &Address,
    pattern: Pattern,
    requests: u64,
    volume_bytes: u64,
) -> Result<f64> {
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..pattern.connections {
        let arguments = arguments(address, pattern, requests, volume_bytes);
        running.spawn(one(super::on_core(pattern.cores, "qemu-img".as_ref()), arguments));
    }
    let mut slowest = 0.0_f64;
    while let Some(ended) = running.join_next().await {
        slowest = slowest.max(ended??);
    }
    Ok(slowest)
}

async fn one(mut command: Command, arguments: Vec<String>) -> Result<f64> {
    let output = command.args(arguments).stdin(Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(Duration::from_secs(120), output);
    let output = output.await.context("qemu-img does not end")??;
    let said = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "qemu-img bench (package qemu-block-extra?): {error}");
    parse(&said).with_context(|| format!("qemu-img said: {said}"))
}

fn parse(said: &str) -> Option<f64> {
    let (_, rest) = said.split_once("Run completed in ")?;
    rest.split_once(" seconds")?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_read() {
        assert_eq!(parse("Sending 9\nRun completed in 1.250 seconds.\n"), Some(1.25));
        assert_eq!(parse("Run completed in"), None);
    }

    #[test]
    fn arguments_stride_where_the_order_is_random() {
        let address = Address::Nbd { port: 7 };
        let found = arguments(&address, "rr4k-32".parse().unwrap(), 9, 1 << 30);
        assert!(found.contains(&format!("-S{}", 4096 * STRIDE_BLOCKS)), "{found:?}");
        let found = arguments(&address, "sw128k-8".parse().unwrap(), 9, 1 << 30);
        assert!(found.contains(&"-S131072".to_owned()) && found.contains(&"-w".to_owned()));
    }
}
