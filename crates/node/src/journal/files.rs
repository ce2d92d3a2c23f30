//! What the file service remembers from start to start: the secret behind its handles, the number
//! of its starts, and the NFSv4 clients that may reclaim.

use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;

use bytes::Bytes;
use env::{BlockIo, Random};
use nfs::v4::state::ClientRecord;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Journal;

/// `nfs/service.json`.
#[derive(Serialize, Deserialize)]
struct ServiceRecord {
    /// Hex digits of the secret that handles are signed with.
    secret: String,
    /// The number of the last start.
    boot: u32,
}

/// The name of that record.
const SERVICE: &str = "service";

/// `nfs/clients/NAME.json`; the name is a digest of the client's own, which may be any bytes.
#[derive(Serialize, Deserialize)]
struct ClientFile {
    /// Hex digits of [`ClientRecord::encode`].
    record: String,
}

impl Journal {
    /// A start of the file service: its secret, made at the first one, and a number that no
    /// earlier start had; both durable when it returns. A secret that is there and cannot be read
    /// is an error: another one would make all handles stale.
    ///
    /// # Errors
    /// When the record cannot be read or made durable.
    pub async fn begin_service(
        &self,
        io: &dyn BlockIo,
        random: &dyn Random,
    ) -> io::Result<([u8; 32], u32)> {
        let mut record = self.service_record(io, random).await?;
        record.1 = record.1.wrapping_add(1);
        self.save_service(io, record).await?;
        Ok(record)
    }

    /// The secret of all starts, made durable when there is none yet.
    ///
    /// # Errors
    /// When the record cannot be read or made durable.
    pub async fn secret(&self, io: &dyn BlockIo, random: &dyn Random) -> io::Result<[u8; 32]> {
        let record = self.service_record(io, random).await?;
        if !self.files.exists(&self.service_path()) {
            self.save_service(io, record).await?;
        }
        Ok(record.0)
    }

    fn service_path(&self) -> PathBuf {
        self.service.join(format!("{SERVICE}.json"))
    }

    async fn save_service(
        &self,
        io: &dyn BlockIo,
        (secret, boot): ([u8; 32], u32),
    ) -> io::Result<()> {
        let record = ServiceRecord { secret: hex(&secret), boot };
        self.save(io, &self.service, SERVICE, &record).await
    }

    /// The secret and the number of the last start; fresh ones where there was none.
    async fn service_record(
        &self,
        io: &dyn BlockIo,
        random: &dyn Random,
    ) -> io::Result<([u8; 32], u32)> {
        let path = self.service_path();
        let damaged = || io::Error::other(format!("{} is damaged", path.display()));
        let mut secret = [0; 32];
        if self.files.exists(&path) {
            let record: ServiceRecord = self.load_one(io, &path).await?;
            let kept = from_hex(&record.secret).ok_or_else(damaged)?;
            secret = kept.try_into().map_err(|_| damaged())?;
            return Ok((secret, record.boot));
        }
        random.fill(&mut secret);
        // Another node's stateids, and those of one whose journal was lost, are of no start.
        let mut first = [0; 4];
        random.fill(&mut first);
        Ok((secret, u32::from_be_bytes(first) >> 1))
    }

    /// The NFSv4 clients that had state when the last run ended. A record that is damaged is left
    /// out and logged: its client starts anew.
    ///
    /// # Errors
    /// When the directory or a file cannot be read.
    pub async fn load_clients(&self, io: &dyn BlockIo) -> io::Result<Vec<ClientRecord>> {
        let files: Vec<ClientFile> = self.load_all(io, &self.clients).await?;
        let mut records = Vec::new();
        for file in files {
            let bytes = from_hex(&file.record).map(Bytes::from);
            match bytes.and_then(|bytes| ClientRecord::decode(bytes).ok()) {
                Some(record) => records.push(record),
                None => tracing::error!("the record of an NFS client is damaged and left out"),
            }
        }
        Ok(records)
    }

    /// Remember a client; durable when it returns.
    ///
    /// # Errors
    /// When it could not be made durable.
    pub async fn save_client(&self, io: &dyn BlockIo, record: &ClientRecord) -> io::Result<()> {
        let file = ClientFile { record: hex(&record.encode()) };
        self.save(io, &self.clients, &name_of(&record.owner), &file).await
    }

    /// Forget a client; one that is not there is forgotten already.
    ///
    /// # Errors
    /// When the removal could not be made durable.
    pub fn forget_client(&self, owner: &Bytes) -> io::Result<()> {
        self.forget(&self.clients, &name_of(owner))
    }
}

fn name_of(owner: &Bytes) -> String {
    hex(&Sha256::digest(owner))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes().chunks_exact(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    if digits.remainder().is_empty() { digits.map(byte).collect() } else { None }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn a_start_has_the_secret_of_the_last_and_a_number_of_its_own() {
        let directory = tempfile::tempdir().unwrap();
        let io = env::block_io(env::IoEngine::Threads).unwrap();
        let journal = Journal::open(Arc::new(env::RealFiles), directory.path()).unwrap();
        let first = journal.begin_service(&*io, &env::OsRandom).await.unwrap();
        let second = journal.begin_service(&*io, &env::OsRandom).await.unwrap();
        assert_eq!((first.0, first.1 + 1), (second.0, second.1));
        assert_ne!(first.0, [0; 32]);
        let path = directory.path().join("nfs/service.json");
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &std::fs::metadata(&path).unwrap().permissions(),
        );
        assert_eq!(mode & 0o777, 0o600, "others can read the secret");
        std::fs::write(path, b"{\"secret\":\"00\",\"boot\":1}").unwrap();
        assert!(journal.begin_service(&*io, &env::OsRandom).await.is_err());
    }

    #[tokio::test]
    async fn clients_are_remembered_under_any_name_and_damaged_ones_left_out() {
        let directory = tempfile::tempdir().unwrap();
        let io = env::block_io(env::IoEngine::Threads).unwrap();
        let journal = Journal::open(Arc::new(env::RealFiles), directory.path()).unwrap();
        let record = |owner: &'static [u8]| ClientRecord {
            owner: Bytes::from_static(owner),
            minor_zero: owner.is_empty(),
        };
        for owner in [&b"../../x"[..], b"", b"\xff\0"] {
            journal.save_client(&*io, &record(owner)).await.unwrap();
        }
        journal.forget_client(&Bytes::from_static(b"")).unwrap();
        let torn = directory.path().join("nfs/clients/torn.json");
        std::fs::write(torn, b"{\"record\":\"000\"}").unwrap();
        let mut found = journal.load_clients(&*io).await.unwrap();
        found.sort_by(|one, other| one.owner.cmp(&other.owner));
        assert_eq!(found, [record(b"../../x"), record(b"\xff\0")]);
    }
}
