//! Settings: where each value comes from. Flag before environment before file before default.
//!
//! Invariant: a setting that is given but cannot be read is an error; it never falls back to a
//! weaker origin in silence.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Where a value comes from, strongest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Flag(String),
    Environment(String),
    File(PathBuf),
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) => write!(f, "flag {name}"),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

/// What a setting is: its key in files (`listen`), from which flag (`--listen`) and environment
/// name (`COMMONHOLD_LISTEN`) follow, its default, and what it is for.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) default: Option<&'static str>,
    pub(crate) about: &'static str,
    /// Never shown.
    pub(crate) secret: bool,
}

impl Key {
    fn flag(&self) -> String {
        format!("--{}", self.name.replace('_', "-"))
    }

    fn environment(&self) -> String {
        format!("COMMONHOLD_{}", self.name.to_ascii_uppercase())
    }
}

/// A setting's value as text, and its origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Value {
    pub(crate) text: String,
    pub(crate) origin: Origin,
}

/// Why a setting cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// Given, but not in its form.
    #[error("'{text}' ({origin}) is no value for {name}: {why}")]
    Unreadable { name: &'static str, text: String, origin: Origin, why: String },
    /// Needed, and given nowhere.
    #[error("{name} is not set")]
    Missing { name: &'static str, hint: String },
    /// Given, and of no use to what the daemon is to be.
    #[error("{name} ({origin}) is nothing for role {role}: {takers} take{} it", one(takers))]
    OtherRole { name: &'static str, origin: Origin, role: &'static str, takers: &'static str },
    /// A node that is found on loopback by default would be found by nobody.
    #[error(
        "role node needs {}: what they are by default is on loopback, where no other machine \
         reaches a node",
        missing.join(", ")
    )]
    NodeUntold { missing: Vec<&'static str> },
    /// The file is there and cannot be read.
    #[error("{}: {why}", path.display())]
    File { path: PathBuf, why: String },
}

/// The verb's ending after one role.
fn one(takers: &str) -> &'static str {
    if takers.contains(' ') { "" } else { "s" }
}

impl ConfigError {
    /// What to do next.
    pub(crate) fn hint(&self) -> &str {
        match self {
            Self::Unreadable { .. } => "`commonhold config show` says what each setting is for.",
            Self::Missing { hint, .. } => hint,
            Self::OtherRole { .. } => {
                "Leave it out, or give it where the other part of the service is started."
            }
            Self::NodeUntold { .. } => {
                "Give --listen ADDRESS:PORT, its door for the control plane; --portals \
                 ADDRESS:PORT,... for iSCSI; --nfs-portals ADDRESS:PORT,..., or none."
            }
            Self::File { .. } => "Mend the file, or name another one with --config.",
        }
    }
}

/// The value of a variable.
type Environment = Box<dyn Fn(&str) -> Option<String>>;

/// The layers below the flags.
pub(crate) struct Layers {
    environment: Environment,
    file: Option<(PathBuf, toml::Table)>,
}

impl Layers {
    /// The process's environment and this file. A file that is named must exist; the usual places
    /// are tried in their order.
    pub(crate) fn read(
        named: Option<&Path>,
        usual: &[PathBuf],
        keys: &[Key],
    ) -> Result<Self, ConfigError> {
        let path = named.or_else(|| usual.iter().map(PathBuf::as_path).find(|path| path.exists()));
        let file = path.map(|path| read_file(path, keys)).transpose()?;
        Ok(Self { environment: Box::new(|name| std::env::var(name).ok()), file })
    }

    /// The value of one setting; `None` when no layer has it. An empty environment variable
    /// counts as not set.
    pub(crate) fn find(&self, key: &Key, flag: Option<&str>) -> Option<Value> {
        let from = |text: &str, origin| Some(Value { text: text.to_owned(), origin });
        if let Some(text) = flag {
            return from(text, Origin::Flag(key.flag()));
        }
        let name = key.environment();
        if let Some(text) = (self.environment)(&name).filter(|text| !text.is_empty()) {
            return from(&text, Origin::Environment(name));
        }
        if let Some((path, table)) = &self.file
            && let Some(value) = table.get(key.name)
        {
            return from(&scalar(value), Origin::File(path.clone()));
        }
        key.default.and_then(|text| from(text, Origin::Default))
    }

    /// The same, in its type.
    pub(crate) fn get<T>(&self, key: &Key, flag: Option<&str>) -> Result<Option<T>, ConfigError>
    where
        T: FromStr<Err: fmt::Display>,
    {
        let Some(Value { text, origin }) = self.find(key, flag) else {
            return Ok(None);
        };
        let shown = if key.secret { "...".to_owned() } else { text.clone() };
        text.parse().map(Some).map_err(|why: T::Err| ConfigError::Unreadable {
            name: key.name,
            text: shown,
            origin,
            why: why.to_string(),
        })
    }
}

fn read_file(path: &Path, keys: &[Key]) -> Result<(PathBuf, toml::Table), ConfigError> {
    let wrong = |why: String| ConfigError::File { path: path.to_path_buf(), why };
    let text = std::fs::read_to_string(path).map_err(|why| wrong(why.to_string()))?;
    let table: toml::Table = text.parse().map_err(|why: toml::de::Error| wrong(why.to_string()))?;
    if let Some(name) = table.keys().find(|name| keys.iter().all(|key| key.name != *name)) {
        let known: Vec<_> = keys.iter().map(|key| key.name).collect();
        return Err(wrong(format!(
            "no setting is called '{name}'; there are {}",
            known.join(", ")
        )));
    }
    Ok((path.to_path_buf(), table))
}

/// Numbers and booleans as they would be written in the environment, lists with commas.
fn scalar(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Array(items) => items.iter().map(scalar).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

/// `$XDG_CONFIG_HOME/commonhold`, or `~/.config/commonhold`.
pub(crate) fn user_directory() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let base = variable("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .or_else(|| variable("HOME").map(|home| Path::new(&home).join(".config")))?;
    Some(base.join("commonhold"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: [Key; 3] = [
        Key { name: "listen", default: Some("127.0.0.1:1"), about: "", secret: false },
        Key { name: "workers", default: None, about: "", secret: false },
        Key { name: "token", default: None, about: "", secret: true },
    ];

    fn layers(environment: &[(&str, &str)], file: &str) -> Layers {
        let environment: Vec<(String, String)> =
            environment.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        Layers {
            environment: Box::new(move |name| {
                environment.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone())
            }),
            file: Some(("/etc/file.toml".into(), file.parse().unwrap())),
        }
    }

    #[test]
    fn flag_beats_environment_beats_file_beats_default() {
        let environment = [("COMMONHOLD_LISTEN", "b")];
        let all = layers(&environment, "listen = 'c'");
        let value = |text: &str, origin| Some(Value { text: text.into(), origin });
        let listen = &KEYS[0];
        assert_eq!(all.find(listen, Some("a")), value("a", Origin::Flag("--listen".into())));
        assert_eq!(
            all.find(listen, None),
            value("b", Origin::Environment("COMMONHOLD_LISTEN".into()))
        );
        let file = layers(&[("COMMONHOLD_LISTEN", "")], "listen = 'c'");
        assert_eq!(file.find(listen, None), value("c", Origin::File("/etc/file.toml".into())));
        let none = layers(&[], "");
        assert_eq!(none.find(listen, None), value("127.0.0.1:1", Origin::Default));
        assert_eq!(none.find(&KEYS[1], None), None);
    }

    #[test]
    fn a_value_that_cannot_be_read_is_an_error_that_names_its_origin_and_no_secret() {
        let file = layers(&[("COMMONHOLD_TOKEN", "hush")], "workers = 4");
        assert_eq!(file.get::<u16>(&KEYS[1], None).unwrap(), Some(4));
        let text = file.get::<u16>(&KEYS[1], Some("many")).unwrap_err().to_string();
        assert!(text.contains("'many' (flag --workers) is no value for workers"), "{text}");
        let text = file.get::<u16>(&KEYS[2], None).unwrap_err().to_string();
        assert!(text.contains("COMMONHOLD_TOKEN") && !text.contains("hush"), "{text}");
    }

    #[test]
    fn files_are_read_strictly() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.toml");
        let read = |named| Layers::read(named, std::slice::from_ref(&path), &KEYS);
        assert!(read(None).is_ok());
        assert!(read(Some(&path)).is_err());
        std::fs::write(&path, "listen = ['x', 'y']").unwrap();
        let listen = read(None).unwrap().find(&KEYS[0], None).unwrap();
        assert!(listen.text == "x,y" && listen.origin == Origin::File(path.clone()), "{listen:?}");
        std::fs::write(&path, "lisen = 'x'").unwrap();
        let error = read(None).err().unwrap();
        assert!(error.to_string().contains("no setting is called 'lisen'"), "{error}");
        std::fs::write(&path, "listen = ").unwrap();
        assert!(matches!(read(None), Err(ConfigError::File { .. })));
    }
}
