//! File volumes beside nfs-ganesha: data and small files over NFSv4.1; and small files beside a
//! server that does nothing.
//!
//! Entry point: [`run`].

mod clients;
mod floor;
mod load;
mod names;
mod pattern;

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use tempfile::TempDir;

pub(crate) use floor::{Wait, serve};
pub(crate) use load::Place;
pub(crate) use pattern::{DEFAULT, Work};

use crate::process::{cpu_us, has_program};
use crate::report::{FLOORS, FileRow, Files, GANESHA, OURS, RELAXED, Sample, Server, Taken};
use crate::servers::{self, Floor, Places};
use floor::Sizes;

/// What to measure.
pub(crate) struct FilesPlan {
    pub(crate) works: Vec<Work>,
    pub(crate) rounds: u32,
    pub(crate) seconds: f64,
    /// A directory on a disk.
    pub(crate) disk: PathBuf,
    pub(crate) taken: Taken,
}

/// One tree of one server, or a server that does nothing.
struct Peer {
    name: &'static str,
    pid: u32,
    way: Way,
}

enum Way {
    Tree(Place),
    Floor(SocketAddr, Sizes),
}

impl Peer {
    /// One that does nothing has no file that data could be read from.
    fn takes(&self, work: Work) -> bool {
        matches!((&self.way, work), (Way::Tree(_), _) | (Way::Floor(..), Work::Names(_)))
    }
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
    let mut peers = vec![
        Peer { name: OURS, pid: ours.pid, way: Way::Tree(place(&ours.paths[0])) },
        Peer { name: RELAXED, pid: ours.pid, way: Way::Tree(place(&ours.paths[1])) },
    ];
    let mut servers = vec![ours.server.clone()];
    let ganesha = if has_program("ganesha.nfsd") {
        let started = servers::start_ganesha(&places, home("ganesha")?)?;
        let place = Place { portal: started.portal, path: started.paths[0].clone() };
        peers.push(Peer { name: GANESHA, pid: started.pid, way: Way::Tree(place) });
        servers.push(started.server.clone());
        Some(started)
    } else {
        skipped.push(format!(
            "{GANESHA}: ganesha.nfsd is not installed (Debian: nfs-ganesha nfs-ganesha-vfs)"
        ));
        None
    };
    for peer in &peers {
        if let Way::Tree(place) = &peer.way {
            load::prepare(place).with_context(|| format!("filling {}", peer.name))?;
        }
    }
    let floors = start_floors(plan, &place(&ours.paths[1]), &mut peers, &mut servers)?;
    let turns = |work: &Work| peers.iter().filter(|peer| peer.takes(*work)).count();
    let turns: usize = plan.works.iter().map(turns).sum();
    let bar = ProgressBar::new((turns * plan.rounds as usize) as u64);
    let style = "{elapsed_precise} [{bar:30}] {pos}/{len} {msg}  (ends in {eta})";
    bar.set_style(ProgressStyle::with_template(style)?.progress_chars("=> "));
    let mut rows = Vec::new();
    for work in &plan.works {
        let peers: Vec<_> = peers.iter().filter(|peer| peer.takes(*work)).collect();
        rows.extend(pattern(plan, *work, &peers, &bar)?);
    }
    bar.finish_and_clear();
    drop((ganesha, floors));
    let (taken, rounds, seconds) = (plan.taken.clone(), plan.rounds, plan.seconds);
    let file_system = crate::machine::file_system(&plan.disk);
    Ok(Files { taken, file_system, rounds, seconds, servers, rows, skipped })
}

/// The servers that do nothing, where small files are asked for. Their requests and replies have
/// the sizes of those of this tree.
fn start_floors(
    plan: &FilesPlan,
    place: &Place,
    peers: &mut Vec<Peer>,
    servers: &mut Vec<Server>,
) -> Result<Vec<Floor>> {
    if !plan.works.iter().any(|work| matches!(work, Work::Names(_))) {
        return Ok(Vec::new());
    }
    let sizes = Sizes::learn(place).context("learning the sizes of requests")?;
    let mut floors = Vec::new();
    for (name, wait) in FLOORS.into_iter().zip([Wait::Sleeps, Wait::Looks]) {
        let floor = servers::start_floor(wait)?;
        let way = Way::Floor(floor.portal, sizes.clone());
        peers.push(Peer { name, pid: floor.pid, way });
        let waits = match wait {
            Wait::Sleeps => "sleeps until something comes",
            Wait::Looks => "looks again and again before it sleeps",
        };
        let how = format!(
            "does nothing, a thread for each connection, which {waits}; bytes of replies for \
             those of requests: {sizes}"
        );
        let version = env!("CARGO_PKG_VERSION").to_owned();
        servers.push(Server { name: name.to_owned(), version, how });
        floors.push(floor);
    }
    Ok(floors)
}

/// All rounds of one kind of load: in each round every peer once, each time another one first.
fn pattern(
    plan: &FilesPlan,
    work: Work,
    peers: &[&Peer],
    bar: &ProgressBar,
) -> Result<Vec<FileRow>> {
    let row = |peer: &&Peer| FileRow {
        pattern: work.to_string(),
        server: peer.name.to_owned(),
        samples: Vec::new(),
    };
    let mut rows: Vec<FileRow> = peers.iter().map(row).collect();
    for round in 0..plan.rounds as usize {
        for turn in 0..peers.len() {
            let at = (round + turn) % peers.len();
            let peer = peers[at];
            bar.set_message(format!(
                "{work}, round {} of {}: {}",
                round + 1,
                plan.rounds,
                peer.name
            ));
            let sample = once(peer, work, plan.seconds);
            bar.inc(1);
            rows[at].samples.push(sample.with_context(|| format!("{} with {work}", peer.name))?);
        }
    }
    let line = crate::table::file_line(&rows);
    bar.suspend(|| eprintln!("{line}"));
    Ok(rows)
}

fn once(peer: &Peer, work: Work, seconds: f64) -> Result<Sample> {
    let cpu = || cpu_us(peer.pid);
    let (moved, spent_us, block_bytes) = match (&peer.way, work) {
        (Way::Tree(place), Work::Data(data)) => {
            let before = cpu()?;
            let moved = load::data(place, data, seconds)?;
            (moved, cpu()? - before, data.block_bytes)
        }
        (Way::Tree(place), Work::Names(names)) => {
            let (moved, spent_us) = names::names(place, names, seconds, cpu)?;
            (moved, spent_us, 0)
        }
        (Way::Floor(portal, sizes), Work::Names(names)) => {
            let (moved, spent_us) = floor::floor((*portal, sizes), names, seconds, cpu)?;
            (moved, spent_us, 0)
        }
        (Way::Floor(..), Work::Data(_)) => bail!("there is no file to read or write"),
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
