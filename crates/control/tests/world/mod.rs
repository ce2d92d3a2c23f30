//! A control plane on a catalog of its own, with a node that obeys, fails, stalls and forgets.
#![allow(dead_code, reason = "every test file uses another part")]

pub(crate) mod cluster;
pub(crate) mod fake_doors;
pub(crate) mod fake_node;
pub(crate) mod second;

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use control::{
    AttachmentCreate, Caller, Control, ControlError, GrantCreate, HostCreate, NodeLinks,
    PoolCreate, ProjectCreate, Settings, TokenCreate, UserCreate, VolumeCreate, VolumeDelete,
    VolumeRevert, VolumeView,
};
use env::{OsRandom, RealClock};
use fake_doors::FakeDoors;
use fake_node::FakeNode;
use model::host::Host;
use model::order::{IoMode, Mode};
use model::pool::Driver;
use model::size::ByteSize;
use model::user::Role;
use tempfile::TempDir;

pub(crate) struct World {
    pub(crate) doors: Arc<FakeDoors>,
    pub(crate) control: Control,
    pub(crate) node: Arc<FakeNode>,
    pub(crate) admin: Caller,
    pub(crate) dir: TempDir,
}

pub(crate) async fn open(dir: &Path, node: &Arc<FakeNode>) -> (Control, Option<String>) {
    open_with(dir, Some(node), &Arc::default()).await
}

/// With or without a node in this process, and with doors to others.
pub(crate) async fn open_with(
    dir: &Path,
    node: Option<&Arc<FakeNode>>,
    doors: &Arc<FakeDoors>,
) -> (Control, Option<String>) {
    let local = node.map(|node| Arc::clone(node) as Arc<dyn control::NodeLink>);
    let settings = Settings::below(dir);
    let links = NodeLinks { local, doors: Some(Arc::clone(doors) as _) };
    Control::open(settings, links, Arc::new(RealClock::default()), Arc::new(OsRandom))
        .await
        .expect("the catalog opens")
}

/// A started control plane with a pool of each class.
pub(crate) async fn world() -> World {
    let dir = TempDir::new().expect("a directory");
    let node = Arc::new(FakeNode::default());
    let doors = Arc::default();
    let (control, token) = open_with(dir.path(), Some(&node), &doors).await;
    let token = token.expect("the first start makes a token");
    assert!(token.starts_with("ch_") && token.len() == 46);
    let admin = control.authenticate(&token, "192.0.2.1").await.expect("it is good");
    for (class, driver) in [("ssd", Driver::Local), ("hdd", Driver::Local), ("file", Driver::Dir)] {
        let pool = PoolCreate {
            name: format!("local-{class}"),
            class: class.to_owned(),
            node: None,
            path: format!("/pools/{class}"),
            driver,
            io: IoMode::Cached,
            capacity: None,
        };
        control.pool_ensure(&admin, pool.clone()).await.expect("a pool");
        control.pool_ensure(&admin, pool).await.expect("the same pool");
    }
    control.reconcile().await.expect("reconciled");
    control.start();
    World { doors, control, node, admin, dir }
}

impl World {
    pub(crate) async fn member_of(&self, project: &str, role: Role) -> Caller {
        let new = ProjectCreate { name: project.to_owned(), ..ProjectCreate::default() };
        match self.control.project_create(&self.admin, new).await {
            Ok(_) | Err(ControlError::NameTaken { .. }) => {}
            Err(error) => panic!("{error}"),
        }
        let name = format!("{project}-{role}");
        let user = UserCreate { name: name.clone(), project: project.to_owned(), role };
        self.control.user_create(&self.admin, user).await.expect("a user");
        let token = TokenCreate { user: Some(name), ..TokenCreate::default() };
        let token = self.control.token_create(&self.admin, token).await.expect("a token");
        self.control.authenticate(&token.secret, "198.51.100.7").await.expect("it is good")
    }

    pub(crate) async fn grant_multiattach(&self, project: &str) {
        let new = GrantCreate { project: project.to_owned(), acknowledge_data_loss: true };
        self.control.volume_type_grant(&self.admin, "ssd-multiattach", new).await.expect("granted");
    }

    pub(crate) async fn volume(&self, caller: &Caller, name: &str, kind: &str) -> VolumeView {
        let new = volume(name, 1, kind);
        let made = self.control.volume_create(caller, new).await.expect("a volume");
        assert_eq!(made.volume.status.word(), "creating");
        self.volume_is(caller, &made.volume.id.to_string(), "available").await
    }

    /// Wait until the volume has this status.
    pub(crate) async fn volume_is(&self, caller: &Caller, id: &str, status: &str) -> VolumeView {
        eventually(&format!("volume {id} is {status}"), async || {
            let view = self.control.volume_get(caller, id).await.ok()?;
            (view.volume.status.word() == status).then_some(view)
        })
        .await
    }

    pub(crate) async fn volume_gone(&self, caller: &Caller, id: &str) {
        eventually("the volume is gone", async || {
            let left = self.control.volume_get(caller, id).await;
            matches!(left, Err(ControlError::NotFound { .. })).then_some(())
        })
        .await;
    }

    pub(crate) async fn hosts(&self, caller: &Caller, count: usize) -> Vec<Host> {
        let mut hosts = Vec::new();
        for n in 1..=count {
            hosts.push(self.host(caller, &format!("host-{n}")).await);
        }
        hosts
    }

    pub(crate) async fn host(&self, caller: &Caller, name: &str) -> Host {
        let project = caller.project.expect("in a project");
        let new = HostCreate {
            name: name.to_owned(),
            initiators: vec![format!("iqn.2026-11.test.{project}:{name}")],
            ..HostCreate::default()
        };
        self.control.host_create(caller, new).await.expect("a host")
    }

    /// Wait until so many attachments of the volume are attached.
    pub(crate) async fn attached(&self, caller: &Caller, volume: &str, count: usize) {
        eventually("all are attached", async || {
            let filter =
                control::AttachmentFilter { volume: Some(volume.to_owned()), ..Default::default() };
            let page = self.control.attachment_list(caller, &filter).await.ok()?;
            let attached =
                page.items.iter().filter(|view| view.attachment.state.word() == "attached");
            (attached.count() == count).then_some(())
        })
        .await;
    }
}

pub(crate) fn volume(name: &str, gib: u64, kind: &str) -> VolumeCreate {
    VolumeCreate {
        name: name.to_owned(),
        size: Some(ByteSize::gib(gib)),
        volume_type: Some(kind.to_owned()),
        ..VolumeCreate::default()
    }
}

pub(crate) const CASCADE: VolumeDelete = VolumeDelete { cascade: true, force: false, lost: false };

pub(crate) fn revert(snapshot: &str) -> VolumeRevert {
    VolumeRevert { snapshot: snapshot.to_owned(), force: false }
}

pub(crate) fn attach(volume: &str, hosts: &[&str], mode: Mode) -> AttachmentCreate {
    AttachmentCreate {
        volume: volume.to_owned(),
        hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
        mode,
        accept_data_loss: false,
    }
}

/// Ask until there is an answer; ten seconds at the most.
pub(crate) async fn eventually<T>(what: &str, ask: impl AsyncFn() -> Option<T>) -> T {
    for _ in 0..1000 {
        if let Some(answer) = ask().await {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never came true: {what}");
}

/// Run all at the same time, each in a task of its own.
pub(crate) async fn race<T: Send + 'static>(
    tasks: impl IntoIterator<Item = impl Future<Output = T> + Send + 'static>,
) -> Vec<T> {
    let tasks: Vec<_> = tasks.into_iter().map(tokio::spawn).collect();
    let mut results = Vec::new();
    for task in tasks {
        results.push(task.await.expect("no panic"));
    }
    results
}

pub(crate) fn code<T: std::fmt::Debug>(result: Result<T, ControlError>) -> &'static str {
    let error = result.expect_err("it must be refused");
    assert!(!error.hint().is_empty());
    error.code()
}
