//! What one does most with a tree, one request each.

use bytes::Bytes;
use nfs::v4::types::{Bitmap, ChangeInfo, Stateid};
use nfs::xdr::Xdr;

use super::compound::code;
use super::{Compound, FileClient, FilesError, Opening, Stable, StateidOf};

/// An open file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OpenFile {
    pub handle: Bytes,
    pub stateid: Stateid,
}

impl FileClient {
    /// The handle of a path from the root of what the server exports, such as "/wp-uploads/a".
    ///
    /// # Errors
    /// It is not there, or not for this client.
    pub fn mount(&mut self, path: &str) -> Result<Bytes, FilesError> {
        let names: Vec<_> = path.split('/').filter(|name| !name.is_empty()).collect();
        let start = Compound::new().root();
        let walk = names.iter().fold(start, |walk, name| walk.lookup(name.as_bytes()));
        self.call(walk.handle())?.moved(1 + names.len())?.handle()
    }
    /// # Errors
    /// The file cannot be opened.
    pub fn open(
        &mut self,
        directory: &Bytes,
        name: &str,
        how: Opening,
    ) -> Result<OpenFile, FilesError> {
        let owner = self.owner("opens");
        let compound = Compound::new().file(directory).open(&owner, name.as_bytes(), how).handle();
        let mut results = self.call(compound)?;
        let stateid = results.moved(1)?.open()?;
        Ok(OpenFile { handle: results.handle()?, stateid })
    }
    /// # Errors
    /// The server refuses.
    pub fn close(&mut self, file: &OpenFile) -> Result<(), FilesError> {
        let compound = Compound::new().file(&file.handle).close(&file.stateid);
        self.call(compound)?.moved(1)?.stateid(StateidOf::Close).map(drop)
    }
    /// At most so many bytes from there; fewer at the end of the file.
    ///
    /// # Errors
    /// The server refuses.
    pub fn read_at(
        &mut self,
        file: &OpenFile,
        offset: u64,
        count: u32,
    ) -> Result<Bytes, FilesError> {
        let compound = Compound::new().file(&file.handle).read(&file.stateid, offset, count);
        self.call(compound)?.moved(1)?.read().map(|(_, data)| data)
    }
    /// Writes all of it, so durable.
    ///
    /// # Errors
    /// The server refuses, or writes less.
    pub fn write_at(
        &mut self,
        file: &OpenFile,
        offset: u64,
        stable: Stable,
        data: &Bytes,
    ) -> Result<(), FilesError> {
        let (mut at, mut left) = (offset, data.clone());
        while !left.is_empty() {
            let compound =
                Compound::new().file(&file.handle).write(&file.stateid, at, stable, &left);
            let (count, _, _) = self.call(compound)?.moved(1)?.written()?;
            if count == 0 || count as usize > left.len() {
                return Err(FilesError::Lost(std::io::ErrorKind::WriteZero.into()));
            }
            left = left.slice(count as usize..);
            at += u64::from(count);
        }
        Ok(())
    }
    /// # Errors
    /// The server refuses.
    pub fn create_directory(&mut self, parent: &Bytes, name: &str) -> Result<Bytes, FilesError> {
        let compound =
            Compound::new().file(parent).create_directory(name.as_bytes(), 0o755).handle();
        let mut results = self.call(compound)?;
        results.moved(1)?.expect(code::CREATE)?;
        <(ChangeInfo, Bitmap)>::read(&mut results.reader)?;
        results.handle()
    }
    /// # Errors
    /// The server refuses.
    pub fn remove(&mut self, directory: &Bytes, name: &str) -> Result<(), FilesError> {
        let compound = Compound::new().file(directory).remove(name.as_bytes());
        self.call(compound)?.moved(1)?.expect(code::REMOVE)
    }
    /// Within one directory.
    ///
    /// # Errors
    /// The server refuses.
    pub fn rename(&mut self, directory: &Bytes, old: &str, new: &str) -> Result<(), FilesError> {
        let compound =
            Compound::new().file(directory).save().rename(old.as_bytes(), new.as_bytes());
        self.call(compound)?.moved(2)?.expect(code::RENAME)
    }
    /// Every name of a directory.
    ///
    /// # Errors
    /// The server refuses.
    pub fn list(&mut self, directory: &Bytes) -> Result<Vec<Bytes>, FilesError> {
        let (mut all, mut cookie, mut verifier) = (Vec::new(), 0, [0; 8]);
        loop {
            let compound = Compound::new().file(directory).readdir(cookie, verifier, 64 << 10);
            let found = self.call(compound)?.moved(1)?.names()?;
            match found.names.last() {
                Some((last, _)) => cookie = *last,
                None if !found.end => return Err(FilesError::Stray),
                None => {}
            }
            verifier = found.verifier;
            all.extend(found.names.into_iter().map(|(_, name)| name));
            if found.end {
                return Ok(all);
            }
        }
    }
}
