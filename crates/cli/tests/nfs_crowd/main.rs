//! Many NFSv4.1 clients at once, each with a session, an open file and locks: what they cost the
//! server, how long each waits, and how long beside one that floods it.
//!
//! ```text
//!   calm: each client writes 4 KiB and reads them back, again and again, with a pause --.
//!   flood: one more client, as many reads of 1 MiB under way as it gets ----------------+--> serve
//! ```
//!
//! Small by default; `COMMONHOLD_NFS_CLIENTS` says how many, `COMMONHOLD_NFS_CLIENTS_SECONDS` how
//! long each part takes.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that prints its figures")]

mod client;
#[allow(dead_code, reason = "another program prints tables of it")]
#[path = "../scale/figures.rs"]
mod figures;
#[path = "../nfs_client/mod.rs"]
mod nfs_client;
#[path = "../service/mod.rs"]
mod service;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use client::{Crowded, flood};
use figures::{Times, ms, processor_time};
use nfs_client::place;
use service::Service;

/// Between two steps of a client: five hundred of them make some five thousand requests a second.
const PAUSE: Duration = Duration::from_millis(200);
/// What a client's state, connection and buffers may cost the server, besides what its threads'
/// allocators take when they begin to work.
const CLIENT_BYTES_MAX: u64 = 128 << 10;
const THREADS_BYTES_MAX: u64 = 16 << 20;
const THREADS_MAX: u64 = 100;

fn setting(name: &str, default: u32) -> u32 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

fn threads(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("Threads:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// How long steps took, of all clients together, for so long.
fn calm(clients: Vec<Crowded>, limit: Duration) -> (Vec<Crowded>, Times) {
    let start = Arc::new(Barrier::new(clients.len()));
    let running: Vec<_> = clients
        .into_iter()
        .map(|mut client| {
            let start = Arc::clone(&start);
            let work = move || {
                start.wait();
                // Not all at the same moment.
                std::thread::sleep(PAUSE * client.number() / 1000);
                let (begin, mut times) = (Instant::now(), Vec::new());
                while begin.elapsed() < limit {
                    let step = Instant::now();
                    client.step();
                    times.push(step.elapsed());
                    std::thread::sleep(PAUSE);
                }
                (client, times)
            };
            std::thread::Builder::new().stack_size(256 << 10).spawn(work).unwrap()
        })
        .collect();
    let mut all = Vec::new();
    let clients = running
        .into_iter()
        .map(|thread| {
            let (client, times) = thread.join().unwrap();
            all.extend(times);
            client
        })
        .collect();
    (clients, Times::of(all))
}

fn tell(what: &str, times: &Times) {
    let (median, p99, longest) = (times.median(), times.percentile(99), times.longest());
    println!("{what}: p50 {} ms, p99 {} ms, longest {} ms", ms(median), ms(p99), ms(longest));
}

#[test]
fn each_of_a_crowd_is_served_also_beside_one_that_floods() {
    if !place::is_root() {
        return;
    }
    let count = setting("COMMONHOLD_NFS_CLIENTS", 50);
    let limit = Duration::from_secs(setting("COMMONHOLD_NFS_CLIENTS_SECONDS", 2).into());
    let portal: SocketAddr = place::portal(1);
    let home = tempfile::tempdir().unwrap();
    let service = Service::start_in(home, &["--nfs-portals", &portal.to_string()]);
    place::make_pool(&service);
    service.json(&["volume", "create", "--kind", "file", "--size", "2g", "tree"]);
    let resource = service.json(&["volume", "show", "tree"]);
    let resource = resource["resource"].as_str().unwrap();
    let path = resource.strip_prefix("nfs://").and_then(|rest| rest.split_once('/')).unwrap().1;

    let before = service.resident_bytes();
    let began = Instant::now();
    let clients: Vec<Crowded> =
        (0..count).map(|number| Crowded::new(portal, path, number)).collect();
    println!("{count} clients with a session, an open file and two locks in {:?}", began.elapsed());
    let grown = service.resident_bytes().saturating_sub(before);
    let each = grown / u64::from(count);
    println!("memory: {} KiB, {} KiB for each client", service.resident_bytes() >> 10, each >> 10);

    let (wall, spent) = (Instant::now(), processor_time(service.pid()));
    let (clients, alone) = calm(clients, limit);
    let cores =
        (processor_time(service.pid()) - spent).as_secs_f64() / wall.elapsed().as_secs_f64();
    println!("server: {cores:.2} cores, {} threads", threads(service.pid()));
    tell("a step of a client", &alone);

    let ends = Arc::new(AtomicBool::new(false));
    let (path, until) = (path.to_owned(), Arc::clone(&ends));
    let flooding = std::thread::spawn(move || flood(portal, &path, &until));
    let (clients, beside) = calm(clients, limit);
    ends.store(true, Ordering::Release);
    let flooded = flooding.join().unwrap();
    tell("beside a flood", &beside);
    println!("of which {} MiB were answered; server: {} threads", flooded, threads(service.pid()));
    let most = service.resident_bytes();
    println!("memory after it: {} KiB", most >> 10);

    let most_grown = u64::from(count) * CLIENT_BYTES_MAX + THREADS_BYTES_MAX;
    assert!(grown < most_grown, "a client costs {each} bytes");
    assert!(threads(service.pid()) < THREADS_MAX, "threads follow the clients");
    assert!(flooded > 0, "nobody flooded");
    // Both share the machine with whatever else it does.
    let bound = 20 * alone.percentile(99) + Duration::from_millis(100);
    assert!(beside.percentile(99) < bound, "the flood holds up the others");
    clients.into_iter().for_each(Crowded::leave);
}
