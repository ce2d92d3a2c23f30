//! The wardens of this host's groups: started, and left alone.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use env::{Files, RealFiles, processes, whole};
use model::group::{Report, Standing};
use model::id::{GroupId, VolumeId};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use crate::group::{Home, Order, Way};

/// One directory and one process for each group.
pub(super) struct Wardens {
    groups: PathBuf,
    line: Vec<OsString>,
    /// Those that this agent has started; the others are somebody else's children.
    children: BTreeMap<GroupId, Child>,
}

impl Wardens {
    pub(super) fn new(groups: PathBuf, line: Vec<OsString>) -> Self {
        Self { groups, line, children: BTreeMap::new() }
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

    /// The way by which the group's volume was reached last.
    pub(super) fn way(&self, group: GroupId) -> Option<Way> {
        self.home(group).order().ok().flatten().map(|order| order.way)
    }

    /// The directory of a new group. A host that lost the volume under a group that is deleted
    /// is not let in by a new name.
    fn found(&self, home: &Home, order: &Order) -> io::Result<()> {
        let volume = order.group.volume_id;
        let mark = self.mark(volume);
        // The directory of the deleted group may be there still.
        let lost = |group: GroupId| {
            let home = self.home(group);
            let of_volume = home.order().ok().flatten()?.group.volume_id == volume;
            home.past().ok()?.fenced.filter(|_| of_volume)
        };
        let is_out = whole::read(&mark)?.is_some()
            || self.all().into_iter().any(|group| lost(group).is_some());
        RealFiles.create_dir(home.path())?;
        if is_out {
            tracing::warn!(group = order.group.name, "this host lost the volume earlier");
            home.begin_fenced()?;
            whole::forget(&mark)?;
        }
        Ok(())
    }

    /// Says that this host lost a volume, and nobody permitted it to try again, when the group
    /// was deleted.
    fn mark(&self, volume: VolumeId) -> PathBuf {
        self.groups.with_file_name(format!("fenced-{volume}"))
    }

    /// Wardens of which another program has come to stand at its path replace themselves by it,
    /// one at a time; what they run goes on. Not before the agent itself is of the new one.
    fn renew(&self) {
        let own = i32::try_from(std::process::id()).unwrap_or(0);
        if self.line.first().is_none_or(|program| processes::is_outdated(own, program.as_ref())) {
            return;
        }
        let of_group = |group: GroupId| {
            let home = self.home(group);
            let process = home.process().ok().flatten()?;
            let line = processes::line(process).ok()?;
            // The number may be another process's by now.
            let is_its_warden = line.last().is_some_and(|last| Path::new(last) == home.path());
            let outdated = processes::is_outdated(process, line.first()?.as_ref());
            (is_its_warden && outdated).then_some((group, process))
        };
        if let Some((group, process)) = self.all().into_iter().find_map(of_group) {
            tracing::info!(%group, process, "the warden is to go on as the new program");
            if let Some(process) = Pid::from_raw(process) {
                // One that is gone is started anew at the next look.
                let _ = kill_process(process, Signal::HUP);
            }
        }
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

    /// What is forgotten with the group, and must not be.
    fn note_fence(&self, home: &Home) -> io::Result<()> {
        let Some(order) = home.order()? else { return Ok(()) };
        let mark = self.mark(order.group.volume_id);
        if home.past()?.fenced.is_none() {
            return whole::forget(&mark);
        }
        let why = format!("lost under group {} ({})\n", order.group.name, order.group.id);
        whole::replace(&mark, &why)
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
        let idle = [Standing::Stopped, Standing::Fenced, Standing::Failed];
        if !stands.is_some_and(|standing| idle.contains(&standing)) {
            return false;
        }
        if let Some(child) = self.children.get(&group) {
            let id = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
            if let Some(id) = id {
                // It is asked, and gone at the next look.
                let _ = kill_process(id, Signal::TERM);
            }
            return true;
        }
        match RealFiles.lock_dir(home.path()) {
            Ok(lock) => {
                drop(lock);
                let removed = self.note_fence(&home).and_then(|()| whole::remove_tree(home.path()));
                if let Err(error) = removed {
                    tracing::warn!(%error, %group, "the group's directory stays");
                }
                true
            }
            // Another agent has started it: it stays until the host is restarted.
            Err(_) => true,
        }
    }
}
