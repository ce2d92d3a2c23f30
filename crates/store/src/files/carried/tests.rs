use std::fs::File;
use std::os::fd::OwnedFd;

use model::file::FileId;
use proptest::prelude::*;

use super::page::{ENTRIES_MAX, PAGE_BYTES, decode, encode};
use super::table::Table;
use super::{Builder, Place};

fn home() -> (tempfile::TempDir, OwnedFd) {
    let directory = tempfile::tempdir().unwrap();
    let home = File::open(directory.path()).unwrap().into();
    (directory, home)
}

fn nth(n: u64) -> (FileId, Place) {
    let mixed = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let tree = if mixed.is_multiple_of(3) { 0 } else { 7 };
    let id = FileId { tree, inode: mixed >> 20, generation: n << 32 | 5 };
    (id, Place { number: (mixed ^ n) >> 16, generation: u32::try_from(n).unwrap() })
}

fn built(home: &OwnedFd, at: &std::path::Path, run: usize, entries: u64) -> Table {
    let mut builder = Builder::with_runs(home, run).unwrap();
    (0..entries).map(nth).for_each(|(id, place)| builder.add(id, place).unwrap());
    builder.write(File::create(at).unwrap().into()).unwrap();
    Table::of(File::open(at).unwrap().into()).unwrap()
}

#[test]
fn every_id_leads_to_its_inode_and_back_and_no_other_to_any() {
    let (directory, home) = home();
    for entries in [0, 1, 126, 127, 128, 127 * 127 + 1, 40_000] {
        let table = built(&home, &directory.path().join(format!("{entries}")), 1000, entries);
        for n in 0..entries {
            let (id, place) = nth(n);
            assert_eq!(table.place(id).unwrap(), Some(place), "{n} of {entries}");
            assert_eq!(table.id(id.tree, place).unwrap(), Some(id), "{n} of {entries}");
            for other in [
                FileId { tree: id.tree ^ 1, ..id },
                FileId { inode: id.inode ^ 1, ..id },
                FileId { generation: id.generation ^ 1 << 40, ..id },
            ] {
                assert_eq!(table.place(other).unwrap(), None);
            }
            let reused = Place { generation: place.generation ^ 1, ..place };
            assert_eq!(table.id(id.tree, reused).unwrap(), None);
            assert_eq!(table.id(id.tree ^ 7, place).unwrap(), None);
        }
    }
}

#[test]
fn two_files_with_one_id_are_no_table() {
    let (directory, home) = home();
    let (id, place) = nth(1);
    for (again, at) in [(id, nth(2).1), (nth(2).0, place)] {
        let mut builder = Builder::with_runs(&home, 4).unwrap();
        builder.add(id, place).unwrap();
        builder.add(FileId { tree: id.tree, ..again }, at).unwrap();
        let name = directory.path().join("table");
        assert!(builder.write(File::create(name).unwrap().into()).is_err());
    }
}

#[test]
fn a_table_that_is_cut_or_changed_is_damaged_and_says_of_no_file_that_it_is_gone() {
    let (directory, home) = home();
    let path = directory.path().join("table");
    drop(built(&home, &path, 100, 300));
    let whole = std::fs::read(&path).unwrap();
    let open = |bytes: &[u8]| {
        let other = directory.path().join("other");
        std::fs::write(&other, bytes).unwrap();
        Table::of(File::open(other).unwrap().into())
    };
    for cut in [0, 100, PAGE_BYTES, whole.len() - 1, whole.len() - PAGE_BYTES] {
        assert!(open(&whole[..cut]).is_err(), "{cut}");
    }
    assert!(open(&[&whole[..], &[0; PAGE_BYTES]].concat()).is_err());
    for page in 0..whole.len() / PAGE_BYTES {
        let mut wrong = whole.clone();
        wrong[page * PAGE_BYTES + 77] ^= 1;
        let Ok(table) = open(&wrong) else { continue };
        let mut damaged = 0;
        for n in 0..300 {
            let (id, place) = nth(n);
            match (table.place(id), table.id(id.tree, place)) {
                (Ok(to), Ok(back)) => assert_eq!((to, back), (Some(place), Some(id))),
                _ => damaged += 1,
            }
        }
        assert!(damaged > 0, "page {page}");
    }
}

proptest! {
    #[test]
    fn any_entries_come_back_from_their_page(
        mut entries in proptest::collection::vec(any::<[u8; 32]>(), 0..=ENTRIES_MAX),
        number: u64,
    ) {
        entries.sort_unstable();
        entries.dedup();
        let page = encode(number, &entries);
        prop_assert_eq!(page.len(), PAGE_BYTES);
        prop_assert_eq!(decode(number, &page), Some(entries));
        prop_assert_eq!(decode(number.wrapping_add(1), &page), None);
    }

    #[test]
    fn no_bytes_make_a_page_panic(bytes in proptest::collection::vec(any::<u8>(), 0..5000)) {
        prop_assert_eq!(decode(0, &bytes), None);
    }
}
