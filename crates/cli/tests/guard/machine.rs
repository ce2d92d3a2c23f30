//! A machine with a systemd of its own: namespaces of processes, mounts and cgroups on this one,
//! whose network it shares. It is paused and killed as a whole, by its cgroup.

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use env::mounts;
use env::processes::cgroup::Cgroup;
use rustix::process::{Pid, Signal, kill_process};

use crate::stage::wait_for;

const SYSTEMD: &str = "/lib/systemd/systemd";
/// What stands in the home is the machine's to write, and nothing else.
const BOOT: &str = "set -e
mount --bind \"$1\" \"$1\"
mount -o remount,bind,ro /
mount -t proc proc /proc
mount -t tmpfs run /run
mount -t cgroup2 cgroup /sys/fs/cgroup
exec env -i container=test PATH=/usr/sbin:/usr/bin:/sbin:/bin SYSTEMD_UNIT_PATH=\"$2\" \
    /lib/systemd/systemd --system --unit=test.target --log-target=console --show-status=no";

pub(crate) struct Machine {
    first: Child,
    systemd: String,
    cgroup: Cgroup,
}

impl Machine {
    /// Whether this machine lets us have others, and why not.
    pub(crate) fn can_be() -> Result<(), String> {
        if !rustix::process::geteuid().is_root() {
            return Err("it needs root".to_owned());
        }
        for program in [SYSTEMD, "/usr/bin/unshare", "/usr/bin/nsenter"] {
            if !Path::new(program).exists() {
                return Err(format!("there is no {program}"));
            }
        }
        env::processes::cgroup::room().map(drop)
    }

    /// It has these units and no D-Bus, and writes below `home` alone.
    pub(crate) fn boot(home: &Path, name: &str, units: &[(&str, String)]) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let (_, top) = mounts::of_kind("cgroup2").unwrap().unwrap();
        let own = format!("commonhold-machine-{}-{number}", std::process::id());
        let cgroup = Cgroup::new(top.join(own));
        let directory = home.join(format!("units-of-{name}"));
        std::fs::create_dir_all(&directory).unwrap();
        let write = |name: &str, text: &str| std::fs::write(directory.join(name), text).unwrap();
        write("test.target", "[Unit]\nDefaultDependencies=no\n");
        units.iter().for_each(|(name, text)| write(name, text));
        let mut command = Command::new("unshare");
        command.args(["--mount", "--pid", "--fork", "--cgroup", "--uts", "--kill-child"]);
        command.args(["--propagation", "private", "sh", "-c", BOOT, "sh"]);
        let log = std::fs::File::create(home.join(format!("console-of-{name}"))).unwrap();
        command.arg(home).arg(&directory).stdin(Stdio::null()).stderr(log.try_clone().unwrap());
        command.stdout(log);
        cgroup.admit(&mut command).unwrap();
        let first = command.spawn().unwrap();
        let children = format!("/proc/{0}/task/{0}/children", first.id());
        let systemd = wait_for("the machine's first process", || {
            let text = std::fs::read_to_string(&children).unwrap();
            text.split_whitespace().next().map(str::to_owned)
        });
        let machine = Self { first, systemd, cgroup };
        wait_for("systemd", || {
            let state = machine.systemctl(&["is-system-running"]);
            (String::from_utf8_lossy(&state.stdout).trim() == "running").then_some(())
        });
        machine
    }

    /// To its first process.
    pub(crate) fn signal_systemd(&self, signal: Signal) {
        let id = Pid::from_raw(self.systemd.parse().unwrap()).unwrap();
        kill_process(id, signal).unwrap();
    }

    /// A program in there.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.systemd, "--mount", "--pid", "--cgroup", "--uts"]);
        command.arg(program);
        self.cgroup.part("visitors").admit(&mut command).unwrap();
        command
    }

    pub(crate) fn systemctl(&self, line: &[&str]) -> Output {
        self.command("systemctl").args(line).output().unwrap()
    }

    pub(crate) fn state_of(&self, unit: &str) -> String {
        let output = self.systemctl(&["show", "--property=ActiveState", "--value", unit]);
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// What a unit of `system.slice` runs in.
    pub(crate) fn cgroup_of(&self, unit: &str) -> Cgroup {
        self.cgroup.part("system.slice").part(unit)
    }

    /// All of it stands still, or goes on.
    pub(crate) fn pause(&self, still: bool) {
        self.cgroup.freeze(still).unwrap();
        wait_for("the pause", || (self.cgroup.is_frozen().unwrap() == still).then_some(()));
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.cgroup.kill();
        let _ = self.first.wait();
        wait_for("the machine's end", || self.cgroup.remove().ok());
    }
}
