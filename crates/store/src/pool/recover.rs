//! Opening a pool, after whatever happened to it.
//!
//! Invariant: nothing is removed while any record is unreadable, because it may be what an
//! unreadable record names.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use env::{BlockIo, Files, OpenMode};
use model::id::{PoolId, VolumeId};
use model::order::IoMode;
use model::size::ByteSize;

use super::shared::{Shared, layer_path, layers_dir};
use crate::error::StoreError;
use crate::layer;
use crate::map::CHUNK_BYTES;
use crate::record::{Kind, Record};
use crate::space::Space;
use crate::tree::{LayerId, LayerRecord, Tree, VolumeRecord, decode_pool, encode_pool};

/// What the directory holds.
#[derive(Default)]
struct Found {
    tree: Tree,
    damaged: BTreeSet<VolumeId>,
    /// Some record, of a layer or a volume, is unreadable.
    unreadable: bool,
    /// Numbers in names of data and map files.
    files: BTreeSet<u64>,
    /// The highest number of a layer or file.
    highest: u64,
}

pub(super) async fn open(
    names: Arc<dyn Files>,
    io: &dyn BlockIo,
    dir: &Path,
    id: PoolId,
    mode: IoMode,
    capacity: Option<ByteSize>,
) -> Result<Shared, StoreError> {
    let fail =
        |source| StoreError::from_io(format!("opening the pool {}", dir.display()), 0, source);
    for part in [
        dir.to_owned(),
        layers_dir(dir),
        dir.join("volumes"),
        dir.join("reservations"),
        dir.join("atomic"),
        dir.join("sanitize"),
    ] {
        names.create_dir(&part).map_err(fail)?;
    }
    names.sync_dir(dir).map_err(fail)?;
    if let Some(parent) = dir.parent() {
        names.sync_dir(parent).map_err(fail)?;
    }
    let dir_lock = names.lock_dir(dir).map_err(|source| match source.kind() {
        std::io::ErrorKind::WouldBlock => StoreError::refused(format!(
            "another process has the pool in {} open; stop it first",
            dir.display()
        )),
        _ => fail(source),
    })?;
    claim_directory(&*names, io, dir, id).await?;
    let found = scan(&*names, io, dir).await?;
    if found.unreadable {
        tracing::warn!("records in {} are unreadable; nothing is cleaned up", dir.display());
    } else {
        clean(&*names, dir, &found)?;
    }
    let space = Arc::new(Space::new(capacity));
    let mut tree = found.tree;
    if !found.unreadable {
        for layer in tree.unreachable() {
            tree.layers.remove(&layer);
        }
    }
    let closed_bytes = measure(&*names, dir, &tree);
    space.add(closed_bytes.values().sum());
    Ok(Shared {
        id,
        names,
        dir: dir.to_owned(),
        direct: mode == IoMode::Direct,
        space,
        structure: tokio::sync::Mutex::new(()),
        tree: Mutex::new(tree),
        open_layers: Mutex::default(),
        closed_bytes: Mutex::new(closed_bytes),
        damaged: Mutex::new(found.damaged),
        next_layer: AtomicU64::new(found.highest + 1),
        _dir_lock: dir_lock,
    })
}

/// The directory is this pool's, or becomes it if nothing is in it yet.
async fn claim_directory(
    names: &dyn Files,
    io: &dyn BlockIo,
    dir: &Path,
    id: PoolId,
) -> Result<(), StoreError> {
    let path = dir.join("pool.rec");
    if names.exists(&path) {
        let (_, payload) = Record::open(names, io, &path, Kind::Pool).await?;
        let found = decode_pool(&payload)
            .ok_or_else(|| StoreError::corrupt(path.display().to_string(), "no pool id in it"))?;
        if found == id {
            return Ok(());
        }
        return Err(StoreError::refused(format!(
            "{} belongs to pool {found}, not to {id}",
            dir.display()
        )));
    }
    let fail = |source| StoreError::from_io(format!("listing {}", dir.display()), 0, source);
    for part in [layers_dir(dir), dir.join("volumes")] {
        if !names.list(&part).map_err(fail)?.is_empty() {
            return Err(StoreError::corrupt(
                path.display().to_string(),
                "it is gone, but the directory holds volumes or layers",
            ));
        }
    }
    Record::create(names, io, &path, Kind::Pool, &encode_pool(id)).await.map(drop)
}

/// A file's name without this extension.
fn stem<'a>(name: &'a Path, extension: &str) -> Option<&'a str> {
    name.to_str()?.strip_suffix(extension)?.strip_suffix('.')
}

fn number(stem: &str) -> Option<u64> {
    (stem.len() == 16).then(|| u64::from_str_radix(stem, 16).ok()).flatten()
}

async fn scan(names: &dyn Files, io: &dyn BlockIo, dir: &Path) -> Result<Found, StoreError> {
    let mut found = Found::default();
    let fail = |source| StoreError::from_io(format!("listing {}", dir.display()), 0, source);
    for name in names.list(&layers_dir(dir)).map_err(fail)? {
        for extension in ["data", "map"] {
            found.files.extend(stem(&name, extension).and_then(number));
        }
        let Some(id) = stem(&name, "rec").and_then(number).map(LayerId) else { continue };
        found.highest = found.highest.max(id.0);
        let payload = readable(names, io, &layer_path(dir, id), Kind::Layer).await?;
        match payload.as_deref().and_then(LayerRecord::decode) {
            Some(record) => drop(found.tree.layers.insert(id, record)),
            None => found.unreadable = true,
        }
    }
    found.highest = found.highest.max(found.files.last().copied().unwrap_or(0));
    for name in names.list(&dir.join("volumes")).map_err(fail)? {
        let Some(id) = stem(&name, "rec").and_then(|stem| stem.parse::<VolumeId>().ok()) else {
            continue;
        };
        let payload = readable(names, io, &dir.join("volumes").join(&name), Kind::Volume).await?;
        if let Some(record) = payload.as_deref().and_then(VolumeRecord::decode) {
            found.tree.volumes.insert(id, record);
        } else {
            found.unreadable = true;
            found.damaged.insert(id);
        }
    }
    let tops = found.tree.volumes.values().flat_map(VolumeRecord::named_layers);
    if tops.into_iter().any(|top| found.tree.chain(top).is_none()) {
        tracing::error!("{}: a layer that a volume stands on is missing", dir.display());
        found.unreadable = true;
    }
    Ok(found)
}

/// The record's content; `None` when it is damaged, an error when it could not be read at all.
async fn readable(
    names: &dyn Files,
    io: &dyn BlockIo,
    path: &Path,
    kind: Kind,
) -> Result<Option<Vec<u8>>, StoreError> {
    match Record::open(names, io, path, kind).await {
        Ok((_, payload)) => Ok(Some(payload)),
        Err(StoreError::Corrupt { what, why }) => {
            tracing::error!("{what} is damaged: {why}");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Remove what crashes left over: first records, durably, then files that no record names.
fn clean(names: &dyn Files, dir: &Path, found: &Found) -> Result<(), StoreError> {
    let fail = |source| StoreError::from_io(format!("cleaning up {}", dir.display()), 0, source);
    let layers = layers_dir(dir);
    let (volumes, reservations) = (dir.join("volumes"), dir.join("reservations"));
    let (atomic, sanitize) = (dir.join("atomic"), dir.join("sanitize"));
    let mut doomed: Vec<PathBuf> =
        found.tree.unreachable().into_iter().map(|id| layer_path(dir, id)).collect();
    for part in [dir, &layers, &volumes, &reservations, &atomic, &sanitize] {
        let listed = names.list(part).map_err(fail)?;
        let temporary = listed.iter().filter(|name| stem(name, "tmp").is_some());
        doomed.extend(temporary.map(|name| part.join(name)));
    }
    for part in [&reservations, &atomic, &sanitize] {
        for name in names.list(part).map_err(fail)? {
            let volume = stem(&name, "rec").and_then(|stem| stem.parse::<VolumeId>().ok());
            if volume.is_some_and(|volume| !found.tree.volumes.contains_key(&volume)) {
                doomed.push(part.join(name));
            }
        }
    }
    for path in doomed {
        names.remove(&path).map_err(fail)?;
    }
    names.sync_dir(&layers).map_err(fail)?;
    let reachable = found.tree.reachable();
    let kept: BTreeSet<u64> = found
        .tree
        .layers
        .iter()
        .filter(|(id, _)| reachable.contains(id))
        .map(|(_, record)| record.files)
        .collect();
    for files in found.files.difference(&kept) {
        for path in [layer::map_path(&layers, *files), layer::data_path(&layers, *files)] {
            if names.exists(&path) {
                names.remove(&path).map_err(fail)?;
            }
        }
    }
    for part in [dir, &layers, &volumes, &reservations] {
        names.sync_dir(part).map_err(fail)?;
    }
    Ok(())
}

/// What each layer's data file takes now. One that cannot be asked counts as nothing until it is
/// opened, and opening it says what is wrong.
fn measure(names: &dyn Files, dir: &Path, tree: &Tree) -> BTreeMap<u64, u64> {
    let layers = layers_dir(dir);
    let taken = |files: u64| {
        let file = names.open(&layer::data_path(&layers, files), OpenMode::Read, false);
        let bytes = file.and_then(|file| names.allocated(&file)).unwrap_or(0);
        (files, bytes.next_multiple_of(CHUNK_BYTES))
    };
    tree.layers.values().map(|record| taken(record.files)).collect()
}
