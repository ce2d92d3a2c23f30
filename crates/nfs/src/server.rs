//! The programs that are served: one call in, one reply out.
//!
//! Entry point: [`answer`].

use std::cell::Cell;
use std::net::IpAddr;

use bytes::Bytes;
use model::file::FileStore;

use crate::export::Exports;
use crate::handle::{FileSystemId, HandleKey};
use crate::replay::{Known, Once, SharedReplays};
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
    pub replays: &'a dyn SharedReplays,
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
/// for what cannot be answered, and for a call that is sent again while it runs.
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
    let once = Once::new(server.replays, (peer, &call, &credential), now_ms);
    let mut results = Writer::default();
    let accepted = run(server, (&call, call_bytes), &once, now_ms, &mut results);
    match once.known() {
        Some(Known::Running) => return None,
        Some(Known::Answered(reply)) => return Some(vec![reply]),
        None => {}
    }
    let mut reply = Writer::default();
    reply.put(&Reply::accepted(call.xid, accepted));
    if accepted == Accepted::Success {
        reply.append(results);
    }
    let reply = reply.finish();
    once.answered(&reply);
    Some(reply)
}

/// Runs a call, unless it is known from before.
fn run<F: FileStore>(
    server: &Server<'_, F>,
    (call, call_bytes): (&Call, usize),
    once: &Once<'_>,
    now_ms: u64,
    results: &mut Writer,
) -> Accepted {
    match versions(call.program) {
        None => return Accepted::ProgUnavail,
        Some(versions) if !(versions.low..=versions.high).contains(&call.version) => {
            return Accepted::ProgMismatch(versions);
        }
        Some(_) => {}
    }
    let Server { exports, keys, reached, state, records, name, .. } = *server;
    let request =
        Request { exports, keys, peer: once.peer(), credential: once.credential(), reached };
    let (procedure, arguments) = (call.procedure, call.arguments.clone());
    match (call.program, call.version) {
        (mount::PROGRAM, _) => mount::answer(&request, procedure, arguments, results),
        (_, v3::VERSION) if v3::happens_once(procedure) && !once.may_run() => Accepted::Success,
        (_, v3::VERSION) => v3::answer(&request, procedure, arguments, results),
        _ => {
            let service = v4::Service { request, state, records, once, now_ms, name, call_bytes };
            v4::answer(&service, procedure, arguments, results)
        }
    }
}

fn alone(reply: &Reply) -> Vec<Bytes> {
    vec![crate::xdr::to_bytes(reply)]
}
