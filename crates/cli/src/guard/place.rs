//! Which volume, and who this host is.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use env::multipath::Map;
use env::scsi_device::ScsiDevice;
use host::Credentials;
use host::guard::{Portal, Volume};
use scsi::nexus::InitiatorPort;
use scsi::reservations::ReservationType;
use scsi::transport_id::port_from_name;

use crate::failure::Failure;

const SCHEME: &str = "iscsi://";
const PORT: &str = ":3260";
const STATE: &str = "/var/lib/commonhold/guard";
const INITIATOR_NAME: &str = "/etc/iscsi/initiatorname.iscsi";
const SECRET: &str = "COMMONHOLD_CHAP_SECRET";
/// Of the 'random' format (RFC 7143 11.12.5), and the same after every start: a guard that logs in
/// again is the same initiator port.
const ISID: [u8; 6] = [0x80, 0x67, 0x75, 0x00, 0x00, 0x01];

/// The types that a guard reserves with: one holder, and all its ports may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Type 5: other hosts may read
    #[value(name = "write-exclusive")]
    WriteExclusive,
    /// Type 6: other hosts may not even read
    #[value(name = "exclusive-access")]
    ExclusiveAccess,
}

#[derive(Args, Debug)]
pub(crate) struct PlaceArguments {
    /// The volume: /dev/sdX, a multipath device, or iscsi://ADDRESS[:PORT]/TARGET[/LUN]
    #[arg(long, value_name = "DEVICE")]
    device: String,
    /// Directory of the guard's record [default: /var/lib/commonhold/guard/<device>]
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Number of this host, 1 to 1048575 [default: from the machine id and the host's name]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..0x10_0000))]
    host_id: Option<u32>,
    /// What other hosts may do while the volume is held; equal on all hosts
    #[arg(long = "reserve", value_enum, default_value = "write-exclusive")]
    kind: Kind,
    /// Initiator name of this host, for iscsi:// [default: the one of open-iscsi]
    #[arg(long, value_name = "IQN")]
    initiator: Option<String>,
    /// CHAP user, for iscsi://; the secret is taken from COMMONHOLD_CHAP_SECRET
    #[arg(long, value_name = "USER")]
    chap_user: Option<String>,
    /// Take the CHAP secret from this file
    #[arg(long, value_name = "FILE", requires = "chap_user")]
    chap_secret_file: Option<PathBuf>,
    /// Initiator port through which the command writes, IQN,i,0xISID; for iscsi://
    #[arg(long = "writer", value_name = "PORT", value_parser = port)]
    writers: Vec<InitiatorPort>,
}

fn port(text: &str) -> Result<InitiatorPort, String> {
    port_from_name(text).ok_or_else(|| "write it as IQN,i,0x and twelve hex digits".to_owned())
}

fn usage(message: String, hint: &str) -> Failure {
    Failure::Usage { message, hint: hint.to_owned() }
}

impl PlaceArguments {
    pub(super) fn device(&self) -> &str {
        &self.device
    }

    pub(super) fn has_ports(&self) -> bool {
        !self.writers.is_empty()
    }

    pub(super) fn state_directory(&self) -> Result<PathBuf, Failure> {
        if let Some(directory) = &self.state {
            return Ok(directory.clone());
        }
        let safe = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '-' };
        let name: String = self.device.chars().map(safe).collect();
        Ok(Path::new(STATE).join(name.trim_matches('-')))
    }

    pub(super) fn host_id(&self) -> Result<u32, Failure> {
        if let Some(number) = self.host_id {
            return Ok(number);
        }
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let (machine, name) = (read("/etc/machine-id"), read("/proc/sys/kernel/hostname"));
        if machine.trim().is_empty() && name.trim().is_empty() {
            let message = "this host has neither a machine id nor a name".to_owned();
            return Err(usage(message, "Give it a number with --host-id, another on each host."));
        }
        Ok(guard::host_number(&format!("{} {}", machine.trim(), name.trim())))
    }

    pub(super) async fn volume(&self) -> Result<Volume, Failure> {
        let kind = match self.kind {
            Kind::WriteExclusive => ReservationType::WriteExclusiveRegistrantsOnly,
            Kind::ExclusiveAccess => ReservationType::ExclusiveAccessRegistrantsOnly,
        };
        if let Some(rest) = self.device.strip_prefix(SCHEME) {
            return Ok(Volume::iscsi(self.portal(rest)?, kind, self.writers.clone()));
        }
        if self.has_ports() {
            let message = "--writer belongs to iscsi:// alone".to_owned();
            return Err(usage(message, "A device's port is the command's too; leave it out."));
        }
        let failed = |why| Failure::Io { what: self.device.clone(), why };
        let path = Path::new(&self.device);
        if let Some(map) = Map::of(path).map_err(failed)? {
            return Volume::multipath(map, kind).await.map_err(failed);
        }
        let device = ScsiDevice::open(path).map_err(failed)?;
        Ok(Volume::device(device, kind))
    }

    /// Whether the volume is reached by several paths, or may be: a device that is not there now may
    /// be a multipath device.
    pub(super) fn may_have_paths(&self) -> bool {
        let map = || Map::of(Path::new(&self.device));
        !self.device.starts_with(SCHEME) && !matches!(map(), Ok(None))
    }

    fn portal(&self, rest: &str) -> Result<Portal, Failure> {
        let malformed = || {
            let message = format!("'{}' is no address of a volume", self.device);
            usage(message, "Write it as iscsi://ADDRESS[:PORT]/TARGET[/LUN].")
        };
        let (address, path) = rest.split_once('/').ok_or_else(malformed)?;
        let (target, lun) = path.split_once('/').unwrap_or((path, "0"));
        let lun: u8 = lun.parse().map_err(|_| malformed())?;
        if address.is_empty() || address.contains('@') || target.is_empty() {
            return Err(malformed());
        }
        let has_port = match address.rsplit_once(':') {
            Some((_, digits)) => digits.parse::<u16>().is_ok(),
            None => false,
        };
        let address = if has_port { address.to_owned() } else { format!("{address}{PORT}") };
        Ok(Portal {
            address,
            target: target.to_owned(),
            // Peripheral device addressing (SAM-5 4.7.7.2): the number stands in the second byte.
            lun: u64::from(lun) << 48,
            initiator: self.initiator()?,
            isid: ISID,
            chap: self.credentials()?,
        })
    }

    fn initiator(&self) -> Result<String, Failure> {
        if let Some(name) = &self.initiator {
            return Ok(name.clone());
        }
        let text = std::fs::read_to_string(INITIATOR_NAME).unwrap_or_default();
        let name = text.lines().find_map(|line| line.trim().strip_prefix("InitiatorName="));
        name.map(|name| name.trim().to_owned()).ok_or_else(|| {
            let message = "this host has no initiator name".to_owned();
            usage(message, "Give it with --initiator, as the volume's attachment has it.")
        })
    }

    fn credentials(&self) -> Result<Option<Credentials>, Failure> {
        let Some(user) = &self.chap_user else { return Ok(None) };
        let secret = match &self.chap_secret_file {
            Some(path) => {
                let failed = |why| Failure::Io { what: path.display().to_string(), why };
                std::fs::read_to_string(path).map_err(failed)?.trim_end().to_owned()
            }
            None => std::env::var(SECRET).map_err(|_| {
                let message = format!("there is a --chap-user and no {SECRET}");
                usage(message, "Set it, or name a file with --chap-secret-file.")
            })?,
        };
        Ok(Some(Credentials { user: user.clone(), secret }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(device: &str) -> PlaceArguments {
        PlaceArguments {
            device: device.to_owned(),
            state: None,
            host_id: None,
            kind: Kind::WriteExclusive,
            initiator: Some("iqn.2026-11.org.example:a".to_owned()),
            chap_user: None,
            chap_secret_file: None,
            writers: Vec::new(),
        }
    }

    fn portal(device: &str) -> Result<Portal, Failure> {
        place(device).portal(device.strip_prefix(SCHEME).unwrap())
    }

    #[test]
    fn addresses_of_volumes_are_read_and_others_refused() {
        let read = portal("iscsi://storage:3261/iqn.2026-11.io:v/2").unwrap();
        assert_eq!((&*read.address, &*read.target), ("storage:3261", "iqn.2026-11.io:v"));
        assert_eq!(read.lun, 2 << 48);
        let read = portal("iscsi://[::1]/iqn.2026-11.io:v").unwrap();
        assert_eq!((&*read.address, read.lun), ("[::1]:3260", 0));
        for wrong in ["iscsi://h", "iscsi:///iqn", "iscsi://u%s@h/iqn", "iscsi://h/iqn/x"] {
            assert!(matches!(portal(wrong), Err(Failure::Usage { .. })), "{wrong}");
        }
    }

    /// `permit` noted registrations without an answer for a volume with one path, and nothing ever took
    /// the note out.
    #[test]
    fn a_volume_behind_a_portal_or_a_plain_file_has_one_path() {
        assert!(!place("iscsi://h/iqn.2026:v").may_have_paths());
        assert!(!place("/dev/null").may_have_paths());
        assert!(place("/dev/mapper/is-not-there-now").may_have_paths());
    }

    #[test]
    fn each_volume_has_a_directory_and_each_host_a_number() {
        let directory = place("iscsi://h/iqn.2026:v").state_directory().unwrap();
        assert_eq!(directory, Path::new(STATE).join("iscsi---h-iqn-2026-v"));
        assert_ne!(guard::host_number("m alpha"), guard::host_number("m beta"));
        assert!((1..1 << 20).contains(&guard::host_number("")));
    }
}
