//! Acting as a user of another machine, so that the kernel checks what he may.
//!
//! The identity for files is the thread's own in Linux: the calls are made as they are, because
//! the C library would change all threads at once. To take a user id other than 0 drops, from the
//! effective set, the capabilities that override permissions; to take 0 again restores them
//! (capabilities(7), "Effect of user ID changes on capabilities").

use std::cell::Cell;
use std::io;
use std::marker::PhantomData;
use std::sync::OnceLock;

use rustix::process::{Gid, getegid, geteuid, getgroups};
use rustix::thread::set_thread_groups;

/// As whom this process runs.
struct Own {
    uid: u32,
    gid: u32,
    groups: Vec<Gid>,
}

fn own() -> &'static Own {
    static OWN: OnceLock<Own> = OnceLock::new();
    OWN.get_or_init(|| Own {
        uid: geteuid().as_raw(),
        gid: getegid().as_raw(),
        groups: getgroups().unwrap_or_default(),
    })
}

thread_local! {
    static ACTS: Cell<bool> = const { Cell::new(false) };
    /// The user and group that this thread has last been. What it could be once it can be again: a
    /// user namespace's map is written once, and this process keeps its capabilities.
    static HAS_BEEN: Cell<Option<(u32, u32)>> = const { Cell::new(None) };
}

/// While it lives, its thread has the identity of somebody else; then its own again, also when the
/// thread panics.
#[derive(Debug)]
#[must_use]
pub struct Acting {
    /// None where the identity is our own anyway.
    changed: Option<Changed>,
    /// A thread's identity does not travel.
    here: PhantomData<*const ()>,
}

#[derive(Debug)]
struct Changed {
    uid: u32,
    gid: u32,
    groups: bool,
}

/// Take an identity for file permissions.
///
/// # Errors
/// `EPERM` when this process may not: it needs `CAP_SETUID` and `CAP_SETGID`.
///
/// # Panics
/// When the thread acts as somebody already.
pub fn act_as(uid: u32, gid: u32, groups: &[u32]) -> io::Result<Acting> {
    let own = own();
    let raw = groups.iter().map(|gid| gid_of(*gid)).collect::<Option<Vec<_>>>();
    let raw = raw.ok_or_else(not_permitted)?;
    let same_groups = raw == own.groups;
    if uid == own.uid && gid == own.gid && (same_groups || uid == 0) {
        return Ok(Acting { changed: None, here: PhantomData });
    }
    assert!(!ACTS.replace(true), "an identity is taken while another one is held");
    // From here on the guard restores whatever was reached.
    let groups = !same_groups;
    let is_own = Changed { uid: own.uid, gid: own.gid, groups };
    let mut acting = Acting { changed: Some(is_own), here: PhantomData };
    if groups {
        set_thread_groups(&raw)?;
    }
    let before = (set_file_gid(gid), set_file_uid(uid));
    if before != (own.gid, own.uid) {
        // It stayed somebody else.
        std::process::abort();
    }
    let is_known = HAS_BEEN.get() == Some((uid, gid));
    let (is_uid, is_gid) = if is_known { (uid, gid) } else { (file_uid(), file_gid()) };
    acting.changed = Some(Changed { uid: is_uid, gid: is_gid, groups });
    if (is_uid, is_gid) != (uid, gid) {
        return Err(not_permitted());
    }
    HAS_BEEN.set(Some((uid, gid)));
    Ok(acting)
}

impl Drop for Acting {
    fn drop(&mut self) {
        let Some(changed) = &self.changed else { return };
        let own = own();
        let been = (set_file_uid(own.uid), set_file_gid(own.gid));
        let groups = if changed.groups { set_thread_groups(&own.groups) } else { Ok(()) };
        // Who acted as another than he was to, or stays somebody else, acts in his name. That the
        // thread is itself again is seen when it next is not: the real user and group may always
        // be taken.
        if groups.is_err() || been != (changed.uid, changed.gid) {
            std::process::abort();
        }
        ACTS.set(false);
    }
}

fn not_permitted() -> io::Error {
    io::Error::from_raw_os_error(libc::EPERM)
}

/// The number that means "no group" is none.
fn gid_of(gid: u32) -> Option<Gid> {
    (gid != u32::MAX).then(|| Gid::from_raw(gid))
}

/// Answers with the one before, whether or not it is changed (setfsuid(2)).
fn set_file_uid(uid: u32) -> u32 {
    // SAFETY: takes a number, touches no memory.
    number(unsafe { libc::syscall(libc::SYS_setfsuid, uid) })
}
/// As [`set_file_uid`].
fn set_file_gid(gid: u32) -> u32 {
    // SAFETY: takes a number, touches no memory.
    number(unsafe { libc::syscall(libc::SYS_setfsgid, gid) })
}
/// Ids from 2^31 on may come as negative numbers.
fn number(answer: libc::c_long) -> u32 {
    u32::try_from(answer & libc::c_long::from(u32::MAX)).unwrap_or(u32::MAX)
}
/// A change to an impossible number fails and answers with the present one.
fn file_uid() -> u32 {
    set_file_uid(u32::MAX)
}
fn file_gid() -> u32 {
    set_file_gid(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn effective_capabilities() -> String {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        status.lines().find(|line| line.starts_with("CapEff")).unwrap().to_owned()
    }

    #[test]
    fn the_thread_is_itself_again_even_after_a_panic() {
        if !geteuid().is_root() {
            eprintln!("skipped: to act as others needs root");
            return;
        }
        let before = effective_capabilities();
        let groups = || rustix::process::getgroups().unwrap();
        let own_groups = groups();
        let panicked = std::panic::catch_unwind(|| {
            let _acting = act_as(1234, 5678, &[7, 8]).unwrap();
            assert_eq!((file_uid(), file_gid()), (1234, 5678));
            assert_eq!(groups().len(), 2);
            assert_ne!(effective_capabilities(), before);
            panic!("on purpose");
        });
        assert!(panicked.is_err());
        assert_eq!((file_uid(), file_gid()), (0, getegid().as_raw()));
        assert_eq!(groups(), own_groups);
        assert_eq!(effective_capabilities(), before);
        drop(act_as(1, 1, &[]).unwrap());
    }

    #[test]
    fn who_cannot_be_taken_is_refused_each_time_and_the_next_one_is_taken() {
        if !geteuid().is_root() {
            eprintln!("skipped: to act as others needs root");
            return;
        }
        let is = |uid, gid| {
            let acting = act_as(uid, gid, &[]);
            let found = (file_uid(), file_gid());
            acting.map(|_| found).map_err(|why| why.raw_os_error())
        };
        let own = (0, getegid().as_raw());
        for _ in 0..3 {
            assert_eq!(is(1234, 5678), Ok((1234, 5678)));
            assert_eq!(is(u32::MAX, 5678), Err(Some(libc::EPERM)));
            assert_eq!((file_uid(), file_gid()), own);
            assert_eq!(is(3_000_000_000, 7), Ok((3_000_000_000, 7)));
        }
    }

    #[test]
    fn no_other_thread_changes() {
        if !geteuid().is_root() {
            eprintln!("skipped: to act as others needs root");
            return;
        }
        let (ask, asked) = std::sync::mpsc::channel();
        let elsewhere = std::thread::spawn(move || {
            asked.recv().unwrap();
            file_uid()
        });
        let _acting = act_as(1234, 5678, &[7]).unwrap();
        ask.send(()).unwrap();
        assert_eq!(elsewhere.join().unwrap(), 0);
    }
}
