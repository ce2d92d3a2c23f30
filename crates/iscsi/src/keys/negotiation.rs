//! Operational parameters: what a side offers, what both agree on.

use super::table::{self, Agreed, Kind, Position, When};
use super::text::{self, Pair};
use super::{TextError, table::ROWS};
use crate::digest::Digests;

/// What one side wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Offer {
    /// Supported digests; as originator, in order of preference.
    pub header_digest: &'static [&'static str],
    pub data_digest: &'static [&'static str],
    pub initial_r2t: bool,
    pub immediate_data: bool,
    /// Largest data segment that this side receives.
    pub max_recv_bytes: u32,
    pub max_burst_bytes: u32,
    pub first_burst_bytes: u32,
    pub max_outstanding_r2t: u16,
    pub time2wait_s: u16,
    pub time2retain_s: u16,
}

/// What holds on a connection. The default is the standard's, for keys that nobody sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Parameters {
    pub header_digest: &'static str,
    pub data_digest: &'static str,
    pub initial_r2t: bool,
    pub immediate_data: bool,
    /// Largest data segment that the peer receives.
    pub peer_max_recv_bytes: u32,
    pub max_burst_bytes: u32,
    pub first_burst_bytes: u32,
    pub max_outstanding_r2t: u32,
    pub time2wait_s: u32,
    pub time2retain_s: u32,
    pub max_connections: u32,
    pub recovery_level: u32,
    pub data_pdu_in_order: bool,
    pub data_sequence_in_order: bool,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            header_digest: "None",
            data_digest: "None",
            initial_r2t: true,
            immediate_data: true,
            peer_max_recv_bytes: 8192,
            max_burst_bytes: 262_144,
            first_burst_bytes: 65_536,
            max_outstanding_r2t: 1,
            time2wait_s: 2,
            time2retain_s: 20,
            max_connections: 1,
            recovery_level: 0,
            data_pdu_in_order: true,
            data_sequence_in_order: true,
        }
    }
}

impl Parameters {
    /// The digests of the full feature phase.
    #[must_use]
    pub fn digests(&self) -> Digests {
        Digests { header: self.header_digest == "CRC32C", data: self.data_digest == "CRC32C" }
    }
    /// The first burst is part of no burst longer than MaxBurstLength (RFC 7143 13.14). Where
    /// only one of both keys was sent, the defaults can break that.
    #[must_use]
    pub fn first_burst_bytes(&self) -> u32 {
        self.first_burst_bytes.min(self.max_burst_bytes)
    }
}

/// Keys that were seen, by their place in the table.
#[derive(Clone, Copy, Debug, Default)]
struct Seen(u64);

const _: () = assert!(ROWS.len() <= 64, "one bit per row");

impl Seen {
    /// True the first time.
    fn mark(&mut self, row: usize) -> bool {
        let bit = 1 << row;
        let first = self.0 & bit == 0;
        self.0 |= bit;
        first
    }
}

/// The responder's side of a login's negotiation.
#[derive(Debug)]
pub struct Negotiation {
    offer: Offer,
    parameters: Parameters,
    seen: Seen,
    discovery: bool,
    declared: bool,
}

impl Negotiation {
    #[must_use]
    pub fn new(offer: Offer, discovery: bool) -> Self {
        let (parameters, seen) = (Parameters::default(), Seen::default());
        Self { offer, parameters, seen, discovery, declared: false }
    }

    /// What is agreed so far.
    #[must_use]
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Answer the pairs of one request of the operational stage, and declare our own segment
    /// length in the first answer.
    ///
    /// # Errors
    /// [`TextError::Twice`] for a key that was negotiated before, [`TextError::Declaration`].
    pub fn answer(&mut self, pairs: &[Pair], reply: &mut Vec<u8>) -> Result<(), TextError> {
        // MaxBurstLength first, wherever it stands: it bounds FirstBurstLength.
        let is_first = |pair: &&Pair| pair.0 == "MaxBurstLength";
        let ordered = pairs.iter().filter(is_first).chain(pairs.iter().filter(|p| !is_first(p)));
        for (key, value) in ordered {
            self.answer_one(key, value, reply)?;
        }
        if !self.declared {
            self.declared = true;
            text::append(reply, "MaxRecvDataSegmentLength", self.offer.max_recv_bytes);
        }
        Ok(())
    }

    /// Answer the pairs that have no place in the security stage.
    ///
    /// # Errors
    /// [`TextError::Twice`] for a key that comes again.
    pub fn answer_in_security(&mut self, key: &str, reply: &mut Vec<u8>) -> Result<(), TextError> {
        match table::find(key) {
            None => text::append(reply, key, "NotUnderstood"),
            Some((at, row)) if row.kind == Kind::Said => {
                if !self.seen.mark(at) {
                    return Err(TextError::Twice(key.to_owned()));
                }
            }
            Some(_) => text::append(reply, key, "Reject"),
        }
        Ok(())
    }

    fn answer_one(&mut self, key: &str, value: &str, reply: &mut Vec<u8>) -> Result<(), TextError> {
        let Some((at, row)) = table::find(key) else {
            text::append(reply, key, "NotUnderstood");
            return Ok(());
        };
        if !self.seen.mark(at) {
            return Err(TextError::Twice(key.to_owned()));
        }
        if row.kind == Kind::Said {
            if row.when == When::Later {
                text::append(reply, key, "Reject");
            }
            return Ok(());
        }
        if self.discovery && !row.in_discovery {
            text::append(reply, key, "Irrelevant");
            return Ok(());
        }
        let mut ours = (row.ours)(&self.offer);
        if let ("FirstBurstLength", Position::Number(bytes)) = (key, &mut ours) {
            *bytes = (*bytes).min(self.parameters.max_burst_bytes);
        }
        match table::agree(row.kind, ours, value) {
            // A declaration is not answered, so that there is no way to say Reject.
            None if matches!(row.kind, Kind::Declared(..)) => {
                return Err(TextError::Declaration(key.to_owned()));
            }
            None => text::append(reply, key, "Reject"),
            Some(agreed) => {
                (row.set)(&mut self.parameters, agreed);
                if !matches!(row.kind, Kind::Declared(..)) {
                    text::append(reply, key, agreed);
                }
            }
        }
        Ok(())
    }
}

/// The originator's side: offers everything at once, then checks the answers.
#[derive(Debug)]
pub struct Proposal {
    offer: Offer,
    parameters: Parameters,
    seen: Seen,
}

/// What an initiator offers, in this order; for discovery only the rows that mean something.
const OFFERED: [&str; 14] = [
    "HeaderDigest",
    "DataDigest",
    "MaxRecvDataSegmentLength",
    "DefaultTime2Wait",
    "DefaultTime2Retain",
    "ErrorRecoveryLevel",
    "MaxConnections",
    "InitialR2T",
    "ImmediateData",
    "MaxBurstLength",
    "FirstBurstLength",
    "MaxOutstandingR2T",
    "DataPDUInOrder",
    "DataSequenceInOrder",
];

impl Proposal {
    #[must_use]
    pub fn new(offer: Offer) -> Self {
        Self { offer, parameters: Parameters::default(), seen: Seen::default() }
    }

    /// What is agreed so far.
    #[must_use]
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The text of the offer.
    #[must_use]
    pub fn text(&self, discovery: bool) -> Vec<u8> {
        let mut out = Vec::new();
        for (_, row) in OFFERED.iter().filter_map(|key| table::find(key)) {
            if discovery && !row.in_discovery {
                continue;
            }
            match (row.ours)(&self.offer) {
                Position::Flag(flag) => text::append(&mut out, row.key, Agreed::Flag(flag)),
                Position::Number(number) => text::append(&mut out, row.key, number),
                Position::List(list) => text::append(&mut out, row.key, list.join(",")),
                Position::Silent => {}
            }
        }
        out
    }

    /// Take the responder's answers. An answer is admissible when agreeing on it with our own
    /// offer changes nothing about it.
    ///
    /// # Errors
    /// [`TextError`]: an answer comes twice, was not offered, or refuses what we offered.
    pub fn take(&mut self, pairs: &[Pair]) -> Result<(), TextError> {
        for (key, value) in pairs {
            let Some((at, row)) = table::find(key).filter(|(_, row)| row.kind != Kind::Said) else {
                continue;
            };
            if !self.seen.mark(at) {
                return Err(TextError::Twice(key.clone()));
            }
            match value.as_str() {
                "Irrelevant" => continue,
                "Reject" | "NotUnderstood" => return Err(TextError::Refused(key.clone())),
                _ => {}
            }
            let agreed = table::agree(row.kind, (row.ours)(&self.offer), value)
                .filter(|agreed| match agreed {
                    Agreed::Number(number) => text::number(value) == Some(*number),
                    other => other.to_string() == *value,
                })
                .ok_or_else(|| TextError::NotOffered { key: key.clone(), value: value.clone() })?;
            (row.set)(&mut self.parameters, agreed);
        }
        Ok(())
    }
}
