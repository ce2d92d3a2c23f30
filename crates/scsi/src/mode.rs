//! Mode pages (SPC-5 7.5, SBC-4 6.5): MODE SENSE tells the truth, MODE SELECT changes the three
//! bits that may change.
//!
//! ```text
//! header(6): 0 length  1 medium type  2 WP DPOFUA  3 block descriptor length
//! header(10): 0 length (2)  2 medium type  3 WP DPOFUA  4 LONGLBA  6 block descriptor length (2)
//! then a block descriptor (none, 8 or 16 bytes), then pages: 0 page code  1 length  2 ...
//! ```

use crate::cdb::Cdb;
use crate::commands::View;
use crate::sense::{Asc, Response, Sense};
use crate::unit::{Access, Unit};

const RETURN_ALL_PAGES: u8 = 0x3F;
const RETURN_ALL_SUBPAGES: u8 = 0xFF;

/// Which values of a page are wanted: the PC field.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Values {
    Current,
    /// A one for each bit that MODE SELECT may change.
    Changeable,
    Default,
}

type Fill = fn(&mut [u8], Values, &Unit);

/// A page: its code, its length with the two bytes of its header, and what it says.
struct Page {
    code: u8,
    bytes: usize,
    fill: Fill,
}

const CACHING: u8 = 0x08;
const CONTROL: u8 = 0x0A;

/// The pages in ascending order. None has subpages and none can be saved.
const PAGES: [Page; 5] = [
    Page { code: 0x01, bytes: 12, fill: nothing_to_say },
    Page { code: 0x02, bytes: 16, fill: nothing_to_say },
    Page { code: CACHING, bytes: 20, fill: caching },
    Page { code: CONTROL, bytes: 12, fill: control },
    Page { code: 0x1C, bytes: 12, fill: informational_exceptions },
];

/// Read-write error recovery and disconnect-reconnect: all defaults, nothing can be changed.
fn nothing_to_say(_: &mut [u8], _: Values, _: &Unit) {}

/// WCE says whether there is a volatile cache; it cannot be switched from here.
fn caching(page: &mut [u8], values: Values, unit: &Unit) {
    if values != Values::Changeable && unit.write_cache {
        page[2] = 0x04;
    }
}

const D_SENSE: (usize, u8) = (2, 0x04);
const SWP: (usize, u8) = (4, 0x08);
const TAS: (usize, u8) = (5, 0x40);

fn control(page: &mut [u8], values: Values, unit: &Unit) {
    let bits = match values {
        Values::Current => {
            [unit.descriptor_sense, unit.software_write_protect, unit.task_aborted_status]
        }
        Values::Changeable => [true; 3],
        Values::Default => [false; 3],
    };
    for ((byte, mask), set) in [D_SENSE, SWP, TAS].into_iter().zip(bits) {
        if set {
            page[byte] |= mask;
        }
    }
    if values != Values::Changeable {
        // QUEUE ALGORITHM MODIFIER 1h: simple tasks are run in any order.
        page[3] = 0x10;
    }
}

/// DEXCPT: no informational exceptions are reported.
fn informational_exceptions(page: &mut [u8], values: Values, _: &Unit) {
    if values != Values::Changeable {
        page[2] = 0x08;
    }
}

impl Page {
    fn write(&self, values: Values, unit: &Unit) -> Vec<u8> {
        let mut page = vec![0; self.bytes];
        page[0] = self.code;
        page[1] = u8::try_from(self.bytes - 2).unwrap_or(u8::MAX);
        (self.fill)(&mut page, values, unit);
        page
    }
}

/// MODE SENSE (6) and (10).
pub(crate) fn sense(cdb: &Cdb, view: &View<'_>) -> Result<Response, Sense> {
    let ten = cdb.byte(0) == 0x5A;
    let values = match cdb.byte(2) >> 6 {
        0 => Values::Current,
        1 => Values::Changeable,
        2 => Values::Default,
        _ => return Err(Sense::illegal(Asc::SAVING_PARAMETERS_NOT_SUPPORTED)),
    };
    let pages = pages(cdb.byte(2) & 0x3F, cdb.byte(3), values, view.unit)?;
    let long_lba = ten && cdb.has(1, 0x10);
    let descriptor = if cdb.has(1, 0x08) { Vec::new() } else { descriptor(view.unit, long_lba) };
    let rest = [descriptor.clone(), pages].concat();
    let specific = device_specific(view);
    let (data, allocation_bytes) = if ten {
        let length = u16::try_from(rest.len() + 6).unwrap_or(u16::MAX).to_be_bytes();
        let descriptor = u16::try_from(descriptor.len()).unwrap_or(u16::MAX).to_be_bytes();
        let long = u8::from(long_lba);
        let header = [length[0], length[1], 0, specific, long, 0, descriptor[0], descriptor[1]];
        ([&header[..], &rest].concat(), u32::from(cdb.be16(7)))
    } else {
        let length = u8::try_from(rest.len() + 3).unwrap_or(u8::MAX);
        let descriptor = u8::try_from(descriptor.len()).unwrap_or(u8::MAX);
        ([&[length, 0, specific, descriptor][..], &rest].concat(), u32::from(cdb.byte(4)))
    };
    Ok(Response::good_cut(data, allocation_bytes))
}

fn pages(code: u8, subpage: u8, values: Values, unit: &Unit) -> Result<Vec<u8>, Sense> {
    if subpage != 0 && subpage != RETURN_ALL_SUBPAGES {
        return Err(Sense::illegal_field_in_cdb(3));
    }
    let wanted = |page: &&Page| code == RETURN_ALL_PAGES || page.code == code;
    let data: Vec<u8> =
        PAGES.iter().filter(wanted).flat_map(|page| page.write(values, unit)).collect();
    if data.is_empty() { Err(Sense::illegal_bit_in_cdb(2, 5)) } else { Ok(data) }
}

/// WP for a unit that this nexus cannot write, DPOFUA because DPO and FUA are understood.
fn device_specific(view: &View<'_>) -> u8 {
    let protected = view.access == Access::ReadOnly || view.unit.software_write_protect;
    if protected { 0x80 | 0x10 } else { 0x10 }
}

/// The block descriptor, short or long (SBC-4 6.5.2): number of blocks, all ones when they do not
/// fit the short one, and block length.
fn descriptor(unit: &Unit, long_lba: bool) -> Vec<u8> {
    let block_bytes = unit.block_bytes.to_be_bytes();
    if long_lba {
        return [&unit.blocks.to_be_bytes()[..], &[0; 4], &block_bytes].concat();
    }
    let blocks = u32::try_from(unit.blocks).unwrap_or(u32::MAX).to_be_bytes();
    [&blocks[..], &[0], &block_bytes[1..]].concat()
}

/// A mode parameter list, read from its start: what is left, and at which byte it starts.
struct List<'a> {
    rest: &'a [u8],
    at: usize,
}

impl<'a> List<'a> {
    fn take(&mut self, bytes: usize) -> Result<&'a [u8], Sense> {
        let (taken, rest) =
            self.rest.split_at_checked(bytes).ok_or(Sense::parameter_list_length())?;
        self.rest = rest;
        self.at += bytes;
        Ok(taken)
    }
}

/// The unit's facts after a MODE SELECT (6), or (10) when `ten`. Everything that may not change
/// must be as MODE SENSE tells it. The caller queues 2Ah/01 for the other nexuses when the facts
/// differ.
///
/// # Errors
/// PARAMETER LIST LENGTH ERROR for a list that ends inside a header, descriptor or page; INVALID
/// FIELD IN PARAMETER LIST, pointing at the field, for an unknown page or an unchangeable bit.
pub fn select(list: &[u8], ten: bool, unit: &Unit) -> Result<Unit, Sense> {
    let mut next = unit.clone();
    let mut list = List { rest: list, at: 0 };
    if list.rest.is_empty() {
        return Ok(next);
    }
    check_header(&mut list, ten, unit)?;
    while !list.rest.is_empty() {
        select_page(&mut list, unit, &mut next)?;
    }
    Ok(next)
}

/// The header's length field is reserved here and its device-specific bits are not for the
/// initiator to set: both are ignored. A block descriptor must tell the unit's own format.
fn check_header(list: &mut List<'_>, ten: bool, unit: &Unit) -> Result<(), Sense> {
    let header = list.take(if ten { 8 } else { 4 })?;
    let (medium_at, long_lba, descriptor_at, descriptor_bytes) = if ten {
        (2, header[4] & 0x01 != 0, 6, usize::from(u16::from_be_bytes([header[6], header[7]])))
    } else {
        (1, false, 3, usize::from(header[3]))
    };
    if header[usize::from(medium_at)] != 0 {
        return Err(Sense::illegal_field_in_list(medium_at));
    }
    let expected = descriptor(unit, long_lba);
    if descriptor_bytes == 0 {
        return Ok(());
    }
    if descriptor_bytes != expected.len() {
        return Err(Sense::illegal_field_in_list(descriptor_at));
    }
    let start = list.at;
    let given = list.take(descriptor_bytes)?;
    let count_bytes = if long_lba { 8 } else { 4 };
    let (count, rest) = given.split_at(count_bytes);
    // Zero and all ones both mean: the capacity stays (SBC-4 6.5.2).
    let keeps = count.iter().all(|byte| *byte == 0) || count.iter().all(|byte| *byte == 0xFF);
    if !keeps && count != &expected[..count_bytes] {
        return Err(Sense::illegal_field_in_list(byte_number(start)));
    }
    if rest != &expected[count_bytes..] {
        return Err(Sense::illegal_field_in_list(byte_number(start + count_bytes)));
    }
    Ok(())
}

fn select_page(list: &mut List<'_>, unit: &Unit, next: &mut Unit) -> Result<(), Sense> {
    let start = list.at;
    let at = |offset: usize| byte_number(start + offset);
    let &[head, length, ..] = list.rest else { return Err(Sense::parameter_list_length()) };
    // PS is reserved in a MODE SELECT; a subpage format would be a page that is not here.
    let known = PAGES.iter().find(|page| head & 0x40 == 0 && page.code == head & 0x3F);
    let page = known.ok_or(Sense::illegal_bit_in_list(at(0), 5))?;
    if usize::from(length) != page.bytes - 2 {
        return Err(Sense::illegal_field_in_list(at(1)));
    }
    let given = list.take(page.bytes)?;
    let current = page.write(Values::Current, unit);
    let changeable = page.write(Values::Changeable, unit);
    for offset in 2..page.bytes {
        let wrong = (given[offset] ^ current[offset]) & !changeable[offset];
        if wrong != 0 {
            let bit = u8::try_from(wrong.ilog2()).unwrap_or(7);
            return Err(Sense::illegal_bit_in_list(at(offset), bit));
        }
    }
    if page.code == CONTROL {
        let set = |(byte, mask): (usize, u8)| given[byte] & mask != 0;
        next.descriptor_sense = set(D_SENSE);
        next.software_write_protect = set(SWP);
        next.task_aborted_status = set(TAS);
    }
    Ok(())
}

fn byte_number(at: usize) -> u16 {
    u16::try_from(at).unwrap_or(u16::MAX)
}
