//! Resources that a service of the host itself runs: exports of its NFS server, units of systemd.

use std::time::Duration;

use ::guard::group::Step;

use super::aside::Sign;
use super::steps::Place;

/// For systemd to pass a signal on.
const PATIENCE: Duration = Duration::from_secs(2);

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
        Step::Kill => {
            // A unit that does not run cannot be killed.
            let _ = place.call(&["systemctl", "kill", "--signal=KILL", name]).await;
            place.call(&["systemctl", "stop", name]).await
        }
    }
}

/// To all of a unit.
pub(super) async fn signal_unit(name: &str, sign: Sign) {
    let signal = match sign {
        Sign::Freeze => "STOP",
        Sign::Thaw => "CONT",
        Sign::Kill => "KILL",
    };
    let line = ["kill", "--signal", signal, name];
    let mut program = tokio::process::Command::new("systemctl");
    let ended = tokio::time::timeout(PATIENCE, program.args(line).kill_on_drop(true).status());
    match ended.await {
        Ok(Ok(status)) if status.success() => {}
        Ok(Ok(status)) => tracing::debug!(%status, unit = name, "a unit that does not run"),
        Ok(Err(error)) => tracing::warn!(%error, unit = name, "the unit cannot be signalled"),
        Err(_) => tracing::warn!(unit = name, "systemd does not answer"),
    }
}
