//! The short way from control plane to storage node: both are in this process.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;
use control::{NodeLink, Pieces};
use model::export::{ConnectedClient, FileUsage};
use model::file::Acls;
use model::id::{OperationId, PoolId, VolumeId};
use model::node::{Binary, NodeReport};
use model::order::{
    Carried, Found, ImageFormat, Order, OrderError, PoolUsage, Report, ReservationView,
    SnapshotUsage,
};
use model::size::ByteSize;
use node::Node;
use tokio::sync::mpsc;

use super::upgrade::{self, Wish};

/// The node, until it is stopped.
pub(super) struct Link {
    node: RwLock<Option<Arc<Node>>>,
    /// Why it serves no files, where it does not.
    no_files: String,
    /// The file that this program was started from: another may lie there by now.
    program: PathBuf,
    data: PathBuf,
    /// Asks for the end of this program.
    wish: mpsc::UnboundedSender<Wish>,
}

/// What a machine without a name is called.
const NAMELESS: &str = "node";

impl Link {
    pub(super) fn new(
        node: Node,
        no_files: Option<String>,
        data: PathBuf,
        wish: mpsc::UnboundedSender<Wish>,
    ) -> Self {
        let no_files = no_files.unwrap_or_else(|| "it has no NFS portal".to_owned());
        let program = upgrade::own_program();
        Self { node: RwLock::new(Some(Arc::new(node))), no_files, program, data, wish }
    }

    fn node(&self) -> Result<Arc<Node>, OrderError> {
        let node = self.node.read().unwrap_or_else(PoisonError::into_inner);
        node.clone().ok_or_else(|| OrderError::Unreachable { why: "the daemon stops".into() })
    }

    /// Stop the node once the last order has let go of it.
    pub(super) async fn stop(&self) {
        let node = self.node.write().unwrap_or_else(PoisonError::into_inner).take();
        match node.map(Arc::try_unwrap) {
            Some(Ok(node)) => node.stop().await,
            Some(Err(_)) => {
                tracing::error!("an order still runs: the node is not stopped in order")
            }
            None => {}
        }
    }
}

#[async_trait]
impl NodeLink for Link {
    async fn order(&self, order: Order) -> Result<Report, OrderError> {
        self.node()?.order(order).await
    }

    async fn node(&self) -> Result<NodeReport, OrderError> {
        let node = self.node()?;
        Ok(NodeReport {
            name: machine_name(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            boot: None,
            upgrade: None,
            block_portals: node.portals().iter().map(SocketAddr::to_string).collect(),
            sessions: node.open_sessions() as u64,
            files: node.files_standing().ok_or_else(|| self.no_files.clone()),
        })
    }

    async fn client_counts(&self) -> Result<HashMap<VolumeId, u64>, OrderError> {
        Ok(self.node()?.client_counts())
    }

    async fn restart_files(&self, after: u32) -> Result<u32, OrderError> {
        self.node()?.restart_files(after).await
    }

    async fn check_binary(
        &self,
        binary: Option<String>,
        kept_out: Vec<String>,
    ) -> Result<Binary, OrderError> {
        let mut places: Vec<PathBuf> = kept_out.into_iter().map(PathBuf::from).collect();
        places.push(self.data.clone());
        upgrade::check(&self.program, binary, &places).await
    }

    async fn upgrade(&self, operation: OperationId, binary: String) -> Result<(), OrderError> {
        let ends = |_| OrderError::Unreachable { why: "the daemon stops".to_owned() };
        self.wish.send(Wish { operation, binary: binary.into() }).map_err(ends)
    }

    async fn pool_usage(&self) -> Result<Vec<PoolUsage>, OrderError> {
        self.node()?.pool_usage().await
    }

    async fn probe(&self, volume: VolumeId) -> Result<Vec<Found>, OrderError> {
        self.node()?.probe(volume).await
    }

    async fn image_size(&self, path: String, format: ImageFormat) -> Result<ByteSize, OrderError> {
        self.node()?.image_size(path, format).await
    }

    async fn file_usage(&self, volume: VolumeId) -> Result<FileUsage, OrderError> {
        self.node()?.file_usage(volume).await
    }

    async fn file_clients(&self, volume: VolumeId) -> Result<Vec<ConnectedClient>, OrderError> {
        self.node()?.file_clients(volume).await
    }

    async fn snapshot_usage(&self, volume: VolumeId) -> Result<Vec<SnapshotUsage>, OrderError> {
        self.node()?.snapshot_usage(volume).await
    }

    async fn backup(
        &self,
        volume: VolumeId,
        snapshot: Option<String>,
    ) -> Result<Pieces, OrderError> {
        self.node()?.backup(volume, snapshot).await
    }

    async fn restore(&self, volume: VolumeId, acls: Acls, from: Pieces) -> Result<(), OrderError> {
        self.node()?.restore(volume, acls, from).await
    }

    async fn carry(&self, volume: VolumeId, pool: PoolId) -> Result<Pieces, OrderError> {
        self.node()?.carry(volume, pool).await
    }

    async fn receive(
        &self,
        volume: VolumeId,
        pool: PoolId,
        from: Pieces,
    ) -> Result<Carried, OrderError> {
        self.node()?.receive(volume, pool, from).await
    }

    async fn reservations(&self, volume: VolumeId) -> Result<ReservationView, OrderError> {
        Ok(self.node()?.reservations(volume))
    }

    async fn progress(&self, volume: VolumeId) -> Result<Option<(u64, u64)>, OrderError> {
        Ok(self.node()?.progress(volume))
    }

    async fn cancel(&self, volume: VolumeId) -> Result<(), OrderError> {
        self.node()?.cancel(volume);
        Ok(())
    }
}

impl server::MetricsSource for Link {
    fn metrics(&self) -> String {
        self.node().map(|node| node.metrics_page()).unwrap_or_default()
    }
}

/// What the machine calls itself.
fn machine_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    model::text::name(&name).unwrap_or_else(|_| NAMELESS.to_owned())
}
