//! The programs that are served: one call in, one reply out.
//!
//! Entry points: [`answer`], and [`refuse`] for whom no export lets in.

use std::cell::Cell;
use std::net::IpAddr;

use bytes::Bytes;
use model::file::FileStore;

use crate::export::Exports;
use crate::handle::{FileSystemId, HandleKey};
use crate::replay::{Known, Once, SharedReplays};
use crate::request::Request;
use crate::rpc::{Accepted, AuthStat, Call, Credential, Denied, Reply, Unreadable, Versions};
use crate::v4::state::{ClientRecords, Shared};
use crate::xdr::Writer;
use crate::{mount, v3, v4};

/// Most replies without data fit.
const REPLY_BYTES: usize = 512;

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
    let mut reply = Writer::with_room(REPLY_BYTES);
    let head = reply.mark();
    reply.put(&Reply::accepted(call.xid, Accepted::Success));
    let accepted = run(server, (&call, call_bytes), &once, now_ms, &mut reply);
    match once.known() {
        Some(Known::Running) => return None,
        Some(Known::Answered(reply)) => return Some(vec![reply]),
        None => {}
    }
    if accepted != Accepted::Success {
        reply.rewind(head);
        reply.put(&Reply::accepted(call.xid, accepted));
    }
    let reply = reply.finish();
    once.answered(&reply);
    Some(reply)
}

/// Runs a call, unless it is known from before. Results of one that has no success are not sent.
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

/// Answers one record of a client that no export lets in, whatever it asks: that it may not, so
/// that a mount fails at once, where one that is not answered is tried for minutes. It learns that
/// NFS is spoken here, and nothing of what is served.
#[must_use]
pub fn refuse(record: Bytes) -> Option<Vec<Bytes>> {
    let call = match Call::decode(record) {
        Ok(call) => call,
        Err(Unreadable::Drop) => return None,
        Err(Unreadable::Answer(reply)) => return Some(alone(&reply)),
    };
    let is_served = versions(call.program)
        .is_some_and(|versions| (versions.low..=versions.high).contains(&call.version));
    let mut reply = Writer::default();
    match (call.program, call.procedure) {
        // What clients ask first, to see whether somebody is there.
        (_, 0) if is_served => reply.put(&Reply::accepted(call.xid, Accepted::Success)),
        (mount::PROGRAM, mount::MNT) if is_served => {
            reply.put(&Reply::accepted(call.xid, Accepted::Success));
            reply.put(&mount::MountStat::Acces);
        }
        _ => reply.put(&Reply::denied(call.xid, Denied::Auth(AuthStat::BadCred))),
    }
    Some(reply.finish())
}

fn alone(reply: &Reply) -> Vec<Bytes> {
    vec![crate::xdr::to_bytes(reply)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::{Opaque, ReplyBody};
    use crate::xdr::{Reader, Xdr};

    fn refused(program: u32, version: u32, procedure: u32) -> (ReplyBody, Bytes) {
        let (credential, verifier) = (Opaque::none(), Opaque::none());
        let arguments = Bytes::new();
        let call = Call { xid: 9, program, version, procedure, credential, verifier, arguments };
        let reply = refuse(call.encode()).unwrap().concat();
        let mut reader = Reader::new(reply.into());
        let reply = Reply::read(&mut reader).unwrap();
        assert_eq!(reply.xid, 9);
        (reply.body, reader.rest())
    }

    #[test]
    fn whom_no_export_lets_in_is_told_so_and_nothing_else() {
        let denied = ReplyBody::Denied(Denied::Auth(AuthStat::BadCred));
        let accepted = ReplyBody::Accepted(Accepted::Success);
        for version in [3, 4] {
            assert_eq!(refused(100_003, version, 0), (accepted, Bytes::new()));
            assert_eq!(refused(100_003, version, 1).0, denied);
        }
        let acces = Bytes::from_static(&[0, 0, 0, 13]);
        assert_eq!(refused(100_005, 3, 1), (accepted, acces));
        // Not even which paths there are, or which versions.
        for (program, version, procedure) in [(100_005, 3, 5), (100_003, 2, 0), (100_000, 2, 3)] {
            assert_eq!(refused(program, version, procedure).0, denied);
        }
        assert_eq!(refuse(Bytes::from_static(b"no call")), None);
    }
}
