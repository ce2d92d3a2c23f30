//! The programs that are served: one call in, one reply out.
//!
//! Entry point: [`answer`].

use std::cell::Cell;
use std::net::IpAddr;

use bytes::Bytes;
use model::file::FileStore;

use crate::export::Exports;
use crate::handle::{FileSystemId, HandleKey};
use crate::request::Request;
use crate::rpc::{Accepted, Call, Credential, Denied, Reply, Unreadable, Versions};
use crate::v4::state::{ClientRecords, Shared};
use crate::xdr::Writer;
use crate::{mount, v3, v4};

/// What a server is made of, but for its sockets.
pub struct Server<'a, F> {
    pub exports: &'a Exports<F>,
    pub keys: &'a HandleKey,
    pub state: &'a dyn Shared,
    pub records: &'a dyn ClientRecords,
    /// See [`v4::Service::name`].
    pub name: &'a [u8],
    /// See [`Request::reached`].
    pub reached: &'a Cell<Option<FileSystemId>>,
}

impl<F> std::fmt::Debug for Server<'_, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").finish_non_exhaustive()
    }
}

/// The versions of a program.
fn versions(program: u32) -> Option<Versions> {
    match program {
        v3::PROGRAM => Some(Versions { low: v3::VERSION, high: v4::VERSION }),
        mount::PROGRAM => Some(Versions { low: mount::VERSION, high: mount::VERSION }),
        _ => None,
    }
}

/// Answers one record, which came from `peer`: the pieces of the reply, without their mark. `None`
/// for what cannot be answered.
///
/// It blocks as the file store does.
pub fn answer<F: FileStore>(
    server: &Server<'_, F>,
    peer: IpAddr,
    record: Bytes,
    now_ms: u64,
) -> Option<Vec<Bytes>> {
    let call_bytes = record.len();
    let call = match Call::decode(record) {
        Ok(call) => call,
        Err(Unreadable::Drop) => return None,
        Err(Unreadable::Answer(reply)) => return Some(alone(&reply)),
    };
    let credential = match Credential::of(&call.credential) {
        Ok(credential) => credential,
        Err(stat) => return Some(alone(&Reply::denied(call.xid, Denied::Auth(stat)))),
    };
    let mut results = Writer::default();
    let accepted = match versions(call.program) {
        None => Accepted::ProgUnavail,
        Some(versions) if !(versions.low..=versions.high).contains(&call.version) => {
            Accepted::ProgMismatch(versions)
        }
        Some(_) => {
            let Server { exports, keys, reached, .. } = *server;
            let request = Request { exports, keys, peer, credential: &credential, reached };
            let (procedure, arguments) = (call.procedure, call.arguments);
            match (call.program, call.version) {
                (mount::PROGRAM, _) => mount::answer(&request, procedure, arguments, &mut results),
                (_, v3::VERSION) => v3::answer(&request, procedure, arguments, &mut results),
                _ => {
                    let Server { state, records, name, .. } = *server;
                    let service = v4::Service { request, state, records, now_ms, name, call_bytes };
                    v4::answer(&service, procedure, arguments, &mut results)
                }
            }
        }
    };
    let mut reply = Writer::default();
    reply.put(&Reply::accepted(call.xid, accepted));
    if accepted == Accepted::Success {
        reply.append(results);
    }
    Some(reply.finish())
}

fn alone(reply: &Reply) -> Vec<Bytes> {
    vec![crate::xdr::to_bytes(reply)]
}
