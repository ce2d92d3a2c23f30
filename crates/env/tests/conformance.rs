//! The same expectations for every engine, on direct and cached files: what a model file holds,
//! the real one holds.

// Helpers of tests are tests too, and a skipped test says why on the terminal.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::cast_possible_truncation)]

use std::future::Future;
use std::path::Path;
use std::rc::Rc;

use bytes::Bytes;
use env::{BlockIo, Buffer, Files, IoEngine, IoFile, OpenMode, RealFiles, block_io};
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};

const ENGINES: [IoEngine; 2] = [IoEngine::Ring, IoEngine::Threads];

/// Runs one worker's future the way a worker does.
fn on_worker<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let local = tokio::task::LocalSet::new();
    runtime.block_on(local.run_until(future))
}

/// The engine, or `None` (with a reason on the terminal) where the machine denies it.
fn engine(which: IoEngine) -> Option<Rc<dyn BlockIo>> {
    match block_io(which) {
        Ok(io) => Some(io),
        Err(why) if which == IoEngine::Ring && env::ring::probe().is_err() => {
            println!("skipped for the ring: {why}");
            None
        }
        Err(why) => panic!("{which:?}: {why}"),
    }
}

fn create(dir: &Path, name: &str, direct: bool) -> IoFile {
    RealFiles.open(&dir.join(name), OpenMode::CreateNew, direct).unwrap()
}

/// Scratch space on a file system that knows O_DIRECT where the build directory does.
fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

async fn read(io: &dyn BlockIo, file: &IoFile, offset: u64, length: usize) -> Vec<u8> {
    let buffer = io.read(file, offset, Buffer::new(length)).await.unwrap();
    assert_eq!(buffer.len(), length);
    buffer.to_vec()
}

/// Random bytes in parts of random lengths that sum up to `length`; memory aligned or not.
fn parts(random: &mut StdRng, length: usize) -> (Vec<Bytes>, Vec<u8>) {
    let mut whole = Buffer::new(length);
    random.fill_bytes(&mut whole);
    let model = whole.to_vec();
    let whole = whole.into_bytes();
    let mut parts = Vec::new();
    let mut at = 0;
    while at < length {
        let step = match random.random_range(0..3) {
            0 => length - at,
            1 => random.random_range(1..=length - at),
            _ => (512 * random.random_range(1..16)).min(length - at),
        };
        parts.push(whole.slice(at..at + step));
        if random.random_bool(0.1) {
            parts.push(Bytes::new());
        }
        at += step;
    }
    (parts, model)
}

async fn follows_the_model(io: &dyn BlockIo, file: &IoFile, seed: u64) {
    const LENGTH: u64 = 1 << 20;
    let mut random = StdRng::seed_from_u64(seed);
    RealFiles.set_length(file, LENGTH).unwrap();
    let mut model = vec![0u8; LENGTH as usize];
    for _ in 0..150 {
        let unit = [512, 4096, 1][random.random_range(0..3)];
        let units = LENGTH / unit;
        let offset = random.random_range(0..units) * unit;
        let longest = ((LENGTH - offset) / unit).min(64 * 1024 / unit).max(1);
        let length = random.random_range(1..=longest) * unit;
        let range = offset as usize..(offset + length) as usize;
        match random.random_range(0..10) {
            0..5 => {
                let (parts, bytes) = parts(&mut random, length as usize);
                io.write(file, offset, parts).await.unwrap();
                model[range].copy_from_slice(&bytes);
            }
            5..9 => {
                let got = read(io, file, offset, length as usize).await;
                assert!(got == model[range], "seed {seed}: {length} bytes at {offset}");
            }
            _ => {
                io.punch(file, offset, length).await.unwrap();
                model[range].fill(0);
                if random.random_bool(0.5) {
                    io.sync(file).await.unwrap();
                }
            }
        }
    }
    assert!(read(io, file, 0, LENGTH as usize).await == model, "seed {seed}: the whole file");
    assert_eq!(RealFiles.length(file).unwrap(), LENGTH, "nothing made it grow");
}

#[test]
fn reads_give_what_was_written_by_every_engine() {
    let dir = scratch();
    for which in ENGINES {
        for direct in [false, true] {
            on_worker(async {
                let Some(io) = engine(which) else { return };
                for seed in 0..3 {
                    let file = create(dir.path(), &format!("{which:?}-{direct}-{seed}"), direct);
                    follows_the_model(&*io, &file, seed).await;
                }
            });
        }
    }
}

#[test]
fn reads_past_the_end_are_zeros() {
    let dir = scratch();
    for which in ENGINES {
        for direct in [false, true] {
            on_worker(async {
                let Some(io) = engine(which) else { return };
                let file = create(dir.path(), &format!("{which:?}-{direct}"), direct);
                io.write(&file, 0, vec![Bytes::from(vec![9; 1000])]).await.unwrap();
                let got = read(&*io, &file, 0, 8192).await;
                assert!(got[..1000].iter().all(|byte| *byte == 9));
                assert!(got[1000..].iter().all(|byte| *byte == 0));
                assert!(read(&*io, &file, 1 << 30, 4096).await.iter().all(|byte| *byte == 0));
                assert!(read(&*io, &file, 700, 0).await.is_empty());
            });
        }
    }
}

#[test]
fn many_at_once_and_more_parts_than_one_call_takes() {
    let dir = scratch();
    for which in ENGINES {
        for direct in [false, true] {
            on_worker(async {
                let Some(io) = engine(which) else { return };
                let file = create(dir.path(), &format!("{which:?}-{direct}"), direct);
                let pieces: Vec<Bytes> = (0..3000u32)
                    .map(|n| Bytes::from(vec![u8::try_from(n % 251).unwrap(); 512]))
                    .collect();
                io.write(&file, 0, pieces).await.unwrap();
                let reads: Vec<_> =
                    (0..3000u64).map(|n| io.read(&file, n * 512, Buffer::new(512))).collect();
                for (n, read) in reads.into_iter().enumerate() {
                    let want = u8::try_from(n % 251).unwrap();
                    assert!(read.await.unwrap().iter().all(|byte| *byte == want), "block {n}");
                }
            });
        }
    }
}

/// Writers of neighbouring 512-byte blocks, mixed with writers of whole aligned pages next to
/// them and over them: no block may show anything but one of the writes that covered it.
#[test]
fn neighbours_in_one_page_keep_their_bytes() {
    let dir = scratch();
    for which in ENGINES {
        for direct in [false, true] {
            on_worker(async {
                let Some(io) = engine(which) else { return };
                let file = create(dir.path(), &format!("{which:?}-{direct}"), direct);
                RealFiles.set_length(&file, 64 * 4096).unwrap();
                for round in 0..6u8 {
                    let mut running = Vec::new();
                    for block in 0..512u64 {
                        let page_wise = block / 8 % 2 == 0;
                        if page_wise && block % 8 != 0 {
                            continue;
                        }
                        // One byte off the start: such memory is never aligned.
                        let length = if page_wise { 4096 } else { 512 };
                        let bytes = Bytes::from(vec![round.wrapping_add(block as u8); length + 1]);
                        running.push(io.write(&file, block * 512, vec![bytes.slice(1..)]));
                    }
                    // Overlaps the first page while that is being written whole: either is right
                    // for block 0, but blocks 1 to 7 belong to the page's write alone.
                    running.push(io.write(&file, 0, vec![Bytes::from(vec![0xaa; 512])]));
                    for write in running {
                        write.await.unwrap();
                    }
                    for block in 1..512u64 {
                        let writer = if block / 8 % 2 == 0 { block / 8 * 8 } else { block };
                        let want = round.wrapping_add(writer as u8);
                        let got = read(&*io, &file, block * 512, 512).await;
                        assert!(
                            got.iter().all(|byte| *byte == want),
                            "round {round} block {block}"
                        );
                    }
                }
            });
        }
    }
}

#[test]
fn dropped_futures_still_do_their_work() {
    let dir = scratch();
    for which in ENGINES {
        for direct in [false, true] {
            let path = format!("{which:?}-{direct}");
            on_worker(async {
                let Some(io) = engine(which) else { return };
                let file = create(dir.path(), &path, direct);
                for n in 0..200u64 {
                    let bytes = Bytes::from(vec![1 + (n % 200) as u8; 4096]);
                    drop(io.write(&file, n * 4096, vec![bytes]));
                    drop(io.read(&file, n * 4096, Buffer::new(65536)));
                }
                if which == IoEngine::Threads {
                    // The threads outlive the engine; a ring waits for its jobs when dropped.
                    while RealFiles.length(&file).unwrap() < 200 * 4096 {
                        tokio::task::yield_now().await;
                    }
                    for _ in 0..50 {
                        io.sync(&file).await.unwrap();
                    }
                }
            });
            if which == IoEngine::Ring && env::ring::probe().is_err() {
                continue;
            }
            let bytes = std::fs::read(dir.path().join(&path)).unwrap();
            assert_eq!(bytes.len(), 200 * 4096);
            if which == IoEngine::Ring {
                for (n, page) in bytes.chunks(4096).enumerate() {
                    assert!(page.iter().all(|byte| usize::from(*byte) == 1 + n % 200), "page {n}");
                }
            }
        }
    }
}

/// Two workers on one file, one with whole pages and one with single blocks: also across threads
/// neither may lose the other's bytes.
#[test]
fn two_workers_share_a_direct_file() {
    let dir = scratch();
    let file = create(dir.path(), "shared", true);
    RealFiles.set_length(&file, 1 << 20).unwrap();
    let threads: Vec<_> = [(0u64, 4096usize), (1, 512)]
        .into_iter()
        .map(|(first, length)| {
            let file = file.clone();
            std::thread::spawn(move || {
                on_worker(async {
                    let io = block_io(IoEngine::Auto).unwrap();
                    for round in 0..20u8 {
                        let running: Vec<_> = (0..128u64)
                            .map(|n| {
                                let offset =
                                    (2 * n + first) * 4096 + if first == 1 { 512 } else { 0 };
                                io.write(&file, offset, vec![Bytes::from(vec![round; length])])
                            })
                            .collect();
                        for write in running {
                            write.await.unwrap();
                        }
                    }
                });
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    on_worker(async {
        let io = block_io(IoEngine::Auto).unwrap();
        let bytes = read(&*io, &file, 0, 1 << 20).await;
        for (n, page) in bytes.chunks(4096).enumerate() {
            let written = if n % 2 == 0 { 0..4096 } else { 512..1024 };
            for (at, byte) in page.iter().enumerate() {
                assert_eq!(*byte, if written.contains(&at) { 19 } else { 0 }, "page {n} byte {at}");
            }
        }
    });
}

#[test]
fn a_file_of_another_world_is_refused() {
    for which in ENGINES {
        on_worker(async {
            let Some(io) = engine(which) else { return };
            let file = IoFile::new(7, false, std::sync::Arc::new(()));
            let why = io.sync(&file).await.unwrap_err();
            assert_eq!(why.kind(), std::io::ErrorKind::InvalidInput);
        });
    }
}

/// A file system too small for what is written: the errno comes through.
#[test]
fn a_full_file_system_says_so() {
    let dir = scratch();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=1m", "none"])
        .arg(dir.path())
        .output();
    match mounted {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            let why = String::from_utf8_lossy(&output.stderr).into_owned();
            return println!("skipped, a small tmpfs cannot be mounted: {why}");
        }
        Err(why) => return println!("skipped, there is no mount: {why}"),
    }
    let outcome = std::panic::catch_unwind(|| {
        for which in ENGINES {
            on_worker(async {
                let Some(io) = engine(which) else { return };
                let file = create(dir.path(), &format!("{which:?}"), true);
                let big = Bytes::from(vec![1; 4 << 20]);
                let why = io.write(&file, 0, vec![big]).await.unwrap_err();
                assert_eq!(why.raw_os_error(), Some(28), "ENOSPC, not {why}");
                io.punch(&file, 0, 4 << 20).await.unwrap();
            });
        }
    });
    let unmounted = std::process::Command::new("umount").arg(dir.path()).status().unwrap();
    assert!(unmounted.success());
    outcome.unwrap();
}

/// Reading in a loop asks for no memory but the first.
#[test]
fn buffers_come_back() {
    let dir = scratch();
    for which in ENGINES {
        on_worker(async {
            let Some(io) = engine(which) else { return };
            let file = create(dir.path(), &format!("{which:?}"), false);
            RealFiles.set_length(&file, 1 << 20).unwrap();
            let mut places = std::collections::HashSet::new();
            for _ in 0..100 {
                let buffer = io.read(&file, 0, Buffer::new(100_000)).await.unwrap();
                places.insert(buffer.as_ptr());
                drop(buffer.into_bytes());
            }
            assert_eq!(places.len(), 1);
        });
    }
}

/// I/O that never waits must not keep the worker's other tasks from their turn.
#[test]
fn a_task_that_finds_all_its_work_done_lets_others_run() {
    let dir = scratch();
    for which in ENGINES {
        on_worker(async {
            let Some(io) = engine(which) else { return };
            let file = create(dir.path(), &format!("{which:?}"), false);
            let other = std::rc::Rc::new(std::cell::Cell::new(false));
            let seen = std::rc::Rc::clone(&other);
            tokio::task::spawn_local(async move { other.set(true) });
            let block = Bytes::from(vec![3; 4096]);
            for _ in 0..2000 {
                io.write(&file, 0, vec![block.clone()]).await.unwrap();
                assert_eq!(read(&*io, &file, 0, 4096).await, block);
            }
            assert!(seen.get());
        });
    }
}

#[test]
fn a_ring_outside_of_a_runtime_is_an_error_and_auto_falls_back() {
    assert!(block_io(IoEngine::Ring).is_err());
    assert!(block_io(IoEngine::Auto).is_ok());
}
