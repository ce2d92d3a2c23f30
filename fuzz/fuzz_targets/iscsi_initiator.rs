//! The initiator, fed with a target's bytes in pieces. Knobs: 1 logged in already, 2 discovery;
//! size of the pieces.
#![no_main]

use bytes::{Bytes, BytesMut};
use commonhold_fuzz::session;
use iscsi::initiator::{Command, Data, Event, Handle, Initiator};
use iscsi::pdu::logout::LogoutReason;
use iscsi::target::TmfFunction;
use libfuzzer_sys::fuzz_target;

/// Tasks that are under way, each with the most bytes that it may bring.
type Tasks = Vec<(Handle, usize)>;

fn submit(initiator: &mut Initiator) -> Tasks {
    let read = [0x28, 0, 0, 0, 0, 0, 0, 0, 4, 0];
    let write = [0x2a, 0, 0, 0, 0, 0, 0, 0, 128, 0];
    let payload = vec![Bytes::from(vec![5; 30_000]), Bytes::from(vec![6; 35_536])];
    let mut tasks = Vec::new();
    for (cdb, data, most) in [
        (read, Data::In(2048), 2048),
        (write, Data::Out(payload), 0),
        ([0; 10], Data::None, 0),
        (read, Data::In(600), 600),
    ] {
        tasks.push((initiator.submit(Command::new(0, &cdb, data)), most));
    }
    initiator.ping(Bytes::from_static(b"ping"));
    initiator.send_targets("");
    initiator.task_management(TmfFunction::AbortTask, 0, tasks.first().map(|task| task.0));
    tasks
}

/// A task ends once, and brings no more than it asked for.
fn end(tasks: &mut Tasks, handle: Handle, brought: usize) {
    let at = tasks.iter().position(|task| task.0 == handle).expect("a task ends once");
    assert!(brought <= tasks.swap_remove(at).1);
}

fuzz_target!(|input: &[u8]| {
    let Some((&[flags, piece], stream)) = input.split_first_chunk::<2>() else { return };
    let mut initiator = session::initiator(flags & 2 != 0);
    if flags & 1 != 0 {
        let mut target = session::connection(session::settings(false));
        session::log_in(&mut target, &mut initiator, &mut Vec::new(), &mut Vec::new());
    }
    let mut tasks = submit(&mut initiator);
    let mut waiting = BytesMut::new();
    for (turn, part) in stream.chunks(usize::from(piece) * 8 + 1).enumerate() {
        waiting.extend_from_slice(part);
        let mut events = Vec::new();
        let received = initiator.receive(&mut waiting, &mut events);
        for event in events {
            match event {
                Event::Done { task, outcome } => {
                    end(&mut tasks, task, outcome.data.iter().map(Bytes::len).sum());
                }
                Event::Aborted { task } | Event::Rejected { task: Some(task), .. } => {
                    end(&mut tasks, task, 0);
                }
                _ => {}
            }
        }
        let sent: usize = initiator.outgoing().drain(..).map(|bytes| bytes.len()).sum();
        assert!(sent < 1 << 20, "a target cannot make us send without end");
        if received.is_err() {
            assert!(initiator.finished());
            return;
        }
        assert!(waiting.len() < (256 << 10) + 48 + 1020 + 12, "what cannot be a PDU stays");
        if turn == 20 {
            initiator.logout(LogoutReason::CloseSession);
        }
    }
});
