//! References: what uses file volumes, and keeps them from being deleted.

use api::reference::{CreateReference, Reference, ReferenceKind, ReferenceQuery};
use clap::{Subcommand, ValueEnum};

use super::Context;
use crate::failure::Failure;
use crate::output::{Column, Listed, note};

#[derive(Subcommand, Debug)]
pub(crate) enum ReferenceCommand {
    /// Note that something uses a file volume; again, to say that it still does
    Create {
        /// The volume, or the name of one that is still to be made: a reservation
        volume: String,
        /// What uses it: a container's id, an instance's name, a mount point
        name: String,
        #[arg(long)]
        kind: KindName,
    },
    /// All references, with their age and when they were last seen
    List {
        /// Only those of this volume
        #[arg(long)]
        volume: Option<String>,
        #[arg(long)]
        kind: Option<KindName>,
    },
    /// One reference
    #[command(visible_alias = "get")]
    Show { reference: String },
    /// Note that uses have ended
    Delete {
        #[arg(required = true)]
        references: Vec<String>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum KindName {
    Container,
    Instance,
    Mount,
}

impl From<KindName> for ReferenceKind {
    fn from(kind: KindName) -> Self {
        match kind {
            KindName::Container => Self::Container,
            KindName::Instance => Self::Instance,
            KindName::Mount => Self::Mount,
        }
    }
}

/// The largest whole unit of an age: `40s`, `3m`, `5h`, `12d`.
fn age(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

impl Listed for Reference {
    const WORD: &'static str = "references";
    const COLUMNS: &'static [Column<Self>] = &[
        ("name", |reference| reference.name.clone()),
        ("kind", |reference| reference.kind.word().to_owned()),
        ("volume", |reference| match reference.volume_id {
            Some(_) => reference.volume_name.clone(),
            None => format!("{} (reserved)", reference.volume_name),
        }),
        ("age", |reference| age(reference.age_seconds)),
        ("last seen", |reference| age(reference.last_seen_age_seconds)),
        ("id", |reference| reference.id.to_string()),
    ];
}

impl ReferenceCommand {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = &context.client;
        match self {
            Self::Create { volume, name, kind } => {
                let body = CreateReference { volume, name, kind: kind.into() };
                context.show(&client.reference_create(&body).await?)
            }
            Self::List { volume, kind } => {
                let kind = kind.map(Into::into);
                context.list(&ReferenceQuery { volume, kind, ..ReferenceQuery::default() }).await
            }
            Self::Show { reference } => context.show(&client.reference_show(&reference).await?),
            Self::Delete { references } => {
                for reference in references {
                    client.reference_delete(&reference).await?;
                    note(&format!("The reference {reference} is gone."));
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_in_their_largest_whole_unit() {
        let shown = [0, 59, 60, 3_599, 3_600, 86_399, 86_400, 864_000].map(age);
        assert_eq!(shown, ["0s", "59s", "1m", "59m", "1h", "23h", "1d", "10d"]);
    }
}
