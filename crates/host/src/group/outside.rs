//! Resources that a service of the host itself runs: exports of its NFS server, units of systemd.

use std::process::Stdio;
use std::time::Duration;

use ::guard::group::Step;

use super::aside::Sign;
use super::steps::Place;

/// For systemd to pass a signal on.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two looks whether a killed unit is gone.
const GOING: Duration = Duration::from_millis(50);

pub(super) async fn export(
    place: &Place,
    path: &str,
    client: &str,
    options: &[String],
    step: Step,
) -> Result<(), String> {
    // exports(5): an IPv6 address that stands before a colon is written in brackets.
    let what = if client.contains(':') {
        format!("[{client}]:{path}")
    } else {
        format!("{client}:{path}")
    };
    match step {
        Step::Start if options.is_empty() => place.call(&["exportfs", &what]).await,
        Step::Start => place.call(&["exportfs", "-o", &options.join(","), &what]).await,
        Step::Check if is_listed(&listed(place).await?, path, None) => Ok(()),
        Step::Check => Err(format!("{path} is not exported any more")),
        Step::Stop | Step::Kill => {
            // The path may be exported to others; what was not exported cannot be taken back.
            if is_listed(&listed(place).await?, path, None) {
                place.tell(&["exportfs", "-u", &what]).await?;
                if is_listed(&listed(place).await?, path, Some(client)) {
                    return Err(format!("{path} stays exported to {client}"));
                }
            }
            // Else the server holds on to the file system for a while, and it stays busy.
            place.call(&["exportfs", "-f"]).await
        }
    }
}

/// In the form of exports(5): a path, blanks, a client with its options in brackets.
async fn listed(place: &Place) -> Result<String, String> {
    place.ask(&["exportfs", "-s"]).await
}

fn is_listed(said: &str, path: &str, to: Option<&str>) -> bool {
    said.lines().any(|line| {
        let mut words = line.split_whitespace();
        let is_path = words.next() == Some(path);
        let client = words.next().and_then(|word| word.split('(').next());
        is_path && (to.is_none() || client == to)
    })
}

pub(super) async fn unit(place: &Place, name: &str, step: Step) -> Result<(), String> {
    match step {
        Step::Start => place.call(&["systemctl", "start", name]).await,
        Step::Stop => place.call(&["systemctl", "stop", name]).await,
        Step::Check => place.call(&["systemctl", "is-active", "--quiet", name]).await,
        Step::Kill => killed(place, name).await,
    }
}

/// The job comes first: systemd would start a unit with `Restart=` anew in the place of what is
/// killed. Killed again and again, because what the unit runs to be stopped may wait for the
/// volume, too.
async fn killed(place: &Place, name: &str) -> Result<(), String> {
    // What is not loaded cannot be stopped; how it is afterwards is what counts.
    place.tell(&["systemctl", "stop", "--no-block", name]).await?;
    loop {
        place.tell(&["systemctl", "kill", "--signal=KILL", name]).await?;
        // Its end takes systemd a moment.
        tokio::time::sleep(GOING).await;
        let state =
            place.ask(&["systemctl", "show", "--property=ActiveState", "--value", name]).await?;
        let state = state.trim();
        if matches!(state, "inactive" | "failed") {
            return Ok(());
        }
        if tokio::time::timeout(GOING, place.abort.notified()).await.is_ok() {
            return Err(format!("it does not end: systemd says that it is {state}"));
        }
    }
}

/// To all of a unit. systemd freezes and thaws it by its cgroup; where it cannot (no cgroup v2,
/// no D-Bus, a unit that is just being started) by a signal, which the unit notices.
pub(super) async fn sign_to_unit(name: &str, sign: Sign) {
    match sign {
        Sign::Freeze if systemctl(&["freeze", name]).await => {}
        Sign::Freeze => drop(systemctl(&["kill", "--signal=STOP", name]).await),
        Sign::Thaw => {
            systemctl(&["thaw", name]).await;
            systemctl(&["kill", "--signal=CONT", name]).await;
        }
        Sign::Kill => {
            systemctl(&["stop", "--no-block", name]).await;
            systemctl(&["kill", "--signal=KILL", name]).await;
        }
    }
}

/// Whether systemd has done it.
async fn systemctl(line: &[&str]) -> bool {
    let mut program = tokio::process::Command::new("systemctl");
    program.args(line).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    match tokio::time::timeout(PATIENCE, program.kill_on_drop(true).status()).await {
        Ok(Ok(status)) => {
            tracing::debug!(%status, ?line, "systemctl");
            status.success()
        }
        Ok(Err(error)) => {
            tracing::warn!(%error, ?line, "systemctl cannot be run");
            false
        }
        Err(_) => {
            tracing::warn!(?line, "systemd does not answer");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_export_of_the_path_to_another_client_is_not_this_one() {
        let said = "/mnt            10.77.0.0/24(sync,wdelay,rw)\n/mnt\tfd00::/64(ro)\n";
        assert!(is_listed(said, "/mnt", None) && is_listed(said, "/mnt", Some("fd00::/64")));
        assert!(!is_listed(said, "/mnt", Some("10.77.1.0/24")));
        assert!(!is_listed(said, "/mnt/a", None));
    }
}
