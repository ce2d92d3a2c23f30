//! Networks: who may be a client of file volumes, and where they are served.

use api::network::{CreateNetwork, Network, NetworkQuery, UpdateNetwork};
use clap::Subcommand;

use super::Context;
use crate::failure::Failure;
use crate::output::{Column, Listed, note};

#[derive(Subcommand, Debug)]
pub(crate) enum NetworkCommand {
    /// Make a network
    Create {
        name: String,
        /// Who may be a client: an address or a CIDR such as 10.0.0.0/24; may be given several
        /// times
        #[arg(long = "client", value_name = "CIDR")]
        clients: Vec<String>,
        /// An NFS portal that serves it, ADDRESS:PORT; all of the node when left out
        #[arg(long = "portal", value_name = "ADDRESS:PORT")]
        portals: Vec<String>,
        #[arg(long)]
        description: Option<String>,
    },
    /// All networks
    List,
    /// One network
    #[command(visible_alias = "get")]
    Show { network: String },
    /// Change a network; a list that is given takes the place of the old one
    Update {
        network: String,
        #[arg(long)]
        name: Option<String>,
        #[arg(long = "client", value_name = "CIDR")]
        clients: Option<Vec<String>>,
        #[arg(long = "portal", value_name = "ADDRESS:PORT")]
        portals: Option<Vec<String>>,
        #[arg(long)]
        description: Option<String>,
    },
    /// Delete networks that no volume is on
    Delete {
        #[arg(required = true)]
        networks: Vec<String>,
    },
}

impl Listed for Network {
    const WORD: &'static str = "networks";
    const COLUMNS: &'static [Column<Self>] = &[
        ("name", |network| network.name.clone()),
        ("clients", |network| network.clients.join(", ")),
        ("portals", |network| match network.portals.is_empty() {
            true => "all".to_owned(),
            false => network.portals.join(", "),
        }),
        ("id", |network| network.id.to_string()),
    ];
}

impl NetworkCommand {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = &context.client;
        match self {
            Self::Create { name, clients, portals, description } => {
                let body = CreateNetwork { name, description, clients, portals };
                context.show(&client.network_create(&body).await?)
            }
            Self::List => context.list(&NetworkQuery::default()).await,
            Self::Show { network } => context.show(&client.network_show(&network).await?),
            Self::Update { network, name, clients, portals, description } => {
                let body = UpdateNetwork { name, description, clients, portals };
                context.show(&client.network_update(&network, &body).await?)
            }
            Self::Delete { networks } => {
                for network in networks {
                    client.network_delete(&network).await?;
                    note(&format!("Deleted the network {network}."));
                }
                Ok(())
            }
        }
    }
}
