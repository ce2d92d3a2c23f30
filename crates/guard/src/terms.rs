//! What the machine is told, and what it says.

use crate::wire::{Aged, Ages, FullStatus};
use crate::{Key, Standing};

/// How one sees that an owner lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Liveness {
    /// The target tells how old its last command is.
    Ages,
    /// It cannot: the owner registers its key again and again, and PRGENERATION moves.
    Generation,
}

/// What the guard is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Task {
    /// Run a command while the volume is held.
    Hold,
    /// Take the volume, and be done.
    Attack,
    /// Watch over a volume that [`Task::Attack`] took, until it is lost.
    Defend,
    /// Go on as the owner whose guard ended while its command did not: with the same key, and
    /// with nothing started. The command is frozen already, and thaws when the volume has shown
    /// that it was not lost meanwhile.
    Adopt,
}

/// Times in milliseconds, and what to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    pub task: Task,
    pub liveness: Liveness,
    /// Between two signs of life of an owner.
    pub beat_ms: u64,
    /// An owner that has not been confirmed for so long freezes its command. Less than
    /// `takeover_ms`, or the command still runs while another host takes over.
    pub freeze_ms: u64,
    /// An owner that has been silent for so long may be replaced.
    pub takeover_ms: u64,
    /// Waited before a claim, so that a preferred host comes first.
    pub delay_ms: u64,
    /// Between asking the command to end and killing it.
    pub stop_ms: u64,
    /// An owner that has not been confirmed for so long stops its command for good.
    pub give_up_ms: u64,
    /// How long to wait for the volume; `None`: for ever.
    pub wait_ms: Option<u64>,
    /// Other initiator ports of this host are to be registered before the command starts. Those of
    /// several paths are in any case.
    pub admits: bool,
}

/// What the hosts' own messages say about a takeover; the volume has the last word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Advice {
    /// Waited before a claim, besides [`Settings::delay_ms`].
    pub delay_ms: u64,
    /// Whether an owner that the volume shows as silent may be replaced. One that left may always.
    pub strikes: bool,
    /// A host that comes first does not know yet what is wanted, or this one does not: nothing is
    /// claimed, and the delay begins when it does.
    pub waits: bool,
}

impl Default for Advice {
    fn default() -> Self {
        Self { delay_ms: 0, strikes: true, waits: false }
    }
}

/// Why a command has to end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// Somebody wants it.
    Asked,
    /// Another host holds the volume.
    Lost,
    /// The volume, or a path to it that may be registered yet, has not answered for too long.
    Unreachable,
}

/// What to send to the volume. One at a time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Request {
    /// READ FULL STATUS, and the ages where there are any.
    Look,
    /// REGISTER AND IGNORE EXISTING KEY of the claiming form, with APTPL.
    Claim(Key),
    /// REGISTER from the claiming form to the key itself: nothing of an earlier owner can land.
    Prove(Key),
    /// RESERVE, by the claiming form, where nobody holds anything.
    Reserve(Key),
    /// PREEMPT AND ABORT, by the form of the key that is registered.
    Preempt { own: Key, victim: u64 },
    /// LOGICAL UNIT RESET: it answers when no earlier command can land any more.
    Reset,
    /// REGISTER of the host's other ports with the key itself.
    Admit(Key),
    /// REGISTER with the own key, to the same key: a sign of life. Never the ignoring kind, which
    /// would bring a fenced host back.
    Renew(Key),
    /// REGISTER from the own key to its vacant form.
    Vacate(Key),
}

/// Who is registered, and who holds.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Seen {
    pub generation: u32,
    /// The holder's key.
    pub holder: Option<u64>,
    /// The key of every registration.
    pub keys: Vec<u64>,
    /// Since the owner's last command, where the target tells; see [`Seen::of`].
    pub age_ms: Option<u64>,
}

impl Seen {
    /// Ages of another generation than the status are those of another moment, and are left out.
    /// Whose age counts: [`Key::by_paths`].
    #[must_use]
    pub fn of(status: &FullStatus, ages: Option<&Ages>) -> Self {
        let holder = status.registrations.iter().find(|one| one.holder).map(|one| one.key);
        let by_paths = holder.and_then(Key::of).is_some_and(Key::is_by_paths);
        let ages = ages.filter(|ages| ages.generation == status.generation);
        let counts = |one: &&Aged| one.holder || by_paths && Some(one.key) == holder;
        let aged = ages.iter().flat_map(|ages| &ages.registrants).filter(counts);
        let aged = aged.filter_map(|one| one.age_ms);
        Self {
            generation: status.generation,
            holder,
            keys: status.registrations.iter().map(|one| one.key).collect(),
            age_ms: aged.min().map(u64::from),
        }
    }
}

/// What came back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    Seen(Seen),
    Good,
    Conflict,
    /// No answer, or another status: whether it was done is not known.
    Failed,
}

/// What happens to the machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Input {
    /// Time has passed.
    Tick,
    /// The end of the one request that was asked.
    Answer(Answer),
    /// The command has ended, and nothing of it runs.
    Ended { code: u8 },
    /// The command cannot be ended: something of it may be left for good.
    Stuck,
    /// Somebody wants the guard to end in good order.
    Stop,
    /// What is written has been held back for too long.
    HeldUp,
}

/// What to do, in this order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    Ask(Request),
    /// Make the record durable before going on.
    Remember(Standing),
    Start,
    /// The command must not run until [`Action::Thaw`]: SIGSTOP.
    Freeze,
    Thaw,
    /// Ask the command to end.
    Terminate(Why),
    Kill,
    Over(End),
}

/// How it ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// The command ended by itself, or because the guard was asked to.
    Done { code: u8 },
    /// The volume is held.
    Held,
    /// Another host has the volume; the command was stopped.
    Lost,
    /// The volume was out of reach for too long; the command was stopped.
    Unreachable,
    /// Something of the command is left over; this host stays out like one that lost the volume.
    Stuck,
    /// An earlier run of this host lost the volume and nobody has permitted another.
    Fenced,
    /// Something that is no guard holds the volume.
    Foreign,
    /// The owner lived on for as long as was to be waited.
    GaveUp,
    /// Asked to stop before anything was held.
    Stopped,
}
