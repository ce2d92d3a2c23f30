//! What the probe sees: images by the real tools where they are installed, else superblocks
//! written by hand from the published layouts; and that no bytes make it stumble.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::cell::Cell;
use std::convert::Infallible;
use std::path::Path;
use std::process::Command;

use bytes::Bytes;
use model::order::Found;
use proptest::prelude::{Strategy, any, prop_assert, proptest};
use store::probe::probe;

const MIB: usize = 1 << 20;

/// The probe over bytes in memory; checks on the way that it keeps its promises about reads.
fn look(image: &[u8]) -> Vec<Found> {
    let size = image.len() as u64;
    let read_bytes = Cell::new(0);
    let read = async |offset: u64, length: usize| {
        assert!(offset.is_multiple_of(512) && length.is_multiple_of(512) && length > 0);
        assert!(offset + length as u64 <= size, "{length} bytes at {offset} of {size}");
        read_bytes.set(read_bytes.get() + length);
        let start = usize::try_from(offset).unwrap();
        Ok::<_, Infallible>(Bytes::copy_from_slice(&image[start..start + length]))
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let Ok(found) = runtime.block_on(probe(size, read));
    assert!(read_bytes.get() <= 130 * 2 * MIB);
    found
}

fn found(content: &str, cluster_aware: bool, place: &str) -> Found {
    Found { content: content.to_owned(), cluster_aware, place: place.to_owned() }
}

const START: &str = "at the start of the volume";
const END: &str = "at the end of the volume";

#[track_caller]
fn finds(image: &[u8], content: &str, cluster_aware: bool) {
    assert_eq!(look(image), [found(content, cluster_aware, START)]);
}

fn blank(mib: usize) -> Vec<u8> {
    vec![0; mib * MIB]
}

fn with(mib: usize, marks: &[(usize, &[u8])]) -> Vec<u8> {
    let mut image = blank(mib);
    for (at, bytes) in marks {
        image[*at..*at + bytes.len()].copy_from_slice(bytes);
    }
    image
}

/// What a tool makes of a blank file of this size; `None` where it is not installed.
fn made_by(mib: usize, tool: &str, arguments: &[&str]) -> Option<Vec<u8>> {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = dir.path().join("image");
    std::fs::File::create(&path).unwrap().set_len((mib * MIB) as u64).unwrap();
    run(tool, arguments, &path).then(|| std::fs::read(&path).unwrap())
}

fn run(tool: &str, arguments: &[&str], path: &Path) -> bool {
    match Command::new(tool).args(arguments).arg(path).output() {
        Ok(output) => {
            let words = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{tool} {arguments:?}: {words}");
            true
        }
        Err(why) => {
            println!("skipped, {tool}: {why}");
            false
        }
    }
}

#[test]
fn an_empty_volume_holds_nothing() {
    for mib in [0, 1, 2, 64] {
        assert_eq!(look(&blank(mib)), []);
    }
    for length in [1, 511, 512, 513, 70_000] {
        assert_eq!(look(&vec![0; length]), []);
    }
}

#[test]
fn what_the_real_tools_make_is_recognised() {
    let tools: &[(&str, &str, usize, &[&str])] = &[
        ("ext2", "mkfs.ext2", 8, &["-q", "-F"]),
        ("ext3", "mkfs.ext3", 16, &["-q", "-F"]),
        ("ext4", "mkfs.ext4", 16, &["-q", "-F"]),
        ("xfs", "mkfs.xfs", 320, &["-q", "-f"]),
        ("btrfs", "mkfs.btrfs", 128, &["-q", "-f"]),
        ("fat12", "mkfs.vfat", 2, &[]),
        ("fat16", "mkfs.vfat", 32, &["-F", "16"]),
        ("fat32", "mkfs.vfat", 64, &["-F", "32"]),
        ("exfat", "mkfs.exfat", 16, &[]),
        ("ntfs", "mkfs.ntfs", 16, &["-q", "-F", "-Q"]),
        ("f2fs", "mkfs.f2fs", 64, &["-q", "-f"]),
        ("swap", "mkswap", 1, &[]),
        (
            "ocfs2 for a single host",
            "mkfs.ocfs2",
            64,
            &["-x", "-M", "local", "--fs-features=local"],
        ),
    ];
    for (content, tool, mib, arguments) in tools {
        if let Some(image) = made_by(*mib, tool, arguments) {
            finds(&image, content, false);
        }
    }
    let gfs2: [(&str, bool, &[&str]); 2] = [
        (
            "gfs2",
            true,
            &["-O", "-q", "-p", "lock_dlm", "-t", "cluster:volume", "-j", "1", "-J", "8"],
        ),
        ("gfs2 for a single host", false, &["-O", "-q", "-p", "lock_nolock", "-j", "1", "-J", "8"]),
    ];
    for (content, cluster_aware, arguments) in gfs2 {
        if let Some(image) = made_by(64, "mkfs.gfs2", arguments) {
            finds(&image, content, cluster_aware);
        }
    }
}

#[test]
fn ext_generations_are_told_apart_by_features() {
    let ext = |compat: u8, incompat: u8, ro_compat: u8| {
        let features = [compat, 0, 0, 0, incompat, 0, 0, 0, ro_compat];
        with(1, &[(1024 + 56, &[0x53, 0xef]), (1024 + 92, &features)])
    };
    finds(&ext(0, 2, 1), "ext2", false);
    finds(&ext(4, 6, 3), "ext3", false);
    finds(&ext(4, 0x42, 3), "ext4", false);
    finds(&ext(4, 2, 0x0b), "ext4", false);
    finds(&ext(0, 8, 0), "ext journal", false);
}

#[test]
fn signatures_written_by_hand_are_recognised() {
    let fat = with(
        1,
        &[
            (0, &[0xeb, 0x3c, 0x90]),
            (11, &[0, 2, 4, 1, 0, 2, 0, 2, 0, 8, 0xf8, 6, 0]),
            (510, &[0x55, 0xaa]),
        ],
    );
    finds(&fat, "fat12", false);
    finds(&with(2, &[(0, b"XFSB")]), "xfs", false);
    finds(&with(2, &[(0x1_0040, b"_BHRfS_M")]), "btrfs", false);
    finds(&with(2, &[(3, b"NTFS    "), (510, &[0x55, 0xaa])]), "ntfs", false);
    finds(&with(2, &[(3, b"EXFAT   "), (510, &[0x55, 0xaa])]), "exfat", false);
    finds(&with(2, &[(65536 - 10, b"SWAPSPACE2")]), "swap", false);
    finds(&with(2, &[(0, b"LUKS\xba\xbe\x00\x02"), (16384, b"SKUL\xba\xbe")]), "LUKS", false);
    finds(&with(2, &[(65536 + 52, b"ReIsEr2Fs")]), "reiserfs", false);
    finds(&with(2, &[(32768, b"JFS1")]), "jfs", false);
    finds(&with(2, &[(1024, &[0x10, 0x20, 0xf5, 0xf2])]), "f2fs", false);
    finds(&with(2, &[(MIB, &[0x0d, 0xd0, 0x01, 0xc0])]), "vmfs", true);
    finds(&with(2, &[(32769, b"CD001")]), "iso9660 (read-only medium)", true);
    finds(&with(2, &[(32769, b"BEA01"), (34817, b"NSR03")]), "udf", false);
    let bcachefs = [
        0xc6, 0x85, 0x73, 0xf6, 0x66, 0xce, 0x90, 0xa9, 0xd9, 0x6a, 0x60, 0xcf, 0x80, 0x3d, 0xf7,
        0xef,
    ];
    finds(&with(2, &[(4096 + 24, &bcachefs)]), "bcachefs", false);
}

#[test]
fn a_cluster_file_system_is_aware_only_with_its_cluster() {
    let gfs2 = |protocol: &[u8]| {
        with(
            1,
            &[
                (65536, &[0x01, 0x16, 0x19, 0x70, 0, 0, 0, 1]),
                (65536 + 24, &[0, 0, 7, 9]),
                (65536 + 96, protocol),
            ],
        )
    };
    finds(&gfs2(b"lock_dlm\0"), "gfs2", true);
    finds(&gfs2(b"lock_nolock\0"), "gfs2 for a single host", false);
    let ocfs2 = |block: usize, incompat: u8| {
        with(1, &[(2 * block, b"OCFSV2"), (2 * block + 0xe0, &[incompat])])
    };
    finds(&ocfs2(4096, 0x10), "ocfs2", true);
    finds(&ocfs2(1024, 0x18), "ocfs2 for a single host", false);
}

/// A physical volume: label in sector 1, one data area, one metadata area at 4 KiB, text at 8 KiB.
fn physical_volume(text: &str) -> Vec<u8> {
    let mut image = with(
        8,
        &[
            (512, b"LABELONE"),
            (512 + 20, &32u32.to_le_bytes()),
            (512 + 24, b"LVM2 001"),
            (4096 + 4, b" LVM2 x[5A%r0N*>"),
            (8192, text.as_bytes()),
        ],
    );
    let header = 512 + 32;
    let mut put = |at: usize, number: u64| {
        image[at..at + 8].copy_from_slice(&number.to_le_bytes());
    };
    put(header + 40, MIB as u64); // data area; its list ends with zeros at +56
    put(header + 72, 4096); // metadata area
    put(header + 80, MIB as u64 - 4096);
    put(4096 + 40, 4096); // the text, from the start of the area
    put(4096 + 48, text.len() as u64);
    image
}

#[test]
fn a_volume_group_is_shared_when_its_metadata_says_so() {
    let text = |line: &str| format!("vg {{\nid = \"x\"\nstatus = [\"WRITE\"]\n{line}\n}}\n");
    finds(&physical_volume(&text("")), "LVM", false);
    let sanlock = physical_volume(&text("lock_type = \"sanlock\""));
    finds(&sanlock, "LVM (shared volume group, sanlock)", true);
    let dlm = physical_volume(&text("lock_type = \"dlm\""));
    finds(&dlm, "LVM (shared volume group, dlm)", true);
    finds(&physical_volume(&text("lock_type = \"none\"")), "LVM", false);
    let mut broken = sanlock;
    broken[4096 + 40] = 0xff;
    broken[4096 + 47] = 0xff;
    finds(&broken, "LVM", false);
}

#[test]
fn raid_and_zfs_are_seen_from_either_end() {
    let md = 0xa92b_4efcu32.to_le_bytes();
    finds(&with(4, &[(4096, &md)]), "md RAID member", false);
    for at in [4 * MIB - 65536, 4 * MIB - 8192] {
        assert_eq!(look(&with(4, &[(at, &md)])), [found("md RAID member", false, END)]);
    }
    let uberblock = 0x00ba_b10cu64;
    finds(&with(4, &[(0x2_0000 + 5 * 1024, &uberblock.to_le_bytes())]), "zfs", false);
    let last = with(4, &[(4 * MIB - 0x2_0000, &uberblock.to_be_bytes())]);
    assert_eq!(look(&last), [found("zfs", false, END)]);
}

/// An MBR entry: flag 0, type, first sector, count.
fn entry(kind: u8, first: u32, count: u32) -> Vec<u8> {
    [&[0, 0, 0, 0, kind, 0, 0, 0][..], &first.to_le_bytes(), &count.to_le_bytes()].concat()
}

fn put(image: &mut [u8], at: usize, bytes: &[u8]) {
    image[at..at + bytes.len()].copy_from_slice(bytes);
}

#[test]
fn mbr_partitions_are_looked_into_logical_ones_too() {
    let mut image = blank(40);
    put(&mut image, 446, &[entry(0x83, 2048, 2048), entry(0x05, 4096, 65536)].concat());
    put(&mut image, 510, &[0x55, 0xaa]);
    // Two logical partitions, each behind its own record.
    let first = 4096 * 512;
    put(&mut image, first + 446, &[entry(0x83, 2048, 8192), entry(0x05, 16384, 16384)].concat());
    put(&mut image, first + 510, &[0x55, 0xaa]);
    let second = (4096 + 16384) * 512;
    put(&mut image, second + 446, &entry(0x83, 2048, 8192));
    put(&mut image, second + 510, &[0x55, 0xaa]);
    assert_eq!(look(&image), [], "a table alone is no content");
    put(&mut image, MIB, b"XFSB");
    put(&mut image, first + MIB + 3, b"NTFS    ");
    put(&mut image, second + MIB + 4096 - 10, b"SWAPSPACE2");
    assert_eq!(
        look(&image),
        [
            found("xfs", false, "in partition 1 (at 1 MiB)"),
            found("ntfs", false, "in partition 5 (at 3 MiB)"),
            found("swap", false, "in partition 6 (at 11 MiB)"),
        ]
    );
}

#[test]
fn a_circle_of_extended_records_ends() {
    let mut image = blank(4);
    put(&mut image, 446, &entry(0x0f, 2048, 4096));
    put(&mut image, 510, &[0x55, 0xaa]);
    put(&mut image, MIB + 446, &[entry(0x83, 0, 100), entry(0x05, 0, 4096)].concat());
    put(&mut image, MIB + 510, &[0x55, 0xaa]);
    assert_eq!(look(&image), []);
}

/// A GPT in blocks of `sector` bytes with these partitions (first block, last block).
fn gpt(image: &mut [u8], sector: usize, primary: bool, partitions: &[(u64, u64)]) {
    let last = image.len() / sector - 1;
    let (header, table) = if primary { (sector, 2) } else { (last * sector, last - 32) };
    put(image, 446, &entry(0xee, 1, u32::MAX));
    put(image, 510, &[0x55, 0xaa]);
    put(image, header, b"EFI PART");
    put(image, header + 72, &(table as u64).to_le_bytes());
    put(image, header + 80, &128u32.to_le_bytes());
    put(image, header + 84, &128u32.to_le_bytes());
    for (n, (first, end)) in partitions.iter().enumerate() {
        let at = table * sector + n * 128;
        put(image, at, &[0xaf; 32]);
        put(image, at + 32, &first.to_le_bytes());
        put(image, at + 40, &end.to_le_bytes());
    }
}

#[test]
fn gpt_partitions_are_looked_into_from_either_table_and_block_size() {
    for (sector, primary) in [(512, true), (512, false), (4096, true), (4096, false)] {
        let mut image = blank(16);
        let blocks = (MIB / sector) as u64;
        gpt(&mut image, sector, primary, &[(blocks, 2 * blocks - 1), (4 * blocks, 8 * blocks - 1)]);
        assert_eq!(look(&image), []);
        put(&mut image, 4 * MIB + 0x1_0040, b"_BHRfS_M");
        let want = found("btrfs", false, "in partition 2 (at 4 MiB)");
        assert_eq!(look(&image), [want], "blocks of {sector}, primary {primary}");
    }
}

#[test]
fn a_partitioned_disk_by_sfdisk_with_ext4_inside() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = dir.path().join("disk");
    std::fs::File::create(&path).unwrap().set_len(64 * MIB as u64).unwrap();
    let script = "printf 'label: gpt\\n,16M\\n,16M\\n' | sfdisk -q \"$0\"";
    let made = Command::new("sh").args(["-c", script]).arg(&path).output();
    if !made.as_ref().is_ok_and(|output| output.status.success()) {
        return println!("skipped, no sfdisk: {made:?}");
    }
    let Some(ext4) = made_by(16, "mkfs.ext4", &["-q", "-F"]) else { return };
    let mut image = std::fs::read(&path).unwrap();
    put(&mut image, 17 * MIB, &ext4);
    assert_eq!(look(&image), [found("ext4", false, "in partition 2 (at 17 MiB)")]);
}

/// Bytes that lead the probe as deep as it goes, then scattered with random ones.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let scatter = proptest::collection::vec((any::<u32>(), any::<[u8; 8]>()), 0..200);
    (0usize..4, scatter, 1usize..3 * MIB).prop_map(|(kind, scatter, length)| {
        let mut image = match kind {
            0 => physical_volume("lock_type = \"dlm\""),
            1 => {
                let mut image = blank(8);
                gpt(&mut image, 512, true, &[(64, 128), (u64::MAX - 1, u64::MAX)]);
                image
            }
            2 => {
                let mut image = blank(8);
                put(&mut image, 446, &[entry(5, 1, u32::MAX), entry(0x0f, 3, 9)].concat());
                put(&mut image, 510, &[0x55, 0xaa]);
                image
            }
            _ => blank(8),
        };
        for (at, bytes) in scatter {
            // Mostly near the start, where the tables are.
            let reach = if at % 4 == 0 { image.len() - 8 } else { 4096 };
            put(&mut image, at as usize % reach, &bytes);
        }
        image.truncate(length);
        image
    })
}

proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]
    #[test]
    fn no_bytes_make_it_stumble(image in hostile()) {
        let found = look(&image);
        prop_assert!(found.len() < 1000);
    }
}
