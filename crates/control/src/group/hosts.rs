//! The hosts of a group: which one may run it by what it was told and has said, and which one may
//! take it.

use model::group::Standing;
use model::host::Host;
use model::id::HostId;
use model::volume::Volume;

use super::{GroupView, HOSTS_MAX, Said};
use crate::caller::Caller;
use crate::catalog::Connection;
use crate::error::{ControlError, Result};
use crate::facade::invalid;

/// One host of a group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupHostView {
    pub id: HostId,
    pub name: String,
    pub is_up: bool,
    /// Since its agent was last heard, in milliseconds; none where it has no agent.
    pub silent_ms: Option<u64>,
    /// It is on its way out of the group.
    pub is_leaving: bool,
    /// The newest generation under which it was told to have the group run.
    pub told: Option<u64>,
    pub said: Option<Said>,
}

impl GroupHostView {
    fn standing(&self) -> Option<Standing> {
        self.said.as_ref().map(|said| said.report.standing)
    }

    /// Why it may run the group, as a sentence; `None` when it cannot. Who was told to start it
    /// may run it until it says that it follows a later order, and rests.
    pub(super) fn may_run(&self) -> Option<String> {
        if self.standing().is_some_and(Standing::owns) {
            return Some(format!("host '{}' said last that it runs it", self.name));
        }
        let told = self.told?;
        let rests = self.said.as_ref().is_some_and(|said| rests_after(told, said));
        let silence = if self.is_up { String::new() } else { format!(", and {}", self.silence()) };
        (!rests).then(|| {
            format!("host '{}' has not said that it heard of the stop{silence}", self.name)
        })
    }

    /// May the group be given to it?
    pub(super) fn may_take(&self, group: &str) -> Result<()> {
        let (group, host) = (group.to_owned(), self.name.clone());
        let why = match self.standing() {
            Some(Standing::Fenced) => return Err(ControlError::GroupHostFenced { group, host }),
            _ if self.is_leaving => "it is on its way out of the group".to_owned(),
            _ if !self.is_up => self.silence(),
            Some(Standing::Unreachable) => "it cannot reach the volume".to_owned(),
            _ => return Ok(()),
        };
        Err(ControlError::GroupHostAway { group, host, why })
    }

    /// Does it have the group, or is it about to?
    pub(super) fn contends(&self) -> bool {
        self.standing().is_some_and(|at| at.owns() || at == Standing::Claiming)
    }

    fn silence(&self) -> String {
        match self.silent_ms {
            Some(ms) => format!("its agent was last heard {} ago", span(ms)),
            None => "it has no agent".to_owned(),
        }
    }
}

/// Does a host say that it follows a later order than the one under which it was told to have the
/// group run, and that nothing of it runs there?
pub(super) const fn rests_after(told: u64, said: &Said) -> bool {
    said.report.generation > told && said.report.standing.rests()
}

/// How long, for people.
fn span(ms: u64) -> String {
    match ms {
        0..120_000 => format!("{} s", ms / 1000),
        120_000..7_200_000 => format!("{} min", ms / 60_000),
        _ => format!("{} h", ms / 3_600_000),
    }
}

impl GroupView {
    /// The host of this id.
    #[must_use]
    pub fn host(&self, id: HostId) -> Option<&GroupHostView> {
        self.hosts.iter().find(|host| host.id == id)
    }

    /// Why a host may run the group; `None` when it runs nowhere.
    pub(super) fn may_run(&self) -> Option<String> {
        self.hosts.iter().find_map(GroupHostView::may_run)
    }

    /// The group's host of this name or id.
    pub(super) fn one_of(&self, name: &str) -> Result<&GroupHostView> {
        let name = name.trim();
        let is_meant = |host: &&GroupHostView| host.name == name || host.id.to_string() == name;
        self.hosts.iter().find(is_meant).ok_or_else(|| ControlError::GroupHostUnknown {
            group: self.group.name.clone(),
            host: name.to_owned(),
            hosts: self.host_names(),
        })
    }

    pub(super) fn host_names(&self) -> Vec<String> {
        self.hosts.iter().map(|host| host.name.clone()).collect()
    }

    /// The first host after the owner, around the list, that could take it.
    pub(super) fn next_host(&self) -> Result<&GroupHostView> {
        let count = self.hosts.len();
        let owner = self.owner.and_then(|id| self.hosts.iter().position(|host| host.id == id));
        let from = owner.map_or(0, |at| at + 1);
        let others = (0..count).map(|step| (from + step) % count).filter(|at| Some(*at) != owner);
        let mut hosts = others.map(|at| &self.hosts[at]);
        hosts
            .find(|host| host.may_take(&self.group.name).is_ok())
            .ok_or_else(|| ControlError::GroupNowhereToMove { group: self.group.name.clone() })
    }
}

/// The hosts of these names, in this order, each given once.
pub(super) async fn of_names(
    on: &mut Connection,
    caller: &Caller,
    volume: &Volume,
    names: &[String],
) -> Result<Vec<Host>> {
    use model::group::GroupError;
    if !(2..=HOSTS_MAX).contains(&names.len()) {
        return Err(invalid("hosts")(GroupError::Hosts(names.len())));
    }
    let hosts = crate::attachment::hosts_of(on, caller, volume, names).await?;
    match hosts.len() == names.len() {
        true => Ok(hosts),
        false => {
            let mut seen = std::collections::BTreeSet::new();
            let twice = names.iter().find(|name| !seen.insert(name.as_str()));
            let twice = twice.or(names.last()).cloned().unwrap_or_default();
            Err(invalid("hosts")(GroupError::HostTwice(twice)))
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_host_that_is_not_heard_is_refused_with_how_long() {
        let host = |is_up, silent_ms| GroupHostView {
            id: HostId(Uuid::nil()),
            name: "beta".to_owned(),
            is_up,
            silent_ms,
            is_leaving: false,
            told: Some(1),
            said: None,
        };
        assert!(host(true, Some(900)).may_take("db").is_ok());
        let error = host(false, Some(200_000)).may_take("db").unwrap_err().to_string();
        let why = "its agent was last heard 3 min ago";
        assert_eq!(error, format!("host 'beta' cannot take group 'db': {why}"));
        let runs = host(false, Some(200_000)).may_run().expect("it was told to");
        assert!(runs.ends_with(&format!("heard of the stop, and {why}")), "{runs}");
    }

    #[test]
    fn spans_are_in_the_unit_that_people_use() {
        let of = [4_900, 119_000, 120_000, 7_300_000].map(span);
        assert_eq!(of, ["4 s", "119 s", "2 min", "2 h"]);
    }
}
