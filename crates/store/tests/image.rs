//! Images in and out: against the bytes that went in, and against qemu-img where it is installed.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::cast_possible_truncation)]

use std::cell::RefCell;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use env::{BlockIo, IoEngine, RealFiles, block_io};
use model::id::{PoolId, VolumeId};
use model::order::{ImageFormat, IoMode, Source};
use model::size::ByteSize;
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};
use store::{Pool, StoreError, Volume, image};

const MIB: u64 = 1 << 20;

/// A pool in a directory of its own, with one volume.
struct World {
    dir: tempfile::TempDir,
    io: Rc<dyn BlockIo>,
    volume: Arc<Volume>,
}

impl World {
    async fn new(volume_bytes: u64) -> Self {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let io = block_io(IoEngine::Auto).unwrap();
        let path = dir.path().join("pool");
        let (pool_id, id) = (PoolId(uuid::Uuid::new_v4()), VolumeId(uuid::Uuid::new_v4()));
        let files = Arc::new(RealFiles);
        let pool = Pool::open(files, &*io, &path, pool_id, IoMode::Cached, None).await.unwrap();
        pool.create_volume(&*io, id, ByteSize(volume_bytes), &Source::Blank).await.unwrap();
        let volume = pool.volume(&*io, id).await.unwrap();
        Self { dir, io, volume }
    }
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
    async fn size(&self, path: &Path, format: ImageFormat) -> Result<u64, StoreError> {
        image::size(&RealFiles, &*self.io, path, format).await
    }
    async fn import(&self, path: &Path, format: ImageFormat) -> Result<(), StoreError> {
        let seen = RefCell::new((0, 0));
        let progress = |done: u64, total: u64| {
            let (before, _) = seen.replace((done, total));
            assert!(before <= done && done <= total, "{before}, then {done} of {total}");
        };
        let never = AtomicBool::new(false);
        image::import(&self.volume, &*self.io, path, format, &progress, &never).await?;
        let (done, total) = *seen.borrow();
        assert!(done == total && total > 0);
        Ok(())
    }
    async fn export(&self, path: &Path, format: ImageFormat) -> Result<(), StoreError> {
        let seen = RefCell::new((0, 0));
        let progress = |done: u64, total: u64| {
            let (before, _) = seen.replace((done, total));
            assert!(before <= done && done <= total, "{before}, then {done} of {total}");
        };
        let never = AtomicBool::new(false);
        image::export(&self.volume, &*self.io, path, format, &progress, &never).await?;
        assert_eq!(*seen.borrow(), (self.volume.size(), self.volume.size()));
        Ok(())
    }
    async fn content(&self) -> Vec<u8> {
        let size = self.volume.size() as usize;
        self.volume.read(&*self.io, 0, size).await.unwrap().concat()
    }
    /// The volume holds these bytes, and zeros behind them.
    async fn assert_holds(&self, want: &[u8]) {
        let content = self.content().await;
        let (start, rest) = content.split_at(want.len());
        assert!(start == want, "the content differs");
        assert!(rest.iter().all(|byte| *byte == 0), "something is left behind the content");
    }
    async fn fill(&self) {
        let ones = Bytes::from(vec![0xff; self.volume.size() as usize]);
        self.volume.write(&*self.io, 0, vec![ones], false).await.unwrap();
    }
}

fn on_worker<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, future)
}

/// Bytes with data, zeros and text that compresses, in odd places.
fn bytes(seed: u64, length: u64) -> Vec<u8> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut bytes = vec![0; length as usize];
    for _ in 0..12 {
        let start = random.random_range(0..bytes.len());
        let end = (start + random.random_range(1..600_000)).min(bytes.len());
        if random.random_bool(0.5) {
            random.fill_bytes(&mut bytes[start..end]);
        } else {
            bytes[start..end].fill(b'a');
        }
    }
    bytes
}

/// Write only what is not zero, in pages, so that the file has holes.
fn write_sparse(path: &Path, bytes: &[u8]) {
    let file = std::fs::File::create(path).unwrap();
    file.set_len(bytes.len() as u64).unwrap();
    for (n, page) in bytes.chunks(4096).enumerate() {
        if page.iter().any(|byte| *byte != 0) {
            file.write_all_at(page, n as u64 * 4096).unwrap();
        }
    }
}

/// `None`, with a reason on the terminal, where qemu-img is not installed.
fn qemu_img(arguments: &[&str], paths: &[&Path]) -> Option<()> {
    match Command::new("qemu-img").args(arguments).args(paths).output() {
        Ok(output) => {
            let words = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "qemu-img {arguments:?}: {words}");
            Some(())
        }
        Err(why) => {
            println!("skipped, qemu-img: {why}");
            None
        }
    }
}

#[test]
fn raw_goes_in_and_out_and_stays_sparse() {
    on_worker(async {
        let world = World::new(32 * MIB).await;
        for (seed, length) in [(1, 32 * MIB), (2, 9 * MIB + 1000), (3, 700)] {
            world.fill().await;
            let mut want = bytes(seed, length);
            want[0] = 1;
            let (source, copy) = (world.path("source"), world.path("copy"));
            write_sparse(&source, &want);
            world.import(&source, ImageFormat::Raw).await.unwrap();
            world.assert_holds(&want).await;
            world.export(&copy, ImageFormat::Raw).await.unwrap();
            let exported = std::fs::read(&copy).unwrap();
            assert!(exported == world.content().await);
            let taken = std::fs::metadata(&copy).unwrap().blocks() * 512;
            assert!(taken < 16 * MIB, "{taken} bytes for mostly zeros");
            std::fs::remove_file(&copy).unwrap();
        }
    });
}

#[test]
fn qcow2_by_qemu_img_goes_in() {
    on_worker(async {
        let world = World::new(24 * MIB).await;
        let want = bytes(4, 20 * MIB);
        let (raw, image) = (world.path("raw"), world.path("image"));
        write_sparse(&raw, &want);
        let variants: [&[&str]; 6] = [
            &["-o", "compat=1.1"],
            &["-o", "compat=0.10"],
            &["-o", "cluster_size=512"],
            &["-o", "cluster_size=2M"],
            &["-c"],
            &["-c", "-o", "cluster_size=4k"],
        ];
        for variant in variants {
            world.fill().await;
            let arguments = [&["convert", "-f", "raw", "-O", "qcow2"], variant].concat();
            let Some(()) = qemu_img(&arguments, &[&raw, &image]) else { return };
            assert_eq!(world.size(&image, ImageFormat::Qcow2).await.unwrap(), 20 * MIB);
            world.import(&image, ImageFormat::Qcow2).await.unwrap();
            world.assert_holds(&want).await;
        }
    });
}

#[test]
fn an_image_tells_the_size_that_a_volume_needs() {
    on_worker(async {
        let world = World::new(2 * MIB).await;
        let path = world.path("image");
        std::fs::write(&path, vec![1; 1000]).unwrap();
        assert_eq!(world.size(&path, ImageFormat::Raw).await.unwrap(), 1024, "whole blocks");
        let error = world.size(&path, ImageFormat::Qcow2).await.unwrap_err().to_string();
        assert!(error.contains("not a qcow2 image"), "{error}");
        std::fs::write(&path, []).unwrap();
        let error = world.size(&path, ImageFormat::Raw).await.unwrap_err().to_string();
        assert!(error.contains("it is empty"), "{error}");
        world.export(&world.path("out"), ImageFormat::Qcow2).await.unwrap();
        let out = world.path("out");
        assert_eq!(world.size(&out, ImageFormat::Qcow2).await.unwrap(), 2 * MIB);
        let missing = world.size(&world.path("nowhere"), ImageFormat::Raw).await;
        assert!(matches!(missing, Err(StoreError::Io { .. })), "{missing:?}");
    });
}

#[test]
fn qcow2_goes_out_and_in_again_and_qemu_img_agrees() {
    on_worker(async {
        // Not a whole number of clusters, and larger than one L2 table tells of.
        let world = World::new(520 * MIB + 512).await;
        let want = bytes(5, 6 * MIB);
        let put = async |offset: u64, bytes: &[u8]| {
            let parts = vec![Bytes::copy_from_slice(bytes)];
            world.volume.write(&*world.io, offset, parts, false).await.unwrap();
        };
        put(3 * MIB, &want).await;
        put(514 * MIB, &want).await;
        put(520 * MIB, &[7; 512]).await;
        let (image, raw) = (world.path("image"), world.path("raw"));
        world.export(&image, ImageFormat::Qcow2).await.unwrap();
        world.export(&raw, ImageFormat::Raw).await.unwrap();
        assert!(std::fs::metadata(&image).unwrap().len() < 16 * MIB);
        if qemu_img(&["check", "-f", "qcow2"], &[&image]).is_some() {
            qemu_img(&["compare", "-f", "qcow2", "-F", "raw"], &[&image, &raw]).unwrap();
        }
        let other = World::new(521 * MIB).await;
        other.import(&image, ImageFormat::Qcow2).await.unwrap();
        for (offset, bytes) in [(3 * MIB, &want[..]), (514 * MIB, &want), (520 * MIB, &[7; 512])] {
            let parts = other.volume.read(&*other.io, offset, bytes.len()).await.unwrap();
            assert!(parts.concat() == bytes, "at {offset}");
        }
        let held: u64 =
            other.volume.status(0, 521 * MIB).iter().filter(|it| it.2).map(|it| it.1).sum();
        assert!(held < 16 * MIB, "{held} bytes are held for mostly zeros");
    });
}

#[test]
fn a_blank_volume_makes_an_image_that_qemu_img_likes() {
    on_worker(async {
        let world = World::new(8 * MIB).await;
        let image = world.path("image");
        world.export(&image, ImageFormat::Qcow2).await.unwrap();
        qemu_img(&["check", "-f", "qcow2"], &[&image]);
        world.fill().await;
        world.import(&image, ImageFormat::Qcow2).await.unwrap();
        world.assert_holds(&[]).await;
    });
}

#[test]
fn images_that_lie_are_refused_with_a_reason() {
    on_worker(async {
        let world = World::new(8 * MIB).await;
        let first = Bytes::from(vec![1; 1 << 20]);
        world.volume.write(&*world.io, 0, vec![first], false).await.unwrap();
        let good = world.path("good");
        world.export(&good, ImageFormat::Qcow2).await.unwrap();
        let good = std::fs::read(&good).unwrap();
        let number = |at: usize| u64::from_be_bytes(good[at..at + 8].try_into().unwrap());
        let l1 = number(40) as usize;
        let l2 = (number(l1) & 0x00ff_ffff_ffff_fe00) as usize;
        let far = u64::MAX >> 20 << 16;
        let lies: &[(usize, Vec<u8>, &str)] = &[
            (0, vec![0], "not a qcow2 image"),
            (4, 4u32.to_be_bytes().to_vec(), "version 4"),
            (8, 65536u64.to_be_bytes().to_vec(), "backing file"),
            (20, 8u32.to_be_bytes().to_vec(), "cluster size"),
            (20, 22u32.to_be_bytes().to_vec(), "cluster size"),
            (20, u32::MAX.to_be_bytes().to_vec(), "cluster size"),
            (24, 0u64.to_be_bytes().to_vec(), "holds nothing"),
            (24, (9 * MIB).to_be_bytes().to_vec(), "grow the volume"),
            (24, u64::MAX.to_be_bytes().to_vec(), "L1 table is too short"),
            (32, 2u32.to_be_bytes().to_vec(), "encrypted"),
            (36, 0u32.to_be_bytes().to_vec(), "L1 table is too short"),
            (36, u32::MAX.to_be_bytes().to_vec(), "absurdly long"),
            (36, (4u32 << 20).to_be_bytes().to_vec(), "L1 table does not lie"),
            (40, far.to_be_bytes().to_vec(), "L1 table does not lie"),
            (40, 0u64.to_be_bytes().to_vec(), "L1 table does not lie"),
            (79, vec![2], "marked as corrupt"),
            (79, vec![4], "external data file"),
            (79, vec![16], "extended L2"),
            (79, vec![32], "features that are not known"),
            (100, 8u32.to_be_bytes().to_vec(), "header length"),
            (l1, far.to_be_bytes().to_vec(), "makes no sense"),
            (l1, (1u64 << 40).to_be_bytes().to_vec(), "L2 table lies beyond"),
            (l2, (1u64 << 40).to_be_bytes().to_vec(), "cluster lies beyond"),
            (l2, (65536u64 + 512).to_be_bytes().to_vec(), "makes no sense"),
            (l2, (1u64 << 62 | 1 << 40).to_be_bytes().to_vec(), "compressed cluster lies beyond"),
            (l2, (1u64 << 62 | 65536).to_be_bytes().to_vec(), "compressed cluster is damaged"),
        ];
        let path = world.path("lie");
        for (at, bytes, reason) in lies {
            let mut image = good.clone();
            image[*at..*at + bytes.len()].copy_from_slice(bytes);
            std::fs::write(&path, &image).unwrap();
            let why = world.import(&path, ImageFormat::Qcow2).await.unwrap_err();
            assert!(matches!(why, StoreError::Format { .. }), "{why:?}");
            assert!(why.to_string().contains(reason), "'{why}' should say '{reason}'");
        }
        for (bytes, reason) in [(vec![], "empty"), (vec![1; 9 << 20], "grow the volume")] {
            std::fs::write(&path, &bytes).unwrap();
            let why = world.import(&path, ImageFormat::Raw).await.unwrap_err();
            assert!(why.to_string().contains(reason), "'{why}' should say '{reason}'");
        }
    });
}

/// Any damage to the tables ends in an error or in some content, never in a panic.
#[test]
fn random_damage_is_survived() {
    on_worker(async {
        let world = World::new(4 * MIB).await;
        let all = Bytes::from(bytes(6, 4 * MIB));
        world.volume.write(&*world.io, 0, vec![all], false).await.unwrap();
        let path = world.path("image");
        world.export(&path, ImageFormat::Qcow2).await.unwrap();
        let good = std::fs::read(&path).unwrap();
        let mut random = StdRng::seed_from_u64(7);
        for _ in 0..60 {
            let mut image = good.clone();
            for _ in 0..random.random_range(1..8) {
                let reach = if random.random_bool(0.5) { 112 } else { image.len() };
                // The tables come last in the file.
                let at = if random.random_bool(0.3) {
                    image.len() - 1 - random.random_range(0..4 * 65536)
                } else {
                    random.random_range(0..reach)
                };
                image[at] = random.random();
            }
            image.truncate(random.random_range(image.len() / 2..=image.len()));
            std::fs::write(&path, &image).unwrap();
            if let Err(why) = world.import(&path, ImageFormat::Qcow2).await {
                assert!(matches!(why, StoreError::Format { .. }), "{why:?}");
            }
        }
    });
}

#[test]
fn an_existing_file_is_never_overwritten() {
    on_worker(async {
        let world = World::new(MIB).await;
        let path = world.path("precious");
        std::fs::write(&path, b"precious").unwrap();
        for format in [ImageFormat::Raw, ImageFormat::Qcow2] {
            let why = world.export(&path, format).await.unwrap_err();
            assert!(matches!(why, StoreError::Refused { .. }), "{why:?}");
        }
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    });
}

#[test]
fn cancel_stops_both_ways_and_leaves_no_file() {
    on_worker(async {
        let world = World::new(16 * MIB).await;
        world.fill().await;
        let path = world.path("image");
        for format in [ImageFormat::Raw, ImageFormat::Qcow2] {
            let cancelled = AtomicBool::new(false);
            let last = RefCell::new(0);
            let progress = |done: u64, _| {
                last.replace(done);
                cancelled.store(done >= 4 * MIB, Ordering::Relaxed);
            };
            let result =
                image::export(&world.volume, &*world.io, &path, format, &progress, &cancelled)
                    .await;
            assert!(matches!(result, Err(StoreError::Cancelled)), "{result:?}");
            assert!(*last.borrow() < 16 * MIB, "it went on to the end");
            assert!(!path.exists());
        }
        world.export(&path, ImageFormat::Raw).await.unwrap();
        let cancelled = AtomicBool::new(false);
        let progress = |_, _| cancelled.store(true, Ordering::Relaxed);
        let format = ImageFormat::Raw;
        let result =
            image::import(&world.volume, &*world.io, &path, format, &progress, &cancelled).await;
        assert!(matches!(result, Err(StoreError::Cancelled)), "{result:?}");
        assert!(path.exists(), "the image is not ours to remove");
    });
}
