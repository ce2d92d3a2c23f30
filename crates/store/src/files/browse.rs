//! The directory `.snapshots` in the root of the living tree: one read-only tree a snapshot.
//!
//! It is found by name, and in no listing of the root: so nobody copies, searches or removes all
//! snapshots together with his files by accident.

use bytes::Bytes;
use model::file::{Attributes, Entry, FileError, FileKind, FileResult, Listing};

use super::ids::LIVING;
use super::record::SnapshotRecord;
use super::volume::{Op, stat};
use crate::pool::locked;

const COOKIE_FIRST: u64 = 3;

impl Op<'_> {
    /// Who has `trees` must not wait for `record`, so what a browser needs of it is beside them.
    fn snapshots(&self) -> Vec<SnapshotRecord> {
        locked(&self.volume.browsed).clone()
    }

    pub(super) fn snapshots_attributes(&self) -> FileResult<Attributes> {
        let root = self.volume.seen(self.volume.ids.root(LIVING), &stat(&self.tree(LIVING)?.root)?);
        let snapshots = self.snapshots();
        // Numbers of trees only grow: a snapshot made, and one deleted, both show.
        let last = snapshots.last().map_or(0, |snapshot| u64::from(snapshot.tree));
        Ok(Attributes {
            file: self.volume.ids.snapshots(),
            kind: FileKind::Directory,
            mode: 0o555,
            links: 2 + u32::try_from(snapshots.len()).unwrap_or(0),
            uid: 0,
            gid: 0,
            size_bytes: 4096,
            used_bytes: 0,
            change: last << 32 | snapshots.len() as u64,
            ..root
        })
    }

    fn root_attributes(&self, tree: u32) -> FileResult<Attributes> {
        Ok(self.volume.seen(self.volume.ids.root(tree), &stat(&self.tree(tree)?.root)?))
    }

    pub(super) fn snapshot_root(&self, name: &[u8]) -> FileResult<Attributes> {
        let snapshots = self.snapshots();
        let found = snapshots.iter().find(|snapshot| snapshot.name.as_bytes() == name);
        self.root_attributes(found.ok_or(FileError::NotFound)?.tree)
    }

    pub(super) fn list_snapshots(
        &self,
        after: u64,
        entries_max: usize,
        with_attributes: bool,
    ) -> FileResult<Listing> {
        let snapshots = self.snapshots();
        let behind = |snapshot: &&SnapshotRecord| u64::from(snapshot.tree) + COOKIE_FIRST > after;
        let mut rest = snapshots.iter().filter(behind);
        let entry = |snapshot: &SnapshotRecord| Entry {
            name: Bytes::copy_from_slice(snapshot.name.as_bytes()),
            cookie: u64::from(snapshot.tree) + COOKIE_FIRST,
            file: self.volume.ids.root(snapshot.tree),
            attributes: self.root_attributes(snapshot.tree).ok().filter(|_| with_attributes),
        };
        let entries = rest.by_ref().take(entries_max).map(entry).collect();
        Ok(Listing { entries, end: rest.next().is_none() })
    }
}
