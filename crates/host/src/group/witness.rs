//! The tie-breaker: an address that a host must reach to replace a silent owner.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use env::{OsRandom, Random, echo};

/// From the end of one question to the next.
const PAUSE_MS: u64 = 150;
const LIMIT: Duration = Duration::from_millis(500);
/// An answer that is older says nothing about now.
const FRESH_MS: u64 = 1_000;
const NEVER: u64 = u64::MAX;

/// Whether the witness has answered lately.
pub(super) struct Witness {
    asked_ms: u64,
    busy: Arc<AtomicBool>,
    /// When the last question was asked that was answered.
    answered_ms: Arc<AtomicU64>,
    /// Why it cannot be asked at all: without CAP_NET_RAW, for one.
    trouble: Arc<Mutex<Option<String>>>,
}

impl Witness {
    pub(super) fn new() -> Self {
        let answered_ms = Arc::new(AtomicU64::new(NEVER));
        Self { asked_ms: 0, busy: Arc::default(), answered_ms, trouble: Arc::default() }
    }

    /// A sentence for whoever wonders why this host takes nothing over.
    pub(super) fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn is_near(&self, now_ms: u64) -> bool {
        let answered_ms = self.answered_ms.load(Ordering::Relaxed);
        answered_ms != NEVER && now_ms.saturating_sub(answered_ms) < FRESH_MS
    }

    /// Ask again when it is time, beside everything else.
    pub(super) fn ask(&mut self, now_ms: u64, address: IpAddr) {
        let soon = now_ms.saturating_sub(self.asked_ms) < PAUSE_MS;
        if soon || self.busy.swap(true, Ordering::SeqCst) {
            return;
        }
        self.asked_ms = now_ms;
        let (busy, answered_ms) = (Arc::clone(&self.busy), Arc::clone(&self.answered_ms));
        let trouble = Arc::clone(&self.trouble);
        tokio::task::spawn_blocking(move || {
            let mut token = [0; 6];
            OsRandom.fill(&mut token);
            let asked = echo::answers(address, token, LIMIT);
            if let Ok(true) = asked {
                answered_ms.store(now_ms, Ordering::Relaxed);
            }
            let why = asked.err().map(|why| {
                format!("the witness {address} cannot be asked (it takes CAP_NET_RAW): {why}")
            });
            let mut trouble = trouble.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(why) = why.as_ref().filter(|_| *trouble != why) {
                tracing::warn!("{why}");
            }
            *trouble = why;
            busy.store(false, Ordering::SeqCst);
        });
    }
}
