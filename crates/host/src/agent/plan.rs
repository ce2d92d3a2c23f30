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
use std::time::Duration;

use model::group::PathsReport;
use serde::{Deserialize, Serialize};

use crate::group::Way;

/// After a portal that answers has let nobody in, at the least; and at the most when that goes on.
/// Chance adds as much again.
const REFUSED: Duration = Duration::from_secs(60);
const REFUSED_OFTEN: Duration = Duration::from_secs(600);

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
    /// Portals by which a login has begun, and is not known to have ended: iscsid may come to its
    /// end with it when the agent that has asked for it is gone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) making: Vec<String>,
    pub(super) size_bytes: u64,
}

impl Login {
    /// `None` without a portal.
    pub(super) fn new(target: String, portals: &[String], size_bytes: u64) -> Option<Self> {
        let (portal, others) = portals.split_first()?;
        let (portal, others) = (portal.clone(), others.to_vec());
        Some(Self { target, portal, others, map: None, making: Vec::new(), size_bytes })
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

    /// A login by these portals has begun.
    pub(super) fn by(mut self, portals: &[String]) -> Self {
        let new = portals.iter().filter(|one| !self.making.contains(one));
        let new: Vec<String> = new.cloned().collect();
        self.making.extend(new);
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

    pub(super) fn has_any(&self, named: &[String]) -> bool {
        named.iter().any(|portal| self.has(portal))
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
    /// As they are, and the disks are to have the new size: multipathd takes none in that has
    /// another one.
    Grow,
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
    /// Those by which there may be sessions.
    pub(super) remembered: &'a [String],
    /// A login may still be under way, which an agent that is gone has asked for.
    pub(super) unfinished: bool,
    /// The volume has, and its disks may not.
    pub(super) grown: bool,
    /// What is there may be put in order: that was not tried a moment ago.
    pub(super) tidies: bool,
}

/// `stands` is asked only where it counts.
pub(super) fn next(portals: Portals<'_>, sight: &Sight, stands: impl FnOnce() -> Stands) -> Next {
    let is_new = sight.sessions.is_empty();
    let grown = portals.grown && !is_new;
    let is_named = |portal: &String| portals.named.contains(portal);
    let stays = sight.has_any(portals.named);
    let unmapped = sight.sessions.len() > 1 && sight.map.is_none() && !portals.alone && !grown;
    // The disk of a path that is gone for good keeps the map from growing.
    let retired = stays && !portals.remembered.iter().all(is_named);
    let untidy = portals.tidies && (unmapped || retired);
    let wanted = match is_new {
        true => portals.named.to_vec(),
        false if stays && (portals.alone || grown) => Vec::new(),
        false => {
            let mut wanted = sight.missing(portals.named);
            wanted.retain(|portal| portals.answering.contains(portal));
            wanted
        }
    };
    let otherwise = if grown { Next::Grow } else { Next::Serve };
    if wanted.is_empty() && !untidy && !portals.unfinished {
        return otherwise;
    }
    match stands() {
        Stands::Aside => Next::Make(wanted),
        Stands::By => Next::LetGo,
        // It ends by itself when it has no way to the volume any more.
        Stands::Owns if is_new => Next::LetGo,
        Stands::Owns => otherwise,
    }
}

/// How long portals are left alone that have let nobody in so many times, one after the other.
/// `chance` keeps hosts that stand by from letting go of the volume all at the same time.
pub(super) fn back_off(times: u32, chance: u8) -> Duration {
    let doubled = 1 << times.saturating_sub(1).min(8);
    let least = (REFUSED * doubled).min(REFUSED_OFTEN);
    least + least * u32::from(chance) / 256
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

    fn portals<'a>(named: &'a [String], answering: &'a [String]) -> Portals<'a> {
        Portals {
            named,
            answering,
            alone: false,
            remembered: named,
            unfinished: false,
            grown: false,
            tidies: true,
        }
    }

    fn step(answering: &[&str], sight: &Sight, stands: Stands) -> Next {
        let (named, answering) = (names(&[A, B]), names(answering));
        next(portals(&named, &answering), sight, || stands)
    }

    /// The agent was killed while iscsid logged in by B: the session came when the warden had taken
    /// the volume by A, and carried a write that nobody had let in.
    #[test]
    fn a_login_that_a_killed_agent_has_begun_comes_to_its_end_before_the_volume_is_served() {
        let (named, none) = (names(&[A, B]), names(&[]));
        let unfinished = Portals { unfinished: true, ..portals(&named, &none) };
        for alone in [false, true] {
            let unfinished = Portals { alone, ..unfinished };
            let at = |stands| next(unfinished, &sight(&[A], false), || stands);
            assert_eq!(at(Stands::Aside), Next::Make(Vec::new()));
            assert_eq!(at(Stands::By), Next::LetGo);
            assert_eq!(at(Stands::Owns), Next::Serve, "nothing is changed below it");
        }
        let text =
            serde_json::to_string(&Login::new("t".to_owned(), &named, 1).unwrap().by(&named));
        let login: Login = serde_json::from_str(&text.unwrap()).unwrap();
        assert_eq!(login.by(&names(&[B])).making, named, "the next agent knows of it");
    }

    /// The disk of B was below the map, dead, and so the map did not grow; and as long as it did
    /// not, B was not logged out of, and C not logged in to.
    #[test]
    fn a_volume_that_has_grown_loses_the_path_that_is_not_named_any_more_first() {
        const C: &str = "10.0.2.5:3260";
        let (named, remembered, answering) = (names(&[A, C]), names(&[A, B]), names(&[C]));
        let grown = Portals { remembered: &remembered, grown: true, ..portals(&named, &answering) };
        let both = sight(&[A, B], true);
        assert_eq!(next(grown, &both, || Stands::Aside), Next::Make(Vec::new()));
        assert_eq!(next(grown, &both, || Stands::By), Next::LetGo);
        assert_eq!(next(grown, &both, || Stands::Owns), Next::Grow);
        let later = Portals { tidies: false, ..grown };
        let nobody = || -> Stands { panic!("somebody was asked") };
        assert_eq!(next(later, &both, nobody), Next::Grow, "it was tried a moment ago");
        let gone = Portals { remembered: &named, ..grown };
        let one = sight(&[A], true);
        assert_eq!(next(gone, &one, nobody), Next::Grow, "C comes when A has the new size");
        let grown = Portals { grown: false, ..gone };
        assert_eq!(next(grown, &one, || Stands::Aside), Next::Make(names(&[C])));
    }

    #[test]
    fn the_only_session_is_not_ended_for_its_portal_before_another_portal_answers() {
        let (named, remembered) = (names(&[B]), names(&[A]));
        let (none, some) = (names(&[]), names(&[B]));
        for (grown, alone) in [(false, false), (true, false), (false, true), (true, true)] {
            let at = |answering| {
                let portals = portals(&named, answering);
                let portals = Portals { remembered: &remembered, grown, alone, ..portals };
                next(portals, &sight(&[A], true), || Stands::Aside)
            };
            assert_eq!(at(&none), if grown { Next::Grow } else { Next::Serve });
            assert_eq!(at(&some), Next::Make(names(&[B])));
        }
    }

    /// Hosts that stood by were out of contention for a third of the time, all at once.
    #[test]
    fn a_portal_that_lets_nobody_in_is_tried_less_and_less_often() {
        let minutes = |times, chance| back_off(times, chance).as_secs() / 60;
        assert_eq!(
            [1, 2, 3, 4, 5, 6, u32::MAX].map(|times| minutes(times, 0)),
            [1, 2, 4, 8, 10, 10, 10]
        );
        assert_eq!((minutes(1, 128), minutes(9, 255)), (1, 19));
        assert!(back_off(3, 7) < back_off(3, 8), "hosts differ");
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
        let answering = names(&[B]);
        let portals = portals(&named, &answering);
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
