//! Resources that a service of the host itself runs: exports of its NFS server, units of systemd.

use std::process::Stdio;
use std::time::Duration;

use ::guard::group::Step;
use env::processes::cgroup::Cgroup;

use super::aside::Sign;
use super::steps::Place;

/// For systemd to pass a signal on.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two looks whether a killed unit is gone.
const GOING: Duration = Duration::from_millis(50);
/// Between two kills while systemd takes the job.
const AGAIN: Duration = Duration::from_millis(2);

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

/// Killed again and again, because what the unit runs to be stopped may wait for the volume, too.
async fn killed(place: &Place, name: &str) -> Result<(), String> {
    loop {
        kill_unit(name).await;
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

/// To all of a unit, by its cgroup; where that cannot be had (no cgroup v2, a unit that is just
/// being started) by signals, which the unit notices.
///
/// Not by systemd's own freezer: one release thaws a unit to stop it, and it would run on a volume
/// that is lost; another refuses to stop it, or to start it ever after.
pub(super) async fn sign_to_unit(name: &str, sign: Sign) {
    if sign == Sign::Kill {
        return kill_unit(name).await;
    }
    let is_still = sign == Sign::Freeze;
    let is_told = match cgroup_of(name).await.map(|group| group.freeze(is_still)) {
        Some(Err(error)) => {
            tracing::warn!(%error, name, "the unit's cgroup cannot be frozen or thawed");
            false
        }
        told => told.is_some(),
    };
    match sign {
        Sign::Freeze if is_told => {}
        Sign::Freeze => drop(systemctl(&["kill", "--signal=STOP", name]).await),
        _ => drop(systemctl(&["kill", "--signal=CONT", name]).await),
    }
}

/// Without a job to stop it systemd would start a unit with `Restart=` anew in the place of what is
/// killed; and the job lets what was still go on, to end by itself. So it is killed as long as
/// systemd takes the job.
async fn kill_unit(name: &str) {
    let group = cgroup_of(name).await;
    // What is not loaded cannot be stopped; how it is afterwards is what counts.
    let line = ["stop", "--no-block", name];
    let stop = systemctl(&line);
    tokio::pin!(stop);
    let is_killed = match &group {
        None => {
            stop.await;
            false
        }
        Some(group) => loop {
            let killed = group.kill();
            let is_taken = tokio::time::timeout(AGAIN, &mut stop).await.is_ok();
            if is_taken {
                // What it runs to be stopped is killed, too, and the next start is not born still.
                let then = group.kill().and_then(|()| group.freeze(false));
                break killed.and(then).is_ok();
            }
        },
    };
    if !is_killed {
        systemctl(&["kill", "--signal=KILL", name]).await;
    }
}

/// The unit's cgroup, if it has one now.
async fn cgroup_of(name: &str) -> Option<Cgroup> {
    let mut program = tokio::process::Command::new("systemctl");
    program.args(["show", "--property=ControlGroup", "--value", name]).stdin(Stdio::null());
    let asked = tokio::time::timeout(PATIENCE, program.kill_on_drop(true).output());
    let said = asked.await.ok()?.ok()?.stdout;
    Cgroup::named(String::from_utf8(said).ok()?.trim())
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
