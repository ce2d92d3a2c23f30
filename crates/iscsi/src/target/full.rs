//! The full feature phase of the target: its state, and what the shell's answers do to it.

use std::collections::HashMap;

use bytes::Bytes;
use scsi::sense::Status;

use super::text::Exchange;
use super::transfer::{Inbound, RequestRules};
use super::window::Window;
use super::{Answer, SessionInfo, Settings, TaskId, TmfResponse};
use crate::keys::Parameters;
use crate::outbox::{Cursor, Outbox};
use crate::pdu::command::ScsiResponse;
use crate::pdu::data::{DataIn, ReadyToTransfer};
use crate::pdu::logout::{LogoutResponse, LogoutResult};
use crate::pdu::nop::NopIn;
use crate::pdu::notice::{AsyncEvent, AsyncMessage, Reject, RejectReason};
use crate::pdu::task_management::TaskManagementResponse;
use crate::pdu::{Header, NO_TAG, Numbers, Residual};

/// Immediate commands that may be live beyond the window.
pub(super) const IMMEDIATE_TASKS_MAX: usize = 16;

/// Task management functions that may be under way.
pub(super) const MANAGING_MAX: usize = 32;

/// One live command.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) id: TaskId,
    pub(super) lun: u64,
    /// It takes a place in the window; immediate commands do not.
    pub(super) counted: bool,
    pub(super) read: bool,
    pub(super) write: bool,
    /// Expected length of the write part, or of the read part where there is no write part.
    pub(super) expected_bytes: u32,
    /// Expected length of the read part.
    pub(super) read_bytes: u32,
    /// Data-out that is not complete yet.
    pub(super) inbound: Option<Inbound>,
    /// R2Ts that were sent for it.
    pub(super) r2ts: u32,
}

/// A logged-in connection.
pub(super) struct Full {
    pub(super) session: SessionInfo,
    pub(super) parameters: Parameters,
    pub(super) window: Window,
    pub(super) stat_sn: u32,
    pub(super) tasks: HashMap<u32, Task>,
    serial: u32,
    next_ttt: u32,
    pub(super) exchange: Option<Exchange>,
    /// The tag of a ping that is not answered yet.
    pub(super) ping: Option<u32>,
    /// Tasks that were ended here and not by the shell, for it to learn.
    pub(super) failed: Vec<TaskId>,
    /// Task management functions that the shell has not answered yet.
    pub(super) managing: usize,
    /// A logout was asked for: nothing new is begun.
    pub(super) leaving: bool,
}

impl Full {
    pub(super) fn new(
        session: SessionInfo,
        parameters: Parameters,
        numbers: Numbers,
        settings: &Settings,
    ) -> Self {
        Self {
            session,
            parameters,
            window: Window::new(numbers.exp_cmd_sn, settings.window),
            stat_sn: numbers.stat_sn,
            tasks: HashMap::new(),
            serial: 0,
            next_ttt: 0,
            exchange: None,
            ping: None,
            failed: Vec::new(),
            managing: 0,
            leaving: false,
        }
    }

    /// Numbers for a PDU that carries no status: StatSN is told but not used up.
    pub(super) fn numbers(&self) -> Numbers {
        Numbers {
            stat_sn: self.stat_sn,
            exp_cmd_sn: self.window.expected(),
            max_cmd_sn: self.window.max(),
        }
    }

    /// Numbers for a PDU that uses up a StatSN.
    pub(super) fn status_numbers(&mut self) -> Numbers {
        let numbers = self.numbers();
        self.stat_sn = self.stat_sn.wrapping_add(1);
        numbers
    }

    pub(super) fn tag(&mut self) -> u32 {
        let tag = self.next_ttt;
        self.next_ttt = if tag == NO_TAG - 1 { 0 } else { tag + 1 };
        tag
    }

    /// The tag was given out by us, not too long ago to tell.
    pub(super) fn was_issued(&self, ttt: u32) -> bool {
        (1..=1 << 31).contains(&self.next_ttt.wrapping_sub(ttt))
    }

    pub(super) fn next_serial(&mut self) -> u32 {
        self.serial = self.serial.wrapping_add(1);
        self.serial
    }

    pub(super) fn live(&mut self, task: TaskId) -> Option<&mut Task> {
        self.tasks.get_mut(&task.itt).filter(|live| live.id == task)
    }

    /// Remove a task and give its place in the window back.
    pub(super) fn remove(&mut self, task: TaskId) -> Option<Task> {
        self.live(task)?;
        let task = self.tasks.remove(&task.itt)?;
        if task.counted {
            self.window.task_ends();
        }
        Some(task)
    }

    /// Ask for data; gives the data when nothing more has to come.
    pub(super) fn accept(
        &mut self,
        task: TaskId,
        bytes: u32,
        outbox: &mut Outbox,
    ) -> Option<Vec<Bytes>> {
        self.live(task)?.inbound.as_mut()?.accept(bytes);
        self.pump(task, outbox)
    }

    /// Send the R2Ts that are due; gives the data once it is complete.
    pub(super) fn pump(&mut self, task: TaskId, outbox: &mut Outbox) -> Option<Vec<Bytes>> {
        let rules = RequestRules {
            burst_bytes_max: self.parameters.max_burst_bytes,
            outstanding_max: usize::try_from(self.parameters.max_outstanding_r2t).unwrap_or(1),
        };
        loop {
            let (ttt, numbers) = (self.next_ttt, self.numbers());
            let live = self.tasks.get_mut(&task.itt).filter(|live| live.id == task)?;
            let inbound = live.inbound.as_mut()?;
            let Some(request) = inbound.request(&rules, ttt) else {
                if !inbound.is_complete() {
                    return None;
                }
                let data = inbound.take();
                live.inbound = None;
                return Some(data);
            };
            live.r2ts = inbound.r2ts();
            let r2t = ReadyToTransfer {
                lun: live.lun,
                itt: task.itt,
                ttt: request.ttt,
                numbers,
                r2t_sn: request.r2t_sn,
                offset: request.offset,
                length: request.length,
            };
            outbox.push(r2t.encode(), &[], &[]);
            self.tag();
        }
    }

    /// End a command: data-in, then status, both in one PDU where the standard allows it.
    pub(super) fn respond(&mut self, task: TaskId, answer: Answer, outbox: &mut Outbox) {
        let Some(task) = self.remove(task) else { return };
        let data_bytes: u64 = answer.data.iter().map(|part| part.len() as u64).sum();
        let read_residual = Residual::of(task.read_bytes, data_bytes);
        let write_residual = match answer.data_out_bytes {
            Some(asked) => Residual::of(task.expected_bytes, u64::from(asked)),
            None => Residual::None,
        };
        let sent = u32::try_from(data_bytes).unwrap_or(u32::MAX).min(task.read_bytes);
        // Status may travel with the last Data-In only when it is without sense data; for a
        // command in both directions the Data-In has no room for the second residual.
        let collapsed =
            sent > 0 && !task.write && answer.status == Status::Good && answer.sense.is_empty();
        let status = collapsed.then_some((answer.status as u8, read_residual));
        let pdus = self.data_in(&task, answer.data, sent, status, outbox);
        if collapsed {
            return;
        }
        let (residual, read_residual) = match (task.write, task.read) {
            (true, true) => (write_residual, read_residual),
            (true, false) => (write_residual, Residual::None),
            _ => (read_residual, Residual::None),
        };
        let response = ScsiResponse {
            response: 0,
            status: answer.status as u8,
            itt: task.id.itt,
            numbers: self.status_numbers(),
            exp_data_sn: pdus + task.r2ts,
            residual,
            read_residual,
        };
        let length = u16::try_from(answer.sense.len()).unwrap_or(0);
        if length == 0 {
            outbox.push(response.encode(), &[], &[]);
        } else {
            let length = Bytes::copy_from_slice(&length.to_be_bytes());
            outbox.push(response.encode(), &[], &[length, answer.sense]);
        }
    }

    /// Cut data-in into PDUs of the initiator's segment length, and into sequences of at most
    /// MaxBurstLength. Gives the number of PDUs.
    fn data_in(
        &mut self,
        task: &Task,
        data: Vec<Bytes>,
        total: u32,
        status: Option<(u8, Residual)>,
        outbox: &mut Outbox,
    ) -> u32 {
        let segment = self.parameters.peer_max_recv_bytes.max(512);
        let burst = self.parameters.max_burst_bytes.max(512);
        let (mut offset, mut burst_left, mut data_sn) = (0, burst, 0);
        let (mut cursor, mut run) = (Cursor::new(data), Vec::new());
        while offset < total {
            let length = segment.min(burst_left).min(total - offset);
            let last = offset + length == total;
            burst_left -= length;
            let status = status.filter(|_| last);
            let numbers = match status {
                Some(_) => self.status_numbers(),
                None => Numbers { stat_sn: 0, ..self.numbers() },
            };
            let final_ = last || burst_left == 0;
            let (itt, lun) = (task.id.itt, task.lun);
            let pdu = DataIn { final_, status, lun, itt, ttt: NO_TAG, numbers, data_sn, offset };
            cursor.take(usize::try_from(length).unwrap_or(0), &mut run);
            outbox.push(pdu.encode(), &[], &run);
            offset += length;
            data_sn += 1;
            if burst_left == 0 {
                burst_left = burst;
            }
        }
        data_sn
    }

    pub(super) fn task_management_done(
        &mut self,
        itt: u32,
        response: TmfResponse,
        outbox: &mut Outbox,
    ) {
        let numbers = self.status_numbers();
        outbox.push(TaskManagementResponse { response, itt, numbers }.encode(), &[], &[]);
    }

    pub(super) fn logout_response(&mut self, itt: u32, result: LogoutResult, outbox: &mut Outbox) {
        let seconds = |value: u32| u16::try_from(value).unwrap_or(u16::MAX);
        let response = LogoutResponse {
            result,
            itt,
            numbers: self.status_numbers(),
            time2wait_s: seconds(self.parameters.time2wait_s),
            time2retain_s: seconds(self.parameters.time2retain_s),
        };
        outbox.push(response.encode(), &[], &[]);
    }

    pub(super) fn reject(&mut self, reason: RejectReason, bad: &Header, outbox: &mut Outbox) {
        let numbers = self.status_numbers();
        let bad = Bytes::copy_from_slice(&bad.0);
        outbox.push(Reject { reason, numbers }.encode(), &[], &[bad]);
    }

    pub(super) fn announce(
        &mut self,
        event: AsyncEvent,
        parameters: [u16; 3],
        outbox: &mut Outbox,
    ) {
        let numbers = self.status_numbers();
        outbox.push(AsyncMessage { event, lun: 0, numbers, parameters }.encode(), &[], &[]);
    }

    /// Ask the initiator for a sign of life.
    pub(super) fn ping(&mut self, outbox: &mut Outbox) {
        let ttt = self.tag();
        self.ping = Some(ttt);
        let nop = NopIn { lun: 0, itt: NO_TAG, ttt, numbers: self.numbers() };
        outbox.push(nop.encode(), &[], &[]);
    }
}
