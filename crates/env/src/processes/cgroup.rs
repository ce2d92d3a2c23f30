//! Control groups (version 2): what is put into one stays there with all that it starts, whatever
//! it does to its environment, its session or its parent. They are frozen and killed as one.
//!
//! Entry points: [`room`], where this process may make some; [`Cgroup`].

// What a child does before it is the new program.
#![allow(unsafe_code)]

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::fs::FileType;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

use crate::mounts;

/// The directory below which all of ours are.
const OURS: &str = "commonhold";
/// How a trial's own cgroup begins; the process id follows.
const TRIAL: &str = "trial-";
/// A trial's own cgroup goes within so many tries, or stays.
const REMOVALS: usize = 20;
const BETWEEN_REMOVALS: Duration = Duration::from_millis(10);
/// What systemd writes at a cgroup that it leaves to whom it gave it (`Delegate=yes`).
const DELEGATED: [&str; 2] = ["user.delegate", "trusted.delegate"];

/// The directory in which this process may make cgroups and put programs into them: below its own
/// cgroup, or the one above (`DelegateSubgroup=`), where that was given into its hands, else below
/// the topmost. It was tried.
///
/// # Errors
/// Why there is none, as a sentence.
pub fn room() -> Result<PathBuf, String> {
    let (own, top) = own_and_top()?;
    let near = own.iter().flat_map(|own| own.ancestors().take(2)).take_while(|one| **one != *top);
    let given = near.enumerate().filter(|(above, one)| is_given(one, *above == 0));
    let mut refused = Vec::new();
    for above in given.map(|(_, one)| one).chain([&*top]) {
        let room = above.join(OURS);
        sweep(&room, |pid| Path::new("/proc").join(pid).exists());
        match Cgroup(room.join(format!("{TRIAL}{}", std::process::id()))).try_out() {
            Ok(()) => return Ok(room),
            Err(why) => {
                let why = refusal(&why).unwrap_or_else(|| why.to_string());
                refused.push(format!("{}: {why}", room.display()));
            }
        }
    }
    Err(refused.join("; "))
}

/// Trials of processes that were killed in the middle of them. One that is not empty stays.
fn sweep(room: &Path, lives: impl Fn(&str) -> bool) {
    for entry in fs::read_dir(room).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(TRIAL));
        if pid.is_some_and(|pid| pid.parse::<u32>().is_ok() && !lives(pid)) {
            let _ = fs::remove_dir(entry.path());
        }
    }
}

/// Whether what is put in there leaves the cgroup of this process, or that of its unit, and with
/// it the limits that somebody has set there.
#[must_use]
pub fn leaves_limits(room: &Path) -> bool {
    let Ok((Some(own), top)) = own_and_top() else { return false };
    own != top && room.parent() == Some(&top)
}

/// The cgroup of this process, where it can be seen, and the topmost.
fn own_and_top() -> Result<(Option<PathBuf>, PathBuf), String> {
    let (root, top) = mounts::of_kind("cgroup2")
        .map_err(|why| why.to_string())?
        .ok_or("no cgroup2 is mounted")?;
    let own = fs::read_to_string("/proc/self/cgroup").map_err(|why| why.to_string())?;
    let own = own.lines().find_map(|line| line.strip_prefix("0::"));
    let own = own.and_then(|own| Path::new(own).strip_prefix(&root).ok());
    // The name of the topmost itself is empty, and must not become a slash at the end.
    let own = own.map(|own| top.join(own).components().collect());
    Ok((own, top))
}

/// Whether whoever made this cgroup leaves what is below it to its members. Of its own one who is
/// not root finds out by trying.
fn is_given(path: &Path, is_own: bool) -> bool {
    let is_one = |name: &&str| {
        let mut value = [0; 1];
        rustix::fs::getxattr(path, *name, &mut value).is_ok() && value == *b"1"
    };
    is_own && !rustix::process::geteuid().is_root() || DELEGATED.iter().any(is_one)
}

/// What a child that was not let into its cgroup says: this and the number of the error. No error
/// of a missing program is so large.
const NOT_LET_IN: i32 = 1 << 16;

/// A cgroup that cannot be made or opened.
#[derive(Debug)]
struct Refusal(String);

impl std::error::Error for Refusal {}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a program was not let into its cgroup, if that is what kept it from being started.
#[must_use]
pub fn refusal(error: &io::Error) -> Option<String> {
    match error.raw_os_error() {
        Some(code) => code.checked_sub(NOT_LET_IN).filter(|code| *code >= 0).map(|code| {
            format!("its cgroup cannot be entered: {}", io::Error::from_raw_os_error(code))
        }),
        None => error.get_ref()?.downcast_ref::<Refusal>().map(Refusal::to_string),
    }
}

/// One cgroup. Nothing is in one that does not exist.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cgroup(PathBuf);

impl Cgroup {
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// The one that somebody else has made and calls so, as systemd does a unit's (`ControlGroup`);
    /// `None` where it cannot be seen here, cannot be frozen, or this process is in it.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let (root, _) = mounts::of_kind("cgroup2").ok()??;
        let (own, top) = own_and_top().ok()?;
        let inside = Path::new(name).strip_prefix(root).ok()?;
        let is_below = |part| matches!(part, std::path::Component::Normal(_));
        let path = top.join(inside);
        // The topmost holds everything that runs here.
        let is_one = inside.components().next().is_some() && inside.components().all(is_below);
        let is_own = own.is_some_and(|own| own.starts_with(&path));
        (is_one && !is_own && path.join("cgroup.freeze").exists()).then_some(Self(path))
    }

    /// One inside this one, which is frozen and killed together with it.
    #[must_use]
    pub fn part(&self, name: &str) -> Self {
        Self(self.0.join(name))
    }

    /// Make it where it is not there, so that it can be frozen before anything is in it.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn make(&self) -> io::Result<()> {
        fs::create_dir_all(&self.0).map_err(|why| self.refuses(&why))
    }

    fn refuses(&self, why: &io::Error) -> io::Error {
        let said = format!("the cgroup {} cannot be used: {why}", self.0.display());
        io::Error::new(why.kind(), Refusal(said))
    }

    /// The command is to run in here from its first instruction on. It is made where it is not
    /// there. Starting the command takes as long as this cgroup is frozen.
    ///
    /// # Errors
    /// It cannot be made or opened; [`refusal`] tells so of what starting the command says, too.
    pub fn admit(&self, command: &mut Command) -> io::Result<()> {
        self.before_it_runs(command, Ok(()))
    }

    /// `then`: what becomes of the child once it is in here.
    fn before_it_runs(&self, command: &mut Command, then: Result<(), Errno>) -> io::Result<()> {
        self.make()?;
        let door = OpenOptions::new().write(true).open(self.0.join("cgroup.procs"));
        let door = door.map_err(|why| self.refuses(&why))?;
        let last = last_descriptor()?;
        let enter = move || {
            leave_files(last, door.as_raw_fd());
            let not_let_in =
                |why: Errno| io::Error::from_raw_os_error(NOT_LET_IN + why.raw_os_error());
            rustix::io::write(&door, b"0").map_err(not_let_in)?;
            then.map_err(io::Error::from)
        };
        // SAFETY: between fork and exec only `fstat`, `close` and `write` are called; no memory is
        // allocated and no lock taken.
        unsafe { command.pre_exec(enter) };
        Ok(())
    }

    /// Make it, see that it can do all that is needed, let a child in, and remove it.
    fn try_out(&self) -> io::Result<()> {
        // The child ends by this before it becomes a program: it has entered then.
        const ENTERED: Errno = Errno::CANCELED;
        let mut child = Command::new("/");
        let tried = self.before_it_runs(&mut child, Err(ENTERED)).and_then(|()| {
            let lacks = ["cgroup.freeze", "cgroup.kill"].map(|name| !self.0.join(name).exists());
            if lacks.contains(&true) {
                return Err(io::Error::other("freezing and killing need Linux 5.14"));
            }
            match child.spawn() {
                Err(error) if error.raw_os_error() == Some(ENTERED.raw_os_error()) => Ok(()),
                Err(error) => Err(error),
                Ok(mut child) => child.wait().and(Err(io::Error::other("the child was lost"))),
            }
        });
        // The kernel may take a moment to let go of the child, which is no reason to do without.
        for _ in 0..REMOVALS {
            if self.remove().is_ok() {
                break;
            }
            std::thread::sleep(BETWEEN_REMOVALS);
        }
        tried
    }

    /// Those that are in here, or in one inside of it. Zombies are not, and those of other process
    /// namespaces have no number here.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn members(&self) -> io::Result<BTreeSet<i32>> {
        let mut found = BTreeSet::new();
        for one in self.tree()? {
            let text = missing_is_empty(fs::read_to_string(one.join("cgroup.procs")))?;
            found.extend(text.lines().filter_map(|id| id.parse::<i32>().ok()).filter(|id| *id > 0));
        }
        Ok(found)
    }

    /// Whether anything is in here, or in one inside of it.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn is_populated(&self) -> io::Result<bool> {
        self.event("populated 1")
    }

    /// Whether everything in here stands still. What waits inside the kernel, for a device that
    /// does not answer for one, does so when it comes out.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn is_frozen(&self) -> io::Result<bool> {
        self.event("frozen 1")
    }

    /// Whether it was frozen, and something in it does not stand still yet.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn is_freezing(&self) -> io::Result<bool> {
        let wanted = missing_is_empty(fs::read_to_string(self.0.join("cgroup.freeze")))?;
        Ok(wanted.trim() == "1" && !self.is_frozen()?)
    }

    fn event(&self, line: &str) -> io::Result<bool> {
        let text = missing_is_empty(fs::read_to_string(self.0.join("cgroup.events")))?;
        Ok(text.lines().any(|one| one == line))
    }

    /// Everything in here stands still from now on, and what comes in, or lets it go on.
    ///
    /// # Errors
    /// The kernel does not allow it.
    pub fn freeze(&self, still: bool) -> io::Result<()> {
        self.say("cgroup.freeze", if still { "1" } else { "0" })
    }

    /// SIGKILL to everything in here, frozen or not.
    ///
    /// # Errors
    /// The kernel does not allow it.
    pub fn kill(&self) -> io::Result<()> {
        self.say("cgroup.kill", "1")
    }

    /// The same where Linux is older than 5.14 as well: what forks meanwhile is missed.
    ///
    /// # Errors
    /// The kernel does not allow it, or its members cannot be read.
    pub fn kill_or_each(&self) -> io::Result<()> {
        if self.0.join("cgroup.kill").exists() {
            return self.kill();
        }
        for id in self.members()?.into_iter().filter_map(Pid::from_raw) {
            match kill_process(id, Signal::KILL) {
                Ok(()) | Err(Errno::SRCH) => {}
                Err(why) => return Err(why.into()),
            }
        }
        Ok(())
    }

    fn say(&self, name: &str, word: &str) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(self.0.join(name));
        match file.and_then(|mut file| io::Write::write_all(&mut file, word.as_bytes())) {
            Err(error) if !is_missing(&error) => Err(error),
            _ => Ok(()),
        }
    }

    /// Remove it and those inside of it, which are empty.
    ///
    /// # Errors
    /// Something is in there.
    pub fn remove(&self) -> io::Result<()> {
        for one in self.tree()?.iter().rev() {
            match fs::remove_dir(one) {
                Err(error) if !is_missing(&error) => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// It and those inside of it, each after the one that it is in.
    fn tree(&self) -> io::Result<Vec<PathBuf>> {
        let mut found = vec![self.0.clone()];
        let mut at = 0;
        while at < found.len() {
            match fs::read_dir(&found[at]) {
                Ok(entries) => {
                    for entry in entries {
                        let entry = entry?;
                        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                            found.push(entry.path());
                        }
                    }
                }
                Err(error) if is_missing(&error) => {}
                Err(error) => return Err(error),
            }
            at += 1;
        }
        Ok(found)
    }
}

/// The highest descriptor that is open now.
fn last_descriptor() -> io::Result<RawFd> {
    let of = |entry: io::Result<fs::DirEntry>| entry.ok()?.file_name().to_str()?.parse().ok();
    Ok(fs::read_dir("/proc/self/fd")?.filter_map(of).max().unwrap_or(STDERR))
}

const STDERR: RawFd = 2;

/// A child that is about to stand still in a frozen cgroup must not hold the files that its parent
/// has open: by a lock it would keep the next life of the parent out. Pipes and sockets stay until
/// exec closes them, because by one of them the child says whether it became the program.
fn leave_files(last: RawFd, but: RawFd) {
    for number in (STDERR + 1..=last).filter(|number| *number != but) {
        // SAFETY: it is only looked at; the kernel answers EBADF for a number that nothing has.
        let seen = unsafe { BorrowedFd::borrow_raw(number) };
        let kind = rustix::fs::fstat(seen).map(|about| FileType::from_raw_mode(about.st_mode));
        if kind.is_ok_and(|kind| !matches!(kind, FileType::Fifo | FileType::Socket)) {
            // SAFETY: in this process nobody uses it any more: it becomes another program or ends.
            unsafe { rustix::io::close(number) };
        }
    }
}

/// It is not there, was removed while it was open (ENODEV), or cannot hold processes at all.
fn is_missing(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(code, Some(Errno::NOENT | Errno::NODEV | Errno::OPNOTSUPP))
}

fn missing_is_empty(read: io::Result<String>) -> io::Result<String> {
    match read {
        Err(error) if is_missing(&error) => Ok(String::new()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trial_of_a_process_that_was_killed_is_swept_and_that_of_one_that_lives_is_not() {
        let room = tempfile::tempdir().unwrap();
        for name in ["trial-7", "trial-8", "trial-9", "trial-x", "db@alpha"] {
            fs::create_dir(room.path().join(name)).unwrap();
        }
        fs::create_dir(room.path().join("trial-9/held")).unwrap();
        sweep(room.path(), |pid| pid == "8");
        let left: BTreeSet<_> =
            fs::read_dir(room.path()).unwrap().map(|one| one.unwrap().file_name()).collect();
        let expected = ["db@alpha", "trial-8", "trial-9", "trial-x"];
        assert_eq!(left, expected.map(Into::into).into());
        sweep(&room.path().join("none"), |_| false);
    }

    #[test]
    fn the_topmost_cgroup_is_nobodys_and_one_that_is_not_there_is_none() {
        for name in ["", "/", "relative", "/commonhold-is-not-there", "/a/../.."] {
            assert_eq!(Cgroup::named(name), None, "{name}");
        }
    }
}
