//! kill -9 under a mixed load of four hosts, again and again: what was promised is there
//! afterwards, whole; reservations that were to outlive it do, and others do not; snapshots stay
//! what they were.
//!
//! `COMMONHOLD_KILL_ROUNDS` sets the number of rounds (10). A campaign takes a release build.
#![allow(clippy::unwrap_used, reason = "a test that meets one has failed")]

mod dice;
mod ledger;
mod load;
#[path = "../service/mod.rs"]
mod service;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use dice::Dice;
use host::{Credentials, Initiator, LogicalUnit, Options};
use ledger::{BLOCK, Bounds, Ledger};
use load::{Lane, change, register_on};
use serde_json::Value;
use service::{Service, verb};
use tokio::runtime::Runtime;

const HOSTS: usize = 4;
const LANES_PER_HOST: usize = 3;
const VOLUME_BYTES: usize = 16 << 20;
/// Snapshots that are kept, so that merges go on all the time.
const PICTURES_MAX: usize = 6;
/// The key that the second volume's only registrant begins a round with.
const RESTLESS: u64 = 0xfeed_0000;
/// Blocks of one READ when the whole volume is checked.
const READ_BLOCKS: u32 = 2048;

async fn open(portal: &str, options: Options) -> LogicalUnit {
    let session = Initiator::connect(portal, options).await.unwrap();
    LogicalUnit::open(&session, 0).await.unwrap()
}

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
    /// A second volume whose reservations are changed without end: its target, and how to get in.
    restless: (String, Credentials),
    ledger: Arc<Mutex<Ledger>>,
    pictures: Vec<Picture>,
    dice: Dice,
    answered: usize,
    registered: u64,
}

fn iqn(host: usize) -> String {
    format!("iqn.2026-11.org.example:kill-{host}")
}

fn credentials_of(one: &Value) -> Credentials {
    Credentials {
        user: word(one, "/credentials/user").to_owned(),
        secret: word(one, "/credentials/secret").to_owned(),
    }
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
        let credentials = created.iter().map(credentials_of).collect();
        service.json(&["volume", "create", "w", "--size", "1m", "--type", "ssd-multiattach"]);
        let restless = service.json(&["attachment", "create", "w", "--host", "h0"]);
        let restless = &restless["attachments"][0];
        let restless =
            (word(restless, "/attachment/connection/target").to_owned(), credentials_of(restless));
        let target = word(&created[0], "/attachment/connection/target").to_owned();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        Self {
            service: Some(service),
            runtime: runtime.unwrap(),
            target,
            credentials,
            restless,
            ledger: Arc::new(Mutex::new(Ledger::new(VOLUME_BYTES / BLOCK))),
            pictures: Vec::new(),
            dice: Dice(20_261_121),
            answered: 0,
            registered: 0,
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
            open(&portal, options)
        };
        self.runtime.block_on(async {
            let mut units = Vec::new();
            for host in 0..HOSTS {
                units.push(open(host).await);
            }
            units
        })
    }

    /// A session with the second volume, whose registrant then holds it exclusively.
    fn hold_restless(&self, aptpl: bool) -> LogicalUnit {
        let mut options = Options::new(iqn(0), Some(self.restless.0.clone()));
        options.chap = Some(self.restless.1.clone());
        self.runtime.block_on(async {
            let unit = open(&self.service().portal, options).await;
            // REGISTER AND IGNORE EXISTING KEY, then RESERVE, Write Exclusive - Registrants Only.
            let register = change((0, RESTLESS), aptpl);
            unit.persistent_reserve_out(6, 0, register).await.unwrap();
            let reserve = change((RESTLESS, 0), false);
            unit.persistent_reserve_out(1, 5, reserve).await.unwrap();
            unit
        })
    }

    /// With APTPL its last change is there, or the one that was under way; without, nothing is.
    fn assert_restless(&self, aptpl: bool, (answered, sent): (u64, u64)) {
        let state = self.service().json(&["volume", "reservations", "w"]);
        assert_eq!(state["lost"], false, "{state}");
        let keys: Vec<_> =
            state["registrants"].as_array().unwrap().iter().map(|one| word(one, "/key")).collect();
        if aptpl {
            let possible = [answered, sent].map(|key| format!("{key:#018x}"));
            let [key] = keys[..] else { panic!("{state}") };
            assert!(possible.iter().any(|one| one == key), "{state}, not one of {possible:?}");
            assert_eq!(state["type_code"], 5, "{state}");
        } else {
            assert_eq!((keys.len(), &state["type_code"]), (0, &Value::Null), "{state}");
        }
    }

    /// All register, to be kept through a loss of power; the first reserves for them all.
    fn reserve(&self, units: &[LogicalUnit]) {
        self.runtime.block_on(async {
            for (host, unit) in units.iter().enumerate() {
                unit.persistent_reserve_out(0, 0, change((0, key(host)), true)).await.unwrap();
            }
            // RESERVE, Write Exclusive - All Registrants.
            units[0].persistent_reserve_out(1, 7, change((key(0), 0), true)).await.unwrap();
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
        let aptpl = round.is_multiple_of(2);
        let restless = self.hold_restless(aptpl);
        let restless = self.runtime.spawn(register_on(restless, RESTLESS, aptpl));
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
        let registered = self.runtime.block_on(restless).unwrap().unwrap();
        self.registered += registered.0 - RESTLESS;

        self.service = Some(Service::start_in(home, &[]));
        let units = self.log_in();
        self.assert_content(&units[round % HOSTS]);
        self.assert_reserved();
        self.assert_restless(aptpl, registered);
        // Cut short or not: it must not stay for ever.
        let _ = self.service().run(&["snapshot", "delete", &format!("cut{round}")]);
        self.assert_picture(self.pictures.len() - 1);
        units
    }

    fn take_picture(&mut self, name: &str) {
        let low = self.ledger.lock().unwrap().picture_begins();
        self.service().json(&["snapshot", "create", "v", name]);
        let bounds = self.ledger.lock().unwrap().picture_ends(low);
        self.pictures.push(Picture { name: name.to_owned(), bounds });
    }

    /// A snapshot and the deletion of an old one, which the kill interrupts.
    fn doomed_verbs(&mut self, round: usize) -> Vec<std::thread::JoinHandle<()>> {
        let mut lines =
            vec![vec!["snapshot".to_owned(), "create".into(), "v".into(), format!("cut{round}")]];
        if self.pictures.len() > PICTURES_MAX {
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
        "{rounds} rounds of kill -9, {} commands and {} changes of reservations answered, \
         {promised} of {} blocks under promise, {} snapshots read back at the end",
        world.answered,
        world.registered,
        VOLUME_BYTES / BLOCK,
        world.pictures.len(),
    );
}
