//! What an operator and the hosts do during the campaign, one at a time, while the load goes on.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use api::Size;
use api::snapshot::CreateSnapshot;
use api::volume::{
    CreateVolume, DeleteVolume, ExportVolume, ImageFile, ImageFormat, ResizeVolume, RetypeVolume,
    RevertVolume, VolumeSource,
};
use bytes::Bytes;
use host::HostError;
use model::size::ByteSize;

use crate::lane::End;
use crate::world::{
    HOSTS, LANES_PER_HOST, MULTI, Picture, SINGLE, Shelf, TINY, Told, World, past_attentions, told,
    until,
};

const MIB: u64 = 1 << 20;
/// Neither volumes nor clones nor snapshots grow without end: what leaks must stand out.
const VOLUME_BYTES_MAX: u64 = 24 << 20;
const SHELVES_MAX: usize = 7;
const PICTURES_MAX: usize = 4;
/// How long the small pool may take to be full.
const FULL_LIMIT: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Action {
    Attach,
    Detach,
    DetachUnderLoad,
    Fence,
    CutSession,
    Snapshot,
    SnapshotDelete,
    ReadSnapshot,
    CloneVolume,
    VolumeDelete,
    Revert,
    Grow,
    Retype,
    Reserve,
    ClearReservations,
    PoolFull,
    Terminate,
    KillNine,
}

use Action::{
    Attach, ClearReservations, CloneVolume, CutSession, Detach, DetachUnderLoad, Fence, Grow,
    KillNine, PoolFull, ReadSnapshot, Reserve, Retype, Revert, Snapshot, SnapshotDelete, Terminate,
    VolumeDelete,
};

/// Each action, and how many times it is in a deck.
pub(crate) const DECK: &[(Action, usize)] = &[
    (Attach, 8),
    (Detach, 2),
    (DetachUnderLoad, 2),
    (Fence, 2),
    (CutSession, 3),
    (Snapshot, 6),
    (SnapshotDelete, 4),
    (ReadSnapshot, 1),
    (CloneVolume, 1),
    (VolumeDelete, 1),
    (Revert, 1),
    (Grow, 2),
    (Retype, 1),
    (Reserve, 2),
    (ClearReservations, 2),
    (PoolFull, 1),
];
/// What a deck has besides, outside of the long life.
pub(crate) const RESTARTS: &[(Action, usize)] = &[(Terminate, 1), (KillNine, 1)];

impl World {
    /// Do it, if it can be done now; was it done?
    pub(crate) async fn act(&mut self, action: Action) -> Told<bool> {
        match action {
            Attach => self.attach_somebody().await,
            Detach => self.detach(false).await,
            DetachUnderLoad => self.detach(true).await,
            Fence => self.fence().await,
            CutSession => self.cut_session().await,
            Snapshot => self.snapshot().await,
            SnapshotDelete => self.snapshot_delete().await,
            ReadSnapshot => self.read_snapshot().await,
            CloneVolume => self.clone_volume().await,
            VolumeDelete => self.volume_delete().await,
            Revert => self.revert().await,
            Grow => self.grow().await,
            Retype => self.retype().await,
            Reserve => self.reserve().await,
            ClearReservations => self.clear_reservations().await,
            PoolFull => self.pool_full().await,
            Terminate => self.restart(false).await.map(|()| true),
            KillNine => self.restart(true).await.map(|()| true),
        }
    }

    /// Any of the shelves that fit.
    fn pick(&mut self, fits: impl Fn(&Shelf) -> bool) -> Option<usize> {
        let all: Vec<usize> =
            (0..self.shelves.len()).filter(|index| fits(&self.shelves[*index])).collect();
        (!all.is_empty()).then(|| all[self.dice.below(all.len())])
    }

    /// Any host that sits at the shelf.
    fn pick_seat(&mut self, index: usize) -> usize {
        let hosts: Vec<usize> = self.shelves[index].seats.keys().copied().collect();
        hosts[self.dice.below(hosts.len())]
    }

    async fn attach_somebody(&mut self) -> Told<bool> {
        // Those that nobody has first: the load shall be everywhere.
        let empty = self.pick(|shelf| shelf.seats.is_empty());
        let Some(index) = empty.or_else(|| self.pick(|shelf| shelf.seats.len() < HOSTS)) else {
            return Ok(false);
        };
        self.attach_to(index).await
    }

    async fn attach_to(&mut self, index: usize) -> Told<bool> {
        let shelf = &self.shelves[index];
        let free: Vec<usize> = (0..HOSTS).filter(|host| !shelf.seats.contains_key(host)).collect();
        let (taken, writers) = (shelf.seats.len(), shelf.writers());
        let must_fail = !shelf.multiattach && writers > 0;
        let host = free[self.dice.below(free.len())];
        let read_only = taken > 0 && self.dice.below(4) == 0;
        match self.attach(index, host, read_only).await {
            Err(why) if must_fail && !read_only && why.contains("(not_multiattach)") => Ok(true),
            Ok(()) if must_fail && !read_only => {
                Err("a second writer was let in without multi-attach".into())
            }
            other => other.map(|()| true),
        }
    }

    async fn detach(&mut self, under_load: bool) -> Told<bool> {
        let Some(index) = self.pick(|shelf| !shelf.seats.is_empty()) else { return Ok(false) };
        let host = self.pick_seat(index);
        self.detach_one(index, host, under_load).await.map(|()| true)
    }

    async fn detach_one(&mut self, index: usize, host: usize, under_load: bool) -> Told<()> {
        if !under_load {
            self.stop_lanes(index, host).await?;
        }
        let shelf = &mut self.shelves[index];
        let Some(mut seat) = shelf.seats.remove(&host) else { return Ok(()) };
        if !under_load {
            seat.session.logout().await.map_err(|error| error.to_string())?;
        }
        self.client.attachment_delete(&seat.attachment).await.map_err(told)?;
        self.attachment_gone(&seat.attachment).await?;
        if under_load {
            seat.stop(End::SessionLost).await?;
        }
        self.shelves[index].registered.remove(&host);
        self.settle_for(index, host).await
    }

    async fn attachment_gone(&self, id: &str) -> Told<()> {
        until("the attachment goes", || async {
            match self.client.attachment_show(id).await {
                Err(error) if error.is("attachment_not_found") => Ok(Some(())),
                Err(error) => Err(told(error)),
                Ok(now) if now.state == "error" => Err(format!("in error: {:?}", now.fault)),
                Ok(_) => Ok(None),
            }
        })
        .await
    }

    /// Another host looks at what the one that left has left: from now on it must not change.
    async fn settle_for(&mut self, index: usize, host: usize) -> Told<()> {
        let Some(other) = self.shelves[index].seats.keys().next().copied() else { return Ok(()) };
        for number in 0..LANES_PER_HOST {
            self.lane(index, host, number, other).settle_stripes().await?;
        }
        Ok(())
    }

    async fn fence(&mut self) -> Told<bool> {
        let Some(index) = self.pick(|shelf| shelf.seats.len() > 1) else { return Ok(false) };
        let host = self.pick_seat(index);
        let shelf = &mut self.shelves[index];
        let Some(mut seat) = shelf.seats.remove(&host) else { return Ok(false) };
        let fenced = self.client.attachment_fence(&seat.attachment).await.map_err(told)?;
        let registered = u32::from(shelf.registered.remove(&host));
        if (fenced.sessions_closed, fenced.registrations_removed) != (1, registered) {
            return Err(format!("{fenced:?}, and h{host} had {registered} registrations"));
        }
        // Nothing of it can land any more: what another host sees now is there to stay.
        self.settle_for(index, host).await?;
        seat.stop(End::SessionLost).await?;
        self.attachment_gone(&seat.attachment).await?;
        self.must_be_out(host, &seat).await?;
        Ok(true)
    }

    async fn cut_session(&mut self) -> Told<bool> {
        let Some(index) = self.pick(|shelf| !shelf.seats.is_empty()) else { return Ok(false) };
        let host = self.pick_seat(index);
        let Some(seat) = self.shelves[index].seats.get_mut(&host) else { return Ok(false) };
        seat.session.cut().await;
        seat.stop(End::SessionLost).await?;
        self.log_in_again(index, host).await?;
        self.start_lanes(index, host);
        Ok(true)
    }

    async fn snapshot(&mut self) -> Told<bool> {
        let fits = |shelf: &Shelf| shelf.pending.is_none() && shelf.pictures.len() < PICTURES_MAX;
        let Some(index) = self.pick(fits) else { return Ok(false) };
        let name = self.new_name("s");
        match self.snapshot_of(index, name).await {
            Err(why) if self.shelves[index].name == TINY && why.contains("(no_space)") => Ok(false),
            other => other.map(|()| true),
        }
    }

    async fn snapshot_of(&mut self, index: usize, name: String) -> Told<()> {
        let shelf = &self.shelves[index];
        let low = shelf.ledger.lock().unwrap().picture_begins();
        let body = CreateSnapshot {
            volume: shelf.name.clone(),
            name: name.clone(),
            ..CreateSnapshot::default()
        };
        self.client.snapshot_create(&body).await.map_err(told)?;
        until("the snapshot is there", || async {
            let now = self.client.snapshot_show(&name).await.map_err(told)?;
            match now.state.as_str() {
                "available" => Ok(Some(())),
                "error" => Err(format!("the snapshot is in error: {:?}", now.fault)),
                _ => Ok(None),
            }
        })
        .await?;
        let bounds = self.shelves[index].ledger.lock().unwrap().picture_ends(low);
        self.shelves[index].pictures.push(Picture { name, bounds });
        Ok(())
    }

    /// Its space comes back by a merge, which is not waited for.
    async fn snapshot_delete(&mut self) -> Told<bool> {
        let Some(index) = self.pick(|shelf| !shelf.pictures.is_empty()) else { return Ok(false) };
        let at = self.dice.below(self.shelves[index].pictures.len());
        self.delete_picture(index, at).await
    }

    async fn delete_picture(&mut self, index: usize, at: usize) -> Told<bool> {
        let name = self.shelves[index].pictures[at].name.clone();
        match self.client.snapshot_delete(&name).await {
            Ok(_) => {}
            Err(error) if error.is("snapshot_has_clones") => return Ok(false),
            Err(error) => return Err(told(error)),
        }
        self.snapshot_gone(&name).await?;
        self.shelves[index].pictures.remove(at);
        Ok(true)
    }

    pub(crate) async fn snapshot_gone(&self, name: &str) -> Told<()> {
        until("the snapshot goes", || async {
            match self.client.snapshot_show(name).await {
                Err(error) if error.is("snapshot_not_found") => Ok(Some(())),
                Err(error) => Err(told(error)),
                Ok(now) if now.state == "error" => Err(format!("in error: {:?}", now.fault)),
                Ok(_) => Ok(None),
            }
        })
        .await
    }

    async fn read_snapshot(&mut self) -> Told<bool> {
        // The small pool has no room for a clone.
        let fits = |shelf: &Shelf| !shelf.pictures.is_empty() && shelf.name != TINY;
        let Some(index) = self.pick(fits) else { return Ok(false) };
        let at = self.dice.below(self.shelves[index].pictures.len());
        self.check_picture(index, at).await.map(|()| true)
    }

    /// Read a snapshot by way of a clone's image; half of the times by way of an image's image.
    pub(crate) async fn check_picture(&mut self, index: usize, at: usize) -> Told<()> {
        let name = self.shelves[index].pictures[at].name.clone();
        let mut look = self.new_name("look");
        self.make(&look, VolumeSource::Snapshot(name.clone()), None).await?;
        if self.dice.below(2) == 0 {
            let path = self.export(&look, ImageFormat::Qcow2).await?;
            let bytes = self.volume_rests(&look).await?;
            let again = self.new_name("look");
            let image = ImageFile { path: path.clone(), format: ImageFormat::Qcow2 };
            self.make(&again, VolumeSource::Image(image), Some(bytes)).await?;
            std::fs::remove_file(path).map_err(|error| error.to_string())?;
            self.remove(&look, false).await?;
            look = again;
        }
        let path = self.export(&look, ImageFormat::Raw).await?;
        self.remove(&look, false).await?;
        let content = std::fs::read(&path).map_err(|error| error.to_string())?;
        std::fs::remove_file(path).map_err(|error| error.to_string())?;
        let bounds = &self.shelves[index].pictures[at].bounds;
        let wrong = |why| format!("snapshot {name} of {}: {why}", self.shelves[index].name);
        bounds.check(&content).map(drop).map_err(wrong)
    }

    async fn make(&self, name: &str, source: VolumeSource, bytes: Option<u64>) -> Told<u64> {
        // An image needs a place; whatever comes from a snapshot stays in that one's pool.
        let image = matches!(source, VolumeSource::Image(_));
        let body = CreateVolume {
            name: name.to_owned(),
            size: bytes.map(|bytes| Size(ByteSize(bytes))),
            volume_type: image.then(|| SINGLE.to_owned()),
            source: Some(source),
            ..CreateVolume::default()
        };
        self.client.volume_create(&body).await.map_err(told)?;
        self.volume_rests(name).await
    }

    async fn export(&self, name: &str, format: ImageFormat) -> Told<String> {
        let word = if format == ImageFormat::Raw { "raw" } else { "qcow2" };
        let path = self.service().path(&format!("{name}.{word}")).display().to_string();
        let body = ExportVolume { path: path.clone(), format };
        let begun = self.client.volume_export(name, &body).await.map_err(told)?;
        let id = begun.id.to_string();
        until("the export ends", || async {
            let now = self.client.operation_show(&id).await.map_err(told)?;
            match now.state.as_str() {
                "succeeded" => Ok(Some(())),
                _ if now.finished => Err(format!("the export {}: {:?}", now.state, now.fault)),
                _ => Ok(None),
            }
        })
        .await?;
        Ok(path)
    }

    async fn remove(&self, name: &str, cascade: bool) -> Told<()> {
        let how = DeleteVolume { cascade, ..DeleteVolume::default() };
        self.client.volume_delete(name, &how).await.map_err(told)?;
        until(&format!("the volume {name} goes"), || async {
            match self.client.volume_show(name).await {
                Err(error) if error.is("volume_not_found") => Ok(Some(())),
                Err(error) => Err(told(error)),
                Ok(now) if now.status == "error" => Err(format!("in error: {:?}", now.fault)),
                Ok(_) => Ok(None),
            }
        })
        .await
    }

    async fn clone_volume(&mut self) -> Told<bool> {
        if self.shelves.len() >= SHELVES_MAX {
            return Ok(false);
        }
        let fits = |shelf: &Shelf| !shelf.pictures.is_empty() && shelf.name != TINY;
        let Some(index) = self.pick(fits) else { return Ok(false) };
        let at = self.dice.below(self.shelves[index].pictures.len());
        let picture = &self.shelves[index].pictures[at];
        let (source, bounds) = (picture.name.clone(), picture.bounds.clone());
        let name = self.new_name("clone");
        let bytes = self.make(&name, VolumeSource::Snapshot(source), None).await?;
        let multiattach = self.client.volume_show(&name).await.map_err(told)?.multiattach;
        let number = name.trim_start_matches("clone").parse().expect("a number of ours");
        let mut shelf = Shelf::new(number, &name, multiattach, bytes);
        shelf.pending = Some(bounds);
        self.shelves.push(shelf);
        let index = self.shelves.len() - 1;
        let host = self.dice.below(HOSTS);
        self.attach(index, host, false).await.map(|()| true)
    }

    /// Delete a clone with its snapshots, where nothing was cloned from them.
    async fn volume_delete(&mut self) -> Told<bool> {
        let Some(index) = self.pick(|shelf| shelf.name.starts_with("clone")) else {
            return Ok(false);
        };
        let hosts: Vec<usize> = self.shelves[index].seats.keys().copied().collect();
        for host in hosts {
            self.detach_one(index, host, true).await?;
        }
        match self.remove(&self.shelves[index].name, true).await {
            Err(why) if why.contains("(volume_has_dependents)") => Ok(false),
            other => {
                self.shelves.remove(index);
                other.map(|()| true)
            }
        }
    }

    /// All hosts leave, the volume goes back, they come again and check what they find.
    async fn revert(&mut self) -> Told<bool> {
        let Some(index) = self.pick(|shelf| !shelf.pictures.is_empty()) else { return Ok(false) };
        let hosts: Vec<(usize, bool)> =
            self.shelves[index].seats.iter().map(|(host, seat)| (*host, seat.read_only)).collect();
        for (host, _) in &hosts {
            self.detach_one(index, *host, false).await?;
        }
        let at = self.dice.below(self.shelves[index].pictures.len());
        let shelf = &self.shelves[index];
        let name = shelf.name.clone();
        let body = RevertVolume { snapshot: shelf.pictures[at].name.clone(), force: false };
        self.client.volume_revert(&name, &body).await.map_err(told)?;
        self.volume_rests(&name).await?;
        let fault = self.client.volume_show(&name).await.map_err(told)?.fault;
        let shelf = &mut self.shelves[index];
        match &fault {
            None => {
                let bounds = shelf.pictures[at].bounds.clone();
                shelf.pending = Some(bounds.longer(shelf.blocks()));
            }
            // A full pool has no room for the new layer, and the content stays what it was.
            Some(why) if name == TINY && why.contains("the pool is full") => {}
            Some(why) => return Err(why.clone()),
        }
        for (host, read_only) in hosts {
            self.attach(index, host, read_only).await?;
        }
        Ok(fault.is_none())
    }

    async fn grow(&mut self) -> Told<bool> {
        let most = usize::try_from(VOLUME_BYTES_MAX / 512).expect("it is small");
        let fits = |shelf: &Shelf| shelf.name != TINY && shelf.blocks() < most;
        let Some(index) = self.pick(fits) else { return Ok(false) };
        let name = self.shelves[index].name.clone();
        let bytes = self.volume_rests(&name).await? + MIB;
        let body = ResizeVolume { size: Size(ByteSize(bytes)) };
        self.client.volume_resize(&name, &body).await.map_err(told)?;
        let grown = self.volume_rests(&name).await?;
        if grown != bytes {
            return Err(format!("{name} was to grow to {bytes} and is {grown}"));
        }
        self.note_size(index, bytes);
        Ok(true)
    }

    pub(crate) fn note_size(&mut self, index: usize, bytes: u64) {
        let blocks = usize::try_from(bytes / 512).expect("it is small");
        let shelf = &mut self.shelves[index];
        shelf.ledger.lock().unwrap().grow(blocks);
        shelf.pending = shelf.pending.take().map(|bounds| bounds.longer(blocks));
    }

    async fn retype(&mut self) -> Told<bool> {
        let Some(index) = self.pick(|shelf| shelf.name != TINY) else { return Ok(false) };
        let shelf = &mut self.shelves[index];
        let volume_type = if shelf.multiattach { SINGLE } else { MULTI }.to_owned();
        let shared = shelf.seats.len() > 1;
        match self.client.volume_retype(&shelf.name, &RetypeVolume { volume_type }).await {
            Ok(_) if !shared => {
                shelf.multiattach = !shelf.multiattach;
                Ok(true)
            }
            Ok(_) => Err("multi-attach of a shared volume changed".into()),
            Err(error) if shared && error.is("retype_while_shared") => Ok(true),
            Err(error) => Err(told(error)),
        }
    }

    /// Hosts of a volume register, to last through a loss of power, and one reserves. Those that
    /// do not register are shut out of writing.
    async fn reserve(&mut self) -> Told<bool> {
        let free = |shelf: &Shelf| shelf.registered.is_empty() && shelf.seats.len() < HOSTS;
        let Some(index) = self.pick(|shelf| free(shelf) && shelf.multiattach) else {
            return Ok(false);
        };
        // It needs some who are shut out.
        while self.shelves[index].writers() < 2 && self.shelves[index].seats.len() < HOSTS {
            self.attach_to(index).await?;
        }
        // Write Exclusive, the same for registrants only, and for all registrants (SPC-5 6.16.3).
        let kind = [1, 5, 7][self.dice.below(3)];
        let holder = self.pick_seat(index);
        let hosts: Vec<usize> = self.shelves[index].seats.keys().copied().collect();
        for host in hosts {
            if host != holder && self.dice.below(3) == 0 {
                continue;
            }
            // REGISTER AND IGNORE EXISTING KEY with APTPL.
            let mut list = [0; 24];
            list[8..16].copy_from_slice(&key(host).to_be_bytes());
            list[20] = 1;
            let list = Bytes::copy_from_slice(&list);
            let shelf = &mut self.shelves[index];
            let unit = &shelf.seats[&host].unit;
            let register = past_attentions(|| unit.persistent_reserve_out(6, 0, list.clone()));
            register.await.map_err(|error| format!("REGISTER: {error}"))?;
            shelf.registered.insert(host);
        }
        let mut list = [0; 24];
        list[..8].copy_from_slice(&key(holder).to_be_bytes());
        let list = Bytes::copy_from_slice(&list);
        let shelf = &self.shelves[index];
        let unit = &shelf.seats[&holder].unit;
        match past_attentions(|| unit.persistent_reserve_out(1, kind, list.clone())).await {
            // Somebody holds one of another kind already.
            Ok(()) | Err(HostError::Status { status: 0x18, .. }) => {}
            Err(error) => return Err(format!("RESERVE: {error}")),
        }
        let state = self.client.volume_reservations(&shelf.name).await.map_err(told)?;
        let held = matches!(state.type_code, Some(1 | 5 | 7));
        held.then_some(true).ok_or_else(|| format!("nothing is reserved: {state:?}"))
    }

    async fn clear_reservations(&mut self) -> Told<bool> {
        let reserved = |shelf: &Shelf| !shelf.registered.is_empty();
        if self.pick(reserved).is_none() {
            self.reserve().await?;
        }
        let Some(index) = self.pick(reserved) else { return Ok(false) };
        let name = &self.shelves[index].name;
        self.client.volume_reservations_clear(name).await.map_err(told)?;
        self.shelves[index].registered.clear();
        Ok(true)
    }

    /// A snapshot makes every write to the small pool a copy, until nothing fits any more; its
    /// deletion gives the room back.
    async fn pool_full(&mut self) -> Told<bool> {
        let Some(index) = self.pick(|shelf| shelf.name == TINY) else { return Ok(false) };
        if self.shelves[index].writers() == 0 || self.shelves[index].pending.is_some() {
            return Ok(false);
        }
        if !self.shelves[index].registered.is_empty() {
            self.client.volume_reservations_clear(TINY).await.map_err(told)?;
            self.shelves[index].registered.clear();
        }
        let before = self.figures.no_space.load(Relaxed);
        let name = self.new_name("s");
        match self.snapshot_of(index, name).await {
            // So full that not even an empty layer fits.
            Err(why) if why.contains("(no_space)") => {}
            other => other?,
        }
        let limit = Instant::now() + FULL_LIMIT;
        while self.figures.no_space.load(Relaxed) == before && Instant::now() < limit {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let full = self.figures.no_space.load(Relaxed) > before;
        while !self.shelves[index].pictures.is_empty() && self.delete_picture(index, 0).await? {}
        Ok(full)
    }
}

pub(crate) fn key(host: usize) -> u64 {
    0xc0de_0000 + u64::try_from(host).expect("it is small")
}
