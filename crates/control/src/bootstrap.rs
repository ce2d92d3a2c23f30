//! The first start: a project, an operator with a token, and the types that we ship.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use model::event::EventResult;
use model::id::{NetworkId, ProjectId, UserId, VolumeTypeId};
use model::network::{Cidr, Network};
use model::project::{Project, Quotas};
use model::user::{Role, User};
use model::volume::VolumeKind;
use model::volume_type::{VolumeType, package_sizes};

use crate::caller::Caller;
use crate::catalog::{self, Query, Transaction};
use crate::error::Result;
use crate::facade::{Control, not_found};
use crate::params::TokenCreated;

/// The project and the user of the first start.
const PROJECT: &str = "default";
const OPERATOR: &str = "admin";

/// The type and the network of file volumes that name none.
pub(crate) const FILE_TYPE: &str = "file";
pub(crate) const DEFAULT_NETWORK: &str = "default";
/// A type of file volumes that come in packages.
const PACKAGES_TYPE: &str = "file-packages";
/// The class of the pools of these types.
const FILE_CLASS: &str = "file";
/// In the catalog's facts, once types and network of file volumes have been made: whoever deletes
/// them does not get them back.
const FILES_SHIPPED: &str = "files_shipped";

const LOOPBACK: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// Name, class, multi-attach. Multi-attach is private: granted, on the record.
const SHIPPED_TYPES: &[(&str, &str, bool)] = &[
    ("ssd", "ssd", false),
    ("hdd", "hdd", false),
    ("ssd-multiattach", "ssd", true),
    ("hdd-multiattach", "hdd", true),
];

impl Control {
    /// One transaction, so that a crash leaves either nothing or all of it.
    pub(crate) async fn bootstrap(&self) -> Result<Option<String>> {
        let mut tx = self.inner.catalog.begin().await?;
        if catalog::count::<User>(&mut tx, Query::all()).await? > 0 {
            return Ok(None);
        }
        let caller = Caller::system();
        let created_ms = self.inner.now_ms();
        let project = Project {
            id: ProjectId(self.inner.new_id()),
            name: PROJECT.to_owned(),
            description: "Made at the first start.".to_owned(),
            quotas: Quotas::default(),
            created_ms,
        };
        catalog::insert(&mut tx, &project).await?;
        self.inner.done(&mut tx, &caller, &project, "project.create").await?;
        let user = User {
            id: UserId(self.inner.new_id()),
            name: OPERATOR.to_owned(),
            role: Role::Admin,
            project: project.id,
            created_ms,
        };
        catalog::insert(&mut tx, &user).await?;
        self.inner.done(&mut tx, &caller, &user, "user.create").await?;
        self.ship_types(&mut tx, &caller).await?;
        let token = self.new_token(&mut tx, &caller, &user, "first start".to_owned(), None).await?;
        self.inner.commit(tx).await?;
        Ok(Some(token.secret))
    }

    /// What file volumes need, once: catalogs from before there were any have it too. Names that
    /// are taken stay what they are.
    pub(crate) async fn ship_files(&self) -> Result<()> {
        let mut tx = self.inner.catalog.begin().await?;
        if catalog::fact(&mut tx, FILES_SHIPPED).await?.is_some() {
            return Ok(());
        }
        catalog::set_fact(&mut tx, FILES_SHIPPED, "yes").await?;
        let caller = Caller::system();
        let taken = Query::<Network>::all().eq("name", DEFAULT_NETWORK);
        if catalog::count(&mut tx, taken).await? == 0 {
            let network = Network {
                id: NetworkId(self.inner.new_id()),
                name: DEFAULT_NETWORK.to_owned(),
                description: "This machine alone, until its clients are changed.".to_owned(),
                clients: LOOPBACK.iter().map(|address| Cidr::host(*address)).collect(),
                portals: Vec::new(),
                created_ms: self.inner.now_ms(),
            };
            catalog::insert(&mut tx, &network).await?;
            self.inner.done(&mut tx, &caller, &network, "network.create").await?;
        }
        for (name, sizes) in [(FILE_TYPE, Vec::new()), (PACKAGES_TYPE, package_sizes())] {
            let taken = Query::<VolumeType>::all().eq("name", name);
            if catalog::count(&mut tx, taken).await? > 0 {
                continue;
            }
            let kind = VolumeType {
                id: VolumeTypeId(self.inner.new_id()),
                name: name.to_owned(),
                description: String::new(),
                kind: VolumeKind::File,
                class: FILE_CLASS.to_owned(),
                multiattach: false,
                public: true,
                max_size: None,
                sizes,
                pools: Vec::new(),
                created_ms: self.inner.now_ms(),
            };
            catalog::insert(&mut tx, &kind).await?;
            self.inner.done(&mut tx, &caller, &kind, "volume_type.create").await?;
        }
        self.inner.commit(tx).await
    }

    async fn ship_types(&self, tx: &mut Transaction, caller: &Caller) -> Result<()> {
        for &(name, class, multiattach) in SHIPPED_TYPES {
            let kind = VolumeType {
                id: VolumeTypeId(self.inner.new_id()),
                name: name.to_owned(),
                description: String::new(),
                kind: VolumeKind::Block,
                class: class.to_owned(),
                multiattach,
                public: !multiattach,
                max_size: None,
                sizes: Vec::new(),
                pools: Vec::new(),
                created_ms: self.inner.now_ms(),
            };
            catalog::insert(tx, &kind).await?;
            self.inner.done(tx, caller, &kind, "volume_type.create").await?;
        }
        Ok(())
    }

    /// A new token for an operator whose tokens are lost; for whoever may read the catalog's
    /// file anyway (`serve` on the same machine).
    ///
    /// # Errors
    /// There is no operator left, or the catalog failed.
    pub async fn operator_token_renew(&self) -> Result<TokenCreated> {
        let mut tx = self.inner.catalog.begin().await?;
        let query = Query::<User>::all().eq("role", Role::Admin.word()).limit(1);
        let operator = catalog::select(&mut tx, query).await?.pop();
        let operator =
            operator.ok_or_else(|| not_found(model::event::ResourceKind::User, OPERATOR))?;
        let caller = Caller::system();
        let token = self.new_token(&mut tx, &caller, &operator, "renewed".to_owned(), None).await?;
        let renewed = "a new token for the operator was made on the machine itself";
        self.inner
            .record(&mut tx, &caller, &operator, "user.renew", EventResult::Done, renewed)
            .await?;
        self.inner.commit(tx).await?;
        Ok(token)
    }
}
