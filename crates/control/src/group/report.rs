//! What hosts say of their groups: kept in memory, and in the catalog where it changed.

use model::event::EventResult;
use model::group::{GroupState, Report, Standing};
use model::host::Host;
use model::id::{GroupId, HostId};
use model::volume::Volume;
use serde::{Deserialize, Serialize};
use sqlx::Executor;

use super::hosts::rests_after;
use super::{GroupHostView, GroupView};
use crate::caller::Caller;
use crate::catalog::{self, Connection, GroupRecord};
use crate::error::Result;
use crate::facade::Inner;
use crate::volume::expected;

/// Most characters of a sentence in a report that are kept.
const SENTENCE_CHARS_MAX: usize = 1000;
/// A host that cannot reach the volume stands by for the moment of each new try, which is shorter
/// than this.
const TRY_MS: u64 = 5_000;

/// Words of a host, and when they came.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Said {
    pub report: Report,
    /// Milliseconds since the Unix epoch, by the clock of the control plane.
    pub at_ms: u64,
}

impl Said {
    /// How old the words are.
    #[must_use]
    pub const fn age_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.at_ms)
    }
    /// Do they say how things are now?
    #[must_use]
    pub const fn is_fresh(&self, now_ms: u64) -> bool {
        self.age_ms(now_ms) < model::agent::DOWN_MS
    }
    /// Since when the host has been standing so: milliseconds since the Unix epoch.
    #[must_use]
    pub const fn since_ms(&self) -> u64 {
        self.at_ms.saturating_sub(self.report.for_ms)
    }
    /// Is the audit trail to know of the difference?
    fn is_news_after(&self, before: Option<&Self>) -> bool {
        let Some(before) = before else { return true };
        let (new, old) = (&self.report, &before.report);
        // Each try to reach a volume may fail in another way; that it does not is said once.
        let may_fail = new.standing != Standing::Unreachable;
        let failed = may_fail && new.error.is_some() && new.error != old.error;
        new.standing != old.standing || new.epoch != old.epoch || failed
    }
    /// A host that tries again to reach the volume stays unreachable until it has stood by for
    /// longer than a try takes.
    fn settled(mut self, before: Option<&Self>) -> Self {
        let Some(before) = before.filter(|said| said.report.standing == Standing::Unreachable)
        else {
            return self;
        };
        let tries = self.report.standing == Standing::Standby && self.report.for_ms < TRY_MS;
        if tries {
            self.report.standing = Standing::Unreachable;
            self.report.why.clone_from(&before.report.why);
            self.report.error.clone_from(&before.report.error);
        }
        if self.report.standing == Standing::Unreachable {
            self.report.for_ms = self.at_ms.saturating_sub(before.since_ms());
        }
        self
    }
}

/// Who owns the group: who says so itself and lately; else whom the others see; else who said so
/// last. Of two, the one that came to it later.
fn owner(hosts: &[GroupHostView], now_ms: u64) -> Option<HostId> {
    let said = || hosts.iter().filter_map(|host| Some((host.id, host.said.as_ref()?)));
    let owns = |(_, said): &(HostId, &Said)| said.report.standing.owns();
    let fresh = |(_, said): &(HostId, &Said)| said.is_fresh(now_ms);
    let of_itself = said().filter(owns).filter(fresh).max_by_key(|(_, said)| said.since_ms());
    let of_itself = of_itself.map(|(id, _)| id);
    let by_peers = || said().filter(fresh).find_map(|(_, said)| said.report.owner);
    let last = || said().filter(owns).max_by_key(|(_, said)| said.at_ms).map(|(id, _)| id);
    let known = |id: &HostId| hosts.iter().any(|host| host.id == *id);
    of_itself.or_else(|| by_peers().filter(known)).or_else(last)
}

fn cut(mut report: Report) -> Report {
    let cut = |text: &mut String| *text = text.chars().take(SENTENCE_CHARS_MAX).collect();
    cut(&mut report.why);
    report.error.iter_mut().for_each(cut);
    report.resources.iter_mut().filter_map(|one| one.error.as_mut()).for_each(cut);
    report.paths.iter_mut().filter_map(|paths| paths.why.as_mut()).for_each(cut);
    report
}

impl Inner {
    /// What an agent says of the groups that name its host. Words about others are passed over:
    /// a group may have been deleted a moment ago. Answers whether a group has let the host go.
    pub(crate) async fn hear(
        &self,
        caller: Caller,
        host: &Host,
        groups: &[GroupRecord],
        reports: Vec<Report>,
    ) -> Result<bool> {
        let mut has_left = false;
        for report in reports {
            let Some(record) = groups.iter().find(|record| record.group.id == report.group) else {
                continue;
            };
            let mut report = cut(report);
            report.resources.truncate(record.group.resources.len());
            report.peers.retain(|peer| record.group.hosts.contains(&peer.host));
            let before = self.heard.said(record.group.id, host.id);
            let before = before.as_ref().or_else(|| record.said.get(&host.id));
            let said = Said { report, at_ms: self.now_ms() }.settled(before);
            if said.is_news_after(before) {
                self.note(&caller, host, &said, before).await?;
            }
            let told = record.told.get(&host.id).copied().unwrap_or_default();
            if record.group.leaving.contains(&host.id) && rests_after(told, &said) {
                self.let_go(&caller, host, record.group.id).await?;
                has_left = true;
                continue;
            }
            self.heard.say(host.id, said);
        }
        Ok(has_left)
    }

    /// A host that was to leave says that nothing of the group runs there.
    async fn let_go(&self, caller: &Caller, host: &Host, group: GroupId) -> Result<()> {
        let mut tx = self.catalog.begin().await?;
        let Some(mut record) = catalog::get::<GroupRecord>(&mut tx, group.0).await? else {
            return Ok(());
        };
        if !record.group.leaving.contains(&host.id) {
            return Ok(());
        }
        record.forget(host.id);
        catalog::update(&mut tx, &record).await?;
        let row = sqlx::query("DELETE FROM group_hosts WHERE group_id = $1 AND host = $2");
        tx.execute(row.bind(group.to_string()).bind(host.id.to_string())).await?;
        let detail = format!("host '{}' has left", host.name);
        self.record(&mut tx, caller, &record, "group.update", EventResult::Done, detail).await?;
        tx.commit().await?;
        self.heard.forget(group, host.id);
        Ok(())
    }

    async fn note(
        &self,
        caller: &Caller,
        host: &Host,
        said: &Said,
        before: Option<&Said>,
    ) -> Result<()> {
        let mut tx = self.catalog.begin().await?;
        let id = said.report.group.0;
        let Some(mut record) = catalog::get::<GroupRecord>(&mut tx, id).await? else {
            return Ok(());
        };
        if !record.group.hosts.contains(&host.id) {
            // It was taken out a moment ago.
            return Ok(());
        }
        record.said.insert(host.id, said.clone());
        catalog::update(&mut tx, &record).await?;
        let Report { standing, epoch, why, error, .. } = &said.report;
        let result = match standing {
            Standing::Fenced | Standing::Failed | Standing::Unreachable => EventResult::Failed,
            _ => EventResult::Done,
        };
        let from = before.map_or("", |before| before.report.standing.word());
        let mut detail = format!("host '{}': ", host.name);
        if !from.is_empty() && from != standing.word() {
            detail.push_str(&format!("{from} to "));
        }
        detail.push_str(&format!("{}, epoch {epoch}", standing.word()));
        for more in [Some(why), error.as_ref()].into_iter().flatten().filter(|s| !s.is_empty()) {
            detail.push_str(&format!("; {more}"));
        }
        self.record(&mut tx, caller, &record, "group.host", result, detail).await?;
        // No wake: a report asks for no work of the node.
        tx.commit().await?;
        Ok(())
    }

    /// A group as it is shown.
    pub(crate) async fn group_view(
        &self,
        on: &mut Connection,
        record: GroupRecord,
    ) -> Result<GroupView> {
        let GroupRecord { group, said, told, .. } = record;
        let now_ms = self.now_ms();
        let volume: Volume = expected(on, group.volume.0).await?;
        let names = catalog::names::<Host>(on, group.hosts.iter().map(|id| id.0)).await?;
        let agents = self.agents(on, group.hosts.iter().copied()).await?;
        let host = |id: &HostId| GroupHostView {
            id: *id,
            name: names.get(&id.0).cloned().unwrap_or_default(),
            is_up: agents.get(id).is_some_and(|agent| agent.is_up(now_ms)),
            silent_ms: agents.get(id).map(|agent| agent.age_ms(now_ms)),
            is_leaving: group.leaving.contains(id),
            told: told.get(id).copied(),
            said: self.heard.said(group.id, *id).or_else(|| said.get(id).cloned()),
        };
        let hosts: Vec<GroupHostView> = group.hosts.iter().map(host).collect();
        let fresh: Vec<&Report> = hosts
            .iter()
            .filter_map(|host| host.said.as_ref())
            .filter(|said| said.is_fresh(now_ms))
            .map(|said| &said.report)
            .collect();
        Ok(GroupView {
            state: GroupState::of(group.wanted, &fresh),
            owner: owner(&hosts, now_ms),
            volume_name: volume.name,
            hosts,
            now_ms,
            group,
        })
    }
}

#[cfg(test)]
mod tests {
    use model::group::Standing::{Fenced, Running, Standby};
    use model::id::GroupId;
    use uuid::Uuid;

    use super::*;

    const NOW_MS: u64 = 1_000_000;

    fn host(number: u128, standing: Standing, age_ms: u64, for_ms: u64) -> GroupHostView {
        let report = Report {
            group: GroupId(Uuid::nil()),
            standing,
            epoch: 1,
            generation: 1,
            owner: None,
            for_ms,
            why: String::new(),
            resources: Vec::new(),
            error: None,
            peers: Vec::new(),
            paths: None,
        };
        let said = Some(Said { report, at_ms: NOW_MS - age_ms });
        let id = HostId(Uuid::from_u128(number));
        let name = number.to_string();
        let (silent_ms, is_leaving, told) = (Some(age_ms), false, None);
        GroupHostView { id, name, is_up: true, silent_ms, is_leaving, told, said }
    }

    fn seen(mut by: GroupHostView, owner: u128) -> GroupHostView {
        let said = by.said.as_mut().unwrap();
        said.report.owner = Some(HostId(Uuid::from_u128(owner)));
        by
    }

    #[test]
    fn the_owner_is_who_says_so_lately_and_not_who_said_so_once() {
        let of = |hosts: &[GroupHostView]| owner(hosts, NOW_MS).map(|id| id.0.as_u128());
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[host(1, Standby, 0, 9), host(2, Fenced, 0, 9)]), None);
        // A paused owner's last word is old; the survivor's is new.
        assert_eq!(of(&[host(1, Running, 60_000, 9), host(2, Running, 900, 9)]), Some(2));
        // Both are heard: the one that took over later.
        assert_eq!(of(&[host(1, Running, 10, 90_000), host(2, Running, 900, 5)]), Some(2));
        // The owner cannot reach us, and its peer sees it at the volume.
        assert_eq!(of(&[host(1, Running, 60_000, 9), seen(host(2, Standby, 1, 9), 1)]), Some(1));
        assert_eq!(of(&[host(1, Running, 60_000, 9), host(2, Standby, 60_000, 9)]), Some(1));
        // A host that the group does not have is nobody's owner.
        assert_eq!(of(&[seen(host(2, Standby, 1, 9), 7)]), None);
    }
}
