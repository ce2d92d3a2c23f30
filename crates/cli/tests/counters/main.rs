//! Counters that sixteen initiators increment by COMPARE AND WRITE, while sessions are dropped in
//! the middle of commands and snapshots are taken and merged: in the end every sum is exact.
//!
//! `COMMONHOLD_COUNTERS` sets the increments of each initiator (60),
//! `COMMONHOLD_COUNTERS_SEED` the seed (1). docs/testing.md says more.
#![allow(clippy::unwrap_used, reason = "a test that meets one has failed")]

mod block;
#[path = "../kill_nine/dice.rs"]
mod dice;
#[path = "../service/mod.rs"]
mod service;
mod writer;

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Instant;

use block::{Block, WRITERS};
use dice::Dice;
use host::{Credentials, LogicalUnit};
use serde_json::Value;
use service::Service;
use writer::{Seat, Tally, Writer};

/// Counters that all initiators share, and for each pair of initiators one of its own.
const SHARED: usize = 4;
const COUNTERS: usize = SHARED + WRITERS / 2;
/// Blocks from one counter to the next: neighbours in one chunk, and others in chunks apart.
const STRIDE: u64 = 61;

fn word<'a>(value: &'a Value, path: &str) -> &'a str {
    value.pointer(path).and_then(Value::as_str).unwrap_or_else(|| panic!("no {path} in {value}"))
}

fn iqn(writer: usize) -> String {
    format!("iqn.2026-11.org.example:counter-{writer}")
}

fn lba(counter: usize) -> u64 {
    u64::try_from(counter).unwrap() * STRIDE
}

/// A volume that all the hosts have.
fn prepare(service: &Service) -> Vec<Seat> {
    let grant = ["volume-type", "grant", "ssd-multiattach", "default"];
    service.json(&[&grant[..], &["--acknowledge-data-loss"]].concat());
    service.json(&["volume", "create", "v", "--size", "16m", "--type", "ssd-multiattach"]);
    let mut attach = vec!["attachment".to_owned(), "create".to_owned(), "v".to_owned()];
    for writer in 0..WRITERS {
        let name = format!("h{writer}");
        service.json(&["host", "create", &name, "--initiator", &iqn(writer)]);
        attach.extend(["--host".to_owned(), name]);
    }
    let made = service.json(&attach.iter().map(String::as_str).collect::<Vec<_>>());
    let made = made["attachments"].as_array().unwrap();
    let seat = |(writer, one): (usize, &Value)| Seat {
        portal: service.portal.clone(),
        iqn: iqn(writer),
        target: word(one, "/attachment/connection/target").to_owned(),
        credentials: Credentials {
            user: word(one, "/credentials/user").to_owned(),
            secret: word(one, "/credentials/secret").to_owned(),
        },
    };
    made.iter().enumerate().map(seat).collect()
}

/// Snapshots come and go, and are merged, until told to stop; how many.
fn snapshots(service: &Service, stop: &AtomicBool) -> usize {
    let mut taken = 0;
    while !stop.load(Relaxed) || taken < 2 {
        service.json(&["snapshot", "create", "v", &format!("s{taken}")]);
        if taken > 0 {
            service.json(&["snapshot", "delete", &format!("s{}", taken - 1)]);
        }
        taken += 1;
    }
    taken
}

async fn run(seats: &[Seat], increments: u64, seed: u64) -> Vec<Tally> {
    let writers = seats.iter().enumerate().map(|(number, seat)| {
        let dice = Dice(seed * 1000 + u64::try_from(number).unwrap());
        tokio::spawn(Writer::new(number, seat.clone(), dice).run(increments))
    });
    let writers: Vec<_> = writers.collect();
    let mut tallies = Vec::new();
    for writer in writers {
        tallies.push(writer.await.unwrap());
    }
    tallies
}

/// Each block holds what its writers were told that they added, and not one more.
async fn assert_exact(unit: &LogicalUnit, tallies: &[Tally]) -> u64 {
    let mut all = 0;
    for counter in 0..COUNTERS {
        let block = Block::parse(&unit.read(lba(counter), 1).await.unwrap()).unwrap();
        let told: Vec<u64> = tallies.iter().map(|tally| tally.added[counter]).collect();
        assert_eq!(block.tags.to_vec(), told, "counter {counter}");
        assert_eq!(block.sum, told.iter().sum::<u64>(), "counter {counter}");
        all += block.sum;
    }
    all
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

#[test]
fn compare_and_write_counts_exactly() {
    let (increments, seed) =
        (setting("COMMONHOLD_COUNTERS", 60), setting("COMMONHOLD_COUNTERS_SEED", 1));
    let service = Service::start();
    let seats = prepare(&service);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let stop = AtomicBool::new(false);
    let began = Instant::now();
    let (tallies, took, taken) = std::thread::scope(|scope| {
        let taking = scope.spawn(|| snapshots(&service, &stop));
        let tallies = runtime.block_on(run(&seats, increments, seed));
        let took = began.elapsed();
        stop.store(true, Relaxed);
        (tallies, took, taking.join().unwrap())
    });
    let sum = runtime.block_on(async {
        let (_session, unit) = seats[0].log_in().await.unwrap();
        assert_exact(&unit, &tallies).await
    });
    let total = |of: fn(&Tally) -> u64| tallies.iter().map(of).sum::<u64>();
    let (attempts, misses) = (total(|tally| tally.attempts), total(|tally| tally.misses));
    let (drops, landed) = (total(|tally| tally.drops), total(|tally| tally.landed));
    assert_eq!(sum, increments * u64::try_from(WRITERS).unwrap());
    assert!(misses > 0 && drops > 0, "{misses} miscompares, {drops} drops: nothing was contended");
    println!(
        "seed {seed}: {WRITERS} initiators, {COUNTERS} counters, sum {sum}, exact; {attempts} \
         COMPARE AND WRITE, {misses} miscompares ({} per 1000), {drops} sessions dropped with a \
         command under way, of which {landed} had landed; {taken} snapshots; {} ms, {} per second",
        misses * 1000 / attempts,
        took.as_millis(),
        u128::from(sum) * 1000 / took.as_millis(),
    );
}
