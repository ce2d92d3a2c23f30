//! The table of keys (RFC 7143 13; RFC 7144 for the last two).

use super::{Offer, Parameters};

/// How a key is negotiated (RFC 7143 6.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Yes only where both say Yes.
    And,
    /// Yes where either says Yes.
    Or,
    /// The smaller number, within the range.
    Minimum(u32, u32),
    /// The greater number, within the range.
    Maximum(u32, u32),
    /// The first of the originator's list that the responder supports.
    List,
    /// A number that one side declares for itself, within the range.
    Declared(u32, u32),
    /// A text that one side declares for itself; needs no answer.
    Said,
    /// Only the answer Reject is allowed.
    Obsolete,
}

/// When a key may be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum When {
    /// In the security stage only.
    Security,
    /// In the operational stage only.
    Operational,
    /// In the operational stage and in the full feature phase.
    OperationalAndLater,
    /// In either stage of the login, in its first request.
    First,
    /// At any time.
    Always,
    /// In the full feature phase only.
    Later,
}

/// One side's position on a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Position {
    Flag(bool),
    Number(u32),
    List(&'static [&'static str]),
    /// The key is not ours to offer.
    Silent,
}

/// What was agreed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Agreed {
    Flag(bool),
    Number(u32),
    Choice(&'static str),
}

impl std::fmt::Display for Agreed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Flag(true) => f.write_str("Yes"),
            Self::Flag(false) => f.write_str("No"),
            Self::Number(number) => write!(f, "{number}"),
            Self::Choice(choice) => f.write_str(choice),
        }
    }
}

/// One key.
pub struct Row {
    pub key: &'static str,
    pub kind: Kind,
    pub when: When,
    /// False: answered Irrelevant in a discovery session.
    pub in_discovery: bool,
    pub ours: fn(&Offer) -> Position,
    pub set: fn(&mut Parameters, Agreed),
}

const SEGMENT: (u32, u32) = (512, (1 << 24) - 1);

fn silent(_: &Offer) -> Position {
    Position::Silent
}
fn ignore(_: &mut Parameters, _: Agreed) {}

const fn said(key: &'static str, when: When) -> Row {
    Row { key, kind: Kind::Said, when, in_discovery: true, ours: silent, set: ignore }
}

macro_rules! row {
    ($key:literal, $kind:expr, $discovery:literal, $ours:expr, $shape:ident => $field:ident) => {
        Row {
            key: $key,
            kind: $kind,
            when: When::Operational,
            in_discovery: $discovery,
            ours: $ours,
            set: |parameters, agreed| {
                if let Agreed::$shape(value) = agreed {
                    parameters.$field = value;
                }
            },
        }
    };
}

/// Every key that we know. Any other is answered NotUnderstood.
pub const ROWS: &[Row] = &[
    said("InitiatorName", When::First),
    said("TargetName", When::First),
    said("SessionType", When::First),
    said("InitiatorAlias", When::Always),
    said("TargetAlias", When::Always),
    said("TargetAddress", When::Always),
    said("TargetPortalGroupTag", When::First),
    said("SendTargets", When::Later),
    Row {
        key: "AuthMethod",
        kind: Kind::List,
        when: When::Security,
        in_discovery: true,
        ours: silent,
        set: ignore,
    },
    row!("HeaderDigest", Kind::List, true, |o| Position::List(o.header_digest), Choice => header_digest),
    row!("DataDigest", Kind::List, true, |o| Position::List(o.data_digest), Choice => data_digest),
    Row {
        key: "MaxRecvDataSegmentLength",
        kind: Kind::Declared(SEGMENT.0, SEGMENT.1),
        when: When::OperationalAndLater,
        in_discovery: true,
        ours: |o| Position::Number(o.max_recv_bytes),
        set: |parameters, agreed| {
            if let Agreed::Number(bytes) = agreed {
                parameters.peer_max_recv_bytes = bytes;
            }
        },
    },
    row!("MaxConnections", Kind::Minimum(1, 65535), false, |_| Position::Number(1), Number => max_connections),
    row!("InitialR2T", Kind::Or, false, |o| Position::Flag(o.initial_r2t), Flag => initial_r2t),
    row!("ImmediateData", Kind::And, false, |o| Position::Flag(o.immediate_data), Flag => immediate_data),
    row!("MaxBurstLength", Kind::Minimum(SEGMENT.0, SEGMENT.1), false, |o| Position::Number(o.max_burst_bytes), Number => max_burst_bytes),
    row!("FirstBurstLength", Kind::Minimum(SEGMENT.0, SEGMENT.1), false, |o| Position::Number(o.first_burst_bytes), Number => first_burst_bytes),
    row!("MaxOutstandingR2T", Kind::Minimum(1, 65535), false, |o| Position::Number(u32::from(o.max_outstanding_r2t)), Number => max_outstanding_r2t),
    row!("DefaultTime2Wait", Kind::Maximum(0, 3600), true, |o| Position::Number(u32::from(o.time2wait_s)), Number => time2wait_s),
    row!("DefaultTime2Retain", Kind::Minimum(0, 3600), true, |o| Position::Number(u32::from(o.time2retain_s)), Number => time2retain_s),
    row!("DataPDUInOrder", Kind::Or, false, |_| Position::Flag(true), Flag => data_pdu_in_order),
    row!("DataSequenceInOrder", Kind::Or, false, |_| Position::Flag(true), Flag => data_sequence_in_order),
    row!("ErrorRecoveryLevel", Kind::Minimum(0, 2), true, |_| Position::Number(0), Number => recovery_level),
    // The marker keys are obsolete; answering No is allowed and understood by older initiators.
    Row {
        key: "IFMarker",
        kind: Kind::And,
        when: When::Operational,
        in_discovery: true,
        ours: |_| Position::Flag(false),
        set: ignore,
    },
    Row {
        key: "OFMarker",
        kind: Kind::And,
        when: When::Operational,
        in_discovery: true,
        ours: |_| Position::Flag(false),
        set: ignore,
    },
    Row {
        key: "IFMarkInt",
        kind: Kind::Obsolete,
        when: When::Operational,
        in_discovery: true,
        ours: silent,
        set: ignore,
    },
    Row {
        key: "OFMarkInt",
        kind: Kind::Obsolete,
        when: When::Operational,
        in_discovery: true,
        ours: silent,
        set: ignore,
    },
    Row {
        key: "iSCSIProtocolLevel",
        kind: Kind::Minimum(0, 31),
        when: When::Operational,
        in_discovery: false,
        ours: |_| Position::Number(1),
        set: ignore,
    },
    Row {
        key: "TaskReporting",
        kind: Kind::List,
        when: When::Operational,
        in_discovery: false,
        ours: |_| Position::List(&["RFC3720"]),
        set: ignore,
    },
];

/// The row of a key and its place in the table.
#[must_use]
pub fn find(key: &str) -> Option<(usize, &'static Row)> {
    ROWS.iter().enumerate().find(|(_, row)| row.key == key)
}

/// What our position and the other side's value agree on. None: the value is refused.
#[must_use]
pub fn agree(kind: Kind, ours: Position, theirs: &str) -> Option<Agreed> {
    let flag = match theirs {
        "Yes" => Some(true),
        "No" => Some(false),
        _ => None,
    };
    let within = |low, high| super::text::number(theirs).filter(|n| (low..=high).contains(n));
    Some(match (kind, ours) {
        (Kind::And, Position::Flag(ours)) => Agreed::Flag(flag? && ours),
        (Kind::Or, Position::Flag(ours)) => Agreed::Flag(flag? || ours),
        (Kind::Minimum(low, high), Position::Number(ours)) => {
            Agreed::Number(within(low, high)?.min(ours))
        }
        (Kind::Maximum(low, high), Position::Number(ours)) => {
            Agreed::Number(within(low, high)?.max(ours))
        }
        (Kind::Declared(low, high), _) => Agreed::Number(within(low, high)?),
        (Kind::List, Position::List(ours)) => Agreed::Choice(
            theirs.split(',').find_map(|choice| ours.iter().find(|our| **our == choice))?,
        ),
        _ => return None,
    })
}
