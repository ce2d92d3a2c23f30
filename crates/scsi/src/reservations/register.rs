//! REGISTER, REGISTER AND IGNORE EXISTING KEY, REGISTER AND MOVE, REPLACE LOST RESERVATION
//! (SPC-5 5.14.7, 5.14.8, 5.14.11.5).

use super::change::{Draft, Refusal, invalid_cdb_field, invalid_list_field};
use super::request::{
    CDB_ACTION, Destination, LIST_ACTION_KEY, LIST_BITS, LIST_MOVE_PORT, LIST_MOVE_TRANSPORT_ID,
    LIST_TRANSPORT_IDS, RegisterOptions, Request,
};
use super::{Reservation, ReservationType, State};
use crate::nexus::{InitiatorPort, ItNexus, RelativePort};

impl Draft {
    /// With ALL_TG_PT the request stands for one request through each target port, all of them or
    /// none: a port where the initiator is registered with yet another key refuses it.
    pub(super) fn register(
        &mut self,
        nexus: &ItNexus,
        request: &Request,
        options: &RegisterOptions,
        ports: &[RelativePort],
    ) -> Result<(), Refusal> {
        let own_key = self.state.key_of(nexus);
        if !options.ignores_key && own_key.unwrap_or(0) != request.key {
            return Err(Refusal::Conflict);
        }
        if options.listed.is_some() && (own_key.is_some() || request.action_key == 0) {
            return Err(Refusal::Check(invalid_list_field(LIST_BITS)));
        }
        let through = target_ports(nexus, options.all_target_ports, ports);
        let own = nexuses(&nexus.initiator, &through);
        let other_key = |one: &ItNexus| self.state.key_of(one).is_some_and(|k| k != request.key);
        if !options.ignores_key && own.iter().any(other_key) {
            return Err(Refusal::Conflict);
        }
        if request.action_key == 0 {
            self.unregister(nexus, &own, options);
            return Ok(());
        }
        let mut joining = Vec::new();
        for initiator in options.listed.iter().flatten() {
            joining.extend(nexuses(initiator, &through));
        }
        let is_known = |one: &ItNexus| own.contains(one) || self.state.key_of(one).is_some();
        if joining.iter().any(is_known) {
            return Err(Refusal::Check(invalid_list_field(LIST_TRANSPORT_IDS)));
        }
        for one in own.iter().chain(&joining) {
            self.put(one, request.action_key, options.all_target_ports)?;
        }
        self.state.aptpl = options.aptpl;
        self.bump_generation();
        self.note(registered(nexus, own_key, request.action_key, own.len() + joining.len()));
        Ok(())
    }

    fn unregister(&mut self, nexus: &ItNexus, own: &[ItNexus], options: &RegisterOptions) {
        let left = self.remove(|one| own.contains(&one.nexus));
        // An unregistered nexus that registers no key asks for nothing and gets GOOD.
        if left.is_empty() {
            return;
        }
        self.release_after_leaving(&left);
        self.state.aptpl = options.aptpl;
        self.bump_generation();
        self.note(format!("{} unregistered", nexus.initiator.name()));
    }

    pub(super) fn register_and_move(
        &mut self,
        nexus: &ItNexus,
        request: &Request,
        to: &Destination,
        ports: &[RelativePort],
    ) -> Result<(), Refusal> {
        self.expect_key(nexus, request.key)?;
        let holder = self.state.reservation.as_ref().and_then(|held| held.holder.as_ref());
        if holder != Some(nexus) {
            return Err(Refusal::Conflict);
        }
        if request.action_key == 0 {
            return Err(Refusal::Check(invalid_list_field(LIST_ACTION_KEY)));
        }
        if to.target != nexus.target && !ports.contains(&to.target) {
            return Err(Refusal::Check(invalid_list_field(LIST_MOVE_PORT)));
        }
        let new_holder = ItNexus { initiator: to.initiator.clone(), target: to.target };
        if new_holder == *nexus {
            return Err(Refusal::Check(invalid_list_field(LIST_MOVE_TRANSPORT_ID)));
        }
        if to.unregisters {
            self.remove(|one| one.nexus == *nexus);
        }
        self.put(&new_holder, request.action_key, false)?;
        let (from, to_name) = (nexus.initiator.name(), new_holder.initiator.name().to_owned());
        if let Some(held) = &mut self.state.reservation {
            held.holder = Some(new_holder);
        }
        self.state.aptpl = to.aptpl;
        self.bump_generation();
        self.note(format!("{from} moved the reservation to {to_name}"));
        Ok(())
    }

    /// Only where reservations are known to be lost; the caller becomes the one registrant and
    /// takes the reservation, so that the unit is never open in between.
    pub(super) fn replace_lost(
        &mut self,
        nexus: &ItNexus,
        request: &Request,
        kind: ReservationType,
    ) -> Result<(), Refusal> {
        if !self.state.lost {
            return Err(Refusal::Check(invalid_cdb_field(CDB_ACTION)));
        }
        if request.key != 0 {
            return Err(Refusal::Check(invalid_list_field(0)));
        }
        if request.action_key == 0 {
            return Err(Refusal::Check(invalid_list_field(LIST_ACTION_KEY)));
        }
        let (generation, aptpl) = (self.state.generation, self.state.aptpl);
        self.state = State { generation, aptpl, ..State::default() };
        self.put(nexus, request.action_key, false)?;
        self.state.reservation = Some(Reservation::taken_by(nexus, kind));
        self.bump_generation();
        let name = nexus.initiator.name();
        self.note(format!("{name} replaced the lost reservations by {}", kind.name()));
        Ok(())
    }

    /// Registers, on a port that the unit gets, every initiator that asked for all of them.
    pub(super) fn add_port(&mut self, port: RelativePort) -> Result<(), Refusal> {
        let everywhere: Vec<_> =
            self.state.registrations.iter().filter(|one| one.all_target_ports).cloned().collect();
        let before = self.state.registrations.len();
        for one in everywhere {
            let nexus = ItNexus { initiator: one.nexus.initiator, target: port };
            if self.state.key_of(&nexus).is_none() {
                self.put(&nexus, one.key, true)?;
            }
        }
        let added = self.state.registrations.len() - before;
        if added > 0 {
            self.bump_generation();
            self.note(format!("{added} registrations extended to target port {}", port.0));
        }
        Ok(())
    }
}

/// The target ports that a registration is for: the one it came through, or all.
fn target_ports(nexus: &ItNexus, all: bool, ports: &[RelativePort]) -> Vec<RelativePort> {
    let mut through = vec![nexus.target];
    if all {
        through.extend(ports.iter().filter(|port| **port != nexus.target));
    }
    through
}

fn nexuses(initiator: &InitiatorPort, targets: &[RelativePort]) -> Vec<ItNexus> {
    let nexus = |target: &RelativePort| ItNexus { initiator: initiator.clone(), target: *target };
    targets.iter().map(nexus).collect()
}

fn registered(nexus: &ItNexus, old: Option<u64>, new: u64, count: usize) -> String {
    let name = nexus.initiator.name();
    match old {
        Some(old) => format!("{name} changed its key from {old:#018x} to {new:#018x}"),
        None if count > 1 => format!("{name} registered {count} nexuses with key {new:#018x}"),
        None => format!("{name} registered with key {new:#018x}"),
    }
}
