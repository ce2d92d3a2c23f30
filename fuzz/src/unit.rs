//! A logical unit and I_T nexuses.

use scsi::nexus::{InitiatorPort, ItNexus, RelativePort};
use scsi::reservations::{Request, Reservations};
use scsi::sanitize::State;
use scsi::unit::Unit;

/// The ports that reach the unit.
pub const PORTS: [RelativePort; 2] = [RelativePort(1), RelativePort(2)];

/// A unit whose facts follow from four bytes: block length, capacity, limits, features.
#[must_use]
pub fn unit(knobs: [u8; 4]) -> Unit {
    let [shape, capacity, limit, features] = knobs;
    let is_set = |bit: u8| features & bit != 0;
    Unit {
        block_bytes: if shape & 1 == 0 { 512 } else { 4096 },
        blocks: 1 << (capacity % 54) | u64::from(capacity),
        physical_exponent: shape >> 1 & 7,
        serial: "0123456789abcdef0123456789abcdef".to_owned(),
        naa: *b"\x60\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0A\x0B\x0C\x0D\x0E\x0F",
        target_name: "iqn.2026-11.io.commonhold:volume-1".to_owned(),
        ports: PORTS.to_vec(),
        port_groups: vec![7, 8],
        thin: is_set(1),
        write_cache: is_set(2),
        software_write_protect: is_set(4),
        task_aborted_status: is_set(8),
        descriptor_sense: is_set(16),
        sanitize: match (is_set(128), shape >> 4) {
            (false, _) => State::Idle,
            (true, 0) => State::Failed { unrestricted: false },
            (true, 1) => State::Failed { unrestricted: true },
            (true, done) => State::running(u64::from(done), 16),
        },
        max_transfer_blocks: 1 << (limit & 15),
        max_unmap_blocks: if is_set(32) { 0 } else { 1 << (limit >> 4) },
        max_write_same_blocks: if is_set(64) { 0 } else { 1 << (limit >> 4) },
        max_unmap_descriptors: u32::from(limit),
        max_compare_blocks: limit & 31,
        max_atomic_blocks: u32::from(limit) * 2,
        unmap_granularity_blocks: 8,
    }
}

/// One of a few I_T nexuses: some of one device, some of one port.
#[must_use]
pub fn nexus(number: u8) -> ItNexus {
    let name = format!("iqn.1999-01.example:host-{}", number & 3);
    let isid = [0, 2, 3, 0, 0, number >> 2 & 1];
    let target = RelativePort(u16::from(number >> 3 & 1) + 1);
    ItNexus { initiator: InitiatorPort::iscsi(&name, isid), target }
}

/// PERSISTENT RESERVE OUT: the CDB and its basic parameter list.
#[must_use]
pub fn reserve_out(
    action: u8,
    kind: u8,
    key: u64,
    action_key: u64,
    bits: u8,
) -> ([u8; 10], [u8; 24]) {
    let mut list = [0; 24];
    list[0..8].copy_from_slice(&key.to_be_bytes());
    list[8..16].copy_from_slice(&action_key.to_be_bytes());
    list[20] = bits;
    ([0x5F, action & 0x1F, kind & 0x0F, 0, 0, 0, 0, 0, 24, 0], list)
}

/// The state after another nexus, number 1, has registered and reserved with this type; nothing
/// reserved when it is no type.
#[must_use]
pub fn reserved_by_another(kind: u8) -> Reservations {
    let steps = [reserve_out(0, 0, 0, 9, 0), reserve_out(1, kind, 9, 0, 0)];
    steps.iter().fold(Reservations::default(), |state, (cdb, list)| {
        let Ok(request) = Request::parse(cdb, list) else { return state };
        state.apply(&nexus(1), &request, &PORTS).map_or(state, |change| change.next)
    })
}
