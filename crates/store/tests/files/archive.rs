//! A tree goes into an archive and comes out of it as it was: on real file systems, and with the
//! file system in memory, which needs no root.

use std::collections::BTreeMap;
use std::io::Write;

use bytes::Bytes;
use model::file::{
    Acls, AttributeIs, Caller, Content, Creation, FileError, FileId, FileKind, FileStore, New,
    Removal, SetAttributes, SetTime, Stability, Time,
};
use nfs::memory::Memory;
use store::archive::{self, ArchiveError};

use crate::homes::{Home, MIB};

const ROOT: Caller = Caller { uid: 0, gid: 0, gids: Vec::new() };
const HOLE_BYTES: u64 = 8 * MIB;

fn dated(seconds: i64, nanos: u32) -> Option<SetTime> {
    Some(SetTime::To(Time { seconds, nanos }))
}

fn set(mode: u32, owner: (u32, u32), modified: Option<SetTime>) -> SetAttributes {
    let (uid, gid) = (Some(owner.0), Some(owner.1));
    SetAttributes { mode: Some(mode), uid, gid, modified, ..SetAttributes::default() }
}

fn file<F: FileStore>(tree: &F, within: FileId, name: &[u8], pieces: &[(u64, &[u8])]) -> FileId {
    let how = Creation::Guarded(SetAttributes { mode: Some(0o600), ..Default::default() });
    let made = tree.create(&ROOT, within, name, &how).unwrap().attributes.file;
    for (offset, data) in pieces {
        let data = Bytes::copy_from_slice(data);
        tree.write(&ROOT, made, *offset, &data, Stability::Unstable).unwrap();
    }
    made
}

/// Everything that there can be.
pub(crate) fn plant<F: FileStore>(tree: &F) {
    let top = tree.root();
    let make = |within, name: &[u8], new: &New, mode| {
        let set = SetAttributes { mode: Some(mode), ..SetAttributes::default() };
        tree.make(&ROOT, within, name, new, &set).unwrap().attributes.file
    };
    let give = |file, set: &SetAttributes| {
        tree.set_attributes(&ROOT, file, set, None).unwrap();
    };
    let plain = file(tree, top, b"plain", &[(0, b"some text")]);
    give(plain, &set(0o640, (33, 34), dated(1_000_000_000, 123_456_789)));
    let own = SetAttributes { uid: Some(7), gid: Some(8), ..SetAttributes::default() };
    give(file(tree, top, b"suid", &[]), &own);
    let suid = tree.lookup(&ROOT, top, b"suid").unwrap().file;
    give(suid, &SetAttributes { mode: Some(0o4755), ..SetAttributes::default() });
    give(file(tree, top, b"old", &[(0, b"x")]), &set(0o400, (0, 0), dated(-5, 250_000_000)));
    let holes = [(MIB, &b"in the middle"[..]), (3 * MIB + 5, b"again"), (5 * MIB, b"once more")];
    let holes = file(tree, top, b"holes", &holes);
    give(holes, &SetAttributes { size_bytes: Some(HOLE_BYTES), ..SetAttributes::default() });
    let many: Vec<(u64, &[u8])> = (0..60).map(|n| ((n * 64) << 10, &b"dot"[..])).collect();
    file(tree, top, b"many holes", &many);
    file(tree, top, &[b'l'; 200], &[(0, b"long name")]);
    file(tree, top, b"line\nbreak \xff\xfe", &[(0, b"odd name")]);
    let deep = make(top, b"directory", &New::Directory, 0o711);
    let deeper = make(deep, &[b'd'; 150], &New::Directory, 0o750);
    let linked = file(tree, deeper, b"first", &[(0, b"three names")]);
    tree.link(&ROOT, linked, deep, b"second").unwrap();
    tree.link(&ROOT, linked, top, b"third").unwrap();
    give(linked, &set(0o604, (1000, 1000), dated(1_700_000_000, 0)));
    let far = [&b"../nowhere//"[..], &[b'x'; 300]].concat();
    make(deep, b"symlink", &New::Symlink(Bytes::from_static(b"/etc/../absolute")), 0o777);
    make(deep, b"far", &New::Symlink(far.into()), 0o777);
    make(deep, b"pipe", &New::Special(FileKind::Fifo), 0o622);
    make(deep, b"null", &New::Special(FileKind::CharacterDevice(1, 3)), 0o666);
    make(top, b"empty", &New::Directory, 0o1777);
    for (file, name, value) in [
        (plain, &b"mime"[..], &b"text/plain"[..]),
        (plain, b"odd=name%3D", b"lines\n14 path=wrong\n\0\xff"),
        (holes, b"empty", b""),
        (deeper, b"of a directory", b"7"),
        (linked, b"once", b"for three names"),
    ] {
        tree.set_xattr(&ROOT, file, (name, value), AttributeIs::New).unwrap();
    }
    give(deeper, &set(0o2770, (5, 6), dated(1_600_000_000, 5)));
    give(deep, &set(0o711, (1, 2), dated(1_500_000_000, 1)));
}

type Seen = (FileKind, u32, (u32, u32), u32, Time, Vec<u8>, BTreeMap<Bytes, Bytes>);

/// All that is to be kept, by path.
fn look<F: FileStore>(tree: &F, within: FileId, path: &str, all: &mut BTreeMap<String, Seen>) {
    let listing = tree.read_directory(&ROOT, within, 0, 1000, false).unwrap();
    assert!(listing.end);
    for entry in listing.entries.iter().filter(|entry| entry.name != b".snapshots"[..]) {
        let path = format!("{path}/{}", entry.name.escape_ascii());
        let a = tree.attributes(entry.file).unwrap();
        let content = match a.kind {
            FileKind::Regular => {
                let size = u32::try_from(a.size_bytes).unwrap();
                let mut content = Vec::new();
                while content.len() < size as usize {
                    let read = tree.read(&ROOT, entry.file, content.len() as u64, size).unwrap();
                    content.extend_from_slice(&read.data);
                }
                content
            }
            FileKind::Symlink => tree.read_link(&ROOT, entry.file).unwrap().to_vec(),
            _ => Vec::new(),
        };
        // A symbolic link has no mode; the time of one is set as that of others.
        let mode = if a.kind == FileKind::Symlink { 0 } else { a.mode };
        let names = tree.xattrs(&ROOT, entry.file).unwrap_or_default();
        let value = |name: &Bytes| tree.xattr(&ROOT, entry.file, name).unwrap();
        let xattrs = names.into_iter().map(|name| (name.clone(), value(&name))).collect();
        let owner = (a.uid, a.gid);
        all.insert(path.clone(), (a.kind, mode, owner, a.links, a.modified, content, xattrs));
        if a.kind == FileKind::Directory {
            look(tree, entry.file, &path, all);
        }
    }
}

fn seen<F: FileStore>(tree: &F) -> BTreeMap<String, Seen> {
    let mut all = BTreeMap::new();
    look(tree, tree.root(), "", &mut all);
    all
}

pub(crate) fn packed<F: FileStore>(tree: &F) -> Vec<u8> {
    archive::write(tree, tree.root(), Vec::new()).unwrap().1
}

#[test]
fn a_tree_comes_back_as_it_was_on_every_file_system() {
    for home in Home::all() {
        let (volume, copy) = (home.volume(1, 64 * MIB), home.volume(2, 64 * MIB));
        plant(&volume);
        let whole = packed(&volume);
        assert!((whole.len() as u64) < MIB, "holes are not written: {} bytes", whole.len());
        let figures = archive::read(&copy, Acls::Keep, &whole[..]).unwrap();
        assert_eq!(figures.skipped, 0);
        assert_eq!(seen(&copy), seen(&volume));
        let holes = copy.lookup(&ROOT, copy.root(), b"holes").unwrap();
        assert_eq!(copy.seek(&ROOT, holes.file, 0, Content::Data), Ok(MIB));
        assert!(holes.used_bytes < MIB, "{} bytes are used", holes.used_bytes);
        // Again, nothing is written over.
        let again = archive::read(&copy, Acls::Keep, &whole[..]);
        assert!(matches!(again, Err(ArchiveError::File { why: FileError::Exists, .. })));
    }
}

#[test]
fn what_is_cut_or_larger_than_the_volume_is_an_error() {
    let (tree, small) = (Memory::new(0, 1 << 26), Memory::new(0, 1 << 16));
    plant(&tree);
    let whole = packed(&tree);
    let copy = Memory::new(0, 1 << 26);
    archive::read(&copy, Acls::Keep, &whole[..]).unwrap();
    assert_eq!(seen(&copy), seen(&tree));
    for cut in [100, 512, 700, whole.len() / 2] {
        let copy = Memory::new(0, 1 << 26);
        let read = archive::read(&copy, Acls::Keep, &whole[..cut]);
        assert!(matches!(read, Err(ArchiveError::Stream(_))), "{cut}: {read:?}");
    }
    let big = Memory::new(0, 1 << 26);
    file(&big, big.root(), b"big", &[(0, &[1; 1 << 18])]);
    let read = archive::read(&small, Acls::Keep, &packed(&big)[..]);
    let full = |why: &FileError| matches!(why, FileError::NoSpace | FileError::Quota);
    assert!(matches!(&read, Err(ArchiveError::File { why, .. }) if full(why)), "{read:?}");
}

/// What tar makes of the input.
pub(crate) fn program(arguments: &[&str], input: &[u8]) -> Vec<u8> {
    use std::process::{Command, Stdio};
    let mut command = Command::new("tar");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let feeds = std::thread::spawn(move || stdin.write_all(&input));
    let done = child.wait_with_output().unwrap();
    let _ = feeds.join().unwrap();
    assert!(done.status.success(), "tar {arguments:?}");
    done.stdout
}

#[test]
fn gnu_tar_and_we_read_each_others_extended_attributes() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let tree = Memory::new(0, 1 << 26);
    plant(&tree);
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path().to_str().unwrap();
    program(&["--xattrs", "--numeric-owner", "-xpf", "-", "-C", at], &packed(&tree));
    let back = program(&["--xattrs", "--numeric-owner", "-cf", "-", "-C", at, "."], &[]);
    let copy = Memory::new(0, 1 << 26);
    archive::read(&copy, Acls::Keep, &back[..]).unwrap();
    let xattrs = |tree: &Memory| {
        let all = seen(tree).into_iter();
        all.map(|(path, seen)| (path, seen.6)).collect::<BTreeMap<_, _>>()
    };
    assert_eq!(xattrs(&copy), xattrs(&tree));
    let sparse = program(&["--xattrs", "--sparse", "-cf", "-", "-C", at, "./holes"], &[]);
    let refused = archive::read(&Memory::new(0, 1 << 26), Acls::Keep, &sparse[..]).unwrap_err();
    assert!(refused.to_string().contains("--sparse"), "{refused}");
}

/// A stream in whose way something happens: once, before this many bytes have gone through.
struct Hindered<F> {
    written: Vec<u8>,
    after: usize,
    happens: Option<F>,
}

impl<F: FnOnce()> Write for Hindered<F> {
    fn write(&mut self, from: &[u8]) -> std::io::Result<usize> {
        self.written.extend_from_slice(from);
        if self.written.len() >= self.after
            && let Some(happens) = self.happens.take()
        {
            happens();
        }
        Ok(from.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_backup_goes_on_when_listed_files_vanish_under_it() {
    // Where nothing can be read of a file any more: behind the header of the root, of "first",
    // within the content of "first", behind that of a directory, and far behind the end.
    for after in [512, 1024, 1536, 2560, 1 << 20] {
        let tree = Memory::new(0, 1 << 26);
        let top = tree.root();
        file(&tree, top, b"first", &[(0, &[7; 1000])]);
        let make = |within, name: &[u8], new: &New| {
            tree.make(&ROOT, within, name, new, &SetAttributes::default()).unwrap().attributes.file
        };
        let directory = make(top, b"directory", &New::Directory);
        let within = file(&tree, directory, b"within", &[(0, b"x")]);
        file(&tree, top, b"second", &[(MIB, b"behind a hole")]);
        make(top, b"symlink", &New::Symlink(Bytes::from_static(b"first")));
        // All names of a file go, and its later one must not be a link to what is not there.
        tree.link(&ROOT, within, top, b"also within").unwrap();
        file(&tree, top, b"last", &[(0, b"stays")]);
        let vanish = || {
            tree.remove(&ROOT, directory, b"within", Removal::Any).unwrap();
            for name in [&b"directory"[..], b"first", b"second", b"symlink", b"also within"] {
                tree.remove(&ROOT, top, name, Removal::Any).unwrap();
            }
        };
        let stream = Hindered { written: Vec::new(), after, happens: Some(vanish) };
        let (_, stream) = archive::write(&tree, top, stream).unwrap();
        let copy = Memory::new(0, 1 << 26);
        archive::read(&copy, Acls::Keep, &stream.written[..])
            .unwrap_or_else(|why| panic!("{after}: {why}"));
        let last = copy.lookup(&ROOT, copy.root(), b"last").unwrap();
        assert_eq!(last.size_bytes, 5);
        let second = copy.lookup(&ROOT, copy.root(), b"second");
        assert_eq!(second.is_ok(), after == 1 << 20, "{after}: it was gone when its turn came");
    }
}

#[test]
fn a_socket_with_two_names_does_not_break_the_restore() {
    let (tree, copy) = (Memory::new(0, 1 << 20), Memory::new(0, 1 << 20));
    let (new, set) = (New::Special(FileKind::Socket), SetAttributes::default());
    let socket = tree.make(&ROOT, tree.root(), b"one", &new, &set).unwrap().attributes.file;
    tree.link(&ROOT, socket, tree.root(), b"two").unwrap();
    let (figures, whole) = archive::write(&tree, tree.root(), Vec::new()).unwrap();
    assert_eq!(figures.skipped, 2);
    archive::read(&copy, Acls::Keep, &whole[..]).unwrap();
    assert!(copy.read_directory(&ROOT, copy.root(), 0, 10, false).unwrap().entries.is_empty());
}

/// An archive with one file of that name, and one with that link.
fn hostile(name: &[u8], kind: tar::EntryType, target: &[u8]) -> Vec<u8> {
    let mut all = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.set_link_name_literal(target).unwrap();
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    header.set_mtime(0);
    header.set_cksum();
    all.append(&header, std::io::empty()).unwrap();
    all.into_inner().unwrap()
}

#[test]
fn a_file_from_before_1970_in_an_archive_of_gnu_tar_is_restored() {
    let mut bytes = hostile(b"old", tar::EntryType::Regular, b"");
    let header = tar::Header::from_byte_slice(&bytes[..512]);
    let mut header = header.clone();
    // What does not fit into octal digits is written in base 256.
    let time = &mut header.as_old_mut().mtime;
    *time = [0xff; 12];
    time[4..].copy_from_slice(&(-86_400i64).to_be_bytes());
    header.set_cksum();
    bytes[..512].copy_from_slice(header.as_bytes());
    let tree = Memory::new(0, 1 << 20);
    archive::read(&tree, Acls::Keep, &bytes[..]).unwrap();
    let old = tree.lookup(&ROOT, tree.root(), b"old").unwrap();
    assert_eq!(old.modified, Time { seconds: -86_400, nanos: 0 });
}

#[test]
fn what_leads_out_of_the_tree_is_refused() {
    use tar::EntryType::{Link, Regular};
    let read = |bytes: &[u8]| archive::read(&Memory::new(0, 1 << 20), Acls::Keep, bytes);
    for name in [&b"../up"[..], b"a/../../up", b".snapshots/s/file"] {
        let answer = read(&hostile(name, Regular, b""));
        assert!(matches!(answer, Err(ArchiveError::Entry { .. })), "{answer:?}");
    }
    let answer = read(&hostile(b"link", Link, b"../../etc/shadow"));
    assert!(matches!(answer, Err(ArchiveError::Entry { .. })), "{answer:?}");
    let answer = read(&hostile(b"link", Link, b"not there"));
    assert!(matches!(answer, Err(ArchiveError::File { why: FileError::NotFound, .. })));
    // An absolute name is one below the root of the tree, as tar has it.
    read(&hostile(b"/etc", Regular, b"")).unwrap();
    // A directory that is a link is not gone through.
    let through = Memory::new(0, 1 << 20);
    let link = New::Symlink(Bytes::from_static(b"/etc"));
    through.make(&ROOT, through.root(), b"d", &link, &SetAttributes::default()).unwrap();
    let answer = archive::read(&through, Acls::Keep, &hostile(b"d/passwd", Regular, b"")[..]);
    assert!(matches!(answer, Err(ArchiveError::File { why: FileError::NotDirectory, .. })));
    assert!(read(b"this is no archive, but text that goes on and on").is_err());
}

#[test]
fn headers_without_end_are_not_kept_in_memory() {
    let mut all = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::GNULongName);
    header.set_size(1 << 25);
    header.set_cksum();
    let mut bytes = Vec::new();
    bytes.write_all(header.as_bytes()).unwrap();
    bytes.resize(1 << 25, b'n');
    all.append(&header, &bytes[512..]).unwrap();
    let answer =
        archive::read(&Memory::new(0, 1 << 20), Acls::Keep, &all.into_inner().unwrap()[..]);
    assert!(answer.is_err_and(|why| why.to_string().contains("16 MiB")));
}
