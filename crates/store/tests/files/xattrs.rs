//! Extended attributes: of the model and of each file system alike.

use bytes::Bytes;
use model::file::{AttributeIs, FileError, New};

use crate::conformance::{changed, each};
use crate::homes::{create, make_directory, mode, user};

fn sorted(mut names: Vec<Bytes>) -> Vec<Bytes> {
    names.sort();
    names
}

#[test]
fn an_attribute_is_set_read_listed_and_removed() {
    each(|store| {
        let (who, root) = (user(1000), store.root());
        assert!(store.limits().xattrs);
        let file = create(store, &who, root, "a").attributes.file;
        let directory = make_directory(store, &who, root, "d");
        for place in [file, directory] {
            let set = |name: &'static str, value: &'static str, is| {
                store.set_xattr(&who, place, (name.as_bytes(), value.as_bytes()), is)
            };
            assert_eq!(store.xattrs(&who, place).unwrap(), Vec::<Bytes>::new());
            assert_eq!(store.xattr(&who, place, b"one"), Err(FileError::NoAttribute));
            assert_eq!(set("one", "1", AttributeIs::There), Err(FileError::NoAttribute));
            changed(&set("one", "first", AttributeIs::New).unwrap());
            assert_eq!(set("one", "x", AttributeIs::New), Err(FileError::Exists));
            changed(&set("one", "1", AttributeIs::There).unwrap());
            changed(&set("user.two", "", AttributeIs::Either).unwrap());
            assert_eq!(store.xattr(&who, place, b"one").unwrap(), "1");
            assert_eq!(store.xattr(&who, place, b"user.two").unwrap(), "");
            assert_eq!(sorted(store.xattrs(&who, place).unwrap()), ["one", "user.two"]);
            changed(&store.remove_xattr(&who, place, b"one").unwrap());
            assert_eq!(store.remove_xattr(&who, place, b"one"), Err(FileError::NoAttribute));
            assert_eq!(store.xattrs(&who, place).unwrap(), ["user.two"]);
        }
    });
}

#[test]
fn who_may_write_a_file_may_set_its_attributes_and_who_may_read_it_sees_them() {
    each(|store| {
        let (owner, other, root) = (user(1000), user(1001), store.root());
        let file = create(store, &owner, root, "a").attributes.file;
        let set = |who: &_, place| store.set_xattr(who, place, (b"n", b"v"), AttributeIs::Either);
        set(&owner, file).unwrap();
        assert_eq!(set(&other, file), Err(FileError::Access));
        assert_eq!(store.remove_xattr(&other, file, b"n"), Err(FileError::Access));
        assert_eq!(store.xattr(&other, file, b"n").unwrap(), "v");
        store.set_attributes(&owner, file, &mode(0o600), None).unwrap();
        assert_eq!(store.xattr(&other, file, b"n"), Err(FileError::Access));
        // In a directory that all may write in, the owner's word counts.
        let shared = make_directory(store, &owner, root, "d");
        store.set_attributes(&owner, shared, &mode(0o1777), None).unwrap();
        assert_eq!(set(&other, shared), Err(FileError::NotOwner));
        set(&owner, shared).unwrap();
    });
}

#[test]
fn what_cannot_have_attributes_has_none_and_none_is_larger_than_there_may_be() {
    each(|store| {
        let (who, root) = (user(1000), store.root());
        let target = New::Symlink("nowhere".into());
        let link = store.make(&who, root, b"l", &target, &mode(0o777)).unwrap().attributes.file;
        let file = create(store, &who, root, "a").attributes.file;
        let set = |place, name: &[u8], value: &[u8]| {
            store.set_xattr(&who, place, (name, value), AttributeIs::Either)
        };
        assert_eq!(set(link, b"n", b"v"), Err(FileError::WrongKind));
        assert_eq!(store.xattr(&who, link, b"n"), Err(FileError::WrongKind));
        assert_eq!(store.xattrs(&who, link), Err(FileError::WrongKind));
        assert_eq!(set(file, &[b'n'; 251], b"v"), Err(FileError::NameTooLong));
        set(file, &[b'n'; 250], b"v").unwrap();
        assert_eq!(set(file, b"n", &[0; 65_537]), Err(FileError::AttributeTooLarge));
        assert_eq!(store.xattrs(&who, file).unwrap().len(), 1);
    });
}
