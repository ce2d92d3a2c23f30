//! Image files into and out of volumes: raw and qcow2.
//!
//! Entry points: [`import`], [`export`]. Both copy in pieces of at most 1 MiB, a few at once, so
//! the memory they take does not depend on the image.
//!
//! Invariant: an image is judged before its content is believed: a header or table that lies is
//! refused with a sentence, and never leads to more than the volume's size of work. A file that
//! could not be completed is removed.

mod copy;
mod qcow2;
mod qcow2_export;
mod qcow2_import;
mod raw;

#[cfg(fuzzing)]
#[doc(hidden)]
pub use qcow2_import::fuzz;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use env::{BlockIo, Buffer, Files, IoFile, OpenMode};
use model::order::ImageFormat;
use model::size::ByteSize;

use crate::error::StoreError;
use crate::volume::Volume;

/// Bytes that are copied as one.
const PIECE_BYTES: u64 = 1 << 20;

/// One import or export under way: what every step of it needs.
pub(crate) struct Work<'a> {
    volume: &'a Volume,
    io: &'a dyn BlockIo,
    image: IoFile,
    path: &'a Path,
    /// Told `(done, total)` in bytes of the volume's content.
    progress: &'a dyn Fn(u64, u64),
    cancelled: &'a AtomicBool,
}

impl Work<'_> {
    fn check_cancelled(&self) -> Result<(), StoreError> {
        if self.cancelled.load(Ordering::Relaxed) { Err(StoreError::Cancelled) } else { Ok(()) }
    }
    /// The image cannot be used, and this is why.
    fn bad(&self, why: impl Into<String>) -> StoreError {
        StoreError::Format { what: format!("the image {}", self.path.display()), why: why.into() }
    }
    fn failed(&self, doing: &str, bytes: u64, source: std::io::Error) -> StoreError {
        StoreError::from_io(format!("{doing} the image {}", self.path.display()), bytes, source)
    }
    async fn read_image(&self, offset: u64, length: usize) -> Result<Buffer, StoreError> {
        let read = self.io.read(&self.image, offset, Buffer::new(length)).await;
        read.map_err(|why| self.failed("reading", length as u64, why))
    }
    async fn write_image(&self, offset: u64, bytes: bytes::Bytes) -> Result<(), StoreError> {
        let length = bytes.len() as u64;
        let written = self.io.write(&self.image, offset, vec![bytes]).await;
        written.map_err(|why| self.failed("writing", length, why))
    }
    fn refuse_if_larger(&self, image_bytes: u64) -> Result<(), StoreError> {
        let volume_bytes = self.volume.size();
        if image_bytes <= volume_bytes {
            return Ok(());
        }
        Err(self.bad(format!(
            "it holds {} and the volume only {}; grow the volume first",
            ByteSize(image_bytes),
            ByteSize(volume_bytes)
        )))
    }
}

/// Bytes of content of the image in `path`, in whole blocks: what a volume needs to take it in.
///
/// # Errors
/// `Format` where the image cannot be used, `Io` where it cannot be read.
pub async fn size(
    files: &dyn Files,
    io: &dyn BlockIo,
    path: &Path,
    format: ImageFormat,
) -> Result<u64, StoreError> {
    let failed = |why| StoreError::from_io(format!("reading the image {}", path.display()), 0, why);
    let image = files.open(path, OpenMode::Read, false).map_err(failed)?;
    let file_bytes = files.length(&image).map_err(failed)?;
    let content_bytes = match format {
        ImageFormat::Raw if file_bytes == 0 => Err(raw::EMPTY.to_owned()),
        ImageFormat::Raw => Ok(file_bytes),
        ImageFormat::Qcow2 => {
            let start = io.read(&image, 0, Buffer::new(qcow2::HEADER_BYTES)).await;
            qcow2::Header::parse(&start.map_err(failed)?, file_bytes).map(|header| header.size)
        }
    };
    let whole = content_bytes.and_then(|bytes| {
        bytes.checked_next_multiple_of(512).ok_or_else(|| "it is too long".to_owned())
    });
    whole.map_err(|why| StoreError::Format { what: format!("the image {}", path.display()), why })
}

/// Make the volume's content that of the image in `path`, and zeros behind it. `progress` is told
/// `(done, total)` bytes. After an error or `Cancelled` the volume holds a part of the image.
///
/// # Errors
/// `Format` where the image cannot be used, `Cancelled`, and those of reading and writing.
pub async fn import(
    volume: &Volume,
    io: &dyn BlockIo,
    path: &Path,
    format: ImageFormat,
    progress: &dyn Fn(u64, u64),
    cancelled: &AtomicBool,
) -> Result<(), StoreError> {
    let files = volume.files();
    let opened = files.open(path, OpenMode::Read, false);
    let image = opened.map_err(|why| {
        StoreError::from_io(format!("opening the image {}", path.display()), 0, why)
    })?;
    let work = Work { volume, io, image, path, progress, cancelled };
    let image_bytes = match format {
        ImageFormat::Raw => raw::import(&work, &**files).await?,
        ImageFormat::Qcow2 => qcow2_import::import(&work, &**files).await?,
    };
    let rest = volume.size().saturating_sub(image_bytes);
    if rest > 0 {
        volume.discard(io, image_bytes, rest).await?;
    }
    volume.flush(io).await?;
    progress(image_bytes, image_bytes);
    Ok(())
}

/// Write the volume's content to a new file. `progress` is told `(done, total)` bytes. On an error
/// or `Cancelled` the file is removed.
///
/// # Errors
/// `Refused` where the file exists, `Cancelled`, and those of reading and writing.
pub async fn export(
    volume: &Volume,
    io: &dyn BlockIo,
    path: &Path,
    format: ImageFormat,
    progress: &dyn Fn(u64, u64),
    cancelled: &AtomicBool,
) -> Result<(), StoreError> {
    let files = volume.files();
    let image = match files.open(path, OpenMode::CreateNew, false) {
        Ok(image) => image,
        Err(why) if why.kind() == std::io::ErrorKind::AlreadyExists => {
            let path = path.display();
            return Err(StoreError::refused(format!(
                "{path} exists already; remove it or choose another name"
            )));
        }
        Err(why) => {
            let what = format!("creating the image {}", path.display());
            return Err(StoreError::from_io(what, 0, why));
        }
    };
    let work = Work { volume, io, image, path, progress, cancelled };
    let result = write_new(&work, &**files, format).await;
    if result.is_err()
        && let Err(why) = files.remove(path)
    {
        tracing::warn!("the incomplete image {} cannot be removed: {why}", path.display());
    }
    result
}

async fn write_new(
    work: &Work<'_>,
    files: &dyn Files,
    format: ImageFormat,
) -> Result<(), StoreError> {
    match format {
        ImageFormat::Raw => raw::export(work, files).await?,
        ImageFormat::Qcow2 => qcow2_export::export(work).await?,
    }
    let synced = work.io.sync(&work.image).await;
    synced.map_err(|why| work.failed("completing", 0, why))?;
    if let Some(parent) = work.path.parent() {
        // The file itself is durable; so is its name where the directory can be synced.
        let named =
            files.sync_dir(if parent.as_os_str().is_empty() { Path::new(".") } else { parent });
        named.map_err(|why| work.failed("completing", 0, why))?;
    }
    (work.progress)(work.volume.size(), work.volume.size());
    Ok(())
}
