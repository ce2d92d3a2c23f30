//! The rules that names, descriptions, classes and metadata obey, at every door.

use std::collections::BTreeMap;

use uuid::Uuid;

/// Free key-value pairs of a resource, sorted by key.
pub type Metadata = BTreeMap<String, String>;

/// Most characters of a name.
pub const NAME_CHARS_MAX: usize = 255;
/// Most characters of a description.
pub const DESCRIPTION_CHARS_MAX: usize = 1000;
/// Most entries of a resource's metadata.
pub const METADATA_ENTRIES_MAX: usize = 64;
/// Most characters of a metadata key.
pub const METADATA_KEY_CHARS_MAX: usize = 255;
/// Most characters of a metadata value.
pub const METADATA_VALUE_CHARS_MAX: usize = 4096;
/// Most characters of a class.
pub const CLASS_CHARS_MAX: usize = 32;

/// Fewest and most characters of a file volume's name.
pub const FILE_VOLUME_NAME_CHARS: std::ops::RangeInclusive<usize> = 2..=256;

/// Why a text is not taken.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TextError {
    /// Nothing but white space.
    #[error("it must not be empty")]
    Empty,
    /// More characters than allowed.
    #[error("it must have at most {max} characters, and has {chars}")]
    TooLong { chars: usize, max: usize },
    /// A control character would spoil tables, logs and terminals.
    #[error("it must hold no control character, and U+{0:04X} is one")]
    ControlCharacter(u32),
    /// A name that reads as an id could never be told from one.
    #[error("it must not read like an id, and '{0}' does")]
    LooksLikeId(String),
    /// In an address, these mean a place and not a name (RFC 3986 5.2.4).
    #[error("it must not mean a place in a path, and '{0}' does")]
    PathStep(String),
    /// A class is a plain word.
    #[error("it must be lower-case letters, digits and hyphens, and '{0}' is not")]
    NotAClass(String),
    /// The names of file volumes and of their snapshots stand in paths.
    #[error(
        "it must be 2 to 256 letters, digits, '_', '.' and '-', with a letter or digit in front, \
         because it stands in paths, and '{0}' is not"
    )]
    NotAFileVolumeName(String),
    /// Too many metadata entries.
    #[error("it must have at most {max} entries, and has {entries}")]
    TooMany { entries: usize, max: usize },
}

fn bounded(text: &str, max: usize, allowed: fn(char) -> bool) -> Result<(), TextError> {
    if let Some(c) = text.chars().find(|c| c.is_control() && !allowed(*c)) {
        return Err(TextError::ControlCharacter(c.into()));
    }
    let chars = text.chars().count();
    if chars > max { Err(TextError::TooLong { chars, max }) } else { Ok(()) }
}

/// A name: trimmed, 1 to 255 characters, no control characters, and not an id, `.` or `..`.
///
/// # Errors
/// The rule that it breaks.
pub fn name(text: &str) -> Result<String, TextError> {
    let trimmed = text.trim();
    if trimmed.is_empty() {
        return Err(TextError::Empty);
    }
    bounded(trimmed, NAME_CHARS_MAX, |_| false)?;
    if matches!(trimmed, "." | "..") {
        return Err(TextError::PathStep(trimmed.to_owned()));
    }
    if Uuid::parse_str(trimmed).is_ok() {
        return Err(TextError::LooksLikeId(trimmed.to_owned()));
    }
    Ok(trimmed.to_owned())
}

/// A file volume's name, which stands in the paths that clients mount:
/// `[A-Za-z0-9][A-Za-z0-9_.-]+`, 2 to 256 characters, and not an id.
///
/// # Errors
/// The rule that it breaks.
pub fn file_volume_name(text: &str) -> Result<String, TextError> {
    let trimmed = text.trim();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let first = trimmed.chars().next();
    let good = FILE_VOLUME_NAME_CHARS.contains(&trimmed.len())
        && first.is_some_and(|c| c.is_ascii_alphanumeric())
        && trimmed.chars().all(plain);
    if !good {
        return Err(TextError::NotAFileVolumeName(trimmed.to_owned()));
    }
    if Uuid::parse_str(trimmed).is_ok() {
        return Err(TextError::LooksLikeId(trimmed.to_owned()));
    }
    Ok(trimmed.to_owned())
}

/// A description: trimmed, may be empty, line breaks and tabs allowed.
///
/// # Errors
/// The rule that it breaks.
pub fn description(text: &str) -> Result<String, TextError> {
    let trimmed = text.trim();
    bounded(trimmed, DESCRIPTION_CHARS_MAX, |c| c == '\n' || c == '\t')?;
    Ok(trimmed.to_owned())
}

/// A class of pools and types, for example `ssd`.
///
/// # Errors
/// The rule that it breaks.
pub fn class(text: &str) -> Result<String, TextError> {
    let trimmed = text.trim();
    if trimmed.is_empty() {
        return Err(TextError::Empty);
    }
    bounded(trimmed, CLASS_CHARS_MAX, |_| false)?;
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if trimmed.chars().all(plain) {
        Ok(trimmed.to_owned())
    } else {
        Err(TextError::NotAClass(trimmed.to_owned()))
    }
}

/// Metadata within its bounds.
///
/// # Errors
/// The rule that it breaks.
pub fn metadata(entries: &Metadata) -> Result<(), TextError> {
    if entries.len() > METADATA_ENTRIES_MAX {
        return Err(TextError::TooMany { entries: entries.len(), max: METADATA_ENTRIES_MAX });
    }
    for (key, value) in entries {
        if key.trim().is_empty() {
            return Err(TextError::Empty);
        }
        bounded(key, METADATA_KEY_CHARS_MAX, |_| false)?;
        bounded(value, METADATA_VALUE_CHARS_MAX, |c| c == '\n' || c == '\t')?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_trimmed_and_bounded() {
        assert_eq!(name("  web data "), Ok("web data".to_owned()));
        assert_eq!(name(" \t "), Err(TextError::Empty));
        assert_eq!(name(".. "), Err(TextError::PathStep("..".to_owned())));
        assert_eq!(name("a/.."), Ok("a/..".to_owned()));
        assert_eq!(name("a\u{7}b"), Err(TextError::ControlCharacter(7)));
        assert_eq!(name(&"ä".repeat(255)).map(|n| n.chars().count()), Ok(255));
        assert_eq!(name(&"ä".repeat(256)), Err(TextError::TooLong { chars: 256, max: 255 }));
        let id = "0195d3a1-7c1e-7000-8000-000000000001";
        assert_eq!(name(id), Err(TextError::LooksLikeId(id.to_owned())));
    }

    #[test]
    fn names_of_file_volumes_can_stand_in_a_path() {
        for good in ["wp-uploads", "a.b_c-d", "00", &"v".repeat(256)] {
            assert_eq!(file_volume_name(good), Ok(good.to_owned()));
        }
        for bad in ["", "a", ".snapshots", "-a", "_a", "a/b", "a b", "ä1", &"v".repeat(257)] {
            assert!(
                matches!(file_volume_name(bad), Err(TextError::NotAFileVolumeName(_))),
                "{bad}"
            );
        }
        let id = "0195d3a17c1e70008000000000000001";
        assert_eq!(file_volume_name(id), Err(TextError::LooksLikeId(id.to_owned())));
    }

    #[test]
    fn metadata_is_bounded() {
        let many: Metadata = (0..65).map(|i| (format!("k{i}"), String::new())).collect();
        assert_eq!(metadata(&many), Err(TextError::TooMany { entries: 65, max: 64 }));
        let long = Metadata::from([("k".to_owned(), "v".repeat(4097))]);
        assert!(matches!(metadata(&long), Err(TextError::TooLong { .. })));
        assert_eq!(
            metadata(&Metadata::from([(" ".to_owned(), String::new())])),
            Err(TextError::Empty)
        );
        assert_eq!(metadata(&Metadata::from([("k".to_owned(), "two\nlines".to_owned())])), Ok(()));
    }

    #[test]
    fn classes_are_plain_words() {
        assert_eq!(class("ssd-2"), Ok("ssd-2".to_owned()));
        assert_eq!(class("SSD"), Err(TextError::NotAClass("SSD".to_owned())));
    }
}
