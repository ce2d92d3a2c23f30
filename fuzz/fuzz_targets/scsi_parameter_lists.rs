//! Parameter lists. Knobs: 4 bytes of the unit, which list; the rest is the list, for PERSISTENT
//! RESERVE OUT with the ten bytes of its CDB in front.
#![no_main]

use commonhold_fuzz::unit::{PORTS, nexus, unit};
use libfuzzer_sys::fuzz_target;
use scsi::command::Extent;
use scsi::copy::{CSCDS_MAX, CopyList, SEGMENTS_MAX, Side, judge};
use scsi::logical_unit::{View, mode_select, unmap_extents};
use scsi::reservations::{Request, Reservations};
use scsi::sanitize::Overwrite;
use scsi::transport_id::{PORT_NAME_BYTES_MAX, TransportId, port_from_name};
use scsi::unit::{Access, Unit};

fn unmap(list: &[u8], unit: &Unit) {
    let Ok(extents) = unmap_extents(list, unit) else { return };
    assert!(extents.len() <= list.len() / 16);
    assert!(u32::try_from(extents.len()).is_ok_and(|count| count <= unit.max_unmap_descriptors));
    let mut total = 0_u64;
    for extent in extents {
        assert!(extent.blocks > 0);
        assert!(extent.lba.checked_add(extent.blocks).is_some_and(|end| end <= unit.blocks));
        total += extent.blocks;
    }
    assert!(unit.deallocation_limit_blocks().is_none_or(|most| total <= most));
}

/// Only three bits of the Control mode page can change.
fn mode(list: &[u8], ten: bool, unit: &Unit) {
    let Ok(next) = mode_select(list, ten, unit) else { return };
    let same = Unit {
        descriptor_sense: unit.descriptor_sense,
        software_write_protect: unit.software_write_protect,
        task_aborted_status: unit.task_aborted_status,
        ..next
    };
    assert_eq!(same, *unit);
}

fn reserve(bytes: &[u8]) {
    let Some((cdb, list)) = bytes.split_first_chunk::<10>() else { return };
    let Ok(request) = Request::parse(cdb, list) else { return };
    assert!(!request.name().is_empty());
    let Ok(change) = Reservations::default().apply(&nexus(0), &request, &PORTS) else { return };
    for registration in change.next.registrations() {
        assert!(registration.key != 0);
        assert!(registration.nexus.initiator.name().len() <= PORT_NAME_BYTES_MAX);
    }
}

fn transport_id(bytes: &[u8]) {
    let Ok((id, length)) = TransportId::decode(bytes) else { return };
    assert!(length <= bytes.len() && length >= 24 && length.is_multiple_of(4));
    if let TransportId::Port(port) = &id {
        assert!(port.name().len() <= PORT_NAME_BYTES_MAX);
        assert_eq!(port_from_name(port.name()).as_ref(), Some(port));
        assert_eq!(port.name(), format!("{},i,0x{}", port.device(), port.isid()));
    }
    let encoded = id.encode();
    assert_eq!(TransportId::decode(&encoded), Ok((id, encoded.len())));
}

/// What is let through is within the limits, and either side of any segment can be judged.
fn copy(list: &[u8], unit: &Unit) {
    let Ok(parsed) = CopyList::parse(list) else { return };
    assert!(parsed.cscds.len() <= usize::from(CSCDS_MAX));
    assert!(parsed.segments.len() <= usize::from(SEGMENTS_MAX));
    let (nexus, reservations) = (nexus(0), Reservations::default());
    let view = View { unit, access: Access::ReadWrite, nexus: &nexus, reservations: &reservations };
    for segment in parsed.segments {
        let Some(blocks) = segment.length.blocks(unit.block_bytes) else { continue };
        let extent = Extent { lba: segment.to_lba, blocks };
        if judge(&view, Side::Destination, extent).is_ok() {
            assert!(!unit.software_write_protect);
            assert!(segment.to_lba.checked_add(blocks).is_some_and(|end| end <= unit.blocks));
        }
    }
}

/// What is let through fills a block and has a pass.
fn overwrite(list: &[u8], unit: &Unit) {
    let Ok(parsed) = Overwrite::parse(list, unit.block_bytes) else { return };
    assert_eq!(u32::try_from(parsed.block.len()), Ok(unit.block_bytes));
    assert!((1..=31).contains(&parsed.passes));
}

fuzz_target!(|input: &[u8]| {
    let Some((&[a, b, c, d, which], list)) = input.split_first_chunk::<5>() else { return };
    let unit = unit([a, b, c, d]);
    match which % 7 {
        0 => unmap(list, &unit),
        1 => mode(list, false, &unit),
        2 => mode(list, true, &unit),
        3 => reserve(list),
        4 => transport_id(list),
        5 => copy(list, &unit),
        _ => overwrite(list, &unit),
    }
});
