//! External data representation (RFC 4506): values to bytes and back.
//!
//! Entry points: [`Reader`], [`Writer`], the trait [`Xdr`], and the macros `xdr_struct!`,
//! `xdr_enum!`, `xdr_union!` and `xdr_opaque!`, in which the protocols write down their types.
//!
//! Invariant: no policy, and no panic whatever the bytes are. What is decoded is never larger than
//! a small multiple of the bytes that it came from: a length is believed only as far as there are
//! bytes behind it.

mod macros;
mod writer;

use bytes::Bytes;

pub(crate) use macros::{xdr_enum, xdr_opaque, xdr_struct, xdr_union};
pub use writer::{Mark, SHARED_BYTES_MIN, Writer};

/// Bytes of the unit that everything is padded to (RFC 4506 3).
pub const UNIT_BYTES: usize = 4;

/// Why bytes are not the value that they should be.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum XdrError {
    #[error("the bytes end before the value does")]
    Short,
    #[error("a length is over the limit of its type")]
    TooLong,
    #[error("a number is none of those that its type has")]
    BadValue,
    #[error("bytes are left behind the value")]
    Trailing,
}

/// A type with one representation on the wire.
pub trait Xdr: Sized {
    /// # Errors
    /// The bytes are no such value.
    fn read(reader: &mut Reader) -> Result<Self, XdrError>;
    fn write(&self, writer: &mut Writer);
}

/// Takes values from the front of shared bytes; opaque data is handed out without a copy.
#[derive(Clone, Debug)]
pub struct Reader {
    bytes: Bytes,
    at: usize,
}

impl Reader {
    #[must_use]
    pub fn new(bytes: Bytes) -> Self {
        Self { bytes, at: 0 }
    }
    /// Bytes not yet taken.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }
    /// Where the next value begins.
    #[must_use]
    pub fn position(&self) -> usize {
        self.at
    }
    /// # Errors
    /// Something is left.
    pub fn finish(&self) -> Result<(), XdrError> {
        if self.remaining() == 0 { Ok(()) } else { Err(XdrError::Trailing) }
    }
    /// # Errors
    /// Fewer than four bytes are left.
    pub fn u32(&mut self) -> Result<u32, XdrError> {
        self.array().map(u32::from_be_bytes)
    }
    /// # Errors
    /// Fewer than eight bytes are left.
    pub fn u64(&mut self) -> Result<u64, XdrError> {
        self.array().map(u64::from_be_bytes)
    }
    fn array<const N: usize>(&mut self) -> Result<[u8; N], XdrError> {
        let found = self.bytes[self.at..].first_chunk::<N>().ok_or(XdrError::Short)?;
        self.at += N;
        Ok(*found)
    }
    /// Opaque data of variable length, at most `bytes_max` (RFC 4506 4.10).
    ///
    /// # Errors
    /// The length is over the limit, or over what is left.
    pub fn opaque(&mut self, bytes_max: usize) -> Result<Bytes, XdrError> {
        let length = usize::try_from(self.u32()?).map_err(|_| XdrError::TooLong)?;
        if length > bytes_max {
            return Err(XdrError::TooLong);
        }
        self.take(length)
    }
    /// So many bytes and their padding.
    fn take(&mut self, length: usize) -> Result<Bytes, XdrError> {
        let whole = length.checked_add(padding(length)).ok_or(XdrError::TooLong)?;
        if whole > self.remaining() {
            return Err(XdrError::Short);
        }
        let data = self.bytes.slice(self.at..self.at + length);
        self.at += whole;
        Ok(data)
    }
    /// An array of variable length, at most `count_max` elements (RFC 4506 4.13).
    ///
    /// # Errors
    /// The count is over the limit, or an element is not one.
    pub fn list<T: Xdr>(&mut self, count_max: usize) -> Result<Vec<T>, XdrError> {
        let count = usize::try_from(self.u32()?).map_err(|_| XdrError::TooLong)?;
        if count > count_max {
            return Err(XdrError::TooLong);
        }
        // Every element takes a unit at least, so a count without bytes behind it ends here.
        if count > self.remaining() / UNIT_BYTES {
            return Err(XdrError::Short);
        }
        let mut list = Vec::new();
        for _ in 0..count {
            list.push(T::read(self)?);
        }
        Ok(list)
    }
    /// All that is left.
    #[must_use]
    pub fn rest(&self) -> Bytes {
        self.bytes.slice(self.at..)
    }
}

/// Bytes that fill up to a whole unit.
#[must_use]
pub const fn padding(bytes: usize) -> usize {
    bytes.wrapping_neg() & (UNIT_BYTES - 1)
}

impl Xdr for u32 {
    fn read(reader: &mut Reader) -> Result<Self, XdrError> {
        reader.u32()
    }
    fn write(&self, writer: &mut Writer) {
        writer.u32(*self);
    }
}

impl Xdr for u64 {
    fn read(reader: &mut Reader) -> Result<Self, XdrError> {
        reader.u64()
    }
    fn write(&self, writer: &mut Writer) {
        writer.u64(*self);
    }
}

impl Xdr for i64 {
    fn read(reader: &mut Reader) -> Result<Self, XdrError> {
        reader.array().map(i64::from_be_bytes)
    }
    fn write(&self, writer: &mut Writer) {
        writer.fixed(&self.to_be_bytes());
    }
}

impl Xdr for bool {
    /// Only 0 and 1 are of the type (RFC 4506 4.4).
    fn read(reader: &mut Reader) -> Result<Self, XdrError> {
        match reader.u32()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(XdrError::BadValue),
        }
    }
    fn write(&self, writer: &mut Writer) {
        writer.u32(u32::from(*self));
    }
}

impl Xdr for () {
    fn read(_: &mut Reader) -> Result<Self, XdrError> {
        Ok(())
    }
    fn write(&self, _: &mut Writer) {}
}

/// Opaque data of a fixed length (RFC 4506 4.9).
impl<const N: usize> Xdr for [u8; N] {
    fn read(reader: &mut Reader) -> Result<Self, XdrError> {
        let data = reader.take(N)?;
        data.first_chunk::<N>().copied().ok_or(XdrError::Short)
    }
    fn write(&self, writer: &mut Writer) {
        writer.fixed(self);
    }
}

/// Opaque data or text, as long as the message is.
impl Xdr for Bytes {
    fn read(reader: &mut Reader) -> Result<Self, XdrError> {
        reader.opaque(usize::MAX)
    }
    fn write(&self, writer: &mut Writer) {
        writer.payload(self);
    }
}

/// Optional data (RFC 4506 4.19).
impl<T: Xdr> Xdr for Option<T> {
    fn read(reader: &mut Reader) -> Result<Self, XdrError> {
        Ok(if bool::read(reader)? { Some(T::read(reader)?) } else { None })
    }
    fn write(&self, writer: &mut Writer) {
        writer.u32(u32::from(self.is_some()));
        if let Some(value) = self {
            value.write(writer);
        }
    }
}

/// An array of variable length, as long as the message is.
impl<T: Xdr> Xdr for Vec<T> {
    fn read(reader: &mut Reader) -> Result<Self, XdrError> {
        reader.list(usize::MAX)
    }
    fn write(&self, writer: &mut Writer) {
        writer.count(self.len());
        for value in self {
            value.write(writer);
        }
    }
}

impl<A: Xdr, B: Xdr> Xdr for (A, B) {
    fn read(reader: &mut Reader) -> Result<Self, XdrError> {
        Ok((A::read(reader)?, B::read(reader)?))
    }
    fn write(&self, writer: &mut Writer) {
        self.0.write(writer);
        self.1.write(writer);
    }
}

/// The bytes of a value.
pub fn to_bytes<T: Xdr>(value: &T) -> Bytes {
    let mut writer = Writer::default();
    value.write(&mut writer);
    writer.into_bytes()
}

/// The value that is all of these bytes.
///
/// # Errors
/// They are no such value, or more than one.
pub fn from_bytes<T: Xdr>(bytes: Bytes) -> Result<T, XdrError> {
    let mut reader = Reader::new(bytes);
    let value = T::read(&mut reader)?;
    reader.finish()?;
    Ok(value)
}

#[cfg(test)]
mod tests;
