//! Networks of their own for the service and for each host. They belong to processes that end with
//! the test, however it ends, so nothing is left behind.

use std::process::{Child, Command, Stdio};

use crate::stage::wait_for;

/// Where the service is, for the hosts.
pub(crate) const PORTAL: &str = "10.79.0.1:3260";
const INSIDE: &str = "COMMONHOLD_TEST_NETWORK";
const PROGRAMS: [&str; 3] = ["unshare", "nsenter", "ip"];

/// A network for each host, joined by bridges in this process's own.
pub(crate) struct Network {
    hosts: Vec<Child>,
}

/// A bridge that every host has a cable to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Bridge {
    /// To the storage, and to the service.
    Hub,
    /// Between the hosts alone; its own address is the witness.
    Switch,
}

impl Bridge {
    /// Its name, the first bytes of its addresses, what a host calls its cable.
    const fn names(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Hub => ("hub", "10.79.0", "eth0"),
            Self::Switch => ("switch", "10.80.0", "eth1"),
        }
    }

    fn build(self) {
        let (name, net, _) = self.names();
        run(&format!("ip link add {name} type bridge"));
        run(&format!("ip addr add {net}.1/24 dev {name}"));
        run(&format!("ip link set {name} up"));
    }

    /// From the host with this number, whose network this process is in.
    fn join(self, number: usize, process: &str) {
        let (name, net, cable) = self.names();
        let inside = format!("nsenter --target {process} --net ip");
        run(&format!("ip link add {name}{number} type veth peer name {cable} netns {process}"));
        run(&format!("ip link set {name}{number} master {name} up"));
        run(&format!("{inside} addr add {net}.{}/24 dev {cable}", 10 + number));
        run(&format!("{inside} link set {cable} up"));
    }

    pub(crate) fn address(self, host: usize) -> String {
        format!("{}.{}", self.names().1, 10 + host)
    }
}

/// The address of the switch.
pub(crate) const WITNESS: &str = "10.80.0.1";

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
        Bridge::Hub.build();
        Bridge::Switch.build();
        Self { hosts: (0..count).map(host).collect() }
    }

    /// A process in each host's network.
    pub(crate) fn processes(&self) -> Vec<u32> {
        self.hosts.iter().map(Child::id).collect()
    }

    /// Pull the host's cable, or put it back.
    pub(crate) fn link(&self, bridge: Bridge, host: usize, up: bool) {
        let (name, ..) = bridge.names();
        run(&format!("ip link set {name}{host} {}", if up { "up" } else { "down" }));
    }
}

fn host(number: usize) -> Child {
    let mut command = Command::new("unshare");
    let child = command.args(["--net", "sleep", "infinity"]).stdout(Stdio::null()).spawn().unwrap();
    let id = child.id().to_string();
    let own = network_of("self");
    wait_for("a network", || (![own.clone(), "".into()].contains(&network_of(&id))).then_some(()));
    run(&format!("nsenter --target {id} --net ip link set lo up"));
    Bridge::Hub.join(number, &id);
    Bridge::Switch.join(number, &id);
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
