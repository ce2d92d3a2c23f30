//! Calls that come again are answered again, and not done again: the duplicate request cache
//! (RFC 1813 4.5, RFC 7530 3.1.1).
//!
//! A client whose connection broke before the reply sends the call once more over another. A
//! second REMOVE would fail, although the first has done what was wanted. NFSv4.1 has sessions
//! for that, and the owners of NFSv4.0 have numbers; this is for all else that cannot be done
//! twice.
//!
//! ```text
//!          first call              the reply is kept              old, or room is needed
//!   none ------------> running --------------------> answered ----------------------> none
//!                      | again: dropped              | again: the kept reply
//! ```
//!
//! Entry points: [`Replays`], one value for all clients, and [`Once`], one call's way through it.
//!
//! Invariant: replies that are kept take no more bytes than the cache may; when it is full, the
//! address that takes most gives way, so that a client that floods forgets its own calls.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;

use bytes::Bytes;

use crate::rpc::{Call, Credential};

/// What a kept reply takes beside its bytes.
const ENTRY_BYTES: usize = 256;
/// A reply of more than this part of the cache is not kept.
const PART: usize = 16;
/// For how long a reply is kept: a client that has heard nothing tries again sooner, and one that
/// has restarted may by then use the same number for a new call.
pub const KEPT_MS: u64 = 120_000;

/// What tells a call that comes again from another of the same number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct CallKey {
    peer: IpAddr,
    xid: u32,
    program: u32,
    version: u32,
    procedure: u32,
    /// Of the arguments, and of who asks.
    digest: u64,
}

impl CallKey {
    #[must_use]
    pub fn of(peer: IpAddr, call: &Call, credential: &Credential) -> Self {
        let mut hasher = DefaultHasher::new();
        call.arguments.hash(&mut hasher);
        if let Credential::Sys(sys) = credential {
            // Not the stamp, which may differ from one sending to the next.
            (sys.uid, sys.gid, &sys.gids).hash(&mut hasher);
        }
        let (peer, digest) = (peer.to_canonical(), hasher.finish());
        let Call { xid, program, version, procedure, .. } = *call;
        Self { peer, xid, program, version, procedure, digest }
    }
}

/// How a call stands that was seen before.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Known {
    /// It runs: what is sent again is dropped, and its sender hears of the first one.
    Running,
    /// It was answered with this.
    Answered(Bytes),
}

#[derive(Debug)]
enum Entry {
    Running,
    Answered { reply: Bytes, at_ms: u64 },
}

/// What is kept for one address, oldest first.
#[derive(Debug, Default)]
struct Kept {
    calls: VecDeque<CallKey>,
    bytes: usize,
}

/// The calls that run, and the replies of those that were answered.
#[derive(Debug)]
pub struct Replays {
    bytes_max: usize,
    bytes: usize,
    entries: HashMap<CallKey, Entry>,
    kept: HashMap<IpAddr, Kept>,
    /// Who keeps how much, in order.
    by_bytes: BTreeSet<(usize, IpAddr)>,
}

impl Replays {
    /// A cache of at most so many bytes of replies.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        let (entries, kept, by_bytes) = (HashMap::new(), HashMap::new(), BTreeSet::new());
        Self { bytes_max, bytes: 0, entries, kept, by_bytes }
    }

    /// Bytes that are kept.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// A call that is not known runs from now on, until [`Self::end`].
    pub fn begin(&mut self, key: CallKey, now_ms: u64) -> Option<Known> {
        while self.oldest_ms(key.peer).is_some_and(|at_ms| now_ms.saturating_sub(at_ms) > KEPT_MS) {
            self.drop_oldest(key.peer);
        }
        match self.entries.get(&key) {
            Some(Entry::Running) => Some(Known::Running),
            Some(Entry::Answered { reply, .. }) => Some(Known::Answered(reply.clone())),
            None => {
                self.entries.insert(key, Entry::Running);
                None
            }
        }
    }

    /// A call has ended. Without a reply it may be tried again.
    pub fn end(&mut self, key: CallKey, reply: Option<Bytes>, now_ms: u64) {
        let fits = |reply: &Bytes| reply.len() + ENTRY_BYTES <= self.bytes_max / PART;
        let Some(reply) = reply.filter(fits) else {
            self.entries.remove(&key);
            return;
        };
        let bytes = reply.len() + ENTRY_BYTES;
        self.entries.insert(key, Entry::Answered { reply, at_ms: now_ms });
        self.kept.entry(key.peer).or_default().calls.push_back(key);
        self.count(key.peer, |kept| kept + bytes);
        while self.bytes > self.bytes_max
            && let Some(&(_, most)) = self.by_bytes.last()
        {
            self.drop_oldest(most);
        }
    }

    fn oldest_ms(&self, peer: IpAddr) -> Option<u64> {
        let oldest = self.kept.get(&peer)?.calls.front()?;
        match self.entries.get(oldest) {
            Some(Entry::Answered { at_ms, .. }) => Some(*at_ms),
            _ => None,
        }
    }

    fn drop_oldest(&mut self, peer: IpAddr) {
        let Some(kept) = self.kept.get_mut(&peer) else { return };
        let Some(oldest) = kept.calls.pop_front() else { return };
        if let Some(Entry::Answered { reply, .. }) = self.entries.remove(&oldest) {
            self.count(peer, |kept| kept - (reply.len() + ENTRY_BYTES));
        }
    }

    /// Changes how much an address keeps.
    fn count(&mut self, peer: IpAddr, change: impl FnOnce(usize) -> usize) {
        let Some(kept) = self.kept.get_mut(&peer) else { return };
        self.by_bytes.remove(&(kept.bytes, peer));
        self.bytes -= kept.bytes;
        kept.bytes = change(kept.bytes);
        self.bytes += kept.bytes;
        if kept.bytes == 0 {
            self.kept.remove(&peer);
        } else {
            self.by_bytes.insert((kept.bytes, peer));
        }
    }
}

/// How calls reach the cache that all connections share: one step at a time, each short.
pub trait SharedReplays {
    fn enter(&self, step: &mut dyn FnMut(&mut Replays));
}

/// For one thread, as in tests.
impl SharedReplays for RefCell<Replays> {
    fn enter(&self, step: &mut dyn FnMut(&mut Replays)) {
        step(&mut self.borrow_mut());
    }
}

/// One call's way through the cache. It asks there only when it comes to something that cannot be
/// done twice.
pub struct Once<'a> {
    replays: &'a dyn SharedReplays,
    call: &'a Call,
    credential: &'a Credential,
    peer: IpAddr,
    now_ms: u64,
    running: Cell<Option<CallKey>>,
    known: RefCell<Option<Known>>,
}

impl std::fmt::Debug for Once<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Once").field("running", &self.running).finish_non_exhaustive()
    }
}

impl<'a> Once<'a> {
    #[must_use]
    pub fn new(
        replays: &'a dyn SharedReplays,
        (peer, call, credential): (IpAddr, &'a Call, &'a Credential),
        now_ms: u64,
    ) -> Self {
        let (running, known) = (Cell::new(None), RefCell::new(None));
        Self { replays, call, credential, peer, now_ms, running, known }
    }

    #[must_use]
    pub fn peer(&self) -> IpAddr {
        self.peer
    }
    #[must_use]
    pub fn credential(&self) -> &'a Credential {
        self.credential
    }

    /// Whether the call may do what cannot be done twice. If not, it ends here, and
    /// [`Self::known`] says how it is answered.
    #[must_use]
    pub fn may_run(&self) -> bool {
        if self.running.get().is_some() {
            return true;
        }
        let key = CallKey::of(self.peer, self.call, self.credential);
        let mut known = None;
        self.replays.enter(&mut |replays| known = replays.begin(key, self.now_ms));
        let is_new = known.is_none();
        self.running.set(is_new.then_some(key));
        *self.known.borrow_mut() = known;
        is_new
    }

    /// What is known of the call from before, once [`Self::may_run`] has said no.
    #[must_use]
    pub fn known(&self) -> Option<Known> {
        self.known.borrow().clone()
    }

    /// The call is answered with these pieces.
    pub fn answered(&self, pieces: &[Bytes]) {
        if let Some(key) = self.running.take() {
            let reply = Bytes::from(pieces.concat());
            self.replays.enter(&mut |replays| replays.end(key, Some(reply.clone()), self.now_ms));
        }
    }
}

/// A call that ends without an answer may be tried again.
impl Drop for Once<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.running.take() {
            self.replays.enter(&mut |replays| replays.end(key, None, self.now_ms));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rpc::Opaque;

    fn key(peer: u8, xid: u32) -> CallKey {
        let (credential, verifier) = (Opaque::none(), Opaque::none());
        let arguments = Bytes::from_static(b"remove it");
        let (program, version, procedure) = (100_003, 3, 12);
        let call = Call { xid, program, version, procedure, credential, verifier, arguments };
        CallKey::of(IpAddr::from([10, 0, 0, peer]), &call, &Credential::None)
    }

    fn answered(replays: &mut Replays, key: CallKey, bytes: usize, now_ms: u64) -> bool {
        match replays.begin(key, now_ms) {
            None => {
                replays.end(key, Some(Bytes::from(vec![7; bytes])), now_ms);
                false
            }
            Some(known) => {
                assert_eq!(known, Known::Answered(Bytes::from(vec![7; bytes])));
                true
            }
        }
    }

    #[test]
    fn a_call_that_runs_is_not_run_beside_itself_and_then_answered_as_before() {
        let mut replays = Replays::new(1 << 20);
        assert_eq!(replays.begin(key(1, 5), 0), None);
        assert_eq!(replays.begin(key(1, 5), 0), Some(Known::Running));
        assert_eq!((replays.begin(key(2, 5), 0), replays.begin(key(1, 6), 0)), (None, None));
        let reply = Bytes::from_static(b"done");
        replays.end(key(1, 5), Some(reply.clone()), 0);
        assert_eq!(replays.begin(key(1, 5), KEPT_MS), Some(Known::Answered(reply)));
        assert_eq!(replays.begin(key(1, 5), KEPT_MS + 1), None);
    }

    #[test]
    fn a_call_that_was_not_answered_may_be_tried_again() {
        let mut replays = Replays::new(1 << 20);
        assert_eq!(replays.begin(key(1, 5), 0), None);
        replays.end(key(1, 5), None, 0);
        assert_eq!(replays.begin(key(1, 5), 0), None);
        replays.end(key(1, 5), Some(Bytes::from(vec![0; 1 << 20])), 0);
        assert_eq!((replays.begin(key(1, 5), 0), replays.bytes()), (None, 0));
    }

    #[test]
    fn a_client_that_floods_forgets_its_own_calls_and_not_those_of_others() {
        let mut replays = Replays::new(100 << 10);
        assert!(!answered(&mut replays, key(1, 1), 100, 0));
        for xid in 0..10_000 {
            assert!(!answered(&mut replays, key(2, xid), 100, 0));
        }
        assert!(answered(&mut replays, key(1, 1), 100, 0));
        assert!(answered(&mut replays, key(2, 9_999), 100, 0));
        assert!(!answered(&mut replays, key(2, 1), 100, 0));
    }

    proptest! {
        #[test]
        fn what_is_kept_is_counted_and_within_bounds(
            calls in prop::collection::vec((0u8..4, 0u32..20, 0usize..2000, 0u64..40_000), 1..200),
        ) {
            let mut replays = Replays::new(16 << 10);
            let mut now_ms = 0;
            for (peer, xid, bytes, passes_ms) in calls {
                now_ms += passes_ms;
                let key = key(peer, xid);
                if replays.begin(key, now_ms).is_none() {
                    replays.end(key, Some(Bytes::from(vec![7; bytes])), now_ms);
                }
                let kept: usize = replays.entries.values().map(|entry| match entry {
                    Entry::Answered { reply, .. } => reply.len() + ENTRY_BYTES,
                    Entry::Running => 1 << 30,
                }).sum();
                prop_assert_eq!(replays.bytes(), kept);
                prop_assert!(kept <= replays.bytes_max);
                let calls: usize = replays.kept.values().map(|kept| kept.calls.len()).sum();
                prop_assert_eq!(calls, replays.entries.len());
                prop_assert_eq!(replays.by_bytes.len(), replays.kept.len());
            }
        }
    }
}
