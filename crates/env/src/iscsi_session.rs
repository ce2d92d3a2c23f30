//! Sessions of the kernel's iSCSI initiator, as it shows them under /sys.
//!
//! Entry point: [`answers`].

use std::fs;
use std::path::Path;

/// The word for a session that carries commands.
const LOGGED_IN: &str = "LOGGED_IN";

/// Whether the session of this disk (such as `sdb`) is there and carries commands; one that is
/// logged in anew after its connection was lost does not.
#[must_use]
pub fn answers(disk: &str) -> bool {
    answers_at(Path::new("/sys"), disk)
}

fn answers_at(root: &Path, disk: &str) -> bool {
    let Ok(place) = fs::canonicalize(root.join("block").join(disk)) else { return false };
    let mut parts = place.components().filter_map(|part| part.as_os_str().to_str());
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let session = parts.find(|part| part.strip_prefix("session").is_some_and(is_number));
    session.is_some_and(|session| {
        let state = root.join("class/iscsi_session").join(session).join("state");
        fs::read_to_string(state).is_ok_and(|state| state.trim() == LOGGED_IN)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_answers_while_its_session_is_logged_in() {
        let root = tempfile::tempdir().unwrap();
        let session = |number: u32, disk: &str, state: &str| {
            let place =
                format!("devices/platform/host{number}/session{number}/target/block/{disk}");
            let place = root.path().join(place);
            fs::create_dir_all(&place).unwrap();
            fs::create_dir_all(root.path().join("block")).unwrap();
            std::os::unix::fs::symlink(place, root.path().join("block").join(disk)).unwrap();
            let class = root.path().join(format!("class/iscsi_session/session{number}"));
            fs::create_dir_all(&class).unwrap();
            fs::write(class.join("state"), format!("{state}\n")).unwrap();
        };
        session(1, "sda", "LOGGED_IN");
        session(2, "sdb", "FAILED");
        fs::create_dir_all(root.path().join("block/vda")).unwrap();
        let answers = |disk| answers_at(root.path(), disk);
        assert!(answers("sda"));
        assert!(!answers("sdb") && !answers("vda") && !answers("sdz"));
    }
}
