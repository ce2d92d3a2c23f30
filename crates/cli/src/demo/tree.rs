//! The part about file volumes: two clients in one tree over NFS, a mistake, and the way back.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use api::snapshot::CreateSnapshot;
use api::volume::{CreateVolume, RevertVolume, VolumeKind};
use bytes::Bytes;
use host::files::{Compound, FileClient, FilesError, Identity, Opening, Stable, Stateid, Who};
use model::size::ByteSize;
use tokio::task::block_in_place;

use super::{Demo, holds, milliseconds, say};
use crate::failure::Failure;

const TREE: &str = "uploads";
const SIZE: ByteSize = ByteSize(256 << 20);
const SNAPSHOT: &str = "before-the-mistake";
const PAGE: &str = "page.html";
const PICTURE: &str = "picture.svg";
/// How often each client reads what the other has just written.
const ROUNDS: u32 = 50;
/// Who the clients are to the server: an ordinary user, so that nobody is squashed.
const WEB: u32 = 33;
/// Where `nfs://HOST/...` is, which names no port.
const USUAL_PORT: u16 = 2049;

fn failed(why: FilesError) -> Failure {
    Failure::work(why.to_string())
}

/// A machine that has the tree mounted.
struct Site {
    client: FileClient,
    path: String,
    root: Bytes,
}

impl Site {
    fn mount(name: &str, (portal, path): &(SocketAddr, String)) -> Result<Self, Failure> {
        block_in_place(|| {
            let who = Who { uid: WEB, gid: WEB, gids: Vec::new() };
            let mut client = FileClient::connect(*portal, &Identity::named(name), &who, 4)?;
            client.reclaimed()?;
            let root = client.mount(path)?;
            Ok(Self { client, path: path.clone(), root })
        })
        .map_err(failed)
    }

    fn write(&mut self, name: &str, text: &str) -> Result<(), Failure> {
        let data = Bytes::copy_from_slice(text.as_bytes());
        block_in_place(|| {
            let file = self.client.open(&self.root, name, Opening::OrCreate(0o644))?;
            self.client.write_at(&file, 0, Stable::File, &data)?;
            self.client.close(&file)
        })
        .map_err(failed)
    }

    /// What a short file holds.
    fn read(&mut self, name: &str) -> Result<Bytes, Failure> {
        let path = format!("{}/{name}", self.path);
        block_in_place(|| {
            let file = self.client.mount(&path)?;
            // Who only reads need not open (RFC 8881 8.2.3).
            let compound = Compound::new().file(&file).read(&Stateid::ANONYMOUS, 0, 4096);
            self.client.call(compound)?.moved(1)?.read().map(|(_, data)| data)
        })
        .map_err(failed)
    }

    fn remove(&mut self, name: &str) -> Result<(), Failure> {
        block_in_place(|| self.client.remove(&self.root, name)).map_err(failed)
    }
}

impl Demo {
    /// Two clients write and read one tree; a snapshot brings it back.
    pub(super) async fn share_a_tree(&mut self) -> Result<(), Failure> {
        let place = self.make_tree().await?;
        let (mut one, mut two) = (Site::mount("web-1", &place)?, Site::mount("web-2", &place)?);
        for round in 0..ROUNDS {
            let (page, picture) = (format!("<h1>{round}</h1>"), format!("<svg id='{round}'/>"));
            one.write(PAGE, &page)?;
            two.write(PICTURE, &picture)?;
            let same = two.read(PAGE)? == page && one.read(PICTURE)? == picture;
            holds(same, "a client does not read what the other wrote")?;
        }
        say(&format!(
            "web-1 and web-2 mount it, write a file each and read that of the other, {ROUNDS} \
             times: always what was just written."
        ))?;
        self.show("two NFS clients in one tree", format!("{ROUNDS} of {ROUNDS} reads are fresh"));
        self.roll_back(one, two).await?;
        let mut back = Site::mount("web-3", &place)?;
        let (page, picture) =
            (format!("<h1>{}</h1>", ROUNDS - 1), format!("<svg id='{}'/>", ROUNDS - 1));
        let whole = back.read(PAGE)? == page && back.read(PICTURE)? == picture;
        holds(whole, "the rollback did not bring the files back")
    }

    async fn make_tree(&mut self) -> Result<(SocketAddr, String), Failure> {
        let volume = CreateVolume {
            name: TREE.into(),
            kind: Some(VolumeKind::File),
            size: Some(SIZE.into()),
            ..CreateVolume::default()
        };
        self.client.volume_create(&volume).await?;
        self.until_volume(TREE, "available").await?;
        let volume = self.client.volume_show(TREE).await?;
        let resource = volume.resource;
        let resource = resource.ok_or_else(|| Failure::work(format!("'{TREE}' is not served")))?;
        say(&format!("\nA file volume '{TREE}' of {SIZE}; any NFS client mounts {resource}."))?;
        split(&resource)
    }

    async fn roll_back(&mut self, mut one: Site, mut two: Site) -> Result<(), Failure> {
        let began = Instant::now();
        let (volume, name) = (TREE.to_owned(), SNAPSHOT.to_owned());
        let snapshot = CreateSnapshot { volume, name, ..CreateSnapshot::default() };
        let made = self.client.snapshot_create(&snapshot).await?.id.to_string();
        let end = began + Duration::from_secs(20);
        while self.client.snapshot_show(&made).await?.state != "available" {
            holds(Instant::now() < end, "the snapshot is not made in time")?;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let took = milliseconds(began.elapsed());
        one.remove(PICTURE)?;
        holds(two.read(PICTURE).is_err(), "a file that is removed can be read")?;
        let kept = two.read(&format!(".snapshots/{SNAPSHOT}/{PICTURE}"))?;
        holds(!kept.is_empty(), "the snapshot cannot be browsed")?;
        say(&format!(
            "A snapshot while both use it: {took}. web-1 removes web-2's file by mistake; in \
             .snapshots/{SNAPSHOT} it is still there."
        ))?;
        self.show("a snapshot of the tree while it is in use", took);
        let mut revert = RevertVolume { snapshot: made, force: false };
        let refused = self.client.volume_revert(TREE, &revert).await;
        let told = refused.is_err_and(|why| why.is("clients_connected"));
        holds(told, "a rollback under the clients' feet was not refused")?;
        revert.force = true;
        let began = Instant::now();
        self.client.volume_revert(TREE, &revert).await?;
        self.until_volume(TREE, "available").await?;
        let took = milliseconds(began.elapsed());
        say(&format!(
            "A rollback is refused while they are connected, and by --force cuts them off first: \
             {took}; the file is back."
        ))?;
        self.show("rollback, clients cut off first", took);
        Ok(())
    }
}

/// Portal and path of `nfs://ADDRESS[:PORT]/PATH`.
fn split(resource: &str) -> Result<(SocketAddr, String), Failure> {
    let bad = || Failure::work(format!("'{resource}' names no portal and path"));
    let rest = resource.strip_prefix("nfs://").ok_or_else(bad)?;
    let (portal, path) = rest.split_at(rest.find('/').ok_or_else(bad)?);
    let portal = portal.parse().or_else(|_| format!("{portal}:{USUAL_PORT}").parse());
    Ok((portal.map_err(|_| bad())?, path.to_owned()))
}
