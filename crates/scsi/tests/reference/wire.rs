//! PERSISTENT RESERVE commands as bytes, put together by hand from the standard's figures and not
//! with the crate's own codecs.
#![allow(dead_code, reason = "each test file uses its part")]

use scsi::nexus::{InitiatorPort, ItNexus, RelativePort};

pub(crate) const REGISTER: u8 = 0;
pub(crate) const RESERVE: u8 = 1;
pub(crate) const RELEASE: u8 = 2;
pub(crate) const CLEAR: u8 = 3;
pub(crate) const PREEMPT: u8 = 4;
pub(crate) const PREEMPT_AND_ABORT: u8 = 5;
pub(crate) const REGISTER_AND_IGNORE: u8 = 6;
pub(crate) const REGISTER_AND_MOVE: u8 = 7;
pub(crate) const REPLACE_LOST: u8 = 8;

/// Bits of byte 20 of the parameter list.
pub(crate) const APTPL: u8 = 0x01;
pub(crate) const ALL_TG_PT: u8 = 0x04;
pub(crate) const SPEC_I_PT: u8 = 0x08;

/// CDB and parameter list.
pub(crate) type Wire = (Vec<u8>, Vec<u8>);

/// The nexus of `<iqn of this letter>,i,0x<isid>` through a target port.
pub(crate) fn nexus(letter: char, isid: u8, port: u16) -> ItNexus {
    let initiator = InitiatorPort::iscsi(&iqn(letter), [0x80, 0, 0, 0, 0, isid]);
    ItNexus { initiator, target: RelativePort(port) }
}

pub(crate) fn iqn(letter: char) -> String {
    format!("iqn.2026-11.example:host-{letter}")
}

pub(crate) fn cdb(action: u8, scope_and_type: u8, list: &[u8]) -> Vec<u8> {
    let mut cdb = vec![0x5F, action, scope_and_type, 0, 0];
    cdb.extend(u32::try_from(list.len()).unwrap().to_be_bytes());
    cdb.push(0);
    cdb
}

/// The basic parameter list of 24 bytes.
pub(crate) fn list(key: u64, action_key: u64, bits: u8) -> Vec<u8> {
    let mut list = key.to_be_bytes().to_vec();
    list.extend(action_key.to_be_bytes());
    list.extend([0, 0, 0, 0, bits, 0, 0, 0]);
    list
}

pub(crate) fn out(action: u8, scope_and_type: u8, key: u64, action_key: u64, bits: u8) -> Wire {
    let list = list(key, action_key, bits);
    (cdb(action, scope_and_type, &list), list)
}

/// REGISTER with SPEC_I_PT.
pub(crate) fn out_listed(key: u64, action_key: u64, bits: u8, ids: &[Vec<u8>]) -> Wire {
    let ids = ids.concat();
    let mut list = list(key, action_key, bits | SPEC_I_PT);
    list.extend(u32::try_from(ids.len()).unwrap().to_be_bytes());
    list.extend(ids);
    (cdb(REGISTER, 0, &list), list)
}

/// REGISTER AND MOVE. `bits`: UNREG 02h, APTPL 01h.
pub(crate) fn out_move(key: u64, action_key: u64, bits: u8, port: u16, id: &[u8]) -> Wire {
    let mut list = key.to_be_bytes().to_vec();
    list.extend(action_key.to_be_bytes());
    list.extend([0, bits]);
    list.extend(port.to_be_bytes());
    list.extend(u32::try_from(id.len()).unwrap().to_be_bytes());
    list.extend(id);
    (cdb(REGISTER_AND_MOVE, 0, &list), list)
}

/// TransportID of an iSCSI initiator: format 01b for a name with its ISID, 00b for a bare name.
pub(crate) fn transport_id(name: &str) -> Vec<u8> {
    let format = if name.contains(",i,0x") { 0x45 } else { 0x05 };
    let mut field = name.as_bytes().to_vec();
    field.push(0);
    while field.len() < 20 || !field.len().is_multiple_of(4) {
        field.push(0);
    }
    let mut id = vec![format, 0];
    id.extend(u16::try_from(field.len()).unwrap().to_be_bytes());
    id.extend(field);
    id
}

/// PERSISTENT RESERVE IN with room for anything.
pub(crate) fn cdb_in(action: u8) -> [u8; 10] {
    [0x5E, action, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0]
}
