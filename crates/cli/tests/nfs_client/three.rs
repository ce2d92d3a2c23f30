//! Version 3: calls that are sent again until they are answered, as by a hard mount.

use std::time::Duration;

use bytes::Bytes;
use host::files::{FilesError, Wire};
use nfs::v3::messages::{StableHow, WriteArgs};
use nfs::v3::types::HandleBytes;
use nfs::xdr::{Reader, Writer, Xdr, to_bytes};

const NFS: u32 = 100_003;
const MOUNT: u32 = 100_005;
pub const OK: u32 = 0;

pub struct Three {
    wire: Wire,
    /// How often the connection had ended.
    pub broken: u32,
}

/// What WRITE and COMMIT say of the server's start.
pub type Verifier = [u8; 8];

impl Three {
    pub fn new(wire: Wire) -> Self {
        Self { wire, broken: 0 }
    }

    /// A procedure's results: its status, and what follows.
    pub fn call(&mut self, procedure: u32, arguments: &Bytes) -> (u32, Reader) {
        self.ask((NFS, 3, procedure), arguments)
    }

    fn ask(&mut self, what: (u32, u32, u32), arguments: &Bytes) -> (u32, Reader) {
        for _ in 0..6000 {
            let mut writer = Writer::default();
            writer.encoded(arguments);
            match self.wire.call(what, writer) {
                Ok(mut reader) => return (reader.u32().unwrap(), reader),
                Err(FilesError::Stray) => panic!("a reply to another call than {what:?}"),
                Err(_) => {
                    self.broken += 1;
                    self.wire.hang_up();
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
        }
        panic!("no answer to {what:?} in 30 s");
    }

    /// MNT: a handle, or why not.
    pub fn mount(&mut self, path: &str) -> Result<Bytes, u32> {
        let (status, mut reader) =
            self.ask((MOUNT, 3, 1), &to_bytes(&Bytes::copy_from_slice(path.as_bytes())));
        if status == OK { Ok(Bytes::read(&mut reader).unwrap()) } else { Err(status) }
    }

    pub fn lookup(&mut self, directory: &Bytes, name: &[u8]) -> Result<Bytes, u32> {
        let (status, mut reader) = self.call(3, &named(directory, name));
        if status == OK { Ok(Bytes::read(&mut reader).unwrap()) } else { Err(status) }
    }

    /// CREATE, UNCHECKED and with no attributes but the mode.
    pub fn create(&mut self, directory: &Bytes, name: &[u8]) -> Result<Bytes, u32> {
        let mut writer = Writer::default();
        writer.encoded(&named(directory, name));
        writer.u32(0);
        // The mode; neither owner, group, size nor times.
        writer.encoded(&to_bytes(&Some(0o666u32)));
        (0..5).for_each(|_| writer.u32(0));
        let (status, mut reader) = self.call(8, &writer.into_bytes());
        if status == OK {
            Ok(Option::<Bytes>::read(&mut reader).unwrap().unwrap())
        } else {
            Err(status)
        }
    }

    /// MKDIR, open to all.
    pub fn make_directory(&mut self, directory: &Bytes, name: &[u8]) -> Result<Bytes, u32> {
        let mut writer = Writer::default();
        writer.encoded(&named(directory, name));
        writer.encoded(&to_bytes(&Some(0o777u32)));
        (0..5).for_each(|_| writer.u32(0));
        let (status, mut reader) = self.call(9, &writer.into_bytes());
        if status == OK {
            Ok(Option::<Bytes>::read(&mut reader).unwrap().unwrap())
        } else {
            Err(status)
        }
    }

    /// SYMLINK.
    pub fn symlink(&mut self, directory: &Bytes, name: &[u8], to: &[u8]) -> Result<Bytes, u32> {
        let mut writer = Writer::default();
        writer.encoded(&named(directory, name));
        (0..6).for_each(|_| writer.u32(0));
        writer.opaque(to);
        let (status, mut reader) = self.call(10, &writer.into_bytes());
        if status == OK {
            Ok(Option::<Bytes>::read(&mut reader).unwrap().unwrap())
        } else {
            Err(status)
        }
    }

    /// REMOVE: its status.
    pub fn remove(&mut self, directory: &Bytes, name: &[u8]) -> u32 {
        self.call(12, &named(directory, name)).0
    }

    /// RENAME: its status.
    pub fn rename(&mut self, from: (&Bytes, &[u8]), to: (&Bytes, &[u8])) -> u32 {
        let mut writer = Writer::default();
        writer.encoded(&named(from.0, from.1));
        writer.encoded(&named(to.0, to.1));
        self.call(14, &writer.into_bytes()).0
    }

    /// WRITE of one byte: its status.
    pub fn try_write(&mut self, file: &Bytes) -> u32 {
        let (file, stable) = (HandleBytes(file.clone()), StableHow::FileSync);
        let data = Bytes::from_static(b"x");
        self.call(7, &to_bytes(&WriteArgs { file, offset: 0, count: 1, stable, data })).0
    }

    pub fn write(
        &mut self,
        file: &Bytes,
        offset: u64,
        stable: StableHow,
        data: &Bytes,
    ) -> Verifier {
        let handle = HandleBytes(file.clone());
        let (count, data) = (u32::try_from(data.len()).unwrap(), data.clone());
        let arguments = to_bytes(&WriteArgs { file: handle, offset, count, stable, data });
        let (status, mut reader) = self.call(7, &arguments);
        assert_eq!(status, OK, "WRITE");
        skip_wcc(&mut reader);
        assert_eq!(reader.u32().unwrap(), count, "a short write");
        reader.u32().unwrap();
        Verifier::read(&mut reader).unwrap()
    }

    pub fn commit(&mut self, file: &Bytes) -> Verifier {
        let mut writer = Writer::default();
        writer.opaque(file);
        writer.u64(0);
        writer.u32(0);
        let (status, mut reader) = self.call(21, &writer.into_bytes());
        assert_eq!(status, OK, "COMMIT");
        skip_wcc(&mut reader);
        Verifier::read(&mut reader).unwrap()
    }

    pub fn read(&mut self, file: &Bytes, offset: u64, count: u32) -> Result<Bytes, u32> {
        let mut writer = Writer::default();
        writer.opaque(file);
        writer.u64(offset);
        writer.u32(count);
        let (status, mut reader) = self.call(6, &writer.into_bytes());
        if status != OK {
            return Err(status);
        }
        skip_attributes(&mut reader);
        reader.u64().unwrap();
        Ok(Bytes::read(&mut reader).unwrap())
    }
}

/// A directory and a name in it.
pub fn named(directory: &Bytes, name: &[u8]) -> Bytes {
    let mut writer = Writer::default();
    writer.opaque(directory);
    writer.opaque(name);
    writer.into_bytes()
}

/// `post_op_attr`.
fn skip_attributes(reader: &mut Reader) {
    if bool::read(reader).unwrap() {
        <[u8; 84]>::read(reader).unwrap();
    }
}

/// `wcc_data`.
fn skip_wcc(reader: &mut Reader) {
    if bool::read(reader).unwrap() {
        <[u8; 24]>::read(reader).unwrap();
    }
    skip_attributes(reader);
}
