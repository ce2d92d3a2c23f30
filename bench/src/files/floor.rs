//! A server that does nothing: it answers each request with as many bytes as the real reply has.
//! What a client gets from it bounds what any server can do for that client on this machine, since
//! all that is left is the client, the kernel's TCP and the waking of the other side.
//!
//! ```text
//! request: mark, xid, CALL, 2, program, version, procedure = bytes of the reply, ... as many as
//!          the real request has
//! reply:   mark, xid, REPLY, accepted, no verifier, SUCCESS, zeros
//! ```
//!
//! Entry points: [`serve`] is the process, [`floor`] the load, which goes over the [`Wire`] of the
//! real client and so makes the same system calls.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use host::files::{Procedure, Who, Wire, Writer};

use super::clients::{Client, together};
use super::load::Place;
use super::names;
use super::pattern::{Names, Step};
use crate::load::Moved;

/// A program of one's own (RFC 5531 8.3).
const PROGRAM: u32 = 0x2000_0F10;
/// From the mark to the end of the procedure.
const CALL_BYTES: usize = 28;
/// From the mark to SUCCESS: the shortest reply.
const REPLY_BYTES_MIN: u32 = 28;
/// The last piece of a record (RFC 5531 11).
const LAST: u32 = 1 << 31;
/// Room for the requests of 128 programs.
const INPUT_BYTES: usize = 256 << 10;
/// How long one that looks does so before it sleeps.
const LOOK: Duration = Duration::from_micros(200);

/// How a server waits for what comes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wait {
    /// In the kernel: a request has to wake it.
    Sleeps,
    /// It asks again and again at first, which keeps a core busy.
    Looks,
}

/// A request and its answer: their bytes on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Exchange {
    pub(crate) request_bytes: u32,
    pub(crate) reply_bytes: u32,
}

/// The exchanges of each step, one after another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Sizes(Vec<(Step, Vec<Exchange>)>);

impl Sizes {
    /// Those of a real server.
    pub(super) fn learn(place: &Place) -> Result<Self> {
        let learn = |step| Ok((step, names::exchanges(place, step)?));
        Ok(Self(Step::ALL.into_iter().map(learn).collect::<Result<_>>()?))
    }

    fn of(&self, step: Step) -> &[Exchange] {
        self.0.iter().find(|(known, _)| *known == step).map_or(&[], |(_, exchanges)| exchanges)
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (step, exchanges)) in self.0.iter().enumerate() {
            f.write_str(if at == 0 { "" } else { "; " })?;
            f.write_str(step.name())?;
            for (at, one) in exchanges.iter().enumerate() {
                let then = if at == 0 { "" } else { ", then" };
                write!(f, "{then} {} for {}", one.reply_bytes, one.request_bytes)?;
            }
        }
        Ok(())
    }
}

/// Serves until standard input ends; says on which port.
#[allow(clippy::print_stdout, reason = "who started it reads the port")]
pub(crate) fn serve(wait: Wait) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").context("no free port")?;
    println!("port {}", listener.local_addr()?.port());
    std::thread::spawn(move || accept(&listener, wait));
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    Ok(())
}

/// A thread for each connection.
fn accept(listener: &TcpListener, wait: Wait) {
    for socket in listener.incoming().flatten() {
        // The end of a connection is an error of its thread, and nobody's business.
        std::thread::spawn(move || answer(socket, wait));
    }
}

/// What is there is received at once, and answered at once.
fn answer(mut socket: TcpStream, wait: Wait) -> std::io::Result<()> {
    socket.set_nodelay(true)?;
    let (mut input, mut held, mut output) = (vec![0; INPUT_BYTES], 0, Vec::new());
    loop {
        let came = receive(&mut socket, &mut input[held..], wait)?;
        if came == 0 {
            return Ok(());
        }
        held += came;
        let taken = replies(&input[..held], &mut output);
        input.copy_within(taken..held, 0);
        held -= taken;
        if !output.is_empty() {
            socket.write_all(&output)?;
            output.clear();
        }
    }
}

fn receive(socket: &mut TcpStream, room: &mut [u8], wait: Wait) -> std::io::Result<usize> {
    if wait == Wait::Looks {
        let begin = Instant::now();
        socket.set_nonblocking(true)?;
        while begin.elapsed() < LOOK {
            match socket.read(room) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::hint::spin_loop(),
                found => return found,
            }
        }
        socket.set_nonblocking(false)?;
    }
    socket.read(room)
}

/// Adds the replies to all requests that are whole; answers with the bytes of these.
fn replies(input: &[u8], output: &mut Vec<u8>) -> usize {
    let mut taken = 0;
    loop {
        let rest = &input[taken..];
        let word = |at: usize| {
            let bytes = rest.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
            bytes.map(u32::from_be_bytes)
        };
        let Some(((mark, xid), reply_bytes)) = word(0).zip(word(4)).zip(word(CALL_BYTES - 4))
        else {
            return taken;
        };
        let request_bytes = (mark & !LAST) as usize + 4;
        if rest.len() < request_bytes {
            return taken;
        }
        let reply_bytes = reply_bytes.max(REPLY_BYTES_MIN);
        let end = output.len() + reply_bytes as usize;
        for word in [LAST | (reply_bytes - 4), xid, 1] {
            output.extend_from_slice(&word.to_be_bytes());
        }
        output.resize(end, 0);
        taken += request_bytes;
    }
}

/// A client of the server that does nothing.
struct FloorClient {
    wire: Wire,
    /// Bytes around the arguments of a request.
    around_bytes: u32,
    exchanges: Vec<Exchange>,
    programs: Vec<Program>,
}

#[derive(Clone, Copy, Default)]
struct Program {
    /// The exchange of its step that is next, or under way.
    at: usize,
    xid: Option<u32>,
}

fn procedure(reply_bytes: u32) -> Procedure {
    (PROGRAM, 1, reply_bytes)
}

impl FloorClient {
    fn new(portal: SocketAddr, exchanges: &[Exchange], programs: u32) -> Result<Self> {
        let mut wire = Wire::new(portal, &Who::default());
        wire.call(procedure(REPLY_BYTES_MIN), Writer::default())?;
        let around_bytes = u32::try_from(wire.traffic().sent)?;
        let programs = vec![Program::default(); programs as usize];
        Ok(Self { wire, around_bytes, exchanges: exchanges.to_vec(), programs })
    }
}

impl Client for FloorClient {
    fn programs(&self) -> usize {
        self.programs.len()
    }
    fn may_begin(&self, _: usize) -> bool {
        !self.exchanges.is_empty()
    }
    fn send(&mut self, slot: usize) -> Result<()> {
        let exchange = self.exchanges[self.programs[slot].at];
        let mut arguments = Writer::default();
        for _ in 0..exchange.request_bytes.saturating_sub(self.around_bytes) / 4 {
            arguments.u32(0);
        }
        let sent = self.wire.send(procedure(exchange.reply_bytes), arguments)?;
        self.programs[slot].xid = Some(sent);
        Ok(())
    }
    fn receive(&mut self) -> Result<(usize, bool)> {
        let (xid, _) = self.wire.receive()?;
        let slot = self.programs.iter().position(|program| program.xid == Some(xid));
        let slot = slot.context("an answer to no request")?;
        let program = &mut self.programs[slot];
        program.xid = None;
        program.at = (program.at + 1) % self.exchanges.len();
        Ok((slot, program.at == 0))
    }
    fn finish(self) -> Result<()> {
        Ok(())
    }
}

/// The same requests as of small files, answered by the server at this portal; `cpu` tells its CPU
/// time.
pub(super) fn floor(
    (portal, sizes): (SocketAddr, &Sizes),
    names: Names,
    seconds: f64,
    cpu: impl Fn() -> Result<f64>,
) -> Result<(Moved, f64)> {
    let new = |_| FloorClient::new(portal, sizes.of(names.step), names.programs);
    together((0..names.clients).map(new).collect::<Result<_>>()?, seconds, cpu)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: Exchange = Exchange { request_bytes: 232, reply_bytes: 316 };
    const READ: Exchange = Exchange { request_bytes: 212, reply_bytes: 4328 };

    fn start(wait: Wait) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let portal = listener.local_addr().unwrap();
        std::thread::spawn(move || accept(&listener, wait));
        portal
    }

    /// What went over the wire for so many programs that do one step each.
    fn one_step(wait: Wait, programs: u32) -> (u64, u64) {
        let mut client = FloorClient::new(start(wait), &[OPEN, READ], programs).unwrap();
        let before = client.wire.traffic();
        let steps = super::super::clients::drive(&mut client, Duration::ZERO).unwrap();
        assert_eq!(steps.len(), programs as usize);
        let after = client.wire.traffic();
        (after.sent - before.sent, after.received - before.received)
    }

    #[test]
    fn requests_and_replies_are_as_large_as_the_real_ones() {
        for wait in [Wait::Sleeps, Wait::Looks] {
            assert_eq!(one_step(wait, 1), (232 + 212, 316 + 4328));
            assert_eq!(one_step(wait, 8), (8 * (232 + 212), 8 * (316 + 4328)));
        }
    }

    #[test]
    fn a_request_is_answered_once_it_is_whole() {
        let mut request: Vec<u8> = [LAST | 36, 7, 0, 2, PROGRAM, 1, 64, 0, 0, 0]
            .iter()
            .flat_map(|word: &u32| word.to_be_bytes())
            .collect();
        let mut output = Vec::new();
        for cut in 0..request.len() {
            assert_eq!((replies(&request[..cut], &mut output), output.len()), (0, 0));
        }
        request.extend_from_within(..);
        assert_eq!(replies(&request[..79], &mut output), 40);
        assert_eq!((output.len(), &output[4..12]), (64, &[0, 0, 0, 7, 0, 0, 0, 1][..]));
        output.clear();
        assert_eq!((replies(&request, &mut output), output.len()), (80, 128));
    }

    #[test]
    fn a_floor_is_measured_at_every_step() {
        let sizes = Sizes(Step::ALL.map(|step| (step, vec![OPEN, READ])).to_vec());
        let portal = start(Wait::Sleeps);
        for step in Step::ALL {
            let names = Names { step, clients: 2, programs: 3 };
            let (moved, _) = floor((portal, &sizes), names, 0.01, || Ok(0.0)).unwrap();
            assert!(moved.ios >= 6.0 && moved.p50_us > Some(0.0), "{moved:?}");
        }
        let said = sizes.to_string();
        assert!(said.starts_with("create 316 for 232, then 4328 for 212; stat 316"), "{said}");
    }
}
