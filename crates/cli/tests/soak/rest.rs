//! At rest everything must agree: the ledger, the catalog, the node, the files, the process.

use std::collections::BTreeSet;

use api::attachment::AttachmentQuery;
use api::operation::OperationQuery;
use api::pool::UpdatePool;
use api::snapshot::SnapshotQuery;
use api::volume::VolumeQuery;
use api::{Client, Size};
use model::size::ByteSize;

use crate::actions::key;
use crate::audit;
use crate::watch::{LogWatch, descriptors};
use crate::world::{TINY, Told, World, told, until, whole};

/// Descriptors that are neither of a pool's files nor a session's: listeners, rings, the catalog,
/// kept HTTP connections.
const DESCRIPTORS_BESIDE: usize = 80;

/// What a rest found the process to hold.
pub(crate) struct AtRest {
    pub(crate) descriptors: usize,
    pub(crate) files: usize,
    pub(crate) sessions: usize,
}

impl World {
    /// Stop the load, check everything, and start it again.
    pub(crate) async fn rest(&mut self) -> Told<AtRest> {
        let seats: Vec<(usize, usize)> = self
            .shelves
            .iter()
            .enumerate()
            .flat_map(|(index, shelf)| shelf.seats.keys().map(move |host| (index, *host)))
            .collect();
        for (index, host) in &seats {
            self.stop_lanes(*index, *host).await?;
        }
        self.assert_content().await?;
        self.assert_catalog().await?;
        self.assert_registered().await?;
        self.assert_gauges(seats.len()).await?;
        let files = self.assert_files().await?;
        let descriptors = self.assert_descriptors(files, seats.len())?;
        let log = LogWatch::path(self.service().home.path());
        self.log.look(&log)?;
        for (index, host) in &seats {
            self.start_lanes(*index, *host);
        }
        Ok(AtRest { descriptors, files, sessions: seats.len() })
    }

    /// Every block of every volume, by the eyes of each host in turn.
    async fn assert_content(&mut self) -> Told<()> {
        for shelf in &self.shelves {
            for seat in shelf.seats.values() {
                let bounds = shelf.ledger.lock().unwrap().after_end();
                let content = whole(&seat.unit, bounds.blocks()).await?;
                let wrong = |why| format!("{} at rest: {why}", shelf.name);
                bounds.check(&content).map_err(wrong)?;
            }
        }
        Ok(())
    }

    /// The catalog has what we made and nothing else, and all of it rests.
    async fn assert_catalog(&self) -> Told<()> {
        until("all operations end", || async {
            let all = self.client.every(&OperationQuery::default()).await.map_err(told)?;
            Ok(all.iter().all(|one| one.finished).then_some(()))
        })
        .await?;
        let same = |what: &str, ours: BTreeSet<String>, theirs: BTreeSet<String>| {
            let wrong = || format!("{what}: ours are {ours:?}, the catalog has {theirs:?}");
            (ours == theirs).then_some(()).ok_or_else(wrong)
        };
        let volumes = self.client.every(&VolumeQuery::default()).await.map_err(told)?;
        let rests = |shelf: &crate::world::Shelf| {
            let status = if shelf.seats.is_empty() { "available" } else { "in-use" };
            format!("{} {status} {}", shelf.name, shelf.blocks() * 512)
        };
        same(
            "volumes",
            self.shelves.iter().map(rests).collect(),
            volumes
                .iter()
                .map(|one| format!("{} {} {}", one.name, one.status, one.size_bytes))
                .collect(),
        )?;
        let snapshots = self.client.every(&SnapshotQuery::default()).await.map_err(told)?;
        let pictures = self.shelves.iter().flat_map(|shelf| &shelf.pictures);
        same(
            "snapshots",
            pictures.map(|picture| format!("{} available", picture.name)).collect(),
            snapshots.iter().map(|one| format!("{} {}", one.name, one.state)).collect(),
        )?;
        let attachments = self.client.every(&AttachmentQuery::default()).await.map_err(told)?;
        let seats = self.shelves.iter().flat_map(|shelf| shelf.seats.values());
        same(
            "attachments",
            seats.map(|seat| format!("{} attached", seat.attachment)).collect(),
            attachments.iter().map(|one| format!("{} {}", one.id, one.state)).collect(),
        )
    }

    /// Whoever was registered with APTPL still is, and nobody else.
    pub(crate) async fn assert_registered(&self) -> Told<()> {
        for shelf in &self.shelves {
            let state = self.client.volume_reservations(&shelf.name).await.map_err(told)?;
            if state.lost {
                return Err(format!("the reservations of {} are lost", shelf.name));
            }
            let found: BTreeSet<String> =
                state.registrants.into_iter().map(|one| one.key).collect();
            let ours: BTreeSet<String> =
                shelf.registered.iter().map(|host| format!("{:#018x}", key(*host))).collect();
            if ours != found {
                return Err(format!("{}: registered are {found:?}, not {ours:?}", shelf.name));
            }
        }
        Ok(())
    }

    async fn assert_gauges(&self, sessions: usize) -> Told<()> {
        until(&format!("no command runs, and {sessions} sessions are open"), || async {
            let page = self.client.metrics().await.map_err(told)?;
            let open = sum(&page, "commonhold_sessions{");
            let running = sum(&page, "commonhold_inflight_commands{");
            Ok((running == 0 && open == sessions).then_some(()))
        })
        .await
    }

    /// The pools' directories hold what the catalog says; merges have come to their end.
    async fn assert_files(&self) -> Told<usize> {
        let pools = self.client.every(&api::pool::PoolQuery::default()).await.map_err(told)?;
        let mut files = 0;
        for pool in &pools {
            let wanted = wanted_volumes(&self.client, &pool.id.to_string()).await?;
            let path = std::path::Path::new(&pool.path);
            let look = || async {
                let Some(found) = audit::read(path) else { return Ok(None) };
                let there: BTreeSet<String> = found.volumes.keys().cloned().collect();
                if there != wanted {
                    return Err(format!("{}: volumes {there:?}, wanted {wanted:?}", pool.name));
                }
                Ok(found.left_over.is_empty().then_some(found))
            };
            let found = until(&format!("the pool {} is tidy", pool.name), look).await;
            let left = || audit::read(path).map(|pool| pool.left_over);
            files += found.map_err(|why| format!("{why}: {:?}", left()))?.files;
        }
        Ok(files)
    }

    fn assert_descriptors(&self, files: usize, sessions: usize) -> Told<usize> {
        let all = descriptors(self.service().pid()).ok_or("the process cannot be looked at")?;
        let gone: Vec<_> = all
            .iter()
            .filter(|link| link.contains("(deleted)") && !link.contains("memfd"))
            .collect();
        if !gone.is_empty() {
            return Err(format!("descriptors of files that are gone: {gone:?}"));
        }
        let most = files + sessions + DESCRIPTORS_BESIDE;
        if all.len() > most {
            return Err(format!("{} descriptors, at most {most} expected: {all:?}", all.len()));
        }
        Ok(all.len())
    }

    /// The end: every snapshot is read back, and every volume once more.
    pub(crate) async fn close(&mut self) -> Told<usize> {
        let roomy = UpdatePool { capacity: Some(Size(ByteSize(1 << 30))), ..UpdatePool::default() };
        self.client.pool_update(TINY, &roomy).await.map_err(told)?;
        let mut read = 0;
        for index in 0..self.shelves.len() {
            for at in 0..self.shelves[index].pictures.len() {
                self.check_picture(index, at).await?;
                read += 1;
            }
        }
        for index in 0..self.shelves.len() {
            if self.shelves[index].seats.is_empty() {
                self.attach(index, 0, false).await?;
            }
        }
        self.rest().await?;
        for index in 0..self.shelves.len() {
            for host in 0..crate::world::HOSTS {
                self.stop_lanes(index, host).await?;
            }
        }
        let service = self.service.take().ok_or("it does not run")?;
        let (status, home) = service.end();
        self.log.look(&LogWatch::path(home.path()))?;
        if status.success() { Ok(read) } else { Err(format!("it ended with {status}")) }
    }
}

async fn wanted_volumes(client: &Client, pool: &str) -> Told<BTreeSet<String>> {
    let volumes = client.every(&VolumeQuery::default()).await.map_err(told)?;
    let inside = volumes.iter().filter(|volume| volume.pool_id.to_string() == pool);
    Ok(inside.map(|volume| volume.id.to_string()).collect())
}

/// The sum of a gauge over all its labels.
fn sum(page: &str, gauge: &str) -> usize {
    let lines = page.lines().filter(|line| line.starts_with(gauge));
    let values = lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<usize>().ok());
    values.sum()
}
