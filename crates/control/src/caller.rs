//! Who asks, and what the role allows.

use model::id::{ProjectId, TokenId, UserId};
use model::user::Role;

use crate::error::{ControlError, Result};

/// Who asks: made by [`crate::Control::authenticate`] from a token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Caller {
    /// `None` for the daemon itself.
    pub user: Option<UserId>,
    pub user_name: String,
    pub role: Role,
    /// The project that names are looked up in. An admin may have none and sees all either way.
    pub project: Option<ProjectId>,
    /// The token that it was made from.
    pub token: Option<TokenId>,
    /// Address that the request came from; empty for the daemon itself.
    pub from: String,
}

impl Caller {
    /// The daemon itself: what it sets up at start, and what it does on its own.
    #[must_use]
    pub fn system() -> Self {
        Self {
            user: None,
            user_name: "system".to_owned(),
            role: Role::Admin,
            project: None,
            token: None,
            from: String::new(),
        }
    }

    /// Is it the operator?
    #[must_use]
    pub fn is_admin(&self) -> bool {
        self.role == Role::Admin
    }

    /// May it see what belongs to this project?
    #[must_use]
    pub fn sees(&self, project: ProjectId) -> bool {
        self.is_admin() || self.project == Some(project)
    }

    pub(crate) fn must_be(&self, needs: Role, action: &'static str) -> Result<()> {
        if self.role >= needs { Ok(()) } else { Err(ControlError::Forbidden { action, needs }) }
    }

    /// The project that a list is limited to: none for the operator.
    pub(crate) fn limited_to(&self) -> Result<Option<ProjectId>> {
        match (self.is_admin(), self.project) {
            (true, _) => Ok(None),
            (false, Some(project)) => Ok(Some(project)),
            (false, None) => {
                Err(ControlError::Forbidden { action: "act without a project", needs: Role::Admin })
            }
        }
    }
}
