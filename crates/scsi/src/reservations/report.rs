//! PERSISTENT RESERVE IN (SPC-5 6.15). Length fields tell the full size; the allocation length only
//! cuts what is sent.

use super::change::{Refusal, invalid_cdb_field};
use super::{Reservations, information_lost};
use crate::sense::{Response, Status};
use crate::transport_id::TransportId;

/// REPORT CAPABILITIES, byte 2: RLR_C (replace lost), CRH, SIP_C (SPEC_I_PT), ATP_C (ALL_TG_PT),
/// PTPL_C (APTPL).
const CAPABLE: u8 = 0x80 | 0x10 | 0x08 | 0x04 | 0x01;
/// Byte 3: TMV (the type mask is valid), ALLOW COMMANDS 011b (TEST UNIT READY passes every type,
/// MODE SENSE and its like pass Write Exclusive); bit 0 is PTPL_A.
const ALLOWS: u8 = 0x80 | 0x30;
/// Bytes 4 and 5: all six types.
const TYPE_MASK: [u8; 2] = [0xEA, 0x01];
/// READ FULL STATUS, byte 12 of a descriptor.
const ALL_TG_PT: u8 = 0x02;
const R_HOLDER: u8 = 0x01;

impl Reservations {
    /// PERSISTENT RESERVE IN, all four service actions.
    ///
    /// Ends with RESERVATION CONFLICT while an SPC-2 reservation is held, whoever asks, and with
    /// 44h/01h while reservations are lost (REPORT CAPABILITIES still answers).
    #[must_use]
    pub fn persistent_in(&self, cdb: &[u8]) -> Response {
        let Some(&[_, action, .., a1, a0, _]) = cdb.first_chunk::<10>() else {
            return Refusal::Check(invalid_cdb_field(0)).response();
        };
        if self.0.legacy.is_some() {
            return Refusal::Conflict.response();
        }
        let mut data = match action & 0x1F {
            0x00..=0x03 if self.0.lost && action & 0x1F != 0x02 => {
                return Refusal::Check(information_lost()).response();
            }
            0x00 => self.keys(),
            0x01 => self.reservation_data(),
            0x02 => self.capabilities(),
            0x03 => self.full_status(),
            _ => return Refusal::Check(invalid_cdb_field(1)).response(),
        };
        data.truncate(usize::from(u16::from_be_bytes([a1, a0])));
        Response { status: Status::Good, sense: None, data: data.into() }
    }

    /// PRGENERATION, ADDITIONAL LENGTH, and what the length counts.
    fn with_header(&self, body: &[u8]) -> Vec<u8> {
        let mut data = Vec::with_capacity(8 + body.len());
        data.extend(self.0.generation.to_be_bytes());
        data.extend(u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes());
        data.extend(body);
        data
    }

    /// READ KEYS: one key per registration, equal ones as often as they are registered.
    fn keys(&self) -> Vec<u8> {
        let keys = self.0.registrations.iter().flat_map(|one| one.key.to_be_bytes());
        self.with_header(&keys.collect::<Vec<_>>())
    }

    /// READ RESERVATION: key 0 where all registrants hold it.
    fn reservation_data(&self) -> Vec<u8> {
        let Some(held) = &self.0.reservation else { return self.with_header(&[]) };
        let key = held.holder.as_ref().and_then(|holder| self.0.key_of(holder)).unwrap_or(0);
        let mut body = [0; 16];
        body[..8].copy_from_slice(&key.to_be_bytes());
        body[13] = held.kind.code();
        self.with_header(&body)
    }

    fn capabilities(&self) -> Vec<u8> {
        let [mask_high, mask_low] = TYPE_MASK;
        let ptpl_active = u8::from(self.0.aptpl);
        vec![0, 8, CAPABLE, ALLOWS | ptpl_active, mask_high, mask_low, 0, 0]
    }

    /// READ FULL STATUS: one descriptor per registration.
    fn full_status(&self) -> Vec<u8> {
        let mut body = Vec::new();
        for one in &self.0.registrations {
            let held = self.0.reservation.as_ref().filter(|_| self.0.is_holder(&one.nexus));
            let everywhere = if one.all_target_ports { ALL_TG_PT } else { 0 };
            let holds = if held.is_some() { R_HOLDER } else { 0 };
            let id = TransportId::Port(one.nexus.initiator.clone()).encode();
            body.extend(one.key.to_be_bytes());
            body.extend([0; 4]);
            body.extend([everywhere | holds, held.map_or(0, |held| held.kind.code())]);
            body.extend([0; 4]);
            body.extend(one.nexus.target.0.to_be_bytes());
            body.extend(u32::try_from(id.len()).unwrap_or(u32::MAX).to_be_bytes());
            body.extend(id);
        }
        self.with_header(&body)
    }
}
