//! Nodes: the machines that serve volumes.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use api::Client;
use api::node::{
    CreateNode, DeleteNode, EvacuateNode, Node, NodeQuery, NodeVolume, NodeVolumeQuery,
    RestartNode, UpdateNode, UpgradeNode,
};
use clap::{Subcommand, ValueEnum};

use super::Context;
use crate::failure::Failure;
use crate::output::{Column, Listed, bytes, moment, note, or_dash};
use crate::progress;

#[derive(Subcommand, Debug)]
pub(crate) enum NodeCommand {
    /// All nodes, with what they serve
    List,
    /// Make a node of another machine known: `commonhold serve --role node` runs there
    Create {
        name: String,
        /// Its door, as http://HOST:PORT: it says so when it starts
        #[arg(long)]
        address: String,
        /// A copy of node/secret of its data directory; - is standard input
        #[arg(long, value_name = "FILE", default_value = "-")]
        secret_file: PathBuf,
    },
    /// Change where a node is found, and whether new volumes are placed on it
    Update {
        node: Option<String>,
        /// The same node must be there
        #[arg(long)]
        address: Option<String>,
        /// on, or off: no new volumes
        #[arg(long, value_name = "on|off")]
        placement: Option<Placement>,
    },
    /// Forget a node of another machine that has no pools any more, and let it go
    Delete {
        node: String,
        /// Although it does not answer, and goes on with its last orders
        #[arg(long)]
        force: bool,
    },
    /// One node; the only one when none is named
    #[command(visible_alias = "get")]
    Show { node: Option<String> },
    /// The volumes that a node serves; those of one project with --project
    Volumes { node: Option<String> },
    /// Start a node's file service anew; block volumes notice nothing
    Restart {
        node: Option<String>,
        /// Although references to its file volumes exist: their clients wait, and go on
        #[arg(long)]
        force: bool,
    },
    /// Have other nodes take a node's file volumes; no new ones are placed on it
    Evacuate {
        node: Option<String>,
        /// Although references to them exist and clients have them mounted, which are cut off
        #[arg(long)]
        force: bool,
    },
    /// Have a node's daemon go on with another binary, in the same process
    Upgrade {
        node: Option<String>,
        /// Path on the node; what lies now where the running one was started from when left out
        #[arg(long, value_name = "PATH")]
        binary: Option<PathBuf>,
        /// Although references to its file volumes exist or operations are under way (imports and
        /// exports are cancelled), and although the binary is older
        #[arg(long)]
        force: bool,
    },
}

/// Are new volumes placed on a node?
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Placement {
    On,
    Off,
}

/// What stands in the file, or comes on standard input.
fn secret_in(path: &Path) -> Result<String, Failure> {
    let is_typed = path.as_os_str() == "-" && std::io::stdin().is_terminal();
    if is_typed {
        note("The node's secret, then Ctrl-D (node/secret in its data directory):");
    }
    let read = match path.as_os_str() == "-" {
        true => std::io::read_to_string(std::io::stdin()),
        false => std::fs::read_to_string(path),
    };
    let refused = |why: String| Failure::Usage {
        message: format!("the node's secret cannot be read from {}: {why}", path.display()),
        hint: "The node's daemon has made it at its first start, in node/secret of its data \
               directory: copy that file, or pipe it in (--secret-file -)."
            .to_owned(),
    };
    let secret = read.map_err(|why| refused(why.to_string()))?.trim().to_owned();
    if secret.is_empty() { Err(refused("it is empty".to_owned())) } else { Ok(secret) }
}

/// Whether it serves files, and to how many.
fn file_service(node: &Node) -> String {
    let Some(service) = &node.file_service else { return "-".to_owned() };
    let state = if service.in_grace { "grace" } else { "serving" };
    format!("{state}, {} clients", service.clients)
}

impl Listed for Node {
    const WORD: &'static str = "nodes";
    const COLUMNS: &'static [Column<Self>] = &[
        ("name", |node| node.name.clone()),
        ("state", |node| node.state.clone()),
        ("since", |node| moment(&node.since)),
        ("version", |node| node.version.clone()),
        ("boot", |node| node.boot.to_string()),
        ("pools", |node| node.pools.len().to_string()),
        ("block", |node| node.block_volumes.to_string()),
        ("file", |node| node.file_volumes.to_string()),
        ("sessions", |node| node.sessions.to_string()),
        ("files", file_service),
        ("placement", |node| if node.takes_volumes { "on" } else { "off" }.to_owned()),
        ("address", |node| or_dash(node.address.as_ref())),
        ("id", |node| node.id.to_string()),
    ];
}

/// Hosts of a block volume, clients of a file volume.
fn users(volume: &NodeVolume) -> String {
    if volume.kind == "file" { or_dash(volume.clients) } else { volume.attachments.to_string() }
}

impl Listed for NodeVolume {
    const WORD: &'static str = "volumes";
    const COLUMNS: &'static [Column<Self>] = &[
        ("project", |volume| volume.project_name.clone()),
        ("name", |volume| volume.name.clone()),
        ("kind", |volume| volume.kind.clone()),
        ("size", |volume| bytes(volume.size_bytes)),
        ("status", |volume| volume.status.clone()),
        ("users", users),
        ("references", |volume| match volume.references.as_slice() {
            [] => "-".to_owned(),
            references => references.join(", "),
        }),
        ("resource", |volume| or_dash(volume.resource.as_ref())),
        ("id", |volume| volume.id.to_string()),
    ];
}

/// The node that is meant: the only one when none is named.
async fn named(client: &Client, node: Option<String>) -> Result<String, Failure> {
    if let Some(node) = node {
        return Ok(node);
    }
    match client.every(&NodeQuery::default()).await?.as_slice() {
        [only] => Ok(only.id.to_string()),
        nodes => {
            let names: Vec<_> = nodes.iter().map(|node| node.name.as_str()).collect();
            Err(Failure::Usage {
                message: format!("there are {} nodes: {}", nodes.len(), names.join(", ")),
                hint: "Name one of them.".to_owned(),
            })
        }
    }
}

/// The service reads paths from nowhere but the root.
fn absolute(path: &Path) -> Result<String, Failure> {
    let failed = |why| Failure::Io { what: path.display().to_string(), why };
    let whole = std::path::absolute(path).map_err(failed)?;
    whole.into_os_string().into_string().map_err(|path| Failure::Usage {
        message: format!("{} cannot be sent as text", path.display()),
        hint: "Give the binary another name.".to_owned(),
    })
}

impl NodeCommand {
    pub(crate) async fn run(
        self,
        context: &Context,
        project: Option<String>,
    ) -> Result<(), Failure> {
        let client = &context.client;
        match self {
            Self::List => context.list(&NodeQuery::default()).await,
            Self::Create { name, address, secret_file } => {
                let secret = secret_in(&secret_file)?;
                context.show(&client.node_create(&CreateNode { name, address, secret }).await?)
            }
            Self::Update { node, address, placement } => {
                let node = named(client, node).await?;
                let takes_volumes = placement.map(|one| matches!(one, Placement::On));
                let change = UpdateNode { address, takes_volumes };
                context.show(&client.node_update(&node, &change).await?)
            }
            Self::Delete { node, force } => {
                client.node_delete(&node, &DeleteNode { force }).await?;
                note(&format!("Forgot the node {node}."));
                Ok(())
            }
            Self::Show { node } => {
                context.show(&client.node_show(&named(client, node).await?).await?)
            }
            Self::Volumes { node } => {
                let node = named(client, node).await?;
                context.list(&NodeVolumeQuery { node, project, ..NodeVolumeQuery::default() }).await
            }
            Self::Evacuate { node, force } => {
                let node = named(client, node).await?;
                let begun = client.node_evacuate(&node, &EvacuateNode { force }).await?;
                if !begun.block_volumes.is_empty() {
                    let names = begun.block_volumes.join(", ");
                    note(&format!("Block volumes stay where they are: {names}."));
                }
                let mut operation = begun.operation;
                if context.wait {
                    operation = progress::operation(client, &operation.id.to_string()).await?;
                }
                context.show(&operation)
            }
            Self::Upgrade { node, binary, force } => {
                let binary = binary.map(|path| absolute(&path)).transpose()?;
                let node = named(client, node).await?;
                let how = UpgradeNode { binary, force };
                let mut operation = client.node_upgrade(&node, &how).await?;
                if context.wait {
                    operation = progress::through_silence(client, operation).await?;
                }
                context.show(&operation)
            }
            Self::Restart { node, force } => {
                let node = named(client, node).await?;
                let mut operation = client.node_restart(&node, &RestartNode { force }).await?;
                if context.wait {
                    operation = progress::operation(client, &operation.id.to_string()).await?;
                }
                context.show(&operation)
            }
        }
    }
}
