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
    let client = if client.contains(':') { format!("[{client}]") } else { client.to_owned() };
    let what = format!("{client}:{path}");
    match step {
        Step::Start if options.is_empty() => place.call(&["exportfs", &what]).await,
        Step::Start => place.call(&["exportfs", "-o", &options.join(","), &what]).await,
        Step::Check if is_exported(place, path).await? => Ok(()),
        Step::Check => Err(format!("{path} is not exported any more")),
        Step::Stop | Step::Kill => {
            if is_exported(place, path).await? {
                place.call(&["exportfs", "-u", &what]).await?;
            }
            // Else the server holds on to the file system for a while, and it stays busy.
            place.call(&["exportfs", "-f"]).await
        }
    }
}

async fn is_exported(place: &Place, path: &str) -> Result<bool, String> {
    let said = place.ask(&["exportfs", "-s"]).await?;
    Ok(said.lines().any(|line| line.split_whitespace().next() == Some(path)))
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
