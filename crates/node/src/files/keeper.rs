//! The threads that look at the clock: one for leases, grace and clients that keep things half
//! done, one that makes durable what followed from that; and the end of the service.

use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, SeqCst};
use std::thread::JoinHandle;
use std::time::Duration;

use super::connection::{Connection, lock};
use super::crew::Gauge;
use super::figures::Turned;
use super::{FileService, Service, as_ms};
use model::file::FileStore;
use nfs::export::Exports;
use nfs::handle::Handle;
use nfs::v4::state;

/// How often it looks whether threads keep up, while there is something to do.
const BUSY_PAUSE: Duration = Duration::from_micros(500);
/// Looks that find nothing to do, before it rests; who finds something to do wakes it.
const IDLE_LOOKS: u32 = 10;
/// The same while it rests.
const PAUSE: Duration = Duration::from_millis(100);
/// Between two looks at leases.
const LOOK_MS: u64 = 250;
/// Between two looks at all connections.
const SWEEP_MS: u64 = 2000;
/// Files that the stores let go of while a change of exports waits.
const RELEASED_MAX: usize = 64;
/// How long a stop waits for calls that run and replies that are not taken.
const STOP_MAX: Duration = Duration::from_secs(5);

pub(super) fn start<F: FileStore + Clone + Send + Sync>(
    service: &Arc<Service<F>>,
) -> std::io::Result<()> {
    start_one(service, "files-keeper", keep)?;
    start_one(service, "files-records", settle)
}

fn start_one<F: FileStore + Clone + Send + Sync>(
    service: &Arc<Service<F>>,
    name: &str,
    run: fn(&Service<F>),
) -> std::io::Result<()> {
    let mine = Arc::clone(service);
    let thread = std::thread::Builder::new().name(name.into()).spawn(move || run(&mine))?;
    lock(&service.threads).push(thread);
    Ok(())
}

/// What the clock has changed becomes durable although nobody asks for anything: a record that
/// stays would have the next start wait for a client that is long gone, and a removed file that
/// nobody has open any more would keep its room. It waits for a disk, which the keeper must not.
fn settle<F: FileStore + Clone + Send + Sync>(service: &Service<F>) {
    while !service.ending.load(Acquire) {
        let is_settled = lock(&service.state.0).is_settled();
        if !is_settled && state::settle(&service.state, &*service.records).is_err() {
            // The next request finds it again and fails by it; the log has the reason.
            tracing::debug!("records of NFS clients could not be made durable");
        }
        service.let_go();
        let (mutex, wake) = &service.wake;
        let guard = lock(mutex);
        if !service.ending.load(Acquire) {
            drop(wake.wait_timeout(guard, Duration::from_millis(LOOK_MS)));
        }
    }
}

fn keep<F: FileStore + Clone + Send + Sync>(service: &Service<F>) {
    let (mut looked_ms, mut swept_ms, mut idle) = (0, 0, 0);
    let mut gauge = Gauge::default();
    while !service.ending.load(Acquire) {
        let now = service.clock.now();
        let now_ms = as_ms(now);
        let held_up = service.relieve(now);
        let is_ready = || service.poller.is_ready();
        let blocked = || lock(&service.posts).iter().filter(|post| post.is_blocked()).count();
        service.see_to(service.crew.govern(&mut gauge, held_up, is_ready, blocked));
        if now_ms.saturating_sub(looked_ms) >= LOOK_MS {
            looked_ms = now_ms;
            service.look(now_ms);
        }
        if now_ms.saturating_sub(swept_ms) >= SWEEP_MS {
            swept_ms = now_ms;
            service.end_the_stuck(now_ms);
            service.forget_unseen(now_ms);
        }
        let is_stirred = service.stirs.swap(false, SeqCst);
        let is_busy = is_stirred || !service.crew.is_waiting() || service.is_any_at_work();
        idle = if is_busy { 0 } else { idle + 1 };
        service.rest(idle >= IDLE_LOOKS);
    }
}

impl<F> Service<F> {
    /// There is something to do: the keeper is to look whether threads keep up.
    pub(super) fn stir(&self) {
        self.stirs.store(true, SeqCst);
        if self.keeper_rests.load(SeqCst) && self.keeper_rests.swap(false, SeqCst) {
            // Who is about to rest holds this lock until it does.
            drop(lock(&self.keeper_wake.0));
            self.keeper_wake.1.notify_one();
        }
    }

    fn is_any_at_work(&self) -> bool {
        lock(&self.posts).iter().any(|post| post.is_taken())
    }

    /// The keeper's pause between two looks.
    fn rest(&self, is_long: bool) {
        if !is_long {
            return std::thread::sleep(BUSY_PAUSE);
        }
        let (mutex, wake) = &self.keeper_wake;
        let guard = lock(mutex);
        self.keeper_rests.store(true, SeqCst);
        if !self.stirs.load(SeqCst) && !self.ending.load(SeqCst) {
            drop(wake.wait_timeout(guard, PAUSE));
        }
        self.keeper_rests.store(false, SeqCst);
    }
}

impl<F: FileStore + Clone + Send + Sync> Service<F> {
    fn look(&self, now_ms: u64) {
        lock(&self.state.0).tick(now_ms);
        // What has to become durable by that does so before the next reply, or by another thread;
        // here it would hold up the relief of others.
        self.relax();
    }

    /// Ends connections that keep a call or a reply half done for too long, and those of strangers.
    fn end_the_stuck(&self, now_ms: u64) {
        let patience_ms = self.settings.limits.patience_ms;
        let all: Vec<_> = lock(&self.connections).values().cloned().collect();
        all.iter().filter(|one| one.is_turned_away(now_ms)).for_each(|one| self.close(one));
        for connection in all.iter().filter(|one| one.is_stuck(now_ms, patience_ms)) {
            self.figures.turn_away(Turned::Stuck);
            tracing::info!(peer = %connection.peer, "an NFS client kept something half done");
            self.close(connection);
        }
    }
}

impl<F: FileStore + Clone + Send + Sync> Service<F> {
    /// Tells the stores which opens are gone, and when nobody comes back for others.
    pub(super) fn let_go(&self) {
        while self.let_some_go() {}
        if lock(&self.state.0).in_grace() {
            return;
        }
        // Copied, since what a store does then may wait for a disk, and who changes the exports
        // waits for who holds them.
        let stores: Vec<F> = {
            let portals = self.exports();
            let all = portals.iter().flat_map(|exports| exports.iter());
            all.map(|export| export.store.clone()).collect()
        };
        for store in &stores {
            // In the service that comes next all holders may come back.
            if self.ending.load(Acquire) {
                return;
            }
            store.await_holders(false);
        }
    }

    /// Tells the stores of some opens that are gone; says whether there may be more.
    ///
    /// The exports are held all the while, so that a store that is served no more, and then again,
    /// is not told of opens of before; and they are looked at first, so that nothing is taken that
    /// they do not reach yet.
    fn let_some_go(&self) -> bool {
        let portals = self.exports();
        let find = |file: &Handle| portals.iter().find_map(|all| all.find(file.file_system));
        let reaches = |file: &Handle| find(file).is_some();
        let released = lock(&self.state.0).take_released(RELEASED_MAX, reaches);
        for file in &released {
            if let Some(export) = find(file) {
                export.store.let_go(file.file);
            }
        }
        !released.is_empty()
    }

    fn exports(&self) -> Vec<Arc<Exports<F>>> {
        self.portals.iter().map(|portal| portal.exports.load_full()).collect()
    }
}

impl<F> Service<F> {
    fn next_thread(&self) -> Option<JoinHandle<()>> {
        lock(&self.threads).pop()
    }
}

impl<F: FileStore + Clone + Send + Sync> FileService<F> {
    /// Ends in order: takes nothing more, lets what runs end and what is answered go out, ends
    /// the connections and the threads. Clients come back to the next start without an error.
    pub async fn stop(&self) {
        let service = Arc::clone(&self.0);
        let all: Vec<Arc<Connection>> = lock(&service.connections).values().cloned().collect();
        for connection in &all {
            connection.stop_reading();
        }
        let wait = async {
            while !all.iter().all(|one| one.is_at_rest()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let in_time = tokio::time::timeout(STOP_MAX, wait).await.is_ok();
        if !in_time {
            tracing::warn!("NFS clients did not take their last replies in time");
        }
        service.ending.store(true, SeqCst);
        service.crew.end();
        service.poller.ring();
        service.wake.1.notify_all();
        service.stir();
        for connection in &all {
            service.close(connection);
        }
        let joined = tokio::task::spawn_blocking(move || {
            let told = lock(&service.told).take();
            if let Some(told) = told {
                told.end();
            }
            // One that ends may have started another just before.
            while let Some(thread) = service.next_thread() {
                let _ = thread.join();
            }
        });
        let _ = tokio::time::timeout(STOP_MAX, joined).await;
    }
}
