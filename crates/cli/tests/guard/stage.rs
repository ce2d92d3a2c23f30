//! A service with one volume that three hosts have, and guards in processes of their own.

use std::cell::Cell;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use host::LogicalUnit;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::Value;

use crate::observer::Observer;
use crate::service::Service;
use crate::writer::{Diary, Orders, Stamp, diary};

pub(crate) const HOSTS: usize = 3;
/// The one that only looks.
const OBSERVER: usize = HOSTS;
const LIMIT: Duration = Duration::from_secs(30);

pub(crate) struct Stage {
    pub(crate) service: Service,
    pub(crate) target: String,
    pub(crate) credentials: Vec<(String, String)>,
    pub(crate) times: Vec<&'static str>,
    /// A process of each host's network, where the hosts have networks of their own.
    networks: Vec<u32>,
    /// How often each host's guard was started, and how often its command was before that.
    starts: [Cell<(usize, usize)>; HOSTS],
}

pub(crate) struct Guarded {
    pub(crate) process: Child,
    pub(crate) log: PathBuf,
}

pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < LIMIT, "{what}: not within {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(3));
    }
}

fn word<'a>(value: &'a Value, path: &str) -> &'a str {
    value.pointer(path).and_then(Value::as_str).unwrap_or_else(|| panic!("no {path} in {value}"))
}

pub(crate) fn iqn(host: usize) -> String {
    format!("iqn.2026-11.org.example:guarded-{host}")
}

impl Stage {
    pub(crate) fn new() -> Self {
        Self::over(Service::start(), Vec::new())
    }

    pub(crate) fn over(service: Service, networks: Vec<u32>) -> Self {
        let grant = ["volume-type", "grant", "ssd-multiattach", "default"];
        service.json(&[&grant[..], &["--acknowledge-data-loss"]].concat());
        service.json(&["volume", "create", "v", "--size", "1m", "--type", "ssd-multiattach"]);
        let mut attach = vec!["attachment".to_owned(), "create".to_owned(), "v".to_owned()];
        for host in 0..=OBSERVER {
            let name = format!("h{host}");
            service.json(&["host", "create", &name, "--initiator", &iqn(host)]);
            attach.extend(["--host".to_owned(), name]);
        }
        let made = service.json(&attach.iter().map(String::as_str).collect::<Vec<_>>());
        let made = made["attachments"].as_array().unwrap();
        let target = word(&made[0], "/attachment/connection/target").to_owned();
        let login = |one: &Value| {
            let part = |path: &str| word(one, path).to_owned();
            (part("/credentials/user"), part("/credentials/secret"))
        };
        let credentials = made.iter().map(login).collect();
        let starts = Default::default();
        Self { service, target, credentials, times: Vec::new(), networks, starts }
    }

    pub(crate) fn orders(&self, host: usize) -> Orders {
        let (user, secret) = self.credentials[host].clone();
        Orders {
            host: host as u64,
            portal: self.service.portal.clone(),
            target: self.target.clone(),
            initiator: iqn(host),
            user,
            secret,
            log: self.log(host).display().to_string(),
        }
    }

    fn log(&self, host: usize) -> PathBuf {
        self.service.path(&format!("writer-{host}-{}", self.starts[host].get().0))
    }

    /// Of the last command; `runs` counts them all.
    pub(crate) fn diary(&self, host: usize) -> Diary {
        let last = diary(&self.log(host));
        Diary { runs: self.starts[host].get().1 + last.runs, ..last }
    }

    /// This program's own, or one of the host's network.
    fn program(&self, host: usize) -> Command {
        let binary = env!("CARGO_BIN_EXE_commonhold");
        let Some(process) = self.networks.get(host) else { return Command::new(binary) };
        let mut command = Command::new("nsenter");
        command.args(["--target", &process.to_string(), "--net", binary]);
        command
    }

    /// A guard's verb with all that says where and who.
    pub(crate) fn verb(&self, host: usize, verb: &str) -> Command {
        let (user, secret) = &self.credentials[host];
        let mut command = self.program(host);
        command.args(["guard", verb, "-o", "json", "--host-id", &(host + 1).to_string()]);
        command.args(["--device", &format!("iscsi://{}/{}", self.service.portal, self.target)]);
        command.arg("--state").arg(self.service.path(&format!("guard-{host}")));
        command.args(["--initiator", &iqn(host), "--chap-user", user]);
        command.env("COMMONHOLD_CHAP_SECRET", secret);
        command
    }

    /// `guard hold` of the writer.
    pub(crate) fn hold(&self, host: usize) -> Guarded {
        let runs = self.diary(host).runs;
        self.starts[host].set((self.starts[host].get().0 + 1, runs));
        let orders = self.orders(host);
        let isid: String = orders.isid().iter().map(|byte| format!("{byte:02x}")).collect();
        let log = self.service.path(&format!("guard-log-{host}-{}", self.starts[host].get().0));
        let mut command = self.verb(host, "hold");
        command.args(["--writer", &format!("{},i,0x{isid}", iqn(host))]).args(&self.times);
        command.arg("--").arg(std::env::current_exe().unwrap());
        command.args(["--exact", "the_command", "--nocapture"]);
        command.env(Orders::VARIABLE, orders.encode());
        command.stdout(Stdio::null());
        command.stderr(std::fs::File::options().create(true).append(true).open(&log).unwrap());
        command.env("COMMONHOLD_LOG", "host=debug");
        Guarded { process: command.spawn().unwrap(), log }
    }

    /// `guard hold` that has the volume and writes.
    pub(crate) fn owner(&self, host: usize) -> Guarded {
        let runs = self.diary(host).runs;
        let guarded = self.hold(host);
        self.writes(host, runs);
        guarded
    }

    /// Wait until a run after these many has an acknowledged write; when that was.
    pub(crate) fn writes(&self, host: usize, after_runs: usize) -> u64 {
        wait_for(&format!("host {host} writes"), || {
            let diary = self.diary(host);
            diary.acknowledged.first().filter(|_| diary.runs > after_runs).map(|(at, _)| *at)
        })
    }

    /// Stop or go on: the guard and its command, as a machine that is paused.
    pub(crate) fn signal(&self, host: usize, guarded: &Guarded, signal: Signal) {
        guarded.signal(signal);
        self.signal_command(host, signal);
    }

    pub(crate) fn signal_command(&self, host: usize, signal: Signal) {
        if let Some(group) = self.diary(host).process.and_then(Pid::from_raw) {
            let _ = kill_process_group(group, signal);
        }
    }

    pub(crate) fn status(&self, host: usize) -> Value {
        let output = self.verb(host, "status").output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{error}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The exit code of a verb, and what it said.
    pub(crate) fn ends(&self, host: usize, verb: &str, more: &[&str]) -> (i32, String) {
        let output = self.verb(host, verb).args(more).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code().unwrap(), said)
    }

    /// A host, when it only looks.
    pub(crate) fn observer(&self, host: usize) -> Observer {
        Observer {
            portal: self.service.portal.clone(),
            target: self.target.clone(),
            initiator: iqn(host),
            credentials: self.credentials[host].clone(),
        }
    }

    /// The volume, through a session of a host's own.
    pub(crate) async fn unit(&self, host: usize) -> LogicalUnit {
        self.observer(host).unit().await
    }

    /// Every block, read by a host that holds nothing.
    pub(crate) fn picture(&self) -> Vec<Option<Stamp>> {
        self.observer(OBSERVER).picture()
    }

    /// Since the picture was taken nothing of another run than the host's last has landed, and
    /// what this run had acknowledged before is there.
    pub(crate) fn check(&self, before: &[Option<Stamp>], host: usize) {
        // The diary first: what is acknowledged after it may not be in the picture.
        let diary = self.diary(host);
        self.observer(OBSERVER).check(before, &diary);
    }
}

impl Guarded {
    pub(crate) fn signal(&self, signal: Signal) {
        let id = Pid::from_raw(self.process.id().try_into().unwrap()).unwrap();
        kill_process(id, signal).unwrap();
    }

    /// Its exit code, and what it said.
    pub(crate) fn ended(&mut self) -> (Option<i32>, String) {
        let status = wait_for("the guard's end", || self.process.try_wait().unwrap());
        (status.code(), std::fs::read_to_string(&self.log).unwrap())
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
