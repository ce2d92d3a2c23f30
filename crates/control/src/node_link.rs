//! How the control plane reaches its storage node.
//!
//! Invariant: an order may be sent again at any time; the node converges (`model::order`).

use std::collections::HashMap;

use async_trait::async_trait;
use bytes::Bytes;
use model::export::{ConnectedClient, FileUsage};
use model::file::Acls;
use model::id::{OperationId, PoolId, VolumeId};
use model::node::{Binary, Heard, NodeReport, NoticeMark};
use model::order::{
    Carried, Found, ImageFormat, Order, OrderError, PoolUsage, Report, ReservationView,
    SnapshotUsage,
};
use model::size::ByteSize;
use tokio::sync::mpsc;

/// A stream of pieces; one that breaks off says why.
pub type Pieces = mpsc::Receiver<std::io::Result<Bytes>>;

/// A storage node, near or far. The real one is glued in by `serve`; tests have a fake.
#[async_trait]
pub trait NodeLink: Send + Sync {
    /// Carry out one idempotent step and say what came of it. Image orders take long.
    ///
    /// # Errors
    /// See [`OrderError`]; `Unreachable` and `Failed` are tried again.
    async fn order(&self, order: Order) -> Result<Report, OrderError>;

    /// What the node says of itself.
    ///
    /// # Errors
    /// The node cannot be reached.
    async fn node(&self) -> Result<NodeReport, OrderError>;

    /// What it saw by itself behind this mark; waits a while for the next where there is nothing.
    /// One in the control plane's process tells it otherwise, and never answers.
    ///
    /// # Errors
    /// The node cannot be reached.
    async fn notices(&self, _after: NoticeMark) -> Result<Heard, OrderError> {
        std::future::pending().await
    }

    /// How many clients have each file volume mounted; those of none may be left out.
    ///
    /// # Errors
    /// The node cannot be reached.
    async fn client_counts(&self) -> Result<HashMap<VolumeId, u64>, OrderError>;

    /// Start the file service anew, unless that has been done since the start of that number; gives
    /// the number of the start that serves then. Asked again, it converges as an order does.
    ///
    /// # Errors
    /// The node cannot be reached, has no such service, or cannot begin it.
    async fn restart_files(&self, after: u32) -> Result<u32, OrderError>;

    /// Look at a binary of the node, by default that of the running one: does it run, what is it.
    /// One that lies in one of these directories is none.
    ///
    /// # Errors
    /// The node cannot be reached; `Refused`, with the reason.
    async fn check_binary(
        &self,
        binary: Option<String>,
        kept_out: Vec<String>,
    ) -> Result<Binary, OrderError>;

    /// Have the node's daemon go on with this binary, which was looked at. It is answered when that
    /// is about to begin; how it has ended, the next start says ([`crate::Control::upgraded`]).
    ///
    /// # Errors
    /// The node cannot be reached, or ends already.
    async fn upgrade(&self, operation: OperationId, binary: String) -> Result<(), OrderError>;

    /// All open pools.
    ///
    /// # Errors
    /// The node cannot be reached.
    async fn pool_usage(&self) -> Result<Vec<PoolUsage>, OrderError>;

    /// What lies on the volume: file systems, partition tables, LVM.
    ///
    /// # Errors
    /// The node cannot be reached, or does not have the volume.
    async fn probe(&self, volume: VolumeId) -> Result<Vec<Found>, OrderError>;

    /// Bytes that a volume needs to take in the image file, in whole blocks.
    ///
    /// # Errors
    /// The node cannot be reached; `BadImage` where the file is no image that it can read.
    async fn image_size(&self, path: String, format: ImageFormat) -> Result<ByteSize, OrderError>;

    /// How full a file volume is.
    ///
    /// # Errors
    /// The node cannot be reached, or does not have the volume.
    async fn file_usage(&self, volume: VolumeId) -> Result<FileUsage, OrderError>;

    /// Who has a file volume mounted.
    ///
    /// # Errors
    /// The node cannot be reached, or does not have the volume.
    async fn file_clients(&self, volume: VolumeId) -> Result<Vec<ConnectedClient>, OrderError>;

    /// What each snapshot of a file volume holds for itself.
    ///
    /// # Errors
    /// The node cannot be reached, or does not have the volume.
    async fn snapshot_usage(&self, volume: VolumeId) -> Result<Vec<SnapshotUsage>, OrderError>;

    /// The tree of a file volume, or of one of its snapshots by name, as a tar.zst stream. What
    /// goes wrong while it runs is in the stream.
    ///
    /// # Errors
    /// The node cannot be reached, or does not have the volume.
    async fn backup(
        &self,
        volume: VolumeId,
        snapshot: Option<String>,
    ) -> Result<Pieces, OrderError>;

    /// Fill an empty file volume from such a stream.
    ///
    /// # Errors
    /// The node cannot be reached; `Refused`, with the reason: the volume is not empty, the stream
    /// is no archive or breaks off, holds a list that cannot be kept, or there is no room.
    async fn restore(&self, volume: VolumeId, acls: Acls, from: Pieces) -> Result<(), OrderError>;

    /// A whole file volume as a carried stream (docs/formats/files.md), for [`Self::receive`] of
    /// the node that it moves to: the living tree, its snapshots, and what keeps the handles good
    /// that clients hold. It must not be served: [`Order::Hold`] keeps its clients waiting. Nothing
    /// of it changes here, so that a move that fails is undone by `Export`. What goes wrong while it
    /// runs is in the stream.
    ///
    /// The stream holds secrets of the volume: it goes from node to node, and is shown to nobody.
    ///
    /// # Errors
    /// The node cannot be reached, or does not have the volume in this pool; `Refused` while it is
    /// served.
    async fn carry(&self, volume: VolumeId, pool: PoolId) -> Result<Pieces, OrderError>;

    /// Make a file volume of such a stream, in a pool that does not have it: whole, verified and
    /// durable, or not at all, whatever breaks off. Nothing of it is served before `Export`, which
    /// must not be ordered while any other node may serve the volume. It has the size, durability,
    /// snapshots, handles and file ids that it had; its clients' opens and locks do not go along.
    ///
    /// Not idempotent: a volume that is in the pool already is refused, since it may be of an
    /// earlier try. Whoever lost the answer deletes it here and carries it anew.
    ///
    /// # Errors
    /// The node cannot be reached; `Refused`, with the reason; `Failed` where the stream breaks off.
    async fn receive(
        &self,
        volume: VolumeId,
        pool: PoolId,
        from: Pieces,
    ) -> Result<Carried, OrderError>;

    /// The volume's reservation state.
    ///
    /// # Errors
    /// The node cannot be reached, or does not have the volume.
    async fn reservations(&self, volume: VolumeId) -> Result<ReservationView, OrderError>;

    /// Bytes done and bytes in all of the long work on this volume; `None` when none runs.
    ///
    /// # Errors
    /// The node cannot be reached.
    async fn progress(&self, volume: VolumeId) -> Result<Option<(u64, u64)>, OrderError>;

    /// End the long work on this volume soon: its order answers [`OrderError::Cancelled`].
    /// Nothing runs: success.
    ///
    /// # Errors
    /// The node cannot be reached.
    async fn cancel(&self, volume: VolumeId) -> Result<(), OrderError>;
}
