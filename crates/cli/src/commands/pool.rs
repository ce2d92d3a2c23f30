//! Pools: where bytes lie.

use api::pool::{CreatePool, DeletePool, Driver, IoMode, Pool, PoolQuery, UpdatePool};
use clap::{Subcommand, ValueEnum};

use super::{Context, size};
use crate::failure::Failure;
use crate::output::{Column, Listed, bytes, note, or_dash};
use crate::progress::{self, Bar};

#[derive(Subcommand, Debug)]
pub(crate) enum PoolCommand {
    /// Make a pool in a directory of the node
    Create {
        name: String,
        /// ssd, hdd, or a word of your own: volume types choose pools by it
        #[arg(long)]
        class: String,
        /// Name or id of the node; may be left out where there is one
        #[arg(long)]
        node: Option<String>,
        /// Absolute path of the pool's directory on the node
        #[arg(long)]
        path: String,
        /// What it holds: local for block volumes, dir or btrfs for file volumes
        #[arg(long, default_value = "local")]
        driver: DriverName,
        /// How it does the I/O of block volumes
        #[arg(long, default_value = "cached")]
        io: IoName,
        /// What it may hold at most; all that the file system has when left out
        #[arg(long, value_name = "SIZE", value_parser = size)]
        capacity: Option<api::Size>,
    },
    /// All pools, with what they hold
    List,
    /// One pool
    #[command(visible_alias = "get")]
    Show { pool: String },
    /// Change name, class or capacity
    Update {
        pool: String,
        #[arg(long)]
        name: Option<String>,
        #[arg(long)]
        class: Option<String>,
        #[arg(long, value_name = "SIZE", value_parser = size)]
        capacity: Option<api::Size>,
    },
    /// Forget pools that hold no volume any more
    Delete {
        #[arg(required = true)]
        pools: Vec<String>,
        /// Although their node does not answer: for nodes that are gone for good
        #[arg(long)]
        force: bool,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum IoName {
    /// Past the page cache (O_DIRECT)
    Direct,
    /// Through the page cache; flushes make writes durable
    Cached,
}

impl From<IoName> for IoMode {
    fn from(io: IoName) -> Self {
        match io {
            IoName::Direct => Self::Direct,
            IoName::Cached => Self::Cached,
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum DriverName {
    /// Block volumes, in a directory of the node
    Local,
    /// File volumes, a directory each, on any file system
    Dir,
    /// File volumes, a subvolume each, on btrfs
    Btrfs,
}

impl From<DriverName> for Driver {
    fn from(driver: DriverName) -> Self {
        match driver {
            DriverName::Local => Self::Local,
            DriverName::Dir => Self::Dir,
            DriverName::Btrfs => Self::Btrfs,
        }
    }
}

impl Listed for Pool {
    const WORD: &'static str = "pools";
    const COLUMNS: &'static [Column<Self>] = &[
        ("name", |pool| pool.name.clone()),
        ("driver", |pool| pool.driver.word().to_owned()),
        ("class", |pool| pool.class.clone()),
        ("state", |pool| pool.state.clone()),
        ("capacity", |pool| or_dash(pool.usage.map(|usage| bytes(usage.capacity_bytes)))),
        ("used", |pool| or_dash(pool.usage.map(|usage| bytes(usage.used_bytes)))),
        ("provisioned", |pool| or_dash(pool.usage.map(|usage| bytes(usage.provisioned_bytes)))),
        ("path", |pool| pool.path.clone()),
        ("id", |pool| pool.id.to_string()),
    ];
}

/// Look until the node serves the pool; a pool that it cannot open is our failure.
async fn settle(context: &Context, mut pool: Pool) -> Result<Pool, Failure> {
    let id = pool.id.to_string();
    let mut bar = Bar::new(format!("{} {}", pool.state, pool.name));
    while context.wait && progress::is_passing(&pool.state) {
        bar.pause().await;
        pool = context.client.pool_show(&id).await?;
    }
    if pool.state == "error" {
        let why = pool.fault.as_deref().unwrap_or("its events tell more");
        return Err(Failure::work(format!("the pool {} is in error: {why}", pool.name)));
    }
    Ok(pool)
}

async fn delete(context: &Context, name: &str, how: DeletePool) -> Result<(), Failure> {
    let pool = context.client.pool_delete(name, &how).await?;
    let what = format!("the pool {}", pool.name);
    if !context.wait {
        note(&format!("Closing {what}."));
        return Ok(());
    }
    let id = pool.id.to_string();
    let id = &id;
    progress::gone(&what, move || async move {
        context.client.pool_show(id).await.map(|pool| (pool.state, pool.fault))
    })
    .await?;
    note(&format!("Forgot {what}."));
    Ok(())
}

impl PoolCommand {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = &context.client;
        match self {
            Self::Create { name, class, node, path, driver, io, capacity } => {
                let (driver, io) = (driver.into(), io.into());
                let body = CreatePool { name, class, node, path, driver, io, capacity };
                let pool = client.pool_create(&body).await?;
                context.show(&settle(context, pool).await?)
            }
            Self::List => context.list(&PoolQuery::default()).await,
            Self::Show { pool } => context.show(&client.pool_show(&pool).await?),
            Self::Update { pool, name, class, capacity } => {
                let body = UpdatePool { name, class, capacity };
                context.show(&client.pool_update(&pool, &body).await?)
            }
            Self::Delete { pools, force } => {
                for pool in pools {
                    delete(context, &pool, DeletePool { force }).await?;
                }
                Ok(())
            }
        }
    }
}
