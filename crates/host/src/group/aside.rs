//! Calls that a device, a process or a program which hangs could hold up for ever. The warden has
//! one thread, and must look at the volume and send its beats whatever hangs.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use env::processes::Family;
use tokio::sync::mpsc;

use super::unit;

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
    /// To what is in the cgroup.
    fn to_inside(self, family: &Family) -> io::Result<()> {
        let Some(cgroup) = family.cgroup() else { return Ok(()) };
        match self {
            Self::Freeze => cgroup.freeze(true),
            Self::Thaw => cgroup.freeze(false),
            Self::Kill => cgroup.kill(),
        }
    }

    /// To what the mark finds, by a look at every process of the machine.
    fn to_marked(self, family: &Family) -> io::Result<()> {
        match self {
            Self::Freeze => family.stop_marked(),
            Self::Thaw => family.continue_marked(),
            Self::Kill => family.kill_marked(),
        }
    }
}

/// What freezes is given so long before it is asked whether it stands still.
const FREEZING: Duration = Duration::from_millis(100);

/// Signs to all that a group runs, each kind in the order of their giving: a thaw never overtakes
/// the freeze before it. Nobody waits for them, and what is in a cgroup does not wait for the look
/// at every process, which one that hangs can hold up.
pub(super) struct Signals {
    inside: Sender,
    marked: Sender,
    /// One for each, so that none waits for another.
    units: Mutex<BTreeMap<String, UnitSender>>,
}

/// In the order of their giving.
struct Sender {
    signs: mpsc::UnboundedSender<(Family, Sign)>,
    waiting: Arc<AtomicUsize>,
}

impl Sender {
    fn new(give: fn(Sign, &Family) -> io::Result<()>) -> Self {
        let (signs, mut given) = mpsc::unbounded_channel::<(Family, Sign)>();
        let waiting = Arc::new(AtomicUsize::new(0));
        let left = Arc::clone(&waiting);
        tokio::spawn(async move {
            while let Some((family, sign)) = given.recv().await {
                let told = aside(move || give(sign, &family)).await;
                if let Err(why) = told.and_then(|told| told.map_err(|why| why.to_string())) {
                    tracing::error!(why, ?sign, "the group's processes cannot be signalled");
                }
                left.fetch_sub(1, Ordering::SeqCst);
            }
        });
        Self { signs, waiting }
    }

    fn send(&self, family: Family, sign: Sign) {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        // They are heard as long as this value lives.
        let _ = self.signs.send((family, sign));
    }

    fn is_idle(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) == 0
    }
}

impl Signals {
    pub(super) fn new() -> Self {
        Self {
            inside: Sender::new(Sign::to_inside),
            marked: Sender::new(Sign::to_marked),
            units: Mutex::default(),
        }
    }

    /// To every process of the family.
    pub(super) fn to_processes(&self, family: Family, sign: Sign) {
        self.inside.send(family.clone(), sign);
        self.marked.send(family.clone(), sign);
        if sign == Sign::Freeze {
            tokio::spawn(look_whether_frozen(family));
        }
    }

    /// The freeze once more: to what was on its way into the cgroup, or to its first instruction,
    /// when it was given.
    pub(super) fn freeze_again(&self, family: &Family) {
        for sender in [&self.inside, &self.marked] {
            if sender.is_idle() {
                sender.send(family.clone(), Sign::Freeze);
            }
        }
    }

    /// To a unit of systemd.
    pub(super) fn to_unit(&self, name: &str, sign: Sign) {
        let mut units = self.units.lock().unwrap_or_else(PoisonError::into_inner);
        let unit = units.entry(name.to_owned()).or_insert_with(|| UnitSender::new(name.to_owned()));
        unit.send(sign);
    }

    /// The freeze once more: a unit that was just being started may have had no cgroup yet.
    pub(super) fn freeze_unit_again(&self, name: &str) {
        let units = self.units.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(unit) = units.get(name).filter(|unit| unit.is_idle()) {
            unit.send(Sign::Freeze);
        }
    }
}

/// In the order of their giving, to one unit.
struct UnitSender {
    signs: mpsc::UnboundedSender<Sign>,
    waiting: Arc<AtomicUsize>,
}

impl UnitSender {
    fn new(name: String) -> Self {
        let (signs, mut given) = mpsc::unbounded_channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let left = Arc::clone(&waiting);
        tokio::spawn(async move {
            while let Some(sign) = given.recv().await {
                unit::sign(&name, sign).await;
                left.fetch_sub(1, Ordering::SeqCst);
            }
        });
        Self { signs, waiting }
    }

    fn send(&self, sign: Sign) {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        // They are heard as long as this value lives.
        let _ = self.signs.send(sign);
    }

    fn is_idle(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) == 0
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

#[cfg(test)]
mod tests {
    use env::processes::cgroup::Cgroup;
    use std::fs;

    use super::*;
    use crate::group::testing::{pipe, release};

    #[tokio::test]
    async fn what_hangs_in_a_look_at_the_processes_holds_up_no_freeze_and_no_kill_of_a_cgroup() {
        let home = tempfile::tempdir().unwrap();
        for name in ["cgroup.freeze", "cgroup.kill"] {
            fs::write(home.path().join(name), "").unwrap();
        }
        // A look at it waits for whoever writes into it.
        let hangs = pipe(&home.path().join("cgroup.procs"));
        let family = Family::new("A=b".to_owned(), Some(Cgroup::new(home.path().to_owned())));
        let signals = Signals::new();
        let becomes = async |name: &str, word: &str| {
            for _ in 0..1_000 {
                if fs::read_to_string(home.path().join(name)).unwrap() == word {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            panic!("{name} is not {word}");
        };
        signals.to_processes(family.clone(), Sign::Freeze);
        becomes("cgroup.freeze", "1").await;
        signals.to_processes(family.clone(), Sign::Thaw);
        becomes("cgroup.freeze", "0").await;
        signals.to_processes(family, Sign::Kill);
        becomes("cgroup.kill", "1").await;
        assert!(!signals.marked.is_idle(), "the look hangs");
        while !signals.marked.is_idle() {
            release(&hangs);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
