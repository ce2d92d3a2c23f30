//! Vital product data pages (SPC-5 7.7, SBC-4 6.6): who the unit is and what it can do.
//!
//! ```text
//! 0 device type  1 page code  2 page length (2)  4 ...
//! ```

use crate::commands::View;
use crate::copy;
use crate::inquiry::{PRODUCT, VENDOR};
use crate::nexus::RelativePort;
use crate::report::TARGET_PORT_GROUP;
use crate::unit::Unit;

type Writer = fn(&View<'_>) -> Vec<u8>;

/// The pages, in ascending order as page 00h lists them.
const PAGES: [(u8, Writer); 8] = [
    (0x00, supported_pages),
    (0x80, serial_number),
    (0x83, device_identification),
    (0x86, extended_inquiry),
    (0x8F, copy::page),
    (0xB0, block_limits),
    (0xB1, block_device_characteristics),
    (0xB2, block_provisioning),
];

/// The page with its header; `None` where there is no such page.
pub(crate) fn page(code: u8, view: &View<'_>) -> Option<Vec<u8>> {
    let (_, write) = PAGES.iter().find(|(page, _)| *page == code)?;
    let body = write(view);
    let mut data = vec![0, code];
    data.extend_from_slice(&u16::try_from(body.len()).unwrap_or(u16::MAX).to_be_bytes());
    data.extend_from_slice(&body);
    Some(data)
}

fn supported_pages(_: &View<'_>) -> Vec<u8> {
    PAGES.iter().map(|(code, _)| *code).collect()
}

fn serial_number(view: &View<'_>) -> Vec<u8> {
    view.unit.serial.clone().into_bytes()
}

/// Bytes 64 long, as pages 86h, B0h and B1h are, counted with the header as the standards count.
struct Page([u8; 64]);

impl Page {
    const fn new() -> Self {
        Self([0; 64])
    }
    fn set(&mut self, at: usize, field: &[u8]) {
        self.0[at..at + field.len()].copy_from_slice(field);
    }
    fn body(self) -> Vec<u8> {
        self.0[4..].to_vec()
    }
}

const BINARY: u8 = 0x1;
const ASCII: u8 = 0x2;
const UTF_8: u8 = 0x3;
/// Protocol identifier 5h, iSCSI.
const ISCSI: u8 = 0x5;

/// What a designator names.
#[derive(Clone, Copy)]
enum Association {
    LogicalUnit = 0x00,
    TargetPort = 0x10,
    TargetDevice = 0x20,
}

const T10_VENDOR: u8 = 0x1;
const NAA: u8 = 0x3;
const RELATIVE_TARGET_PORT: u8 = 0x4;
const TARGET_PORT_GROUP_TYPE: u8 = 0x5;
const SCSI_NAME: u8 = 0x8;

/// One designation descriptor (SPC-5 7.7.6.1). Only those of ports and devices carry a protocol.
fn designate(data: &mut Vec<u8>, code_set: u8, association: Association, kind: u8, name: &[u8]) {
    let (protocol, valid) = match association {
        Association::LogicalUnit => (0, 0),
        Association::TargetPort | Association::TargetDevice => (ISCSI << 4, 0x80),
    };
    let length = u8::try_from(name.len()).unwrap_or(u8::MAX);
    data.extend_from_slice(&[protocol | code_set, valid | association as u8 | kind, 0, length]);
    data.extend_from_slice(&name[..usize::from(length)]);
}

/// A SCSI name string: closed by a zero and filled up to a multiple of four (SPC-5 7.7.6.11).
fn name_string(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.push(0);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn device_identification(view: &View<'_>) -> Vec<u8> {
    let unit = view.unit;
    let port = view.nexus.target;
    let vendor_name = [&VENDOR[..], &PRODUCT[..], unit.serial.as_bytes()].concat();
    let port_name = format!("{},t,0x{:04x}", unit.target_name, group_tag(unit, port));
    let [high, low] = port.0.to_be_bytes();
    let [group_high, group_low] = TARGET_PORT_GROUP.to_be_bytes();
    let mut data = Vec::with_capacity(256);
    designate(&mut data, BINARY, Association::LogicalUnit, NAA, &unit.naa);
    designate(&mut data, ASCII, Association::LogicalUnit, T10_VENDOR, &vendor_name);
    designate(&mut data, BINARY, Association::TargetPort, RELATIVE_TARGET_PORT, &[0, 0, high, low]);
    let group = [0, 0, group_high, group_low];
    designate(&mut data, BINARY, Association::TargetPort, TARGET_PORT_GROUP_TYPE, &group);
    designate(&mut data, UTF_8, Association::TargetPort, SCSI_NAME, &name_string(&port_name));
    let device = name_string(&unit.target_name);
    designate(&mut data, UTF_8, Association::TargetDevice, SCSI_NAME, &device);
    data
}

/// The iSCSI portal group tag of a port, which is part of its name (RFC 7143 4.4.1). A nexus always
/// comes through one of the unit's ports; the tag of a port that went since is its number.
fn group_tag(unit: &Unit, port: RelativePort) -> u16 {
    let place = unit.ports.iter().position(|known| *known == port);
    place.and_then(|place| unit.port_groups.get(place)).copied().unwrap_or(port.0)
}

fn extended_inquiry(view: &View<'_>) -> Vec<u8> {
    let mut page = Page::new();
    // SIMPSUP: tasks may be simple; V_SUP: there is a volatile cache.
    page.set(5, &[0x01, u8::from(view.unit.write_cache)]);
    page.body()
}

/// Block limits. Zero means not limited, or for the deallocation limits not offered.
fn block_limits(view: &View<'_>) -> Vec<u8> {
    let unit = view.unit;
    let mut page = Page::new();
    // WSNZ is 0: WRITE SAME of zero blocks goes to the end, within its limit.
    page.set(5, &[unit.max_compare_blocks]);
    let physical_blocks = 1_u16.checked_shl(u32::from(unit.physical_exponent)).unwrap_or(1);
    page.set(6, &physical_blocks.to_be_bytes());
    page.set(8, &unit.max_transfer_blocks.to_be_bytes());
    if unit.thin {
        let unmap_blocks =
            unit.deallocation_limit_blocks().map_or(u32::MAX, |_| unit.max_unmap_blocks);
        page.set(20, &unmap_blocks.to_be_bytes());
        page.set(24, &unit.max_unmap_descriptors.to_be_bytes());
        page.set(28, &unit.unmap_granularity_blocks.to_be_bytes());
        // UGAVALID, with an alignment of zero.
        page.set(32, &0x8000_0000_u32.to_be_bytes());
    }
    page.set(36, &u64::from(unit.max_write_same_blocks).to_be_bytes());
    // Of any alignment and granularity, without atomic boundaries.
    page.set(44, &unit.max_atomic_blocks.to_be_bytes());
    page.body()
}

fn block_device_characteristics(view: &View<'_>) -> Vec<u8> {
    let mut page = Page::new();
    // Non-rotating: neighbouring blocks of a volume need not be neighbours on what lies below, so
    // an initiator gains nothing by sorting its requests for an arm.
    page.set(4, &1_u16.to_be_bytes());
    // WABEREQ 01b: blocks that BLOCK ERASE erased are read without error.
    page.set(7, &[u8::from(view.unit.thin) << 6]);
    page.body()
}

/// Logical block provisioning: no threshold, and deallocated blocks read as zeros.
fn block_provisioning(view: &View<'_>) -> Vec<u8> {
    if !view.unit.thin {
        return vec![0, 0, 0, 0];
    }
    // LBPU, LBPWS, LBPWS10 and LBPRZ 001b; PROVISIONING TYPE 2, thin.
    vec![0, 0x80 | 0x40 | 0x20 | 0x04, 0x02, 0]
}
