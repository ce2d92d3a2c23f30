//! The durable records of NFSv4 clients, and what else the file service remembers from start to
//! start: each a small file of the node's journal.

use std::sync::mpsc;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use nfs::v4::state::{ClientRecord, ClientRecords, RecordError};

use super::connection::lock;
use crate::journal::Journal;
use crate::worker::WorkerHandle;

/// Keeps clients' records in the journal, by way of the thread that writes there.
pub struct Records {
    journal: Arc<Journal>,
    worker: WorkerHandle,
    turn: Mutex<()>,
}

impl Records {
    #[must_use]
    pub fn new(journal: Arc<Journal>, worker: WorkerHandle) -> Self {
        Self { journal, worker, turn: Mutex::new(()) }
    }

    /// Waits, on a thread of the file service, for what the journal's thread does.
    fn wait<F>(
        &self,
        work: impl FnOnce(Arc<Journal>, std::rc::Rc<crate::worker::Worker>) -> F + Send + 'static,
    ) -> Result<(), RecordError>
    where
        F: Future<Output = std::io::Result<()>> + 'static,
    {
        let (tell, told) = mpsc::channel();
        let journal = Arc::clone(&self.journal);
        self.worker.spawn(move |worker| async move {
            let _ = tell.send(work(journal, worker).await);
        });
        match told.recv() {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                tracing::error!(%error, "the record of an NFS client was not written");
                Err(RecordError)
            }
            // The node ends.
            Err(mpsc::RecvError) => Err(RecordError),
        }
    }
}

impl ClientRecords for Records {
    fn alone(
        &self,
        settle: &mut dyn FnMut() -> Result<(), RecordError>,
    ) -> Result<(), RecordError> {
        let _turn = lock(&self.turn);
        settle()
    }
    fn store(&self, record: &ClientRecord) -> Result<(), RecordError> {
        let record = record.clone();
        self.wait(
            move |journal, worker| async move { journal.save_client(&*worker.io, &record).await },
        )
    }
    fn remove(&self, owner: &Bytes) -> Result<(), RecordError> {
        let owner = owner.clone();
        self.wait(move |journal, _| async move { journal.forget_client(&owner) })
    }
}
