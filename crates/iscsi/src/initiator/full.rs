//! The full feature phase of the initiator.

use std::collections::{BTreeMap, HashMap, VecDeque};

use bytes::Bytes;

use super::login::Done;
use super::tasks::{Handle, Task};
use super::{Command, Event, Fatal, Outcome};
use crate::keys::Parameters;
use crate::keys::text::{self, Gathering};
use crate::outbox::Outbox;
use crate::pdu::command::ScsiResponse;
use crate::pdu::data::{DataIn, ReadyToTransfer};
use crate::pdu::frame::Frame;
use crate::pdu::logout::{LogoutReason, LogoutRequest, LogoutResponse, LogoutResult};
use crate::pdu::nop::{NopIn, NopOut};
use crate::pdu::notice::{AsyncMessage, Reject};
use crate::pdu::task_management::{
    TaskManagementRequest, TaskManagementResponse, TmfFunction, TmfResponse,
};
use crate::pdu::text::{TextRequest, TextResponse};
use crate::pdu::{HEADER_BYTES, Header, NO_TAG, Numbers, Opcode};

/// A text request that is under way.
struct Exchange {
    itt: u32,
    gathering: Gathering,
}

/// A task management function that is under way: which tasks it ends.
struct Function {
    function: TmfFunction,
    lun: u64,
    referenced: Option<Handle>,
    /// Commands from this CmdSN on came after it.
    cmd_sn: u32,
}

/// A logged-in connection.
pub(super) struct Full {
    cid: u16,
    parameters: Parameters,
    cmd_sn: u32,
    max_cmd_sn: u32,
    exp_stat_sn: u32,
    tasks: HashMap<u32, Task>,
    /// Tags of commands that wait for room in the window.
    waiting: VecDeque<u32>,
    functions: BTreeMap<u32, Function>,
    exchange: Option<Exchange>,
    text_bytes_max: usize,
}

impl Full {
    pub(super) fn new(done: &Done, cid: u16, text_bytes_max: usize) -> Self {
        Self {
            cid,
            parameters: done.parameters,
            cmd_sn: done.cmd_sn,
            max_cmd_sn: done.numbers.max_cmd_sn,
            exp_stat_sn: done.numbers.stat_sn.wrapping_add(1),
            tasks: HashMap::new(),
            waiting: VecDeque::new(),
            functions: BTreeMap::new(),
            exchange: None,
            text_bytes_max,
        }
    }

    pub(super) fn submit(&mut self, handle: Handle, command: Command, outbox: &mut Outbox) {
        self.tasks.insert(handle.0, Task::new(command));
        self.waiting.push_back(handle.0);
        self.send_waiting(outbox);
    }

    /// Send what the window allows.
    fn send_waiting(&mut self, outbox: &mut Outbox) {
        while self.max_cmd_sn.wrapping_sub(self.cmd_sn) < 1 << 31 {
            let Some(itt) = self.waiting.pop_front() else { return };
            let Some(task) = self.tasks.get_mut(&itt) else { continue };
            task.send(itt, self.cmd_sn, self.exp_stat_sn, &self.parameters, outbox);
            self.cmd_sn = self.cmd_sn.wrapping_add(1);
        }
    }

    pub(super) fn release(&mut self, task: Handle, outbox: &mut Outbox) {
        if let Some(task) = self.tasks.get_mut(&task.0) {
            task.release(self.exp_stat_sn, &self.parameters, outbox);
        }
    }

    pub(super) fn task_management(
        &mut self,
        itt: u32,
        function: TmfFunction,
        lun: u64,
        referenced: Option<Handle>,
        outbox: &mut Outbox,
    ) {
        let cmd_sn = self.cmd_sn;
        let task = referenced.and_then(|handle| self.tasks.get(&handle.0));
        let request = TaskManagementRequest {
            immediate: true,
            function: Some(function),
            lun,
            itt,
            referenced: referenced.map_or(NO_TAG, |handle| handle.0),
            cmd_sn,
            exp_stat_sn: self.exp_stat_sn,
            ref_cmd_sn: task.and_then(|task| task.cmd_sn).unwrap_or(cmd_sn),
        };
        outbox.push(request.encode(), &[], &[]);
        self.functions.insert(itt, Function { function, lun, referenced, cmd_sn });
    }

    /// False while another exchange is under way.
    pub(super) fn text(&mut self, itt: u32, pairs: &[(&str, &str)], outbox: &mut Outbox) -> bool {
        if self.exchange.is_some() {
            return false;
        }
        let mut out = Vec::new();
        for (key, value) in pairs {
            text::append(&mut out, key, value);
        }
        self.exchange = Some(Exchange { itt, gathering: Gathering::new(self.text_bytes_max) });
        self.text_request(itt, NO_TAG, out, outbox);
        true
    }

    fn text_request(&mut self, itt: u32, ttt: u32, out: Vec<u8>, outbox: &mut Outbox) {
        let (cmd_sn, exp_stat_sn) = (self.cmd_sn, self.exp_stat_sn);
        let request = TextRequest {
            immediate: true,
            final_: true,
            continues: false,
            lun: 0,
            itt,
            ttt,
            cmd_sn,
            exp_stat_sn,
        };
        outbox.push(request.encode(), &[], &[out.into()]);
    }

    pub(super) fn ping(&mut self, itt: u32, data: Bytes, outbox: &mut Outbox) {
        self.nop(itt, NO_TAG, 0, data, outbox);
    }

    fn nop(&mut self, itt: u32, ttt: u32, lun: u64, data: Bytes, outbox: &mut Outbox) {
        let (cmd_sn, exp_stat_sn) = (self.cmd_sn, self.exp_stat_sn);
        let nop = NopOut { immediate: true, lun, itt, ttt, cmd_sn, exp_stat_sn };
        outbox.push(nop.encode(), &[], &[data]);
    }

    pub(super) fn logout(&mut self, itt: u32, reason: LogoutReason, outbox: &mut Outbox) {
        let request = LogoutRequest {
            immediate: true,
            reason: Some(reason),
            itt,
            cid: self.cid,
            cmd_sn: self.cmd_sn,
            exp_stat_sn: self.exp_stat_sn,
        };
        outbox.push(request.encode(), &[], &[]);
    }

    /// Take one PDU. True: the connection has come to its end.
    pub(super) fn take(
        &mut self,
        frame: Frame,
        outbox: &mut Outbox,
        events: &mut Vec<Event>,
    ) -> Result<bool, Fatal> {
        let header = frame.header;
        let mut ends = false;
        match header.opcode() {
            Some(Opcode::ScsiResponse) => self.response(&frame, events),
            Some(Opcode::DataIn) => self.data_in(frame, events)?,
            Some(Opcode::ReadyToTransfer) => self.requested(&header, outbox)?,
            Some(Opcode::TaskManagementResponse) => self.managed(&header, events),
            Some(Opcode::TextResponse) => self.text_response(&frame, outbox, events)?,
            Some(Opcode::NopIn) => self.nop_in(&frame, outbox, events),
            Some(Opcode::AsyncMessage) => {
                let message = AsyncMessage::decode(&header);
                self.numbers(&message.numbers, true);
                events.push(Event::Notice { message, data: frame.data });
            }
            Some(Opcode::Reject) => self.rejected(&frame, events),
            Some(Opcode::LogoutResponse) => {
                let result = LogoutResponse::decode(&header).result;
                ends = result == LogoutResult::Closed;
                events.push(Event::LoggedOut { result });
            }
            _ => return Err(Fatal::Protocol("a PDU that no target sends in this phase")),
        }
        self.send_waiting(outbox);
        Ok(ends)
    }

    /// Follow the target's numbers; `status`: its StatSN counts.
    fn numbers(&mut self, numbers: &Numbers, status: bool) {
        let ahead = numbers.max_cmd_sn.wrapping_sub(self.max_cmd_sn);
        if ahead < 1 << 31 {
            self.max_cmd_sn = numbers.max_cmd_sn;
        }
        if status {
            self.exp_stat_sn = numbers.stat_sn.wrapping_add(1);
        }
    }

    fn response(&mut self, frame: &Frame, events: &mut Vec<Event>) {
        let pdu = ScsiResponse::decode(&frame.header);
        self.numbers(&pdu.numbers, true);
        // An answer to a task that was aborted meanwhile means nothing any more.
        let Some(task) = self.tasks.remove(&pdu.itt) else { return };
        let sense = match frame.data.first_chunk::<2>() {
            Some(length) => {
                let end = 2 + usize::from(u16::from_be_bytes(*length));
                frame.data.slice(2..end.min(frame.data.len()))
            }
            None => Bytes::new(),
        };
        let outcome = Outcome {
            response: pdu.response,
            status: pdu.status,
            sense,
            data: task.data,
            residual: pdu.residual,
        };
        events.push(Event::Done { task: Handle(pdu.itt), outcome });
    }

    fn data_in(&mut self, frame: Frame, events: &mut Vec<Event>) -> Result<(), Fatal> {
        let pdu = DataIn::decode(&frame.header);
        self.numbers(&pdu.numbers, pdu.status.is_some());
        let Some(task) = self.tasks.get_mut(&pdu.itt) else { return Ok(()) };
        task.arrived(&pdu, frame.data).map_err(Fatal::Protocol)?;
        if let Some((status, residual)) = pdu.status
            && let Some(task) = self.tasks.remove(&pdu.itt)
        {
            let sense = Bytes::new();
            let outcome = Outcome { response: 0, status, sense, data: task.data, residual };
            events.push(Event::Done { task: Handle(pdu.itt), outcome });
        }
        Ok(())
    }

    fn requested(&mut self, header: &Header, outbox: &mut Outbox) -> Result<(), Fatal> {
        let pdu = ReadyToTransfer::decode(header);
        self.numbers(&pdu.numbers, false);
        let Some(task) = self.tasks.get_mut(&pdu.itt) else { return Ok(()) };
        task.requested(pdu, self.exp_stat_sn, &self.parameters, outbox).map_err(Fatal::Protocol)
    }

    fn managed(&mut self, header: &Header, events: &mut Vec<Event>) {
        let pdu = TaskManagementResponse::decode(header);
        self.numbers(&pdu.numbers, true);
        let Some(done) = self.functions.remove(&pdu.itt) else { return };
        if pdu.response == TmfResponse::Complete {
            let before = |sn: u32| done.cmd_sn.wrapping_sub(sn).wrapping_sub(1) < 1 << 31;
            let ended = self.tasks.iter().filter(|(itt, task)| {
                task.cmd_sn.is_some_and(before)
                    && match done.function {
                        TmfFunction::AbortTask => done.referenced == Some(Handle(**itt)),
                        TmfFunction::TargetWarmReset | TmfFunction::TargetColdReset => true,
                        _ => task.command.lun == done.lun,
                    }
            });
            let mut ended: Vec<u32> = ended.map(|(itt, _)| *itt).collect();
            ended.sort_unstable();
            for itt in ended {
                self.tasks.remove(&itt);
                events.push(Event::Aborted { task: Handle(itt) });
            }
        }
        events.push(Event::TaskManagementDone { itt: pdu.itt, response: pdu.response });
    }

    fn text_response(
        &mut self,
        frame: &Frame,
        outbox: &mut Outbox,
        events: &mut Vec<Event>,
    ) -> Result<(), Fatal> {
        let pdu = TextResponse::decode(&frame.header);
        self.numbers(&pdu.numbers, true);
        let Some(exchange) = self.exchange.as_mut().filter(|exchange| exchange.itt == pdu.itt)
        else {
            return Err(Fatal::Protocol("a Text Response to no request"));
        };
        match exchange.gathering.whole(&frame.data, pdu.continues)? {
            Some(text) => {
                self.exchange = None;
                let pairs = text::parse_list(&text)?;
                events.push(Event::Text { itt: pdu.itt, pairs });
            }
            None if pdu.ttt == NO_TAG => {
                return Err(Fatal::Protocol("a text that goes on, but without a tag"));
            }
            None => self.text_request(pdu.itt, pdu.ttt, Vec::new(), outbox),
        }
        Ok(())
    }

    fn nop_in(&mut self, frame: &Frame, outbox: &mut Outbox, events: &mut Vec<Event>) {
        let pdu = NopIn::decode(&frame.header);
        self.numbers(&pdu.numbers, pdu.itt != NO_TAG);
        if pdu.itt != NO_TAG {
            events.push(Event::Pong { itt: pdu.itt, data: frame.data.clone() });
        }
        if pdu.ttt != NO_TAG {
            let most = usize::try_from(self.parameters.peer_max_recv_bytes).unwrap_or(0);
            let echo = frame.data.slice(..frame.data.len().min(most));
            self.nop(NO_TAG, pdu.ttt, pdu.lun, echo, outbox);
        }
    }

    fn rejected(&mut self, frame: &Frame, events: &mut Vec<Event>) {
        let pdu = Reject::decode(&frame.header);
        self.numbers(&pdu.numbers, true);
        let header = frame.data.first_chunk::<HEADER_BYTES>().map(|bytes| Header(*bytes));
        let of_task = header.filter(|header| header.opcode() == Some(Opcode::ScsiCommand));
        let task = of_task.filter(|header| self.tasks.remove(&header.itt()).is_some());
        let task = task.map(|header| Handle(header.itt()));
        events.push(Event::Rejected { reason: pdu.reason, header, task });
    }
}
