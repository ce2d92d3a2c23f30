//! What a warden does to the group's resources.

use std::path::Path;
use std::sync::Arc;

use ::guard::Input;
use ::guard::group::{Deed, Event, Limit, Outcome, Resources, Stage, Step, Terms};
use env::mounts;
use env::processes::Family;
use env::processes::cgroup::{self, Cgroup};
use model::group::{FoundBy, OnFailure, Report, Resource};
use tokio::sync::{Notify, mpsc};

use super::aside::{Sign, Signals, aside};
use super::home::{Order, WRITER_ISID, Way};
use super::program::Unborn;
use super::steps::{Place, perform};
use super::warden::{PROBE, Warden};

/// Times of the kinds that say none of their own.
const USUAL: Terms =
    Terms { start_ms: 60_000, stop_ms: 60_000, check_ms: 10_000, interval_ms: 5_000 };
/// A mount looks through the file system first.
const MOUNT_MS: u64 = 600_000;

/// The variables that everything carries which the group's programs start.
const MARK: &str = "COMMONHOLD_GROUP_RUN";
const RESOURCE_MARK: &str = "COMMONHOLD_GROUP_RESOURCE";

/// The end of a step.
pub(super) struct Done {
    resource: usize,
    step: Step,
    result: Result<(), String>,
}

/// The machine of the resources, and the steps that are under way.
pub(super) struct Hands {
    machine: Resources,
    spec: Vec<Resource>,
    aborts: Vec<Arc<Notify>>,
    /// Of each resource; one that hangs may do so for longer than the group has this resource.
    unborn: Vec<Unborn>,
    ends: mpsc::UnboundedSender<Done>,
    ended: mpsc::UnboundedReceiver<Done>,
    signals: Signals,
    /// Resources failed for good.
    pub(super) failed: bool,
    /// They failed under this generation, and the group is kept here, stopped.
    pub(super) kept: Option<u64>,
}

impl Hands {
    pub(super) fn new(order: &Order) -> Self {
        let (ends, ended) = mpsc::unbounded_channel();
        let spec = Vec::new();
        let machine = Resources::new(&[], limit_of(order));
        let (aborts, unborn, signals) = (Vec::new(), Vec::new(), Signals::new());
        let (failed, kept) = (false, None);
        let mut hands = Self { machine, spec, aborts, unborn, ends, ended, signals, failed, kept };
        hands.follow(order);
        hands
    }

    /// While nothing runs.
    pub(super) fn follow(&mut self, order: &Order) {
        self.spec.clone_from(&order.group.resources);
        self.aborts = self.spec.iter().map(|_| Arc::default()).collect();
        self.unborn.resize_with(self.unborn.len().max(self.spec.len()), Unborn::default);
        self.machine = Resources::new(&self.terms(), limit_of(order));
        let deeds = self.machine.on(0, Event::Frozen(order.group.frozen));
        debug_assert!(deeds.is_empty(), "nothing runs");
    }

    /// Whatever runs: what of the policy counts at once.
    pub(super) fn follow_policy(&mut self, order: &Order) {
        self.machine.set_limit(limit_of(order));
    }

    pub(super) fn spec(&self) -> &[Resource] {
        &self.spec
    }
    pub(super) fn terms(&self) -> Vec<Terms> {
        self.spec.iter().map(terms_of).collect()
    }
    pub(super) fn machine(&self) -> &Resources {
        &self.machine
    }
    pub(super) fn stage(&self) -> Stage {
        self.machine.stage()
    }
    pub(super) fn wake_ms(&self) -> u64 {
        self.machine.wake_ms()
    }
    pub(super) fn on(&mut self, now_ms: u64, event: Event) -> Vec<Deed> {
        self.machine.on(now_ms, event)
    }

    /// Dropping the future loses nothing.
    pub(super) async fn done(&mut self) -> Done {
        match self.ended.recv().await {
            Some(done) => done,
            // The sender stands beside the receiver.
            None => std::future::pending().await,
        }
    }
}

fn limit_of(order: &Order) -> Limit {
    let policy = &order.group.policy;
    let restarts = match policy.on_failure {
        OnFailure::Restart => usize::try_from(policy.restart.count).unwrap_or(usize::MAX),
        OnFailure::Move | OnFailure::Stop => 0,
    };
    Limit { restarts, window_ms: policy.restart.within_ms }
}

fn terms_of(resource: &Resource) -> Terms {
    match resource {
        Resource::Exec {
            start_timeout_ms,
            stop_timeout_ms,
            status_timeout_ms,
            interval_ms,
            ..
        } => Terms {
            start_ms: *start_timeout_ms,
            stop_ms: *stop_timeout_ms,
            check_ms: *status_timeout_ms,
            interval_ms: *interval_ms,
        },
        Resource::Mount { .. } => Terms { start_ms: MOUNT_MS, ..USUAL },
        Resource::Address { .. } | Resource::Export { .. } | Resource::Unit { .. } => USUAL,
    }
}

impl Warden {
    fn cgroup(&self) -> Option<Cgroup> {
        self.past.cgroup(&self.order)
    }

    /// Everything that the group's programs start.
    fn family(&self) -> Family {
        Family::new(format!("{MARK}={}", self.order.run_of_host()), self.cgroup())
    }

    /// Everything that this resource's programs start.
    fn family_of(&self, resource: usize) -> Family {
        let cgroup = self.cgroup().map(|cgroup| cgroup.part(&resource.to_string()));
        Family::new(format!("{RESOURCE_MARK}={}/{resource}", self.order.run_of_host()), cgroup)
    }

    /// All that runs stands still from now on, or goes on.
    pub(super) fn still(&self, stop: bool) {
        self.give(if stop { Sign::Freeze } else { Sign::Thaw });
    }

    /// To all that runs.
    fn give(&self, sign: Sign) {
        self.hands.signals.to_processes(self.family(), sign);
        for resource in self.hands.spec() {
            if let Resource::Unit { name } = resource {
                self.hands.signals.to_unit(name, sign);
            }
        }
    }

    /// What was being started when the others were frozen stands still as well.
    pub(super) fn still_again(&self) {
        if self.hands.machine().is_suspended() && self.hands.stage() != Stage::Killing {
            self.hands.signals.freeze_again(&self.family());
            for resource in self.hands.spec() {
                if let Resource::Unit { name } = resource {
                    self.hands.signals.freeze_unit_again(name);
                }
            }
        }
    }

    /// While nothing runs here: the trial may take a moment, and one that adopts has to freeze and
    /// to look at the volume first, and does without until it starts something anew.
    pub(super) async fn find_room(&mut self) {
        let why = match tokio::time::timeout(PROBE, aside(cgroup::room)).await {
            Ok(Ok(Ok(room))) => {
                tracing::debug!(room = %room.display(), "programs get cgroups");
                if cgroup::leaves_limits(&room) {
                    tracing::warn!(
                        room = %room.display(),
                        "the group's programs leave the cgroup of the agent, and its limits do not \
                         hold for them; Delegate=yes in the agent's unit keeps them below it"
                    );
                }
                self.room = Some(room);
                return;
            }
            Ok(Ok(Err(why)) | Err(why)) => why,
            Err(_) => "the kernel does not answer".to_owned(),
        };
        if self.no_room != why {
            tracing::info!(why, "programs get no cgroup and are found by their mark");
            self.no_room = why;
        }
    }

    /// What runs is started in cgroups, if it can be, and found by them from now on; until nothing
    /// runs any more, because another life of the warden may find another room. Where something
    /// of an earlier run could not be ended it is found by the same room.
    pub(super) fn take_room(&mut self) {
        if self.past.room.is_some() {
            self.leave_room();
        }
        let has_programs = self.hands.spec().iter().any(|one| matches!(one, Resource::Exec { .. }));
        if self.past.room.is_none() {
            self.past.room = self.room.clone().filter(|_| has_programs);
        }
        // Now, on this thread: a freeze that comes before the first program must find it there.
        let made = self.cgroup().map_or(Ok(()), |cgroup| cgroup.make());
        if let Err(error) = made {
            tracing::warn!(%error, "the group's programs are found by their mark alone");
            self.past.room = None;
        }
        // What could not be ended was left frozen, and what is to start must not be.
        self.still(false);
    }

    /// Nothing runs any more, and nobody waits for this thread.
    pub(super) fn leave_room(&mut self) {
        match self.family().clear_away() {
            Ok(()) => self.past.room = None,
            Err(error) => tracing::warn!(%error, "the group's cgroup stays"),
        }
    }

    /// Whether something of an earlier run is there still, which could not be ended then; also where
    /// that cannot be told.
    pub(super) async fn is_left(&self) -> bool {
        let (family, spec) = (self.family(), self.hands.spec().to_vec());
        let is_mounted = |one: &Resource| match one {
            Resource::Mount { path, .. } => !matches!(mounts::at(Path::new(path)), Ok(None)),
            _ => false,
        };
        let looks = move || !family.is_gone().unwrap_or(false) || spec.iter().any(is_mounted);
        !matches!(tokio::time::timeout(PROBE, aside(looks)).await, Ok(Ok(false)))
    }

    /// How what the group's programs start is found.
    pub(super) fn say_how_found(&self, report: &mut Report) {
        let room = if self.past.owned.is_some() { &self.past.room } else { &self.room };
        let found_by = if room.is_some() { FoundBy::Cgroup } else { FoundBy::Mark };
        for (said, resource) in report.resources.iter_mut().zip(self.hands.spec()) {
            let has_programs = matches!(resource, Resource::Exec { .. });
            said.found_by = has_programs.then_some(found_by);
        }
    }

    /// Do it; what the guard is told, if that was the end.
    pub(super) fn act(&mut self, deed: Deed) -> Option<Input> {
        match deed {
            Deed::Do { resource, step } => self.begin(resource, step),
            Deed::Abort { resource } => self.hands.aborts[resource].notify_one(),
            Deed::Silence => self.give(Sign::Kill),
            Deed::Restarts { resource } => {
                tracing::warn!(resource, "the resource failed and is started again");
            }
            Deed::Up => {
                self.story.error = None;
                tracing::info!("every resource runs");
            }
            Deed::Down(outcome) => return self.down(outcome),
        }
        None
    }

    fn down(&mut self, outcome: Outcome) -> Option<Input> {
        let stays = self.order.group.policy.on_failure == OnFailure::Stop;
        let kept = stays && matches!(outcome, Outcome::Failed { .. });
        self.past.kept = kept.then_some(self.order.group.generation);
        if !matches!(outcome, Outcome::Stuck { .. }) {
            self.leave_room();
        }
        if !kept && !matches!(outcome, Outcome::Stuck { .. }) {
            (self.past.owned, self.past.way) = (None, None);
        }
        self.remember();
        match outcome {
            Outcome::Stopped | Outcome::Killed => Some(Input::Ended { code: 0 }),
            Outcome::Stuck { resource } => {
                self.fails(resource, "cannot be ended");
                Some(Input::Stuck)
            }
            Outcome::Failed { resource } => {
                self.fails(resource, "failed");
                if kept {
                    self.story.because("a resource failed, and the policy is to leave it then");
                    self.hands.kept = self.past.kept;
                    return None;
                }
                self.hands.failed = true;
                Some(Input::Ended { code: 1 })
            }
        }
    }

    fn fails(&mut self, resource: usize, how: &str) {
        let why = self.story.errors.get(resource).cloned().flatten().unwrap_or_default();
        let text = self.hands.spec().get(resource).map(ToString::to_string).unwrap_or_default();
        let error = format!("resource {resource} ({text}) {how}: {why}");
        tracing::error!("{error}");
        self.story.error = Some(error);
    }

    fn begin(&mut self, resource: usize, step: Step) {
        tracing::debug!(resource, ?step, "begins");
        // A new one each time: an abort that came late must not hit the next step.
        let abort: Arc<Notify> = Arc::default();
        self.hands.aborts[resource] = Arc::clone(&abort);
        let place = Place {
            index: resource,
            log: self.home.step_log(resource, step),
            way: self.order.way.clone(),
            environment: self.environment(resource),
            family: self.family_of(resource),
            unborn: self.hands.unborn[resource].clone(),
            abort,
        };
        let (spec, ends) = (self.hands.spec[resource].clone(), self.hands.ends.clone());
        tokio::spawn(async move {
            let result = perform(&place, &spec, step).await;
            // The warden is gone, and with it whoever wanted to know.
            let _ = ends.send(Done { resource, step, result });
        });
    }

    /// What the group's programs are told.
    fn environment(&self, resource: usize) -> Vec<(String, String)> {
        let group = &self.order.group;
        let mut all = vec![
            (MARK, self.order.run_of_host()),
            (RESOURCE_MARK, format!("{}/{resource}", self.order.run_of_host())),
            ("COMMONHOLD_GROUP", group.name.clone()),
            ("COMMONHOLD_HOST", self.order.host_name.clone()),
            ("COMMONHOLD_EPOCH", self.story.epoch.to_string()),
            ("COMMONHOLD_GUARD_KEY", self.key_text()),
            ("COMMONHOLD_DEVICE", self.order.way.device()),
        ];
        if let Way::Portal { initiator, chap, .. } = &self.order.way {
            let isid: String = WRITER_ISID.iter().map(|byte| format!("{byte:02x}")).collect();
            all.push(("COMMONHOLD_INITIATOR", initiator.clone()));
            all.push(("COMMONHOLD_ISID", isid));
            if let Some((user, secret)) = chap {
                all.push(("COMMONHOLD_CHAP_USER", user.clone()));
                all.push(("COMMONHOLD_CHAP_SECRET", secret.clone()));
            }
        }
        all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    pub(super) fn finished(&mut self, done: Done) {
        let Done { resource, step, result } = done;
        let good = result.is_ok();
        match result {
            Ok(()) if matches!(step, Step::Start | Step::Check) => {
                self.story.errors[resource] = None;
            }
            Ok(()) => {}
            Err(why) => {
                tracing::warn!(resource, ?step, why, "did not go well");
                self.story.errors[resource] = Some(why);
            }
        }
        self.resources(Event::Done { resource, step, good });
    }
}
