//! The agent of this host: asks the service what the host is to have, attaches volumes for it, and
//! sees that each group has its warden.
//!
//! Entry points: [`Agent::open`], [`Agent::run`].
//!
//! Invariant: the agent decides nothing about a group. When it ends, or the service is away, the
//! wardens go on by their last orders.

mod attach;
mod kernel;
mod maps;
mod plan;
mod programs;
mod wardens;
mod ways;

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use api::agent::{Assignments, Beat, CreateAgent};
use api::{ApiError, Client};
use env::whole;
use model::group::Report;
use serde::{Deserialize, Serialize};
use tokio::net::{UdpSocket, UnixDatagram};
use tokio::sync::mpsc;

use crate::group::{GroupOf, Order, hand_on};

use self::wardens::Wardens;
pub use self::ways::Initiators;
use self::ways::Ways;

/// Between two signs of life.
const BEAT: Duration = Duration::from_secs(1);
/// A service that does not answer must not hold the agent up.
const PATIENCE: Duration = Duration::from_secs(5);
const DATAGRAM_BYTES: usize = 256;
const UNAUTHORIZED: u16 = 401;
/// What is kept of the enrolment, in the agent's directory.
const ENROLMENT: &str = "agent.json";

/// Why the agent cannot do its work.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    #[error("the agent's files in {path} cannot be used: {why}")]
    Files { path: PathBuf, why: io::Error },
    #[error("the port for heartbeats cannot be had: {0}")]
    Port(io::Error),
    #[error("{0}")]
    Api(#[from] ApiError),
    #[error("{0} has not answered for {PATIENCE:?}")]
    Silent(String),
    #[error(
        "this host is not known to the service, and there is no token to make it known: give one \
         of a member of the project with --token-file"
    )]
    Unknown,
    #[error("the service does not take this agent's token any more; what runs here goes on")]
    Dismissed { path: PathBuf },
}

/// How an agent works.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Address of the service.
    pub url: String,
    /// A member's token, to make the host known.
    pub token: Option<String>,
    pub project: Option<String>,
    /// The host's name at the service.
    pub name: String,
    /// The iSCSI name that it logs in by.
    pub initiator: String,
    /// Where its peers reach it.
    pub addresses: Vec<IpAddr>,
    /// Where heartbeats arrive.
    pub heartbeat: std::net::SocketAddr,
    pub state: PathBuf,
    pub initiators: Initiators,
    /// The program that is a warden, with all but the directory of its group.
    pub warden: Vec<std::ffi::OsString>,
    pub version: String,
}

/// What an agent keeps of its enrolment.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Enrolment {
    url: String,
    secret: String,
}

/// See the module's head.
pub struct Agent {
    settings: Settings,
    socket: UdpSocket,
    ways: Ways,
    wardens: Wardens,
    /// The last that the service said.
    assignments: Option<Assignments>,
    _lock: Box<dyn Send + Sync>,
}

impl Agent {
    /// Take the agent's directory over, and go on with the last assignments.
    ///
    /// # Errors
    /// Another agent uses the directory, or the port is taken.
    pub async fn open(settings: Settings) -> Result<Self, AgentError> {
        use env::{Files, RealFiles};
        let failed = |why| AgentError::Files { path: settings.state.clone(), why };
        RealFiles.create_dir(&settings.state).map_err(failed)?;
        let lock = RealFiles.lock_dir(&settings.state).map_err(failed)?;
        let socket = UdpSocket::bind(settings.heartbeat).await.map_err(AgentError::Port)?;
        let groups = settings.state.join("groups");
        RealFiles.create_dir(&groups).map_err(failed)?;
        let text = whole::read(&settings.state.join("assignments.json")).map_err(failed)?;
        let assignments = text.and_then(|text| serde_json::from_str(&text).ok());
        Ok(Self {
            ways: Ways::open(&settings).map_err(failed)?,
            wardens: Wardens::new(groups, settings.warden.clone()),
            settings,
            socket,
            assignments,
            _lock: lock,
        })
    }

    /// Until somebody asks it to end. The wardens go on.
    ///
    /// # Errors
    /// [`AgentError::Unknown`] where the host was never made known and there is no token to do it;
    /// [`AgentError::Dismissed`] when somebody has dismissed the agent: it does not make itself
    /// known again.
    pub async fn run(mut self, mut stops: mpsc::Receiver<()>) -> Result<(), AgentError> {
        let client = self.enrolled().await?;
        let inbox = UnixDatagram::unbound().map_err(AgentError::Port)?;
        let mut rounds = tokio::time::interval(BEAT);
        rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut away = false;
        let mut room = [0; DATAGRAM_BYTES];
        loop {
            tokio::select! {
                Some(()) = stops.recv() => return Ok(()),
                _ = rounds.tick() => {
                    let told = self.while_forwarding(&inbox, self.tell(&client)).await;
                    match told {
                        Ok(assignments) => {
                            if std::mem::take(&mut away) {
                                tracing::info!("the service answers again");
                            }
                            self.keep(assignments);
                        }
                        Err(AgentError::Api(error)) if error.status == Some(UNAUTHORIZED) => {
                            let path = self.settings.state.join(ENROLMENT);
                            return Err(AgentError::Dismissed { path });
                        }
                        Err(error) if !away => {
                            away = true;
                            tracing::warn!(%error, "the service does not answer; all goes on by \
                                its last word");
                        }
                        Err(_) => {}
                    }
                    self.serve();
                }
                () = self.ways.settled() => self.serve(),
                Ok((bytes, _)) = self.socket.recv_from(&mut room) => {
                    self.forward(&inbox, &room[..bytes]);
                }
            }
        }
    }

    /// Beats of other hosts arrive while the service thinks.
    async fn while_forwarding<T>(&self, inbox: &UnixDatagram, work: impl Future<Output = T>) -> T {
        let mut room = [0; DATAGRAM_BYTES];
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                Ok((bytes, _)) = self.socket.recv_from(&mut room) => {
                    self.forward(inbox, &room[..bytes]);
                }
            }
        }
    }

    fn forward(&self, inbox: &UnixDatagram, bytes: &[u8]) {
        if let GroupOf(Some(group)) = GroupOf::datagram(bytes) {
            hand_on(inbox, &self.wardens.directory(group), bytes);
        }
    }

    /// A client with the agent's own token.
    async fn enrolled(&self) -> Result<Client, AgentError> {
        let path = self.settings.state.join(ENROLMENT);
        let failed = |why| AgentError::Files { path: path.clone(), why };
        let kept = whole::read(&path).map_err(failed)?;
        let kept = kept.and_then(|text| serde_json::from_str::<Enrolment>(&text).ok());
        match kept.filter(|kept| kept.url == self.settings.url) {
            Some(kept) => Ok(Client::new(&kept.url, Some(kept.secret))?),
            None => self.enrol().await,
        }
    }

    async fn enrol(&self) -> Result<Client, AgentError> {
        let settings = &self.settings;
        let token = settings.token.clone().ok_or(AgentError::Unknown)?;
        let client = Client::new(&settings.url, Some(token))?.in_project(settings.project.clone());
        let wanted = CreateAgent {
            host: settings.name.clone(),
            initiators: vec![settings.initiator.clone()],
            addresses: settings.addresses.iter().map(ToString::to_string).collect(),
            version: settings.version.clone(),
        };
        let silent = |_| AgentError::Silent(settings.url.clone());
        let made = tokio::time::timeout(PATIENCE, client.agent_create(&wanted));
        let made = made.await.map_err(silent)??;
        tracing::info!(host = made.host.name, "the service knows this host");
        let path = settings.state.join(ENROLMENT);
        let kept = Enrolment { url: settings.url.clone(), secret: made.secret.clone() };
        let text = serde_json::to_string(&kept).map_err(io::Error::other);
        text.and_then(|text| whole::replace(&path, &text))
            .map_err(|why| AgentError::Files { path, why })?;
        Ok(Client::new(&settings.url, Some(made.secret))?)
    }

    /// What the wardens say, and by how many paths the kernel reaches each volume.
    fn reports(&self) -> Vec<Report> {
        let mut reports = self.wardens.reports();
        for report in &mut reports {
            let mut groups = self.assignments.iter().flat_map(|all| &all.groups);
            let group = groups.find(|group| group.id == report.group);
            report.paths = group.and_then(|group| self.ways.paths(group.volume_id));
        }
        reports
    }

    async fn tell(&self, client: &Client) -> Result<Assignments, AgentError> {
        let port = self.socket.local_addr().map_or(0, |address| address.port());
        let beat = Beat {
            version: self.settings.version.clone(),
            addresses: self.settings.addresses.iter().map(ToString::to_string).collect(),
            port,
            reports: self.reports(),
        };
        match tokio::time::timeout(PATIENCE, client.beat(&beat)).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(AgentError::Silent(self.settings.url.clone())),
        }
    }

    /// Durable, so that a restart needs no service.
    fn keep(&mut self, assignments: Assignments) {
        if self.assignments.as_ref() == Some(&assignments) {
            return;
        }
        let path = self.settings.state.join("assignments.json");
        let text = serde_json::to_string_pretty(&assignments).map_err(io::Error::other);
        if let Err(error) = text.and_then(|text| whole::replace(&path, &text)) {
            tracing::error!(%error, "the assignments cannot be kept");
        }
        self.assignments = Some(assignments);
    }

    /// Volumes, orders and wardens as they are to be.
    fn serve(&mut self) {
        let Some(assignments) = self.assignments.clone() else { return };
        let wardens = &self.wardens;
        self.ways.follow(&assignments, |volume| wardens.hold(volume));
        let is_wanted = |id| assignments.groups.iter().any(|group| group.id == id);
        // Whoever still goes by an older way must not see sessions come and go.
        let mut untold: BTreeSet<_> = wardens.redirect(is_wanted, |volume| self.ways.to(volume));
        for group in &assignments.groups {
            let order = Order {
                host: assignments.host_id,
                host_name: assignments.host_name.clone(),
                way: self.ways.to(group.volume_id),
                group: group.clone(),
            };
            if let Err(error) = self.wardens.order(&order) {
                tracing::error!(%error, group = group.name, "the warden cannot be told");
                untold.insert(group.volume_id);
            }
        }
        self.ways.release(&untold);
        self.wardens.tend(is_wanted);
    }
}
