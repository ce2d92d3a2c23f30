//! The service ends, in order or by kill -9, while requests are under way; what was promised must
//! be there afterwards, and what was half done must come to an end.

use api::Size;
use api::attachment::AttachmentQuery;
use api::snapshot::{CreateSnapshot, SnapshotQuery};
use api::volume::ResizeVolume;
use model::size::ByteSize;
use tokio::task::JoinHandle;

use crate::lane::End;
use crate::ledger::BLOCK;
use crate::service::Service;
use crate::watch::LogWatch;
use crate::world::{Told, World, told, until};

/// A request that the restart may cut off: whether it took effect nobody can know.
struct Doomed {
    task: JoinHandle<()>,
    /// The snapshot that it was to delete.
    deletes: Option<String>,
}

impl World {
    pub(crate) async fn restart(&mut self, kill: bool) -> Told<()> {
        let mut going = Vec::new();
        if self.dice.below(2) == 0 {
            going.push(self.doomed_snapshot());
        }
        if self.dice.below(2) == 0 {
            going.extend(self.doomed_delete());
        }
        if self.dice.below(2) == 0 {
            going.push(self.doomed_grow());
        }
        let pause = u64::try_from(self.dice.below(60)).expect("it is small");
        tokio::time::sleep(std::time::Duration::from_millis(pause)).await;
        let service = self.service.take().ok_or("it does not run")?;
        let home = if kill {
            service.kill()
        } else {
            let (status, home) = service.end();
            if !status.success() {
                return Err(format!("SIGTERM: the service ended with {status}"));
            }
            home
        };
        let mut deleted = Vec::new();
        for doomed in going {
            doomed.task.await.map_err(|error| error.to_string())?;
            deleted.extend(doomed.deletes);
        }
        for shelf in &mut self.shelves {
            for seat in shelf.seats.values_mut() {
                seat.stop(End::SessionLost).await?;
            }
            let ledger = shelf.ledger.lock().unwrap();
            let bounds = if kill { ledger.after_kill() } else { ledger.after_end() };
            drop(ledger);
            // One that nobody saw since it was made or reverted is still the same.
            shelf.pending.get_or_insert(bounds);
        }
        // A restart begins a new log.
        self.log.look(&LogWatch::path(home.path()))?;
        self.log.begin_again();
        self.service = Some(Service::start_in(home, &[]));
        self.connect()?;
        self.reconcile(&deleted).await?;
        self.everybody_again().await
    }

    async fn everybody_again(&mut self) -> Told<()> {
        for index in 0..self.shelves.len() {
            let hosts: Vec<usize> = self.shelves[index].seats.keys().copied().collect();
            for host in &hosts {
                self.log_in_again(index, *host).await?;
            }
            if !hosts.is_empty() {
                self.admit(index).await?;
            }
            for host in hosts {
                self.start_lanes(index, host);
            }
        }
        self.assert_registered().await
    }

    fn doomed_snapshot(&mut self) -> Doomed {
        let (index, name) = (self.dice.below(self.shelves.len()), self.new_name("doomed"));
        let volume = self.shelves[index].name.clone();
        let body = CreateSnapshot { volume, name, ..CreateSnapshot::default() };
        let client = self.client.clone();
        let task = async move { drop(client.snapshot_create(&body).await) };
        Doomed { task: tokio::spawn(task), deletes: None }
    }

    fn doomed_delete(&mut self) -> Option<Doomed> {
        let index = self.dice.below(self.shelves.len());
        let name = self.shelves[index].pictures.last()?.name.clone();
        let client = self.client.clone();
        let deletes = Some(name.clone());
        let task = async move { drop(client.snapshot_delete(&name).await) };
        Some(Doomed { task: tokio::spawn(task), deletes })
    }

    fn doomed_grow(&mut self) -> Doomed {
        let index = self.dice.below(self.shelves.len() - 1);
        let shelf = &self.shelves[index];
        let name = shelf.name.clone();
        let bytes = u64::try_from(shelf.blocks() * BLOCK).expect("it is small") + (1 << 20);
        let body = ResizeVolume { size: Size(ByteSize(bytes)) };
        let client = self.client.clone();
        let task = async move { drop(client.volume_resize(&name, &body).await) };
        Doomed { task: tokio::spawn(task), deletes: None }
    }

    /// Take over what became of the requests that were cut off.
    async fn reconcile(&mut self, deleted: &[String]) -> Told<()> {
        for index in 0..self.shelves.len() {
            let name = self.shelves[index].name.clone();
            let bytes = self.volume_rests(&name).await?;
            self.note_size(index, bytes);
        }
        self.snapshots_rest().await?;
        let all = self.client.every(&SnapshotQuery::default()).await.map_err(told)?;
        for found in &all {
            if found.name.starts_with("doomed") {
                self.client.snapshot_delete(&found.name).await.map_err(told)?;
                self.snapshot_gone(&found.name).await?;
            }
        }
        let is_there = |name: &String| all.iter().any(|found| found.name == *name);
        for shelf in &mut self.shelves {
            shelf.pictures.retain(|one| !deleted.contains(&one.name) || is_there(&one.name));
        }
        until("all attachments are there", || async {
            let all = self.client.every(&AttachmentQuery::default()).await.map_err(told)?;
            Ok(all.iter().all(|one| one.state == "attached").then_some(()))
        })
        .await
    }

    pub(crate) async fn snapshots_rest(&self) -> Told<()> {
        until("all snapshots rest", || async {
            let all = self.client.every(&SnapshotQuery::default()).await.map_err(told)?;
            match all.iter().find(|one| one.state == "error") {
                Some(bad) => Err(format!("{} is in error: {:?}", bad.name, bad.fault)),
                None => Ok(all.iter().all(|one| one.state == "available").then_some(())),
            }
        })
        .await
    }
}
