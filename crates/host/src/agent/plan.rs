//! Which sessions a volume is to have on this host, and when they may be made. Values in, values
//! out.
//!
//! ```text
//!   nothing there ---all that answer are made----> there ---a portal was away, and answers---.
//!        ^                                         |   ^                                     |
//!        `-- detached, or they went ---------------'   `-- made, while no guard here has ----'
//!                                                          the volume or may come to have it
//! ```
//!
//! A session that is new to the kernel is another initiator port, and must carry no write before
//! the guard has registered it. So none is made while this host owns the group, and a host that
//! stands by lets go of the volume first.

use std::path::PathBuf;

use model::group::PathsReport;
use serde::{Deserialize, Serialize};

use crate::group::Way;

/// The sessions of one volume that this agent has made, or is about to make.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Login {
    pub(super) target: String,
    /// The first portal. An agent that knows of no others can read a login that has none.
    pub(super) portal: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) others: Vec<String>,
    /// The multipath device above them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) map: Option<String>,
    pub(super) size_bytes: u64,
}

impl Login {
    /// `None` without a portal.
    pub(super) fn new(target: String, portals: &[String], size_bytes: u64) -> Option<Self> {
        let (portal, others) = portals.split_first()?;
        let (portal, others, map) = (portal.clone(), others.to_vec(), None);
        Some(Self { target, portal, others, map, size_bytes })
    }

    pub(super) fn portals(&self) -> Vec<String> {
        std::iter::once(&self.portal).chain(&self.others).cloned().collect()
    }

    /// With sessions by these portals as well.
    pub(super) fn and(mut self, portals: &[String]) -> Self {
        let new = portals.iter().filter(|one| **one != self.portal && !self.others.contains(one));
        let new: Vec<String> = new.cloned().collect();
        self.others.extend(new);
        self
    }
}

/// A session that has a disk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Session {
    pub(super) portal: String,
    /// Such as `sdb`.
    pub(super) disk: String,
    /// The name that udev gives it.
    pub(super) device: PathBuf,
    pub(super) answers: bool,
}

/// What the kernel has of one volume.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Sight {
    /// In the order of the portals.
    pub(super) sessions: Vec<Session>,
    /// The multipath device above them, and the guard's gate above that.
    pub(super) map: Option<(PathBuf, PathBuf)>,
}

impl Sight {
    pub(super) fn way(&self) -> Option<Way> {
        let first = self.sessions.first()?;
        Some(match self.map.clone() {
            Some((map, gate)) => Way::Map { map, gate },
            None => Way::Device { path: first.device.clone() },
        })
    }

    fn has(&self, portal: &str) -> bool {
        self.sessions.iter().any(|session| session.portal == portal)
    }

    /// The portals without a session.
    pub(super) fn missing(&self, named: &[String]) -> Vec<String> {
        named.iter().filter(|portal| !self.has(portal)).cloned().collect()
    }

    /// What a report says of them.
    pub(super) fn paths(&self, named: &[String], why: Option<String>) -> PathsReport {
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let is_named = |session: &&Session| named.contains(&session.portal);
        let there: Vec<&Session> = self.sessions.iter().filter(is_named).collect();
        let answering = there.iter().filter(|session| session.answers).count();
        let why = why.filter(|_| there.len() < named.len());
        PathsReport {
            portals: count(named.len()),
            sessions: count(there.len()),
            answering: count(answering),
            why,
        }
    }
}

/// What this host does with the volume meanwhile.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stands {
    /// No guard has a run, and none begins one.
    Aside,
    /// A guard has a run, and does not own the volume.
    By,
    /// What runs here writes to it, or something else has it in use.
    Owns,
}

/// What to do about the sessions of a volume.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Next {
    /// As they are.
    Serve,
    /// Make these; of those that are there already a multipath device may be missing.
    Make(Vec<String>),
    /// Whoever stands by is to let go of the volume first.
    LetGo,
}

/// What the service and the last tries say of a volume's portals.
#[derive(Clone, Copy, Debug)]
pub(super) struct Portals<'a> {
    /// By the service.
    pub(super) named: &'a [String],
    /// Those without a session that have answered lately, and may be had.
    pub(super) answering: &'a [String],
    /// Several sessions are no use here: nothing makes one device of them.
    pub(super) alone: bool,
}

/// `stands` is asked only where it counts.
pub(super) fn next(portals: Portals<'_>, sight: &Sight, stands: impl FnOnce() -> Stands) -> Next {
    let unmapped = sight.sessions.len() > 1 && sight.map.is_none() && !portals.alone;
    let is_new = sight.sessions.is_empty();
    let wanted = match is_new {
        true => portals.named.to_vec(),
        false if portals.alone => Vec::new(),
        false => {
            let mut wanted = sight.missing(portals.named);
            wanted.retain(|portal| portals.answering.contains(portal));
            wanted
        }
    };
    if wanted.is_empty() && !unmapped {
        return Next::Serve;
    }
    match stands() {
        Stands::Aside => Next::Make(wanted),
        Stands::By => Next::LetGo,
        // It ends by itself when it has no way to the volume any more.
        Stands::Owns if is_new => Next::LetGo,
        Stands::Owns => Next::Serve,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "10.0.0.5:3260";
    const B: &str = "10.0.1.5:3260";

    fn names(portals: &[&str]) -> Vec<String> {
        portals.iter().map(|portal| (*portal).to_owned()).collect()
    }

    fn sight(portals: &[&str], mapped: bool) -> Sight {
        let session = |(at, portal): (usize, &&str)| Session {
            portal: (*portal).to_owned(),
            disk: format!("sd{at}"),
            device: PathBuf::from(format!("/dev/disk/by-path/{portal}")),
            answers: at == 0,
        };
        let map = ("/dev/mapper/mpatha".into(), "/dev/mapper/commonhold-mpatha".into());
        Sight {
            sessions: portals.iter().enumerate().map(session).collect(),
            map: mapped.then_some(map),
        }
    }

    fn step(answering: &[&str], sight: &Sight, stands: Stands) -> Next {
        let (named, answering) = (names(&[A, B]), names(answering));
        next(Portals { named: &named, answering: &answering, alone: false }, sight, || stands)
    }

    #[test]
    fn a_volume_that_is_new_is_logged_in_to_by_every_portal_before_anybody_contends_for_it() {
        let none = sight(&[], false);
        assert_eq!(step(&[], &none, Stands::Aside), Next::Make(names(&[A, B])));
        assert_eq!(step(&[], &none, Stands::By), Next::LetGo);
        assert_eq!(step(&[], &none, Stands::Owns), Next::LetGo);
    }

    /// The target would refuse what the kernel writes by it, and that is an error of the map.
    #[test]
    fn a_late_session_is_made_by_a_host_that_has_let_go_and_by_no_owner() {
        for mapped in [true, false] {
            let one = sight(&[A], mapped);
            assert_eq!(step(&[B], &one, Stands::Owns), Next::Serve);
            assert_eq!(step(&[B], &one, Stands::By), Next::LetGo);
            assert_eq!(step(&[B], &one, Stands::Aside), Next::Make(names(&[B])));
            for stands in [Stands::Owns, Stands::By, Stands::Aside] {
                assert_eq!(step(&[], &one, stands), Next::Serve, "it does not answer: {stands:?}");
            }
        }
    }

    #[test]
    fn what_is_complete_is_left_alone_and_nobody_is_asked_to_let_go() {
        let named = names(&[A, B]);
        let (answering, alone) = (names(&[B]), false);
        let portals = Portals { named: &named, answering: &answering, alone };
        let nobody = || -> Stands { panic!("somebody was asked") };
        assert_eq!(next(portals, &sight(&[A, B], true), nobody), Next::Serve);
        // Nothing makes one device of two sessions here.
        let alone = Portals { alone: true, ..portals };
        assert_eq!(next(alone, &sight(&[A], false), nobody), Next::Serve);
    }

    #[test]
    fn two_sessions_without_a_map_wait_for_one_where_nobody_uses_them() {
        let two = sight(&[A, B], false);
        assert_eq!(step(&[], &two, Stands::Aside), Next::Make(Vec::new()));
        assert_eq!(step(&[], &two, Stands::By), Next::LetGo);
        assert_eq!(step(&[], &two, Stands::Owns), Next::Serve);
    }

    #[test]
    fn the_way_is_the_gate_of_the_map_or_the_first_device() {
        let by = |sight: Sight| sight.way().map(|way| way.device());
        assert_eq!(by(sight(&[A, B], true)).as_deref(), Some("/dev/mapper/commonhold-mpatha"));
        let device = format!("/dev/disk/by-path/{A}");
        assert_eq!(by(sight(&[A], false)), Some(device));
        assert_eq!(by(sight(&[], false)), None);
    }

    #[test]
    fn a_report_counts_the_portals_the_sessions_and_those_that_answer() {
        let named = names(&[A, B]);
        let why = || Some("a portal does not answer".to_owned());
        let paths = |sight: Sight| {
            let PathsReport { portals, sessions, answering, why } = sight.paths(&named, why());
            (portals, sessions, answering, why.is_some())
        };
        assert_eq!(paths(sight(&[A, B], true)), (2, 2, 1, false));
        assert_eq!(paths(sight(&[A], false)), (2, 1, 1, true));
        assert_eq!(paths(sight(&["10.0.9.9:3260"], false)), (2, 0, 0, true), "not named any more");
    }

    #[test]
    fn the_logins_of_an_agent_that_knew_one_portal_are_read_and_one_portal_is_written_like_them() {
        let old = r#"{"target":"iqn.2026-11.io:v","portal":"10.0.0.5:3260","size_bytes":4096}"#;
        let login: Login = serde_json::from_str(old).unwrap();
        assert_eq!(login.portals(), names(&[A]));
        assert_eq!((login.size_bytes, login.map.clone()), (4096, None));
        assert_eq!(serde_json::to_string(&login).unwrap(), old);
        let both = login.and(&names(&[A, B])).and(&names(&[B]));
        assert_eq!(both.portals(), names(&[A, B]));
        let text = serde_json::to_string(&both).unwrap();
        assert_eq!(serde_json::from_str::<Login>(&text).unwrap(), both);
        assert_eq!(Login::new("t".to_owned(), &[], 0), None);
    }
}
