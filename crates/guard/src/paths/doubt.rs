//! Registrations that may be without an answer: of this run, and of one before it that was killed.
//!
//! The sessions are the kernel's, and outlive a guard: what an earlier run had sent down a path may
//! be done when that run is long gone. So a run that begins with such a note hears every path
//! first, also those whose devices do not open yet. An answer to anything that is sent now comes
//! after all that was sent before, because a session does its commands in order, and a session
//! that is opened anew ends those of the one before (RFC 7143 6.3.5). Where there is one path the
//! same is true without a note: nothing starts before that path has answered this run.
//!
//! A device that is gone, or that is not there when a run begins, is not waited for, and proves
//! less: a registration is the initiator port's and not the session's, so that one that a portal
//! does late is found again by a session under the same ISID. docs/failover.md has the limit.

use super::{Command, Gate, Path, Paths};

impl Paths {
    /// A run before this one may have left registrations without an answer. Also where the gate is
    /// open: somebody may have opened it by hand. It is closed then.
    pub fn inherit_doubt(&mut self) {
        if self.terms.is_some() {
            (self.inherits, self.unopened) = (true, true);
            self.paths.iter_mut().for_each(|path| path.late = true);
        }
    }

    /// Whether this is one of the commands that a record has to tell of before it is sent.
    #[must_use]
    pub fn is_to_be_noted(&self, command: Command) -> bool {
        self.terms.is_some() && command.grants()
    }

    /// Whether the registration that is under way is that of a path that is let in.
    #[must_use]
    pub fn lets_in(&self) -> bool {
        matches!(self.gate, Gate::Registering(_))
    }

    /// Whether every path has answered that was sent such a command, by whichever run. Who has one
    /// path does not know of the others.
    #[must_use]
    pub fn is_answered(&self) -> bool {
        let registers = |path: &Path| path.sent.is_some_and(|sent| sent.command.grants());
        self.terms.is_some() && !self.is_late() && !self.paths.iter().any(registers)
    }

    /// Whether what this host writes is held back until a path answers.
    #[must_use]
    pub fn is_in_doubt(&self) -> bool {
        self.gate == Gate::Doubt
    }

    /// Whether what this host writes waits, for whatever reason.
    #[must_use]
    pub fn holds_back(&self) -> bool {
        !matches!(self.gate, Gate::Open | Gate::Shut)
    }

    /// Whether this run could not start if it had the volume.
    #[must_use]
    pub fn is_barred(&self) -> bool {
        self.terms.is_some() && !self.started && self.is_late()
    }

    /// Whether a registration that was sent may yet be done.
    pub(super) fn is_late(&self) -> bool {
        self.inherits && self.unopened || self.paths.iter().any(|path| path.late)
    }

    /// Paths that come from here on are not among those that this run has to hear.
    pub(super) fn end_of_doubt(&mut self) {
        self.inherits &= self.is_late();
    }
}
