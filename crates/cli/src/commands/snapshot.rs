//! Snapshots: read-only images of a volume at a point.

use api::snapshot::{CreateSnapshot, Snapshot, SnapshotQuery, UpdateSnapshot};
use clap::Subcommand;

use super::schedule::ScheduleCommand;
use super::{Context, MetadataArguments};
use crate::failure::Failure;
use crate::output::{Column, Listed, bytes, moment, note, or_dash};
use crate::progress::{self, Bar};

#[derive(Subcommand, Debug)]
pub(crate) enum SnapshotCommand {
    /// Take a snapshot of a volume, attached or not
    Create {
        volume: String,
        name: String,
        #[arg(long)]
        description: Option<String>,
        #[command(flatten)]
        metadata: MetadataArguments,
    },
    /// All snapshots
    List {
        /// Only those of this volume
        #[arg(long)]
        volume: Option<String>,
    },
    /// One snapshot
    #[command(visible_alias = "get")]
    Show { snapshot: String },
    /// Change description or metadata; metadata that is given takes the place of the old
    Update {
        snapshot: String,
        #[arg(long)]
        description: Option<String>,
        #[command(flatten)]
        metadata: MetadataArguments,
    },
    /// Give a snapshot another name
    Rename { snapshot: String, name: String },
    /// Snapshots by the clock
    #[command(subcommand)]
    Schedule(ScheduleCommand),
    /// Delete snapshots; their space comes back in the background
    Delete {
        #[arg(required = true)]
        snapshots: Vec<String>,
    },
}

impl Listed for Snapshot {
    const WORD: &'static str = "snapshots";
    const COLUMNS: &'static [Column<Self>] = &[
        ("name", |snapshot| snapshot.name.clone()),
        ("volume", |snapshot| snapshot.volume_name.clone()),
        ("size", |snapshot| bytes(snapshot.size_bytes)),
        ("held", |snapshot| or_dash(snapshot.held_bytes.map(bytes))),
        ("state", |snapshot| snapshot.state.clone()),
        ("created", |snapshot| moment(&snapshot.created_at)),
        ("id", |snapshot| snapshot.id.to_string()),
    ];
}

/// Look until the snapshot rests; an error at its end is ours.
async fn settle(context: &Context, mut snapshot: Snapshot) -> Result<Snapshot, Failure> {
    let id = snapshot.id.to_string();
    let mut bar = Bar::new(format!("{} {}", snapshot.state, snapshot.name));
    while context.wait && progress::is_passing(&snapshot.state) {
        bar.pause().await;
        snapshot = context.client.snapshot_show(&id).await?;
    }
    if snapshot.state == "error" {
        let why = snapshot.fault.as_deref().unwrap_or("its events tell more");
        return Err(Failure::work(format!("the snapshot {} failed: {why}", snapshot.name)));
    }
    Ok(snapshot)
}

async fn delete(context: &Context, name: &str) -> Result<(), Failure> {
    let snapshot = context.client.snapshot_delete(name).await?;
    let what = format!("the snapshot {}", snapshot.name);
    if !context.wait {
        note(&format!("Deleting {what}."));
        return Ok(());
    }
    let id = snapshot.id.to_string();
    let id = &id;
    progress::gone(&what, move || async move {
        context.client.snapshot_show(id).await.map(|snapshot| (snapshot.state, snapshot.fault))
    })
    .await?;
    note(&format!("Deleted {what}."));
    Ok(())
}

impl SnapshotCommand {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = &context.client;
        match self {
            Self::Create { volume, name, description, metadata } => {
                let metadata = metadata.all();
                let body = CreateSnapshot { volume, name, description, metadata };
                let snapshot = client.snapshot_create(&body).await?;
                context.show(&settle(context, snapshot).await?)
            }
            Self::List { volume } => {
                context.list(&SnapshotQuery { volume, ..SnapshotQuery::default() }).await
            }
            Self::Show { snapshot } => context.show(&client.snapshot_show(&snapshot).await?),
            Self::Update { snapshot, description, metadata } => {
                let metadata = metadata.given();
                let body = UpdateSnapshot { name: None, description, metadata };
                context.show(&client.snapshot_update(&snapshot, &body).await?)
            }
            Self::Rename { snapshot, name } => {
                let body = UpdateSnapshot { name: Some(name), ..UpdateSnapshot::default() };
                context.show(&client.snapshot_update(&snapshot, &body).await?)
            }
            Self::Schedule(verb) => verb.run(context).await,
            Self::Delete { snapshots } => {
                for snapshot in snapshots {
                    delete(context, &snapshot).await?;
                }
                Ok(())
            }
        }
    }
}
