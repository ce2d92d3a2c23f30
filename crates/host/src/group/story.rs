//! What a warden says of itself: where it stands, since when, and why.

use ::guard::group::{Course, Idle, Resources, Stage};
use ::guard::{End, Key};
use model::group::{PeerReport, Report, ResourceReport, ResourceState, Standing};
use model::id::{GroupId, HostId};

/// See the module's head.
pub(super) struct Story {
    standing: Standing,
    since_ms: u64,
    /// Why it came to stand so.
    why: String,
    /// What comes next, if the standing changes.
    next_why: String,
    pub(super) error: Option<String>,
    /// What went wrong last with each resource.
    pub(super) errors: Vec<Option<String>>,
    pub(super) epoch: u64,
}

impl Story {
    pub(super) fn new(resources: usize, now_ms: u64) -> Self {
        Self {
            standing: Standing::Stopped,
            since_ms: now_ms,
            why: "the agent has just begun to look after it".to_owned(),
            next_why: String::new(),
            error: None,
            errors: vec![None; resources],
            epoch: 0,
        }
    }

    /// Said when the standing changes.
    pub(super) fn because(&mut self, why: impl Into<String>) {
        self.next_why = why.into();
    }

    pub(super) fn took(&mut self, key: Key) {
        self.epoch = key.epoch().into();
        self.error = None;
    }

    pub(super) fn standing(&self) -> Standing {
        self.standing
    }

    /// Whether it changed.
    pub(super) fn turn(&mut self, now_ms: u64, standing: Standing) -> bool {
        if self.standing == standing {
            return false;
        }
        tracing::info!(from = self.standing.word(), to = standing.word(), "the group's standing");
        self.standing = standing;
        self.since_ms = now_ms;
        if !self.next_why.is_empty() {
            self.why = std::mem::take(&mut self.next_why);
        }
        true
    }

    pub(super) fn report(
        &self,
        now_ms: u64,
        (group, generation, owner): (GroupId, u64, Option<HostId>),
        resources: &Resources,
        peers: Vec<PeerReport>,
    ) -> Report {
        let of = |(at, error): (usize, &Option<String>)| ResourceReport {
            state: state_of(resources, at, error.is_some()),
            error: error.clone(),
            found_by: None,
        };
        Report {
            group,
            standing: self.standing,
            epoch: self.epoch,
            generation,
            owner,
            for_ms: now_ms.saturating_sub(self.since_ms),
            why: self.why.clone(),
            resources: self.errors.iter().enumerate().map(of).collect(),
            error: self.error.clone(),
            peers,
            // The agent knows of them.
            paths: None,
        }
    }
}

fn state_of(resources: &Resources, at: usize, failed: bool) -> ResourceState {
    match resources.stage() {
        Stage::Down if failed => ResourceState::Failed,
        Stage::Down => ResourceState::Stopped,
        Stage::Starting | Stage::Up if resources.is_up(at) => ResourceState::Running,
        Stage::Starting | Stage::Up => ResourceState::Starting,
        Stage::Stopping if resources.is_up(at) => ResourceState::Running,
        Stage::Stopping | Stage::Killing => ResourceState::Stopping,
    }
}

/// `kept`: resources failed, and the policy is to keep the group here, stopped.
pub(super) fn standing_of(course: Course, stage: Stage, kept: bool) -> Standing {
    match (course, stage) {
        (Course::Idle(Idle::Fenced), Stage::Down) => Standing::Fenced,
        (Course::Idle(Idle::Failed), Stage::Down) => Standing::Failed,
        (Course::Idle(Idle::NotWanted), Stage::Down) => Standing::Stopped,
        (Course::Idle(Idle::Resting(End::Unreachable)), Stage::Down) => Standing::Unreachable,
        (Course::Owning { .. }, Stage::Down) if kept => Standing::Failed,
        (Course::Owning { .. }, Stage::Down | Stage::Starting) => Standing::Starting,
        (Course::Owning { .. }, Stage::Up) => Standing::Running,
        (_, Stage::Down) => Standing::Standby,
        _ => Standing::Stopping,
    }
}
