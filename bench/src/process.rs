//! Processes of others: how much CPU time they took, and how those that we start end.

use std::path::Path;
use std::process::{Child, ChildStdin};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// Clock ticks of `/proc` in a second: the same on every Linux that Rust runs on.
const TICKS_PER_S: f64 = 100.0;

/// CPU time of a process with all its threads, also of those that ended, in microseconds. It
/// moves in steps of 10 ms: for runs of seconds.
pub(crate) fn cpu_us(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let text =
        std::fs::read_to_string(&path).with_context(|| format!("the server ended: {path}"))?;
    ticks(&text).map(|ticks| ticks * 1e6 / TICKS_PER_S).context("no CPU time in /proc")
}

/// utime and stime of proc(5): the 12th and 13th field after the name, which may hold anything.
fn ticks(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<f64>().ok();
    Some(next()? + next()?)
}

/// CPU time of the threads that a process has now, in microseconds, to the nanosecond: for short
/// slices and for idle servers, whose threads stay.
pub(crate) fn threads_cpu_us(pid: u32) -> Result<f64> {
    let tasks = format!("/proc/{pid}/task");
    let mut sum_ns = 0.0;
    for task in std::fs::read_dir(&tasks).with_context(|| format!("the server ended: {tasks}"))? {
        // A thread may end between the list and the look.
        if let Ok(text) = std::fs::read_to_string(task?.path().join("schedstat")) {
            let first = text.split_whitespace().next().and_then(|field| field.parse::<f64>().ok());
            sum_ns += first.context("no CPU time in schedstat")?;
        }
    }
    Ok(sum_ns / 1e3)
}

/// Binds all threads of a process, and those that they start, to some cores: a list as taskset
/// takes it.
pub(crate) fn bind(pid: u32, cores: &str) -> Result<()> {
    let output = std::process::Command::new("taskset")
        .args(["-a", "-c", "-p", cores, &pid.to_string()])
        .output()
        .context("cannot run taskset (Debian: util-linux)")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "cannot bind the server to core {cores}: {said}");
    Ok(())
}

/// A server that ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Guard {
    child: Child,
    /// The scripts around peers end, with their server, when this closes.
    leash: Option<ChildStdin>,
}

impl Guard {
    pub(crate) fn new(mut child: Child) -> Self {
        let leash = child.stdin.take();
        Self { child, leash }
    }

    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.leash.take().is_some() {
            let limit = Instant::now() + Duration::from_secs(5);
            while Instant::now() < limit {
                if matches!(self.child.try_wait(), Ok(Some(_))) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        // Errors mean that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port of loopback that is free now. Whoever takes it before our server does makes that fail
/// with a sentence of its own, which ends the run.
pub(crate) fn free_port() -> Result<u16> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").context("no free port")?;
    Ok(listener.local_addr()?.port())
}

/// Is there such a program in the search path, or where a system keeps its daemons?
pub(crate) fn has_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let daemons = ["/usr/sbin", "/sbin"].map(Into::into);
    std::env::split_paths(&path).chain(daemons).any(|place| Path::new(&place).join(name).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_behind_any_name() {
        let stat = "7 (a ) b (c) S 1 7 7 0 -1 4194304 90 0 0 0 250 50 0 0 20 0 1 0 100 0 0";
        assert_eq!(ticks(stat), Some(300.0));
        assert_eq!(ticks("7 (cut) S 1"), None);
        assert_eq!(ticks(""), None);
    }

    #[test]
    fn our_own_threads_take_time() {
        let own = std::process::id();
        let before = threads_cpu_us(own).unwrap();
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_millis(30) {
            std::hint::spin_loop();
        }
        assert!(threads_cpu_us(own).unwrap() > before);
        assert!(cpu_us(own).unwrap() >= 0.0);
    }

    #[test]
    fn a_bound_process_may_use_no_other_core() {
        let child = std::process::Command::new("sleep").arg("9").spawn().unwrap();
        let guard = Guard::new(child);
        bind(guard.child.id(), "0").unwrap();
        let status = format!("/proc/{}/status", guard.child.id());
        let status = std::fs::read_to_string(status).unwrap();
        assert!(status.contains("Cpus_allowed_list:\t0\n"), "{status}");
        assert!(bind(guard.child.id(), "no-core").is_err());
    }

    #[test]
    fn a_dropped_guard_leaves_no_process_behind() {
        let child = std::process::Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let pid = child.id();
        drop(Guard::new(child));
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
        assert!(has_program("cat") && !has_program("no-such-program-here"));
        assert!(free_port().unwrap() > 0);
    }
}
