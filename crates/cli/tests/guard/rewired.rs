//! A host that is to reach its volume by another way: what a session that is new to the kernel
//! would carry must never be a write that no guard has let in.

use std::path::PathBuf;

use host::group::Way;
use model::group::{Policy, Standing};
use rustix::process::{Signal, kill_process};

use crate::group::Ward;
use crate::pause;
use crate::stage::wait_for;

fn by(ward: &Ward, host: usize, way: Way) -> Way {
    let mut order = ward.home(host).order().unwrap().unwrap();
    let before = std::mem::replace(&mut order.way, way);
    ward.home(host).give_order(&order).unwrap();
    before
}

fn nowhere() -> Way {
    Way::Nowhere { why: "the sessions are being made".to_owned() }
}

#[test]
fn a_host_that_stands_by_lets_go_and_takes_nothing_while_its_sessions_are_made() {
    let mut ward = Ward::new(Policy::default()).begun();
    wait_for("a run of the other host", || ward.home(1).hold().is_err().then_some(()));
    let way = by(&ward, 1, nowhere());
    let lock = wait_for("the other host lets go", || ward.home(1).hold().ok());
    // It has its way again, and the sessions are not all made yet.
    by(&ward, 1, way);
    ward.stands(1, Standing::Unreachable);
    ward.signal(0, Signal::KILL);
    ward.ended(0);
    pause(2_000);
    assert_eq!(ward.stage.diary(1).runs, 0, "{}", ward.log(1));
    drop(lock);
    ward.stage.writes(1, 0);
}

#[test]
fn an_owner_keeps_the_way_that_it_has_until_its_run_is_over() {
    let mut ward = Ward::new(Policy::default()).begun();
    let other = Way::Device { path: PathBuf::from("/dev/no-such-disk") };
    by(&ward, 0, other);
    for signal in [Signal::HUP, Signal::KILL] {
        pause(600);
        ward.stands(0, Standing::Running);
        assert!(ward.home(0).hold().is_err(), "it holds the volume");
        kill_process(ward.warden(0), signal).unwrap();
        if signal == Signal::KILL {
            ward.ended(0);
            ward.start(0);
        }
    }
    pause(600);
    ward.stands(0, Standing::Running);
    let before = ward.stage.diary(0).acknowledged.len();
    wait_for("writes by the way of before", || {
        (ward.stage.diary(0).acknowledged.len() > before + 20).then_some(())
    });
    assert_eq!((ward.stage.diary(0).runs, ward.stage.diary(1).runs), (1, 0));
    // It leaves, and the next run goes by what the agent has said.
    ward.group.generation += 1;
    ward.group.moved = ward.group.generation;
    ward.group.owner_id = Some(crate::group::host_id(1));
    for host in [0, 1] {
        let mut order = ward.home(host).order().unwrap().unwrap();
        order.group = ward.group.clone();
        ward.home(host).give_order(&order).unwrap();
    }
    ward.stage.writes(1, 0);
    let report = ward.stands(0, Standing::Unreachable);
    assert!(report.error.is_some_and(|error| error.contains("no-such-disk")));
}
