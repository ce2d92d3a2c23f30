//! Volumes: what we provide.

use std::path::{Path, PathBuf};

use api::volume::{
    CreateVolume, DeleteVolume, ExportVolume, ImageFile, ImageFormat, ResizeVolume, RetypeVolume,
    RevertVolume, UpdateVolume, Volume, VolumeKind, VolumeQuery, VolumeSource,
};
use clap::{Subcommand, ValueEnum};

use super::backup::{self, RestoreArguments};
use super::export::{DurabilityName, RuleArguments};
use super::{Context, MetadataArguments, reservation, size};
use crate::failure::Failure;
use crate::output::{self, Column, Listed, bytes, note, or_dash};
use crate::progress::{self, Bar};

#[derive(Subcommand, Debug)]
pub(crate) enum VolumeCommand {
    /// Make a volume: empty, from a snapshot, from a volume, or from an image file
    Create(CreateArguments),
    /// All volumes
    List {
        /// Only those of this kind; files come with network and resource
        #[arg(long)]
        kind: Option<KindName>,
        /// Only those with this status
        #[arg(long)]
        status: Option<String>,
        /// Only those of this type
        #[arg(long = "type", value_name = "TYPE")]
        volume_type: Option<String>,
    },
    /// One volume
    #[command(visible_alias = "get")]
    Show { volume: String },
    /// Change description or metadata; metadata that is given takes the place of the old
    Update {
        volume: String,
        #[arg(long)]
        description: Option<String>,
        #[command(flatten)]
        metadata: MetadataArguments,
    },
    /// Give a volume another name
    Rename { volume: String, name: String },
    /// Give a volume another size, while it is used; only file volumes become smaller
    Resize {
        volume: String,
        /// The new size
        #[arg(value_parser = size)]
        size: api::Size,
    },
    /// Give a volume another type
    Retype { volume: String, volume_type: String },
    /// Make a volume's content that of one of its snapshots; it must not be attached or mounted
    Revert {
        volume: String,
        snapshot: String,
        /// Cut off the clients that have a file volume mounted
        #[arg(long)]
        force: bool,
    },
    /// Write a volume's content to a new image file on the node
    Export {
        volume: String,
        /// Where to; must not exist
        path: PathBuf,
        /// The file's format; by the file's name when left out
        #[arg(long)]
        format: Option<FormatName>,
    },
    /// Write the tree of a file volume to a tar.zst archive, or a directory, on this machine
    Backup {
        /// The volume, or VOLUME@SNAPSHOT; without one, a snapshot is taken for it and deleted again
        #[arg(value_name = "VOLUME[@SNAPSHOT]")]
        volume: String,
        /// Where to: a new file, an empty or new directory (DIR/), or - for standard output
        #[arg(long, value_name = "FILE|DIR/|-")]
        to: PathBuf,
    },
    /// Make a file volume that holds what an archive or a directory holds
    Restore(RestoreArguments),
    /// Delete volumes that are not attached and on which no clone depends
    Delete {
        #[arg(required = true)]
        volumes: Vec<String>,
        /// Delete their snapshots too
        #[arg(long)]
        cascade: bool,
        /// Cut off the clients that have a file volume mounted; of a lost one, end attachments and
        /// references
        #[arg(long)]
        force: bool,
        /// Its node is gone for good and does not answer: forget it, erasing nothing; for operators
        #[arg(long)]
        lost: bool,
    },
    /// Persistent reservations: registrants, holder, type, history
    Reservations { volume: String },
    /// Clear all reservations and registrations, on the record: for operators
    ClearReservations { volume: String },
}

#[derive(clap::Args, Debug)]
pub(crate) struct CreateArguments {
    name: String,
    /// What the type is when left out; without a type, block
    #[arg(long)]
    kind: Option<KindName>,
    /// Such as 10g; the source's when left out (of a snapshot, a volume or an image), or the
    /// smallest of a type with a list of sizes
    #[arg(long, value_parser = size)]
    size: Option<api::Size>,
    /// The volume type; the service's default, or the source's, when left out
    #[arg(long = "type", value_name = "TYPE")]
    volume_type: Option<String>,
    #[arg(long)]
    description: Option<String>,
    #[command(flatten)]
    metadata: MetadataArguments,
    /// Start from this snapshot: a clone
    #[arg(long, value_name = "SNAPSHOT", group = "source")]
    from_snapshot: Option<String>,
    /// Start from the present content of this volume
    #[arg(long, value_name = "VOLUME", group = "source")]
    from_volume: Option<String>,
    /// Start from this image file on the node
    #[arg(long, value_name = "FILE", group = "source")]
    image: Option<PathBuf>,
    /// The image's format; by the file's name when left out
    #[arg(long, requires = "image", value_name = "FORMAT")]
    image_format: Option<FormatName>,
    /// A rule about the volumes beside it, such as volume==db* or LABEL!=VALUE, or about their
    /// hosts, such as host==web-*; with ==~ and !=~ a wish; may be given several times
    #[arg(long, value_name = "RULE")]
    affinity: Vec<String>,
    /// The network whose clients may mount a file volume; `default` when left out
    #[arg(long)]
    network: Option<String>,
    #[command(flatten)]
    rules: RuleArguments,
    /// What a reply means for the data of a file volume; strict when left out
    #[arg(long)]
    durability: Option<DurabilityName>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum KindName {
    /// A block device, attached to hosts over iSCSI
    Block,
    /// A file tree, mounted over NFS
    File,
}

impl From<KindName> for VolumeKind {
    fn from(kind: KindName) -> Self {
        match kind {
            KindName::Block => Self::Block,
            KindName::File => Self::File,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FormatName {
    Raw,
    Qcow2,
}

impl From<FormatName> for ImageFormat {
    fn from(format: FormatName) -> Self {
        match format {
            FormatName::Raw => Self::Raw,
            FormatName::Qcow2 => Self::Qcow2,
        }
    }
}

impl Listed for Volume {
    const WORD: &'static str = "volumes";
    const COLUMNS: &'static [Column<Self>] = &[
        ("name", |volume| volume.name.clone()),
        ("kind", |volume| volume.kind.word().to_owned()),
        ("size", |volume| bytes(volume.size_bytes)),
        ("type", |volume| volume.volume_type.clone()),
        ("status", |volume| volume.status.clone()),
        ("attachments", |volume| volume.attachments.len().to_string()),
        ("id", |volume| volume.id.to_string()),
    ];
}

/// A volume in a list of file volumes.
#[derive(serde::Serialize)]
#[serde(transparent)]
struct FileVolume(Volume);

impl Listed for FileVolume {
    const WORD: &'static str = "file volumes";
    const COLUMNS: &'static [Column<Self>] = &[
        ("name", |volume| volume.0.name.clone()),
        ("size", |volume| bytes(volume.0.size_bytes)),
        ("network", |volume| or_dash(volume.0.network.as_ref())),
        ("resource", |volume| or_dash(volume.0.resource.as_ref())),
        ("state", |volume| volume.0.status.clone()),
    ];
}

impl CreateArguments {
    fn body(self) -> Result<CreateVolume, Failure> {
        let source = match (self.from_snapshot, self.from_volume, self.image) {
            (Some(snapshot), ..) => Some(VolumeSource::Snapshot(snapshot)),
            (_, Some(volume), _) => Some(VolumeSource::Volume(volume)),
            (.., Some(path)) => Some(VolumeSource::Image(ImageFile {
                format: format_of(&path, self.image_format, "--image-format")?,
                path: absolute(&path)?,
            })),
            _ => None,
        };
        if self.size.is_none() && source.is_none() && self.volume_type.is_none() {
            return Err(Failure::Usage {
                message: "an empty volume needs a size".into(),
                hint: "Give --size, for example --size 10g.".into(),
            });
        }
        Ok(CreateVolume {
            name: self.name,
            size: self.size,
            volume_type: self.volume_type,
            description: self.description,
            metadata: self.metadata.all(),
            source,
            kind: self.kind.map(Into::into),
            affinity: self.affinity,
            network: self.network,
            access: self.rules.given(),
            durability: self.durability.map(Into::into),
        })
    }
}

/// The node runs in a directory of its own, so that it needs the whole path.
fn absolute(path: &Path) -> Result<String, Failure> {
    let failed = |why| Failure::Io { what: path.display().to_string(), why };
    let path = std::path::absolute(path).map_err(failed)?;
    path.into_os_string().into_string().map_err(|path| Failure::Usage {
        message: format!("'{}' is not readable text", path.display()),
        hint: "Give the file a name in UTF-8.".into(),
    })
}

fn format_of(path: &Path, given: Option<FormatName>, flag: &str) -> Result<ImageFormat, Failure> {
    let extension = path.extension().and_then(|extension| extension.to_str());
    let format = given.or(match extension.map(str::to_ascii_lowercase).as_deref() {
        Some("qcow2") => Some(FormatName::Qcow2),
        Some("raw" | "img") => Some(FormatName::Raw),
        _ => None,
    });
    format.map(Into::into).ok_or_else(|| Failure::Usage {
        message: format!("the name '{}' does not tell the image's format", path.display()),
        hint: format!("Give {flag} raw or {flag} qcow2."),
    })
}

/// Look until the volume rests; an error at its end is ours.
pub(crate) async fn settle(context: &Context, mut volume: Volume) -> Result<Volume, Failure> {
    if !context.wait {
        return Ok(volume);
    }
    let id = volume.id.to_string();
    let mut bar = Bar::new(format!("{} {}", volume.status, volume.name));
    while progress::is_passing(&volume.status) {
        if let Some(operation) = volume.operation_id {
            progress::follow(&context.client, &bar, &operation.to_string()).await;
        }
        bar.pause().await;
        volume = context.client.volume_show(&id).await?;
    }
    if volume.status == "error" {
        let why = volume.fault.as_deref().unwrap_or("its events tell more");
        return Err(Failure::work(format!("the volume {} is in error: {why}", volume.name)));
    }
    Ok(volume)
}

impl VolumeCommand {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = &context.client;
        let volume = match self {
            Self::Create(arguments) => client.volume_create(&arguments.body()?).await?,
            Self::List { kind, status, volume_type } => {
                let only = kind.map(Into::into);
                let query = VolumeQuery { kind: only, status, volume_type, ..<_>::default() };
                if kind == Some(KindName::File) {
                    let volumes = client.every(&query).await?;
                    let volumes: Vec<_> = volumes.into_iter().map(FileVolume).collect();
                    return output::list(context.format, &volumes);
                }
                return context.list(&query).await;
            }
            Self::Show { volume } => return context.show(&client.volume_show(&volume).await?),
            Self::Update { volume, description, metadata } => {
                let metadata = metadata.given();
                client
                    .volume_update(&volume, &UpdateVolume { name: None, description, metadata })
                    .await?
            }
            Self::Rename { volume, name } => {
                let body = UpdateVolume { name: Some(name), ..UpdateVolume::default() };
                client.volume_update(&volume, &body).await?
            }
            Self::Resize { volume, size } => {
                client.volume_resize(&volume, &ResizeVolume { size }).await?
            }
            Self::Retype { volume, volume_type } => {
                client.volume_retype(&volume, &RetypeVolume { volume_type }).await?
            }
            Self::Revert { volume, snapshot, force } => {
                client.volume_revert(&volume, &RevertVolume { snapshot, force }).await?
            }
            Self::Export { volume, path, format } => {
                return export(context, &volume, &path, format).await;
            }
            Self::Backup { volume, to } => return backup::backup(context, &volume, &to).await,
            Self::Restore(arguments) => return backup::restore(context, arguments).await,
            Self::Delete { volumes, cascade, force, lost } => {
                let how = DeleteVolume { cascade, force, lost, ..DeleteVolume::default() };
                for volume in volumes {
                    delete(context, &volume, &how).await?;
                }
                return Ok(());
            }
            Self::Reservations { volume } => return reservation::show(context, &volume).await,
            Self::ClearReservations { volume } => {
                return reservation::clear(context, &volume).await;
            }
        };
        context.show(&settle(context, volume).await?)
    }
}

async fn export(
    context: &Context,
    volume: &str,
    path: &Path,
    format: Option<FormatName>,
) -> Result<(), Failure> {
    let format = format_of(path, format, "--format")?;
    let body = ExportVolume { path: absolute(path)?, format };
    let mut operation = context.client.volume_export(volume, &body).await?;
    if context.wait {
        operation = progress::operation(&context.client, &operation.id.to_string()).await?;
    }
    context.show(&operation)
}

async fn delete(context: &Context, name: &str, how: &DeleteVolume) -> Result<(), Failure> {
    let volume = context.client.volume_delete(name, how).await?;
    let what = format!("the volume {}", volume.name);
    if how.lost {
        note(&format!(
            "Forgot {what} as lost. Nothing was erased: what is left of it lies in the pool {} of its \
             node, which serves it to nobody when it comes back.",
            volume.pool
        ));
        return Ok(());
    }
    if !context.wait {
        note(&format!("Deleting {what}."));
        return Ok(());
    }
    let id = volume.id.to_string();
    let id = &id;
    progress::gone(&what, move || async move {
        context.client.volume_show(id).await.map(|volume| (volume.status, volume.fault))
    })
    .await?;
    note(&format!("Deleted {what}."));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_name_tells_the_format_or_a_flag_must() {
        let format = |name: &str, given| format_of(Path::new(name), given, "--format");
        assert_eq!(format("a.qcow2", None).unwrap(), ImageFormat::Qcow2);
        assert_eq!(format("/b/a.IMG", None).unwrap(), ImageFormat::Raw);
        assert_eq!(format("a.qcow2", Some(FormatName::Raw)).unwrap(), ImageFormat::Raw);
        let failure = format("a.iso", None).unwrap_err();
        assert!(failure.report().contains("hint: Give --format raw"), "{}", failure.report());
        assert!(absolute(Path::new("a.img")).unwrap().starts_with('/'));
    }
}
