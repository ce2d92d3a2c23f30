//! What is asked of a file server, as a name such as `read4k-32` or `create-16`.

use std::fmt;
use std::str::FromStr;

/// One kind of load.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Work {
    /// READ or WRITE of one open file.
    Data(Data),
    /// Small files: one request after another by each program of each client.
    Names(Names),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Data {
    pub(crate) writes: bool,
    /// FILE_SYNC: on the medium before it is answered.
    pub(crate) stable: bool,
    pub(crate) random: bool,
    pub(crate) block_bytes: u32,
    /// Requests under way at once, on one connection.
    pub(crate) depth: u32,
    /// Connections that do so, each a client of its own.
    pub(crate) connections: u32,
}

/// What is done with small files.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// OPEN that makes it, then CLOSE.
    Create,
    /// LOOKUP and GETATTR.
    Stat,
    /// OPEN, READ of 4 KiB, CLOSE.
    Read,
    Unlink,
}

impl Step {
    pub(crate) const ALL: [Self; 4] = [Self::Create, Self::Stat, Self::Read, Self::Unlink];

    pub(crate) fn name(self) -> &'static str {
        let same = |kind: &Kind| matches!(kind, Kind::Names(step) if *step == self);
        TABLE.iter().find(|(_, kind)| same(kind)).map_or("?", |(name, _)| name)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Names {
    pub(crate) step: Step,
    /// Each with a connection and a session.
    pub(crate) clients: u32,
    /// Of each client: they share its session, and each has one request under way.
    pub(crate) programs: u32,
}

const RANDOM: u32 = 4 << 10;
const SEQUENTIAL: u32 = 1 << 20;

/// The names and what they mean. Behind them stands the number of requests, then that of
/// connections where it is not one; or that of clients, then that of the programs of each.
const TABLE: [(&str, Kind); 9] = [
    ("read4k", Kind::Data(false, false, true, RANDOM)),
    ("write4k", Kind::Data(true, false, true, RANDOM)),
    ("sync4k", Kind::Data(true, true, true, RANDOM)),
    ("read1m", Kind::Data(false, false, false, SEQUENTIAL)),
    ("write1m", Kind::Data(true, false, false, SEQUENTIAL)),
    ("create", Kind::Names(Step::Create)),
    ("stat", Kind::Names(Step::Stat)),
    ("read", Kind::Names(Step::Read)),
    ("unlink", Kind::Names(Step::Unlink)),
];

#[derive(Clone, Copy)]
enum Kind {
    /// Writes, stable, random, size.
    Data(bool, bool, bool, u32),
    Names(Step),
}

impl FromStr for Work {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wanted = "write WORK-COUNT, such as read4k-32, read4k-32x4, create-16 or create-16x8";
        let number = |text: &str| text.parse().ok().filter(|count| (1..=128).contains(count));
        let (name, counts) = text.split_once('-').ok_or(wanted)?;
        let (count, second) = counts.split_once('x').unwrap_or((counts, "1"));
        let (count, second) = number(count).zip(number(second)).ok_or(wanted)?;
        let (_, kind) = TABLE.iter().find(|(known, _)| *known == name).ok_or(wanted)?;
        Ok(match *kind {
            Kind::Data(writes, stable, random, block_bytes) => {
                let (depth, connections) = (count, second);
                Self::Data(Data { writes, stable, random, block_bytes, depth, connections })
            }
            Kind::Names(step) => Self::Names(Names { step, clients: count, programs: second }),
        })
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let same = |kind: &Kind| match (*kind, *self) {
            (Kind::Data(writes, stable, random, bytes), Self::Data(data)) => {
                (writes, stable, random, bytes)
                    == (data.writes, data.stable, data.random, data.block_bytes)
            }
            (Kind::Names(step), Self::Names(names)) => step == names.step,
            _ => false,
        };
        let name = TABLE.iter().find(|(_, kind)| same(kind)).map_or("?", |(name, _)| name);
        let (count, second) = match *self {
            Self::Data(data) => (data.depth, data.connections),
            Self::Names(names) => (names.clients, names.programs),
        };
        match second {
            1 => write!(f, "{name}-{count}"),
            second => write!(f, "{name}-{count}x{second}"),
        }
    }
}

/// What is measured unless something else is asked for.
pub(crate) const DEFAULT: [&str; 25] = [
    "read4k-1",
    "read4k-32",
    "read4k-32x4",
    "write4k-1",
    "write4k-32",
    "write4k-32x4",
    "sync4k-1",
    "read1m-4",
    "write1m-4",
    "create-1",
    "stat-1",
    "read-1",
    "unlink-1",
    "create-16",
    "stat-16",
    "read-16",
    "unlink-16",
    "create-1x8",
    "stat-1x8",
    "read-1x8",
    "unlink-1x8",
    "create-16x8",
    "stat-16x8",
    "read-16x8",
    "unlink-16x8",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for name in DEFAULT {
            assert_eq!(name.parse::<Work>().unwrap().to_string(), name);
        }
        let wrong = "read4k read4k-0 read4k-129 walk-1 -1 read-x read4k-1x read-1x read-1x0";
        for wrong in wrong.split(' ').chain(["read-1x129", "read-1x2x2"]) {
            assert!(wrong.parse::<Work>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_second_number_is_of_connections_or_of_programs() {
        let names = Names { step: Step::Stat, clients: 1, programs: 8 };
        assert_eq!("stat-1x8".parse(), Ok(Work::Names(names)));
        let Ok(Work::Data(data)) = "read4k-32x4".parse() else { panic!("a work of data") };
        assert_eq!((data.depth, data.connections), (32, 4));
        assert_eq!("read-3x1".parse::<Work>().unwrap().to_string(), "read-3");
        assert_eq!(Step::ALL.map(Step::name), ["create", "stat", "read", "unlink"]);
    }
}
