//! Time.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What time it is. The simulator has its own.
pub trait Clock: Send + Sync {
    /// Time since some fixed point; never goes back.
    fn now(&self) -> Duration;
    /// Milliseconds since the Unix epoch; for people and records, never for ordering.
    fn wall_ms(&self) -> u64;
}

/// The machine's clocks.
#[derive(Debug)]
pub struct RealClock {
    start: Instant,
}

impl Default for RealClock {
    fn default() -> Self {
        Self { start: Instant::now() }
    }
}

impl Clock for RealClock {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }
    fn wall_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}
