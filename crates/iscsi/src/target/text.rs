//! Text requests in the full feature phase: SendTargets, and declarations (RFC 7143 6.4, 13.8,
//! appendix C).

use bytes::Bytes;

use super::full::Full;
use super::requests::Surroundings;
use super::{Directory, TargetRecord};
use crate::keys::table::{self, Kind, When};
use crate::keys::text::{self, Gathering, Pair};
use crate::outbox::Outbox;
use crate::pdu::NO_TAG;
use crate::pdu::frame::Frame;
use crate::pdu::notice::RejectReason;
use crate::pdu::text::{TextRequest, TextResponse};

/// A text exchange that is under way: one at a time.
pub(super) struct Exchange {
    itt: u32,
    /// What the next request must carry.
    ttt: u32,
    gathering: Gathering,
    unsent: Bytes,
    lun: u64,
}

impl Full {
    pub(super) fn text(&mut self, frame: &Frame, around: &mut Surroundings<'_>) {
        let request = TextRequest::decode(&frame.header);
        let mut exchange = match self.exchange.take() {
            Some(exchange) if request.ttt == exchange.ttt && request.itt == exchange.itt => {
                exchange
            }
            // A request without a tag starts anew and forgets an exchange before it.
            _ if request.ttt == NO_TAG && request.itt != NO_TAG => Exchange {
                itt: request.itt,
                ttt: NO_TAG,
                gathering: Gathering::new(around.settings.text_bytes_max),
                unsent: Bytes::new(),
                lun: request.lun,
            },
            _ => return self.reject(RejectReason::InvalidPduField, &frame.header, around.outbox),
        };
        if request.final_ && request.continues {
            return self.reject(RejectReason::ProtocolError, &frame.header, around.outbox);
        }
        if exchange.unsent.is_empty() {
            match exchange.gathering.add(&frame.data, request.continues) {
                Ok(None) => return self.reply(exchange, false, around.outbox),
                Ok(Some(pairs)) => {
                    exchange.unsent = self.answers(&pairs, around.directory).into();
                }
                Err(_) => {
                    return self.reject(RejectReason::ProtocolError, &frame.header, around.outbox);
                }
            }
        } else if !frame.data.is_empty() {
            return self.reject(RejectReason::ProtocolError, &frame.header, around.outbox);
        }
        self.reply(exchange, request.final_, around.outbox);
    }

    /// Send the next part of the answer, and keep the exchange while it is not over.
    fn reply(&mut self, mut exchange: Exchange, wants_end: bool, outbox: &mut Outbox) {
        let most = usize::try_from(self.parameters.peer_max_recv_bytes).unwrap_or(usize::MAX);
        let part = exchange.unsent.split_to(exchange.unsent.len().min(most));
        let continues = !exchange.unsent.is_empty();
        let final_ = wants_end && !continues;
        exchange.ttt = if final_ { NO_TAG } else { self.tag() };
        let response = TextResponse {
            final_,
            continues,
            lun: exchange.lun,
            itt: exchange.itt,
            ttt: exchange.ttt,
            numbers: self.status_numbers(),
        };
        outbox.push(response.encode(), &[], &[part]);
        self.exchange = (!final_).then_some(exchange);
    }

    fn answers(&mut self, pairs: &[Pair], directory: &dyn Directory) -> Vec<u8> {
        let mut answer = Vec::new();
        for (key, value) in pairs {
            match table::find(key).map(|found| found.1) {
                Some(row) if row.when == When::Later => {
                    self.send_targets(value, directory, &mut answer);
                }
                Some(row) if row.when == When::OperationalAndLater => {
                    match table::agree(row.kind, table::Position::Silent, value) {
                        Some(agreed) => (row.set)(&mut self.parameters, agreed),
                        None => text::append(&mut answer, key, "Reject"),
                    }
                }
                Some(row) if row.kind == Kind::Said && row.when == When::Always => {}
                Some(_) => text::append(&mut answer, key, "Reject"),
                None => text::append(&mut answer, key, "NotUnderstood"),
            }
        }
        answer
    }

    /// SendTargets: All in a discovery session, a name in either, empty for one's own target.
    fn send_targets(&self, value: &str, directory: &dyn Directory, answer: &mut Vec<u8>) {
        let own = self.session.target.as_deref();
        let wanted = match (value, own) {
            ("All", None) => None,
            ("", Some(own)) => Some(own.to_owned()),
            ("All", Some(_)) | ("", None) => return text::append(answer, "SendTargets", "Reject"),
            // In a normal session only the session's own target may be asked for.
            (name, own) => match crate::name::normalize(name) {
                Ok(name) if own.is_none_or(|own| own == name) => Some(name),
                _ => return text::append(answer, "SendTargets", "Reject"),
            },
        };
        let visible = directory.visible_targets(&self.session.initiator);
        for target in visible {
            if wanted.as_ref().is_none_or(|wanted| *wanted == target.name) {
                describe(&target, answer);
            }
        }
    }
}

fn describe(target: &TargetRecord, answer: &mut Vec<u8>) {
    text::append(answer, "TargetName", &target.name);
    for (address, group) in &target.portals {
        text::append(answer, "TargetAddress", format_args!("{address},{group}"));
    }
}
