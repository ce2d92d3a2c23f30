//! `commonhold serve`: control plane and storage node in one process, or one of them alone; see
//! [`apart`] for the node.
//!
//! ```text
//!  start: lock the data directory -> listen -> node (serves from its last orders) -> control
//!         -> pools of the first start -> say where we are -> tell systemd
//!  end:   no new requests, running ones end -> control's steps end -> node drains and flushes
//!         -> its last notices are recorded -> the catalog is closed
//!         -> main: the end, or the program that takes this one's place (`upgrade`)
//! ```

mod apart;
mod file_home;
mod link;
mod upgrade;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use control::{Caller, Control, PoolCreate};
use env::posix::signals;
use env::{Files, OsRandom, RealClock, RealFiles};
use model::order::Notice;
use model::pool::{Driver, PoolState};
use node::{Node, Purpose, Sockets, World};
use sd_notify::NotifyState;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinHandle;

use crate::client_file;
use crate::failure::Failure;
use crate::log;
use crate::output;
use crate::settings::{Role, ServeSettings};
use link::Link;
use upgrade::Wish;

pub(crate) use file_home::FileHome;
pub(crate) use upgrade::{Formats, Handover, Successor};

/// The pools of block volumes of the first start: one for each class of the types that we ship.
/// Both lie on the same file system; an operator who has several makes pools of their own.
const BLOCK_POOLS: [&str; 2] = ["ssd", "hdd"];
/// The class of the one of file volumes.
const FILE_POOL: &str = "file";
/// How long a start waits for them, and between two looks.
const POOLS_LIMIT: Duration = Duration::from_secs(10);
const POOLS_PAUSE: Duration = Duration::from_millis(10);
/// How long an end waits for the work of the node: an image may take hours, and is begun again by
/// the next start.
const STEPS_LIMIT: Duration = Duration::from_secs(30);
/// How long an end waits until what the node said last is recorded.
const RECORD_LIMIT: Duration = Duration::from_secs(5);

/// How long a signal that the process was sent may take until the runtime tells of it.
const HEARD_LIMIT: Duration = Duration::from_millis(20);

/// The storage node in this process.
struct Inside {
    link: Arc<Link>,
    /// Records what the node says until the node is gone.
    recorder: JoinHandle<()>,
}

/// What a daemon stands on, whatever it is.
struct Ground {
    world: World,
    listener: TcpListener,
    /// Where it listens.
    api: SocketAddr,
    descriptors: u64,
    /// As long as it lives, no second daemon uses the directory.
    lock: Box<dyn Send + Sync>,
}

impl Ground {
    async fn take(settings: &ServeSettings, sockets: &Sockets) -> Result<Self, Failure> {
        let data = &settings.data;
        let world = World {
            files: Arc::new(RealFiles),
            clock: Arc::new(RealClock::default()),
            random: Arc::new(OsRandom),
        };
        make_directory(data).map_err(|why| at(data, &why))?;
        let lock = locked(&*world.files, data).await.map_err(|why| at(data, &why))?;
        let listener = sockets.listen(Purpose::Api, settings.listen);
        let listener = listener.and_then(TcpListener::from_std).map_err(|why| Failure::Serve {
            message: format!("cannot listen on {}: {why}", settings.listen),
            hint: Some("Is another service running there? Choose with --listen.".into()),
        })?;
        let api = listener.local_addr().map_err(|why| at(data, &why))?;
        let descriptors = env::raise_descriptor_limit();
        Ok(Self { world, listener, api, descriptors, lock })
    }

    /// The storage node, and the driver for a new pool of file volumes.
    async fn node(
        &self,
        settings: &ServeSettings,
        home: &FileHome,
        sockets: &Sockets,
    ) -> Result<(Node, Option<Driver>), Failure> {
        let pools = settings.data.join("pools");
        make_directory(&pools).map_err(|why| at(&pools, &why))?;
        let driver = home.prepare(&pools, settings.capacity);
        let node_settings = node_settings(settings, home, self.descriptors);
        let node = Node::start(node_settings, self.world.clone(), sockets.clone()).await;
        let node = node.map_err(|why| Failure::Serve {
            message: why.to_string(),
            hint: Some("Choose the portals with --portals and --nfs-portals.".into()),
        })?;
        Ok((node, driver))
    }
}

/// A running service.
pub(crate) struct Daemon {
    control: Control,
    /// The storage node, where it is in this process.
    inside: Option<Inside>,
    listener: TcpListener,
    limits: server::Limits,
    /// Where the API listens.
    pub(crate) api: SocketAddr,
    /// Where the iSCSI portals listen.
    pub(crate) portals: Vec<SocketAddr>,
    /// Where the NFS portals listen, or why there are none.
    pub(crate) files: Result<Vec<SocketAddr>, String>,
    /// The operator's token, if it was made now. It is shown to a person or it is lost.
    pub(crate) first_token: Option<String>,
    sockets: Sockets,
    /// What is to take its place.
    wishes: mpsc::UnboundedReceiver<Wish>,
    /// Without a node there is nobody who wishes, and the end of all wishes is none.
    _wish: mpsc::UnboundedSender<Wish>,
    data: PathBuf,
    /// As long as it lives, no second daemon uses the directory.
    _lock: Box<dyn Send + Sync>,
}

/// Run until SIGTERM or SIGINT, or until another program is to take this one's place.
pub(crate) async fn run(
    settings: &ServeSettings,
    home: &FileHome,
    new_token: bool,
    handover: Handover,
) -> Result<Option<Successor>, Failure> {
    log::start(&settings.log, settings.log_format)?;
    if settings.role == Role::Node {
        return apart::run(settings, home, handover, end_signal()?).await;
    }
    let mut daemon = Daemon::start(settings, home, handover).await?;
    if new_token && daemon.first_token.is_none() {
        let renewed = daemon.control.operator_token_renew().await.map_err(refused)?;
        daemon.first_token = Some(renewed.secret);
    }
    daemon.introduce(settings)?;
    let ended = end_signal()?;
    notify(&[NotifyState::Ready]);
    daemon.serve_until(ended).await
}

/// Take the data directory. A daemon that was killed may hold it for a moment longer: the kernel
/// ends its threads one by one.
async fn locked(files: &dyn Files, data: &Path) -> io::Result<Box<dyn Send + Sync>> {
    const PATIENCE: Duration = Duration::from_secs(3);
    const PAUSE: Duration = Duration::from_millis(50);
    let begun = Instant::now();
    loop {
        match files.lock_dir(data) {
            Err(error)
                if error.kind() == io::ErrorKind::WouldBlock && begun.elapsed() < PATIENCE =>
            {
                tokio::time::sleep(PAUSE).await;
            }
            other => return other,
        }
    }
}

impl Daemon {
    /// Bring everything up; nothing is served before this returns but the node's last orders.
    pub(crate) async fn start(
        settings: &ServeSettings,
        home: &FileHome,
        Handover { upgrade, sockets }: Handover,
    ) -> Result<Self, Failure> {
        let data = &settings.data;
        let ground = Ground::take(settings, &sockets).await?;
        let (wish, wishes) = mpsc::unbounded_channel();
        let (mut local, mut heard, mut portals) = (None, None, Vec::new());
        let mut files = Err(home.why_not.clone().unwrap_or_default());
        let mut file_driver = None;
        if settings.role == Role::All {
            let (node, driver) = ground.node(settings, home, &sockets).await?;
            portals = node.portals().to_vec();
            heard = Some(node.notices());
            files = home.why_not.clone().map_or_else(|| Ok(node.file_portals()), Err);
            file_driver = driver;
            let link = Link::new(node, home.why_not.clone(), data.clone(), wish.clone());
            local = Some(Arc::new(link));
        }
        sockets.settle();
        let wanted = control::Settings {
            chap: settings.chap.0,
            event_days: settings.event_days,
            ..control::Settings::below(data)
        };
        make_directory(&wanted.image_dir).map_err(|why| at(&wanted.image_dir, &why))?;
        let doors = server::HttpDoors::new().map_err(|message| Failure::Serve {
            message,
            hint: Some("Look at what the machine allows the process.".into()),
        })?;
        let links = control::NodeLinks {
            local: local.clone().map(|link| link as Arc<dyn control::NodeLink>),
            doors: Some(Arc::new(doors)),
        };
        let Ground { world, listener, api, descriptors, lock } = ground;
        let (control, first_token) =
            Control::open(wanted, links, world.clock, world.random).await.map_err(refused)?;
        control.start();
        let inside = local.zip(heard).map(|(link, notices)| {
            let recorder = tokio::spawn(record_notices(control.clone(), notices));
            Inside { link, recorder }
        });
        let limits = server::Limits { connections: settings.api_connections, descriptors };
        let daemon = Self {
            control,
            inside,
            listener,
            limits,
            api,
            portals,
            files,
            first_token,
            sockets,
            wishes,
            _wish: wish,
            data: data.clone(),
            _lock: lock,
        };
        if settings.role == Role::All {
            daemon.ensure_pools(settings, file_driver).await?;
        }
        daemon.control.upgraded(upgrade).await.map_err(refused)?;
        Ok(daemon)
    }

    async fn ensure_pools(
        &self,
        settings: &ServeSettings,
        file_driver: Option<Driver>,
    ) -> Result<(), Failure> {
        let of_blocks = BLOCK_POOLS.into_iter().map(|class| (class, Driver::Local));
        let of_files = file_driver.map(|driver| (FILE_POOL, driver));
        for (class, driver) in of_blocks.chain(of_files) {
            let path = settings.data.join("pools").join(class);
            let pool = PoolCreate {
                node: None,
                name: first_pool(class),
                class: class.to_owned(),
                path: path.display().to_string(),
                driver,
                io: settings.io,
                capacity: settings.capacity,
            };
            self.control.pool_ensure(&Caller::system(), pool).await.map_err(refused)?;
        }
        // Who is told our address makes a volume next. A pool that cannot be opened is no reason
        // not to start: its state says why.
        let _ = tokio::time::timeout(POOLS_LIMIT, self.pools_opened()).await;
        Ok(())
    }

    async fn pools_opened(&self) {
        for class in BLOCK_POOLS.into_iter().chain([FILE_POOL]) {
            let name = first_pool(class);
            while let Ok(pool) = self.control.pool_get(&Caller::system(), &name).await
                && pool.state == PoolState::Opening
            {
                tokio::time::sleep(POOLS_PAUSE).await;
            }
        }
    }

    /// Say where we are, and the token this once.
    fn introduce(&self, settings: &ServeSettings) -> Result<(), Failure> {
        let url = format!("http://{}", reachable(self.api));
        let mut text = format!("API      {url}\n");
        if self.inside.is_some() {
            text += &format!("portal   {}\n", addresses(&self.portals));
            text += &told_of_files(&self.files);
        }
        if settings.client_file {
            let left = client_file::leave(&settings.data, &url, self.first_token.as_deref());
            match left {
                Ok(paths) if paths.is_empty() => {}
                Ok(paths) => {
                    let paths: Vec<_> =
                        paths.iter().map(|path| path.display().to_string()).collect();
                    text += &format!("client   {}\n", paths.join(", "));
                }
                Err(why) => tracing::warn!(%why, "the client's settings could not be left"),
            }
        }
        if let Some(token) = &self.first_token {
            text += &format!("token    {token}   (admin; shown this once)\n");
        }
        output::write(&text)
    }

    /// Serve until `ended`, or until another program is to take this one's place; then end in
    /// order.
    pub(crate) async fn serve_until(
        mut self,
        ended: impl Future<Output = ()> + Send,
    ) -> Result<Option<Successor>, Failure> {
        let metrics: Arc<dyn server::MetricsSource> = match &self.inside {
            Some(inside) => Arc::clone(&inside.link) as _,
            None => Arc::new(NoNode),
        };
        let mut ended = std::pin::pin!(ended);
        let mut wish = None;
        server::serve(self.listener, self.limits, self.control.clone(), metrics, async {
            tokio::select! {
                () = &mut ended => {
                    // Who connects from now on is refused.
                    self.sockets.close();
                    notify(&[NotifyState::Stopping]);
                }
                wished = self.wishes.recv() => {
                    wish = wished;
                    notify(&[NotifyState::Reloading]);
                }
            }
            tracing::info!("ending: requests that run may end");
        })
        .await;
        if tokio::time::timeout(STEPS_LIMIT, self.control.end_steps()).await.is_err() {
            tracing::warn!("work of the node does not end in time; the next start begins it again");
        }
        if let Some(Inside { link, recorder }) = self.inside {
            link.stop().await;
            // The sessions that the node has just closed belong to the audit trail, so that the
            // catalog outlives the node.
            if tokio::time::timeout(RECORD_LIMIT, recorder).await.is_err() {
                tracing::warn!("the last notices of the node may be missing from the events");
            }
        }
        self.control.close().await;
        tracing::info!("ended");
        end(wish, ended, self.sockets, self.data).await
    }
}

/// The last of a daemon: who comes after it, unless it was told to end.
async fn end(
    wish: Option<Wish>,
    ended: impl Future<Output = ()> + Send,
    sockets: Sockets,
    data: PathBuf,
) -> Result<Option<Successor>, Failure> {
    let Some(wish) = wish else { return Ok(None) };
    // Nothing is left that has to end in order: until the next program is there a signal ends the
    // process at once, and none is swallowed.
    signals::end_at_once().map_err(|why| Failure::Io { what: "signals".into(), why })?;
    // Told to end before, nobody is to come after.
    if tokio::time::timeout(HEARD_LIMIT, ended).await.is_ok() {
        return Ok(None);
    }
    Ok(Some(Successor { wish, sockets, data }))
}

/// The metrics of a daemon without a storage node.
struct NoNode;

impl server::MetricsSource for NoNode {
    fn metrics(&self) -> String {
        String::new()
    }
}

fn addresses(portals: &[SocketAddr]) -> String {
    portals.iter().map(SocketAddr::to_string).collect::<Vec<_>>().join(", ")
}

/// Where files are served, or why not.
fn told_of_files(files: &Result<Vec<SocketAddr>, String>) -> String {
    match files {
        Ok(portals) if portals.is_empty() => String::new(),
        Ok(portals) => format!("files    {} (NFS)\n", addresses(portals)),
        Err(why) => format!("files    not served: {why}\n"),
    }
}

fn first_pool(class: &str) -> String {
    format!("local-{class}")
}

fn node_settings(settings: &ServeSettings, home: &FileHome, descriptors: u64) -> node::Settings {
    node::Settings {
        data_dir: settings.data.join("node"),
        portals: settings.portals.clone(),
        advertise: Vec::new(),
        workers: settings.workers,
        engine: env::IoEngine::Auto,
        iscsi: iscsi::target::Settings {
            // One command of a confused initiator fails; its session goes on.
            data_out_disorder: iscsi::target::Disorder::FailTask,
            ..iscsi::target::Settings::default()
        },
        limits: node::Limits {
            places: settings.places,
            buffer_bytes: settings.buffers.0,
            descriptors,
        },
        files: node::files::FileSettings {
            portals: home.portals.clone(),
            lease_ms: settings.nfs_lease_ms,
            grace_ms: settings.nfs_lease_ms,
            rpcbind: settings.nfs_rpcbind,
            ..node::files::FileSettings::default()
        },
    }
}

/// What the node saw by itself becomes part of the audit trail.
async fn record_notices(control: Control, mut notices: broadcast::Receiver<Notice>) {
    loop {
        match notices.recv().await {
            Ok(notice) => {
                if let Err(why) = control.notice(notice).await {
                    tracing::warn!(%why, "a notice of the node could not be recorded");
                }
            }
            Err(broadcast::error::RecvError::Lagged(lost)) => {
                tracing::warn!(lost, "notices of the node were not recorded");
            }
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}

/// An address that a client on this machine can use: the wildcard is none.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

/// Only its owner may look into it: it holds the catalog, credentials and the bytes of volumes.
fn make_directory(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn at(path: &Path, why: &io::Error) -> Failure {
    Failure::Serve {
        message: format!("the data directory {} cannot be used: {why}", path.display()),
        hint: Some("Choose another one with --data, or end what uses it.".into()),
    }
}

fn refused(why: control::ControlError) -> Failure {
    Failure::Serve { message: why.to_string(), hint: Some(why.hint().to_owned()) }
}

/// systemd, where it started us; elsewhere there is nobody to tell.
fn notify(state: &[NotifyState<'_>]) {
    if let Err(why) = sd_notify::notify(state) {
        tracing::warn!(%why, "systemd could not be told");
    }
}

fn end_signal() -> Result<impl Future<Output = ()> + Send, Failure> {
    let failed = |why| Failure::Io { what: "signals".into(), why };
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_told_an_address_that_they_can_reach() {
        let told = |text: &str| reachable(text.parse().unwrap()).to_string();
        assert_eq!(told("0.0.0.0:7700"), "127.0.0.1:7700");
        assert_eq!(told("[::]:7700"), "[::1]:7700");
        assert_eq!(told("192.0.2.1:7700"), "192.0.2.1:7700");
    }
}
