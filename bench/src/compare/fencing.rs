//! Cases 1, 2 and 3: what PREEMPT AND ABORT promises.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Result, ensure};

use super::client::{
    Answer, BLOCK, CONFLICT, Client, GOOD, PREEMPT_AND_ABORT, REGISTRANTS_ONLY, answer, name,
};
use super::{Found, World};

/// Commands of the victim in flight.
const LANES: u64 = 64;
/// Where the victim writes, and how often a lane has a place of its own.
const BLOCKS: u32 = 64;

/// A holds a reservation of type 5, B is registered.
async fn two(world: &World) -> Result<(Client, Client)> {
    let (a, b) = (world.login(1, 1).await?, world.login(2, 1).await?);
    a.register(0xA).await?;
    b.register(0xB).await?;
    a.reserve(0xA, REGISTRANTS_ONLY).await?;
    Ok((a, b))
}

async fn fence(by: &Client) -> Result<Answer> {
    by.reserve_out(PREEMPT_AND_ABORT, REGISTRANTS_ONLY, (0xA, 0xB), false).await
}

/// The target has no fence that could be asked for.
fn refused(answer: Answer) -> Found {
    Found::new(false, format!("PREEMPT AND ABORT is refused: {}", name(answer)))
}

/// Write ever new bytes to a lane's block; how many were answered GOOD, and any other answers.
async fn stream(client: Client, lane: u64, go: Arc<AtomicBool>, good: Arc<AtomicU64>) -> Answer {
    let mut fill = 0_u8;
    while go.load(Ordering::Relaxed) {
        fill = fill.wrapping_add(1);
        match client.write(lane, vec![fill; BLOCK]).await {
            Ok(GOOD) => good.fetch_add(1, Ordering::Relaxed),
            Ok(other) => return other,
            // Aborted without an answer, as TAS=0 wants it.
            Err(_) => return CONFLICT,
        };
    }
    GOOD
}

/// Case 1, without holding the backend: the medium stands still from the answer on.
pub(super) async fn nothing_lands_after_the_fence(world: &World) -> Result<Found> {
    let (a, b) = two(world).await?;
    let (go, good) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU64::new(0)));
    let mut lanes = tokio::task::JoinSet::new();
    for lane in 0..LANES {
        lanes.spawn(stream(b.clone(), lane, Arc::clone(&go), Arc::clone(&good)));
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let fenced = fence(&a).await?;
    let at_once = a.read(0, BLOCKS).await?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let later = a.read(0, BLOCKS).await?;
    go.store(false, Ordering::Relaxed);
    if fenced != GOOD {
        return Ok(refused(fenced));
    }
    ensure!(good.load(Ordering::Relaxed) > LANES, "the victim wrote too little to tell");
    let still = at_once == later;
    let told = format!(
        "the victim had {} writes answered before; the medium {} afterwards",
        good.load(Ordering::Relaxed),
        if still { "stands still" } else { "changes" }
    );
    Ok(Found::new(still, told))
}

/// Case 2: data that comes after the fence is dropped.
pub(super) async fn late_data_is_dropped(world: &World) -> Result<Found> {
    let (a, b) = two(world).await?;
    ensure!(a.write(0, vec![0x11; BLOCK]).await? == GOOD, "the first write");
    let pending = b.start_write_without_data(0, 0xBB).await?;
    let fenced = fence(&a).await?;
    // Both errors mean that the session is gone, which drops the data as well.
    let _ = pending.release().await;
    let _ = b.settle().await;
    let late = answer(pending).await;
    let block = a.read(0, 1).await?;
    if fenced != GOOD {
        return Ok(refused(fenced));
    }
    let dropped = block == [0x11; BLOCK];
    let late = match late {
        Ok(Some(answer)) => name(answer),
        Ok(None) => "no answer".to_owned(),
        Err(_) => "a closed session".to_owned(),
    };
    let told =
        format!("the block {}; the victim gets {late}", if dropped { "stays" } else { "changes" });
    Ok(Found::new(dropped && late != "GOOD", told))
}

/// Case 3: a registrant beside the victim is not disturbed.
pub(super) async fn others_go_on(world: &World) -> Result<Found> {
    let (a, _b) = two(world).await?;
    let c = world.login(3, 1).await?;
    c.register(0xC).await?;
    let (go, good) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU64::new(0)));
    let mut lanes = tokio::task::JoinSet::new();
    for lane in 0..LANES {
        lanes.spawn(stream(c.clone(), lane, Arc::clone(&go), Arc::clone(&good)));
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    let fenced = fence(&a).await?;
    let before = good.load(Ordering::Relaxed);
    tokio::time::sleep(Duration::from_millis(200)).await;
    go.store(false, Ordering::Relaxed);
    let mut disturbed = Vec::new();
    while let Some(ended) = lanes.join_next().await {
        disturbed.extend(Some(ended?).filter(|answer| *answer != GOOD));
    }
    if fenced != GOOD {
        return Ok(refused(fenced));
    }
    let went_on = good.load(Ordering::Relaxed) > before;
    let told = match disturbed.first() {
        Some(answer) => format!("{} commands end with {}", disturbed.len(), name(*answer)),
        None => format!("all {} of its writes are GOOD", good.load(Ordering::Relaxed)),
    };
    Ok(Found::new(disturbed.is_empty() && went_on, told))
}
