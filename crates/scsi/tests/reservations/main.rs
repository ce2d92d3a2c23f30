//! Conformance of the reservation machine, clause by clause: each test's name is a rule of SPC
//! (persistent reservations), SPC-2 (RESERVE, RELEASE) or SAM (unit attentions), and its body is
//! the shortest history that would show the rule broken.
//!
//! Commands enter as bytes and are put together in `reference/wire.rs`, not with the crate's codecs.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../reference/wire.rs"]
mod wire;

use scsi::conflict::{Conflict, ConflictClass};
use scsi::nexus::{ItNexus, RelativePort};
use scsi::reservations::{Change, REGISTRATIONS_MAX, Refusal, Request, Reservations};
use scsi::sense::{Asc, SenseKey, Status};
use scsi::unit_attention::{Queue, UnitAttention};
use wire::{
    ALL_TG_PT, APTPL, CLEAR, PREEMPT, PREEMPT_AND_ABORT, REGISTER, REGISTER_AND_IGNORE, RELEASE,
    REPLACE_LOST, RESERVE, SPEC_I_PT, Wire, nexus, out,
};

const PORTS: [RelativePort; 2] = [RelativePort(1), RelativePort(2)];
const ALL_TYPES: [u8; 6] = [1, 3, 5, 6, 7, 8];
const CONFLICT: Refusal = Refusal::Conflict;

const WE: u8 = 1;
const EA: u8 = 3;
const WE_RO: u8 = 5;
const EA_RO: u8 = 6;
const WE_AR: u8 = 7;

/// A unit and the latest value of its reservations.
#[derive(Default)]
struct Unit {
    now: Reservations,
}

impl Unit {
    /// A unit with these registrations, the first of which holds a reservation of this type.
    fn held(kind: u8, registrants: &[(&ItNexus, u64)]) -> Self {
        let mut unit = Self::registered(registrants);
        unit.good(registrants[0].0, out(RESERVE, kind, registrants[0].1, 0, 0));
        unit
    }

    fn registered(registrants: &[(&ItNexus, u64)]) -> Self {
        let mut unit = Self::default();
        for (who, key) in registrants {
            unit.good(who, out(REGISTER, 0, 0, *key, 0));
        }
        unit
    }

    fn answer(&self, who: &ItNexus, (cdb, list): Wire) -> Result<Change, Refusal> {
        let request = Request::parse(&cdb, &list).map_err(Refusal::Check)?;
        self.now.apply(who, &request, &PORTS)
    }

    fn good(&mut self, who: &ItNexus, wire: Wire) -> Change {
        let change = self.answer(who, wire).expect("the command is to end with GOOD");
        self.now = change.next.clone();
        change
    }

    fn refused(&self, who: &ItNexus, wire: Wire) -> Refusal {
        self.answer(who, wire).expect_err("the command is to be refused")
    }

    /// (key, additional sense code) of the CHECK CONDITION.
    fn checked(&self, who: &ItNexus, wire: Wire) -> Asc {
        match self.refused(who, wire) {
            Refusal::Check(sense) => {
                assert_eq!(sense.key, SenseKey::IllegalRequest);
                sense.asc
            }
            Refusal::Conflict => panic!("RESERVATION CONFLICT instead of CHECK CONDITION"),
        }
    }

    fn keys(&self) -> Vec<u64> {
        self.now.registrations().iter().map(|one| one.key).collect()
    }

    fn kind(&self) -> Option<u8> {
        self.now.reservation().map(|held| held.kind.code())
    }

    fn read(&self, action: u8) -> Vec<u8> {
        let response = self.now.persistent_in(&wire::cdb_in(action));
        assert_eq!(response.status, Status::Good);
        response.data.to_vec()
    }

    fn may(&self, who: &ItNexus, class: ConflictClass) -> bool {
        self.now.check(who, Conflict { persistent: class, under_legacy: false })
    }
}

fn a() -> ItNexus {
    nexus('a', 1, 1)
}
fn b() -> ItNexus {
    nexus('b', 1, 1)
}
fn c() -> ItNexus {
    nexus('c', 1, 1)
}

const LENGTH_ERROR: Asc = Asc(0x1A, 0x00);
const INVALID_CDB_FIELD: Asc = Asc(0x24, 0x00);
const INVALID_LIST_FIELD: Asc = Asc(0x26, 0x00);
const INVALID_RELEASE: Asc = Asc(0x26, 0x04);
const NO_REGISTRATION_RESOURCES: Asc = Asc(0x55, 0x04);

mod attentions;
mod conflicts;
mod events;
mod hold;
mod preempt;
mod register;
mod report;
mod specified_ports;
