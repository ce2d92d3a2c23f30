//! TransportIDs of iSCSI initiators (SPC-5 7.6.4.6): the binary name of an initiator port in
//! PERSISTENT RESERVE parameter data.
//!
//! Entry points: [`TransportId::decode`] and [`TransportId::encode`].
//!
//! Invariant: decoding never panics, and a decoded port equals the [`InitiatorPort`] that a login
//! under that name makes.

use crate::nexus::InitiatorPort;

/// Protocol identifier of iSCSI (SPC-5 table 477).
const PROTOCOL_ISCSI: u8 = 0x5;
/// Between the iSCSI name and the ISID's hex digits.
const SEPARATOR: &str = ",i,0x";
/// Longest iSCSI name, in bytes (RFC 7143 4.2.7.1).
pub const NAME_BYTES_MAX: usize = 223;
/// Longest initiator port name: the iSCSI name, the separator, twelve hex digits.
pub const PORT_NAME_BYTES_MAX: usize = NAME_BYTES_MAX + 5 + 12;
/// Least value of the ADDITIONAL LENGTH field.
const ADDITIONAL_BYTES_MIN: usize = 20;

/// What a TransportID names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TransportId {
    /// Format 00b: an initiator device, by its iSCSI name alone.
    Device(String),
    /// Format 01b: one initiator port, by iSCSI name and ISID.
    Port(InitiatorPort),
}

/// The bytes are not a TransportID of iSCSI.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not an iSCSI TransportID")]
pub struct Malformed;

impl TransportId {
    /// Reads the TransportID at the start of `bytes`; returns it with its length in bytes.
    ///
    /// # Errors
    /// [`Malformed`]: another protocol or format, a length that is too small, not a multiple of
    /// four or beyond `bytes`, a name without its NUL, or not an iSCSI name.
    pub fn decode(bytes: &[u8]) -> Result<(Self, usize), Malformed> {
        let (head, rest) = bytes.split_first_chunk::<4>().ok_or(Malformed)?;
        let additional_bytes = usize::from(u16::from_be_bytes([head[2], head[3]]));
        if head[0] & 0x0F != PROTOCOL_ISCSI
            || additional_bytes < ADDITIONAL_BYTES_MIN
            || !additional_bytes.is_multiple_of(4)
        {
            return Err(Malformed);
        }
        let field = rest.get(..additional_bytes).ok_or(Malformed)?;
        let end = field.iter().position(|byte| *byte == 0).ok_or(Malformed)?;
        let text = field.get(..end).and_then(|name| std::str::from_utf8(name).ok());
        let text = text.ok_or(Malformed)?;
        let id = match head[0] >> 6 {
            0b00 if is_iscsi_name(text) => Self::Device(text.to_ascii_lowercase()),
            0b01 => {
                // The name is what stands before the last separator, as in `port_from_name`: a
                // comma in it, and with it a second separator, is refused.
                let (name, _) = text.rsplit_once(SEPARATOR).ok_or(Malformed)?;
                if !is_iscsi_name(name) {
                    return Err(Malformed);
                }
                Self::Port(port_from_name(text).ok_or(Malformed)?)
            }
            _ => return Err(Malformed),
        };
        Ok((id, 4 + additional_bytes))
    }

    /// Its bytes: NUL-terminated, padded with zeros to a multiple of four, 24 bytes at least.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let (format, text) = match self {
            Self::Device(name) => (0b00, name.as_str()),
            Self::Port(port) => (0b01, port.name()),
        };
        // A field of 16 bits: no name that a login accepts comes near its end.
        let room = usize::from(u16::MAX) - 3;
        let text = &text.as_bytes()[..text.len().min(room - 1)];
        let field_bytes = (text.len() + 1).next_multiple_of(4).max(ADDITIONAL_BYTES_MIN);
        let mut bytes = Vec::with_capacity(4 + field_bytes);
        bytes.push(format << 6 | PROTOCOL_ISCSI);
        bytes.push(0);
        bytes.extend(u16::try_from(field_bytes).unwrap_or(u16::MAX).to_be_bytes());
        bytes.extend(text);
        bytes.resize(4 + field_bytes, 0);
        bytes
    }
}

/// The port with this whole name, `<iqn>,i,0x<12 hex digits>`; `None` for anything else.
#[must_use]
pub fn port_from_name(text: &str) -> Option<InitiatorPort> {
    let (name, digits) = text.rsplit_once(SEPARATOR)?;
    if digits.len() != 12 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    let number = u64::from_str_radix(digits, 16).ok()?;
    let [_, _, isid @ ..] = number.to_be_bytes();
    Some(InitiatorPort::iscsi(name, isid))
}

/// Whether a text can be an iSCSI name. Milder than RFC 7143 4.2.7, because names with underscores
/// log in all over the world; the comma stays out, since it parts the name from the ISID.
fn is_iscsi_name(text: &str) -> bool {
    let refused = |letter: char| letter == ',' || letter.is_control() || letter.is_whitespace();
    !text.is_empty() && text.len() <= NAME_BYTES_MAX && !text.chars().any(refused)
}
