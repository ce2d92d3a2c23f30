//! The kernel's initiator, by iscsiadm(8).

use std::path::{Path, PathBuf};
use std::time::Duration;

use api::attachment::ChapCredentials;
use env::{mounts, whole};
use tokio::process::Command;

use super::ways::Login;

const LIMIT: Duration = Duration::from_secs(60);
const APPEARS: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(50);
/// ISCSI_ERR_SESS_EXISTS, ISCSI_ERR_NO_OBJS_FOUND: it is as it should be.
const EXISTS: i32 = 15;
const NOTHING: i32 = 21;

/// Where open-iscsi keeps its node records.
const NODES: [&str; 2] = ["/etc/iscsi/nodes", "/var/lib/iscsi/nodes"];

/// Whether this machine has it.
pub(super) fn is_there() -> bool {
    whole::is_program("iscsiadm") && mounts::real_path(Path::new("/sys/module/iscsi_tcp")).is_some()
}

/// The name that udev gives it.
pub(super) fn device_of(portal: &str, target: &str, lun: u16) -> PathBuf {
    PathBuf::from(format!("/dev/disk/by-path/ip-{portal}-iscsi-{target}-lun-{lun}"))
}

/// Without discovery: the service has said where it is.
pub(super) async fn log_in(login: &Login, chap: Option<&ChapCredentials>) -> Result<(), String> {
    node(login, &["-o", "new"], &[]).await?;
    for (name, value) in settings(chap.is_some()) {
        node(login, &["-o", "update", "-n", name, "-v", value], &[]).await?;
    }
    if let Some(chap) = chap {
        write_secret(login, chap)?;
    }
    node(login, &["--login"], &[EXISTS]).await
}

fn settings(chap: bool) -> Vec<(&'static str, &'static str)> {
    vec![
        // The agent logs in, when the service says so.
        ("node.startup", "manual"),
        // A host that is cut off fails its commands after five seconds, not after two minutes.
        ("node.session.timeo.replacement_timeout", "5"),
        ("node.session.auth.authmethod", if chap { "CHAP" } else { "None" }),
    ]
}

/// Into the record itself: on a command line everybody could read it.
fn write_secret(login: &Login, chap: &ChapCredentials) -> Result<(), String> {
    let record = NODES.iter().find_map(|nodes| record_of(Path::new(nodes), login));
    let record = record.ok_or("open-iscsi has written no node record")?;
    let failed = |why: std::io::Error| format!("{}: {why}", record.display());
    let text = whole::read(&record).map_err(failed)?.unwrap_or_default();
    whole::replace(&record, &with_secret(&text, chap)).map_err(failed)
}

/// `<nodes>/<target>/<address>,<port>`, followed by `,<group>` where the portal group is known, is
/// the record, or a directory with one for each interface.
fn record_of(nodes: &Path, login: &Login) -> Option<PathBuf> {
    use env::{Files, RealFiles};
    let of_target = nodes.join(&login.target);
    let (address, port) = login.portal.rsplit_once(':')?;
    let address = address.trim_start_matches('[').trim_end_matches(']');
    let portal = format!("{address},{port}");
    let names = RealFiles.list(&of_target).ok()?;
    let is_its = |name: &&PathBuf| {
        let name = name.to_string_lossy();
        name.strip_prefix(&portal).is_some_and(|rest| rest.is_empty() || rest.starts_with(','))
    };
    let name = names.iter().find(is_its)?;
    let record = of_target.join(name);
    match RealFiles.list(&record) {
        Ok(files) => files.first().map(|file| record.join(file)),
        Err(_) => Some(record),
    }
}

fn with_secret(record: &str, chap: &ChapCredentials) -> String {
    const USER: &str = "node.session.auth.username";
    const SECRET: &str = "node.session.auth.password";
    let others = record.lines().filter(|line| {
        let name = line.split('=').next().unwrap_or_default().trim();
        name != USER && name != SECRET
    });
    let mut text = String::new();
    for line in others {
        // The last line of a record says that it is whole.
        if line.starts_with("# END RECORD") {
            text.push_str(&format!("{USER} = {}\n{SECRET} = {}\n", chap.user, chap.secret));
        }
        text.push_str(line);
        text.push('\n');
    }
    text
}

/// The volume has grown.
pub(super) async fn rescan(login: &Login) -> Result<(), String> {
    node(login, &["--rescan"], &[]).await
}

/// Log out, and leave no record that would log in at the next start of the machine.
pub(super) async fn log_out(login: &Login) -> Result<(), String> {
    node(login, &["--logout"], &[NOTHING]).await?;
    node(login, &["-o", "delete"], &[NOTHING]).await
}

/// # Errors
/// It does not, within some seconds.
pub(super) async fn appears(device: PathBuf) -> Result<PathBuf, String> {
    let there = async {
        while mounts::real_path(&device).is_none() {
            tokio::time::sleep(LOOK).await;
        }
    };
    match tokio::time::timeout(APPEARS, there).await {
        Ok(()) => Ok(device),
        Err(_) => Err(format!("{} does not appear; does udev run?", device.display())),
    }
}

async fn node(login: &Login, what: &[&str], fine: &[i32]) -> Result<(), String> {
    let mut command = Command::new("iscsiadm");
    command.args(["-m", "node", "-T", &login.target, "-p", &login.portal]).args(what);
    let failed = |why: String| format!("iscsiadm {}: {why}", what.join(" "));
    let output = tokio::time::timeout(LIMIT, command.kill_on_drop(true).output()).await;
    let output = match output {
        Ok(Ok(output)) => output,
        Ok(Err(why)) => return Err(failed(why.to_string())),
        Err(_) => return Err(failed(format!("no end within {LIMIT:?}"))),
    };
    let code = output.status.code();
    if output.status.success() || code.is_some_and(|code| fine.contains(&code)) {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(failed(said.trim().lines().last().unwrap_or("it failed").to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_stands_in_the_record_once_and_before_its_end() {
        let record =
            "# BEGIN RECORD 2.1\nnode.name = t\nnode.session.auth.username = old\n# END RECORD\n";
        let [user, secret, target_user, target_secret] = ["u", "s", "tu", "ts"].map(str::to_owned);
        let chap = ChapCredentials { user, secret, target_user, target_secret };
        let once = with_secret(record, &chap);
        assert_eq!(
            once,
            "# BEGIN RECORD 2.1\nnode.name = t\nnode.session.auth.username = u\n\
             node.session.auth.password = s\n# END RECORD\n"
        );
        assert_eq!(with_secret(&once, &chap), once);
    }

    #[test]
    fn the_record_of_a_portal_is_found_with_and_without_a_portal_group() {
        let target = "iqn.2026-11.io:v".to_owned();
        for (made, is_there) in [
            ("10.0.0.5,3260", true),
            ("10.0.0.5,3260,1/default", true),
            ("10.0.0.5,32601", false),
            ("10.0.0.51,3260,1", false),
        ] {
            let nodes = tempfile::tempdir().unwrap();
            let record = nodes.path().join(&target).join(made);
            std::fs::create_dir_all(record.parent().unwrap()).unwrap();
            std::fs::write(&record, "").unwrap();
            let portal = "10.0.0.5:3260".to_owned();
            let login = Login { target: target.clone(), portal, size_bytes: 0 };
            assert_eq!(record_of(nodes.path(), &login), is_there.then_some(record), "{made}");
        }
    }

    #[test]
    fn devices_have_the_names_of_udev() {
        assert_eq!(
            device_of("10.0.0.5:3260", "iqn.2026-11.io:v", 0),
            Path::new("/dev/disk/by-path/ip-10.0.0.5:3260-iscsi-iqn.2026-11.io:v-lun-0")
        );
    }
}
