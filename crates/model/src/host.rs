//! Host: a consumer machine, with its initiator names.

use serde::{Deserialize, Serialize};

use crate::id::{HostId, ProjectId};
use crate::text::Metadata;

/// Most bytes of an iSCSI name (RFC 7143 4.2.7.1).
pub const ISCSI_NAME_BYTES_MAX: usize = 223;
/// Most initiator names, and most addresses, of one host.
pub const HOST_NAMES_MAX: usize = 32;

/// Why a text is not an iSCSI name.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum IscsiNameError {
    #[error("it must have at most {ISCSI_NAME_BYTES_MAX} bytes, and '{0}' has more")]
    TooLong(String),
    #[error("it must start with 'iqn.', 'eui.' or 'naa.', and '{0}' does not")]
    Kind(String),
    #[error("it must be of the form iqn.YYYY-MM.reversed-domain[:anything], and '{0}' is not")]
    Date(String),
    #[error("it must be hexadecimal of the right length after its prefix, and '{0}' is not")]
    Hex(String),
    #[error("it must not hold '{character}', and '{name}' does")]
    Character { name: String, character: char },
}

/// An iSCSI name in its one spelling: trimmed and lower-cased (RFC 7143 4.2.7, RFC 3722).
///
/// # Errors
/// The rule that it breaks.
pub fn iscsi_name(text: &str) -> Result<String, IscsiNameError> {
    let name = text.trim().to_lowercase();
    if name.len() > ISCSI_NAME_BYTES_MAX {
        return Err(IscsiNameError::TooLong(name));
    }
    let allowed = |c: char| match c {
        'a'..='z' | '0'..='9' | '-' | '.' | ':' => true,
        // Beyond ASCII, stringprep decides; letters and digits are what it lets through.
        c => !c.is_ascii() && c.is_alphanumeric(),
    };
    if let Some(character) = name.chars().find(|c| !allowed(*c)) {
        return Err(IscsiNameError::Character { name, character });
    }
    if let Some(rest) = name.strip_prefix("iqn.") {
        return if is_dated_authority(rest) { Ok(name) } else { Err(IscsiNameError::Date(name)) };
    }
    let hex_of = |digits: &str, lengths: &[usize]| {
        lengths.contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit())
    };
    let good = match (name.strip_prefix("eui."), name.strip_prefix("naa.")) {
        (Some(digits), _) => hex_of(digits, &[16]),
        (_, Some(digits)) => hex_of(digits, &[16, 32]),
        _ => return Err(IscsiNameError::Kind(name)),
    };
    if good { Ok(name) } else { Err(IscsiNameError::Hex(name)) }
}

/// `YYYY-MM.` and then at least one character of a domain.
fn is_dated_authority(rest: &str) -> bool {
    let Some((date, authority)) = rest.split_once('.') else { return false };
    let Some((year, month)) = date.split_once('-') else { return false };
    let digits =
        |text: &str, count| text.len() == count && text.bytes().all(|b| b.is_ascii_digit());
    digits(year, 4)
        && digits(month, 2)
        && month.parse::<u8>().is_ok_and(|month| (1..=12).contains(&month))
        && authority.chars().next().is_some_and(char::is_alphanumeric)
}

/// A host. Its name is unique inside its project; an initiator name belongs to one host.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Host {
    pub id: HostId,
    pub project: ProjectId,
    pub name: String,
    /// iSCSI names, lower case.
    pub initiators: Vec<String>,
    /// IP addresses, for people and for network rules.
    pub addresses: Vec<std::net::IpAddr>,
    pub metadata: Metadata,
    /// Milliseconds since the Unix epoch.
    pub created_ms: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_lower_cased_and_checked() {
        assert_eq!(
            iscsi_name(" IQN.1993-08.org.Debian:01:AbC "),
            Ok("iqn.1993-08.org.debian:01:abc".to_owned())
        );
        assert_eq!(iscsi_name("eui.02004567A425678D"), Ok("eui.02004567a425678d".to_owned()));
        assert!(matches!(iscsi_name("eui.02"), Err(IscsiNameError::Hex(_))));
        assert!(matches!(iscsi_name("host1"), Err(IscsiNameError::Kind(_))));
        assert!(matches!(iscsi_name(""), Err(IscsiNameError::Kind(_))));
        assert!(matches!(iscsi_name("iqn.1993-13.org.debian"), Err(IscsiNameError::Date(_))));
        assert!(matches!(iscsi_name("iqn.1993-08"), Err(IscsiNameError::Date(_))));
        assert!(matches!(
            iscsi_name("iqn.1993-08.org.debian:a b"),
            Err(IscsiNameError::Character { character: ' ', .. })
        ));
        let long = format!("iqn.1993-08.org.debian:{}", "a".repeat(223));
        assert!(matches!(iscsi_name(&long), Err(IscsiNameError::TooLong(_))));
    }
}
