//! The pseudo file system: directories that lead from one root to the exports (RFC 8881 7.3).
//!
//! Its nodes are the prefixes of the exports' paths. A node is named by a digest of its path, so
//! that a handle outlives a restart. Nothing in it can be changed.

use std::collections::BTreeMap;

use bytes::Bytes;
use model::file::{Attributes, FileId, FileKind, Time};
use sha2::{Digest, Sha256};

use crate::handle::{FileSystemId, Form, Handle};

/// The pseudo file system's own id.
pub const PSEUDO: FileSystemId = FileSystemId([0; 16]);

/// Most bytes of a name in it.
pub const NAME_BYTES_MAX: u32 = 255;

/// What a name in a pseudo directory leads to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Child {
    Node(u64),
    Export(FileSystemId),
}

#[derive(Clone, Debug)]
struct Node {
    parent: u64,
    children: BTreeMap<Bytes, Child>,
}

/// The tree, made of the exports' paths.
#[derive(Clone, Debug)]
pub struct Pseudo {
    nodes: BTreeMap<u64, Node>,
    /// The node that holds an export.
    above: BTreeMap<FileSystemId, u64>,
    change: u64,
}

/// A path's number: its digest, with a mark behind every name.
fn number(path: &[Bytes]) -> u64 {
    let mut digest = Sha256::new();
    for name in path {
        digest.update(name);
        digest.update(b"/");
    }
    let digest: [u8; 32] = digest.finalize().into();
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    u64::from_be_bytes(first)
}

impl Pseudo {
    /// The tree over these exports; no path is a prefix of another.
    pub(crate) fn new<'a>(exports: impl Iterator<Item = (&'a [Bytes], FileSystemId)>) -> Self {
        let root = Node { parent: number(&[]), children: BTreeMap::new() };
        let nodes = BTreeMap::from([(number(&[]), root)]);
        let mut pseudo = Self { nodes, above: BTreeMap::new(), change: 0 };
        let mut all = Sha256::new();
        for (path, file_system) in exports {
            all.update(file_system.0);
            for depth in 1..path.len() {
                let (parent, node) = (number(&path[..depth - 1]), number(&path[..depth]));
                let fresh = Node { parent, children: BTreeMap::new() };
                pseudo.nodes.entry(node).or_insert(fresh);
                pseudo.adopt(parent, &path[depth - 1], Child::Node(node));
            }
            if let Some((name, above)) = path.split_last() {
                pseudo.adopt(number(above), name, Child::Export(file_system));
                pseudo.above.insert(file_system, number(above));
            }
        }
        let digest: [u8; 32] = all.finalize().into();
        let mut change = [0; 8];
        change.copy_from_slice(&digest[..8]);
        pseudo.change = u64::from_be_bytes(change);
        pseudo
    }

    fn adopt(&mut self, parent: u64, name: &Bytes, child: Child) {
        if let Some(node) = self.nodes.get_mut(&parent) {
            node.children.insert(name.clone(), child);
        }
    }

    #[must_use]
    pub fn root(&self) -> Handle {
        Self::handle(number(&[]))
    }

    /// The handle of a node.
    #[must_use]
    pub fn handle(node: u64) -> Handle {
        let file = FileId { tree: 0, inode: node, generation: 0 };
        Handle { form: Form::Pseudo, file_system: PSEUDO, file }
    }

    /// `None` when nothing is exported below it any more: the handle is stale.
    #[must_use]
    pub fn children(&self, node: u64) -> Option<&BTreeMap<Bytes, Child>> {
        self.nodes.get(&node).map(|node| &node.children)
    }

    /// The root's parent is the root.
    #[must_use]
    pub fn parent(&self, node: u64) -> Option<u64> {
        self.nodes.get(&node).map(|node| node.parent)
    }

    /// The directory that an export's root is seen in.
    #[must_use]
    pub fn above(&self, file_system: FileSystemId) -> Option<u64> {
        self.above.get(&file_system).copied()
    }

    #[must_use]
    pub fn is_root(&self, node: u64) -> bool {
        node == number(&[])
    }

    #[must_use]
    pub fn attributes(&self, node: u64) -> Option<Attributes> {
        let entry = self.nodes.get(&node)?;
        let directories =
            entry.children.values().filter(|child| matches!(child, Child::Node(_))).count();
        Some(Attributes {
            file: Self::handle(node).file,
            kind: FileKind::Directory,
            mode: 0o555,
            links: u32::try_from(directories).map_or(u32::MAX, |count| count + 2),
            uid: 0,
            gid: 0,
            size_bytes: 4096,
            used_bytes: 0,
            accessed: Time::default(),
            modified: Time::default(),
            changed: Time::default(),
            change: self.change,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &'static str) -> Vec<Bytes> {
        text.split('/').map(|name| Bytes::from_static(name.as_bytes())).collect()
    }

    #[test]
    fn names_lead_to_exports_and_back() {
        let [one, two, three] = [1, 2, 3].map(|id| FileSystemId([id; 16]));
        let paths = [(path("p/a"), one), (path("p/b"), two), (path("c"), three)];
        let pseudo = Pseudo::new(paths.iter().map(|(path, id)| (&path[..], *id)));
        let root = pseudo.root().file.inode;
        let children = pseudo.children(root).unwrap();
        assert_eq!(children.get(&b"c"[..]), Some(&Child::Export(three)));
        let Some(Child::Node(node)) = children.get(&b"p"[..]).copied() else { panic!() };
        assert_eq!(pseudo.children(node).unwrap().get(&b"b"[..]), Some(&Child::Export(two)));
        assert_eq!((pseudo.above(one), pseudo.above(three)), (Some(node), Some(root)));
        assert_eq!((pseudo.parent(node), pseudo.parent(root)), (Some(root), Some(root)));
        assert_eq!(pseudo.attributes(root).unwrap().links, 3);
        // The same paths have the same numbers after a restart; others have none.
        let fewer = Pseudo::new(paths[..1].iter().map(|(path, id)| (&path[..], *id)));
        assert!(fewer.children(node).is_some());
        let other = Pseudo::new(paths[2..].iter().map(|(path, id)| (&path[..], *id)));
        assert!(other.children(node).is_none());
    }
}
