//! The service, its clients, and what they tell each other about a restart.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::dice::Dice;
use crate::lane::{Lane, OldLane};
use crate::nfs_client::session::Client;
use crate::nfs_client::three::Three;
use crate::nfs_client::{place, wire};
use crate::service::Service;
use crate::thief::Thief;

/// Clients of version 4.1 that hold a lock.
pub(crate) const LANES: usize = 4;
const OLD_LANES: usize = 2;
/// Who the clients are: not root, who would be squashed.
const UID: u32 = 1000;
/// Longer than a lease, and than the grace.
const COMES_BACK_MAX: Duration = Duration::from_secs(100);

/// The bytes that a lane has locked.
pub(crate) fn range_of(lane: usize) -> (u64, u64) {
    (u64::try_from(lane).unwrap() * 100, 100)
}

/// What happened in a client, and in all of them.
#[derive(Default)]
pub(crate) struct Sums {
    pub(crate) kills: u64,
    pub(crate) answered: u64,
    pub(crate) drops: u64,
    pub(crate) tries: u64,
    pub(crate) promised: usize,
    /// Of each client and kill: how long what it asked took.
    pub(crate) stalls: Vec<Duration>,
    /// Of each kill: from the last client's word that it has reclaimed all to new state.
    pub(crate) graces: Vec<Duration>,
}

#[derive(Default)]
struct Restart {
    /// When the present service was started.
    started: Option<Instant>,
    /// Of each client that may reclaim: when it began and ended to say that it is done.
    reclaimed: [Option<(Instant, Instant)>; LANES + 1],
    /// When a request for new state that was answered had been sent, and was answered.
    after_grace: Option<(Instant, Instant)>,
    /// The service before answers until it ends, at a moment that nobody knows.
    in_place: bool,
}

#[derive(Default)]
pub(crate) struct Shared {
    ends: AtomicBool,
    restart: Mutex<Restart>,
}

impl Shared {
    pub(crate) fn ends(&self) -> bool {
        self.ends.load(Ordering::Acquire)
    }
    pub(crate) fn note_reclaimed(&self, client: usize, begins: Instant, ends: Instant) {
        let mut restart = self.restart.lock().unwrap();
        if restart.started.is_some_and(|started| begins > started) {
            restart.reclaimed[client] = Some((begins, ends));
        }
    }
    pub(crate) fn note_after_grace(&self, sent: Instant, answered: Instant) {
        let mut restart = self.restart.lock().unwrap();
        if restart.started.is_some_and(|started| sent > started) {
            restart.after_grace.get_or_insert((sent, answered));
        }
    }
    /// Before a start: nobody has come back to it yet.
    fn begin(&self, in_place: bool) {
        let started = Some(Instant::now());
        *self.restart.lock().unwrap() = Restart { started, in_place, ..Restart::default() };
    }
    /// How long the grace outlasted the last client's word, when all are back.
    fn all_are_back(&self) -> Option<Duration> {
        let restart = self.restart.lock().unwrap();
        let (_, granted) = restart.after_grace?;
        let all: Option<Vec<_>> = restart.reclaimed.iter().copied().collect();
        let all = all?;
        let last_began = all.iter().map(|(begins, _)| *begins).max()?;
        let last_ended = all.iter().map(|(_, ends)| *ends).max()?;
        let is_early = granted <= last_began && !restart.in_place;
        assert!(!is_early, "new state was given before all had reclaimed");
        Some(granted.saturating_duration_since(last_ended))
    }
}

pub(crate) struct World {
    service: Option<Service>,
    portal: String,
    clients: Vec<JoinHandle<Sums>>,
    shared: Arc<Shared>,
    dice: Dice,
    sums: Sums,
}

impl World {
    pub(crate) fn start(portal: u8, seed: u64) -> Self {
        let portal = place::portal(portal);
        let shared = Arc::new(Shared::default());
        let mut world = Self {
            service: None,
            portal: portal.to_string(),
            clients: Vec::new(),
            shared: Arc::clone(&shared),
            dice: Dice(seed << 20),
            sums: Sums::default(),
        };
        world.serve(tempfile::tempdir().unwrap());
        let service = world.service();
        place::make_pool(service);
        service.json(&["volume", "create", "--kind", "file", "--size", "1g", "tree"]);
        let wire = || wire(portal, UID);
        let mut old = Three::new(wire());
        let root = old.mount("/default/tree").unwrap();
        for lane in 0..LANES {
            old.make_directory(&root, format!("lane{lane}").as_bytes()).unwrap();
        }
        let seed = |number: usize| (seed << 20) + u64::try_from(number).unwrap() * 1000;
        for number in 0..LANES {
            let client = Client::new(wire(), &format!("lane{number}"));
            let lane = Lane::new(number, client, &root, seed(number), Arc::clone(&shared));
            world.clients.push(std::thread::spawn(|| lane.run()));
        }
        for number in 0..OLD_LANES {
            let file = old.create(&root, format!("old{number}").as_bytes()).unwrap();
            let (client, dice) = (Three::new(wire()), Dice(seed(100 + number)));
            let lane = OldLane { number, client, file, dice, shared: Arc::clone(&shared) };
            world.clients.push(std::thread::spawn(|| lane.run()));
        }
        let mut client = Client::new(wire(), "thief");
        let file = client.open(&root, b"locks");
        let thief = Thief { client, file, dice: Dice(seed(200)), shared };
        world.clients.push(std::thread::spawn(|| thief.run()));
        world
    }

    fn service(&self) -> &Service {
        self.service.as_ref().unwrap()
    }

    fn serve(&mut self, home: tempfile::TempDir) {
        self.shared.begin(false);
        self.service = Some(Service::start_in(home, &["--nfs-portals", &self.portal]));
    }

    fn pause(&mut self, least_ms: usize, more_ms: usize) {
        let pause = least_ms + self.dice.below(more_ms);
        std::thread::sleep(Duration::from_millis(pause.try_into().unwrap()));
    }

    fn kill(&mut self) {
        self.sums.kills += 1;
        let home = self.service.take().unwrap().kill();
        self.serve(home);
    }

    /// Load, kill -9, and in one round of four another one while the clients come back.
    pub(crate) fn round(&mut self, round: u64) {
        self.pause(100, 400);
        self.kill();
        if self.dice.below(4) == 0 {
            self.pause(1, 200);
            self.kill();
        }
        self.await_all(round);
    }

    /// The same with the file service alone, whose process goes on.
    pub(crate) fn round_in_place(&mut self, round: u64) {
        self.pause(100, 400);
        self.restart();
        if self.dice.below(4) == 0 {
            self.pause(1, 200);
            self.restart();
        }
        self.await_all(round);
    }

    fn restart(&mut self) {
        self.sums.kills += 1;
        self.shared.begin(true);
        let done = self.service().json(&["node", "restart"]);
        assert_eq!(done["state"], "succeeded", "{done}");
    }

    fn await_all(&mut self, round: u64) {
        let end = Instant::now() + COMES_BACK_MAX;
        let grace = loop {
            if let Some(grace) = self.shared.all_are_back() {
                break grace;
            }
            let died = self.clients.iter().any(JoinHandle::is_finished);
            let log = || self.service().log();
            assert!(!died, "a client has given up in round {round}:\n{}", log());
            assert!(Instant::now() < end, "round {round}: not all are back:\n{}", log());
            std::thread::sleep(Duration::from_millis(10));
        };
        self.sums.graces.push(grace);
    }

    /// Ends the clients, each with a last look at what is its own.
    pub(crate) fn end(mut self) -> Sums {
        self.pause(300, 1);
        self.shared.ends.store(true, Ordering::Release);
        for client in std::mem::take(&mut self.clients) {
            let sums = client.join().unwrap();
            self.sums.answered += sums.answered;
            self.sums.drops += sums.drops;
            self.sums.tries += sums.tries;
            self.sums.promised += sums.promised;
            self.sums.stalls.extend(sums.stalls);
        }
        self.sums
    }
}
