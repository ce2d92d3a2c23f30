//! Case 4: what a stranger can do to a reserved unit.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use host::Data;

use super::client::{BLOCK, CONFLICT, Client, GOOD, RELEASE, cdb16, out};
use super::{Found, World};

const KINDS: [u8; 6] = [1, 3, 5, 6, 7, 8];

/// What a stranger tries: name, CDB, data-out.
type Try = (&'static str, Vec<u8>, Vec<u8>);

/// Commands that write, erase or destroy (SPC-5 table 68, SBC-4 table 13: conflict under every
/// type).
fn writes() -> Vec<Try> {
    let ten = |opcode: u8, flags: u8| vec![opcode, flags, 0, 0, 0, 0, 0, 0, 1, 0];
    let twelve = |opcode: u8| vec![opcode, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0];
    let block = || vec![0xEE; BLOCK];
    let mut compare = cdb16(0x89, 0, 0, 0);
    compare[13] = 1;
    // What is there, and what shall be: only this way the comparison does not end it.
    let both = [vec![0x11; BLOCK], block()].concat();
    // One descriptor: one block at LBA 0.
    let unmap = vec![0, 22, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0];
    vec![
        ("WRITE (6)", vec![0x0A, 0, 0, 0, 1, 0], block()),
        ("WRITE (10)", ten(0x2A, 0), block()),
        ("WRITE (12)", twelve(0xAA), block()),
        ("WRITE (16)", cdb16(0x8A, 0, 0, 1), block()),
        ("WRITE AND VERIFY (10)", ten(0x2E, 0), block()),
        ("WRITE AND VERIFY (12)", twelve(0xAE), block()),
        ("WRITE AND VERIFY (16)", cdb16(0x8E, 0, 0, 1), block()),
        ("ORWRITE (16)", cdb16(0x8B, 0, 0, 1), block()),
        ("COMPARE AND WRITE", compare, both),
        ("WRITE SAME (10)", ten(0x41, 0), block()),
        ("WRITE SAME (10) with UNMAP", ten(0x41, 8), vec![0; BLOCK]),
        ("WRITE SAME (16)", cdb16(0x93, 0, 0, 1), block()),
        ("WRITE SAME (16) with UNMAP", cdb16(0x93, 8, 0, 1), vec![0; BLOCK]),
        ("WRITE SAME (16) with NDOB", cdb16(0x93, 1, 0, 1), Vec::new()),
        ("UNMAP", vec![0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0], unmap),
        ("SYNCHRONIZE CACHE (10)", ten(0x35, 0), Vec::new()),
        ("SYNCHRONIZE CACHE (16)", cdb16(0x91, 0, 0, 1), Vec::new()),
        ("FORMAT UNIT", vec![4, 0, 0, 0, 0, 0], Vec::new()),
    ]
}

/// A holder, a stranger, and block 0 as the holder wrote it.
async fn pair(world: &World) -> Result<(Client, Client)> {
    let (holder, stranger) = (world.login(1, 1).await?, world.login(2, 1).await?);
    holder.register(0xA).await?;
    ensure!(holder.write(0, vec![0x11; BLOCK]).await? == GOOD, "the first write");
    Ok((holder, stranger))
}

/// 18 commands under six types: nothing changes the medium, nothing is GOOD.
pub(super) async fn writes_nothing(world: &World) -> Result<Found> {
    let (holder, stranger) = pair(world).await?;
    let (mut through, mut changed) = (BTreeSet::new(), BTreeSet::new());
    let (mut conflicts, mut tries) = (0, 0);
    for kind in KINDS {
        holder.reserve(0xA, kind).await?;
        for (name, cdb, data) in writes() {
            let answer = stranger.run(&cdb, out(data)).await?;
            tries += 1;
            conflicts += usize::from(answer == CONFLICT);
            if answer == GOOD {
                through.insert(name);
            }
            if holder.read(0, 1).await? != [0x11; BLOCK] {
                changed.insert(name);
                ensure!(holder.write(0, vec![0x11; BLOCK]).await? == GOOD, "the block again");
            }
        }
        holder.reserve_out(RELEASE, kind, (0xA, 0), false).await?;
    }
    let list = |names: &BTreeSet<&str>| names.iter().copied().collect::<Vec<_>>().join(", ");
    if through.is_empty() && changed.is_empty() {
        let all = format!("{conflicts} of {tries} are RESERVATION CONFLICT, none is GOOD");
        return Ok(Found::new(true, all));
    }
    let told = format!("changed the medium: {}; GOOD: {}", list(&changed), list(&through));
    Ok(Found::new(false, told))
}

/// The exclusive types keep readers away, the others do not.
pub(super) async fn reads_as_the_type_says(world: &World) -> Result<Found> {
    let (holder, stranger) = pair(world).await?;
    let reads: [(&str, Vec<u8>, Data); 6] = [
        ("READ (6)", vec![8, 0, 0, 0, 1, 0], Data::In(512)),
        ("READ (10)", vec![0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0], Data::In(512)),
        ("READ (16)", cdb16(0x88, 0, 0, 1), Data::In(512)),
        ("VERIFY (10)", vec![0x2F, 0, 0, 0, 0, 0, 0, 0, 1, 0], Data::None),
        ("VERIFY (16)", cdb16(0x8F, 0, 0, 1), Data::None),
        ("PRE-FETCH (16)", cdb16(0x90, 0, 0, 1), Data::None),
    ];
    let mut wrong = BTreeSet::new();
    for kind in KINDS {
        holder.reserve(0xA, kind).await?;
        let exclusive = matches!(kind, 3 | 6 | 8);
        for (name, cdb, data) in &reads {
            let answer = stranger.run(cdb, data.clone()).await?;
            if (answer == CONFLICT) != exclusive {
                wrong.insert(format!("{name} under type {kind}"));
            }
        }
        holder.reserve_out(RELEASE, kind, (0xA, 0), false).await?;
    }
    Ok(Found::unless(wrong.into_iter().collect(), "36 of 36 as the type says"))
}
