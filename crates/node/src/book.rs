//! Who may reach what: the node's book of targets and accesses, and what the iSCSI machine asks
//! of it at login.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, RwLock};

use iscsi::target::{Authorization, Directory, TargetRecord};
use model::id::{AttachmentId, VolumeId};
use model::order::Access;

use crate::unit::LogicalUnit;

/// The name authority's part of every target name.
pub const TARGET_PREFIX: &str = "iqn.2026-11.io.commonhold:volume-";

/// The one portal group: all portals of a node reach the same target ports.
pub const PORTAL_GROUP: u16 = 1;

struct Entry {
    unit: Arc<LogicalUnit>,
    accesses: Vec<Arc<Access>>,
    /// Let in no more, but their detach or fence is not through.
    leaving: Vec<Arc<Access>>,
}

/// All targets of the node.
#[derive(Default)]
pub struct Book {
    entries: RwLock<HashMap<VolumeId, Entry>>,
    portals: RwLock<Vec<SocketAddr>>,
    /// Wakes who runs sanitizes: a unit may have one to do.
    pub(crate) sanitize: tokio::sync::Notify,
}

/// The target name of a volume.
#[must_use]
pub fn target_name(volume: VolumeId) -> String {
    format!("{TARGET_PREFIX}{volume}")
}

/// The volume of a target name.
#[must_use]
pub fn target_volume(name: &str) -> Option<VolumeId> {
    name.strip_prefix(TARGET_PREFIX)?.parse().ok()
}

impl Book {
    /// Open the target of a volume, for hosts that are let in next.
    pub fn open(&self, unit: &Arc<LogicalUnit>) {
        let fresh = || Entry { unit: Arc::clone(unit), accesses: Vec::new(), leaving: Vec::new() };
        self.write().entry(unit.id).or_insert_with(fresh);
        self.sanitize.notify_one();
    }

    /// Let a host in. The same attachment on other terms replaces what was known of it.
    pub fn admit(&self, unit: &Arc<LogicalUnit>, access: Access) {
        self.open(unit);
        let mut entries = self.write();
        let Some(entry) = entries.get_mut(&access.volume) else { return };
        entry.leaving.retain(|leaving| leaving.attachment != access.attachment);
        match entry.accesses.iter_mut().find(|known| known.attachment == access.attachment) {
            // An equal record keeps its address, so that nexuses keep their state.
            Some(known) if **known == access => {}
            Some(known) => *known = Arc::new(access),
            None => entry.accesses.push(Arc::new(access)),
        }
    }

    /// Let a host in no more. Gives what was known of it, until [`Self::part`].
    pub fn dismiss(&self, volume: VolumeId, attachment: AttachmentId) -> Option<Arc<Access>> {
        let mut entries = self.write();
        let entry = entries.get_mut(&volume)?;
        if let Some(at) = entry.accesses.iter().position(|known| known.attachment == attachment) {
            let access = entry.accesses.remove(at);
            entry.leaving.push(access);
        }
        entry.leaving.iter().find(|known| known.attachment == attachment).cloned()
    }

    /// The detach or fence of a dismissed host is through.
    pub fn part(&self, volume: VolumeId, attachment: AttachmentId) {
        if let Some(entry) = self.write().get_mut(&volume) {
            entry.leaving.retain(|known| known.attachment != attachment);
        }
    }

    /// May this attachment be used now?
    #[must_use]
    pub fn is_admitted(&self, volume: VolumeId, attachment: AttachmentId) -> bool {
        let known = |entry: &Entry| entry.accesses.iter().any(|a| a.attachment == attachment);
        self.read().get(&volume).is_some_and(known)
    }

    /// Take the target away when nobody may reach it and nobody is about to leave it; gives its
    /// unit when that was so.
    pub fn close_if_unused(&self, volume: VolumeId) -> Option<Arc<LogicalUnit>> {
        let mut entries = self.write();
        if entries.get(&volume)?.access_count() == 0 {
            return entries.remove(&volume).map(|entry| entry.unit);
        }
        None
    }

    /// The unit of a volume that somebody may reach.
    #[must_use]
    pub fn unit(&self, volume: VolumeId) -> Option<Arc<LogicalUnit>> {
        self.read().get(&volume).map(|entry| Arc::clone(&entry.unit))
    }

    /// All units.
    #[must_use]
    pub fn units(&self) -> Vec<Arc<LogicalUnit>> {
        self.read().values().map(|entry| Arc::clone(&entry.unit)).collect()
    }

    /// How many hosts may reach the volume, or are not yet gone from it.
    #[must_use]
    pub fn access_count(&self, volume: VolumeId) -> usize {
        self.read().get(&volume).map_or(0, Entry::access_count)
    }

    /// The unit and the access that an initiator name has to a target.
    #[must_use]
    pub fn find(&self, initiator: &str, target: &str) -> Option<(Arc<LogicalUnit>, Arc<Access>)> {
        let entries = self.read();
        let entry = entries.get(&target_volume(target)?)?;
        let access = entry.access_of(initiator)?;
        Some((Arc::clone(&entry.unit), Arc::clone(access)))
    }

    /// The unit with this NAA name, and the access that an initiator name has to it.
    #[must_use]
    pub fn named(&self, initiator: &str, naa: [u8; 16]) -> Option<(Arc<LogicalUnit>, Arc<Access>)> {
        let entries = self.read();
        let entry = entries.values().find(|entry| entry.unit.facts().naa == naa)?;
        let access = entry.access_of(initiator)?;
        Some((Arc::clone(&entry.unit), Arc::clone(access)))
    }

    /// What SendTargets tells of where to go.
    pub fn set_portals(&self, portals: Vec<SocketAddr>) {
        *self.portals.write().expect("no panic while the lock is held") = portals;
    }

    /// The portals' addresses, as `host:port`.
    #[must_use]
    pub fn portals(&self) -> Vec<String> {
        let portals = self.portals.read().expect("no panic while the lock is held");
        portals.iter().map(ToString::to_string).collect()
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, HashMap<VolumeId, Entry>> {
        self.entries.read().expect("no panic while the lock is held")
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, HashMap<VolumeId, Entry>> {
        self.entries.write().expect("no panic while the lock is held")
    }
}

impl Entry {
    fn access_count(&self) -> usize {
        self.accesses.len() + self.leaving.len()
    }

    fn access_of(&self, initiator: &str) -> Option<&Arc<Access>> {
        let known = |access: &&Arc<Access>| {
            access.initiators.iter().any(|name| name.eq_ignore_ascii_case(initiator))
        };
        self.accesses.iter().find(known)
    }
}

impl Directory for Book {
    fn visible_targets(&self, initiator: &str) -> Vec<TargetRecord> {
        let portals: Vec<_> =
            self.portals().into_iter().map(|portal| (portal, PORTAL_GROUP)).collect();
        let mut targets: Vec<_> = self
            .read()
            .iter()
            .filter(|(_, entry)| entry.access_of(initiator).is_some())
            .map(|(volume, _)| TargetRecord {
                name: target_name(*volume),
                portals: portals.clone(),
            })
            .collect();
        targets.sort_by(|a, b| a.name.cmp(&b.name));
        targets
    }

    /// Discovery is open: it shows an initiator name nothing but the targets that are its own,
    /// and no data. Every normal session needs the credentials of its attachment.
    fn authorize(&self, initiator: &str, target: Option<&str>) -> Authorization {
        let Some(target) = target else { return Authorization::Open };
        let entries = self.read();
        let Some(entry) = target_volume(target).and_then(|volume| entries.get(&volume)) else {
            return Authorization::NoSuchTarget;
        };
        match entry.access_of(initiator) {
            None => Authorization::Forbidden,
            Some(access) => match &access.chap {
                None => Authorization::Open,
                Some(chap) => Authorization::Chap {
                    user: chap.user.clone(),
                    secret: chap.secret.clone(),
                    mutual: Some((chap.target_user.clone(), chap.target_secret.clone())),
                },
            },
        }
    }
}
