//! Operations: long work with progress and a final state.

use api::operation::{Operation, OperationQuery};
use clap::Subcommand;

use super::Context;
use crate::failure::Failure;
use crate::output::{Column, Listed, moment, or_dash};
use crate::progress;

#[derive(Subcommand, Debug)]
pub(crate) enum OperationCommand {
    /// All operations, those that ended too
    List {
        /// Only those in this state
        #[arg(long)]
        state: Option<String>,
        /// Only those of this volume
        #[arg(long)]
        volume: Option<String>,
    },
    /// One operation; with --wait, at its end
    #[command(visible_alias = "get")]
    Show { operation: String },
    /// Stop an operation; what it made is removed; waited for with --wait
    Cancel { operation: String },
}

/// How much is done, in hundredths.
fn percent(operation: &Operation) -> String {
    let share = operation.progress.and_then(|progress| {
        (u128::from(progress.done_bytes) * 100).checked_div(u128::from(progress.total_bytes))
    });
    share.map_or_else(|| "-".to_owned(), |share| format!("{share} %"))
}

impl Listed for Operation {
    const WORD: &'static str = "operations";
    const COLUMNS: &'static [Column<Self>] = &[
        ("kind", |operation| operation.kind.clone()),
        ("of", |operation| {
            or_dash(operation.volume_name.as_ref().or(operation.node_name.as_ref()))
        }),
        ("state", |operation| operation.state.clone()),
        ("done", percent),
        ("created", |operation| moment(&operation.created_at)),
        ("fault", |operation| or_dash(operation.fault.as_ref())),
        ("id", |operation| operation.id.to_string()),
    ];
}

impl OperationCommand {
    pub(crate) async fn run(self, context: &Context, wait_asked: bool) -> Result<(), Failure> {
        let client = &context.client;
        match self {
            Self::List { state, volume } => {
                let query = OperationQuery { state, volume, ..OperationQuery::default() };
                context.list(&query).await
            }
            Self::Show { operation } if wait_asked => {
                context.show(&progress::operation(client, &operation).await?)
            }
            Self::Show { operation } => context.show(&client.operation_show(&operation).await?),
            Self::Cancel { operation } => {
                let mut operation = client.operation_cancel(&operation).await?;
                if context.wait {
                    operation = progress::stopped(client, operation).await?;
                }
                context.show(&operation)
            }
        }
    }
}
