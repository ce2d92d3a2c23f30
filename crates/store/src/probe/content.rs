//! Contents with a superblock at a fixed place: a table of signatures, and the few that take a
//! closer look.

use super::Content;
use super::bytes_at::Pieces;

/// A signature that decides by itself.
struct Signature {
    name: &'static str,
    offset: u64,
    bytes: &'static [u8],
    cluster_aware: bool,
}

const fn ordinary(name: &'static str, offset: u64, bytes: &'static [u8]) -> Signature {
    Signature { name, offset, bytes, cluster_aware: false }
}

const fn shared(name: &'static str, offset: u64, bytes: &'static [u8]) -> Signature {
    Signature { name, offset, bytes, cluster_aware: true }
}

const KIB: u64 = 1 << 10;

/// Bytes as they lie on the disk; little-endian numbers are therefore turned round.
const SIGNATURES: &[Signature] = &[
    ordinary("xfs", 0, b"XFSB"),
    ordinary("btrfs", 64 * KIB + 0x40, b"_BHRfS_M"),
    ordinary("ntfs", 3, b"NTFS    "),
    ordinary("exfat", 3, b"EXFAT   "),
    ordinary("BitLocker", 3, b"-FVE-FS-"),
    ordinary("LUKS", 0, b"LUKS\xba\xbe"),
    // The second header of LUKS2, where the first one is damaged.
    ordinary("LUKS", 16 * KIB, b"SKUL\xba\xbe"),
    ordinary("f2fs", KIB, &[0x10, 0x20, 0xf5, 0xf2]),
    ordinary("nilfs2", KIB + 6, &[0x34, 0x34]),
    ordinary("reiserfs", 64 * KIB + 52, b"ReIsEr"),
    ordinary("reiserfs", 8 * KIB + 52, b"ReIsEr"),
    ordinary("reiser4", 64 * KIB, b"ReIsEr4"),
    ordinary("jfs", 32 * KIB, b"JFS1"),
    ordinary("apfs", 32, b"NXSB"),
    ordinary("hfs+", KIB, b"H+\0\x04"),
    ordinary("hfsx", KIB, b"HX\0\x05"),
    // bcachefs and bcache: the superblock's magic, a UUID.
    ordinary(
        "bcachefs",
        4 * KIB + 24,
        &[
            0xc6, 0x85, 0x73, 0xf6, 0x66, 0xce, 0x90, 0xa9, 0xd9, 0x6a, 0x60, 0xcf, 0x80, 0x3d,
            0xf7, 0xef,
        ],
    ),
    ordinary(
        "bcache",
        4 * KIB + 24,
        &[
            0xc6, 0x85, 0x73, 0xf6, 0x4e, 0x1a, 0x45, 0xca, 0x82, 0x65, 0xf5, 0x7f, 0x48, 0xba,
            0x6d, 0x81,
        ],
    ),
    ordinary("Ceph BlueStore", 0, b"bluestore block device"),
    ordinary("LVM1", 0, b"HM\x01\0"),
    ordinary("LVM1", 0, b"HM\x02\0"),
    // Written by all hosts of a cluster, under its own locks.
    shared("vmfs", 1 << 20, &[0x0d, 0xd0, 0x01, 0xc0]),
    shared("Oracle ASM", 32, b"ORCLDISK"),
    // Only ever read.
    shared("iso9660 (read-only medium)", 32 * KIB + 1, b"CD001"),
    shared("squashfs (read-only)", 0, b"hsqs"),
    shared("erofs (read-only)", KIB, &[0xe2, 0xe1, 0xf5, 0xe0]),
];

/// All contents of a region but those of `lvm`, `raid` and `zfs`.
pub(super) fn recognise(region: &Pieces) -> Vec<Content> {
    let mut all: Vec<Content> = Vec::new();
    for signature in SIGNATURES.iter().filter(|it| region.has(it.offset, it.bytes)) {
        let content =
            Content { name: signature.name.to_owned(), cluster_aware: signature.cluster_aware };
        if !all.contains(&content) {
            all.push(content);
        }
    }
    let closer = [ext(region), fat(region), swap(region), gfs2(region), ocfs2(region), udf(region)];
    all.extend(closer.into_iter().flatten());
    all
}

/// Is block 0 the boot sector of a file system that fills the region? It ends in 55h AAh like a
/// master boot record, and the bytes where that has its table are code.
pub(super) fn fills_boot_sector(region: &Pieces) -> bool {
    let named = [b"NTFS    ", b"EXFAT   ", b"-FVE-FS-"];
    named.iter().any(|name| region.has(3, *name)) || fat(region).is_some()
}

/// ext2, ext3 or ext4: told apart by the features of the superblock (at 1 KiB).
fn ext(region: &Pieces) -> Option<Content> {
    const SUPERBLOCK: u64 = KIB;
    const HAS_JOURNAL: u32 = 0x4;
    const JOURNAL_DEVICE: u32 = 0x8;
    /// Incompatible features that ext3 does not know: extents, 64bit, mmp, flex_bg and later.
    const EXT4_INCOMPAT: u32 = !0x1f;
    /// Read-only compatible ones: huge_file, gdt_csum, dir_nlink, extra_isize and later.
    const EXT4_RO_COMPAT: u32 = !0x7;
    if region.le16(SUPERBLOCK + 56) != Some(0xef53) {
        return None;
    }
    let compat = region.le32(SUPERBLOCK + 92)?;
    let incompat = region.le32(SUPERBLOCK + 96)?;
    let ro_compat = region.le32(SUPERBLOCK + 100)?;
    let name = if incompat & JOURNAL_DEVICE != 0 {
        "ext journal"
    } else if incompat & EXT4_INCOMPAT != 0 || ro_compat & EXT4_RO_COMPAT != 0 {
        "ext4"
    } else if compat & HAS_JOURNAL != 0 {
        "ext3"
    } else {
        "ext2"
    };
    Some(Content::ordinary(name))
}

/// FAT has no magic number: its boot sector must make sense, and then the number of clusters
/// decides between FAT12, FAT16 and FAT32.
fn fat(region: &Pieces) -> Option<Content> {
    let jump = *region.at(0, 1)?.first()?;
    let bytes_per_sector = u64::from(region.le16(11)?);
    let sectors_per_cluster = u64::from(*region.at(13, 1)?.first()?);
    let reserved = u64::from(region.le16(14)?);
    let tables = u64::from(*region.at(16, 1)?.first()?);
    let root_entries = u64::from(region.le16(17)?);
    let media = *region.at(21, 1)?.first()?;
    let sound = region.has(510, &[0x55, 0xaa])
        && (jump == 0xeb || jump == 0xe9)
        && [512, 1024, 2048, 4096].contains(&bytes_per_sector)
        && sectors_per_cluster.is_power_of_two()
        && reserved > 0
        && (1..=2).contains(&tables)
        && (media == 0xf0 || media >= 0xf8);
    if !sound {
        return None;
    }
    let either =
        |short: u16, long: u32| if short != 0 { u64::from(short) } else { u64::from(long) };
    let sectors = either(region.le16(19)?, region.le32(32)?);
    let table_sectors = either(region.le16(22)?, region.le32(36)?);
    if sectors == 0 || table_sectors == 0 {
        return None;
    }
    let root_sectors = (root_entries * 32).div_ceil(bytes_per_sector);
    let taken = reserved + tables * table_sectors + root_sectors;
    let clusters = sectors.saturating_sub(taken) / sectors_per_cluster;
    Some(Content::ordinary(match clusters {
        _ if region.le16(22)? == 0 => "fat32",
        0..4085 => "fat12",
        4085..65525 => "fat16",
        _ => "fat32",
    }))
}

/// The mark stands at the end of the first page of the machine that made it.
fn swap(region: &Pieces) -> Option<Content> {
    let marks: [&[u8]; 4] = [b"SWAPSPACE2", b"SWAP-SPACE", b"S1SUSPEND\0", b"LINHIB0001"];
    let pages = [4 * KIB, 8 * KIB, 16 * KIB, 32 * KIB, 64 * KIB];
    let marked = pages.iter().any(|page| marks.iter().any(|mark| region.has(page - 10, mark)));
    marked.then(|| Content::ordinary("swap"))
}

/// GFS2 (and GFS): the superblock at 64 KiB names its lock protocol.
fn gfs2(region: &Pieces) -> Option<Content> {
    const SUPERBLOCK: u64 = 64 * KIB;
    const LOCK_PROTOCOL: u64 = SUPERBLOCK + 96;
    if region.be32(SUPERBLOCK) != Some(0x0116_1970) || region.be32(SUPERBLOCK + 4) != Some(1) {
        return None;
    }
    let name = if region.be32(SUPERBLOCK + 24) == Some(1309) { "gfs" } else { "gfs2" };
    if region.has(LOCK_PROTOCOL, b"lock_dlm\0") {
        return Some(Content::shared(name));
    }
    Some(Content::ordinary(&format!("{name} for a single host")))
}

/// OCFS2: the superblock is an inode in block 2; the block is 512 bytes to 4 KiB.
fn ocfs2(region: &Pieces) -> Option<Content> {
    const INCOMPATIBLE_FEATURES: u64 = 0xc0 + 0x20;
    const LOCAL_MOUNT: u32 = 0x8;
    let block = [512, 1024, 2048, 4096].into_iter().find(|it| region.has(2 * it, b"OCFSV2"))?;
    if region.le32(2 * block + INCOMPATIBLE_FEATURES)? & LOCAL_MOUNT != 0 {
        return Some(Content::ordinary("ocfs2 for a single host"));
    }
    Some(Content::shared("ocfs2"))
}

/// UDF announces itself in the volume recognition sequence (from 32 KiB, every 2 KiB). On a disk
/// it is written to; only beside ISO 9660 is it a medium that nobody writes.
fn udf(region: &Pieces) -> Option<Content> {
    let places = (0..16).map(|n| 32 * KIB + 1 + n * 2 * KIB);
    let mut marks = places.filter(|at| region.has(*at, b"NSR02") || region.has(*at, b"NSR03"));
    marks.next()?;
    if region.has(32 * KIB + 1, b"CD001") {
        return Some(Content::shared("udf (read-only medium)"));
    }
    Some(Content::ordinary("udf"))
}
