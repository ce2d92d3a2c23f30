//! Data-out of one command: unsolicited data, R2Ts, bursts (RFC 7143 4.2.4, 11.7, 11.8).
//!
//! ```text
//!  offset 0        immediate    unsolicited            solicited, a burst per R2T       expected
//!         |--------------------|----------------|----------|----------|-----------------|
//!         received grows from left to right only; requested runs ahead of it by whole bursts
//! ```
//!
//! Invariant: a byte is taken once, at the offset where the data stands; anything else is a
//! [`Violation`], because DataPDUInOrder and DataSequenceInOrder are always Yes.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use crate::pdu::NO_TAG;
use crate::pdu::data::DataOut;

/// Data up to this size is gathered into pieces of its own: as it arrives it is a slice of a
/// receive buffer, and would keep all of that from being freed for as long as the command waits.
const GATHERED_BYTES_MAX: usize = 16 << 10;

/// The initiator sent data out of order, too much, or marked the end of a burst wrongly.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Violation(pub(super) &'static str);

/// A sequence of Data-Out that is under way.
#[derive(Clone, Copy, Debug)]
struct Burst {
    ttt: u32,
    /// Where it ends; unsolicited data may end earlier.
    end: u32,
    data_sn: u32,
}

/// An R2T to send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Request {
    pub(super) ttt: u32,
    pub(super) r2t_sn: u32,
    pub(super) offset: u32,
    pub(super) length: u32,
}

/// The data-out of one command.
#[derive(Debug)]
pub(super) struct Inbound {
    parts: Vec<Bytes>,
    /// Small data behind the parts.
    tail: BytesMut,
    received: u32,
    requested: u32,
    /// How much is wanted: the expected length, or less when the CDB asks for less.
    wanted: u32,
    unsolicited: Option<Burst>,
    bursts: VecDeque<Burst>,
    accepted: bool,
    r2ts: u32,
}

/// What a Data-Out PDU did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Progress {
    More,
    /// A sequence ended: further R2Ts may be due.
    SequenceEnded,
    /// A sequence that is not (any more) asked for.
    Stray,
}

impl Inbound {
    /// `unsolicited_end`: where unsolicited Data-Out may reach to, if some follows.
    pub(super) fn new(immediate: Bytes, expected: u32, unsolicited_end: Option<u32>) -> Self {
        let received = u32::try_from(immediate.len()).unwrap_or(expected);
        let mut inbound = Self {
            parts: Vec::new(),
            tail: BytesMut::new(),
            received,
            requested: received,
            wanted: expected,
            unsolicited: unsolicited_end.map(|end| Burst { ttt: NO_TAG, end, data_sn: 0 }),
            bursts: VecDeque::new(),
            accepted: false,
            r2ts: 0,
        };
        inbound.keep(immediate);
        inbound
    }

    fn keep(&mut self, data: Bytes) {
        if data.len() <= GATHERED_BYTES_MAX {
            self.tail.extend_from_slice(&data);
            return;
        }
        self.seal();
        self.parts.push(data);
    }

    fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.parts.push(std::mem::take(&mut self.tail).freeze());
        }
    }

    /// How much is here, and whether unsolicited data is still on its way.
    pub(super) fn unasked(&self) -> (u32, bool) {
        (self.received, self.unsolicited.is_some())
    }

    /// Take one PDU's data.
    pub(super) fn receive(&mut self, pdu: &DataOut, data: Bytes) -> Result<Progress, Violation> {
        let solicited = pdu.ttt != NO_TAG;
        let burst = if solicited { self.bursts.front_mut() } else { self.unsolicited.as_mut() };
        let Some(burst) = burst.filter(|burst| burst.ttt == pdu.ttt) else {
            return match self.bursts.iter().any(|burst| burst.ttt == pdu.ttt) {
                true => Err(Violation("Data-Out for a later R2T before the earlier one is filled")),
                false => Ok(Progress::Stray),
            };
        };
        if pdu.data_sn != burst.data_sn {
            return Err(Violation("DataSN is out of order"));
        }
        if pdu.offset != self.received {
            return Err(Violation("the buffer offset is not where the data stands"));
        }
        let end = u32::try_from(data.len()).ok().and_then(|length| pdu.offset.checked_add(length));
        let Some(end) = end.filter(|end| *end <= burst.end) else {
            return Err(Violation("more data than the burst allows"));
        };
        if solicited && pdu.final_ != (end == burst.end) {
            return Err(Violation("the F bit does not stand at the end of the burst"));
        }
        if !pdu.final_ && data.is_empty() {
            return Err(Violation("a Data-Out without data"));
        }
        burst.data_sn = burst.data_sn.wrapping_add(1);
        self.received = end;
        self.keep(data);
        if !pdu.final_ {
            return Ok(Progress::More);
        }
        if solicited {
            self.bursts.pop_front();
        } else {
            self.unsolicited = None;
            self.requested = self.received;
        }
        Ok(Progress::SequenceEnded)
    }

    /// The command passed its check; only the first `bytes` are wanted.
    pub(super) fn accept(&mut self, bytes: u32) {
        self.accepted = true;
        self.wanted = self.wanted.min(bytes);
    }

    /// The next R2T, if one is due. `ttt` is used up when one is returned.
    pub(super) fn request(&mut self, rules: &RequestRules, ttt: u32) -> Option<Request> {
        let open = self.accepted && self.unsolicited.is_none();
        if !open || self.requested >= self.wanted || self.bursts.len() >= rules.outstanding_max {
            return None;
        }
        let (offset, r2t_sn) = (self.requested, self.r2ts);
        let length = (self.wanted - offset).min(rules.burst_bytes_max);
        self.requested += length;
        self.r2ts += 1;
        self.bursts.push_back(Burst { ttt, end: self.requested, data_sn: 0 });
        Some(Request { ttt, r2t_sn, offset, length })
    }

    /// All that is wanted is here, and no unsolicited data is on its way.
    pub(super) fn is_complete(&self) -> bool {
        self.unsolicited.is_none() && self.received >= self.wanted
    }

    /// R2Ts sent so far.
    pub(super) fn r2ts(&self) -> u32 {
        self.r2ts
    }

    /// The data, in order.
    pub(super) fn take(&mut self) -> Vec<Bytes> {
        self.seal();
        std::mem::take(&mut self.parts)
    }
}

/// What was negotiated about R2Ts.
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestRules {
    pub(super) burst_bytes_max: u32,
    pub(super) outstanding_max: usize,
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;

    /// Data of a command that waited kept a whole receive buffer for each of its pieces.
    #[test]
    fn small_pieces_keep_no_receive_buffer() {
        let mut inbound = Inbound::new(Bytes::new(), 1 << 20, None);
        inbound.accept(1 << 20);
        let rules = RequestRules { burst_bytes_max: 1 << 20, outstanding_max: 1 };
        let asked = inbound.request(&rules, 7).unwrap();
        let mut sent = Vec::new();
        for data_sn in 0..2048_u32 {
            let buffer = BytesMut::from(&vec![data_sn.to_le_bytes()[0]; 65_536][..]).freeze();
            let (itt, exp_stat_sn, lun) = (1, 0, 0);
            let (ttt, offset, final_) = (asked.ttt, data_sn * 512, data_sn == 2047);
            let pdu = DataOut { final_, lun, itt, ttt, exp_stat_sn, data_sn, offset };
            sent.extend_from_slice(&buffer[..512]);
            inbound.receive(&pdu, buffer.slice(..512)).unwrap();
            assert!(buffer.is_unique(), "piece {data_sn} keeps its buffer");
        }
        assert!(inbound.is_complete());
        let parts = inbound.take();
        assert_eq!((parts.len(), parts.concat()), (1, sent));
    }
}
