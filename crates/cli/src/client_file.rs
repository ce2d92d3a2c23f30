//! The client's settings that `serve` leaves behind, so that verbs on the same machine need none.
//!
//! Invariant: the file holds a token, so it is readable by its owner only from its first byte on;
//! a file that a person wrote is never touched.

use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::config;

const NAME: &str = "client.toml";
/// Who has this line in the file has not edited it, or may lose the edit.
const MARK: &str = "# Written by `commonhold serve`. Remove this line to keep your own changes.";

/// Where the verbs look: the user's own directory.
pub(crate) fn usual() -> Vec<PathBuf> {
    config::user_directory().map(|directory| directory.join(NAME)).into_iter().collect()
}

/// Write `DATA/client.toml`, and the user's own where that is ours or missing. With no token
/// (it was shown at an earlier start) the one in `DATA/client.toml` goes on.
///
/// Returns the paths that now hold the settings.
pub(crate) fn leave(data: &Path, url: &str, token: Option<&str>) -> io::Result<Vec<PathBuf>> {
    let ours = data.join(NAME);
    let token = match token {
        Some(token) => Some(token.to_owned()),
        None => token_in(&ours),
    };
    let Some(token) = token else {
        return Ok(Vec::new());
    };
    let mut written = Vec::new();
    for path in std::iter::once(ours).chain(usual()) {
        if !is_a_persons(&path) {
            replace(&path, url, &token)?;
            written.push(path);
        }
    }
    Ok(written)
}

fn token_in(path: &Path) -> Option<String> {
    let table: toml::Table = std::fs::read_to_string(path).ok()?.parse().ok()?;
    table.get("token")?.as_str().map(str::to_owned)
}

fn is_a_persons(path: &Path) -> bool {
    match std::fs::read_to_string(path) {
        Ok(text) => !text.lines().any(|line| line == MARK),
        Err(why) => why.kind() != io::ErrorKind::NotFound,
    }
}

/// By a new file and a rename: who reads sees the old settings or the new ones.
fn replace(path: &Path, url: &str, token: &str) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    let draft = path.with_extension("new");
    match std::fs::remove_file(&draft) {
        Err(why) if why.kind() != io::ErrorKind::NotFound => return Err(why),
        _ => {}
    }
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    let (url, token) = (toml::Value::from(url), toml::Value::from(token));
    write!(file, "{MARK}\nurl = {url}\ntoken = {token}\n")?;
    file.sync_all()?;
    std::fs::rename(&draft, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_file_is_the_owners_alone_and_keeps_its_token() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a/client.toml");
        replace(&path, "http://127.0.0.1:1", "hush").unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(token_in(&path).as_deref(), Some("hush"));
        assert!(!is_a_persons(&path));
        replace(&path, "http://127.0.0.1:2", "hush").unwrap();
        assert!(std::fs::read_to_string(&path).unwrap().contains("url = \"http://127.0.0.1:2\""));
    }

    #[test]
    fn a_persons_file_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(NAME);
        assert!(!is_a_persons(&path));
        std::fs::write(&path, "url = 'http://elsewhere:1'\n").unwrap();
        assert!(is_a_persons(&path));
        assert_eq!(token_in(&path), None);
    }
}
