//! What must hold, whatever the hosts believe.

use std::fmt;

/// What was written: by which run of which host, and the how-manieth write of all.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Content {
    pub(crate) key: u64,
    pub(crate) sequence: u64,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Wrong {
    /// A write of an older epoch landed after a takeover was done.
    Stale { block: usize, of: u64, owner: u64 },
    /// An acknowledged write was overwritten by an older one, or is not there.
    Lost { block: usize, acknowledged: u64, found: u64 },
    /// Two hosts that are awake run their command.
    Twice { first: usize, second: usize },
    /// A host that was not paused since it looked starts without holding the volume.
    Unheld { host: usize },
    /// All is well again, and nobody took the volume.
    Nobody,
    /// A restart of the target moved the volume.
    Moved { host: usize },
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// Knows who became the owner, and every block.
pub(crate) struct Checker {
    owner: u64,
    host: Option<usize>,
    /// How often a run began on another host than the one before.
    pub(crate) takeovers: u64,
    pub(crate) landed: u64,
    blocks: Vec<Content>,
    acknowledged: Vec<u64>,
    pub(crate) wrong: Option<Wrong>,
}

impl Checker {
    pub(crate) fn new(blocks: usize) -> Self {
        Self {
            owner: 0,
            host: None,
            takeovers: 0,
            landed: 0,
            blocks: vec![Content::default(); blocks],
            acknowledged: vec![0; blocks],
            wrong: None,
        }
    }

    pub(crate) fn fail(&mut self, wrong: Wrong) {
        self.wrong.get_or_insert(wrong);
    }

    /// From here on the volume belongs to this run, and to none before it.
    pub(crate) fn begins(&mut self, host: usize, key: u64) {
        self.takeovers += u64::from(self.host.is_some_and(|before| before != host));
        (self.host, self.owner) = (Some(host), key);
        self.look();
    }

    /// The target changed a block.
    pub(crate) fn lands(&mut self, block: usize, content: Content) {
        self.landed += 1;
        if content.key != self.owner {
            self.fail(Wrong::Stale { block, of: content.key, owner: self.owner });
        }
        self.blocks[block] = content;
        self.look();
    }

    pub(crate) fn acknowledged(&mut self, block: usize, sequence: u64) {
        self.acknowledged[block] = self.acknowledged[block].max(sequence);
        self.look();
    }

    fn look(&mut self) {
        for block in 0..self.blocks.len() {
            let (acknowledged, found) = (self.acknowledged[block], self.blocks[block].sequence);
            if found < acknowledged {
                self.fail(Wrong::Lost { block, acknowledged, found });
            }
        }
    }
}
