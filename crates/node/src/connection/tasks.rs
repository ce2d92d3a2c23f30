//! Task management on one connection (RFC 7143 11.5, SAM-5 7): what names this nexus' own tasks is
//! done here, what reaches further is the logical unit's.

use std::sync::Arc;

use futures::FutureExt;
use iscsi::target::{TaskId, TmfFunction, TmfResponse};
use scsi::sense::Response;

use super::{Abort, End, Ended, Shell};
use crate::gate::Fate;
use crate::metrics::Kind;
use crate::wire::Wire;

impl<W: Wire> Shell<W> {
    pub(super) fn task_management(
        &mut self,
        itt: u32,
        function: TmfFunction,
        lun: u64,
        referenced: Option<TaskId>,
    ) {
        let Some(session) = &self.session else {
            self.machine.task_management_done(itt, TmfResponse::NotSupported);
            return;
        };
        let unit = Arc::clone(&session.unit);
        let nexus = Arc::clone(&session.nexus);
        let of_target =
            matches!(function, TmfFunction::TargetWarmReset | TmfFunction::TargetColdReset);
        if lun != 0 && !of_target {
            self.machine.task_management_done(itt, TmfResponse::LunDoesNotExist);
            return;
        }
        let future = match function {
            TmfFunction::AbortTask => {
                self.abort_task(itt, referenced);
                return;
            }
            TmfFunction::AbortTaskSet => {
                let draining = nexus.gate.close(Fate::Silent);
                async move {
                    draining.wait().await;
                    Ended::TaskManagement {
                        itt,
                        response: TmfResponse::Complete,
                        then_close: false,
                    }
                }
                .boxed_local()
            }
            TmfFunction::ClearTaskSet => async move {
                unit.clear_task_set(&nexus.nexus).await;
                Ended::TaskManagement { itt, response: TmfResponse::Complete, then_close: false }
            }
            .boxed_local(),
            TmfFunction::LogicalUnitReset
            | TmfFunction::TargetWarmReset
            | TmfFunction::TargetColdReset => {
                let cold = function == TmfFunction::TargetColdReset;
                async move {
                    unit.reset(&nexus.nexus).await;
                    if cold {
                        unit.close_others(&nexus.nexus);
                    }
                    let response = TmfResponse::Complete;
                    Ended::TaskManagement { itt, response, then_close: cold }
                }
                .boxed_local()
            }
            _ => {
                self.machine.task_management_done(itt, TmfResponse::NotSupported);
                return;
            }
        };
        self.running.push(future);
        if function == TmfFunction::AbortTaskSet {
            self.drop_parked();
        }
    }

    fn abort_task(&mut self, itt: u32, referenced: Option<TaskId>) {
        let Some(task) = referenced else {
            // Answered already, or never seen: the machine knows the difference by the CmdSN and
            // asks only for those that are gone (RFC 7143 11.6.1).
            self.machine.task_management_done(itt, TmfResponse::TaskDoesNotExist);
            return;
        };
        if let Some(named) = self.live.get(&task) {
            named.set(true);
            self.aborts.push(Abort { itt, task });
            return;
        }
        if !self.machine.is_live(task) {
            // Answered within the same batch of events.
            self.machine.task_management_done(itt, TmfResponse::TaskDoesNotExist);
            return;
        }
        self.forget_parked(task);
        self.machine.drop_task(task);
        self.machine.task_management_done(itt, TmfResponse::Complete);
    }

    pub(super) fn forget_parked(&mut self, task: TaskId) {
        if let Some(parked) = self.unpark(task) {
            let end = End { kind: Kind::Other, arrived: parked.arrived };
            self.count(&end, &Response::good(), 0);
        }
    }

    pub(super) fn answer_aborts(&mut self, task: TaskId) {
        let (ended, waiting) = std::mem::take(&mut self.aborts)
            .into_iter()
            .partition(|abort: &Abort| abort.task == task);
        self.aborts = waiting;
        for abort in ended {
            self.machine.task_management_done(abort.itt, TmfResponse::Complete);
        }
    }
}
