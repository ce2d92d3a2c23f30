//! A storage node over the simulated disk and network, which can be killed and started again.
//!
//! The whole node runs here, its orders, logical units and connections; only its threads and
//! sockets are left out. It has a `LocalSet` of its own, so that all of it dies at once.

use std::cell::RefCell;
use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use env::{BlockIo, Clock, IoEngine, Random};
use iscsi::initiator::Options;
use node::{Limits, Node, NodeError, Settings, World};
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use tokio::sync::oneshot;
use tokio::task::LocalSet;
use tokio::time::Instant;

use crate::disk::Disk;
use crate::network::{Network, Stream};
use crate::session::Session;

/// The runtime's time, which is virtual while it is paused.
pub struct VirtualClock(Instant);

impl Clock for VirtualClock {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }
    fn wall_ms(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Random bytes from a seed.
pub struct SeededRandom(Mutex<StdRng>);

impl Random for SeededRandom {
    fn fill(&self, bytes: &mut [u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).fill_bytes(bytes);
    }
}

/// A node that lives.
struct Alive {
    node: Rc<Node>,
    tasks: LocalSet,
}

/// The node, dead or alive, its disk and its network.
pub struct Station {
    pub disk: Disk,
    network: Network,
    seed: u64,
    window: u32,
    alive: RefCell<Option<Alive>>,
    driver: RefCell<Option<Waker>>,
    streams: RefCell<Vec<Stream>>,
}

impl Station {
    /// On an empty disk, with no node yet. Must be called on the `LocalSet` of the hosts.
    #[must_use]
    pub fn new(seed: u64, delay_max: Duration, window: u32) -> Rc<Self> {
        let station = Rc::new(Self {
            disk: Disk::new(seed),
            network: Network::new(seed ^ 0x6e65_7477, delay_max),
            seed,
            window,
            alive: RefCell::default(),
            driver: RefCell::default(),
            streams: RefCell::default(),
        });
        tokio::task::spawn_local(Driver(Rc::downgrade(&station)));
        station
    }

    /// Start a node on what the disk holds.
    ///
    /// # Errors
    /// The node's; also when the power goes meanwhile.
    pub async fn start(&self) -> Result<Rc<Node>, NodeError> {
        let settings = Settings {
            data_dir: PathBuf::from("/node"),
            portals: Vec::new(),
            advertise: Vec::new(),
            workers: 1,
            engine: IoEngine::Auto,
            iscsi: iscsi::target::Settings { window: self.window, ..Default::default() },
            limits: Limits::default(),
            files: node::files::FileSettings::default(),
        };
        let world = World {
            files: Arc::new(self.disk.clone()),
            clock: Arc::new(VirtualClock(Instant::now())),
            random: Arc::new(SeededRandom(Mutex::new(StdRng::seed_from_u64(self.seed)))),
        };
        let io: Rc<dyn BlockIo> = Rc::new(self.disk.clone());
        let tasks = LocalSet::new();
        let (started, result) = oneshot::channel();
        tasks.spawn_local(async move {
            // Nobody waits for it when the node was killed while it started.
            let _ = started.send(Node::start_here(settings, world, io).await.map(Rc::new));
        });
        let starting = Starting { tasks: Some(tasks), result };
        let (tasks, node) = starting.await;
        let node = node?;
        *self.alive.borrow_mut() = Some(Alive { node: Rc::clone(&node), tasks });
        if let Some(driver) = self.driver.borrow_mut().take() {
            driver.wake();
        }
        Ok(node)
    }

    /// The node, while it lives.
    #[must_use]
    pub fn node(&self) -> Option<Rc<Node>> {
        self.alive.borrow().as_ref().map(|alive| Rc::clone(&alive.node))
    }

    /// The machine loses its power; it comes back with a disk that may have lost what was not
    /// synced.
    pub fn lose_power(&self) {
        self.disk.crash();
        self.end();
        self.disk.recover();
    }

    /// `kill -9`: the machine lives on.
    pub fn kill(&self) {
        self.disk.restart_process();
        self.end();
    }

    fn end(&self) {
        drop(self.alive.borrow_mut().take());
        for stream in self.streams.borrow_mut().drain(..) {
            stream.cut();
        }
    }

    /// Log in from this address; `None` when there is no node, or it refuses.
    pub async fn log_in(&self, from: SocketAddr, options: Options) -> Option<Session> {
        let node = self.node()?;
        let portal = SocketAddr::from(([192, 0, 2, 1], 3260));
        let (ours, theirs, stream) = self.network.connect(from, portal);
        node.serve(theirs);
        drop(node);
        self.streams.borrow_mut().push(stream.clone());
        Session::open(ours, stream, options).await
    }

    /// The directory that pools lie in.
    #[must_use]
    pub fn pool_dir() -> &'static Path {
        Path::new("/pool")
    }
}

/// Polls the tasks of the living node.
struct Driver(std::rc::Weak<Station>);

impl Future for Driver {
    type Output = ();
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Some(station) = self.0.upgrade() else { return Poll::Ready(()) };
        *station.driver.borrow_mut() = Some(context.waker().clone());
        // Taken out while it is polled, because the node may end within.
        let Some(mut alive) = station.alive.borrow_mut().take() else { return Poll::Pending };
        let _ = Pin::new(&mut alive.tasks).poll(context);
        *station.alive.borrow_mut() = Some(alive);
        Poll::Pending
    }
}

/// Polls the tasks of a node that starts, until it has.
struct Starting {
    tasks: Option<LocalSet>,
    result: oneshot::Receiver<Result<Rc<Node>, NodeError>>,
}

impl Future for Starting {
    type Output = (LocalSet, Result<Rc<Node>, NodeError>);
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if let Some(tasks) = &mut this.tasks {
            let _ = Pin::new(tasks).poll(context);
        }
        match Pin::new(&mut this.result).poll(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(result) => {
                let tasks = this.tasks.take().expect("it is ready once");
                Poll::Ready((tasks, result.unwrap_or(Err(NodeError::Stopped))))
            }
        }
    }
}
