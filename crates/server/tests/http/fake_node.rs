//! A storage node in memory that says yes, and long work that lasts until it is told to end.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use control::NodeLink;
use model::export::{ConnectedClient, FileUsage};
use model::id::{AttachmentId, OperationId, PoolId, VolumeId};
use model::node::{Binary, FileServiceReport, NodeReport};
use model::order::{
    Access, Found, ImageFormat, Order, OrderError, PoolUsage, RegistrantView, Report,
    ReservationChange, ReservationView, SnapshotUsage,
};
use model::size::ByteSize;

#[derive(Default)]
pub(crate) struct FakeNode {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    pools: HashSet<PoolId>,
    accesses: HashMap<AttachmentId, Access>,
    content: HashMap<VolumeId, Found>,
    cleared: HashSet<VolumeId>,
    rules: HashMap<VolumeId, usize>,
    connected: HashSet<VolumeId>,
    cancelled: HashSet<VolumeId>,
    /// Long work goes on.
    busy: bool,
    away: bool,
}

impl FakeNode {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
    pub(crate) fn put(&self, volume: VolumeId, content: &str) {
        let place = "at the start of the volume".to_owned();
        let found = Found { content: content.to_owned(), cluster_aware: false, place };
        self.state().content.insert(volume, found);
    }
    pub(crate) fn keep_busy(&self, busy: bool) {
        self.state().busy = busy;
    }
    /// Some client has the file volume mounted.
    pub(crate) fn connect(&self, volume: VolumeId) {
        self.state().connected.insert(volume);
    }
    /// How many rules the file volume is served by.
    pub(crate) fn rules(&self, volume: VolumeId) -> Option<usize> {
        self.state().rules.get(&volume).copied()
    }
    pub(crate) fn go_away(&self, away: bool) {
        self.state().away = away;
    }
    pub(crate) fn accesses(&self) -> Vec<Access> {
        self.state().accesses.values().cloned().collect()
    }

    fn reach(&self) -> Result<(), OrderError> {
        let why = "the fake node is away".to_owned();
        if self.state().away { Err(OrderError::Unreachable { why }) } else { Ok(()) }
    }

    async fn long_work(&self, volume: VolumeId) -> Result<Report, OrderError> {
        loop {
            {
                let mut state = self.state();
                if state.cancelled.remove(&volume) {
                    return Err(OrderError::Cancelled);
                }
                if !state.busy {
                    return Ok(Report::Done);
                }
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[async_trait]
impl NodeLink for FakeNode {
    async fn order(&self, order: Order) -> Result<Report, OrderError> {
        self.reach()?;
        if let Order::ImportImage { volume, .. } | Order::ExportImage { volume, .. } = order {
            return self.long_work(volume).await;
        }
        let mut state = self.state();
        Ok(match order {
            Order::OpenPool { pool, .. } => {
                state.pools.insert(pool);
                Report::Done
            }
            Order::ClosePool { pool } => {
                state.pools.remove(&pool);
                Report::Done
            }
            Order::CreateVolume { size, .. } | Order::ResizeVolume { size, .. } => {
                Report::Sized { size }
            }
            Order::Attach { access } => {
                let target = format!("iqn.2026-11.io.commonhold:volume-{}", access.volume);
                state.accesses.insert(access.attachment, access);
                Report::Attached { target, portals: vec!["127.0.0.1:3260".to_owned()], lun: 0 }
            }
            Order::Detach { attachment, .. } | Order::Fence { attachment, .. } => {
                state.accesses.remove(&attachment);
                Report::CutOff { sessions: 1, registrations: 1 }
            }
            Order::Export { terms } => {
                state.rules.insert(terms.volume, terms.rules.len());
                Report::Exported { portals: vec!["127.0.0.1:12049".to_owned()] }
            }
            Order::ClearReservations { volume } => {
                state.cleared.insert(volume);
                Report::Done
            }
            _ => Report::Done,
        })
    }

    async fn node(&self) -> Result<NodeReport, OrderError> {
        self.reach()?;
        let files = FileServiceReport {
            boot: 7,
            age_ms: 5,
            portals: vec!["127.0.0.1:12049".to_owned()],
            lease_ms: 90_000,
            in_grace: true,
            clients: self.state().connected.len() as u64,
            connections: 3,
        };
        Ok(NodeReport {
            name: "n1".to_owned(),
            version: "1.2.3".to_owned(),
            boot: None,
            upgrade: None,
            block_portals: vec!["127.0.0.1:3260".to_owned()],
            sessions: 2,
            files: Ok(files),
        })
    }

    async fn client_counts(&self) -> Result<HashMap<VolumeId, u64>, OrderError> {
        self.reach()?;
        Ok(self.state().connected.iter().map(|volume| (*volume, 1)).collect())
    }

    async fn restart_files(&self, after: u32) -> Result<u32, OrderError> {
        self.reach()?;
        Ok(after + 1)
    }

    async fn check_binary(
        &self,
        binary: Option<String>,
        _kept_out: Vec<String>,
    ) -> Result<Binary, OrderError> {
        self.reach()?;
        match binary {
            Some(path) => Err(OrderError::Refused { why: format!("{path}: it is no program") }),
            None => Ok(Binary {
                path: "/bin/commonhold".to_owned(),
                version: "1.2.4".to_owned(),
                catalog: control::catalog_formats(),
            }),
        }
    }

    async fn upgrade(&self, _operation: OperationId, _binary: String) -> Result<(), OrderError> {
        self.reach()
    }

    async fn pool_usage(&self) -> Result<Vec<PoolUsage>, OrderError> {
        self.reach()?;
        let usage = |pool: &PoolId| PoolUsage {
            pool: *pool,
            capacity: ByteSize::gib(1 << 20),
            used: ByteSize::gib(1),
            provisioned: ByteSize::gib(2),
            copies: None,
        };
        Ok(self.state().pools.iter().map(usage).collect())
    }

    async fn probe(&self, volume: VolumeId) -> Result<Vec<Found>, OrderError> {
        self.reach()?;
        Ok(self.state().content.get(&volume).cloned().into_iter().collect())
    }

    async fn image_size(&self, _: String, _: ImageFormat) -> Result<ByteSize, OrderError> {
        self.reach()?;
        Ok(ByteSize(5 << 20))
    }

    async fn file_usage(&self, _volume: VolumeId) -> Result<FileUsage, OrderError> {
        self.reach()?;
        let (used_bytes, available_bytes) = (1 << 20, 5 << 20);
        Ok(FileUsage { used_bytes, available_bytes, used_inodes: 3, available_inodes: Some(7) })
    }

    async fn file_clients(&self, volume: VolumeId) -> Result<Vec<ConnectedClient>, OrderError> {
        self.reach()?;
        let client = ConnectedClient {
            address: [127, 0, 0, 1].into(),
            name: Some("Linux NFSv4.2 h1".to_owned()),
            version: "4.2".to_owned(),
            opens: 2,
            locks: 1,
            last_call_age_ms: 9,
        };
        Ok(self.state().connected.contains(&volume).then_some(client).into_iter().collect())
    }

    async fn snapshot_usage(&self, _volume: VolumeId) -> Result<Vec<SnapshotUsage>, OrderError> {
        Ok(Vec::new())
    }

    async fn backup(
        &self,
        _volume: VolumeId,
        snapshot: Option<String>,
    ) -> Result<control::Pieces, OrderError> {
        // What it was asked for, in two pieces.
        let (send, pieces) = tokio::sync::mpsc::channel(2);
        let word = snapshot.unwrap_or_else(|| "the living tree".to_owned());
        for piece in ["tar.zst of ".to_owned(), word] {
            send.send(Ok(piece.into())).await.expect("there is room for two");
        }
        Ok(pieces)
    }

    async fn restore(
        &self,
        _volume: VolumeId,
        acls: model::file::Acls,
        mut from: control::Pieces,
    ) -> Result<(), OrderError> {
        let mut all = Vec::new();
        while let Some(piece) = from.recv().await {
            let broken = |why: std::io::Error| OrderError::Refused { why: why.to_string() };
            all.extend_from_slice(&piece.map_err(broken)?);
        }
        let has_acls = all.starts_with(b"tar.zst with acls");
        if has_acls && acls == model::file::Acls::Keep {
            return Err(OrderError::Refused { why: "say --drop-acls".to_owned() });
        }
        if all.starts_with(b"tar.zst") {
            return Ok(());
        }
        Err(OrderError::Refused { why: "the stream: it is no archive".to_owned() })
    }

    async fn carry(
        &self,
        _volume: VolumeId,
        _pool: model::id::PoolId,
    ) -> Result<control::Pieces, OrderError> {
        Err(OrderError::Refused { why: "this node has no trees".to_owned() })
    }

    async fn receive(
        &self,
        _volume: VolumeId,
        _pool: model::id::PoolId,
        _from: control::Pieces,
    ) -> Result<model::order::Carried, OrderError> {
        Err(OrderError::Refused { why: "this node has no trees".to_owned() })
    }

    async fn reservations(&self, volume: VolumeId) -> Result<ReservationView, OrderError> {
        self.reach()?;
        if self.state().cleared.contains(&volume) {
            return Ok(ReservationView { generation: 4, ..ReservationView::default() });
        }
        let registrant = RegistrantView {
            host: None,
            host_name: Some("h1".to_owned()),
            iqn: "iqn.2026-11.test:h1".to_owned(),
            isid: "00023d000001".to_owned(),
            key: u64::MAX - 1,
            holder: true,
            last_command_age_ms: Some(12),
            session: true,
        };
        let change = ReservationChange {
            at_ms: 1_800_000_000_000,
            action: "reserve".to_owned(),
            by: "h1".to_owned(),
            what: "h1 reserved the volume".to_owned(),
        };
        Ok(ReservationView {
            generation: 3,
            reservation_type: Some("Write Exclusive - Registrants Only".to_owned()),
            type_code: Some(5),
            persist_through_power_loss: true,
            lost: false,
            registrants: vec![registrant],
            history: vec![change],
        })
    }

    async fn progress(&self, _volume: VolumeId) -> Result<Option<(u64, u64)>, OrderError> {
        self.reach()?;
        Ok(self.state().busy.then_some((3, 10)))
    }

    async fn cancel(&self, volume: VolumeId) -> Result<(), OrderError> {
        self.reach()?;
        self.state().cancelled.insert(volume);
        Ok(())
    }
}
