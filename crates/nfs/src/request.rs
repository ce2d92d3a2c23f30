//! What a request finds out first, in every protocol: which file a handle means, and as whom the
//! client acts there.

use std::cell::Cell;
use std::net::IpAddr;

use bytes::Bytes;
use model::file::{Caller, FileId, FileStore};

use crate::export::{Export, Exports};
use crate::handle::{FileSystemId, Form, Handle, HandleKey};
use crate::rpc::Credential;

/// One request's surroundings: what is served, and who asks.
#[derive(Debug)]
pub struct Request<'a, F> {
    pub exports: &'a Exports<F>,
    /// Of all exports that have none of their own.
    pub keys: &'a HandleKey,
    pub peer: IpAddr,
    pub credential: &'a Credential,
    /// The file system whose files the request reached last: for who counts the clients of each.
    pub reached: &'a Cell<Option<FileSystemId>>,
}

impl<F> Clone for Request<'_, F> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<F> Copy for Request<'_, F> {}

/// A file of an export, as this client has it.
#[derive(Debug)]
pub struct Place<'a, F> {
    pub export: &'a Export<F>,
    pub file: FileId,
    pub caller: Caller,
    pub read_only: bool,
}

/// Why a handle leads to no file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HandleError {
    #[error("this is no handle of ours")]
    Bad,
    #[error("the export is gone")]
    Stale,
    #[error("the export's files cannot be reached yet")]
    NotYet,
    #[error("no rule of the export lets this client in")]
    Denied,
    #[error("the handle is one of the pseudo file system")]
    Pseudo,
}

impl<'a, F: FileStore> Request<'a, F> {
    /// The file that a handle's bytes mean.
    ///
    /// # Errors
    /// Why there is none for this client.
    pub fn place(&self, handle: &[u8]) -> Result<Place<'a, F>, HandleError> {
        self.place_of(&self.open(handle)?)
    }

    /// What a handle's bytes mean, by the key of its export. Where that is not known, nothing is
    /// reached by the handle, whoever made it.
    ///
    /// # Errors
    /// [`HandleError::Bad`]; [`HandleError::Stale`] when it is none of what is served.
    pub fn open(&self, handle: &[u8]) -> Result<Handle, HandleError> {
        let claimed = Handle::claimed(handle).ok_or(HandleError::Bad)?;
        let by = |keys: &HandleKey| keys.open(handle).ok_or(HandleError::Bad);
        if claimed.form == Form::Pseudo {
            return by(self.keys);
        }
        match self.exports.find(claimed.file_system) {
            Some(export) => by(export.keys.as_ref().unwrap_or(self.keys)),
            None if self.exports.find_waiting(claimed.file_system).is_some() => Ok(claimed),
            None => Err(HandleError::Stale),
        }
    }

    /// The file that a handle means.
    ///
    /// # Errors
    /// Why there is none for this client.
    pub fn place_of(&self, handle: &Handle) -> Result<Place<'a, F>, HandleError> {
        if handle.form == Form::Pseudo {
            return Err(HandleError::Pseudo);
        }
        match self.exports.find(handle.file_system) {
            Some(export) => self.enter(export, handle.file),
            None => match self.exports.find_waiting(handle.file_system) {
                None => Err(HandleError::Stale),
                Some(export) if self.may_await(export) => Err(HandleError::NotYet),
                Some(_) => Err(HandleError::Denied),
            },
        }
    }

    /// Whether this client may know of an export that is not ready.
    #[must_use]
    pub fn may_await(&self, export: &Export<()>) -> bool {
        export.admit(self.peer, self.credential).is_some()
    }

    /// A file of this export.
    ///
    /// # Errors
    /// [`HandleError::Denied`].
    pub fn enter(&self, export: &'a Export<F>, file: FileId) -> Result<Place<'a, F>, HandleError> {
        let admitted = export.admit(self.peer, self.credential).ok_or(HandleError::Denied)?;
        self.reached.set(Some(export.file_system));
        Ok(Place { export, file, caller: admitted.caller, read_only: admitted.read_only })
    }

    /// The bytes of a handle.
    #[must_use]
    pub fn seal(&self, handle: &Handle) -> Bytes {
        let own = match handle.form {
            Form::File => self.exports.find(handle.file_system),
            Form::Pseudo => None,
        };
        own.and_then(|export| export.keys.as_ref()).unwrap_or(self.keys).seal(handle)
    }
}

impl<F> Place<'_, F> {
    #[must_use]
    pub fn store(&self) -> &F {
        &self.export.store
    }
    /// The handle of a file of this export.
    #[must_use]
    pub fn handle_of(&self, file: FileId) -> Handle {
        Handle { form: Form::File, file_system: self.export.file_system, file }
    }
}
