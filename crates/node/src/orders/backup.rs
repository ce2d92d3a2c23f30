//! Backup and restore: the tree of a file volume as a stream, and back.
//!
//! ```text
//!  tree -> tar -> zstd -> pieces in a queue of a few -> whoever takes them
//! ```
//!
//! Who takes too slowly holds up the thread that reads the tree, and nothing else; not the end of
//! the node either.

use std::io::{self, Read, Write};

use bytes::{Buf, Bytes, BytesMut};
use model::file::{Acls, Caller, FileId, FileStore};
use model::id::VolumeId;
use model::order::OrderError;
use store::StoreError;
use store::archive::{self, ArchiveError};
use store::files::FileVolume;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

use super::Orders;
use super::files::blocking;

/// A stream of pieces; one that breaks off says why.
pub type Pieces = mpsc::Receiver<io::Result<Bytes>>;

/// Bytes of a piece, and pieces on their way.
const PIECE_BYTES: usize = 256 << 10;
pub(super) const PIECES_MAX: usize = 8;
/// A little more than the fastest, for a good part of what the slow ones gain.
pub(super) const LEVEL: i32 = 3;

impl Orders {
    /// The tree of a volume, or of one of its snapshots by name, as a tar.zst stream.
    pub(crate) async fn backup_tree(
        &self,
        volume: VolumeId,
        snapshot: Option<String>,
    ) -> Result<Pieces, OrderError> {
        let volume = self.file_volume(volume).await?;
        let (tree, wanted) = (volume.clone(), snapshot);
        let top = blocking(move || top(&tree, wanted.as_deref())).await?;
        let (pieces, taken) = mpsc::channel(PIECES_MAX);
        let ending = self.state.shared.ending.clone();
        tokio::task::spawn_blocking(move || {
            let sink = Sink::new(pieces.clone(), ending.clone());
            if let Err(error) = write_all(&volume, top, sink) {
                tracing::warn!(volume = %volume.id(), %error, "a backup broke off");
                // Whoever is gone has no use for the reason.
                let _ = send(&pieces, &ending, Err(io::Error::other(error)));
            }
        });
        Ok(taken)
    }

    /// Fills an empty volume from such a stream.
    pub(crate) async fn restore_tree(
        &self,
        volume: VolumeId,
        acls: Acls,
        from: Pieces,
    ) -> Result<(), OrderError> {
        let volume = self.file_volume(volume).await?;
        let source = Source::new(from, self.state.shared.ending.clone());
        blocking(move || {
            is_empty(&volume)?;
            // Durable at the end, all together: a volume that is half restored is of no use.
            let read = volume.in_bulk(|| read_all(&volume, acls, source))?;
            read.map_err(|error| StoreError::Refused { why: error.to_string() })
        })
        .await
    }
}

fn write_all(volume: &FileVolume, top: FileId, sink: Sink) -> Result<(), ArchiveError> {
    let mut packed = zstd::Encoder::new(sink, LEVEL)?;
    packed.include_checksum(true)?;
    let (_, packed) = archive::write(volume, top, packed)?;
    packed.finish()?.flush()?;
    Ok(())
}

fn read_all(volume: &FileVolume, acls: Acls, source: Source) -> Result<(), ArchiveError> {
    let mut unpacked = zstd::Decoder::new(source)?;
    archive::read(volume, acls, &mut unpacked)?;
    // What is behind the archive's end is read, too: the checksum comes last.
    io::copy(&mut unpacked, &mut io::sink())?;
    Ok(())
}

fn root() -> Caller {
    Caller { uid: 0, gid: 0, gids: Vec::new() }
}

/// The directory that a backup is of.
fn top(volume: &FileVolume, snapshot: Option<&str>) -> Result<FileId, StoreError> {
    let Some(name) = snapshot else { return Ok(volume.root()) };
    let find = |within, name: &[u8]| volume.lookup(&root(), within, name).map(|found| found.file);
    let found = find(volume.root(), b".snapshots").and_then(|all| find(all, name.as_bytes()));
    found.map_err(|_| StoreError::Missing { what: format!("snapshot '{name}'") })
}

fn is_empty(volume: &FileVolume) -> Result<(), StoreError> {
    let found = volume.read_directory(&root(), volume.root(), 0, 2, false);
    let found = found.map_err(|why| StoreError::Refused { why: why.to_string() })?;
    if found.entries.iter().all(|entry| entry.name == b".snapshots"[..]) {
        return Ok(());
    }
    let why = "the volume is not empty: restore into a new one".to_owned();
    Err(StoreError::Refused { why })
}

/// Bytes go in, pieces come out.
pub(super) struct Sink {
    pieces: mpsc::Sender<io::Result<Bytes>>,
    piece: BytesMut,
    /// The node ends, and what runs does not hold it up.
    ending: watch::Receiver<bool>,
}

impl Sink {
    pub(super) fn new(
        pieces: mpsc::Sender<io::Result<Bytes>>,
        ending: watch::Receiver<bool>,
    ) -> Self {
        Self { pieces, piece: BytesMut::new(), ending }
    }
}

impl Write for Sink {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        // Much may come before a piece is full: zeros take next to nothing.
        go_on(&self.ending)?;
        self.piece.extend_from_slice(data);
        if self.piece.len() >= PIECE_BYTES {
            self.flush()?;
        }
        Ok(data.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = self.piece.split().freeze();
        send(&self.pieces, &self.ending, Ok(piece))
    }
}

/// Waits until there is room for it, and no longer than the node lives.
pub(super) fn send(
    pieces: &mpsc::Sender<io::Result<Bytes>>,
    ending: &watch::Receiver<bool>,
    piece: io::Result<Bytes>,
) -> io::Result<()> {
    let gone = |_| io::Error::new(io::ErrorKind::BrokenPipe, "nobody takes it any more");
    unless_it_ends(ending, async { pieces.send(piece).await.map_err(gone) })
}

/// Waits on a thread that may, until the node ends.
fn unless_it_ends<T>(
    ending: &watch::Receiver<bool>,
    work: impl Future<Output = io::Result<T>>,
) -> io::Result<T> {
    let mut ending = ending.clone();
    Handle::current().block_on(async {
        tokio::select! {
            biased;
            _ = ending.wait_for(|ends| *ends) => Err(ends()),
            done = work => done,
        }
    })
}

fn ends() -> io::Error {
    io::Error::other("the daemon stops")
}

/// Pieces go in, bytes come out.
pub(super) struct Source {
    pieces: Pieces,
    piece: Bytes,
    ending: watch::Receiver<bool>,
}

impl Source {
    pub(super) fn new(pieces: Pieces, ending: watch::Receiver<bool>) -> Self {
        Self { pieces, piece: Bytes::new(), ending }
    }
}

fn go_on(ending: &watch::Receiver<bool>) -> io::Result<()> {
    if *ending.borrow() { Err(ends()) } else { Ok(()) }
}

impl Read for Source {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            let pieces = &mut self.pieces;
            match unless_it_ends(&self.ending, async { Ok(pieces.recv().await) })? {
                Some(piece) => self.piece = piece?,
                None => return Ok(0),
            }
        }
        let count = to.len().min(self.piece.len());
        to[..count].copy_from_slice(&self.piece[..count]);
        self.piece.advance(count);
        Ok(count)
    }
}
