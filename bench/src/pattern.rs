//! A pattern of load and its short name: `rr4k-32x4` is random reads of 4 KiB, 32 at a time over
//! each of 4 connections; `rr4k-1@2` is one read at a time between two cores.

use std::fmt;
use std::str::FromStr;

/// What is done where.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Access {
    RandomRead,
    RandomWrite,
    SequentialRead,
    SequentialWrite,
}

impl Access {
    const NAMES: [(&'static str, Self); 4] = [
        ("rr", Self::RandomRead),
        ("rw", Self::RandomWrite),
        ("sr", Self::SequentialRead),
        ("sw", Self::SequentialWrite),
    ];

    pub(crate) fn is_write(self) -> bool {
        matches!(self, Self::RandomWrite | Self::SequentialWrite)
    }

    pub(crate) fn is_sequential(self) -> bool {
        matches!(self, Self::SequentialRead | Self::SequentialWrite)
    }

    fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, access)| *access == self).map_or("", |(name, _)| name)
    }
}

/// Which cores server and load run on. What one command takes that is alone is mostly the waking
/// of the other side, and that depends on where the scheduler has put it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Cores {
    /// The scheduler's choice.
    Any,
    /// Both on the first.
    One,
    /// The server on the first, the load on the second.
    Two,
}

impl Cores {
    const NAMES: [(&'static str, Self); 2] = [("@1", Self::One), ("@2", Self::Two)];

    /// The server's core and the load's; `None` where they are not bound.
    pub(crate) fn bound(self) -> Option<(u32, u32)> {
        match self {
            Self::Any => None,
            Self::One => Some((0, 0)),
            Self::Two => Some((0, 1)),
        }
    }
}

/// A pattern of load.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Pattern {
    pub(crate) access: Access,
    /// Whole KiB.
    pub(crate) block_bytes: u32,
    /// Commands in flight over each connection.
    pub(crate) depth: u32,
    /// A flush after each write.
    pub(crate) flush: bool,
    pub(crate) connections: u32,
    pub(crate) cores: Cores,
}

/// What `cargo xtask bench` measures when it is not told otherwise.
pub(crate) const DEFAULT: [&str; 17] = [
    "rr4k-1",
    "rw4k-1",
    "rw4k-1f",
    "rr4k-1@1",
    "rw4k-1@1",
    "rw4k-1f@1",
    "rr4k-1@2",
    "rw4k-1@2",
    "rw4k-1f@2",
    "rr4k-32",
    "rw4k-32",
    "rr4k-32x4",
    "rw4k-32x4",
    "sr128k-8",
    "sw128k-8",
    "sr1m-4",
    "sw1m-4",
];

impl Pattern {
    /// The same over so many connections.
    pub(crate) fn over(self, connections: u32) -> Self {
        Self { connections, ..self }
    }

    /// The two lines that stand under its bars.
    pub(crate) fn label(self) -> [String; 2] {
        let verb = if self.access.is_write() { "write" } else { "read" };
        let size = size_name(self.block_bytes, "KiB", "MiB", " ");
        let first = match (self.access.is_sequential(), self.flush) {
            (true, _) => format!("{verb} {size}"),
            (false, true) => format!("{verb} + flush"),
            (false, false) => verb.to_owned(),
        };
        let second = match (self.connections, self.cores) {
            (1, Cores::Any) => format!("depth {}", self.depth),
            (1, Cores::One) => format!("depth {}, 1 core", self.depth),
            (1, Cores::Two) => format!("depth {}, 2 cores", self.depth),
            (many, _) => format!("{many} × depth {}", self.depth),
        };
        [first, second]
    }
}

/// A size in its largest whole unit.
fn size_name(bytes: u32, kib: &str, mib: &str, gap: &str) -> String {
    match (bytes >> 20, bytes % (1 << 20)) {
        (whole, 0) if whole > 0 => format!("{whole}{gap}{mib}"),
        _ => format!("{}{gap}{kib}", bytes >> 10),
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = size_name(self.block_bytes, "k", "m", "");
        write!(f, "{}{size}-{}", self.access.name(), self.depth)?;
        if self.flush {
            f.write_str("f")?;
        }
        if self.connections > 1 {
            write!(f, "x{}", self.connections)?;
        }
        let name = Cores::NAMES.iter().find(|(_, cores)| *cores == self.cores);
        f.write_str(name.map_or("", |(name, _)| name))
    }
}

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).ok_or_else(|| {
            format!("'{text}' is no pattern: write such as rr4k-1, rw4k-1f, rr4k-1@2, rr4k-32x4 or sw1m-4")
        })
    }
}

fn parse(text: &str) -> Option<Pattern> {
    let bound =
        Cores::NAMES.iter().find_map(|(name, cores)| Some((text.strip_suffix(name)?, *cores)));
    let (text, cores) = bound.unwrap_or((text, Cores::Any));
    let (name, access) = Access::NAMES.iter().find(|(name, _)| text.starts_with(name))?;
    let (size, rest) = text.strip_prefix(name)?.split_once('-')?;
    let (rest, connections) = match rest.split_once('x') {
        Some((rest, connections)) => (rest, connections.parse().ok()?),
        None => (rest, 1),
    };
    let (depth, flush) = match rest.strip_suffix('f') {
        Some(depth) => (depth, true),
        None => (rest, false),
    };
    let block_bytes = match (size.strip_suffix('k'), size.strip_suffix('m')) {
        (Some(count), _) => count.parse::<u32>().ok()?.checked_mul(1 << 10)?,
        (_, Some(count)) => count.parse::<u32>().ok()?.checked_mul(1 << 20)?,
        _ => return None,
    };
    let depth = depth.parse().ok()?;
    let sound = block_bytes > 0 && depth > 0 && connections > 0 && (!flush || access.is_write());
    sound.then_some(Pattern { access: *access, block_bytes, depth, flush, connections, cores })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_pattern_is_read_and_written_back() {
        for name in DEFAULT {
            assert_eq!(name.parse::<Pattern>().unwrap().to_string(), name);
        }
        let pattern: Pattern = "rr4k-32x4".parse().unwrap();
        let wanted = Pattern {
            access: Access::RandomRead,
            block_bytes: 4096,
            depth: 32,
            flush: false,
            connections: 4,
            cores: Cores::Any,
        };
        assert_eq!(pattern, wanted);
        assert_eq!(pattern.over(16).to_string(), "rr4k-32x16");
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for name in
            ["", "rr", "rr4k", "rr4k-", "rr0k-1", "rr4k-0", "rr4k-1x0", "xx4k-1", "rr4k-1f", "@1"]
        {
            assert!(name.parse::<Pattern>().is_err(), "{name}");
        }
        assert!("rw4096m-1".parse::<Pattern>().is_err(), "4 GiB do not fit");
    }

    #[test]
    fn labels_say_what_the_bars_are() {
        let label = |name: &str| name.parse::<Pattern>().unwrap().label().join(", ");
        assert_eq!(label("rw4k-1f"), "write + flush, depth 1");
        assert_eq!(label("rr4k-1@2"), "read, depth 1, 2 cores");
        assert_eq!(label("rr4k-32x4"), "read, 4 × depth 32");
        assert_eq!(label("sw1m-4"), "write 1 MiB, depth 4");
        assert_eq!(label("sr128k-8"), "read 128 KiB, depth 8");
    }
}
