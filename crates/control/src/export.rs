//! Exports: how file volumes are handed out, and to whom.

use std::collections::HashMap;
use std::net::SocketAddr;

use model::event::EventResult;
use model::export::{self, AccessRule, Addresses, Client, Export, RULES_MAX, Terms};
use model::host::Host;
use model::id::{HostId, NetworkId, ProjectId, VolumeId};
use model::network::{Cidr, CidrError, Network};
use model::node::Node;
use model::order::OrderError;
use model::pool::Pool;
use model::project::Project;
use model::text;
use model::user::Role;
use model::volume::{Volume, VolumeKind};
use model::volume_type::VolumeType;

use crate::board::Step;
use crate::bootstrap::DEFAULT_NETWORK;
use crate::caller::Caller;
use crate::catalog::{self, Connection, Query};
use crate::error::{ControlError, Result};
use crate::facade::{Control, invalid, name_is_free, resolve};
use crate::params::{
    AccessRuleGiven, ExportChange, ExportView, FileView, VolumeCreate, VolumeSource,
};
use crate::volume::expected;
use crate::work::Outcome;

/// Does the export stand on this network, or speak of it?
pub(crate) fn names_network(export: &Export, network: NetworkId) -> bool {
    let named = Client::Network(network);
    export.network == network || export.access.iter().any(|rule| rule.client == named)
}

/// Refuse what only the other kind of volume can.
pub(crate) fn must_be(volume: &Volume, kind: VolumeKind, action: &'static str) -> Result<()> {
    if volume.kind() == kind {
        return Ok(());
    }
    let (is, needs) = (volume.kind().word(), kind.word());
    Err(ControlError::WrongKind { volume: volume.name.clone(), is, needs, action })
}

/// How a new volume is handed out: `None` for a block volume, of which nothing of this may be
/// asked.
pub(crate) async fn for_new(
    on: &mut Connection,
    caller: &Caller,
    (project, kind): (&Project, &VolumeType),
    new: &VolumeCreate,
) -> Result<Option<Export>> {
    let asked = &new.export;
    if kind.kind == VolumeKind::Block {
        let given = [
            ("network", asked.network.is_some()),
            ("access", asked.access.is_some()),
            ("durability", asked.durability.is_some()),
        ];
        return match given.iter().find(|(_, is_given)| *is_given) {
            None => Ok(None),
            Some((field, _)) => {
                let why = format!("'{}' is a type of block volumes, which have none", kind.name);
                Err(ControlError::Invalid { field, why })
            }
        };
    }
    if matches!(new.source, VolumeSource::Image { .. }) {
        let why = "image files hold block volumes, and this would be a file volume".to_owned();
        return Err(ControlError::Invalid { field: "source", why });
    }
    let name = free_name(on, project.id, &new.name, None).await?;
    let network = asked.network.as_deref().unwrap_or(DEFAULT_NETWORK);
    let network: Network = resolve(on, caller, network).await?;
    let access = match &asked.access {
        Some(given) => rules(on, caller, project.id, given).await?,
        None => vec![AccessRule::usual()],
    };
    Ok(Some(Export {
        network: network.id,
        path: export::path(project.id, &project.name, &name),
        access,
        durability: asked.durability.unwrap_or_default(),
        portals: Vec::new(),
        evict: false,
    }))
}

/// A name that a file volume of the project can have.
pub(crate) async fn free_name(
    on: &mut Connection,
    project: ProjectId,
    name: &str,
    except: Option<VolumeId>,
) -> Result<String> {
    let name = text::file_volume_name(name).map_err(invalid("name"))?;
    let among = Query::<Volume>::all().eq("project", project).eq("kind", "file");
    name_is_free(on, among, &name, except.map(|id| id.0)).await?;
    Ok(name)
}

async fn rules(
    on: &mut Connection,
    caller: &Caller,
    project: ProjectId,
    given: &[AccessRuleGiven],
) -> Result<Vec<AccessRule>> {
    if given.len() > RULES_MAX {
        let why = format!("it has {} rules, and at most {RULES_MAX} are allowed", given.len());
        return Err(ControlError::Invalid { field: "access", why });
    }
    let mut rules = Vec::with_capacity(given.len());
    for rule in given {
        rules.push(AccessRule {
            client: client(on, caller, project, rule.client.trim()).await?,
            mode: rule.mode,
            squash: rule.squash,
            anonymous_uid: rule.anonymous_uid,
            anonymous_gid: rule.anonymous_gid,
        });
    }
    Ok(rules)
}

/// Whom a text means: everybody, addresses, a host of the project, or a network.
async fn client(
    on: &mut Connection,
    caller: &Caller,
    project: ProjectId,
    text: &str,
) -> Result<Client> {
    if text == "*" {
        return Ok(Client::Any);
    }
    match text.parse::<Cidr>() {
        Ok(cidr) => return Ok(Client::Addresses(cidr)),
        Err(CidrError::Unreadable(_)) => {}
        Err(error) => return Err(invalid("access")(error)),
    }
    match resolve::<Host>(on, caller, text).await {
        Ok(host) if host.project == project => return Ok(Client::Host(host.id)),
        Ok(_) | Err(ControlError::NotFound { .. }) => {}
        Err(error) => return Err(error),
    }
    match resolve::<Network>(on, caller, text).await {
        Ok(network) => Ok(Client::Network(network.id)),
        Err(ControlError::NotFound { .. }) => {
            let why = format!(
                "'{text}' is no address, no network like 10.0.0.0/24, no host of the project and no \
                 network's name; * means every client"
            );
            Err(ControlError::Invalid { field: "access", why })
        }
        Err(error) => Err(error),
    }
}

/// The names that views of exports need.
#[derive(Default)]
pub(crate) struct Names {
    networks: HashMap<uuid::Uuid, String>,
    hosts: HashMap<uuid::Uuid, String>,
}

impl Names {
    /// Of all networks and hosts that these volumes name.
    pub(crate) async fn of(on: &mut Connection, volumes: &[Volume]) -> Result<Self> {
        let exports = || volumes.iter().filter_map(|volume| volume.export.as_ref());
        if exports().next().is_none() {
            return Ok(Self::default());
        }
        let clients = || exports().flat_map(|export| &export.access).map(|rule| &rule.client);
        let hosts = clients().filter_map(|client| match client {
            Client::Host(id) => Some(id.0),
            _ => None,
        });
        let networks = clients().filter_map(|client| match client {
            Client::Network(id) => Some(id.0),
            _ => None,
        });
        let networks = networks.chain(exports().map(|export| export.network.0));
        Ok(Self {
            networks: catalog::names::<Network>(on, networks.collect::<Vec<_>>()).await?,
            hosts: catalog::names::<Host>(on, hosts.collect::<Vec<_>>()).await?,
        })
    }

    fn network(&self, id: NetworkId) -> String {
        self.networks.get(&id.0).cloned().unwrap_or_else(|| id.to_string())
    }

    /// A host that is gone is shown by its id.
    fn host(&self, id: HostId) -> String {
        self.hosts.get(&id.0).cloned().unwrap_or_else(|| id.to_string())
    }

    /// What people want to see of a file volume; nothing of a block volume.
    pub(crate) fn file(&self, volume: &Volume) -> Option<FileView> {
        let export = volume.export.as_ref()?;
        let resource = |portal: &String| export::resource(portal, &export.path);
        Some(FileView {
            network_name: self.network(export.network),
            resources: export.portals.iter().map(resource).collect(),
            usage: None,
            clients: Vec::new(),
            references: Vec::new(),
        })
    }

    fn rule(&self, rule: &AccessRule) -> AccessRuleGiven {
        AccessRuleGiven {
            client: match &rule.client {
                Client::Any => "*".to_owned(),
                Client::Addresses(cidr) => cidr.to_string(),
                Client::Host(id) => self.host(*id),
                Client::Network(id) => self.network(*id),
            },
            mode: rule.mode,
            squash: rule.squash,
            anonymous_uid: rule.anonymous_uid,
            anonymous_gid: rule.anonymous_gid,
        }
    }
}

/// What the node must know to serve the volume; `None` for a block volume.
pub(crate) async fn terms(on: &mut Connection, volume: &Volume) -> Result<Option<Terms>> {
    let Some(export) = &volume.export else { return Ok(None) };
    let network: Network = expected(on, export.network.0).await?;
    let mut access = Vec::with_capacity(export.access.len());
    for rule in &export.access {
        let addresses = match &rule.client {
            Client::Any => None,
            Client::Addresses(cidr) => Some(vec![*cidr]),
            // A host that is gone has no addresses, and lets nobody in.
            Client::Host(id) => {
                let host = catalog::get::<Host>(on, id.0).await?;
                let addresses = host.map(|host| host.addresses).unwrap_or_default();
                Some(addresses.into_iter().map(Cidr::host).collect())
            }
            Client::Network(id) => Some(expected::<Network>(on, id.0).await?.clients),
        };
        access.push(Addresses { rule, addresses });
    }
    Ok(Some(Terms {
        volume: volume.id,
        pool: volume.pool,
        path: export.path.clone(),
        portals: portals(on, volume, &network).await?,
        rules: export::rules(&access, &network.clients),
        durability: export.durability,
    }))
}

/// The portals of the network that a new file volume is put on.
pub(crate) async fn portals_of_network(
    on: &mut Connection,
    export: Option<&Export>,
) -> Result<Vec<SocketAddr>> {
    match export {
        Some(export) => Ok(expected::<Network>(on, export.network.0).await?.portals),
        None => Ok(Vec::new()),
    }
}

/// The portals of the network that are those of the volume's node.
async fn portals(
    on: &mut Connection,
    volume: &Volume,
    network: &Network,
) -> Result<Vec<SocketAddr>> {
    let pool: Pool = expected(on, volume.pool.0).await?;
    let mut others = catalog::select(on, Query::<Node>::all()).await?;
    let Some(at) = others.iter().position(|node| node.id == pool.node) else {
        return Ok(network.portals.clone());
    };
    let node = others.swap_remove(at);
    Ok(node.portals_of(&network.portals, &others))
}

async fn view(on: &mut Connection, volume: Volume) -> Result<ExportView> {
    let names = Names::of(on, std::slice::from_ref(&volume)).await?;
    let file = names.file(&volume);
    let Some((export, file)) = volume.export.zip(file) else {
        let (volume, is, needs) = (volume.name, "block", "file");
        return Err(ControlError::WrongKind { volume, is, needs, action: "mount" });
    };
    Ok(ExportView {
        volume: volume.id,
        volume_name: volume.name,
        network: export.network,
        network_name: file.network_name,
        access: export.access.iter().map(|rule| names.rule(rule)).collect(),
        path: export.path,
        durability: export.durability,
        resources: file.resources,
        fault: volume.fault,
    })
}

impl Control {
    /// How a file volume is handed out.
    ///
    /// # Errors
    /// No such volume, or a block volume.
    pub async fn export_get(&self, caller: &Caller, volume: &str) -> Result<ExportView> {
        let mut on = self.inner.catalog.read().await?;
        let volume: Volume = resolve(&mut on, caller, volume).await?;
        must_be(&volume, VolumeKind::File, "export")?;
        view(&mut on, volume).await
    }

    /// Change network, access rules or durability while clients have the volume mounted. Returns
    /// when the node serves it on the new terms: whom they keep out gets nothing any more.
    ///
    /// # Errors
    /// A reader; no such volume, or a block volume; a bad value; the node cannot be reached, and
    /// serves on the new terms as soon as it can.
    pub async fn export_update(
        &self,
        caller: &Caller,
        volume: &str,
        change: ExportChange,
    ) -> Result<ExportView> {
        caller.must_be(Role::Member, "change exports")?;
        let mut tx = self.inner.catalog.begin().await?;
        let mut volume: Volume = resolve(&mut tx, caller, volume).await?;
        must_be(&volume, VolumeKind::File, "export")?;
        let Some(export) = &mut volume.export else {
            return view(&mut tx, volume).await;
        };
        let mut changed = Vec::new();
        if let Some(network) = &change.network {
            let network: Network = resolve(&mut tx, caller, network).await?;
            export.network = network.id;
            changed.push(format!("network '{}'", network.name));
        }
        if let Some(given) = &change.access {
            export.access = rules(&mut tx, caller, volume.project, given).await?;
            changed.push(format!("{} access rules", export.access.len()));
        }
        if let Some(durability) = change.durability {
            export.durability = durability;
            changed.push(format!("durability {}", durability.word()));
        }
        catalog::update(&mut tx, &volume).await?;
        let (action, result) = ("export.update", EventResult::Done);
        let detail = changed.join(", ");
        self.inner.record(&mut tx, caller, &volume, action, result, detail).await?;
        self.inner.commit(tx).await?;
        self.renew([volume.id]).await?;
        self.export_get(caller, &volume.id.to_string()).await
    }

    /// Have the node serve these volumes on the terms that the catalog has now.
    pub(crate) async fn renew(&self, volumes: impl IntoIterator<Item = VolumeId>) -> Result<()> {
        let volumes: Vec<VolumeId> = volumes.into_iter().collect();
        // Whatever fails below is the plan's to send again.
        for id in &volumes {
            self.inner.board.renew(id.0);
        }
        let inner = std::sync::Arc::clone(&self.inner);
        // A task of its own: a caller that hangs up must not leave the change half sent.
        let work = tokio::spawn(async move {
            let mut first_failure = None;
            for id in volumes {
                // One on its way is served on the terms that stand when it arrives.
                if inner.is_moving(id).await {
                    continue;
                }
                if let Outcome::Retry(error) = inner.run_now(Step::Export(id)).await {
                    first_failure.get_or_insert(error);
                }
            }
            first_failure
        });
        let failure = work.await.map_err(|error| {
            ControlError::Node(OrderError::Failed { why: format!("the change broke off: {error}") })
        })?;
        failure.map_or(Ok(()), Err)
    }
}

/// The file volumes of a project whose access rules name the host.
pub(crate) async fn naming_host(on: &mut Connection, host: &Host) -> Result<Vec<VolumeId>> {
    let files = Query::<Volume>::all().eq("project", host.project).eq("kind", "file");
    let named = Client::Host(host.id);
    let names = |volume: &Volume| {
        let export = volume.export.as_ref();
        export.is_some_and(|export| export.access.iter().any(|rule| rule.client == named))
    };
    let files = catalog::select(on, files).await?;
    Ok(files.into_iter().filter(names).map(|volume| volume.id).collect())
}

/// Where the file volumes of a project are mounted, after the project got another name.
pub(crate) async fn move_paths(on: &mut Connection, project: &Project) -> Result<Vec<VolumeId>> {
    let files = Query::<Volume>::all().eq("project", project.id).eq("kind", "file");
    let mut moved = Vec::new();
    for mut volume in catalog::select(on, files).await? {
        let path = export::path(project.id, &project.name, &volume.name);
        let Some(export) = volume.export.as_mut().filter(|export| export.path != path) else {
            continue;
        };
        export.path = path;
        catalog::update(on, &volume).await?;
        moved.push(volume.id);
    }
    Ok(moved)
}
