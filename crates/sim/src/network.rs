//! A network of reliable streams that are slow, stall and break, seeded and in virtual time.
//!
//! ```text
//!   End ── write ──► in flight: pieces with the time when they arrive ──► read ── End
//!                      stall: nothing arrives until it ends      cut: both ends lose it
//! ```
//!
//! Invariant: bytes arrive in order, each once, or the stream is broken.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use node::wire::Wire;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::Notify;
use tokio::time::Instant;

/// Bytes under way in one direction before a writer has to wait.
const FLIGHT_BYTES_MAX: usize = 1 << 20;

/// Makes streams.
pub struct Network {
    random: Arc<Mutex<StdRng>>,
    delay_max: Duration,
}

/// One direction of a stream.
#[derive(Default)]
struct Pipe {
    flight: VecDeque<(Instant, Bytes)>,
    bytes: usize,
    /// Nothing more is written.
    ended: bool,
}

struct Line {
    /// From the initiator to the portal, and back.
    pipes: [Pipe; 2],
    stalled: bool,
    cut: bool,
}

struct Shared {
    line: Mutex<Line>,
    /// Something changed for the reader of a direction, or for its writer.
    changed: [Notify; 2],
    random: Arc<Mutex<StdRng>>,
    delay_max: Duration,
    ends: (SocketAddr, SocketAddr),
}

/// One end of a stream; dropping it ends what it writes.
pub struct End {
    shared: Arc<Shared>,
    /// The pipe that this end reads.
    reads: usize,
}

/// The network's hold on one stream.
#[derive(Clone)]
pub struct Stream(Arc<Shared>);

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Network {
    /// Pieces take up to `delay_max` to arrive; most take much less.
    #[must_use]
    pub fn new(seed: u64, delay_max: Duration) -> Self {
        Self { random: Arc::new(Mutex::new(StdRng::seed_from_u64(seed))), delay_max }
    }

    /// A stream from an initiator to a portal: the two ends, and the hold on it.
    #[must_use]
    pub fn connect(&self, from: SocketAddr, to: SocketAddr) -> (End, End, Stream) {
        let line = Line { pipes: Default::default(), stalled: false, cut: false };
        let shared = Arc::new(Shared {
            line: Mutex::new(line),
            changed: Default::default(),
            random: Arc::clone(&self.random),
            delay_max: self.delay_max,
            ends: (from, to),
        });
        let end = |reads| End { shared: Arc::clone(&shared), reads };
        (end(1), end(0), Stream(shared))
    }
}

impl Stream {
    /// Nothing arrives any more, in either direction, until it is called with `false`.
    pub fn stall(&self, stalled: bool) {
        locked(&self.0.line).stalled = stalled;
        self.0.wake();
    }

    /// The stream breaks. Of what is under way to the portal a part still arrives, which may end
    /// in the middle of a PDU.
    pub fn cut(&self) {
        let mut line = locked(&self.0.line);
        line.cut = true;
        line.stalled = false;
        let mut random = locked(&self.0.random);
        let mut kept = random.random_range(0..=line.pipes[0].bytes);
        let now = Instant::now();
        for (arrives, piece) in &mut line.pipes[0].flight {
            *arrives = now;
            piece.truncate(kept.min(piece.len()));
            kept -= piece.len();
        }
        line.pipes[0].flight.retain(|(_, piece)| !piece.is_empty());
        line.pipes[1] = Pipe::default();
        drop((line, random));
        self.0.wake();
    }
}

impl Shared {
    fn wake(&self) {
        for changed in &self.changed {
            changed.notify_waiters();
            changed.notify_one();
        }
    }

    fn delay(&self) -> Duration {
        let mut random = locked(&self.random);
        let most = u64::try_from(self.delay_max.as_micros()).unwrap_or(u64::MAX);
        let micros = match random.random_range(0..8) {
            0..4 => 0,
            4..7 => random.random_range(0..=most / 10),
            _ => random.random_range(0..=most),
        };
        Duration::from_micros(micros)
    }
}

/// What a reader or writer finds.
enum Found {
    Ready,
    /// Look again then.
    At(Instant),
    Nothing,
}

impl End {
    fn look_for_input(&self) -> Found {
        let line = locked(&self.shared.line);
        let pipe = &line.pipes[self.reads];
        match pipe.flight.front() {
            _ if line.stalled => Found::Nothing,
            Some((arrives, _)) if *arrives > Instant::now() => Found::At(*arrives),
            None if !pipe.ended && !line.cut => Found::Nothing,
            _ => Found::Ready,
        }
    }

    fn look_for_room(&self) -> Found {
        let line = locked(&self.shared.line);
        let full = line.pipes[1 - self.reads].bytes >= FLIGHT_BYTES_MAX;
        if full && !line.cut { Found::Nothing } else { Found::Ready }
    }

    async fn wait(&self, look: impl Fn() -> Found) {
        loop {
            let changed = self.shared.changed[self.reads].notified();
            match look() {
                Found::Ready => return,
                Found::Nothing => changed.await,
                Found::At(time) => {
                    tokio::select! {
                        biased;
                        () = changed => {}
                        () = tokio::time::sleep_until(time) => {}
                    }
                }
            }
        }
    }
}

impl Wire for End {
    fn ends(&self) -> io::Result<(SocketAddr, SocketAddr)> {
        Ok(self.shared.ends)
    }

    async fn readable(&self) -> io::Result<()> {
        self.wait(|| self.look_for_input()).await;
        Ok(())
    }

    async fn writable(&self) -> io::Result<()> {
        self.wait(|| self.look_for_room()).await;
        Ok(())
    }

    fn try_read(&self, into: &mut BytesMut) -> io::Result<usize> {
        match self.look_for_input() {
            Found::Ready => {}
            Found::At(_) | Found::Nothing => return Err(io::ErrorKind::WouldBlock.into()),
        }
        let mut line = locked(&self.shared.line);
        let pipe = &mut line.pipes[self.reads];
        let Some((_, piece)) = pipe.flight.front_mut() else { return Ok(0) };
        let most = into.capacity().saturating_sub(into.len()).clamp(1, piece.len());
        into.extend_from_slice(&piece[..most]);
        piece.advance(most);
        if piece.is_empty() {
            pipe.flight.pop_front();
        }
        pipe.bytes -= most;
        drop(line);
        self.shared.changed[1 - self.reads].notify_one();
        Ok(most)
    }

    fn try_write(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        if let Found::Nothing = self.look_for_room() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let delay = self.shared.delay();
        let mut line = locked(&self.shared.line);
        if line.cut || line.pipes[self.reads].ended && line.pipes[1 - self.reads].ended {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let mut data: Vec<u8> = pieces.iter().flat_map(|piece| piece.iter().copied()).collect();
        // Sometimes only a part is taken, so that PDUs are torn apart.
        let cut = locked(&self.shared.random).random_range(0..4) == 0 && data.len() > 1;
        if cut {
            let kept = locked(&self.shared.random).random_range(1..data.len());
            data.truncate(kept);
        }
        let pipe = &mut line.pipes[1 - self.reads];
        let last = pipe.flight.back().map_or(Instant::now(), |(arrives, _)| *arrives);
        let taken = data.len();
        pipe.flight.push_back((last.max(Instant::now() + delay), data.into()));
        pipe.bytes += taken;
        drop(line);
        self.shared.changed[1 - self.reads].notify_one();
        Ok(taken)
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let mut line = locked(&self.shared.line);
        line.pipes[1 - self.reads].ended = true;
        // What nobody will read hinders nobody from writing.
        line.pipes[self.reads] = Pipe { ended: true, ..Pipe::default() };
        drop(line);
        self.shared.wake();
    }
}
