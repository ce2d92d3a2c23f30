//! Reservation keys that say whose they are.
//!
//! ```text
//! 63     56 55          36 35        20 19      16 15          0
//! |  C4h   |  host, 20   | epoch, 16  | flags, 4 | nonce, 16  |
//! ```

use std::fmt;

const MARK: u64 = 0xC4;
const HOST_MASK: u64 = 0xF_FFFF;
const VACANT: u64 = 1 << 16;
const CLAIMING: u64 = 1 << 17;
const PATHS: u64 = 1 << 18;

/// The key of one run of a guard: host, epoch of the run, and a nonce, so that two machines that
/// were cloned with the same identity and history still have two keys. Never used twice, which is
/// what makes PREEMPT of a key a compare-and-swap: of two challengers that name it one succeeds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Key(u64);

impl Key {
    /// `host` is cut to 20 bits.
    #[must_use]
    pub const fn new(host: u32, epoch: u16, nonce: u16) -> Self {
        Self(MARK << 56 | (host as u64 & HOST_MASK) << 36 | (epoch as u64) << 20 | nonce as u64)
    }
    /// A key that was read from a volume; `None` when no guard made it.
    #[must_use]
    pub const fn of(number: u64) -> Option<Self> {
        if number >> 56 == MARK { Some(Self(number)) } else { None }
    }
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }
    /// The host's 20 bits.
    #[must_use]
    pub const fn host(self) -> u32 {
        (self.0 >> 36 & HOST_MASK) as u32
    }
    /// Which run of the host.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, reason = "the sixteen bits that are meant")]
    pub const fn epoch(self) -> u16 {
        (self.0 >> 20) as u16
    }
    /// The same run's key for "took it, but what the owner before had sent may still land": whoever
    /// takes over from this one has that to prove as well.
    #[must_use]
    pub const fn claiming(self) -> Self {
        Self(self.0 | CLAIMING)
    }
    #[must_use]
    pub const fn is_claiming(self) -> bool {
        self.0 & CLAIMING != 0
    }
    /// The key of a run that reaches the volume by several paths: the youngest command of any
    /// registration with it is the owner's sign of life. Of other keys it is the holder's, because
    /// their further registrations are ports that the command writes by, guard or no guard.
    #[must_use]
    pub const fn by_paths(self) -> Self {
        Self(self.0 | PATHS)
    }
    #[must_use]
    pub const fn is_by_paths(self) -> bool {
        self.0 & PATHS != 0
    }
    /// Whether both are forms of one run's key.
    #[must_use]
    pub const fn is_of(self, other: Self) -> bool {
        self.0 & !(VACANT | CLAIMING) == other.0 & !(VACANT | CLAIMING)
    }
    /// The same run's key for "still reserved, but nobody runs": whoever wants may take over.
    #[must_use]
    pub const fn vacated(self) -> Self {
        Self(self.0 | VACANT)
    }
    #[must_use]
    pub const fn is_vacant(self) -> bool {
        self.0 & VACANT != 0
    }
}

/// Twenty bits of a host's name or id, rarely zero, by FNV-1a folded.
#[must_use]
pub fn host_number(text: &str) -> u32 {
    let mix = |sum: u64, byte: u8| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let sum = text.bytes().fold(0xcbf2_9ce4_8422_2325, mix);
    let folded = (sum ^ sum >> 20 ^ sum >> 40) & HOST_MASK;
    u32::try_from(folded.max(1)).unwrap_or(1)
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#018x}", self.0)
    }
}
