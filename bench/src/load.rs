//! Load from real programs: fio where one has the engines, else qemu-img.

mod fio;
mod qemu;

use std::ffi::OsStr;
use std::path::PathBuf;

use anyhow::Result;
use tokio::process::Command;

use crate::pattern::{Cores, Pattern};
use crate::process::has_program;
use crate::servers::Address;

/// Initiator names of the generators and of our own sessions: one host.
pub(crate) const INITIATORS: [&str; 2] =
    ["iqn.2019-04.org.fio:fio", "iqn.2026-11.org.example:load"];

/// How one gets a fio that can do it.
pub(crate) const FIO_HINT: &str = "COMMONHOLD_FIO names no fio with the engines libiscsi and nbd: \
    take Debian's source package (apt-get source fio; packages libiscsi-dev libnbd-dev \
    libaio-dev zlib1g-dev), ./configure --enable-libiscsi --enable-libnbd, make; until then \
    qemu-img bench makes the load";

/// What a run of a generator moved.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Moved {
    pub(crate) ios: f64,
    pub(crate) seconds: f64,
    pub(crate) p50_us: Option<f64>,
    pub(crate) p99_us: Option<f64>,
}

/// Who makes the load.
#[derive(Clone, Debug)]
pub(crate) enum Generator {
    Fio(PathBuf),
    Qemu,
}

impl Generator {
    /// The best one that is here, and what the reader should know about that.
    pub(crate) fn find() -> Result<(Self, Option<String>)> {
        if let Some(fio) = std::env::var_os("COMMONHOLD_FIO").map(PathBuf::from)
            && fio::has_engines(&fio)
        {
            return Ok((Self::Fio(fio), None));
        }
        let hint = FIO_HINT.to_owned();
        if has_program("qemu-img") {
            return Ok((Self::Qemu, Some(hint)));
        }
        anyhow::bail!("{hint}; and there is no qemu-img (Debian: qemu-utils qemu-block-extra)")
    }

    pub(crate) fn name(&self) -> String {
        match self {
            Self::Fio(path) => {
                let version = crate::machine::version(&path.to_string_lossy(), &["--version"]);
                format!("fio {version}, engines libiscsi and nbd")
            }
            Self::Qemu => {
                format!("qemu-img bench {}", crate::machine::version("qemu-img", &["--version"]))
            }
        }
    }

    /// Run one pattern for so many seconds. The program is killed when this future is dropped.
    pub(crate) async fn run(
        &self,
        address: &Address,
        pattern: Pattern,
        seconds: f64,
        volume_bytes: u64,
    ) -> Result<Moved> {
        match self {
            Self::Fio(program) => fio::run(program, address, pattern, seconds, volume_bytes).await,
            Self::Qemu => qemu::run(address, pattern, seconds, volume_bytes).await,
        }
    }
}

/// A run of a program on the load's core.
fn on_core(cores: Cores, program: &OsStr) -> Command {
    match cores.bound() {
        None => Command::new(program),
        Some((_, core)) => {
            let mut command = Command::new("taskset");
            command.args(["-c", &core.to_string()]).arg(program);
            command
        }
    }
}
