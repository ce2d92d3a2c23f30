//! The command that runs while a volume is held: a process group of its own.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tokio::process::{Child, Command};

/// Between two looks whether the group has died.
const DYING: Duration = Duration::from_millis(5);
/// As a shell says it of a process that a signal ended.
const SIGNALLED: u8 = 128;

/// A command that was started.
pub(super) struct Running {
    child: Child,
    group: Pid,
}

impl Running {
    /// `line` is the program and its arguments; `environment` is added to the guard's own.
    pub(super) fn start(
        line: &[OsString],
        environment: &[(&'static str, String)],
    ) -> io::Result<Self> {
        let (program, arguments) = line.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let mut command = Command::new(program);
        command.args(arguments).process_group(0).kill_on_drop(true);
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        let child = command.spawn()?;
        let id = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let group = id.ok_or_else(|| io::Error::other("the command ended before it began"))?;
        Ok(Self { child, group })
    }

    /// A group that is gone needs no signal.
    pub(super) fn signal(&self, signal: Signal) {
        let _ = kill_process_group(self.group, signal);
    }

    /// Wait until nothing of the group runs; what the command leaves behind is killed.
    pub(super) async fn ended(&mut self) -> u8 {
        let code = self.child.wait().await.map_or(u8::MAX, exit_code);
        while test_kill_process_group(self.group) != Err(Errno::SRCH) {
            self.signal(Signal::KILL);
            tokio::time::sleep(DYING).await;
        }
        code
    }
}

fn exit_code(status: ExitStatus) -> u8 {
    let signalled = || status.signal().map(|signal| i32::from(SIGNALLED) + signal);
    let code = status.code().or_else(signalled);
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}
