//! Units of systemd.
//!
//! Frozen, thawed and killed by the cgroup that systemd has made for them; where that cannot be had
//! (no cgroup v2) by signals, which they notice. Not by systemd's own freezer: one release thaws a
//! unit to stop it, and it would run on a volume that is lost; another refuses to stop it, or to
//! start it ever after. And a systemd that has no time must not be asked before something that
//! runs on such a volume is stopped: where a unit's cgroup is, is remembered.

use std::collections::BTreeMap;
use std::io;
use std::process::Stdio;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::guard::group::Step;
use env::processes::cgroup::Cgroup;

use super::aside::{Sign, aside};
use super::steps::Place;

/// For systemd to answer, or the kernel.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two looks whether a killed unit is gone.
const GOING: Duration = Duration::from_millis(50);
/// Between two kills while systemd takes the job: at first, and at most. On a slow machine with one
/// core the kills of every two milliseconds had left systemd no time to take it.
const AGAIN: Duration = Duration::from_millis(2);
const AGAIN_MAX: Duration = Duration::from_millis(32);

/// The cgroups of this warden's units, as systemd said last.
static KNOWN: Mutex<BTreeMap<String, Cgroup>> = Mutex::new(BTreeMap::new());

fn known() -> MutexGuard<'static, BTreeMap<String, Cgroup>> {
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) async fn unit(place: &Place, name: &str, step: Step) -> Result<(), String> {
    match step {
        Step::Start => {
            place.call(&["systemctl", "start", name]).await?;
            learn(name).await;
            Ok(())
        }
        Step::Stop => place.call(&["systemctl", "stop", name]).await,
        Step::Check => {
            place.call(&["systemctl", "is-active", "--quiet", name]).await?;
            learn(name).await;
            Ok(())
        }
        Step::Kill => killed(place, name).await,
    }
}

/// Killed again and again, because what the unit runs to be stopped may wait for the volume, too.
async fn killed(place: &Place, name: &str) -> Result<(), String> {
    loop {
        kill(name).await;
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

/// To all of a unit.
pub(super) async fn sign(name: &str, sign: Sign) {
    let is_still = match sign {
        Sign::Kill => return kill(name).await,
        Sign::Freeze => true,
        Sign::Thaw => false,
    };
    let is_told = match cgroup_of(name).await {
        Some(cgroup) => is_done(name, move || cgroup.freeze(is_still)).await,
        None => false,
    };
    match sign {
        Sign::Freeze if is_told => {}
        Sign::Freeze => systemctl(&["kill", "--signal=STOP", name]).await,
        // Whatever stopped it.
        _ => systemctl(&["kill", "--signal=CONT", name]).await,
    }
}

/// Without a job to stop it systemd would start a unit with `Restart=` anew in the place of what is
/// killed; and the job lets what was still go on, to end by itself. So it is killed before, and as
/// long as systemd takes the job.
async fn kill(name: &str) {
    let line = ["stop", "--no-block", name];
    let Some(cgroup) = cgroup_of(name).await else {
        systemctl(&["kill", "--signal=KILL", name]).await;
        systemctl(&line).await;
        systemctl(&["kill", "--signal=KILL", name]).await;
        return;
    };
    let kills = async {
        let mut pause = AGAIN;
        loop {
            let again = cgroup.clone();
            is_done(name, move || again.kill_or_each()).await;
            tokio::time::sleep(pause).await;
            pause = (2 * pause).min(AGAIN_MAX);
        }
    };
    tokio::select! {
        // What is not loaded cannot be stopped; how it is afterwards is what counts.
        () = systemctl(&line) => {}
        () = kills => {}
    }
    // What it runs to be stopped is killed, too, and the next start is not born still.
    let is_killed =
        is_done(name, move || cgroup.kill_or_each().and_then(|()| cgroup.freeze(false))).await;
    if !is_killed {
        systemctl(&["kill", "--signal=KILL", name]).await;
    }
}

/// Whether the kernel has done it in time.
async fn is_done(name: &str, call: impl FnOnce() -> io::Result<()> + Send + 'static) -> bool {
    let why = match tokio::time::timeout(PATIENCE, aside(call)).await {
        Ok(Ok(Ok(()))) => return true,
        Ok(Ok(Err(error))) => error.to_string(),
        Ok(Err(why)) => why,
        Err(_) => "the kernel does not answer".to_owned(),
    };
    tracing::warn!(why, name, "the unit's cgroup cannot be frozen, thawed or killed");
    false
}

/// The unit's cgroup, if it has one: as it was when the unit was started, or last looked at.
async fn cgroup_of(name: &str) -> Option<Cgroup> {
    if known().contains_key(name) {
        return known().get(name).cloned();
    }
    learn(name).await;
    known().get(name).cloned()
}

/// Ask systemd where the unit is. One that does not answer says nothing new.
async fn learn(name: &str) {
    let mut program = tokio::process::Command::new("systemctl");
    program.args(["show", "--property=ControlGroup", "--value", name]).stdin(Stdio::null());
    let asked = tokio::time::timeout(PATIENCE, program.kill_on_drop(true).output());
    let Ok(Ok(output)) = asked.await else { return };
    let said = String::from_utf8(output.stdout).unwrap_or_default();
    let found = aside(move || Cgroup::named(said.trim()));
    let Ok(Ok(found)) = tokio::time::timeout(PATIENCE, found).await else { return };
    match found {
        Some(cgroup) => drop(known().insert(name.to_owned(), cgroup)),
        None => drop(known().remove(name)),
    }
}

async fn systemctl(line: &[&str]) {
    let mut program = tokio::process::Command::new("systemctl");
    program.args(line).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    match tokio::time::timeout(PATIENCE, program.kill_on_drop(true).status()).await {
        Ok(Ok(status)) => tracing::debug!(%status, ?line, "systemctl"),
        Ok(Err(error)) => tracing::warn!(%error, ?line, "systemctl cannot be run"),
        Err(_) => tracing::warn!(?line, "systemd does not answer"),
    }
}
