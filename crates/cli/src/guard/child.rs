//! The command's first moment: tied to the life of its guard, then replaced by the command.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use rustix::process::{Signal, getppid, set_parent_process_death_signal};

use crate::failure::Failure;

/// The line that starts a command which dies with this process, `kill -9` included.
pub(super) fn line(command: &[OsString]) -> Result<Vec<OsString>, Failure> {
    let failed = |why| Failure::Io { what: "this program's own path".to_owned(), why };
    let own = std::env::current_exe().map_err(failed)?;
    let id = std::process::id().to_string();
    let mut line: Vec<OsString> = vec![own.into(), "guard".into(), "child".into(), id.into()];
    line.push("--".into());
    line.extend(command.iter().cloned());
    Ok(line)
}

/// Never returns when all is well.
pub(super) fn become_command(guard: u32, command: &[OsString]) -> Result<ExitCode, Failure> {
    let failed = |what: &str, why| Failure::Io { what: what.to_owned(), why };
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|why| failed("the command cannot be tied to its guard", why.into()))?;
    // The guard may have died before the tie was made.
    let parent = getppid().and_then(|pid| u32::try_from(pid.as_raw_nonzero().get()).ok());
    if parent != Some(guard) {
        return Err(failed("the guard", std::io::Error::other("it is gone already")));
    }
    let Some((program, arguments)) = command.split_first() else { return Ok(ExitCode::FAILURE) };
    let why = Command::new(program).args(arguments).exec();
    Err(failed(&program.to_string_lossy(), why))
}
