//! `commonhold guard`: one owner of a shared volume at a time, with or without our target.
//!
//! Entry point: [`GuardCommand::run`]. The verbs speak to the volume, not to the service.

mod child;
mod place;
mod status;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use env::{OsRandom, Random, RealClock};
use guard::{End, Key, Machine, Settings, Standing, State, Task};
use host::guard::{
    ClaimError, Command, GateError, Guard, GuardError, Heirs, Record, RecordError, Volume,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::failure::Failure;
use crate::log;
use crate::output::{Format, note};
use crate::settings::LogFormat;
use place::PlaceArguments;

/// What scripts go by.
const EXIT_CODES: &str = "\
Exit codes of hold, attack and defend:
  0    the volume is held (attack), or it was asked to stop and did (defend)
  n    hold passes on the exit code of the command that ended by itself
  120  lost: another host holds the volume; the command was stopped
  121  this host lost the volume earlier; `guard permit` lets it try again
  122  the volume could not be reached for too long; the command was stopped
  123  the owner is alive, and was for as long as was to be waited
  124  the volume is held by something that is no guard
  125  the guard itself failed, or may not begin: another one runs here, or something of an
       earlier one is left";

const LOG: &str = "COMMONHOLD_LOG";
/// Each change of the command's standing; what is asked of the volume is `host=debug`.
const LEVELS: &str = "info";
/// RESERVATION CONFLICT.
const CONFLICT: u8 = 0x18;
const LOST: u8 = 120;
const FENCED: u8 = 121;
const UNREACHABLE: u8 = 122;
const ALIVE: u8 = 123;
const FOREIGN: u8 = 124;
const FAILED: u8 = 125;

#[derive(Subcommand, Debug)]
#[command(after_long_help = EXIT_CODES)]
pub(crate) enum GuardCommand {
    /// Wait for the volume, run a command while it is held, stop the command when it is lost
    Hold {
        #[command(flatten)]
        place: PlaceArguments,
        #[command(flatten)]
        times: TimeArguments,
        /// Give up when the volume could not be had for so long
        #[arg(long, value_name = "MS")]
        patience_ms: Option<u64>,
        /// The command and its arguments
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
    /// Take the volume over if its owner is silent, and return: for start scripts
    Attack {
        #[command(flatten)]
        place: PlaceArguments,
        #[command(flatten)]
        times: TimeArguments,
        /// Give up when the owner was alive for so long
        #[arg(long, value_name = "MS", default_value_t = 5_000)]
        patience_ms: u64,
    },
    /// Watch over a volume that `attack` took; ends when it is lost: for monitor scripts
    Defend {
        #[command(flatten)]
        place: PlaceArguments,
        #[command(flatten)]
        times: TimeArguments,
    },
    /// Who holds the volume, how old its last command is, and where this host stands
    Status {
        #[command(flatten)]
        place: PlaceArguments,
    },
    /// Say that nobody runs here any more, so that another host need not wait: for stop scripts
    Release {
        #[command(flatten)]
        place: PlaceArguments,
        /// Give the reservation up altogether: afterwards nothing keeps an old owner out
        #[arg(long)]
        unreserve: bool,
    },
    /// Let a host that lost the volume try again, once nothing of its old life is left
    Permit {
        #[command(flatten)]
        place: PlaceArguments,
    },
    /// Run a command that dies with the guard
    #[command(hide = true)]
    Child {
        guard: u32,
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
}

/// The clock of a takeover.
#[derive(Args, Debug, Clone, Copy)]
pub(crate) struct TimeArguments {
    /// Between two signs of life
    #[arg(long, value_name = "MS", default_value_t = 100)]
    beat_ms: u64,
    /// Freeze the command when the volume has not answered for so long
    #[arg(long, value_name = "MS", default_value_t = 350)]
    freeze_ms: u64,
    /// Take over from an owner that has been silent for so long; equal on all hosts
    #[arg(long, value_name = "MS", default_value_t = 500)]
    takeover_ms: u64,
    /// Wait so long before a takeover, so that another host comes first
    #[arg(long, value_name = "MS", default_value_t = 0)]
    delay_ms: u64,
    /// Between SIGTERM and SIGKILL
    #[arg(long, value_name = "MS", default_value_t = 2_000)]
    stop_ms: u64,
    /// Stop the command for good when the volume, or a path that is being registered, has not
    /// answered for so long
    #[arg(long, value_name = "MS", default_value_t = 30_000)]
    give_up_ms: u64,
}

impl TimeArguments {
    fn check(self) -> Result<Self, Failure> {
        let fits = self.beat_ms > 0
            && self.beat_ms * 2 < self.freeze_ms
            && self.freeze_ms < self.takeover_ms
            && self.freeze_ms < self.give_up_ms;
        if fits {
            return Ok(self);
        }
        Err(Failure::Usage {
            message: "the times do not go together".to_owned(),
            hint: "--beat-ms must be less than half of --freeze-ms, and --freeze-ms less than \
                   --takeover-ms and --give-up-ms: an owner that is cut off must notice before \
                   another one takes over."
                .to_owned(),
        })
    }
}

impl GuardCommand {
    pub(crate) async fn run(self, format: Format) -> Result<ExitCode, Failure> {
        match self {
            Self::Hold { place, times, patience_ms, command } => {
                let shim = child::line(&command)?;
                take(&place, Task::Hold, times, patience_ms, shim).await
            }
            Self::Attack { place, times, patience_ms } => {
                take(&place, Task::Attack, times, Some(patience_ms), Vec::new()).await
            }
            Self::Defend { place, times } => {
                take(&place, Task::Defend, times, None, Vec::new()).await
            }
            Self::Status { place } => status::show(&place, format).await,
            Self::Release { place, unreserve } => release(&place, unreserve).await,
            Self::Permit { place } => permit(&place),
            Self::Child { guard, command } => child::become_command(guard, &command),
        }
    }
}

async fn take(
    place: &PlaceArguments,
    task: Task,
    times: TimeArguments,
    wait_ms: Option<u64>,
    line: Vec<OsString>,
) -> Result<ExitCode, Failure> {
    let times = times.check()?;
    let levels = std::env::var(LOG).unwrap_or_else(|_| LEVELS.to_owned());
    log::start(&levels, LogFormat::Text)?;
    let mut record = open(place)?;
    let standing = record.load().map_err(unusable)?;
    let mut volume = claimed(place).await?;
    // Who is refused has not become the last who took the volume.
    volume.make_way(task).await.map_err(|error| failed(&GuardError::Gate(error)))?;
    let liveness = volume.probe().await.map_err(|error| unreachable(place, &error.to_string()))?;
    let (standing, key) = match task {
        Task::Defend | Task::Adopt => (standing.clone(), attacked(&standing)?),
        Task::Hold | Task::Attack => {
            let (host, nonce) = (place.host_id()?, nonce());
            let begun = match volume.gate_path() {
                Some(_) => standing.begin_by_paths(host, nonce),
                None => standing.begin(host, nonce),
            };
            record.save(&begun.0).map_err(unkept)?;
            begun
        }
    };
    let settings = Settings {
        task,
        liveness,
        beat_ms: times.beat_ms,
        freeze_ms: times.freeze_ms,
        takeover_ms: times.takeover_ms,
        delay_ms: times.delay_ms,
        stop_ms: times.stop_ms,
        give_up_ms: times.give_up_ms,
        wait_ms,
        admits: place.has_ports(),
    };
    let clock = RealClock::default();
    let environment = vec![
        ("COMMONHOLD_GUARD_KEY", key.to_string()),
        ("COMMONHOLD_GUARD_DEVICE", volume.gate_path().unwrap_or(place.device().to_owned())),
    ];
    let guard = Guard {
        machine: Machine::new(settings, standing, key, 0),
        volume,
        work: &mut Command::new(line, environment),
        record: &mut record,
        clock: &clock,
        stops: &mut stops()?,
    };
    let end = guard.run().await.map_err(|error| failed(&error))?;
    told(place, end)
}

fn open(place: &PlaceArguments) -> Result<Record, Failure> {
    Record::open(&place.state_directory()?, Heirs::Children).map_err(unusable)
}

/// The volume, whose gate, where it has one, no other guard of this host touches.
async fn claimed(place: &PlaceArguments) -> Result<Volume, Failure> {
    let mut volume = place.volume().await?;
    let refused = |error| failed(&GuardError::Gate(error));
    volume.claim(&place.state_directory()?, Heirs::Children).await.map_err(refused)?;
    Ok(volume)
}

fn unkept(why: std::io::Error) -> Failure {
    Failure::Io { what: "the guard's record".to_owned(), why }
}

fn unusable(error: RecordError) -> Failure {
    let (hint, code) = match &error {
        RecordError::Busy(_) => ("End it first, by SIGTERM.".to_owned(), FAILED),
        RecordError::Left { lock, .. } => (
            format!(
                "End them, or restart the host: what they write would land beside the next \
                 command. `fuser {}` names them, too.",
                lock.display()
            ),
            FAILED,
        ),
        RecordError::Malformed { .. } => (
            "It may have said that this host is fenced. See that nothing of it runs, then \
             `commonhold guard permit` begins a new record."
                .to_owned(),
            FENCED,
        ),
        RecordError::Io { .. } => {
            ("Give --state a directory that can be written.".to_owned(), FAILED)
        }
    };
    Failure::Guard { message: error.to_string(), hint, code }
}

/// The key that `attack` took the volume with.
fn attacked(standing: &Standing) -> Result<Key, Failure> {
    match (standing.state, standing.keys.last()) {
        (State::Running, Some(key)) => Ok(*key),
        (State::Fenced, _) => Err(fenced()),
        _ => Err(Failure::Guard {
            message: "there is nothing to defend: this host has not taken the volume".to_owned(),
            hint: "Run `commonhold guard attack` with the same --device and --state first."
                .to_owned(),
            code: FAILED,
        }),
    }
}

fn nonce() -> u16 {
    let mut bytes = [0; 2];
    OsRandom.fill(&mut bytes);
    u16::from_be_bytes(bytes)
}

/// SIGTERM, SIGINT and SIGHUP ask the guard to end in good order.
fn stops() -> Result<mpsc::Receiver<()>, Failure> {
    let (asks, stops) = mpsc::channel(4);
    for kind in [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()] {
        let failed = |why| Failure::Io { what: "signals cannot be heard".to_owned(), why };
        let mut heard = signal(kind).map_err(failed)?;
        let asks = asks.clone();
        tokio::spawn(async move {
            while heard.recv().await.is_some() && asks.send(()).await.is_ok() {}
        });
    }
    Ok(stops)
}

/// The end in a sentence.
fn told(place: &PlaceArguments, end: End) -> Result<ExitCode, Failure> {
    let device = place.device();
    let (message, hint, code) = match end {
        End::Done { code } => return Ok(ExitCode::from(code)),
        End::Held => {
            note(&format!("{device} is held by this host."));
            return Ok(ExitCode::SUCCESS);
        }
        End::Stopped => {
            note("Stopped, as asked.");
            return Ok(ExitCode::SUCCESS);
        }
        End::Fenced => return Err(fenced()),
        End::Lost => (
            format!("{device} was taken over by another host; nothing of this one can land on it"),
            "`commonhold guard status` says by whom. When nothing of the old life is left here \
             (mounts, processes), `commonhold guard permit` lets this host try again.",
            LOST,
        ),
        End::Unreachable => (
            format!("{device} could not be reached for too long"),
            "Check the network and the target, then start again; if another host took over \
             meanwhile, the next start says so.",
            UNREACHABLE,
        ),
        End::Stuck => (
            format!("the command cannot be ended; {device} is left to the other hosts"),
            "See what holds it up, end it or reboot; then `commonhold guard permit`.",
            FAILED,
        ),
        End::Foreign => (
            format!("{device} has registrations of something that is no guard"),
            "`commonhold guard status` lists them. Stop what made them, or clear them with \
             `commonhold volume clear-reservations` or `sg_persist --out --clear`.",
            FOREIGN,
        ),
        End::GaveUp => (
            format!("the owner of {device} is alive"),
            "`commonhold guard status` says who it is. Stop the service there to move it.",
            ALIVE,
        ),
    };
    Err(Failure::Guard { message, hint: hint.to_owned(), code })
}

fn fenced() -> Failure {
    Failure::Guard {
        message: "this host lost the volume earlier and has not been permitted to come back"
            .to_owned(),
        hint: "See that nothing of the old life is left (unmount; no process; no dirty cache), \
               then run `commonhold guard permit` with the same --device and --state."
            .to_owned(),
        code: FENCED,
    }
}

fn failed(error: &GuardError) -> Failure {
    let hint = match error {
        GuardError::Start(_) => "Check the command after `--`.".to_owned(),
        GuardError::Record(_) => "Give --state a directory that can be written durably.".to_owned(),
        GuardError::Gate(GateError::InUse { device, .. }) => format!(
            "Unmount it first, or end what has it open (`fuser -vm {device}` names it): what that \
             believes of the volume is not true any more."
        ),
        GuardError::Gate(GateError::Claim(ClaimError::Busy(_))) => {
            "One guard watches over a device, whatever it is called; end that one first.".to_owned()
        }
        GuardError::Gate(GateError::Claim(ClaimError::Other(state))) => {
            format!("Use that one, or end it with `commonhold guard release --state {state}`.")
        }
        GuardError::Gate(_) => "A multipath device needs dmsetup and root, and must not be in use \
                                by itself: the command is to use COMMONHOLD_GUARD_DEVICE."
            .to_owned(),
    };
    Failure::Guard { message: error.to_string(), hint, code: FAILED }
}

fn unreachable(place: &PlaceArguments, why: &str) -> Failure {
    Failure::Guard {
        message: format!("{} does not answer: {why}", place.device()),
        hint: "Check the address, the target's name, CHAP and the attachment; a device needs \
               root, and must know SCSI-3 persistent reservations."
            .to_owned(),
        code: UNREACHABLE,
    }
}

/// This host's own key says from here on that nobody runs; or it goes, and the reservation with it.
async fn release(place: &PlaceArguments, unreserve: bool) -> Result<ExitCode, Failure> {
    let mut record = open(place)?;
    let mut standing = record.load().map_err(unusable)?;
    let mut volume = claimed(place).await?;
    let lost = |error: host::HostError| unreachable(place, &error.to_string());
    let picture = volume.look().await.map_err(lost)?;
    let holder = picture.status.registrations.iter().find(|one| one.holder);
    let holder = holder.and_then(|one| Key::of(one.key));
    let mine = |key: &Key| standing.keys.iter().any(|known| known.is_of(*key)) || key.is_vacant();
    let others = || Failure::Guard {
        message: format!("{} is not held by this host", place.device()),
        hint: "`commonhold guard status` says who holds it.".to_owned(),
        code: LOST,
    };
    let key = holder.filter(mine).ok_or_else(others)?;
    // The keys stay until the volume has let go of them.
    let own_end = standing.state != State::Fenced;
    if own_end {
        standing.state = State::Clean;
        record.save(&standing).map_err(unkept)?;
    }
    let to = if unreserve { 0 } else { key.vacated().number() };
    volume.shut_gate().await.map_err(|error| failed(&GuardError::Gate(error)))?;
    match volume.change_key(key.number(), to).await {
        Err(host::HostError::Status { status: CONFLICT, .. }) => return Err(others()),
        other => other.map_err(lost)?,
    }
    if own_end {
        standing.keys.clear();
        record.save(&standing).map_err(unkept)?;
    }
    note(if unreserve {
        "The volume is not reserved any more: nothing keeps an old owner out."
    } else {
        "The volume stays reserved, and the next host need not wait."
    });
    Ok(ExitCode::SUCCESS)
}

fn permit(place: &PlaceArguments) -> Result<ExitCode, Failure> {
    let mut record = open(place)?;
    // An operator has looked: an unreadable record is begun anew.
    let standing = match record.load() {
        // It may have said that registrations are without an answer, which nobody can see.
        Err(RecordError::Malformed { .. }) => {
            Standing { unanswered: place.may_have_paths(), ..Standing::default() }
        }
        other => other.map_err(unusable)?,
    };
    // The keys stay: the volume may still show one of them as the holder.
    let clean = Standing { state: State::Clean, ..standing };
    record.save(&clean).map_err(unkept)?;
    note("This host may try to take the volume again.");
    Ok(ExitCode::SUCCESS)
}
