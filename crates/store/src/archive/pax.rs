//! Extended attributes in an archive: records `SCHILY.xattr.NAME` of an entry's extended header
//! (POSIX.1-2024, pax), as GNU tar, star and bsdtar write and read them; and access control lists,
//! records `SCHILY.acl.access` and `SCHILY.acl.default` with the list as text. Where GNU tar has
//! written the kernel's own form of a list besides, that one counts: it has numbers for users.
//!
//! ```text
//!   the stream --Filter--> the same without these records --> tar
//!                  '-----> Found: what they said of the entry that comes
//! ```
//!
//! The map of a sparse file is taken out, too: `tar` would give a hole as zeros, which is no end of
//! them where a client has made a file of exabytes.
//!
//! The crate `tar` takes an extended header for lines, and a value may hold lines of its own, which
//! could say anything. So these records are taken out before it sees them.

use std::cell::RefCell;
use std::io::{self, Cursor, Read};
use std::rc::Rc;

use model::file::{Acl, AclKind};
use tar::{EntryType, GnuExtSparseHeader, GnuSparseHeader, Header};

use crate::acl::{self, Unreadable};

/// Bytes of extended headers and names that one entry may have.
pub(super) const HEADER_BYTES_MAX: u64 = 16 << 20;
const BLOCK_BYTES: usize = 512;
/// Behind it stands the attribute's name as the kernel has it.
const KEY: &[u8] = b"SCHILY.xattr.";
/// The namespace that the trees of file volumes have.
const USER: &[u8] = b"user.";
/// Behind it stands which list, or a kind of list that is not kept here.
const ACL_KEY: &[u8] = b"SCHILY.acl.";
/// The kernel's form of a list, among the extended attributes.
const ACL_ATTRIBUTE: &[u8] = b"system.posix_acl_";
/// What `tar` knows nothing of: the note of an entry, that it is a socket, and attributes of users
/// whose names are no text, in hexadecimal digits.
pub(super) const NOTE: &str = "COMMONHOLD.note";
pub(super) const SOCKET: &str = "COMMONHOLD.socket";
pub(super) const RAW: &str = "COMMONHOLD.xattr.";
const OURS: &[u8] = b"COMMONHOLD.";
/// A way to tell holes that `tar` does not know: what follows would be taken for the content.
const HOLES: &[u8] = b"GNU.sparse.";

/// What the extended header of an entry said.
#[derive(Default)]
pub(super) struct Found {
    /// Names without their namespace, and values.
    pub(super) attributes: Vec<(Vec<u8>, Vec<u8>)>,
    /// Attributes of other namespaces.
    pub(super) others: u64,
    pub(super) acls: Lists,
    pub(super) note: Option<Vec<u8>>,
    pub(super) is_socket: bool,
    pub(super) sparse: Option<Sparse>,
}

/// Where the data of a sparse file belongs, which stands in the archive without its holes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Sparse {
    /// Offset and bytes of each, in their order; none overlaps another.
    pub(super) stretches: Vec<(u64, u64)>,
    pub(super) size: u64,
}

impl Sparse {
    fn add(&mut self, some: &[GnuSparseHeader]) -> io::Result<()> {
        for one in some.iter().filter(|one| !one.is_empty()) {
            self.stretches.push((one.offset()?, one.length()?));
        }
        Ok(())
    }

    /// Whether it is of a file that has so many bytes of data.
    fn is_of(&self, bytes: u64) -> bool {
        let (mut data, mut end) = (Some(0_u64), 0);
        for (offset, length) in &self.stretches {
            // `tar` has each stretch begin a block of the archive.
            let fits = *offset >= end
                && (*length == 0 || data.is_some_and(|data| data % BLOCK_BYTES as u64 == 0));
            let Some(next) = offset.checked_add(*length).filter(|_| fits) else { return false };
            (data, end) = (data.and_then(|data| data.checked_add(*length)), next);
        }
        data == Some(bytes) && end == self.size
    }
}

impl Found {
    /// Takes a record of ours.
    fn ours(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        let name = std::str::from_utf8(key).unwrap_or_default();
        match name.strip_prefix(RAW) {
            Some(digits) => {
                let name = from_hex(digits).ok_or_else(|| bad("an attribute has no name"))?;
                self.attributes.push((name, value.to_vec()));
            }
            None if name == NOTE => self.note = Some(value.to_vec()),
            None if name == SOCKET => self.is_socket = true,
            None => return Err(bad("an entry says what this version does not know")),
        }
        Ok(())
    }
}

/// The key of an attribute whose name is no text.
pub(super) fn raw_key(name: &[u8]) -> String {
    use std::fmt::Write;
    name.iter().fold(RAW.to_owned(), |mut key, byte| {
        // Writing to a String never fails.
        let _ = write!(key, "{byte:02x}");
        key
    })
}

fn from_hex(digits: &str) -> Option<Vec<u8>> {
    let (pairs, []) = digits.as_bytes().as_chunks::<2>() else { return None };
    let byte = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    pairs.iter().map(byte).collect()
}

/// What was said of one access control list.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) enum Said {
    #[default]
    Nothing,
    Text(Result<Acl, Unreadable>),
    Bytes(Option<Acl>),
}

#[derive(Default)]
pub(super) struct Lists {
    pub(super) access: Said,
    pub(super) default: Said,
    /// There is one of another kind, such as NFSv4's.
    pub(super) is_foreign: bool,
}

impl Lists {
    fn of(&mut self, which: &[u8]) -> Option<&mut Said> {
        match which {
            b"access" => Some(&mut self.access),
            b"default" => Some(&mut self.default),
            _ => None,
        }
    }
    fn text(&mut self, which: &[u8], value: &[u8]) {
        match self.of(which) {
            Some(Said::Bytes(_)) => {}
            Some(said) => *said = Said::Text(acl::parse(value)),
            None => self.is_foreign = true,
        }
    }
    fn bytes(&mut self, which: &[u8], value: &[u8]) {
        match self.of(which) {
            Some(said) => *said = Said::Bytes(acl::decode(value)),
            None => self.is_foreign = true,
        }
    }
}

/// The key of an access control list.
pub(super) fn acl_key(which: AclKind) -> &'static str {
    match which {
        AclKind::Access => "SCHILY.acl.access",
        AclKind::Default => "SCHILY.acl.default",
    }
}

/// The key of an attribute; `None` for a name that an archive cannot hold.
pub(super) fn key(name: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(name).ok()?;
    // "=" ends a key.
    let name = name.replace('%', "%25").replace('=', "%3D");
    Some(["SCHILY.xattr.user.", &name].concat())
}

fn name_of(key: &[u8]) -> Vec<u8> {
    let (mut name, mut rest) = (Vec::new(), key);
    while let Some((first, more)) = rest.split_first() {
        let (byte, left) = match rest {
            [b'%', b'3', b'D' | b'd', left @ ..] => (b'=', left),
            [b'%', b'2', b'5', left @ ..] => (b'%', left),
            _ => (*first, more),
        };
        name.push(byte);
        rest = left;
    }
    name
}

/// The first record of an extended header, as it is, with its key and value; and the rest.
fn record(payload: &[u8]) -> Option<([&[u8]; 3], &[u8])> {
    let space = payload.iter().position(|byte| *byte == b' ')?;
    let length: usize = std::str::from_utf8(&payload[..space]).ok()?.parse().ok()?;
    let whole = payload.get(..length)?;
    let body = whole.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = body.iter().position(|byte| *byte == b'=')?;
    Some(([whole, &body[..equals], &body[equals + 1..]], &payload[length..]))
}

fn bad(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// An extended header without the records.
#[derive(PartialEq, Eq, Debug, Default)]
struct Sifted {
    left: Vec<u8>,
    /// Of the entry, when it gives one, since a header has no room for it.
    size: Option<u64>,
    /// Names of several lines, as entries of their own.
    names: Vec<u8>,
}

fn sift(payload: &[u8], found: &mut Found) -> io::Result<Sifted> {
    let (mut sifted, mut rest) = (Sifted::default(), payload);
    // Some write zeros behind the last.
    while rest.first().is_some_and(|byte| *byte != 0) {
        let ([whole, key, value], more) =
            record(rest).ok_or_else(|| bad("an extended header is malformed"))?;
        rest = more;
        if key.starts_with(HOLES) {
            let why = "a sparse file is in a form that is not read here: \
                 make the archive without --sparse";
            return Err(bad(why));
        }
        if key == b"size" {
            let digits = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
            sifted.size = Some(digits.ok_or_else(|| bad("a size is no number"))?);
        }
        if key.starts_with(OURS) {
            found.ours(key, value)?;
            continue;
        }
        if let Some(which) = key.strip_prefix(ACL_KEY) {
            found.acls.text(which, value);
            continue;
        }
        let attribute = key.strip_prefix(KEY);
        if let Some(which) = attribute.and_then(|name| name.strip_prefix(ACL_ATTRIBUTE)) {
            found.acls.bytes(which, value);
            continue;
        }
        match attribute.map(|name| name.strip_prefix(USER)) {
            None if value.contains(&b'\n') => match key {
                b"path" => sifted.names.extend(long(EntryType::GNULongName, value)),
                b"linkpath" => sifted.names.extend(long(EntryType::GNULongLink, value)),
                // Names of users and comments, which mean nothing here.
                _ => {}
            },
            None => sifted.left.extend_from_slice(whole),
            Some(None) => found.others += 1,
            Some(Some(name)) => found.attributes.push((name_of(name), value.to_vec())),
        }
    }
    Ok(sifted)
}

/// A name as an entry of its own, for the one that comes.
pub(super) fn long(kind: EntryType, name: &[u8]) -> Vec<u8> {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    let usual = b"././@LongLink";
    header.as_old_mut().name[..usual.len()].copy_from_slice(usual);
    let name = [name, &[0]].concat();
    header.set_size(name.len() as u64);
    header.set_cksum();
    let mut entry = [&header.as_bytes()[..], &name].concat();
    entry.resize(entry.len().next_multiple_of(BLOCK_BYTES), 0);
    entry
}

/// An archive on its way to `tar`.
pub(super) struct Filter<R> {
    from: R,
    found: Rc<RefCell<Found>>,
    /// What is to be given on before more is read.
    ready: Cursor<Vec<u8>>,
    /// Bytes that pass as they are.
    passing: u64,
    /// Of the entry that comes, when an extended header has said it.
    size: Option<u64>,
}

impl<R: Read> Filter<R> {
    pub(super) fn new(from: R, found: Rc<RefCell<Found>>) -> Self {
        Self { from, found, ready: Cursor::default(), passing: 0, size: None }
    }

    /// Reads up to so many bytes, fewer at the end alone.
    fn take(&mut self, bytes: usize) -> io::Result<Vec<u8>> {
        let mut data = Vec::new();
        (&mut self.from).take(bytes as u64).read_to_end(&mut data)?;
        Ok(data)
    }

    /// Looks at the next block; false at the end.
    fn step(&mut self) -> io::Result<bool> {
        let block = self.take(BLOCK_BYTES)?;
        if block.is_empty() {
            return Ok(false);
        }
        // What is no header is for tar to complain of.
        let header = (block.len() == BLOCK_BYTES).then(|| Header::from_byte_slice(&block));
        let size = header.and_then(|header| header.entry_size().ok()).unwrap_or(0);
        let kind = header.map(Header::entry_type);
        if kind == Some(EntryType::XHeader) {
            return self.extended_header(&block, size).map(|()| true);
        }
        let is_about_another = matches!(
            kind,
            Some(EntryType::GNULongName | EntryType::GNULongLink | EntryType::XGlobalHeader)
        );
        let told = if is_about_another { None } else { self.size.take() };
        let size = told.unwrap_or(size);
        self.passing = size.checked_next_multiple_of(BLOCK_BYTES as u64).unwrap_or(u64::MAX);
        let is_sparse = kind == Some(EntryType::GNUSparse);
        self.ready = Cursor::new(if is_sparse { self.sparse(&block, size)? } else { block });
        Ok(true)
    }

    /// Takes the map of a sparse file: to `tar` it is a file of its data alone.
    fn sparse(&mut self, block: &[u8], bytes: u64) -> io::Result<Vec<u8>> {
        let mut header = Header::from_byte_slice(block).clone();
        let sum = header.cksum()?;
        header.set_cksum();
        if header.cksum()? != sum {
            return Err(bad("the checksum of a header is wrong"));
        }
        let gnu =
            header.as_gnu().ok_or_else(|| bad("a sparse file has a header of another kind"))?;
        let mut sparse = Sparse { stretches: Vec::new(), size: gnu.real_size()? };
        sparse.add(&gnu.sparse)?;
        let mut is_extended = gnu.is_extended();
        while is_extended {
            let mut more = GnuExtSparseHeader::new();
            self.from.read_exact(more.as_mut_bytes())?;
            sparse.add(more.sparse())?;
            is_extended = more.is_extended();
        }
        if !sparse.is_of(bytes) {
            return Err(bad("the map of a sparse file is not that of its data"));
        }
        self.found.borrow_mut().sparse = Some(sparse);
        header.set_entry_type(EntryType::Regular);
        header.set_cksum();
        Ok(header.as_bytes().to_vec())
    }

    fn extended_header(&mut self, block: &[u8], size: u64) -> io::Result<()> {
        let length = usize::try_from(size).ok().filter(|_| size <= HEADER_BYTES_MAX);
        let length = length.ok_or_else(|| bad("an extended header is too long"))?;
        let payload = self.take(length.next_multiple_of(BLOCK_BYTES))?;
        let payload = payload.get(..length).ok_or(io::ErrorKind::UnexpectedEof)?;
        let Sifted { left, size, names } = sift(payload, &mut self.found.borrow_mut())?;
        self.size = size.or(self.size);
        let mut ready = names;
        if !left.is_empty() {
            let mut header = Header::from_byte_slice(block).clone();
            header.set_size(left.len() as u64);
            header.set_cksum();
            ready.extend_from_slice(header.as_bytes());
            ready.extend_from_slice(&left);
            ready.resize(ready.len().next_multiple_of(BLOCK_BYTES), 0);
        }
        self.ready = Cursor::new(ready);
        Ok(())
    }
}

impl<R: Read> Read for Filter<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.ready.read(to)?;
            if count > 0 || to.is_empty() {
                return Ok(count);
            }
            if self.passing > 0 {
                let most = usize::try_from(self.passing).unwrap_or(usize::MAX).min(to.len());
                let count = self.from.read(&mut to[..most])?;
                self.passing -= count as u64;
                return Ok(count);
            }
            if !self.step()? {
                return Ok(0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sifted(payload: &[u8]) -> io::Result<(Vec<u8>, Found)> {
        let mut found = Found::default();
        sift(payload, &mut found).map(|sifted| (sifted.left, found))
    }

    #[test]
    fn a_value_is_whatever_bytes_it_is_and_says_nothing_else() {
        let payload = b"20 mtime=1769882400\n\
            46 SCHILY.xattr.user.a%3Db%25=x\n13 path=evil\n\n\
            29 SCHILY.xattr.trusted.c=no\n";
        let (left, found) = sifted(payload).unwrap();
        assert_eq!(left, b"20 mtime=1769882400\n");
        assert_eq!(found.attributes, [(b"a=b%".to_vec(), b"x\n13 path=evil\n".to_vec())]);
        assert_eq!(found.others, 1);
    }

    #[test]
    fn the_kernels_form_of_a_list_counts_more_than_its_text() {
        let record = |key: &str, value: &[u8]| {
            let body = [b" ", key.as_bytes(), b"=", value, b"\n"].concat();
            let length = body.len() + 2;
            [length.to_string().as_bytes(), &body].concat()
        };
        let text = record("SCHILY.acl.access", b"user::rw-\nuser:joe:rw-\n");
        let bytes = record("SCHILY.xattr.system.posix_acl_access", &[2, 0, 0, 0]);
        for payload in [[&text[..], &bytes].concat(), [&bytes[..], &text].concat()] {
            let (left, found) = sifted(&payload).unwrap();
            assert_eq!((left, found.others), (Vec::new(), 0));
            assert_eq!(found.acls.access, Said::Bytes(Some(Acl::default())));
            assert_eq!(found.acls.default, Said::Nothing);
        }
        let (_, found) = sifted(&text).unwrap();
        assert!(matches!(found.acls.access, Said::Text(Err(Unreadable::Named(..)))));
    }

    #[test]
    fn what_is_cut_or_miscounted_is_malformed() {
        for bad in [&b"20 mtime=1"[..], b"x mtime=1\n", b"11 mtime=1\n1", b"8 mtime1\n", b"0 a=b\n"]
        {
            assert!(sifted(bad).is_err(), "{}", bad.escape_ascii());
        }
        assert!(sifted(b"22 GNU.sparse.major=1\n").is_err());
        assert_eq!(sifted(b"7 a=bc\n\0\0").unwrap().0, b"7 a=bc\n");
    }

    #[test]
    fn the_size_of_a_large_entry_is_in_its_extended_header() {
        let mut found = Found::default();
        let payload = b"20 size=10000000000\n";
        let sifted = sift(payload, &mut found).unwrap();
        assert_eq!((sifted.left, sifted.size), (payload.to_vec(), Some(10_000_000_000)));
        assert!(sift(b"9 size=x\n", &mut found).is_err());
    }

    #[test]
    fn a_map_that_is_not_that_of_its_data_is_none() {
        let sparse =
            |stretches: &[(u64, u64)], size| Sparse { stretches: stretches.to_vec(), size };
        assert!(sparse(&[], 0).is_of(0));
        assert!(sparse(&[(1 << 60, 0)], 1 << 60).is_of(0));
        assert!(sparse(&[(0, 512), (4096, 5)], 4101).is_of(517));
        for wrong in [
            sparse(&[(0, 512), (4096, 5)], 4102),
            sparse(&[(0, 511), (4096, 6)], 4102),
            sparse(&[(4096, 512), (0, 5)], 4608),
            sparse(&[(0, 512), (511, 5)], 516),
            sparse(&[(u64::MAX, 517)], 516),
            sparse(&[(0, 516)], 516),
        ] {
            assert!(!wrong.is_of(517), "{wrong:?}");
        }
    }

    #[test]
    fn keys_are_names_and_back() {
        for name in ["a", "a=b", "100%", "%3D", "%253D="] {
            let key = key(name.as_bytes()).unwrap();
            let back = key.as_bytes().strip_prefix(KEY).unwrap().strip_prefix(USER).unwrap();
            assert_eq!(name_of(back), name.as_bytes());
            assert!(!back.contains(&b'='));
        }
        assert_eq!(key(b"\xff"), None);
    }
}
