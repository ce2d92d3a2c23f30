//! Names: looking up, making, removing, renaming, linking, listing.

use model::file::{
    Attributes, Caller, Changed, Creation, Entry, FileError, FileId, FileResult, Listing, Made,
    New, Removal, SetAttributes,
};

use super::content::Contents;
use super::node::{Body, Directory, EXECUTE, Node, READ, SET_GID, STICKY, WRITE};
use super::{NAME_BYTES_MAX, Tree};

const LINKS_MAX: u32 = 1000;

impl Tree {
    /// What the name stands for, if anything.
    pub(super) fn find(
        &self,
        caller: &Caller,
        directory: FileId,
        name: &[u8],
    ) -> FileResult<Option<FileId>> {
        let node = self.node(directory)?;
        let entries = node.directory()?;
        node.check(caller, EXECUTE)?;
        if name.len() > usize::try_from(NAME_BYTES_MAX).unwrap_or(0) {
            return Err(FileError::NameTooLong);
        }
        Ok(entries.get(name))
    }

    fn check_changeable(&self, caller: &Caller, directory: FileId) -> FileResult<()> {
        self.node(directory)?.check(caller, WRITE | EXECUTE)
    }

    /// Gives a new file its name and attributes.
    fn place(
        &mut self,
        caller: &Caller,
        directory: FileId,
        name: &[u8],
        body: Body,
        set: &SetAttributes,
    ) -> FileResult<Made> {
        self.check_changeable(caller, directory)?;
        let parent = self.node(directory)?;
        let is_directory = matches!(body, Body::Directory(_));
        let (gid, inherited) = if parent.mode & SET_GID != 0 {
            (parent.gid, if is_directory { SET_GID } else { 0 })
        } else {
            (caller.gid, 0)
        };
        let default = match &body {
            Body::Symlink(_) => 0o777,
            Body::Directory(_) => 0o755,
            _ => 0o644,
        };
        let file = self.add(caller, body, set.mode.unwrap_or(default) & 0o7777 | inherited, gid);
        let rest = SetAttributes { mode: None, ..set.clone() };
        // The creator may give the file whatever size it asks for, whatever its mode.
        if let Err(error) = self.set(caller, file, &rest, None) {
            self.nodes.remove(&file);
            return Err(error);
        }
        let changed = self.change(directory, true, |node| {
            node.links += u32::from(is_directory);
            node.directory_mut()?.insert(name, file);
            Ok(())
        })?;
        let attributes = self.node(file)?.attributes();
        Ok(Made { attributes, is_new: true, directory: changed })
    }

    fn found(&self, directory: FileId, file: FileId) -> FileResult<Made> {
        let after = self.node(directory)?.attributes();
        let attributes = self.node(file)?.attributes();
        Ok(Made { attributes, is_new: false, directory: Changed { before: after.before(), after } })
    }

    pub(super) fn create(
        &mut self,
        caller: &Caller,
        directory: FileId,
        name: &[u8],
        how: &Creation,
    ) -> FileResult<Made> {
        let found = self.find(caller, directory, name)?;
        let (set, verifier) = match (how, found) {
            (Creation::Unchecked(set), Some(file)) => {
                self.node(file)?.contents()?;
                if set.size_bytes == Some(0) {
                    let size = SetAttributes { size_bytes: Some(0), ..SetAttributes::default() };
                    self.set(caller, file, &size, None)?;
                }
                return self.found(directory, file);
            }
            (Creation::Exclusive(verifier, _), Some(file))
                if self.node(file)?.verifier == Some(*verifier) =>
            {
                return self.found(directory, file);
            }
            (_, Some(_)) => return Err(FileError::Exists),
            (Creation::Unchecked(set) | Creation::Guarded(set), None) => (set, None),
            (Creation::Exclusive(verifier, set), None) => (set, Some(*verifier)),
        };
        let body = Body::Regular(Contents::default());
        let made = self.place(caller, directory, name, body, set)?;
        self.node_mut(made.attributes.file)?.verifier = verifier;
        Ok(made)
    }

    pub(super) fn make(
        &mut self,
        caller: &Caller,
        directory: FileId,
        name: &[u8],
        new: &New,
        set: &SetAttributes,
    ) -> FileResult<Made> {
        if self.find(caller, directory, name)?.is_some() {
            return Err(FileError::Exists);
        }
        let body = match new {
            New::Directory => Body::Directory(Directory::new(directory)),
            New::Symlink(target) => Body::Symlink(target.clone()),
            New::Special(kind) => Body::Special(*kind),
        };
        self.place(caller, directory, name, body, set)
    }

    /// Whether the caller may take the name away: in a sticky directory only the owner of the
    /// file or the directory may.
    fn check_removable(&self, caller: &Caller, directory: FileId, file: FileId) -> FileResult<()> {
        self.check_changeable(caller, directory)?;
        let (parent, node) = (self.node(directory)?, self.node(file)?);
        let owns = [0, parent.uid, node.uid].contains(&caller.uid);
        if parent.mode & STICKY == 0 || owns { Ok(()) } else { Err(FileError::NotOwner) }
    }

    /// One name less; without names the file is gone, unless it is held.
    fn unlink(&mut self, file: FileId) -> FileResult<()> {
        self.change(file, false, |node| {
            node.links -= if node.directory().is_ok() { node.links } else { 1 };
            Ok(())
        })?;
        self.end_nameless(file);
        Ok(())
    }

    fn check_empty(&self, file: FileId) -> FileResult<()> {
        match &self.node(file)?.body {
            Body::Directory(entries) if !entries.is_empty() => Err(FileError::NotEmpty),
            _ => Ok(()),
        }
    }

    pub(super) fn remove(
        &mut self,
        caller: &Caller,
        directory: FileId,
        name: &[u8],
        what: Removal,
    ) -> FileResult<Changed> {
        let file = self.find(caller, directory, name)?.ok_or(FileError::NotFound)?;
        let is_directory = self.node(file)?.directory().is_ok();
        match what {
            Removal::File if is_directory => return Err(FileError::IsDirectory),
            Removal::Directory if !is_directory => return Err(FileError::NotDirectory),
            _ => {}
        }
        self.check_removable(caller, directory, file)?;
        self.check_empty(file)?;
        self.unlink(file)?;
        self.change(directory, true, |node| {
            node.links -= u32::from(is_directory);
            node.directory_mut()?.remove(name);
            Ok(())
        })
    }

    /// Whether `inner` is `outer` or lies below it.
    fn lies_in(&self, inner: FileId, outer: FileId) -> FileResult<bool> {
        let mut at = inner;
        loop {
            if at == outer {
                return Ok(true);
            }
            let parent = self.node(at)?.directory()?.parent;
            if parent == at {
                return Ok(false);
            }
            at = parent;
        }
    }

    pub(super) fn rename(
        &mut self,
        caller: &Caller,
        (from, from_name): (FileId, &[u8]),
        (to, to_name): (FileId, &[u8]),
    ) -> FileResult<(Changed, Changed)> {
        let file = self.find(caller, from, from_name)?.ok_or(FileError::NotFound)?;
        let target = self.find(caller, to, to_name)?;
        self.check_removable(caller, from, file)?;
        self.check_changeable(caller, to)?;
        let is_directory = self.node(file)?.directory().is_ok();
        if target == Some(file) {
            return Ok((self.unchanged(from)?, self.unchanged(to)?));
        }
        if is_directory && self.lies_in(to, file)? {
            return Err(FileError::Invalid);
        }
        if let Some(target) = target {
            self.check_removable(caller, to, target)?;
            if self.node(target)?.directory().is_ok() != is_directory {
                return Err(FileError::Exists);
            }
            self.check_empty(target)?;
            self.unlink(target)?;
        }
        let replaces = u32::from(is_directory && target.is_some());
        let before = self.unchanged(to)?.before;
        let left = self.change(from, true, |node| {
            node.links -= u32::from(is_directory);
            node.directory_mut()?.remove(from_name);
            Ok(())
        })?;
        let gained = self.change(to, true, |node| {
            node.links += u32::from(is_directory);
            node.links -= replaces;
            node.directory_mut()?.remove(to_name);
            node.directory_mut()?.insert(to_name, file);
            Ok(())
        })?;
        self.change(file, false, |node| {
            if let Body::Directory(entries) = &mut node.body {
                entries.parent = to;
            }
            Ok(())
        })?;
        // Within one directory both halves are one change.
        let left = if from == to { Changed { after: gained.after.clone(), ..left } } else { left };
        Ok((left, Changed { before, ..gained }))
    }

    fn unchanged(&self, file: FileId) -> FileResult<Changed> {
        let after = self.node(file)?.attributes();
        Ok(Changed { before: after.before(), after })
    }

    pub(super) fn link(
        &mut self,
        caller: &Caller,
        file: FileId,
        directory: FileId,
        name: &[u8],
    ) -> FileResult<(Attributes, Changed)> {
        let node = self.node(file)?;
        if node.directory().is_ok() {
            return Err(FileError::IsDirectory);
        }
        if node.links == 0 {
            return Err(FileError::Stale);
        }
        if node.links >= LINKS_MAX {
            return Err(FileError::TooManyLinks);
        }
        if self.find(caller, directory, name)?.is_some() {
            return Err(FileError::Exists);
        }
        self.check_changeable(caller, directory)?;
        let linked = self.change(file, false, |node| {
            node.links += 1;
            Ok(())
        })?;
        let changed = self.change(directory, true, |node| {
            node.directory_mut()?.insert(name, file);
            Ok(())
        })?;
        Ok((linked.after, changed))
    }

    pub(super) fn list(
        &mut self,
        caller: &Caller,
        directory: FileId,
        after: u64,
        entries_max: usize,
        with_attributes: bool,
    ) -> FileResult<Listing> {
        let node = self.node(directory)?;
        let names = node.directory()?;
        node.check(caller, READ)?;
        let from = after.checked_add(1).ok_or(FileError::Invalid)?;
        let mut rest = names.by_cookie.range(from..);
        let entries = rest
            .by_ref()
            .take(entries_max)
            .map(|(cookie, (name, file))| Entry {
                name: name.clone(),
                cookie: *cookie,
                file: *file,
                attributes: self.nodes.get(file).filter(|_| with_attributes).map(Node::attributes),
            })
            .collect();
        let end = rest.next().is_none();
        let now = self.tick();
        self.node_mut(directory)?.accessed = now;
        Ok(Listing { entries, end })
    }
}
