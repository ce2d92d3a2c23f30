//! Access control lists go into an archive and come out of it, and nobody may more for it.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use model::file::{
    Acl, AclEntry, AclKind, AclWho, Acls, Caller, Creation, FileError, FileId, FileKind, FileStore,
    New, SetAttributes,
};
use model::id::SnapshotId;
use nfs::memory::Memory;
use store::archive::{self, ArchiveError};

use crate::archive::{packed, program};
use crate::homes::{Home, MIB};

const ROOT: Caller = Caller { uid: 0, gid: 0, gids: Vec::new() };

/// As the kernel stores it: (tag, permissions, id) and so on.
fn bytes(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut bytes = 2u32.to_le_bytes().to_vec();
    for (tag, may, id) in entries {
        bytes.extend([&tag.to_le_bytes()[..], &may.to_le_bytes(), &id.to_le_bytes()].concat());
    }
    bytes
}

const NONE: u32 = u32::MAX;
const OPEN: [(u16, u16, u32); 7] = [
    (0x01, 6, NONE),
    (0x02, 6, 0),
    (0x02, 7, 54_321),
    (0x04, 0, NONE),
    (0x08, 4, 77),
    (0x10, 6, NONE),
    (0x20, 0, NONE),
];

fn list(entries: &[(u16, u16, u32)]) -> Acl {
    let entry = |(tag, may, id): &(u16, u16, u32)| {
        let who = match tag {
            0x01 => AclWho::Owner,
            0x02 => AclWho::User(*id),
            0x04 => AclWho::OwningGroup,
            0x08 => AclWho::Group(*id),
            0x10 => AclWho::Mask,
            _ => AclWho::Others,
        };
        AclEntry { who, may: *may }
    };
    Acl(entries.iter().map(entry).collect())
}

fn open() -> Acl {
    list(&OPEN)
}

/// What is made in a directory that has it is open to somebody else, too.
fn generous() -> Acl {
    list(&[(0x01, 7, NONE), (0x02, 7, 1234), (0x04, 7, NONE), (0x10, 7, NONE), (0x20, 7, NONE)])
}

/// Without one for groups or users.
fn short() -> Acl {
    list(&[(0x01, 7, NONE), (0x04, 5, NONE), (0x20, 0, NONE)])
}

fn make<F: FileStore>(tree: &F, within: FileId, name: &[u8], new: &New, mode: u32) -> FileId {
    let set = SetAttributes { mode: Some(mode), ..SetAttributes::default() };
    tree.make(&ROOT, within, name, new, &set).unwrap().attributes.file
}

fn file<F: FileStore>(tree: &F, within: FileId, name: &[u8], mode: u32) -> FileId {
    let how = Creation::Guarded(SetAttributes { mode: Some(mode), ..SetAttributes::default() });
    tree.create(&ROOT, within, name, &how).unwrap().attributes.file
}

fn plant<F: FileStore>(tree: &F) {
    let give = |file, which, acl: &Acl| tree.set_acl(&ROOT, file, which, Some(acl)).unwrap();
    let top = tree.root();
    let shared = make(tree, top, b"shared", &New::Directory, 0o2770);
    file(tree, shared, b"private", 0o640);
    let opened = file(tree, shared, b"open", 0o600);
    give(opened, AclKind::Access, &open());
    let set = |mode, uid| SetAttributes { mode, uid, ..SetAttributes::default() };
    tree.set_attributes(&ROOT, opened, &set(None, Some(33)), None).unwrap();
    tree.set_attributes(&ROOT, opened, &set(Some(0o4660), None), None).unwrap();
    tree.link(&ROOT, opened, top, b"second name of it").unwrap();
    let pipe = make(tree, shared, b"pipe", &New::Special(FileKind::Fifo), 0o600);
    give(pipe, AclKind::Access, &open());
    make(tree, shared, b"symlink", &New::Symlink(Bytes::from_static(b"open")), 0o777);
    let plain = make(tree, shared, b"plain", &New::Directory, 0o700);
    file(tree, plain, b"within", 0o400);
    let both = make(tree, shared, b"both", &New::Directory, 0o755);
    give(both, AclKind::Access, &generous());
    give(both, AclKind::Default, &short());
    // Last, so that nothing here begins with it.
    give(shared, AclKind::Default, &generous());
    give(top, AclKind::Default, &open());
}

type Seen = BTreeMap<String, (u32, Option<Acl>, Option<Acl>)>;

fn look<F: FileStore>(tree: &F, file: FileId, path: &str, all: &mut Seen) {
    let found = tree.attributes(file).unwrap();
    let acl = |which| tree.acl(&ROOT, file, which).unwrap();
    all.insert(path.to_owned(), (found.mode, acl(AclKind::Access), acl(AclKind::Default)));
    if found.kind == FileKind::Directory {
        let listing = tree.read_directory(&ROOT, file, 0, 1000, false).unwrap();
        for entry in listing.entries.iter().filter(|entry| entry.name != b".snapshots"[..]) {
            look(tree, entry.file, &format!("{path}/{}", entry.name.escape_ascii()), all);
        }
    }
}

fn seen<F: FileStore>(tree: &F) -> Seen {
    let mut all = BTreeMap::new();
    look(tree, tree.root(), "", &mut all);
    all
}

#[test]
fn lists_come_back_as_they_were_and_default_ones_reach_nothing_else() {
    for home in Home::all() {
        let (volume, copy) = (home.volume(1, 64 * MIB), home.volume(2, 64 * MIB));
        plant(&volume);
        let before = seen(&volume);
        let with = before.values().flat_map(|(_, a, d)| [a, d]).flatten().count();
        assert_eq!(with, 7, "{before:?}");
        assert_eq!(before["/shared/open"].0, 0o4660);
        assert_eq!(before["/shared/private"], (0o640, None, None));
        archive::read(&copy, Acls::Keep, &packed(&volume)[..]).unwrap();
        assert_eq!(seen(&copy), before);
    }
}

#[test]
fn a_copy_of_a_tree_made_file_by_file_lost_the_lists_of_pipes() {
    for home in Home::all() {
        let volume = home.volume(1, 64 * MIB);
        plant(&volume);
        volume.create_snapshot(SnapshotId(uuid::Uuid::nil()), Some("one")).unwrap();
        let all = volume.lookup(&ROOT, volume.root(), b".snapshots").unwrap().file;
        let top = volume.lookup(&ROOT, all, b"one").unwrap().file;
        let mut copy = BTreeMap::new();
        look(&volume, top, "", &mut copy);
        assert!(copy["/shared/pipe"].1.is_some());
        assert_eq!(copy, seen(&volume));
    }
}

/// An entry without content, after the records of its extended header.
fn entry(all: &mut tar::Builder<Vec<u8>>, name: &str, mode: u32, records: &[(&str, &[u8])]) {
    all.append_pax_extensions(records.iter().copied()).unwrap();
    let mut header = tar::Header::new_ustar();
    let is_directory = name.ends_with('/');
    header.set_entry_type(if is_directory {
        tar::EntryType::Directory
    } else {
        tar::EntryType::Regular
    });
    header.set_path(name).unwrap();
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    header.set_mtime(0);
    header.set_cksum();
    all.append(&header, std::io::empty()).unwrap();
}

/// Key and value.
type Record<'a> = (&'a str, &'a [u8]);

fn archive_of(entries: &[(&str, u32, &[Record<'_>])]) -> Vec<u8> {
    let mut all = tar::Builder::new(Vec::new());
    for (name, mode, records) in entries {
        entry(&mut all, name, *mode, records);
    }
    all.into_inner().unwrap()
}

#[test]
fn what_comes_after_its_directory_was_left_begins_without_a_list() {
    let default: [(&str, &[u8]); 1] =
        [("SCHILY.acl.default", b"user::rwx,user:1234:rwx,group::rwx,mask::rwx,other::rwx")];
    let bytes = archive_of(&[
        ("shared/", 0o755, &default),
        ("other/", 0o755, &[]),
        ("shared/late", 0o640, &[]),
        ("shared/implied/later", 0o604, &[]),
        ("shared/directory/", 0o711, &[]),
    ]);
    for home in Home::all() {
        let volume = home.volume(1, 64 * MIB);
        archive::read(&volume, Acls::Keep, &bytes[..]).unwrap();
        let found = seen(&volume);
        assert_eq!(found["/shared"], (0o755, None, Some(generous())));
        for (path, mode) in [
            ("/shared/late", 0o640),
            ("/shared/implied", 0o755),
            ("/shared/implied/later", 0o604),
            ("/shared/directory", 0o711),
        ] {
            assert_eq!(found[path], (mode, None, None), "{path}");
        }
    }
}

fn attribute(path: &Path, name: &str) -> Vec<u8> {
    let mut value = vec![0; 1 << 16];
    let length = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
    value.truncate(length);
    value
}

#[test]
fn gnu_tar_and_we_read_each_others_access_control_lists() {
    for home in Home::all() {
        let (volume, copy) = (home.volume(1, 64 * MIB), home.volume(2, 64 * MIB));
        plant(&volume);
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path().to_str().unwrap();
        program(&["--acls", "--numeric-owner", "-xpf", "-", "-C", at], &packed(&volume));
        let access = "system.posix_acl_access";
        assert_eq!(attribute(&directory.path().join("shared/open"), access), bytes(&OPEN));
        assert_eq!(attribute(&directory.path().join("shared/pipe"), access), bytes(&OPEN));
        assert_eq!(attribute(directory.path(), "system.posix_acl_default"), bytes(&OPEN));
        let private = directory.path().join("shared/private");
        let found = rustix::fs::lgetxattr(private, access, &mut [0u8; 64][..]);
        assert_eq!(found, Err(rustix::io::Errno::NODATA));
        // It has a name for user 0, and the numbers besides.
        let arguments = ["--acls", "--xattrs", "--numeric-owner", "-cf", "-", "-C", at, "."];
        archive::read(&copy, Acls::Keep, &program(&arguments, &[])[..]).unwrap();
        assert_eq!(seen(&copy), seen(&volume));
        let arguments = ["--acls", "-cf", "-", "-C", at, "."];
        let named = program(&arguments, &[]);
        let third = home.volume(3, 64 * MIB);
        let why = archive::read(&third, Acls::Keep, &named[..]).unwrap_err().to_string();
        assert!(why.contains("'root'") && why.contains("--acls --xattrs"), "{why}");
    }
}

#[test]
fn a_list_that_cannot_be_kept_is_an_error_and_dropping_it_opens_nothing() {
    let open = b"user::rw-,user:0:rw-,user:54321:rwx,group::---,group:77:r--,mask::rw-,other::---";
    let named = b"user::rw-\nuser:joe:rwx\ngroup::r--\nmask::rw-\nother::---\n";
    let cases: [(&str, &[u8], &str, u32); 5] = [
        ("SCHILY.acl.access", open, "keeps none", 0o4600),
        ("SCHILY.acl.default", open, "keeps none", 0o4660),
        ("SCHILY.acl.access", named, "'joe'", 0o4600),
        ("SCHILY.acl.access", b"nonsense", "cannot be read", 0o4600),
        ("SCHILY.acl.ace", b"owner@:rwx::allow", "of a kind", 0o4660),
    ];
    for (key, value, why, mode) in cases {
        // A directory, which alone has both.
        let bytes = archive_of(&[("it/", 0o4660, &[(key, value)])]);
        let read = |acls| {
            let tree = Memory::new(0, 1 << 20);
            archive::read(&tree, acls, &bytes[..]).map(|_| seen(&tree)["/it"].0)
        };
        let refused = read(Acls::Keep);
        assert!(matches!(&refused, Err(ArchiveError::Acl { path, .. }) if path == "it/"));
        let refused = refused.unwrap_err().to_string();
        assert!(refused.contains(why) && refused.contains("--drop-acls"), "{refused}");
        assert_eq!(read(Acls::Drop).unwrap(), mode, "{why}");
    }
    // One that says no more than a mode is one.
    let bytes = archive_of(&[("it", 0o600, &[("SCHILY.acl.access", b"u::rw-,g::r--,o::---")])]);
    let tree = Memory::new(0, 1 << 20);
    archive::read(&tree, Acls::Keep, &bytes[..]).unwrap();
    assert_eq!(seen(&tree)["/it"].0, 0o640);
}

#[test]
fn a_list_that_makes_no_sense_is_refused_with_its_path() {
    for home in Home::all() {
        let volume = home.volume(1, 64 * MIB);
        // Users, and no mask.
        let records: [(&str, &[u8]); 1] =
            [("SCHILY.acl.access", b"user::rw-,user:5:rw-,group::r--,other::---")];
        let bytes = archive_of(&[("it", 0o640, &records)]);
        let refused = archive::read(&volume, Acls::Keep, &bytes[..]);
        let is_said = matches!(&refused, Err(ArchiveError::Acl { path, .. }) if path == "it");
        assert!(is_said, "{refused:?}");
        let symlink = New::Symlink(Bytes::from_static(b"it"));
        let symlink = make(&volume, volume.root(), b"symlink", &symlink, 0o777);
        let answer = volume.set_acl(&ROOT, symlink, AclKind::Access, Some(&open()));
        assert_eq!(answer, Err(FileError::NotSupported));
    }
}
