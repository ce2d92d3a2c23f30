//! Volume types: what may be asked for, and who may ask.

use api::volume_type::{
    CreateGrant, CreateVolumeType, Grant, GrantQuery, UpdateVolumeType, VolumeType, VolumeTypeQuery,
};
use clap::Subcommand;

use super::volume::KindName;
use super::{Context, size};
use crate::failure::Failure;
use crate::output::{Column, Listed, bytes, moment, note, or_dash};

#[derive(Subcommand, Debug)]
pub(crate) enum VolumeTypeCommand {
    /// Make a volume type
    Create(CreateArguments),
    /// All volume types that you may use
    List,
    /// One volume type
    #[command(visible_alias = "get")]
    Show { volume_type: String },
    /// Change a type; one that is in use cannot change what it promises
    Update {
        volume_type: String,
        #[arg(long)]
        name: Option<String>,
        #[arg(long)]
        description: Option<String>,
        #[arg(long)]
        class: Option<String>,
        #[arg(long)]
        multiattach: Option<bool>,
        #[arg(long)]
        public: Option<bool>,
        #[arg(long, value_name = "SIZE", value_parser = size)]
        max_size: Option<api::Size>,
        #[arg(long = "size", value_name = "SIZE", value_parser = size)]
        sizes: Option<Vec<api::Size>>,
        #[arg(long = "pool")]
        pools: Option<Vec<String>>,
    },
    /// Delete types that no volume has
    Delete {
        #[arg(required = true)]
        volume_types: Vec<String>,
    },
    /// Let a project use a private type
    Grant {
        volume_type: String,
        /// Name or id of the project
        to: String,
        /// Needed for a multi-attach type, and recorded with your name: writers on several hosts
        /// that do not coordinate destroy each other's data
        #[arg(long)]
        acknowledge_data_loss: bool,
    },
    /// Take a project's right to use a private type away
    Revoke {
        volume_type: String,
        /// Name or id of the project
        from: String,
    },
    /// Which projects may use a private type, and who acknowledged the warning
    Grants { volume_type: String },
}

#[derive(clap::Args, Debug)]
pub(crate) struct CreateArguments {
    name: String,
    /// Block devices or file trees
    #[arg(long, default_value = "block")]
    kind: KindName,
    /// Volumes go to pools of this class: ssd, hdd, or a word of your own
    #[arg(long)]
    class: String,
    /// Several hosts may write to a volume of this type at once
    #[arg(long)]
    multiattach: bool,
    /// Every project may use it; otherwise it is granted per project
    #[arg(long)]
    public: bool,
    #[arg(long)]
    description: Option<String>,
    /// The largest volume of this type
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_size: Option<api::Size>,
    /// A size that there is; may be given several times, and then there is no other
    #[arg(long = "size", value_name = "SIZE", value_parser = size)]
    sizes: Option<Vec<api::Size>>,
    /// Use only this pool; may be given several times
    #[arg(long = "pool")]
    pools: Option<Vec<String>>,
}

impl CreateArguments {
    fn body(self) -> CreateVolumeType {
        CreateVolumeType {
            name: self.name,
            description: self.description,
            kind: self.kind.into(),
            class: self.class,
            multiattach: self.multiattach,
            public: self.public,
            max_size: self.max_size,
            sizes: self.sizes,
            pools: self.pools,
        }
    }
}

fn yes(value: bool) -> String {
    if value { "yes" } else { "no" }.to_owned()
}

impl Listed for VolumeType {
    const WORD: &'static str = "volume types";
    const COLUMNS: &'static [Column<Self>] = &[
        ("name", |volume_type| volume_type.name.clone()),
        ("kind", |volume_type| volume_type.kind.word().to_owned()),
        ("class", |volume_type| volume_type.class.clone()),
        ("multiattach", |volume_type| yes(volume_type.multiattach)),
        ("public", |volume_type| yes(volume_type.public)),
        ("max size", |volume_type| or_dash(volume_type.max_size_bytes.map(bytes))),
        ("id", |volume_type| volume_type.id.to_string()),
    ];
}

impl Listed for Grant {
    const WORD: &'static str = "grants";
    const COLUMNS: &'static [Column<Self>] = &[
        ("project", |grant| grant.project_name.clone()),
        ("acknowledged by", |grant| or_dash(grant.acknowledged_by.as_ref())),
        ("granted", |grant| moment(&grant.granted_at)),
        ("project id", |grant| grant.project_id.to_string()),
    ];
}

impl VolumeTypeCommand {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = &context.client;
        match self {
            Self::Create(arguments) => {
                context.show(&client.volume_type_create(&arguments.body()).await?)
            }
            Self::List => context.list(&VolumeTypeQuery::default()).await,
            Self::Show { volume_type } => {
                context.show(&client.volume_type_show(&volume_type).await?)
            }
            Self::Update {
                volume_type,
                name,
                description,
                class,
                multiattach,
                public,
                max_size,
                sizes,
                pools,
            } => {
                let body = UpdateVolumeType {
                    name,
                    description,
                    class,
                    multiattach,
                    public,
                    max_size,
                    sizes,
                    pools,
                };
                context.show(&client.volume_type_update(&volume_type, &body).await?)
            }
            Self::Delete { volume_types } => {
                for volume_type in volume_types {
                    client.volume_type_delete(&volume_type).await?;
                    note(&format!("Deleted the volume type {volume_type}."));
                }
                Ok(())
            }
            Self::Grant { volume_type, to, acknowledge_data_loss } => {
                let body = CreateGrant { project: to, acknowledge_data_loss };
                context.show(&client.grant_create(&volume_type, &body).await?)
            }
            Self::Revoke { volume_type, from } => {
                client.grant_delete(&volume_type, &from).await?;
                note(&format!("The project {from} may no longer use {volume_type}."));
                Ok(())
            }
            Self::Grants { volume_type } => {
                context.list(&GrantQuery { volume_type, ..GrantQuery::default() }).await
            }
        }
    }
}
