//! Processes of this machine that carry a mark in their environment, and whatever they start. The
//! mark survives a daemon's double fork, a new session and the death of whoever started it; only a
//! program that clears its environment loses it, and one of another user hides it from who has no
//! CAP_SYS_PTRACE.

use std::collections::BTreeSet;
use std::fs;
use std::io;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// One round finds what the processes of the round before have started meanwhile.
const ROUNDS_MAX: usize = 64;

/// The processes that have `NAME=value` in their environment. Zombies have none any more.
///
/// # Errors
/// /proc cannot be read.
pub fn marked(mark: &str) -> io::Result<BTreeSet<i32>> {
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    let mut found = BTreeSet::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(id) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        if id != own && carries(id, mark) {
            found.insert(id);
        }
    }
    Ok(found)
}

pub(super) fn carries(id: i32, mark: &str) -> bool {
    let Ok(environment) = fs::read(format!("/proc/{id}/environ")) else { return false };
    environment.split(|byte| *byte == 0).any(|one| one == mark.as_bytes())
}

/// Send a signal to every process that carries the mark, also to those that start meanwhile.
/// How many there were.
///
/// # Errors
/// /proc cannot be read, or a process may not be signalled; all the others have been.
pub fn signal(mark: &str, signal: Signal) -> io::Result<usize> {
    signal_all(|| marked(mark), |id| carries(id, mark), signal)
}

/// The same of those that are found by `find`, where `is_one` tells of one whether it is.
pub(super) fn signal_all(
    find: impl Fn() -> io::Result<BTreeSet<i32>>,
    is_one: impl Fn(i32) -> bool,
    signal: Signal,
) -> io::Result<usize> {
    let mut told = BTreeSet::new();
    let mut refused = None;
    for _ in 0..ROUNDS_MAX {
        let fresh: Vec<i32> = find()?.difference(&told).copied().collect();
        if fresh.is_empty() {
            break;
        }
        for id in fresh {
            told.insert(id);
            refused = tell(id, &is_one, signal).err().or(refused);
        }
    }
    refused.map_or(Ok(told.len()), Err)
}

/// The descriptor holds on to the process while it is looked at once more, so that a number that
/// was given to another process meanwhile is not hit.
fn tell(id: i32, is_one: &impl Fn(i32) -> bool, signal: Signal) -> io::Result<()> {
    let Some(id_known) = Pid::from_raw(id) else { return Ok(()) };
    let gone = |error: Errno| error == Errno::SRCH;
    match pidfd_open(id_known, PidfdFlags::empty()) {
        Ok(process) if is_one(id) => match pidfd_send_signal(&process, signal) {
            Err(error) if !gone(error) => Err(error.into()),
            _ => Ok(()),
        },
        Ok(_) => Ok(()),
        Err(error) if gone(error) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn what_a_marked_process_starts_in_a_session_of_its_own_is_found_and_killed() {
        let mark = format!("COMMONHOLD_TEST_MARK=of-{}", std::process::id());
        let (name, value) = mark.split_once('=').unwrap();
        let mut parent = Command::new("sh")
            .args(["-c", "setsid sh -c 'sleep 60 & sleep 60' & exit 0"])
            .env(name, value)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        parent.wait().unwrap();
        let begun = Instant::now();
        while marked(&mark).unwrap().len() < 3 {
            assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", marked(&mark));
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(signal(&mark, Signal::KILL).unwrap() >= 3);
        while !marked(&mark).unwrap().is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(20));
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
