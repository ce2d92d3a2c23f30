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
/// How long after something new is wanted a host that comes first may take to hear of it and to
/// reach the volume: its agent asks the service every second.
const NEWS_MS: u64 = 3_000;

const OUTDATED: &str = "another host knows that this group is stopped or frozen by now; this one \
    takes it from no host that left it, until its agent (`commonhold host run`) reaches the service \
    again";

/// See the module's head.
pub(super) struct Neighbours {
    pub(super) beats: Beats,
    witness: Witness,
    beat_ms: u64,
    /// When the volume last answered.
    answered_ms: Option<u64>,
    /// The last holder that was not this run.
    holder: Option<Key>,
    /// The newest generation that is wanted, and since when this host knows it.
    news: Option<(u64, u64)>,
    /// Since when another host knows of something newer.
    outdated_ms: Option<u64>,
}

impl Neighbours {
    pub(super) fn open(home: &Home, order: &Order, life: u64) -> std::io::Result<Self> {
        Ok(Self {
            beats: Beats::open(home, order, life)?,
            witness: Witness::new(),
            beat_ms: 0,
            answered_ms: None,
            holder: None,
            news: None,
            outdated_ms: None,
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

    /// What the volume showed in a run that is over says nothing of who holds it later.
    pub(super) fn forget_holder(&mut self) {
        self.holder = None;
    }

    pub(super) fn tick(&mut self, now_ms: u64, order: &Order, course: Course) {
        let answered_age_ms = self.answered_ms.map(|at_ms| now_ms.saturating_sub(at_ms));
        let role = match course {
            Course::Owning { .. } | Course::Leaving => Role::Owner,
            Course::Contending if self.reaches(now_ms) => Role::Ready,
            Course::Contending => Role::Trying,
            Course::Idle(_) => Role::Out,
        };
        let generation = order.group.generation;
        if self.news.is_none_or(|(known, _)| known != generation) {
            self.news = Some((generation, now_ms));
            // The others are to know it before this host acts by it.
            self.beat_ms = 0;
        }
        let is_outdated = self.newer(now_ms, order).is_some();
        self.outdated_ms =
            self.outdated_ms.filter(|_| is_outdated).or(is_outdated.then_some(now_ms));
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
    pub(super) fn trouble(&self, now_ms: u64, order: &Order) -> Option<String> {
        if self.is_outdated_long(now_ms) && self.newer(now_ms, order) == Some(false) {
            return Some(OUTDATED.to_owned());
        }
        order.group.policy.witness.and_then(|_| self.witness.trouble())
    }

    /// Whether the group may be taken by the newer word that another host knows, if one does.
    fn newer(&self, now_ms: u64, order: &Order) -> Option<bool> {
        let heard = self.beats.heard();
        heard.news(now_ms, lives_ms(order), order.group.generation).map(|beat| beat.is_open)
    }

    fn is_outdated_long(&self, now_ms: u64) -> bool {
        self.outdated_ms.is_some_and(|since_ms| now_ms.saturating_sub(since_ms) >= NEWS_MS)
    }

    /// Whether this host is to hear first what is wanted now. Not for ever, if the group is to run
    /// by the newer word as well: the service may be away, and the host that knows the word may be
    /// one where the resources failed.
    fn is_outdated(&self, now_ms: u64, order: &Order) -> bool {
        self.newer(now_ms, order).is_some_and(|is_open| !is_open || !self.is_outdated_long(now_ms))
    }

    /// Whether a host that comes first has a little time yet to hear what is wanted and to reach
    /// the volume.
    fn is_awaited(&self, now_ms: u64, order: &Order, seniors: &[HostId]) -> bool {
        let news = self.news.filter(|(_, at_ms)| now_ms.saturating_sub(*at_ms) < NEWS_MS);
        news.is_some_and(|(generation, _)| {
            let (heard, fresh_ms) = (self.beats.heard(), lives_ms(order));
            let is_behind =
                |host: &HostId| heard.is_behind(now_ms, host.0.as_bytes(), fresh_ms, generation);
            seniors.iter().any(is_behind)
        })
    }

    /// A claim waits for hosts that come first, for all to know what is wanted, for an owner that
    /// says that it is well, and for a witness that this host has not reached.
    pub(super) fn advice(&self, now_ms: u64, order: &Order) -> Advice {
        let policy = &order.group.policy;
        let seniors = seniors(order);
        let numbers: Vec<u32> = seniors.iter().map(number).collect();
        let holder = self.holder_host(order);
        let owns_well = holder.is_some_and(|host| {
            let (fresh_ms, answered_ms) = (policy.takeover_ms, policy.freeze_ms);
            self.beats.heard().owns_well(now_ms, host.0.as_bytes(), fresh_ms, answered_ms)
        });
        let silent = self.holder.filter(|key| !key.is_vacant());
        let near = policy.witness.is_none() || self.witness.is_near(now_ms);
        Advice {
            delay_ms: delay_ms(&numbers, silent.map(Key::host)),
            strikes: near && !owns_well,
            // A silent owner is replaced by whoever can.
            waits: silent.is_none()
                && (self.is_outdated(now_ms, order) || self.is_awaited(now_ms, order, &seniors)),
        }
    }

    /// Whether a host that is preferred to this one says that it would take the group.
    pub(super) fn senior_is_ready(&self, now_ms: u64, order: &Order) -> bool {
        let fresh_ms = lives_ms(order);
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

/// A host that was heard within this lives.
fn lives_ms(order: &Order) -> u64 {
    order.group.policy.takeover_ms.max(3 * BEAT_MS)
}

/// The hosts that come before this one: the one that a move named, then in the order of the list.
fn seniors(order: &Order) -> Vec<HostId> {
    let wanted = order.group.owner_id;
    let listed = order.group.hosts.iter().map(|peer| peer.host_id);
    let ranked = wanted.into_iter().chain(listed.filter(|host| Some(*host) != wanted));
    ranked.take_while(|host| *host != order.host).collect()
}
