//! What holds for any bytes.

use proptest::collection::vec;
use proptest::prelude::*;
use scsi::command::{Command, Extent, Step, Transfer};
use scsi::commands;
use scsi::conflict::ConflictClass;
use scsi::logical_unit::{judge_missing, lba_status_data, mode_select, unmap_extents};
use scsi::sense::{Asc, Status};
use scsi::unit::Unit;
use scsi::unit_attention::UnitAttention;

use crate::bench::{Bench, unit};

/// Bytes that look like a command often enough: a row's usage data masks random ones.
fn any_cdb() -> impl Strategy<Value = Vec<u8>> {
    let rows = commands::rows().count();
    let row = (0..rows, vec(any::<u8>(), 16), any::<bool>()).prop_map(|(place, random, small)| {
        let row = commands::rows().nth(place).expect("inside the table");
        let mut cdb: Vec<u8> =
            row.usage.iter().zip(random).map(|(mask, bits)| mask & bits).collect();
        cdb[0] = row.opcode;
        if let Some(action) = row.service_action {
            cdb[1] = cdb[1] & 0xE0 | action;
        }
        if small {
            // An LBA that is likely to lie inside the unit.
            cdb[2..7].fill(0);
        }
        cdb
    });
    prop_oneof![vec(any::<u8>(), 0..20), row]
}

fn any_bench() -> impl Strategy<Value = Bench> {
    (1_u64..1 << 34, any::<bool>(), any::<bool>(), any::<bool>(), 0_u32..100_000).prop_map(
        |(blocks, thin, large, swp, most)| {
            let mut bench = Bench::with(|unit| {
                unit.blocks = blocks;
                unit.thin = thin;
                unit.block_bytes = if large { 4096 } else { 512 };
                unit.software_write_protect = swp;
                unit.max_transfer_blocks = most;
                unit.max_unmap_blocks = most;
            });
            bench.unit.descriptor_sense = large;
            bench
        },
    )
}

fn extent_of(command: &Command) -> Option<Extent> {
    Some(match command {
        Command::Read { extent, .. }
        | Command::Write { extent, .. }
        | Command::WriteAndVerify { extent, .. }
        | Command::Verify { extent, .. }
        | Command::CompareAndWrite { extent, .. }
        | Command::OrWrite { extent, .. }
        | Command::WriteSame { extent, .. }
        | Command::SynchronizeCache { extent, .. }
        | Command::Prefetch { extent, .. } => *extent,
        Command::GetLbaStatus { lba, .. } => Extent { lba: *lba, blocks: 1 },
        _ => return None,
    })
}

fn writes_medium(command: &Command) -> bool {
    matches!(
        command,
        Command::Write { .. }
            | Command::WriteAndVerify { .. }
            | Command::CompareAndWrite { .. }
            | Command::OrWrite { .. }
            | Command::WriteSame { .. }
            | Command::Unmap { .. }
    )
}

fn lies_inside(extent: Extent, unit: &Unit) -> bool {
    extent.lba.checked_add(extent.blocks).is_some_and(|end| end <= unit.blocks)
}

fn moves_whole_blocks(command: &Command, transfer: Transfer, unit: &Unit) -> bool {
    match command {
        Command::Read { extent, .. } => {
            u64::from(transfer.data_in_bytes) == extent.blocks * u64::from(unit.block_bytes)
        }
        Command::Write { extent, .. } | Command::OrWrite { extent, .. } => {
            u64::from(transfer.data_out_bytes) == extent.blocks * u64::from(unit.block_bytes)
        }
        _ => true,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn what_runs_lies_inside_the_unit(cdb in any_cdb(), mut bench in any_bench()) {
        if let Step::Run { command, transfer, conflict } = bench.judge(&cdb) {
            if let Some(extent) = extent_of(&command) {
                prop_assert!(lies_inside(extent, &bench.unit), "{:?}", command);
            }
            prop_assert!(moves_whole_blocks(&command, transfer, &bench.unit));
            prop_assert_eq!(conflict, commands::conflict_of(&cdb));
            if writes_medium(&command) {
                prop_assert!(!bench.unit.software_write_protect);
                prop_assert_eq!(conflict.persistent, ConflictClass::Write);
            }
        }
    }

    #[test]
    fn what_is_not_in_the_table_is_an_invalid_opcode(
        opcode in any::<u8>().prop_map(|from| {
            let unknown = |opcode: &u8| commands::rows_of(*opcode).is_empty();
            (0..=u8::MAX).map(|step| from.wrapping_add(step)).find(unknown).expect("there is one")
        }),
        rest in vec(any::<u8>(), 0..19),
    ) {
        let cdb = [&[opcode][..], &rest].concat();
        prop_assert_eq!(Bench::new().sense(&cdb).asc, Asc(0x20, 0x00));
    }

    #[test]
    fn nothing_that_a_reservation_forbids_runs(cdb in any_cdb(), exclusive in any::<bool>()) {
        let mut bench = Bench::reserved_by_other(if exclusive { 6 } else { 5 });
        if let Step::Run { command, .. } = bench.judge(&cdb) {
            prop_assert!(!writes_medium(&command));
            let reads = matches!(command, Command::Read { .. });
            prop_assert!(!(exclusive && reads));
        }
    }

    #[test]
    fn a_read_only_attachment_writes_nothing(cdb in any_cdb()) {
        if let Step::Run { command, .. } = Bench::read_only().judge(&cdb) {
            prop_assert!(!writes_medium(&command));
        }
    }

    #[test]
    fn an_attention_is_told_or_kept(cdb in any_cdb()) {
        let mut bench = Bench::attending(UnitAttention::CapacityChanged);
        let step = bench.judge(&cdb);
        if bench.pending.is_empty() {
            let Step::Done(response) = step else { panic!("ran over an attention") };
            let as_data = cdb.first() == Some(&0x03) && response.status == Status::Good;
            let told = response.sense == Some(UnitAttention::CapacityChanged.sense());
            prop_assert!(as_data || told);
        } else {
            let known = commands::row(&cdb).expect("an unknown command is ended by the attention");
            prop_assert!(matches!(known.opcode, 0x03 | 0x12 | 0xA0));
        }
    }

    #[test]
    fn a_missing_unit_answers_anything(cdb in any_cdb(), luns in vec(any::<u64>(), 0..4)) {
        let response = judge_missing(&cdb, &luns);
        let exempt = matches!(cdb.first(), Some(0x03 | 0x12 | 0xA0));
        prop_assert!(exempt || response.status == Status::CheckCondition);
    }

    #[test]
    fn parameter_lists_never_panic(list in vec(any::<u8>(), 0..200), ten in any::<bool>()) {
        if let Ok(next) = mode_select(&list, ten, &unit()) {
            prop_assert_eq!(next.blocks, unit().blocks);
        }
        if let Ok(extents) = unmap_extents(&list, &unit()) {
            prop_assert!(extents.iter().all(|extent| lies_inside(*extent, &unit())));
        }
    }

    #[test]
    fn lba_status_fits_its_allocation(
        first in any::<u64>(),
        ranges in vec((any::<u64>(), any::<u64>(), any::<bool>()), 0..6),
        allocation in 0_u32..200,
    ) {
        // Runs of any length are cut to 32-bit descriptors: short ones, to have few of them.
        let ranges: Vec<_> = ranges
            .into_iter()
            .map(|(lba, blocks, mapped)| (Extent { lba, blocks: blocks % (1 << 34) }, mapped))
            .collect();
        prop_assert!(lba_status_data(first, &ranges, allocation).len() <= allocation as usize);
    }
}
