//! COMPOUND (RFC 8881 16.2): operations one after another, until one fails.
//!
//! An operation's arguments are read when its turn comes, so that what precedes garbage is done
//! and answered (RFC 8881 15.2, NFS4ERR_BADXDR).

use std::hash::{DefaultHasher, Hash, Hasher};

use bytes::Bytes;
use model::file::{Attributes, FileResult, FileStore};

use super::operations::{self, Failed};
use super::state::{
    Channel, ClientRecords, Principal, SMALL_BYTES, SequenceRequest, Sequenced, Shared, State,
    settle,
};
use super::status::Status;
use super::types::{SessionId, Stateid};
use crate::handle::{Form, Handle};
use crate::replay::Once;
use crate::request::{Place, Request};
use crate::rpc::{Accepted, Credential};
use crate::xdr::{Mark, Reader, Writer, Xdr, XdrError, xdr_struct};

/// The highest minor version that is spoken.
pub(super) const MINOR_MAX: u32 = 2;
/// Bytes of a reply around the operations' results: RPC header, status, tag's length, count.
const REPLY_HEAD_BYTES: usize = 40;
/// Most bytes of the result of an operation that changes something, when it succeeds. The room is
/// there before it runs, so that nothing is done whose result cannot be told.
const CHANGE_BYTES_MAX: usize = 160;
/// Most operations of a COMPOUND of NFSv4.0, where no session has agreed on a number.
const ZERO_OPERATIONS_MAX: u32 = 128;
/// Files of opens that are gone, of which one COMPOUND tells the stores: each may wait for a disk.
const RELEASED_MAX: usize = 16;
/// How much of a request is looked at to tell it from another of the same number.
const FINGERPRINT_BYTES: usize = 1024;

/// What one request runs on.
pub struct Service<'a, F> {
    pub request: Request<'a, F>,
    pub state: &'a dyn Shared,
    pub records: &'a dyn ClientRecords,
    /// NFSv4.0: what must not run twice asks here.
    pub once: &'a Once<'a>,
    /// A clock that never goes back.
    pub now_ms: u64,
    /// Names this server, the same after a restart (`so_major_id`, `eir_server_scope`).
    pub name: &'a [u8],
    /// The size of the whole call, with its RPC header.
    pub call_bytes: usize,
}

impl<F> std::fmt::Debug for Service<'_, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").field("now_ms", &self.now_ms).finish_non_exhaustive()
    }
}

/// One COMPOUND on its way.
pub(super) struct Compound<'a, F> {
    pub(super) service: &'a Service<'a, F>,
    pub(super) minor: u32,
    pub(super) current: Option<Handle>,
    pub(super) saved: Option<Handle>,
    /// RFC 8881 16.2.3.1.2.
    pub(super) current_stateid: Option<Stateid>,
    pub(super) saved_stateid: Option<Stateid>,
    /// The client whose session this is; none in NFSv4.0.
    pub(super) client: Option<u32>,
    sequence: Option<Running>,
    /// What the operation at this place has found of the current file: enough for the next one.
    found: Option<(u32, Attributes)>,
    /// Operations of the COMPOUND.
    count: u32,
    /// Where the present one stands.
    at: u32,
}

/// The slot that is busy with this COMPOUND.
struct Running {
    request: SequenceRequest,
    channel: Channel,
    keep: bool,
}

/// The file that an operation is about.
pub(super) enum Here<'a, F> {
    /// A directory of the pseudo file system.
    Pseudo(u64),
    File(Place<'a, F>),
}

/// Answers one call of version 4: NULL or COMPOUND.
pub fn answer<F: FileStore>(
    service: &Service<'_, F>,
    procedure: u32,
    arguments: Bytes,
    results: &mut Writer,
) -> Accepted {
    match procedure {
        0 => Accepted::Success,
        1 => compound(service, arguments, results),
        _ => Accepted::ProcUnavail,
    }
}

/// The head of COMPOUND's arguments.
struct Head {
    tag: Bytes,
    minor: u32,
    count: u32,
}

impl Head {
    fn read(reader: &mut Reader) -> Result<Self, XdrError> {
        Ok(Self { tag: Xdr::read(reader)?, minor: reader.u32()?, count: reader.u32()? })
    }
    /// Writes the head of the reply, and says where the number of results stands, which come next.
    fn answer(&self, status: Status, count: u32, results: &mut Writer) -> Mark {
        results.put(&status);
        results.opaque(&self.tag);
        let at = results.mark();
        results.u32(count);
        at
    }
    /// Why nothing of it is run.
    fn check(&self) -> Result<(), Status> {
        if self.minor > MINOR_MAX {
            return Err(Status::MinorVersMismatch);
        }
        if std::str::from_utf8(&self.tag).is_err() {
            return Err(Status::Inval);
        }
        // Before anything is done (RFC 7530 13.1.2.3).
        let is_long = self.minor == 0 && self.count > ZERO_OPERATIONS_MAX;
        if is_long { Err(Status::Resource) } else { Ok(()) }
    }
}

fn compound<F: FileStore>(
    service: &Service<'_, F>,
    arguments: Bytes,
    results: &mut Writer,
) -> Accepted {
    let mut reader = Reader::new(arguments.clone());
    let Ok(head) = Head::read(&mut reader) else { return Accepted::GarbageArgs };
    if let Err(status) = head.check() {
        head.answer(status, 0, results);
        return Accepted::Success;
    }
    let mut compound = Compound {
        service,
        minor: head.minor,
        current: None,
        saved: None,
        current_stateid: None,
        saved_stateid: None,
        client: None,
        sequence: None,
        found: None,
        count: head.count,
        at: 0,
    };
    let begins = results.mark();
    let ran = compound.run(&head, (&mut reader, &arguments), results);
    // What the state has changed for this reply, or for one that was sent before it, is durable
    // before it goes out.
    if compound.with(|state| !state.is_settled() || state.has_released()) {
        if settle(service.state, service.records).is_err() {
            compound.release(None);
            return Accepted::SystemErr;
        }
        compound.let_go();
    }
    match ran {
        Ran::Replayed(bytes) => {
            results.rewind(begins);
            results.encoded(&bytes);
        }
        Ran::Fresh => compound.finish(begins, results),
        Ran::Known => {}
    }
    Accepted::Success
}

enum Ran {
    Fresh,
    /// A session has the results.
    Replayed(Bytes),
    /// [`Once::known`] says how the whole call is answered.
    Known,
}

xdr_struct! {
    /// SEQUENCE4args.
    pub(super) struct SequenceArgs {
        pub session: SessionId,
        pub sequence: u32,
        pub slot: u32,
        pub highest_slot: u32,
        pub keep: bool,
    }
}

impl<'a, F: FileStore> Compound<'a, F> {
    fn run(
        &mut self,
        head: &Head,
        (reader, arguments): (&mut Reader, &Bytes),
        results: &mut Writer,
    ) -> Ran {
        let begins = results.mark();
        let count = head.answer(Status::Ok, head.count, results);
        let (first, mut last, mut done) = (results.mark(), Status::Ok, 0);
        while done < head.count && last == Status::Ok {
            self.at = done;
            // What cannot be read has no number; the illegal one stands for it.
            let code = reader.u32().unwrap_or(operations::ILLEGAL);
            // Sessions see to it themselves. What ran before was a look, or had an owner's number.
            if self.minor == 0 && operations::happens_once(code) && !self.service.once.may_run() {
                return Ran::Known;
            }
            let this = results.mark();
            let written = head.tag.len() + results.since(first);
            results.u32(code);
            results.put(&Status::Ok);
            let ended = if code == operations::SEQUENCE && self.minor > 0 {
                match self.sequence(reader, arguments, results) {
                    Ok(Started::Replay(reply)) => return Ran::Replayed(reply),
                    Ok(Started::New) => Ok(()),
                    Err(status) => Err(status.into()),
                }
            } else {
                self.step(code, reader, (written, results))
            };
            let ended =
                ended.and_then(|()| Ok(self.check_room(head.tag.len() + results.since(first))?));
            if let Err(failed) = ended {
                last = self.answer_failed(failed, (code, written), (this, results));
            }
            done += 1;
        }
        if last != Status::Ok {
            results.set_u32(begins, last.code());
            results.set_u32(count, done);
        }
        Ran::Fresh
    }

    /// Writes that an operation failed, in the place of all that it has said; says why.
    fn answer_failed(
        &self,
        failed: Failed,
        (code, written): (u32, usize),
        (this, results): (Mark, &mut Writer),
    ) -> Status {
        let fits = self.check_room(written + 8 + failed.said.len());
        let Failed { status, said } = fits.map_or_else(Failed::from, |()| failed);
        results.rewind(this);
        results.u32(if status == Status::OpIllegal { operations::ILLEGAL } else { code });
        results.put(&status);
        results.encoded(&said);
        status
    }

    /// Runs an operation, with so many bytes written before it.
    fn step(
        &mut self,
        code: u32,
        reader: &mut Reader,
        (written, results): (usize, &mut Writer),
    ) -> Result<(), Failed> {
        let row = operations::row::<F>(code).filter(|row| row.is_of(self.minor));
        let row = row.ok_or(Status::OpIllegal)?;
        self.check_place(code)?;
        let run = row.run.ok_or(Status::NotSupp)?;
        if row.changes {
            self.check_room(written + CHANGE_BYTES_MAX)?;
        }
        run(self, reader, results)
    }

    /// Whether an operation may stand where it does (RFC 8881 2.10.2.1, 15.1.3).
    fn check_place(&self, code: u32) -> Result<(), Status> {
        if self.minor == 0 {
            return Ok(());
        }
        let alone = operations::MAY_STAND_ALONE.contains(&code);
        match (&self.sequence, alone) {
            (None, false) => Err(Status::OpNotInSession),
            (None, true) if self.count > 1 => Err(Status::NotOnlyOp),
            (Some(_), _) if code == operations::BIND_CONN_TO_SESSION => Err(Status::NotOnlyOp),
            _ => Ok(()),
        }
    }

    /// # Errors
    /// A reply of so many bytes of results would be larger than the session has agreed.
    fn check_room(&self, bytes: usize) -> Result<(), Status> {
        let Some(running) = &self.sequence else { return Ok(()) };
        let fits =
            |most: u32| usize::try_from(most).is_ok_and(|most| REPLY_HEAD_BYTES + bytes <= most);
        if !fits(running.channel.reply_bytes_max) {
            return Err(Status::RepTooBig);
        }
        if running.keep && !fits(running.channel.cached_bytes_max) {
            return Err(Status::RepTooBigToCache);
        }
        Ok(())
    }

    /// SEQUENCE: takes the slot, or finds the reply that was given before.
    fn sequence(
        &mut self,
        reader: &mut Reader,
        arguments: &Bytes,
        results: &mut Writer,
    ) -> Result<Started, Status> {
        let args = SequenceArgs::read(reader)?;
        if self.at > 0 {
            return Err(Status::SequencePos);
        }
        let request = SequenceRequest {
            session: args.session,
            sequence: args.sequence,
            slot: args.slot,
            fingerprint: self.fingerprint(arguments),
        };
        let now_ms = self.service.now_ms;
        let (call_bytes, operations) = (self.service.call_bytes, self.count);
        let found = self.with(|state| {
            state.check_request(args.session, call_bytes, operations)?;
            state.sequence(&request, now_ms)
        })?;
        let (client, channel) = match found {
            Sequenced::Replay(reply) => return Ok(Started::Replay(reply)),
            Sequenced::New { client, channel } => (client, channel),
        };
        let highest = channel.requests_max - 1;
        self.client = Some(client);
        self.sequence = Some(Running { request, channel, keep: args.keep });
        results.put(&args.session);
        // Sequence, slot, highest slot, target of it, and status flags: there is never anything
        // to say, since state goes only together with its client.
        for number in [args.sequence, args.slot, highest, highest, 0] {
            results.u32(number);
        }
        Ok(Started::New)
    }

    /// A digest of the request, and of who makes it.
    fn fingerprint(&self, arguments: &Bytes) -> u64 {
        let mut hasher = DefaultHasher::new();
        arguments[..arguments.len().min(FINGERPRINT_BYTES)].hash(&mut hasher);
        arguments.len().hash(&mut hasher);
        self.principal().hash(&mut hasher);
        hasher.finish()
    }

    /// Tells the stores which opens are gone: those that this COMPOUND has ended are the last. Of
    /// many, and of other portals', the shell tells them.
    fn let_go(&self) {
        let exports = self.request().exports;
        let find = |file: &Handle| exports.find(file.file_system);
        let reaches = |file: &Handle| find(file).is_some();
        for file in self.with(|state| state.take_released(RELEASED_MAX, reaches)) {
            if let Some(export) = find(&file) {
                export.store.let_go(file.file);
            }
        }
    }

    /// Gives the slot back, with the reply to keep.
    fn release(&self, reply: Option<Bytes>) {
        if let Some(running) = &self.sequence {
            self.with(|state| state.finish(&running.request, reply));
        }
    }

    /// The reply is whole; its slot is idle again.
    fn finish(&self, begins: Mark, results: &mut Writer) {
        let Some(running) = &self.sequence else { return };
        // A small one is kept for a retry even when that is not asked for.
        let keeps = running.keep || results.since(begins) <= SMALL_BYTES;
        self.release(keeps.then(|| results.piece_since(begins)));
    }

    pub(super) fn with<R>(&self, step: impl FnOnce(&mut State) -> R) -> R {
        self.service.state.with(step)
    }
    pub(super) fn request(&self) -> &Request<'a, F> {
        &self.service.request
    }
    pub(super) fn session(&self) -> Option<SessionId> {
        self.sequence.as_ref().map(|running| running.request.session)
    }
    pub(super) fn is_last(&self) -> bool {
        self.at + 1 == self.count
    }
    pub(super) fn principal(&self) -> Principal {
        match self.request().credential {
            Credential::None => Principal::Nobody,
            Credential::Sys(sys) => Principal::Uid(sys.uid),
        }
    }
    /// Most bytes that a result may still have.
    pub(super) fn reply_bytes_max(&self) -> usize {
        let most = self.sequence.as_ref().map(|running| running.channel.reply_bytes_max);
        most.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX)
    }

    pub(super) fn handle(&self) -> Result<Handle, Status> {
        self.current.ok_or(Status::NoFileHandle)
    }
    /// # Errors
    /// There is no current file, or not for this client.
    pub(super) fn here(&self) -> Result<Here<'a, F>, Status> {
        let handle = self.handle()?;
        match handle.form {
            Form::Pseudo => {
                let node = handle.file.inode;
                let pseudo = self.request().exports.pseudo();
                pseudo.children(node).map(|_| Here::Pseudo(node)).ok_or(Status::Stale)
            }
            Form::File => Ok(Here::File(self.request().place_of(&handle)?)),
        }
    }
    /// The current file, for what the pseudo file system answers with `pseudo`.
    pub(super) fn file(&self, pseudo: Status) -> Result<Place<'a, F>, Status> {
        match self.here()? {
            Here::Pseudo(_) => Err(pseudo),
            Here::File(place) => Ok(place),
        }
    }
    /// The current file, to be changed.
    pub(super) fn writable(&self) -> Result<Place<'a, F>, Status> {
        let place = self.file(Status::RoFs)?;
        if place.read_only { Err(Status::RoFs) } else { Ok(place) }
    }
    /// Makes a file the current one; the current stateid was another's.
    pub(super) fn go_to(&mut self, handle: Handle) {
        self.current = Some(handle);
        self.current_stateid = None;
        self.found = None;
    }
    /// As [`Self::go_to`], with what is known of the file by now.
    pub(super) fn go_to_found(&mut self, handle: Handle, found: Option<Attributes>) {
        self.go_to(handle);
        self.found = found.map(|found| (self.at, found));
    }
    /// This operation does nothing: what the one before has found is enough for the next one.
    pub(super) fn keep_found(&mut self) {
        if let Some((at, _)) = &mut self.found
            && *at + 1 == self.at
        {
            *at = self.at;
        }
    }
    /// The attributes of the current file, as the store has them at any time from the operation
    /// before on: whoever looks has no way to tell.
    pub(super) fn attributes(&self, place: &Place<'_, F>) -> FileResult<Attributes> {
        match &self.found {
            Some((at, found)) if *at + 1 == self.at => Ok(found.clone()),
            _ => place.store().attributes(place.file),
        }
    }
    /// The stateid that an operation means: its own, or the current one in its place.
    pub(super) fn resolve(&self, stateid: &Stateid) -> Result<Stateid, Status> {
        if self.minor == 0 || *stateid != Stateid::CURRENT {
            return Ok(stateid.clone());
        }
        self.current_stateid.clone().ok_or(Status::BadStateid)
    }
}

enum Started {
    New,
    Replay(Bytes),
}
