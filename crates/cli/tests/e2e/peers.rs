//! Running real peers, and the volumes that they work on.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::service::Service;

/// The initiator name that our peers use, where they take one.
pub(crate) const NAME: &str = "iqn.2026-11.org.example:peer";

/// Is the program there? Says so when not. System programs may stand outside a user's path.
pub(crate) fn has(program: &str) -> bool {
    let paths = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let found = paths.split(':').any(|directory| Path::new(directory).join(program).is_file());
    if !found {
        println!("skipped: {program} is not installed");
    }
    found
}

pub(crate) fn run(program: &str, arguments: &[&str]) -> Output {
    let paths = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    Command::new(program).args(arguments).env("PATH", paths).output().unwrap()
}

/// Both outputs as one text.
pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

pub(crate) fn succeeds(program: &str, arguments: &[&str]) -> String {
    let output = run(program, arguments);
    assert!(output.status.success(), "{program} {arguments:?}: {}", said(&output));
    said(&output)
}

/// What a peer needs for one volume.
pub(crate) struct Access {
    pub(crate) portal: String,
    pub(crate) target: String,
    /// Empty where the service wants no CHAP.
    pub(crate) user: String,
    pub(crate) secret: String,
}

fn word(value: &Value, path: &str) -> String {
    value.pointer(path).and_then(Value::as_str).unwrap().to_owned()
}

impl Access {
    /// A new volume, attached to a host with these initiator names; both are called `name`.
    pub(crate) fn new(service: &Service, name: &str, size: &str, iqns: &[&str]) -> Self {
        service.json(&["volume", "create", name, "--size", size]);
        let mut host = vec!["host", "create", name];
        host.extend(iqns.iter().flat_map(|iqn| ["--initiator", iqn]));
        service.json(&host);
        Self::attach(service, name, name, "rw")
    }

    pub(crate) fn attach(service: &Service, volume: &str, host: &str, mode: &str) -> Self {
        let create = ["attachment", "create", volume, "--host", host, "--mode", mode];
        let created = &service.json(&create)["attachments"][0];
        let credential = |name: &str| {
            created["credentials"][name].as_str().map(str::to_owned).unwrap_or_default()
        };
        Self {
            portal: word(created, "/attachment/connection/portals/0"),
            target: word(created, "/attachment/connection/target"),
            user: credential("user"),
            secret: credential("secret"),
        }
    }

    /// The address as libiscsi takes it.
    pub(crate) fn url(&self) -> String {
        self.url_with(&self.secret)
    }

    pub(crate) fn url_with(&self, secret: &str) -> String {
        format!("iscsi://{}%{secret}@{}/{}/0", self.user, self.portal, self.target)
    }

    /// The address as qemu takes it, with an initiator name.
    pub(crate) fn image_options(&self) -> String {
        format!(
            "driver=iscsi,transport=tcp,portal={},target={},lun=0,user={},password={},\
             initiator-name={NAME}",
            self.portal, self.target, self.user, self.secret
        )
    }
}
