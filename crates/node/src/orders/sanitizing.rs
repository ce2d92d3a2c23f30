//! Running the sanitizes that hosts have asked for, or that a restart found unfinished, each beside
//! the orders and none longer than the node lives.

use std::rc::Rc;
use std::sync::Arc;

use super::State;
use crate::worker::Worker;

impl State {
    /// For ever: whatever a unit of the book has to do.
    pub(super) async fn sanitize_loop(&self, worker: &Rc<Worker>) {
        let mut ending = self.shared.ending.clone();
        while !*ending.borrow() {
            for unit in self.shared.book.units() {
                if let Some(draining) = unit.take_sanitize() {
                    let (worker, ending) = (Rc::clone(worker), ending.clone());
                    let unit = Arc::clone(&unit);
                    tokio::task::spawn_local(async move {
                        let go_on = move || !*ending.borrow();
                        unit.run_sanitize(&*worker.io, draining, go_on).await;
                    });
                }
            }
            tokio::select! {
                () = self.shared.book.sanitize.notified() => {}
                changed = ending.changed() => {
                    if changed.is_err() {
                        // The node is gone without having said so.
                        return;
                    }
                }
            }
        }
    }
}
