//! The plan: what is wanted, less what the node has confirmed, as steps.
//!
//! Invariant: a pure function. It decides; `work` acts.

use std::collections::HashMap;

use model::attachment::{Attachment, AttachmentState};
use model::id::{PoolId, SnapshotId, VolumeId};
use model::operation::{Operation, OperationKind, OperationState};
use model::pool::{Pool, PoolState};
use model::snapshot::{Snapshot, SnapshotState};
use model::volume::{Volume, VolumeStatus};
use uuid::Uuid;

use crate::board::Step;

/// What the catalog wants and does not know to be so.
#[derive(Default)]
pub(crate) struct Desired {
    pub(crate) pools: Vec<Pool>,
    /// In a transient status.
    pub(crate) volumes: Vec<Volume>,
    /// In a transient state.
    pub(crate) snapshots: Vec<Snapshot>,
    /// In a transient state; and the attached ones that the node may not know.
    pub(crate) attachments: Vec<Attachment>,
    /// File volumes that clients are to have, and that the node may not know.
    pub(crate) exports: Vec<(VolumeId, PoolId)>,
    /// File volumes of which moves have left something in other pools.
    pub(crate) left: Vec<Volume>,
    /// Lost volumes of which not every node has been told.
    pub(crate) lost: Vec<VolumeId>,
    /// Not over.
    pub(crate) operations: Vec<Operation>,
    /// Where the volumes of those snapshots and attachments lie.
    pub(crate) pool_of: HashMap<VolumeId, PoolId>,
}

/// The steps that are possible now. A step that must follow another comes with a later plan.
pub(crate) fn plan(desired: &Desired, is_confirmed: impl Fn(Uuid) -> bool) -> Vec<Step> {
    let mut steps = Vec::new();
    for pool in &desired.pools {
        match pool.state {
            PoolState::Closing => steps.push(Step::ClosePool(pool.id)),
            _ if !is_confirmed(pool.id.0) => steps.push(Step::OpenPool(pool.id)),
            _ => {}
        }
    }
    let is_open = |pool: &PoolId| is_confirmed(pool.0);
    let lies_open = |volume: &VolumeId| desired.pool_of.get(volume).is_some_and(is_open);
    let moving: HashMap<SnapshotId, SnapshotState> =
        desired.snapshots.iter().map(|snapshot| (snapshot.id, snapshot.state)).collect();
    let is_broken = |pool: &PoolId| {
        desired.pools.iter().any(|one| one.id == *pool && one.state == PoolState::Error)
    };
    // A move whose source cannot be opened is tried and given up: nobody waits for it for ever.
    let goes = |volume: &&Volume| {
        let moves = matches!(volume.status, VolumeStatus::Moving { .. });
        is_open(&volume.pool) || (moves && is_broken(&volume.pool))
    };
    for volume in desired.volumes.iter().filter(goes) {
        steps.extend(volume_step(volume, desired, &moving));
    }
    for (volume, pool) in &desired.exports {
        if is_open(pool) && !is_confirmed(volume.0) {
            steps.push(Step::Export(*volume));
        }
    }
    // What is left over goes only after the volume is served where it lies.
    let served = |volume: &&Volume| {
        let is_served = volume.status.is_exported() && is_confirmed(volume.id.0);
        is_served && volume.left_in.iter().any(is_open)
    };
    steps.extend(desired.left.iter().filter(served).map(|volume| Step::ClearLeft(volume.id)));
    steps.extend(desired.lost.iter().map(|volume| Step::Bury(*volume)));
    for snapshot in desired.snapshots.iter().filter(|snapshot| lies_open(&snapshot.volume)) {
        match snapshot.state {
            SnapshotState::Creating => steps.push(Step::CreateSnapshot(snapshot.id)),
            SnapshotState::Deleting => steps.push(Step::DeleteSnapshot(snapshot.id)),
            SnapshotState::Available | SnapshotState::Error => {}
        }
    }
    for attachment in &desired.attachments {
        let lies_open = lies_open(&attachment.volume);
        steps.extend(attachment_step(attachment, is_confirmed(attachment.id.0), lies_open));
    }
    let of_nodes = desired.operations.iter();
    steps.extend(of_nodes.filter_map(|one| match one.kind {
        OperationKind::RestartNode { .. } => Some(Step::RestartNode(one.id)),
        OperationKind::EvacuateNode { .. } => Some(Step::EvacuateNode(one.id)),
        _ => None,
    }));
    for operation in desired.operations.iter().filter(|o| o.state == OperationState::Running) {
        if matches!(operation.kind, OperationKind::MergeSnapshot { .. }) {
            steps.push(Step::WatchMerge(operation.id));
        } else if operation.cancel_requested
            && !matches!(operation.kind, OperationKind::EvacuateNode { .. })
        {
            steps.push(Step::CancelWork(operation.id));
        }
    }
    steps
}

fn attachment_step(attachment: &Attachment, known: bool, lies_open: bool) -> Option<Step> {
    match attachment.state {
        AttachmentState::Attaching | AttachmentState::Changing if lies_open => {
            Some(Step::Attach(attachment.id))
        }
        AttachmentState::Attached if !known && lies_open => Some(Step::Attach(attachment.id)),
        // A host must be able to leave a volume whose pool is broken.
        AttachmentState::Detaching => Some(Step::Detach(attachment.id)),
        AttachmentState::Fencing => Some(Step::Fence(attachment.id)),
        AttachmentState::Attaching
        | AttachmentState::Attached
        | AttachmentState::Changing
        | AttachmentState::Error => None,
    }
}

fn volume_step(
    volume: &Volume,
    desired: &Desired,
    moving: &HashMap<SnapshotId, SnapshotState>,
) -> Option<Step> {
    match volume.status {
        VolumeStatus::Creating { .. } => {
            let source = volume.origin.snapshot().and_then(|snapshot| moving.get(&snapshot));
            (source != Some(&SnapshotState::Creating)).then_some(Step::CreateVolume(volume.id))
        }
        VolumeStatus::Deleting => {
            // Its snapshots go first.
            let busy = desired.snapshots.iter().any(|snapshot| snapshot.volume == volume.id);
            (!busy).then_some(Step::DeleteVolume(volume.id))
        }
        VolumeStatus::Extending { .. } | VolumeStatus::Shrinking { .. } => {
            Some(Step::ResizeVolume(volume.id))
        }
        VolumeStatus::Moving { .. } => Some(Step::MoveVolume(volume.id)),
        VolumeStatus::Reverting { .. } => Some(Step::RevertVolume(volume.id)),
        VolumeStatus::Exporting { .. } => Some(Step::ExportVolume(volume.id)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::id::{AttachmentId, HostId, ProjectId, VolumeTypeId};
    use model::order::Mode;
    use model::size::ByteSize;
    use model::text::Metadata;
    use model::volume::Origin;

    const POOL: PoolId = PoolId(Uuid::from_u128(1));
    const BASE: VolumeId = VolumeId(Uuid::from_u128(2));
    const CLONE: VolumeId = VolumeId(Uuid::from_u128(3));
    const SNAPSHOT: SnapshotId = SnapshotId(Uuid::from_u128(4));
    const PROJECT: ProjectId = ProjectId(Uuid::from_u128(5));

    fn volume(id: VolumeId, status: VolumeStatus, origin: Origin) -> Volume {
        Volume {
            id,
            project: PROJECT,
            name: "v".to_owned(),
            description: String::new(),
            metadata: Metadata::new(),
            volume_type: VolumeTypeId(Uuid::from_u128(6)),
            pool: POOL,
            size: ByteSize::gib(1),
            origin,
            export: None,
            affinity: Vec::new(),
            placed: String::new(),
            left_in: Vec::new(),
            status,
            fault: None,
            created_ms: 0,
        }
    }

    fn snapshot(state: SnapshotState) -> Snapshot {
        Snapshot {
            id: SNAPSHOT,
            project: PROJECT,
            volume: BASE,
            name: "s".to_owned(),
            description: String::new(),
            metadata: Metadata::new(),
            size: ByteSize::gib(1),
            state,
            fault: None,
            hidden_for: Some(CLONE),
            schedule: None,
            created_ms: 0,
        }
    }

    fn attachment(number: u128, state: AttachmentState) -> Attachment {
        Attachment {
            id: AttachmentId(Uuid::from_u128(number)),
            project: PROJECT,
            volume: BASE,
            host: HostId(Uuid::from_u128(number)),
            mode: Mode::ReadWrite,
            state,
            fault: None,
            connection: None,
            chap_user: None,
            data_loss_accepted_by: None,
            created_ms: 0,
        }
    }

    #[test]
    fn a_clone_waits_for_its_snapshot_and_a_deletion_for_the_last_one() {
        let origin = Origin::Volume { volume: BASE, snapshot: SNAPSHOT };
        let mut desired = Desired {
            volumes: vec![
                volume(CLONE, VolumeStatus::Creating { import: None }, origin),
                volume(BASE, VolumeStatus::Deleting, Origin::Blank),
            ],
            snapshots: vec![snapshot(SnapshotState::Creating)],
            pool_of: HashMap::from([(BASE, POOL)]),
            ..Desired::default()
        };
        assert_eq!(plan(&desired, |_| true), [Step::CreateSnapshot(SNAPSHOT)]);
        desired.snapshots.clear();
        assert_eq!(plan(&desired, |_| true), [Step::CreateVolume(CLONE), Step::DeleteVolume(BASE)]);
        assert_eq!(plan(&desired, |_| false), [], "nothing before the pool is open");
    }

    #[test]
    fn hosts_come_in_through_an_open_pool_and_leave_through_any() {
        let desired = Desired {
            attachments: vec![
                attachment(10, AttachmentState::Attaching),
                attachment(11, AttachmentState::Attached),
                attachment(12, AttachmentState::Detaching),
                attachment(13, AttachmentState::Fencing),
                attachment(14, AttachmentState::Error),
            ],
            pool_of: HashMap::from([(BASE, POOL)]),
            ..Desired::default()
        };
        let id = |number| AttachmentId(Uuid::from_u128(number));
        let leaving = [Step::Detach(id(12)), Step::Fence(id(13))];
        assert_eq!(plan(&desired, |_| false), leaving);
        let after_start = plan(&desired, |known| known == POOL.0);
        assert_eq!(after_start[..2], [Step::Attach(id(10)), Step::Attach(id(11))]);
        let later = plan(&desired, |_| true);
        assert_eq!(later[..1], [Step::Attach(id(10))]);
        assert_eq!(later[1..], leaving);
    }
}
