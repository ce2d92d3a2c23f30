//! Worker threads: each a current-thread runtime with its own block I/O. A connection belongs to
//! one worker for life; orders and background work run on a worker of their own.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use env::BlockIo;
use tokio::sync::{mpsc, oneshot};
use tokio::task::LocalSet;

use crate::purse::Desk;

/// Makes the block I/O of a worker, on the worker's own thread.
pub type BlockIoFactory = Arc<dyn Fn() -> io::Result<Rc<dyn BlockIo>> + Send + Sync>;

/// What a worker lends to the work that runs on it.
pub struct Worker {
    pub io: Rc<dyn BlockIo>,
    /// Memory for the data of its connections.
    pub(crate) desk: Rc<RefCell<Desk>>,
}

type Work = Box<dyn FnOnce(Rc<Worker>) -> Pin<Box<dyn Future<Output = ()>>> + Send>;

/// The way to a worker from any thread. The worker ends when the last handle is gone.
#[derive(Clone)]
pub struct WorkerHandle {
    work: mpsc::UnboundedSender<Work>,
    drawn: Arc<AtomicU64>,
    connections: Arc<AtomicUsize>,
}

/// A seat on a worker, for one connection; given back when dropped.
pub(crate) struct Seat(Arc<AtomicUsize>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl WorkerHandle {
    /// Start a worker thread; its block I/O is made on that thread. `buffer_bytes` is what its
    /// connections may hold together, beyond each one's floor.
    ///
    /// # Errors
    /// When the thread, its runtime or its block I/O cannot be made.
    pub fn start(
        name: String,
        block_io: BlockIoFactory,
        buffer_bytes: u64,
    ) -> io::Result<(Self, JoinHandle<()>)> {
        let (work, queue) = mpsc::unbounded_channel::<Work>();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let drawn = Arc::new(AtomicU64::new(0));
        let shown = Arc::clone(&drawn);
        let (opened, ready) = std::sync::mpsc::sync_channel(1);
        let thread = std::thread::Builder::new().name(name).spawn(move || {
            let local = LocalSet::new();
            local.block_on(&runtime, async move {
                let io = match block_io() {
                    Ok(io) => io,
                    Err(error) => {
                        let _ = opened.send(Err(error));
                        return;
                    }
                };
                let _ = opened.send(Ok(()));
                serve(queue, io, Desk::new(buffer_bytes, shown)).await;
            });
        })?;
        ready.recv().map_err(io::Error::other)??;
        Ok((Self { work, drawn, connections: Arc::default() }, thread))
    }

    /// What its connections hold beyond their floors, in bytes; up to a second old.
    #[must_use]
    pub fn buffer_bytes_drawn(&self) -> u64 {
        self.drawn.load(Ordering::Relaxed)
    }

    /// A seat for a connection on the worker that has the fewest.
    pub(crate) fn least_busy(workers: &[Self]) -> Option<(&Self, Seat)> {
        let connections = |worker: &&Self| worker.connections.load(Ordering::Relaxed);
        let worker = workers.iter().min_by_key(connections)?;
        worker.connections.fetch_add(1, Ordering::Relaxed);
        Some((worker, Seat(Arc::clone(&worker.connections))))
    }

    /// A worker on the caller's own thread. It works while the future is polled in a `LocalSet`.
    pub fn here(io: Rc<dyn BlockIo>, buffer_bytes: u64) -> (Self, impl Future<Output = ()>) {
        let (work, queue) = mpsc::unbounded_channel();
        let drawn = Arc::new(AtomicU64::new(0));
        let desk = Desk::new(buffer_bytes, Arc::clone(&drawn));
        (Self { work, drawn, connections: Arc::default() }, serve(queue, io, desk))
    }

    /// Run something there; nobody waits for it.
    pub fn spawn<F>(&self, work: impl FnOnce(Rc<Worker>) -> F + Send + 'static)
    where
        F: Future<Output = ()> + 'static,
    {
        let _ = self.work.send(Box::new(move |worker| Box::pin(work(worker))));
    }

    /// Run something there and wait for its result; `None` when the worker has ended.
    pub async fn run<F, R>(&self, work: impl FnOnce(Rc<Worker>) -> F + Send + 'static) -> Option<R>
    where
        F: Future<Output = R> + 'static,
        R: Send + 'static,
    {
        let (answer, result) = oneshot::channel();
        self.spawn(move |worker| async move {
            let _ = answer.send(work(worker).await);
        });
        result.await.ok()
    }
}

/// Begin whatever work comes, until the last handle is gone.
async fn serve(mut queue: mpsc::UnboundedReceiver<Work>, io: Rc<dyn BlockIo>, desk: Desk) {
    let worker = Rc::new(Worker { io, desk: Rc::new(RefCell::new(desk)) });
    while let Some(work) = queue.recv().await {
        tokio::task::spawn_local(work(Rc::clone(&worker)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_spread_evenly_whatever_order_they_end_in() {
        let block_io: BlockIoFactory = Arc::new(|| env::block_io(env::IoEngine::Threads));
        let start =
            |n| WorkerHandle::start(format!("test-{n}"), Arc::clone(&block_io), 0).unwrap().0;
        let workers: Vec<_> = (0..3).map(start).collect();
        let seat = || WorkerHandle::least_busy(&workers).unwrap().1;
        let mut seats: Vec<_> = (0..9).map(|_| seat()).collect();
        // All of one worker's and one of another's end; the next four fill these gaps.
        for ended in [6, 4, 3, 0] {
            drop(seats.remove(ended));
        }
        let more: Vec<_> = (0..4).map(|_| seat()).collect();
        let counts = workers.iter().map(|worker| worker.connections.load(Ordering::Relaxed));
        assert_eq!(counts.collect::<Vec<_>>(), [3, 3, 3]);
        drop((seats, more));
        assert!(workers.iter().all(|worker| worker.connections.load(Ordering::Relaxed) == 0));
    }

    #[tokio::test]
    async fn work_runs_on_the_workers_thread_and_answers() {
        let block_io: BlockIoFactory = Arc::new(|| env::block_io(env::IoEngine::Threads));
        let (worker, thread) = WorkerHandle::start("test-worker".into(), block_io, 0).unwrap();
        let name = worker.run(|_| async { std::thread::current().name().map(str::to_owned) }).await;
        assert_eq!(name, Some(Some("test-worker".into())));
        drop(worker);
        thread.join().unwrap();
    }
}
