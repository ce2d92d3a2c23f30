//! Case 7, and what a target tells and keeps.

use anyhow::{Context, Result, ensure};

use super::client::{
    BLOCK, CONFLICT, Client, GOOD, REGISTER, REGISTRANTS_ONLY, answer_of, be64, name, out,
};
use super::{Found, World};
use crate::statistics::Dice;

/// Blocks that must outlive the kill.
const PROMISED: u8 = 200;
/// Sessions that count together, and how far each counts.
const COUNTERS: u8 = 16;
const COUNTS: u64 = 25;

/// Case 7: three registrants with APTPL and a reservation; kill -9; all is there again.
pub(super) async fn reservations_outlive_a_kill(world: &mut World) -> Result<Found> {
    for (host, key) in [(1, 0xA), (2, 0xB), (3, 0xC)] {
        let client = world.login(host, 1).await?;
        let answer = client.reserve_out(REGISTER, 0, (0, key), true).await?;
        if answer != GOOD {
            return Ok(Found::new(false, format!("REGISTER with APTPL: {}", name(answer))));
        }
        if host == 1 {
            client.reserve(key, REGISTRANTS_ONLY).await?;
        }
    }
    world.kill_and_restart()?;
    let (member, stranger) = (world.login(2, 1).await?, world.login(2, 9).await?);
    let (keys, held) = (member.keys().await?, member.reservation().await?);
    let refused = stranger.write(0, vec![1; BLOCK]).await? == CONFLICT;
    let serves = member.write(0, vec![1; BLOCK]).await? == GOOD;
    let told = format!(
        "{} of 3 registrations; reservation {}",
        keys.len(),
        match held {
            Some((_, kind)) => format!("of type {kind}"),
            None => "gone".to_owned(),
        }
    );
    let whole = keys == [0xA, 0xB, 0xC] && held == Some((0xA, REGISTRANTS_ONLY));
    Ok(Found::new(whole && refused && serves, told))
}

/// Writes with FUA outlive kill -9 of the process. It is no loss of power: the page cache stays.
pub(super) async fn writes_outlive_a_kill(world: &mut World) -> Result<Found> {
    let client = world.login(1, 1).await?;
    let mut dice = Dice(4711);
    let mut places: Vec<u64> = (0..PROMISED).map(|_| dice.below(100_000) as u64).collect();
    places.sort_unstable();
    places.dedup();
    let fill = |at: usize| u8::try_from(at % 251).unwrap_or(0) + 1;
    for (at, lba) in places.iter().enumerate() {
        let answer = client.write_durably(*lba, vec![fill(at); BLOCK]).await?;
        ensure!(answer == GOOD, "WRITE (16) with FUA: {}", name(answer));
    }
    world.kill_and_restart()?;
    let client = world.login(1, 1).await?;
    let mut lost = 0;
    for (at, lba) in places.iter().enumerate() {
        lost += usize::from(client.read(*lba, 1).await? != vec![fill(at); BLOCK]);
    }
    Ok(Found::new(lost == 0, format!("{lost} of {} blocks are lost", places.len())))
}

/// READ FULL STATUS: what a fencing agent needs to see who is there.
pub(super) async fn full_status(world: &World) -> Result<Found> {
    let (a, b) = (world.login(1, 1).await?, world.login(2, 1).await?);
    a.register(0xA).await?;
    b.register(0xB).await?;
    a.reserve(0xA, REGISTRANTS_ONLY).await?;
    let data = match a.reserve_in(3).await? {
        Ok(data) => data,
        Err(answer) => return Ok(Found::new(false, format!("refused: {}", name(answer)))),
    };
    let mut rest = data.get(8..).unwrap_or(&[]);
    let mut seen = Vec::new();
    while rest.len() >= 24 {
        let more = rest[20..24].first_chunk::<4>().map_or(0, |bytes| u32::from_be_bytes(*bytes));
        let end = 24 + usize::try_from(more)?;
        let identity = String::from_utf8_lossy(rest.get(24..end).unwrap_or(&[])).into_owned();
        seen.push((be64(rest), rest[12] & 1 == 1, identity.contains("iqn.")));
        rest = rest.get(end..).unwrap_or(&[]);
    }
    seen.sort_unstable();
    let whole = seen == [(0xA, true, true), (0xB, false, true)];
    Ok(Found::new(whole, format!("{} registrants with names and holder", seen.len())))
}

/// What REPORT CAPABILITIES promises (SPC-5 6.15.4).
pub(super) async fn capabilities(world: &World) -> Result<Found> {
    let client = world.login(1, 1).await?;
    let data = match client.reserve_in(2).await? {
        Ok(data) => data,
        Err(answer) => return Ok(Found::new(false, name(answer))),
    };
    let byte = *data.get(2).context("REPORT CAPABILITIES is short")?;
    let told = format!("PTPL_C={}, SIP_C={}, ATP_C={}", byte & 1, byte >> 3 & 1, byte >> 2 & 1);
    Ok(Found::new(byte & 0x0D == 0x0D, told))
}

/// Sixteen sessions count in one block with COMPARE AND WRITE: the sum is exact.
pub(super) async fn counters(world: &World) -> Result<Found> {
    let first = world.login(1, 1).await?;
    ensure!(first.write(0, vec![0; BLOCK]).await? == GOOD, "the first write");
    let mut lanes = tokio::task::JoinSet::new();
    for port in 1..=COUNTERS {
        let client = world.login(2, port).await?;
        lanes.spawn(count(client));
    }
    while let Some(ended) = lanes.join_next().await {
        if let Some(refused) = ended?? {
            return Ok(Found::new(false, format!("COMPARE AND WRITE: {refused}")));
        }
    }
    let sum = be64(&first.read(0, 1).await?);
    let wanted = u64::from(COUNTERS) * COUNTS;
    Ok(Found::new(sum == wanted, format!("{sum} of {wanted}")))
}

/// Count to the end; why not, when the target refuses.
async fn count(client: Client) -> Result<Option<String>> {
    let mut cdb = super::client::cdb16(0x89, 0, 0, 0);
    cdb[13] = 1;
    let mut done = 0;
    while done < COUNTS {
        let old = client.read(0, 1).await?;
        let mut both = old.clone();
        let mut new = vec![0; BLOCK];
        new[..8].copy_from_slice(&(be64(&old) + 1).to_be_bytes());
        both.extend_from_slice(&new);
        match answer_of(&client.outcome(&cdb, out(both)).await?)? {
            GOOD => done += 1,
            // MISCOMPARE: another one was faster.
            (2, 0x0E, ..) => {}
            other => return Ok(Some(name(other))),
        }
    }
    Ok(None)
}
