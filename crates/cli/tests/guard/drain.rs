//! How long PREEMPT AND ABORT takes while the victim has as many writes under way as it may.

use std::cell::Cell;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::stream::{FuturesUnordered, StreamExt};
use guard::wire::{self, Out};
use host::LogicalUnit;
use scsi::reservations::ReservationType;

use crate::stage::Stage;

/// Preempts in `cargo test`.
const ROUNDS: u64 = 6;
const IN_FLIGHT: u64 = 256;
/// Of each write: all of them together are the volume.
const BLOCKS: u64 = 8;
const TYPE: ReservationType = ReservationType::WriteExclusiveRegistrantsOnly;
const WINNER: u64 = 0xA;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

async fn reserve_out(unit: &LogicalUnit, action: Out, keys: (u64, u64)) {
    let (cdb, list) = wire::out(action, TYPE, keys, &[]);
    for _ in 0..8 {
        // What a host is told of earlier preempts comes first.
        let list = Bytes::from(list.clone());
        if unit.persistent_reserve_out(cdb[1], cdb[2], list).await.is_ok() {
            return;
        }
    }
    panic!("{action:?} is refused");
}

/// Every place of the volume is written again and again.
async fn write_for_ever(unit: &LogicalUnit, round: u8, fua: bool, under_way: &Cell<u64>) {
    let mut writes: FuturesUnordered<_> = (0..IN_FLIGHT)
        .map(|place| async move {
            let data = Bytes::from(vec![round; 4096]);
            loop {
                under_way.set(under_way.get() + 1);
                let written = unit.write(place * BLOCKS, data.clone(), fua).await;
                under_way.set(under_way.get() - 1);
                if written.is_err() {
                    tokio::task::yield_now().await;
                }
            }
        })
        .collect();
    let never: Option<()> = writes.next().await;
    unreachable!("{never:?}");
}

/// Milliseconds that the preempt took, and how many writes had no answer when it was sent.
async fn round(stage: &Stage, winner: &LogicalUnit, round: u64, fua: bool) -> (f64, u64) {
    let victim = stage.unit(1).await;
    let key = 0xB00 + round;
    reserve_out(&victim, Out::RegisterAndIgnore, (0, key)).await;
    let under_way = Cell::new(0);
    let mark = u8::try_from(round % 255).unwrap() + 1;
    let begun = Instant::now();
    let preempt = async {
        tokio::time::sleep(Duration::from_millis(20 + round * 7 % 40)).await;
        let (sent, writes) = (Instant::now(), under_way.get());
        reserve_out(winner, Out::PreemptAndAbort, (WINNER, key)).await;
        (sent.elapsed().as_secs_f64() * 1000.0, writes)
    };
    let took = tokio::select! {
        took = preempt => took,
        () = write_for_ever(&victim, mark, fua, &under_way) => unreachable!(),
    };
    let blocks = u32::try_from(IN_FLIGHT * BLOCKS).unwrap();
    let after = winner.read(0, blocks).await.unwrap();
    assert!(after.contains(&mark), "nothing was written within {:?}", begun.elapsed());
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert!(after == winner.read(0, blocks).await.unwrap(), "a write landed after GOOD");
    took
}

/// `COMMONHOLD_DRAINS` sets the preempts, `COMMONHOLD_DRAIN_P99_MS` what 99 of 100 may take.
#[test]
fn a_preempt_of_256_writes_under_way_is_answered_soon_and_none_lands_later() {
    let rounds = number("COMMONHOLD_DRAINS", ROUNDS);
    let limit_ms = number("COMMONHOLD_DRAIN_P99_MS", 5_000) as f64;
    let stage = Stage::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let winner = stage.unit(0).await;
        reserve_out(&winner, Out::RegisterAndIgnore, (0, WINNER)).await;
        reserve_out(&winner, Out::Reserve, (WINNER, 0)).await;
        for fua in [false, true] {
            let (mut took, mut least) = (Vec::new(), u64::MAX);
            for number in 0..rounds {
                let (ms, writes) = round(&stage, &winner, number, fua).await;
                took.push(ms);
                least = least.min(writes);
            }
            took.sort_unstable_by(f64::total_cmp);
            let at = |part: usize| took[(took.len() * part / 100).min(took.len() - 1)];
            let (median, p99, most) = (at(50), at(99), at(100));
            eprintln!(
                "{rounds} preempts, FUA {fua}, at least {least} writes under way: median {median:.1} \
                 ms, p99 {p99:.1} ms, most {most:.1} ms"
            );
            assert!(least > IN_FLIGHT / 2, "{least} writes were under way");
            assert!(p99 < limit_ms, "{took:?}");
        }
    });
}
