//! The settings there are, and their values for this run.

mod roles;

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use api::Client;
use clap::Args;
use model::order::IoMode;
use model::size::ByteSize;
use node::anteroom::Places;
use serde::Serialize;

use crate::arguments::GlobalArguments;
use crate::client_file;
use crate::config::{ConfigError, Key, Layers, user_directory};
use crate::failure::Failure;
use crate::output::{Column, Listed};

const fn key(name: &'static str, default: Option<&'static str>, about: &'static str) -> Key {
    Key { name, default, about, secret: false }
}

const URL: Key = key("url", Some("http://127.0.0.1:7700"), "address of the service");
const TOKEN: Key = Key { secret: true, ..key("token", None, "token to show to the service") };
const PROJECT: Key = key("project", None, "project to work in; the token's own when not set");
/// What the verbs need.
const CLIENT: [Key; 3] = [URL, TOKEN, PROJECT];

const ROLE: Key = key(
    "role",
    Some("all"),
    "all: control plane and storage node in one process; or control, or node",
);
const DATA: Key = key("data", None, "directory of the catalog and the first pool");
const LISTEN: Key = key("listen", Some("127.0.0.1:7700"), "address and port of the API");
const METRICS: Key =
    key("metrics", None, "of a node alone: address and port of its metrics; none when not set");
const PORTALS: Key =
    key("portals", Some("127.0.0.1:3260"), "addresses and ports of the iSCSI portals, with commas");
const NFS_PORTALS: Key = key(
    "nfs_portals",
    None,
    "the same of the NFS portals, or none; 127.0.0.1:2049 for root when not set, if it is free",
);
const NFS_LEASE: Key = key(
    "nfs_lease",
    Some("90"),
    "seconds that an NFSv4 client may be silent, and has to come back after a restart",
);
const NFS_RPCBIND: Key = key(
    "nfs_rpcbind",
    Some("auto"),
    "auto: tell this machine's rpcbind the NFS port, if it runs; or off",
);
const CHAP: Key = key("chap", Some("required"), "required, or off: any initiator name is believed");
const CAPACITY: Key =
    key("capacity", None, "limit of the first pool; all that the file system has when not set");
const IO: Key = key("io", Some("cached"), "I/O of the first pool: cached, or direct (O_DIRECT)");
const WORKERS: Key = key("workers", Some("0"), "data-plane threads; 0 is one per core");
const EVENT_DAYS: Key =
    key("event_days", Some("365"), "how many days events are kept; 0 is for ever");
const SESSIONS: Key = key("sessions", Some("4096"), "iSCSI sessions at once");
const LOGINS: Key = key("logins", Some("512"), "iSCSI connections at once that have not logged in");
const LOGINS_PER_ADDRESS: Key = key("logins_per_address", Some("128"), "the same from one address");
const BUFFERS: Key =
    key("buffers", Some("1g"), "memory for the data of commands that are under way");
const API_CONNECTIONS: Key = key("api_connections", Some("1024"), "connections to the API at once");
const LOG: Key = key("log", Some("info"), "what is logged, such as info or node=debug,info");
const LOG_FORMAT: Key = key("log_format", Some("text"), "text or json");
const CLIENT_FILE: Key =
    key("client_file", Some("true"), "leave a client.toml for the verbs on this machine");
/// What the daemon needs.
const SERVE: [Key; 21] = [
    ROLE,
    DATA,
    LISTEN,
    METRICS,
    PORTALS,
    NFS_PORTALS,
    NFS_LEASE,
    NFS_RPCBIND,
    CHAP,
    CAPACITY,
    IO,
    WORKERS,
    EVENT_DAYS,
    SESSIONS,
    LOGINS,
    LOGINS_PER_ADDRESS,
    BUFFERS,
    API_CONNECTIONS,
    LOG,
    LOG_FORMAT,
    CLIENT_FILE,
];

/// Flags of `serve`. Each setting can also stand in the environment and in a file.
#[derive(Args, Debug, Default)]
pub(crate) struct ServeArguments {
    /// all: control plane and storage node in one process; control alone; or node: a storage node
    /// for a control plane elsewhere [env: COMMONHOLD_ROLE] [default: all]
    #[arg(long, value_name = "all|control|node")]
    role: Option<String>,
    /// Directory of the catalog and the first pool [env: COMMONHOLD_DATA]
    #[arg(long, value_name = "DIR")]
    data: Option<String>,
    /// Address and port of the API [env: COMMONHOLD_LISTEN] [default: 127.0.0.1:7700]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Of a node alone: address and port of its metrics [env: COMMONHOLD_METRICS]
    #[arg(long, value_name = "ADDRESS")]
    metrics: Option<String>,
    /// Addresses and ports of the iSCSI portals, with commas [env: COMMONHOLD_PORTALS]
    /// [default: 127.0.0.1:3260]
    #[arg(long, value_name = "ADDRESS,...")]
    portals: Option<String>,
    /// The same of the NFS portals, for file volumes, or none [env: COMMONHOLD_NFS_PORTALS]
    /// [default: 127.0.0.1:2049 for root, if it is free]
    #[arg(long, value_name = "ADDRESS,...|none")]
    nfs_portals: Option<String>,
    /// Seconds that an NFSv4 client may be silent, and has to come back after a restart
    /// [env: COMMONHOLD_NFS_LEASE] [default: 90]
    #[arg(long, value_name = "SECONDS")]
    nfs_lease: Option<String>,
    /// auto: tell this machine's rpcbind the NFS port, if it runs; or off
    /// [env: COMMONHOLD_NFS_RPCBIND] [default: auto]
    #[arg(long, value_name = "auto|off")]
    nfs_rpcbind: Option<String>,
    /// required, or off: then any initiator name is believed [env: COMMONHOLD_CHAP]
    #[arg(long, value_name = "required|off")]
    chap: Option<String>,
    /// Limit of the first pool [env: COMMONHOLD_CAPACITY]
    #[arg(long, value_name = "SIZE")]
    capacity: Option<String>,
    /// I/O of the first pool [env: COMMONHOLD_IO]
    #[arg(long, value_name = "cached|direct")]
    io: Option<String>,
    /// Data-plane threads; 0 is one per core [env: COMMONHOLD_WORKERS]
    #[arg(long, value_name = "COUNT")]
    workers: Option<String>,
    /// How many days events are kept; 0 is for ever [env: COMMONHOLD_EVENT_DAYS] [default: 365]
    #[arg(long, value_name = "DAYS")]
    event_days: Option<String>,
    /// iSCSI sessions at once [env: COMMONHOLD_SESSIONS] [default: 4096]
    #[arg(long, value_name = "COUNT")]
    sessions: Option<String>,
    /// iSCSI connections at once that have not logged in [env: COMMONHOLD_LOGINS] [default: 512]
    #[arg(long, value_name = "COUNT")]
    logins: Option<String>,
    /// The same from one address [env: COMMONHOLD_LOGINS_PER_ADDRESS] [default: 128]
    #[arg(long, value_name = "COUNT")]
    logins_per_address: Option<String>,
    /// Memory for the data of commands under way [env: COMMONHOLD_BUFFERS] [default: 1g]
    #[arg(long, value_name = "SIZE")]
    buffers: Option<String>,
    /// Connections to the API at once [env: COMMONHOLD_API_CONNECTIONS] [default: 1024]
    #[arg(long, value_name = "COUNT")]
    api_connections: Option<String>,
    /// What is logged, such as info or node=debug,info [env: COMMONHOLD_LOG]
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
    /// Form of the log [env: COMMONHOLD_LOG_FORMAT]
    #[arg(long, value_name = "text|json")]
    log_format: Option<String>,
    /// Leave a client.toml for the verbs on this machine [env: COMMONHOLD_CLIENT_FILE]
    #[arg(long, value_name = "true|false")]
    client_file: Option<String>,
}

impl ServeArguments {
    /// In the order of [`SERVE`].
    fn flags(&self) -> [Option<&str>; 21] {
        [
            &self.role,
            &self.data,
            &self.listen,
            &self.metrics,
            &self.portals,
            &self.nfs_portals,
            &self.nfs_lease,
            &self.nfs_rpcbind,
            &self.chap,
            &self.capacity,
            &self.io,
            &self.workers,
            &self.event_days,
            &self.sessions,
            &self.logins,
            &self.logins_per_address,
            &self.buffers,
            &self.api_connections,
            &self.log,
            &self.log_format,
            &self.client_file,
        ]
        .map(|flag| flag.as_deref())
    }
}

/// A lease, in seconds.
struct Lease(u64);

impl FromStr for Lease {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // Below this a client whose network hiccups loses its locks.
        let seconds = text.parse().ok().filter(|seconds| (5..=3600).contains(seconds));
        seconds.map(Self).ok_or("write seconds, from 5 to 3600")
    }
}

/// What a daemon is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Role {
    All,
    Control,
    Node,
}

impl Role {
    const fn word(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Control => "control",
            Self::Node => "node",
        }
    }
}

impl FromStr for Role {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "all" => Ok(Self::All),
            "control" => Ok(Self::Control),
            "node" => Ok(Self::Node),
            _ => Err("write all, control or node"),
        }
    }
}

/// `auto` or `off`.
struct Auto(bool);

impl FromStr for Auto {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self(true)),
            "off" => Ok(Self(false)),
            _ => Err("write auto or off"),
        }
    }
}

/// `required` or `off`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ChapRequired(pub(crate) bool);

impl FromStr for ChapRequired {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "required" => Ok(Self(true)),
            "off" => Ok(Self(false)),
            _ => Err("write required or off"),
        }
    }
}

struct IoName(IoMode);

impl FromStr for IoName {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "cached" => Ok(Self(IoMode::Cached)),
            "direct" => Ok(Self(IoMode::Direct)),
            _ => Err("write cached or direct"),
        }
    }
}

/// The form of the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

impl FromStr for LogFormat {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("write text or json"),
        }
    }
}

struct Portals(Vec<SocketAddr>);

impl FromStr for Portals {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let read = |part: &str| {
            let part = part.trim();
            part.parse().map_err(|_| format!("'{part}' is not an address and a port"))
        };
        text.split(',').map(read).collect::<Result<_, _>>().map(Self)
    }
}

/// Portals, or the word for not having any.
struct PortalsOrNone(Vec<SocketAddr>);

impl FromStr for PortalsOrNone {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.trim() == "none" {
            return Ok(Self(Vec::new()));
        }
        text.parse().map(|Portals(portals)| Self(portals)).map_err(|why| why + "; none is a value")
    }
}

/// The daemon's settings, read and checked.
#[derive(Debug)]
pub(crate) struct ServeSettings {
    pub(crate) role: Role,
    /// Absolute.
    pub(crate) data: PathBuf,
    pub(crate) listen: SocketAddr,
    pub(crate) metrics: Option<SocketAddr>,
    pub(crate) portals: Vec<SocketAddr>,
    /// `None` where nothing is said: the usual one, for whom it can work.
    pub(crate) nfs_portals: Option<Vec<SocketAddr>>,
    pub(crate) nfs_lease_ms: u64,
    pub(crate) nfs_rpcbind: bool,
    pub(crate) chap: ChapRequired,
    pub(crate) capacity: Option<ByteSize>,
    pub(crate) io: IoMode,
    /// 0: one per core.
    pub(crate) workers: usize,
    /// `None`: for ever.
    pub(crate) event_days: Option<NonZeroU32>,
    pub(crate) places: Places,
    pub(crate) buffers: ByteSize,
    pub(crate) api_connections: usize,
    pub(crate) log: String,
    pub(crate) log_format: LogFormat,
    pub(crate) client_file: bool,
}

/// The file that was named by flag or environment.
fn named(global: &GlobalArguments) -> Option<PathBuf> {
    let variable = || std::env::var_os("COMMONHOLD_CONFIG").filter(|path| !path.is_empty());
    global.config.clone().or_else(|| variable().map(PathBuf::from))
}

fn serve_layers(global: &GlobalArguments) -> Result<Layers, ConfigError> {
    let user = user_directory().map(|directory| directory.join("serve.toml"));
    let usual: Vec<PathBuf> =
        user.into_iter().chain([PathBuf::from("/etc/commonhold/serve.toml")]).collect();
    Layers::read(named(global).as_deref(), &usual, &SERVE)
}

fn client_layers(global: &GlobalArguments) -> Result<Layers, ConfigError> {
    Layers::read(named(global).as_deref(), &client_file::usual(), &CLIENT)
}

impl ServeSettings {
    pub(crate) fn read(
        global: &GlobalArguments,
        arguments: &ServeArguments,
        new_token: bool,
    ) -> Result<Self, Failure> {
        let layers = serve_layers(global)?;
        let role = needed(&layers, &ROLE, arguments.role.as_deref())?;
        roles::check(role, &layers, arguments)?;
        if new_token {
            roles::check_new_token(role)?;
        }
        Self::from_layers(&layers, arguments)
    }

    fn from_layers(layers: &Layers, arguments: &ServeArguments) -> Result<Self, Failure> {
        let missing =
            |key: &Key, hint: &str| ConfigError::Missing { name: key.name, hint: hint.to_owned() };
        let data: PathBuf = layers.get(&DATA, arguments.data.as_deref())?.ok_or_else(|| {
            missing(&DATA, "Give --data DIR: the directory is made if it is not there.")
        })?;
        let data = std::path::absolute(&data)
            .map_err(|why| Failure::Io { what: data.display().to_string(), why })?;
        Ok(Self {
            role: needed(layers, &ROLE, arguments.role.as_deref())?,
            data,
            listen: needed(layers, &LISTEN, arguments.listen.as_deref())?,
            metrics: layers.get(&METRICS, arguments.metrics.as_deref())?,
            portals: needed::<Portals>(layers, &PORTALS, arguments.portals.as_deref())?.0,
            nfs_portals: layers
                .get::<PortalsOrNone>(&NFS_PORTALS, arguments.nfs_portals.as_deref())?
                .map(|portals| portals.0),
            nfs_lease_ms: needed::<Lease>(layers, &NFS_LEASE, arguments.nfs_lease.as_deref())?.0
                * 1000,
            nfs_rpcbind: needed::<Auto>(layers, &NFS_RPCBIND, arguments.nfs_rpcbind.as_deref())?.0,
            chap: needed(layers, &CHAP, arguments.chap.as_deref())?,
            capacity: layers.get(&CAPACITY, arguments.capacity.as_deref())?,
            io: needed::<IoName>(layers, &IO, arguments.io.as_deref())?.0,
            workers: needed(layers, &WORKERS, arguments.workers.as_deref())?,
            event_days: NonZeroU32::new(needed(
                layers,
                &EVENT_DAYS,
                arguments.event_days.as_deref(),
            )?),
            places: places(layers, arguments)?,
            buffers: needed(layers, &BUFFERS, arguments.buffers.as_deref())?,
            api_connections: count(layers, &API_CONNECTIONS, &arguments.api_connections)?,
            log: needed(layers, &LOG, arguments.log.as_deref())?,
            log_format: needed(layers, &LOG_FORMAT, arguments.log_format.as_deref())?,
            client_file: needed(layers, &CLIENT_FILE, arguments.client_file.as_deref())?,
        })
    }
}

fn places(layers: &Layers, arguments: &ServeArguments) -> Result<Places, ConfigError> {
    Ok(Places {
        sessions: count(layers, &SESSIONS, &arguments.sessions)?,
        logins: count(layers, &LOGINS, &arguments.logins)?,
        logins_per_address: count(layers, &LOGINS_PER_ADDRESS, &arguments.logins_per_address)?,
    })
}

/// A limit: none of them can be zero, for nobody would be served.
fn count(layers: &Layers, key: &Key, flag: &Option<String>) -> Result<usize, ConfigError> {
    needed::<NonZeroUsize>(layers, key, flag.as_deref()).map(NonZeroUsize::get)
}

/// A setting that has a default.
fn needed<T>(layers: &Layers, key: &Key, flag: Option<&str>) -> Result<T, ConfigError>
where
    T: FromStr<Err: std::fmt::Display>,
{
    layers.get(key, flag)?.ok_or_else(|| ConfigError::Missing {
        name: key.name,
        hint: "Set it by flag, environment or file.".to_owned(),
    })
}

/// A client of the service that the settings name, and the project chosen.
pub(crate) fn client(global: &GlobalArguments) -> Result<(Client, Option<String>), Failure> {
    let (url, token, project) = service(global)?;
    Ok((Client::new(&url, token)?.in_project(project.clone()), project))
}

/// Address of the service, token and project.
pub(crate) fn service(
    global: &GlobalArguments,
) -> Result<(String, Option<String>, Option<String>), Failure> {
    let layers = client_layers(global)?;
    let url: String = needed(&layers, &URL, global.url.as_deref())?;
    let token = layers.get(&TOKEN, global.token.as_deref())?;
    let project: Option<String> = layers.get(&PROJECT, global.project.as_deref())?;
    Ok((url, token, project))
}

/// A line of `config show`.
#[derive(Serialize)]
pub(crate) struct Setting {
    name: &'static str,
    /// Absent when no layer has it; a secret is only said to be there.
    value: Option<String>,
    from: Option<String>,
    about: &'static str,
}

impl Listed for Setting {
    const WORD: &'static str = "settings";
    const COLUMNS: &'static [Column<Self>] = &[
        ("setting", |setting| setting.name.to_owned()),
        ("value", |setting| setting.value.clone().unwrap_or_else(|| "(not set)".to_owned())),
        ("from", |setting| setting.from.clone().unwrap_or_else(|| "-".to_owned())),
        ("about", |setting| setting.about.to_owned()),
    ];
}

/// Every setting: those of the verbs, then those of `serve`.
pub(crate) fn all(
    global: &GlobalArguments,
    arguments: &ServeArguments,
) -> Result<Vec<Setting>, Failure> {
    // One file cannot hold both kinds: a named one is that of `serve` when it names one of its
    // settings, and is then none of the verbs'.
    let (client, serve) = match named(global) {
        Some(path) => one_named(&path)?,
        None => (client_layers(global)?, serve_layers(global)?),
    };
    let flags = [&global.url, &global.token, &global.project].map(|flag| flag.as_deref());
    let mut settings = Vec::new();
    settings.extend(CLIENT.iter().zip(flags).map(|(key, flag)| line(&client, key, flag)));
    settings.extend(SERVE.iter().zip(arguments.flags()).map(|(key, flag)| line(&serve, key, flag)));
    Ok(settings)
}

fn one_named(path: &Path) -> Result<(Layers, Layers), ConfigError> {
    let none = |keys: &[Key]| Layers::read(None, &[], keys);
    match Layers::read(Some(path), &[], &CLIENT) {
        Ok(client) => Ok((client, none(&SERVE)?)),
        Err(_) => Ok((none(&CLIENT)?, Layers::read(Some(path), &[], &SERVE)?)),
    }
}

fn line(layers: &Layers, key: &Key, flag: Option<&str>) -> Setting {
    let found = layers.find(key, flag);
    let from = found.as_ref().map(|value| value.origin.to_string());
    let value = found.map(|value| if key.secret { "(set)".to_owned() } else { value.text });
    Setting { name: key.name, value, from, about: key.about }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Origin;

    fn read(file: &str, arguments: &ServeArguments) -> Result<ServeSettings, Failure> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("serve.toml");
        std::fs::write(&path, file).unwrap();
        ServeSettings::from_layers(&Layers::read(Some(&path), &[], &SERVE).unwrap(), arguments)
    }

    #[test]
    fn the_defaults_are_loopback_and_chap() {
        let settings = read("data = '/d'", &ServeArguments::default()).unwrap();
        assert!(settings.listen.ip().is_loopback());
        assert!(settings.portals.iter().all(|portal| portal.ip().is_loopback()));
        assert_eq!(settings.chap, ChapRequired(true));
        assert_eq!(settings.data, Path::new("/d"));
        assert_eq!(settings.event_days, Some(control::EVENT_DAYS_DEFAULT));
        assert_eq!(
            read("data = '/d'\nevent_days = 0", &Default::default()).unwrap().event_days,
            None
        );
    }

    #[test]
    fn flags_and_files_are_read_in_their_types() {
        let file = "data = '/d'\nportals = ['0.0.0.0:1', '[::]:2']\nworkers = 3\ncapacity = '10g'\n\
            sessions = 7\nbuffers = '64m'\n";
        let flags = ServeArguments {
            listen: Some("[::1]:9".into()),
            log_format: Some("json".into()),
            ..ServeArguments::default()
        };
        let settings = read(file, &flags).unwrap();
        assert_eq!(settings.portals.len(), 2);
        assert!(settings.portals[1].is_ipv6());
        assert_eq!((settings.workers, settings.listen.port()), (3, 9));
        assert_eq!(settings.capacity, Some(ByteSize::gib(10)));
        assert_eq!(settings.log_format, LogFormat::Json);
        assert_eq!((settings.places.sessions, settings.buffers), (7, ByteSize(64 << 20)));
        assert_eq!((settings.nfs_portals, settings.nfs_lease_ms), (None, 90_000));
        let none = read("data = '/d'\nnfs_portals = 'none'", &ServeArguments::default());
        assert_eq!(none.unwrap().nfs_portals, Some(Vec::new()));
    }

    #[test]
    fn bad_values_are_refused_with_their_origin() {
        let none = ServeArguments::default();
        assert!(read("", &none).unwrap_err().report().contains("hint: Give --data DIR"));
        for file in [
            "chap = 'no'",
            "io = 'fast'",
            "listen = 'here'",
            "portals = ''",
            "nfs_portals = 'here'",
            "nfs_lease = 4",
            "nfs_rpcbind = 'on'",
            "nfs_lease = 3601",
            "nfs_lease = '90s'",
            "workers = -1",
            "sessions = 0",
            "logins = 'many'",
            "buffers = '1 box'",
        ] {
            let failure = read(&format!("data = '/d'\n{file}"), &none).unwrap_err();
            assert!(failure.report().contains("serve.toml"), "{}", failure.report());
            assert_eq!(failure.exit_code(), 2);
        }
    }

    #[test]
    fn secrets_are_only_said_to_be_there() {
        let layers = Layers::read(None, &[], &CLIENT).unwrap();
        let setting = line(&layers, &TOKEN, Some("hush"));
        assert_eq!(setting.value.as_deref(), Some("(set)"));
        assert_eq!(setting.from, Some(Origin::Flag("--token".into()).to_string()));
    }
}
