//! Files that somebody has open: they outlive their last name.

use model::file::{FileId, FileResult};

use super::Tree;
use super::content::Contents;

impl Tree {
    pub(super) fn hold(&mut self, file: FileId) -> FileResult<()> {
        self.node(file)?.contents()?;
        *self.held.entry(file).or_default() += 1;
        Ok(())
    }

    pub(super) fn let_go(&mut self, file: FileId) {
        let Some(count) = self.held.get_mut(&file) else { return };
        *count -= 1;
        if *count == 0 {
            self.held.remove(&file);
        }
        self.end_nameless(file);
    }

    pub(super) fn await_holders(&mut self, may_come: bool) {
        self.holds_all = may_come;
        let all: Vec<FileId> = self.nodes.keys().copied().collect();
        all.into_iter().for_each(|file| self.end_nameless(file));
    }

    /// Takes a file away that has no name, unless it is held.
    pub(super) fn end_nameless(&mut self, file: FileId) {
        let Some(node) = self.nodes.get(&file).filter(|node| node.links == 0) else { return };
        let held = self.holds_all || self.held.contains_key(&file);
        if let Ok(used) = node.contents().map(Contents::used_pages) {
            if held {
                return;
            }
            self.pages_free += used;
        }
        self.nodes.remove(&file);
    }
}
