//! The last orders, on the node's own disk: it serves from them while the control plane is away.
//!
//! One small JSON file for each pool, each attachment and each export, replaced whole: written
//! aside, made durable, renamed. So an attach costs the same whether it is the first or the
//! five-thousandth. What the file service remembers from start to start is kept the same way.

mod files;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use env::{BlockIo, Buffer, Files, OpenMode};
use model::export::Terms;
use model::id::{AttachmentId, PoolId, VolumeId};
use model::order::{Access, IoMode};
use model::pool::Driver;
use model::size::ByteSize;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Of all the records here. A field that an older program may leave out, or does not know, is no
/// other form; one without which it would serve something wrong is.
pub const FORM: u32 = 1;

/// What is remembered of a pool.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PoolRecord {
    pub pool: PoolId,
    /// Records of before there were others have none.
    #[serde(default = "local")]
    pub driver: Driver,
    pub path: String,
    pub io: IoMode,
    pub capacity: Option<ByteSize>,
}

fn local() -> Driver {
    Driver::Local
}

/// The journal's directory.
pub struct Journal {
    files: Arc<dyn Files>,
    pools: PathBuf,
    attachments: PathBuf,
    exports: PathBuf,
    /// Exports whose clients wait.
    held: PathBuf,
    /// The file service's own.
    service: PathBuf,
    /// NFSv4's clients.
    clients: PathBuf,
}

impl Journal {
    /// Open or make the journal in `dir`.
    ///
    /// # Errors
    /// When the directories cannot be made.
    pub fn open(files: Arc<dyn Files>, dir: &Path) -> io::Result<Self> {
        let nfs = dir.join("nfs");
        let journal = Self {
            files,
            pools: dir.join("pools"),
            attachments: dir.join("attachments"),
            exports: dir.join("exports"),
            held: dir.join("held"),
            clients: nfs.join("clients"),
            service: nfs,
        };
        let Self { pools, attachments, exports, held, clients, .. } = &journal;
        for path in [pools, attachments, exports, held, clients] {
            journal.files.create_dir(path)?;
        }
        journal.files.sync_dir(&journal.service)?;
        journal.files.sync_dir(dir)?;
        Ok(journal)
    }

    /// Every pool and attachment that was ordered. A record that is damaged is left out and
    /// logged.
    ///
    /// # Errors
    /// When the directory or a file cannot be read.
    pub async fn load(&self, io: &dyn BlockIo) -> io::Result<(Vec<PoolRecord>, Vec<Access>)> {
        Ok((self.load_all(io, &self.pools).await?, self.load_all(io, &self.attachments).await?))
    }

    /// Remember a pool; durable when it returns.
    ///
    /// # Errors
    /// When it could not be made durable.
    pub async fn save_pool(&self, io: &dyn BlockIo, record: &PoolRecord) -> io::Result<()> {
        self.save(io, &self.pools, &record.pool.to_string(), record).await
    }

    /// Remember an attachment; durable when it returns.
    ///
    /// # Errors
    /// When it could not be made durable.
    pub async fn save_attachment(&self, io: &dyn BlockIo, access: &Access) -> io::Result<()> {
        self.save(io, &self.attachments, &access.attachment.to_string(), access).await
    }

    /// Every export that was ordered; as [`Self::load`].
    ///
    /// # Errors
    /// When the directory or a file cannot be read.
    pub async fn load_exports(&self, io: &dyn BlockIo) -> io::Result<Vec<Terms>> {
        self.load_all(io, &self.exports).await
    }

    /// Remember an export; durable when it returns.
    ///
    /// # Errors
    /// When it could not be made durable.
    pub async fn save_export(&self, io: &dyn BlockIo, terms: &Terms) -> io::Result<()> {
        self.save(io, &self.exports, &terms.volume.to_string(), terms).await
    }

    /// Forget an export; one that is not there is forgotten already.
    ///
    /// # Errors
    /// When the removal could not be made durable.
    pub fn forget_export(&self, volume: VolumeId) -> io::Result<()> {
        self.forget(&self.exports, &volume.to_string())
    }

    /// Every export whose clients were to wait; as [`Self::load`].
    ///
    /// # Errors
    /// When the directory or a file cannot be read.
    pub async fn load_held(&self, io: &dyn BlockIo) -> io::Result<Vec<Terms>> {
        self.load_all(io, &self.held).await
    }

    /// Remember that an export's clients are to wait; durable when it returns.
    ///
    /// # Errors
    /// When it could not be made durable.
    pub async fn save_held(&self, io: &dyn BlockIo, terms: &Terms) -> io::Result<()> {
        self.save(io, &self.held, &terms.volume.to_string(), terms).await
    }

    /// Forget that; one that is not there is forgotten already.
    ///
    /// # Errors
    /// When the removal could not be made durable.
    pub fn forget_held(&self, volume: VolumeId) -> io::Result<()> {
        self.forget(&self.held, &volume.to_string())
    }

    /// Forget a pool; one that is not there is forgotten already.
    ///
    /// # Errors
    /// When the removal could not be made durable.
    pub fn forget_pool(&self, pool: PoolId) -> io::Result<()> {
        self.forget(&self.pools, &pool.to_string())
    }

    /// Forget an attachment; one that is not there is forgotten already.
    ///
    /// # Errors
    /// When the removal could not be made durable.
    pub fn forget_attachment(&self, attachment: AttachmentId) -> io::Result<()> {
        self.forget(&self.attachments, &attachment.to_string())
    }

    async fn save<T: Serialize>(
        &self,
        io: &dyn BlockIo,
        dir: &Path,
        name: &str,
        record: &T,
    ) -> io::Result<()> {
        let text = serde_json::to_vec(record).map_err(io::Error::other)?;
        let (aside, path) = (dir.join(format!("{name}.new")), dir.join(format!("{name}.json")));
        if self.files.exists(&aside) {
            // Left by a crash between writing and renaming.
            self.files.remove(&aside)?;
        }
        let file = self.files.open(&aside, OpenMode::CreateNew, false)?;
        io.write(&file, 0, vec![Bytes::from(text)]).await?;
        io.sync(&file).await?;
        self.files.rename(&aside, &path)?;
        self.files.sync_dir(dir)
    }

    fn forget(&self, dir: &Path, name: &str) -> io::Result<()> {
        let path = dir.join(format!("{name}.json"));
        if self.files.exists(&path) {
            self.files.remove(&path)?;
            self.files.sync_dir(dir)?;
        }
        Ok(())
    }

    async fn load_all<T: DeserializeOwned>(
        &self,
        io: &dyn BlockIo,
        dir: &Path,
    ) -> io::Result<Vec<T>> {
        let mut records = Vec::new();
        for name in self.files.list(dir)? {
            if name.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let path = dir.join(&name);
            match self.load_one(io, &path).await {
                Ok(record) => records.push(record),
                // The others are served all the same, and the control plane sends its order again.
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    let path = path.display();
                    tracing::error!(%path, %error, "a record is unreadable and left out");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(records)
    }

    /// `InvalidData` where the file is no such record.
    async fn load_one<T: DeserializeOwned>(&self, io: &dyn BlockIo, path: &Path) -> io::Result<T> {
        let file = self.files.open(path, OpenMode::Read, false)?;
        let length = usize::try_from(self.files.length(&file)?).map_err(io::Error::other)?;
        let text = io.read(&file, 0, Buffer::new(length)).await?;
        serde_json::from_slice(&text)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_damaged_record_keeps_no_other_from_being_served() {
        let directory = tempfile::tempdir().unwrap();
        let io = env::block_io(env::IoEngine::Threads).unwrap();
        let journal = Journal::open(Arc::new(env::RealFiles), directory.path()).unwrap();
        let record = PoolRecord {
            pool: PoolId(uuid::Uuid::from_u128(7)),
            driver: Driver::Local,
            path: "/nowhere".into(),
            io: IoMode::Cached,
            capacity: None,
        };
        journal.save_pool(&*io, &record).await.unwrap();
        std::fs::write(directory.path().join("pools/torn.json"), b"{\"pool\":").unwrap();
        let (pools, attachments) = journal.load(&*io).await.unwrap();
        assert_eq!(pools, [record]);
        assert!(attachments.is_empty());
    }
}
