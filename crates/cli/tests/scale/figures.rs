//! What is measured of a running process and of times, and the table that shows it.

use std::time::Duration;

/// Clock ticks a second of `/proc/PID/stat`; Linux has no other on the machines we run on.
const TICKS: u64 = 100;

/// Resident memory of a process in bytes.
pub(crate) fn resident_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// Processor time of a process since its start, all threads together.
pub(crate) fn processor_time(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The name in parentheses may hold spaces; user and system time are fields 14 and 15.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 1000 / TICKS)
}

/// Times of the same thing done again and again.
pub(crate) struct Times(Vec<Duration>);

impl Times {
    pub(crate) fn of(mut times: Vec<Duration>) -> Self {
        assert!(!times.is_empty());
        times.sort();
        Self(times)
    }
    /// The value that so many of a hundred do not exceed.
    pub(crate) fn percentile(&self, percent: usize) -> Duration {
        self.0[(self.0.len() * percent).div_ceil(100).max(1) - 1]
    }
    pub(crate) fn median(&self) -> Duration {
        self.percentile(50)
    }
    pub(crate) fn longest(&self) -> Duration {
        self.percentile(100)
    }
}

/// Milliseconds with two digits.
pub(crate) fn ms(time: Duration) -> String {
    format!("{:.2}", time.as_secs_f64() * 1e3)
}

/// Rows of a Markdown table, printed as they come.
pub(crate) struct Table;

impl Table {
    pub(crate) fn new(title: &str) -> Self {
        println!(
            "\n{title}\n\n| what | median ms | p99 ms | longest ms |\n| --- | --: | --: | --: |"
        );
        Self
    }
    pub(crate) fn row(&self, what: &str, times: &Times) {
        let (median, p99, longest) = (times.median(), times.percentile(99), times.longest());
        println!("| {what} | {} | {} | {} |", ms(median), ms(p99), ms(longest));
    }
}
