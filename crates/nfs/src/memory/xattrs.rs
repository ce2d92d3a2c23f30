//! Extended attributes of the model.

use bytes::Bytes;
use model::file::{AttributeIs, Caller, Changed, FileError, FileId, FileResult};

use super::Tree;
use super::node::{Body, Node, READ, STICKY, WRITE};

const VALUE_BYTES_MAX: usize = 64 << 10;
/// Of Linux, less the bytes of "user.".
const NAME_BYTES_MAX: usize = 250;

/// Whether they may be changed: in a sticky directory only its owner's word counts (xattr(7)).
fn check_write(node: &Node, caller: &Caller) -> FileResult<()> {
    if matches!(node.body, Body::Directory(_)) && node.mode & STICKY != 0 {
        node.check_owner(caller)?;
    }
    node.check(caller, WRITE)
}

fn check_name(name: &[u8]) -> FileResult<()> {
    if name.len() > NAME_BYTES_MAX { Err(FileError::NameTooLong) } else { Ok(()) }
}

impl Tree {
    fn attributed(&self, file: FileId) -> FileResult<&Node> {
        let node = self.node(file)?;
        match node.body {
            Body::Regular(_) | Body::Directory(_) => Ok(node),
            Body::Symlink(_) | Body::Special(_) => Err(FileError::WrongKind),
        }
    }

    pub(super) fn xattr(&self, caller: &Caller, file: FileId, name: &[u8]) -> FileResult<Bytes> {
        check_name(name)?;
        let node = self.attributed(file)?;
        node.check(caller, READ)?;
        node.xattrs.get(name).cloned().ok_or(FileError::NoAttribute)
    }

    pub(super) fn xattrs(&self, file: FileId) -> FileResult<Vec<Bytes>> {
        Ok(self.attributed(file)?.xattrs.keys().cloned().collect())
    }

    pub(super) fn set_xattr(
        &mut self,
        caller: &Caller,
        file: FileId,
        (name, value): (&[u8], &[u8]),
        is: AttributeIs,
    ) -> FileResult<Changed> {
        check_name(name)?;
        if value.len() > VALUE_BYTES_MAX {
            return Err(FileError::AttributeTooLarge);
        }
        let node = self.attributed(file)?;
        check_write(node, caller)?;
        match (node.xattrs.contains_key(name), is) {
            (true, AttributeIs::New) => return Err(FileError::Exists),
            (false, AttributeIs::There) => return Err(FileError::NoAttribute),
            _ => {}
        }
        let (name, value) = (Bytes::copy_from_slice(name), Bytes::copy_from_slice(value));
        self.change(file, false, |node| {
            node.xattrs.insert(name, value);
            Ok(())
        })
    }

    pub(super) fn remove_xattr(
        &mut self,
        caller: &Caller,
        file: FileId,
        name: &[u8],
    ) -> FileResult<Changed> {
        check_name(name)?;
        let node = self.attributed(file)?;
        check_write(node, caller)?;
        if !node.xattrs.contains_key(name) {
            return Err(FileError::NoAttribute);
        }
        self.change(file, false, |node| {
            node.xattrs.remove(name);
            Ok(())
        })
    }
}
