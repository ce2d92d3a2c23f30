//! How often a thread has waited: for a disk, a lock, a peer; not for a processor.

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
}
