//! From a volume to the stream.

use std::io::Write;

use model::file::{Attributes, FileError, FileId, FileKind};
use model::size::ByteSize;
use rustix::fs::fgetxattr;
use rustix::io::Errno;

use super::note::Note;
use super::stream::{Digested, End, Frames, Manifest, Snapshot, broken, put};
use crate::archive::{self, ArchiveError, Figures};
use crate::error::StoreError;
use crate::files::errno::refused;
use crate::files::ids::LIVING;
use crate::files::names::{VERIFIER, VERIFIER_BYTES};
use crate::files::record::VolumeRecord;
use crate::files::volume::{Inner, alone};
use crate::files::{Carried, FileVolume};
use crate::pool::locked;

/// What is told of each file on the way.
#[derive(Default)]
struct Seen {
    change: u64,
    figures: Figures,
}

pub(super) fn failed(error: ArchiveError) -> StoreError {
    match error {
        ArchiveError::Stream(why) => broken(why),
        other => StoreError::refused(other.to_string()),
    }
}

/// # Errors
/// `Refused` when something was left out.
pub(super) fn all(figures: Figures) -> Result<Figures, StoreError> {
    if figures.skipped == 0 {
        return Ok(figures);
    }
    let why = format!(
        "{} files or attributes cannot go along: extended attributes of one file with more than 8 \
         MiB, or of a kind that the other file system has not",
        figures.skipped
    );
    Err(StoreError::refused(why))
}

pub(super) fn carried(manifest: &Manifest, figures: Figures) -> Carried {
    let Figures { entries, bytes, .. } = figures;
    let snapshots = manifest.snapshots.len() as u64;
    Carried { size: ByteSize(manifest.size_bytes), entries, bytes, snapshots }
}

impl FileVolume {
    /// Writes the whole volume with its snapshots as a stream that [`super::super::FilePool::receive`]
    /// takes. `secret` is what the node signs handles with: that of volumes which have none of their
    /// own. Changes of the volume wait meanwhile; who sees to it that it is not served keeps it as
    /// it was.
    ///
    /// # Errors
    /// `Refused` when something cannot go along; `Io`, also that of the stream.
    pub fn carry<W: Write>(&self, secret: &[u8; 32], to: W) -> Result<(Carried, W), StoreError> {
        let inner = &*self.0;
        let record = locked(&inner.record);
        let _changes = alone(&inner.changes);
        let manifest = manifest(self, &record, secret)?;
        let mut to = Digested::new(to);
        put(&manifest, &mut to).map_err(broken)?;
        let mut seen = Seen::default();
        for tree in manifest.trees() {
            let top = inner.ids.root(if tree == record.living { LIVING } else { tree });
            self.tree_to(tree, top, &mut seen, &mut to)?;
        }
        let Figures { entries, bytes, .. } = all(seen.figures)?;
        let end = End { entries, bytes, change: seen.change, digest: to.digest() };
        put(&end, &mut to).and_then(|()| to.flush()).map_err(broken)?;
        Ok((carried(&manifest, seen.figures), to.stream))
    }

    fn tree_to(
        &self,
        tree: u32,
        top: FileId,
        seen: &mut Seen,
        to: &mut impl Write,
    ) -> Result<(), StoreError> {
        let change = &mut seen.change;
        let mut note = |of: &Attributes| {
            *change = of.change.max(*change);
            let verifier =
                if of.kind == FileKind::Regular { self.0.verifier_of(of.file)? } else { None };
            Ok(Note { id: of.file, accessed: of.accessed, verifier }.encode())
        };
        let frames = Frames::begin(tree, to).map_err(broken)?;
        let written = archive::write_noted(self, top, frames, &mut note);
        let (figures, frames) = written.map_err(failed)?;
        frames.end().map_err(broken)?;
        seen.figures.entries += figures.entries;
        seen.figures.bytes += figures.bytes;
        seen.figures.skipped += figures.skipped;
        Ok(())
    }
}

fn manifest(
    volume: &FileVolume,
    record: &VolumeRecord,
    secret: &[u8; 32],
) -> Result<Manifest, StoreError> {
    if record.moves == u16::MAX {
        return Err(StoreError::refused("the volume has moved as often as a volume can"));
    }
    let snapshot = |one: &crate::files::record::SnapshotRecord| Snapshot {
        id: one.id,
        tree: one.tree,
        name: one.name.clone(),
    };
    Ok(Manifest {
        volume: volume.id(),
        size_bytes: record.size_bytes,
        relaxed: record.relaxed,
        root_key: record.root_key,
        secret: record.secret.unwrap_or(*secret),
        moves: record.moves,
        living: record.living,
        next_tree: record.next_tree,
        snapshots: record.snapshots.iter().map(snapshot).collect(),
    })
}

impl Inner {
    /// What an exclusive creation has left at a file.
    fn verifier_of(&self, file: FileId) -> Result<Option<[u8; VERIFIER_BYTES]>, FileError> {
        let op = self.reading()?;
        let file = op.file(file)?;
        let mut held = [0; VERIFIER_BYTES];
        match fgetxattr(&file.fd, VERIFIER, &mut held[..]) {
            Ok(VERIFIER_BYTES) => Ok(Some(held)),
            Ok(_) | Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
            Err(errno) => Err(refused(errno)),
        }
    }
}
