//! The kernel checks, as the caller: what no bits of a mode can say.

use bytes::Bytes;
use model::file::{
    Caller, Creation, FileError, FileKind, FileStore, New, SetAttributes, Stability,
};

use crate::homes::{Home, MIB, create, make_directory, mode, size, user, write};

#[test]
fn an_access_list_of_the_file_system_is_obeyed() {
    for home in Home::all() {
        let (owner, volume) = (user(1000), home.volume(1, 64 * MIB));
        let file = create(&volume, &owner, volume.root(), "a").attributes.file;
        volume.set_attributes(&owner, file, &mode(0o600), None).unwrap();
        assert_eq!(volume.read(&user(2000), file, 0, 1), Err(FileError::Access));
        // posix_acl_xattr: version 2, then tag, permissions and id of each entry.
        let mut list = 2u32.to_le_bytes().to_vec();
        let undefined = u32::MAX;
        for (tag, bits, id) in [
            (0x01u16, 6u16, undefined),
            (0x02, 4, 2000u32),
            (0x04, 0, undefined),
            (0x10, 4, undefined),
            (0x20, 0, undefined),
        ] {
            list.extend_from_slice(&tag.to_le_bytes());
            list.extend_from_slice(&bits.to_le_bytes());
            list.extend_from_slice(&id.to_le_bytes());
        }
        let path = home.tree(1).join("a");
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(path, c"system.posix_acl_access", &list, flags).unwrap();
        volume.read(&user(2000), file, 0, 1).unwrap();
        assert_eq!(volume.read(&user(2001), file, 0, 1), Err(FileError::Access));
    }
}

#[test]
fn who_is_not_root_cannot_make_devices_or_give_files_away() {
    for home in Home::all() {
        let (who, volume) = (user(1000), home.volume(1, 64 * MIB));
        let root = volume.root();
        let new = New::Special(FileKind::CharacterDevice(1, 1));
        let made = volume.make(&who, root, b"mem", &new, &mode(0o666));
        assert_eq!(made, Err(FileError::NotOwner));
        let file = create(&volume, &who, root, "a").attributes.file;
        let give = |uid, gid| {
            let set = SetAttributes { uid, gid, ..SetAttributes::default() };
            let caller = Caller { gids: vec![50], ..who.clone() };
            volume.set_attributes(&caller, file, &set, None).map(|done| done.after.gid)
        };
        assert_eq!(give(Some(1001), None), Err(FileError::NotOwner));
        assert_eq!(give(None, Some(51)), Err(FileError::NotOwner));
        assert_eq!(give(None, Some(50)), Ok(50));
        let failed = Creation::Guarded(SetAttributes { uid: Some(5), ..SetAttributes::default() });
        assert_eq!(volume.create(&who, root, b"b", &failed), Err(FileError::NotOwner));
        // What could not be made as it was asked for is not there.
        assert_eq!(volume.lookup(&who, root, b"b"), Err(FileError::NotFound));
        assert_eq!(volume.usage().unwrap().inodes_used, 2);
    }
}

#[test]
fn set_id_bits_go_when_another_writes() {
    for home in Home::all() {
        let (owner, volume) = (user(1000), home.volume(1, 64 * MIB));
        let root = volume.root();
        let file = create(&volume, &owner, root, "a").attributes.file;
        let bits = || volume.attributes(file).unwrap().mode;
        volume.set_attributes(&owner, file, &mode(0o4777), None).unwrap();
        write(&volume, &user(2000), file, 0, b"trojan");
        assert_eq!(bits(), 0o777);
        volume.set_attributes(&owner, file, &mode(0o4777), None).unwrap();
        volume.set_attributes(&user(2000), file, &size(1), None).unwrap();
        assert_eq!(bits(), 0o777);
        let d = make_directory(&volume, &owner, root, "d");
        let group = SetAttributes { gid: Some(50), ..mode(0o2777) };
        let member = Caller { gids: vec![50], ..owner.clone() };
        volume.set_attributes(&member, d, &group, None).unwrap();
        let made = create(&volume, &user(2000), d, "b").attributes;
        assert_eq!((made.uid, made.gid), (2000, 50));
        let sub = make_directory(&volume, &user(2000), d, "sub");
        let sub = volume.attributes(sub).unwrap();
        assert_eq!((sub.gid, sub.mode), (50, 0o2755));
        // The daemon's umask once cost the caller the inherited bit.
        let new = New::Directory;
        let open = volume.make(&user(2000), d, b"open", &new, &mode(0o777)).unwrap().attributes;
        assert_eq!((open.gid, open.mode), (50, 0o2777));
    }
}

/// Many callers at once, and each is himself: no thread acts in the name of the one before it.
#[test]
fn callers_at_once_are_not_taken_for_each_other() {
    let Some(home) = Home::dir() else { return };
    let volume = home.volume(1, 256 * MIB);
    let root = volume.root();
    std::thread::scope(|scope| {
        for thread in 0..8u32 {
            let volume = volume.clone();
            scope.spawn(move || {
                for round in 0..30 {
                    let who = user(1000 + (thread * 7 + round) % 5);
                    let name = format!("{thread}-{round}");
                    let how = Creation::Guarded(mode(0o600));
                    let made = volume.create(&who, root, name.as_bytes(), &how).unwrap();
                    assert_eq!(made.attributes.uid, who.uid);
                    let file = made.attributes.file;
                    let data = Bytes::from(name.clone().into_bytes());
                    volume.write(&who, file, 0, &data, Stability::Unstable).unwrap();
                    let other = user(who.uid + 1);
                    assert_eq!(volume.read(&other, file, 0, 1), Err(FileError::Access));
                    assert_eq!(volume.read(&who, file, 0, 99).unwrap().data, data);
                }
            });
        }
    });
}
