//! SQLite: one writer connection with BEGIN IMMEDIATE, several readers, write-ahead log.

use std::fmt::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use model::node::CatalogFormat;
use sqlx::migrate::Migrator;
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow, SqliteSynchronous,
};
use sqlx::{Executor, Row, Sqlite, SqlitePool};

use crate::error::Result;

/// What queries run on: a reader, or the writer inside a transaction.
pub(crate) type Connection = sqlx::SqliteConnection;
/// A write transaction; dropped without `commit`, it changes nothing.
pub(crate) type Transaction = sqlx::Transaction<'static, Sqlite>;

const READERS: u32 = 4;
/// How long SQLite waits for another process that holds the file, for example a backup.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a request waits for its turn. Writes take milliseconds; this is a thousand of them.
const TURN_TIMEOUT: Duration = Duration::from_secs(60);

/// The steps that lead from nothing to the catalog of this release.
static STEPS: Migrator = sqlx::migrate!("migrations/sqlite");

/// The forms of the catalog that this release knows.
#[must_use]
pub fn catalog_formats() -> Vec<CatalogFormat> {
    STEPS.iter().map(|step| format(step.version, &step.checksum)).collect()
}

fn format(number: i64, checksum: &[u8]) -> CatalogFormat {
    let mut text = String::new();
    for byte in checksum {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    CatalogFormat { number, checksum: text }
}

/// The database.
#[derive(Clone, Debug)]
pub(crate) struct Catalog {
    writer: SqlitePool,
    readers: SqlitePool,
}

impl Catalog {
    /// Open, or create and migrate.
    pub(crate) async fn open(path: &Path) -> Result<Self> {
        // The file holds CHAP secrets: it belongs to the daemon alone. SQLite gives its log files
        // the mode of the database.
        std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(path)
            .map_err(sqlx::Error::Io)?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            // FULL: what a request was told is durable.
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT);
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .acquire_timeout(TURN_TIMEOUT)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_with(options.clone())
            .await?;
        STEPS.run(&writer).await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .acquire_timeout(TURN_TIMEOUT)
            .connect_with(options.read_only(true))
            .await?;
        Ok(Self { writer, readers })
    }

    /// Begin a write transaction: waits for its turn, then is alone.
    pub(crate) async fn begin(&self) -> Result<Transaction> {
        // IMMEDIATE takes the write lock at once: what is read inside stays true until commit.
        Ok(self.writer.begin_with("BEGIN IMMEDIATE").await?)
    }

    /// A connection for reading.
    pub(crate) async fn read(&self) -> Result<PoolConnection<Sqlite>> {
        Ok(self.readers.acquire().await?)
    }

    /// The forms that it has been through.
    pub(crate) async fn formats(&self) -> Result<Vec<CatalogFormat>> {
        let mut on = self.read().await?;
        let rows = on.fetch_all("SELECT version, checksum FROM _sqlx_migrations").await?;
        let row = |row: &SqliteRow| Ok(format(row.try_get(0)?, row.try_get(1)?));
        rows.iter().map(row).collect()
    }

    /// Finish what runs and let go of the file.
    pub(crate) async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}
