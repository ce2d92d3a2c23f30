//! Standard INQUIRY data (SPC-5 6.7.2), 96 bytes.
//!
//! ```text
//! 0 qualifier|type  2 version  3 HISUP|format  4 additional length  5 TPGS 3PC  7 CMDQUE
//! 8 T10 vendor (8)  16 product (16)  32 revision (4)  58 version descriptors (8 x 2)
//! ```

use crate::cdb::Cdb;
use crate::commands::View;
use crate::sense::{Response, Sense};
use crate::vpd;

/// T10 vendor identification, eight characters.
pub(crate) const VENDOR: &[u8; 8] = b"COMMHOLD";
/// Product identification, sixteen characters.
pub(crate) const PRODUCT: &[u8; 16] = b"Volume          ";
const REVISION: &str =
    concat!(env!("CARGO_PKG_VERSION_MAJOR"), ".", env!("CARGO_PKG_VERSION_MINOR"));

/// The standards that the unit is built to: SAM-5, SPC-4, SBC-3, iSCSI, no version of each claimed.
const VERSION_DESCRIPTORS: [u16; 4] = [0x00A0, 0x0460, 0x04C0, 0x0960];

const STANDARD_BYTES: usize = 96;
/// Peripheral qualifier 011b and device type 1Fh: no unit can be here (SPC-5 table 147).
const NO_UNIT: u8 = 0x7F;

const EVPD: u8 = 0x01;

/// INQUIRY of a unit that is there.
pub(crate) fn answer(cdb: &Cdb, view: &View<'_>) -> Result<Response, Sense> {
    let (page, allocation_bytes) = asked(cdb)?;
    let data = match page {
        None => standard(0),
        Some(page) => vpd::page(page, view).ok_or(Sense::illegal_field_in_cdb(2))?,
    };
    Ok(Response::good_cut(data, allocation_bytes))
}

/// INQUIRY of a LUN that nothing is mapped to.
pub(crate) fn answer_missing(cdb: &Cdb) -> Result<Response, Sense> {
    let (page, allocation_bytes) = asked(cdb)?;
    let data = match page {
        None => standard(NO_UNIT),
        Some(0x00) => vec![NO_UNIT, 0x00, 0, 1, 0x00],
        Some(_) => return Err(Sense::illegal_field_in_cdb(2)),
    };
    Ok(Response::good_cut(data, allocation_bytes))
}

/// The VPD page asked for, if any, and the allocation length. A page code without EVPD is an error
/// (SPC-5 6.7.1).
fn asked(cdb: &Cdb) -> Result<(Option<u8>, u32), Sense> {
    let allocation_bytes = u32::from(cdb.be16(3));
    match (cdb.has(1, EVPD), cdb.byte(2)) {
        (true, page) => Ok((Some(page), allocation_bytes)),
        (false, 0) => Ok((None, allocation_bytes)),
        (false, _) => Err(Sense::illegal_field_in_cdb(2)),
    }
}

fn standard(qualifier_and_type: u8) -> Vec<u8> {
    let mut data = vec![0; STANDARD_BYTES];
    data[0] = qualifier_and_type;
    // SPC-4, hierarchical addressing of LUNs, response data format 2.
    data[2] = 0x06;
    data[3] = 0x12;
    data[4] = u8::try_from(STANDARD_BYTES - 5).unwrap_or(u8::MAX);
    // TPGS 01b, implicit asymmetric access; 3PC, third-party copy. Protection is not offered.
    data[5] = 0x10 | 0x08;
    // CMDQUE.
    data[7] = 0x02;
    data[8..16].copy_from_slice(VENDOR);
    data[16..32].copy_from_slice(PRODUCT);
    data[32..36].fill(b' ');
    for (place, character) in data[32..36].iter_mut().zip(REVISION.bytes()) {
        *place = character;
    }
    for (place, descriptor) in data[58..74].chunks_exact_mut(2).zip(VERSION_DESCRIPTORS) {
        place.copy_from_slice(&descriptor.to_be_bytes());
    }
    data
}
