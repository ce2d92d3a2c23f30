//! How this host reaches its volumes: by the kernel's initiator, or by a program's own.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use api::agent::{AgentAttachment, Assignments};
use env::whole;
use model::id::VolumeId;
use serde::{Deserialize, Serialize};

use super::kernel;
use crate::agent::Settings;
use crate::group::Way;

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

/// The volumes of this host.
pub(super) struct Ways {
    kernel: bool,
    own_name: String,
    file: PathBuf,
    logins: BTreeMap<VolumeId, Login>,
    ways: BTreeMap<VolumeId, Way>,
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
        Ok(Self { kernel, own_name, file, logins, ways: BTreeMap::new() })
    }

    /// The way to a volume.
    pub(super) fn to(&self, volume: VolumeId) -> Way {
        let none =
            || Way::Nowhere { why: "the volume is not attached to this host yet".to_owned() };
        self.ways.get(&volume).cloned().unwrap_or_else(none)
    }

    /// Attach what is new, detach what is gone, see what has grown.
    pub(super) async fn follow(&mut self, assignments: &Assignments) {
        self.ways.clear();
        for attachment in &assignments.attachments {
            let way = if self.kernel { self.login(attachment).await } else { self.own(attachment) };
            self.ways.insert(attachment.volume_id, way);
        }
        let attached = |volume: &VolumeId| {
            assignments.attachments.iter().any(|attachment| attachment.volume_id == *volume)
        };
        let gone: Vec<_> = self.logins.keys().filter(|volume| !attached(volume)).copied().collect();
        for volume in gone {
            let Some(login) = self.logins.get(&volume) else { continue };
            match kernel::log_out(login).await {
                Ok(()) => {
                    self.logins.remove(&volume);
                    self.keep();
                }
                Err(why) => tracing::warn!(why, target = login.target, "the volume is still there"),
            }
        }
    }

    fn own(&self, attachment: &AgentAttachment) -> Way {
        let connection = &attachment.connection;
        let Some(address) = connection.portals.first() else {
            return Way::Nowhere { why: "the service names no portal of the volume".to_owned() };
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

    async fn login(&mut self, attachment: &AgentAttachment) -> Way {
        match self.log_in(attachment).await {
            Ok(path) => Way::Device { path },
            Err(why) => {
                tracing::warn!(why, volume = attachment.volume_name, "no device of the volume");
                Way::Nowhere { why }
            }
        }
    }

    async fn log_in(&mut self, attachment: &AgentAttachment) -> Result<PathBuf, String> {
        let connection = &attachment.connection;
        let portal = connection.portals.first().ok_or("the service names no portal")?.clone();
        let login =
            Login { target: connection.target.clone(), portal, size_bytes: attachment.size_bytes };
        let known = self.logins.get(&attachment.volume_id);
        let device = kernel::device_of(&login.portal, &login.target, connection.lun);
        let there = env::mounts::real_path(&device).is_some();
        match known {
            Some(known) if *known == login && there => return Ok(device),
            Some(known)
                if known.target == login.target && known.portal == login.portal && there =>
            {
                kernel::rescan(&login).await?;
            }
            _ => {
                // Remembered first: a crash in between leaves nothing that nobody logs out.
                self.logins.insert(attachment.volume_id, login.clone());
                self.keep();
                kernel::log_in(&login, attachment.credentials.as_ref()).await?;
                return kernel::appears(device).await;
            }
        }
        self.logins.insert(attachment.volume_id, login);
        self.keep();
        Ok(device)
    }

    fn keep(&self) {
        let text = serde_json::to_string_pretty(&self.logins).map_err(io::Error::other);
        if let Err(error) = text.and_then(|text| whole::replace(&self.file, &text)) {
            tracing::error!(%error, "the logins cannot be kept");
        }
    }
}
