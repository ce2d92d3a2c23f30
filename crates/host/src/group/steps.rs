//! One step of one resource, whatever kind it is of.

use std::path::PathBuf;
use std::sync::Arc;

use ::guard::group::Step;
use env::processes::Family;
use model::group::Resource;
use tokio::sync::Notify;

use super::home::Way;
use super::program::{Program, Unborn};
use super::{address, exec, export, mount, unit};

/// What the steps of one resource have to know.
pub(super) struct Place {
    pub(super) index: usize,
    /// For what the programs say.
    pub(super) log: PathBuf,
    pub(super) way: Way,
    /// What the group's own programs find in their environment, the marks among it.
    pub(super) environment: Vec<(String, String)>,
    /// Everything that the resource's own programs start, and they.
    pub(super) family: Family,
    /// Those of them that are being started.
    pub(super) unborn: Unborn,
    pub(super) abort: Arc<Notify>,
}

impl Place {
    /// A program of the system: neither marked nor in the cgroup, because it is no part of the
    /// group.
    pub(super) fn tool<'a>(&self, line: &'a [String]) -> Program<'a> {
        Program { line, environment: &[], family: None, unborn: None, log: self.log.clone() }
    }

    /// Run a program of the system that must succeed.
    pub(super) async fn call(&self, line: &[&str]) -> Result<(), String> {
        let line: Vec<String> = line.iter().map(|part| (*part).to_owned()).collect();
        self.tool(&line).succeed(&self.abort).await
    }

    /// Run a program of the system that may say no; `Err` when it could not be run to its end.
    pub(super) async fn tell(&self, line: &[&str]) -> Result<(), String> {
        let line: Vec<String> = line.iter().map(|part| (*part).to_owned()).collect();
        self.tool(&line).run(&self.abort).await.map(drop)
    }

    /// What a program of the system that succeeds says.
    pub(super) async fn ask(&self, line: &[&str]) -> Result<String, String> {
        let line: Vec<String> = line.iter().map(|part| (*part).to_owned()).collect();
        let program = self.tool(&line);
        program.succeed(&self.abort).await?;
        Ok(program.said())
    }
}

/// # Errors
/// Why it was not done, as a sentence.
pub(super) async fn perform(place: &Place, resource: &Resource, step: Step) -> Result<(), String> {
    match resource {
        Resource::Mount { path, file_system, options, fsck } => {
            let mount = mount::Mount { path: path.as_ref(), file_system, options, fsck: *fsck };
            mount.perform(place, step).await
        }
        Resource::Exec { start, stop, status, .. } => {
            exec::perform(place, (&start[..], &stop[..], &status[..]), step).await
        }
        Resource::Address { cidr, interface } => {
            address::perform(place, cidr, interface, step).await
        }
        Resource::Export { path, client, options } => {
            export::export(place, path, client, options, step).await
        }
        Resource::Unit { name } => unit::unit(place, name, step).await,
    }
}

/// Why this host cannot run this resource at all.
pub(super) fn unfit(way: &Way, resource: &Resource) -> Option<String> {
    let tool = match resource {
        Resource::Mount { path, .. } => {
            if matches!(way, Way::Portal { .. }) {
                return Some(format!(
                    "{path} cannot be mounted: this host reaches the volume by a program of its \
                     own and has no device; mounts need the kernel's initiator (iscsi_tcp and \
                     open-iscsi)"
                ));
            }
            ("mount", "util-linux")
        }
        Resource::Address { .. } => ("ip", "iproute2"),
        Resource::Export { .. } => ("exportfs", "nfs-kernel-server or nfs-utils"),
        Resource::Unit { .. } => ("systemctl", "systemd"),
        Resource::Exec { .. } => return None,
    };
    let (name, package) = tool;
    let is_there = env::whole::is_program(name);
    (!is_there).then(|| format!("{resource}: this host has no '{name}'; install {package}"))
}
