//! What a host must not forget, so that a loser that starts again does not come back by itself.
//!
//! ```text
//!            a command is about to run          it ended, the owner stops in good order
//!   clean ------------------------------> running ------------------------------> clean
//!     ^                                      |  the reservation is found lost
//!     `------------- permission -------- fenced
//! ```
//!
//! Written as lines of text, so that a person can read it: docs/formats/guard.md.

use crate::Key;

const HEAD: &str = "commonhold guard 1";
/// A program from before this line takes the record for damaged, and stops.
const UNANSWERED: &str = "registrations unanswered";
/// The first is that of the last owner, the others of runs that may have died while they claimed.
const KEYS_MAX: usize = 64;

/// Where a host stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Nothing of an earlier run is left over.
    Clean,
    /// A command ran and its end was not seen in good order.
    Running,
    /// The volume was lost to another host: nothing starts before somebody permits it.
    Fenced,
}

/// The durable record of one host about one volume.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Standing {
    pub state: State,
    /// Epoch of the last key that was made.
    pub epoch: u16,
    /// A registration by one of several paths may be without an answer: whoever begins with that
    /// has every path answer first. Durable before such a registration is sent.
    pub unanswered: bool,
    /// Keys under which this host may still be found as the owner.
    pub keys: Vec<Key>,
}

/// A record that is no record. It must stop the host: an unreadable one may have said `fenced`.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("line {0} of the guard's record is not one that this program writes")]
pub struct Malformed(pub usize);

impl Default for Standing {
    fn default() -> Self {
        Self { state: State::Clean, epoch: 0, unanswered: false, keys: Vec::new() }
    }
}

impl State {
    /// The word in the record.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Running => "running",
            Self::Fenced => "fenced",
        }
    }
    const ALL: [Self; 3] = [Self::Clean, Self::Running, Self::Fenced];
}

impl Standing {
    /// The record's text.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = format!("{HEAD}\nstate {}\nepoch {}\n", self.state.word(), self.epoch);
        for key in &self.keys {
            text.push_str(&format!("key {key}\n"));
        }
        if self.unanswered {
            text.push_str(&format!("{UNANSWERED}\n"));
        }
        text.push_str("end\n");
        text
    }

    /// # Errors
    /// [`Malformed`] for anything that [`Self::encode`] does not write, also a record cut short.
    pub fn decode(text: &str) -> Result<Self, Malformed> {
        let mut lines = (1..).zip(text.lines());
        let mut line = |word: &str| match lines.next() {
            Some((number, line)) => line
                .strip_prefix(word)
                .map(|rest| (number, rest.trim_start().to_owned()))
                .ok_or(Malformed(number)),
            None => Err(Malformed(0)),
        };
        line(HEAD)?;
        let (at, word) = line("state ")?;
        let state = State::ALL.into_iter().find(|state| state.word() == word);
        let state = state.ok_or(Malformed(at))?;
        let (at, epoch) = line("epoch ")?;
        let epoch = epoch.parse().map_err(|_| Malformed(at))?;
        let (mut keys, mut unanswered) = (Vec::new(), false);
        loop {
            let (at, rest) = line("")?;
            if rest == "end" {
                return Ok(Self { state, epoch, unanswered, keys });
            }
            if unanswered {
                return Err(Malformed(at));
            }
            if rest == UNANSWERED {
                unanswered = true;
                continue;
            }
            let digits = rest.strip_prefix("key 0x").ok_or(Malformed(at))?;
            let number = u64::from_str_radix(digits, 16).map_err(|_| Malformed(at))?;
            keys.push(Key::of(number).ok_or(Malformed(at))?);
        }
    }

    /// The record of a new run, and its key. What earlier runs were called stays: one that died
    /// while it claimed may hold the volume, and nobody else would take it from a host that speaks.
    #[must_use]
    pub fn begin(&self, host: u32, nonce: u16) -> (Self, Key) {
        self.begin_as(|epoch| Key::new(host, epoch, nonce))
    }

    /// The same for a run that reaches the volume by several paths.
    #[must_use]
    pub fn begin_by_paths(&self, host: u32, nonce: u16) -> (Self, Key) {
        self.begin_as(|epoch| Key::new(host, epoch, nonce).by_paths())
    }

    fn begin_as(&self, key: impl FnOnce(u16) -> Key) -> (Self, Key) {
        let epoch = self.epoch.wrapping_add(1);
        let key = key(epoch);
        let mut keys = self.keys.clone();
        if keys.len() >= KEYS_MAX {
            keys.remove(1);
        }
        keys.push(key);
        (Self { epoch, keys, ..*self }, key)
    }
}
