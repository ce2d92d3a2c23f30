//! A storage node of its own: its data plane and the door for a control plane elsewhere.
//!
//! It serves from its last orders, whether or not a control plane is there.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use env::whole;
use model::order::Notice;
use node::{Purpose, Sockets};
use serde::{Deserialize, Serialize};
use server::{Adoption, DoorRecord, NodeDoor};
use tokio::net::TcpListener;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::link::Link;
use super::upgrade::{Successor, Wish};
use super::{FileHome, Ground, Handover, addresses, at, end, notify, told_of_files};
use crate::failure::Failure;
use crate::output;
use crate::settings::ServeSettings;

/// What the node shows nobody and a control plane must know.
const SECRET: &str = "secret";
const IDENTITY: &str = "identity.json";
const ADOPTED: &str = "adopted.json";

/// Who the node is. It lies beside the node's orders: without them it is another node.
#[derive(Serialize, Deserialize)]
struct Identity {
    identity: Uuid,
    /// How often it has started.
    boot: u64,
}

/// What a door needs of the node's directory.
struct Papers {
    secret: String,
    identity: Identity,
    adoption: Option<Adoption>,
    directory: PathBuf,
}

fn read<T: for<'a> Deserialize<'a>>(path: &Path) -> io::Result<Option<T>> {
    let named = |why| io::Error::other(format!("{}: {why}", path.display()));
    whole::read(path)?.map(|text| serde_json::from_str(&text).map_err(named)).transpose()
}

fn write(path: &Path, value: &impl Serialize) -> io::Result<()> {
    whole::replace(path, &(serde_json::to_string(value)? + "\n"))
}

impl Papers {
    /// Those that are there, one start further; made at the first start.
    fn of(directory: PathBuf, random: &dyn env::Random) -> io::Result<Self> {
        super::make_directory(&directory)?;
        let path = directory.join(SECRET);
        let secret = match whole::read(&path)? {
            Some(text) if !text.trim().is_empty() => text.trim().to_owned(),
            _ => {
                let mut bytes = [0_u8; 32];
                random.fill(&mut bytes);
                let secret: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                whole::replace(&path, &format!("{secret}\n"))?;
                secret
            }
        };
        let path = directory.join(IDENTITY);
        let mut identity = read::<Identity>(&path)?.unwrap_or_else(|| {
            let mut bytes = [0_u8; 16];
            random.fill(&mut bytes);
            let identity = uuid::Builder::from_random_bytes(bytes).into_uuid();
            Identity { identity, boot: 0 }
        });
        identity.boot += 1;
        write(&path, &identity)?;
        let adoption = read(&directory.join(ADOPTED))?;
        Ok(Self { secret, identity, adoption, directory })
    }
}

/// Makes durable whose node it is.
fn keep(directory: &Path, record: &DoorRecord) -> io::Result<()> {
    let path = directory.join(ADOPTED);
    match record.adoption {
        Some(adoption) => write(&path, &adoption),
        None => whole::forget(&path),
    }
}

/// Run until `ended`, or until another program is to take this one's place.
pub(super) async fn run(
    settings: &ServeSettings,
    home: &FileHome,
    Handover { upgrade, sockets }: Handover,
    ended: impl Future<Output = ()> + Send,
) -> Result<Option<Successor>, Failure> {
    let data = settings.data.clone();
    let ground = Ground::take(settings, &sockets).await?;
    let (node, driver) = ground.node(settings, home, &sockets).await?;
    let metrics = settings.metrics.map(|asked| metrics_listener(asked, &sockets)).transpose()?;
    let (portals, notices) = (node.portals().to_vec(), node.notices());
    let files = home.why_not.clone().map_or_else(|| Ok(node.file_portals()), Err);
    sockets.settle();
    let papers = Papers::of(data.join("node"), &*ground.world.random);
    let papers = papers.map_err(|why| at(&data, &why))?;
    let (wish, mut wishes) = mpsc::unbounded_channel();
    let link = Arc::new(Link::new(node, home.why_not.clone(), data.clone(), wish));
    let record = DoorRecord { identity: papers.identity.identity, adoption: papers.adoption };
    let directory = papers.directory.clone();
    let keep = move |record: &DoorRecord| keep(&directory, record);
    let start = (papers.identity.boot, upgrade);
    let node_link = Arc::clone(&link) as _;
    let door = Arc::new(NodeDoor::new(node_link, papers.secret, record, keep, start));
    let teller = tokio::spawn(tell(Arc::clone(&door), notices));
    let mut text = format!("door     http://{}\n", super::reachable(ground.api));
    text += &format!("secret   {}\n", papers.directory.join(SECRET).display());
    text += &format!("portal   {}\n", addresses(&portals));
    if let Some(at) = metrics.as_ref().and_then(|listener| listener.local_addr().ok()) {
        text += &format!("metrics  http://{}/metrics\n", super::reachable(at));
    }
    text += &told_of_files(&files);
    if let Some(driver) = driver {
        let place = data.join("pools").join(super::FILE_POOL);
        text += &format!("pool     {} ({})\n", place.display(), driver.word());
    }
    output::write(&text)?;
    notify(&[sd_notify::NotifyState::Ready]);
    let limits =
        server::Limits { connections: settings.api_connections, descriptors: ground.descriptors };
    let (shows, metrics) = show_metrics(metrics, limits, &link);
    let mut ended = std::pin::pin!(ended);
    let mut wished: Option<Wish> = None;
    server::serve_node(ground.listener, limits, door, async {
        tokio::select! {
            () = &mut ended => {
                sockets.close();
                notify(&[sd_notify::NotifyState::Stopping]);
            }
            one = wishes.recv() => {
                wished = one;
                notify(&[sd_notify::NotifyState::Reloading]);
            }
        }
        tracing::info!("ending: orders that run may end");
    })
    .await;
    drop(shows);
    // What a page that broke off has logged is all that there is to say.
    let _ = metrics.await;
    link.stop().await;
    teller.abort();
    tracing::info!("ended");
    end(wished, ended, sockets, data).await
}

/// Where the metrics are shown.
fn metrics_listener(asked: SocketAddr, sockets: &Sockets) -> Result<TcpListener, Failure> {
    let listener = sockets.listen(Purpose::Metrics, asked).and_then(TcpListener::from_std);
    listener.map_err(|why| Failure::Serve {
        message: format!("cannot listen on {asked} for metrics: {why}"),
        hint: Some("Choose another address with --metrics.".into()),
    })
}

/// Show the metrics, where they are to be shown, until the other end is dropped.
fn show_metrics(
    listener: Option<TcpListener>,
    limits: server::Limits,
    link: &Arc<Link>,
) -> (oneshot::Sender<()>, JoinHandle<()>) {
    let (shows, shown) = oneshot::channel();
    let source = Arc::clone(link) as Arc<dyn server::MetricsSource>;
    let task = tokio::spawn(async move {
        let Some(listener) = listener else { return };
        let ended = async {
            let _: Result<(), _> = shown.await;
        };
        server::serve_metrics(listener, limits, source, ended).await;
    });
    (shows, task)
}

/// What the node sees by itself, the control plane is to hear.
async fn tell(door: Arc<NodeDoor>, mut notices: broadcast::Receiver<Notice>) {
    loop {
        match notices.recv().await {
            Ok(notice) => door.notice(notice),
            Err(broadcast::error::RecvError::Lagged(lost)) => {
                tracing::warn!(lost, "notices of the node were not kept");
            }
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_node_is_itself_through_its_starts_and_another_one_when_it_was_emptied() {
        let place = tempfile::tempdir().unwrap();
        let start = || Papers::of(place.path().join("node"), &env::OsRandom).unwrap();
        let (first, second) = (start(), start());
        assert_eq!(first.identity.identity, second.identity.identity);
        assert_eq!((first.identity.boot, second.identity.boot), (1, 2));
        assert_eq!(first.secret, second.secret);
        assert_eq!(first.secret.len(), 64);
        let mode = |name| {
            let path = place.path().join("node").join(name);
            std::fs::metadata(path).unwrap().permissions().mode() & 0o777
        };
        assert_eq!((mode(SECRET), mode(IDENTITY)), (0o600, 0o600));
        let adoption = Some(Adoption { control: Uuid::from_u128(7), term: 3 });
        let record = DoorRecord { identity: first.identity.identity, adoption };
        keep(&first.directory, &record).unwrap();
        assert_eq!(start().adoption, adoption);
        keep(&first.directory, &DoorRecord { adoption: None, ..record }).unwrap();
        assert_eq!(start().adoption, None);
        std::fs::remove_dir_all(place.path().join("node")).unwrap();
        let other = start();
        assert_ne!(other.identity.identity, first.identity.identity);
        assert_ne!(other.secret, first.secret);
    }
}
