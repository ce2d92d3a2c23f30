//! All that some programs have started.

use std::collections::BTreeSet;
use std::io;
use std::process::Command;

use rustix::process::Signal;

use super::cgroup::Cgroup;
use super::mark::{carries, marked, signal_all};

/// All that some programs have started, however far it went from them: what is in their cgroup,
/// where they have one, and what carries their mark. Neither way alone sees everything: a mark is
/// lost with the environment, and a cgroup is left by what another daemon starts for a member, or
/// moves, as a new session of logind is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Family {
    /// `NAME=value`, which the programs have in their environment.
    mark: String,
    cgroup: Option<Cgroup>,
}

impl Family {
    #[must_use]
    pub fn new(mark: String, cgroup: Option<Cgroup>) -> Self {
        Self { mark, cgroup }
    }

    /// The command, which carries the mark, is to be in the cgroup from its first instruction on.
    /// Starting it takes as long as the family is frozen.
    ///
    /// # Errors
    /// The cgroup cannot be made or opened.
    pub fn admit(&self, command: &mut Command) -> io::Result<()> {
        self.cgroup.as_ref().map_or(Ok(()), |cgroup| cgroup.admit(command))
    }

    /// Those that have a number here.
    ///
    /// # Errors
    /// They cannot be listed.
    pub fn members(&self) -> io::Result<BTreeSet<i32>> {
        let mut all = marked(&self.mark)?;
        all.extend(self.inside()?);
        Ok(all)
    }

    fn inside(&self) -> io::Result<BTreeSet<i32>> {
        self.cgroup.as_ref().map_or(Ok(BTreeSet::new()), Cgroup::members)
    }

    /// Whether nothing of it is left.
    ///
    /// # Errors
    /// It cannot be found out.
    pub fn is_gone(&self) -> io::Result<bool> {
        let populated = self.cgroup.as_ref().map_or(Ok(false), Cgroup::is_populated)?;
        Ok(!populated && marked(&self.mark)?.is_empty())
    }

    /// Send a signal to each, also to those that start meanwhile. How many there were.
    ///
    /// # Errors
    /// They cannot be listed, or one may not be signalled; all the others have been.
    pub fn signal(&self, signal: Signal) -> io::Result<usize> {
        let is_inside = |id| self.inside().is_ok_and(|inside| inside.contains(&id));
        signal_all(|| self.members(), |id| carries(id, &self.mark) || is_inside(id), signal)
    }

    /// What of it is found without a look at each process of the machine, which one that hangs can
    /// hold up.
    #[must_use]
    pub fn cgroup(&self) -> Option<&Cgroup> {
        self.cgroup.as_ref()
    }

    /// SIGKILL to all, frozen or not.
    ///
    /// # Errors
    /// One may not be signalled; all the others have been.
    pub fn kill(&self) -> io::Result<()> {
        let killed = self.cgroup.as_ref().map_or(Ok(()), Cgroup::kill);
        killed.and(self.kill_marked())
    }

    /// SIGKILL to those that carry the mark.
    ///
    /// # Errors
    /// One may not be signalled; all the others have been.
    pub fn kill_marked(&self) -> io::Result<()> {
        super::signal(&self.mark, Signal::KILL).map(drop)
    }

    /// All stand still: by the freezer what is in the cgroup, which notices nothing of it, and by
    /// SIGSTOP the others.
    ///
    /// # Errors
    /// One may not be signalled; all the others have been.
    pub fn freeze(&self) -> io::Result<()> {
        let frozen = self.cgroup.as_ref().map_or(Ok(()), |cgroup| cgroup.freeze(true));
        frozen.and(self.stop_marked())
    }

    /// Those stand still that carry the mark and that the freezer does not reach; it comes first.
    ///
    /// # Errors
    /// One may not be signalled; all the others have been.
    pub fn stop_marked(&self) -> io::Result<()> {
        // Better one that notices that it was stopped than one that runs on: SIGCONT goes to all.
        let inside = || self.inside().unwrap_or_default();
        let outside = || Ok(marked(&self.mark)?.difference(&inside()).copied().collect());
        signal_all(outside, |id| carries(id, &self.mark), Signal::STOP).map(drop)
    }

    /// All go on.
    ///
    /// # Errors
    /// One may not be signalled; all the others have been.
    pub fn thaw(&self) -> io::Result<()> {
        let thawed = self.cgroup.as_ref().map_or(Ok(()), |cgroup| cgroup.freeze(false));
        thawed.and(self.continue_marked())
    }

    /// Those go on that carry the mark: what was outside when it was stopped may be inside now.
    ///
    /// # Errors
    /// One may not be signalled; all the others have been.
    pub fn continue_marked(&self) -> io::Result<()> {
        super::signal(&self.mark, Signal::CONT).map(drop)
    }

    /// Whether something in the cgroup was frozen and does not stand still yet: it waits inside
    /// the kernel, and does when it comes out.
    ///
    /// # Errors
    /// It cannot be found out.
    pub fn is_freezing(&self) -> io::Result<bool> {
        self.cgroup.as_ref().map_or(Ok(false), Cgroup::is_freezing)
    }

    /// The cgroup goes, once nothing is in it.
    ///
    /// # Errors
    /// Something is in it.
    pub fn clear_away(&self) -> io::Result<()> {
        self.cgroup.as_ref().map_or(Ok(()), Cgroup::remove)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::process::{Child, Stdio};
    use std::time::{Duration, Instant};

    use rustix::fs::{FlockOperation, flock};

    use super::*;
    use crate::processes::cgroup;

    /// `None` where this machine lets nobody make a cgroup; it says so.
    fn family(name: &str) -> Option<Family> {
        let room = match cgroup::room() {
            Ok(room) => room,
            Err(why) => {
                eprintln!("skipped: no cgroup can be made here: {why}");
                return None;
            }
        };
        let name = format!("test-{name}-{}", std::process::id());
        let cgroup = Cgroup::new(room.join(&name));
        Some(Family::new(format!("COMMONHOLD_TEST_MARK={name}"), Some(cgroup)))
    }

    /// The shell's child clears its environment and leaves its session and its parent.
    fn runaway(family: &Family) -> Child {
        let mut command = Command::new("sh");
        command.args(["-c", "env -i setsid sh -c 'sleep 60 & while :; do :; done' & exit 0"]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        family.admit(&mut command).unwrap();
        command.spawn().unwrap()
    }

    fn until(what: &str, is_so: impl Fn() -> bool) {
        let begun = Instant::now();
        while !is_so() {
            assert!(begun.elapsed() < Duration::from_secs(20), "{what}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// The processor time of a process, in ticks.
    fn ticks(id: i32) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
        let fields = stat.rsplit_once(") ").unwrap().1;
        fields.split(' ').nth(11).unwrap().parse().unwrap()
    }

    #[test]
    fn what_cleared_its_environment_and_left_its_parent_is_frozen_and_killed() {
        let Some(family) = family("runaway") else { return };
        runaway(&family).wait().unwrap();
        until("a shell and its child", || family.members().unwrap().len() == 2);
        assert_eq!(marked(&family.mark).unwrap().len(), 0, "the mark does not find them");
        let worker = *family.members().unwrap().first().unwrap();
        until("it works", || ticks(worker) > 2);
        family.freeze().unwrap();
        let cgroup = family.cgroup.as_ref().unwrap();
        until("the freezer", || cgroup.is_frozen().unwrap() && !family.is_freezing().unwrap());
        let before = ticks(worker);
        std::thread::sleep(Duration::from_millis(150));
        assert_eq!(ticks(worker), before, "it stands still");
        family.thaw().unwrap();
        until("it goes on", || ticks(worker) > before);
        family.freeze().unwrap();
        family.kill().unwrap();
        until("the end of a frozen one", || family.is_gone().unwrap());
        family.clear_away().unwrap();
        assert!(!cgroup.is_populated().unwrap());
    }

    #[test]
    fn a_program_that_is_started_while_its_family_is_frozen_runs_when_that_goes_on() {
        let Some(family) = family("late") else { return };
        runaway(&family).wait().unwrap();
        until("a shell and its child", || family.members().unwrap().len() == 2);
        let home = tempfile::tempdir().unwrap();
        let open = || File::create(home.path().join("lock")).unwrap();
        let lock = || flock(open(), FlockOperation::NonBlockingLockExclusive);
        let ours = open();
        flock(&ours, FlockOperation::LockExclusive).unwrap();
        family.freeze().unwrap();
        std::thread::scope(|threads| {
            let late = threads.spawn(|| runaway(&family).wait().unwrap());
            until("a third one", || family.members().unwrap().len() == 3);
            std::thread::sleep(Duration::from_millis(100));
            assert!(!late.is_finished(), "it is in there before it runs");
            assert!(lock().is_err());
            drop(ours);
            lock().expect("it does not hold what its parent had open");
            family.thaw().unwrap();
            assert!(late.join().unwrap().success());
        });
        family.kill().unwrap();
        until("the end", || family.is_gone().unwrap());
        family.clear_away().unwrap();
    }

    #[test]
    fn what_is_frozen_before_its_first_program_is_there_holds_that_up() {
        let Some(family) = family("before") else { return };
        family.cgroup().unwrap().make().unwrap();
        family.freeze().unwrap();
        std::thread::scope(|threads| {
            let part = Family::new(family.mark.clone(), family.cgroup().map(|all| all.part("0")));
            let late = threads.spawn(move || runaway(&part).wait().unwrap());
            until("it", || family.members().unwrap().len() == 1);
            std::thread::sleep(Duration::from_millis(100));
            assert!(!late.is_finished(), "the part of it is made later, and frozen as well");
            family.thaw().unwrap();
            assert!(late.join().unwrap().success());
        });
        family.kill().unwrap();
        until("the end", || family.is_gone().unwrap());
        family.clear_away().unwrap();
    }

    #[test]
    fn a_refused_cgroup_is_not_taken_for_a_missing_program() {
        let home = tempfile::tempdir().unwrap();
        let admit = |place: &str| {
            let mut command = Command::new("true");
            let cgroup = Cgroup::new(home.path().join(place));
            Family::new("A=b".to_owned(), Some(cgroup)).admit(&mut command)?;
            command.spawn()?.wait()
        };
        // It cannot be opened, or made.
        std::fs::write(home.path().join("file"), "").unwrap();
        for place in ["no cgroup", "file"] {
            let why = cgroup::refusal(&admit(place).unwrap_err()).unwrap();
            assert!(why.contains("cannot be used") && why.contains(place), "{why}");
        }
        // The child may not enter it.
        std::fs::create_dir(home.path().join("full")).unwrap();
        std::os::unix::fs::symlink("/dev/full", home.path().join("full/cgroup.procs")).unwrap();
        let why = cgroup::refusal(&admit("full").unwrap_err()).unwrap();
        assert!(why.contains("cannot be entered: No space left"), "{why}");
        let missing = Command::new("/no/such/program").spawn().unwrap_err();
        assert_eq!(cgroup::refusal(&missing), None);
    }

    #[test]
    fn a_program_that_is_not_there_is_said_to_be_missing() {
        let Some(family) = family("missing") else { return };
        let mut command = Command::new("/no/such/program");
        family.admit(&mut command).unwrap();
        assert_eq!(command.spawn().unwrap_err().kind(), io::ErrorKind::NotFound);
        family.clear_away().unwrap();
    }

    #[test]
    fn a_family_without_a_cgroup_is_found_by_its_mark() {
        let mark = format!("COMMONHOLD_TEST_MARK=alone-{}", std::process::id());
        let family = Family::new(mark.clone(), None);
        let (name, value) = mark.split_once('=').unwrap();
        let mut child = Command::new("sleep").arg("60").env(name, value).spawn().unwrap();
        until("its program", || family.members().unwrap().len() == 1);
        let state = || std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
        family.freeze().unwrap();
        until("the stop", || state().contains(") T "));
        family.thaw().unwrap();
        until("it goes on", || !state().contains(") T "));
        assert_eq!(family.signal(Signal::TERM).unwrap(), 1);
        child.wait().unwrap();
        assert!(family.is_gone().unwrap() && family.clear_away().is_ok());
    }
}
