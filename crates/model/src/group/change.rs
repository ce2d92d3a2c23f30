//! Changes of a group's policy: what is given is changed, the rest stays.

use std::net::IpAddr;

use serde::{Deserialize, Deserializer, Serialize};

use super::{OnFailure, Policy, Reservation, RestartLimit};

/// What is to change of a policy.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PolicyChange {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failback: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<OnFailure>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart: Option<RestartChange>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reservation: Option<Reservation>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub takeover_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub freeze_ms: Option<u64>,
    /// `Some(None)`, a null in JSON: without a witness from now on.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    pub witness: Option<Option<IpAddr>>,
}

/// What is to change of the limit of restarts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RestartChange {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within_ms: Option<u64>,
}

/// A field that is there, be it null.
fn given<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Option<IpAddr>>, D::Error> {
    Option::deserialize(from).map(Some)
}

impl PolicyChange {
    /// The policy that it makes of this one.
    #[must_use]
    pub fn of(&self, policy: &Policy) -> Policy {
        let restart = self.restart.unwrap_or_default();
        Policy {
            failback: self.failback.unwrap_or(policy.failback),
            on_failure: self.on_failure.unwrap_or(policy.on_failure),
            restart: RestartLimit {
                count: restart.count.unwrap_or(policy.restart.count),
                within_ms: restart.within_ms.unwrap_or(policy.restart.within_ms),
            },
            reservation: self.reservation.unwrap_or(policy.reservation),
            takeover_ms: self.takeover_ms.unwrap_or(policy.takeover_ms),
            freeze_ms: self.freeze_ms.unwrap_or(policy.freeze_ms),
            witness: self.witness.unwrap_or(policy.witness),
        }
    }
}

impl Policy {
    /// Do both keep an owner and its challengers apart in the same way? What is different here
    /// must not change while one of them may still go by the other.
    #[must_use]
    pub fn contends_like(&self, other: &Self) -> bool {
        let terms = |policy: &Self| (policy.reservation, policy.takeover_ms, policy.freeze_ms);
        terms(self) == terms(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_given_stays_and_a_null_takes_the_witness_away() {
        let of = |text: &str| serde_json::from_str::<PolicyChange>(text).unwrap();
        let before = Policy {
            witness: Some("10.0.0.1".parse().unwrap()),
            takeover_ms: 900,
            failback: true,
            ..Policy::default()
        };
        assert_eq!(of("{}").of(&before), before);
        assert_eq!(of("{}"), PolicyChange::default());
        let without = of(r#"{"witness": null}"#);
        assert_eq!(without.of(&before), Policy { witness: None, ..before.clone() });
        let text = serde_json::to_string(&without).unwrap();
        assert_eq!((text.as_str(), of(&text)), (r#"{"witness":null}"#, without));
        let more = of(r#"{"restart": {"count": 9}, "on_failure": "move", "failback": false}"#);
        let after = more.of(&before);
        assert_eq!((after.restart.count, after.restart.within_ms), (9, 600_000));
        assert_eq!((after.failback, after.on_failure), (false, OnFailure::Move));
        assert!(after.contends_like(&before));
        assert!(!of(r#"{"freeze_ms": 300}"#).of(&before).contends_like(&before));
        assert!(serde_json::from_str::<PolicyChange>(r#"{"colour": 1}"#).is_err());
    }
}
