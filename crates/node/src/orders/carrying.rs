//! A file volume on its way to another pool: out of this node as a stream, and into it.
//!
//! ```text
//!  volume -> store's stream -> zstd -> pieces -> zstd -> store's stream -> volume
//! ```
//!
//! The stream is docs/formats/files.md's, and holds secrets of the volume.
//!
//! Invariant: what was carried out is what the volume holds for as long as it is held. It is held
//! before the first byte is read and when the last one is sent, and an order to serve it waits in
//! between, for it takes the volume's turn.

use std::io::{self, Write};
use std::sync::Arc;

use model::id::{PoolId, VolumeId};
use model::order::{Carried, OrderError};
use store::StoreError;
use store::files::FilePool;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::Orders;
use super::backup::{LEVEL, PIECES_MAX, Pieces, Sink, Source, send};
use super::files::blocking;

impl Orders {
    /// The whole volume as a stream. What goes wrong on the way is in the stream.
    pub(crate) async fn carry_files(
        &self,
        volume: VolumeId,
        pool: PoolId,
    ) -> Result<Pieces, OrderError> {
        let state = Arc::clone(&self.state);
        let turn = state.shared_turn(volume).await;
        state.refuse_unless_held(volume).await?;
        let secret = self.service_secret().await?;
        let store = state.files.must_have(pool)?;
        let opened = blocking(move || store.volume(volume)).await?;
        let (pieces, taken) = mpsc::channel(PIECES_MAX);
        let ending = state.shared.ending.clone();
        tokio::task::spawn_blocking(move || {
            let sink = Sink::new(pieces.clone(), ending.clone());
            let carry = || -> Result<Carried, StoreError> {
                let io = |source| StoreError::Io { what: "the stream".to_owned(), source };
                let mut packed = zstd::Encoder::new(sink, LEVEL).map_err(io)?;
                packed.include_checksum(true).map_err(io)?;
                let (carried, packed) = opened.carry(&secret, packed)?;
                // What is not sent yet makes it whole.
                let held = Handle::current().block_on(state.refuse_unless_held(volume));
                held.map_err(|why| StoreError::Refused { why: why.to_string() })?;
                packed.finish().and_then(|mut sink| sink.flush()).map_err(io)?;
                Ok(carried)
            };
            match carry() {
                Ok(carried) => tracing::info!(%volume, ?carried, "a file volume was carried out"),
                Err(error) => {
                    tracing::warn!(%volume, %error, "a file volume was not carried out");
                    // Whoever is gone has no use for the reason.
                    let _ = send(&pieces, &ending, Err(io::Error::other(error)));
                }
            }
            drop(turn);
        });
        Ok(taken)
    }

    /// Makes a volume of such a stream: whole and durable, or not at all.
    pub(crate) async fn receive_files(
        &self,
        volume: VolumeId,
        pool: PoolId,
        from: Pieces,
    ) -> Result<Carried, OrderError> {
        let state = &self.state;
        let _turn = state.turn(volume).await;
        let store = state.files.must_have(pool)?;
        let ending = state.shared.ending.clone();
        let carried = blocking(move || receive(&store, volume, Source::new(from, ending))).await?;
        tracing::info!(%volume, ?carried, "a file volume was received");
        Ok(carried)
    }
}

fn receive(store: &FilePool, volume: VolumeId, from: Source) -> Result<Carried, StoreError> {
    let io = |source| StoreError::Io { what: "the stream".to_owned(), source };
    store.receive(volume, zstd::Decoder::new(from).map_err(io)?)
}
