//! The kernel's initiator, by iscsiadm(8).

use std::path::{Path, PathBuf};
use std::time::Duration;

use api::attachment::ChapCredentials;
use env::multipath::Map;
use env::{iscsi_session, mounts, whole};
use tokio::net::TcpStream;

use super::plan::{Session, Sight};
use super::programs::{run, said};
use crate::guard::gate_path_of;

const LIMIT: Duration = Duration::from_secs(60);
/// How long a portal may take to take a connection, before it is left to a later try.
const CONNECTS: Duration = Duration::from_secs(2);
const APPEARS: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(50);
/// ISCSI_ERR_SESS_EXISTS, ISCSI_ERR_NO_OBJS_FOUND: it is as it should be.
const EXISTS: i32 = 15;
const NOTHING: i32 = 21;

/// Where open-iscsi keeps its node records.
const NODES: [&str; 2] = ["/etc/iscsi/nodes", "/var/lib/iscsi/nodes"];

/// A target at one of its portals, which is what open-iscsi keeps a record of and has a session
/// with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Node {
    pub(super) target: String,
    pub(super) portal: String,
    pub(super) lun: u16,
}

/// Whether this machine has it.
pub(super) fn is_there() -> bool {
    whole::is_program("iscsiadm") && mounts::real_path(Path::new("/sys/module/iscsi_tcp")).is_some()
}

/// What there is of a target's sessions by these portals.
pub(super) fn look(target: &str, portals: &[String], lun: u16) -> Sight {
    let session = |portal: &String| {
        let device = device_of(portal, target, lun);
        let disk = mounts::real_path(&device)?.file_name()?.to_str()?.to_owned();
        let answers = iscsi_session::answers(&disk);
        Some(Session { portal: portal.clone(), disk, device, answers })
    };
    let sessions: Vec<Session> = portals.iter().filter_map(session).collect();
    let map = Map::above(sessions.iter().map(|session| session.disk.as_str()));
    let map = map.map(|map| (map.path(), PathBuf::from(gate_path_of(&map))));
    Sight { sessions, map }
}

/// The name that udev gives it.
fn device_of(portal: &str, target: &str, lun: u16) -> PathBuf {
    PathBuf::from(format!("/dev/disk/by-path/ip-{portal}-iscsi-{target}-lun-{lun}"))
}

/// Whether something listens there: a login to nothing would take long, and iscsid may go on with
/// it when nobody waits any more.
pub(super) async fn connects(portal: &str) -> bool {
    matches!(tokio::time::timeout(CONNECTS, TcpStream::connect(portal)).await, Ok(Ok(_)))
}

/// Without discovery: the service has said where it is. Its disk is there at the end.
///
/// # Errors
/// There is no session then, or nothing can be said about it.
pub(super) async fn log_in(
    node: &Node,
    chap: Option<&ChapCredentials>,
    several: bool,
) -> Result<(), String> {
    tell(node, &["-o", "new"], &[]).await?;
    for (name, value) in settings(chap.is_some(), several) {
        tell(node, &["-o", "update", "-n", name, "-v", value], &[]).await?;
    }
    if let Some(chap) = chap {
        write_secret(node, chap)?;
    }
    tell(node, &["--login"], &[EXISTS]).await?;
    appears(node).await
}

fn settings(chap: bool, several: bool) -> Vec<(&'static str, &'static str)> {
    let mut all = vec![
        // The agent logs in, when the service says so.
        ("node.startup", "manual"),
        // A host that is cut off fails its commands after five seconds, not after two minutes.
        ("node.session.timeo.replacement_timeout", "5"),
        // A login ends before nobody waits for it any more: one that comes to its end later is a
        // session that nobody has let in.
        ("node.session.initial_login_retry_max", "2"),
        ("node.conn[0].timeo.login_timeout", "10"),
        ("node.session.auth.authmethod", if chap { "CHAP" } else { "None" }),
    ];
    if several {
        // What waits for a path that died goes down another one after seconds.
        all.push(("node.conn[0].timeo.noop_out_interval", "1"));
        all.push(("node.conn[0].timeo.noop_out_timeout", "2"));
    }
    all
}

/// Into the record itself: on a command line everybody could read it.
fn write_secret(node: &Node, chap: &ChapCredentials) -> Result<(), String> {
    let record = NODES.iter().find_map(|nodes| record_of(Path::new(nodes), node));
    let record = record.ok_or("open-iscsi has written no node record")?;
    let failed = |why: std::io::Error| format!("{}: {why}", record.display());
    let text = whole::read(&record).map_err(failed)?.unwrap_or_default();
    whole::replace(&record, &with_secret(&text, chap)).map_err(failed)
}

/// `<nodes>/<target>/<address>,<port>`, followed by `,<group>` where the portal group is known, is
/// the record, or a directory with one for each interface.
fn record_of(nodes: &Path, node: &Node) -> Option<PathBuf> {
    use env::{Files, RealFiles};
    let of_target = nodes.join(&node.target);
    let (address, port) = node.portal.rsplit_once(':')?;
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
pub(super) async fn rescan(node: &Node) -> Result<(), String> {
    tell(node, &["--rescan"], &[]).await
}

/// Log out, and leave no record that would log in at the next start of the machine.
pub(super) async fn log_out(node: &Node) -> Result<(), String> {
    tell(node, &["--logout"], &[NOTHING]).await?;
    tell(node, &["-o", "delete"], &[NOTHING]).await
}

/// # Errors
/// It does not, within some seconds.
async fn appears(node: &Node) -> Result<(), String> {
    let device = device_of(&node.portal, &node.target, node.lun);
    let there = async {
        while mounts::real_path(&device).is_none() {
            tokio::time::sleep(LOOK).await;
        }
    };
    let late = |_| format!("{} does not appear; does udev run?", device.display());
    tokio::time::timeout(APPEARS, there).await.map_err(late)
}

async fn tell(node: &Node, what: &[&str], fine: &[i32]) -> Result<(), String> {
    let line = ["iscsiadm", "-m", "node", "-T", &node.target, "-p", &node.portal];
    let failed = |why: String| format!("iscsiadm {} ({}): {why}", what.join(" "), node.portal);
    let output = run(&[&line[..], what].concat(), LIMIT).await.map_err(failed)?;
    let code = output.status.code();
    if output.status.success() || code.is_some_and(|code| fine.contains(&code)) {
        return Ok(());
    }
    Err(failed(said(&output)))
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
            let node = Node { target: target.clone(), portal, lun: 0 };
            assert_eq!(record_of(nodes.path(), &node), is_there.then_some(record), "{made}");
        }
    }

    #[test]
    fn sessions_of_several_paths_tell_soon_that_one_has_died() {
        let has = |several, name: &str| {
            settings(false, several).iter().find(|(one, _)| *one == name).map(|(_, value)| *value)
        };
        for several in [true, false] {
            assert_eq!(has(several, "node.session.timeo.replacement_timeout"), Some("5"));
            assert_eq!(has(several, "node.startup"), Some("manual"));
        }
        assert_eq!(has(true, "node.conn[0].timeo.noop_out_interval"), Some("1"));
        assert_eq!(has(true, "node.conn[0].timeo.noop_out_timeout"), Some("2"));
        assert_eq!(has(false, "node.conn[0].timeo.noop_out_interval"), None);
    }

    #[test]
    fn devices_have_the_names_of_udev() {
        assert_eq!(
            device_of("10.0.0.5:3260", "iqn.2026-11.io:v", 0),
            Path::new("/dev/disk/by-path/ip-10.0.0.5:3260-iscsi-iqn.2026-11.io:v-lun-0")
        );
    }
}
