//! A file system in memory: the model that the protocols are tested against.
//!
//! Entry point: [`Memory`]. Its clock ticks once per change, so that a run repeats exactly; a
//! [`Memory::crash`] loses what was written and not committed.

mod content;
mod forgotten;
mod holds;
mod names;
mod node;
mod xattrs;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use model::file::{
    Access, Acl, AclKind, AttributeIs, Attributes, Caller, Changed, Content, Creation, FileError,
    FileId, FileResult, FileStore, Limits, Listing, Made, New, Range, ReadData, Removal,
    SetAttributes, SetTime, Space, Stability, Time, Written,
};

pub use self::forgotten::Forgotten;

use self::content::{Contents, PAGE_BYTES};
use self::node::{Body, EXECUTE, Node, READ, WRITE};

const TREE: u32 = 0;
const FILE_BYTES_MAX: u64 = 1 << 44;
const FILES_MAX: u64 = 1 << 20;
const IO_BYTES_MAX: u32 = 1 << 20;
const NAME_BYTES_MAX: u32 = 255;
const TICK_NANOS: u64 = 1000;
const SECOND_NANOS: u64 = 1_000_000_000;

/// The model. Clones are the same file system.
#[derive(Clone, Debug)]
pub struct Memory(Arc<Mutex<Tree>>);

#[derive(Debug)]
struct Tree {
    nodes: HashMap<FileId, Node>,
    next_inode: u64,
    now_nanos: u64,
    pages_free: u64,
    crashes: u64,
    /// How many have each file open.
    held: HashMap<FileId, u64>,
    /// Every file is held.
    holds_all: bool,
}

impl Memory {
    /// An empty tree whose root anybody may write in.
    ///
    /// The clock starts at `now_seconds`; `bytes` is the room for data.
    #[must_use]
    pub fn new(now_seconds: u64, bytes: u64) -> Self {
        let mut tree = Tree {
            nodes: HashMap::new(),
            next_inode: 1,
            now_nanos: now_seconds * SECOND_NANOS,
            pages_free: bytes / PAGE_BYTES,
            crashes: 0,
            held: HashMap::new(),
            holds_all: false,
        };
        let root = tree.root();
        let directory = Body::Directory(node::Directory::new(root));
        let caller = Caller { uid: 0, gid: 0, gids: Vec::new() };
        tree.add(&caller, directory, 0o777, 0);
        Self(Arc::new(Mutex::new(tree)))
    }

    /// Power fails: what was written and not committed is lost.
    pub fn crash(&self) {
        let mut tree = self.tree();
        tree.crashes += 1;
        let mut freed = 0;
        for node in tree.nodes.values_mut() {
            if let (Some(durable), Body::Regular(contents)) = (node.durable.take(), &mut node.body)
            {
                freed += contents.used_pages();
                freed -= durable.used_pages().min(freed);
                *contents = durable;
            }
        }
        tree.pages_free += freed;
    }

    /// Moves the clock.
    pub fn advance(&self, millis: u64) {
        self.tree().now_nanos += millis * 1_000_000;
    }

    fn tree(&self) -> MutexGuard<'_, Tree> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Tree {
    fn root(&self) -> FileId {
        FileId { tree: TREE, inode: 1, generation: 1 }
    }
    fn tick(&mut self) -> Time {
        self.now_nanos += TICK_NANOS;
        let seconds = i64::try_from(self.now_nanos / SECOND_NANOS).unwrap_or(i64::MAX);
        let nanos = u32::try_from(self.now_nanos % SECOND_NANOS).expect("below a second");
        Time { seconds, nanos }
    }
    fn node(&self, file: FileId) -> FileResult<&Node> {
        self.nodes.get(&file).ok_or(FileError::Stale)
    }
    fn node_mut(&mut self, file: FileId) -> FileResult<&mut Node> {
        self.nodes.get_mut(&file).ok_or(FileError::Stale)
    }
    /// A new file without a name.
    fn add(&mut self, caller: &Caller, body: Body, mode: u32, gid: u32) -> FileId {
        let inode = self.next_inode;
        self.next_inode += 1;
        let file = FileId { tree: TREE, inode, generation: inode };
        let now = self.tick();
        let links = if matches!(body, Body::Directory(_)) { 2 } else { 1 };
        let uid = caller.uid;
        let (accessed, modified, changed) = (now, now, now);
        let (change, verifier, durable) = (1, None, None);
        let node = Node {
            file,
            body,
            mode,
            links,
            uid,
            gid,
            accessed,
            modified,
            changed,
            change,
            xattrs: std::collections::BTreeMap::new(),
            verifier,
            durable,
        };
        self.nodes.insert(file, node);
        file
    }
    /// Runs a change of one file, which counts when it succeeds.
    fn change(
        &mut self,
        file: FileId,
        modifies: bool,
        step: impl FnOnce(&mut Node) -> FileResult<()>,
    ) -> FileResult<Changed> {
        let now = self.tick();
        let node = self.node_mut(file)?;
        let before = node.attributes().before();
        step(node)?;
        node.changed = now;
        node.change += 1;
        if modifies {
            node.modified = now;
        }
        Ok(Changed { before, after: node.attributes() })
    }

    fn set(
        &mut self,
        caller: &Caller,
        file: FileId,
        set: &SetAttributes,
        guard: Option<Time>,
    ) -> FileResult<Changed> {
        let node = self.node(file)?;
        if guard.is_some_and(|guard| guard != node.changed) {
            return Err(FileError::NotSame);
        }
        check_set(node, caller, set)?;
        let now = self.tick();
        let time = |set: SetTime| match set {
            SetTime::Now => now,
            SetTime::To(time) => time,
        };
        let set = set.clone();
        let mut freed = 0;
        let changed = self.change(file, set.size_bytes.is_some(), |node| {
            if let Some(size) = set.size_bytes {
                let contents = node.contents_mut()?;
                let used = contents.used_pages();
                contents.resize(size);
                freed = used - contents.used_pages();
                // Truncation is a change of attributes: durable at once.
                node.durable = None;
                node.verifier = None;
            }
            let chowns = set.uid.is_some_and(|uid| uid != node.uid) || set.gid.is_some();
            node.uid = set.uid.unwrap_or(node.uid);
            node.gid = set.gid.unwrap_or(node.gid);
            if chowns && caller.uid != 0 {
                node.mode &= 0o1777;
            }
            node.mode = set.mode.map_or(node.mode, |mode| mode & 0o7777);
            node.accessed = set.accessed.map_or(node.accessed, time);
            Ok(())
        })?;
        self.pages_free += freed;
        let Some(modified) = set.modified else { return Ok(changed) };
        let node = self.node_mut(file)?;
        node.modified = time(modified);
        Ok(Changed { before: changed.before, after: node.attributes() })
    }

    /// Makes room for a range that is to be written, or says that there is none.
    fn reserve(&mut self, file: FileId, range: Range) -> FileResult<()> {
        let end = range.offset.checked_add(range.bytes).ok_or(FileError::TooLarge)?;
        if end > FILE_BYTES_MAX {
            return Err(FileError::TooLarge);
        }
        let contents = self.node(file)?.contents()?;
        let missing = contents.pages_missing(range.offset, range.bytes);
        self.pages_free = self.pages_free.checked_sub(missing).ok_or(FileError::NoSpace)?;
        Ok(())
    }

    fn write(
        &mut self,
        file: FileId,
        offset: u64,
        data: &Bytes,
        stability: Stability,
    ) -> FileResult<Changed> {
        self.reserve(file, Range { offset, bytes: data.len() as u64 })?;
        self.change(file, true, |node| {
            let before = node.contents()?.clone();
            match stability {
                // A stable write makes what was there before it durable too: the model has one
                // flush for a whole file.
                Stability::Data | Stability::File => node.durable = None,
                Stability::Unstable => {
                    node.durable.get_or_insert(before);
                }
            }
            node.verifier = None;
            node.contents_mut()?.write(offset, data);
            Ok(())
        })
    }

    fn readable(&self, caller: &Caller, file: FileId) -> FileResult<&Contents> {
        let node = self.node(file)?;
        let contents = node.contents()?;
        node.check_data(caller, READ)?;
        Ok(contents)
    }
    fn check_writable(&self, caller: &Caller, file: FileId) -> FileResult<()> {
        let node = self.node(file)?;
        node.contents()?;
        node.check_data(caller, WRITE)
    }
}

/// POSIX's rules of chmod, chown, truncate and utimes.
fn check_set(node: &Node, caller: &Caller, set: &SetAttributes) -> FileResult<()> {
    if set.mode.is_some() {
        node.check_owner(caller)?;
    }
    let root = caller.uid == 0;
    if set.uid.is_some_and(|uid| uid != node.uid) && !root {
        return Err(FileError::NotOwner);
    }
    if let Some(gid) = set.gid
        && !root
        && gid != node.gid
    {
        let member = gid == caller.gid || caller.gids.contains(&gid);
        if caller.uid != node.uid || !member {
            return Err(FileError::NotOwner);
        }
    }
    if let Some(size) = set.size_bytes {
        node.contents().map_err(|error| match error {
            FileError::IsSymlink => FileError::Invalid,
            other => other,
        })?;
        node.check_data(caller, WRITE)?;
        if size > FILE_BYTES_MAX {
            return Err(FileError::TooLarge);
        }
    }
    for time in [set.accessed, set.modified].into_iter().flatten() {
        match time {
            SetTime::To(time) if time.nanos >= 1_000_000_000 => return Err(FileError::Invalid),
            SetTime::To(_) => node.check_owner(caller)?,
            SetTime::Now => {
                node.check_owner(caller).or_else(|_| node.check(caller, WRITE))?;
            }
        }
    }
    Ok(())
}

impl FileStore for Memory {
    fn root(&self) -> FileId {
        self.tree().root()
    }
    fn limits(&self) -> Limits {
        Limits {
            read_bytes_max: IO_BYTES_MAX,
            write_bytes_max: IO_BYTES_MAX,
            file_bytes_max: FILE_BYTES_MAX,
            links_max: 1000,
            name_bytes_max: NAME_BYTES_MAX,
            time_step_nanos: 1,
            clones: true,
            xattrs: true,
        }
    }
    fn write_verifier(&self) -> [u8; 8] {
        self.tree().crashes.to_be_bytes()
    }
    fn space(&self, _: &Caller) -> FileResult<Space> {
        let tree = self.tree();
        let used: u64 = tree
            .nodes
            .values()
            .filter_map(|node| node.contents().ok())
            .map(Contents::used_pages)
            .sum();
        let free_bytes = tree.pages_free * PAGE_BYTES;
        let free_files = FILES_MAX - tree.nodes.len() as u64;
        Ok(Space {
            total_bytes: free_bytes + used * PAGE_BYTES,
            free_bytes,
            available_bytes: free_bytes,
            total_files: FILES_MAX,
            free_files,
            available_files: free_files,
        })
    }
    fn attributes(&self, file: FileId) -> FileResult<Attributes> {
        self.tree().node(file).map(Node::attributes)
    }
    fn set_attributes(
        &self,
        caller: &Caller,
        file: FileId,
        set: &SetAttributes,
        guard: Option<Time>,
    ) -> FileResult<Changed> {
        self.tree().set(caller, file, set, guard)
    }
    fn access(&self, caller: &Caller, file: FileId, wanted: Access) -> FileResult<Access> {
        let tree = self.tree();
        let node = tree.node(file)?;
        let directory = node.directory().is_ok();
        let mut allowed = Access::default();
        let mut allow = |bits: Access| allowed.0 |= bits.0;
        if node.may(caller, READ) {
            allow(Access::READ);
        }
        let execute = node.may(caller, EXECUTE);
        if execute {
            allow(if directory { Access::LOOKUP } else { Access::EXECUTE });
        }
        if node.may(caller, WRITE) {
            allow(Access(Access::MODIFY.0 | Access::EXTEND.0));
            if directory && execute {
                allow(Access::DELETE);
            }
        }
        Ok(allowed.and(wanted))
    }
    fn lookup(&self, caller: &Caller, directory: FileId, name: &[u8]) -> FileResult<Attributes> {
        let tree = self.tree();
        let file = tree.find(caller, directory, name)?.ok_or(FileError::NotFound)?;
        tree.node(file).map(Node::attributes)
    }
    fn parent(&self, caller: &Caller, directory: FileId) -> FileResult<FileId> {
        let tree = self.tree();
        let node = tree.node(directory)?;
        let parent = node.directory()?.parent;
        node.check(caller, EXECUTE)?;
        Ok(parent)
    }
    fn read_link(&self, _: &Caller, link: FileId) -> FileResult<Bytes> {
        match &self.tree().node(link)?.body {
            Body::Symlink(target) => Ok(target.clone()),
            _ => Err(FileError::Invalid),
        }
    }
    fn read(&self, caller: &Caller, file: FileId, offset: u64, bytes: u32) -> FileResult<ReadData> {
        let mut tree = self.tree();
        let contents = tree.readable(caller, file)?;
        let data = contents.read(offset, bytes.min(IO_BYTES_MAX));
        let end = offset.saturating_add(data.len() as u64) >= contents.size;
        let now = tree.tick();
        let node = tree.node_mut(file)?;
        node.accessed = now;
        Ok(ReadData { data, end, attributes: node.attributes() })
    }
    fn write(
        &self,
        caller: &Caller,
        file: FileId,
        offset: u64,
        data: &Bytes,
        stability: Stability,
    ) -> FileResult<Written> {
        let mut tree = self.tree();
        tree.check_writable(caller, file)?;
        let data = data.slice(..data.len().min(usize::try_from(IO_BYTES_MAX).unwrap_or(0)));
        // As POSIX has it, to write nothing changes nothing.
        let changed = if data.is_empty() {
            let after = tree.node(file)?.attributes();
            Changed { before: after.before(), after }
        } else {
            tree.write(file, offset, &data, stability)?
        };
        let bytes = u32::try_from(data.len()).map_err(|_| FileError::Invalid)?;
        Ok(Written { bytes, stability, file: changed })
    }
    fn commit(&self, _: &Caller, file: FileId, _: Range) -> FileResult<Changed> {
        let mut tree = self.tree();
        let node = tree.node_mut(file)?;
        node.contents()?;
        node.durable = None;
        let after = node.attributes();
        Ok(Changed { before: after.before(), after })
    }
    fn create(
        &self,
        caller: &Caller,
        directory: FileId,
        name: &[u8],
        how: &Creation,
    ) -> FileResult<Made> {
        self.tree().create(caller, directory, name, how)
    }
    fn make(
        &self,
        caller: &Caller,
        directory: FileId,
        name: &[u8],
        new: &New,
        set: &SetAttributes,
    ) -> FileResult<Made> {
        self.tree().make(caller, directory, name, new, set)
    }
    fn remove(
        &self,
        caller: &Caller,
        directory: FileId,
        name: &[u8],
        what: Removal,
    ) -> FileResult<Changed> {
        self.tree().remove(caller, directory, name, what)
    }
    fn rename(
        &self,
        caller: &Caller,
        from: (FileId, &[u8]),
        to: (FileId, &[u8]),
    ) -> FileResult<(Changed, Changed)> {
        self.tree().rename(caller, from, to)
    }
    fn link(
        &self,
        caller: &Caller,
        file: FileId,
        directory: FileId,
        name: &[u8],
    ) -> FileResult<(Attributes, Changed)> {
        self.tree().link(caller, file, directory, name)
    }
    fn read_directory(
        &self,
        caller: &Caller,
        directory: FileId,
        after: u64,
        entries_max: usize,
        with_attributes: bool,
    ) -> FileResult<Listing> {
        self.tree().list(caller, directory, after, entries_max, with_attributes)
    }
    fn seek(&self, caller: &Caller, file: FileId, offset: u64, what: Content) -> FileResult<u64> {
        let tree = self.tree();
        tree.readable(caller, file)?.seek(offset, what).ok_or(FileError::NoDevice)
    }
    fn allocate(&self, caller: &Caller, file: FileId, range: Range) -> FileResult<Changed> {
        let mut tree = self.tree();
        tree.check_writable(caller, file)?;
        tree.reserve(file, range)?;
        tree.change(file, true, |node| {
            node.contents_mut()?.allocate(range.offset, range.bytes);
            node.durable = None;
            Ok(())
        })
    }
    fn deallocate(&self, caller: &Caller, file: FileId, range: Range) -> FileResult<Changed> {
        let mut tree = self.tree();
        tree.check_writable(caller, file)?;
        let mut freed = 0;
        let changed = tree.change(file, true, |node| {
            let contents = node.contents_mut()?;
            let used = contents.used_pages();
            let bytes = range.bytes.min(contents.size.saturating_sub(range.offset));
            contents.zero(range.offset, bytes, true);
            freed = used - contents.used_pages();
            node.durable = None;
            Ok(())
        })?;
        tree.pages_free += freed;
        Ok(changed)
    }
    fn copy(
        &self,
        caller: &Caller,
        from: (FileId, u64),
        to: (FileId, u64),
        bytes: u64,
    ) -> FileResult<u64> {
        let mut tree = self.tree();
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(IO_BYTES_MAX);
        let data = tree.readable(caller, from.0)?.read(from.1, bytes);
        tree.check_writable(caller, to.0)?;
        tree.write(to.0, to.1, &data, Stability::File)?;
        Ok(data.len() as u64)
    }
    fn clone_range(
        &self,
        caller: &Caller,
        from: (FileId, u64),
        to: (FileId, u64),
        bytes: u64,
    ) -> FileResult<()> {
        let mut tree = self.tree();
        let size = tree.readable(caller, from.0)?.size;
        tree.check_writable(caller, to.0)?;
        let bytes = if bytes == 0 { size.saturating_sub(from.1) } else { bytes };
        let end = from.1.checked_add(bytes).ok_or(FileError::Invalid)?;
        if end > size || (from.0 == to.0 && from.1.abs_diff(to.1) < bytes) {
            return Err(FileError::Invalid);
        }
        let bytes = u32::try_from(bytes).map_err(|_| FileError::TooLarge)?;
        let data = tree.readable(caller, from.0)?.read(from.1, bytes);
        tree.write(to.0, to.1, &data, Stability::File).map(|_| ())
    }
    fn xattr(&self, caller: &Caller, file: FileId, name: &[u8]) -> FileResult<Bytes> {
        self.tree().xattr(caller, file, name)
    }
    fn xattrs(&self, _: &Caller, file: FileId) -> FileResult<Vec<Bytes>> {
        self.tree().xattrs(file)
    }
    fn set_xattr(
        &self,
        caller: &Caller,
        file: FileId,
        attribute: (&[u8], &[u8]),
        is: AttributeIs,
    ) -> FileResult<Changed> {
        self.tree().set_xattr(caller, file, attribute, is)
    }
    fn remove_xattr(&self, caller: &Caller, file: FileId, name: &[u8]) -> FileResult<Changed> {
        self.tree().remove_xattr(caller, file, name)
    }
    fn acl(&self, _: &Caller, file: FileId, _: AclKind) -> FileResult<Option<Acl>> {
        self.tree().node(file).map(|_| None)
    }
    /// Modes are all that it has.
    fn set_acl(&self, _: &Caller, file: FileId, _: AclKind, acl: Option<&Acl>) -> FileResult<()> {
        self.tree().node(file)?;
        acl.map_or(Ok(()), |_| Err(FileError::NotSupported))
    }
    fn hold(&self, file: FileId) -> FileResult<()> {
        self.tree().hold(file)
    }
    fn let_go(&self, file: FileId) {
        self.tree().let_go(file);
    }
    fn await_holders(&self, may_come: bool) {
        self.tree().await_holders(may_come);
    }
}

#[cfg(test)]
mod tests;
