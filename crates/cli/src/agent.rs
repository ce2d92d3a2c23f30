//! `commonhold host run`: the agent of this machine, and the wardens that it starts.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use host::agent::{Agent, AgentError, Initiators, Settings};
use host::group::{Ends, Home, Warden, WardenError};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::arguments::GlobalArguments;
use crate::failure::Failure;
use crate::settings::LogFormat;
use crate::{log, settings};

const STATE: &str = "/var/lib/commonhold/host";
const INITIATOR_NAME: &str = "/etc/iscsi/initiatorname.iscsi";
const HOST_NAME: &str = "/proc/sys/kernel/hostname";
const LOG: &str = "COMMONHOLD_LOG";
/// Each change of a group; what is asked of the volume is `host=debug`.
const LEVELS: &str = "info";

/// Which initiator logs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum By {
    /// The kernel's where there is one, else the program's own
    Auto,
    Kernel,
    /// No device and no mount: groups of programs that log in by themselves
    Own,
}

#[derive(Args, Debug)]
pub(crate) struct AgentArguments {
    /// The host's name at the service [default: this machine's]
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// Directory of the agent: its token, its last assignments, its groups
    #[arg(long, value_name = "DIR", default_value = STATE)]
    state: PathBuf,
    /// Token of a member of the project, to make this host known; needed once
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// iSCSI name of this host [default: the one of open-iscsi]
    #[arg(long, value_name = "IQN")]
    initiator: Option<String>,
    /// Address at which the other hosts of a group reach this one; may be given several times
    #[arg(long = "address", value_name = "ADDRESS")]
    addresses: Vec<IpAddr>,
    /// Where heartbeats of other hosts arrive, UDP
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:7702")]
    heartbeat: SocketAddr,
    /// Whose initiator logs in to volumes
    #[arg(long, value_enum, default_value = "auto")]
    attach_by: By,
}

pub(crate) async fn run(
    global: &GlobalArguments,
    arguments: AgentArguments,
) -> Result<(), Failure> {
    start_log()?;
    let (url, token, project) = settings::service(global)?;
    let read = |path: &Path| {
        std::fs::read_to_string(path)
            .map_err(|why| Failure::Io { what: path.display().to_string(), why })
    };
    let token = match &arguments.token_file {
        Some(path) => Some(read_token(path)?),
        None => token,
    };
    let name = match arguments.host {
        Some(name) => name,
        None => read(Path::new(HOST_NAME))?.trim().to_owned(),
    };
    let initiator = match arguments.initiator {
        Some(name) => name,
        None => initiator_name(&read(Path::new(INITIATOR_NAME)).unwrap_or_default())?,
    };
    let own = std::env::current_exe()
        .map_err(|why| Failure::Io { what: "this program's own path".to_owned(), why })?;
    let settings = Settings {
        url,
        token,
        project,
        name,
        initiator,
        addresses: arguments.addresses,
        heartbeat: arguments.heartbeat,
        // Wardens run elsewhere: a path must mean the same to them.
        state: std::path::absolute(&arguments.state)
            .map_err(|why| Failure::Io { what: arguments.state.display().to_string(), why })?,
        initiators: match arguments.attach_by {
            By::Auto => Initiators::Automatic,
            By::Kernel => Initiators::Kernel,
            By::Own => Initiators::Own,
        },
        warden: vec![own.into(), OsString::from("host"), OsString::from("warden")],
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let agent = Agent::open(settings).await.map_err(failed)?;
    let (asks, stops) = mpsc::channel(1);
    hear(&[SignalKind::terminate(), SignalKind::interrupt()], move || asks.try_send(()).is_ok())?;
    agent.run(stops).await.map_err(failed)
}

fn read_token(path: &Path) -> Result<String, Failure> {
    let text = std::fs::read_to_string(path).map_err(|why| Failure::Usage {
        message: format!("the token cannot be read from {}: {why}", path.display()),
        hint: "`commonhold token create` makes a token; write it to a file that only this user \
               may read."
            .to_owned(),
    })?;
    Ok(text.trim().to_owned())
}

fn initiator_name(text: &str) -> Result<String, Failure> {
    let named = |line: &str| line.trim().strip_prefix("InitiatorName=").map(str::to_owned);
    text.lines().find_map(named).ok_or_else(|| Failure::Usage {
        message: format!("{INITIATOR_NAME} holds no InitiatorName"),
        hint: "Give this host's iSCSI name with --initiator, or install open-iscsi.".to_owned(),
    })
}

fn failed(error: AgentError) -> Failure {
    let hint = match &error {
        AgentError::Dismissed { path } => {
            return Failure::Serve {
                message: error.to_string(),
                hint: Some(format!(
                    "If that was not meant: remove {} and start with --token-file.",
                    path.display()
                )),
            };
        }
        AgentError::Api(_) => "",
        AgentError::Files { .. } => "Does another agent use the directory? Choose with --state.",
        AgentError::Port(_) => "Choose another port with --heartbeat.",
        AgentError::Silent(_) => "Check the address and the network.",
        AgentError::Unknown => "`commonhold token create` makes one.",
    };
    match error {
        AgentError::Api(error) => Failure::Api(error),
        error => Failure::Serve { message: error.to_string(), hint: Some(hint.to_owned()) },
    }
}

/// One group on this host, in a process of its own, which the agent starts.
pub(crate) async fn be_warden(directory: PathBuf) -> Result<(), Failure> {
    start_log()?;
    // What ends the agent, a terminal for one, must not end the group.
    let _ = rustix::process::setsid();
    let (asks, asked) = mpsc::channel(4);
    let stop = asks.clone();
    hear(&[SignalKind::terminate(), SignalKind::interrupt()], move || {
        stop.try_send(Ends::Stop).is_ok()
    })?;
    hear(&[SignalKind::hangup()], move || asks.try_send(Ends::HandOver).is_ok())?;
    let (warden, record) = Warden::open(Home::new(directory), asked).map_err(unfit)?;
    match warden.run(record).await.map_err(unfit)? {
        Ends::Stop => Ok(()),
        Ends::HandOver => Err(go_on()),
    }
}

/// The same process goes on as the program that now stands at its path, and adopts what runs. Why
/// that did not come about; the agent starts another warden then.
fn go_on() -> Failure {
    let mut line = std::env::args_os();
    let program = line.next().unwrap_or_default();
    let why = std::process::Command::new(&program).args(line).exec();
    Failure::Io { what: program.display().to_string(), why }
}

fn unfit(error: WardenError) -> Failure {
    Failure::Serve {
        message: error.to_string(),
        hint: Some("`commonhold host run` starts wardens where they are needed.".to_owned()),
    }
}

/// Call `ask` at each of these signals.
fn hear(
    kinds: &[SignalKind],
    ask: impl Fn() -> bool + Clone + Send + 'static,
) -> Result<(), Failure> {
    for kind in kinds {
        let failed = |why| Failure::Io { what: "signals cannot be heard".to_owned(), why };
        let mut heard = signal(*kind).map_err(failed)?;
        let ask = ask.clone();
        tokio::spawn(async move {
            while heard.recv().await.is_some() {
                // One that waits unheard is as good as two.
                let _ = ask();
            }
        });
    }
    Ok(())
}

fn start_log() -> Result<(), Failure> {
    log::start(&std::env::var(LOG).unwrap_or_else(|_| LEVELS.to_owned()), LogFormat::Text)
}
