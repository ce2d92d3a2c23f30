//! Task management that reaches beyond one nexus: clearing the task set, resetting the unit.

use scsi::nexus::ItNexus;
use scsi::unit_attention::UnitAttention;

use crate::gate::{Draining, Fate, wait_all};
use crate::nexus::Signal;
use crate::unit::LogicalUnit;

impl LogicalUnit {
    /// CLEAR TASK SET (SAM-5 7.3): every nexus' commands end; the others are told.
    pub async fn clear_task_set(&self, by: &ItNexus) {
        let draining = self.void_all(by);
        if self.fate_for_others() == Fate::Silent {
            self.attend_all(UnitAttention::CommandsCleared, Some(by));
        }
        wait_all(draining).await;
    }

    /// Logical unit reset (SAM-5 6.3.3): every command ends, SPC-2 reservations go, persistent
    /// ones stay, every nexus is told, the caller too.
    pub async fn reset(&self, by: &ItNexus) {
        let draining = self.void_all(by);
        self.drop_legacy(None).await;
        self.attend_all(UnitAttention::DeviceReset, None);
        wait_all(draining).await;
    }

    /// End all sessions but one (TARGET COLD RESET; the caller ends its own after the answer).
    pub fn close_others(&self, by: &ItNexus) {
        let others: Vec<_> = self
            .nexuses()
            .into_iter()
            .filter(|state| state.nexus != *by)
            .filter_map(|state| state.session())
            .collect();
        for link in &others {
            link.signal(Signal::Close { why: "the target was reset" });
        }
    }

    /// Void every command of the unit. The caller's own are dropped without a status.
    fn void_all(&self, by: &ItNexus) -> Vec<Draining> {
        let fate = self.fate_for_others();
        let void = |state: &std::sync::Arc<crate::nexus::NexusState>| {
            let draining = state.gate.close(if state.nexus == *by { Fate::Silent } else { fate });
            state.signal(Signal::Aborted);
            draining
        };
        self.nexuses().iter().map(void).collect()
    }

    /// How commands end that one nexus aborts of another: as TAS of the control mode page says.
    pub(crate) fn fate_for_others(&self) -> Fate {
        if self.facts().task_aborted_status { Fate::TaskAborted } else { Fate::Silent }
    }
}
