//! Case 7 in simulation: the power goes, or the process, at every step of a change.

use std::time::Duration;

use crate::world::{
    GOOD, Host, PREEMPT_AND_ABORT, REGISTER, REGISTRANTS_ONLY, RESERVE, World, simulate,
};

const A: u64 = 0xA;
const B: u64 = 0xB;

/// Action, type, keys: what the first host sends in each step of a takeover.
const STEPS: [(u8, u8, (u64, u64)); 3] = [
    (REGISTER, 0, (0, A)),
    (RESERVE, REGISTRANTS_ONLY, (A, 0)),
    (PREEMPT_AND_ABORT, REGISTRANTS_ONLY, (A, B)),
];

/// How far it went: disk steps in all, and whether the change was answered.
async fn change_and_crash(seed: u64, step: usize, crash_after: u64, power: bool) -> (u64, bool) {
    let world = World::new(seed, Duration::ZERO, 2).await;
    let (a, b) = (world.host(1, 1).await, world.host(2, 1).await);
    assert_eq!(b.reserve_out(REGISTER, 0, (0, B), true).await, Some(GOOD));
    if step > 0 {
        assert_eq!(a.reserve_out(REGISTER, 0, (0, A), true).await, Some(GOOD));
    }
    if step > 1 {
        assert_eq!(b.reserve_out(RESERVE, REGISTRANTS_ONLY, (B, 0), true).await, Some(GOOD));
    }
    let start = world.station.disk.steps();
    world.station.disk.crash_at(start.saturating_add(crash_after));
    let (action, kind, keys) = STEPS[step];
    // An I/O error of the dying disk is an answer too, but no acknowledgement.
    let done = a.reserve_out(action, kind, keys, true).await == Some(GOOD);
    let after = world.reservations();
    let steps = world.station.disk.steps() - start;
    if done {
        // What was acknowledged is the state after, and nothing else.
        world.crash(power).await;
        assert_eq!(world.reservations(), after.after_power_loss());
        check_hosts(&world, step).await;
    } else {
        // Nobody was told: the state is the one before or the one after.
        world.crash_during_change(power, &a, (action, kind, keys)).await;
    }
    (steps, done)
}

/// What was promised holds for the hosts, which come back from the same ports.
async fn check_hosts(world: &std::rc::Rc<World>, step: usize) {
    let (a, b) = (Host::new(world, 1, 1), Host::new(world, 2, 1));
    assert!(a.log_in().await && b.log_in().await);
    a.attentions().await;
    b.attentions().await;
    if step == 2 {
        assert_eq!(a.write(0..8).await, Some(GOOD));
        assert_eq!(b.write(0..8).await, Some(crate::world::CONFLICT));
    }
    world.look().await;
}

#[test]
fn case_07_a_crash_at_any_step_leaves_the_state_before_or_after_and_never_none() {
    for power in [true, false] {
        for step in 0..STEPS.len() {
            for seed in 0..4 {
                let (steps, done) = simulate(change_and_crash(seed, step, u64::MAX, power));
                assert!(done && steps >= 4, "a record is written and synced: {steps} steps");
                for crash_after in 0..steps {
                    simulate(change_and_crash(seed, step, crash_after, power));
                }
            }
        }
    }
}

#[test]
fn case_07_without_aptpl_a_restart_forgets() {
    for power in [true, false] {
        simulate(async {
            let world = World::new(7, Duration::ZERO, 1).await;
            let a = world.host(1, 1).await;
            a.register(A).await;
            a.reserve(A, REGISTRANTS_ONLY).await;
            world.crash(power).await;
            assert_eq!(world.registered(), []);
        });
    }
}
