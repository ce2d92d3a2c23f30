//! The life of the file service: its start, its start anew, its end.

use std::net::SocketAddr;
use std::sync::Arc;

use model::order::OrderError;

use super::{Orders, blocking, failed};
use crate::NodeError;
use crate::files::{FileService, Kept, Records};
use crate::sockets::Purpose;
use crate::worker::Worker;

/// The file service could not be started anew.
fn not_begun(error: NodeError) -> OrderError {
    OrderError::Failed { why: error.to_string() }
}

/// A call of the file service has run for so long that it may never end.
fn stuck(for_ms: u64) -> OrderError {
    let why = format!(
        "a call of an NFS client has been waiting for its disk for {} s, and a new start of the \
         file service would wait for it, too; the old one goes on. See to the disk first",
        for_ms / 1000
    );
    OrderError::Failed { why }
}

impl Orders {
    /// Prepares the file service; it serves nothing before [`Self::open_files`].
    pub(crate) async fn start_files(&self) -> Result<(), NodeError> {
        let settings = self.state.shared.settings.files.clone();
        if settings.portals.is_empty() {
            return Ok(());
        }
        let (secret, boot) = self.begin_service().await?;
        let kept = self.kept(secret, boot).await?;
        let shared = &self.state.shared;
        let listen = |&address: &SocketAddr| {
            let failed = |source| NodeError::Portal { address, source };
            shared.sockets.listen(Purpose::Files, address).map_err(failed)
        };
        let listeners = settings.portals.iter().map(listen).collect::<Result<_, _>>()?;
        let clock = Arc::clone(&shared.world.clock);
        let service = FileService::start_on(listeners, settings, kept, clock)?;
        self.state.files.service.store(Some(Arc::new(service)));
        Ok(())
    }

    /// Notes a start of the file service, which is to follow; one that does not is a number that is
    /// left out. Gives the secret of all of them, and the number.
    async fn begin_service(&self) -> Result<([u8; 32], u32), NodeError> {
        let shared = &self.state.shared;
        let (journal, random) = (Arc::clone(&shared.journal), Arc::clone(&shared.world.random));
        let begin = move |worker: std::rc::Rc<Worker>| async move {
            journal.begin_service(&*worker.io, &*random).await
        };
        self.worker.run(begin).await.ok_or(NodeError::Stopped)?.map_err(NodeError::Journal)
    }

    /// What handles of volumes are signed with that have no secret of their own; made where there is
    /// no file service yet.
    pub(in crate::orders) async fn service_secret(&self) -> Result<[u8; 32], OrderError> {
        let shared = &self.state.shared;
        let (journal, random) = (Arc::clone(&shared.journal), Arc::clone(&shared.world.random));
        let load = move |worker: std::rc::Rc<Worker>| async move {
            journal.secret(&*worker.io, &*random).await
        };
        let loaded = self.worker.run(load).await.ok_or(NodeError::Stopped).map_err(not_begun)?;
        loaded.map_err(failed)
    }

    /// What a start needs of those before, none of which runs any more.
    async fn kept(&self, secret: [u8; 32], boot: u32) -> Result<Kept, NodeError> {
        let journal = Arc::clone(&self.state.shared.journal);
        let load = move |worker: std::rc::Rc<Worker>| async move {
            journal.load_clients(&*worker.io).await
        };
        let loaded = self.worker.run(load).await.ok_or(NodeError::Stopped)?;
        let clients = loaded.map_err(NodeError::Journal)?;
        let journal = Arc::clone(&self.state.shared.journal);
        let records = Box::new(Records::new(journal, self.worker.clone()));
        Ok(Kept { secret, boot, clients, records })
    }

    /// Starts the file service anew, as a start of the daemon does, unless it has been since the
    /// start of that number: connections end, what it knows of clients but their records is
    /// forgotten, and they reclaim. Gives the number of the start that serves then. Block volumes
    /// notice nothing.
    pub(crate) async fn restart_files(&self, after: u32) -> Result<u32, OrderError> {
        let files = &self.state.files;
        let old = files.service()?;
        if old.boot() != after {
            return Ok(old.boot());
        }
        // The new start waits until the last call of the old one has ended, so that one that hangs
        // would take the service from those whose volumes lie on other disks.
        old.can_end().await.map_err(stuck)?;
        // What cannot be had is missed while the old one still serves.
        let (secret, boot) = self.begin_service().await.map_err(not_begun)?;
        let listeners = old.listeners().map_err(failed)?;
        old.stop().await;
        // Without the lock on what is served: should a call hang by now, nobody else waits for it.
        old.ended().await;
        let kept = self.kept(secret, boot).await.map_err(not_begun)?;
        let (settings, clock) = {
            let shared = &self.state.shared;
            (shared.settings.files.clone(), Arc::clone(&shared.world.clock))
        };
        let exports = files.exports.lock().await;
        let now = files.service()?.boot();
        if now != after {
            // Another has been quicker.
            return Ok(now);
        }
        let fresh = FileService::start_on(listeners, settings, kept, clock).map_err(not_begun)?;
        exports.ready.values().for_each(|(_, volume)| volume.forget_holders());
        exports.serve(&fresh).await.map_err(|error| failed(std::io::Error::other(error)))?;
        if let Err(why) = fresh.open() {
            drop(exports);
            // What it had started would serve beside the next one.
            fresh.stop().await;
            fresh.ended().await;
            return Err(not_begun(why));
        }
        files.service.store(Some(Arc::new(fresh)));
        Ok(boot)
    }

    /// Lets NFS clients in, after what they had is served again.
    pub(crate) fn open_files(&self) -> Result<(), NodeError> {
        self.state.files.service.load_full().map_or(Ok(()), |service| service.open())
    }

    pub(crate) async fn stop_files(&self) {
        if let Some(service) = self.state.files.service.load_full() {
            service.stop().await;
        }
        let pools = self.state.files.pools();
        let settle = move || pools.iter().try_for_each(|pool| pool.settle());
        if let Err(error) = blocking(settle).await {
            // Nothing is lost: the volumes are counted at the next start.
            tracing::warn!(%error, "what volumes use was not noted at the end");
        }
    }
}
