//! Trees of a fake node on their way to another one.

use std::time::Duration;

use model::id::{PoolId, SnapshotId, VolumeId};
use model::order::OrderError;
use model::size::ByteSize;

use super::FakeNode;

/// A tree on its way.
#[derive(serde::Serialize, serde::Deserialize)]
struct Stream {
    size: ByteSize,
    tree: u64,
    snapshots: Vec<SnapshotId>,
}

impl FakeNode {
    pub(super) async fn carry_out(&self, volume: VolumeId) -> Result<control::Pieces, OrderError> {
        self.lock().sent.push("Carry");
        while self.lock().stalled.contains("Carry") {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let mut state = self.lock();
        if let Some(error) = state.failing.get("Carry") {
            return Err(error.clone());
        }
        let served = state.exports.contains_key(&volume);
        state.must(!served, format!("{volume} carried while it is served"));
        let missing = || OrderError::Missing { what: format!("file volume {volume}") };
        let (_, size) = *state.volumes.get(&volume).ok_or_else(missing)?;
        state.carried.insert(volume);
        let own = state.snapshots.iter().filter(|(_, of)| **of == volume);
        let stream = Stream {
            size,
            tree: state.trees.get(&volume).copied().unwrap_or_default(),
            snapshots: own.map(|(snapshot, _)| *snapshot).collect(),
        };
        let bytes = serde_json::to_vec(&stream).expect("it is JSON");
        let breaks = state.failing.contains_key("CarryBreaks");
        let (send, pieces) = tokio::sync::mpsc::channel(2);
        let half = bytes.len() / 2;
        send.try_send(Ok(bytes[..half].to_vec().into())).expect("room for two");
        let last = match breaks {
            true => Err(std::io::Error::other("a disk cannot be read")),
            false => Ok(bytes[half..].to_vec().into()),
        };
        send.try_send(last).expect("room for two");
        Ok(pieces)
    }

    pub(super) async fn take_in(
        &self,
        volume: VolumeId,
        pool: PoolId,
        mut from: control::Pieces,
    ) -> Result<model::order::Carried, OrderError> {
        self.lock().sent.push("Receive");
        let mut all = Vec::new();
        while let Some(piece) = from.recv().await {
            let broken = |why: std::io::Error| OrderError::Failed { why: why.to_string() };
            all.extend_from_slice(&piece.map_err(broken)?);
        }
        while self.lock().stalled.contains("Receive") {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let mut state = self.lock();
        if let Some(error) = state.failing.get("Receive") {
            return Err(error.clone());
        }
        let cut = |why: serde_json::Error| OrderError::Failed { why: why.to_string() };
        let stream: Stream = serde_json::from_slice(&all).map_err(cut)?;
        if !state.open.contains(&pool) {
            return Err(OrderError::Missing { what: format!("pool {pool}") });
        }
        if state.volumes.contains_key(&volume) {
            return Err(OrderError::Refused { why: "it is there already".to_owned() });
        }
        state.volumes.insert(volume, (pool, stream.size));
        state.trees.insert(volume, stream.tree);
        state.gone.remove(&volume.0);
        state.snapshots.extend(stream.snapshots.iter().map(|snapshot| (*snapshot, volume)));
        let key = "Received".to_owned() + &volume.to_string();
        if state.loses_every_first_report && state.seen.insert(key) {
            return Err(OrderError::Unreachable { why: "the report got lost".to_owned() });
        }
        let snapshots = stream.snapshots.len() as u64;
        Ok(model::order::Carried { size: stream.size, entries: 1, bytes: 8, snapshots })
    }
}
