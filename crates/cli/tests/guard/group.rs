//! Failover groups against the real daemon: a warden for each of two hosts, and a program that
//! writes whatever it is told.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use api::agent::{AgentGroup, Peer};
use env::processes;
use env::processes::cgroup::{self, Cgroup};
use host::group::{Home, Order, Way};
use model::group::{OnFailure, Policy, Report, Resource, RestartLimit, Standing, Wanted};
use model::id::{GroupId, HostId, VolumeId};
use rustix::process::{Pid, Signal, kill_process};

use crate::machine::Machine;
use crate::stage::{Stage, iqn, wait_for};
use crate::writer::{Orders, now_us};
use crate::{is_gone, pause, sweep};

const HOSTS: usize = 2;

/// A group, as the agents of its hosts would have it from the service.
pub(crate) struct Ward {
    pub(crate) stage: Stage,
    pub(crate) group: AgentGroup,
    wardens: Vec<Option<Child>>,
    /// Of each host, where they are machines of their own.
    pub(crate) machines: Vec<Machine>,
    /// Programs of these hosts that come before the system's.
    pub(crate) tools: Option<PathBuf>,
}

pub(crate) fn host_id(host: usize) -> HostId {
    HostId(uuid::Uuid::from_u128(0xA000 + host as u128))
}

pub(crate) fn sh(script: String) -> Vec<String> {
    vec!["/bin/sh".to_owned(), "-c".to_owned(), script]
}

impl Ward {
    /// Nothing is started yet.
    pub(crate) fn new(policy: Policy) -> Self {
        let stage = Stage::new();
        let own = std::env::current_exe().unwrap().display().to_string();
        let file = stage.service.path("process-of-$COMMONHOLD_HOST").display().to_string();
        let writer = Resource::Exec {
            start: sh(format!(
                "{own} --exact the_command --nocapture >/dev/null 2>&1 & echo $! > {file}"
            )),
            stop: Vec::new(),
            status: sh(format!("kill -0 $(cat {file})")),
            start_timeout_ms: 5_000,
            stop_timeout_ms: 5_000,
            status_timeout_ms: 2_000,
            interval_ms: 100,
        };
        let peer = |host: usize| Peer {
            host_id: host_id(host),
            host_name: format!("h{host}"),
            addresses: Vec::new(),
            port: 0,
        };
        let group = AgentGroup {
            // Its programs are found by it, and tests run side by side.
            id: GroupId(uuid::Uuid::new_v4()),
            name: "g".to_owned(),
            volume_id: VolumeId(uuid::Uuid::from_u128(0x7000)),
            hosts: (0..HOSTS).map(peer).collect(),
            resources: vec![writer],
            policy,
            wanted: Wanted::Started,
            frozen: false,
            generation: 1,
            forgiven: 1,
            owner_id: None,
            moved: 0,
            permitted: 0,
            heartbeat_key: "07".repeat(32),
        };
        let wardens = (0..HOSTS).map(|_| None).collect();
        Self { stage, group, wardens, machines: Vec::new(), tools: None }
    }

    /// The group runs on the first host, and the second stands by.
    fn running() -> Self {
        Self::running_by(Policy::default())
    }

    fn running_by(policy: Policy) -> Self {
        Self::new(policy).begun()
    }

    pub(crate) fn begun(mut self) -> Self {
        self.tell();
        self.start(0);
        self.stage.writes(0, 0);
        self.start(1);
        self.stands(1, Standing::Standby);
        self
    }

    /// The resource also starts a program that clears its environment and leaves session and
    /// parent: it writes a line every 10 ms.
    pub(crate) fn with_runaway(mut self) -> Self {
        let file = self.stage.service.path("runaway-of-$COMMONHOLD_HOST").display().to_string();
        let Some(Resource::Exec { start, .. }) = self.group.resources.first_mut() else {
            unreachable!("it has one resource")
        };
        let script = start.last_mut().unwrap();
        *script = format!(
            "env -i setsid sh -c \"while :; do echo >>{file}; sleep 0.01; done & \
             echo \\$! >{file}.id\" >/dev/null 2>&1; {script}"
        );
        self
    }

    /// How many lines the runaway of this host has written, and which process it is.
    pub(crate) fn runaway(&self, host: usize) -> (usize, i32) {
        let read = |end: &str| {
            let file = self.stage.service.path(&format!("runaway-of-h{host}{end}"));
            std::fs::read_to_string(file).unwrap()
        };
        (read("").len(), read(".id").trim().parse().unwrap())
    }

    /// Where the group's cgroup is on this host, if it has one.
    pub(crate) fn cgroup(&self, host: usize) -> Option<Cgroup> {
        let room = self.home(host).past().unwrap().room?;
        Some(Cgroup::new(room.join(self.run(host))))
    }

    fn run(&self, host: usize) -> String {
        format!("{}@{}", self.group.id, host_id(host))
    }

    /// Its resources have failed on the first host, where it is kept, stopped.
    fn failed_and_kept() -> Self {
        let restart = RestartLimit { count: 0, within_ms: 600_000 };
        let on_failure = OnFailure::Stop;
        let ward = Self::running_by(Policy { restart, on_failure, ..Policy::default() });
        processes::signal(&ward.mark(0), Signal::KILL).unwrap();
        ward.stands(0, Standing::Failed);
        ward
    }

    pub(crate) fn home(&self, host: usize) -> Home {
        Home::new(self.directory(host))
    }

    fn directory(&self, host: usize) -> PathBuf {
        self.stage.service.path(&format!("ward-{host}"))
    }

    /// Every host has the order as it is now.
    fn tell(&self) {
        for host in 0..HOSTS {
            let Orders { portal, target, user, secret, .. } = self.stage.orders(host);
            let order = Order {
                host: host_id(host),
                host_name: format!("h{host}"),
                group: self.group.clone(),
                way: Way::Portal {
                    address: portal,
                    target,
                    lun: 0,
                    initiator: iqn(host),
                    chap: Some((user, secret)),
                },
            };
            std::fs::create_dir_all(self.directory(host)).unwrap();
            self.home(host).give_order(&order).unwrap();
        }
    }

    /// Something else is wanted.
    pub(crate) fn want(&mut self, change: impl FnOnce(&mut AgentGroup)) {
        self.group.forgiven = self.group.generation + 1;
        self.update(change);
    }

    /// The group is changed, and nothing else is wanted of its hosts.
    fn update(&mut self, change: impl FnOnce(&mut AgentGroup)) {
        self.group.generation += 1;
        change(&mut self.group);
        self.tell();
    }

    pub(crate) fn start(&mut self, host: usize) {
        let log = self.stage.service.path(&format!("ward-log-{host}"));
        let log = std::fs::File::options().create(true).append(true).open(log).unwrap();
        let program = env!("CARGO_BIN_EXE_commonhold");
        let mut command = match self.machines.get(host) {
            Some(machine) => machine.command(program),
            None => Command::new(program),
        };
        if let Some(tools) = &self.tools {
            let path = std::env::var("PATH").unwrap();
            command.env("PATH", format!("{}:{path}", tools.display()));
        }
        let child = command
            .args(["host", "warden"])
            .arg(self.directory(host))
            .env(Orders::VARIABLE, self.stage.orders(host).encode())
            .env("COMMONHOLD_LOG", "host=debug,info")
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.wardens[host] = Some(child);
    }

    pub(crate) fn report(&self, host: usize) -> Option<Report> {
        self.home(host).report().unwrap()
    }

    pub(crate) fn stands(&self, host: usize, standing: Standing) -> Report {
        wait_for(&format!("host {host} stands as {}", standing.word()), || {
            self.report(host).filter(|report| report.standing == standing)
        })
    }

    /// What the group's programs have started on this host.
    fn processes(&self, host: usize) -> BTreeSet<i32> {
        processes::marked(&self.mark(host)).unwrap()
    }

    fn mark(&self, host: usize) -> String {
        format!("COMMONHOLD_GROUP_RUN={}", self.run(host))
    }

    pub(crate) fn warden(&self, host: usize) -> Pid {
        let id = self.wardens[host].as_ref().unwrap().id();
        Pid::from_raw(id.try_into().unwrap()).unwrap()
    }

    /// The whole host: its warden, and what that has started.
    pub(crate) fn signal(&self, host: usize, signal: Signal) {
        kill_process(self.warden(host), signal).unwrap();
        processes::signal(&self.mark(host), signal).unwrap();
    }

    pub(crate) fn ended(&mut self, host: usize) -> Option<i32> {
        let mut child = self.wardens[host].take().unwrap();
        wait_for("the warden's end", || child.try_wait().unwrap()).code()
    }

    pub(crate) fn log(&self, host: usize) -> String {
        let path = self.stage.service.path(&format!("ward-log-{host}"));
        std::fs::read_to_string(path).unwrap_or_default()
    }
}

impl Drop for Ward {
    fn drop(&mut self) {
        for host in 0..HOSTS {
            if let Some(child) = &mut self.wardens[host] {
                let _ = child.kill();
                let _ = child.wait();
            }
            sweep(&self.home(host), &self.run(host));
            if std::thread::panicking() {
                eprintln!("host {host}: {:?}\n{}", self.report(host), self.log(host));
            }
        }
    }
}

#[test]
fn a_group_runs_on_the_preferred_host_and_on_the_other_within_a_second_of_kill_nine() {
    let mut ward = Ward::running();
    let report = ward.stands(0, Standing::Running);
    assert_eq!((report.epoch, &*report.why), (1, "nobody held the volume"));
    let begun_us = now_us();
    ward.signal(0, Signal::KILL);
    ward.ended(0);
    let wrote_us = ward.stage.writes(1, 0);
    eprintln!(
        "from kill -9 to the first write of the other host: {} ms",
        (wrote_us - begun_us) / 1000
    );
    let picture = ward.stage.picture();
    let report = ward.stands(1, Standing::Running);
    assert_eq!(report.why, "h0 had been silent, and its volume was taken over");
    ward.start(0);
    let report = ward.stands(0, Standing::Fenced);
    assert!(report.why.contains("h1 took the volume over"), "{report:?}");
    ward.stage.check(&picture, 1);

    ward.want(|group| group.permitted = group.generation);
    ward.stands(0, Standing::Standby);
    ward.signal(1, Signal::KILL);
    ward.ended(1);
    ward.stage.writes(0, 1);
}

#[test]
fn a_paused_host_of_a_group_kills_what_it_ran_when_it_wakes() {
    let ward = Ward::running();
    let process = ward.stage.diary(0).process.unwrap();
    ward.signal(0, Signal::STOP);
    ward.stage.writes(1, 0);
    let picture = ward.stage.picture();
    ward.signal(0, Signal::CONT);
    ward.stands(0, Standing::Fenced);
    assert!(is_gone(process) && ward.processes(0).is_empty());
    pause(200);
    ward.stage.check(&picture, 1);
    let Some(report) = ward.report(1) else { panic!("{}", ward.log(1)) };
    assert_eq!(report.standing, Standing::Running);
}

#[test]
fn a_warden_that_is_replaced_or_killed_moves_nothing_and_the_next_one_adopts() {
    let mut ward = Ward::running();
    let process = ward.stage.diary(0).process.unwrap();
    for signal in [Signal::HUP, Signal::KILL, Signal::HUP, Signal::KILL] {
        pause(300);
        kill_process(ward.warden(0), signal).unwrap();
        // The same process goes on after SIGHUP, as the program that stands at its path.
        if signal == Signal::KILL {
            ward.ended(0);
            ward.start(0);
        }
        let before = ward.stage.diary(0).acknowledged.len();
        wait_for("writes after it", || {
            (ward.stage.diary(0).acknowledged.len() > before + 20).then_some(())
        });
        ward.stands(0, Standing::Running);
    }
    pause(600);
    assert_eq!(ward.stage.diary(0).process, Some(process), "it is the same program");
    assert_eq!((ward.stage.diary(0).runs, ward.stage.diary(1).runs), (1, 0));
    assert_eq!(ward.report(1).unwrap().standing, Standing::Standby);
    // Its warden stays away for longer than a takeover: the next one finds out.
    kill_process(ward.warden(0), Signal::KILL).unwrap();
    ward.ended(0);
    ward.stage.writes(1, 0);
    let picture = ward.stage.picture();
    assert!(!is_gone(process), "nobody was there to end it");
    ward.start(0);
    ward.stands(0, Standing::Fenced);
    assert!(is_gone(process), "what was left over is ended");
    ward.stage.check(&picture, 1);
}

#[test]
fn a_group_moves_stops_and_starts_as_it_is_told() {
    let mut ward = Ward::running();
    ward.want(|group| {
        group.owner_id = Some(host_id(1));
        group.moved = group.generation;
    });
    ward.stage.writes(1, 0);
    let report = ward.stands(0, Standing::Standby);
    assert!(report.why.contains("moved to another host"), "{report:?}");
    assert!(ward.processes(0).is_empty());
    pause(800);
    assert_eq!(ward.stage.diary(0).runs, 1, "it does not come back by itself");

    ward.want(|group| group.wanted = Wanted::Stopped);
    ward.stands(0, Standing::Stopped);
    ward.stands(1, Standing::Stopped);
    assert!(ward.processes(1).is_empty());
    assert_eq!(ward.stage.status(0)["state"], "vacant");

    ward.want(|group| group.wanted = Wanted::Started);
    ward.stage.writes(1, 1);
    pause(300);
    assert_eq!(ward.stage.diary(0).runs, 1, "the move is still the last word");
    // A warden that is asked to end stops the group, and the other host need not wait.
    kill_process(ward.warden(1), Signal::TERM).unwrap();
    assert_eq!(ward.ended(1), Some(0));
    ward.stage.writes(0, 1);
    assert!(ward.processes(1).is_empty());
}

#[test]
fn a_resource_that_fails_is_restarted_and_after_that_the_group_moves() {
    let restart = RestartLimit { count: 1, within_ms: 600_000 };
    let mut ward = Ward::running_by(Policy { restart, ..Policy::default() });
    processes::signal(&ward.mark(0), Signal::KILL).unwrap();
    ward.stage.writes(0, 1);
    assert_eq!(ward.stage.diary(1).runs, 0, "it was started again where it was");
    processes::signal(&ward.mark(0), Signal::KILL).unwrap();
    ward.stage.writes(1, 0);
    let report = ward.stands(0, Standing::Failed);
    assert!(report.error.as_ref().unwrap().contains("resource 0"), "{report:?}");
    ward.want(|_| {});
    ward.stands(0, Standing::Standby);
}

#[test]
fn an_update_moves_nothing_forgives_nothing_and_counts_at_once() {
    let mut ward = Ward::running();
    let process = ward.stage.diary(0).process.unwrap();
    ward.update(|group| {
        group.hosts.reverse();
        group.policy.on_failure = OnFailure::Stop;
        group.name = "another".to_owned();
    });
    let heard = |ward: &Ward, host: usize| {
        let generation = ward.group.generation;
        wait_for("the update", || ward.report(host).filter(|said| said.generation == generation));
    };
    heard(&ward, 0);
    heard(&ward, 1);
    pause(600);
    assert_eq!(ward.stage.diary(0).process, Some(process), "it goes on where it was");
    assert_eq!((ward.stage.diary(0).runs, ward.stage.diary(1).runs), (1, 0));
    // The policy that it began under would have restarted it.
    processes::signal(&ward.mark(0), Signal::KILL).unwrap();
    ward.stands(0, Standing::Failed);
    ward.update(|group| group.policy.on_failure = OnFailure::Restart);
    heard(&ward, 0);
    pause(600);
    assert_eq!(ward.stands(0, Standing::Failed).generation, ward.group.generation);
    assert_eq!((ward.stage.diary(0).runs, ward.stage.diary(1).runs), (1, 0));
    ward.want(|_| {});
    ward.stage.writes(1, 0);
}

#[test]
fn a_frozen_group_is_taken_over_by_nobody() {
    let mut ward = Ward::running();
    ward.want(|group| group.frozen = true);
    pause(400);
    processes::signal(&ward.mark(0), Signal::KILL).unwrap();
    pause(400);
    assert_eq!(ward.stands(0, Standing::Running).generation, 2, "nobody looks");
    ward.signal(0, Signal::KILL);
    ward.ended(0);
    pause(1_200);
    assert_eq!(ward.stage.diary(1).runs, 0);
    ward.want(|group| group.frozen = false);
    ward.stage.writes(1, 0);
}

#[test]
fn a_group_that_failed_and_is_kept_stays_so_when_its_warden_is_replaced() {
    let mut ward = Ward::failed_and_kept();
    for signal in [Signal::KILL, Signal::HUP] {
        kill_process(ward.warden(0), signal).unwrap();
        if signal == Signal::KILL {
            ward.ended(0);
            ward.start(0);
        }
        pause(1_500);
        ward.stands(0, Standing::Failed);
        assert_eq!((ward.stage.diary(0).runs, ward.stage.diary(1).runs), (1, 0));
    }
    ward.want(|_| {});
    let runs = |ward: &Ward| ward.stage.diary(0).runs + ward.stage.diary(1).runs;
    wait_for("a run by the newer wish", || (runs(&ward) == 2).then_some(()));
}

#[test]
fn an_order_without_a_way_takes_no_way_from_what_runs() {
    let mut ward = Ward::running();
    let process = ward.stage.diary(0).process.unwrap();
    let mut order = ward.home(0).order().unwrap().unwrap();
    order.way = Way::Nowhere { why: "the agent has just begun".to_owned() };
    ward.home(0).give_order(&order).unwrap();
    pause(600);
    ward.stands(0, Standing::Running);
    kill_process(ward.warden(0), Signal::HUP).unwrap();
    pause(600);
    assert!(!is_gone(process), "{}", ward.log(0));
    ward.tell();
    ward.want(|group| group.wanted = Wanted::Stopped);
    ward.stands(0, Standing::Stopped);
    assert!(is_gone(process));
}

#[test]
fn a_frozen_group_stays_frozen_when_its_warden_is_replaced() {
    let mut ward = Ward::running();
    ward.want(|group| group.frozen = true);
    pause(500);
    processes::signal(&ward.mark(0), Signal::KILL).unwrap();
    for signal in [Signal::HUP, Signal::KILL] {
        kill_process(ward.warden(0), signal).unwrap();
        if signal == Signal::KILL {
            ward.ended(0);
            ward.start(0);
        }
        pause(1_200);
        ward.stands(0, Standing::Running);
        assert_eq!((ward.stage.diary(0).runs, ward.stage.diary(1).runs), (1, 0), "{signal:?}");
    }
    ward.want(|group| group.frozen = false);
    ward.stage.writes(0, 1);
}

#[test]
fn a_group_that_is_kept_and_forgiven_while_it_has_no_warden_runs_again() {
    let mut ward = Ward::failed_and_kept();
    kill_process(ward.warden(0), Signal::KILL).unwrap();
    ward.ended(0);
    ward.want(|_| {});
    ward.start(0);
    let runs = |ward: &Ward| ward.stage.diary(0).runs + ward.stage.diary(1).runs;
    wait_for("a run by the newer wish", || (runs(&ward) == 2).then_some(()));
}

#[test]
fn a_program_that_cleared_its_environment_is_frozen_and_killed_with_its_group() {
    if let Err(why) = cgroup::room() {
        eprintln!("skipped: no cgroup can be made here: {why}");
        return;
    }
    // A target that stands still for half a second must not be news to the other host.
    let policy = Policy { takeover_ms: 3_000, ..Policy::default() };
    let mut ward = Ward::new(policy).with_runaway().begun();
    let (_, runaway) = ward.runaway(0);
    assert!(!ward.processes(0).contains(&runaway), "the mark does not find it");
    let cgroup = ward.cgroup(0).unwrap();
    assert!(cgroup.members().unwrap().contains(&runaway));
    let service = Pid::from_raw(ward.stage.service.pid().try_into().unwrap()).unwrap();
    let freezes = |ward: &Ward| {
        kill_process(service, Signal::STOP).unwrap();
        wait_for("the freezer", || cgroup.is_frozen().unwrap().then_some(()));
        let (lines, _) = ward.runaway(0);
        pause(100);
        assert_eq!(ward.runaway(0), (lines, runaway), "it stands still");
    };
    let goes_on = |ward: &Ward| {
        let (lines, _) = ward.runaway(0);
        wait_for("it goes on", || (ward.runaway(0).0 > lines + 5).then_some(()));
        let before = ward.stage.diary(0).acknowledged.len();
        wait_for("writes", || (ward.stage.diary(0).acknowledged.len() > before).then_some(()));
    };
    freezes(&ward);
    kill_process(service, Signal::CONT).unwrap();
    goes_on(&ward);
    // The next life of the warden finds the cgroup again, by either way.
    for signal in [Signal::HUP, Signal::KILL] {
        kill_process(ward.warden(0), signal).unwrap();
        if signal == Signal::KILL {
            ward.ended(0);
            ward.start(0);
        }
        goes_on(&ward);
        ward.stands(0, Standing::Running);
    }
    assert_eq!((ward.runaway(0).1, ward.stage.diary(0).runs), (runaway, 1));
    // Its warden dies while all of it is frozen, and the next one may only end it.
    freezes(&ward);
    kill_process(ward.warden(0), Signal::KILL).unwrap();
    ward.ended(0);
    kill_process(service, Signal::CONT).unwrap();
    ward.stage.writes(1, 0);
    assert!(!is_gone(runaway) && cgroup.is_frozen().unwrap());
    ward.start(0);
    ward.stands(0, Standing::Fenced);
    assert!(is_gone(runaway) && ward.cgroup(0).is_none());
    assert!(cgroup.members().unwrap().is_empty());
    // In good order, too.
    let (_, other) = ward.runaway(1);
    ward.want(|group| group.wanted = Wanted::Stopped);
    ward.stands(1, Standing::Stopped);
    assert!(is_gone(other));
}
