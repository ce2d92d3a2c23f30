//! CHAP (RFC 1994) as iSCSI uses it (RFC 7143 12.1.3): challenge, response, both directions.

use md5::Md5;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Fewer and more bytes of challenge than these are refused (RFC 7143 12.1.3: at most 1024; we
/// want enough to be unpredictable).
pub const CHALLENGE_BYTES: std::ops::RangeInclusive<usize> = 16..=1024;
/// Bytes of our own challenges.
const OUR_CHALLENGE_BYTES: usize = 32;
/// A secret shorter than 96 bits may not be used without IPsec (RFC 7143 9.2.1); callers that
/// create secrets hold to it.
pub const SECRET_BYTES_MIN: usize = 12;

/// Hash algorithms by their number in the registry of PPP authentication algorithms.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Algorithm {
    Md5 = 5,
    Sha256 = 7,
}

impl Algorithm {
    /// The value of CHAP_A that offers these, in this order.
    #[must_use]
    pub fn list(offered: &[Self]) -> String {
        offered.iter().map(|a| a.number().to_string()).collect::<Vec<_>>().join(",")
    }

    /// The first algorithm of the list that we have.
    #[must_use]
    pub fn choose(list: &str) -> Option<Self> {
        list.split(',').find_map(|number| match number {
            "5" => Some(Self::Md5),
            "7" => Some(Self::Sha256),
            _ => None,
        })
    }

    /// Its number in the registry.
    #[must_use]
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The response that proves the secret: the hash of identifier, secret and challenge.
    #[must_use]
    pub fn respond(self, identifier: u8, secret: &[u8], challenge: &[u8]) -> Vec<u8> {
        let parts = [&[identifier][..], secret, challenge];
        match self {
            Self::Md5 => {
                parts.iter().fold(Md5::new(), |h, p| h.chain_update(p)).finalize().to_vec()
            }
            Self::Sha256 => {
                parts.iter().fold(Sha256::new(), |h, p| h.chain_update(p)).finalize().to_vec()
            }
        }
    }
}

/// A challenge that we have put to the peer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Challenge {
    pub algorithm: Algorithm,
    pub identifier: u8,
    pub bytes: Vec<u8>,
}

impl Challenge {
    /// A new one, from random bytes.
    pub fn new(algorithm: Algorithm, nonce: &mut dyn FnMut(&mut [u8])) -> Self {
        let mut random = [0; 1 + OUR_CHALLENGE_BYTES];
        nonce(&mut random);
        Self { algorithm, identifier: random[0], bytes: random[1..].to_vec() }
    }

    /// Does the response prove the secret? Takes the same time whatever is wrong.
    #[must_use]
    pub fn is_met(&self, secret: &str, response: &[u8]) -> bool {
        let expected = self.algorithm.respond(self.identifier, secret.as_bytes(), &self.bytes);
        bool::from(expected.ct_eq(response))
    }
}

/// `0x` and hexadecimal digits.
#[must_use]
pub fn encode(bytes: &[u8]) -> String {
    bytes.iter().fold(String::from("0x"), |mut text, byte| {
        for nibble in [byte >> 4, byte & 15] {
            text.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0'));
        }
        text
    })
}

/// A binary value (RFC 7143 6.1): `0x` hexadecimal or `0b` base64.
#[must_use]
pub fn decode(text: &str) -> Option<Vec<u8>> {
    match text.get(..2)? {
        "0x" | "0X" => decode_hex(&text.as_bytes()[2..]),
        "0b" | "0B" => decode_base64(&text.as_bytes()[2..]),
        _ => None,
    }
}

fn decode_hex(digits: &[u8]) -> Option<Vec<u8>> {
    let nibble = |digit: u8| char::from(digit).to_digit(16).and_then(|n| u8::try_from(n).ok());
    // An odd count means a leading zero was left out.
    let (odd, pairs) = digits.split_at(digits.len() % 2);
    let mut bytes = Vec::with_capacity(digits.len().div_ceil(2));
    for digit in odd {
        bytes.push(nibble(*digit)?);
    }
    for pair in pairs.chunks_exact(2) {
        bytes.push(nibble(pair[0])? << 4 | nibble(pair[1])?);
    }
    (!bytes.is_empty()).then_some(bytes)
}

fn decode_base64(text: &[u8]) -> Option<Vec<u8>> {
    let end = text.iter().rposition(|c| *c != b'=').map_or(0, |at| at + 1);
    if text.len() - end > 2 || !text.len().is_multiple_of(4) {
        return None;
    }
    let (mut bytes, mut bits, mut count) = (Vec::with_capacity(end), 0u32, 0);
    for c in &text[..end] {
        let six = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(six)) & 0xff_ffff;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count).to_be_bytes()[3]);
        }
    }
    (!bytes.is_empty()).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::{Algorithm, Challenge, decode, encode};

    /// Hashes computed with the coreutils `md5sum` and `sha256sum` over the same bytes.
    #[test]
    fn responses_are_the_hash_of_identifier_secret_challenge() {
        let challenge: Vec<u8> = (0..16).collect();
        let md5 = Algorithm::Md5.respond(0x41, b"secretsecret", &challenge);
        assert_eq!(encode(&md5), "0x22972b14de9086326240f315f9d0f9b4");
        let sha = Algorithm::Sha256.respond(0x41, b"secretsecret", &challenge);
        assert_eq!(
            encode(&sha),
            "0xca7f7d6a2977869911b75bac1cb792e5ac390f1980bdb23325fb290bcd18aa19"
        );
    }

    #[test]
    fn binary_values() {
        assert_eq!(decode("0x0aFf"), Some(vec![0x0a, 0xff]));
        assert_eq!(decode("0xaff"), Some(vec![0x0a, 0xff]));
        assert_eq!(decode("0bZm9vYmFy"), Some(b"foobar".to_vec()));
        assert_eq!(decode("0bZm9vYg=="), Some(b"foob".to_vec()));
        assert_eq!(decode("0bZm9vYmE="), Some(b"fooba".to_vec()));
        for wrong in
            ["", "0", "0x", "0b", "0xg0", "0bZm9", "0b====", "0bZg===", "12", "0b*bcd", "ä"]
        {
            assert_eq!(decode(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn only_the_right_secret_meets_a_challenge() {
        for algorithm in [Algorithm::Md5, Algorithm::Sha256] {
            let challenge = Challenge::new(algorithm, &mut |bytes| bytes.fill(7));
            let right = algorithm.respond(challenge.identifier, b"correct horse", &challenge.bytes);
            assert!(challenge.is_met("correct horse", &right));
            assert!(!challenge.is_met("wrong horse  ", &right));
            assert!(!challenge.is_met("correct horse", &right[1..]));
            assert!(!challenge.is_met("correct horse", &[]));
        }
    }

    #[test]
    fn the_initiators_order_decides() {
        assert_eq!(Algorithm::choose("7,5"), Some(Algorithm::Sha256));
        assert_eq!(Algorithm::choose("5,7"), Some(Algorithm::Md5));
        assert_eq!(Algorithm::choose("6,8"), None);
    }
}
