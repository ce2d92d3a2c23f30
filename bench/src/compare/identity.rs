//! Cases 5, 6, 8, 10 and 11: who is who, and who holds.

use std::time::Instant;

use anyhow::Result;

use super::client::{
    ALL_REGISTRANTS, BLOCK, CONFLICT, GOOD, PREEMPT, REGISTER, REGISTRANTS_ONLY, RELEASE,
    WRITE_EXCLUSIVE, name,
};
use super::{Found, World};

/// Case 5.
pub(super) async fn the_same_port_comes_back(world: &World) -> Result<Found> {
    let first = world.login(1, 1).await?;
    first.register(0xA).await?;
    first.reserve(0xA, WRITE_EXCLUSIVE).await?;
    first.logout().await?;
    // A target that goes by the time of login sees another second.
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    let again = world.login(1, 1).await?;
    let mut wrong = Vec::new();
    let answer = again.write(0, vec![1; BLOCK]).await?;
    if answer != GOOD {
        wrong.push(format!("the holder that logged in again gets {}", name(answer)));
    }
    let keys = again.keys().await?;
    if keys != [0xA] {
        wrong.push(format!("{} keys are registered", keys.len()));
    }
    let other = world.login(1, 2).await?;
    let answer = other.write(0, vec![2; BLOCK]).await?;
    if answer != CONFLICT {
        wrong.push(format!("another ISID of the same name gets {}", name(answer)));
    }
    Ok(Found::unless(wrong, "still registered and holder; another ISID is a stranger"))
}

/// Case 6.
pub(super) async fn two_ports_of_one_name(world: &World) -> Result<Found> {
    let (first, second) = (world.login(1, 1).await?, world.login(1, 2).await?);
    let holder = world.login(2, 1).await?;
    holder.register(0xB).await?;
    holder.reserve(0xB, REGISTRANTS_ONLY).await?;
    first.register(0xA).await?;
    let mut wrong = Vec::new();
    if second.write(0, vec![2; BLOCK]).await? != CONFLICT {
        wrong.push("the unregistered port may write");
    }
    second.register(0xA).await?;
    first.reserve_out(REGISTER, 0, (0xA, 0), false).await?;
    if first.write(0, vec![1; BLOCK]).await? != CONFLICT {
        wrong.push("the port that unregistered may still write");
    }
    if second.write(0, vec![2; BLOCK]).await? != GOOD {
        wrong.push("unregistering one took the other along");
    }
    let wrong = wrong.into_iter().map(str::to_owned).collect();
    Ok(Found::unless(wrong, "each port stands for itself"))
}

/// Case 8.
pub(super) async fn all_registrants(world: &World) -> Result<Found> {
    let (a, b, stranger) =
        (world.login(1, 1).await?, world.login(2, 1).await?, world.login(3, 1).await?);
    a.register(0xA).await?;
    b.register(0xB).await?;
    a.reserve(0xA, ALL_REGISTRANTS).await?;
    let mut wrong = Vec::new();
    if a.reservation().await? != Some((0, ALL_REGISTRANTS)) {
        wrong.push("READ RESERVATION does not show key 0");
    }
    a.reserve_out(REGISTER, 0, (0xA, 0), false).await?;
    b.attentions().await?;
    if stranger.write(0, vec![1; BLOCK]).await? != CONFLICT {
        wrong.push("no longer protected once the first leaves");
    }
    if b.write(0, vec![1; BLOCK]).await? != GOOD {
        wrong.push("the one that stays cannot write");
    }
    b.reserve_out(REGISTER, 0, (0xB, 0), false).await?;
    if stranger.reservation().await?.is_some() {
        wrong.push("the reservation outlives its last registrant");
    }
    let wrong = wrong.into_iter().map(str::to_owned).collect();
    Ok(Found::unless(wrong, "held until the last one leaves"))
}

/// Case 10.
pub(super) async fn types_that_count_and_types_that_do_not(world: &World) -> Result<Found> {
    let (a, b) = (world.login(1, 1).await?, world.login(2, 1).await?);
    a.register(0xA).await?;
    b.register(0xB).await?;
    a.reserve(0xA, REGISTRANTS_ONLY).await?;
    let mut wrong = Vec::new();
    let answer = a.reserve_out(RELEASE, WRITE_EXCLUSIVE, (0xA, 0), false).await?;
    if answer != (2, 5, 0x26, 0x04) {
        wrong.push(format!("RELEASE with another type: {}", name(answer)));
    }
    let answer = a.reserve_out(PREEMPT, 0, (0xA, 0xB), false).await?;
    if answer != GOOD {
        wrong.push(format!("PREEMPT of a registrant with type 0: {}", name(answer)));
    }
    Ok(Found::unless(wrong, "RELEASE is refused with 26h/04h, PREEMPT is done"))
}

/// Case 11.
pub(super) async fn sixteen_at_once(world: &World) -> Result<Found> {
    let mut paths = Vec::new();
    for port in 1..=16 {
        paths.push(world.login(1, port).await?);
    }
    let begun = Instant::now();
    let mut lanes = tokio::task::JoinSet::new();
    for path in paths.clone() {
        lanes.spawn(async move { path.register(0xA).await });
    }
    while let Some(ended) = lanes.join_next().await {
        ended??;
    }
    let took_ms = begun.elapsed().as_secs_f64() * 1e3;
    let count = paths[0].keys().await?.len();
    Ok(Found::new(count == 16, format!("{count} registered after {took_ms:.1} ms")))
}
