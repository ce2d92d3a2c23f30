//! Which block I/O a worker gets.

use std::io;
use std::rc::Rc;
use std::sync::OnceLock;

use crate::block_io::BlockIo;
use crate::pool::ThreadPool;
use crate::ring::{self, Ring};

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
///
/// # Errors
/// With [`IoEngine::Ring`]: why there is no ring. The others always succeed.
pub fn block_io(engine: IoEngine) -> io::Result<Rc<dyn BlockIo>> {
    match engine {
        IoEngine::Threads => Ok(Rc::new(ThreadPool::new())),
        IoEngine::Ring => Ok(Rc::new(Ring::new()?)),
        IoEngine::Auto => match ring_allowed().and_then(|()| Ring::new().map_err(in_words)) {
            Ok(ring) => Ok(Rc::new(ring)),
            Err(why) => {
                tracing::debug!("block I/O by threads: {why}");
                Ok(Rc::new(ThreadPool::new()))
            }
        },
    }
}

/// Asked once per process, and told once to the log.
fn ring_allowed() -> Result<(), String> {
    static ALLOWED: OnceLock<Result<(), String>> = OnceLock::new();
    let asked = ALLOWED.get_or_init(|| {
        let answer = ring::probe().map_err(in_words);
        match &answer {
            Ok(()) => tracing::info!("block I/O goes through io_uring"),
            Err(why) => {
                tracing::info!("block I/O goes through threads, for io_uring is denied: {why}")
            }
        }
        answer
    });
    asked.clone()
}

#[allow(clippy::needless_pass_by_value)] // Fits `map_err`.
fn in_words(why: io::Error) -> String {
    why.to_string()
}
