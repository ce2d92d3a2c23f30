//! `fence_commonhold`: the binary under this name is a fence agent for Pacemaker, dlm and whatever
//! else speaks to such agents: options, or lines `name=value` on standard input; exit code 0 for
//! success, 1 for failure, and for `status` 2 when the host is off.
//!
//! Entry points: [`is_called`], [`main`].
//!
//! Invariant: success is answered only when the target has proven that nothing of the host can
//! land any more. Whatever is not known, a host of another name first of all, is a failure.

mod metadata;

use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use api::Client;
use api::attachment::{Attachment, AttachmentQuery, CreateAttachments, Mode};
use api::host::HostQuery;
use clap::Parser;

use crate::arguments::GlobalArguments;
use crate::failure::{self, Failure};
use crate::output::{self, Format};
use crate::{progress, settings};

const NAME: &str = "fence_commonhold";
/// `status` of a host that is off.
const IS_OFF: u8 = 2;
/// Fences in a row that may find the host attached anew, by somebody who does not know of them.
const ROUNDS_MAX: usize = 5;
/// Between two looks at an attachment that is on its way.
const PAUSE: Duration = Duration::from_millis(100);

/// Cut a host off from shared volumes, for a cluster manager. Without options, lines `name=value`
/// on standard input say what to do.
#[derive(Parser, Debug, Default)]
#[command(name = NAME, version)]
struct Line {
    /// off, on, status, monitor, list, validate-all or metadata [default: off]
    #[arg(short = 'o', long)]
    action: Option<String>,
    /// The host: name or id
    #[arg(short = 'n', long, visible_alias = "port")]
    plug: Option<String>,
    /// Only these volumes, with commas; `on` needs them
    #[arg(long)]
    volumes: Option<String>,
    #[arg(long)]
    url: Option<String>,
    #[arg(long)]
    token: Option<String>,
    #[arg(long)]
    token_file: Option<PathBuf>,
    #[arg(long)]
    project: Option<String>,
    #[arg(long)]
    config: Option<PathBuf>,
    /// Taken and not used: other agents have it
    #[arg(short, long)]
    verbose: bool,
}

/// Whether the binary runs under the agent's name.
pub(crate) fn is_called() -> bool {
    let called = std::env::args_os().next().map(PathBuf::from);
    called.is_some_and(|path| path.file_name().is_some_and(|name| name == NAME))
}

pub(crate) fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(failure) => {
            // Its code says what kind of failure; of an agent there is only one.
            let _ = failure::end(&failure);
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode, Failure> {
    let line = if std::env::args_os().len() > 1 { Line::parse() } else { from_input()? };
    let action = line.action.clone().unwrap_or_else(|| "off".to_owned());
    if action == "metadata" {
        return output::write(&metadata::document()).map(|()| ExitCode::SUCCESS);
    }
    crate::runtime()?.block_on(act(&action, line))
}

fn usage(message: String, hint: &str) -> Failure {
    Failure::Usage { message, hint: hint.to_owned() }
}

/// The lines of standard input. What is not known is for other agents: clusters hand on more.
fn from_input() -> Result<Line, Failure> {
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .map_err(|why| Failure::Io { what: "standard input".to_owned(), why })?;
    Ok(parse(&text))
}

fn parse(text: &str) -> Line {
    let mut line = Line::default();
    for one in text.lines().map(str::trim).filter(|one| !one.starts_with('#')) {
        let Some((name, value)) = one.split_once('=') else { continue };
        let value = Some(value.to_owned());
        match name {
            "action" | "option" => line.action = value,
            "plug" | "port" => line.plug = value,
            // What dlm calls the host when nothing else names it.
            "nodename" => line.plug = line.plug.or(value),
            "volumes" => line.volumes = value,
            "url" => line.url = value,
            "token" => line.token = value,
            "token_file" => line.token_file = value.map(PathBuf::from),
            "project" => line.project = value,
            "config" => line.config = value.map(PathBuf::from),
            _ => {}
        }
    }
    line
}

impl Line {
    fn client(&self) -> Result<Client, Failure> {
        let token = match (&self.token, &self.token_file) {
            (Some(token), _) => Some(token.clone()),
            (None, Some(path)) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|why| Failure::Io { what: path.display().to_string(), why })?;
                Some(text.trim().to_owned())
            }
            (None, None) => None,
        };
        let global = GlobalArguments {
            config: self.config.clone(),
            url: self.url.clone(),
            token,
            project: self.project.clone(),
            output: Format::Plain,
            wait: true,
            no_wait: false,
        };
        settings::client(&global).map(|(client, _)| client)
    }
    fn host(&self) -> Result<&str, Failure> {
        let hint = "Name it with --plug, or plug=HOST on standard input.";
        self.plug.as_deref().ok_or_else(|| usage("no host is named".to_owned(), hint))
    }
    fn volumes(&self) -> Vec<&str> {
        let named = self.volumes.as_deref().unwrap_or_default().split(',').map(str::trim);
        named.filter(|name| !name.is_empty()).collect()
    }
}

async fn act(action: &str, line: Line) -> Result<ExitCode, Failure> {
    let client = line.client()?;
    match action {
        "off" => off(&client, &line).await?,
        "on" => on(&client, &line).await?,
        "status" => {
            let is_on = !attached(&client, &line).await?.is_empty();
            let word = if is_on { "ON" } else { "OFF" };
            output::write(&format!("Status: {word}\n"))?;
            return Ok(if is_on { ExitCode::SUCCESS } else { ExitCode::from(IS_OFF) });
        }
        "monitor" | "validate-all" => {
            client.whoami().await?;
        }
        "list" => {
            for host in client.every(&HostQuery::default()).await? {
                output::write(&format!("{},{}\n", host.name, host.id))?;
            }
        }
        other => {
            let hint = "It is one of off, on, status, monitor, list, validate-all, metadata; in \
                        place of reboot take off (Pacemaker: pcmk_reboot_action=off).";
            return Err(usage(format!("there is no action '{other}'"), hint));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What of the volumes named, or of all, the host is attached to, in whatever state.
async fn attached(client: &Client, line: &Line) -> Result<Vec<Attachment>, Failure> {
    // A host that is not there is no host that is off.
    let host = client.host_show(line.host()?).await?;
    let mut ids = Vec::new();
    for volume in line.volumes() {
        ids.push(client.volume_show(volume).await?.id);
    }
    let host = Some(host.id.to_string());
    let mut all = client.every(&AttachmentQuery { host, ..AttachmentQuery::default() }).await?;
    all.retain(|one| ids.is_empty() || ids.contains(&one.volume_id));
    Ok(all)
}

/// Fences until nothing is left, also of what somebody attaches meanwhile.
async fn off(client: &Client, line: &Line) -> Result<(), Failure> {
    for _ in 0..ROUNDS_MAX {
        let all = attached(client, line).await?;
        if all.is_empty() {
            return Ok(());
        }
        for one in &all {
            match client.attachment_fence(&one.id.to_string()).await {
                Ok(_) => {}
                // Gone in the meantime; the next look at the list says whether it came again.
                Err(error) if error.status == Some(404) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Err(Failure::Work {
        message: "the host is attached again as often as it is cut off".to_owned(),
        hint: "Stop what attaches it: `commonhold event list` says who does.".to_owned(),
    })
}

/// Attaches the volumes and waits until the host may come.
async fn on(client: &Client, line: &Line) -> Result<(), Failure> {
    let host = line.host()?.to_owned();
    let volumes = line.volumes();
    if volumes.is_empty() {
        let hint = "Give volumes=A,B: what the host had is not remembered.";
        return Err(usage("`on` does not know which volumes to attach".to_owned(), hint));
    }
    for volume in volumes {
        let (volume, hosts) = (volume.to_owned(), vec![host.clone()]);
        let body = CreateAttachments {
            volume: volume.clone(),
            hosts,
            mode: Mode::ReadWrite,
            accept_data_loss: false,
        };
        for created in client.attachment_create(&body).await?.attachments {
            let id = created.attachment.id.to_string();
            if created.credentials.is_some() {
                // A secret that nobody is told locks the host out and looks like success.
                client.attachment_fence(&id).await?;
                return Err(Failure::Work {
                    message: format!("'{volume}' needs a CHAP secret that only a person can take"),
                    hint: format!("Run `commonhold attachment create {volume} --host {host}`."),
                });
            }
            rest(client, &id).await?;
        }
    }
    Ok(())
}

async fn rest(client: &Client, id: &str) -> Result<(), Failure> {
    loop {
        let seen = client.attachment_show(id).await?;
        match seen.state.as_str() {
            "attached" => return Ok(()),
            state if progress::is_passing(state) => tokio::time::sleep(PAUSE).await,
            state => {
                let why = seen.fault.unwrap_or_else(|| format!("it is {state}"));
                return Err(Failure::work(format!("the host cannot reach it: {why}")));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_options_are_consistent() {
        Line::command().debug_assert();
    }

    #[test]
    fn standard_input_says_the_same_as_options() {
        let line = parse("# a comment\naction=status\nport=alpha\nvolumes=a, b,\nunknown=1\nnoise");
        assert_eq!(line.action.as_deref(), Some("status"));
        assert_eq!((line.host().unwrap(), line.volumes()), ("alpha", vec!["a", "b"]));
        let dlm = parse("nodename=beta\nplug=alpha");
        assert_eq!(dlm.host().unwrap(), "alpha");
        assert_eq!(parse("nodename=beta").host().unwrap(), "beta");
        assert!(parse("").host().is_err());
    }

    #[test]
    fn the_metadata_names_every_action_and_asks_for_nothing_twice() {
        let xml = metadata::document();
        for name in ["off", "on", "status", "monitor", "list", "metadata"] {
            assert!(xml.contains(&format!("<action name=\"{name}\"")), "{xml}");
        }
        assert_eq!(xml.matches("<parameter ").count(), xml.matches("</parameter>").count());
    }
}
