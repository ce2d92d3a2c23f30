//! How a warden reaches its volume: by the way that the agent has said, and by one way as long as a
//! run of the guard is under way.

use ::guard::group::{Course, Stage};
use ::guard::{Liveness, Task};
use env::multipath::Map;
use env::scsi_device::ScsiDevice;
use model::group::Reservation;
use scsi::nexus::InitiatorPort;
use scsi::reservations::ReservationType;

use super::aside::aside;
use super::home::{Order, WRITER_ISID, Way};
use super::steps;
use super::warden::{PROBE, Warden};
use crate::guard::{GateError, Heirs, Volume};

impl Warden {
    /// The volume, and how it shows that an owner lives.
    pub(super) async fn reach(&mut self, adopts: bool) -> Result<(Volume, Liveness), String> {
        let mut volume = self.volume().await?;
        let task = if adopts { Task::Adopt } else { Task::Hold };
        let refused = |error: GateError| error.to_string();
        volume.claim(self.home.path(), Heirs::Nobody).await.map_err(refused)?;
        volume.make_way(task).await.map_err(refused)?;
        // An owner that is adopted must not wait for a volume that does not answer: it has to
        // freeze, and what is known about the target has not changed.
        let tells_ages = self.past.tells_ages.unwrap_or(true);
        let told = if tells_ages { Liveness::Ages } else { Liveness::Generation };
        if let Some(known) = self.liveness.or(adopts.then_some(told)) {
            return Ok((volume, known));
        }
        match tokio::time::timeout(PROBE, volume.probe()).await {
            Ok(Ok(liveness)) => Ok((volume, self.learn(liveness))),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("it does not answer".to_owned()),
        }
    }

    /// Kept for the next warden: one that adopts cannot ask.
    fn learn(&mut self, liveness: Liveness) -> Liveness {
        let tells_ages = Some(liveness == Liveness::Ages);
        if self.past.tells_ages != tells_ages {
            self.past.tells_ages = tells_ages;
            self.remember();
        }
        liveness
    }

    pub(super) fn unfit(&self) -> Option<String> {
        self.hands.spec().iter().find_map(|one| steps::unfit(&self.order.way, one))
    }

    async fn volume(&self) -> Result<Volume, String> {
        let kind = match self.order.group.policy.reservation {
            Reservation::WriteExclusive => ReservationType::WriteExclusiveRegistrantsOnly,
            Reservation::ExclusiveAccess => ReservationType::ExclusiveAccessRegistrantsOnly,
        };
        match &self.order.way {
            Way::Device { path } => {
                let (name, device) = (path.display(), path.clone());
                let opened = tokio::time::timeout(PROBE, aside(move || ScsiDevice::open(&device)));
                let opened = opened.await.map_err(|_| format!("{name} does not answer"))??;
                opened
                    .map(|device| Volume::device(device, kind))
                    .map_err(|why| format!("{name}: {why}"))
            }
            Way::Map { map, .. } => {
                let (name, path) = (map.display(), map.clone());
                let found = tokio::time::timeout(PROBE, aside(move || Map::of(&path)));
                let found = found.await.map_err(|_| format!("{name} does not answer"))??;
                let map = found.map_err(|why| format!("{name}: {why}"))?;
                let map = map.ok_or_else(|| format!("{name} is no multipath device"))?;
                Volume::multipath(map, kind).await.map_err(|why| format!("{name}: {why}"))
            }
            Way::Nowhere { why } => Err(why.clone()),
            Way::Portal { initiator, .. } => {
                let portal = self.order.way.portal().ok_or("there is no portal")?;
                let port = InitiatorPort::iscsi(initiator, WRITER_ISID);
                Ok(Volume::iscsi(portal, kind, vec![port]))
            }
        }
    }

    /// A run keeps its way to its end: the resources must be stopped by the device that they were
    /// started by, and what the guard has registered is what is written by.
    pub(super) fn with_its_way(&mut self, order: Order) -> Order {
        let idle = matches!(self.conduct.course(), Course::Idle(_));
        let idle = idle && self.hands.stage() == Stage::Down && self.hands.kept.is_none();
        self.rewires = !idle && order.way != self.order.way;
        if idle { order } else { Order { way: self.order.way.clone(), ..order } }
    }

    /// A run begins, by the way that the agent has said last: it may have made sessions since the
    /// order was read.
    ///
    /// # Errors
    /// There is no order that can be read: the old way may be one that must not be used any more.
    pub(super) fn rewire(&mut self) -> Result<(), String> {
        let order = self.home.order().map_err(|why| format!("the order cannot be read: {why}"))?;
        let order = order.ok_or("the order is gone")?;
        if order.way != self.order.way {
            self.order.way = order.way;
            self.liveness = None;
        }
        self.rewires = false;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use ::guard::Standing;
    use env::processes;
    use tokio::sync::mpsc;

    use super::super::home::{Home, Past};
    use super::*;

    fn order(way: &Way) -> Order {
        let text = serde_json::json!({
            "host": uuid::Uuid::from_u128(1), "host_name": "h", "way": way,
            "group": {
                "id": uuid::Uuid::new_v4(), "name": "g", "volume_id": uuid::Uuid::from_u128(7),
                "hosts": [], "resources": [], "policy": model::group::Policy::default(),
                "wanted": "started", "frozen": false, "generation": 1, "moved": 0,
                "permitted": 0, "heartbeat_key": "00"
            }
        });
        serde_json::from_value(text).unwrap()
    }

    /// The agent had made other sessions, and the warden contended for the volume by the old one.
    #[tokio::test]
    async fn a_run_does_not_begin_by_the_old_way_when_the_order_cannot_be_read() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::new(directory.path().to_owned());
        let path = |path: &str| Way::Device { path: path.into() };
        let first = order(&path("/dev/sda"));
        home.give_order(&first).unwrap();
        let (_asks, asks) = mpsc::channel(1);
        let (mut warden, _record) = Warden::open(home.clone(), asks).unwrap();
        home.give_order(&Order { way: path("/dev/sdb"), ..first }).unwrap();
        assert_eq!(warden.rewire(), Ok(()));
        assert_eq!(warden.order.way, path("/dev/sdb"));
        let file = directory.path().join("order.json");
        std::fs::write(&file, "of another version").unwrap();
        let why = warden.rewire().unwrap_err();
        assert!(why.contains("cannot be read"), "{why}");
        std::fs::remove_file(&file).unwrap();
        assert!(warden.rewire().is_err());
    }

    /// What could not be ended writes by the sessions that are there.
    #[tokio::test]
    async fn a_permission_does_not_forget_what_still_runs() {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::new(directory.path().to_owned());
        let order = order(&Way::Device { path: "/dev/sda".into() });
        home.give_order(&order).unwrap();
        let owned = Some((1, processes::boot_id().unwrap()));
        home.remember(&Past { owned: owned.clone(), ..Past::default() }).unwrap();
        let (_asks, asks) = mpsc::channel(1);
        let (mut warden, mut record) = Warden::open(home.clone(), asks).unwrap();
        record.save(&Standing::default()).unwrap();
        let mut sleep = Command::new("sleep");
        sleep.arg("600").env("COMMONHOLD_GROUP_RUN", order.run_of_host()).stdin(Stdio::null());
        let mut left = sleep.spawn().unwrap();
        warden.permits = true;
        warden.permit(&mut record).await.unwrap();
        assert_eq!(home.past().unwrap().owned, owned);
        left.kill().unwrap();
        left.wait().unwrap();
        warden.permits = true;
        warden.permit(&mut record).await.unwrap();
        assert_eq!(home.past().unwrap().owned, None);
    }
}
