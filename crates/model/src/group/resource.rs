//! Resources of a group: what starts after the reservation, and the text form of each.
//!
//! ```text
//! mount:/srv/db,fs=ext4[,options=noatime+discard][,fsck=never|preen|force]
//! exec:start=/usr/local/bin/up arg[,stop=...][,status=...][,start-ms=60000][,stop-ms=60000]
//!     [,status-ms=10000][,interval-ms=10000]
//! address:10.0.0.9/24,dev=eth0
//! export:/srv/db[,to=10.0.0.0/24][,options=rw+no_root_squash]
//! unit:postgresql.service
//! ```
//!
//! A value that holds a comma, or an argument that holds white space, has no text form; such a
//! group is made from a file or over the API.

use std::fmt;
use std::net::IpAddr;
use std::path::{Component, Path};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Most characters of any text in a resource.
const TEXT_CHARS_MAX: usize = 4096;
/// Units that run on one host and have an end, as a resource of a group must.
const UNIT_KINDS: [&str; 7] = ["service", "socket", "timer", "path", "mount", "automount", "swap"];
/// Most characters of the name of a network interface (Linux: IFNAMSIZ without the end).
const INTERFACE_CHARS_MAX: usize = 15;
/// Longest timeout of a program: a day.
const TIMEOUT_MS_MAX: u64 = 86_400_000;

/// What is done to a file system before it is mounted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fsck {
    /// Nothing: the file system replays its journal when it is mounted.
    Never,
    /// Mend what can be mended without a question; a file system with a clean journal takes no
    /// time.
    #[default]
    Preen,
    /// Look through all of it.
    Force,
}

impl Fsck {
    const ALL: [Self; 3] = [Self::Never, Self::Preen, Self::Force];
    /// The word of the API.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::Preen => "preen",
            Self::Force => "force",
        }
    }
}

const fn program_ms() -> u64 {
    60_000
}
const fn status_ms() -> u64 {
    10_000
}

/// One resource of a group.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind", deny_unknown_fields)]
pub enum Resource {
    /// The group's volume, mounted.
    Mount {
        /// Absolute.
        path: String,
        /// `ext4`, `xfs`, ...
        file_system: String,
        /// Of mount(8), one each.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        options: Vec<String>,
        #[serde(default)]
        fsck: Fsck,
    },
    /// Programs that start a service, stop it, and say whether it runs (exit code 0). Each is a
    /// program and its arguments; no shell reads them.
    Exec {
        start: Vec<String>,
        /// Without it, the processes that `start` left behind are ended.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        stop: Vec<String>,
        /// Without it, the service counts as running.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        status: Vec<String>,
        #[serde(default = "program_ms")]
        start_timeout_ms: u64,
        #[serde(default = "program_ms")]
        stop_timeout_ms: u64,
        #[serde(default = "status_ms")]
        status_timeout_ms: u64,
        /// From the end of one `status` to the next.
        #[serde(default = "status_ms")]
        interval_ms: u64,
    },
    /// An address that moves along, announced by gratuitous ARP or by NDP.
    Address {
        /// Address and prefix length.
        cidr: String,
        interface: String,
    },
    /// A directory of the mounted file system, exported by the NFS server of the host itself.
    Export {
        /// Absolute.
        path: String,
        /// A client of exports(5): an address, a network, a name, `*`.
        #[serde(default = "everybody")]
        client: String,
        /// Of exports(5), one each.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        options: Vec<String>,
    },
    /// A unit of systemd that is not enabled by itself.
    Unit { name: String },
}

fn everybody() -> String {
    "*".to_owned()
}

/// Why a resource is not taken.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ResourceError {
    #[error(
        "'{0}' is no resource: write mount:/path,fs=ext4 or exec:start=/program or \
         address:10.0.0.9/24,dev=eth0 or export:/path or unit:name.service"
    )]
    Kind(String),
    #[error("it has no '{0}='")]
    Missing(&'static str),
    #[error("'{0}' is not one of its settings")]
    Setting(String),
    #[error("'{0}' is set twice")]
    Twice(String),
    #[error("{what} cannot be '{text}': it must be an absolute path without '..'")]
    Path { what: &'static str, text: String },
    #[error("{what} cannot be '{text}': {why}")]
    Text { what: &'static str, text: String, why: &'static str },
    #[error(
        "'{0}' cannot be used: it must be an address with its prefix length, such as 10.0.0.9/24"
    )]
    Cidr(String),
    #[error("{what} cannot be {ms} ms: it must be between 1 ms and a day")]
    Time { what: &'static str, ms: u64 },
}

impl Resource {
    /// The word of its kind.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Mount { .. } => "mount",
            Self::Exec { .. } => "exec",
            Self::Address { .. } => "address",
            Self::Export { .. } => "export",
            Self::Unit { .. } => "unit",
        }
    }

    /// Would both be the same thing on a host?
    pub(super) fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Mount { path: a, .. }, Self::Mount { path: b, .. }) => is_same_path(a, b),
            (Self::Unit { name: a }, Self::Unit { name: b }) => a == b,
            (Self::Address { cidr: a, .. }, Self::Address { cidr: b, .. }) => {
                address(a).map(|(ip, _)| ip) == address(b).map(|(ip, _)| ip)
            }
            (
                Self::Export { path: a, client: to_a, .. },
                Self::Export { path: b, client: to_b, .. },
            ) => is_same_path(a, b) && to_a == to_b,
            _ => self == other,
        }
    }

    /// # Errors
    /// The rule that it breaks.
    pub fn check(&self) -> Result<(), ResourceError> {
        match self {
            Self::Mount { path, file_system, options, .. } => {
                absolute("the path", path)?;
                let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
                plain("fs", file_system)?;
                if !file_system.chars().all(is_word) {
                    return Err(unusable(
                        "fs",
                        file_system,
                        "it must be the name of a file system",
                    ));
                }
                options.iter().try_for_each(|option| plain("options", option))
            }
            Self::Exec { .. } => self.check_exec(),
            Self::Address { cidr, interface } => {
                address(cidr).ok_or_else(|| ResourceError::Cidr(cidr.clone()))?;
                plain("dev", interface)?;
                if interface.chars().count() > INTERFACE_CHARS_MAX || interface.contains('/') {
                    return Err(unusable("dev", interface, "it must be the name of an interface"));
                }
                Ok(())
            }
            Self::Export { path, client, options } => {
                absolute("the path", path)?;
                plain("to", client)?;
                options.iter().try_for_each(|option| plain("options", option))
            }
            Self::Unit { name } => {
                plain("the unit", name)?;
                let is_unit = |c: char| {
                    c.is_ascii_alphanumeric() || matches!(c, ':' | '_' | '.' | '-' | '@' | '\\')
                };
                let kind = name.rsplit_once('.').map(|(_, kind)| kind);
                let why = match kind.filter(|_| name.chars().all(is_unit)) {
                    None => "it must have its kind, such as name.service",
                    Some(kind) if UNIT_KINDS.contains(&kind) => return Ok(()),
                    Some(_) => {
                        "a group runs a service, socket, timer, path, mount, automount or swap; \
                         what belongs to a slice, a scope or a target it can neither freeze nor end"
                    }
                };
                Err(unusable("the unit", name, why))
            }
        }
    }

    fn check_exec(&self) -> Result<(), ResourceError> {
        let Self::Exec {
            start,
            stop,
            status,
            start_timeout_ms,
            stop_timeout_ms,
            status_timeout_ms,
            interval_ms,
        } = self
        else {
            return Ok(());
        };
        if start.is_empty() {
            return Err(ResourceError::Missing("start"));
        }
        for (what, command) in [("start", start), ("stop", stop), ("status", status)] {
            if let Some(program) = command.first() {
                absolute(what, program)?;
            }
            command.iter().skip(1).try_for_each(|argument| bounded(what, argument))?;
        }
        let times = [
            ("start-ms", start_timeout_ms),
            ("stop-ms", stop_timeout_ms),
            ("status-ms", status_timeout_ms),
            ("interval-ms", interval_ms),
        ];
        match times.iter().find(|(_, ms)| !(1..=TIMEOUT_MS_MAX).contains(*ms)) {
            Some((what, ms)) => Err(ResourceError::Time { what, ms: **ms }),
            None => Ok(()),
        }
    }
}

/// Address and prefix length.
fn address(cidr: &str) -> Option<(IpAddr, u8)> {
    let (address, length) = cidr.split_once('/')?;
    let (address, length) = (address.parse::<IpAddr>().ok()?, length.parse::<u8>().ok()?);
    let longest = if address.is_ipv4() { 32 } else { 128 };
    (length <= longest && !address.is_unspecified()).then_some((address, length))
}

fn unusable(what: &'static str, text: &str, why: &'static str) -> ResourceError {
    ResourceError::Text { what, text: text.to_owned(), why }
}

fn bounded(what: &'static str, text: &str) -> Result<(), ResourceError> {
    if text.chars().any(|c| c.is_control()) {
        let text = text.escape_debug().to_string();
        return Err(unusable(what, &text, "it must hold no control character"));
    }
    if text.chars().count() > TEXT_CHARS_MAX {
        return Err(ResourceError::Text {
            what,
            text: text.chars().take(20).collect(),
            why: "it must have at most 4096 characters",
        });
    }
    Ok(())
}

/// A word that begins with no hyphen, so that no program takes it for an option.
fn plain(what: &'static str, text: &str) -> Result<(), ResourceError> {
    bounded(what, text)?;
    if text.is_empty() || text.starts_with('-') {
        return Err(unusable(what, text, "it must not be empty or begin with a hyphen"));
    }
    if text.contains(char::is_whitespace) || text.contains(',') {
        return Err(unusable(what, text, "it must hold no white space and no comma"));
    }
    Ok(())
}

/// Is it one place, however it is spelled? `/srv//db/.` is `/srv/db/`.
fn is_same_path(a: &str, b: &str) -> bool {
    Path::new(a) == Path::new(b)
}

fn absolute(what: &'static str, text: &str) -> Result<(), ResourceError> {
    bounded(what, text)?;
    let path = Path::new(text);
    let is_good = path.is_absolute() && path.components().all(|part| part != Component::ParentDir);
    if is_good { Ok(()) } else { Err(ResourceError::Path { what, text: text.to_owned() }) }
}

/// The settings of a resource's text, each once.
struct Settings<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Settings<'a> {
    fn parse(parts: impl Iterator<Item = &'a str>) -> Result<Self, ResourceError> {
        let mut all: Vec<(&str, &str)> = Vec::new();
        for part in parts {
            let (name, value) =
                part.split_once('=').ok_or_else(|| ResourceError::Setting(part.to_owned()))?;
            let name = name.trim();
            if all.iter().any(|(other, _)| *other == name) {
                return Err(ResourceError::Twice(name.to_owned()));
            }
            all.push((name, value.trim()));
        }
        Ok(Self(all))
    }
    fn take(&mut self, name: &str) -> Option<&'a str> {
        let at = self.0.iter().position(|(other, _)| *other == name)?;
        Some(self.0.remove(at).1)
    }
    fn needed(&mut self, name: &'static str) -> Result<String, ResourceError> {
        self.take(name).map(str::to_owned).ok_or(ResourceError::Missing(name))
    }
    fn list(&mut self, name: &str) -> Vec<String> {
        self.take(name).map(|text| text.split('+').map(str::to_owned).collect()).unwrap_or_default()
    }
    fn command(&mut self, name: &str) -> Vec<String> {
        let text = self.take(name).unwrap_or_default();
        text.split_whitespace().map(str::to_owned).collect()
    }
    fn ms(&mut self, name: &'static str, usual: u64) -> Result<u64, ResourceError> {
        let Some(text) = self.take(name) else { return Ok(usual) };
        text.parse().map_err(|_| unusable(name, text, "it must be a number of milliseconds"))
    }
    fn end(mut self) -> Result<(), ResourceError> {
        match self.0.pop() {
            Some((name, _)) => Err(ResourceError::Setting(name.to_owned())),
            None => Ok(()),
        }
    }
}

impl FromStr for Resource {
    type Err = ResourceError;

    fn from_str(text: &str) -> Result<Self, ResourceError> {
        let unknown = || ResourceError::Kind(text.to_owned());
        let (kind, rest) = text.split_once(':').ok_or_else(unknown)?;
        let kind = kind.trim();
        let mut parts = rest.split(',');
        // All but `exec` begin with what they are about.
        let subject = if kind == "exec" { "" } else { parts.next().unwrap_or_default().trim() };
        let subject = subject.to_owned();
        let mut set = Settings::parse(parts)?;
        let resource = match kind {
            "mount" => Self::Mount {
                path: subject,
                file_system: set.needed("fs")?,
                options: set.list("options"),
                fsck: match set.take("fsck") {
                    None => Fsck::default(),
                    Some(word) => {
                        let found = Fsck::ALL.into_iter().find(|fsck| fsck.word() == word);
                        found.ok_or_else(|| {
                            unusable("fsck", word, "it must be never, preen or force")
                        })?
                    }
                },
            },
            "exec" => Self::Exec {
                start: set.command("start"),
                stop: set.command("stop"),
                status: set.command("status"),
                start_timeout_ms: set.ms("start-ms", program_ms())?,
                stop_timeout_ms: set.ms("stop-ms", program_ms())?,
                status_timeout_ms: set.ms("status-ms", status_ms())?,
                interval_ms: set.ms("interval-ms", status_ms())?,
            },
            "address" => Self::Address { cidr: subject, interface: set.needed("dev")? },
            "export" => Self::Export {
                path: subject,
                client: set.take("to").map_or_else(everybody, str::to_owned),
                options: set.list("options"),
            },
            "unit" => Self::Unit { name: subject },
            _ => return Err(unknown()),
        };
        set.end()?;
        resource.check()?;
        Ok(resource)
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let listed = |f: &mut fmt::Formatter<'_>, name: &str, list: &[String], by: &str| {
            if list.is_empty() { Ok(()) } else { write!(f, ",{name}={}", list.join(by)) }
        };
        match self {
            Self::Mount { path, file_system, options, fsck } => {
                write!(f, "mount:{path},fs={file_system}")?;
                listed(f, "options", options, "+")?;
                if *fsck == Fsck::default() { Ok(()) } else { write!(f, ",fsck={}", fsck.word()) }
            }
            Self::Exec {
                start,
                stop,
                status,
                start_timeout_ms,
                stop_timeout_ms,
                status_timeout_ms,
                interval_ms,
            } => {
                write!(f, "exec:start={}", start.join(" "))?;
                listed(f, "stop", stop, " ")?;
                listed(f, "status", status, " ")?;
                let times = [
                    ("start-ms", start_timeout_ms, program_ms()),
                    ("stop-ms", stop_timeout_ms, program_ms()),
                    ("status-ms", status_timeout_ms, status_ms()),
                    ("interval-ms", interval_ms, status_ms()),
                ];
                let unusual = times.iter().filter(|(_, ms, usual)| *ms != usual);
                unusual.clone().try_for_each(|(name, ms, _)| write!(f, ",{name}={ms}"))
            }
            Self::Address { cidr, interface } => write!(f, "address:{cidr},dev={interface}"),
            Self::Export { path, client, options } => {
                write!(f, "export:{path}")?;
                if *client != everybody() {
                    write!(f, ",to={client}")?;
                }
                listed(f, "options", options, "+")
            }
            Self::Unit { name } => write!(f, "unit:{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_documented_forms_are_read() {
        let mount = Resource::Mount {
            path: "/srv/db".to_owned(),
            file_system: "ext4".to_owned(),
            options: vec!["noatime".to_owned(), "discard".to_owned()],
            fsck: Fsck::Force,
        };
        assert_eq!("mount:/srv/db,fs=ext4,options=noatime+discard,fsck=force".parse(), Ok(mount));
        let exec: Resource = "exec:start=/x -a b,stop=/y,interval-ms=500".parse().unwrap();
        let Resource::Exec { start, stop, status, start_timeout_ms, interval_ms, .. } = exec else {
            panic!("{exec}")
        };
        assert_eq!(
            (start, stop, status),
            (vec!["/x".into(), "-a".into(), "b".into()], vec!["/y".into()], vec![])
        );
        assert_eq!((start_timeout_ms, interval_ms), (60_000, 500));
        assert_eq!(
            "unit:pg@13.service".parse(),
            Ok(Resource::Unit { name: "pg@13.service".into() })
        );
    }

    #[test]
    fn what_is_not_a_resource_says_why() {
        for (text, part) in [
            ("", "is no resource"),
            ("volume:/x", "is no resource"),
            ("mount:/srv/db", "no 'fs='"),
            ("mount:srv,fs=ext4", "absolute path"),
            ("mount:/srv/../etc,fs=ext4", "absolute path"),
            ("mount:/srv,fs=-o", "hyphen"),
            ("mount:/srv,fs=ext4,fs=xfs", "set twice"),
            ("mount:/srv,fs=ext4,color=red", "'color' is not one"),
            ("mount:/srv,fs=ext4,fsck=often", "never, preen or force"),
            ("exec:stop=/x", "no 'start='"),
            ("exec:start=x", "absolute path"),
            ("exec:start=/x,start-ms=0", "between 1 ms"),
            ("exec:start=/x,start-ms=soon", "milliseconds"),
            ("address:10.0.0.9,dev=eth0", "prefix length"),
            ("address:10.0.0.9/33,dev=eth0", "prefix length"),
            ("address:10.0.0.9/24", "no 'dev='"),
            ("address:10.0.0.9/24,dev=a name", "white space"),
            ("unit:postgres", "name.service"),
            ("unit:system.slice", "neither freeze nor end"),
            ("unit:init.scope", "neither freeze nor end"),
            ("unit:multi-user.target", "neither freeze nor end"),
            ("unit:-x.service", "hyphen"),
        ] {
            let error = text.parse::<Resource>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    fn word() -> impl Strategy<Value = String> {
        "[a-z][a-z0-9_]{0,8}"
    }
    fn path() -> impl Strategy<Value = String> {
        "(/[a-z0-9][a-z0-9._-]{0,6}){1,3}"
    }
    fn command() -> impl Strategy<Value = Vec<String>> {
        (path(), proptest::collection::vec("[a-z-]{1,6}", 0..3))
            .prop_map(|(program, rest)| std::iter::once(program).chain(rest).collect())
    }
    fn resource() -> impl Strategy<Value = Resource> {
        let options = || proptest::collection::vec(word(), 0..3);
        let fsck = proptest::sample::select(&Fsck::ALL[..]);
        let times = proptest::array::uniform4(1..TIMEOUT_MS_MAX);
        prop_oneof![
            (path(), word(), options(), fsck).prop_map(|(path, file_system, options, fsck)| {
                Resource::Mount { path, file_system, options, fsck }
            }),
            (command(), command(), times).prop_map(|(start, stop, [a, b, c, d])| Resource::Exec {
                start,
                stop,
                status: Vec::new(),
                start_timeout_ms: a,
                stop_timeout_ms: b,
                status_timeout_ms: c,
                interval_ms: d,
            }),
            (word(), 1u8..255, 0u8..33).prop_map(|(interface, last, length)| Resource::Address {
                cidr: format!("10.0.0.{last}/{length}"),
                interface,
            }),
            (path(), word(), options()).prop_map(|(path, client, options)| Resource::Export {
                path,
                client,
                options
            }),
            word().prop_map(|name| Resource::Unit { name: format!("{name}.service") }),
        ]
    }

    proptest! {
        #[test]
        fn text_and_value_are_the_same(resource in resource()) {
            prop_assert_eq!(resource.to_string().parse(), Ok(resource.clone()));
            let json = serde_json::to_string(&resource).unwrap();
            prop_assert_eq!(serde_json::from_str::<Resource>(&json).unwrap(), resource);
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,60}") {
            let _parsed = text.parse::<Resource>();
        }
    }
}
