//! Reading and writing under a stateid (RFC 8881 8.2.5, 9.1.2).
//!
//! A write counts itself in flight in the same step that checks it, and only then goes to the
//! file. Whoever would take away what it was checked against waits for it.

use super::opens::{READ, WRITE};
use super::{Entry, Key, State};
use crate::handle::Handle;
use crate::v4::status::Status;
use crate::v4::types::Stateid;

/// A write in flight: to be given back to [`State::end_write`].
#[derive(PartialEq, Eq, Debug)]
#[must_use]
pub struct Writing {
    file: Handle,
    client: Option<u32>,
}

impl State {
    /// Whether a read may run now.
    ///
    /// # Errors
    /// Why not.
    pub fn check_read(
        &mut self,
        stateid: &Stateid,
        client: Option<u32>,
        file: &Handle,
        now_ms: u64,
    ) -> Result<(), Status> {
        if *stateid == Stateid::READ_BYPASS {
            return if self.in_grace() { Err(Status::Grace) } else { Ok(()) };
        }
        self.check_io(stateid, client, file, READ, now_ms).map(|_| ())
    }

    /// Whether a write may run now; it is in flight then.
    ///
    /// # Errors
    /// Why not.
    pub fn begin_write(
        &mut self,
        stateid: &Stateid,
        client: Option<u32>,
        file: &Handle,
        now_ms: u64,
    ) -> Result<Writing, Status> {
        let by = self.check_io(stateid, client, file, WRITE, now_ms)?;
        self.files.entry(*file).or_default().writes += 1;
        if let Some(client) = by.and_then(|number| self.clients.get_mut(&number)) {
            client.in_flight += 1;
        }
        Ok(Writing { file: *file, client: by })
    }

    pub fn end_write(&mut self, writing: Writing) {
        let Writing { file, client } = writing;
        if let Some(state) = self.files.get_mut(&file) {
            state.writes -= 1;
        }
        if let Some(client) = client.and_then(|number| self.clients.get_mut(&number)) {
            client.in_flight -= 1;
        }
        self.tidy_file(&file);
    }

    /// Who does it, when it is done under an open.
    fn check_io(
        &mut self,
        stateid: &Stateid,
        client: Option<u32>,
        file: &Handle,
        wanted: u32,
        now_ms: u64,
    ) -> Result<Option<u32>, Status> {
        if stateid.is_special() {
            if self.in_grace() {
                return Err(Status::Grace);
            }
            let opens = self.files.get(file).map(|file| &file.opens);
            let mut denying = opens.into_iter().flatten().filter_map(|key| self.open(*key));
            let denied = denying.any(|open| open.deny & wanted != 0);
            // A session's client is counted even then: its requests end with its lease.
            return if denied { Err(Status::Locked) } else { Ok(client) };
        }
        let key = self.entry(stateid, client)?;
        let open = match self.entries.get(&key) {
            Some(Entry::Lock(lock)) => Key { number: lock.open, ..key },
            _ => key,
        };
        let open = self.open(open).ok_or(Status::BadStateid)?;
        if open.file != *file || !open.confirmed {
            return Err(Status::BadStateid);
        }
        if open.access & wanted == 0 {
            return Err(Status::OpenMode);
        }
        if client.is_none() {
            // In NFSv4.0 the use of a stateid renews (RFC 7530 9.5).
            self.client_mut(key.client)?.renewed_ms = now_ms;
        }
        Ok(Some(key.client))
    }

    /// Renews the lease of the client that a stateid of NFSv4.0 is of.
    pub fn renew_by(&mut self, stateid: &Stateid, now_ms: u64) {
        if let Ok(key) = self.entry(stateid, None)
            && let Ok(client) = self.client_mut(key.client)
        {
            client.renewed_ms = now_ms;
        }
    }
}
