//! Block I/O by blocking threads: for machines that deny io_uring.
//!
//! Sixteen threads at most, shared by all workers of the process and started when needed.
//!
//! Invariant: a job holds all that it needs, so it ends whether or not somebody still waits.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use tokio::sync::oneshot;

use crate::block_io::{BlockIo, IoFile, IoFuture};
use crate::buffer::Buffer;
use crate::descriptor::{Descriptor, ReadJob, WriteJob, zeros_for};

/// Threads that the process starts at most for block I/O.
const THREADS_MAX: usize = 16;

/// The kernel takes this many parts in one call (IOV_MAX).
pub(crate) const PARTS_MAX: usize = 1024;

type Job = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    arrived: Condvar,
}

impl Shared {
    fn push(self: &Arc<Self>, job: Job) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.jobs.push_back(job);
        if queue.idle >= queue.jobs.len() || queue.threads == THREADS_MAX {
            drop(queue);
            self.arrived.notify_one();
            return;
        }
        let shared = Arc::clone(self);
        let started = std::thread::Builder::new()
            .name(format!("block-io-{}", queue.threads))
            .spawn(move || shared.work());
        match started {
            Ok(_) => queue.threads += 1,
            // With one thread at least the job only waits; with none it could never run.
            Err(why) if queue.threads > 0 => tracing::warn!("no further I/O thread: {why}"),
            Err(why) => {
                tracing::error!("no I/O thread at all, working in the caller: {why}");
                let job = queue.jobs.pop_back();
                drop(queue);
                if let Some(job) = job {
                    job();
                }
            }
        }
    }
    fn work(&self) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(job) = queue.jobs.pop_front() {
                drop(queue);
                job();
                queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            } else {
                queue.idle += 1;
                queue = self.arrived.wait(queue).unwrap_or_else(PoisonError::into_inner);
                queue.idle -= 1;
            }
        }
    }
}

/// Block I/O by blocking threads.
#[derive(Clone)]
pub struct ThreadPool {
    shared: Arc<Shared>,
}

impl Default for ThreadPool {
    fn default() -> Self {
        Self::new()
    }
}

impl ThreadPool {
    /// A handle to the process' threads.
    #[must_use]
    pub fn new() -> Self {
        static SHARED: OnceLock<Arc<Shared>> = OnceLock::new();
        Self { shared: Arc::clone(SHARED.get_or_init(Arc::default)) }
    }
    fn run<T, F>(&self, file: &IoFile, work: F) -> IoFuture<T>
    where
        T: Send + 'static,
        F: FnOnce(Arc<Descriptor>) -> io::Result<T> + Send + 'static,
    {
        let descriptor = match Descriptor::of(file) {
            Ok(descriptor) => descriptor,
            Err(why) => return Box::pin(std::future::ready(Err(why))),
        };
        let (answer, answered) = oneshot::channel();
        self.shared.push(Box::new(move || {
            // Nobody waits any more: the work is done all the same.
            let _ = answer.send(work(descriptor));
        }));
        Box::pin(async move {
            answered
                .await
                .unwrap_or_else(|_| Err(io::Error::other("the I/O thread ended without an answer")))
        })
    }
}

impl BlockIo for ThreadPool {
    fn read(&self, file: &IoFile, offset: u64, buffer: Buffer) -> IoFuture<Buffer> {
        self.run(file, move |file| read(ReadJob::new(file, offset, buffer)))
    }
    fn write(&self, file: &IoFile, offset: u64, parts: Vec<Bytes>) -> IoFuture<()> {
        // The job (and with it the room) is made on the thread that runs it: a direct write
        // that only waits in the queue must not keep page-cache writers waiting.
        self.run(file, move |file| write(WriteJob::new(file, offset, parts)))
    }
    fn sync(&self, file: &IoFile) -> IoFuture<()> {
        self.run(file, |file| Ok(rustix::fs::fdatasync(file.cached())?))
    }
    fn punch(&self, file: &IoFile, offset: u64, length: u64) -> IoFuture<()> {
        self.run(file, move |file| punch(file, offset, length))
    }
}

fn read(mut job: ReadJob) -> io::Result<Buffer> {
    loop {
        let (file, direct) = (Arc::clone(&job.file), job.direct);
        let (offset, memory) = job.rest();
        match rustix::io::pread(file.fd(direct), memory, offset) {
            Ok(count) => {
                if job.advance(count) {
                    return Ok(job.finish());
                }
            }
            Err(Errno::INTR) => {}
            Err(why) => return Err(why.into()),
        }
    }
}

fn write(mut job: WriteJob) -> io::Result<()> {
    while !job.rest().is_empty() {
        job.wait_ready();
        let slices: Vec<IoSlice<'_>> =
            job.rest().iter().take(PARTS_MAX).map(|part| IoSlice::new(part)).collect();
        match rustix::io::pwritev(job.file.fd(job.is_direct()), &slices, job.offset()) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => drop(job.advance(count)),
            Err(Errno::INTR) => {}
            Err(why) => return Err(why.into()),
        }
    }
    Ok(())
}

fn punch(file: Arc<Descriptor>, offset: u64, length: u64) -> io::Result<()> {
    if length == 0 {
        return Ok(());
    }
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    loop {
        match rustix::fs::fallocate(file.cached(), flags, offset, length) {
            Ok(()) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(Errno::OPNOTSUPP) => {
                let zeros = zeros_for(&file, offset, length)?;
                return write(WriteJob::new(file, offset, zeros));
            }
            Err(why) => return Err(why.into()),
        }
    }
}
