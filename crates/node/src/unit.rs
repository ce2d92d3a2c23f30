//! A logical unit: the volume, what SCSI says of it, and who speaks to it.
//!
//! This is the one authority that orders check and write (design, invariant 2). The road of a
//! command through it:
//!
//! ```text
//!   arrival:     admit   unit attention, reservation, protection, range     (scsi::logical_unit)
//!   data is in:  submit  enter the gate -> check the reservation again -> run
//! ```
//!
//! Reservation state and facts are immutable values, swapped whole; the hot path loads a pointer.
//! Changes are serialised by `changing` and made durable before they are swapped in.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use arc_swap::ArcSwap;
use env::{BlockIo, Clock};
use model::id::{AttachmentId, PoolId, VolumeId};
use model::order::{Access, Notice, ReservationChange};
use scsi::command::Step;
use scsi::logical_unit::View;
use scsi::nexus::ItNexus;
use scsi::reservations::Reservations;
use scsi::sanitize::State;
use scsi::unit::Unit;
use scsi::unit_attention::UnitAttention;
use store::{StoreError, Volume};

use crate::book::Book;
use crate::gate::Draining;
use crate::metrics::AttachmentFigures;
use crate::nexus::{NexusState, SessionLink};
use crate::notice::Notices;

/// How many changes of reservation state are remembered for `volume reservations`.
const HISTORY_MAX: usize = 100;

/// Initiator ports of one attachment: far more than paths that a host can have.
const PORTS_MAX: usize = 64;

/// How long a failure of the same kind is no news. Hosts try again without end, and a notice is a
/// row of the audit trail for good.
const AGAIN_MS: u64 = 60_000;

/// When something was said last, on the node's clock; zero: never.
#[derive(Debug, Default)]
pub(crate) struct Said {
    at_ms: AtomicU64,
}

impl Said {
    /// Is it news at `now_ms`? If so, it is said by whoever asked, and by nobody else.
    pub(crate) fn is_news(&self, now_ms: u64) -> bool {
        let (now, said) = (now_ms.max(1), self.at_ms.load(Relaxed));
        let news = said == 0 || now.saturating_sub(said) >= AGAIN_MS;
        news && self.at_ms.compare_exchange(said, now, Relaxed, Relaxed).is_ok()
    }
}

/// One volume, reachable as LUN 0 of its target.
pub struct LogicalUnit {
    pub id: VolumeId,
    pub pool: PoolId,
    pub volume: Arc<Volume>,
    /// Where a copy finds the other units.
    pub(crate) book: Weak<Book>,
    facts: ArcSwap<Unit>,
    reservations: ArcSwap<Reservations>,
    /// Held from reading the reservation state to swapping in its successor.
    pub(crate) changing: tokio::sync::Mutex<()>,
    /// A sanitize that waits for its worker, and the commands that it waits for.
    pub(crate) sanitize_to_do: Mutex<Option<Vec<Draining>>>,
    /// In an order of its own, so that whoever walks over all of them can be repeated.
    nexuses: Mutex<BTreeMap<ItNexus, Arc<NexusState>>>,
    figures: Mutex<HashMap<AttachmentId, Arc<AttachmentFigures>>>,
    history: Mutex<VecDeque<ReservationChange>>,
    pub(crate) said_full: Said,
    pub(crate) said_broken: Said,
    pub(crate) notices: Notices,
    pub(crate) clock: Arc<dyn Clock>,
}

impl LogicalUnit {
    /// Open the unit of a volume: load what it promised about reservations. Opening is power on:
    /// APTPL decides what is honoured, and an unreadable record is reported as lost, never taken
    /// for "no reservation" (design, invariant 3).
    ///
    /// # Errors
    /// The store's, when the record cannot be read or written for another reason than damage.
    pub async fn open(
        volume: Arc<Volume>,
        (pool, book): (PoolId, &Arc<Book>),
        facts: Unit,
        io: &dyn BlockIo,
        notices: Notices,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StoreError> {
        let reservations = match volume.load_reservations(io).await {
            Ok(None) => Reservations::default(),
            Ok(Some(record)) => match Reservations::from_record(&record) {
                Ok(known) => known.after_power_loss(),
                Err(error) => {
                    tracing::error!(volume = %volume.id(), %error, "reservations are lost");
                    Reservations::lost()
                }
            },
            Err(StoreError::Corrupt { .. }) => {
                tracing::error!(volume = %volume.id(), "the reservation record is damaged");
                Reservations::lost()
            }
            Err(error) => return Err(error),
        };
        let sanitize = crate::sanitize::found(&volume, io).await?;
        let to_do = matches!(sanitize, State::Running { .. }).then(Vec::new);
        let facts = Unit { sanitize, ..facts };
        Ok(Self {
            id: volume.id(),
            pool,
            volume,
            book: Arc::downgrade(book),
            facts: ArcSwap::from_pointee(facts),
            reservations: ArcSwap::from_pointee(reservations),
            changing: tokio::sync::Mutex::new(()),
            sanitize_to_do: Mutex::new(to_do),
            nexuses: Mutex::default(),
            figures: Mutex::default(),
            history: Mutex::default(),
            said_full: Said::default(),
            said_broken: Said::default(),
            notices,
            clock,
        })
    }

    /// The facts as they are now.
    #[must_use]
    pub fn facts(&self) -> Arc<Unit> {
        self.facts.load_full()
    }

    /// Logical block length in bytes.
    #[must_use]
    pub fn block_bytes(&self) -> u64 {
        u64::from(self.facts.load().block_bytes)
    }

    /// The reservation state as it is now.
    #[must_use]
    pub fn reservations(&self) -> Arc<Reservations> {
        self.reservations.load_full()
    }

    /// Judge a command that arrives. No I/O, no waiting.
    pub fn admit(&self, nexus: &NexusState, cdb: &[u8]) -> Step {
        nexus.touch(self.now_ms());
        let facts = self.facts.load();
        let reservations = self.reservations.load();
        let view = View {
            unit: &facts,
            access: nexus.scsi_access(),
            nexus: &nexus.nexus,
            reservations: &reservations,
        };
        nexus.with_attentions(|queue| scsi::logical_unit::judge(&view, queue, cdb))
    }

    /// May this nexus' command of this class go to the medium now? Asked under its in-flight count.
    #[must_use]
    pub fn allows(&self, nexus: &NexusState, conflict: scsi::conflict::Conflict) -> bool {
        self.reservations.load().check(&nexus.nexus, conflict)
    }

    /// A session begins: gives the nexus' state here, made on its first login or under new terms,
    /// and the session that carried the nexus until now. The caller ends that one before it serves.
    ///
    /// None: the attachment has [`PORTS_MAX`] initiator ports with sessions or registrations.
    ///
    /// Looking up and linking are one step, so that of two logins at once the later one finds the
    /// earlier, and a fence finds the last; each waits for the one before it.
    #[must_use]
    pub(crate) fn enter(
        &self,
        nexus: &ItNexus,
        access: &Arc<Access>,
        link: SessionLink,
    ) -> Option<(Arc<NexusState>, Option<SessionLink>)> {
        let mut figures = lock(&self.figures);
        let mut nexuses = lock(&self.nexuses);
        if !nexuses.contains_key(nexus) && !self.has_room(&mut nexuses, access.attachment) {
            return None;
        }
        let former = nexuses.get(nexus).and_then(|known| known.session());
        let state = state_under(&mut figures, &mut nexuses, nexus, access);
        let linked_before = state.begin_session(link);
        Some((state, linked_before.or(former)))
    }

    /// A host may log in from ever new ports, and each is remembered: beyond [`PORTS_MAX`] those
    /// are forgotten that have no session, no registration and nothing in flight, which somebody
    /// would hold them for. Coming back, such a port is told of a power on, which stands for
    /// whatever else it missed.
    fn has_room(
        &self,
        nexuses: &mut BTreeMap<ItNexus, Arc<NexusState>>,
        attachment: AttachmentId,
    ) -> bool {
        let of_it = |state: &NexusState| state.access.attachment == attachment;
        if nexuses.values().filter(|state| of_it(state)).count() < PORTS_MAX {
            return true;
        }
        let reservations = self.reservations.load();
        let registered = |nexus: &ItNexus| {
            reservations.registrations().iter().any(|registration| registration.nexus == *nexus)
        };
        nexuses.retain(|nexus, state| {
            let held = Arc::strong_count(state) > 1 || Arc::strong_count(&state.gate) > 1;
            !of_it(state) || held || state.session().is_some() || registered(nexus)
        });
        nexuses.values().filter(|state| of_it(state)).count() < PORTS_MAX
    }

    /// The state of a nexus that has a command in flight here without a session here: a copy that
    /// was sent to another unit.
    #[must_use]
    pub(crate) fn visit(&self, nexus: &ItNexus, access: &Arc<Access>) -> Arc<NexusState> {
        state_under(&mut lock(&self.figures), &mut lock(&self.nexuses), nexus, access)
    }

    /// All nexuses that this unit knows.
    #[must_use]
    pub fn nexuses(&self) -> Vec<Arc<NexusState>> {
        lock(&self.nexuses).values().cloned().collect()
    }

    /// The nexuses of one attachment.
    #[must_use]
    pub fn nexuses_of(&self, attachment: AttachmentId) -> Vec<Arc<NexusState>> {
        lock(&self.nexuses)
            .values()
            .filter(|state| state.access.attachment == attachment)
            .cloned()
            .collect()
    }

    /// The nexuses of one attachment at the moment of `change`, which strikes their terms from the
    /// book. No login falls between: whoever entered before is among them, and whoever enters
    /// later finds the terms changed.
    pub(crate) fn nexuses_at(
        &self,
        attachment: AttachmentId,
        change: impl FnOnce(),
    ) -> Vec<Arc<NexusState>> {
        let nexuses = lock(&self.nexuses);
        change();
        let mine = nexuses.values().filter(|state| state.access.attachment == attachment);
        mine.cloned().collect()
    }

    /// Forget what is kept of an attachment that is gone. A nexus with a session stays: its host
    /// was let in again meanwhile, or its connection calls this once more at its own end.
    pub(crate) fn forget(&self, attachment: AttachmentId) {
        let mut figures = lock(&self.figures);
        let mut nexuses = lock(&self.nexuses);
        let is_mine = |state: &NexusState| state.access.attachment == attachment;
        nexuses.retain(|_, state| !is_mine(state) || state.session().is_some());
        if !nexuses.values().any(|state| is_mine(state)) {
            figures.remove(&attachment);
        }
    }

    /// The counters of every attachment: `(host name, figures)`.
    #[must_use]
    pub fn figures(&self) -> Vec<(AttachmentId, Arc<AttachmentFigures>)> {
        lock(&self.figures).iter().map(|(id, figures)| (*id, Arc::clone(figures))).collect()
    }

    /// Establish a unit attention for everyone, or for everyone but one.
    pub fn attend_all(&self, attention: UnitAttention, but: Option<&ItNexus>) {
        for state in self.nexuses() {
            if Some(&state.nexus) != but {
                state.attend(attention);
            }
        }
    }

    /// Other facts from now on; everyone but `by` is told with `attention`.
    pub fn change_facts(
        &self,
        change: impl Fn(&Unit) -> Unit,
        attention: UnitAttention,
        by: Option<&ItNexus>,
    ) {
        self.facts.rcu(|facts| change(facts));
        self.attend_all(attention, by);
    }

    /// What SANITIZE has made of the unit, from now on.
    pub(crate) fn set_sanitize(&self, sanitize: State) {
        self.facts.rcu(|facts| Unit { sanitize, ..Unit::clone(facts) });
    }

    pub(crate) fn swap_reservations(&self, next: Reservations) {
        self.reservations.store(Arc::new(next));
    }

    pub(crate) fn attend_one(&self, nexus: &ItNexus, attention: UnitAttention) {
        if let Some(state) = lock(&self.nexuses).get(nexus) {
            state.attend(attention);
        }
    }

    pub(crate) fn state_of(&self, nexus: &ItNexus) -> Option<Arc<NexusState>> {
        lock(&self.nexuses).get(nexus).cloned()
    }

    /// Remember a change and tell the control plane.
    /// The log page that tells how old each registrant's last command is.
    pub(crate) fn registrants_page(&self) -> Vec<u8> {
        let now_ms = self.now_ms();
        scsi::registrants::page(&self.reservations(), |one| {
            self.state_of(&one.nexus).and_then(|state| state.last_command_age_ms(now_ms))
        })
    }

    pub(crate) fn record(&self, action: &str, by: String, what: String) {
        let change =
            ReservationChange { at_ms: self.clock.wall_ms(), action: action.to_owned(), by, what };
        let mut history = lock(&self.history);
        history.push_front(change.clone());
        history.truncate(HISTORY_MAX);
        drop(history);
        self.notices.send(Notice::ReservationChanged { volume: self.id, change });
    }

    pub(crate) fn history(&self) -> Vec<ReservationChange> {
        lock(&self.history).iter().cloned().collect()
    }

    pub(crate) fn now_ms(&self) -> u64 {
        u64::try_from(self.clock.now().as_millis()).unwrap_or(u64::MAX)
    }
}

/// The state that is known under these terms, or a new one in its place that shares its gate.
fn state_under(
    figures: &mut HashMap<AttachmentId, Arc<AttachmentFigures>>,
    nexuses: &mut BTreeMap<ItNexus, Arc<NexusState>>,
    nexus: &ItNexus,
    access: &Arc<Access>,
) -> Arc<NexusState> {
    let known = nexuses.get(nexus);
    if let Some(known) = known.filter(|known| known.access == *access) {
        return Arc::clone(known);
    }
    let other_mode = known.is_some_and(|known| known.access.mode != access.mode);
    let gate = known.map(|known| Arc::clone(&known.gate)).unwrap_or_default();
    let figures = Arc::clone(figures.entry(access.attachment).or_default());
    let state = Arc::new(NexusState::new(nexus.clone(), Arc::clone(access), figures, gate));
    if other_mode {
        // The device-specific parameter of the mode parameter header tells write protection
        // (SBC-4 6.5.1), and it is another one than the initiator has read.
        state.attend(UnitAttention::ModeParametersChanged);
    }
    nexuses.insert(nexus.clone(), Arc::clone(&state));
    state
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no panic while the lock is held")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_pool_does_not_fill_the_audit_trail() {
        let said = Said::default();
        let news = (0..3 * AGAIN_MS).step_by(10).filter(|now_ms| said.is_news(*now_ms)).count();
        assert_eq!(news, 3);
    }
}
