//! Hostile peers against the real daemon: whatever they do, its memory stays below what the
//! operator allowed, and an honest host goes on working.
//!
//! Each attack prints a line: resident memory before, at its peak and afterwards, and the slowest
//! answers that the honest host saw meanwhile.
#![allow(clippy::unwrap_used, reason = "a test that meets one has failed")]
#![allow(clippy::print_stdout, reason = "the figures are for whoever runs it")]

mod attacks;
mod raw;
#[path = "../service/mod.rs"]
mod service;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use attacks::Victim;
use bytes::Bytes;
use host::{Credentials, Initiator, LogicalUnit, Options};
use serde_json::Value;
use service::Service;
use tokio::runtime::Runtime;

const MIB: u64 = 1 << 20;
/// What the operator allows: memory for data, and as many peers.
const BUFFERS: u64 = 64 * MIB;
const LIMITS: [&str; 12] = [
    "--buffers",
    "64m",
    "--workers",
    "2",
    "--sessions",
    "256",
    "--logins",
    "256",
    "--logins-per-address",
    "64",
    "--api-connections",
    "1000",
];
/// What an attack may add: the buffers, what each connection may hold beside them (here mostly
/// logins with a receive buffer and a text each), and what the allocator keeps of it.
const GROWTH_MAX: u64 = BUFFERS + 96 * MIB;
/// An honest answer takes no longer, small or large: a hog is ended after half a minute.
const SMALL_LIMIT: Duration = Duration::from_secs(5);
const LARGE_LIMIT: Duration = Duration::from_secs(45);

fn word<'a>(value: &'a Value, path: &str) -> &'a str {
    value.pointer(path).and_then(Value::as_str).unwrap_or_else(|| panic!("no {path} in {value}"))
}

/// A host with a volume of its own: its name, the target, its credentials.
fn attached(service: &Service, name: &str) -> (String, String, Credentials) {
    let iqn = format!("iqn.2026-11.org.example:{name}");
    service.json(&["volume", "create", name, "--size", "64m", "--type", "ssd"]);
    service.json(&["host", "create", name, "--initiator", &iqn]);
    let created = service.json(&["attachment", "create", name, "--host", name]);
    let one = &created["attachments"][0];
    let credentials = Credentials {
        user: word(one, "/credentials/user").to_owned(),
        secret: word(one, "/credentials/secret").to_owned(),
    };
    (iqn, word(one, "/attachment/connection/target").to_owned(), credentials)
}

/// The slowest answers since they were last asked for, in microseconds.
#[derive(Default)]
struct Slowest {
    small: AtomicU64,
    large: AtomicU64,
    answers: AtomicU64,
    ended: AtomicBool,
}

/// Write and read back until told to end; every byte must be what was written.
async fn honest_load(unit: LogicalUnit, blocks: u32, slowest: Arc<Slowest>) {
    let figure = if blocks == 8 { &slowest.small } else { &slowest.large };
    let (bytes, lba) = (usize::try_from(blocks).unwrap() * 512, u64::from(blocks) * 2);
    let mut round = 0_u8;
    while !slowest.ended.load(Ordering::Relaxed) {
        round = round.wrapping_add(1);
        let data = Bytes::from(vec![round; bytes]);
        let began = Instant::now();
        unit.write(lba, data.clone(), false).await.unwrap();
        let wrote = began.elapsed();
        let back = unit.read(lba, blocks).await.unwrap();
        assert_eq!(back, data);
        let took = wrote.max(began.elapsed() - wrote);
        figure.fetch_max(u64::try_from(took.as_micros()).unwrap(), Ordering::Relaxed);
        slowest.answers.fetch_add(2, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

struct World {
    service: Service,
    runtime: Runtime,
    victim: Victim,
    slowest: Arc<Slowest>,
    load: Vec<tokio::task::JoinHandle<()>>,
    /// What did not hold; told when all attacks are over.
    broken: Vec<String>,
}

impl World {
    fn start() -> Self {
        let service = Service::start_in(tempfile::tempdir().unwrap(), &LIMITS);
        let (iqn, target, credentials) = attached(&service, "honest");
        let mut options = Options::new(iqn, Some(target));
        options.chap = Some(credentials);
        let (iqn, target, credentials) = attached(&service, "hostile");
        let portal = service.portal.parse().unwrap();
        let api = service.url.strip_prefix("http://").unwrap().parse().unwrap();
        let victim = Victim { portal, api, target, iqn, credentials };
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.unwrap();
        let slowest = Arc::new(Slowest::default());
        let mut load = Vec::new();
        for (port, blocks) in [(1, 8), (2, 2048)] {
            options.isid = [0x80, 0, 0, 0, 0, port];
            let (options, portal) = (options.clone(), victim.portal);
            let unit = runtime.block_on(async {
                let session = Initiator::connect(portal, options).await.unwrap();
                LogicalUnit::open(&session, 0).await.unwrap()
            });
            load.push(runtime.spawn(honest_load(unit, blocks, Arc::clone(&slowest))));
        }
        Self { service, runtime, victim, slowest, load, broken: Vec::new() }
    }

    /// Run an attack and look at the daemon meanwhile.
    fn suffer<F>(&mut self, name: &str, attack: impl FnOnce(Victim) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let before = self.service.resident_bytes();
        let take = |figure: &AtomicU64| Duration::from_micros(figure.swap(0, Ordering::Relaxed));
        take(&self.slowest.small);
        take(&self.slowest.large);
        let answers = self.slowest.answers.load(Ordering::Relaxed);
        let attacking = self.runtime.spawn(attack(self.victim.clone()));
        let mut peak = before;
        while !attacking.is_finished() {
            peak = peak.max(self.service.resident_bytes());
            std::thread::sleep(Duration::from_millis(20));
        }
        self.runtime.block_on(attacking).unwrap();
        std::thread::sleep(Duration::from_millis(500));
        let after = self.service.resident_bytes();
        let (small, large) = (take(&self.slowest.small), take(&self.slowest.large));
        let answers = self.slowest.answers.load(Ordering::Relaxed) - answers;
        println!(
            "{name:<16} {:>5} {:>5} {:>5} MiB, slowest {small:>9.1?} {large:>9.1?}, {answers} answers",
            before / MIB,
            peak / MIB,
            after / MIB,
        );
        let mut check = |holds: bool, what: String| {
            if !holds {
                self.broken.push(format!("{name}: {what}"));
            }
        };
        check(peak <= before + GROWTH_MAX, format!("took {} MiB", (peak - before) / MIB));
        check(after <= before + GROWTH_MAX, format!("left {} MiB more", after / MIB));
        check(answers > 0, "the honest host is not served".to_owned());
        check(small < SMALL_LIMIT && large < LARGE_LIMIT, format!("{small:?}, {large:?}"));
    }

    fn end(self) {
        self.slowest.ended.store(true, Ordering::Relaxed);
        for load in self.load {
            self.runtime.block_on(load).expect("the honest host met no error");
        }
        assert!(self.broken.is_empty(), "{:#?}", self.broken);
        let log = self.service.log();
        // Of a flood a few lines are told, and a count.
        assert!(log.len() < 2 << 20, "the log has {} bytes", log.len());
        assert!(!log.contains("panicked"), "{log}");
    }
}

#[test]
fn no_peer_exhausts_the_daemon() {
    let mut world = World::start();
    world.suffer("silence", attacks::silence);
    world.suffer("half PDUs", attacks::half_pdus);
    world.suffer("garbage", attacks::garbage);
    world.suffer("largest header", attacks::largest_header);
    world.suffer("endless text", attacks::endless_text);
    world.suffer("unread logins", attacks::unread_logins);
    world.suffer("wrong secrets", attacks::wrong_secrets);
    world.suffer("many sessions", attacks::many_sessions);
    world.suffer("withheld ends", attacks::withheld_ends);
    world.suffer("unread answers", attacks::unread_answers);
    world.suffer("crumbs", attacks::crumbs);
    world.suffer("out of turn", attacks::out_of_turn);
    world.suffer("slow requests", attacks::slow_requests);
    world.end();
}
