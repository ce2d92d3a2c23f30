//! The scheme of the known scripts, as a control: CLEAR, REGISTER, wait, RESERVE, look.
//!
//! The attacker tries three times with seven seconds between; the defender repeats its round
//! every three seconds and gives up when the reservation is not its own.

use guard::paths::PathId;
use guard::wire;
use guard::{Action, Answer, End, Input, Seen, Standing, Why};
use scsi::reservations::ReservationType;

use crate::target::Op;

const TYPE: ReservationType = ReservationType::ExclusiveAccess;
const SETTLE_MS: u64 = 7_000;
const DEFEND_MS: u64 = 3_000;

/// What the scripts send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Plain {
    Clear,
    Register,
    Reserve,
    Read,
}

/// The key of a host: `abc00N` in the scripts.
pub(crate) fn key_of(host: usize) -> u64 {
    0xABC_000 + host as u64 + 1
}

impl Plain {
    pub(crate) fn bytes(self, host: usize) -> ([u8; 10], Vec<u8>) {
        let key = key_of(host);
        let out = match self {
            Self::Register | Self::Read => (wire::Out::RegisterAndIgnore, (0, key)),
            Self::Reserve | Self::Clear => (wire::Out::Reserve, (key, 0)),
        };
        let (mut cdb, list) = wire::out(out.0, TYPE, out.1, &[]);
        if self == Self::Clear {
            (cdb[1], cdb[2]) = (0x03, 0);
        }
        (cdb, list)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Part {
    /// Nobody needs the volume from this host.
    Idle,
    Attacks {
        tries: u8,
    },
    Defends,
    Over,
}

/// Attacker and defender of one host.
pub(crate) struct Scripts {
    host: usize,
    part: Part,
    next: Plain,
    due_ms: u64,
    asked: Option<Plain>,
}

pub(crate) enum Step {
    /// Down one of the host's paths.
    Ask(usize, Op),
    /// The same, once the record says so.
    AskNoted(usize, Op, Standing),
    Unnote(Standing),
    /// Something for a path that is gone.
    NoPath(PathId),
    Do(Action),
    Close,
    Open,
    Shut,
}

impl Scripts {
    pub(crate) fn new(host: usize) -> Self {
        let (part, next) = (Part::Idle, Plain::Register);
        Self { host, part, next, due_ms: 0, asked: None }
    }

    /// The failover product has decided that the other host is gone.
    pub(crate) fn attack(&mut self, now_ms: u64) {
        if self.part == Part::Idle {
            (self.part, self.next) = (Part::Attacks { tries: 0 }, Plain::Register);
            self.due_ms = now_ms;
        }
    }

    pub(crate) fn wake_ms(&self) -> u64 {
        let waits = self.asked.is_some() || matches!(self.part, Part::Idle | Part::Over);
        if waits { u64::MAX } else { self.due_ms }
    }

    pub(crate) fn on(&mut self, now_ms: u64, input: Input) -> Vec<Step> {
        let mut out = Vec::new();
        match input {
            Input::Answer(answer) => {
                if let Some(asked) = self.asked.take() {
                    self.answered(now_ms, asked, &answer, &mut out);
                }
            }
            Input::Ended { .. } if self.part == Part::Over => {
                out.push(Step::Do(Action::Over(End::Lost)));
            }
            _ => {}
        }
        if self.asked.is_none() && now_ms >= self.wake_ms() {
            self.asked = Some(self.next);
            out.push(Step::Ask(0, Op::Plain(self.next)));
        }
        out
    }

    fn answered(&mut self, now_ms: u64, asked: Plain, answer: &Answer, out: &mut Vec<Step>) {
        self.due_ms = now_ms;
        self.next = match (asked, self.part) {
            (Plain::Register, Part::Attacks { tries: 0 }) => {
                self.part = Part::Attacks { tries: 1 };
                Plain::Clear
            }
            (Plain::Clear, _) => Plain::Register,
            (Plain::Register, Part::Attacks { .. }) => {
                self.due_ms = now_ms + SETTLE_MS;
                Plain::Reserve
            }
            (Plain::Register, _) => Plain::Reserve,
            (Plain::Reserve, _) => Plain::Read,
            (Plain::Read, part) => {
                let holds = |seen: &Seen| seen.holder == Some(key_of(self.host));
                let mine = matches!(answer, Answer::Seen(seen) if holds(seen));
                match part {
                    Part::Attacks { .. } if mine => {
                        self.part = Part::Defends;
                        self.due_ms = now_ms + DEFEND_MS;
                        out.push(Step::Do(Action::Start));
                    }
                    Part::Attacks { tries } if tries < 3 => {
                        self.part = Part::Attacks { tries: tries + 1 };
                    }
                    Part::Attacks { .. } => self.part = Part::Idle,
                    Part::Defends if mine => self.due_ms = now_ms + DEFEND_MS,
                    Part::Defends => {
                        self.part = Part::Over;
                        out.push(Step::Do(Action::Terminate(Why::Lost)));
                    }
                    Part::Idle | Part::Over => {}
                }
                Plain::Clear
            }
        };
    }
}
