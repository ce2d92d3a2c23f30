//! Programs that a step runs: in a process group of their own, with an end.

use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use env::processes::Family;
use env::whole;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};
use tokio::sync::Notify;

use super::aside::aside;

/// How long a killed program may take to be gone. One that hangs in the kernel is left behind.
const DYING: Duration = Duration::from_secs(1);
/// The usual end of the output is sentence enough.
const SAID_CHARS: usize = 300;

/// One run of a program.
pub(super) struct Program<'a> {
    pub(super) line: &'a [String],
    pub(super) environment: &'a [(String, String)],
    /// Where it belongs, if it is one of the group's own.
    pub(super) family: Option<&'a Family>,
    /// Takes what it says. A file, because what it leaves running keeps it open.
    pub(super) log: PathBuf,
}

impl Program<'_> {
    /// Run it to its end; its exit code.
    ///
    /// # Errors
    /// It cannot be started, was ended by a signal, or was aborted.
    pub(super) async fn run(&self, abort: &Notify) -> Result<i32, String> {
        let (name, arguments) = self.line.split_first().ok_or("there is no program")?;
        let failed = |why: std::io::Error| format!("{name} cannot be started: {why}");
        whole::show(&self.log, "").map_err(failed)?;
        let (out, err) = whole::append_twice(&self.log).map_err(failed)?;
        let mut command = Command::new(name);
        command.args(arguments).process_group(0).stdin(Stdio::null()).stdout(out).stderr(err);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let mut child = self.begin(command, abort).await?.map_err(failed)?;
        let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let status = tokio::select! {
            status = child.wait() => status,
            () = abort.notified() => {
                if let Some(group) = group {
                    // A group that is gone needs no signal.
                    let _ = kill_process_group(group, Signal::KILL);
                }
                let _ = tokio::time::timeout(DYING, child.wait()).await;
                return Err(format!("{name} took too long and was ended"));
            }
        };
        let status = status.map_err(|why| format!("{name} cannot be waited for: {why}"))?;
        status.code().ok_or_else(|| format!("{name} was ended by {status}"))
    }

    /// Start it; where it belongs may stand still just now, and its start with it. One that is
    /// aborted meanwhile is killed when it is there.
    async fn begin(
        &self,
        mut command: Command,
        abort: &Notify,
    ) -> Result<io::Result<Child>, String> {
        let family = self.family.cloned();
        let mut begins = std::pin::pin!(aside(move || {
            if let Some(family) = family {
                family.admit(command.as_std_mut())?;
            }
            command.kill_on_drop(true).spawn()
        }));
        tokio::select! {
            begun = &mut begins => begun,
            () = abort.notified() => {
                let name = self.line.first().map_or("", String::as_str);
                // One that comes later is dropped, and killed so.
                let _ = tokio::time::timeout(DYING, begins).await;
                Err(format!("{name} took too long to start and was ended"))
            }
        }
    }

    /// Run it; only exit code 0 is good.
    ///
    /// # Errors
    /// A sentence with the last words that the program said.
    pub(super) async fn succeed(&self, abort: &Notify) -> Result<(), String> {
        match self.run(abort).await? {
            0 => Ok(()),
            code => Err(self.failed_with(code)),
        }
    }

    pub(super) fn failed_with(&self, code: i32) -> String {
        let name = self.line.first().map_or("", String::as_str);
        let said = self.said();
        let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
        let last: String = last.chars().take(SAID_CHARS).collect();
        if last.is_empty() {
            format!("{name} ended with exit code {code}")
        } else {
            format!("{name} ended with exit code {code}: {}", last.trim())
        }
    }

    /// What it has said.
    pub(super) fn said(&self) -> String {
        whole::read(&self.log).ok().flatten().unwrap_or_default()
    }
}
