//! The bytes of a text: `key=value`, each ended by a zero byte (RFC 7143 6.1).

use super::TextError;

/// Longest key name (RFC 7143 6.1: standard-label).
const KEY_BYTES_MAX: usize = 63;
/// Longest value: lists and binary values; simple values end at 255.
const VALUE_BYTES_MAX: usize = 8192;

/// One key with its value.
pub type Pair = (String, String);

/// The pairs of a whole text, in order, each key once: a negotiation.
///
/// # Errors
/// [`TextError`]: no pairs, too long, or a key that comes twice.
pub fn parse(bytes: &[u8]) -> Result<Vec<Pair>, TextError> {
    let pairs = parse_list(bytes)?;
    let mut names: Vec<&str> = pairs.iter().map(|pair| pair.0.as_str()).collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(TextError::Twice(pair[0].to_owned())),
        None => Ok(pairs),
    }
}

/// The pairs of a whole text, in order: the answer to SendTargets, where keys repeat.
///
/// # Errors
/// [`TextError`]: no pairs, or too long.
pub fn parse_list(bytes: &[u8]) -> Result<Vec<Pair>, TextError> {
    let mut pairs: Vec<Pair> = Vec::new();
    // Some initiators fill the segment with further zero bytes: empty pieces mean nothing.
    for piece in bytes.split(|byte| *byte == 0).filter(|piece| !piece.is_empty()) {
        let piece = std::str::from_utf8(piece).map_err(|_| TextError::Form)?;
        let (key, value) = piece.split_once('=').ok_or(TextError::Form)?;
        if key.is_empty() || !key.bytes().all(is_label) {
            return Err(TextError::Form);
        }
        if key.len() > KEY_BYTES_MAX || value.len() > VALUE_BYTES_MAX {
            return Err(TextError::Length);
        }
        pairs.push((key.to_owned(), value.to_owned()));
    }
    Ok(pairs)
}

fn is_label(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'+' | b'@' | b'_' | b'#')
}

/// Append one pair.
pub fn append(text: &mut Vec<u8>, key: &str, value: impl std::fmt::Display) {
    text.extend_from_slice(format!("{key}={value}\0").as_bytes());
}

/// A number as the standard writes it: decimal or `0x` hexadecimal.
#[must_use]
pub fn number(value: &str) -> Option<u32> {
    match value.strip_prefix("0x").or_else(|| value.strip_prefix("0X")) {
        Some(hex) if !hex.starts_with('+') => u32::from_str_radix(hex, 16).ok(),
        None if !value.starts_with('+') => value.parse().ok(),
        _ => None,
    }
}

/// The value of a key, if it is there.
#[must_use]
pub fn find<'a>(pairs: &'a [Pair], key: &str) -> Option<&'a str> {
    pairs.iter().find(|pair| pair.0 == key).map(|pair| pair.1.as_str())
}

/// A text that arrives over several PDUs, bounded.
#[derive(Debug)]
pub struct Gathering {
    bytes: Vec<u8>,
    bytes_max: usize,
}

impl Gathering {
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes: Vec::new(), bytes_max }
    }

    /// Add one segment; the pairs once `continues` is false.
    ///
    /// # Errors
    /// [`TextError::TooMuch`], or what [`parse`] says of the whole text.
    pub fn add(&mut self, segment: &[u8], continues: bool) -> Result<Option<Vec<Pair>>, TextError> {
        self.whole(segment, continues)?.map(|text| parse(&text)).transpose()
    }

    /// Add one segment; the bytes of the whole text once `continues` is false.
    ///
    /// # Errors
    /// [`TextError::TooMuch`].
    pub fn whole(&mut self, segment: &[u8], continues: bool) -> Result<Option<Vec<u8>>, TextError> {
        if self.bytes.len() + segment.len() > self.bytes_max {
            return Err(TextError::TooMuch(self.bytes_max));
        }
        self.bytes.extend_from_slice(segment);
        Ok((!continues).then(|| std::mem::take(&mut self.bytes)))
    }
}
