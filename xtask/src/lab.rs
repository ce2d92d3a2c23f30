//! End to end with the clients of a stock kernel, in the virtual machines of tests/lab.

use std::path::Path;
use std::process::Command;

use crate::peers::is_root;
use crate::steps::{self, Outcome, has_program};

/// What the lab's scripts call (Debian: qemu-system-x86 qemu-utils iproute2 openssh-client
/// mmdebstrap e2fsprogs cpio xz-utils btrfs-progs python3 tgt binutils).
const PROGRAMS: [&str; 12] = [
    "qemu-system-x86_64",
    "qemu-img",
    "ip",
    "ssh",
    "mmdebstrap",
    "mke2fs",
    "cpio",
    "xz",
    "mkfs.btrfs",
    "python3",
    "tgtd",
    "strip",
];

/// Whose work is shown.
#[derive(Clone, Copy, clap::ValueEnum)]
pub(crate) enum Lab {
    /// Block volumes over iSCSI: `tests/lab/kernel-initiator`
    Initiator,
    /// File volumes over NFS: `tests/lab/kernel-nfs`
    Nfs,
    /// A file system that `commonhold guard` moves between machines: `tests/lab/failover`
    Failover,
    /// A group that agents run by the kernel's initiator: `tests/lab/groups`
    Groups,
    /// A group with a unit of systemd, on machines that boot with it: `tests/lab/units`
    Units,
    /// A guard on a multipath device: `tests/lab/multipath`
    Multipath,
    /// A group that agents run by several paths: `tests/lab/groups-multipath`
    GroupsMultipath,
}

impl Lab {
    pub(crate) const ALL: [Self; 7] = [
        Self::Initiator,
        Self::Nfs,
        Self::Failover,
        Self::Groups,
        Self::Units,
        Self::Multipath,
        Self::GroupsMultipath,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Initiator => "lab initiator",
            Self::Nfs => "lab nfs",
            Self::Failover => "lab failover",
            Self::Groups => "lab groups",
            Self::Units => "lab units",
            Self::Multipath => "lab multipath",
            Self::GroupsMultipath => "lab groups-multipath",
        }
    }
    fn script(self) -> &'static str {
        match self {
            Self::Initiator => "kernel-initiator",
            Self::Nfs => "kernel-nfs",
            Self::Failover => "failover",
            Self::Groups => "groups",
            Self::Units => "units",
            Self::Multipath => "multipath",
            Self::GroupsMultipath => "groups-multipath",
        }
    }
}

/// Build the image when it is missing or old, then let the script do the work.
pub(crate) fn run(root: &Path, which: Lab) -> Outcome {
    if !is_root() {
        return Outcome::Skipped("the lab makes a network of its own: it needs root".into());
    }
    let missing: Vec<_> = PROGRAMS.into_iter().filter(|program| !has_program(program)).collect();
    if !missing.is_empty() {
        return Outcome::Skipped(format!("missing: {} (see tests/lab)", missing.join(" ")));
    }
    let mut build = steps::cargo(root, &["build", "--release", "-p", "cli"]);
    let lab = root.join("tests/lab");
    for command in [&mut build, &mut Command::new(lab.join("build-image"))] {
        let outcome = steps::execute(command);
        if !matches!(outcome, Outcome::Passed(_)) {
            return outcome;
        }
    }
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), Into::into);
    let binary = target.join("release/commonhold");
    steps::execute(Command::new(lab.join(which.script())).env("COMMONHOLD", binary))
}
