//! Agent: the daemon that speaks for a host, attaches its volumes and runs its groups.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::id::HostId;

/// An agent that has not been heard for so long counts as down.
pub const DOWN_MS: u64 = 5_000;

/// What is known of a host's agent. A host has at most one.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Agent {
    pub host: HostId,
    /// Of the program.
    pub version: String,
    /// Where the agents of other hosts send their heartbeats.
    pub addresses: Vec<IpAddr>,
    /// Its UDP port; 0 before it has said so.
    pub port: u16,
    /// Milliseconds since the Unix epoch.
    pub enrolled_ms: u64,
    /// When it was last heard; milliseconds since the Unix epoch.
    pub seen_ms: u64,
}

impl Agent {
    /// How long ago it was heard.
    #[must_use]
    pub const fn age_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.seen_ms)
    }
    /// Was it heard lately?
    #[must_use]
    pub const fn is_up(&self, now_ms: u64) -> bool {
        self.age_ms(now_ms) < DOWN_MS
    }
}
