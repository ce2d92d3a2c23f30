//! Projects: tenants with quotas.

use api::project::{CreateProject, Project, ProjectQuery, QuotaChange, UpdateProject};
use clap::Subcommand;

use super::Context;
use crate::failure::Failure;
use crate::output::{Column, Listed, bytes, moment, note};

#[derive(Subcommand, Debug)]
pub(crate) enum ProjectCommand {
    /// Make a project; limits that are not given take the service's defaults
    Create {
        name: String,
        #[arg(long)]
        description: Option<String>,
        #[command(flatten)]
        quota: QuotaArguments,
    },
    /// All projects
    List,
    /// One project, its limits and what it uses of them
    #[command(visible_alias = "get")]
    Show { project: String },
    /// Change name, description or limits
    Update {
        project: String,
        #[arg(long)]
        name: Option<String>,
        #[arg(long)]
        description: Option<String>,
        #[command(flatten)]
        quota: QuotaArguments,
    },
    /// Delete projects that hold nothing any more
    Delete {
        #[arg(required = true)]
        projects: Vec<String>,
    },
}

#[derive(clap::Args, Debug, Default)]
pub(crate) struct QuotaArguments {
    /// How many volumes
    #[arg(long)]
    volumes: Option<u64>,
    /// Gibibytes of all volumes together
    #[arg(long)]
    gigabytes: Option<u64>,
    /// How many snapshots in all
    #[arg(long)]
    snapshots: Option<u64>,
    /// How many snapshots of one volume
    #[arg(long)]
    snapshots_per_volume: Option<u64>,
}

impl QuotaArguments {
    fn change(self) -> Option<QuotaChange> {
        let change = QuotaChange {
            volumes: self.volumes,
            gigabytes: self.gigabytes,
            snapshots: self.snapshots,
            snapshots_per_volume: self.snapshots_per_volume,
        };
        (change != QuotaChange::default()).then_some(change)
    }
}

impl Listed for Project {
    const WORD: &'static str = "projects";
    const COLUMNS: &'static [Column<Self>] = &[
        ("name", |project| project.name.clone()),
        ("volumes", |project| format!("{} of {}", project.usage.volumes, project.quota.volumes)),
        ("provisioned", |project| {
            format!("{} of {} GiB", bytes(project.usage.size_bytes), project.quota.gigabytes)
        }),
        ("snapshots", |project| {
            format!("{} of {}", project.usage.snapshots, project.quota.snapshots)
        }),
        ("created", |project| moment(&project.created_at)),
        ("id", |project| project.id.to_string()),
    ];
}

impl ProjectCommand {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = &context.client;
        match self {
            Self::Create { name, description, quota } => {
                let body = CreateProject { name, description, quota: quota.change() };
                context.show(&client.project_create(&body).await?)
            }
            Self::List => context.list(&ProjectQuery::default()).await,
            Self::Show { project } => context.show(&client.project_show(&project).await?),
            Self::Update { project, name, description, quota } => {
                let body = UpdateProject { name, description, quota: quota.change() };
                context.show(&client.project_update(&project, &body).await?)
            }
            Self::Delete { projects } => {
                for project in projects {
                    client.project_delete(&project).await?;
                    note(&format!("Deleted the project {project}."));
                }
                Ok(())
            }
        }
    }
}
