//! Calls that a device, a process or a program which hangs could hold up for ever. The warden has
//! one thread, and must look at the volume and send its beats whatever hangs.

use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::Signal;
use tokio::sync::mpsc;

use super::outside;

/// Make the calls on another thread.
///
/// # Errors
/// The calls have panicked.
pub(super) async fn aside<T: Send + 'static>(
    calls: impl FnOnce() -> T + Send + 'static,
) -> Result<T, String> {
    let under_way = UnderWay::new();
    let calls = move || {
        let done = calls();
        drop(under_way);
        done
    };
    tokio::task::spawn_blocking(calls).await.map_err(|why| why.to_string())
}

static UNDER_WAY: AtomicUsize = AtomicUsize::new(0);

/// Counts a call as long as it takes, whoever waits for it.
struct UnderWay;

impl UnderWay {
    fn new() -> Self {
        UNDER_WAY.fetch_add(1, Ordering::SeqCst);
        Self
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        UNDER_WAY.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Whether none of them is under way: a program that is replaced waits in the kernel for its
/// threads, and for what they wait for.
pub(super) fn is_idle() -> bool {
    UNDER_WAY.load(Ordering::SeqCst) == 0
}

/// Signals to all that a group runs, each kind in the order of their sending: SIGCONT never
/// overtakes the SIGSTOP before it. Nobody waits for them.
pub(super) struct Signals {
    processes: mpsc::UnboundedSender<(String, Signal)>,
    units: mpsc::UnboundedSender<(String, &'static str)>,
}

impl Signals {
    pub(super) fn new() -> Self {
        let (processes, mut marks) = mpsc::unbounded_channel::<(String, Signal)>();
        tokio::spawn(async move {
            while let Some((mark, signal)) = marks.recv().await {
                let sent = aside(move || env::processes::signal(&mark, signal)).await;
                if let Err(why) = sent.and_then(|sent| sent.map_err(|why| why.to_string())) {
                    tracing::error!(why, ?signal, "the group's processes cannot be signalled");
                }
            }
        });
        let (units, mut names) = mpsc::unbounded_channel::<(String, &'static str)>();
        tokio::spawn(async move {
            while let Some((name, signal)) = names.recv().await {
                outside::signal_unit(&name, signal).await;
            }
        });
        Self { processes, units }
    }

    /// To every process with the mark.
    pub(super) fn to_processes(&self, mark: String, signal: Signal) {
        // They are heard as long as this value lives.
        let _ = self.processes.send((mark, signal));
    }

    /// To a unit of systemd: `STOP` or `CONT`.
    pub(super) fn to_unit(&self, name: &str, signal: &'static str) {
        let _ = self.units.send((name.to_owned(), signal));
    }
}
