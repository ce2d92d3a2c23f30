//! What the two hosts do, one act after the other.

use std::time::Instant;

use api::attachment::CreatedAttachment;
use api::snapshot::CreateSnapshot;
use api::volume::ResizeVolume;
use bytes::Bytes;
use host::{Command, Data, HostError, Pending};
use model::size::ByteSize;

use super::keys::{Action, attention, attentions, is_conflict, reserve_out};
use super::{Demo, Guest, VOLUME, failed, holds, log_in, milliseconds, say};
use crate::failure::Failure;

const BLOCK_BYTES: usize = 512;
/// Increments by each host.
const INCREMENTS: u64 = 200;
/// Where the counter stands.
const COUNTER_LBA: u64 = 4096;
/// Writes that the loser has in flight when it is fenced.
const IN_FLIGHT: u64 = 64;
const ALPHA_KEY: u64 = 0xA1FA;
const BETA_KEY: u64 = 0xBE7A;

impl Demo {
    /// Each reads what the other wrote.
    pub(super) async fn share(&mut self, alpha: &Guest, beta: &Guest) -> Result<(), Failure> {
        for (lba, writer, reader) in [(0, alpha, beta), (8, beta, alpha)] {
            let text = format!("written by {}", writer.name);
            writer.unit.write(lba, block(&text), true).await.map_err(failed)?;
            let read = reader.unit.read(lba, 1).await.map_err(failed)?;
            holds(read == block(&text), "a host does not read what the other wrote")?;
        }
        say("alpha writes, beta reads it; beta writes, alpha reads it.")?;
        self.show("each host reads what the other wrote", "yes, byte for byte");
        Ok(())
    }

    /// Both count up in one block by COMPARE AND WRITE; nothing is lost.
    pub(super) async fn count(&mut self, alpha: &Guest, beta: &Guest) -> Result<(), Failure> {
        let zero = Bytes::from(vec![0; BLOCK_BYTES]);
        alpha.unit.write(COUNTER_LBA, zero, false).await.map_err(failed)?;
        let (first, second) = tokio::join!(count_up(alpha), count_up(beta));
        let misses = first? + second?;
        let sum = number(&alpha.unit.read(COUNTER_LBA, 1).await.map_err(failed)?);
        holds(sum == 2 * INCREMENTS, "COMPARE AND WRITE lost an increment")?;
        say(&format!(
            "Both count up in one block by COMPARE AND WRITE: {INCREMENTS} each make {sum} \
             ({misses} tries lost the race and were made again)."
        ))?;
        self.show("two writers count in one block", format!("{sum} of {sum}, exact"));
        Ok(())
    }

    /// A reservation for registrants only: both register, alpha reserves, both write.
    pub(super) async fn reserve(&mut self, alpha: &Guest, beta: &Guest) -> Result<(), Failure> {
        reserve_out(&alpha.unit, Action::Register, 0, ALPHA_KEY).await.map_err(failed)?;
        reserve_out(&alpha.unit, Action::Reserve, ALPHA_KEY, 0).await.map_err(failed)?;
        let stranger = beta.unit.write(16, block("a stranger"), false).await;
        holds(is_conflict(&stranger), "an unregistered host could write")?;
        reserve_out(&beta.unit, Action::Register, 0, BETA_KEY).await.map_err(failed)?;
        beta.unit.write(16, block("a registrant"), false).await.map_err(failed)?;
        say("alpha reserves the volume for registrants only (type 5, kept over power loss).\n\
             beta's write is refused until it has registered.")
    }

    /// beta takes the volume away from alpha, whose writes are on their way.
    pub(super) async fn fence(&mut self, alpha: &Guest, beta: &Guest) -> Result<(), Failure> {
        let mut running = Vec::new();
        for n in 0..IN_FLIGHT {
            let mut cdb = [0; 16];
            (cdb[0], cdb[13]) = (0x8A, 1);
            cdb[2..10].copy_from_slice(&(100 + n).to_be_bytes());
            let write = Command::new(0, &cdb, Data::Out(vec![block("late")]));
            running.push(alpha.session.start(write).await.map_err(failed)?);
        }
        let began = Instant::now();
        reserve_out(&beta.unit, Action::PreemptAndAbort, BETA_KEY, ALPHA_KEY)
            .await
            .map_err(failed)?;
        let took = began.elapsed();
        let mut told = attentions(&alpha.unit).await;
        // Those that were aborted get no answer (TAS is 0): nobody waits for them. One that came
        // later was told in the place of the next command.
        told.extend(running.iter_mut().filter_map(Pending::ended).filter_map(attention));
        holds(told.contains(&(0x2A, 0x05)), "alpha was not told that its registration is gone")?;
        let refused = alpha.unit.write(0, block("a ghost"), false).await;
        holds(is_conflict(&refused), "the fenced host could write")?;
        beta.unit.write(0, block("written by the survivor"), true).await.map_err(failed)?;
        let read = beta.unit.read(0, 1).await.map_err(failed)?;
        holds(read == block("written by the survivor"), "the survivor's write is not there")?;
        let took = milliseconds(took);
        say(&format!(
            "beta fences alpha by PREEMPT AND ABORT, with {IN_FLIGHT} of alpha's writes on their \
             way: GOOD after {took},\nwhen nothing of alpha can land any more. alpha's next write: \
             RESERVATION CONFLICT. beta goes on writing."
        ))?;
        self.show("a reservation fences the other host", took);
        self.show("the fenced host's next write", "RESERVATION CONFLICT");
        Ok(())
    }

    /// A snapshot, and more room, while the volume is in use.
    pub(super) async fn grow(&mut self, beta: &Guest) -> Result<(), Failure> {
        let snapshot = CreateSnapshot {
            volume: VOLUME.into(),
            name: "before-growth".into(),
            ..CreateSnapshot::default()
        };
        self.client.snapshot_create(&snapshot).await?;
        let size = ByteSize::gib(2);
        self.client.volume_resize(VOLUME, &ResizeVolume { size: size.into() }).await?;
        let grown = size.bytes() / BLOCK_BYTES as u64;
        let end = Instant::now() + std::time::Duration::from_secs(20);
        let mut told = Vec::new();
        while !told.contains(&(0x2A, 0x09)) && Instant::now() < end {
            told.extend(attentions(&beta.unit).await);
        }
        holds(told.contains(&(0x2A, 0x09)), "the host was not told that the volume grew")?;
        let data = beta.unit.run(&READ_CAPACITY_16, Data::In(32)).await.map_err(failed)?;
        let last = data.data.concat().first_chunk().map(|bytes| u64::from_be_bytes(*bytes));
        holds(last.is_some_and(|last| last + 1 == grown), "the host does not see the new size")?;
        say(&format!(
            "A snapshot is taken and the volume grows to {size} while beta uses it; beta is told."
        ))?;
        self.show("snapshot and growth while attached", format!("{size}, seen by the host"));
        Ok(())
    }

    /// The operator's way to the same end: the host is cut off and cannot come back.
    pub(super) async fn cut_off(
        &mut self,
        attached: &CreatedAttachment,
        alpha: &Guest,
        beta: &Guest,
    ) -> Result<(), Failure> {
        let began = Instant::now();
        self.client.attachment_fence(&attached.attachment.id.to_string()).await?;
        let took = milliseconds(began.elapsed());
        let gone = alpha.unit.test_unit_ready().await;
        holds(matches!(gone, Err(HostError::Lost(_))), "the fenced host's session is alive")?;
        let back = log_in(alpha.name, attached).await;
        holds(back.is_err(), "the fenced host could log in again")?;
        beta.unit.write(0, block("still here"), true).await.map_err(failed)?;
        say(&format!(
            "The operator fences alpha's attachment too: {took}; its session is closed and its \
             login refused."
        ))?;
        self.show("the operator fences an attachment", took);
        beta.session.logout().await.map_err(failed)
    }

    /// Who did what to the reservation.
    pub(super) async fn history(&mut self) -> Result<(), Failure> {
        let reservations = self.client.volume_reservations(VOLUME).await?;
        say("What the volume remembers of its reservations:")?;
        for change in reservations.history.iter().rev() {
            say(&format!("  {:<18} {}", change.action, change.what))?;
        }
        holds(!reservations.history.is_empty(), "the history is empty")
    }
}

const READ_CAPACITY_16: [u8; 16] = [0x9E, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0];

/// Count up so many times; gives how often the other was faster.
async fn count_up(guest: &Guest) -> Result<u64, Failure> {
    let mut misses = 0;
    for _ in 0..INCREMENTS {
        loop {
            let old = guest.unit.read(COUNTER_LBA, 1).await.map_err(failed)?;
            let mut new = old.to_vec();
            new[..8].copy_from_slice(&(number(&old) + 1).to_be_bytes());
            let mut cdb = [0; 16];
            (cdb[0], cdb[13]) = (0x89, 1);
            cdb[2..10].copy_from_slice(&COUNTER_LBA.to_be_bytes());
            match guest.unit.run(&cdb, Data::Out(vec![old, new.into()])).await {
                Ok(_) => break,
                // MISCOMPARE: the other was faster.
                Err(HostError::Status { key: 0x0E, .. }) => misses += 1,
                Err(why) => return Err(failed(why)),
            }
        }
    }
    Ok(misses)
}

fn number(block: &[u8]) -> u64 {
    block.first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

fn block(text: &str) -> Bytes {
    let mut block = text.as_bytes().to_vec();
    block.resize(BLOCK_BYTES, 0);
    block.into()
}
