//! Events: the audit trail.

use api::event::{Event, EventQuery};
use clap::Subcommand;
use jiff::Timestamp;

use super::Context;
use crate::failure::Failure;
use crate::output::{self, Column, Listed, moment};

#[derive(Subcommand, Debug)]
pub(crate) enum EventCommand {
    /// Who did what, newest first
    List {
        /// Only this action, such as volume.create
        #[arg(long)]
        action: Option<String>,
        /// Only what this user did; `node` and `system` count as users
        #[arg(long)]
        actor: Option<String>,
        /// Only on this kind of resource, such as volume
        #[arg(long)]
        resource: Option<String>,
        /// Only on the resource with this id
        #[arg(long)]
        resource_id: Option<uuid::Uuid>,
        /// Only at or after this moment, such as 2026-11-21T09:00:00Z
        #[arg(long)]
        since: Option<Timestamp>,
        /// Only before this moment
        #[arg(long)]
        until: Option<Timestamp>,
        /// How many at most
        #[arg(long, default_value_t = 100, conflicts_with = "all",
              value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
        /// All there are
        #[arg(long)]
        all: bool,
    },
    /// One event
    #[command(visible_alias = "get")]
    Show { event: String },
}

impl Listed for Event {
    const WORD: &'static str = "events";
    const COLUMNS: &'static [Column<Self>] = &[
        ("at", |event| moment(&event.at)),
        ("actor", |event| event.actor.clone()),
        ("action", |event| event.action.clone()),
        ("on", |event| format!("{} {}", event.resource, event.resource_name)),
        ("result", |event| event.result.clone()),
        ("from", |event| event.from.clone()),
        ("detail", |event| event.detail.clone()),
        ("id", |event| event.id.to_string()),
    ];
}

impl EventCommand {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = &context.client;
        match self {
            Self::List { action, actor, resource, resource_id, since, until, limit, all } => {
                let limit = (!all).then_some(limit);
                let query = EventQuery {
                    action,
                    actor,
                    resource,
                    resource_id,
                    since,
                    until,
                    limit,
                    ..EventQuery::default()
                };
                if all {
                    return context.list(&query).await;
                }
                output::list(context.format, &client.list(&query).await?.items)
            }
            Self::Show { event } => context.show(&client.event_show(&event).await?),
        }
    }
}
