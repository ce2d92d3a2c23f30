//! Users and their roles.

use api::user::{CreateUser, Role, UpdateUser, User, UserQuery};
use clap::{Subcommand, ValueEnum};

use super::Context;
use crate::failure::Failure;
use crate::output::{Column, Listed, moment, note};

#[derive(Subcommand, Debug)]
pub(crate) enum UserCommand {
    /// Make a user in the project of --project, or in your own
    Create {
        name: String,
        #[arg(long, default_value = "member")]
        role: RoleName,
    },
    /// All users that you may see
    List,
    /// One user
    #[command(visible_alias = "get")]
    Show { user: String },
    /// Change name or role
    Update {
        user: String,
        #[arg(long)]
        name: Option<String>,
        #[arg(long)]
        role: Option<RoleName>,
    },
    /// Delete users; their tokens are refused from then on
    Delete {
        #[arg(required = true)]
        users: Vec<String>,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum RoleName {
    /// Everything, in every project
    Admin,
    /// Everything with the resources of the own project
    Member,
    /// See the resources of the own project
    Reader,
}

impl From<RoleName> for Role {
    fn from(role: RoleName) -> Self {
        match role {
            RoleName::Admin => Self::Admin,
            RoleName::Member => Self::Member,
            RoleName::Reader => Self::Reader,
        }
    }
}

fn word(role: Role) -> &'static str {
    match role {
        Role::Admin => "admin",
        Role::Member => "member",
        Role::Reader => "reader",
    }
}

impl Listed for User {
    const WORD: &'static str = "users";
    const COLUMNS: &'static [Column<Self>] = &[
        ("name", |user| user.name.clone()),
        ("role", |user| word(user.role).to_owned()),
        ("project id", |user| user.project_id.to_string()),
        ("created", |user| moment(&user.created_at)),
        ("id", |user| user.id.to_string()),
    ];
}

impl UserCommand {
    pub(crate) async fn run(
        self,
        context: &Context,
        project: Option<String>,
    ) -> Result<(), Failure> {
        let client = &context.client;
        match self {
            Self::Create { name, role } => {
                let own = match &project {
                    Some(_) => None,
                    None => client.whoami().await?.project_id.map(|id| id.to_string()),
                };
                let project = project.or(own).ok_or_else(|| Failure::Usage {
                    message: "a user belongs to a project".into(),
                    hint: "Give --project NAME.".into(),
                })?;
                let body = CreateUser { name, project, role: role.into() };
                context.show(&client.user_create(&body).await?)
            }
            Self::List => context.list(&UserQuery::default()).await,
            Self::Show { user } => context.show(&client.user_show(&user).await?),
            Self::Update { user, name, role } => {
                let body = UpdateUser { name, role: role.map(Into::into) };
                context.show(&client.user_update(&user, &body).await?)
            }
            Self::Delete { users } => {
                for user in users {
                    client.user_delete(&user).await?;
                    note(&format!("Deleted the user {user}."));
                }
                Ok(())
            }
        }
    }
}
