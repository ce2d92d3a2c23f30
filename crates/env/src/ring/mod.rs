//! Block I/O by io_uring: one private ring per worker thread.
//!
//! ```text
//!   BlockIo::read/write/..      driver task, once per turn of the worker's run queue
//!     put the job in a slot       ready jobs -> submission queue -> one io_uring_enter
//!     mark it ready               completion queue -> slots: finished, or ready again (short I/O)
//!     wake the driver             nothing left: let the event descriptor wake us, and sleep
//! ```
//!
//! What the page cache can serve never comes here (see [`crate::at_once`]), up to a limit per turn.
//! All jobs that the worker's tasks start in one turn are submitted by one system call, and what
//! the kernel can answer at once (page-cache hits) is answered by that same call.
//!
//! Invariant: memory and descriptors of a job stay in its slot until the kernel is done with it,
//! whatever happens to the future; the ring itself waits for its jobs when it is dropped.

mod core;
mod job;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use io_uring::{IoUring, Probe, opcode};
use rustix::event::EventfdFlags;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::{Handle, RuntimeFlavor};

use self::core::Core;
use self::job::{Job, Output};
use crate::block_io::{BlockIo, IoFile, IoFuture};
use crate::buffer::Buffer;
use crate::descriptor::{Descriptor, ReadJob, WriteJob};

/// Submission queue entries: how many jobs one system call can start.
const SUBMISSIONS: u32 = 256;
/// Completion queue entries: how many jobs the kernel may hold at once.
const COMPLETIONS: u32 = 4096;
/// Bytes that a worker's tasks may move at once before one of them has to wait.
const AT_ONCE_BYTES_MAX: usize = 4 << 20;

/// Block I/O by an io_uring ring that belongs to the thread that made it.
pub struct Ring {
    shared: Rc<Shared>,
}

struct Shared {
    number: u64,
    core: RefCell<Core>,
    /// The driver task's; there once it has run for the first time.
    driver: RefCell<Option<Waker>>,
    /// The driver is woken already and has not run yet.
    woken: Cell<bool>,
    /// Bytes moved at once, outside of the ring, since the driver's last turn.
    at_once_bytes: Cell<usize>,
}

thread_local! {
    /// The rings of this thread, by number. The driver task finds its ring here, so that it need
    /// not hold what cannot leave the thread and can be an ordinary task of the runtime.
    static RINGS: RefCell<HashMap<u64, Weak<Shared>>> = RefCell::default();
    static NEXT_NUMBER: Cell<u64> = const { Cell::new(0) };
}

impl Ring {
    /// A ring for the calling thread, driven by its current-thread tokio runtime (which must have
    /// I/O enabled).
    ///
    /// # Errors
    /// `Unsupported` outside of such a runtime; else what the kernel says to io_uring_setup.
    pub fn new() -> io::Result<Self> {
        let on_one_thread = Handle::try_current()
            .is_ok_and(|handle| handle.runtime_flavor() == RuntimeFlavor::CurrentThread);
        if !on_one_thread {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "a ring needs a current-thread tokio runtime",
            ));
        }
        let ring = set_up()?;
        let event = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        ring.submitter().register_eventfd(event.as_raw_fd())?;
        let number = NEXT_NUMBER.replace(NEXT_NUMBER.get() + 1);
        let shared = Rc::new(Shared {
            number,
            core: RefCell::new(Core::new(ring)),
            driver: RefCell::new(None),
            woken: Cell::new(false),
            at_once_bytes: Cell::new(0),
        });
        RINGS.with(|rings| rings.borrow_mut().insert(number, Rc::downgrade(&shared)));
        tokio::spawn(drive(number, watch(event)?));
        Ok(Self { shared })
    }

    fn start<T: 'static>(&self, job: Job, take: fn(Output) -> Option<T>) -> IoFuture<T> {
        let slot = self.shared.core.borrow_mut().insert(job);
        self.shared.wake_driver();
        Box::pin(Operation { shared: Rc::clone(&self.shared), slot: Some(slot), take })
    }
}

impl BlockIo for Ring {
    fn read(&self, file: &IoFile, offset: u64, buffer: Buffer) -> IoFuture<Buffer> {
        match Descriptor::of(file) {
            Err(why) => refuse(why),
            Ok(_) if buffer.is_empty() => Box::pin(std::future::ready(Ok(buffer))),
            Ok(file) => {
                let may = self.shared.may_at_once(buffer.len());
                let mut job = ReadJob::new(Arc::clone(&file), offset, buffer);
                if may && file.at_once.read(&mut job) {
                    return Box::pin(std::future::ready(Ok(job.finish())));
                }
                self.start(Job::Read(job), Output::buffer)
            }
        }
    }
    fn write(&self, file: &IoFile, offset: u64, parts: Vec<Bytes>) -> IoFuture<()> {
        match Descriptor::of(file) {
            Err(why) => refuse(why),
            Ok(_) if parts.iter().all(Bytes::is_empty) => Box::pin(std::future::ready(Ok(()))),
            Ok(file) => {
                let may = self.shared.may_at_once(parts.iter().map(Bytes::len).sum());
                let mut job = WriteJob::new(Arc::clone(&file), offset, parts);
                if may && file.at_once.write(&mut job) {
                    return Box::pin(std::future::ready(Ok(())));
                }
                self.start(Job::write(job), Output::nothing)
            }
        }
    }
    fn sync(&self, file: &IoFile) -> IoFuture<()> {
        match Descriptor::of(file) {
            Err(why) => refuse(why),
            Ok(file) => self.start(Job::Sync(file), Output::nothing),
        }
    }
    fn punch(&self, file: &IoFile, offset: u64, length: u64) -> IoFuture<()> {
        match Descriptor::of(file) {
            Err(why) => refuse(why),
            Ok(_) if length == 0 => Box::pin(std::future::ready(Ok(()))),
            Ok(file) => self.start(Job::Punch { file, offset, length }, Output::nothing),
        }
    }
}

fn refuse<T: 'static>(why: io::Error) -> IoFuture<T> {
    Box::pin(std::future::ready(Err(why)))
}

/// May this process use io_uring, with all that a [`Ring`] needs?
///
/// # Errors
/// The reason why not.
pub fn probe() -> io::Result<()> {
    let ring = set_up()?;
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe)?;
    let needed = [
        (opcode::Read::CODE, "READ"),
        (opcode::Write::CODE, "WRITE"),
        (opcode::Writev::CODE, "WRITEV"),
        (opcode::Fsync::CODE, "FSYNC"),
        (opcode::Fallocate::CODE, "FALLOCATE"),
    ];
    match needed.iter().find(|(code, _)| !probe.is_supported(*code)) {
        None => Ok(()),
        Some((_, name)) => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            format!("the kernel's io_uring does not know {name}"),
        )),
    }
}

/// Have the runtime watch the event descriptor.
#[allow(unsafe_code)]
fn watch(event: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` has one descriptor for life, and the `AsyncFd` owns it from here on
    // and deregisters it before it closes it.
    Ok(unsafe { AsyncFd::register_with_interest(event, Interest::READABLE) }?)
}

/// A ring with the settings that suit one thread, or a plain one on kernels before 6.1.
fn set_up() -> io::Result<IoUring> {
    let tuned = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .setup_cqsize(COMPLETIONS)
        .setup_clamp()
        .build(SUBMISSIONS);
    match tuned {
        Err(why) if why.raw_os_error() == Some(libc::EINVAL) => {
            IoUring::builder().setup_cqsize(COMPLETIONS).setup_clamp().build(SUBMISSIONS)
        }
        other => other,
    }
}

impl Shared {
    fn wake_driver(&self) {
        if self.woken.replace(true) {
            return;
        }
        // Before its first run the driver has no waker, but then it is going to run anyway.
        if let Some(driver) = &*self.driver.borrow() {
            driver.wake_by_ref();
        }
    }
    /// A task that always finds its work done never lets another one run: after a while it has to
    /// wait for the ring, and with it for its turn.
    fn may_at_once(&self, bytes: usize) -> bool {
        let moved = self.at_once_bytes.get() + bytes;
        let may = moved <= AT_ONCE_BYTES_MAX;
        self.at_once_bytes.set(if may { moved } else { 0 });
        may
    }
    fn turn(&self, waker: &Waker) {
        self.woken.set(false);
        self.at_once_bytes.set(0);
        {
            let mut driver = self.driver.borrow_mut();
            if !driver.as_ref().is_some_and(|known| known.will_wake(waker)) {
                *driver = Some(waker.clone());
            }
        }
        let mut settled = self.core.borrow_mut().turn(waker);
        // Outside of the borrow: wakers and dropped memory may come back to this ring.
        settled.wakers.drain(..).for_each(Waker::wake);
        settled.leftovers.clear();
        self.core.borrow_mut().recycle(settled);
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // A thread that ends may have lost its table already; then nobody looks there any more.
        let _ = RINGS.try_with(|rings| rings.borrow_mut().remove(&self.number));
        if let Some(driver) = self.driver.get_mut().take() {
            driver.wake();
        }
    }
}

/// The driver task: ends when its ring is gone.
async fn drive(number: u64, event: AsyncFd<OwnedFd>) {
    std::future::poll_fn(|cx| {
        loop {
            let ring = RINGS.with(|rings| rings.borrow().get(&number).and_then(Weak::upgrade));
            let Some(ring) = ring else { return Poll::Ready(()) };
            ring.turn(cx.waker());
            match event.poll_read_ready(cx) {
                // The event descriptor is watched for edges, so its counter is never read.
                Poll::Ready(Ok(mut ready)) => ready.clear_ready(),
                Poll::Ready(Err(why)) => {
                    tracing::debug!("the runtime shuts down under a ring: {why}");
                    return Poll::Ready(());
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await;
}

/// A started job as its starter sees it.
struct Operation<T> {
    shared: Rc<Shared>,
    /// `None` once the result was handed out.
    slot: Option<usize>,
    take: fn(Output) -> Option<T>,
}

impl<T> Future for Operation<T> {
    type Output = io::Result<T>;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(slot) = self.slot else {
            return Poll::Ready(Err(io::Error::other(
                "an operation was asked again after its end",
            )));
        };
        let Some(result) = self.shared.core.borrow_mut().poll_slot(slot, cx.waker()) else {
            return Poll::Pending;
        };
        self.slot = None;
        Poll::Ready(result.and_then(|output| {
            (self.take)(output)
                .ok_or_else(|| io::Error::other("a job ended as another kind of job"))
        }))
    }
}

impl<T> Drop for Operation<T> {
    fn drop(&mut self) {
        if let Some(slot) = self.slot {
            let result = self.shared.core.borrow_mut().abandon(slot);
            drop(result);
        }
    }
}
