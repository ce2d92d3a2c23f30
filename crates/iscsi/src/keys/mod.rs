//! Text keys (RFC 7143 6 and 13): `key=value` texts, and what each key negotiates to.
//!
//! Entry points: [`text`] for the bytes, [`table::ROWS`] for the protocol's facts,
//! [`Negotiation`] for the responder, [`Proposal`] for the originator.
//!
//! Invariant: a key is answered once; what is agreed is never outside the standard's range nor
//! beyond what either side offered.

mod negotiation;
pub mod table;
pub mod text;

pub use negotiation::{Negotiation, Offer, Parameters, Proposal};

/// Why a text ends the login, or the exchange.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone)]
pub enum TextError {
    #[error("the text is not made of key=value pairs in UTF-8")]
    Form,
    #[error("a key name or a value is longer than the standard allows")]
    Length,
    #[error("the key {0} comes twice")]
    Twice(String),
    #[error("the peer declares a value for {0} that the standard does not allow")]
    Declaration(String),
    #[error("the text is longer than {0} bytes")]
    TooMuch(usize),
    #[error("the peer answered {key} with {value}, which was not offered")]
    NotOffered { key: String, value: String },
    #[error("the peer refused the key {0}")]
    Refused(String),
}

#[cfg(test)]
mod tests;
