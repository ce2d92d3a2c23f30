//! NFS version 3 (RFC 1813): stateless, every procedure of the standard.
//!
//! Entry point: [`answer`], which finds the procedure's row in a table and runs it. The types of
//! the wire are in [`types`] and [`messages`]; the procedures stand in files by what they touch.

mod attributes;
mod data;
mod facts;
mod listing;
pub mod messages;
mod names;
mod status;
pub mod types;

use bytes::Bytes;
use model::file::{FileId, FileStore};

pub use self::status::Status;
use self::types::{Attributes3, Failed, HandleBytes, Wcc};
use crate::request::{Place, Request};
use crate::rpc::Accepted;
use crate::xdr::{Reader, Writer, Xdr, XdrError};

/// The RPC program of every version of NFS.
pub const PROGRAM: u32 = 100_003;
pub const VERSION: u32 = 3;

type Run<F> = fn(&Request<'_, F>, &mut Reader, &mut Writer) -> Result<(), XdrError>;

struct Row<F> {
    name: &'static str,
    /// It cannot be done twice: what succeeds at first fails when it comes again, or undoes what
    /// others have done meanwhile.
    once: bool,
    run: Run<F>,
}

/// Reads the arguments, runs the procedure, writes the results.
fn run<A: Xdr, R: Xdr>(
    reader: &mut Reader,
    writer: &mut Writer,
    procedure: impl FnOnce(A) -> R,
) -> Result<(), XdrError> {
    let arguments = A::read(reader)?;
    writer.put(&procedure(arguments));
    Ok(())
}

macro_rules! row {
    ($name:literal, $($procedure:tt)+) => {
        Row { name: $name, once: false, run: |request, reader, writer| {
            run(reader, writer, |arguments| $($procedure)+(request, &arguments))
        } }
    };
}
macro_rules! once {
    ($name:literal, $($procedure:tt)+) => {
        Row { once: true, ..row!($name, $($procedure)+) }
    };
}

struct Table<F>(std::marker::PhantomData<F>);

impl<F: FileStore> Table<F> {
    /// A procedure's number is its row.
    const ROWS: [Row<F>; 22] = [
        Row { name: "NULL", once: false, run: |_, _, _| Ok(()) },
        row!("GETATTR", attributes::getattr),
        once!("SETATTR", attributes::setattr),
        row!("LOOKUP", names::lookup),
        row!("ACCESS", attributes::access),
        row!("READLINK", data::readlink),
        row!("READ", data::read),
        row!("WRITE", data::write),
        once!("CREATE", names::create),
        once!("MKDIR", names::mkdir),
        once!("SYMLINK", names::symlink),
        once!("MKNOD", names::mknod),
        once!("REMOVE", names::remove),
        once!("RMDIR", names::rmdir),
        once!("RENAME", names::rename),
        once!("LINK", names::link),
        row!("READDIR", listing::readdir),
        row!("READDIRPLUS", listing::readdirplus),
        row!("FSSTAT", facts::fsstat),
        row!("FSINFO", facts::fsinfo),
        row!("PATHCONF", facts::pathconf),
        row!("COMMIT", data::commit),
    ];
}

/// Answers one call; on anything but success nothing has been written or done.
pub fn answer<F: FileStore>(
    request: &Request<'_, F>,
    procedure: u32,
    arguments: Bytes,
    results: &mut Writer,
) -> Accepted {
    let Some(row) = row::<F>(procedure) else { return Accepted::ProcUnavail };
    match (row.run)(request, &mut Reader::new(arguments), results) {
        Ok(()) => Accepted::Success,
        Err(_) => Accepted::GarbageArgs,
    }
}

/// Whether a procedure cannot be done twice: a call that comes again is answered as it was.
#[must_use]
pub fn happens_once(procedure: u32) -> bool {
    row::<crate::memory::Memory>(procedure).is_some_and(|row| row.once)
}

/// The name of a procedure, for logs and metrics.
#[must_use]
pub fn procedure_name(procedure: u32) -> Option<&'static str> {
    row::<crate::memory::Memory>(procedure).map(|row| row.name)
}

fn row<F: FileStore>(procedure: u32) -> Option<&'static Row<F>> {
    let rows: &'static [Row<F>] = const { &Table::<F>::ROWS };
    rows.get(usize::try_from(procedure).ok()?)
}

/// A failure of which nothing but its status is said.
fn failed<T>(status: impl Into<Status>, rest: T) -> Failed<T> {
    Failed { status: status.into(), rest: Box::new(rest) }
}

impl<F: FileStore> Place<'_, F> {
    fn attributes3(&self, attributes: &model::file::Attributes) -> Attributes3 {
        Attributes3::of(attributes, &self.handle_of(attributes.file))
    }
    /// The attributes of a file as they are now, when they can be had.
    fn now(&self, file: FileId) -> Option<Attributes3> {
        self.store().attributes(file).ok().map(|found| self.attributes3(&found))
    }
    fn wcc(&self, changed: &model::file::Changed) -> Wcc {
        Wcc::of(changed, &self.handle_of(changed.after.file))
    }
    /// What can be said of a file that an operation failed on.
    fn unchanged(&self, file: FileId) -> Wcc {
        Wcc { before: None, after: self.now(file) }
    }
    fn handle3(&self, request: &Request<'_, F>, file: FileId) -> HandleBytes {
        HandleBytes(request.seal(&self.handle_of(file)))
    }
    /// # Errors
    /// The export is read-only to this client.
    fn check_writable(&self) -> Result<(), Status> {
        if self.read_only { Err(Status::RoFs) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests;
