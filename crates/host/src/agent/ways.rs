//! How this host reaches its volumes: by the kernel's initiator, or by a program's own.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use api::agent::{AgentAttachment, Assignments};
use env::whole;
use model::id::VolumeId;
use serde::{Deserialize, Serialize};
use tokio::task::{self, JoinSet};

use super::kernel;
use crate::agent::Settings;
use crate::group::Way;

const NOT_ATTACHED: &str = "the volume is not attached to this host yet";
const NO_PORTAL: &str = "the service names no portal of the volume";

/// Which initiator logs in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Initiators {
    /// The kernel's where there is one, else this program's.
    Automatic,
    Kernel,
    /// This program's, and those of the groups' programs: no device, no mount.
    Own,
}

/// A login of the kernel's that this agent has made.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Login {
    pub(super) target: String,
    pub(super) portal: String,
    pub(super) size_bytes: u64,
}

/// What a program of the kernel's initiator has ended with.
enum Done {
    In(Login, Result<PathBuf, String>),
    Out(Result<(), String>),
}

/// The volumes of this host. Logins run beside each other: a portal that does not answer holds up
/// its own volume and nothing else.
pub(super) struct Ways {
    kernel: bool,
    own_name: String,
    file: PathBuf,
    logins: BTreeMap<VolumeId, Login>,
    ways: BTreeMap<VolumeId, Way>,
    under_way: JoinSet<(VolumeId, Done)>,
    busy: BTreeMap<VolumeId, task::Id>,
}

impl Ways {
    pub(super) fn open(settings: &Settings) -> io::Result<Self> {
        let kernel = match settings.initiators {
            Initiators::Automatic => kernel::is_there(),
            Initiators::Kernel => true,
            Initiators::Own => false,
        };
        let file = settings.state.join("logins.json");
        let logins = match whole::read(&file)? {
            Some(text) => serde_json::from_str(&text).map_err(io::Error::other)?,
            None => BTreeMap::new(),
        };
        let own_name = settings.initiator.clone();
        let (ways, under_way, busy) = (BTreeMap::new(), JoinSet::new(), BTreeMap::new());
        Ok(Self { kernel, own_name, file, logins, ways, under_way, busy })
    }

    /// The way to a volume; `None` while the first try is under way.
    pub(super) fn to(&self, volume: VolumeId) -> Option<Way> {
        let none = || Way::Nowhere { why: NOT_ATTACHED.to_owned() };
        let is_known = self.ways.contains_key(&volume) || !self.busy.contains_key(&volume);
        is_known.then(|| self.ways.get(&volume).cloned().unwrap_or_else(none))
    }

    /// Begin to attach what is new, to detach what is gone, to see what has grown.
    pub(super) fn follow(&mut self, assignments: &Assignments) {
        let attached = |volume: &VolumeId| {
            assignments.attachments.iter().any(|attachment| attachment.volume_id == *volume)
        };
        self.ways.retain(|volume, _| attached(volume));
        for attachment in &assignments.attachments {
            if !self.kernel {
                self.ways.insert(attachment.volume_id, self.own(attachment));
            } else if !self.busy.contains_key(&attachment.volume_id) {
                self.log_in(attachment);
            }
        }
        let gone = |(volume, login): (&VolumeId, &Login)| {
            let gone = !attached(volume) && !self.busy.contains_key(volume);
            gone.then(|| (*volume, login.clone()))
        };
        for (volume, login) in self.logins.iter().filter_map(gone).collect::<Vec<_>>() {
            self.begin(volume, async move { Done::Out(kernel::log_out(&login).await) });
        }
    }

    fn begin(&mut self, volume: VolumeId, work: impl Future<Output = Done> + Send + 'static) {
        let begun = self.under_way.spawn(async move { (volume, work.await) });
        self.busy.insert(volume, begun.id());
    }

    /// Wait until something that was begun has ended. Dropping the future loses nothing.
    pub(super) async fn settled(&mut self) {
        match self.under_way.join_next().await {
            Some(Ok((volume, done))) => self.settle(volume, done),
            // It has panicked, and is tried again.
            Some(Err(error)) => {
                tracing::error!(%error, "a login has ended badly");
                self.busy.retain(|_, id| *id != error.id());
            }
            None => std::future::pending().await,
        }
    }

    fn settle(&mut self, volume: VolumeId, done: Done) {
        self.busy.remove(&volume);
        match done {
            Done::In(login, Ok(path)) => {
                self.logins.insert(volume, login);
                self.keep();
                self.ways.insert(volume, Way::Device { path });
            }
            Done::In(login, Err(why)) => {
                tracing::warn!(why, target = login.target, "no device of the volume");
                self.ways.insert(volume, Way::Nowhere { why });
            }
            Done::Out(Ok(())) => {
                self.logins.remove(&volume);
                self.keep();
            }
            Done::Out(Err(why)) => tracing::warn!(why, %volume, "the volume is still there"),
        }
    }

    fn own(&self, attachment: &AgentAttachment) -> Way {
        let connection = &attachment.connection;
        let Some(address) = connection.portals.first() else {
            return Way::Nowhere { why: NO_PORTAL.to_owned() };
        };
        let chap = attachment.credentials.as_ref();
        Way::Portal {
            address: address.clone(),
            target: connection.target.clone(),
            lun: connection.lun,
            initiator: self.own_name.clone(),
            chap: chap.map(|chap| (chap.user.clone(), chap.secret.clone())),
        }
    }

    fn log_in(&mut self, attachment: &AgentAttachment) {
        let volume = attachment.volume_id;
        let connection = &attachment.connection;
        let Some(portal) = connection.portals.first().cloned() else {
            self.ways.insert(volume, Way::Nowhere { why: NO_PORTAL.to_owned() });
            return;
        };
        let login =
            Login { target: connection.target.clone(), portal, size_bytes: attachment.size_bytes };
        let device = kernel::device_of(&login.portal, &login.target, connection.lun);
        let there = env::mounts::real_path(&device).is_some();
        let known = self.logins.get(&volume).cloned();
        let is_same = |known: &Login| known.target == login.target && known.portal == login.portal;
        match known.filter(|known| there && is_same(known)) {
            Some(known) if known == login => {
                self.ways.insert(volume, Way::Device { path: device });
            }
            Some(_) => self.begin(volume, async move {
                let seen = kernel::rescan(&login).await.map(|()| device);
                Done::In(login, seen)
            }),
            None => {
                // Remembered first: a crash in between leaves nothing that nobody logs out.
                self.logins.insert(volume, login.clone());
                self.keep();
                let credentials = attachment.credentials.clone();
                self.begin(volume, async move {
                    let path = match kernel::log_in(&login, credentials.as_ref()).await {
                        Ok(()) => kernel::appears(device).await,
                        Err(why) => Err(why),
                    };
                    Done::In(login, path)
                });
            }
        }
    }

    fn keep(&self) {
        let text = serde_json::to_string_pretty(&self.logins).map_err(io::Error::other);
        if let Err(error) = text.and_then(|text| whole::replace(&self.file, &text)) {
            tracing::error!(%error, "the logins cannot be kept");
        }
    }
}
