//! Case 4: what a stranger may not do under any type of reservation.

use host::Data;

use crate::client::{ALL_REGISTRANTS, BLOCK, CONFLICT, GOOD, RELEASE, WRITE_EXCLUSIVE, cdb16};
use crate::world::World;

/// Write-class commands: name, CDB, bytes of data-out.
fn write_class() -> Vec<(&'static str, Vec<u8>, usize)> {
    let ten = |opcode: u8, flags: u8| vec![opcode, flags, 0, 0, 0, 0, 0, 0, 1, 0];
    let six = |opcode: u8, rest: [u8; 5]| [&[opcode][..], &rest].concat();
    let mut compare = cdb16(0x89, 0, 0, 0);
    compare[13] = 1;
    vec![
        ("WRITE (6)", six(0x0A, [0, 0, 0, 1, 0]), BLOCK),
        ("WRITE (10)", ten(0x2A, 0), BLOCK),
        ("WRITE (12)", vec![0xAA, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0], BLOCK),
        ("WRITE (16)", cdb16(0x8A, 0, 0, 1), BLOCK),
        ("WRITE AND VERIFY (10)", ten(0x2E, 0), BLOCK),
        ("WRITE AND VERIFY (12)", vec![0xAE, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0], BLOCK),
        ("WRITE AND VERIFY (16)", cdb16(0x8E, 0, 0, 1), BLOCK),
        ("ORWRITE (16)", cdb16(0x8B, 0, 0, 1), BLOCK),
        ("COMPARE AND WRITE", compare, 2 * BLOCK),
        ("WRITE SAME (10)", ten(0x41, 0), BLOCK),
        ("WRITE SAME (10) with UNMAP", ten(0x41, 0x08), BLOCK),
        ("WRITE SAME (16)", cdb16(0x93, 0, 0, 1), BLOCK),
        ("WRITE SAME (16) with UNMAP", cdb16(0x93, 0x08, 0, 1), BLOCK),
        ("WRITE SAME (16) with NDOB", cdb16(0x93, 0x01, 0, 1), 0),
        ("WRITE SAME (16) with NDOB and UNMAP", cdb16(0x93, 0x09, 0, 1), 0),
        ("UNMAP", vec![0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0], 24),
        ("SYNCHRONIZE CACHE (10)", ten(0x35, 0), 0),
        ("SYNCHRONIZE CACHE (16)", cdb16(0x91, 0, 0, 1), 0),
        ("FORMAT UNIT", six(0x04, [0; 5]), 0),
        ("EXTENDED COPY", cdb16(0x83, 0, 0, 0), 0),
        ("MODE SELECT (6)", six(0x15, [0x10, 0, 0, 0, 0]), 0),
        ("an unknown operation code", vec![0xC5, 0, 0, 0, 0, 0, 0, 0, 0, 0], 0),
    ]
}

/// Commands that never conflict.
fn always() -> Vec<(&'static str, Vec<u8>)> {
    let mut capacity = cdb16(0x9E, 0x10, 0, 0);
    capacity[13] = 32;
    vec![
        ("TEST UNIT READY", vec![0; 6]),
        ("INQUIRY", vec![0x12, 0, 0, 0, 96, 0]),
        ("REQUEST SENSE", vec![3, 0, 0, 0, 18, 0]),
        ("READ CAPACITY (10)", vec![0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        ("READ CAPACITY (16)", capacity),
        ("REPORT LUNS", vec![0xA0, 0, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0]),
        ("PERSISTENT RESERVE IN", vec![0x5E, 0, 0, 0, 0, 0, 0, 0, 64, 0]),
    ]
}

/// All zeros but for one descriptor of one block at LBA 0, which UNMAP takes for what it is.
fn data_out(bytes: usize) -> Data {
    let mut data = vec![0xEE; bytes];
    if bytes == 24 {
        data = vec![0, 22, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0];
    }
    if bytes == 0 { Data::None } else { Data::Out(vec![data.into()]) }
}

#[tokio::test(flavor = "multi_thread")]
async fn case_04_a_stranger_writes_and_erases_nothing_under_all_six_types() {
    let world = World::start().await;
    let (holder, stranger) = (world.host(1).await, world.host(2).await);
    let member = world.host(3).await;
    holder.register(0xA).await;
    member.register(0xC).await;
    assert_eq!(holder.write(0, vec![0x11; BLOCK]).await, GOOD);
    for kind in [1, 3, 5, 6, 7, 8] {
        holder.reserve(0xA, kind).await;
        for (name, cdb, bytes) in write_class() {
            let got = stranger.run(&cdb, data_out(bytes)).await;
            assert_eq!(got, CONFLICT, "type {kind}: {name}");
        }
        let exclusive = matches!(kind, 3 | 6 | 8);
        let reads = [cdb16(0x88, 0, 0, 1), cdb16(0x8F, 0, 0, 1), cdb16(0x90, 0, 0, 1)];
        for (cdb, bytes) in reads.iter().zip([512, 0, 0]) {
            let data = if bytes > 0 { Data::In(bytes) } else { Data::None };
            let got = stranger.run(cdb, data).await;
            assert_eq!(got, if exclusive { CONFLICT } else { GOOD }, "type {kind}: {cdb:x?}");
        }
        for (name, cdb) in always() {
            let got = stranger.run(&cdb, Data::In(96)).await;
            assert_eq!(got, GOOD, "type {kind}: {name}");
        }
        let may = kind >= 5;
        let got = member.run(&cdb16(0x91, 0, 0, 1), Data::None).await;
        assert_eq!(got, if may { GOOD } else { CONFLICT }, "type {kind}: a registrant");
        assert_eq!(holder.read(0, 1).await, vec![0x11; BLOCK], "type {kind}");
        assert_eq!(holder.reserve_out(RELEASE, kind, (0xA, 0)).await, GOOD);
        let released = if kind >= 5 { vec![(0x2A, 0x04)] } else { Vec::new() };
        assert_eq!(member.attentions().await, released, "type {kind}");
    }
    assert_eq!(stranger.write(0, vec![0x22; BLOCK]).await, GOOD, "nothing is reserved any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn case_04_a_write_that_waits_for_data_is_judged_again_when_it_has_them() {
    let world = World::start().await;
    let (a, b) = (world.host(1).await, world.host(2).await);
    a.register(0xA).await;
    for kind in [WRITE_EXCLUSIVE, ALL_REGISTRANTS] {
        let pending = b.start_write_without_data(0, vec![0xBB; BLOCK]).await;
        a.reserve(0xA, kind).await;
        pending.release().await.unwrap();
        assert_eq!(crate::client::answer(pending).await, Ok(CONFLICT), "type {kind}");
        assert_eq!(a.read(0, 1).await, vec![0; BLOCK]);
        assert_eq!(a.reserve_out(RELEASE, kind, (0xA, 0)).await, GOOD);
    }
}
