//! The wardens of this host's groups: started, and left alone.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use ::guard::{Standing, State};
use env::{Files, RealFiles, processes, whole};
use model::group::{self, Report};
use model::id::{GroupId, VolumeId};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use tokio::process::{Child, Command};

use super::ways::{Hold, Locks};
use crate::group::{Home, Order, Way};
use crate::guard::{Heirs, Record};

/// One directory and one process for each group.
pub(super) struct Wardens {
    groups: PathBuf,
    line: Vec<OsString>,
    /// Those that this agent has started; the others are somebody else's children.
    children: BTreeMap<GroupId, Child>,
    /// How often each was asked to go on as the new program.
    asked: BTreeMap<GroupId, u32>,
}

/// What a group leaves behind for the next one of its volume on this host.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Left {
    /// This host lost the volume, and nobody permitted it to try again.
    fenced: bool,
    /// The guard's record.
    standing: String,
}

impl Left {
    /// `None` where nothing is left that counts.
    fn of(home: &Home) -> io::Result<Option<Self>> {
        let fenced = home.past()?.fenced.is_some();
        let standing = Record::read(home.path()).map_err(io::Error::other)?;
        let counts = fenced || standing.state != State::Clean || !standing.keys.is_empty();
        Ok(counts.then(|| Self { fenced, standing: standing.encode() }))
    }

    fn hand_to(&self, home: &Home) -> io::Result<()> {
        let standing = Standing::decode(&self.standing).map_err(io::Error::other)?;
        let mut record = Record::open(home.path(), Heirs::Nobody).map_err(io::Error::other)?;
        record.save(&standing)?;
        if self.fenced { home.begin_fenced() } else { Ok(()) }
    }
}

impl Wardens {
    pub(super) fn new(groups: PathBuf, line: Vec<OsString>) -> Self {
        Self { groups, line, children: BTreeMap::new(), asked: BTreeMap::new() }
    }

    pub(super) fn directory(&self, group: GroupId) -> PathBuf {
        self.groups.join(group.to_string())
    }

    fn all(&self) -> Vec<GroupId> {
        let names = RealFiles.list(&self.groups).unwrap_or_default();
        let of = |name: PathBuf| name.to_str()?.parse().ok();
        names.into_iter().filter_map(of).collect()
    }

    fn home(&self, group: GroupId) -> Home {
        Home::new(self.directory(group))
    }

    /// What the wardens say.
    pub(super) fn reports(&self) -> Vec<Report> {
        let read = |group: GroupId| match self.home(group).report() {
            Ok(report) => report,
            Err(error) => {
                tracing::warn!(%error, "the report cannot be read");
                None
            }
        };
        self.all().into_iter().filter_map(read).collect()
    }

    /// Tell the group's warden what is wanted; it reads it by itself.
    pub(super) fn order(&self, order: &Order) -> io::Result<()> {
        let home = self.home(order.group.id);
        if !RealFiles.exists(&home.path().join("order.json")) {
            self.found(&home, order)?;
        }
        // An order that cannot be read is one of another version: it is written anew.
        if home.order().ok().flatten().as_ref() == Some(order) {
            return Ok(());
        }
        home.give_order(order)
    }

    /// Groups that the service does not know any more, and of which a warden is left, go by the
    /// ways that there are: of what is detached there is none. What they own goes on. The volumes
    /// whose wardens could not be told.
    pub(super) fn redirect(
        &self,
        is_wanted: impl Fn(GroupId) -> bool,
        way_to: impl Fn(VolumeId) -> Way,
    ) -> BTreeSet<VolumeId> {
        let mut untold = BTreeSet::new();
        for group in self.all().into_iter().filter(|group| !is_wanted(*group)) {
            let home = self.home(group);
            let Ok(Some(order)) = home.order() else { continue };
            let volume = order.group.volume_id;
            let way = way_to(volume);
            if owns(&home) || way == order.way {
                continue;
            }
            if let Err(error) = home.give_order(&Order { way, ..order }) {
                tracing::error!(%error, %group, "the warden of a deleted group cannot be told");
                untold.insert(volume);
            }
        }
        untold
    }

    /// What the groups of this volume do here.
    pub(super) fn hold(&self, volume: VolumeId) -> Hold {
        let mut stands_by = false;
        let mut locks = Locks::new();
        for group in self.all() {
            let home = self.home(group);
            if home.order().ok().flatten().is_none_or(|order| order.group.volume_id != volume) {
                continue;
            }
            // One that is of the old program says nothing of its runs; it is replaced soon.
            if !home.has_runs() && RealFiles.lock_dir(home.path()).is_err() {
                return Hold::Owns;
            }
            let lock = home.found_runs().and_then(|()| home.hold());
            match lock {
                _ if owns(&home) => return Hold::Owns,
                Ok(lock) => locks.push(lock),
                // Another group of the volume may own it.
                Err(_) => stands_by = true,
            }
        }
        if stands_by { Hold::By } else { Hold::Aside(locks) }
    }

    /// The directory of a new group. A host that lost the volume under a group that is deleted
    /// is not let in by a new name, and one that the volume still shows as the holder knows its
    /// keys: nobody else would take it from a host that speaks.
    fn found(&self, home: &Home, order: &Order) -> io::Result<()> {
        let volume = order.group.volume_id;
        let mut left = self.left(volume)?;
        // The directory of the deleted group may be there still.
        for group in self.all() {
            let other = self.home(group);
            if other.order().ok().flatten().is_some_and(|order| order.group.volume_id == volume) {
                left = Left::of(&other)?.or(left);
            }
        }
        RealFiles.create_dir(home.path())?;
        if let Some(left) = left {
            tracing::warn!(group = order.group.name, "the past of this volume's last group counts");
            left.hand_to(home)?;
            whole::forget(&self.left_path(volume))?;
        }
        Ok(())
    }

    /// What a deleted group has left behind about its volume.
    fn left(&self, volume: VolumeId) -> io::Result<Option<Left>> {
        let text = whole::read(&self.left_path(volume))?;
        text.map(|text| serde_json::from_str(&text).map_err(io::Error::other)).transpose()
    }

    fn left_path(&self, volume: VolumeId) -> PathBuf {
        self.groups.with_file_name(format!("left-{volume}.json"))
    }

    /// What is forgotten with the group, and must not be.
    fn keep_what_counts(&self, home: &Home) -> io::Result<()> {
        let Some(order) = home.order()? else { return Ok(()) };
        let path = self.left_path(order.group.volume_id);
        match Left::of(home)? {
            Some(left) => whole::replace(&path, &serde_json::to_string(&left)?),
            None => whole::forget(&path),
        }
    }

    /// The process that is the group's warden, whoever started it. Its number may be another
    /// process's by now.
    fn process(&self, home: &Home) -> Option<(Pid, OsString)> {
        let process = home.process().ok().flatten()?;
        let line = processes::line(process).ok()?;
        let is_its = line.last().is_some_and(|last| Path::new(last) == home.path());
        let program = line.into_iter().next()?;
        Some((Pid::from_raw(process)?, program)).filter(|_| is_its)
    }

    /// Wardens of which another program has come to stand at its path replace themselves by it,
    /// one after the other; what they run goes on. Not before the agent itself is of the new one.
    fn renew(&mut self) {
        let own = i32::try_from(std::process::id()).unwrap_or(0);
        if self.line.first().is_none_or(|program| processes::is_outdated(own, program.as_ref())) {
            return;
        }
        let outdated = |group: &GroupId| {
            let (process, program) = self.process(&self.home(*group))?;
            let id = process.as_raw_nonzero().get();
            processes::is_outdated(id, program.as_ref()).then_some((*group, process))
        };
        // One that is in the middle of something is asked again when the others have been.
        let times = |(group, _): &(GroupId, Pid)| self.asked.get(group).copied().unwrap_or(0);
        let all = self.all();
        let Some((group, process)) = all.iter().filter_map(outdated).min_by_key(times) else {
            return self.asked.clear();
        };
        tracing::info!(%group, ?process, "the warden is to go on as the new program");
        *self.asked.entry(group).or_default() += 1;
        // One that is gone is started anew at the next look.
        let _ = kill_process(process, Signal::HUP);
    }

    /// Every group has its warden; those that are gone from the service, and run nothing, have
    /// none.
    pub(super) fn tend(&mut self, is_wanted: impl Fn(GroupId) -> bool) {
        self.children.retain(|_, child| matches!(child.try_wait(), Ok(None)));
        for group in self.all() {
            if !is_wanted(group) && self.retire(group) {
                continue;
            }
            // The warden has the lock as long as it lives, whoever started it.
            match RealFiles.lock_dir(&self.directory(group)) {
                Ok(lock) => {
                    drop(lock);
                    if let Err(error) = self.start(group) {
                        tracing::error!(%error, %group, "the warden cannot be started");
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => tracing::error!(%error, %group, "the group's directory"),
            }
        }
        self.renew();
    }

    fn start(&mut self, group: GroupId) -> io::Result<()> {
        if self.children.contains_key(&group) {
            // It was started a moment ago, and takes the lock soon.
            return Ok(());
        }
        let home = self.home(group);
        if home.order()?.is_none() {
            return Ok(());
        }
        let log = home.path().join("log");
        let (out, err) = whole::append_twice_or_new(&log)?;
        let (program, arguments) = self.line.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let mut command = Command::new(program);
        command.args(arguments).arg(home.path()).stdin(Stdio::null()).stdout(out).stderr(err);
        let child = command.kill_on_drop(false).spawn()?;
        tracing::info!(%group, process = child.id(), "the group has a warden");
        self.children.insert(group, child);
        Ok(())
    }

    /// End the warden of a group that the service does not know any more, unless it runs: a group
    /// is stopped before it is deleted, and one that was not is left as it is.
    fn retire(&mut self, group: GroupId) -> bool {
        let home = self.home(group);
        let stands = home.report().ok().flatten().map(|report| report.standing);
        let idle = [group::Standing::Stopped, group::Standing::Fenced, group::Standing::Failed];
        if !stands.is_some_and(|standing| idle.contains(&standing)) {
            return false;
        }
        match RealFiles.lock_dir(home.path()) {
            Ok(lock) => {
                drop(lock);
                let removed = nothing_is_left(&home)
                    .and_then(|()| self.keep_what_counts(&home))
                    .and_then(|()| whole::remove_tree(home.path()));
                if let Err(error) = removed {
                    tracing::warn!(%error, %group, "the group's directory stays");
                }
                true
            }
            Err(_) => {
                // It is asked, and gone at the next look.
                if let Some((process, _)) = self.process(&home) {
                    let _ = kill_process(process, Signal::TERM);
                }
                true
            }
        }
    }
}

/// Whether what the group has started may run: a warden that was killed leaves it, and no lock.
fn owns(home: &Home) -> bool {
    let boot = processes::boot_id().ok();
    let owned = home.past().map(|past| past.owned);
    owned.map_or(true, |owned| owned.is_some_and(|(_, then)| Some(then) == boot))
}

/// What could not be ended is in the group's cgroup still, and would be forgotten with the
/// directory; the cgroup goes with the last of it.
fn nothing_is_left(home: &Home) -> io::Result<()> {
    let Some(order) = home.order()? else { return Ok(()) };
    let Some(cgroup) = home.past()?.cgroup(&order) else { return Ok(()) };
    cgroup.remove().map_err(|why| {
        io::Error::other(format!("something of the group still runs in its cgroup: {why}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(group: u128, volume: u128) -> Order {
        let text = serde_json::json!({
            "host": uuid::Uuid::from_u128(1), "host_name": "h",
            "way": { "by": "nowhere", "why": "a test" },
            "group": {
                "id": uuid::Uuid::from_u128(group), "name": "g",
                "volume_id": uuid::Uuid::from_u128(volume), "hosts": [], "resources": [],
                "policy": model::group::Policy::default(), "wanted": "started", "frozen": false,
                "generation": 1, "moved": 0, "permitted": 0, "heartbeat_key": ""
            }
        });
        serde_json::from_value(text).unwrap()
    }

    /// The volume may still show its key as the holder, and its own looks keep that young: no
    /// host would ever have taken the volume.
    #[test]
    fn a_new_group_knows_the_keys_of_the_deleted_one_whose_end_the_volume_did_not_see() {
        let state = tempfile::tempdir().unwrap();
        let groups = state.path().join("groups");
        std::fs::create_dir(&groups).unwrap();
        let wardens = Wardens::new(groups, Vec::new());
        let first = order(10, 7);
        wardens.order(&first).unwrap();
        let home = wardens.home(first.group.id);
        let (standing, key) = Standing::default().begin(1, 9);
        let standing = Standing { state: State::Running, ..standing };
        Record::open(home.path(), Heirs::Nobody).unwrap().save(&standing).unwrap();

        // While its directory is there, and when it has gone.
        wardens.order(&order(11, 7)).unwrap();
        wardens.keep_what_counts(&home).unwrap();
        whole::remove_tree(home.path()).unwrap();
        whole::remove_tree(wardens.home(order(11, 7).group.id).path()).unwrap();
        wardens.order(&order(12, 7)).unwrap();
        wardens.order(&order(13, 8)).unwrap();
        let of = |group: u128| Record::read(wardens.home(order(group, 7).group.id).path()).unwrap();
        assert_eq!(of(12), standing);
        assert_eq!(of(12).keys, [key]);
        assert_eq!(of(13), Standing::default(), "it is of another volume");
        assert!(wardens.left(VolumeId(uuid::Uuid::from_u128(7))).unwrap().is_none());
    }

    #[test]
    fn a_host_that_is_fenced_is_so_in_the_next_group_of_the_volume() {
        let state = tempfile::tempdir().unwrap();
        let groups = state.path().join("groups");
        std::fs::create_dir(&groups).unwrap();
        let wardens = Wardens::new(groups, Vec::new());
        wardens.order(&order(10, 7)).unwrap();
        let home = wardens.home(order(10, 7).group.id);
        home.begin_fenced().unwrap();
        wardens.order(&order(11, 7)).unwrap();
        let of = |group: u128| wardens.home(order(group, 7).group.id).past().unwrap().fenced;
        assert!(of(11).is_some());
        // Permitted there: nothing is left for the third.
        wardens.home(order(11, 7).group.id).remember(&Default::default()).unwrap();
        whole::remove_tree(home.path()).unwrap();
        wardens.keep_what_counts(&wardens.home(order(11, 7).group.id)).unwrap();
        whole::remove_tree(wardens.home(order(11, 7).group.id).path()).unwrap();
        wardens.order(&order(12, 7)).unwrap();
        assert_eq!(of(12), None);
    }

    /// A session that came meanwhile would carry writes that nobody has let in.
    #[test]
    fn a_volume_is_let_go_of_by_a_host_that_stands_by_and_not_by_an_owner_or_an_older_warden() {
        let state = tempfile::tempdir().unwrap();
        let groups = state.path().join("groups");
        std::fs::create_dir(&groups).unwrap();
        let wardens = Wardens::new(groups, Vec::new());
        let order = order(10, 7);
        let volume = order.group.volume_id;
        wardens.order(&order).unwrap();
        let home = wardens.home(order.group.id);
        let older = RealFiles.lock_dir(home.path()).unwrap();
        for _ in 0..2 {
            assert!(matches!(wardens.hold(volume), Hold::Owns), "it knows of no lock");
        }
        drop(older);
        assert!(matches!(wardens.hold(VolumeId(uuid::Uuid::from_u128(8))), Hold::Aside(_)));
        let Hold::Aside(locks) = wardens.hold(volume) else { panic!("nothing runs") };
        assert_eq!(home.hold().err().map(|why| why.kind()), Some(io::ErrorKind::WouldBlock));
        drop(locks);
        let run = home.hold().unwrap();
        assert!(matches!(wardens.hold(volume), Hold::By));
        // What a warden that was killed has left runs without its lock, and not after a restart of
        // the machine.
        let owned = |boot: &str| crate::group::Past {
            owned: Some((1, boot.to_owned())),
            ..Default::default()
        };
        home.remember(&owned(&processes::boot_id().unwrap())).unwrap();
        assert!(matches!(wardens.hold(volume), Hold::Owns));
        drop(run);
        assert!(matches!(wardens.hold(volume), Hold::Owns));
        home.remember(&owned("an earlier one")).unwrap();
        assert!(matches!(wardens.hold(volume), Hold::Aside(_)));
    }

    fn owned_now() -> crate::group::Past {
        let owned = Some((1, processes::boot_id().unwrap()));
        crate::group::Past { owned, ..Default::default() }
    }

    /// The first directory alone was asked, and a session was made below the other one's writes.
    #[test]
    fn of_two_groups_of_a_volume_the_one_that_owns_it_counts() {
        for (by, owner) in [(10, 11), (11, 10)] {
            let state = tempfile::tempdir().unwrap();
            let groups = state.path().join("groups");
            std::fs::create_dir(&groups).unwrap();
            let wardens = Wardens::new(groups, Vec::new());
            for group in [by, owner] {
                wardens.order(&order(group, 7)).unwrap();
                wardens.home(order(group, 7).group.id).found_runs().unwrap();
            }
            let _run = wardens.home(order(by, 7).group.id).hold().unwrap();
            let volume = order(by, 7).group.volume_id;
            assert!(matches!(wardens.hold(volume), Hold::By));
            wardens.home(order(owner, 7).group.id).remember(&owned_now()).unwrap();
            assert!(matches!(wardens.hold(volume), Hold::Owns));
        }
    }

    /// It went on by its last order, and the sessions of what was detached stayed for ever.
    #[test]
    fn a_warden_of_a_deleted_group_lets_go_of_what_is_detached_unless_it_owns_it() {
        let state = tempfile::tempdir().unwrap();
        let groups = state.path().join("groups");
        std::fs::create_dir(&groups).unwrap();
        let wardens = Wardens::new(groups, Vec::new());
        let path = std::path::PathBuf::from("/dev/sda");
        let by_device =
            |group| Order { way: Way::Device { path: path.clone() }, ..order(group, 7) };
        for group in [10, 11, 12] {
            wardens.order(&by_device(group)).unwrap();
        }
        let home = |group| wardens.home(order(group, 7).group.id);
        home(11).remember(&owned_now()).unwrap();
        let is_wanted = |group| group == order(12, 7).group.id;
        let nowhere = || Way::Nowhere { why: "it is detached".to_owned() };
        assert!(wardens.redirect(is_wanted, |_| nowhere()).is_empty());
        assert_eq!(home(10).order().unwrap().unwrap().way, nowhere());
        for group in [11, 12] {
            assert_eq!(home(group).order().unwrap(), Some(by_device(group)));
        }
    }

    #[test]
    fn a_deleted_group_of_which_something_still_runs_is_not_forgotten() {
        let state = tempfile::tempdir().unwrap();
        let groups = state.path().join("groups");
        std::fs::create_dir(&groups).unwrap();
        let mut wardens = Wardens::new(groups, Vec::new());
        let order = order(10, 7);
        wardens.order(&order).unwrap();
        let home = wardens.home(order.group.id);
        let report = serde_json::json!({
            "group": order.group.id, "standing": "failed", "epoch": 1, "generation": 1,
            "for_ms": 0, "why": "a resource could not be stopped"
        });
        std::fs::write(home.path().join("report.json"), report.to_string()).unwrap();
        let room = Some(state.path().join("room"));
        let past = crate::group::Past { room, ..Default::default() };
        home.remember(&past).unwrap();
        // A file stands for a process: what has it cannot be removed.
        let cgroup = state.path().join("room").join(order.run_of_host()).join("0");
        std::fs::create_dir_all(&cgroup).unwrap();
        std::fs::write(cgroup.join("process"), "").unwrap();
        for _ in 0..2 {
            assert!(wardens.retire(order.group.id));
            assert_eq!(home.past().unwrap(), past);
        }
        std::fs::remove_file(cgroup.join("process")).unwrap();
        assert!(wardens.retire(order.group.id));
        assert!(!home.path().exists() && !cgroup.exists());
    }
}
