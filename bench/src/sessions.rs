//! Sessions of our own initiator: to fill a volume, to sit idle, to register and to write.

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use host::{Initiator, LogicalUnit, Options};

use crate::load::INITIATORS;
use crate::servers::Address;

/// Bytes of one write when a volume is filled, and how many are in flight.
const FILL_BYTES: usize = 1 << 20;
const FILL_DEPTH: usize = 8;

/// SAM-5 4.7.7.4: peripheral device addressing of a small LUN puts it into the second byte.
pub(crate) fn lun_field(lun: u64) -> u64 {
    lun << 48
}

/// Log in as the port with this number.
pub(crate) async fn log_in(address: &Address, initiator: &str, port: u8) -> Result<LogicalUnit> {
    let Address::Iscsi { portal, target, lun } = address else { bail!("not an iSCSI target") };
    let isid = [0x80, 0, 0, 0, 0, port];
    let options = Options { isid, ..Options::new(initiator, Some(target.clone())) };
    let session = Initiator::connect(portal, options).await.context("login")?;
    Ok(LogicalUnit::open(&session, lun_field(*lun)).await?)
}

/// So many sessions of one host, each from a port of its own.
pub(crate) async fn log_in_many(address: &Address, count: u8) -> Result<Vec<LogicalUnit>> {
    let mut units = Vec::new();
    for port in 1..=count {
        units.push(log_in(address, INITIATORS[1], port).await?);
    }
    Ok(units)
}

/// Write the whole volume, so that reads find bytes and not holes.
pub(crate) async fn fill(address: &Address, volume_bytes: u64) -> Result<()> {
    let unit = log_in(address, INITIATORS[1], 1).await?;
    let blocks = u64::from(u32::try_from(FILL_BYTES)? / unit.block_bytes());
    let mut dice = crate::statistics::Dice(0xF1_77ED);
    let bytes: Bytes =
        (0..FILL_BYTES).map(|_| u8::try_from(dice.below(256)).unwrap_or(0)).collect();
    let pieces = usize::try_from(volume_bytes)? / FILL_BYTES;
    let mut lanes = tokio::task::JoinSet::new();
    for lane in 0..FILL_DEPTH {
        let (unit, bytes) = (unit.clone(), bytes.clone());
        lanes.spawn(async move {
            for piece in (lane..pieces).step_by(FILL_DEPTH) {
                unit.write(piece as u64 * blocks, bytes.clone(), false).await?;
            }
            Ok::<(), host::HostError>(())
        });
    }
    while let Some(ended) = lanes.join_next().await {
        ended??;
    }
    Ok(unit.sync().await?)
}
