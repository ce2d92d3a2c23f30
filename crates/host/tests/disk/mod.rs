//! A target over TCP with one disk in memory: the real connection machine, and as much SCSI as an
//! initiator needs.
#![allow(clippy::unwrap_used, reason = "a test that meets one has failed")]

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use iscsi::target::{
    Answer, Authorization, Connection, DataOut, Directory, Event, Settings, TargetRecord, TaskId,
    TmfFunction, TmfResponse,
};
use scsi::sense::Status;
use std::collections::HashMap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub(crate) const TARGET: &str = "iqn.2026-11.io.commonhold:volume-1";
const BLOCK: usize = 512;
const BLOCKS: usize = 131_072;

pub(crate) struct Book {
    pub(crate) authorization: Authorization,
}

impl Directory for Book {
    fn visible_targets(&self, _: &str) -> Vec<TargetRecord> {
        let portals = vec![("127.0.0.1:3260".to_owned(), 1)];
        vec![TargetRecord { name: TARGET.to_owned(), portals }]
    }
    fn authorize(&self, _: &str, target: Option<&str>) -> Authorization {
        match target {
            None => Authorization::Open,
            Some(TARGET) => self.authorization.clone(),
            Some(_) => Authorization::NoSuchTarget,
        }
    }
}

/// Serve on this listener; for ever, on the current thread.
pub(crate) async fn serve(listener: TcpListener, settings: Settings, authorization: Authorization) {
    let disk = Rc::new(RefCell::new(vec![0u8; BLOCK * BLOCKS]));
    let book = Rc::new(Book { authorization });
    let settings = Arc::new(settings);
    tokio::task::LocalSet::new()
        .run_until(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                let one = one(stream, settings.clone(), book.clone(), disk.clone());
                tokio::task::spawn_local(one);
            }
        })
        .await;
}

async fn one(
    mut stream: TcpStream,
    settings: Arc<Settings>,
    book: Rc<Book>,
    disk: Rc<RefCell<Vec<u8>>>,
) {
    let (peer, local) = (stream.peer_addr().unwrap(), stream.local_addr().unwrap());
    let mut count = 0u8;
    let nonce = Box::new(move |bytes: &mut [u8]| {
        count = count.wrapping_add(1);
        bytes.fill(count);
    });
    let mut target = Connection::new(settings, peer, local, nonce);
    let (mut input, mut events, mut open) = (BytesMut::new(), Vec::new(), HashMap::new());
    loop {
        input.reserve(target.wanted().max(256 << 10));
        let Ok(1..) = stream.read_buf(&mut input).await else { return };
        let received = target.receive(&mut input, &*book, &mut events);
        for task in target.failed_tasks() {
            open.remove(&task);
        }
        let mut closes = received.is_err();
        for event in events.drain(..) {
            closes |= act(&mut target, event, &mut open, &disk);
        }
        while let Some(mut piece) = target.outgoing().pop_front() {
            while piece.has_remaining() {
                if stream.write_buf(&mut piece).await.is_err() {
                    return;
                }
            }
        }
        if closes || target.finished() {
            return;
        }
    }
}

/// True: close the connection.
fn act(
    target: &mut Connection,
    event: Event,
    open: &mut HashMap<TaskId, Vec<u8>>,
    disk: &RefCell<Vec<u8>>,
) -> bool {
    match event {
        Event::SessionOpening { .. } => target.session_ready(1),
        Event::Command { task, cdb, data: DataOut::Pending, .. } => {
            open.insert(task, cdb.to_vec());
            target.accept(task);
        }
        Event::Command { task, cdb, data, lun, .. } => {
            let parts = if let DataOut::All(parts) = data { parts } else { Vec::new() };
            let answer = if lun == 0 { run(&cdb, &parts, disk) } else { illegal(0x25) };
            target.respond(task, answer);
        }
        Event::DataArrived { task, data } => {
            if let Some(cdb) = open.remove(&task) {
                target.respond(task, run(&cdb, &data, disk));
            }
        }
        Event::TaskManagement { itt, function, referenced, .. } => {
            let response = match (function, referenced) {
                (TmfFunction::AbortTask, Some(task)) if target.is_live(task) => {
                    target.drop_task(task);
                    TmfResponse::Complete
                }
                (TmfFunction::AbortTask, _) => TmfResponse::TaskDoesNotExist,
                _ => {
                    let all: Vec<_> = target.tasks().collect();
                    all.into_iter().for_each(|task| target.drop_task(task));
                    TmfResponse::Complete
                }
            };
            target.task_management_done(itt, response);
        }
        Event::Logout { itt, .. } => target.logout_done(itt),
        Event::LoginRefused { .. } => {}
        Event::Close { .. } => return true,
    }
    false
}

fn illegal(asc: u8) -> Answer {
    Answer::check(vec![0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, asc, 0, 0, 0, 0, 0])
}

fn run(cdb: &[u8], data: &[Bytes], disk: &RefCell<Vec<u8>>) -> Answer {
    let word = |at: usize| u32::from_be_bytes(cdb[at..at + 4].try_into().unwrap()) as usize;
    let half = |at: usize| usize::from(u16::from_be_bytes(cdb[at..at + 2].try_into().unwrap()));
    let cut = |mut bytes: Vec<u8>, most: usize| {
        bytes.truncate(most);
        Answer::good_with(vec![bytes.into()])
    };
    let last = u32::try_from(BLOCKS - 1).unwrap();
    let block = u32::try_from(BLOCK).unwrap();
    match cdb[0] {
        0x00 | 0x35 | 0x91 => Answer::status(Status::Good),
        0x12 if cdb[1] & 1 == 0 => {
            let mut bytes = vec![0, 0, 6, 2, 31, 0, 0, 2];
            bytes.extend_from_slice(b"COMMONH MEMORY          1   ");
            cut(bytes, half(3))
        }
        0x25 => cut([last.to_be_bytes(), block.to_be_bytes()].concat(), 8),
        0x9e if cdb[1] & 0x1f == 0x10 => {
            let mut bytes = [0u32.to_be_bytes(), last.to_be_bytes(), block.to_be_bytes()].concat();
            bytes.resize(32, 0);
            cut(bytes, word(10))
        }
        0xa0 => cut(vec![0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], word(6)),
        0x28 | 0x88 | 0x2a | 0x8a => {
            let (lba, blocks) = match cdb[0] {
                0x28 | 0x2a => (word(2), half(7)),
                _ => (word(6), word(10)),
            };
            if lba + blocks > BLOCKS {
                return illegal(0x21);
            }
            let range = lba * BLOCK..(lba + blocks) * BLOCK;
            if matches!(cdb[0], 0x28 | 0x88) {
                return cut(disk.borrow()[range].to_vec(), usize::MAX);
            }
            let bytes = data.concat();
            let length = bytes.len().min(range.len());
            disk.borrow_mut()[range.start..range.start + length].copy_from_slice(&bytes[..length]);
            let asked = u32::try_from(range.len()).ok();
            Answer { data_out_bytes: asked, ..Answer::status(Status::Good) }
        }
        _ => illegal(0x20),
    }
}
