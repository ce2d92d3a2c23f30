//! The file service is killed under load, and its clients go on: what was promised is there, locks
//! stay with their holders, the grace ends when all have reclaimed.
//!
//! ```text
//!   lanes (4.1): writes, commits, names; each holds a lock --.
//!   lanes (3):   writes and commits -------------------------+--> commonhold serve <-- kill -9
//!   thief (4.1): tries for every lock that a lane holds -----'
//! ```
//!
//! `COMMONHOLD_NFS_ROUNDS` says how often, `COMMONHOLD_NFS_SEED` what is done.

#![allow(clippy::unwrap_used, reason = "a test that meets one has failed")]

#[path = "../kill_nine/dice.rs"]
mod dice;
#[path = "../kill_nine/ledger.rs"]
mod ledger;
#[path = "../nfs_client/mod.rs"]
mod nfs_client;
#[path = "../service/mod.rs"]
mod service;

mod lane;
mod thief;
mod world;

use std::time::Duration;

use world::World;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

/// Of sorted times, the one that so many thousandths are not above.
fn rank(times: &[Duration], thousandths: usize) -> Duration {
    times[(times.len() * thousandths / 1000).min(times.len() - 1)]
}

#[test]
fn clients_go_on_when_the_server_was_killed() {
    clients_go_on(1, World::round);
}

#[test]
fn clients_go_on_when_the_file_service_was_restarted_in_its_process() {
    clients_go_on(2, World::round_in_place);
}

#[allow(clippy::print_stdout, reason = "what a campaign measures")]
fn clients_go_on(portal: u8, round_of: fn(&mut World, u64)) {
    if !nfs_client::place::is_root() {
        return;
    }
    let rounds = setting("COMMONHOLD_NFS_ROUNDS", 4);
    let mut world = World::start(portal, setting("COMMONHOLD_NFS_SEED", 1));
    for round in 0..rounds {
        round_of(&mut world, round);
    }
    let sums = world.end();
    let mut stalls = sums.stalls;
    stalls.sort_unstable();
    let mut graces = sums.graces;
    graces.sort_unstable();
    println!(
        "{} kills, {} requests answered, {} dropped connections, {} blocks under promise, \
         {} tries for a lock that another held, none granted",
        sums.kills, sums.answered, sums.drops, sums.promised, sums.tries
    );
    println!(
        "stall of a client: p50 {:?}, p99 {:?}, longest {:?}, of {}; the grace ended after the \
         last client's word: p50 {:?}, longest {:?}",
        rank(&stalls, 500),
        rank(&stalls, 990),
        rank(&stalls, 1000),
        stalls.len(),
        rank(&graces, 500),
        rank(&graces, 1000)
    );
    assert!(rank(&stalls, 990) < Duration::from_secs(5), "clients waited for too long");
    assert!(rank(&graces, 1000) < Duration::from_secs(1), "the grace outlasted its purpose");
    assert!(sums.answered > 100 * rounds && sums.tries > rounds, "the load was too light");
}
