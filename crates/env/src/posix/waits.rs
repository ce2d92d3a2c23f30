//! Whether and how often a thread waits: for a disk, a lock, a peer; not for a processor.

/// Times that the calling thread has given the processor away because it had to wait
/// (getrusage(2), `ru_nvcsw`). Who only was not given the processor shows no more than before:
/// that tells a call that was slow from one that others held up.
#[must_use]
pub fn of_this_thread() -> u64 {
    // SAFETY: plain numbers, for which zeros are a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one such structure to memory that outlives the call.
    let answer = unsafe { libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage) };
    // It fails only for other constants; then nothing has waited.
    if answer == 0 { u64::try_from(usage.ru_nvcsw).unwrap_or(0) } else { 0 }
}

/// The calling thread, for [`is_waiting`].
#[must_use]
pub fn this_thread() -> i32 {
    rustix::thread::gettid().as_raw_nonzero().get()
}

/// Whether a thread of this process waits for something else than a processor (proc(5), the state
/// in `/proc/self/task/TID/stat`). One that is not there any more does.
#[must_use]
pub fn is_waiting(thread: i32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/self/task/{thread}/stat")) else {
        return true;
    };
    // The name in parentheses may hold anything.
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    state != Some('R')
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn sleep_is_a_wait_and_work_is_none() {
        let before = of_this_thread();
        std::thread::sleep(Duration::from_millis(1));
        assert!(of_this_thread() > before);
        let (before, begin) = (of_this_thread(), Instant::now());
        while begin.elapsed() < Duration::from_millis(20) {
            std::hint::spin_loop();
        }
        assert_eq!(of_this_thread(), before);
    }

    #[test]
    fn who_sleeps_waits_and_who_works_does_not() {
        assert!(!is_waiting(this_thread()));
        let (tell, told) = std::sync::mpsc::channel();
        let (end, ends) = std::sync::mpsc::channel::<()>();
        let sleeper = std::thread::spawn(move || {
            tell.send(this_thread()).unwrap();
            ends.recv().unwrap_err();
        });
        let thread = told.recv().unwrap();
        while !is_waiting(thread) {
            std::thread::yield_now();
        }
        drop(end);
        sleeper.join().unwrap();
        assert!(is_waiting(thread));
    }
}
