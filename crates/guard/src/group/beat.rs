//! Signs of life between the hosts of a group, beside those through the volume.
//!
//! ```text
//! | CHB2, 4 | group, 16 | host, 16 | life, 8 | sequence, 8 | role, 1 | volume age, 4 | generation, 8 | open, 1 | HMAC-SHA-256, 32 |
//! ```
//!
//! Numbers are big-endian. The volume decides who owns the group; beats can only hold a claim
//! back for a while, or tell that a preferred host is ready. So a lost, late or forged one costs time at most,
//! and the key, with life and sequence that only grow, keeps strangers from costing even that.

use std::collections::BTreeMap;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

const MAGIC: [u8; 4] = *b"CHB2";
const BODY_BYTES: usize = 66;
const MAC_BYTES: usize = 32;
/// The volume age of a host that has not reached it.
const NEVER: u32 = u32::MAX;

/// The bytes of a beat.
pub const BEAT_BYTES: usize = BODY_BYTES + MAC_BYTES;

/// What a host does with the group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// It could not take it.
    Out,
    /// It would take it.
    Ready,
    /// It has it.
    Owner,
    /// It would take it, and has not reached the volume yet.
    Trying,
}

impl Role {
    const ALL: [Self; 4] = [Self::Out, Self::Ready, Self::Owner, Self::Trying];
}

/// One sign of life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Beat {
    pub group: [u8; 16],
    pub host: [u8; 16],
    /// Greater in each life of the sender than in the one before.
    pub life: u64,
    pub sequence: u64,
    pub role: Role,
    /// Since the volume last answered the sender; `None`: never.
    pub volume_age_ms: Option<u32>,
    /// The newest word of what is wanted of the group that the sender knows.
    pub generation: u64,
    /// By that word the group may be taken: it is to run, and it is not frozen.
    pub is_open: bool,
}

impl Beat {
    fn body(&self) -> Vec<u8> {
        let mut body = MAGIC.to_vec();
        body.extend(self.group);
        body.extend(self.host);
        body.extend(self.life.to_be_bytes());
        body.extend(self.sequence.to_be_bytes());
        body.push(self.role as u8);
        body.extend(self.volume_age_ms.unwrap_or(NEVER).to_be_bytes());
        body.extend(self.generation.to_be_bytes());
        body.push(u8::from(self.is_open));
        body
    }

    /// The datagram.
    #[must_use]
    pub fn encode(&self, key: &[u8; 32]) -> Vec<u8> {
        let mut bytes = self.body();
        let mac = mac(key, &bytes).finalize().into_bytes();
        bytes.extend(mac);
        bytes
    }

    /// `None` for anything but what [`Self::encode`] writes with the same key.
    #[must_use]
    pub fn decode(bytes: &[u8], key: &[u8; 32]) -> Option<Self> {
        let (body, code) = bytes.split_at_checked(BODY_BYTES)?;
        mac(key, body).verify_slice(code).ok()?;
        let (magic, rest) = body.split_first_chunk::<4>()?;
        let (group, rest) = rest.split_first_chunk::<16>()?;
        let (host, rest) = rest.split_first_chunk::<16>()?;
        let (life, rest) = rest.split_first_chunk::<8>()?;
        let (sequence, rest) = rest.split_first_chunk::<8>()?;
        let (role, rest) = rest.split_first_chunk::<1>()?;
        let (age, rest) = rest.split_first_chunk::<4>()?;
        let (generation, rest) = rest.split_first_chunk::<8>()?;
        let ([open @ (0 | 1)], _) = rest.split_first_chunk::<1>()? else { return None };
        let age_ms = u32::from_be_bytes(*age);
        (*magic == MAGIC).then_some(())?;
        Some(Self {
            group: *group,
            host: *host,
            life: u64::from_be_bytes(*life),
            sequence: u64::from_be_bytes(*sequence),
            role: *Role::ALL.get(usize::from(role[0]))?,
            volume_age_ms: (age_ms != NEVER).then_some(age_ms),
            generation: u64::from_be_bytes(*generation),
            is_open: *open == 1,
        })
    }

    /// Which group a datagram says that it is for, unproven: to hand it on.
    #[must_use]
    pub fn group_of(bytes: &[u8]) -> Option<[u8; 16]> {
        let rest = bytes.strip_prefix(&MAGIC).filter(|_| bytes.len() == BEAT_BYTES)?;
        rest.first_chunk().copied()
    }
}

fn mac(key: &[u8; 32], body: &[u8]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(body);
    mac
}

#[derive(Clone, Copy, Debug)]
struct Heard {
    at_ms: u64,
    beat: Beat,
}

/// What was heard of the other hosts of one group.
#[derive(Clone, Debug, Default)]
pub struct Peers(BTreeMap<[u8; 16], Heard>);

impl Peers {
    /// Whether it is news: a beat that was sent before one that was heard is not.
    pub fn hear(&mut self, now_ms: u64, beat: Beat) -> bool {
        let order = |beat: &Beat| (beat.life, beat.sequence);
        if self.0.get(&beat.host).is_some_and(|heard| order(&heard.beat) >= order(&beat)) {
            return false;
        }
        self.0.insert(beat.host, Heard { at_ms: now_ms, beat });
        true
    }

    /// Since this host was last heard.
    #[must_use]
    pub fn age_ms(&self, now_ms: u64, host: &[u8; 16]) -> Option<u64> {
        self.0.get(host).map(|heard| now_ms.saturating_sub(heard.at_ms))
    }

    /// Whether this host said within `fresh_ms` that it would take the group.
    #[must_use]
    pub fn is_ready(&self, now_ms: u64, host: &[u8; 16], fresh_ms: u64) -> bool {
        self.fresh(now_ms, host, fresh_ms).is_some_and(|beat| beat.role == Role::Ready)
    }

    /// Whether this host said within `fresh_ms` that it owns the group and that the volume had
    /// answered it less than `answered_ms` before. Such an owner is not silent, whatever the
    /// volume shows; one that the volume does not answer is about to stop by itself.
    #[must_use]
    pub fn owns_well(&self, now_ms: u64, host: &[u8; 16], fresh_ms: u64, answered_ms: u64) -> bool {
        self.fresh(now_ms, host, fresh_ms).is_some_and(|beat| {
            let answered = |age_ms| u64::from(age_ms) < answered_ms;
            beat.role == Role::Owner && beat.volume_age_ms.is_some_and(answered)
        })
    }

    /// Whether this host lives, and has yet to hear that `generation` is wanted, or to reach the
    /// volume by it.
    #[must_use]
    pub fn is_behind(&self, now_ms: u64, host: &[u8; 16], fresh_ms: u64, generation: u64) -> bool {
        self.fresh(now_ms, host, fresh_ms)
            .is_some_and(|beat| beat.generation < generation || beat.role == Role::Trying)
    }

    /// The beat of a host that lives and knows the newest of what is newer than `generation`.
    #[must_use]
    pub fn news(&self, now_ms: u64, fresh_ms: u64, generation: u64) -> Option<&Beat> {
        let fresh = self.0.keys().filter_map(|host| self.fresh(now_ms, host, fresh_ms));
        fresh.filter(|beat| beat.generation > generation).max_by_key(|beat| beat.generation)
    }

    fn fresh(&self, now_ms: u64, host: &[u8; 16], fresh_ms: u64) -> Option<&Beat> {
        let heard = self.0.get(host)?;
        (now_ms.saturating_sub(heard.at_ms) < fresh_ms).then_some(&heard.beat)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [u8; 32] = [7; 32];
    const A: [u8; 16] = [1; 16];

    fn beat(life: u64, sequence: u64) -> Beat {
        let role = Role::Owner;
        let (group, volume_age_ms, generation, is_open) = ([9; 16], Some(40), 5, true);
        Beat { group, host: A, life, sequence, role, volume_age_ms, generation, is_open }
    }

    #[test]
    fn a_beat_reads_back_and_one_changed_bit_makes_it_none() {
        let ages = [None, Some(0), Some(7), Some(u32::MAX - 1)];
        for (role, volume_age_ms) in Role::ALL.into_iter().zip(ages) {
            let is_open = role != Role::Out;
            let beat = Beat { role, volume_age_ms, is_open, ..beat(1, 2) };
            let bytes = beat.encode(&KEY);
            assert_eq!((bytes.len(), Beat::decode(&bytes, &KEY)), (BEAT_BYTES, Some(beat)));
            assert_eq!(Beat::group_of(&bytes), Some([9; 16]));
            assert_eq!(Beat::decode(&bytes, &[8; 32]), None);
            for bit in 0..bytes.len() * 8 {
                let mut wrong = bytes.clone();
                wrong[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(Beat::decode(&wrong, &KEY), None, "bit {bit}");
            }
            for length in 0..bytes.len() {
                assert_eq!(Beat::decode(&bytes[..length], &KEY), None);
                assert_eq!(Beat::group_of(&bytes[..length]), None);
            }
        }
    }

    #[test]
    fn a_beat_that_is_sent_again_is_no_news() {
        let mut peers = Peers::default();
        assert!(peers.hear(10, beat(1, 5)));
        assert!(!peers.hear(900, beat(1, 5)) && !peers.hear(900, beat(1, 4)));
        assert_eq!(peers.age_ms(1_000, &A), Some(990));
        assert!(peers.hear(1_000, beat(2, 0)), "a later life begins anew");
        assert!(!peers.hear(1_000, beat(1, 99)));
    }

    #[test]
    fn only_a_fresh_owner_that_the_volume_answers_holds_a_claim_back() {
        let mut peers = Peers::default();
        peers.hear(1_000, beat(1, 1));
        assert!(peers.owns_well(1_400, &A, 500, 350));
        assert!(!peers.owns_well(1_500, &A, 500, 350), "it is silent here as well");
        peers.hear(1_600, Beat { volume_age_ms: Some(360), ..beat(1, 2) });
        assert!(!peers.owns_well(1_601, &A, 500, 350), "it freezes by itself");
        peers.hear(1_700, Beat { role: Role::Ready, ..beat(1, 3) });
        assert!(peers.is_ready(1_701, &A, 500) && !peers.owns_well(1_701, &A, 500, 350));
        assert!(!peers.is_ready(1_701, &[2; 16], 500));
    }

    #[test]
    fn behind_is_who_lives_and_has_not_heard_or_does_not_reach_the_volume_yet() {
        let mut peers = Peers::default();
        assert!(!peers.is_behind(1_000, &A, 500, 6), "nobody has heard of it");
        peers.hear(1_000, Beat { role: Role::Out, ..beat(1, 1) });
        assert!(peers.is_behind(1_499, &A, 500, 6) && !peers.is_behind(1_499, &A, 500, 5));
        assert!(!peers.is_behind(1_500, &A, 500, 6), "it is silent");
        let news = |peers: &Peers, at_ms, than| {
            peers.news(at_ms, 500, than).map(|beat| (beat.generation, beat.is_open))
        };
        assert_eq!((news(&peers, 1_499, 4), news(&peers, 1_499, 5)), (Some((5, true)), None));
        assert_eq!(news(&peers, 1_500, 4), None, "it is silent");
        let other = Beat { host: [3; 16], generation: 7, is_open: false, ..beat(1, 1) };
        peers.hear(1_499, other);
        assert_eq!(news(&peers, 1_499, 4), Some((7, false)), "the newest word counts");
        peers.hear(1_600, Beat { role: Role::Trying, generation: 6, ..beat(1, 2) });
        assert!(peers.is_behind(1_601, &A, 500, 6));
        for (sequence, role) in [(3, Role::Ready), (4, Role::Out), (5, Role::Owner)] {
            peers.hear(1_700, Beat { role, generation: 6, ..beat(1, sequence) });
            assert!(!peers.is_behind(1_701, &A, 500, 6), "{role:?} at this generation");
        }
    }
}
