//! `commonhold guard` against the real daemon: hosts that are paused, killed, stopped and cut off,
//! each with a command that writes whatever it is told.
#![allow(clippy::unwrap_used, reason = "a test that meets one has failed")]

mod agents;
mod campaign;
mod cgroups;
#[path = "../kill_nine/dice.rs"]
mod dice;
mod drain;
mod figures;
mod group;
mod machine;
mod network;
mod observer;
mod partition;
mod rewired;
#[path = "../service/mod.rs"]
mod service;
mod stage;
mod units;
mod writer;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use dice::Dice;
use env::processes::Family;
use env::processes::cgroup::Cgroup;
use host::group::Home;
use rustix::process::Signal;
use stage::{Stage, wait_for};
use writer::Orders;

/// What the guards run: this program again, with orders.
#[test]
fn the_command() {
    let Ok(orders) = std::env::var(Orders::VARIABLE) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(writer::write_for_ever(&Orders::decode(&orders)));
}

fn is_gone(process: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.is_empty() || stat.contains(") Z ")
}

/// End what a host's run of a group has left, and its cgroup.
fn sweep(home: &Home, run: &str) {
    let room = home.past().ok().and_then(|past| past.room);
    let cgroup = room.map(|room| Cgroup::new(room.join(run)));
    let family = Family::new(format!("COMMONHOLD_GROUP_RUN={run}"), cgroup);
    for _ in 0..500 {
        let _ = family.kill();
        if family.clear_away().is_ok() && family.is_gone().unwrap_or(true) {
            return;
        }
        pause(10);
    }
    eprintln!("{run}: something of it runs on");
}

fn pause(millis: u64) {
    std::thread::sleep(Duration::from_millis(millis));
}

#[test]
fn a_paused_owner_loses_the_volume_and_writes_nothing_when_it_wakes() {
    let stage = Stage::new();
    let mut first = stage.owner(0);
    let _second = stage.hold(1);
    pause(300);
    assert_eq!(stage.diary(1).runs, 0, "the owner is alive");
    stage.signal(0, &first, Signal::STOP);
    stage.writes(1, 0);
    let picture = stage.picture();
    stage.signal(0, &first, Signal::CONT);
    let (code, said) = first.ended();
    assert_eq!(code, Some(120), "{said}");
    assert!(said.contains("taken over by another host") && said.contains("permit"), "{said}");
    let diary = stage.diary(0);
    assert!(is_gone(diary.process.unwrap()), "its command runs on");
    pause(200);
    stage.check(&picture, 1);

    let (mut again, runs) = (stage.hold(0), stage.diary(0).runs);
    let (code, said) = again.ended();
    assert_eq!(code, Some(121), "a loser does not come back by itself: {said}");
    assert_eq!(stage.ends(0, "permit", &[]).0, 0);
    let _again = stage.hold(0);
    pause(800);
    assert_eq!(stage.diary(0).runs, runs, "it is permitted, and the owner is alive");
    stage.check(&picture, 1);
}

#[test]
fn kill_nine_of_the_guard_takes_its_command_along_and_the_next_host_takes_over() {
    let stage = Stage::new();
    let mut first = stage.owner(0);
    let _second = stage.hold(1);
    pause(200);
    let command = stage.diary(0).process.unwrap();
    first.signal(Signal::KILL);
    wait_for("the command's end", || is_gone(command).then_some(()));
    stage.writes(1, 0);
    let picture = stage.picture();
    first.ended();
    let (code, said) = stage.hold(0).ended();
    assert_eq!(code, Some(121), "it finds out from the volume: {said}");
    stage.check(&picture, 1);
}

#[test]
fn a_guard_that_nobody_replaced_goes_on_after_its_crash() {
    let stage = Stage::new();
    let mut first = stage.owner(0);
    first.signal(Signal::KILL);
    first.ended();
    let again = stage.owner(0);
    let status = stage.status(0);
    assert_eq!(status["state"], "held", "{status}");
    assert_eq!(status["this_host_owns"], true, "{status}");
    assert_eq!(status["owner_epoch"], 2, "{status}");
    drop(again);
}

#[test]
fn a_stop_in_good_order_hands_the_volume_over_without_a_wait() {
    let mut stage = Stage::new();
    // So long that only a vacant volume can be had.
    stage.times = vec!["--takeover-ms", "60000", "--give-up-ms", "90000"];
    let mut first = stage.owner(0);
    let _second = stage.hold(1);
    pause(300);
    first.signal(Signal::TERM);
    let (code, said) = first.ended();
    assert_eq!(code, Some(143), "the command's own end is passed on: {said}");
    stage.writes(1, 0);
    let status = stage.status(1);
    assert_eq!((&status["state"], &status["owner_host_id"]), (&"held".into(), &2.into()));
    assert_eq!(status["this_host_owns"], true);
    assert_eq!(status["registrations"], 3, "guard, command, and the port that brought it in");
}

#[test]
fn short_pauses_a_crash_and_an_upgrade_of_the_target_move_nothing() {
    let stage = Stage::new();
    let owner = stage.owner(0);
    let _second = stage.hold(1);
    let mut dice = Dice(7);
    for _ in 0..12 {
        stage.signal(0, &owner, Signal::STOP);
        pause(20 + dice.below(170) as u64);
        stage.signal(0, &owner, Signal::CONT);
        pause(150);
    }
    assert_eq!((stage.diary(0).runs, stage.diary(1).runs), (1, 0));
    let mut daemon: Option<Child> = None;
    // As after a crash, and as in an upgrade.
    for signal in ["-KILL", "-TERM"] {
        let id = daemon.as_ref().map_or(stage.service.pid(), Child::id).to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
        wait_for("the end of the daemon", || is_gone(id.parse().unwrap()).then_some(()));
        daemon = Some(serve_again(&stage.service));
        let before = stage.diary(0).acknowledged.len();
        wait_for("writes after the restart", || {
            (stage.diary(0).acknowledged.len() > before + 20).then_some(())
        });
        assert_eq!((stage.diary(0).runs, stage.diary(1).runs), (1, 0), "{signal} moved it");
        stage.check(&stage.picture(), 0);
    }
    let mut daemon = daemon.unwrap();
    daemon.kill().unwrap();
    daemon.wait().unwrap();
}

/// On the same ports, so that guards and commands find the way back.
fn serve_again(service: &service::Service) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_commonhold"));
    command.args(["serve", "--listen", &service.url.replace("http://", "")]);
    command.args(["--portals", &service.portal, "--nfs-portals", "none", "--data"]);
    command.arg(service.path("data")).env("XDG_CONFIG_HOME", service.home.path());
    loop {
        let log = std::fs::File::create(service.path("log-again")).unwrap();
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        // The pipe closes when the process ends.
        let mut said = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        if said.any(|line| line.starts_with("client")) {
            return child;
        }
        let status = child.wait().unwrap();
        // A connection to elsewhere may have come to use a port that was free for a moment.
        let why = std::fs::read_to_string(service.path("log-again")).unwrap();
        assert!(why.contains("in use"), "{status}: {why}");
        pause(200);
    }
}

#[test]
fn attack_defend_and_release_say_how_it_ended_by_their_codes() {
    let stage = Stage::new();
    assert_eq!(stage.ends(0, "defend", &[]).0, 125, "nothing was attacked");
    assert_eq!(stage.ends(0, "attack", &[]).0, 0);
    let mut defender = stage.verb(0, "defend").spawn().unwrap();
    let (code, said) = stage.ends(1, "attack", &["--patience-ms", "900"]);
    assert_eq!(code, 123, "{said}");
    assert!(said.contains("hint: "), "{said}");
    let busy = stage.ends(0, "release", &[]);
    assert_eq!(busy.0, 125, "the defender still runs: {}", busy.1);
    let id = defender.id().to_string();
    assert!(busy.1.contains(&format!("runs here already: {id} (")), "{}", busy.1);
    assert_eq!(stage.status(0)["this_host_guard"], "running");
    Command::new("kill").args(["-STOP", &id]).status().unwrap();
    assert_eq!(stage.ends(1, "attack", &[]).0, 0);
    Command::new("kill").args(["-CONT", &id]).status().unwrap();
    assert_eq!(defender.wait().unwrap().code(), Some(120));
    assert_eq!(stage.ends(0, "attack", &[]).0, 121);
    assert_eq!(stage.ends(0, "release", &[]).0, 120, "it is the other host's");
    assert_eq!(stage.ends(1, "release", &[]).0, 0);
    assert_eq!(stage.status(1)["state"], "vacant");
    assert_eq!(stage.ends(0, "permit", &[]).0, 0);
    assert_eq!(stage.ends(0, "attack", &["--takeover-ms", "20000"]).0, 0, "it need not wait");
    let second = stage.ends(0, "hold", &["--beat-ms", "300", "--", "true"]);
    assert_eq!(second.0, 2, "times that do not go together: {}", second.1);
}

#[test]
fn a_command_that_ends_by_itself_ends_the_guard_with_its_code() {
    let stage = Stage::new();
    assert_eq!(stage.ends(0, "hold", &["--", "sh", "-c", "exit 42"]).0, 42);
    assert_eq!(stage.status(0)["state"], "vacant");
    let (code, said) = stage.ends(0, "hold", &["--", "/no/such/program"]);
    assert!(code != 0 && said.contains("/no/such/program"), "{said}");
    let leaves = "setsid sleep 3 >/dev/null 2>&1 & sleep 0.3; exit 0";
    let left = stage.ends(0, "hold", &["--", "sh", "-c", leaves]);
    assert_eq!(left.0, 0);
    let (code, said) = stage.ends(0, "hold", &["--", "true"]);
    assert_eq!(code, 125, "something of the command still runs: {said}");
    assert!(said.contains("fuser"), "{said}");
    assert!(said.contains("no guard") && said.contains(" (sleep)"), "{said}");
    let status = stage.status(0);
    assert_eq!(status["this_host_guard"], "left", "{status}");
    assert!(status["left_processes"][0].as_str().unwrap().ends_with(" (sleep)"), "{status}");
    wait_for("the end of what was left", || {
        (stage.status(0)["this_host_guard"] == "none").then_some(())
    });
}

#[test]
fn what_is_no_disk_is_refused_and_not_said_to_be_lost() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_commonhold"));
    let output = command.args(["guard", "status", "--device", "/dev/null"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("it takes no SCSI commands"), "{said}");
    assert!(!said.contains("lost"), "{said}");
}
