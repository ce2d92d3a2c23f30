//! SQLite: one writer connection with BEGIN IMMEDIATE, several readers, write-ahead log.

use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Sqlite, SqlitePool};

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
        sqlx::migrate!("migrations/sqlite").run(&writer).await?;
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

    /// Finish what runs and let go of the file.
    pub(crate) async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}
