//! The gate above a multipath device: a device of the device mapper that is this guard's alone,
//! through which the command writes. multipathd may load and resume its own map at any moment; this
//! one it does not know.
//!
//! ```text
//!   None --open--> Open <--close, open--> Closed
//!                   |  ^                    |
//!             shut  v  | open               | shut
//!                   Shut <------------------'      (and gone, unless somebody has it open)
//! ```
//!
//! A gate that is open or closed grows with the map, and stays what it is.

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use ::guard::Task;
use env::multipath::{BLOCKS, Map, Mapped};
use env::scsi_device::forget_cached;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;
use tokio::time::Instant;

use super::claim::ClaimError;

/// Nobody waits for udev's cookie: a udev that is slow or stands still would end the guard. And
/// what udev has not done with the device's node is done by the program itself.
const WITHOUT_UDEV: [&str; 2] = ["--noudevsync", "--verifyudev"];
/// Between two looks at something that is waited for.
const AGAIN: Duration = Duration::from_millis(50);

/// Why a gate is not as it is to be.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It would be there again for whom it had failed before.
    #[error("{device} of an earlier run is still open ({users} times)")]
    InUse { device: String, users: u32 },
    #[error("{0}")]
    Claim(#[from] ClaimError),
}

/// What is to become of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::guard) enum Turn {
    Open,
    Close,
    Shut,
    /// As large as the map.
    Grow,
}

impl Turn {
    const fn is_done(self, state: GateState) -> bool {
        match self {
            Self::Open => matches!(state, GateState::Open),
            Self::Close => matches!(state, GateState::Closed),
            Self::Shut => matches!(state, GateState::Shut | GateState::None),
            // Nothing but the program tells of its size.
            Self::Grow => false,
        }
    }
}

/// How it stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::guard) enum GateState {
    None,
    Open,
    Closed,
    /// Whatever is written fails.
    Shut,
}

impl GateState {
    pub(in crate::guard) const fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Open => "open",
            Self::Closed => "closed",
            Self::Shut => "shut",
        }
    }
}

/// What a gate is made with.
#[derive(Clone, Debug)]
struct Means {
    program: PathBuf,
    /// Where the kernel shows its block devices.
    blocks: PathBuf,
    /// Where the device mapper's devices have their names.
    nodes: PathBuf,
    /// How long the gate may take to close: it waits for writes that are under way.
    closing: Duration,
    /// How long anything else may take.
    patience: Duration,
    /// How long udev may take to name a device before that is done without it, and to close one
    /// that it has looked at.
    udev: Duration,
}

impl Means {
    fn real() -> Self {
        Self {
            program: "dmsetup".into(),
            blocks: BLOCKS.into(),
            nodes: "/dev/mapper".into(),
            closing: Duration::from_secs(2),
            patience: Duration::from_secs(10),
            udev: Duration::from_secs(1),
        }
    }
}

/// The gate of one volume on this host.
#[derive(Clone, Debug)]
pub(in crate::guard) struct Gate {
    name: String,
    sectors: u64,
    open: String,
    shut: String,
    means: Means,
}

fn name_of(map: &Map) -> String {
    format!("commonhold-{}", map.name)
}

/// Where the command finds it.
pub(crate) fn path_of(map: &Map) -> String {
    format!("/dev/mapper/{}", name_of(map))
}

/// Of a table with one line: start, length, kind.
fn sectors_of(table: &str) -> Option<u64> {
    table.split_whitespace().nth(1)?.parse().ok()
}

/// What `dmsetup table` says of one that is not suspended. Without a table whatever is written
/// fails.
fn state_of(table: &str) -> io::Result<GateState> {
    match table.split_whitespace().nth(2) {
        Some("linear") => Ok(GateState::Open),
        None | Some("error") => Ok(GateState::Shut),
        Some(_) => Err(io::Error::other(format!("dmsetup table: {table}"))),
    }
}

impl Gate {
    pub(super) fn new(map: &Map) -> io::Result<Self> {
        let sectors = map.sectors()?;
        let open = format!("0 {sectors} linear {} 0", map.number);
        let shut = format!("0 {sectors} error");
        Ok(Self { name: name_of(map), sectors, open, shut, means: Means::real() })
    }

    /// Whether this one, of the map as it is now, is larger than that one.
    pub(in crate::guard) fn is_larger(&self, than: &Self) -> bool {
        self.sectors > than.sectors
    }

    /// # Errors
    /// It may be as it was, or closed.
    pub(in crate::guard) async fn turn(&self, turn: Turn) -> Result<(), GateError> {
        match self.try_to(turn).await {
            // What counts is how it stands, and not whether the program has told of it in time.
            Err(GateError::Io(error)) if self.state().await.is_ok_and(|is| turn.is_done(is)) => {
                tracing::warn!(%error, ?turn, "the gate has turned all the same");
                if turn == Turn::Open { self.begun().await } else { Ok(()) }
            }
            other => other,
        }
    }

    /// What an earlier run has left is shut and goes, unless this one goes on with it. A gate that
    /// has failed whatever was written is never opened for those who had it open then.
    ///
    /// # Errors
    /// [`GateError::InUse`]; one that somebody else may use in good order is as it was.
    pub(super) async fn make_way(&self, task: Task) -> Result<(), GateError> {
        let adopts = matches!(task, Task::Defend | Task::Adopt);
        match self.state().await? {
            GateState::None => return Ok(()),
            GateState::Open | GateState::Closed if adopts => return Ok(()),
            // Nothing of a command is in good order when its guard is gone.
            GateState::Open | GateState::Closed if task == Task::Hold => {
                self.turn(Turn::Shut).await?;
            }
            _ => {}
        }
        self.wait_until_unused().await?;
        self.turn(Turn::Shut).await
    }

    async fn try_to(&self, turn: Turn) -> Result<(), GateError> {
        match (turn, self.state().await?) {
            (Turn::Open, GateState::Open) | (Turn::Shut, GateState::None) => Ok(()),
            (Turn::Open, GateState::None) => self.create().await,
            (Turn::Open, GateState::Shut) => {
                // Never the same one again: whoever has it open has seen it fail.
                self.remove().await?;
                self.create().await
            }
            (Turn::Open, GateState::Closed) => {
                self.run(&["resume", &self.name], self.means.patience).await?;
                match self.state().await? {
                    GateState::Open => Ok(()),
                    // A run that ended in the middle had loaded another table.
                    _ => Err(io::Error::other("it was about to be shut, and is").into()),
                }
            }
            (Turn::Close, GateState::None) => {
                self.create().await?;
                self.suspend().await
            }
            (Turn::Close, _) => self.suspend().await,
            (Turn::Grow, GateState::None | GateState::Shut) => Ok(()),
            (Turn::Grow, GateState::Closed) => self.load_grown().await.map(drop),
            (Turn::Grow, GateState::Open) => {
                if self.load_grown().await? {
                    // Waits for what is under way, as closing does, and must not do so for long.
                    let swap = ["resume", "--noflush", "--nolockfs", &self.name];
                    self.run(&swap, self.means.closing).await?;
                }
                Ok(())
            }
            (Turn::Shut, state) => {
                if state != GateState::Shut {
                    self.shut().await?;
                }
                // Whoever has it open keeps it, and the next run finds it.
                if let Err(error) = self.remove().await {
                    tracing::warn!(%error, "the gate is shut, and stays");
                }
                Ok(())
            }
        }
    }

    async fn shut(&self) -> Result<(), GateError> {
        self.run(&["load", &self.name, "--table", &self.shut], self.means.patience).await?;
        // Noflush: what waits is failed, and not written first.
        let noflush = ["resume", "--noflush", "--nolockfs", &self.name];
        Ok(self.run(&noflush, self.means.patience).await.map(drop)?)
    }

    /// The table that the next resumption brings; whether it is larger than the one before.
    async fn load_grown(&self) -> Result<bool, GateError> {
        let table = self.run(&["table", &self.name], self.means.patience).await?;
        let grows = sectors_of(&table).is_some_and(|sectors| sectors < self.sectors);
        if grows {
            let line = ["load", &self.name, "--table", &self.open];
            self.run(&line, self.means.patience).await?;
        }
        Ok(grows)
    }

    async fn create(&self) -> Result<(), GateError> {
        let line = ["create", &self.name, "--table", &self.open];
        self.run(&line, self.means.patience).await?;
        self.begun().await
    }

    /// It has its name, and nothing is known of it that was read when another host was the owner.
    async fn begun(&self) -> Result<(), GateError> {
        let node = self.means.nodes.join(&self.name);
        let is_there = || async {
            let mapped = Mapped::named(&self.means.blocks, &self.name)?;
            Ok(mapped.is_some_and(|gate| gate.is_at(&node)))
        };
        if !within(self.means.udev, is_there).await? {
            self.run(&["mknodes", &self.name], self.means.patience).await?;
            if !is_there().await? {
                let node = node.display();
                let why = format!("{node} is not the gate: something else has that name");
                return Err(io::Error::other(why).into());
            }
        }
        let forgot = tokio::task::spawn_blocking(move || forget_cached(&node));
        Ok(forgot.await.map_err(io::Error::other)??)
    }

    /// A suspension that does not come to an end in time is given up, and the gate is open.
    async fn suspend(&self) -> Result<(), GateError> {
        let line = ["suspend", "--noflush", "--nolockfs", &self.name];
        let closed = self.run(&line, self.means.closing).await;
        if closed.is_err() && self.state().await? != GateState::Closed {
            self.run(&["resume", &self.name], self.means.patience).await?;
        }
        Ok(closed.map(drop)?)
    }

    /// One that nobody has open; udev, which looks at each that changes, is waited for.
    async fn remove(&self) -> Result<(), GateError> {
        self.wait_until_unused().await?;
        let line = ["remove", &self.name];
        let removed = || async {
            let removed = self.run(&line, self.means.patience).await;
            Ok(removed.is_ok() || self.state().await? == GateState::None)
        };
        if within(self.means.udev, removed).await? {
            return Ok(());
        }
        Err(GateError::InUse { device: self.path(), users: self.users().await? })
    }

    /// # Errors
    /// [`GateError::InUse`] when that does not come to be within a moment.
    async fn wait_until_unused(&self) -> Result<(), GateError> {
        if within(self.means.udev, || async { Ok(self.users().await? == 0) }).await? {
            return Ok(());
        }
        Err(GateError::InUse { device: self.path(), users: self.users().await? })
    }

    fn path(&self) -> String {
        self.means.nodes.join(&self.name).display().to_string()
    }

    /// How often it is open: each mount, and each process that has it open.
    ///
    /// # Errors
    /// It is not known.
    pub(super) async fn users(&self) -> io::Result<u32> {
        if Mapped::named(&self.means.blocks, &self.name)?.is_none() {
            return Ok(0);
        }
        let line = ["info", "--columns", "--noheadings", "-o", "open", &self.name];
        let said = self.run(&line, self.means.patience).await?;
        said.trim().parse().map_err(|_| io::Error::other(format!("dmsetup info: {said}")))
    }

    /// # Errors
    /// It is not known how it stands; it may be open.
    pub(in crate::guard) async fn state(&self) -> io::Result<GateState> {
        match Mapped::named(&self.means.blocks, &self.name)? {
            None => Ok(GateState::None),
            Some(gate) if gate.is_suspended => Ok(GateState::Closed),
            Some(_) => state_of(&self.run(&["table", &self.name], self.means.patience).await?),
        }
    }

    /// What the program says, when it ends well and in time. One that is late is gone when this
    /// returns, unless it waits inside the kernel for longer than that again.
    async fn run(&self, line: &[&str], patience: Duration) -> io::Result<String> {
        let mut program = Command::new(&self.means.program);
        program.args(line).args(WITHOUT_UDEV).stdin(Stdio::null()).kill_on_drop(true);
        let mut child = program.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let (mut said, mut wrong) = (child.stdout.take(), child.stderr.take());
        let ends = async {
            let (said, wrong, status) =
                tokio::join!(read(&mut said), read(&mut wrong), child.wait());
            status.map(|status| (status, said, wrong))
        };
        let Ok(ended) = tokio::time::timeout(patience, ends).await else {
            let _ = tokio::time::timeout(patience, child.kill()).await;
            let why = format!("dmsetup {}: no answer in time", line.join(" "));
            return Err(io::Error::new(io::ErrorKind::TimedOut, why));
        };
        let (status, said, wrong) = ended?;
        if status.success() {
            return Ok(said);
        }
        Err(io::Error::other(format!("dmsetup {}: {}", line.join(" "), wrong.trim())))
    }
}

async fn read(pipe: &mut Option<impl AsyncRead + Unpin>) -> String {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        // What could be read is what there is to tell.
        let _ = pipe.read_to_end(&mut bytes).await;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Look until it is so, for at most that long; whether it is.
async fn within<F>(limit: Duration, mut look: impl FnMut() -> F) -> io::Result<bool>
where
    F: Future<Output = io::Result<bool>>,
{
    let end = Instant::now() + limit;
    loop {
        if look().await? {
            return Ok(true);
        }
        if Instant::now() >= end {
            return Ok(false);
        }
        tokio::time::sleep(AGAIN).await;
    }
}

#[cfg(test)]
mod tests;
