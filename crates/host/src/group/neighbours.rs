//! What a warden knows of the other hosts: by the volume, by their beats, by the witness.

use ::guard::group::{Course, Role, delay_ms};
use ::guard::{Advice, Key, Seen, host_number};
use model::group::BEAT_MS;
use model::id::HostId;

use super::beats::Beats;
use super::home::{Home, Order};
use super::witness::Witness;

/// A host that the volume has answered within this could take the group.
const REACHED_MS: u64 = 1_000;

/// See the module's head.
pub(super) struct Neighbours {
    pub(super) beats: Beats,
    witness: Witness,
    beat_ms: u64,
    /// When the volume last answered.
    answered_ms: Option<u64>,
    /// The last holder that was not this run.
    holder: Option<Key>,
}

impl Neighbours {
    pub(super) fn open(home: &Home, order: &Order, life: u64) -> std::io::Result<Self> {
        Ok(Self {
            beats: Beats::open(home, order, life)?,
            witness: Witness::new(),
            beat_ms: 0,
            answered_ms: None,
            holder: None,
        })
    }

    /// The volume was looked at.
    pub(super) fn seen(&mut self, now_ms: u64, seen: &Seen, own: Option<Key>) {
        self.answered_ms = Some(now_ms);
        let holder = seen.holder.and_then(Key::of);
        if let Some(holder) = holder.filter(|key| !own.is_some_and(|own| own.is_of(*key))) {
            self.holder = Some(holder);
        }
    }

    pub(super) fn tick(&mut self, now_ms: u64, order: &Order, course: Course) {
        let answered_age_ms = self.answered_ms.map(|at_ms| now_ms.saturating_sub(at_ms));
        let role = match course {
            Course::Owning { .. } | Course::Leaving => Role::Owner,
            Course::Contending if self.reaches(now_ms) => Role::Ready,
            Course::Contending | Course::Idle(_) => Role::Out,
        };
        if now_ms >= self.beat_ms {
            self.beat_ms = now_ms + BEAT_MS;
            self.beats.send(role, answered_age_ms);
        }
        if let Some(witness) = order.group.policy.witness.filter(|_| role == Role::Ready) {
            self.witness.ask(now_ms, witness);
        }
    }

    /// Whether the volume has answered a moment ago.
    pub(super) fn reaches(&self, now_ms: u64) -> bool {
        self.answered_ms.is_some_and(|at_ms| now_ms.saturating_sub(at_ms) < REACHED_MS)
    }

    /// Why this host could take nothing over, though it reaches the volume.
    pub(super) fn trouble(&self, order: &Order) -> Option<String> {
        order.group.policy.witness.and_then(|_| self.witness.trouble())
    }

    /// A claim waits for hosts that come first, for an owner that says that it is well, and for a
    /// witness that this host has not reached.
    pub(super) fn advice(&self, now_ms: u64, order: &Order) -> Advice {
        let policy = &order.group.policy;
        let seniors: Vec<u32> = seniors(order).iter().map(number).collect();
        let holder = self.holder_host(order);
        let owns_well = holder.is_some_and(|host| {
            let (fresh_ms, answered_ms) = (policy.takeover_ms, policy.freeze_ms);
            self.beats.heard().owns_well(now_ms, host.0.as_bytes(), fresh_ms, answered_ms)
        });
        let silent = self.holder.filter(|key| !key.is_vacant());
        let near = policy.witness.is_none() || self.witness.is_near(now_ms);
        Advice { delay_ms: delay_ms(&seniors, silent.map(Key::host)), strikes: near && !owns_well }
    }

    /// Whether a host that is preferred to this one says that it would take the group.
    pub(super) fn senior_is_ready(&self, now_ms: u64, order: &Order) -> bool {
        let fresh_ms = order.group.policy.takeover_ms.max(3 * BEAT_MS);
        let ready =
            |host: &HostId| self.beats.heard().is_ready(now_ms, host.0.as_bytes(), fresh_ms);
        seniors(order).iter().any(ready)
    }

    fn holder_host(&self, order: &Order) -> Option<HostId> {
        let holder = self.holder?.host();
        order.group.hosts.iter().map(|peer| peer.host_id).find(|host| number(host) == holder)
    }

    /// The name of the host that the volume last showed as the owner.
    pub(super) fn holder_name(&self, order: &Order) -> Option<String> {
        let host = self.holder_host(order)?;
        let mut peers = order.group.hosts.iter();
        peers.find(|peer| peer.host_id == host).map(|peer| peer.host_name.clone())
    }

    /// The host that has not left, as far as this one has seen.
    pub(super) fn owner(&self, order: &Order) -> Option<HostId> {
        self.holder.filter(|key| !key.is_vacant()).and_then(|_| self.holder_host(order))
    }

    /// The host that had not left when this one took the volume.
    pub(super) fn previous(&self, order: &Order) -> Option<String> {
        self.owner(order).and_then(|_| self.holder_name(order))
    }
}

fn number(host: &HostId) -> u32 {
    host_number(&host.to_string())
}

/// The hosts that come before this one: the one that a move named, then in the order of the list.
fn seniors(order: &Order) -> Vec<HostId> {
    let wanted = order.group.owner_id;
    let listed = order.group.hosts.iter().map(|peer| peer.host_id);
    let ranked = wanted.into_iter().chain(listed.filter(|host| Some(*host) != wanted));
    ranked.take_while(|host| *host != order.host).collect()
}
