//! A soak: mixed load of four hosts on several volumes while everything that an operator may do
//! is done to them, and the service is restarted and killed. A ledger knows what each block must
//! hold; nothing may leak.
//!
//! `COMMONHOLD_SOAK_SECONDS` (20), `COMMONHOLD_SOAK_SEED` (1). docs/testing.md says more.
#![allow(clippy::unwrap_used, reason = "a test that meets one has failed")]
#![allow(clippy::print_stdout, reason = "a campaign of an hour says how far it is")]

mod actions;
mod audit;
#[path = "../kill_nine/dice.rs"]
mod dice;
mod lane;
#[path = "../kill_nine/ledger.rs"]
mod ledger;
mod report;
mod rest;
mod restart;
#[path = "../service/mod.rs"]
mod service;
mod watch;
mod world;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use actions::{Action, DECK, RESTARTS};
use lane::Figures;
use report::Report;
use watch::{Sample, descriptors, memory_and_threads};
use world::{Told, World};

/// Longest wait between two actions.
const PAUSE_MS: usize = 400;
/// No command may take longer. A loaded machine with slow disks needs seconds for a flush; what
/// waits for something that never comes needs more.
const SLOWEST: Duration = Duration::from_secs(20);
/// The part of the time in which the service is not restarted, so that a leak can be seen.
const LONG_LIFE: std::ops::Range<f64> = 0.25..0.85;
/// The part of the long life that does not count: caches fill.
const WARM_UP: f64 = 1.0 / 3.0;
/// Kinds of actions that every campaign does, and after how many decks it has done all.
const KINDS_MIN: usize = 12;
const DECKS_OF_ALL: usize = 4;
/// A trend needs so many samples over so many seconds to mean anything.
const TREND_SAMPLES_MIN: usize = 50;
const TREND_SECONDS_MIN: f64 = 60.0;
/// What memory may grow by over the rest of the long life.
const GROWTH_KIB_MAX: f64 = 8192.0;

/// Looks at the process again and again.
struct Sampler {
    pid: AtomicU32,
    life: AtomicUsize,
    samples: Mutex<Vec<Sample>>,
}

impl Sampler {
    async fn run(self: Arc<Self>, began: Instant, figures: Arc<Figures>) {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let pid = self.pid.load(Relaxed);
            let (Some((rss_kib, threads)), Some(links)) =
                (memory_and_threads(pid), descriptors(pid))
            else {
                continue;
            };
            self.samples.lock().unwrap().push(Sample {
                at_s: began.elapsed().as_secs_f64(),
                life: self.life.load(Relaxed),
                rss_kib,
                descriptors: links.len(),
                threads,
                commands: figures.commands.load(Relaxed),
            });
        }
    }
}

struct Campaign {
    seed: u64,
    world: World,
    sampler: Arc<Sampler>,
    began: Instant,
    seconds: f64,
    counts: BTreeMap<Action, usize>,
    rests: usize,
}

impl Campaign {
    fn part(&self) -> f64 {
        self.began.elapsed().as_secs_f64() / self.seconds
    }

    /// Decks until the time is over; the first is played to its end whatever the time.
    async fn play(&mut self) -> Told<()> {
        let mut first = true;
        while first || self.part() < 1.0 {
            for action in self.deck() {
                if !first && self.part() >= 1.0 {
                    break;
                }
                let done = self.world.act(action).await;
                let done = done.map_err(|why| format!("{action:?}: {why}"))?;
                *self.counts.entry(action).or_default() += usize::from(done);
                self.sampler.pid.store(self.world.service().pid(), Relaxed);
                let lives = [Action::Terminate, Action::KillNine];
                let life = lives.iter().filter_map(|action| self.counts.get(action)).sum();
                self.sampler.life.store(life, Relaxed);
                let pause = self.world.dice.below(PAUSE_MS);
                tokio::time::sleep(Duration::from_millis(pause.try_into().unwrap())).await;
            }
            let found = self.world.rest().await.map_err(|why| format!("at rest: {why}"))?;
            self.rests += 1;
            first = false;
            self.progress(&found);
            self.report(None).write();
        }
        Ok(())
    }

    /// What is known by now; how many snapshots were read back, at the end.
    fn report(&self, read: Option<usize>) -> Report {
        let samples = self.sampler.samples.lock().unwrap().clone();
        Report::new(self.seed, &self.world, &self.counts, &samples, read)
    }

    fn deck(&mut self) -> Vec<Action> {
        let calm = LONG_LIFE.contains(&self.part()) && self.rests > 0;
        let cards = DECK.iter().chain(RESTARTS.iter().filter(|_| !calm));
        let mut deck: Vec<Action> =
            cards.flat_map(|(action, count)| std::iter::repeat_n(*action, *count)).collect();
        for at in (1..deck.len()).rev() {
            deck.swap(at, self.world.dice.below(at + 1));
        }
        deck
    }

    fn progress(&self, found: &rest::AtRest) {
        let figures = &self.world.figures;
        let done: usize = self.counts.values().sum();
        let sample = self.sampler.samples.lock().unwrap().last().copied();
        let (rss, threads) = sample.map_or((0, 0), |sample| (sample.rss_kib, sample.threads));
        println!(
            "{:6.0} s  {done} actions, {} commands, {} conflicts, {} refused for space; RSS {} MiB, \
             {threads} threads; at rest {} descriptors, {} files, {} sessions: all agree",
            self.began.elapsed().as_secs_f64(),
            figures.commands.load(Relaxed),
            figures.conflicts.load(Relaxed),
            figures.no_space.load(Relaxed),
            rss / 1024,
            found.descriptors,
            found.files,
            found.sessions,
        );
    }
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}

#[test]
fn nothing_is_lost_and_nothing_leaks() {
    let seed = setting("COMMONHOLD_SOAK_SEED", 1);
    let seconds = setting("COMMONHOLD_SOAK_SECONDS", 20);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let world = World::start(seed).await.unwrap();
        let sampler = Arc::new(Sampler {
            pid: AtomicU32::new(world.service().pid()),
            life: AtomicUsize::new(0),
            samples: Mutex::default(),
        });
        let began = Instant::now();
        tokio::spawn(Arc::clone(&sampler).run(began, Arc::clone(&world.figures)));
        let seconds = f64::from(u32::try_from(seconds).unwrap());
        let counts = BTreeMap::new();
        let mut campaign = Campaign { seed, world, sampler, began, seconds, counts, rests: 0 };
        let ended = campaign.play().await;
        let read = match ended {
            Ok(()) => campaign.world.close().await,
            Err(why) => Err(why),
        };
        let read = read.unwrap_or_else(|why| {
            let log = campaign.world.service.as_ref().map(service::Service::log);
            let tail: Vec<_> = log.iter().flat_map(|log| log.lines().rev().take(40)).collect();
            let tail: Vec<_> = tail.into_iter().rev().collect();
            panic!("seed {seed}: {why}\nthe end of the log:\n{}", tail.join("\n"));
        });
        let report = campaign.report(Some(read));
        println!("{report}");
        report.write();
        println!("written to {}", report.path.display());
        report.judge();
        // One deck may find that this or that cannot be done yet.
        let kinds = campaign.counts.values().filter(|count| **count > 0).count();
        assert!(kinds >= KINDS_MIN, "only {kinds} kinds of actions were done");
        if campaign.rests >= DECKS_OF_ALL {
            let conflicts = campaign.world.figures.conflicts.load(Relaxed);
            assert!(conflicts > 0, "no reservation was in the way");
            for (action, _) in DECK.iter().chain(RESTARTS) {
                assert!(campaign.counts.get(action) > Some(&0), "{action:?} was never done");
            }
        }
    });
}
