//! The machines of this crate over loopback sockets and a file system in memory, so that suites of
//! others (pynfs, the tools of libnfs) can be run against them. No product: one thread for each
//! connection, nothing on disk.
//!
//! `cargo run -p nfs --example serve -- PORT [LEASE_SECONDS]`, then for example
//! `nfs-ls 'nfs://127.0.0.1/export?nfsport=PORT&mountport=PORT'` or
//! `testserver.py 127.0.0.1:PORT/export --maketree all`.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use nfs::export::{Export, Exports, NOBODY, Network, Rule, Squash};
use nfs::handle::{FileSystemId, HandleKey};
use nfs::memory::Memory;
use nfs::rpc::record::{Records, mark};
use nfs::server::{Server, answer};
use nfs::v4::state::{ClientRecord, ClientRecords, Config, RecordError, Shared, State};

const RECORD_BYTES_MAX: usize = 4 << 20;

struct Locked(Mutex<State>);

impl Shared for Locked {
    fn enter(&self, step: &mut dyn FnMut(&mut State)) {
        step(&mut self.0.lock().expect("no step panics"));
    }
}

/// Nothing outlives this process, so there is nothing to keep.
struct Forgotten;

impl ClientRecords for Forgotten {
    fn alone(
        &self,
        settle: &mut dyn FnMut() -> Result<(), RecordError>,
    ) -> Result<(), RecordError> {
        settle()
    }
    fn store(&self, _: &ClientRecord) -> Result<(), RecordError> {
        Ok(())
    }
    fn remove(&self, _: &Bytes) -> Result<(), RecordError> {
        Ok(())
    }
}

struct World {
    exports: Exports<Memory>,
    keys: HandleKey,
    state: Locked,
    start: Instant,
}

impl World {
    fn new(lease_ms: u64) -> Self {
        let anywhere = Network { address: IpAddr::V4(Ipv4Addr::UNSPECIFIED), prefix_bits: 0 };
        let rule = Rule {
            network: anywhere,
            read_only: false,
            squash: Squash::None,
            anonymous: (NOBODY, NOBODY),
        };
        let export = Export {
            file_system: FileSystemId(*b"served in memory"),
            path: vec![Bytes::from_static(b"export")],
            store: Memory::new(1_700_000_000, 1 << 30),
            rules: vec![rule],
        };
        let config = Config { lease_ms, grace_ms: lease_ms, ..Config::default() };
        Self {
            exports: Exports::new(vec![export]).expect("one export stands against no other"),
            keys: HandleKey::new(&[7; 32]),
            state: Locked(Mutex::new(State::new(config, std::process::id(), Vec::new(), 0))),
            start: Instant::now(),
        }
    }

    fn serve(&self, stream: &mut TcpStream) -> std::io::Result<()> {
        let peer = stream.peer_addr()?.ip();
        let (mut input, mut piece) = (BytesMut::new(), vec![0; 1 << 16]);
        let mut records = Records::new(RECORD_BYTES_MAX);
        loop {
            let record = records.take(&mut input).map_err(std::io::Error::other)?;
            let Some(record) = record else {
                match stream.read(&mut piece)? {
                    0 => return Ok(()),
                    count => input.extend_from_slice(&piece[..count]),
                }
                continue;
            };
            let now_ms = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.state.0.lock().expect("no step panics").tick(now_ms);
            let server = Server {
                exports: &self.exports,
                keys: &self.keys,
                state: &self.state,
                records: &Forgotten,
                name: b"served in memory",
                reached: &std::cell::Cell::new(None),
            };
            if let Some(reply) = answer(&server, peer, record, now_ms) {
                let mark = mark(&reply).map_err(std::io::Error::other)?;
                stream.write_all(&[&mark[..], &reply.concat()].concat())?;
            }
        }
    }
}

fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args().skip(1).map(|text| text.parse::<u16>());
    let mut number = |default| match arguments.next() {
        Some(Ok(number)) => number,
        Some(Err(why)) => panic!("PORT and LEASE_SECONDS are numbers: {why}"),
        None => default,
    };
    let (port, lease_seconds) = (number(20_490), number(60));
    let world = Arc::new(World::new(u64::from(lease_seconds) * 1000));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    for stream in listener.incoming() {
        let (mut stream, world) = (stream?, world.clone());
        stream.set_nodelay(true)?;
        std::thread::spawn(move || {
            if let Err(why) = world.serve(&mut stream) {
                eprintln!("connection ended: {why}");
            }
        });
    }
    Ok(())
}
