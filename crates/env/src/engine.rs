//! Which block I/O a worker gets.

use std::io;
use std::rc::Rc;

use crate::block_io::BlockIo;
use crate::pool::ThreadPool;

/// Who carries out block I/O.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum IoEngine {
    /// The ring where the machine allows it, else threads.
    #[default]
    Auto,
    /// io_uring, or an error.
    Ring,
    /// Blocking threads.
    Threads,
}

/// Block I/O for the calling worker thread.
pub fn block_io(_engine: IoEngine) -> io::Result<Rc<dyn BlockIo>> {
    Ok(Rc::new(ThreadPool::new()))
}
