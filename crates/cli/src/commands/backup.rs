//! Backup and restore of file volumes: archives and directories on this machine, streams to and from
//! the service.

mod directory;
mod lists;

use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use api::snapshot::CreateSnapshot;
use api::volume::{BackupQuery, CreateVolume, DeleteVolume, RestoreQuery, VolumeKind};
use api::{Body, Download, Size};
use clap::Args;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{Context, size};
use crate::failure::Failure;
use crate::output::note;
use crate::progress::{self, Bar};

/// Bytes that are read of a file at once.
const PIECE_BYTES: usize = 256 << 10;

#[derive(Args, Debug)]
pub(crate) struct RestoreArguments {
    /// The archive, a directory, or - for standard input
    #[arg(value_name = "FILE|DIR|-")]
    from: PathBuf,
    /// The new volume
    name: String,
    /// Its size; large enough for what the archive holds
    #[arg(long, value_parser = size)]
    size: Option<Size>,
    /// Its type
    #[arg(long = "type", value_name = "TYPE")]
    volume_type: Option<String>,
    /// The network that it is served on
    #[arg(long)]
    network: Option<String>,
    /// Leave access control lists out, where they cannot be kept; nobody may more than with them
    #[arg(long)]
    drop_acls: bool,
}

fn is_dash(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// One that is there, or that is to be made: then a slash stands behind its name.
fn is_directory(path: &Path) -> bool {
    path.is_dir() || path.as_os_str().as_encoded_bytes().ends_with(b"/")
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> Failure {
    let what = path.display().to_string();
    move |why| Failure::Io { what, why }
}

/// `VOLUME@SNAPSHOT`, or a volume of which a snapshot is taken for this.
pub(super) async fn backup(context: &Context, what: &str, to: &Path) -> Result<(), Failure> {
    let (volume, snapshot) = what.split_once('@').map_or((what, None), |(a, b)| (a, Some(b)));
    refuse_place(to)?;
    if let Some(snapshot) = snapshot {
        return one_backup(context, volume, snapshot, to).await;
    }
    if context.client.volume_show(volume).await?.kind == VolumeKind::Block {
        // Refused by the service, in its words; without a snapshot for it.
        context.client.volume_backup(volume, &BackupQuery::default()).await?;
    }
    let name = format!("backup-{}", uuid::Uuid::now_v7());
    let new = CreateSnapshot { volume: volume.to_owned(), name, ..CreateSnapshot::default() };
    let made = context.client.snapshot_create(&new).await?;
    let id = made.id.to_string();
    let done = match settled(context, &id).await {
        Ok(()) => one_backup(context, volume, &id, to).await,
        Err(why) => Err(why),
    };
    // Its failure is not that of the backup: it is in the list, by its name.
    if let Err(why) = context.client.snapshot_delete(&id).await {
        note(&format!("The snapshot {} is left over: {why}", new.name));
    }
    done
}

async fn settled(context: &Context, snapshot: &str) -> Result<(), Failure> {
    let mut bar = Bar::new("taking a snapshot".to_owned());
    loop {
        let seen = context.client.snapshot_show(snapshot).await?;
        if seen.state == "error" {
            let why = seen.fault.unwrap_or_else(|| "its events tell more".to_owned());
            return Err(Failure::work(format!("no snapshot could be taken: {why}")));
        }
        if !progress::is_passing(&seen.state) {
            return Ok(());
        }
        bar.pause().await;
    }
}

/// Before anything is done: what is there is not overwritten, and no terminal is filled.
fn refuse_place(to: &Path) -> Result<(), Failure> {
    if is_dash(to) {
        if io::stdout().is_terminal() {
            return Err(Failure::Usage {
                message: "an archive is nothing for a terminal".to_owned(),
                hint: "Send standard output elsewhere, or name a file.".to_owned(),
            });
        }
        return Ok(());
    }
    if is_directory(to) {
        if std::fs::read_dir(to).is_ok_and(|mut entries| entries.next().is_some()) {
            return Err(Failure::Usage {
                message: format!("{} is not empty", to.display()),
                hint: "Name a new directory, or an empty one: nothing is overwritten.".to_owned(),
            });
        }
        return Ok(());
    }
    if to.exists() {
        return Err(Failure::Usage {
            message: format!("{} is there already", to.display()),
            hint: "Name a new file, such as VOLUME.tar.zst: nothing is overwritten.".to_owned(),
        });
    }
    Ok(())
}

async fn one_backup(
    context: &Context,
    volume: &str,
    snapshot: &str,
    to: &Path,
) -> Result<(), Failure> {
    let of = BackupQuery { snapshot: Some(snapshot.to_owned()) };
    let stream = context.client.volume_backup(volume, &of).await?;
    let bar = Bar::of_bytes(format!("backup of {volume}"), None);
    if is_dash(to) {
        let mut out = standard(io::stdout().as_fd()).map_err(failed(to))?;
        let bytes = take(stream, &mut out, &bar, to).await?;
        drop(bar);
        note(&format!("Backed up {volume}: {}.", crate::output::bytes(bytes)));
        return Ok(());
    }
    if is_directory(to) {
        let (unpacking, file) = directory::unpack(to).map_err(failed(to))?;
        let mut file = tokio::fs::File::from_std(file);
        let taken = take(stream, &mut file, &bar, to).await;
        drop(file);
        let is_whole = taken.is_ok();
        let ended = tokio::task::spawn_blocking(move || unpacking.end(is_whole)).await;
        // What tar says is why the rest was not taken.
        let said = ended.map_err(|why| failed(to)(why.into()))?.map_err(failed(to))?;
        let size = crate::output::bytes(taken?);
        drop(bar);
        // A file system that keeps no lists or attributes is no error to tar.
        said.iter().for_each(|line| note(line));
        note(&format!("Backed up {volume} to {}: {size}, packed.", to.display()));
        return Ok(());
    }
    // It has its name when it is whole and durable.
    let mut part = to.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let mut file = tokio::fs::File::create_new(&part).await.map_err(failed(&part))?;
    let mut taken = take(stream, &mut file, &bar, &part).await;
    if taken.is_ok()
        && let Err(why) = file.sync_all().await
    {
        taken = Err(failed(&part)(why));
    }
    drop(bar);
    match taken {
        Ok(bytes) => {
            tokio::fs::rename(&part, to).await.map_err(failed(to))?;
            let size = crate::output::bytes(bytes);
            note(&format!("Backed up {volume} to {}: {size}.", to.display()));
            Ok(())
        }
        Err(why) => {
            // What is not whole is of no use; that it stays is no reason to say something else.
            let _ = tokio::fs::remove_file(&part).await;
            Err(why)
        }
    }
}

/// Standard input or output, as a file.
fn standard(stream: BorrowedFd<'_>) -> io::Result<tokio::fs::File> {
    let own = stream.try_clone_to_owned()?;
    Ok(tokio::fs::File::from_std(std::fs::File::from(own)))
}

async fn take(
    mut from: Download,
    to: &mut (impl AsyncWrite + Unpin),
    bar: &Bar,
    path: &Path,
) -> Result<u64, Failure> {
    let mut bytes = 0;
    while let Some(piece) = from.piece().await? {
        to.write_all(&piece).await.map_err(failed(path))?;
        bar.passed(piece.len());
        bytes += piece.len() as u64;
    }
    to.flush().await.map_err(failed(path))?;
    Ok(bytes)
}

/// A new volume with the archive's content; it goes again when that fails.
pub(super) async fn restore(context: &Context, asked: RestoreArguments) -> Result<(), Failure> {
    let RestoreArguments { from, name, size, volume_type, network, drop_acls } = asked;
    let mut packing = None;
    let (source, total): (Box<dyn AsyncRead + Send + Unpin>, _) = if is_dash(&from) {
        (Box::new(standard(io::stdin().as_fd()).map_err(failed(&from))?), None)
    } else if from.is_dir() {
        let (archive, ending) = directory::pack(&from).map_err(failed(&from))?;
        packing = Some(ending);
        (Box::new(tokio::fs::File::from_std(archive)), None)
    } else {
        let file = tokio::fs::File::open(&from).await.map_err(failed(&from))?;
        let total = file.metadata().await.map_err(failed(&from))?.len();
        (Box::new(file), Some(total))
    };
    let new = CreateVolume {
        name: name.clone(),
        kind: Some(VolumeKind::File),
        size,
        volume_type,
        network,
        ..CreateVolume::default()
    };
    let made = context.client.volume_create(&new).await?;
    let id = made.id.to_string();
    let patient = Context { client: context.client.clone(), wait: true, ..*context };
    let volume = super::volume::settle(&patient, made).await?;
    let bar = Arc::new(Bar::of_bytes(format!("restore of {name}"), total));
    let how = RestoreQuery { drop_acls };
    let restored = context.client.volume_restore(&id, &how, body(source, Arc::clone(&bar))).await;
    drop(bar);
    // A directory that could not be read whole ends in an archive that looks whole.
    let packed = match packing {
        Some(ending) => tokio::task::spawn_blocking(move || directory::packed(ending)).await,
        None => Ok(Ok(Vec::new())),
    };
    let packed = packed.unwrap_or_else(|why| Err(why.into())).map_err(|why| why.to_string());
    match restored.map_err(|why| why.to_string()).and(packed) {
        Ok(said) => said.iter().for_each(|line| note(line)),
        Err(why) => return Err(undone(context, &id, &name, &why).await),
    }
    let volume = context.client.volume_show(&volume.id.to_string()).await?;
    context.show(&volume)
}

/// The new volume goes again; says so, and why.
async fn undone(context: &Context, id: &str, name: &str, why: &str) -> Failure {
    let how = DeleteVolume { cascade: true, force: true, ..DeleteVolume::default() };
    let left = match context.client.volume_delete(id, &how).await {
        Ok(_) => format!("the new volume {name} is deleted again"),
        Err(left) => format!("the new volume {name} is left over, half full: {left}"),
    };
    let message = format!("{why}; {left}");
    let hint = "Look at the archive, and at the size: a volume must hold all of it.".to_owned();
    Failure::Work { message, hint }
}

fn body(from: Box<dyn AsyncRead + Send + Unpin>, bar: Arc<Bar>) -> Body {
    let pieces = futures::stream::try_unfold((from, bar), |(mut from, bar)| async move {
        let mut piece = vec![0; PIECE_BYTES];
        let count = from.read(&mut piece).await?;
        piece.truncate(count);
        bar.passed(count);
        io::Result::Ok((count > 0).then_some((piece, (from, bar))))
    });
    Body::wrap_stream(pieces)
}
