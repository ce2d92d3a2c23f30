//! The logical unit's judgement of any command. Knobs: 4 bytes of the unit, 1 read-only and what
//! is reserved by another, pending conditions, expected data-out (4 bytes); the rest is the CDB.
#![no_main]

use arbitrary::Unstructured;
use commonhold_fuzz::unit::{nexus, reserved_by_another, unit};
use libfuzzer_sys::fuzz_target;
use scsi::command::{Command, Extent, Step};
use scsi::conflict::ConflictClass;
use scsi::logical_unit::{View, judge, judge_missing};
use scsi::sense::{Response, Sense, Status};
use scsi::unit::{Access, Unit};
use scsi::unit_attention::{Queue, UnitAttention};

/// More than any answer that is not blocks needs.
const DATA_BYTES_MAX: usize = 64 << 10;

fn extent_of(command: &Command) -> Option<Extent> {
    Some(match command {
        Command::Read { extent, .. }
        | Command::Write { extent, .. }
        | Command::WriteAtomic { extent, .. }
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

fn changes_the_unit(command: &Command) -> bool {
    matches!(
        command,
        Command::Write { .. }
            | Command::WriteAtomic { .. }
            | Command::WriteAndVerify { .. }
            | Command::CompareAndWrite { .. }
            | Command::OrWrite { .. }
            | Command::WriteSame { .. }
            | Command::Unmap { .. }
            | Command::Sanitize { .. }
    )
}

fn check_inside(command: &Command, unit: &Unit) {
    if let Some(extent) = extent_of(command) {
        let end = extent.lba.checked_add(extent.blocks).expect("a range that can be");
        assert!(end <= unit.blocks, "{command:?}");
    }
    if let Command::Read { extent, .. } | Command::Write { extent, .. } = command {
        assert!(extent.blocks <= u64::from(unit.max_transfer_blocks));
    }
    if let Command::WriteAtomic { extent, .. } = command {
        assert!(extent.blocks <= u64::from(unit.max_atomic_blocks));
    }
}

fn check_answer(response: &Response) {
    assert!(response.data.len() <= DATA_BYTES_MAX);
    assert_eq!(response.status == Status::CheckCondition, response.sense.is_some());
    let Some(sense) = &response.sense else { return };
    for descriptor in [false, true] {
        let read = Sense::decode(&sense.encode(descriptor)).expect("sense data that can be read");
        assert_eq!((read.key, read.asc), (sense.key, sense.asc));
    }
}

fn check_run(view: &View<'_>, command: Command, expected_bytes: u32) {
    check_inside(&command, view.unit);
    let protected = view.access == Access::ReadOnly || view.unit.software_write_protect;
    assert!(!(protected && changes_the_unit(&command)), "{command:?} on a protected unit");
    let before = extent_of(&command);
    if let Ok(limited) = command.limited_to(expected_bytes, view.unit.block_bytes) {
        check_inside(&limited, view.unit);
        let now = extent_of(&limited);
        assert!(now.map(|now| now.blocks) <= before.map(|before| before.blocks));
    }
}

fn run(mut knobs: Unstructured<'_>) -> arbitrary::Result<()> {
    let unit = unit(knobs.arbitrary()?);
    let (place, pending, expected): (u8, u8, u32) =
        (knobs.arbitrary()?, knobs.arbitrary()?, knobs.arbitrary()?);
    let cdb = knobs.take_rest();
    let access = if place & 1 == 0 { Access::ReadWrite } else { Access::ReadOnly };
    let reservations = reserved_by_another(place >> 1 & 15);
    let nexus = nexus(place >> 5);
    let view = View { unit: &unit, access, nexus: &nexus, reservations: &reservations };
    let mut queue = Queue::default();
    for (bit, attention) in [
        (1, UnitAttention::CapacityChanged),
        (2, UnitAttention::ReportedLunsChanged),
        (4, UnitAttention::PowerOn),
    ] {
        if pending & bit != 0 {
            queue.push(attention);
        }
    }
    let waiting = queue.len();
    match judge(&view, Some(&mut queue), cdb) {
        Step::Done(response) => check_answer(&response),
        Step::Run { command, transfer: _, conflict } => {
            assert!(reservations.check(&nexus, conflict), "{command:?} past a reservation");
            assert!(!changes_the_unit(&command) || conflict.persistent == ConflictClass::Write);
            assert_eq!(waiting, 0, "{command:?} past a unit attention");
            check_run(&view, command, expected);
        }
    }
    assert!(waiting - queue.len() <= 1, "a command reports one condition");
    check_answer(&judge_missing(cdb, &[0, 1 << 48]));
    Ok(())
}

fuzz_target!(|input: &[u8]| {
    let _ = run(Unstructured::new(input));
});
