//! The real programs that the end-to-end tests talk to, and the Debian packages that hold them.

use std::path::Path;
use std::process::Command;

use crate::steps::{Outcome, has_program};

/// A program of a peer and the package that has it.
pub(crate) type Peer = (&'static str, &'static str);

/// For the end-to-end tests.
pub(crate) const TESTED: [Peer; 9] = [
    ("iscsi-ls", "libiscsi-bin"),
    ("sg_persist", "sg3-utils"),
    ("fio", "fio"),
    ("qemu-img", "qemu-utils"),
    ("mkfs.ext4", "e2fsprogs"),
    ("mkfs.xfs", "xfsprogs"),
    ("curl", "curl"),
    ("rpcbind", "rpcbind"),
    ("showmount", "nfs-common"),
];

/// For measuring and comparing.
pub(crate) const MEASURED: [Peer; 5] = [
    ("tgtd", "tgt"),
    ("ganesha.nfsd", "nfs-ganesha"),
    ("nbdkit", "nbdkit"),
    ("qemu-img", "qemu-utils"),
    ("iscsi-test-cu", "libiscsi-bin"),
];

/// qemu-img's own iSCSI driver is a module in a package of its own.
const QEMU_ISCSI: &str = "qemu-block-extra";
/// So is nfs-ganesha's way to serve a directory.
const GANESHA_VFS: &str = "nfs-ganesha-vfs";

/// Install what is missing where we may; say what stays missing where we may not.
pub(crate) fn install(peers: &[Peer]) -> Outcome {
    let missing = missing_packages(peers);
    if missing.is_empty() {
        return Outcome::passed();
    }
    if !is_root() || !has_program("apt-get") {
        let why = if is_root() { "there is no apt-get" } else { "we are not root" };
        return Outcome::Skipped(format!("{why}; missing: {}", missing.join(" ")));
    }
    // A failed update is not the end: the lists of before may do.
    let _ = apt(&["update", "-qq"]).status();
    // Each by itself: one that cannot be had must not keep the others away.
    for package in &missing {
        let installed = install_package(&[package]);
        if !installed && *package == QEMU_ISCSI && std::env::var_os("CI").is_some() {
            install_matching_qemu();
        }
    }
    let missing = missing_packages(peers);
    if missing.is_empty() {
        return Outcome::passed();
    }
    Outcome::Skipped(format!("apt-get could not install: {}", missing.join(" ")))
}

fn install_package(packages: &[&str]) -> bool {
    let mut install = apt(&["install", "-qq", "-y", "--no-install-recommends"]);
    if std::env::var_os("CI").is_some() {
        install.arg("--allow-downgrades");
    }
    install.args(packages).status().is_ok_and(|status| status.success())
}

/// A qemu-utils from backports keeps the module of the release away. Only on a machine that is
/// CI's alone do we put both at the release's version.
fn install_matching_qemu() {
    let shown = Command::new("apt-cache").args(["show", "--no-all-versions", QEMU_ISCSI]).output();
    let Ok(shown) = shown else { return };
    let text = String::from_utf8_lossy(&shown.stdout).into_owned();
    let version = text.lines().find_map(|line| line.strip_prefix("Version: "));
    if let Some(version) = version {
        let both = ["qemu-utils", QEMU_ISCSI].map(|package| format!("{package}={version}"));
        // Without it the tests that need it say so.
        let _ = install_package(&both.each_ref().map(String::as_str));
    }
}

fn apt(arguments: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
    command
}

fn missing_packages(peers: &[Peer]) -> Vec<&'static str> {
    let mut missing: Vec<_> = peers
        .iter()
        .filter(|(program, _)| !has_program(program) && !in_sbin(program))
        .map(|(_, package)| *package)
        .collect();
    if !has_module("qemu/block-iscsi.so") {
        missing.push(QEMU_ISCSI);
    }
    let wants_ganesha = peers.iter().any(|(program, _)| *program == "ganesha.nfsd");
    if wants_ganesha && !has_module("ganesha/libfsalvfs.so") {
        missing.push(GANESHA_VFS);
    }
    missing
}

/// System programs may stand outside a user's search path.
fn in_sbin(program: &str) -> bool {
    ["/usr/sbin", "/sbin"].iter().any(|directory| Path::new(directory).join(program).is_file())
}

/// Is there such a file among the libraries of any architecture?
fn has_module(name: &str) -> bool {
    let libraries = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    libraries.map(|entry| entry.path()).any(|path| path.join(name).is_file())
}

/// By the owner of our own process directory: no further library for one number.
pub(crate) fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|self_directory| self_directory.uid() == 0)
}
