//! Sizes in bytes, with the one parser and the one printer that every door uses.

use serde::{Deserialize, Serialize};

/// One gibibyte.
pub const GIB: u64 = 1 << 30;

/// A number of bytes. Parses `10g`, `512 MiB`, `1048576`; units are binary.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ByteSize(pub u64);

/// Why a text is not a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// No number, or an unknown unit.
    #[error("'{0}' is not a size; write a number and a unit, for example 10g, 512m or 1t")]
    Unreadable(String),
    /// Does not fit 64 bits.
    #[error("'{0}' is larger than any volume can be")]
    TooLarge(String),
}

impl ByteSize {
    /// So many gibibytes.
    #[must_use]
    pub const fn gib(count: u64) -> Self {
        Self(count * GIB)
    }
    /// The plain number of bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }
    /// Gibibytes, rounded up: what quotas and OpenStack count in.
    #[must_use]
    pub const fn gib_ceil(self) -> u64 {
        self.0.div_ceil(GIB)
    }
}

impl std::str::FromStr for ByteSize {
    type Err = SizeError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let trimmed = text.trim();
        let digits = trimmed.len() - trimmed.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = trimmed.split_at(digits);
        let shift = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 0,
            "k" | "kb" | "kib" => 10,
            "m" | "mb" | "mib" => 20,
            "g" | "gb" | "gib" => 30,
            "t" | "tb" | "tib" => 40,
            "p" | "pb" | "pib" => 50,
            _ => return Err(SizeError::Unreadable(text.to_owned())),
        };
        if number.is_empty() {
            return Err(SizeError::Unreadable(text.to_owned()));
        }
        let too_large = || SizeError::TooLarge(text.to_owned());
        let number: u64 = number.parse().map_err(|_| too_large())?;
        number.checked_mul(1 << shift).map(Self).ok_or_else(too_large)
    }
}

impl std::fmt::Display for ByteSize {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const UNITS: [(u64, &str); 5] = [
            (1 << 50, "PiB"),
            (1 << 40, "TiB"),
            (1 << 30, "GiB"),
            (1 << 20, "MiB"),
            (1 << 10, "KiB"),
        ];
        for (unit, name) in UNITS {
            if self.0 >= unit {
                return if self.0.is_multiple_of(unit) {
                    write!(f, "{} {name}", self.0 / unit)
                } else {
                    let tenths = u128::from(self.0) * 10 / u128::from(unit);
                    write!(f, "{}.{} {name}", tenths / 10, tenths % 10)
                };
            }
        }
        write!(f, "{} B", self.0)
    }
}

impl std::fmt::Debug for ByteSize {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_parse_print_and_refuse() {
        assert_eq!("10g".parse(), Ok(ByteSize::gib(10)));
        assert_eq!("512 MiB".parse(), Ok(ByteSize(512 << 20)));
        assert_eq!("0".parse(), Ok(ByteSize(0)));
        assert!(matches!("".parse::<ByteSize>(), Err(SizeError::Unreadable(_))));
        assert!(matches!("ten g".parse::<ByteSize>(), Err(SizeError::Unreadable(_))));
        assert!(matches!("18446744073709551616".parse::<ByteSize>(), Err(SizeError::TooLarge(_))));
        assert!(matches!("16777216t".parse::<ByteSize>(), Err(SizeError::TooLarge(_))));
        assert_eq!(ByteSize(1536 << 20).to_string(), "1.5 GiB");
        assert_eq!(ByteSize(0).to_string(), "0 B");
    }
}
