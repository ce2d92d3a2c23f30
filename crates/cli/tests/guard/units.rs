//! Groups with a unit of systemd, on hosts that have a systemd of their own each.

use std::path::Path;

use model::group::{Policy, Resource, RestartLimit, Standing, Wanted};
use rustix::process::{Pid, Signal, kill_process};

use crate::group::{Ward, host_id, sh};
use crate::machine::Machine;
use crate::pause;
use crate::stage::wait_for;

const UNIT: &str = "writer.service";

/// A unit knows nothing of the group: a program that runs before it writes down what it needs.
/// `more`: further lines of its service.
fn unit_of(ward: &Ward, host: usize, more: &str) -> String {
    let path =
        |name: &str| ward.stage.service.path(&format!("{name}-h{host}")).display().to_string();
    let own = std::env::current_exe().unwrap().display().to_string();
    let orders = ward.stage.orders(host).encode();
    std::fs::write(path("orders"), orders).unwrap();
    let script = format!(
        "echo >>{}\nexport {}=\"$(cat {})\"\nexec {own} --exact the_command --nocapture\n",
        path("begun"),
        crate::Orders::VARIABLE,
        path("orders"),
    );
    std::fs::write(path("script"), script).unwrap();
    format!(
        "[Unit]\nDefaultDependencies=no\n[Service]\nEnvironmentFile={}\n\
         ExecStart=/bin/sh {}\nStandardOutput=null\nStandardError=null\n{more}",
        path("run"),
        path("script"),
    )
}

/// How often systemd has started it.
fn begun(ward: &Ward, host: usize) -> usize {
    let path = ward.stage.service.path(&format!("begun-h{host}"));
    std::fs::read_to_string(path).unwrap_or_default().len()
}

/// The target stands still until what the unit runs does; then both go on, and neither waits for a
/// systemd that has no time just then.
fn freezes(ward: &Ward, host: usize) {
    let service = Pid::from_raw(ward.stage.service.pid().try_into().unwrap()).unwrap();
    let cgroup = ward.machines[host].cgroup_of(UNIT);
    kill_process(service, Signal::STOP).unwrap();
    wait_for("the freeze", || {
        (cgroup.is_frozen().unwrap() && cgroup.is_populated().unwrap()).then_some(())
    });
    ward.machines[host].signal_systemd(Signal::STOP);
    kill_process(service, Signal::CONT).unwrap();
    let before = ward.stage.diary(host).acknowledged.len();
    wait_for("writes", || (ward.stage.diary(host).acknowledged.len() > before + 5).then_some(()));
    ward.machines[host].signal_systemd(Signal::CONT);
    assert!(!cgroup.is_frozen().unwrap());
}

/// Host 0 loses the volume to host 1, and its systemd does not answer when it wakes: it stood as
/// failed, though all had ended, because an end by force takes three seconds at most.
fn is_lost_while_systemd_stands_still(ward: &mut Ward, hangs: &Path) {
    std::fs::remove_file(hangs).unwrap();
    ward.want(|group| group.permitted = group.generation);
    ward.stands(1, Standing::Standby);
    let (runs, starts) = (ward.stage.diary(1).runs, begun(ward, 0));
    ward.machines[0].pause(true);
    ward.stage.writes(1, runs);
    let picture = ward.stage.picture();
    ward.machines[0].signal_systemd(Signal::STOP);
    ward.machines[0].pause(false);
    pause(5_000);
    let cgroup = ward.machines[0].cgroup_of(UNIT);
    assert!(!cgroup.is_populated().unwrap(), "it is killed all the same");
    assert_eq!(ward.report(0).unwrap().standing, Standing::Stopping);
    ward.machines[0].signal_systemd(Signal::CONT);
    ward.stands(0, Standing::Fenced);
    pause(300);
    assert_eq!(begun(ward, 0), starts);
    assert!(matches!(&*ward.machines[0].state_of(UNIT), "inactive" | "failed"));
    ward.stage.check(&picture, 1);
}

#[test]
fn a_unit_starts_fails_freezes_moves_is_lost_and_stops_with_its_group() {
    if let Err(why) = Machine::can_be() {
        eprintln!("skipped: no machine with a systemd can be made here: {why}");
        return;
    }
    let policy = Policy {
        takeover_ms: 3_000,
        restart: RestartLimit { count: 2, within_ms: 600_000 },
        ..Policy::default()
    };
    let mut ward = Ward::new(policy);
    let hangs = ward.stage.service.path("hangs");
    let run = ward.stage.service.path("run-$COMMONHOLD_HOST").display().to_string();
    let before = Resource::Exec {
        start: sh(format!("env | grep -E '^COMMONHOLD_(GUARD_KEY|ISID)=' >{run}")),
        stop: Vec::new(),
        status: Vec::new(),
        start_timeout_ms: 5_000,
        stop_timeout_ms: 5_000,
        status_timeout_ms: 2_000,
        interval_ms: 1_000,
    };
    ward.group.resources = vec![before, Resource::Unit { name: UNIT.to_owned() }];
    // One that is started anew by systemd whenever it ends, and whose end may wait for ever.
    let stubborn = format!(
        "Restart=always\nRestartSec=10ms\nExecStop=/bin/sh -c 'while [ -e {} ]; do sleep 0.1; done'\n",
        hangs.display()
    );
    let home = ward.stage.service.home.path().to_owned();
    for (host, more) in [(0, ""), (1, &*stubborn)] {
        let unit = unit_of(&ward, host, more);
        ward.machines.push(Machine::boot(&home, &format!("h{host}"), &[(UNIT, unit)]));
    }
    let mut ward = ward.begun();
    assert_eq!((ward.machines[0].state_of(UNIT), begun(&ward, 0)), ("active".to_owned(), 1));
    assert_eq!((ward.machines[1].state_of(UNIT), begun(&ward, 1)), ("inactive".to_owned(), 0));

    ward.machines[0].systemctl(&["kill", "--signal=KILL", UNIT]);
    ward.stage.writes(0, 1);
    ward.stands(0, Standing::Running);
    assert_eq!((begun(&ward, 0), begun(&ward, 1)), (2, 0), "it was started again where it was");
    freezes(&ward, 0);

    ward.want(|group| {
        group.owner_id = Some(host_id(1));
        group.moved = group.generation;
    });
    ward.stage.writes(1, 0);
    ward.stands(1, Standing::Running);
    assert_eq!(ward.machines[0].state_of(UNIT), "inactive");
    freezes(&ward, 1);

    // The whole host is paused, and loses the volume: it must not start the unit once more.
    std::fs::write(&hangs, "").unwrap();
    let (runs, starts) = (ward.stage.diary(0).runs, begun(&ward, 1));
    ward.machines[1].pause(true);
    ward.stage.writes(0, runs);
    let picture = ward.stage.picture();
    ward.machines[1].pause(false);
    ward.stands(1, Standing::Fenced);
    pause(300);
    assert_eq!(begun(&ward, 1), starts, "systemd started it in the place of what was killed");
    assert!(matches!(&*ward.machines[1].state_of(UNIT), "inactive" | "failed"));
    ward.stage.check(&picture, 0);

    is_lost_while_systemd_stands_still(&mut ward, &hangs);
    ward.want(|group| group.wanted = Wanted::Stopped);
    ward.stands(1, Standing::Stopped);
    assert_eq!(ward.machines[1].state_of(UNIT), "inactive");
}
