//! Programs that a step runs: in a process group of their own, with an end.

use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use env::processes::{Family, cgroup};
use env::whole;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};
use tokio::sync::Notify;

use super::aside::aside;

/// How long a killed program may take to be gone. One that hangs in the kernel is left behind.
const DYING: Duration = Duration::from_secs(1);
/// The usual end of the output is sentence enough.
const SAID_CHARS: usize = 300;

/// How many programs of a resource are being started. Until exec such a one carries no mark, and a
/// program that lies on a volume which does not answer stays so for as long.
#[derive(Clone, Default, Debug)]
pub(super) struct Unborn(Arc<AtomicUsize>);

impl Unborn {
    pub(super) fn is_none(&self) -> bool {
        self.0.load(Ordering::SeqCst) == 0
    }

    fn one(&self) -> Unfinished {
        self.0.fetch_add(1, Ordering::SeqCst);
        Unfinished(self.clone())
    }
}

/// Counted as long as it lives, whoever waits for it.
struct Unfinished(Unborn);

impl Drop for Unfinished {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// One run of a program.
pub(super) struct Program<'a> {
    pub(super) line: &'a [String],
    pub(super) environment: &'a [(String, String)],
    /// Where it belongs, if it is one of the group's own.
    pub(super) family: Option<&'a Family>,
    /// Counts it until it is found there.
    pub(super) unborn: Option<&'a Unborn>,
    /// Takes what it says. A file, because what it leaves running keeps it open.
    pub(super) log: PathBuf,
}

impl Program<'_> {
    /// Run it to its end; its exit code.
    ///
    /// # Errors
    /// It cannot be started, was ended by a signal, or was aborted.
    pub(super) async fn run(&self, abort: &Notify) -> Result<i32, String> {
        let name = self.name();
        let mut child = self.begin(abort).await?;
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

    fn name(&self) -> &str {
        self.line.first().map_or("", String::as_str)
    }

    /// Start it where it belongs. Its mark finds it, too: a cgroup that has become unusable keeps
    /// no group from running.
    async fn begin(&self, abort: &Notify) -> Result<Child, String> {
        let failed = |why: io::Error| format!("{} cannot be started: {why}", self.name());
        whole::show(&self.log, "").map_err(failed)?;
        let mut begun = self.spawn(self.family.cloned(), abort).await?;
        if let Some(why) = begun.as_ref().err().and_then(cgroup::refusal) {
            tracing::warn!(why, program = self.name(), "it is found by its mark alone");
            begun = self.spawn(None, abort).await?;
        }
        begun.map_err(failed)
    }

    /// Where it belongs may stand still just now, and its start with it. One that is aborted
    /// meanwhile is killed when it is there.
    async fn spawn(
        &self,
        family: Option<Family>,
        abort: &Notify,
    ) -> Result<io::Result<Child>, String> {
        let mut command = match self.command() {
            Ok(command) => command,
            Err(error) => return Ok(Err(error)),
        };
        let unborn = self.unborn.map(Unborn::one);
        let mut begins = std::pin::pin!(aside(move || {
            if let Some(family) = family {
                family.admit(command.as_std_mut())?;
            }
            let child = command.kill_on_drop(true).spawn();
            drop(unborn);
            child
        }));
        tokio::select! {
            begun = &mut begins => begun,
            () = abort.notified() => {
                // One that comes later is dropped, and killed so.
                let _ = tokio::time::timeout(DYING, begins).await;
                Err(format!("{} took too long to start and was ended", self.name()))
            }
        }
    }

    fn command(&self) -> io::Result<Command> {
        let missing = || io::Error::other("there is no program");
        let (name, arguments) = self.line.split_first().ok_or_else(missing)?;
        let (out, err) = whole::append_twice(&self.log)?;
        let mut command = Command::new(name);
        command.args(arguments).process_group(0).stdin(Stdio::null()).stdout(out).stderr(err);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        Ok(command)
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
        let name = self.name();
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

#[cfg(test)]
mod tests {
    use env::processes::cgroup::Cgroup;

    use super::*;

    #[tokio::test]
    async fn a_cgroup_that_has_become_unusable_keeps_no_program_from_running() {
        let home = tempfile::tempdir().unwrap();
        let line = ["sh", "-c", "echo it runs"].map(str::to_owned);
        for (place, code) in [("cannot-be-made", "file"), ("cannot-be-entered", "full")] {
            let at = home.path().join(code);
            if code == "full" {
                std::fs::create_dir(&at).unwrap();
                std::os::unix::fs::symlink("/dev/full", at.join("cgroup.procs")).unwrap();
            } else {
                std::fs::write(&at, "").unwrap();
            }
            let family = Family::new("A=b".to_owned(), Some(Cgroup::new(at)));
            let program = Program {
                line: &line,
                environment: &[],
                family: Some(&family),
                unborn: None,
                log: home.path().join(place),
            };
            assert_eq!(program.run(&Notify::new()).await, Ok(0), "{place}");
            assert_eq!(program.said(), "it runs\n");
        }
    }
}
