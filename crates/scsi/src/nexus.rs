//! Who speaks to what: initiator ports, target ports, I_T nexuses (SAM-5 4.6).

use std::fmt;
use std::sync::Arc;

/// An initiator port's name. For iSCSI `<iqn>,i,0x<12 hex digits of the ISID>` (SPC-5 7.6.4.6),
/// the name in lower case.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InitiatorPort(Arc<str>);

impl InitiatorPort {
    /// The port that an iSCSI initiator name and ISID make (RFC 7143 4.4.1).
    #[must_use]
    pub fn iscsi(name: &str, isid: [u8; 6]) -> Self {
        let mut text = name.to_ascii_lowercase();
        text.push_str(",i,0x");
        for byte in isid {
            text.push_str(&format!("{byte:02x}"));
        }
        Self(text.into())
    }
    /// The whole name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0
    }
    /// The initiator device's part: the IQN.
    #[must_use]
    pub fn device(&self) -> &str {
        self.0.split(",i,0x").next().unwrap_or(&self.0)
    }
    /// The ISID's twelve hex digits; empty for a name without one.
    #[must_use]
    pub fn isid(&self) -> &str {
        self.0.split(",i,0x").nth(1).unwrap_or("")
    }
}

impl fmt::Debug for InitiatorPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Relative target port identifier (SPC-5 3.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct RelativePort(pub u16);

/// Initiator port and target port: the owner of a registration. Not a connection, not a session.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ItNexus {
    pub initiator: InitiatorPort,
    pub target: RelativePort,
}
