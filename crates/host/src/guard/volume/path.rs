//! One path of a guard to its volume: the same commands over a session of our own or through a
//! device.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ::guard::paths::{Command, PathId};
use ::guard::wire::{self, Ages, FullStatus, Out};
use ::guard::{Answer, Liveness, Seen};
use bytes::Bytes;
use env::scsi_device::{ScsiAnswer, ScsiDevice, Transfer};
use scsi::nexus::InitiatorPort;
use scsi::reservations::ReservationType;

use super::Picture;
use crate::{Credentials, Data, HostError, Initiator, Options, Outcome, TmfFunction, TmfResponse};

/// How long a short request may take before its answer is given up.
const PATIENCE: Duration = Duration::from_secs(1);
/// A preempt and a reset wait for writes that are under way. No longer than this: a preempt that
/// another host has aborted, because it was faster, is never answered (TAS=0), and a guard that
/// waits for it sees nothing. Given up too early it costs another reset, never safety.
const DRAIN_PATIENCE: Duration = Duration::from_secs(3);
/// Room for the device identification page.
const INQUIRY_BYTES: u16 = 0x400;
const ATTENTIONS_MAX: usize = 8;
const UNIT_ATTENTION: u8 = 0x06;
const RESERVATION_CONFLICT: u8 = 0x18;
const CHECK_CONDITION: u8 = 0x02;

/// Where an iSCSI target is, and who asks.
#[derive(Clone, Debug)]
pub struct Portal {
    /// `address:port`.
    pub address: String,
    pub target: String,
    /// The eight-byte SAM LUN.
    pub lun: u64,
    pub initiator: String,
    pub isid: [u8; 6],
    pub chap: Option<Credentials>,
}

enum Way {
    Iscsi { portal: Portal, session: Option<Initiator> },
    Device { device: Arc<ScsiDevice>, busy: Arc<AtomicBool> },
}

/// One path, and how the volume's reservation is held by it.
pub(in crate::guard) struct Path {
    pub(super) id: PathId,
    /// What the kernel calls its device; empty for a session of our own.
    pub(super) name: String,
    /// It did, the last time that all were asked.
    pub(super) answers: bool,
    way: Way,
    kind: ReservationType,
    pub(super) ages: bool,
    /// Other initiator ports of this host, which write while the volume is held.
    ports: Vec<InitiatorPort>,
}

/// What moves with a command.
enum Moves {
    Out(Vec<u8>),
    In(u16),
}

impl Path {
    /// `ports` are registered with the guard's key before the command starts.
    pub(super) fn iscsi(portal: Portal, kind: ReservationType, ports: Vec<InitiatorPort>) -> Self {
        let way = Way::Iscsi { portal, session: None };
        let (name, answers) = (String::new(), true);
        Self { id: PathId(0), name, answers, way, kind, ages: true, ports }
    }

    /// A device of this machine, whose initiator port is the command's too.
    pub(super) fn device(
        id: PathId,
        name: String,
        device: ScsiDevice,
        kind: ReservationType,
    ) -> Self {
        let way = Way::Device { device: Arc::new(device), busy: Arc::default() };
        Self { id, name, answers: true, way, kind, ages: true, ports: Vec::new() }
    }

    /// What this machine has read of it before it was held is not to be believed any more.
    ///
    /// # Errors
    /// The kernel may still remember it.
    pub(super) fn forget_cached(&self) -> std::io::Result<()> {
        match &self.way {
            Way::Iscsi { .. } => Ok(()),
            Way::Device { device, .. } => device.forget_cached(),
        }
    }

    /// Find out how this target shows that an owner lives.
    ///
    /// # Errors
    /// When it cannot be reached, or does not know PERSISTENT RESERVE IN.
    pub(super) async fn probe(&mut self) -> Result<Liveness, HostError> {
        self.read_status().await?;
        match self.run(&wire::ages_cdb(), Moves::In(wire::ALLOCATION_BYTES)).await {
            Ok(data) => self.ages = Ages::decode(&data).is_ok(),
            Err(HostError::Status { status: CHECK_CONDITION, .. }) => self.ages = false,
            Err(other) => return Err(other),
        }
        Ok(if self.ages { Liveness::Ages } else { Liveness::Generation })
    }

    /// Who is registered and who holds.
    ///
    /// # Errors
    /// [`HostError`] of the commands; [`HostError::Short`] for an answer that cannot be read.
    pub(super) async fn look(&mut self) -> Result<Picture, HostError> {
        let status = self.read_status().await?;
        let ages = if self.ages {
            let data = self.run(&wire::ages_cdb(), Moves::In(wire::ALLOCATION_BYTES)).await?;
            Some(Ages::decode(&data).map_err(|_| HostError::Short)?)
        } else {
            None
        };
        Ok(Picture { status, ages })
    }

    /// One PERSISTENT RESERVE OUT.
    ///
    /// # Errors
    /// [`HostError::Status`] for any status but GOOD.
    pub(super) async fn reserve_out(
        &mut self,
        action: Out,
        keys: (u64, u64),
    ) -> Result<(), HostError> {
        let (cdb, list) = wire::out(action, self.kind, keys, &[]);
        self.run(&cdb, Moves::Out(list)).await.map(drop)
    }

    /// Never fails: no answer is an answer.
    pub(super) async fn execute(&mut self, command: Command) -> Answer {
        let patience = if command.drains() { DRAIN_PATIENCE } else { PATIENCE };
        let Ok(answer) = tokio::time::timeout(patience, self.answer(command)).await else {
            self.give_up("no answer in time");
            return Answer::Failed;
        };
        match answer {
            Ok(answer) => answer,
            Err(HostError::Status { status: RESERVATION_CONFLICT, .. }) => Answer::Conflict,
            Err(error) => {
                tracing::debug!(%error, ?command, path = self.name, "the volume did not do it");
                Answer::Failed
            }
        }
    }

    async fn answer(&mut self, command: Command) -> Result<Answer, HostError> {
        match command {
            Command::Look => {
                let Picture { status, ages } = self.look().await?;
                Ok(Answer::Seen(Seen::of(&status, ages.as_ref())))
            }
            Command::Reset => self.reset().await,
            Command::Admit(key) => self.admit(key.number()).await,
            Command::Out { action, own, about } => {
                self.reserve_out(action, (own, about)).await.map(|()| Answer::Good)
            }
        }
    }

    /// What one of several paths that are asked says is noted; one that is not waited for was
    /// noted as silent.
    pub(super) fn noted<T>(&mut self, answer: Result<T, HostError>) -> Result<T, HostError> {
        self.answers = answer.is_ok();
        answer
    }

    pub(super) async fn patient_probe(&mut self) -> Result<Liveness, HostError> {
        self.answers = false;
        patient(self.probe()).await
    }

    pub(super) async fn patient_look(&mut self) -> Result<Picture, HostError> {
        self.answers = false;
        patient(self.look()).await
    }

    pub(super) async fn patient_out(
        &mut self,
        action: Out,
        keys: (u64, u64),
    ) -> Result<(), HostError> {
        patient(self.reserve_out(action, keys)).await
    }

    async fn read_status(&mut self) -> Result<FullStatus, HostError> {
        let cdb = wire::in_cdb(wire::READ_FULL_STATUS);
        let data = self.run(&cdb, Moves::In(wire::ALLOCATION_BYTES)).await?;
        FullStatus::decode(&data).map_err(|_| HostError::Short)
    }

    async fn reset(&mut self) -> Result<Answer, HostError> {
        match &mut self.way {
            Way::Iscsi { portal, session } => {
                let lun = portal.lun;
                let open = opened(portal, session).await?;
                match open.task_management(TmfFunction::LogicalUnitReset, lun).await? {
                    TmfResponse::Complete => Ok(Answer::Good),
                    other => Err(HostError::TaskManagement(other)),
                }
            }
            Way::Device { device, busy } => {
                let work = |device: &ScsiDevice| device.reset_unit();
                blocking(device, busy, work).await.map(|()| Answer::Good)
            }
        }
    }

    /// REGISTER of the command's ports, from a port of the guard's own that holds nothing: the
    /// standard lets only an unregistered port register others (SPC-5 5.14.7.3).
    async fn admit(&mut self, key: u64) -> Result<Answer, HostError> {
        let Way::Iscsi { portal, .. } = &self.way else { return Ok(Answer::Good) };
        let mut second = portal.clone();
        second.isid[5] ^= 0x80;
        let kind = self.kind;
        let ports = self.ports.clone();
        let mut second = Self::iscsi(second, kind, Vec::new());
        let (cdb, list) = wire::out(Out::Register, kind, (0, key), &ports);
        match second.run(&cdb, Moves::Out(list)).await {
            Ok(_) => Ok(Answer::Good),
            // All of them were registered before, if this one was: an answer was lost.
            Err(HostError::Status { status: RESERVATION_CONFLICT, .. }) => {
                second.reserve_out(Out::Register, (key, key)).await.map(|()| Answer::Good)
            }
            Err(other) => Err(other),
        }
    }

    /// What was sent may still be done; nothing more is sent on that road.
    fn give_up(&mut self, why: &str) {
        if let Way::Iscsi { portal, session } = &mut self.way {
            tracing::debug!(why, portal = portal.address, "the session is given up");
            *session = None;
        }
    }

    /// Run a command to GOOD; unit attentions are news and no failure.
    async fn run(&mut self, cdb: &[u8], moves: Moves) -> Result<Bytes, HostError> {
        for _ in 0..ATTENTIONS_MAX {
            match self.once(cdb, &moves).await {
                Err(HostError::Status { status: CHECK_CONDITION, key: UNIT_ATTENTION, .. }) => {}
                other => return other,
            }
        }
        Err(HostError::Lost("one unit attention after the other".to_owned()))
    }

    async fn once(&mut self, cdb: &[u8], moves: &Moves) -> Result<Bytes, HostError> {
        let outcome = match &mut self.way {
            Way::Iscsi { portal, session } => {
                let data = match moves {
                    Moves::Out(list) => Data::Out(vec![Bytes::copy_from_slice(list)]),
                    Moves::In(bytes) => Data::In(u32::from(*bytes)),
                };
                let lun = portal.lun;
                let ended = opened(portal, session).await?.execute(lun, cdb, data).await;
                if matches!(ended, Err(HostError::Lost(_))) {
                    *session = None;
                }
                ended?
            }
            Way::Device { device, busy } => through_device(device, busy, cdb, moves).await?,
        };
        match HostError::of(&outcome) {
            Some(error) => Err(error),
            None => Ok(outcome.data.concat().into()),
        }
    }
}

/// The session, opened when there is none. A new one under the same name ends what the one before
/// had sent, before it is answered (RFC 7143 6.3.5).
async fn opened<'a>(
    portal: &Portal,
    session: &'a mut Option<Initiator>,
) -> Result<&'a Initiator, HostError> {
    if session.is_none() {
        let mut options = Options::new(portal.initiator.clone(), Some(portal.target.clone()));
        options.isid = portal.isid;
        options.chap.clone_from(&portal.chap);
        *session = Some(Initiator::connect(&portal.address, options).await?);
    }
    session.as_ref().ok_or_else(|| HostError::Lost("no session".to_owned()))
}

async fn through_device(
    device: &Arc<ScsiDevice>,
    busy: &Arc<AtomicBool>,
    cdb: &[u8],
    moves: &Moves,
) -> Result<Outcome, HostError> {
    let cdb = cdb.to_vec();
    let (list, room) = match moves {
        Moves::Out(list) => (Some(list.clone()), 0),
        Moves::In(bytes) => (None, usize::from(*bytes)),
    };
    let timeout_ms = u32::try_from(DRAIN_PATIENCE.as_millis()).unwrap_or(u32::MAX);
    let answer = blocking(device, busy, move |device| {
        let transfer = match &list {
            Some(list) => Transfer::Out(list),
            None if room > 0 => Transfer::In(room),
            None => Transfer::Nothing,
        };
        device.execute(&cdb, transfer, timeout_ms)
    });
    let ScsiAnswer { status, sense, data } = answer.await?;
    let residual = crate::Residual::None;
    Ok(Outcome { response: 0, status, sense: sense.into(), data: vec![data.into()], residual })
}

/// One call at a time: one that hangs in the kernel is not joined by others.
async fn blocking<T: Send + 'static>(
    device: &Arc<ScsiDevice>,
    busy: &Arc<AtomicBool>,
    work: impl FnOnce(&ScsiDevice) -> std::io::Result<T> + Send + 'static,
) -> Result<T, HostError> {
    if busy.swap(true, Ordering::SeqCst) {
        return Err(HostError::Device("an earlier command has not come back".to_owned()));
    }
    let (device, busy) = (Arc::clone(device), Arc::clone(busy));
    let done = tokio::task::spawn_blocking(move || {
        let result = work(&device);
        busy.store(false, Ordering::SeqCst);
        result
    });
    let result = done.await.map_err(|error| HostError::Device(error.to_string()))?;
    result.map_err(|error| HostError::Device(told(&error)))
}

/// What is no SCSI device does not know the call at all.
fn told(error: &std::io::Error) -> String {
    match error.kind() {
        _ if error.raw_os_error() == Some(rustix::io::Errno::NOTTY.raw_os_error()) => {
            "it takes no SCSI commands; name a disk such as /dev/sdb".to_owned()
        }
        std::io::ErrorKind::PermissionDenied => {
            format!("{error}; commands that change reservations need CAP_SYS_RAWIO")
        }
        _ => error.to_string(),
    }
}

/// A preempt drains, so that this is as long as that may take.
async fn patient<T>(work: impl Future<Output = Result<T, HostError>>) -> Result<T, HostError> {
    let late = |_| HostError::Device("no answer in time".to_owned());
    tokio::time::timeout(DRAIN_PATIENCE, work).await.map_err(late)?
}

/// Which logical unit a device leads to, by its designators (SPC-5 7.7.6). Blocks until it has
/// answered.
///
/// # Errors
/// Why it does not tell.
pub(super) fn unit_of(device: &ScsiDevice) -> Result<Vec<u8>, String> {
    let [high, low] = INQUIRY_BYTES.to_be_bytes();
    let cdb = [0x12, 0x01, 0x83, high, low, 0];
    let timeout_ms = u32::try_from(PATIENCE.as_millis()).unwrap_or(u32::MAX);
    let answer = device.execute(&cdb, Transfer::In(usize::from(INQUIRY_BYTES)), timeout_ms);
    match answer.map_err(|error| told(&error))? {
        ScsiAnswer { status: 0, data, .. } => Ok(designators_of_unit(&data)),
        ScsiAnswer { status, .. } => Err(format!("INQUIRY ended with status {status:02x}h")),
    }
}

/// Out of the device identification page, those that are the logical unit's own.
fn designators_of_unit(page: &[u8]) -> Vec<u8> {
    let mut rest = page.get(4..).unwrap_or_default();
    let mut own = Vec::new();
    while let Some((head, body)) = rest.split_first_chunk::<4>() {
        let Some((designator, next)) = body.split_at_checked(usize::from(head[3])) else { break };
        // ASSOCIATION 00b: of the logical unit, and of no port.
        if head[1] & 0x30 == 0 {
            own.extend(head);
            own.extend(designator);
        }
        rest = next;
    }
    own
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_names_a_port_is_left_out_of_the_units_designators() {
        let page = [
            0, 0x83, 0, 18, // head
            1, 0x03, 0, 4, 6, 1, 2, 3, // NAA of the unit
            1, 0x14, 0, 2, 0, 1, // relative port
            1, 0x03, 0, 9, // cut short
        ];
        assert_eq!(designators_of_unit(&page), page[4..12]);
        assert!(designators_of_unit(&[]).is_empty());
    }
}
