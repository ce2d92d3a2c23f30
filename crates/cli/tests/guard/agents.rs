//! The whole of it: the service, an agent on each of two hosts, their wardens, and a group that is
//! made, moved, killed and stopped by the verbs of a person.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use env::processes;
use host::group::Home;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::network::Bridge;
use crate::service::Service;
use crate::stage::{iqn, wait_for};
use crate::writer::{Diary, Orders, diary, now_us};
use crate::{is_gone, pause, serve_again, sweep};

const HOSTS: usize = 2;

pub(crate) struct Fleet {
    pub(crate) service: Service,
    /// What the agents run: a file of the test's own, which can be replaced.
    program: PathBuf,
    agents: Vec<Option<Child>>,
    /// Where each agent hears beats; a restarted one is where it was.
    ports: Vec<u16>,
    /// A process of each host's network, where the hosts have networks of their own.
    networks: Vec<u32>,
}

/// Processes that have this in their command line. A child of one of them that has it, too, is
/// about to become another program.
fn with_argument(text: &str) -> BTreeSet<i32> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir("/proc").unwrap() {
        let name = entry.unwrap().file_name();
        let Some(id) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let line = std::fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&line).contains(text) {
            found.insert(id);
        }
    }
    let all = found.clone();
    found.retain(|id| parent_of(*id).is_none_or(|parent| !all.contains(&parent)));
    found
}

/// proc_pid_stat(5): the second field after the name. `None` for one that is gone.
fn parent_of(id: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

/// A port for datagrams that nobody uses.
fn free_port() -> u16 {
    std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn kill(id: i32) {
    let _ = kill_process(Pid::from_raw(id).unwrap(), Signal::KILL);
}

impl Fleet {
    /// Two hosts with agents, and a group that runs on the first.
    fn running() -> Self {
        Self::over(Service::start(), Vec::new(), serde_json::json!({}))
    }

    /// The same in these networks, under this policy.
    pub(crate) fn over(service: Service, networks: Vec<u32>, policy: Value) -> Self {
        let grant = ["volume-type", "grant", "ssd-multiattach", "default"];
        service.json(&[&grant[..], &["--acknowledge-data-loss"]].concat());
        service.json(&["volume", "create", "v", "--size", "1m", "--type", "ssd-multiattach"]);
        std::fs::write(service.path("member"), service.token.as_ref().unwrap()).unwrap();
        let program = service.path("agent-program");
        std::fs::copy(env!("CARGO_BIN_EXE_commonhold"), &program).unwrap();
        let agents = (0..HOSTS).map(|_| None).collect();
        let ports = (0..HOSTS).map(|_| free_port()).collect();
        let mut fleet = Self { service, program, agents, ports, networks };
        for host in 0..HOSTS {
            fleet.start(host);
        }
        wait_for("both agents", || {
            let hosts = fleet.service.json(&["host", "list"]);
            let up = |host: &&Value| host["agent"]["up"] == true;
            (hosts.as_array().unwrap().iter().filter(up).count() == HOSTS).then_some(())
        });
        // Who hears of a new group first has it first: the second host hears of it later.
        fleet.kill_agent(1);
        let file = fleet.service.path("group.json");
        let mut group = fleet.group();
        group["policy"] = policy;
        std::fs::write(&file, group.to_string()).unwrap();
        fleet.service.json(&["group", "create", "--file", file.to_str().unwrap()]);
        fleet.service.json(&["group", "start", "g"]);
        fleet.writes(0, 0);
        fleet.start(1);
        wait_for("the standby", || (fleet.standing(1) == "standby").then_some(()));
        fleet
    }

    fn group(&self) -> Value {
        let own = std::env::current_exe().unwrap().display().to_string();
        let file = self.service.path("process-of-$COMMONHOLD_HOST").display().to_string();
        let orders = self.service.path("orders-of-$COMMONHOLD_HOST").display().to_string();
        let variable = Orders::VARIABLE;
        let start = format!(
            "p=${{COMMONHOLD_DEVICE#iscsi://}}; export {variable}=\"$(printf '%s\\n' \
             ${{COMMONHOLD_HOST#h}} ${{p%%/*}} \"$(echo $p | cut -d/ -f2)\" $COMMONHOLD_INITIATOR \
             $COMMONHOLD_CHAP_USER $COMMONHOLD_CHAP_SECRET $(cat {orders}))\"; \
             {own} --exact the_command --nocapture >/dev/null 2>&1 & echo $! > {file}"
        );
        serde_json::json!({
            "name": "g", "volume": "v", "hosts": ["h0", "h1"],
            "resources": [{
                "kind": "exec",
                "start": ["/bin/sh", "-c", start],
                "status": ["/bin/sh", "-c", format!("kill -0 $(cat {file})")],
                "interval_ms": 100,
            }],
        })
    }

    fn start(&mut self, host: usize) {
        self.start_at(host, &self.service.url.clone());
    }

    /// It hears the other hosts, and the service is never there.
    fn start_cut_off(&mut self, host: usize) {
        const NOWHERE: &str = "http://127.0.0.1:1";
        wait_for("the silence", || (!self.hears(host)).then_some(()));
        self.enrolled_at(host, &self.service.url, NOWHERE);
        self.start_at(host, NOWHERE);
        wait_for("beats of the other", || self.hears(host).then_some(()));
        self.enrolled_at(host, NOWHERE, &self.service.url);
    }

    /// Whether another host was heard a moment ago.
    fn hears(&self, host: usize) -> bool {
        let age = self.report(host)["peers"][0]["heartbeat_age_ms"].as_u64();
        age.is_some_and(|age| age < 1_000)
    }

    /// Where the host's agent is known.
    fn enrolled_at(&self, host: usize, before: &str, now: &str) {
        let file = self.service.path(&format!("agent-{host}")).join("agent.json");
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains(before), "{text}");
        std::fs::write(file, text.replace(before, now)).unwrap();
    }

    fn start_at(&mut self, host: usize, url: &str) {
        let path = |name: &str| self.service.path(&format!("{name}-{host}"));
        let orders = self.service.path(&format!("orders-of-h{host}"));
        std::fs::write(orders, path("writer").display().to_string()).unwrap();
        let log = std::fs::File::options().create(true).append(true).open(path("agent-log"));
        let (mut command, address) = match self.networks.get(host) {
            None => (Command::new(&self.program), "127.0.0.1".to_owned()),
            Some(process) => {
                let mut command = Command::new("nsenter");
                command.args(["--target", &process.to_string(), "--net"]).arg(&self.program);
                (command, Bridge::Switch.address(host))
            }
        };
        let child = command
            .args(["host", "run", "--url", url, "--host", &format!("h{host}")])
            .args(["--initiator", &iqn(host), "--address", &address])
            .args([
                "--heartbeat",
                &format!("{address}:{}", self.ports[host]),
                "--attach-by",
                "own",
                "--token-file",
            ])
            .arg(self.service.path("member"))
            .arg("--state")
            .arg(path("agent"))
            .env("XDG_CONFIG_HOME", self.service.home.path())
            .stdout(Stdio::null())
            .stderr(log.unwrap())
            .spawn()
            .unwrap();
        self.agents[host] = Some(child);
    }

    pub(crate) fn diary(&self, host: usize) -> Diary {
        diary(&self.service.path(&format!("writer-{host}")))
    }

    pub(crate) fn writes(&self, host: usize, after_runs: usize) -> u64 {
        wait_for(&format!("host {host} writes"), || {
            let diary = self.diary(host);
            diary.acknowledged.first().filter(|_| diary.runs > after_runs).map(|(at, _)| *at)
        })
    }

    /// It goes on writing, the same program where it was.
    pub(crate) fn still_writes(&self, host: usize, process: i32) {
        let before = self.diary(host).acknowledged.len();
        wait_for("more writes", || {
            (self.diary(host).acknowledged.len() > before + 50).then_some(())
        });
        assert_eq!(self.diary(host).process, Some(process));
        assert!(!is_gone(process));
    }

    pub(crate) fn shown(&self) -> Value {
        self.service.json(&["group", "show", "g"])
    }

    pub(crate) fn standing(&self, host: usize) -> String {
        let shown = self.shown();
        let name = format!("h{host}");
        let found = shown["hosts"].as_array().unwrap().iter().find(|one| one["name"] == *name);
        let standing = found.and_then(|host| host["report"]["standing"].as_str());
        standing.unwrap_or_default().to_owned()
    }

    /// The whole host: the agent, its warden, and what that has started.
    pub(crate) fn signal(&self, host: usize, signal: Signal) {
        let agent = self.agents[host].iter().filter_map(|child| i32::try_from(child.id()).ok());
        let warden = with_argument(&self.directory(host));
        for id in agent.chain(warden).chain(self.marked(host)) {
            let _ = kill_process(Pid::from_raw(id).unwrap(), signal);
        }
    }

    /// Since when a host has not heard the other.
    pub(crate) fn silence_ms(&self, host: usize) -> Option<u64> {
        self.shown()["hosts"][host]["report"]["peers"][0]["heartbeat_age_ms"].as_u64()
    }

    fn kill_agent(&mut self, host: usize) {
        let mut child = self.agents[host].take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    fn dismiss(&self, host: usize) {
        let shown = self.service.json(&["host", "dismiss", &format!("h{host}")]);
        assert_eq!(shown["agent"], Value::Null);
    }

    /// One more host, with an agent.
    fn join(&mut self) -> usize {
        let host = self.agents.len();
        self.agents.push(None);
        self.ports.push(free_port());
        self.start(host);
        let name = format!("h{host}");
        wait_for("the new agent", || {
            let hosts = self.service.json(&["host", "list"]);
            let is_up = |host: &Value| host["name"] == *name && host["agent"]["up"] == true;
            hosts.as_array().unwrap().iter().any(is_up).then_some(())
        });
        host
    }

    fn directory(&self, host: usize) -> String {
        self.service.path(&format!("agent-{host}")).join("groups").display().to_string()
    }

    /// What its warden says now; the service hears of it a second later.
    fn report(&self, host: usize) -> Value {
        let mut groups = std::fs::read_dir(self.directory(host)).unwrap();
        let report = groups.next().unwrap().unwrap().path().join("report.json");
        serde_json::from_str(&std::fs::read_to_string(report).unwrap()).unwrap()
    }

    /// What was started by the group's programs on this host.
    pub(crate) fn marked(&self, host: usize) -> BTreeSet<i32> {
        let file = self.service.path(&format!("process-of-h{host}"));
        let id = std::fs::read_to_string(file).ok().and_then(|text| text.trim().parse().ok());
        id.into_iter().collect()
    }

    /// kill -9 of everything.
    fn kill_host(&mut self, host: usize) {
        self.kill_agent(host);
        let wardens = with_argument(&self.directory(host));
        assert_eq!(wardens.len(), 1, "{wardens:?}");
        wardens.iter().chain(&self.marked(host)).for_each(|id| kill(*id));
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{:?}", std::fs::read_to_string(self.service.path("log-again")));
        }
        for host in 0..self.agents.len() {
            if let Some(child) = &mut self.agents[host] {
                let _ = child.kill();
                let _ = child.wait();
            }
            let home = Path::new(&self.directory(host)).to_path_buf();
            with_argument(&self.directory(host)).into_iter().for_each(kill);
            for group in std::fs::read_dir(home).into_iter().flatten().flatten() {
                if std::thread::panicking() {
                    let read = |name| std::fs::read_to_string(group.path().join(name));
                    eprintln!("{:?}\n{:?}", read("report.json"), read("log"));
                }
                let report = std::fs::read_to_string(group.path().join("order.json"));
                let order: Value =
                    serde_json::from_str(&report.unwrap_or_default()).unwrap_or_default();
                let (id, own) = (order["group"]["id"].as_str(), order["host"].as_str());
                if let (Some(id), Some(own)) = (id, own) {
                    sweep(&Home::new(group.path()), &format!("{id}@{own}"));
                }
            }
        }
    }
}

#[test]
fn agents_run_a_group_that_outlives_agent_service_and_host() {
    let mut fleet = Fleet::running();
    let process = fleet.diary(0).process.unwrap();
    // The agent is restarted.
    fleet.kill_agent(0);
    pause(300);
    fleet.start(0);
    pause(1_500);
    fleet.still_writes(0, process);
    assert_eq!(with_argument(&fleet.directory(0)).len(), 1, "one warden, the same");
    // The hosts hear each other.
    wait_for("heartbeats", || {
        let shown = fleet.shown();
        let age = shown["hosts"][1]["report"]["peers"][0]["heartbeat_age_ms"].as_u64();
        age.filter(|age| *age < 1_000)
    });
    // The host dies.
    let begun_us = now_us();
    fleet.kill_host(0);
    let wrote_us = fleet.writes(1, 0);
    eprintln!("from kill -9 to the other host's first write: {} ms", (wrote_us - begun_us) / 1000);
    wait_for("the news", || (fleet.shown()["owner"]["host_name"] == "h1").then_some(()));
    fleet.start(0);
    wait_for("the fence", || (fleet.standing(0) == "fenced").then_some(()));
    fleet.service.json(&["group", "permit", "g", "h0"]);
    wait_for("the standby", || (fleet.standing(0) == "standby").then_some(()));
    fleet.service.json(&["group", "move", "g", "h0"]);
    fleet.writes(0, 1);
    wait_for("the other's end", || fleet.marked(1).iter().all(|id| is_gone(*id)).then_some(()));
    fleet.service.json(&["group", "stop", "g"]);
    wait_for("the stop", || (fleet.shown()["state"] == "stopped").then_some(()));
    assert!(fleet.marked(0).iter().all(|id| is_gone(*id)));
}

#[test]
fn a_restart_of_the_service_moves_nothing_and_a_frozen_group_is_taken_over_by_nobody() {
    let mut fleet = Fleet::running();
    let process = fleet.diary(0).process.unwrap();
    let id = i32::try_from(fleet.service.pid()).unwrap();
    kill(id);
    wait_for("the end of the daemon", || is_gone(id).then_some(()));
    let mut daemon = serve_again(&fleet.service);
    fleet.still_writes(0, process);
    wait_for("the service", || fleet.service.run(&["health"]).status.success().then_some(()));
    pause(1_500);
    fleet.still_writes(0, process);
    assert_eq!((fleet.diary(0).runs, fleet.diary(1).runs), (1, 0));
    fleet.service.json(&["group", "freeze", "g"]);
    wait_for("the freeze", || {
        let shown = fleet.shown();
        let of = |host: usize| shown["hosts"][host]["report"]["generation"].clone();
        (of(0) == shown["generation"] && of(1) == shown["generation"]).then_some(())
    });
    fleet.kill_host(0);
    pause(1_500);
    assert_eq!(fleet.diary(1).runs, 0, "a frozen group is taken over by nobody");
    fleet.service.json(&["group", "unfreeze", "g"]);
    fleet.writes(1, 0);
    daemon.kill().unwrap();
    daemon.wait().unwrap();
}

#[test]
fn an_upgrade_of_the_agent_takes_its_wardens_along_and_moves_nothing() {
    let mut fleet = Fleet::running();
    let process = fleet.diary(0).process.unwrap();
    let epoch = fleet.shown()["epoch"].clone();
    let wardens = with_argument(&fleet.directory(0));
    let [warden] = wardens.iter().collect::<Vec<_>>()[..] else { panic!("{wardens:?}") };
    let new = fleet.service.path("agent-program.new");
    std::fs::copy(env!("CARGO_BIN_EXE_commonhold"), &new).unwrap();
    std::fs::rename(&new, &fleet.program).unwrap();
    pause(2_500);
    assert!(processes::is_outdated(*warden, &fleet.program), "nobody asked for it yet");
    for host in 0..HOSTS {
        fleet.kill_agent(host);
        fleet.start(host);
    }
    wait_for("the new program", || {
        (!processes::is_outdated(*warden, &fleet.program)).then_some(())
    });
    fleet.still_writes(0, process);
    pause(2_000);
    fleet.still_writes(0, process);
    assert_eq!(with_argument(&fleet.directory(0)), wardens, "it is the same process");
    assert_eq!((fleet.diary(0).runs, fleet.diary(1).runs), (1, 0));
    assert_eq!((fleet.shown()["epoch"].clone(), fleet.standing(0)), (epoch, "running".to_owned()));
}

#[test]
fn a_host_that_lost_the_volume_is_not_let_in_by_a_new_group() {
    let mut fleet = Fleet::running();
    fleet.kill_host(0);
    fleet.writes(1, 0);
    fleet.start(0);
    wait_for("the fence", || (fleet.standing(0) == "fenced").then_some(()));
    fleet.service.json(&["group", "stop", "g"]);
    wait_for("the stop", || (fleet.shown()["state"] == "stopped").then_some(()));
    assert!(fleet.service.run(&["group", "delete", "g"]).status.success());
    wait_for("the end of the wardens", || {
        with_argument(&fleet.directory(0)).is_empty().then_some(())
    });
    let file = fleet.service.path("group.json");
    fleet.service.json(&["group", "create", "--file", file.to_str().unwrap(), "--start"]);
    fleet.writes(1, 1);
    wait_for("the fence of before", || (fleet.standing(0) == "fenced").then_some(()));
    let shown = fleet.shown();
    let why = shown["hosts"][0]["report"]["why"].as_str().unwrap();
    assert!(why.contains("a group that is deleted"), "{why}");
    fleet.service.json(&["group", "permit", "g", "h0"]);
    wait_for("the standby", || (fleet.standing(0) == "standby").then_some(()));
}

#[test]
fn an_agent_that_is_dismissed_ends_and_does_not_make_itself_known_again() {
    let mut fleet = Fleet::running();
    let process = fleet.diary(0).process.unwrap();
    fleet.dismiss(0);
    let mut agent = fleet.agents[0].take().unwrap();
    let ended = wait_for("the agent's end", || agent.try_wait().unwrap());
    assert!(!ended.success());
    let log = std::fs::read_to_string(fleet.service.path("agent-log-0")).unwrap();
    assert!(log.contains("does not take this agent's token"), "{log}");
    assert!(log.contains("--token-file"), "{log}");
    fleet.still_writes(0, process);
    fleet.start(0);
    let mut agent = fleet.agents[0].take().unwrap();
    wait_for("the agent's end", || agent.try_wait().unwrap());
    fleet.still_writes(0, process);
}

#[test]
fn a_start_waits_for_the_preferred_host_to_hear_of_it_and_not_for_ever() {
    let mut fleet = Fleet::running();
    let stop = |fleet: &Fleet| {
        fleet.service.json(&["group", "stop", "g"]);
        wait_for("the stop", || (fleet.shown()["state"] == "stopped").then_some(()));
    };
    stop(&fleet);
    // Its agent hears nothing for a while; its warden lives, and says so.
    let agent = fleet.agents[0].as_ref().unwrap().id();
    let agent = Pid::from_raw(i32::try_from(agent).unwrap()).unwrap();
    kill_process(agent, Signal::STOP).unwrap();
    let start = ["group", "start", "g"];
    assert!(fleet.service.run(&start).status.success());
    let wanted = fleet.shown()["generation"].clone();
    wait_for("the other to hear of it", || (fleet.report(1)["generation"] == wanted).then_some(()));
    pause(700);
    assert_eq!(fleet.diary(1).runs, 0, "the other has it first");
    kill_process(agent, Signal::CONT).unwrap();
    fleet.writes(0, 1);
    assert_eq!(fleet.diary(1).runs, 0);
    // Now it never hears of it.
    stop(&fleet);
    fleet.kill_agent(0);
    fleet.service.json(&start);
    fleet.writes(1, 0);
    assert_eq!(fleet.diary(0).runs, 2);
}

#[test]
fn a_stop_is_no_start_on_a_host_that_hears_of_it_later() {
    let mut fleet = Fleet::running();
    fleet.service.json(&["group", "move", "g", "h1"]);
    fleet.writes(1, 0);
    let shown = fleet.shown()["generation"].clone();
    wait_for("the other's standby", || {
        (fleet.standing(0) == "standby" && fleet.report(0)["generation"] == shown).then_some(())
    });
    fleet.kill_agent(0);
    fleet.start_cut_off(0);
    assert!(fleet.service.run(&["group", "stop", "g"]).status.success());
    wait_for("the stop", || (fleet.report(1)["standing"] == "stopped").then_some(()));
    let warning = "another host knows that this group is stopped";
    wait_for("the warning", || {
        let report = fleet.report(0);
        report["error"].as_str().is_some_and(|error| error.contains(warning)).then_some(())
    });
    assert_eq!((fleet.diary(0).runs, fleet.diary(1).runs), (1, 1));
    fleet.kill_agent(0);
    fleet.start(0);
    wait_for("the news", || (fleet.standing(0) == "stopped").then_some(()));
    assert_eq!(fleet.report(0)["error"], Value::Null);
}

/// It waited as long as the other lived, for a word that no service could bring it.
#[test]
fn a_host_that_has_not_heard_of_a_change_takes_what_failed_where_it_was_heard_of() {
    let mut fleet = Fleet::running();
    let known = fleet.shown()["generation"].clone();
    wait_for("the order", || (fleet.report(1)["generation"] == known).then_some(()));
    fleet.kill_agent(1);
    fleet.start_cut_off(1);
    fleet.service.run(&["group", "update", "g", "--on-failure", "move"]);
    let wanted = fleet.shown()["generation"].clone();
    assert_ne!(wanted, known);
    wait_for("the owner to hear of it", || (fleet.report(0)["generation"] == wanted).then_some(()));
    fleet.marked(0).into_iter().for_each(kill);
    fleet.writes(1, 0);
    assert_eq!(fleet.report(1)["generation"], known);
    assert_eq!(fleet.diary(0).runs, 1);
}

#[test]
fn an_update_moves_nothing_and_a_host_that_left_takes_nothing_over() {
    let mut fleet = Fleet::running();
    let process = fleet.diary(0).process.unwrap();
    let more = fleet.join();
    let update = |fleet: &Fleet, words: &[&str]| {
        fleet.service.json(&[&["group", "update", "g"], words].concat())
    };
    // A new host, another order and another policy, while it runs; `--wait` until all have it.
    update(&fleet, &["--add-host", "h2", "--on-failure", "move"]);
    wait_for("the new standby", || (fleet.standing(more) == "standby").then_some(()));
    update(&fleet, &["--host", "h2", "--host", "h1", "--host", "h0"]);
    let (code, error) = fleet.service.refused(&["group", "update", "g", "--remove-host", "h0"]);
    assert!(code == 4 && error.contains("'h0' said last that it runs it"), "{error}");
    // The standby goes: its warden hears of it, and ends.
    let left = update(&fleet, &["--remove-host", "h1"]);
    assert_eq!(left["hosts"].as_array().unwrap().len(), 2, "{left}");
    wait_for("the end of its warden", || {
        with_argument(&fleet.directory(1)).is_empty().then_some(())
    });
    fleet.still_writes(0, process);
    assert_eq!((fleet.diary(0).runs, fleet.diary(1).runs, fleet.diary(more).runs), (1, 0, 0));
    let resources = ["group", "update", "g", "--resource", "exec:start=/bin/true"];
    let (code, error) = fleet.service.refused(&resources);
    assert!(code == 4 && error.contains("commonhold group stop g"), "{error}");
    // The policy of before would have started it again where it was.
    fleet.marked(0).into_iter().for_each(kill);
    fleet.writes(more, 0);
    assert_eq!((fleet.diary(0).runs, fleet.diary(1).runs), (1, 0));
    fleet.service.json(&["group", "stop", "g"]);
    fleet.service.json(&resources);
    fleet.service.json(&["group", "start", "g"]);
    let shown = fleet.shown();
    assert_eq!((&shown["state"], &shown["owner"]["host_name"]), (&"running".into(), &"h2".into()));
    assert_eq!(shown["hosts"][0]["report"]["resources"].as_array().unwrap().len(), 1);
    assert_eq!(fleet.diary(more).runs, 1, "the new resource is another program");
    fleet.service.json(&["group", "stop", "g"]);
}
