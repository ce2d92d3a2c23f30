//! What NFSv4 remembers: clients, sessions, opens, locks, the grace after a restart.
//!
//! Entry point: [`State`], one value for all clients of a server. Its methods are short steps
//! without I/O; the engine takes one at a time through [`Shared`], and does the file work between
//! them.
//!
//! ```text
//!                 EXCHANGE_ID                 CREATE_SESSION
//!   no client  ---SETCLIENTID----> unconfirmed --SETCLIENTID_CONFIRM--> confirmed <--.
//!      ^  ^                            |                                  |  |       | any
//!      |  '--- lease passes, newer one-'                    lease passes  |  |       | renewal
//!      |                                                                  |  v       |
//!      |<---- new verifier confirmed, DESTROY_CLIENTID -------------------' courtesy-'
//!      '<---- conflicting request of another, courtesy ends ------------------'
//! ```
//!
//! Courtesy is no field: it is a confirmed client whose lease has passed. It keeps what it has
//! until somebody else wants it.
//!
//! Invariant: two opens of one file by different owners deny each other nothing that they have
//! (checked by [`State::check`] in tests, under any history); a lock belongs to an open of the same
//! client and file; a client with writes in flight is not expired, so that no write of a client
//! lands after its state was given to another.

mod client;
mod grace;
mod io;
mod locks;
mod opens;
mod owners;
mod ranges;
mod record;
mod session;
mod stateid;
mod view;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use bytes::Bytes;

use super::status::Status;
use super::types::{ClientId, SessionId};
use crate::handle::Handle;

pub use self::client::{Exchange, ExchangeReply, Principal};
pub use self::io::Writing;
pub use self::locks::{Denied, LockOwner, LockRequest};
pub use self::opens::{Claim, OpenRequest, Opened};
pub use self::owners::{OwnerKey, Turn};
pub use self::ranges::{Held, Ranges};
pub use self::record::{
    ClientRecord, ClientRecords, Effect, LAYOUT as RECORD_LAYOUT, RecordError, settle,
};
pub(super) use self::session::SMALL_BYTES;
pub use self::session::{Channel, SequenceRequest, Sequenced};
pub use self::view::{Counts, Holder};

use self::client::Client;
use self::grace::Grace;
use self::locks::Lock;
use self::opens::Open;
use self::owners::Owner;
use self::session::Session;

/// What the server promises and how much it holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Config {
    pub lease_ms: u64,
    /// At least the lease, so that every client has the time to come back.
    pub grace_ms: u64,
    /// How long a client keeps its state after its lease, if nobody else wants it.
    pub courtesy_ms: u64,
    pub clients_max: usize,
    pub sessions_per_client_max: usize,
    pub opens_per_client_max: usize,
    /// Ranges of one file.
    pub ranges_per_file_max: usize,
    pub slots_max: u32,
    pub request_bytes_max: u32,
    pub reply_bytes_max: u32,
    /// Of one slot's kept reply.
    pub cached_bytes_max: u32,
    /// Of all that sessions may keep, together.
    pub kept_bytes_max: u64,
    pub operations_max: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            lease_ms: 90_000,
            grace_ms: 90_000,
            courtesy_ms: 24 * 3_600_000,
            clients_max: 10_000,
            sessions_per_client_max: 16,
            opens_per_client_max: 100_000,
            ranges_per_file_max: 10_000,
            slots_max: 128,
            request_bytes_max: (1 << 20) + 4096,
            reply_bytes_max: (1 << 20) + 4096,
            cached_bytes_max: 8192,
            kept_bytes_max: 256 << 20,
            operations_max: 128,
        }
    }
}

/// An open or lock, by its client's number and its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Key {
    pub client: u32,
    pub number: u32,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum Entry {
    Open(Open),
    Lock(Lock),
}

/// All that is held on one file.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct FileState {
    opens: Vec<Key>,
    ranges: Ranges<Key>,
    locks: Vec<Key>,
    /// Writes that have passed their check and not ended.
    writes: u32,
}

impl FileState {
    fn is_empty(&self) -> bool {
        self.opens.is_empty() && self.locks.is_empty() && self.writes == 0
    }
}

/// The state of one server since its start.
#[derive(Debug)]
pub struct State {
    config: Config,
    /// Differs from every earlier start's, and is in every id that this one gives.
    boot: u32,
    clients: BTreeMap<u32, Client>,
    by_owner: HashMap<Bytes, BTreeSet<u32>>,
    /// Numbers of clients that were expired, for NFSv4.0 clients who ask.
    expired: BTreeSet<u32>,
    next_client: u32,
    next_session: u64,
    sessions: HashMap<SessionId, Session>,
    /// What the sessions may keep.
    granted_bytes: u64,
    entries: HashMap<Key, Entry>,
    files: HashMap<Handle, FileState>,
    owners: HashMap<OwnerKey, Owner>,
    grace: Option<Grace>,
    /// In the order in which they have to become durable; see [`State::pending`].
    pending: Vec<Effect>,
    durable: HashSet<Bytes>,
    pending_before: u64,
    /// Files of opens that are gone, one for each: the stores hold them still.
    released: Vec<Handle>,
}

/// Most numbers of expired clients that are remembered.
const EXPIRED_MAX: usize = 4096;

impl State {
    /// The state after a start, with the records that earlier ones left.
    ///
    /// `boot` is any number that no earlier start has used. Grace begins when there are records.
    #[must_use]
    pub fn new(config: Config, boot: u32, records: Vec<ClientRecord>, now_ms: u64) -> Self {
        let durable = records.iter().map(|record| record.owner.clone()).collect();
        Self {
            config,
            boot,
            clients: BTreeMap::new(),
            by_owner: HashMap::new(),
            expired: BTreeSet::new(),
            next_client: 1,
            next_session: 1,
            sessions: HashMap::new(),
            granted_bytes: 0,
            entries: HashMap::new(),
            files: HashMap::new(),
            owners: HashMap::new(),
            grace: Grace::after_restart(records, now_ms + config.grace_ms),
            pending: Vec::new(),
            durable,
            pending_before: 0,
            released: Vec::new(),
        }
    }

    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The verifier of this start.
    #[must_use]
    pub fn boot(&self) -> u32 {
        self.boot
    }

    /// What has to become durable before the next answer, and a mark to say so with.
    #[must_use]
    pub fn pending(&self) -> (Vec<Effect>, u64) {
        (self.pending.clone(), self.pending_before + self.pending.len() as u64)
    }

    /// Nothing has to become durable.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.pending.is_empty()
    }

    /// Opens are gone whose files the stores hold still.
    #[must_use]
    pub fn has_released(&self) -> bool {
        !self.released.is_empty()
    }

    /// The files of opens that are gone, as far as the caller reaches them: it is to let go of each
    /// ([`model::file::FileStore::let_go`]). Of the last `most`, so that who closes a file does not
    /// pay for a client whose lease took ten thousand.
    pub fn take_released(&mut self, most: usize, reaches: impl Fn(&Handle) -> bool) -> Vec<Handle> {
        let from = self.released.len().saturating_sub(most);
        self.released.extract_if(from.., |file| reaches(file)).collect()
    }

    /// All up to the mark is durable.
    pub fn settled(&mut self, mark: u64) {
        let count = usize::try_from(mark.saturating_sub(self.pending_before)).unwrap_or(0);
        let count = count.min(self.pending.len());
        self.pending.drain(..count);
        self.pending_before += count as u64;
    }

    fn client_id(&self, number: u32) -> ClientId {
        ClientId(u64::from(self.boot) << 32 | u64::from(number))
    }

    /// # Errors
    /// The id is of another start, or of no client.
    fn client_number(&self, id: ClientId) -> Result<u32, Status> {
        let number =
            u32::try_from(id.0 & u64::from(u32::MAX)).map_err(|_| Status::StaleClientid)?;
        if id == self.client_id(number) && self.clients.contains_key(&number) {
            return Ok(number);
        }
        let was_expired = id == self.client_id(number) && self.expired.contains(&number);
        Err(if was_expired { Status::Expired } else { Status::StaleClientid })
    }

    fn client(&self, number: u32) -> Result<&Client, Status> {
        self.clients.get(&number).ok_or(Status::StaleClientid)
    }
    fn client_mut(&mut self, number: u32) -> Result<&mut Client, Status> {
        self.clients.get_mut(&number).ok_or(Status::StaleClientid)
    }

    /// Time passes: grace ends, clients whose courtesy is over go, records of the idle too. To be
    /// called about once a second; nothing hangs on how often.
    pub fn tick(&mut self, now_ms: u64) {
        if self.grace.as_ref().is_some_and(|grace| grace.is_over(now_ms)) {
            self.end_grace();
        }
        self.forget_the_idle(now_ms);
        let Config { lease_ms, courtesy_ms, .. } = self.config;
        let over = |client: &Client| {
            let most = if client.confirmed { lease_ms + courtesy_ms } else { lease_ms };
            client.in_flight == 0 && now_ms.saturating_sub(client.renewed_ms) > most
        };
        let gone: Vec<u32> =
            self.clients.iter().filter(|(_, one)| over(one)).map(|(number, _)| *number).collect();
        for number in gone {
            self.expire(number);
        }
    }

    /// Whether two requests may stand beside each other, and all that refers to each other is
    /// there. For tests: it looks at everything.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&self) -> Result<(), String> {
        for (handle, file) in &self.files {
            let opens: Vec<(&Key, &Open)> = file
                .opens
                .iter()
                .filter_map(|key| self.open(*key).map(|open| (key, open)))
                .collect();
            if opens.len() != file.opens.len() {
                return Err(format!("{handle:?} lists an open that is gone"));
            }
            for (at, (key, open)) in opens.iter().enumerate() {
                if open.file != *handle {
                    return Err(format!("{key:?} is an open of another file"));
                }
                for (other, beside) in &opens[..at] {
                    if open.access & beside.deny != 0 || open.deny & beside.access != 0 {
                        return Err(format!("{key:?} and {other:?} deny each other"));
                    }
                }
            }
            for key in &file.locks {
                let lock = self.lock_entry(*key).ok_or(format!("{key:?} is gone"))?;
                let open = self.open(Key { number: lock.open, ..*key });
                if open.is_none_or(|open| open.file != *handle) {
                    return Err(format!("{key:?} has no open of its file"));
                }
            }
            if file.ranges.owners().any(|owner| !file.locks.contains(&owner)) {
                return Err(format!("a range of {handle:?} has no owner"));
            }
        }
        for (key, entry) in &self.entries {
            let client = self.clients.get(&key.client).ok_or(format!("{key:?} has no client"))?;
            let file = match entry {
                Entry::Open(open) => &open.file,
                Entry::Lock(lock) => &lock.file,
            };
            if !client.entries.contains(&key.number) || !self.files.contains_key(file) {
                return Err(format!("{key:?} is listed nowhere"));
            }
        }
        Ok(())
    }
}

/// How the engine reaches the state that all connections share: one step at a time, each alone.
///
/// The shell puts a lock behind it. A step is short and does no I/O.
pub trait Shared {
    fn enter(&self, step: &mut dyn FnMut(&mut State));
}

impl dyn Shared + '_ {
    /// Runs one step and gives its result back.
    pub fn with<R>(&self, step: impl FnOnce(&mut State) -> R) -> R {
        let (mut step, mut result) = (Some(step), None);
        self.enter(&mut |state| {
            if let Some(step) = step.take() {
                result = Some(step(state));
            }
        });
        result.expect("Shared::enter runs the step that it is given")
    }
}

/// For one thread, as in tests.
impl Shared for std::cell::RefCell<State> {
    fn enter(&self, step: &mut dyn FnMut(&mut State)) {
        step(&mut self.borrow_mut());
    }
}

#[cfg(test)]
mod tests;
