//! Persistent reservations of a volume, as SPC names them.

use model::id::HostId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Reservation state of a volume.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Reservations {
    /// PRGENERATION.
    pub generation: u32,
    /// For example `Write Exclusive - Registrants Only`; absent when nothing is reserved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reservation_type: Option<String>,
    /// SPC's code of the type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub type_code: Option<u8>,
    /// APTPL.
    pub persist_through_power_loss: bool,
    /// The state was lost and must be replaced by a host or cleared by the operator.
    pub lost: bool,
    pub registrants: Vec<Registrant>,
    /// Newest first.
    pub history: Vec<ReservationChange>,
}

/// One registered I_T nexus.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct Registrant {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Uuid>)]
    pub host_id: Option<HostId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_name: Option<String>,
    pub iqn: String,
    /// Twelve hex digits.
    pub isid: String,
    /// The reservation key: `0x` and sixteen hex digits, because JSON numbers lose such bits.
    #[schema(example = "0x00000000deadbeef")]
    pub key: String,
    pub holder: bool,
    /// Milliseconds since this nexus sent a command; absent when it sent none since the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_command_age_ms: Option<u64>,
    /// Is it logged in now?
    pub session: bool,
}

/// One change of reservation state.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, ToSchema)]
pub struct ReservationChange {
    pub at: jiff::Timestamp,
    /// The SPC word (register, reserve, preempt, ...), or `operator clear`, `detach`, `fence`.
    pub action: String,
    /// Who did it.
    pub by: String,
    /// What changed, as a sentence.
    pub what: String,
}

impl From<model::order::ReservationView> for Reservations {
    fn from(view: model::order::ReservationView) -> Self {
        Self {
            generation: view.generation,
            reservation_type: view.reservation_type,
            type_code: view.type_code,
            persist_through_power_loss: view.persist_through_power_loss,
            lost: view.lost,
            registrants: view.registrants.into_iter().map(Into::into).collect(),
            history: view.history.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<model::order::RegistrantView> for Registrant {
    fn from(view: model::order::RegistrantView) -> Self {
        Self {
            host_id: view.host,
            host_name: view.host_name,
            iqn: view.iqn,
            isid: view.isid,
            key: format!("{:#018x}", view.key),
            holder: view.holder,
            last_command_age_ms: view.last_command_age_ms,
            session: view.session,
        }
    }
}

impl From<model::order::ReservationChange> for ReservationChange {
    fn from(change: model::order::ReservationChange) -> Self {
        Self {
            at: crate::timestamp_ms(change.at_ms),
            action: change.action,
            by: change.by,
            what: change.what,
        }
    }
}
