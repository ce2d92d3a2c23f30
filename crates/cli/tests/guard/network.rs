//! Networks of their own for the service and for each host. They belong to processes that end with
//! the test, however it ends, so nothing is left behind.

use std::process::{Child, Command, Stdio};

use crate::stage::wait_for;

/// Where the service is, for the hosts.
pub(crate) const PORTAL: &str = "10.79.0.1:3260";
const INSIDE: &str = "COMMONHOLD_TEST_NETWORK";
const PROGRAMS: [&str; 3] = ["unshare", "nsenter", "ip"];

/// A network for each host, joined by a bridge in this process's own.
pub(crate) struct Network {
    hosts: Vec<Child>,
}

pub(crate) fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Run a test of this program again where it may make networks, and whether that could be done.
pub(crate) fn enter(test: &str) -> bool {
    let found = |program: &&str| Command::new(*program).arg("--version").output().is_ok();
    if !rustix::process::geteuid().is_root() || !PROGRAMS.iter().all(found) {
        eprintln!("no networks of their own: that needs root and {PROGRAMS:?}");
        return false;
    }
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    // The shell reaps what is orphaned there.
    command.args(["sh", "-c", "\"$0\" \"$@\"; exit $?"]).arg(std::env::current_exe().unwrap());
    let status = command.args(["--exact", test, "--nocapture"]).env(INSIDE, "1").status();
    assert!(status.unwrap().success(), "{test} failed in a network of its own");
    true
}

fn run(line: &str) {
    let mut words = line.split(' ');
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}

fn network_of(process: &str) -> std::path::PathBuf {
    std::fs::read_link(format!("/proc/{process}/ns/net")).unwrap_or_default()
}

impl Network {
    pub(crate) fn new(count: usize) -> Self {
        run("ip link set lo up");
        run("ip link add hub type bridge");
        run("ip addr add 10.79.0.1/24 dev hub");
        run("ip link set hub up");
        Self { hosts: (0..count).map(host).collect() }
    }

    /// A process in each host's network.
    pub(crate) fn processes(&self) -> Vec<u32> {
        self.hosts.iter().map(Child::id).collect()
    }

    /// Pull the host's cable, or put it back.
    pub(crate) fn link(&self, host: usize, up: bool) {
        run(&format!("ip link set host{host} {}", if up { "up" } else { "down" }));
    }
}

fn host(number: usize) -> Child {
    let mut command = Command::new("unshare");
    let child = command.args(["--net", "sleep", "infinity"]).stdout(Stdio::null()).spawn().unwrap();
    let id = child.id().to_string();
    let own = network_of("self");
    wait_for("a network", || (![own.clone(), "".into()].contains(&network_of(&id))).then_some(()));
    let inside = format!("nsenter --target {id} --net ip");
    run(&format!("ip link add host{number} type veth peer name eth0 netns {id}"));
    run(&format!("ip link set host{number} master hub up"));
    run(&format!("{inside} link set lo up"));
    run(&format!("{inside} addr add 10.79.0.{}/24 dev eth0", 10 + number));
    run(&format!("{inside} link set eth0 up"));
    child
}

impl Drop for Network {
    fn drop(&mut self) {
        for host in &mut self.hosts {
            let _ = host.kill();
            let _ = host.wait();
        }
    }
}
