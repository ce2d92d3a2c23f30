//! A service with a file volume that a mount refers to and a block volume that a host has.

use bytes::Bytes;
use host::files::Stable;
use host::{HostError, Initiator, LogicalUnit, Options};
use nfs::v4::Status;

use crate::nfs_client::session::{Client, Request};
use crate::nfs_client::{place, wire};
use crate::service::Service;

/// Who the clients are: not root, who would be squashed.
const UID: u32 = 1000;
const HOST: &str = "iqn.2026-11.io.commonhold.test:h";

pub(crate) struct Stage {
    pub(crate) service: Service,
    portal: std::net::SocketAddr,
}

impl Stage {
    /// On an NFS portal of this number.
    pub(crate) fn new(service: Service, number: u8) -> Self {
        place::make_pool(&service);
        service.json(&["volume", "create", "--kind", "file", "--size", "1g", "tree"]);
        service.json(&["reference", "create", "tree", "/srv", "--kind", "mount"]);
        service.json(&["volume", "create", "disk", "--size", "8m"]);
        service.json(&["host", "create", "h", "--initiator", HOST]);
        service.json(&["attachment", "create", "disk", "--host", "h"]);
        Self { service, portal: place::portal(number) }
    }

    pub(crate) fn client(&self, name: &str) -> Client {
        Client::new(wire(self.portal, UID), name)
    }

    /// A session of the host with its disk.
    pub(crate) async fn log_in(&self) -> Result<(Initiator, LogicalUnit), HostError> {
        let attached = self.service.json(&["attachment", "list", "--host", "h"]);
        let target = attached[0]["connection"]["target"].as_str().unwrap().to_owned();
        let options = Options::new(HOST, Some(target));
        let session = Initiator::connect(&self.service.portal, options).await?;
        let unit = LogicalUnit::open(&session, 0).await?;
        Ok((session, unit))
    }
}

/// A client with a file that has a name, one whose last name is gone, and a lock.
pub(crate) struct Holder {
    pub(crate) client: Client,
    root: Bytes,
    named: usize,
    nameless: usize,
    written: u8,
}

impl Holder {
    pub(crate) fn new(mut client: Client) -> Self {
        let root = client.find(&["default", "tree"]).unwrap();
        let (named, nameless) = (client.open(&root, b"named"), client.open(&root, b"nameless"));
        let name = Bytes::from_static(b"nameless");
        let removed = client.one(Request::Remove { directory: root.clone(), name });
        assert_eq!(removed.status, Status::Ok);
        assert_eq!(client.lock(named, "holder", (0, 100)), Status::Ok);
        let mut holder = Self { client, root, named, nameless, written: 0 };
        holder.write();
        holder
    }

    /// Writes other bytes to both files, durably.
    pub(crate) fn write(&mut self) {
        self.written += 1;
        for file in [self.named, self.nameless] {
            let data = Bytes::from(vec![self.written; 4096]);
            let write = Request::Write { file, offset: 0, stable: Stable::File, data };
            assert_eq!(self.client.one(write).status, Status::Ok);
        }
    }

    /// What was written is there.
    pub(crate) fn check(&mut self) {
        for file in [self.named, self.nameless] {
            let mut reply = self.client.one(Request::Read { file, offset: 0, count: 4096 });
            assert_eq!(reply.status, Status::Ok);
            let (_, data) = reply.behind(1).read().unwrap();
            assert!(data.len() == 4096 && data.iter().all(|byte| *byte == self.written));
        }
    }

    /// Another may not have what is locked.
    pub(crate) fn assert_locked_against(&self, other: &mut Client) {
        let file = match other.opened.is_empty() {
            true => other.open(&self.root, b"named"),
            false => 0,
        };
        assert_eq!(other.lock(file, "other", (50, 10)), Status::Denied);
    }
}
