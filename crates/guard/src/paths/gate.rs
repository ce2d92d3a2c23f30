//! The gate: how a path is let in without ever letting a fenced host in.

use super::{Command, Path, PathId, Paths, Place, Step};
use crate::wire::Out;

/// Between two tries to let a path in.
const AGAIN_MS: u64 = 1_000;

/// See the picture of the module above.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Gate {
    Shut,
    Open,
    /// For a path, or because of what a run before this one may have left.
    Closing(Option<PathId>),
    /// Closed, for a path that is still busy with something else.
    Ready(PathId),
    Registering(PathId),
    /// A registration may yet be done.
    Doubt,
    /// A look that is younger than this decides.
    Looking {
        since: u64,
    },
}

impl Paths {
    pub(super) fn start(&mut self, out: &mut Vec<Step>) {
        self.started = true;
        if self.terms.is_none() {
            return;
        }
        let doubt = self.is_late();
        self.gate = if doubt { Gate::Doubt } else { Gate::Open };
        out.push(if doubt { Step::Close } else { Step::Open });
    }

    pub(super) fn turn_gate(&mut self, now_ms: u64, out: &mut Vec<Step>) {
        let doubt = self.is_late();
        match self.gate {
            Gate::Open if self.started && doubt && now_ms >= self.close_ms => {
                self.close_ms = now_ms + AGAIN_MS;
                self.gate = Gate::Closing(None);
                out.push(Step::Close);
            }
            Gate::Open if !doubt && self.owned && self.started && !self.leaving => {
                let waits = self.paths.iter_mut().find(|path| {
                    let fit = path.place == Place::Outside && path.is_free() && !path.silent;
                    fit && now_ms >= path.let_in_ms
                });
                if let Some(path) = waits {
                    path.let_in_ms = now_ms + AGAIN_MS;
                    self.gate = Gate::Closing(Some(path.id));
                    out.push(Step::Close);
                }
            }
            Gate::Ready(id) => self.let_in(id, out),
            Gate::Doubt if !doubt => self.gate = Gate::Looking { since: self.serial },
            _ => {}
        }
        // The look that decides need not wait for the machine's next one.
        if let Gate::Looking { since } = self.gate
            && self.owned
        {
            let asked = |path: &Path| {
                path.sent.is_some_and(|sent| sent.command == Command::Look && sent.serial > since)
            };
            let free = self.paths.iter().find(|path| path.is_free() && !path.silent);
            if let Some(id) = free.map(|path| path.id).filter(|_| !self.paths.iter().any(asked)) {
                self.send(id, Command::Look, None, out);
            }
        }
    }

    pub(super) fn closed(&mut self) {
        if let Gate::Closing(path) = self.gate {
            self.gate = path.map_or(Gate::Doubt, Gate::Ready);
        }
    }

    /// Nothing of this host is written: the path may be registered, if it is still to be.
    fn let_in(&mut self, id: PathId, out: &mut Vec<Step>) {
        let path = self.path(id).filter(|_| self.owned && !self.leaving);
        let path = path.filter(|path| path.place == Place::Outside && !path.silent);
        match path.map(Path::is_free) {
            Some(false) => {}
            None => self.gate = Gate::Looking { since: self.serial },
            Some(true) => {
                self.gate = Gate::Registering(id);
                let about = self.key.number();
                self.send(id, Command::Out { action: Out::Register, own: 0, about }, None, out);
            }
        }
    }

    /// Whether this path waits to be let in, and is left alone for that.
    pub(super) fn is_next(&self, id: PathId) -> bool {
        self.gate == Gate::Closing(Some(id)) || self.gate == Gate::Ready(id)
    }

    /// What was to be sent down this path was not: nothing of it can be done. It is as it was.
    pub(super) fn unsent(&mut self, now_ms: u64, id: PathId) {
        let Some(path) = self.path_mut(id) else { return };
        path.sent = None;
        path.let_in_ms = now_ms + AGAIN_MS;
        self.freed();
        if self.gate == Gate::Registering(id) {
            self.gate = Gate::Looking { since: self.serial };
        }
    }

    /// The answer to a registration, or that there is none.
    pub(super) fn gate_answered(&mut self, id: PathId, command: Command) {
        if self.gate == Gate::Registering(id) && command.grants() {
            // Doubt turns into a look at once where there is none.
            self.gate = Gate::Doubt;
        }
    }

    /// The volume was seen, by a look of this number.
    pub(super) fn looked(&mut self, serial: u64, out: &mut Vec<Step>) {
        if let Gate::Looking { since } = self.gate
            && serial > since
            && self.owned
        {
            self.gate = Gate::Open;
            out.push(Step::Open);
        }
    }
}
