//! The registrants page: a log page of our own that tells how old each registrant's last command
//! is, so that who wants to take a volume over can see whether its owner lives.
//!
//! ```text
//! 0 30h  1 subpage 0  2 page length (2)
//! parameter 0000h:  4  PRGENERATION (4)
//! parameter 0001h...: 16  key (8)  age in ms (4)  R_HOLDER (1)  reserved (1)  relative port (2)
//! ```
//!
//! Parameters 0001h and up stand in the order of READ FULL STATUS of the same PRGENERATION. An age
//! of FFFFFFFFh: no command since the target began. Each parameter has the control byte 03h
//! (binary, SPC-5 7.3.2.2.2.5). docs/formats/registrants-page.md says the same for other programs.

use crate::reservations::{Registration, Reservations};

/// Its code, the first of those that SPC-5 leaves to vendors.
pub const PAGE: u8 = 0x30;
/// The bit of a holder of the reservation.
pub const R_HOLDER: u8 = 0x01;
/// FORMAT AND LINKING 11b: a binary list.
const CONTROL: u8 = 0x03;
const NEVER: u32 = u32::MAX;

/// The page's bytes. `age_ms` knows the age of a registrant's last command.
#[must_use]
pub fn page(state: &Reservations, age_ms: impl Fn(&Registration) -> Option<u64>) -> Vec<u8> {
    let mut body = vec![0, 0, CONTROL, 4];
    body.extend(state.generation().to_be_bytes());
    for (number, one) in (1_u16..).zip(state.registrations()) {
        let age = age_ms(one).map_or(NEVER, |age| u32::try_from(age).unwrap_or(NEVER - 1));
        body.extend(number.to_be_bytes());
        body.extend([CONTROL, 16]);
        body.extend(one.key.to_be_bytes());
        body.extend(age.to_be_bytes());
        body.extend([if state.is_holder(&one.nexus) { R_HOLDER } else { 0 }, 0]);
        body.extend(one.nexus.target.0.to_be_bytes());
    }
    let mut data = vec![PAGE, 0];
    data.extend(u16::try_from(body.len()).unwrap_or(u16::MAX).to_be_bytes());
    data.extend(body);
    data
}
