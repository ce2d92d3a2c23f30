//! Attachments: one volume made reachable to one host.

use api::attachment::{
    Attachment, AttachmentQuery, ChapCredentials, CreateAttachments, CreatedAttachment,
    CreatedAttachments, Mode, UpdateAttachment,
};
use clap::{Subcommand, ValueEnum};

use super::Context;
use crate::failure::Failure;
use crate::output::{self, Column, Format, Listed, note, or_dash};
use crate::progress::{self, Bar};

#[derive(Subcommand, Debug)]
pub(crate) enum AttachmentCommand {
    /// Attach a volume to one or more hosts: all of them, or none
    Create {
        volume: String,
        /// Name or id of a host; may be given several times
        #[arg(long = "host", required = true)]
        hosts: Vec<String>,
        /// May the hosts write?
        #[arg(long, default_value = "rw")]
        mode: ModeName,
        /// Attach although the volume holds a file system that two writers destroy; recorded
        #[arg(long)]
        accept_data_loss: bool,
    },
    /// All attachments
    List {
        /// Only those of this volume
        #[arg(long)]
        volume: Option<String>,
        /// Only those of this host
        #[arg(long)]
        host: Option<String>,
    },
    /// One attachment, with what an initiator needs to connect (but no secret)
    #[command(visible_alias = "get")]
    Show { attachment: String },
    /// Change whether the host may write; returns when the target enforces it
    Update {
        attachment: String,
        /// To ro: no write of the host lands any more. To rw: by the rules of a new attachment
        #[arg(long)]
        mode: ModeName,
        /// Let it write although the volume holds a file system that two writers destroy; recorded
        #[arg(long)]
        accept_data_loss: bool,
    },
    /// Detach: let running commands end, close the host's sessions, remove its registrations
    #[command(visible_alias = "detach")]
    Delete {
        #[arg(required = true)]
        attachments: Vec<String>,
    },
    /// Cut the host off at once; returns when nothing of it can land any more
    Fence { attachment: String },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ModeName {
    /// Read and write
    Rw,
    /// Read only, enforced by the target
    Ro,
}

impl From<ModeName> for Mode {
    fn from(mode: ModeName) -> Self {
        match mode {
            ModeName::Rw => Self::ReadWrite,
            ModeName::Ro => Self::ReadOnly,
        }
    }
}

fn mode_word(mode: Mode) -> String {
    match mode {
        Mode::ReadWrite => "rw",
        Mode::ReadOnly => "ro",
    }
    .to_owned()
}

impl Listed for Attachment {
    const WORD: &'static str = "attachments";
    const COLUMNS: &'static [Column<Self>] = &[
        ("volume", |attachment| attachment.volume_name.clone()),
        ("host", |attachment| attachment.host_name.clone()),
        ("mode", |attachment| mode_word(attachment.mode)),
        ("state", |attachment| attachment.state.clone()),
        ("portals", |attachment| {
            or_dash(attachment.connection.as_ref().map(|connection| connection.portals.join(", ")))
        }),
        ("id", |attachment| attachment.id.to_string()),
    ];
}

impl AttachmentCommand {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = &context.client;
        match self {
            Self::Create { volume, hosts, mode, accept_data_loss } => {
                let mode = mode.into();
                let body = CreateAttachments { volume, hosts, mode, accept_data_loss };
                let created = client.attachment_create(&body).await?;
                show_created(context, settle(context, created).await)
            }
            Self::List { volume, host } => {
                let query = AttachmentQuery { volume, host, ..AttachmentQuery::default() };
                context.list(&query).await
            }
            Self::Show { attachment } => {
                let attachment = client.attachment_show(&attachment).await?;
                if context.format == Format::Table {
                    return output::write(&details(&attachment, None));
                }
                context.show(&attachment)
            }
            Self::Update { attachment, mode, accept_data_loss } => {
                let body = UpdateAttachment { mode: Some(mode.into()), accept_data_loss };
                context.show(&client.attachment_update(&attachment, &body).await?)
            }
            Self::Delete { attachments } => {
                for attachment in attachments {
                    detach(context, &attachment).await?;
                }
                Ok(())
            }
            Self::Fence { attachment } => {
                let fenced = client.attachment_fence(&attachment).await?;
                note("The host is cut off: nothing of it can land any more.");
                context.show(&fenced)
            }
        }
    }
}

/// Wait until each attachment rests. What was created is given back even where waiting failed:
/// its secrets are shown now or never.
async fn settle(
    context: &Context,
    mut created: CreatedAttachments,
) -> (CreatedAttachments, Option<Failure>) {
    let mut bar = Bar::new("attaching".into());
    for CreatedAttachment { attachment, .. } in &mut created.attachments {
        let id = attachment.id.to_string();
        while context.wait && progress::is_passing(&attachment.state) {
            bar.pause().await;
            match context.client.attachment_show(&id).await {
                Ok(seen) => *attachment = seen,
                Err(error) => return (created, Some(error.into())),
            }
        }
        if attachment.state == "error" {
            let why = attachment.fault.as_deref().unwrap_or("its events tell more");
            let failure = Failure::work(format!("{} cannot reach it: {why}", attachment.host_name));
            return (created, Some(failure));
        }
    }
    (created, None)
}

fn show_created(
    context: &Context,
    (created, failure): (CreatedAttachments, Option<Failure>),
) -> Result<(), Failure> {
    match context.format {
        Format::Json => context.show(&created)?,
        Format::Plain | Format::Table => {
            let texts = created
                .attachments
                .iter()
                .map(|created| details(&created.attachment, created.credentials.as_ref()));
            output::write(&texts.collect::<Vec<_>>().join("\n"))?;
            if created.attachments.iter().any(|created| created.credentials.is_some()) {
                note("The secrets are not shown again.");
            }
        }
    }
    failure.map_or(Ok(()), Err)
}

/// What a person types into an initiator, a line each.
fn details(attachment: &Attachment, credentials: Option<&ChapCredentials>) -> String {
    let mut rows = vec![
        ("attachment", attachment.id.to_string()),
        ("volume", attachment.volume_name.clone()),
        ("host", attachment.host_name.clone()),
        ("mode", mode_word(attachment.mode)),
        ("state", attachment.state.clone()),
    ];
    rows.extend(attachment.fault.clone().map(|fault| ("fault", fault)));
    if let Some(connection) = &attachment.connection {
        rows.push(("portals", connection.portals.join(", ")));
        rows.push(("target", connection.target.clone()));
        rows.push(("lun", connection.lun.to_string()));
    }
    if credentials.is_none() {
        rows.extend(attachment.chap_user.clone().map(|user| ("chap user", user)));
    }
    if let Some(credentials) = credentials {
        rows.push(("chap user", credentials.user.clone()));
        rows.push(("chap secret", credentials.secret.clone()));
        rows.push(("target user", credentials.target_user.clone()));
        rows.push(("target secret", credentials.target_secret.clone()));
    }
    rows.iter().map(|(name, value)| format!("{name:<14} {value}\n")).collect()
}

async fn detach(context: &Context, id: &str) -> Result<(), Failure> {
    let attachment = context.client.attachment_delete(id).await?;
    let what = format!("{} from {}", attachment.volume_name, attachment.host_name);
    if context.wait {
        progress::gone(&format!("the attachment {id}"), move || async move {
            let seen = context.client.attachment_show(id).await?;
            Ok((seen.state, seen.fault))
        })
        .await?;
        note(&format!("Detached {what}."));
    } else {
        note(&format!("Detaching {what}."));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::attachment::Connection;

    #[test]
    fn the_details_hold_all_that_an_initiator_asks_for() {
        let id = uuid::Uuid::nil();
        let attachment = Attachment {
            id: model::id::AttachmentId(id),
            project_id: model::id::ProjectId(id),
            volume_id: model::id::VolumeId(id),
            volume_name: "shared".into(),
            host_id: model::id::HostId(id),
            host_name: "alpha".into(),
            mode: Mode::ReadOnly,
            state: "attached".into(),
            fault: None,
            connection: Some(Connection {
                portals: vec!["127.0.0.1:3260".into(), "[::1]:3260".into()],
                target: "iqn.2026-11.io.commonhold:volume-1".into(),
                lun: 0,
            }),
            chap_user: Some("u1".into()),
            data_loss_accepted_by: None,
            created_at: jiff::Timestamp::UNIX_EPOCH,
        };
        let text = details(&attachment, None);
        for part in ["alpha", "ro", "127.0.0.1:3260, [::1]:3260", "volume-1", "chap user      u1"] {
            assert!(text.contains(part), "{text}");
        }
        let credentials = ChapCredentials {
            user: "u1".into(),
            secret: "s1".into(),
            target_user: "u2".into(),
            target_secret: "s2".into(),
        };
        let text = details(&attachment, Some(&credentials));
        assert_eq!(text.matches("chap user").count(), 1);
        assert!(text.contains("chap secret    s1") && text.contains("target secret  s2"), "{text}");
    }
}
