//! A whole connection of the target, fed with bytes in pieces. Knobs: 1 logged in already,
//! 2 narrow settings, 4 CHAP; size of the pieces; what the shell does with its events, one byte,
//! two bits an event.
#![no_main]

use bytes::{Bytes, BytesMut};
use commonhold_fuzz::session::{self, Book};
use iscsi::target::{Answer, Connection, DataOut, Event, TaskId, TmfResponse};
use libfuzzer_sys::fuzz_target;
use scsi::sense::Status;

/// Immediate commands that a target takes beside the window.
const IMMEDIATE_MAX: usize = 16;

/// What a node does with events, in an order that the input chooses.
struct Shell {
    choices: u8,
    /// Commands that were handed up and are not ended yet, with their expected bytes.
    open: Vec<(TaskId, usize)>,
}

impl Shell {
    fn choose(&mut self) -> u8 {
        self.choices = self.choices.rotate_right(2);
        self.choices & 3
    }

    fn end(&mut self, task: TaskId) -> Option<usize> {
        let at = self.open.iter().position(|(open, _)| *open == task)?;
        Some(self.open.swap_remove(at).1)
    }

    fn act(&mut self, target: &mut Connection, event: Event) {
        match event {
            Event::SessionOpening { .. } if self.choose() == 3 => target.session_refused((2, 2)),
            Event::SessionOpening { .. } => target.session_ready(1),
            Event::Command { task, expected_bytes, data, .. } => {
                let expected = usize::try_from(expected_bytes).unwrap_or(usize::MAX);
                assert!(self.open.iter().all(|(open, _)| *open != task), "a task comes once");
                self.open.push((task, expected));
                if let DataOut::All(parts) = &data {
                    assert!(parts.iter().map(Bytes::len).sum::<usize>() <= expected);
                }
                self.command(target, task, data == DataOut::Pending);
            }
            Event::DataArrived { task, data } => {
                if let Some(expected) = self.end(task) {
                    assert_eq!(data.iter().map(Bytes::len).sum::<usize>(), expected);
                    target.respond(task, Answer::status(Status::Good));
                }
            }
            Event::TaskManagement { itt, .. } => {
                for task in target.tasks().collect::<Vec<_>>() {
                    self.end(task);
                    target.drop_task(task);
                }
                target.task_management_done(itt, TmfResponse::Complete);
            }
            Event::Logout { itt, .. } => target.logout_done(itt),
            Event::LoginRefused { .. } | Event::Close { .. } => {}
        }
    }

    fn command(&mut self, target: &mut Connection, task: TaskId, pending: bool) {
        match (self.choose(), pending) {
            (3, _) => {}
            (2, _) => {
                self.end(task);
                target.drop_task(task);
                assert!(!target.is_live(task));
            }
            (0, true) => target.accept(task),
            (_, true) => {
                self.end(task);
                target.respond(task, Answer::status(Status::ReservationConflict));
                assert!(!target.is_live(task));
            }
            (_, false) => {
                let length = self.end(task).unwrap_or(0).min(10_000);
                target.respond(task, Answer::good_with(vec![Bytes::from(vec![1; length])]));
                assert!(!target.is_live(task));
            }
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((&[flags, piece, choices], stream)) = input.split_first_chunk::<3>() else { return };
    let settings = session::settings(flags & 2 != 0);
    let window = usize::try_from(settings.window).unwrap_or(usize::MAX);
    let longest = usize::try_from(settings.max_recv_data_segment_bytes).unwrap_or(usize::MAX);
    let mut target = session::connection(settings);
    if flags & 1 != 0 {
        let (mut up, mut down) = (Vec::new(), Vec::new());
        session::log_in(&mut target, &mut session::initiator(false), &mut up, &mut down);
    }
    let book = if flags & 4 != 0 { Book::chap() } else { Book::open() };
    let mut shell = Shell { choices, open: Vec::new() };
    let mut waiting = BytesMut::new();
    let mut now = std::time::Duration::ZERO;
    for part in stream.chunks(usize::from(piece) * 8 + 1) {
        waiting.extend_from_slice(part);
        let mut again = true;
        while std::mem::take(&mut again) {
            let mut events = Vec::new();
            let received = target.receive(&mut waiting, &book, &mut events);
            again = events.iter().any(|event| matches!(event, Event::SessionOpening { .. }))
                || target.is_paused();
            events.into_iter().for_each(|event| shell.act(&mut target, event));
            for task in target.failed_tasks() {
                assert!(!target.is_live(task));
                shell.end(task);
            }
            target.outgoing().clear();
            if received.is_err() {
                assert!(target.finished());
                return;
            }
        }
        assert!(target.tasks().count() <= window + IMMEDIATE_MAX);
        assert!(waiting.len() < longest.max(8192) + 48 + 1020 + 12, "what cannot be a PDU stays");
        now += std::time::Duration::from_secs(1);
        target.tick(now, &mut Vec::new());
    }
});
