//! READ and WRITE are judged without touching the heap: they come a million times a second.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;

use scsi::command::Step;
use scsi::logical_unit::{View, judge};
use scsi::nexus::{InitiatorPort, ItNexus, RelativePort};
use scsi::reservations::{Request, Reservations};
use scsi::unit::{Access, Unit};

/// Counts the allocations of the thread that makes them; the test harness has threads of its own.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator as it is; the counter beside it is a plain
// number without a destructor, so that it can be reached at any time in a thread's life.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from `System.alloc` with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static HEAP: Counting = Counting;

fn unit() -> Unit {
    Unit {
        block_bytes: 512,
        blocks: 1 << 20,
        physical_exponent: 3,
        serial: "1".into(),
        naa: [0x60; 16],
        target_name: "iqn.2026-11.io.commonhold:volume-1".into(),
        ports: vec![RelativePort(1)],
        port_groups: vec![1],
        thin: true,
        write_cache: true,
        software_write_protect: false,
        task_aborted_status: false,
        descriptor_sense: false,
        sanitize: scsi::sanitize::State::Idle,
        max_transfer_blocks: 8192,
        max_unmap_blocks: 0,
        max_write_same_blocks: 0,
        max_unmap_descriptors: 256,
        max_compare_blocks: 128,
        max_atomic_blocks: 512,
        unmap_granularity_blocks: 8,
    }
}

/// The nexus is the holder of a write exclusive reservation for registrants.
fn reserved(nexus: &ItNexus) -> Reservations {
    let step = |reservations: &Reservations, cdb: [u8; 10], list: [u8; 24]| {
        let request = Request::parse(&cdb, &list).expect("a well-formed list");
        reservations.apply(nexus, &request, &[nexus.target]).expect("is allowed").next
    };
    let mut register = [0; 24];
    register[15] = 1;
    let registered = step(&Reservations::default(), [0x5F, 0, 0, 0, 0, 0, 0, 0, 24, 0], register);
    let mut reserve = [0; 24];
    reserve[7] = 1;
    step(&registered, [0x5F, 1, 5, 0, 0, 0, 0, 0, 24, 0], reserve)
}

#[test]
fn reading_and_writing_allocate_nothing() {
    let unit = unit();
    let nexus = ItNexus {
        initiator: InitiatorPort::iscsi("iqn.1999-01.example:host", [0; 6]),
        target: RelativePort(1),
    };
    let cdbs: [&[u8]; 4] = [
        &[0x28, 0, 0, 0, 1, 0, 0, 0, 8, 0],
        &[0x2A, 8, 0, 0, 1, 0, 0, 0, 8, 0],
        &[0x88, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 8, 0, 0],
        &[0x8A, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 8, 0, 0],
    ];
    for reservations in [Reservations::default(), reserved(&nexus)] {
        let view = View {
            unit: &unit,
            access: Access::ReadWrite,
            nexus: &nexus,
            reservations: &reservations,
        };
        for cdb in cdbs {
            let before = ALLOCATIONS.get();
            let step = black_box(judge(&view, None, black_box(cdb)));
            let allocations = ALLOCATIONS.get() - before;
            assert!(matches!(step, Step::Run { .. }), "{cdb:02x?} runs");
            assert_eq!(allocations, 0, "{cdb:02x?}");
        }
    }
}
