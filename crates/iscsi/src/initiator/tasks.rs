//! One command of the initiator: its data in both directions.

use bytes::Bytes;

use super::{Command, Data};
use crate::keys::Parameters;
use crate::outbox::Outbox;
use crate::pdu::NO_TAG;
use crate::pdu::additional::Additional;
use crate::pdu::command::ScsiCommand;
use crate::pdu::data::{DataIn, DataOut, ReadyToTransfer};

/// Names a task of one connection: its initiator task tag.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Handle(pub u32);

/// One command.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) command: Command,
    /// Set once it is sent.
    pub(super) cmd_sn: Option<u32>,
    /// Data-in so far.
    pub(super) data: Vec<Bytes>,
    pub(super) received: u32,
    data_sn: u32,
    r2t_sn: u32,
    /// R2Ts whose data is withheld.
    held: Vec<ReadyToTransfer>,
}

impl Task {
    pub(super) fn new(command: Command) -> Self {
        let (data, held) = (Vec::new(), Vec::new());
        Self { command, cmd_sn: None, data, received: 0, data_sn: 0, r2t_sn: 0, held }
    }

    fn out(&self) -> &[Bytes] {
        match &self.command.data {
            Data::Out(parts) => parts,
            _ => &[],
        }
    }

    fn out_bytes(&self) -> u32 {
        let bytes: usize = self.out().iter().map(Bytes::len).sum();
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }

    /// Send the command with its immediate and unsolicited data.
    pub(super) fn send(
        &mut self,
        itt: u32,
        cmd_sn: u32,
        exp_stat_sn: u32,
        rules: &Parameters,
        outbox: &mut Outbox,
    ) {
        self.cmd_sn = Some(cmd_sn);
        let total = self.out_bytes();
        let first = if self.command.withhold { 0 } else { rules.first_burst_bytes().min(total) };
        let immediate = if rules.immediate_data { first.min(rules.peer_max_recv_bytes) } else { 0 };
        let unsolicited = !rules.initial_r2t && immediate < first;
        let mut cdb = [0; 16];
        let short = self.command.cdb.len().min(16);
        cdb[..short].copy_from_slice(&self.command.cdb[..short]);
        let header = ScsiCommand {
            immediate: false,
            final_: !unsolicited,
            read: matches!(self.command.data, Data::In(_)),
            write: matches!(self.command.data, Data::Out(_)),
            attribute: self.command.attribute,
            lun: self.command.lun,
            itt,
            expected_bytes: match self.command.data {
                Data::In(bytes) => bytes,
                _ => total,
            },
            cmd_sn,
            exp_stat_sn,
            cdb,
        };
        let ahs = Additional { cdb_rest: self.command.cdb.slice(short..), read_bytes: None };
        let mut run = Vec::new();
        cut(self.out(), 0, immediate, &mut run);
        outbox.push(header.encode(), &ahs.encode(), &run);
        if unsolicited {
            self.burst(itt, NO_TAG, exp_stat_sn, immediate..first, rules, outbox);
        }
    }

    /// A sequence of Data-Out PDUs.
    fn burst(
        &self,
        itt: u32,
        ttt: u32,
        exp_stat_sn: u32,
        range: std::ops::Range<u32>,
        rules: &Parameters,
        outbox: &mut Outbox,
    ) {
        let (mut offset, mut data_sn, mut run) = (range.start, 0, Vec::new());
        while offset < range.end {
            let length = rules.peer_max_recv_bytes.min(range.end - offset);
            let final_ = offset + length == range.end;
            let lun = self.command.lun;
            let pdu = DataOut { final_, lun, itt, ttt, exp_stat_sn, data_sn, offset };
            cut(self.out(), offset, length, &mut run);
            outbox.push(pdu.encode(), &[], &run);
            offset += length;
            data_sn += 1;
        }
    }

    /// The target asks for data.
    pub(super) fn requested(
        &mut self,
        r2t: ReadyToTransfer,
        exp_stat_sn: u32,
        rules: &Parameters,
        outbox: &mut Outbox,
    ) -> Result<(), &'static str> {
        let end = r2t.offset.checked_add(r2t.length).filter(|end| *end <= self.out_bytes());
        let Some(end) = end.filter(|_| r2t.length > 0) else {
            return Err("an R2T asks for data that the command does not have");
        };
        if r2t.r2t_sn != self.r2t_sn {
            return Err("R2TSN is out of order");
        }
        self.r2t_sn += 1;
        if self.command.withhold {
            self.held.push(r2t);
        } else {
            self.burst(r2t.itt, r2t.ttt, exp_stat_sn, r2t.offset..end, rules, outbox);
        }
        Ok(())
    }

    /// Withhold no longer.
    pub(super) fn release(&mut self, exp_stat_sn: u32, rules: &Parameters, outbox: &mut Outbox) {
        self.command.withhold = false;
        for r2t in std::mem::take(&mut self.held) {
            let range = r2t.offset..r2t.offset + r2t.length;
            self.burst(r2t.itt, r2t.ttt, exp_stat_sn, range, rules, outbox);
        }
    }

    /// Data arrives.
    pub(super) fn arrived(&mut self, pdu: &DataIn, data: Bytes) -> Result<(), &'static str> {
        let Data::In(expected) = self.command.data else {
            return Err("Data-In for a command that reads nothing");
        };
        if pdu.data_sn != self.data_sn || pdu.offset != self.received {
            return Err("Data-In out of order");
        }
        let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
        if length > expected - self.received {
            return Err("more Data-In than was asked for");
        }
        self.data_sn += 1;
        self.received += length;
        if !data.is_empty() {
            self.data.push(data);
        }
        Ok(())
    }
}

/// The bytes from `offset` on, as slices of the parts, put into `run` after clearing it.
fn cut(parts: &[Bytes], offset: u32, length: u32, run: &mut Vec<Bytes>) {
    run.clear();
    let mut skip = usize::try_from(offset).unwrap_or(usize::MAX);
    let mut left = usize::try_from(length).unwrap_or(0);
    for part in parts {
        if skip >= part.len() {
            skip -= part.len();
            continue;
        }
        let end = part.len().min(skip + left);
        run.push(part.slice(skip..end));
        left -= end - skip;
        skip = 0;
        if left == 0 {
            return;
        }
    }
}
