//! Devices on their way to be paths. Opening one whose session is gone takes as long as the kernel
//! tries, and cannot be called back: the thread that does it stays until then.
//!
//! ```text
//!           seen                       failed
//!   (none) ------> UnderWay ----------------------------> Waits --a pause later--> UnderWay
//!     ^             |   |  ^--- once more, if the disk was gone meanwhile
//!     `--- opened --'   `--- opened, and another unit ---> Refused
//!
//!   A disk that is gone is forgotten, but not while its thread is under way.
//! ```

use std::collections::BTreeMap;
use std::future::pending;
use std::time::Duration;

use env::multipath::Disk;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// After the first failure, and at most; twice as long after each.
const PAUSE: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// At most one thread for each disk.
pub(super) struct Openings<T> {
    disks: BTreeMap<Disk, Attempt>,
    tasks: JoinSet<(Disk, Result<T, String>)>,
}

enum Attempt {
    UnderWay {
        failed: u32,
        /// The disk was gone since: what is being opened is another one of that name.
        stale: bool,
    },
    Waits {
        until: Instant,
        failed: u32,
        why: String,
    },
    /// Nothing is sent down to it.
    Refused(String),
}

fn pause(failed: u32) -> Duration {
    PAUSE.saturating_mul(1 << failed.min(10)).min(PAUSE_MAX)
}

impl<T: Send + 'static> Openings<T> {
    pub(super) fn new() -> Self {
        Self { disks: BTreeMap::new(), tasks: JoinSet::new() }
    }

    /// These disks are there and no paths: they are opened, each when it is its time.
    pub(super) fn see<W>(&mut self, disks: &[&Disk], open: impl Fn(&Disk) -> W)
    where
        W: FnOnce() -> Result<T, String> + Send + 'static,
    {
        self.disks.retain(|disk, attempt| {
            let is_there = disks.contains(&disk);
            if let Attempt::UnderWay { stale, .. } = attempt {
                *stale |= !is_there;
                return true;
            }
            is_there
        });
        let now = Instant::now();
        for disk in disks {
            let failed = match self.disks.get(*disk) {
                None => 0,
                Some(Attempt::Waits { until, failed, .. }) if *until <= now => *failed,
                Some(_) => continue,
            };
            self.disks.insert((*disk).clone(), Attempt::UnderWay { failed, stale: false });
            let (disk, open) = ((*disk).clone(), open(disk));
            self.tasks.spawn_blocking(move || (disk, open()));
        }
    }

    /// The next one that is open. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> (Disk, T) {
        loop {
            match self.tasks.join_next().await {
                None => return pending().await,
                // None of them panics, and nobody cancels one.
                Some(Err(_)) => {}
                Some(Ok((disk, opened))) => match (self.disks.remove(&disk), opened) {
                    (Some(Attempt::UnderWay { stale: true, .. }) | None, _) => {}
                    (_, Ok(opened)) => return (disk, opened),
                    (Some(attempt), Err(why)) => self.failed(disk, &attempt, why),
                },
            }
        }
    }

    fn failed(&mut self, disk: Disk, attempt: &Attempt, why: String) {
        tracing::debug!(path = disk.name, why, "the path cannot be used");
        let Attempt::UnderWay { failed, .. } = *attempt else { return };
        let until = Instant::now() + pause(failed);
        let failed = failed.saturating_add(1);
        self.disks.insert(disk, Attempt::Waits { until, failed, why });
    }

    /// Whether all that were seen have been tried.
    pub(super) fn is_idle(&self) -> bool {
        self.tasks.is_empty()
    }

    pub(super) fn refuse(&mut self, disk: Disk, why: String) {
        self.disks.insert(disk, Attempt::Refused(why));
    }

    /// Whether it leads to something else, and never becomes a path.
    pub(super) fn is_refused(&self, disk: &Disk) -> bool {
        matches!(self.disks.get(disk), Some(Attempt::Refused(_)))
    }

    /// Why this one is no path.
    pub(super) fn why(&self, disk: &Disk) -> String {
        match self.disks.get(disk) {
            Some(Attempt::Waits { why, .. } | Attempt::Refused(why)) => why.clone(),
            _ => "it does not open".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::sync::{Arc, Mutex};

    use super::*;

    fn disk(name: &str) -> Disk {
        Disk { name: name.to_owned(), place: format!("session-{name}").into() }
    }

    /// A call that is under way: it ends as it is told.
    type Call = Sender<Result<u32, String>>;

    /// What is being opened waits to be told how that ends.
    #[derive(Clone)]
    struct Kernel {
        begun: Sender<Call>,
        calls: Arc<Mutex<Receiver<Call>>>,
    }

    impl Kernel {
        fn new() -> Self {
            let (begun, calls) = channel();
            Self { begun, calls: Arc::new(Mutex::new(calls)) }
        }
        fn open(&self) -> impl FnOnce() -> Result<u32, String> + Send + 'static + use<> {
            let begun = self.begun.clone();
            move || {
                let (tell, told) = channel();
                begun.send(tell).unwrap();
                told.recv().unwrap()
            }
        }
        /// The call that was made.
        async fn call(&self) -> Call {
            let calls = Arc::clone(&self.calls);
            let next = move || calls.lock().unwrap().recv().unwrap();
            tokio::task::spawn_blocking(next).await.unwrap()
        }
        fn is_quiet(&self) -> bool {
            self.calls.lock().unwrap().try_recv().is_err()
        }
    }

    async fn opened(openings: &mut Openings<u32>) -> Option<(Disk, u32)> {
        tokio::time::timeout(Duration::from_millis(50), openings.next()).await.ok()
    }

    /// Each try took another thread, which hung, and there was a try every 100 ms.
    #[tokio::test]
    async fn a_device_that_hangs_as_it_opens_is_waited_for_by_one_thread() {
        let (kernel, sdb) = (Kernel::new(), disk("sdb"));
        let mut openings = Openings::new();
        openings.see(&[&sdb], |_| kernel.open());
        let call = kernel.call().await;
        for _ in 0..20 {
            openings.see(&[&sdb], |_| kernel.open());
            // It may even come and go.
            openings.see(&[], |_| kernel.open());
        }
        assert!(kernel.is_quiet() && !openings.is_idle());
        assert_eq!(openings.why(&sdb), "it does not open");
        // What was opened may be the disk of before.
        call.send(Ok(1)).unwrap();
        assert_eq!(opened(&mut openings).await, None);
        openings.see(&[&sdb], |_| kernel.open());
        kernel.call().await.send(Ok(2)).unwrap();
        assert_eq!(openings.next().await, (sdb, 2));
        assert!(openings.is_idle());
    }

    /// It counted as a path that was not open yet for as long as it was there, and a guard with a note
    /// in its record waited for it.
    #[tokio::test]
    async fn a_device_of_another_unit_is_not_waited_for() {
        let (sdb, sdc) = (disk("sdb"), disk("sdc"));
        let mut openings = Openings::new();
        openings.see(&[&sdb, &sdc], |_| || Ok(0));
        let (first, _) = openings.next().await;
        assert!(!openings.is_refused(&first));
        openings.refuse(first.clone(), "another unit".to_owned());
        openings.see(&[&sdb, &sdc], |_| || Ok(1));
        assert!(openings.is_refused(&first));
        // Another disk of that name may be one of the volume.
        openings.see(&[], |_| || Ok(2));
        assert!(!openings.is_refused(&first));
    }

    #[tokio::test]
    async fn a_device_that_does_not_open_is_tried_again_after_pauses_that_grow() {
        let pauses: Vec<_> = (0..9).map(|failed| pause(failed).as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000, 5_000]);
        assert_eq!(pause(u32::MAX), PAUSE_MAX);
        let (sdb, sdc) = (disk("sdb"), disk("sdc"));
        let mut openings = Openings::<u32>::new();
        let tries = Arc::new(Mutex::new(Vec::new()));
        while tries.lock().unwrap().len() < 4 {
            openings.see(&[&sdb], |_| {
                tries.lock().unwrap().push(Instant::now());
                || Err("no such device".to_owned())
            });
            assert_eq!(opened(&mut openings).await, None);
        }
        let tries = tries.lock().unwrap().clone();
        for (pause, two) in [100, 200, 400].into_iter().zip(tries.windows(2)) {
            assert!(two[1] - two[0] >= Duration::from_millis(pause), "{tries:?}");
        }
        assert_eq!(openings.why(&sdb), "no such device");
        // It is gone, and is another one when it comes back.
        openings.see(&[], |_| || Ok(0));
        openings.refuse(sdc.clone(), "another unit".to_owned());
        openings.see(&[&sdb, &sdc], |_| || Ok(1));
        assert_eq!((openings.next().await, openings.why(&sdc)), ((sdb, 1), "another unit".into()));
    }
}
