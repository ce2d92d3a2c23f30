//! Hosts: consumer machines.

use std::collections::BTreeMap;

use api::agent::Agent;
use api::host::{CreateHost, Host, HostQuery, UpdateHost};
use clap::Subcommand;
use serde::Serialize;

use super::{Context, MetadataArguments};
use crate::agent::AgentArguments;
use crate::failure::Failure;
use crate::output::{Column, Format, Listed, age, moment, note, or_dash};

#[derive(Subcommand, Debug)]
pub(crate) enum HostCommand {
    /// Run the agent of this machine: attaches volumes, runs failover groups
    Run(AgentArguments),
    /// One group on this machine; the agent starts it
    #[command(hide = true)]
    Warden { directory: std::path::PathBuf },
    /// Make a host known
    Create {
        name: String,
        /// An iSCSI name (IQN) that counts as this host; may be given several times
        #[arg(long = "initiator", value_name = "IQN")]
        initiators: Vec<String>,
        /// An address of the host; may be given several times
        #[arg(long = "address")]
        addresses: Vec<String>,
        #[command(flatten)]
        metadata: MetadataArguments,
    },
    /// All hosts
    List,
    /// One host
    #[command(visible_alias = "get")]
    Show { host: String },
    /// Change a host; a list that is given takes the place of the old one
    Update {
        host: String,
        #[arg(long)]
        name: Option<String>,
        #[arg(long = "initiator", value_name = "IQN")]
        initiators: Option<Vec<String>>,
        #[arg(long = "address")]
        addresses: Option<Vec<String>>,
        #[command(flatten)]
        metadata: MetadataArguments,
    },
    /// Make the token of the host's agent void: the agent ends, and what the host runs goes on
    Dismiss { host: String },
    /// Forget hosts to which nothing is attached
    Delete {
        #[arg(required = true)]
        hosts: Vec<String>,
    },
}

impl Listed for Host {
    const WORD: &'static str = "hosts";
    const COLUMNS: &'static [Column<Self>] = &[
        ("name", |host| host.name.clone()),
        ("initiators", |host| host.initiators.join(", ")),
        ("addresses", |host| host.addresses.join(", ")),
        ("agent", |host| or_dash(host.agent.as_ref().map(agent))),
        ("version", |host| or_dash(host.agent.as_ref().map(|agent| &agent.version))),
        ("enrolled", |host| or_dash(host.agent.as_ref().map(|agent| moment(&agent.enrolled_at)))),
        ("created", |host| moment(&host.created_at)),
        ("id", |host| host.id.to_string()),
    ];
}

/// `up 0.4 s` or `down 3 min`: how long ago it was heard.
fn agent(agent: &Agent) -> String {
    let word = if agent.up { "up" } else { "down" };
    format!("{word} {}", age(agent.last_seen_age_ms))
}

/// A host in lines for people.
#[derive(Serialize)]
struct Summary<'a> {
    id: String,
    name: &'a str,
    initiators: &'a [String],
    addresses: &'a [String],
    metadata: &'a BTreeMap<String, String>,
    agent: Option<String>,
    agent_version: Option<&'a str>,
    agent_enrolled_at: Option<jiff::Timestamp>,
    agent_addresses: Option<&'a [String]>,
    agent_port: Option<u16>,
    project_id: String,
    created_at: jiff::Timestamp,
}

fn show(context: &Context, host: &Host) -> Result<(), Failure> {
    if context.format == Format::Json {
        return context.show(host);
    }
    let own = host.agent.as_ref();
    context.show(&Summary {
        id: host.id.to_string(),
        name: &host.name,
        initiators: &host.initiators,
        addresses: &host.addresses,
        metadata: &host.metadata,
        agent: own.map(agent),
        agent_version: own.map(|agent| agent.version.as_str()),
        agent_enrolled_at: own.map(|agent| agent.enrolled_at),
        agent_addresses: own.map(|agent| agent.addresses.as_slice()),
        agent_port: own.map(|agent| agent.port),
        project_id: host.project_id.to_string(),
        created_at: host.created_at,
    })
}

impl HostCommand {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = &context.client;
        match self {
            // `main` has done these.
            Self::Run(_) | Self::Warden { .. } => Ok(()),
            Self::Create { name, initiators, addresses, metadata } => {
                let body = CreateHost { name, initiators, addresses, metadata: metadata.all() };
                show(context, &client.host_create(&body).await?)
            }
            Self::List => context.list(&HostQuery::default()).await,
            Self::Show { host } => show(context, &client.host_show(&host).await?),
            Self::Update { host, name, initiators, addresses, metadata } => {
                let body = UpdateHost { name, initiators, addresses, metadata: metadata.given() };
                show(context, &client.host_update(&host, &body).await?)
            }
            Self::Dismiss { host } => {
                client.agent_delete(&host).await?;
                note(&format!("The agent of {host} is dismissed; what the host runs goes on."));
                show(context, &client.host_show(&host).await?)
            }
            Self::Delete { hosts } => {
                for host in hosts {
                    client.host_delete(&host).await?;
                    note(&format!("Forgot the host {host}."));
                }
                Ok(())
            }
        }
    }
}
