//! What each request of the full feature phase means: the order of CmdSN, then one function per
//! opcode.

use bytes::Bytes;

use super::full::{Full, IMMEDIATE_TASKS_MAX, MANAGING_MAX, Task};
use super::transfer::{Inbound, Progress};
use super::window::Place;
use super::{
    Answer, Cdb, DataOut, Directory, Disorder, Event, Fatal, Settings, TaskId, TmfResponse,
};
use crate::outbox::Outbox;
use crate::pdu::additional::Additional;
use crate::pdu::command::ScsiCommand;
use crate::pdu::frame::Frame;
use crate::pdu::logout::{LogoutReason, LogoutRequest, LogoutResult};
use crate::pdu::nop::{NopIn, NopOut};
use crate::pdu::notice::RejectReason;
use crate::pdu::task_management::{TaskManagementRequest, TmfFunction};
use crate::pdu::{NO_TAG, Opcode, data};

/// ABORTED COMMAND, WRITE ERROR - UNEXPECTED UNSOLICITED DATA (RFC 7143 11.4.7.2), fixed format.
const UNEXPECTED_DATA: [u8; 18] =
    [0x70, 0, 0x0b, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x0c, 0x0c, 0, 0, 0, 0];

/// ABORTED COMMAND, PROTOCOL SERVICE CRC ERROR (RFC 7143 11.4.7.2), fixed format.
const DISORDER: [u8; 18] = [0x70, 0, 0x0b, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x47, 0x05, 0, 0, 0, 0];

/// What the surroundings lend to the handling of a request.
pub(super) struct Surroundings<'a> {
    pub(super) settings: &'a Settings,
    pub(super) directory: &'a dyn Directory,
    pub(super) outbox: &'a mut Outbox,
    pub(super) events: &'a mut Vec<Event>,
}

impl Full {
    /// Take one PDU.
    pub(super) fn take(
        &mut self,
        frame: Frame,
        around: &mut Surroundings<'_>,
    ) -> Result<(), Fatal> {
        if self.leaving {
            // After its Logout Request the initiator may send nothing (RFC 7143 11.14); late
            // Data-Out is the one thing that does happen.
            return Ok(());
        }
        if !frame.data_intact {
            self.reject(RejectReason::DataDigestError, &frame.header, around.outbox);
            return Err(Fatal::DataDigest);
        }
        match frame.header.opcode() {
            Some(Opcode::DataOut) => self.data_out(frame, around),
            Some(Opcode::SnackRequest) => {
                self.reject(RejectReason::SnackReject, &frame.header, around.outbox);
                Ok(())
            }
            Some(
                Opcode::ScsiCommand
                | Opcode::TaskManagementRequest
                | Opcode::TextRequest
                | Opcode::NopOut
                | Opcode::LogoutRequest,
            ) => self.in_order(frame, around),
            Some(_) => {
                self.reject(RejectReason::ProtocolError, &frame.header, around.outbox);
                Err(Fatal::Protocol("a PDU that no initiator sends in the full feature phase"))
            }
            None => {
                self.reject(RejectReason::CommandNotSupported, &frame.header, around.outbox);
                Ok(())
            }
        }
    }

    /// Requests that carry a CmdSN.
    fn in_order(&mut self, frame: Frame, around: &mut Surroundings<'_>) -> Result<(), Fatal> {
        if frame.header.immediate() {
            return self.run(frame, around);
        }
        match self.window.place(frame.header.cmd_sn()) {
            Place::Outside => return Ok(()),
            Place::Early => {
                let kept = self.window.hold(frame);
                let much = "commands ahead of their turn bring too much data";
                return if kept { Ok(()) } else { Err(Fatal::Protocol(much)) };
            }
            Place::Due => {}
        }
        self.window.advance();
        self.run(frame, around)?;
        while let Some(next) = self.window.take_held() {
            self.window.advance();
            if let Some(frame) = next {
                self.run(frame, around)?;
            }
        }
        Ok(())
    }

    fn run(&mut self, frame: Frame, around: &mut Surroundings<'_>) -> Result<(), Fatal> {
        match frame.header.opcode() {
            Some(Opcode::ScsiCommand) => self.command(frame, around),
            Some(Opcode::TaskManagementRequest) => self.task_management(&frame, around),
            Some(Opcode::TextRequest) => self.text(&frame, around),
            Some(Opcode::LogoutRequest) => self.logout(&frame, around),
            _ => self.nop(&frame, around),
        }
        Ok(())
    }

    fn command(&mut self, frame: Frame, around: &mut Surroundings<'_>) {
        let decoded = ScsiCommand::decode(&frame.header);
        let additional = Additional::decode(frame.ahs);
        let outbox = &mut *around.outbox;
        let reason = match (&decoded, &additional) {
            _ if self.session.target.is_none() => RejectReason::ProtocolError,
            (Some(c), Some(_)) if c.itt == NO_TAG || (!c.final_ && !c.write) => {
                RejectReason::InvalidPduField
            }
            (Some(c), Some(_)) if self.tasks.contains_key(&c.itt) => RejectReason::TaskInProgress,
            (Some(c), Some(_)) if c.immediate && self.has_too_many(around.settings) => {
                RejectReason::ImmediateCommandReject
            }
            (Some(command), Some(additional)) => {
                let (command, additional) = (*command, additional.clone());
                return self.start(&command, &additional, frame.data, around);
            }
            _ => RejectReason::InvalidPduField,
        };
        self.reject(reason, &frame.header, outbox);
    }

    fn has_too_many(&self, settings: &Settings) -> bool {
        let window = usize::try_from(settings.window).unwrap_or(usize::MAX);
        self.tasks.len() >= window.saturating_add(IMMEDIATE_TASKS_MAX)
    }

    /// A well-formed command becomes a task.
    fn start(
        &mut self,
        command: &ScsiCommand,
        additional: &Additional,
        immediate_data: Bytes,
        around: &mut Surroundings<'_>,
    ) {
        let id = TaskId { itt: command.itt, serial: self.next_serial() };
        let counted = !command.immediate;
        if counted {
            self.window.task_starts();
        }
        let (read, write) = (command.read, command.write);
        let expected_bytes = if read || write { command.expected_bytes } else { 0 };
        let read_bytes = match (read, write) {
            (true, true) => additional.read_bytes.unwrap_or(0),
            (true, false) => expected_bytes,
            _ => 0,
        };
        let lun = command.lun;
        let inbound = self.inbound(command, &immediate_data, expected_bytes);
        let mut task = Task {
            id,
            lun,
            counted,
            read,
            write,
            expected_bytes,
            read_bytes,
            inbound: None,
            r2ts: 0,
        };
        let data = match inbound {
            Err(Unexpected) => {
                self.tasks.insert(id.itt, task);
                let sense = Bytes::from_static(&UNEXPECTED_DATA);
                return self.respond(id, Answer::check(sense), around.outbox);
            }
            Ok(Some(inbound)) => {
                task.inbound = Some(inbound);
                DataOut::Pending
            }
            Ok(None) if immediate_data.is_empty() => DataOut::None,
            Ok(None) => DataOut::All(vec![immediate_data]),
        };
        self.tasks.insert(id.itt, task);
        let long = (!additional.cdb_rest.is_empty())
            .then(|| [&command.cdb[..], &additional.cdb_rest].concat().into());
        around.events.push(Event::Command {
            task: id,
            lun,
            cdb: Cdb { first: command.cdb, long },
            attribute: command.attribute,
            read,
            write,
            expected_bytes,
            data,
        });
    }

    /// What is still to come of a command's data-out; None when nothing is.
    fn inbound(
        &self,
        command: &ScsiCommand,
        immediate_data: &Bytes,
        expected: u32,
    ) -> Result<Option<Inbound>, Unexpected> {
        let first_burst = self.parameters.first_burst_bytes().min(expected);
        let length = u32::try_from(immediate_data.len()).map_err(|_| Unexpected)?;
        let allowed = command.write && self.parameters.immediate_data;
        if length > 0 && (!allowed || length > first_burst) {
            return Err(Unexpected);
        }
        if !command.final_ && self.parameters.initial_r2t {
            return Err(Unexpected);
        }
        if !command.write || (length == expected && command.final_) {
            return Ok(None);
        }
        let unsolicited = (!command.final_).then_some(first_burst);
        Ok(Some(Inbound::new(immediate_data.clone(), expected, unsolicited)))
    }

    fn data_out(&mut self, frame: Frame, around: &mut Surroundings<'_>) -> Result<(), Fatal> {
        let pdu = data::DataOut::decode(&frame.header);
        let solicited = pdu.ttt != NO_TAG;
        let live = self.tasks.get_mut(&pdu.itt);
        let Some(inbound) = live.and_then(|task| task.inbound.as_mut()) else {
            return self.stray(solicited.then_some(pdu.ttt), &frame, around);
        };
        match inbound.receive(&pdu, frame.data.clone()) {
            Ok(Progress::More) => {}
            Ok(Progress::Stray) => {
                return self.stray(solicited.then_some(pdu.ttt), &frame, around);
            }
            Ok(Progress::SequenceEnded) => {
                let Some(task) = self.tasks.get(&pdu.itt).map(|task| task.id) else {
                    return Ok(());
                };
                if let Some(data) = self.pump(task, around.outbox) {
                    around.events.push(Event::DataArrived { task, data });
                }
            }
            // What is still on its way for the task finds no burst and is swallowed.
            Err(_) if around.settings.data_out_disorder == Disorder::FailTask => {
                if let Some(task) = self.tasks.get(&pdu.itt).map(|task| task.id) {
                    self.failed.push(task);
                    let sense = Bytes::from_static(&DISORDER);
                    self.respond(task, Answer::check(sense), around.outbox);
                }
            }
            Err(violation) => {
                self.reject(RejectReason::ProtocolError, &frame.header, around.outbox);
                return Err(Fatal::Protocol(violation.0));
            }
        }
        Ok(())
    }

    /// Data-Out that no live task waits for. After an abort or an early answer that is what the
    /// initiator had on its way, and it is swallowed; a tag that we never gave out is an error.
    fn stray(
        &mut self,
        ttt: Option<u32>,
        frame: &Frame,
        around: &mut Surroundings<'_>,
    ) -> Result<(), Fatal> {
        if ttt.is_some_and(|ttt| !self.was_issued(ttt)) {
            self.reject(RejectReason::InvalidPduField, &frame.header, around.outbox);
        }
        Ok(())
    }

    fn task_management(&mut self, frame: &Frame, around: &mut Surroundings<'_>) {
        let request = TaskManagementRequest::decode(&frame.header);
        let itt = request.itt;
        if self.session.target.is_none() {
            return self.reject(RejectReason::ProtocolError, &frame.header, around.outbox);
        }
        let at_once = match request.function {
            None => Some(TmfResponse::Rejected),
            // Both need features that are not offered: ACA, and recovery level 2.
            Some(TmfFunction::ClearAca) => Some(TmfResponse::NotSupported),
            Some(TmfFunction::TaskReassign) => Some(TmfResponse::ReassignNotSupported),
            // A command that waits for its turn has touched nothing: it is simply left out.
            Some(TmfFunction::AbortTask) if self.window.cancel(request.referenced) => {
                Some(TmfResponse::Complete)
            }
            // Each may wait for commands to end, and none of them takes a place in the window.
            Some(_) if self.managing >= MANAGING_MAX => Some(TmfResponse::Rejected),
            Some(_) => None,
        };
        if let Some(response) = at_once {
            return self.task_management_done(itt, response, around.outbox);
        }
        let Some(function) = request.function else { return };
        let task = self.tasks.get(&request.referenced).filter(|task| task.lun == request.lun);
        let referenced = task.filter(|_| function == TmfFunction::AbortTask).map(|task| task.id);
        self.managing += 1;
        around.events.push(Event::TaskManagement { itt, function, lun: request.lun, referenced });
    }

    fn logout(&mut self, frame: &Frame, around: &mut Surroundings<'_>) {
        let request = LogoutRequest::decode(&frame.header);
        let itt = request.itt;
        let refusal = match request.reason {
            Some(LogoutReason::CloseSession) => None,
            Some(LogoutReason::CloseConnection) => {
                (request.cid != self.session.cid).then_some(LogoutResult::CidNotFound)
            }
            Some(LogoutReason::Recovery) => Some(LogoutResult::RecoveryNotSupported),
            None => {
                return self.reject(RejectReason::InvalidPduField, &frame.header, around.outbox);
            }
        };
        match (refusal, request.reason) {
            (None, Some(reason)) => {
                self.leaving = true;
                around.events.push(Event::Logout { itt, reason });
            }
            (Some(result), _) => self.logout_response(itt, result, around.outbox),
            (None, None) => {}
        }
    }

    fn nop(&mut self, frame: &Frame, around: &mut Surroundings<'_>) {
        let request = NopOut::decode(&frame.header);
        if request.ttt != NO_TAG {
            if self.ping == Some(request.ttt) {
                self.ping = None;
            } else if !self.was_issued(request.ttt) {
                self.reject(RejectReason::InvalidPduField, &frame.header, around.outbox);
            }
            return;
        }
        if request.itt == NO_TAG {
            return;
        }
        let most = usize::try_from(self.parameters.peer_max_recv_bytes).unwrap_or(usize::MAX);
        let echo = frame.data.slice(..frame.data.len().min(most));
        let numbers = self.status_numbers();
        let answer = NopIn { lun: request.lun, itt: request.itt, ttt: NO_TAG, numbers };
        around.outbox.push(answer.encode(), &[], &[echo]);
    }
}

/// Data that was not agreed to.
struct Unexpected;
