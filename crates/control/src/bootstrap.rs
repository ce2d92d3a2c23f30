//! The first start: a project, an operator with a token, and the types that we ship.

use model::event::EventResult;
use model::id::{ProjectId, UserId, VolumeTypeId};
use model::project::{Project, Quotas};
use model::user::{Role, User};
use model::volume::VolumeKind;
use model::volume_type::VolumeType;

use crate::caller::Caller;
use crate::catalog::{self, Query, Transaction};
use crate::error::Result;
use crate::facade::{Control, not_found};
use crate::params::TokenCreated;

/// The project and the user of the first start.
const PROJECT: &str = "default";
const OPERATOR: &str = "admin";

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
