//! The command that runs while a volume is held: a process group of its own.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use ::guard::{Input, Why};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tokio::process::{self, Child};

use super::Work;

/// Between two looks whether the group has died.
const DYING: Duration = Duration::from_millis(5);
/// As a shell says it of a process that a signal ended.
const SIGNALLED: u8 = 128;

/// A command, which is killed when this value is dropped.
pub struct Command {
    line: Vec<OsString>,
    environment: Vec<(&'static str, String)>,
    running: Option<Running>,
}

struct Running {
    child: Child,
    group: Pid,
}

impl Command {
    /// `line` is the program and its arguments, or empty where there is nothing to run;
    /// `environment` is added to the guard's own.
    #[must_use]
    pub fn new(line: Vec<OsString>, environment: Vec<(&'static str, String)>) -> Self {
        Self { line, environment, running: None }
    }

    /// A group that is gone needs no signal.
    fn signal(&self, signal: Signal) {
        if let Some(running) = &self.running {
            let _ = kill_process_group(running.group, signal);
        }
    }
}

impl Work for Command {
    fn start(&mut self) -> io::Result<()> {
        let Some((program, arguments)) = self.line.split_first() else { return Ok(()) };
        let mut command = process::Command::new(program);
        command.args(arguments).process_group(0).kill_on_drop(true);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let child = command.spawn()?;
        let id = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let group = id.ok_or_else(|| io::Error::other("the command ended before it began"))?;
        self.running = Some(Running { child, group });
        Ok(())
    }

    fn freeze(&mut self) {
        self.signal(Signal::STOP);
    }

    fn thaw(&mut self) {
        self.signal(Signal::CONT);
    }

    fn terminate(&mut self, _why: Why) {
        self.signal(Signal::TERM);
        self.signal(Signal::CONT);
    }

    fn kill(&mut self) {
        self.signal(Signal::KILL);
    }

    /// Wait until nothing of the group runs; what the command leaves behind is killed.
    async fn ended(&mut self) -> Input {
        let Some(running) = &mut self.running else { return std::future::pending().await };
        let code = running.child.wait().await.map_or(u8::MAX, exit_code);
        let group = running.group;
        while test_kill_process_group(group) != Err(Errno::SRCH) {
            self.signal(Signal::KILL);
            tokio::time::sleep(DYING).await;
        }
        self.running = None;
        Input::Ended { code }
    }
}

fn exit_code(status: ExitStatus) -> u8 {
    let signalled = || status.signal().map(|signal| i32::from(SIGNALLED) + signal);
    let code = status.code().or_else(signalled);
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}
