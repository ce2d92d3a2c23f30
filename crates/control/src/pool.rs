//! Pools: where bytes lie, and which one takes a new volume.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::path::{Component, Path};

use model::event::{EventResult, ResourceKind};
use model::host::Host;
use model::id::{NodeId, PoolId, ProjectId};
use model::node::Node;
use model::order::OrderError;
use model::placement::{self, Candidate, Labelled, Neighbour, Rule};
use model::pool::{Pool, PoolState, Usage};
use model::size::ByteSize;
use model::text;
use model::user::Role;
use model::volume::{Volume, VolumeKind, VolumeStatus};
use model::volume_type::VolumeType;

use crate::caller::Caller;
use crate::catalog::{self, AttachmentRecord, Connection, Query};
use crate::error::{ControlError, Result, list};
use crate::facade::{Control, Inner, invalid, name_is_free, resolve, valid_name};
use crate::lost;
use crate::page::Page;
use crate::params::{PoolCreate, PoolFilter, PoolUpdate};

fn absolute(path: &str) -> Result<String> {
    let path = path.trim();
    let parsed = Path::new(path);
    let plain = !parsed.components().any(|part| matches!(part, Component::ParentDir));
    if parsed.is_absolute() && plain && !path.contains(char::is_control) {
        Ok(path.to_owned())
    } else {
        let why = format!("'{path}' is not an absolute path without '..'");
        Err(ControlError::Invalid { field: "path", why })
    }
}

fn holds_something(capacity: Option<ByteSize>) -> Result<()> {
    if capacity != Some(ByteSize(0)) {
        return Ok(());
    }
    let why = "a pool of capacity 0 holds nothing".to_owned();
    Err(ControlError::Invalid { field: "capacity", why })
}

/// The project's volumes in a pool and the hosts that have them attached, for rules that speak of
/// them.
async fn neighbours(
    on: &mut Connection,
    project: ProjectId,
    pool: PoolId,
) -> Result<Vec<Neighbour>> {
    let query = Query::<Volume>::all().eq("project", project).eq("pool", pool);
    let volumes = catalog::select(on, query).await?;
    let here = Query::<AttachmentRecord>::all().eq("project", project);
    let here = catalog::pairs(on, here, "volume, host").await?;
    let hosts = Query::<Host>::all().eq("project", project);
    let hosts: HashMap<String, Labelled> = catalog::select(on, hosts)
        .await?
        .into_iter()
        .map(|host| (host.id.to_string(), Labelled { name: host.name, labels: host.metadata }))
        .collect();
    let mut of: HashMap<String, Vec<Labelled>> = HashMap::new();
    for (volume, host) in here {
        of.entry(volume).or_default().extend(hosts.get(&host).cloned());
    }
    let neighbour = |volume: Volume| Neighbour {
        hosts: of.remove(&volume.id.to_string()).unwrap_or_default(),
        volume: Labelled { name: volume.name, labels: volume.metadata },
    };
    Ok(volumes.into_iter().map(neighbour).collect())
}

/// Which nodes may take a volume.
#[derive(Clone, Copy)]
pub(crate) struct Among<'a> {
    /// Those that answer. The others take volumes only where none of these could.
    pub(crate) answer: &'a HashSet<NodeId>,
    /// Only these, where some are named: they have what the volume is made from.
    pub(crate) only: Option<&'a [NodeId]>,
    /// Not this one, which is to be empty.
    pub(crate) but: Option<NodeId>,
    /// The portals of a file volume's network.
    pub(crate) portals: &'a [SocketAddr],
}

impl Among<'_> {
    /// Keep the pools of those nodes; gives all nodes.
    async fn retain(
        &self,
        on: &mut Connection,
        pools: &mut Vec<Pool>,
        kind: &VolumeType,
    ) -> Result<Vec<Node>> {
        let nodes = catalog::select(on, Query::<Node>::all()).await?;
        let node_of = |pool: &Pool| nodes.iter().find(|node| node.id == pool.node);
        let (class, word) = (&kind.class, kind.kind.word());
        let left = |pools: &[Pool], why: String| match pools {
            [] => Err(ControlError::Unplaceable { why }),
            _ => Ok(()),
        };
        if pools.is_empty() {
            return Ok(nodes);
        }
        pools.retain(|pool| Some(pool.node) != self.but);
        pools.retain(|pool| node_of(pool).is_none_or(|node| node.takes_volumes));
        let why = format!(
            "no node that takes volumes has a pool of class '{class}' for {word} volumes that is \
             online"
        );
        left(pools, why)?;
        if let Some(only) = self.only {
            pools.retain(|pool| only.contains(&pool.node));
            let why = format!("the node that has the image has no pool of class '{class}'");
            left(pools, why)?;
        }
        if nodes.len() > 1 {
            let is_file = kind.kind == VolumeKind::File;
            let serves = |node: &Node| {
                node.serves(self.portals) && (!is_file || !node.file_portals.is_empty())
            };
            pools.retain(|pool| node_of(pool).is_none_or(serves));
            let why = "no node with such a pool has a portal of the volume's network".to_owned();
            left(pools, why)?;
            let is_there = |pool: &Pool| self.answer.contains(&pool.node);
            if pools.iter().any(is_there) {
                pools.retain(is_there);
            }
        }
        Ok(nodes)
    }
}

/// The pool that takes a volume of this type and size, by the rules, and why: among those that
/// keep them, the one with the most room.
pub(crate) async fn choose(
    on: &mut Connection,
    project: ProjectId,
    (kind, size): (&VolumeType, ByteSize),
    rules: &[Rule],
    among: &Among<'_>,
) -> Result<(Pool, String)> {
    let class = || kind.class.clone();
    let mut pools = catalog::select(on, Query::<Pool>::all().eq("class", class().as_str())).await?;
    let word = kind.kind.word();
    pools.retain(|pool| {
        pool.state != PoolState::Closing
            && pool.driver.kind() == kind.kind
            && (kind.pools.is_empty() || kind.pools.contains(&pool.id))
    });
    if pools.is_empty() {
        return Err(ControlError::NoPool { class: class(), kind: word });
    }
    pools.retain(|pool| pool.state == PoolState::Online);
    let nodes = among.retain(on, &mut pools, kind).await?;
    // Room for volumes that are on their way to a pool is not there for others.
    for coming in catalog::select(on, Query::<Volume>::all().eq("status", "moving")).await? {
        let VolumeStatus::Moving { to, .. } = coming.status else { continue };
        let pool = pools.iter_mut().find(|pool| pool.id == to);
        if let Some(usage) = pool.and_then(|pool| pool.usage.as_mut()) {
            usage.used.0 = usage.used.0.saturating_add(coming.size.bytes());
        }
    }
    let free = |pool: &Pool| pool.usage.map_or(ByteSize(0), |usage| usage.free());
    let Some(best) = pools.iter().max_by_key(|pool| free(pool)) else {
        return Err(ControlError::PoolUnavailable { class: class(), kind: word });
    };
    has_room(best, size)?;
    pools.retain(|pool| has_room(pool, size).is_ok());
    let mut candidates = Vec::with_capacity(pools.len());
    for pool in &pools {
        let neighbours = match rules.is_empty() {
            true => Vec::new(),
            false => neighbours(on, project, pool.id).await?,
        };
        candidates.push(Candidate {
            pool: pool.id,
            name: pool.name.clone(),
            free: free(pool),
            neighbours,
        });
    }
    let placed = placement::place(rules, &candidates)
        .map_err(|error| ControlError::Unplaceable { why: error.to_string() })?;
    pools.retain(|pool| pool.id == placed.pool);
    match pools.pop() {
        Some(pool) => match nodes.iter().find(|node| node.id == pool.node) {
            Some(node) if nodes.len() > 1 => {
                Ok((pool, format!("{}; on node '{}'", placed.why, node.name)))
            }
            _ => Ok((pool, placed.why)),
        },
        None => Err(ControlError::PoolUnavailable { class: class(), kind: word }),
    }
}

fn is_empty_of(pool: &Pool, volumes: u64) -> Result<()> {
    if volumes == 0 {
        return Ok(());
    }
    Err(ControlError::InUse {
        kind: ResourceKind::Pool,
        name: pool.name.clone(),
        by: format!("{volumes} volumes"),
    })
}

/// How many volumes lie in a pool or are on their way to it.
async fn lying_in(on: &mut Connection, pool: &Pool) -> Result<u64> {
    let volumes = catalog::count(on, Query::<Volume>::all().eq("pool", pool.id)).await?;
    let moving = catalog::select(on, Query::<Volume>::all().eq("status", "moving")).await?;
    let comes = |volume: &&Volume| matches!(volume.status, VolumeStatus::Moving { to, .. } if to == pool.id);
    Ok(volumes + moving.iter().filter(comes).count() as u64)
}

/// The volumes of which a move has left something in a pool.
async fn left_in(on: &mut Connection, pool: &Pool) -> Result<Vec<Volume>> {
    let left = Query::<Volume>::all().eq("left_over", 1_u64);
    let mut left = catalog::select(on, left).await?;
    left.retain(|volume| volume.left_in.contains(&pool.id));
    Ok(left)
}

/// Rules as they are given.
pub(crate) fn valid_rules(texts: &[String]) -> Result<Vec<Rule>> {
    if texts.len() > placement::RULES_MAX {
        let why = format!("at most {} rules are allowed", placement::RULES_MAX);
        return Err(ControlError::Invalid { field: "affinity", why });
    }
    texts.iter().map(|text| text.parse().map_err(invalid("affinity"))).collect()
}

/// Volumes are thin, and together they may promise more than there is; one alone may not.
pub(crate) fn has_room(pool: &Pool, needed: ByteSize) -> Result<()> {
    match pool.usage.map(|usage| usage.free()) {
        Some(free) if needed > free => {
            Err(ControlError::NoSpace { class: pool.class.clone(), needed, free })
        }
        _ => Ok(()),
    }
}

impl Control {
    /// # Errors
    /// Not an admin; a bad value; name or path are taken; no such node, or none is named and there
    /// are several.
    pub async fn pool_create(&self, caller: &Caller, new: PoolCreate) -> Result<Pool> {
        caller.must_be(Role::Admin, "create pools")?;
        let name = valid_name(&new.name)?;
        let class = text::class(&new.class).map_err(invalid("class"))?;
        let path = absolute(&new.path)?;
        holds_something(new.capacity)?;
        let mut tx = self.inner.catalog.begin().await?;
        name_is_free::<Pool>(&mut tx, Query::all(), &name, None).await?;
        let node = self.node_for(&mut tx, caller, new.node.as_deref()).await?;
        let same_path = Query::<Pool>::all().eq("path", catalog::pool_place(node, &path).as_str());
        if let Some(other) = catalog::select(&mut tx, same_path).await?.pop() {
            let why = format!("pool '{}' lies in '{path}' already", other.name);
            return Err(ControlError::Invalid { field: "path", why });
        }
        let pool = Pool {
            id: PoolId(self.inner.new_id()),
            name,
            driver: new.driver,
            node,
            class,
            path,
            io: new.io,
            capacity: new.capacity,
            state: PoolState::Opening,
            fault: None,
            usage: None,
            created_ms: self.inner.now_ms(),
        };
        catalog::insert(&mut tx, &pool).await?;
        let (action, result) = ("pool.create", EventResult::Accepted);
        self.inner.record(&mut tx, caller, &pool, action, result, "").await?;
        self.inner.commit(tx).await?;
        Ok(pool)
    }

    /// The pool of this name: the one that is there, or a new one; of the node in this process,
    /// where none is named. For set-up at every start.
    ///
    /// # Errors
    /// As for [`Control::pool_create`].
    pub async fn pool_ensure(&self, caller: &Caller, new: PoolCreate) -> Result<Pool> {
        match self.pool_get(caller, &new.name).await {
            Err(ControlError::NotFound { .. }) => {
                let local = self.inner.links.local().map(|node| node.to_string());
                let node = new.node.or(local);
                self.pool_create(caller, PoolCreate { node, ..new }).await
            }
            other => other,
        }
    }

    /// # Errors
    /// Not an admin; bad paging.
    pub async fn pool_list(&self, caller: &Caller, filter: &PoolFilter) -> Result<Page<Pool>> {
        caller.must_be(Role::Admin, "see pools")?;
        self.refresh_usage().await;
        let mut on = self.inner.catalog.read().await?;
        let query = Query::all()
            .maybe("name", filter.name.as_deref())
            .maybe("class", filter.class.as_deref());
        self.inner.page(&mut on, query, &filter.paging).await
    }

    /// # Errors
    /// Not an admin; no such pool.
    pub async fn pool_get(&self, caller: &Caller, pool: &str) -> Result<Pool> {
        caller.must_be(Role::Admin, "see pools")?;
        self.refresh_usage().await;
        let mut on = self.inner.catalog.read().await?;
        resolve(&mut on, caller, pool).await
    }

    /// # Errors
    /// Not an admin; a bad value; the class would change while volumes lie in the pool.
    pub async fn pool_update(
        &self,
        caller: &Caller,
        pool: &str,
        change: PoolUpdate,
    ) -> Result<Pool> {
        caller.must_be(Role::Admin, "change pools")?;
        holds_something(change.capacity)?;
        let mut tx = self.inner.catalog.begin().await?;
        let mut pool: Pool = resolve(&mut tx, caller, pool).await?;
        if let Some(name) = &change.name {
            pool.name = valid_name(name)?;
            name_is_free::<Pool>(&mut tx, Query::all(), &pool.name, Some(pool.id.0)).await?;
        }
        if let Some(class) = &change.class {
            let class = text::class(class).map_err(invalid("class"))?;
            if class != pool.class {
                self.holds_no_volume(&mut tx, &pool).await?;
            }
            pool.class = class;
        }
        if let Some(capacity) = change.capacity {
            pool.capacity = Some(capacity);
            // The node is told by being asked to open it again.
            self.inner.board.forget(pool.id.0);
        }
        catalog::update(&mut tx, &pool).await?;
        self.inner.done(&mut tx, caller, &pool, "pool.update").await?;
        self.inner.commit(tx).await?;
        Ok(pool)
    }

    /// Give the pool up; its directory stays. It is `closing` until the node has let go of it. By
    /// force, one of a node that does not answer is forgotten at once, with what moves have left in
    /// it.
    ///
    /// # Errors
    /// Not an admin; no such pool; volumes lie in it or are on their way to it.
    pub async fn pool_delete(&self, caller: &Caller, pool: &str, force: bool) -> Result<Pool> {
        caller.must_be(Role::Admin, "delete pools")?;
        let is_gone = force && {
            let mut on = self.inner.catalog.read().await?;
            let pool: Pool = resolve(&mut on, caller, pool).await?;
            drop(on);
            !self.inner.answers(pool.node).await
        };
        let mut tx = self.inner.catalog.begin().await?;
        let mut pool: Pool = resolve(&mut tx, caller, pool).await?;
        if is_gone {
            return self.forget_pool(tx, caller, pool, "by force: its node does not answer").await;
        }
        let lost = lost::in_pool(&mut tx, pool.id).await?;
        if !lost.is_empty() {
            // The node would not close it, and what lies there is not for us to delete.
            if force {
                let detail = "by force: what is left of lost volumes stays in its directory";
                return self.forget_pool(tx, caller, pool, detail).await;
            }
            return Err(ControlError::InUse {
                kind: ResourceKind::Pool,
                name: pool.name,
                by: format!(
                    "what is left of the lost volumes {}, which nobody is served from; --force \
                     forgets the pool and leaves its directory as it is",
                    list(&lost)
                ),
            });
        }
        self.holds_no_volume(&mut tx, &pool).await?;
        if pool.state != PoolState::Closing {
            pool.state = PoolState::Closing;
            catalog::update(&mut tx, &pool).await?;
            let (action, result) = ("pool.delete", EventResult::Accepted);
            self.inner.record(&mut tx, caller, &pool, action, result, "").await?;
        }
        self.inner.commit(tx).await?;
        Ok(pool)
    }

    /// Whoever finds its node again finds copies there that nobody is served from: the node was
    /// told to hold them, or never to export them.
    async fn forget_pool(
        &self,
        mut tx: catalog::Transaction,
        caller: &Caller,
        pool: Pool,
        detail: &str,
    ) -> Result<Pool> {
        let volumes = lying_in(&mut tx, &pool).await?;
        if volumes > 0 {
            let by = format!("{volumes} volumes, which `volume delete --lost` gives up");
            return Err(ControlError::InUse { kind: ResourceKind::Pool, name: pool.name, by });
        }
        for mut volume in left_in(&mut tx, &pool).await? {
            volume.left_in.retain(|left| *left != pool.id);
            catalog::update(&mut tx, &volume).await?;
        }
        lost::forget_pool(&mut tx, pool.id).await?;
        catalog::delete::<Pool>(&mut tx, pool.id.0).await?;
        let (action, result) = ("pool.deleted", EventResult::Done);
        self.inner.record(&mut tx, caller, &pool, action, result, detail).await?;
        self.inner.commit(tx).await?;
        self.inner.board.forget(pool.id.0);
        Ok(Pool { state: PoolState::Closing, ..pool })
    }

    async fn holds_no_volume(&self, on: &mut Connection, pool: &Pool) -> Result<()> {
        let volumes = lying_in(on, pool).await? + left_in(on, pool).await?.len() as u64;
        is_empty_of(pool, volumes)
    }

    /// The node that is named, or the only one.
    async fn node_for(
        &self,
        on: &mut Connection,
        caller: &Caller,
        asked: Option<&str>,
    ) -> Result<NodeId> {
        if let Some(text) = asked {
            return Ok(resolve::<Node>(on, caller, text).await?.id);
        }
        let known = catalog::select(on, Query::<Node>::all()).await?;
        match &known[..] {
            [] => {
                let why = "there is no node that has said what it is".to_owned();
                Err(OrderError::Unreachable { why }.into())
            }
            [only] => Ok(only.id),
            several => {
                let names: Vec<String> = several.iter().map(|node| node.name.clone()).collect();
                let why = format!("there are {}, and one must be named", list(&names));
                Err(ControlError::Invalid { field: "node", why })
            }
        }
    }

    /// See [`Inner::refresh_usage`].
    pub(crate) async fn refresh_usage(&self) -> HashSet<NodeId> {
        self.inner.refresh_usage().await
    }
}

impl Inner {
    /// Ask the nodes how full their pools are and note it. A node that is away changes nothing:
    /// the last figures stand. Gives the nodes that answered.
    pub(crate) async fn refresh_usage(&self) -> HashSet<NodeId> {
        let usages = self.usage_of_all().await;
        let answer = usages.iter().map(|(node, _)| *node).collect();
        if let Err(error) = self.note_usage(usages).await {
            tracing::warn!(%error, "the usage of pools could not be noted");
        }
        answer
    }

    async fn note_usage(&self, usages: Vec<(NodeId, Vec<model::order::PoolUsage>)>) -> Result<()> {
        let fresh = |usage: &model::order::PoolUsage| Usage::from(usage);
        let mut on = self.catalog.read().await?;
        let known: Vec<Pool> = catalog::select(&mut on, Query::all()).await?;
        drop(on);
        // A node says nothing of the pools of others.
        let differs = |node: NodeId, usage: &model::order::PoolUsage| {
            let is_it = |pool: &&Pool| pool.id == usage.pool && pool.node == node;
            known.iter().find(is_it).is_some_and(|pool| pool.usage != Some(fresh(usage)))
        };
        let news: Vec<_> = usages
            .iter()
            .flat_map(|(node, usages)| usages.iter().filter(|usage| differs(*node, usage)))
            .collect();
        if news.is_empty() {
            return Ok(());
        }
        let mut tx = self.catalog.begin().await?;
        for usage in news {
            if let Some(mut pool) = catalog::get::<Pool>(&mut tx, usage.pool.0).await? {
                pool.usage = Some(fresh(usage));
                catalog::update(&mut tx, &pool).await?;
            }
        }
        // No wake: figures ask for no work.
        tx.commit().await?;
        Ok(())
    }
}
