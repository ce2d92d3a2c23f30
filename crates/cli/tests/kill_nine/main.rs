//! kill -9 under a mixed load of three hosts, again and again: what was promised is there
//! afterwards, whole; reservations that were to outlive it do; snapshots stay what they were.
//!
//! `COMMONHOLD_KILL_ROUNDS` sets the number of rounds (10).
#![allow(clippy::unwrap_used, reason = "a test that meets one has failed")]

mod dice;
mod ledger;
mod load;
#[path = "../service/mod.rs"]
mod service;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use dice::Dice;
use host::{Credentials, Initiator, LogicalUnit, Options};
use ledger::{BLOCK, Bounds, Ledger};
use load::Lane;
use serde_json::Value;
use service::{Service, verb};
use tokio::runtime::Runtime;

const HOSTS: usize = 3;
const LANES_PER_HOST: usize = 4;
const VOLUME_BYTES: usize = 16 << 20;
/// Blocks of one READ when the whole volume is checked.
const READ_BLOCKS: u32 = 2048;

/// A snapshot and what it may hold.
struct Picture {
    name: String,
    bounds: Bounds,
}

struct World {
    service: Option<Service>,
    runtime: Runtime,
    target: String,
    credentials: Vec<Credentials>,
    ledger: Arc<Mutex<Ledger>>,
    pictures: Vec<Picture>,
    dice: Dice,
    answered: usize,
}

fn iqn(host: usize) -> String {
    format!("iqn.2026-11.org.example:kill-{host}")
}

fn key(host: usize) -> u64 {
    0xc0de_0000 + u64::try_from(host).unwrap()
}

fn word<'a>(value: &'a Value, path: &str) -> &'a str {
    value.pointer(path).and_then(Value::as_str).unwrap_or_else(|| panic!("no {path} in {value}"))
}

impl World {
    fn new() -> Self {
        let service = Service::start();
        let grant = ["volume-type", "grant", "ssd-multiattach", "default"];
        service.json(&[&grant[..], &["--acknowledge-data-loss"]].concat());
        service.json(&["volume", "create", "v", "--size", "16m", "--type", "ssd-multiattach"]);
        let mut attach = vec!["attachment".to_owned(), "create".to_owned(), "v".to_owned()];
        for host in 0..HOSTS {
            let name = format!("h{host}");
            service.json(&["host", "create", &name, "--initiator", &iqn(host)]);
            attach.extend(["--host".to_owned(), name]);
        }
        let created = service.json(&attach.iter().map(String::as_str).collect::<Vec<_>>());
        let created = created["attachments"].as_array().unwrap();
        let credentials = created
            .iter()
            .map(|one| Credentials {
                user: word(one, "/credentials/user").to_owned(),
                secret: word(one, "/credentials/secret").to_owned(),
            })
            .collect();
        let target = word(&created[0], "/attachment/connection/target").to_owned();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        Self {
            service: Some(service),
            runtime: runtime.unwrap(),
            target,
            credentials,
            ledger: Arc::new(Mutex::new(Ledger::new(VOLUME_BYTES / BLOCK))),
            pictures: Vec::new(),
            dice: Dice(20_261_121),
            answered: 0,
        }
    }

    fn service(&self) -> &Service {
        self.service.as_ref().unwrap()
    }

    fn pause(&mut self, least_ms: usize, more_ms: usize) {
        let pause = least_ms + self.dice.below(more_ms);
        std::thread::sleep(Duration::from_millis(pause.try_into().unwrap()));
    }

    /// A session for each host.
    fn log_in(&self) -> Vec<LogicalUnit> {
        let portal = self.service().portal.clone();
        let open = |host: usize| {
            let mut options = Options::new(iqn(host), Some(self.target.clone()));
            options.chap = Some(self.credentials[host].clone());
            async {
                let session = Initiator::connect(&portal, options).await.unwrap();
                LogicalUnit::open(&session, 0).await.unwrap()
            }
        };
        self.runtime.block_on(async {
            let mut units = Vec::new();
            for host in 0..HOSTS {
                units.push(open(host).await);
            }
            units
        })
    }

    /// All three register, to be kept through a loss of power; the first reserves for them all.
    fn reserve(&self, units: &[LogicalUnit]) {
        self.runtime.block_on(async {
            for (host, unit) in units.iter().enumerate() {
                let mut list = [0; 24];
                list[8..16].copy_from_slice(&key(host).to_be_bytes());
                list[20] = 1; // APTPL
                unit.persistent_reserve_out(0, 0, Bytes::copy_from_slice(&list)).await.unwrap();
            }
            let mut list = [0; 24];
            list[..8].copy_from_slice(&key(0).to_be_bytes());
            // RESERVE, Write Exclusive - All Registrants.
            units[0].persistent_reserve_out(1, 7, Bytes::copy_from_slice(&list)).await.unwrap();
        });
    }

    fn assert_reserved(&self) {
        let state = self.service().json(&["volume", "reservations", "v"]);
        assert_eq!((&state["type_code"], &state["lost"]), (&7.into(), &false.into()), "{state}");
        assert_eq!(state["persist_through_power_loss"], true);
        let keys: Vec<_> =
            state["registrants"].as_array().unwrap().iter().map(|one| word(one, "/key")).collect();
        for host in 0..HOSTS {
            assert!(keys.contains(&format!("{:#018x}", key(host)).as_str()), "{state}");
        }
    }

    /// Load, snapshots, kill, restart, and a look at everything.
    fn round(&mut self, round: usize, units: Vec<LogicalUnit>) -> Vec<LogicalUnit> {
        let lanes: Vec<_> = (0..HOSTS * LANES_PER_HOST)
            .map(|number| {
                let lane = Lane {
                    unit: units[number % HOSTS].clone(),
                    ledger: Arc::clone(&self.ledger),
                    blocks: VOLUME_BYTES / BLOCK,
                    number,
                    lanes: HOSTS * LANES_PER_HOST,
                    dice: Dice(u64::try_from(round * 1000 + number).unwrap()),
                };
                self.runtime.spawn(lane.run())
            })
            .collect();
        drop(units);
        self.pause(50, 300);
        self.take_picture(&format!("s{round}"));
        self.pause(20, 300);
        // Cut short wherever they are then.
        let going = self.doomed_verbs(round);
        self.pause(1, 150);
        let home = self.service.take().unwrap().kill();
        for verb in going {
            verb.join().unwrap();
        }
        for lane in lanes {
            self.answered += self.runtime.block_on(lane).unwrap().unwrap();
        }

        self.service = Some(Service::start_in(home, &[]));
        let units = self.log_in();
        self.assert_content(&units[round % HOSTS]);
        self.assert_reserved();
        self.assert_picture(self.pictures.len() - 1);
        units
    }

    fn take_picture(&mut self, name: &str) {
        let low = self.ledger.lock().unwrap().picture_begins();
        self.service().json(&["snapshot", "create", "v", name]);
        let bounds = self.ledger.lock().unwrap().picture_ends(low);
        self.pictures.push(Picture { name: name.to_owned(), bounds });
    }

    /// A snapshot and, every third round, the deletion of an old one, which the kill interrupts.
    fn doomed_verbs(&mut self, round: usize) -> Vec<std::thread::JoinHandle<()>> {
        let mut lines =
            vec![vec!["snapshot".to_owned(), "create".into(), "v".into(), format!("cut{round}")]];
        if round % 3 == 2 {
            let old = self.pictures.remove(0);
            lines.push(vec!["snapshot".into(), "delete".into(), old.name]);
        }
        let run = |line: Vec<String>| {
            let home = self.service().home.path().to_owned();
            std::thread::spawn(move || {
                // Whether it succeeded nobody can know.
                let _ = verb(&home, &line.iter().map(String::as_str).collect::<Vec<_>>());
            })
        };
        lines.into_iter().map(run).collect()
    }

    fn assert_content(&self, unit: &LogicalUnit) {
        let content = self.runtime.block_on(async {
            let mut content = Vec::new();
            for lba in (0..unit.blocks()).step_by(READ_BLOCKS.try_into().unwrap()) {
                content.extend_from_slice(&unit.read(lba, READ_BLOCKS).await.unwrap());
            }
            content
        });
        let mut ledger = self.ledger.lock().unwrap();
        let found = ledger.after_kill().check(&content).unwrap_or_else(|why| {
            panic!("{why}\n{}", self.service().log());
        });
        self.runtime.block_on(unit.sync()).unwrap();
        ledger.settle(found);
    }

    /// Read a snapshot by way of a clone's export.
    fn assert_picture(&self, index: usize) {
        let picture = &self.pictures[index];
        let service = self.service();
        let path = service.path(&format!("{}.raw", picture.name));
        service.json(&["volume", "create", "look", "--from-snapshot", &picture.name]);
        service.json(&["volume", "export", "look", path.to_str().unwrap()]);
        service.run(&["volume", "delete", "look", "--wait"]);
        let content = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        if let Err(why) = picture.bounds.check(&content) {
            panic!("snapshot {}: {why}", picture.name);
        }
    }
}

#[test]
fn what_was_promised_survives_kill_nine() {
    let rounds =
        std::env::var("COMMONHOLD_KILL_ROUNDS").map_or(10, |rounds| rounds.parse().unwrap());
    let mut world = World::new();
    let mut units = world.log_in();
    world.reserve(&units);
    for round in 0..rounds {
        units = world.round(round, units);
    }
    for index in 0..world.pictures.len() {
        world.assert_picture(index);
    }
    let promised = world.ledger.lock().unwrap().promised();
    assert!(promised > 1000 && world.answered > 100 * rounds, "the load was too light");
    println!(
        "{rounds} rounds of kill -9, {} commands answered, {promised} of {} blocks under promise, \
         {} snapshots read back",
        world.answered,
        VOLUME_BYTES / BLOCK,
        world.pictures.len(),
    );
}
