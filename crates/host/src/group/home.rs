//! The directory of one group on this host, and what is written there.
//!
//! | file | who writes | what |
//! | --- | --- | --- |
//! | `order.json` | agent | what is wanted, and how the volume is reached |
//! | `report.json` | warden | how it is |
//! | `past.json` | warden | what must not be forgotten, durable |
//! | `standing`, `lock` | warden | the guard's record |
//! | `beats` | agent, to warden | a socket for the beats of other hosts |
//! | `process` | warden | its process |
//! | `run/lock` | warden | held during a run of the guard; the agent holds it to make sessions |
//! | `log` | warden | what it did |
//! | `step-N.log`, `.check.log`, `.stop.log` | programs | what those of resource N said last |

use std::io;
use std::path::{Path, PathBuf};

use ::guard::group::Step;
use ::guard::{Key, Standing};
use api::agent::AgentGroup;
use env::processes::cgroup::Cgroup;
use env::{Files, RealFiles, whole};
use model::group::Report;
use model::id::HostId;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::Credentials;
use crate::guard::Portal;

/// The initiator port of the guard, of the 'random' format (RFC 7143 11.12.5). The same after
/// every start: a guard that logs in again is the same port.
const GUARD_ISID: [u8; 6] = [0x80, 0x67, 0x75, 0x00, 0x00, 0x01];
/// The port that the group's programs log in by, where the kernel does not.
pub(super) const WRITER_ISID: [u8; 6] = [0x80, 0x67, 0x75, 0x00, 0x00, 0x02];

/// The generation of what happened under a group before this one: every permission is newer.
pub(super) const EARLIER: u64 = 0;

/// How this host reaches the volume.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "by", deny_unknown_fields)]
pub enum Way {
    /// The kernel has a device.
    Device { path: PathBuf },
    /// The kernel has several, and a multipath device above them; what is written goes through the
    /// guard's gate.
    Map { map: PathBuf, gate: PathBuf },
    /// Through the initiator of this program, and those of the group's programs.
    Portal {
        /// `address:port`.
        address: String,
        target: String,
        lun: u16,
        initiator: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        chap: Option<(String, String)>,
    },
    /// Not at all, for now.
    Nowhere { why: String },
}

impl std::fmt::Debug for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.device())
    }
}

impl Way {
    /// What programs are told of it: a path, or iscsi://.
    #[must_use]
    pub fn device(&self) -> String {
        match self {
            Self::Device { path } | Self::Map { gate: path, .. } => path.display().to_string(),
            Self::Portal { address, target, lun, .. } => {
                format!("iscsi://{address}/{target}/{lun}")
            }
            Self::Nowhere { .. } => String::new(),
        }
    }

    /// A new run of the guard. Of a multipath device every path's last command is this host's sign
    /// of life: the one that holds the reservation may be dead.
    pub(super) fn begin(&self, standing: &Standing, host: u32, nonce: u16) -> (Standing, Key) {
        match self {
            Self::Map { .. } => standing.begin_by_paths(host, nonce),
            _ => standing.begin(host, nonce),
        }
    }

    /// The guard's own session.
    pub(super) fn portal(&self) -> Option<Portal> {
        let Self::Portal { address, target, lun, initiator, chap } = self else { return None };
        let credentials = |(user, secret): (String, String)| Credentials { user, secret };
        Some(Portal {
            address: address.clone(),
            target: target.clone(),
            // Peripheral device addressing (SAM-5 4.7.7.2): the number stands in the second byte.
            lun: u64::from(*lun) << 48,
            initiator: initiator.clone(),
            isid: GUARD_ISID,
            chap: chap.clone().map(credentials),
        })
    }
}

/// What the agent wants of the warden.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    pub host: HostId,
    pub host_name: String,
    pub group: AgentGroup,
    pub way: Way,
}

impl Order {
    /// A name of the group on this host: machines that stand for several hosts have several.
    #[must_use]
    pub fn run_of_host(&self) -> String {
        format!("{}@{}", self.group.id, self.host)
    }
}

/// What must not be forgotten. What a newer warden has written besides is passed over: one that
/// could not read its past could not even end what runs.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Past {
    /// The generation under which the volume was lost, or resources failed.
    pub fenced: Option<u64>,
    pub failed: Option<u64>,
    /// Resources may run: since which generation of the group, in which boot of the machine.
    pub owned: Option<(u64, String)>,
    /// How the volume was reached when they were started: they are stopped by it.
    pub way: Option<Way>,
    /// How many wardens there have been: their beats are told apart by it.
    pub lives: u64,
    /// Resources failed under this generation, and the policy is to keep the group here, stopped.
    pub kept: Option<u64>,
    /// Below which directory the group's cgroups are, if its programs were started in some.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room: Option<PathBuf>,
    /// Whether the target tells how old the owner's last command is; `None`: not asked yet.
    pub tells_ages: Option<bool>,
}

impl Past {
    /// The cgroup of everything that the group's programs start, where they have one.
    #[must_use]
    pub fn cgroup(&self, order: &Order) -> Option<Cgroup> {
        self.room.as_ref().map(|room| Cgroup::new(room.join(order.run_of_host())))
    }
}

/// See the module's table.
#[derive(Clone, Debug)]
pub struct Home(PathBuf);

impl Home {
    #[must_use]
    pub fn new(directory: PathBuf) -> Self {
        Self(directory)
    }
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
    pub(super) fn beats(&self) -> PathBuf {
        self.0.join("beats")
    }
    /// What stands in the log of the start is not replaced by a check: a service that the start
    /// has left running writes on there.
    pub(super) fn step_log(&self, resource: usize, step: Step) -> PathBuf {
        self.0.join(match step {
            Step::Start => format!("step-{resource}.log"),
            Step::Check => format!("step-{resource}.check.log"),
            Step::Stop | Step::Kill => format!("step-{resource}.stop.log"),
        })
    }
    /// The warden that runs here says which process it is.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn settle_in(&self) -> io::Result<()> {
        self.found_runs()?;
        whole::show(&self.0.join("process"), &std::process::id().to_string())
    }
    fn run(&self) -> PathBuf {
        self.0.join("run")
    }
    /// For a run of the guard, or to change what the volume is reached by: not both at a time.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] while the other one holds it.
    pub fn hold(&self) -> io::Result<Box<dyn Send + Sync>> {
        RealFiles.lock_dir(&self.run())
    }
    /// # Errors
    /// There is no place for the lock.
    pub fn found_runs(&self) -> io::Result<()> {
        RealFiles.create_dir(&self.run())
    }
    /// Whether a warden was here that holds the lock while it has a run.
    #[must_use]
    pub fn has_runs(&self) -> bool {
        RealFiles.exists(&self.run())
    }
    /// The process that last was the group's warden. Whether it still is, the lock tells.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn process(&self) -> io::Result<Option<i32>> {
        let text = whole::read(&self.0.join("process"))?;
        Ok(text.and_then(|text| text.trim().parse().ok()))
    }

    /// A host that lost the volume before it had this group.
    ///
    /// # Errors
    /// It cannot be made durable.
    pub fn begin_fenced(&self) -> io::Result<()> {
        self.remember(&Past { fenced: Some(EARLIER), ..Past::default() })
    }

    /// # Errors
    /// It cannot be read, or is no order of this version.
    pub fn order(&self) -> io::Result<Option<Order>> {
        read(&self.0.join("order.json"))
    }
    /// # Errors
    /// It cannot be made durable.
    pub fn give_order(&self, order: &Order) -> io::Result<()> {
        whole::replace(&self.0.join("order.json"), &text_of(order)?)
    }
    /// # Errors
    /// It cannot be read, or is no report of this version.
    pub fn report(&self) -> io::Result<Option<Report>> {
        read(&self.0.join("report.json"))
    }
    pub(super) fn give_report(&self, report: &Report) -> io::Result<()> {
        whole::show(&self.0.join("report.json"), &text_of(report)?)
    }
    /// # Errors
    /// It cannot be read, or is no past of this version.
    pub fn past(&self) -> io::Result<Past> {
        read(&self.0.join("past.json")).map(Option::unwrap_or_default)
    }
    /// # Errors
    /// It cannot be made durable.
    pub fn remember(&self, past: &Past) -> io::Result<()> {
        whole::replace(&self.0.join("past.json"), &text_of(past)?)
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    let Some(text) = whole::read(path)? else { return Ok(None) };
    let malformed = |why: serde_json::Error| {
        io::Error::new(io::ErrorKind::InvalidData, format!("{}: {why}", path.display()))
    };
    serde_json::from_str(&text).map(Some).map_err(malformed)
}

fn text_of(value: &impl Serialize) -> io::Result<String> {
    serde_json::to_string_pretty(value).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An owner whose reservation was held by the path that died was taken for silent, by itself
    /// too, although another path carried its commands.
    #[test]
    fn the_key_of_a_run_on_a_map_says_that_each_path_is_its_life() {
        let begun = |way: Way| way.begin(&Standing::default(), 7, 1).1.is_by_paths();
        assert!(begun(Way::Map { map: "/dev/mapper/a".into(), gate: "/dev/mapper/b".into() }));
        assert!(!begun(Way::Device { path: "/dev/sda".into() }));
    }

    #[test]
    fn a_past_that_a_newer_warden_has_written_is_read_after_a_rollback() {
        let home = tempfile::tempdir().unwrap();
        let text = r#"{ "lives": 3, "failed": 7, "of_tomorrow": { "a": 1 } }"#;
        std::fs::write(home.path().join("past.json"), text).unwrap();
        let home = Home::new(home.path().to_owned());
        let past = home.past().unwrap();
        assert_eq!(past, Past { lives: 3, failed: Some(7), ..Past::default() });
        home.remember(&past).unwrap();
        let text = std::fs::read_to_string(home.path().join("past.json")).unwrap();
        assert!(!text.contains("room"), "one without cgroups can read it: {text}");
    }
}
