//! `commonhold demo`: the main job in half a minute, on this machine, with nothing set up.
//!
//! A real daemon on loopback and a temporary directory; two hosts that speak real iSCSI to it
//! through our own initiator, and two clients that speak real NFS. Every line that is printed was checked: what does not hold ends the
//! demo with a failure.

mod acts;
mod keys;
mod tree;

use std::time::{Duration, Instant};

use api::Client;
use api::attachment::{CreateAttachments, CreatedAttachment};
use api::host::CreateHost;
use api::project::CreateProject;
use api::volume::CreateVolume;
use api::volume_type::CreateGrant;
use comfy_table::{Table, presets};
use host::{Credentials, HostError, Initiator, LogicalUnit, Options};
use model::order::IoMode;
use model::size::ByteSize;

use crate::failure::Failure;
use crate::output;
use crate::serve::{Daemon, FileHome, Handover};
use crate::settings::ServeSettings;

const PROJECT: &str = "lab";
const VOLUME: &str = "shared";
const HOSTS: [&str; 2] = ["alpha", "beta"];
const SIZE: ByteSize = ByteSize::gib(1);
/// On a disk: what is in memory elsewhere keeps no file volumes.
const PLACE: &str = "/var/tmp";

/// One checked fact, for the closing table.
struct Shown {
    what: &'static str,
    figure: String,
}

/// The demo's state: what was made, and what was shown so far.
struct Demo {
    client: Client,
    shown: Vec<Shown>,
}

/// One host with its open session.
struct Guest {
    name: &'static str,
    session: Initiator,
    unit: LogicalUnit,
}

/// What the daemon of the demo runs on.
pub(crate) struct Stage {
    /// Removed with this.
    directory: tempfile::TempDir,
    settings: ServeSettings,
    home: FileHome,
}

impl Drop for Stage {
    /// The snapshots in the pool are read-only: whoever removed the directory would stop at them,
    /// and leave the whole image behind.
    fn drop(&mut self) {
        if let Err(why) = FileHome::leave(self.directory.path()) {
            eprintln!("{} stays: {why}", self.directory.path().display());
        }
    }
}

impl Stage {
    /// To be made before there are other threads.
    pub(crate) fn new() -> Result<Self, Failure> {
        let directory = tempfile::Builder::new().prefix("commonhold-demo-").tempdir_in(PLACE);
        let directory = directory
            .map_err(|why| Failure::Io { what: format!("a directory in {PLACE}"), why })?;
        let settings = settings(directory.path());
        let home = FileHome::find(&settings, &node::Sockets::default()).with_pool();
        Ok(Self { directory, settings, home })
    }
}

/// Run it; the daemon ends and the directory goes whatever happens.
pub(crate) async fn run(stage: Stage) -> Result<(), Failure> {
    say("A daemon starts on loopback, with an empty data directory and CHAP required.")?;
    let daemon = Daemon::start(&stage.settings, &stage.home, Handover::default()).await?;
    let (token, files) = (daemon.first_token.clone(), daemon.files.clone());
    let client = Client::new(&format!("http://{}", daemon.api), token)?;
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(daemon.serve_until(async {
        // An error means that the demo is over already.
        let _ = ended.await;
    }));
    let began = Instant::now();
    let mut demo = Demo { client, shown: Vec::new() };
    let result = demo.play(files).await;
    let _ = end.send(());
    let stopped = serving.await;
    result?;
    // Nobody asks this one for a successor.
    stopped.map_err(|why| Failure::work(format!("the daemon did not end: {why}")))??;
    demo.close(began.elapsed())
}

fn settings(directory: &std::path::Path) -> ServeSettings {
    let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let limits = node::Limits::default();
    ServeSettings {
        role: crate::settings::Role::All,
        data: directory.to_owned(),
        listen: any,
        metrics: None,
        portals: vec![any],
        nfs_portals: rustix::process::geteuid().is_root().then(|| vec![any]),
        nfs_lease_ms: 90_000,
        nfs_rpcbind: false,
        chap: crate::settings::ChapRequired(true),
        // Room for what is shown; a btrfs in a file takes all of it.
        capacity: Some(ByteSize::gib(4)),
        io: IoMode::Cached,
        event_days: None,
        workers: 0,
        places: limits.places,
        buffers: ByteSize(limits.buffer_bytes),
        api_connections: 64,
        log: "off".to_owned(),
        log_format: crate::settings::LogFormat::Text,
        client_file: false,
    }
}

impl Demo {
    async fn play(
        &mut self,
        files: Result<Vec<std::net::SocketAddr>, String>,
    ) -> Result<(), Failure> {
        self.prepare().await?;
        let attached = self.attach().await?;
        let mut guests = Vec::new();
        for (name, created) in HOSTS.into_iter().zip(&attached) {
            guests.push(log_in(name, created).await?);
        }
        say("Both hosts log in over iSCSI; initiator and target prove themselves by CHAP.")?;
        let [alpha, beta] = &guests[..] else {
            return Err(Failure::work("two hosts were expected".to_owned()));
        };
        self.share(alpha, beta).await?;
        self.count(alpha, beta).await?;
        self.reserve(alpha, beta).await?;
        self.fence(alpha, beta).await?;
        self.grow(beta).await?;
        self.cut_off(&attached[0], alpha, beta).await?;
        self.history().await?;
        let lacking = match files {
            Err(why) => Some(why),
            Ok(_) => match self.client.pool_show("local-file").await {
                Ok(pool) => pool.fault,
                Err(why) => Some(why.to_string()),
            },
        };
        match lacking {
            None => self.share_a_tree().await,
            Some(why) => say(&format!("\nThe part about file volumes is left out: {why}.")),
        }
    }

    async fn prepare(&mut self) -> Result<(), Failure> {
        let project = CreateProject { name: PROJECT.into(), ..CreateProject::default() };
        self.client.project_create(&project).await?;
        let grant = CreateGrant { project: PROJECT.into(), acknowledge_data_loss: true };
        self.client.grant_create("ssd-multiattach", &grant).await?;
        self.client = self.client.clone().in_project(Some(PROJECT.into()));
        say("The operator makes the project 'lab' and grants it the type ssd-multiattach;\n\
             the grant records who acknowledged that uncoordinated writers destroy data.")?;
        for name in HOSTS {
            let initiators = vec![iqn(name)];
            let host = CreateHost { name: name.into(), initiators, ..CreateHost::default() };
            self.client.host_create(&host).await?;
        }
        let volume = CreateVolume {
            name: VOLUME.into(),
            size: Some(SIZE.into()),
            volume_type: Some("ssd-multiattach".into()),
            ..CreateVolume::default()
        };
        self.client.volume_create(&volume).await?;
        self.until_volume(VOLUME, "available").await?;
        say(&format!("Two hosts, and a volume '{VOLUME}' of {SIZE}."))
    }

    async fn attach(&mut self) -> Result<Vec<CreatedAttachment>, Failure> {
        let began = Instant::now();
        let request = CreateAttachments {
            volume: VOLUME.into(),
            hosts: HOSTS.map(str::to_owned).to_vec(),
            ..CreateAttachments::default()
        };
        let mut attached = self.client.attachment_create(&request).await?.attachments;
        for created in &mut attached {
            let id = created.attachment.id.to_string();
            let end = Instant::now() + Duration::from_secs(20);
            while created.attachment.connection.is_none() && Instant::now() < end {
                tokio::time::sleep(Duration::from_millis(5)).await;
                created.attachment = self.client.attachment_show(&id).await?;
            }
        }
        let took = milliseconds(began.elapsed());
        say(&format!("One call attaches the volume to both hosts: {took}."))?;
        self.show("one call attaches two hosts", took);
        Ok(attached)
    }

    async fn until_volume(&self, name: &str, status: &str) -> Result<(), Failure> {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            let volume = self.client.volume_show(name).await?;
            if volume.status == status {
                return Ok(());
            }
            if Instant::now() > end {
                let is = volume.status;
                return Err(Failure::work(format!("the volume is {is}, not {status}")));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn show(&mut self, what: &'static str, figure: impl Into<String>) {
        self.shown.push(Shown { what, figure: figure.into() });
    }

    fn close(&self, took: Duration) -> Result<(), Failure> {
        let mut table = Table::new();
        table.load_style(presets::UTF8_FULL_CONDENSED);
        table.set_header(["what was shown", "figure"]);
        for shown in &self.shown {
            table.add_row([shown.what, &shown.figure]);
        }
        say(&format!("\n{table}\n\nDone in {:.1} s; nothing is left behind.", took.as_secs_f64()))
    }
}

async fn log_in(name: &'static str, created: &CreatedAttachment) -> Result<Guest, Failure> {
    let missing = || Failure::work(format!("{name} has no connection information"));
    let connection = created.attachment.connection.as_ref().ok_or_else(missing)?;
    let chap = created.credentials.as_ref().ok_or_else(missing)?;
    let portal = connection.portals.first().ok_or_else(missing)?;
    let mut options = Options::new(iqn(name), Some(connection.target.clone()));
    options.chap = Some(Credentials { user: chap.user.clone(), secret: chap.secret.clone() });
    options.mutual =
        Some(Credentials { user: chap.target_user.clone(), secret: chap.target_secret.clone() });
    let session = Initiator::connect(portal.as_str(), options).await.map_err(failed)?;
    let unit = LogicalUnit::open(&session, 0).await.map_err(failed)?;
    Ok(Guest { name, session, unit })
}

fn iqn(host: &str) -> String {
    format!("iqn.2026-11.io.commonhold.demo:{host}")
}

fn say(text: &str) -> Result<(), Failure> {
    output::write(&format!("{text}\n"))
}

fn milliseconds(took: Duration) -> String {
    format!("{:.1} ms", took.as_secs_f64() * 1e3)
}

/// A step that had to succeed.
fn failed(why: HostError) -> Failure {
    Failure::work(why.to_string())
}

/// Something that had to hold.
fn holds(yes: bool, otherwise: &str) -> Result<(), Failure> {
    if yes { Ok(()) } else { Err(Failure::work(otherwise.to_owned())) }
}
