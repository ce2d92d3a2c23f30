//! Calls that a device, a process or a program which hangs could hold up for ever. The warden has
//! one thread, and must look at the volume and send its beats whatever hangs.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use env::processes::Family;
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

/// What is said to all that a group runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Sign {
    Freeze,
    Thaw,
    Kill,
}

impl Sign {
    fn give(self, family: &Family) -> io::Result<()> {
        match self {
            Self::Freeze => family.freeze(),
            Self::Thaw => family.thaw(),
            Self::Kill => family.kill(),
        }
    }
}

/// What freezes is given so long before it is asked whether it stands still.
const FREEZING: Duration = Duration::from_millis(100);

/// Signs to all that a group runs, each kind in the order of their giving: a thaw never overtakes
/// the freeze before it. Nobody waits for them.
pub(super) struct Signals {
    processes: mpsc::UnboundedSender<(Family, Sign)>,
    units: mpsc::UnboundedSender<(String, Sign)>,
}

impl Signals {
    pub(super) fn new() -> Self {
        let (processes, mut families) = mpsc::unbounded_channel::<(Family, Sign)>();
        tokio::spawn(async move {
            while let Some((family, sign)) = families.recv().await {
                let told = family.clone();
                let given = aside(move || sign.give(&told)).await;
                if let Err(why) = given.and_then(|given| given.map_err(|why| why.to_string())) {
                    tracing::error!(why, ?sign, "the group's processes cannot be signalled");
                }
                if sign == Sign::Freeze {
                    tokio::spawn(look_whether_frozen(family));
                }
            }
        });
        let (units, mut names) = mpsc::unbounded_channel::<(String, Sign)>();
        tokio::spawn(async move {
            while let Some((name, sign)) = names.recv().await {
                outside::sign_to_unit(&name, sign).await;
            }
        });
        Self { processes, units }
    }

    /// To every process of the family.
    pub(super) fn to_processes(&self, family: Family, sign: Sign) {
        // They are heard as long as this value lives.
        let _ = self.processes.send((family, sign));
    }

    /// To a unit of systemd.
    pub(super) fn to_unit(&self, name: &str, sign: Sign) {
        let _ = self.units.send((name.to_owned(), sign));
    }
}

/// Nothing can be done about what waits inside the kernel; the log tells of it.
async fn look_whether_frozen(family: Family) {
    tokio::time::sleep(FREEZING).await;
    if let Ok(Ok(true)) = aside(move || family.is_freezing()).await {
        tracing::warn!(
            "some of the group's processes wait inside the kernel, for the volume perhaps, and \
             freeze when they come out of it"
        );
    }
}
