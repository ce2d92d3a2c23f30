//! What SCSI says of a volume: the facts of its logical unit.

use scsi::nexus::RelativePort;
use scsi::unit::Unit;
use store::Volume;

use crate::book::{PORTAL_GROUP, target_name};

/// Logical block length in bytes: 512, which every client and cluster stack knows.
pub const BLOCK_BYTES: u32 = 512;
/// 4 KiB physical blocks: clients align to the page that the store writes.
const PHYSICAL_EXPONENT: u8 = 3;
/// The most that one command moves.
const TRANSFER_MAX_BYTES: u32 = 4 << 20;
/// The most that one WRITE SAME fills.
const WRITE_SAME_MAX_BYTES: u32 = 16 << 20;
/// The most that one WRITE ATOMIC writes: it goes through a record that is twice as long.
const ATOMIC_MAX_BYTES: u32 = 256 << 10;
/// Best granularity of UNMAP: a chunk of the local store.
const UNMAP_GRANULARITY_BYTES: u32 = 64 << 10;
/// The one target port of a node.
pub const TARGET_PORT: RelativePort = RelativePort(1);

/// The facts of a volume's logical unit.
#[must_use]
pub fn facts_of(volume: &Volume) -> Unit {
    let id = volume.id();
    Unit {
        block_bytes: BLOCK_BYTES,
        blocks: (volume.size() / u64::from(BLOCK_BYTES)).max(1),
        physical_exponent: PHYSICAL_EXPONENT,
        serial: id.0.simple().to_string(),
        naa: naa_of(id.0.as_bytes()),
        target_name: target_name(id),
        ports: vec![TARGET_PORT],
        port_groups: vec![PORTAL_GROUP],
        thin: true,
        write_cache: true,
        software_write_protect: false,
        task_aborted_status: false,
        descriptor_sense: false,
        sanitize: scsi::sanitize::State::Idle,
        max_transfer_blocks: TRANSFER_MAX_BYTES / BLOCK_BYTES,
        max_unmap_blocks: u32::MAX,
        max_write_same_blocks: WRITE_SAME_MAX_BYTES / BLOCK_BYTES,
        max_unmap_descriptors: 256,
        max_compare_blocks: 128,
        max_atomic_blocks: ATOMIC_MAX_BYTES / BLOCK_BYTES,
        unmap_granularity_blocks: UNMAP_GRANULARITY_BYTES / BLOCK_BYTES,
    }
}

/// An NAA-6 name (SPC-5 7.8.6.6.5) that follows from the volume's id alone, so that it is the same
/// on every node and after every restart. The 24 bits of the company id are a locally administered
/// value (its second-lowest bit is set): we own no registered one.
fn naa_of(id: &[u8; 16]) -> [u8; 16] {
    const COMPANY: [u8; 3] = [0x02, 0x43, 0x48];
    let mut name = [0; 16];
    name[0] = 0x60 | COMPANY[0] >> 4;
    name[1] = COMPANY[0] << 4 | COMPANY[1] >> 4;
    name[2] = COMPANY[1] << 4 | COMPANY[2] >> 4;
    name[3] = COMPANY[2] << 4 | id[3] & 0x0F;
    // The random part of a version 7 id is at its end, the time at its beginning: both are kept
    // but for the 28 bits that the format has no room for (the time's top and the version).
    name[4..].copy_from_slice(&id[4..]);
    name
}
