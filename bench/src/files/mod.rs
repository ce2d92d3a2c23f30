//! File volumes beside nfs-ganesha: data and small files over NFSv4.1.
//!
//! Entry point: [`run`].

mod load;
mod pattern;

use std::path::PathBuf;

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use tempfile::TempDir;

pub(crate) use load::Place;
pub(crate) use pattern::{DEFAULT, Work};

use crate::process::{cpu_us, has_program};
use crate::report::{FileRow, Files, GANESHA, OURS, RELAXED, Sample, Taken};
use crate::servers::{self, Places};

/// What to measure.
pub(crate) struct FilesPlan {
    pub(crate) works: Vec<Work>,
    pub(crate) rounds: u32,
    pub(crate) seconds: f64,
    /// A directory on a disk.
    pub(crate) disk: PathBuf,
    pub(crate) taken: Taken,
}

/// One tree of one server.
struct Tree {
    name: &'static str,
    pid: u32,
    place: Place,
}

/// Measures all of the plan.
///
/// # Errors
/// A server cannot be started, or does not do what it is asked.
pub(crate) fn run(plan: &FilesPlan) -> Result<Files> {
    let places = Places::find()?;
    let mut skipped = Vec::new();
    let home = |part: &str| -> Result<TempDir> {
        std::fs::create_dir_all(&plan.disk)?;
        let named = tempfile::Builder::new().prefix(part).tempdir_in(&plan.disk);
        named.with_context(|| format!("no directory in {}", plan.disk.display()))
    };
    let ours = servers::start_file_volumes(&places, home("ours")?, &["strict", "relaxed"])?;
    let place = |path: &str| Place { portal: ours.portal, path: path.to_owned() };
    let mut trees = vec![
        Tree { name: OURS, pid: ours.pid, place: place(&ours.paths[0]) },
        Tree { name: RELAXED, pid: ours.pid, place: place(&ours.paths[1]) },
    ];
    let mut servers = vec![ours.server.clone()];
    let ganesha = if has_program("ganesha.nfsd") {
        let started = servers::start_ganesha(&places, home("ganesha")?)?;
        let place = Place { portal: started.portal, path: started.paths[0].clone() };
        trees.push(Tree { name: GANESHA, pid: started.pid, place });
        servers.push(started.server.clone());
        Some(started)
    } else {
        skipped.push(format!(
            "{GANESHA}: ganesha.nfsd is not installed (Debian: nfs-ganesha nfs-ganesha-vfs)"
        ));
        None
    };
    for tree in &trees {
        load::prepare(&tree.place).with_context(|| format!("filling {}", tree.name))?;
    }
    let bar = ProgressBar::new((plan.works.len() * trees.len() * plan.rounds as usize) as u64);
    let style = "{elapsed_precise} [{bar:30}] {pos}/{len} {msg}  (ends in {eta})";
    bar.set_style(ProgressStyle::with_template(style)?.progress_chars("=> "));
    let mut rows = Vec::new();
    for work in &plan.works {
        rows.extend(pattern(plan, *work, &trees, &bar)?);
    }
    bar.finish_and_clear();
    drop(ganesha);
    let (taken, rounds, seconds) = (plan.taken.clone(), plan.rounds, plan.seconds);
    let file_system = crate::machine::file_system(&plan.disk);
    Ok(Files { taken, file_system, rounds, seconds, servers, rows, skipped })
}

/// All rounds of one kind of load: in each round every tree once, each time another one first.
fn pattern(
    plan: &FilesPlan,
    work: Work,
    trees: &[Tree],
    bar: &ProgressBar,
) -> Result<Vec<FileRow>> {
    let row = |tree: &Tree| FileRow {
        pattern: work.to_string(),
        server: tree.name.to_owned(),
        samples: Vec::new(),
    };
    let mut rows: Vec<FileRow> = trees.iter().map(row).collect();
    for round in 0..plan.rounds as usize {
        for turn in 0..trees.len() {
            let at = (round + turn) % trees.len();
            let tree = &trees[at];
            bar.set_message(format!(
                "{work}, round {} of {}: {}",
                round + 1,
                plan.rounds,
                tree.name
            ));
            let sample = once(tree, work, plan.seconds);
            bar.inc(1);
            rows[at].samples.push(sample.with_context(|| format!("{} with {work}", tree.name))?);
        }
    }
    let line = crate::table::file_line(&rows);
    bar.suspend(|| eprintln!("{line}"));
    Ok(rows)
}

fn once(tree: &Tree, work: Work, seconds: f64) -> Result<Sample> {
    let cpu = || cpu_us(tree.pid);
    let (moved, spent_us, block_bytes) = match work {
        Work::Data(data) => {
            let before = cpu()?;
            let moved = load::data(&tree.place, data, seconds)?;
            (moved, cpu()? - before, data.block_bytes)
        }
        Work::Names(names) => {
            let (moved, spent_us) = load::names(&tree.place, names, seconds, cpu)?;
            (moved, spent_us, 0)
        }
    };
    let iops = moved.ios / moved.seconds;
    Ok(Sample {
        iops,
        bytes_per_s: iops * f64::from(block_bytes),
        p50_us: moved.p50_us,
        p99_us: moved.p99_us,
        server_us: spent_us / moved.ios,
        server_cores: spent_us / 1e6 / moved.seconds,
    })
}
