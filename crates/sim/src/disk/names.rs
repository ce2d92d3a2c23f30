//! Directories: names as they are, as they are durable, and the changes between.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use rand::rngs::StdRng;

/// Names that one change sets (to a file) or removes. A crash keeps all of a change or nothing.
type Change = Vec<(PathBuf, Option<i32>)>;

#[derive(Default)]
pub(super) struct Names {
    now: BTreeMap<PathBuf, i32>,
    durable: BTreeMap<PathBuf, i32>,
    unsynced: Vec<Change>,
    /// Directories are durable at once: the store makes them once, and syncs.
    directories: BTreeSet<PathBuf>,
}

fn apply(names: &mut BTreeMap<PathBuf, i32>, change: &Change) {
    for (path, file) in change {
        match file {
            Some(file) => names.insert(path.clone(), *file),
            None => names.remove(path),
        };
    }
}

impl Names {
    pub(super) fn find(&self, path: &Path) -> Option<i32> {
        self.now.get(path).copied()
    }
    /// Files that have a name.
    pub(super) fn linked(&self) -> impl Iterator<Item = i32> + '_ {
        self.now.values().copied()
    }
    pub(super) fn create_dir(&mut self, path: &Path) {
        self.directories.extend(path.ancestors().map(Path::to_owned));
    }
    pub(super) fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        if !self.directories.contains(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let inside = self.now.keys().filter(|name| name.parent() == Some(path));
        Ok(inside.filter_map(|name| name.file_name().map(PathBuf::from)).collect())
    }
    fn change(&mut self, change: Change) {
        apply(&mut self.now, &change);
        self.unsynced.push(change);
    }
    pub(super) fn link(&mut self, path: &Path, file: i32) -> io::Result<()> {
        if !path.parent().is_some_and(|parent| self.directories.contains(parent)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.change(vec![(path.to_owned(), Some(file))]);
        Ok(())
    }
    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<i32> {
        let file = self.find(from).ok_or(io::ErrorKind::NotFound)?;
        self.change(vec![(from.to_owned(), None), (to.to_owned(), Some(file))]);
        Ok(file)
    }
    pub(super) fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.find(path).ok_or(io::ErrorKind::NotFound)?;
        self.change(vec![(path.to_owned(), None)]);
        Ok(())
    }
    /// Changes in this directory are durable.
    pub(super) fn settle(&mut self, directory: &Path) {
        let inside = |change: &Change| change.iter().any(|(p, _)| p.parent() == Some(directory));
        for change in self.unsynced.extract_if(.., |change| inside(change)) {
            apply(&mut self.durable, &change);
        }
    }
    /// Power loss: each unsynced change is kept or lost.
    pub(super) fn crash(&mut self, keep: impl Fn(&mut StdRng) -> bool, random: &mut StdRng) {
        for change in std::mem::take(&mut self.unsynced) {
            if keep(random) {
                apply(&mut self.durable, &change);
            }
        }
        self.now = self.durable.clone();
    }
}
