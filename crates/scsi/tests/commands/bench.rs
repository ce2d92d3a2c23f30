//! A unit to send commands to, and CDBs to send.

use bytes::Bytes;
use scsi::command::{Command, Extent, Step, Transfer};
use scsi::logical_unit::{View, judge};
use scsi::nexus::{InitiatorPort, ItNexus, RelativePort};
use scsi::reservations::{Request, Reservations};
use scsi::sense::{Response, Sense, Status};
use scsi::unit::{Access, Unit};
use scsi::unit_attention::{Queue, UnitAttention};

pub(crate) const BLOCKS: u64 = 0x10_0000;
pub(crate) const MAX_TRANSFER: u32 = 8192;
pub(crate) const MAX_UNMAP: u32 = 0x4_0000;

pub(crate) fn unit() -> Unit {
    Unit {
        block_bytes: 512,
        blocks: BLOCKS,
        physical_exponent: 3,
        serial: "0123456789abcdef0123456789abcdef".into(),
        naa: *b"\x60\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0A\x0B\x0C\x0D\x0E\x0F",
        target_name: "iqn.2026-11.io.commonhold:volume-1".into(),
        ports: vec![RelativePort(1), RelativePort(2)],
        port_groups: vec![7, 8],
        thin: true,
        write_cache: true,
        software_write_protect: false,
        task_aborted_status: false,
        descriptor_sense: false,
        sanitize: scsi::sanitize::State::Idle,
        max_transfer_blocks: MAX_TRANSFER,
        max_unmap_blocks: MAX_UNMAP,
        max_write_same_blocks: MAX_UNMAP,
        max_unmap_descriptors: 256,
        max_compare_blocks: 16,
        max_atomic_blocks: 512,
        unmap_granularity_blocks: 8,
    }
}

pub(crate) fn nexus(number: u8) -> ItNexus {
    let name = format!("iqn.1999-01.example:host-{number}");
    ItNexus {
        initiator: InitiatorPort::iscsi(&name, [0, 2, 3, 0, 0, number]),
        target: RelativePort(2),
    }
}

#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) unit: Unit,
    pub(crate) access: Access,
    pub(crate) nexus: ItNexus,
    pub(crate) reservations: Reservations,
    pub(crate) pending: Queue,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self {
            unit: unit(),
            access: Access::ReadWrite,
            nexus: nexus(1),
            reservations: Reservations::default(),
            pending: Queue::default(),
        }
    }
    pub(crate) fn with(change: impl FnOnce(&mut Unit)) -> Self {
        let mut bench = Self::new();
        change(&mut bench.unit);
        bench
    }
    pub(crate) fn read_only() -> Self {
        Self { access: Access::ReadOnly, ..Self::new() }
    }
    /// Another nexus holds a persistent reservation of this type.
    pub(crate) fn reserved_by_other(kind: u8) -> Self {
        let other = nexus(2);
        let mut bench = Self::new();
        let mut list = [0; 24];
        list[15] = 9;
        let register =
            Request::parse(&[0x5F, 0, 0, 0, 0, 0, 0, 0, 24, 0], &list).expect("a register list");
        let ports = bench.unit.ports.clone();
        bench.reservations =
            bench.reservations.apply(&other, &register, &ports).expect("may register").next;
        let mut list = [0; 24];
        list[7] = 9;
        let reserve =
            Request::parse(&[0x5F, 1, kind, 0, 0, 0, 0, 0, 24, 0], &list).expect("a reserve list");
        bench.reservations =
            bench.reservations.apply(&other, &reserve, &ports).expect("may reserve").next;
        bench
    }
    pub(crate) fn legacy_by_other() -> Self {
        let mut bench = Self::new();
        let change = bench.reservations.reserve_legacy(&nexus(2)).expect("may reserve");
        bench.reservations = change.next;
        bench
    }
    pub(crate) fn attending(pending: UnitAttention) -> Self {
        let mut bench = Self::new();
        bench.pending.push(pending);
        bench
    }

    pub(crate) fn judge(&mut self, cdb: &[u8]) -> Step {
        let view = View {
            unit: &self.unit,
            access: self.access,
            nexus: &self.nexus,
            reservations: &self.reservations,
        };
        judge(&view, Some(&mut self.pending), cdb)
    }
    pub(crate) fn response(&mut self, cdb: &[u8]) -> Response {
        match self.judge(cdb) {
            Step::Done(response) => response,
            Step::Run { command, .. } => panic!("{cdb:02x?} is answered, not {command:?}"),
        }
    }
    /// The data of a command that ends with GOOD.
    pub(crate) fn data(&mut self, cdb: &[u8]) -> Bytes {
        let response = self.response(cdb);
        assert_eq!((response.status, response.sense), (Status::Good, None), "{cdb:02x?}");
        response.data
    }
    /// The sense data of a command that ends with CHECK CONDITION.
    pub(crate) fn sense(&mut self, cdb: &[u8]) -> Sense {
        let response = self.response(cdb);
        assert_eq!(response.status, Status::CheckCondition, "{cdb:02x?}");
        assert!(response.data.is_empty());
        response.sense.expect("a CHECK CONDITION has sense data")
    }
    pub(crate) fn run(&mut self, cdb: &[u8]) -> (Command, Transfer) {
        match self.judge(cdb) {
            Step::Run { command, transfer, .. } => (command, transfer),
            Step::Done(response) => panic!("{cdb:02x?} runs, not {response:?}"),
        }
    }
    pub(crate) fn conflicts(&mut self, cdb: &[u8]) -> bool {
        match self.judge(cdb) {
            Step::Done(response) => response.status == Status::ReservationConflict,
            Step::Run { .. } => false,
        }
    }
}

pub(crate) fn sends(data_out_bytes: u32) -> Transfer {
    Transfer { data_out_bytes, data_in_bytes: 0 }
}

pub(crate) fn receives(data_in_bytes: u32) -> Transfer {
    Transfer { data_out_bytes: 0, data_in_bytes }
}

pub(crate) fn extent(lba: u64, blocks: u64) -> Extent {
    Extent { lba, blocks }
}

/// A CDB on blocks, whose form follows from the operation code; `count` of a six-byte CDB is cut.
pub(crate) fn cdb(opcode: u8, flags: u8, lba: u64, count: u32) -> Vec<u8> {
    let lba_32 = u32::try_from(lba & 0xFFFF_FFFF).expect("cut to 32 bits").to_be_bytes();
    let count = count.to_be_bytes();
    let mut cdb = vec![opcode, flags];
    match opcode >> 5 {
        0 => {
            cdb[1] |= lba_32[1];
            cdb.extend_from_slice(&[lba_32[2], lba_32[3], count[3], 0]);
        }
        1 | 2 => {
            cdb.extend_from_slice(&lba_32);
            cdb.extend_from_slice(&[0, count[2], count[3], 0]);
        }
        5 => {
            cdb.extend_from_slice(&lba_32);
            cdb.extend_from_slice(&count);
            cdb.extend_from_slice(&[0, 0]);
        }
        _ => {
            cdb.extend_from_slice(&lba.to_be_bytes());
            cdb.extend_from_slice(&count);
            cdb.extend_from_slice(&[0, 0]);
        }
    }
    cdb
}
