//! Users and tokens: who may ask.

use model::event::ResourceKind;
use model::id::{TokenId, UserId};
use model::project::Project;
use model::user::{Role, Token, User};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::agent::AGENT_PREFIX;
use crate::caller::Caller;
use crate::catalog::{self, Query, TokenRecord, Transaction};
use crate::error::{ControlError, Result};
use crate::facade::{
    Control, listed_project, name_is_free, not_found, resolve, valid_description, valid_name,
};
use crate::page::Page;
use crate::params::{
    TokenCreate, TokenCreated, TokenFilter, TokenUpdate, UserCreate, UserFilter, UserUpdate,
};

/// Every token begins so: secret scanners and people know what they see.
const PREFIX: &str = "ch_";
/// 43 characters of 6 bits: 258 random bits.
const SECRET_CHARS: usize = 43;

/// A hundred years: beyond it, dates stop to be printable somewhere.
const LIFE_SECONDS_MAX: u64 = 100 * 366 * 86_400;

/// What is kept of a token.
pub(crate) fn hash(secret: &str) -> String {
    Sha256::digest(secret.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Control {
    /// Who holds this token.
    ///
    /// # Errors
    /// Missing, unknown, revoked or expired.
    pub async fn authenticate(&self, token: &str, from: &str) -> Result<Caller> {
        let token = token.trim();
        if token.is_empty() {
            return Err(ControlError::TokenMissing);
        }
        if token.starts_with(AGENT_PREFIX) {
            return Err(ControlError::TokenOfAgent);
        }
        let wanted = hash(token);
        let mut on = self.inner.catalog.read().await?;
        let query = Query::<TokenRecord>::all().eq("hash", wanted.as_str());
        let record =
            catalog::select(&mut on, query).await?.pop().ok_or(ControlError::TokenUnknown)?;
        let same = record.hash.as_bytes().ct_eq(wanted.as_bytes());
        if !bool::from(same) || record.token.revoked {
            return Err(ControlError::TokenUnknown);
        }
        if record.token.is_expired(self.inner.now_ms()) {
            return Err(ControlError::TokenExpired);
        }
        let user = catalog::get::<User>(&mut on, record.token.user.0).await?;
        let user = user.ok_or(ControlError::TokenUnknown)?;
        Ok(Caller {
            user: Some(user.id),
            user_name: user.name,
            role: user.role,
            project: Some(user.project),
            token: Some(record.token.id),
            from: from.to_owned(),
        })
    }

    /// # Errors
    /// Not an admin; no such project; the name is taken or bad.
    pub async fn user_create(&self, caller: &Caller, new: UserCreate) -> Result<User> {
        caller.must_be(Role::Admin, "create users")?;
        let name = valid_name(&new.name)?;
        let mut tx = self.inner.catalog.begin().await?;
        let project: Project = resolve(&mut tx, caller, &new.project).await?;
        name_is_free::<User>(&mut tx, Query::all(), &name, None).await?;
        let user = User {
            id: UserId(self.inner.new_id()),
            name,
            role: new.role,
            project: project.id,
            created_ms: self.inner.now_ms(),
        };
        catalog::insert(&mut tx, &user).await?;
        self.inner.done(&mut tx, caller, &user, "user.create").await?;
        self.inner.commit(tx).await?;
        Ok(user)
    }

    /// The users of the own project; an admin's list has all.
    ///
    /// # Errors
    /// No such project; bad paging.
    pub async fn user_list(&self, caller: &Caller, filter: &UserFilter) -> Result<Page<User>> {
        let mut on = self.inner.catalog.read().await?;
        let project = listed_project(&mut on, caller, filter.project.as_deref()).await?;
        let query = Query::all().maybe("project", project).maybe("name", filter.name.as_deref());
        self.inner.page(&mut on, query, &filter.paging).await
    }

    /// # Errors
    /// No such user.
    pub async fn user_get(&self, caller: &Caller, user: &str) -> Result<User> {
        let mut on = self.inner.catalog.read().await?;
        resolve(&mut on, caller, user).await
    }

    /// # Errors
    /// Not an admin; no such user; the name is taken or bad; the last admin would be gone.
    pub async fn user_update(
        &self,
        caller: &Caller,
        user: &str,
        change: UserUpdate,
    ) -> Result<User> {
        caller.must_be(Role::Admin, "change users")?;
        let mut tx = self.inner.catalog.begin().await?;
        let mut user: User = resolve(&mut tx, caller, user).await?;
        if let Some(name) = &change.name {
            user.name = valid_name(name)?;
            name_is_free::<User>(&mut tx, Query::all(), &user.name, Some(user.id.0)).await?;
        }
        if let Some(role) = change.role {
            if user.role == Role::Admin && role != Role::Admin {
                another_admin_remains(&mut tx).await?;
            }
            user.role = role;
        }
        catalog::update(&mut tx, &user).await?;
        self.inner.done(&mut tx, caller, &user, "user.update").await?;
        self.inner.commit(tx).await?;
        Ok(user)
    }

    /// The user's tokens go along.
    ///
    /// # Errors
    /// Not an admin; no such user; the last admin would be gone.
    pub async fn user_delete(&self, caller: &Caller, user: &str) -> Result<()> {
        caller.must_be(Role::Admin, "delete users")?;
        let mut tx = self.inner.catalog.begin().await?;
        let user: User = resolve(&mut tx, caller, user).await?;
        if user.role == Role::Admin {
            another_admin_remains(&mut tx).await?;
        }
        catalog::delete::<User>(&mut tx, user.id.0).await?;
        self.inner.done(&mut tx, caller, &user, "user.delete").await?;
        self.inner.commit(tx).await
    }

    /// A token for oneself; an admin makes them for anybody.
    ///
    /// # Errors
    /// Somebody else's without being admin; no such user.
    pub async fn token_create(&self, caller: &Caller, new: TokenCreate) -> Result<TokenCreated> {
        let description = valid_description(&new.description)?;
        let expires_ms = self.expires_ms(new.expires_in_seconds)?;
        let mut tx = self.inner.catalog.begin().await?;
        let user = self.token_user(&mut tx, caller, new.user.as_deref()).await?;
        let created = self.new_token(&mut tx, caller, &user, description, expires_ms).await?;
        self.inner.commit(tx).await?;
        Ok(created)
    }

    /// The own tokens; an admin's list has everybody's, or one user's.
    ///
    /// # Errors
    /// Somebody else's without being admin; no such user; bad paging.
    pub async fn token_list(&self, caller: &Caller, filter: &TokenFilter) -> Result<Page<Token>> {
        let mut on = self.inner.catalog.read().await?;
        let query = Query::<TokenRecord>::all();
        let query = if caller.is_admin() && filter.user.is_none() {
            query
        } else {
            let user = self.token_user(&mut on, caller, filter.user.as_deref()).await?;
            query.eq("user", user.id)
        };
        let page = self.inner.page(&mut on, query, &filter.paging).await?;
        Ok(page.map(|record| record.token))
    }

    /// # Errors
    /// No such token, or somebody else's without being admin.
    pub async fn token_get(&self, caller: &Caller, token: &str) -> Result<Token> {
        let mut on = self.inner.catalog.read().await?;
        Ok(own_token(&mut on, caller, token).await?.token)
    }

    /// Describe it otherwise, or let it end so long from now. The secret stays what it is.
    ///
    /// # Errors
    /// No such token, or somebody else's without being admin; a bad value; it is revoked.
    pub async fn token_update(
        &self,
        caller: &Caller,
        token: &str,
        change: TokenUpdate,
    ) -> Result<Token> {
        let expires_ms = self.expires_ms(change.expires_in_seconds)?;
        let mut tx = self.inner.catalog.begin().await?;
        let mut record = own_token(&mut tx, caller, token).await?;
        if record.token.revoked {
            return Err(ControlError::TokenRevoked);
        }
        if let Some(description) = &change.description {
            record.token.description = valid_description(description)?;
        }
        if expires_ms.is_some() {
            record.token.expires_ms = expires_ms;
        }
        catalog::update(&mut tx, &record).await?;
        self.inner.done(&mut tx, caller, &record, "token.update").await?;
        self.inner.commit(tx).await?;
        Ok(record.token)
    }

    /// The end of a life of so many seconds from now.
    fn expires_ms(&self, seconds: Option<u64>) -> Result<Option<u64>> {
        if seconds.is_some_and(|seconds| seconds > LIFE_SECONDS_MAX) {
            let why = "a token that ends lives at most a hundred years".to_owned();
            return Err(ControlError::Invalid { field: "expires_in_seconds", why });
        }
        let end_ms =
            |seconds: u64| self.inner.now_ms().saturating_add(seconds.saturating_mul(1000));
        Ok(seconds.map(end_ms))
    }

    /// Revoke a token: it opens nothing any more.
    ///
    /// # Errors
    /// No such token, or somebody else's without being admin.
    pub async fn token_delete(&self, caller: &Caller, token: &str) -> Result<()> {
        let mut tx = self.inner.catalog.begin().await?;
        let mut record = own_token(&mut tx, caller, token).await?;
        record.token.revoked = true;
        catalog::update(&mut tx, &record).await?;
        self.inner.done(&mut tx, caller, &record, "token.revoke").await?;
        self.inner.commit(tx).await
    }

    async fn token_user(
        &self,
        on: &mut catalog::Connection,
        caller: &Caller,
        asked: Option<&str>,
    ) -> Result<User> {
        let own = caller.user.map(|id| id.to_string());
        let asked = asked.or(own.as_deref()).unwrap_or_default();
        let user: User = resolve(on, caller, asked).await?;
        if caller.user != Some(user.id) {
            caller.must_be(Role::Admin, "handle other people's tokens")?;
        }
        Ok(user)
    }

    pub(crate) async fn new_token(
        &self,
        tx: &mut Transaction,
        caller: &Caller,
        user: &User,
        description: String,
        expires_ms: Option<u64>,
    ) -> Result<TokenCreated> {
        let secret = format!("{PREFIX}{}", self.inner.random_text(SECRET_CHARS));
        let token = Token {
            id: TokenId(self.inner.new_id()),
            user: user.id,
            description,
            created_ms: self.inner.now_ms(),
            expires_ms,
            revoked: false,
        };
        let record = TokenRecord { token: token.clone(), hash: hash(&secret) };
        catalog::insert(tx, &record).await?;
        self.inner.done(tx, caller, &record, "token.create").await?;
        Ok(TokenCreated { token, secret })
    }
}

/// Without an admin, nobody could ever make one again.
async fn another_admin_remains(tx: &mut Transaction) -> Result<()> {
    let admins = Query::<User>::all().eq("role", Role::Admin.word());
    if catalog::count(tx, admins).await? > 1 { Ok(()) } else { Err(ControlError::LastAdmin) }
}

/// A token of the caller's own; an admin's are all.
async fn own_token(
    on: &mut catalog::Connection,
    caller: &Caller,
    token: &str,
) -> Result<TokenRecord> {
    let record: TokenRecord = resolve(on, caller, token).await?;
    if !caller.is_admin() && caller.user != Some(record.token.user) {
        return Err(not_found(ResourceKind::Token, token));
    }
    Ok(record)
}
