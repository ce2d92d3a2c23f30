//! The warden: see the head of [`super`]. Here is its life; what it does to resources is in
//! [`super::hands`].

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ::guard::group::{Conduct, Course, Event, Happened, Move, Stage, Wish};
use ::guard::{
    Advice, End, Input, Key, Liveness, Machine, Seen, Settings, Standing, State, Task, Why,
    host_number,
};
use env::processes;
use env::{OsRandom, Random, RealClock};
use model::group::{self, BEAT_MS, Wanted};
use tokio::sync::{Notify, mpsc};

use super::aside;
use super::hands::Hands;
use super::home::{EARLIER, Home, Order, Past, Way};
use super::neighbours::Neighbours;
use super::story::{Story, standing_of};
use crate::guard::{Guard, GuardError, Heirs, Record, RecordError, Work, millis};

const TICK_MS: u64 = 50;
const ORDER_MS: u64 = 200;
const REPORT_MS: u64 = 500;
/// While all of it is to stand still, the freeze is given so often.
const STILL_MS: u64 = 100;
/// An owner that the volume does not answer for so long stops for good, at the least.
const GIVE_UP_MS: u64 = 30_000;
/// How long a resource that is ended by force may take, with some room.
const FORCE_MS: u64 = 5_000;
pub(super) const PROBE: Duration = Duration::from_secs(3);

/// Why a warden cannot do its work at all.
#[derive(Debug, thiserror::Error)]
pub enum WardenError {
    #[error("{0} has no order; the agent writes it")]
    NoOrder(String),
    #[error("{0}")]
    Record(#[from] RecordError),
    #[error("the group's files cannot be kept: {0}")]
    Files(#[from] io::Error),
    #[error("{0}")]
    Guard(#[from] GuardError),
}

/// How somebody asks a warden to end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ends {
    /// Stop the group here in good order first.
    Stop,
    /// Leave everything as it runs: the next warden adopts it.
    HandOver,
}

/// One group on this host.
pub struct Warden {
    pub(super) home: Home,
    pub(super) order: Order,
    pub(super) past: Past,
    pub(super) hands: Hands,
    pub(super) story: Story,
    /// Where cgroups can be made.
    pub(super) room: Option<PathBuf>,
    /// Why nowhere, as was said last.
    pub(super) no_room: String,
    clock: Arc<RealClock>,
    pub(super) conduct: Conduct,
    neighbours: Neighbours,
    asks: mpsc::Receiver<Ends>,
    stops: mpsc::Sender<()>,
    /// The next run is to have another way to the volume than this one.
    pub(super) rewires: bool,
    /// The run, or the idle host, is to begin one.
    begins: bool,
    pub(super) permits: bool,
    /// What the run is told next.
    outcome: Option<Input>,
    closing: bool,
    handing: bool,
    handed: Arc<Notify>,
    key: Option<Key>,
    pub(super) liveness: Option<Liveness>,
    tick_ms: u64,
    order_ms: u64,
    still_ms: u64,
    report_ms: u64,
}

impl Warden {
    /// Take the group's directory over. `asks` is heard while the warden runs.
    ///
    /// # Errors
    /// Another warden runs there, or its files cannot be used.
    pub fn open(home: Home, asks: mpsc::Receiver<Ends>) -> Result<(Self, Record), WardenError> {
        let record = Record::open(home.path(), Heirs::Nobody)?;
        let none = || WardenError::NoOrder(home.path().display().to_string());
        let order = home.order()?.ok_or_else(none)?;
        let mut past = home.past()?;
        past.lives += 1;
        home.remember(&past)?;
        home.settle_in()?;
        let neighbours = Neighbours::open(&home, &order, past.lives)?;
        let kept = ::guard::group::Past { fenced: past.fenced, failed: past.failed };
        let (stops, _) = mpsc::channel(1);
        let warden = Self {
            conduct: Conduct::new(kept, None),
            hands: Hands::new(&order),
            story: Story::new(order.group.resources.len(), 0),
            room: None,
            no_room: String::new(),
            clock: Arc::new(RealClock::default()),
            neighbours,
            asks,
            stops,
            rewires: false,
            begins: false,
            permits: false,
            outcome: None,
            closing: false,
            handing: false,
            handed: Arc::default(),
            key: None,
            liveness: None,
            tick_ms: 0,
            order_ms: 0,
            still_ms: 0,
            report_ms: 0,
            home,
            order,
            past,
        };
        Ok((warden, record))
    }

    /// Until it is asked to end; how it was asked. The directory is free for the next one then.
    ///
    /// # Errors
    /// [`WardenError`]; nothing of the group runs then, unless it says so in its report.
    pub async fn run(mut self, mut record: Record) -> Result<Ends, WardenError> {
        let mut adopts = self.inherit(&mut record).await?;
        loop {
            if !adopts && self.room.is_none() {
                self.find_room().await;
            }
            while !adopts && !self.begins {
                self.permit(&mut record).await?;
                let hands_over = self.handing && self.may_hand_over(self.now_ms());
                if hands_over || self.closing && self.hands.stage() == Stage::Down {
                    return Ok(self.close());
                }
                self.live().await;
            }
            self.begins = false;
            self.permit(&mut record).await?;
            let handed = Arc::clone(&self.handed);
            let end = tokio::select! {
                end = self.contend(&mut record, adopts) => end,
                () = handed.notified() => return Ok(self.close()),
            };
            adopts = false;
            if self.hands.stage() != Stage::Down {
                // What was adopted has no guard: the volume cannot be asked.
                self.resources(Event::Lost);
            }
            while self.hands.stage() != Stage::Down {
                self.live().await;
            }
            self.over(end?);
        }
    }

    /// What an earlier warden has left: adopted if the record says that this host owns the group,
    /// ended else. Of an earlier boot of the machine nothing is left.
    async fn inherit(&mut self, record: &mut Record) -> Result<bool, WardenError> {
        let standing = record.load()?;
        let boot = processes::boot_id()?;
        let Some((began, _)) = self.past.owned.clone().filter(|(_, then)| *then == boot) else {
            (self.past.owned, self.past.kept, self.past.way) = (None, None, None);
            self.leave_room();
            self.home.remember(&self.past)?;
            if self.past.fenced == Some(EARLIER) {
                self.story.because("this host lost the volume under a group that is deleted");
            }
            return Ok(false);
        };
        // What runs goes on by the way that it was started by, whatever the agent has for the next.
        if let Some(way) = &self.past.way {
            self.order.way = way.clone();
        }
        let key = standing.keys.last().filter(|_| standing.state == State::Running);
        if let Some(key) = key {
            tracing::info!(%key, "what an earlier warden has started is adopted");
            self.key = Some(*key);
            self.story.took(*key);
            self.story.because("the agent was restarted; what ran was adopted");
            let past = ::guard::group::Past { fenced: self.past.fenced, failed: self.past.failed };
            self.conduct = Conduct::new(past, Some(began));
            // Until the volume has shown that it is still this host's.
            self.still(true);
            self.hands.kept = self.past.kept;
            if self.hands.kept.is_none() {
                self.resources(Event::Suspend);
                self.resources(Event::Adopt);
            }
            return Ok(true);
        }
        self.story.because("what an earlier agent had left was ended");
        self.resources(Event::Lost);
        while self.hands.stage() != Stage::Down {
            self.live().await;
        }
        self.outcome = None;
        Ok(false)
    }

    /// What a person has permitted.
    pub(super) async fn permit(&mut self, record: &mut Record) -> Result<(), WardenError> {
        if !std::mem::take(&mut self.permits) {
            return Ok(());
        }
        let standing = record.load()?;
        // The keys stay: the volume may still show one of them as the holder.
        let clean = Standing { state: State::Clean, ..standing };
        record.save(&clean)?;
        // What a person has ended keeps no session from being made; what is still there does.
        if !self.is_left().await {
            (self.past.owned, self.past.way) = (None, None);
            self.home.remember(&self.past)?;
        }
        self.story.because("a person permitted this host to try again");
        Ok(())
    }

    /// The last report says where it stands.
    fn close(&mut self) -> Ends {
        self.publish(true);
        if self.handing { Ends::HandOver } else { Ends::Stop }
    }

    pub(super) fn key_text(&self) -> String {
        self.key.map(|key| key.to_string()).unwrap_or_default()
    }

    pub(super) fn now_ms(&self) -> u64 {
        millis(&*self.clock)
    }

    /// One run of the guard.
    async fn contend(&mut self, record: &mut Record, adopts: bool) -> Result<End, WardenError> {
        let (stops, mut asked) = mpsc::channel(4);
        self.stops = stops;
        self.outcome = None;
        // One that is adopted writes already, which the agent knows by its past.
        let hold = self.home.hold();
        if !adopts {
            if let Err(why) = &hold {
                return Ok(self.unreachable(format!("its sessions are being made: {why}")));
            }
            if let Err(why) = self.rewire() {
                return Ok(self.unreachable(why));
            }
            if let Some(why) = self.unfit() {
                self.story.error = Some(why);
                self.hands.failed = true;
                return Ok(End::Done { code: 1 });
            }
        }
        let (volume, liveness) = match self.reach(adopts).await {
            Ok(reached) => reached,
            Err(why) => return Ok(self.unreachable(why)),
        };
        let standing = record.load()?;
        let (standing, key) = match self.key.filter(|_| adopts) {
            Some(key) => (standing, key),
            None => {
                self.liveness = Some(liveness);
                let host = host_number(&self.order.host.to_string());
                let begun = self.order.way.begin(&standing, host, nonce());
                record.save(&begun.0)?;
                begun
            }
        };
        self.key = Some(key);
        let clock = Arc::clone(&self.clock);
        let guard = Guard {
            machine: Machine::new(self.settings(liveness, adopts), standing, key, self.now_ms()),
            volume,
            work: self,
            record,
            clock: &*clock,
            stops: &mut asked,
        };
        match guard.run().await {
            Ok(end) => Ok(end),
            Err(error) => {
                self.resources(Event::Lost);
                while self.hands.stage() != Stage::Down {
                    self.live().await;
                }
                Err(error.into())
            }
        }
    }

    /// What a later life should know; this one does without.
    pub(super) fn remember(&self) {
        if let Err(error) = self.home.remember(&self.past) {
            tracing::error!(%error, "what happened cannot be remembered");
        }
    }

    fn unreachable(&mut self, why: String) -> End {
        tracing::debug!(why, "the volume cannot be reached");
        self.story.because("the volume cannot be reached from here");
        self.story.error = Some(format!("the volume cannot be reached: {why}"));
        End::Unreachable
    }

    fn settings(&self, liveness: Liveness, adopts: bool) -> Settings {
        let policy = &self.order.group.policy;
        Settings {
            task: if adopts { Task::Adopt } else { Task::Hold },
            liveness,
            beat_ms: BEAT_MS,
            freeze_ms: policy.freeze_ms,
            takeover_ms: policy.takeover_ms,
            delay_ms: 0,
            // The resources have limits of their own; this one comes after all of them.
            stop_ms: self.hands.terms().iter().map(|one| one.stop_ms + FORCE_MS).sum::<u64>()
                + FORCE_MS,
            give_up_ms: GIVE_UP_MS.max(policy.takeover_ms * 2),
            wait_ms: None,
            admits: matches!(self.order.way, Way::Portal { .. }),
        }
    }

    fn over(&mut self, end: End) {
        let by = self.neighbours.holder_name(&self.order).unwrap_or("another host".to_owned());
        tracing::info!(?end, "the run is over");
        let why = match end {
            End::Lost | End::Fenced => {
                format!("{by} took the volume over; nothing more of this host can land on it")
            }
            End::Stuck => "a resource could not be stopped; this host keeps out of it".to_owned(),
            End::Foreign => {
                self.story.error = Some(
                    "clear the registrations with `commonhold volume clear-reservations`"
                        .to_owned(),
                );
                "something that is no guard is registered at the volume".to_owned()
            }
            End::Done { .. } if self.hands.failed => "its resources failed".to_owned(),
            // Why it was asked to stop, or could not be had, has been said.
            _ => String::new(),
        };
        self.neighbours.forget_holder();
        self.liveness = self.liveness.filter(|_| end != End::Unreachable);
        if !why.is_empty() {
            self.story.because(why);
        }
        let failed = std::mem::take(&mut self.hands.failed);
        self.happened(Happened::Over { end, failed });
    }

    fn wish(&self) -> Wish {
        let group = &self.order.group;
        let other = group.owner_id.is_some_and(|owner| owner != self.order.host);
        // An owner keeps the way that it has; a host that stands by begins anew by the other.
        let rewires = self.rewires && !matches!(self.conduct.course(), Course::Owning { .. });
        Wish {
            generation: group.generation,
            forgiven: group.forgiven,
            started: group.wanted == Wanted::Started && !self.closing,
            frozen: (group.frozen || rewires) && !self.closing,
            moved_away: other.then_some(group.moved),
            permitted: Some(group.permitted),
            failback: group.policy.failback,
        }
    }

    fn happened(&mut self, happened: Happened) {
        let (now_ms, wish) = (self.now_ms(), self.wish());
        for step in self.conduct.on(now_ms, &wish, happened) {
            match step {
                Move::Remember(past) => {
                    // The guard's own record says `fenced` as well.
                    (self.past.fenced, self.past.failed) = (past.fenced, past.failed);
                    self.remember();
                }
                Move::Permit => self.permits = true,
                Move::Begin => self.begins = true,
                Move::End => {
                    self.story.because(self.why_it_leaves());
                    // A run that is over needs no second word.
                    let _ = self.stops.try_send(());
                }
            }
        }
        self.publish(false);
    }

    fn why_it_leaves(&self) -> &'static str {
        let wish = self.wish();
        match (wish.started, wish.frozen, wish.moved_away) {
            (false, _, _) if self.closing => "the agent of this host is ending",
            (false, _, _) => "the group was stopped",
            (true, true, _) if self.rewires => "this host is to reach the volume by another way",
            (true, true, _) => "the group was frozen",
            (true, false, Some(_)) => "the group was moved to another host",
            (true, false, None) => "a preferred host is back",
        }
    }

    /// Tell the resources, and do what they say.
    pub(super) fn resources(&mut self, event: Event) {
        let now_ms = self.now_ms();
        for deed in self.hands.on(now_ms, event) {
            if let Some(input) = self.act(deed) {
                self.outcome = Some(input);
            }
        }
        // Where an end leads is said when the run is over.
        if self.outcome.is_none() {
            self.publish(false);
        }
    }

    /// Wait for whatever comes next, and deal with it. Dropping the future loses nothing.
    async fn live(&mut self) {
        let now_ms = self.now_ms();
        if now_ms >= self.tick_ms {
            self.tick(now_ms);
        } else if now_ms >= self.hands.wake_ms() {
            self.resources(Event::Tick);
        }
        let wake_ms = self.hands.wake_ms().min(self.tick_ms);
        let wait = Duration::from_millis(wake_ms.saturating_sub(self.now_ms()));
        tokio::select! {
            biased;
            done = self.hands.done() => self.finished(done),
            bytes = self.neighbours.beats.arrived() => {
                let now_ms = self.now_ms();
                self.neighbours.beats.hear(now_ms, &bytes);
            }
            Some(asked) = self.asks.recv() => match asked {
                Ends::Stop => self.closing = true,
                Ends::HandOver => self.handing = true,
            },
            () = tokio::time::sleep(wait) => {}
        }
    }

    fn tick(&mut self, now_ms: u64) {
        self.tick_ms = now_ms + TICK_MS;
        if now_ms >= self.order_ms {
            self.order_ms = now_ms + ORDER_MS;
            self.follow();
            self.forgive();
        }
        if self.neighbours.senior_is_ready(now_ms, &self.order) {
            self.happened(Happened::SeniorReady);
        } else {
            self.happened(Happened::Tick);
        }
        self.resources(Event::Tick);
        if now_ms >= self.still_ms {
            self.still_ms = now_ms + STILL_MS;
            self.still_again();
        }
        self.neighbours.tick(now_ms, &self.order, self.conduct.course());
        if now_ms >= self.report_ms {
            self.publish(true);
        }
        if self.handing && self.may_hand_over(now_ms) {
            self.handed.notify_one();
        }
    }

    /// Not in the middle of something: a run that is ending has its reasons to tell, and an owner
    /// that the volume does not answer has to freeze and to end by itself. It is asked again.
    fn may_hand_over(&self, now_ms: u64) -> bool {
        let settled = match (self.conduct.course(), self.hands.stage()) {
            (Course::Owning { .. }, Stage::Up) => !self.hands.machine().is_suspended(),
            (Course::Owning { .. }, Stage::Down) => self.hands.kept.is_some(),
            (Course::Idle(_) | Course::Contending, Stage::Down) => true,
            _ => false,
        };
        let owns = matches!(self.conduct.course(), Course::Owning { .. });
        let reaches = !owns || self.neighbours.reaches(now_ms);
        settled && reaches && self.outcome.is_none() && !self.hands.failed && aside::is_idle()
    }

    /// Read the order again. What cannot be read is not followed; what ran goes on.
    fn follow(&mut self) {
        let order = match self.home.order() {
            Ok(Some(order)) => order,
            Ok(None) => return,
            Err(error) => return tracing::warn!(%error, "the order cannot be read"),
        };
        let order = self.with_its_way(order);
        if order == self.order {
            return;
        }
        if order.way != self.order.way {
            self.liveness = None;
        }
        self.neighbours.beats.follow(&order);
        self.hands.follow_policy(&order);
        self.order = order;
        if self.hands.stage() == Stage::Down && self.hands.kept.is_none() {
            self.hands.follow(&self.order);
            self.story.errors.resize(self.order.group.resources.len(), None);
        }
        self.resources(Event::Frozen(self.order.group.frozen));
    }

    /// What failed and is kept here ends when it is forgiven.
    fn forgive(&mut self) {
        if self.hands.kept.is_some_and(|kept| self.order.group.forgiven > kept) {
            self.hands.kept = None;
            (self.past.kept, self.past.owned, self.past.way) = (None, None, None);
            self.remember();
            self.outcome = Some(Input::Ended { code: 1 });
        }
    }

    /// Write the report, if it says something new or `always`.
    fn publish(&mut self, always: bool) {
        let now_ms = self.now_ms();
        let kept = self.hands.kept.is_some();
        let mut standing = standing_of(self.conduct.course(), self.hands.stage(), kept);
        let was_out_of_reach = self.story.standing() == group::Standing::Unreachable;
        if standing == group::Standing::Standby && was_out_of_reach {
            // It tries again, which is no news.
            let reaches = self.neighbours.reaches(now_ms);
            standing = if reaches { standing } else { group::Standing::Unreachable };
        }
        if !self.story.turn(now_ms, standing) && !always {
            return;
        }
        self.report_ms = now_ms + REPORT_MS;
        let owner = match standing {
            standing if standing.owns() => Some(self.order.host),
            group::Standing::Standby | group::Standing::Claiming => {
                self.neighbours.owner(&self.order)
            }
            _ => None,
        };
        let group = (self.order.group.id, self.order.group.generation, owner);
        let peers = self.neighbours.beats.reports(now_ms);
        let mut report = self.story.report(now_ms, group, self.hands.machine(), peers);
        self.say_how_found(&mut report);
        report.error = report.error.or_else(|| self.neighbours.trouble(now_ms, &self.order));
        if let Err(error) = self.home.give_report(&report) {
            tracing::warn!(%error, "the report cannot be written");
        }
    }
}

impl Work for Warden {
    fn start(&mut self) -> io::Result<()> {
        self.past.owned = Some((self.order.group.generation, processes::boot_id()?));
        self.past.way = Some(self.order.way.clone());
        self.take_room();
        self.home.remember(&self.past)?;
        if let Some(key) = self.key {
            self.story.took(key);
        }
        let why = match self.neighbours.previous(&self.order) {
            Some(name) => format!("{name} had been silent, and its volume was taken over"),
            None => "nobody held the volume".to_owned(),
        };
        self.story.because(why);
        self.happened(Happened::Held);
        self.resources(Event::Held);
        Ok(())
    }

    fn freeze(&mut self) {
        self.still(true);
        self.resources(Event::Suspend);
    }

    fn thaw(&mut self) {
        self.still(false);
        self.resources(Event::Resume);
    }

    fn terminate(&mut self, why: Why) {
        if why == Why::Asked {
            self.still(false);
            self.resources(Event::Resume);
            self.hands.kept = None;
            self.resources(Event::Stop);
        } else {
            self.story.because(match why {
                Why::Lost => "another host took the volume over",
                _ => "the volume could not be reached for too long",
            });
            self.hands.kept = None;
            self.resources(Event::Lost);
        }
    }

    fn kill(&mut self) {
        self.resources(Event::Lost);
    }

    async fn ended(&mut self) -> Input {
        loop {
            if let Some(input) = self.outcome.take() {
                return input;
            }
            self.live().await;
        }
    }

    fn seen(&mut self, now_ms: u64, seen: &Seen) -> Advice {
        self.neighbours.seen(now_ms, seen, self.key);
        self.neighbours.advice(now_ms, &self.order)
    }
}

fn nonce() -> u16 {
    let mut bytes = [0; 2];
    OsRandom.fill(&mut bytes);
    u16::from_be_bytes(bytes)
}
