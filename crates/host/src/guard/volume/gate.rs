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

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use env::multipath::{Map, is_suspended};
use env::scsi_device::forget_cached;
use tokio::process::Command;

const PROGRAM: &str = "dmsetup";
/// How long the gate may take to close: it waits for writes that are under way.
const CLOSING: Duration = Duration::from_secs(2);
/// How long anything else may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is to become of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::guard) enum Turn {
    Open,
    Close,
    Shut,
    /// As large as the map.
    Grow,
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

/// The gate of one volume on this host.
#[derive(Clone, Debug)]
pub(in crate::guard) struct Gate {
    name: String,
    sectors: u64,
    open: String,
    shut: String,
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

/// What /sys and `dmsetup table` say. Without a table whatever is written fails.
fn state_of(is_suspended: bool, table: &str) -> io::Result<GateState> {
    match (is_suspended, table.split_whitespace().nth(2)) {
        (true, _) => Ok(GateState::Closed),
        (false, Some("linear")) => Ok(GateState::Open),
        (false, None | Some("error")) => Ok(GateState::Shut),
        (false, Some(_)) => Err(io::Error::other(format!("{PROGRAM} table: {table}"))),
    }
}

impl Gate {
    pub(super) fn new(map: &Map) -> io::Result<Self> {
        let sectors = map.sectors()?;
        let open = format!("0 {sectors} linear {} 0", map.number);
        Ok(Self { name: name_of(map), sectors, open, shut: format!("0 {sectors} error") })
    }

    /// Whether this one, of the map as it is now, is larger than that one.
    pub(in crate::guard) fn is_larger(&self, than: &Self) -> bool {
        self.sectors > than.sectors
    }

    /// # Errors
    /// It may be as it was, or closed.
    pub(in crate::guard) async fn turn(&self, turn: Turn) -> io::Result<()> {
        match (turn, self.state().await?) {
            (Turn::Open, GateState::None) => {
                self.run(&["create", &self.name, "--table", &self.open], PATIENCE).await?;
                self.forget().await
            }
            (Turn::Open, GateState::Shut) => {
                self.run(&["load", &self.name, "--table", &self.open], PATIENCE).await?;
                self.run(&["resume", &self.name], PATIENCE).await?;
                self.forget().await
            }
            (Turn::Open, _) => self.run(&["resume", &self.name], PATIENCE).await.map(drop),
            (Turn::Close, GateState::None) => {
                self.run(&["create", &self.name, "--table", &self.open], PATIENCE).await?;
                self.suspend().await
            }
            (Turn::Close, _) => self.suspend().await,
            (Turn::Grow, GateState::None | GateState::Shut) => Ok(()),
            (Turn::Grow, GateState::Closed) => self.load_grown().await.map(drop),
            (Turn::Grow, GateState::Open) => {
                if self.load_grown().await? {
                    // Waits for what is under way, as closing does, and must not do so for long.
                    let swap = ["resume", "--noflush", "--nolockfs", &self.name];
                    self.run(&swap, CLOSING).await?;
                }
                Ok(())
            }
            (Turn::Shut, GateState::None) => Ok(()),
            (Turn::Shut, _) => {
                self.run(&["load", &self.name, "--table", &self.shut], PATIENCE).await?;
                // Noflush: what waits is failed, and not written first.
                let noflush = ["resume", "--noflush", "--nolockfs", &self.name];
                self.run(&noflush, PATIENCE).await?;
                // Whoever has it open keeps it, and the next run finds it.
                let _ = self.run(&["remove", &self.name], PATIENCE).await;
                Ok(())
            }
        }
    }

    /// A suspension that does not come to an end in time is given up, and the gate is open.
    async fn suspend(&self) -> io::Result<()> {
        let line = ["suspend", "--noflush", "--nolockfs", &self.name];
        let closed = self.run(&line, CLOSING).await.map(drop);
        if closed.is_err() {
            self.run(&["resume", &self.name], PATIENCE).await?;
        }
        closed
    }

    /// The table that the next resumption brings; whether it is larger than the one before.
    async fn load_grown(&self) -> io::Result<bool> {
        let table = self.run(&["table", &self.name], PATIENCE).await?;
        let grows = sectors_of(&table).is_some_and(|sectors| sectors < self.sectors);
        if grows {
            self.run(&["load", &self.name, "--table", &self.open], PATIENCE).await?;
        }
        Ok(grows)
    }

    /// What was read of it when another host was the owner.
    async fn forget(&self) -> io::Result<()> {
        let path = format!("/dev/mapper/{}", self.name);
        let forgot = tokio::task::spawn_blocking(move || forget_cached(Path::new(&path)));
        forgot.await.map_err(io::Error::other)?
    }

    /// # Errors
    /// It is not known how it stands; it may be open.
    pub(in crate::guard) async fn state(&self) -> io::Result<GateState> {
        match is_suspended(&self.name)? {
            None => Ok(GateState::None),
            Some(is) => state_of(is, &self.run(&["table", &self.name], PATIENCE).await?),
        }
    }

    /// What it says, when it ends well and in time.
    async fn run(&self, line: &[&str], patience: Duration) -> io::Result<String> {
        let mut program = Command::new(PROGRAM);
        program.args(line).stdin(Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(patience, program.output()).await;
        let output = output.map_err(|_| io::ErrorKind::TimedOut)??;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(io::Error::other(format!("{PROGRAM} {}: {}", line.join(" "), said.trim())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `dmsetup` could not be run, and the gate that it was to shut counted as none.
    #[test]
    fn a_gate_that_nothing_is_known_of_is_not_taken_for_none_or_open() {
        let state = |is_suspended, table| state_of(is_suspended, table).ok();
        assert_eq!(state(false, "0 2048 linear 253:0 0\n"), Some(GateState::Open));
        assert_eq!(state(false, "0 2048 error \n"), Some(GateState::Shut));
        assert_eq!(state(false, ""), Some(GateState::Shut));
        assert_eq!(state(true, "0 2048 linear 253:0 0\n"), Some(GateState::Closed));
        assert_eq!(state(false, "0 2048 crypt x\n"), None);
    }

    #[test]
    fn the_size_of_a_gate_is_that_of_its_table() {
        assert_eq!(sectors_of("0 2048 linear 253:0 0\n"), Some(2048));
        assert_eq!(sectors_of(""), None);
        let gate = |sectors| Gate {
            name: "commonhold-mpatha".to_owned(),
            sectors,
            open: String::new(),
            shut: String::new(),
        };
        assert!(gate(4096).is_larger(&gate(2048)));
        assert!(!gate(2048).is_larger(&gate(2048)) && !gate(1024).is_larger(&gate(2048)));
    }
}
