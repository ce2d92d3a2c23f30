//! The handle of one session.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use iscsi::initiator::{Command, Data, Options, Outcome};
use iscsi::keys::Parameters;
use iscsi::pdu::logout::LogoutReason;
use iscsi::pdu::notice::AsyncMessage;
use tokio::net::{TcpStream, ToSocketAddrs};
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::driver::{Driver, Request};
use crate::{HostError, TmfFunction, TmfResponse};

/// Requests that may wait for the driver before the callers wait too.
const REQUESTS_MAX: usize = 1024;
/// Notices that a slow listener may be behind.
const NOTICES_MAX: usize = 64;
/// A portal that neither answers the connection nor the login within this time is unreachable.
const LOGIN_LIMIT: Duration = Duration::from_secs(30);

/// A target as discovery tells it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    pub name: String,
    /// `address:port,tag` as the target sent them; empty: the portal that was asked.
    pub addresses: Vec<String>,
}

/// One session with one target, over one TCP connection. Clones share it; it ends when the last
/// clone is dropped, by a closed socket, or earlier by [`Initiator::logout`].
#[derive(Clone)]
pub struct Initiator {
    requests: mpsc::Sender<Request>,
    facts: Arc<Facts>,
    notices: broadcast::Sender<AsyncMessage>,
}

struct Facts {
    tsih: u16,
    parameters: Parameters,
}

impl std::fmt::Debug for Initiator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Initiator(session {})", self.facts.tsih)
    }
}

fn lost() -> HostError {
    HostError::Lost("the session has ended".to_owned())
}

impl Initiator {
    /// Connect and log in.
    ///
    /// # Errors
    /// [`HostError::Unreachable`], [`HostError::LoginRefused`], [`HostError::Lost`].
    pub async fn connect(portal: impl ToSocketAddrs, options: Options) -> Result<Self, HostError> {
        match tokio::time::timeout(LOGIN_LIMIT, Self::log_in(portal, options)).await {
            Ok(result) => result,
            Err(_) => Err(HostError::Unreachable("no login within 30 seconds".to_owned())),
        }
    }

    async fn log_in(portal: impl ToSocketAddrs, options: Options) -> Result<Self, HostError> {
        let unreachable = |error: std::io::Error| HostError::Unreachable(error.to_string());
        let stream = TcpStream::connect(portal).await.map_err(unreachable)?;
        stream.set_nodelay(true).map_err(unreachable)?;
        let (requests, inbox) = mpsc::channel(REQUESTS_MAX);
        let (notices, _) = broadcast::channel(NOTICES_MAX);
        let (opened, opening) = oneshot::channel();
        let driver = Driver::new(stream, options, inbox, notices.clone(), opened);
        tokio::spawn(driver.run());
        let (tsih, parameters) = opening.await.map_err(|_| lost())??;
        Ok(Self { requests, facts: Arc::new(Facts { tsih, parameters }), notices })
    }

    /// Ask a portal for its targets; `options.target` does not count.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub async fn discover(
        portal: impl ToSocketAddrs,
        options: Options,
    ) -> Result<Vec<Target>, HostError> {
        let session = Self::connect(portal, Options { target: None, ..options }).await?;
        let pairs = session.ask(|reply| Request::SendTargets { value: "All", reply }).await??;
        session.logout().await?;
        let mut targets: Vec<Target> = Vec::new();
        for (key, value) in pairs {
            match (key.as_str(), targets.last_mut()) {
                ("TargetName", _) => targets.push(Target { name: value, addresses: Vec::new() }),
                ("TargetAddress", Some(target)) => target.addresses.push(value),
                _ => {}
            }
        }
        Ok(targets)
    }

    /// The target session identifying handle.
    #[must_use]
    pub fn tsih(&self) -> u16 {
        self.facts.tsih
    }

    /// What was negotiated.
    #[must_use]
    pub fn parameters(&self) -> &Parameters {
        &self.facts.parameters
    }

    /// Asynchronous messages of the target from now on.
    #[must_use]
    pub fn notices(&self) -> broadcast::Receiver<AsyncMessage> {
        self.notices.subscribe()
    }

    /// Run one command to its end, whatever its status.
    ///
    /// # Errors
    /// [`HostError::Lost`], [`HostError::Aborted`], [`HostError::Rejected`].
    pub async fn execute(&self, lun: u64, cdb: &[u8], data: Data) -> Result<Outcome, HostError> {
        self.start(Command::new(lun, cdb, data)).await?.outcome().await
    }

    /// Send a command, and have its end later: to abort it, or to withhold its data.
    ///
    /// # Errors
    /// [`HostError::Lost`].
    pub async fn start(&self, command: Command) -> Result<Pending, HostError> {
        let (reply, outcome) = oneshot::channel();
        let lun = command.lun;
        let handle = self.ask(|started| Request::Command { command, started, reply }).await?;
        Ok(Pending { handle, lun, outcome, session: self.clone() })
    }

    /// Send a task management function that concerns a logical unit or the target.
    ///
    /// # Errors
    /// [`HostError::Lost`].
    pub async fn task_management(
        &self,
        function: TmfFunction,
        lun: u64,
    ) -> Result<TmfResponse, HostError> {
        self.ask(|reply| Request::TaskManagement { function, lun, referenced: None, reply }).await
    }

    /// Send a NOP-Out with this data and wait for its echo.
    ///
    /// # Errors
    /// [`HostError::Lost`].
    pub async fn ping(&self, data: Bytes) -> Result<Bytes, HostError> {
        self.ask(|reply| Request::Ping { data, reply }).await
    }

    /// Close the session in good order.
    ///
    /// # Errors
    /// [`HostError::Lost`] when the connection broke before the target agreed.
    pub async fn logout(&self) -> Result<(), HostError> {
        self.ask(|reply| Request::Logout { reason: LogoutReason::CloseSession, reply }).await
    }

    /// For tests of faults: drop the socket without a word. Commands in flight end with
    /// [`HostError::Lost`].
    pub async fn cut(&self) {
        // An error means that the session has ended already, which is what is wanted.
        let _ = self.requests.send(Request::Cut).await;
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<T>) -> Request,
    ) -> Result<T, HostError> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(request(reply)).await.map_err(|_| lost())?;
        answer.await.map_err(|_| lost())
    }
}

/// A command on its way.
#[derive(Debug)]
pub struct Pending {
    handle: iscsi::initiator::Handle,
    lun: u64,
    outcome: oneshot::Receiver<Result<Outcome, HostError>>,
    session: Initiator,
}

impl Pending {
    /// Wait for its end.
    ///
    /// # Errors
    /// As [`Initiator::execute`].
    pub async fn outcome(self) -> Result<Outcome, HostError> {
        self.outcome.await.map_err(|_| lost())?
    }

    /// Its end, if it has come: a command that the target aborted may never have one.
    pub fn ended(&mut self) -> Option<Result<Outcome, HostError>> {
        self.outcome.try_recv().ok()
    }

    /// Send the data-out that was withheld.
    ///
    /// # Errors
    /// [`HostError::Lost`].
    pub async fn release(&self) -> Result<(), HostError> {
        let request = Request::Release { task: self.handle };
        self.session.requests.send(request).await.map_err(|_| lost())
    }

    /// ABORT TASK.
    ///
    /// # Errors
    /// [`HostError::Lost`].
    pub async fn abort(&self) -> Result<TmfResponse, HostError> {
        let (function, lun, referenced) = (TmfFunction::AbortTask, self.lun, Some(self.handle));
        self.session.ask(|reply| Request::TaskManagement { function, lun, referenced, reply }).await
    }
}
