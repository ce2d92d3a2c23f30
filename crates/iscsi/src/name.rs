//! iSCSI names (RFC 7143 4.2.7): what may stand in InitiatorName and TargetName.

/// The longest name, in bytes (RFC 7143 4.2.7.1).
pub const NAME_BYTES_MAX: usize = 223;

/// The name in its one normal form, lower case, or why it is none.
///
/// # Errors
/// A sentence that says what is wrong with the name.
pub fn normalize(name: &str) -> Result<String, &'static str> {
    let name = name.to_lowercase();
    // Some letters are longer in lower case: what counts is the form that others will store.
    if name.len() > NAME_BYTES_MAX {
        return Err("the name is longer than 223 bytes");
    }
    // The underscore is not in the standard's set, but hosts are named with it and it harms
    // nothing; a comma or a space would break the SCSI port names that are built from the name.
    if !name.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '.' | ':' | '_')) {
        return Err("the name has a character other than letters, digits, '-', '.' and ':'");
    }
    let form = match name.split_once('.') {
        Some(("iqn", rest)) => is_qualified(rest),
        Some(("eui", rest)) => is_hex(rest, &[16]),
        Some(("naa", rest)) => is_hex(rest, &[16, 32]),
        _ => return Err("the name starts with none of iqn., eui. and naa."),
    };
    if form { Ok(name) } else { Err("the name does not have the form that its type demands") }
}

/// `yyyy-mm.` and a naming authority.
fn is_qualified(rest: &str) -> bool {
    let bytes = rest.as_bytes();
    bytes.len() > 8
        && bytes.iter().take(8).enumerate().all(|(at, byte)| match at {
            4 => *byte == b'-',
            7 => *byte == b'.',
            _ => byte.is_ascii_digit(),
        })
}

fn is_hex(rest: &str, lengths: &[usize]) -> bool {
    lengths.contains(&rest.len()) && rest.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::normalize;

    #[test]
    fn names_of_all_three_types() {
        for (name, normal) in [
            ("iqn.2026-11.io.Commonhold:Host-1", "iqn.2026-11.io.commonhold:host-1"),
            ("eui.02004567A425678D", "eui.02004567a425678d"),
            ("naa.52004567BA64678D", "naa.52004567ba64678d"),
            ("naa.62004567BA64678D0123456789ABCDEF", "naa.62004567ba64678d0123456789abcdef"),
        ] {
            assert_eq!(normalize(name).as_deref(), Ok(normal));
        }
    }

    #[test]
    fn what_is_no_name() {
        let long = format!("iqn.2026-11.io.{}", "a".repeat(223));
        // 215 bytes that take 315 in lower case.
        let longer = format!("iqn.2026-11.io.{}", "\u{23a}".repeat(100));
        for name in [
            "",
            "iqn",
            "iqn.",
            "iqn.2026-11.",
            "iqn.26-11.io.x",
            "eui.1234",
            "naa.xyz",
            "host",
            "iqn.2026-11.io.x,i,0x00",
            "iqn.2026-11.io.x y",
            "eui.02004567a425678g",
            &long,
            &longer,
        ] {
            assert!(normalize(name).is_err(), "{name}");
        }
    }
}
