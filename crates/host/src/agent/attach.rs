//! The sessions of one volume, made, grown and taken away: what takes time, beside the agent.

use std::path::PathBuf;
use std::time::Duration;

use api::attachment::ChapCredentials;
use env::mounts;
use env::multipath::Map;
use tokio::task::JoinSet;

use super::kernel::{self, Node};
use super::maps;
use super::plan::{Login, Sight};

/// How long multipathd may take to make a map of several disks. It may make one of a single disk,
/// too, or not, as it is told to.
const MAPPED: Duration = Duration::from_secs(15);
const MAPPED_ALONE: Duration = Duration::from_secs(3);
/// How long iscsid may go on with a login that nobody waits for: two tries of ten seconds, with
/// some room.
const FINISHED: Duration = Duration::from_secs(25);
const LOOK: Duration = Duration::from_millis(250);
/// A device that does not open for so long is taken for one that is in use.
const OPENS: Duration = Duration::from_secs(3);
const SECTOR_BYTES: u64 = 512;

const USED: &str = "something that is no group of this host has the volume's device in use";
const UNMAPPED: &str = "multipathd has made no map of several sessions; see find_multipaths in \
    multipath.conf, and restart the agent then";

/// What is to be made of a volume's sessions.
#[derive(Clone, Debug)]
pub(super) struct Job {
    /// By the portals that the service names, of the size that the disks have that are there.
    pub(super) want: Login,
    /// Several sessions are of use, if something makes one device of them.
    pub(super) several: bool,
    /// Sessions that may be there already.
    pub(super) before: Login,
    /// Devices without a map above them that something may have in use: a session that comes now
    /// must not change what is below it.
    pub(super) devices: Vec<PathBuf>,
    /// Those without a session that are to get one.
    pub(super) make: Vec<String>,
    /// Those with a session that the service does not name any more.
    pub(super) drop: Vec<String>,
    /// Where a run of the guard that is over may have left its gate.
    pub(super) gate: Option<PathBuf>,
    pub(super) lun: u16,
    pub(super) chap: Option<ChapCredentials>,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Made {
    /// Sessions that may be there.
    pub(super) login: Option<Login>,
    /// Why there are not as many as there are portals.
    pub(super) why: Option<String>,
    /// Several are no use here: what makes one device of them does not run, or made none.
    pub(super) alone: bool,
    pub(super) unmapped: bool,
    /// A portal that answers has let nobody in, or nothing could be changed.
    pub(super) refused: bool,
    /// Something has the device in use, and it is left alone.
    pub(super) used: bool,
}

/// The portals that take a connection.
pub(super) async fn answering(portals: &[String]) -> Vec<String> {
    let mut asked = JoinSet::new();
    for (at, portal) in portals.iter().cloned().enumerate() {
        asked.spawn(async move { (at, kernel::connects(&portal).await.then_some(portal)) });
    }
    let mut answers = asked.join_all().await;
    answers.sort();
    answers.into_iter().filter_map(|(_, portal)| portal).collect()
}

/// A word for the portals that do not.
pub(super) fn silent(portals: &[String], answering: &[String]) -> Option<String> {
    let silent = portals.iter().filter(|portal| !answering.contains(portal));
    let silent: Vec<&str> = silent.map(String::as_str).collect();
    (!silent.is_empty()).then(|| format!("{} does not answer", silent.join(", ")))
}

impl Job {
    fn node(&self, portal: &str) -> Node {
        node(&self.want, portal, self.lun)
    }

    fn look(&self) -> Sight {
        kernel::look(&self.want.target, &self.want.portals(), self.lun)
    }

    /// Make what can be made, and one device of it where that is possible.
    pub(super) async fn run(self) -> Made {
        if is_any_used(self.devices.clone()).await {
            return Made { used: true, ..self.nothing(USED.to_owned()) };
        }
        // A mount that was left behind may hold it, and writes that nobody has let in.
        if let Some(gate) = &self.gate
            && let Err(why) = maps::remove_gate(gate).await
        {
            return self.nothing(why);
        }
        let begun = self.before.making.clone();
        let unmade = finished(&self.want.target, &begun, self.lun).await;
        let mut left = self.log_out_of(&unmade).await;
        let answering = answering(&self.make).await;
        let (mut why, mut refused) = (silent(&self.make, &answering), false);
        let trouble = maps::trouble().await;
        let several = self.several && trouble.is_none() && self.want.portals().len() > 1;
        left.extend(self.log_out_of(&self.drop).await);
        let failed = match several {
            true => self.log_in_by_all(&answering).await,
            false if self.look().sessions.is_empty() => self.log_in_by_one(&answering).await,
            false => Vec::new(),
        };
        for (portal, error) in failed {
            tracing::warn!(error, portal, target = self.want.target, "no session by this portal");
            // iscsid must not go on with it, nor leave a record of it.
            left.extend(self.log_out_of(&[portal]).await);
            why = Some(error);
            refused = true;
        }
        let sessions = self.look().sessions;
        let disks: Vec<String> = sessions.iter().map(|session| session.disk.clone()).collect();
        let map = match (&trouble, disks.len()) {
            (_, 0) => None,
            (Some(_), _) => Map::above(disks.iter().map(String::as_str)),
            (None, 1) => maps::appears(&disks, MAPPED_ALONE).await,
            (None, _) => maps::appears(&disks, MAPPED).await,
        };
        let mut there: Vec<String> = sessions.into_iter().map(|session| session.portal).collect();
        let too_many = map.is_none() && there.len() > 1;
        if too_many {
            left.extend(self.log_out_of(&there.split_off(1)).await);
        }
        let unmapped = too_many && self.several && trouble.is_none();
        let alone = trouble.filter(|_| map.is_none());
        left.sort();
        left.dedup();
        left.retain(|portal| !there.contains(portal));
        let is_begun = |portal: &&String| begun.contains(portal) || self.make.contains(portal);
        let making: Vec<String> = left.iter().filter(is_begun).cloned().collect();
        let refused = refused || !left.is_empty();
        let login = Login::new(self.want.target, &[there, left].concat(), self.want.size_bytes);
        let map = map.map(|map| map.name);
        Made {
            login: login.map(|login| Login { map, ..login }.by(&making)),
            alone: alone.is_some(),
            why: alone.or(unmapped.then(|| UNMAPPED.to_owned())).or(why),
            unmapped,
            refused,
            used: false,
        }
    }

    /// All is as it was.
    fn nothing(self, why: String) -> Made {
        let (login, why) = (Some(self.before), Some(why));
        Made { login, why, alone: false, unmapped: false, refused: true, used: false }
    }

    async fn log_in_by_all(&self, portals: &[String]) -> Vec<(String, String)> {
        let mut tries = JoinSet::new();
        for portal in portals.iter().cloned() {
            let (node, chap) = (self.node(&portal), self.chap.clone());
            tries.spawn(async move {
                let tried = kernel::log_in(&node, chap.as_ref(), true).await;
                tried.err().map(|why| (portal, why))
            });
        }
        tries.join_all().await.into_iter().flatten().collect()
    }

    /// By the first that lets this host in.
    async fn log_in_by_one(&self, portals: &[String]) -> Vec<(String, String)> {
        let mut failed = Vec::new();
        for portal in portals {
            match kernel::log_in(&self.node(portal), self.chap.as_ref(), false).await {
                Ok(()) => break,
                Err(why) => failed.push((portal.clone(), why)),
            }
        }
        failed
    }

    /// Those of which something may be left.
    async fn log_out_of(&self, portals: &[String]) -> Vec<String> {
        let mut left = Vec::new();
        for portal in portals {
            if let Err(why) = kernel::log_out(&self.node(portal)).await {
                tracing::warn!(why, portal, "the session may be there still");
                left.push(portal.clone());
            }
        }
        left
    }
}

/// When every login by these portals that somebody has asked for has come to its end; those that
/// have made no session. Such a one may be in the kernel still, and may have left a record.
async fn finished(target: &str, portals: &[String], lun: u16) -> Vec<String> {
    let missing = || kernel::look(target, portals, lun).missing(portals);
    let all = async {
        while !missing().is_empty() {
            tokio::time::sleep(LOOK).await;
        }
    };
    match tokio::time::timeout(FINISHED, all).await {
        Ok(()) => Vec::new(),
        Err(_) => missing(),
    }
}

/// An open of a path that is dead may take as long as its transport does.
async fn is_any_used(devices: Vec<PathBuf>) -> bool {
    let opens = move || devices.iter().any(|device| mounts::is_in_use(device).unwrap_or(true));
    let opened = tokio::time::timeout(OPENS, tokio::task::spawn_blocking(opens)).await;
    !matches!(opened, Ok(Ok(false)))
}

fn node(login: &Login, portal: &str, lun: u16) -> Node {
    Node { target: login.target.clone(), portal: portal.to_owned(), lun }
}

/// The volume has grown: so do its disks, and the map above them. The gate above that is the
/// guard's.
///
/// # Errors
/// Not all of it has; a map cannot be larger than one of its disks, and that of a dead path does
/// not grow.
pub(super) async fn grow(login: &Login, lun: u16) -> Result<(), String> {
    let sight = kernel::look(&login.target, &login.portals(), lun);
    let mut scans = JoinSet::new();
    for session in &sight.sessions {
        let node = node(login, &session.portal, lun);
        scans.spawn(async move { kernel::rescan(&node).await });
    }
    let scanned: Result<Vec<()>, String> = scans.join_all().await.into_iter().collect();
    let Some(map) = Map::above(sight.sessions.iter().map(|session| session.disk.as_str())) else {
        return scanned.map(drop);
    };
    maps::resize(&map.name).await?;
    let sectors = map.sectors().map_err(|why| format!("{}: {why}", map.name))?;
    match sectors.saturating_mul(SECTOR_BYTES) >= login.size_bytes {
        true => Ok(()),
        false => Err(scanned.err().unwrap_or(format!("{} has not grown", map.name))),
    }
}

/// Away with the map, the sessions and their records.
///
/// # Errors
/// Some of it is left.
pub(super) async fn detach(login: &Login, lun: u16) -> Result<(), String> {
    // What iscsid has not ended yet would be there when nobody knows of it any more.
    finished(&login.target, &login.making, lun).await;
    let sight = kernel::look(&login.target, &login.portals(), lun);
    let map = Map::above(sight.sessions.iter().map(|session| session.disk.as_str()));
    let name = map.as_ref().map(|map| map.name.clone()).or_else(|| login.map.clone());
    if let Some(map) = map {
        maps::flush(&map.name).await?;
    }
    // One that does not let go keeps none of the others.
    let mut out = Ok(());
    for portal in login.portals() {
        out = out.and(kernel::log_out(&node(login, &portal, lun)).await);
    }
    out?;
    // A name may be another volume's by now; what has no disks is nobody's.
    match name.filter(|name| maps::is_orphan(name)) {
        Some(name) => maps::flush(&name).await,
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_portal_that_does_not_answer_holds_up_nothing_and_is_named() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let there = listener.local_addr().unwrap().to_string();
        let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let away = gone.local_addr().unwrap().to_string();
        drop(gone);
        let portals = [away.clone(), there.clone()];
        let answering = answering(&portals).await;
        assert_eq!(answering, [there]);
        assert_eq!(silent(&portals, &answering), Some(format!("{away} does not answer")));
        assert_eq!(silent(&answering, &answering), None);
    }
}
