//! The qcow2 format (versions 2 and 3): header, table entries. Pure.
//!
//! A guest offset is looked up in two steps: the L1 table gives the L2 table, that gives the
//! cluster. All numbers are big-endian.

/// The first four bytes: `QFI` and FBh.
pub(super) const MAGIC: u32 = 0x5146_49fb;
pub(super) const CLUSTER_BITS_MIN: u32 = 9;
pub(super) const CLUSTER_BITS_MAX: u32 = 21;
/// What other readers take at most: 32 MiB of L1 table.
const L1_ENTRIES_MAX: u32 = 4 << 20;
/// Bytes of the longest header that we know.
pub(super) const HEADER_BYTES: usize = 112;
/// Bytes of one L1 or L2 entry.
pub(super) const ENTRY_BYTES: u64 = 8;

/// L1 and L2: the cluster has exactly one reference.
pub(super) const COPIED: u64 = 1 << 63;
const COMPRESSED: u64 = 1 << 62;
/// L2, version 3: reads as zeros.
const ZERO: u64 = 1;
const OFFSET_MASK: u64 = 0x00ff_ffff_ffff_fe00;

/// Features that a reader must know (header bytes 72 to 79).
mod incompatible {
    /// Reference counts may be wrong; content is not.
    pub(super) const DIRTY: u64 = 1 << 0;
    pub(super) const CORRUPT: u64 = 1 << 1;
    pub(super) const DATA_FILE: u64 = 1 << 2;
    pub(super) const COMPRESSION_TYPE: u64 = 1 << 3;
    pub(super) const EXTENDED_L2: u64 = 1 << 4;
}

/// The parts of a header that a reader needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Header {
    pub(super) version: u32,
    pub(super) cluster_bits: u32,
    /// Size of the content, in bytes.
    pub(super) size: u64,
    pub(super) l1_entries: u32,
    pub(super) l1_offset: u64,
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|it| it.try_into().ok()).map_or(0, u32::from_be_bytes)
}

fn be64(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|it| it.try_into().ok()).map_or(0, u64::from_be_bytes)
}

impl Header {
    /// Judge a header. `file_bytes` is the length of the file that it starts.
    ///
    /// # Errors
    /// A sentence that says why the image cannot be used.
    pub(super) fn parse(bytes: &[u8], file_bytes: u64) -> Result<Self, String> {
        if file_bytes < 72 || be32(bytes, 0) != MAGIC {
            return Err("it is not a qcow2 image".to_owned());
        }
        let header = Self {
            version: be32(bytes, 4),
            cluster_bits: be32(bytes, 20),
            size: be64(bytes, 24),
            l1_entries: be32(bytes, 36),
            l1_offset: be64(bytes, 40),
        };
        header.check_features(bytes, file_bytes)?;
        header.check_geometry(file_bytes)?;
        Ok(header)
    }

    fn check_features(&self, bytes: &[u8], file_bytes: u64) -> Result<(), String> {
        const CONVERT: &str = "convert it with `qemu-img convert -O qcow2` first";
        let extended = self.version == 3;
        if !extended && self.version != 2 {
            return Err(format!("it says to be of version {}; 2 and 3 are known", self.version));
        }
        if be64(bytes, 8) != 0 {
            return Err(format!("it is only the difference to a backing file; {CONVERT}"));
        }
        if be32(bytes, 32) != 0 {
            return Err(format!("it is encrypted; {CONVERT}"));
        }
        if !extended {
            return Ok(());
        }
        if file_bytes < 104 || be32(bytes, 100) < 104 || !be32(bytes, 100).is_multiple_of(8) {
            return Err("its header length makes no sense".to_owned());
        }
        let features = be64(bytes, 72);
        let refusals = [
            (incompatible::CORRUPT, "it is marked as corrupt; repair it with `qemu-img check -r`"),
            (incompatible::DATA_FILE, "its content lies in an external data file; convert it"),
            (incompatible::EXTENDED_L2, "it has extended L2 entries; convert it without them"),
        ];
        if let Some((_, why)) = refusals.iter().find(|(bit, _)| features & bit != 0) {
            return Err((*why).to_owned());
        }
        let unknown = features & !(incompatible::DIRTY | incompatible::COMPRESSION_TYPE);
        if unknown != 0 {
            return Err(format!("it uses features that are not known here ({unknown:#x})"));
        }
        let has_type = features & incompatible::COMPRESSION_TYPE != 0;
        if has_type && bytes.get(104).is_none_or(|kind| *kind != 0) {
            return Err(format!("it is compressed in another way than deflate; {CONVERT}"));
        }
        Ok(())
    }

    fn check_geometry(&self, file_bytes: u64) -> Result<(), String> {
        if !(CLUSTER_BITS_MIN..=CLUSTER_BITS_MAX).contains(&self.cluster_bits) {
            let bits = self.cluster_bits;
            return Err(format!(
                "its cluster size makes no sense ({bits} bits; 9 to 21 are legal)"
            ));
        }
        if self.size == 0 {
            return Err("it holds nothing (its size is 0)".to_owned());
        }
        if u64::from(self.l1_entries) < self.size.div_ceil(self.l2_span()) {
            return Err("its L1 table is too short for its size".to_owned());
        }
        if self.l1_entries > L1_ENTRIES_MAX {
            return Err("its L1 table is absurdly long".to_owned());
        }
        let l1_bytes = u64::from(self.l1_entries) * ENTRY_BYTES;
        let inside = self.l1_offset.checked_add(l1_bytes).is_some_and(|end| end <= file_bytes);
        if !inside || self.l1_offset == 0 || !self.l1_offset.is_multiple_of(self.cluster_bytes()) {
            return Err("its L1 table does not lie in the file".to_owned());
        }
        Ok(())
    }

    pub(super) fn cluster_bytes(&self) -> u64 {
        1 << self.cluster_bits
    }
    /// Entries of one L2 table.
    pub(super) fn l2_entries(&self) -> u64 {
        self.cluster_bytes() / ENTRY_BYTES
    }
    /// Bytes of content that one L2 table tells of.
    pub(super) fn l2_span(&self) -> u64 {
        self.cluster_bytes() * self.l2_entries()
    }

    /// Where the L2 table of an L1 entry is; `None` where there is none.
    ///
    /// # Errors
    /// A sentence.
    pub(super) fn l2_table(&self, entry: u64, file_bytes: u64) -> Result<Option<u64>, String> {
        let offset = entry & OFFSET_MASK;
        if entry & !(OFFSET_MASK | COPIED) != 0 || !offset.is_multiple_of(self.cluster_bytes()) {
            return Err("an L1 entry makes no sense".to_owned());
        }
        if offset == 0 {
            return Ok(None);
        }
        if offset + self.cluster_bytes() > file_bytes {
            return Err("an L2 table lies beyond the end of the file".to_owned());
        }
        Ok(Some(offset))
    }

    /// What an L2 entry says of its cluster.
    ///
    /// # Errors
    /// A sentence.
    pub(super) fn cluster(&self, entry: u64, file_bytes: u64) -> Result<Cluster, String> {
        if entry & COMPRESSED != 0 {
            return self.compressed(entry & !(COMPRESSED | COPIED), file_bytes);
        }
        let offset = entry & OFFSET_MASK;
        let legal =
            if self.version == 3 { OFFSET_MASK | COPIED | ZERO } else { OFFSET_MASK | COPIED };
        if entry & !legal != 0 || !offset.is_multiple_of(self.cluster_bytes()) {
            return Err("an L2 entry makes no sense".to_owned());
        }
        if entry & ZERO != 0 || offset == 0 {
            return Ok(Cluster::Zero);
        }
        if offset >= file_bytes {
            return Err("a cluster lies beyond the end of the file".to_owned());
        }
        Ok(Cluster::Data(offset))
    }

    /// The low bits are the offset, the ones above count further 512-byte sectors.
    fn compressed(&self, entry: u64, file_bytes: u64) -> Result<Cluster, String> {
        let offset_bits = 62 - (self.cluster_bits - 8);
        let offset = entry & ((1 << offset_bits) - 1);
        let sectors = (entry >> offset_bits) + 1;
        let length = sectors * 512 - offset % 512;
        if offset == 0 || offset >= file_bytes {
            return Err("a compressed cluster lies beyond the end of the file".to_owned());
        }
        // The last sector may be cut by the end of the file.
        Ok(Cluster::Compressed { offset, length: length.min(file_bytes - offset) })
    }
}

/// Where a cluster's content is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Cluster {
    Zero,
    Data(u64),
    /// A raw deflate stream of at most `length` bytes.
    Compressed {
        offset: u64,
        length: u64,
    },
}

/// Where a writer puts what, in clusters of `1 << cluster_bits` bytes.
pub(super) struct Layout {
    pub(super) cluster_bits: u32,
    pub(super) size: u64,
    pub(super) l1_entries: u32,
    pub(super) l1_offset: u64,
    pub(super) refcount_offset: u64,
    pub(super) refcount_clusters: u32,
}

impl Layout {
    /// A version 3 header without further features; reference counts of 16 bits.
    pub(super) fn header(&self) -> [u8; HEADER_BYTES] {
        const REFCOUNT_ORDER: u32 = 4;
        let mut bytes = [0; HEADER_BYTES];
        let mut put = |at: usize, number: &[u8]| {
            bytes[at..at + number.len()].copy_from_slice(number);
        };
        put(0, &MAGIC.to_be_bytes());
        put(4, &3u32.to_be_bytes());
        put(20, &self.cluster_bits.to_be_bytes());
        put(24, &self.size.to_be_bytes());
        put(36, &self.l1_entries.to_be_bytes());
        put(40, &self.l1_offset.to_be_bytes());
        put(48, &self.refcount_offset.to_be_bytes());
        put(56, &self.refcount_clusters.to_be_bytes());
        put(96, &REFCOUNT_ORDER.to_be_bytes());
        // The header ends at 104 and an empty list of extensions follows.
        put(100, &104u32.to_be_bytes());
        bytes
    }
}
