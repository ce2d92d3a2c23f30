//! Task management that reaches beyond one nexus: clearing the task set, resetting the unit.

use scsi::nexus::ItNexus;
use scsi::unit_attention::UnitAttention;

use crate::gate::{Draining, wait_all};
use crate::nexus::Signal;
use crate::unit::LogicalUnit;

impl LogicalUnit {
    /// CLEAR TASK SET (SAM-5 7.3): every nexus' commands end; the others are told.
    pub async fn clear_task_set(&self, by: &ItNexus) {
        let draining = self.void_all(by);
        if !self.facts().task_aborted_status {
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
        let status = self.facts().task_aborted_status;
        let void = |state: &std::sync::Arc<crate::nexus::NexusState>| {
            let draining = state.gate.close();
            state.signal(Signal::Aborted { status: status && state.nexus != *by });
            draining
        };
        self.nexuses().iter().map(void).collect()
    }
}
