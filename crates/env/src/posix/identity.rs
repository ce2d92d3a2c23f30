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
    let acting = Acting { changed: Some(Changed { groups: !same_groups }), here: PhantomData };
    if !same_groups {
        set_thread_groups(&raw)?;
    }
    set_file_gid(gid);
    set_file_uid(uid);
    if file_uid() != uid || file_gid() != gid {
        return Err(not_permitted());
    }
    Ok(acting)
}

impl Drop for Acting {
    fn drop(&mut self) {
        let Some(changed) = &self.changed else { return };
        let own = own();
        set_file_uid(own.uid);
        set_file_gid(own.gid);
        let groups = if changed.groups { set_thread_groups(&own.groups) } else { Ok(()) };
        if groups.is_err() || file_uid() != own.uid || file_gid() != own.gid {
            // A thread that stays somebody else would act for the next caller in his name.
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

fn set_file_uid(uid: u32) {
    // SAFETY: takes a number, touches no memory.
    unsafe { libc::syscall(libc::SYS_setfsuid, uid) };
}
fn set_file_gid(gid: u32) {
    // SAFETY: takes a number, touches no memory.
    unsafe { libc::syscall(libc::SYS_setfsgid, gid) };
}
/// A change to an impossible number fails and answers with the present one.
fn file_uid() -> u32 {
    // SAFETY: takes a number, touches no memory.
    let answer = unsafe { libc::syscall(libc::SYS_setfsuid, u32::MAX) };
    u32::try_from(answer).unwrap_or(u32::MAX)
}
fn file_gid() -> u32 {
    // SAFETY: takes a number, touches no memory.
    let answer = unsafe { libc::syscall(libc::SYS_setfsgid, u32::MAX) };
    u32::try_from(answer).unwrap_or(u32::MAX)
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
