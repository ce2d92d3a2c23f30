//! What a logical unit is, as far as its commands need to know: an immutable value that the shell
//! replaces whole when the volume grows or a mode page changes.

use crate::nexus::RelativePort;

/// The facts of one logical unit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unit {
    /// Logical block length in bytes (512 or 4096).
    pub block_bytes: u32,
    /// Capacity in logical blocks; never zero.
    pub blocks: u64,
    /// Logical blocks per physical block, as a power of two.
    pub physical_exponent: u8,
    /// Unit serial number: the volume's id in hex, 32 digits.
    pub serial: String,
    /// NAA-6 identifier, stable over nodes and restarts.
    pub naa: [u8; 16],
    pub target_name: String,
    /// The target ports that reach this unit; one per portal group.
    pub ports: Vec<RelativePort>,
    /// Portal group tag of each port, in the same order.
    pub port_groups: Vec<u16>,
    /// Deallocated blocks give their space back and read as zeros.
    pub thin: bool,
    /// There is a volatile cache: a write is durable after FUA or SYNCHRONIZE CACHE only.
    pub write_cache: bool,
    /// Control mode page, SWP: software write protect; set by MODE SELECT.
    pub software_write_protect: bool,
    /// Control mode page, TAS: aborted commands end with TASK ABORTED; set by MODE SELECT.
    pub task_aborted_status: bool,
    /// Control mode page, D_SENSE: descriptor format sense data; set by MODE SELECT.
    pub descriptor_sense: bool,
    /// What SANITIZE has made of it.
    pub sanitize: crate::sanitize::State,
    /// Most blocks in one READ, WRITE or VERIFY.
    pub max_transfer_blocks: u32,
    /// Most blocks in one UNMAP; see [`Unit::deallocation_limit_blocks`].
    pub max_unmap_blocks: u32,
    /// Most blocks in one WRITE SAME; zero: no limit.
    pub max_write_same_blocks: u32,
    /// Most block descriptors in one UNMAP.
    pub max_unmap_descriptors: u32,
    /// Most blocks in one COMPARE AND WRITE.
    pub max_compare_blocks: u8,
    /// Most blocks in one WRITE ATOMIC.
    pub max_atomic_blocks: u32,
    /// Best granularity of UNMAP, in blocks.
    pub unmap_granularity_blocks: u32,
}

impl Unit {
    /// The most blocks in one UNMAP; `None` for no limit, which both zero and FFFFFFFFh say.
    #[must_use]
    pub fn deallocation_limit_blocks(&self) -> Option<u64> {
        match self.max_unmap_blocks {
            0 | u32::MAX => None,
            blocks => Some(u64::from(blocks)),
        }
    }
}

/// What an I_T nexus may do: from its attachment, enforced here and not by the client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    ReadWrite,
    ReadOnly,
}
