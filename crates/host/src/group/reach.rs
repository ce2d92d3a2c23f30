//! How a warden reaches its volume: by the way that the agent has said, and by one way as long as a
//! run of the guard is under way.

use ::guard::Liveness;
use ::guard::group::{Course, Stage};
use env::multipath::Map;
use env::scsi_device::ScsiDevice;
use model::group::Reservation;
use scsi::nexus::InitiatorPort;
use scsi::reservations::ReservationType;

use super::aside::aside;
use super::home::{Order, WRITER_ISID, Way};
use super::steps;
use super::warden::{PROBE, Warden};
use crate::guard::Volume;

impl Warden {
    /// The volume, and how it shows that an owner lives.
    pub(super) async fn reach(&mut self, adopts: bool) -> Result<(Volume, Liveness), String> {
        let mut volume = self.volume().await?;
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
    pub(super) fn rewire(&mut self) {
        if let Ok(Some(order)) = self.home.order()
            && order.way != self.order.way
        {
            self.order.way = order.way;
            self.liveness = None;
        }
        self.rewires = false;
    }
}
