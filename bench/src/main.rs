//! `cargo xtask bench` and `cargo xtask compare`: how fast we are beside our peers, and what they
//! answer where it matters.
//!
//! Entry points: [`measure::run`] makes a [`report::Report`], everything shown is made of that by
//! the pure modules `goals`, `table`, `charts` and `page`; [`compare::run`] asks the same questions
//! of every target.
//!
//! Invariant: whatever ends a run, an error or a signal, the servers that it started end with it
//! and their files go.

mod charts;
mod compare;
mod files;
mod goals;
mod load;
mod machine;
mod measure;
mod page;
mod pattern;
mod process;
mod report;
mod safety;
mod servers;
mod sessions;
mod statistics;
mod svg;
mod table;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use bytesize::ByteSize;
use clap::{Args, Parser, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

use measure::Plan;
use pattern::Pattern;
use report::{Backing, NBDKIT, OURS, Report, TGT, Taken};

/// Measures and comparisons.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Task {
    /// Measure the daemon beside tgt, nbdkit and nfs-ganesha; writes docs/benchmarks.md and its
    /// pictures
    Bench(BenchArguments),
    /// Ask the daemon and tgt the same questions; writes the table of docs/sceptic.md
    Compare(CompareArguments),
    /// Answer each request with as many bytes as it asks for, until standard input ends
    #[command(hide = true)]
    Floor {
        /// Look for requests before sleeping
        #[arg(long)]
        looks: bool,
    },
}

#[derive(Args)]
struct CompareArguments {
    /// One more target, such as iscsi://127.0.0.1:3260/iqn.2001-04.org.example:a/0; its data are
    /// destroyed, and cases that need a kill break off
    #[arg(long, value_name = "URL", value_parser = url)]
    url: Vec<String>,
    /// Without libiscsi's suite
    #[arg(long)]
    no_suite: bool,
    /// Change no file
    #[arg(long)]
    print: bool,
}

fn url(text: &str) -> Result<String, &'static str> {
    let known = compare::parse_url(text).map(|_| text.to_owned());
    known.ok_or("write iscsi://address:port/target/lun")
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
}

/// What a run measures; the page keeps the last figures of the others.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Block volumes beside tgt and nbdkit
    Block,
    /// What reservations cost a write
    Safety,
    /// File volumes beside nfs-ganesha, and small files beside a server that does nothing: the
    /// most that any server could reach on this machine; needs root
    Files,
}

#[derive(Args)]
struct BenchArguments {
    /// One round of one second for each pattern, to try it; writes to target/bench
    #[arg(long)]
    quick: bool,
    /// Only these parts [default: all]
    #[arg(long, value_delimiter = ',')]
    part: Vec<Part>,
    /// Only these patterns of block volumes, such as rr4k-1,rw4k-32x4; without connections, safety
    /// and idle
    #[arg(long, value_delimiter = ',')]
    patterns: Vec<Pattern>,
    /// Only these of file volumes, such as read4k-32,create-16,stat-1x8
    ///
    /// read4k, write4k, sync4k, read1m and write1m go to one file: so many requests under way, xN
    /// on each of N connections. create, stat, read and unlink are small files: so many clients,
    /// xN with N programs each, which share the client's session; each program does one step after
    /// another.
    #[arg(long, value_delimiter = ',')]
    works: Vec<files::Work>,
    /// Rounds of each pattern [default: 5]
    #[arg(long)]
    rounds: Option<u32>,
    /// Seconds of one round [default: 2]
    #[arg(long)]
    seconds: Option<f64>,
    /// Only this backing
    #[arg(long)]
    backing: Vec<Backing>,
    /// Only these servers
    #[arg(long, value_delimiter = ',', value_parser = [OURS, TGT, NBDKIT])]
    servers: Vec<String>,
    /// Size of the volume; there are three in memory at the same time
    #[arg(long, default_value = "1GiB")]
    size: ByteSize,
    /// Directory on a disk, for the page cache [default: target/bench]
    #[arg(long)]
    disk: Option<PathBuf>,
    /// What is printed
    #[arg(long, value_enum, default_value = "table")]
    output: Output,
    /// Directory of benchmarks.md [default: docs for a whole run, else target/bench]
    #[arg(long)]
    docs: Option<PathBuf>,
    /// Measure nothing: write page and pictures from a results file
    #[arg(long, value_name = "FILE")]
    render: Option<PathBuf>,
}

impl BenchArguments {
    fn is_whole(&self) -> bool {
        let block = self.patterns.is_empty() && self.backing.is_empty() && self.servers.is_empty();
        block && self.works.is_empty()
    }

    /// Asking for patterns of one part leaves the others out.
    fn has(&self, part: Part) -> bool {
        let all = self.part.is_empty() || self.part.contains(&part);
        let narrowed = match part {
            Part::Block => !self.works.is_empty() && self.patterns.is_empty(),
            Part::Safety => !self.works.is_empty() || !self.patterns.is_empty(),
            Part::Files => self.works.is_empty() && !self.patterns.is_empty(),
        };
        all && !narrowed
    }

    fn rounds(&self) -> u32 {
        self.rounds.unwrap_or(if self.quick { 1 } else { 5 }).max(1)
    }

    fn files_plan(&self, root: &Path) -> files::FilesPlan {
        let defaults = files::DEFAULT.iter().filter_map(|name| name.parse().ok());
        let block = self.plan(root);
        files::FilesPlan {
            works: if self.works.is_empty() { defaults.collect() } else { self.works.clone() },
            rounds: self.rounds(),
            seconds: block.seconds,
            disk: block.disk,
            taken: Taken { machine: machine::look(), command: block.command },
        }
    }

    fn plan(&self, root: &Path) -> Plan {
        let defaults = pattern::DEFAULT.iter().filter_map(|name| name.parse().ok());
        let servers = [OURS, TGT, NBDKIT].map(str::to_owned).to_vec();
        let or = |given: &Vec<String>, all: Vec<String>| {
            if given.is_empty() { all } else { given.clone() }
        };
        let both = vec![Backing::Memory, Backing::PageCache];
        let words: Vec<String> = std::env::args().skip(1).collect();
        Plan {
            patterns: if self.patterns.is_empty() {
                defaults.collect()
            } else {
                self.patterns.clone()
            },
            backings: if self.backing.is_empty() { both } else { self.backing.clone() },
            servers: or(&self.servers, servers),
            rounds: self.rounds(),
            seconds: self.seconds.unwrap_or(if self.quick { 1.0 } else { 2.0 }).max(0.1),
            volume_bytes: self.size.as_u64().max(64 << 20),
            block: self.has(Part::Block),
            safety: self.has(Part::Safety),
            whole: self.patterns.is_empty(),
            safety_pairs: if self.quick { 4 } else { 1500 },
            safety_slice_s: if self.quick { 0.2 } else { 0.1 },
            idle_s: if self.quick { 1.0 } else { 10.0 },
            disk: self.disk.clone().unwrap_or_else(|| root.join("target/bench")),
            command: format!("cargo xtask {}", words.join(" ")),
        }
    }

    fn docs(&self, root: &Path) -> PathBuf {
        let record = self.is_whole() && !self.quick;
        let usual =
            root.join(if record || self.render.is_some() { "docs" } else { "target/bench" });
        self.docs.clone().unwrap_or(usual)
    }
}

fn main() -> ExitCode {
    let done = match Task::parse() {
        Task::Bench(arguments) => until_signalled(bench(&arguments)),
        Task::Compare(arguments) => until_signalled(compare(&arguments)),
        Task::Floor { looks: false } => files::serve(files::Wait::Sleeps),
        Task::Floor { looks: true } => files::serve(files::Wait::Looks),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("error: {why:#}");
            ExitCode::FAILURE
        }
    }
}

/// A signal drops the task where it waits, and with it what it started.
fn until_signalled(task: impl Future<Output = Result<()>>) -> Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let mut term = signal(SignalKind::terminate())?;
        tokio::select! {
            done = task => done,
            _ = tokio::signal::ctrl_c() => bail!("interrupted; servers and files are gone"),
            _ = term.recv() => bail!("terminated; servers and files are gone"),
        }
    })
}

fn root() -> Result<&'static Path> {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("this crate has no parent directory")
}

async fn bench(arguments: &BenchArguments) -> Result<()> {
    let root = root()?;
    let report = match &arguments.render {
        Some(file) => {
            let text = std::fs::read_to_string(file)
                .with_context(|| format!("cannot read {}", file.display()))?;
            serde_json::from_str(&text)
                .with_context(|| format!("{} is no results file", file.display()))?
        }
        None => measured(arguments, root).await?,
    };
    let docs = arguments.docs(root);
    write(&report, &docs)?;
    show(&report, arguments.output)?;
    let shown = docs.strip_prefix(root).unwrap_or(&docs);
    eprintln!("\nwrote benchmarks.md and benchmarks/ in {}", shown.display());
    Ok(())
}

/// What was asked for, and beside it what the page had of the other parts.
async fn measured(arguments: &BenchArguments, root: &Path) -> Result<Report> {
    let [block, safety] = [Part::Block, Part::Safety].map(|part| arguments.has(part));
    let kept = std::fs::read_to_string(arguments.docs(root).join("benchmarks/results.json"));
    let kept: Option<Report> = kept.ok().and_then(|text| serde_json::from_str(&text).ok());
    let mut kept = kept.unwrap_or_default();
    let mut report = Report::default();
    if block || safety {
        report = measure::run(&arguments.plan(root)).await?;
    }
    if !safety {
        report.safety = kept.safety.take();
    }
    if !block {
        let safety = report.safety.take();
        report = Report { safety, ..kept.clone() };
    }
    report.files = if arguments.has(Part::Files) {
        let plan = arguments.files_plan(root);
        let taken = plan.taken.clone();
        let found = tokio::task::spawn_blocking(move || files::run(&plan)).await?;
        let asked = !arguments.part.is_empty() || !arguments.works.is_empty();
        Some(match found {
            // Without root there are no file volumes; the other parts are worth having.
            Err(why) if !asked => {
                let skipped = vec![format!("not measured: {why:#}")];
                report::Files { taken, skipped, ..report::Files::default() }
            }
            found => found?,
        })
    } else {
        kept.files
    };
    Ok(report)
}

/// Where `compare` writes in docs/sceptic.md.
const SIDE_BY_SIDE: (&str, &str) =
    ("<!-- cargo xtask compare: begin -->", "<!-- cargo xtask compare: end -->");

#[allow(clippy::print_stdout, reason = "what the task is for")]
async fn compare(arguments: &CompareArguments) -> Result<()> {
    let compare::Comparison { grid, broken } =
        compare::run(&arguments.url, !arguments.no_suite).await?;
    println!("{}", grid.terminal());
    if !broken.is_empty() {
        bail!("commonhold does not hold: {}", broken.join("; "));
    }
    if arguments.print || arguments.no_suite || !arguments.url.is_empty() {
        return Ok(());
    }
    let path = root()?.join("docs/sceptic.md");
    let old = std::fs::read_to_string(&path).context("docs/sceptic.md")?;
    let machine = machine::look();
    let tgt = machine::version("tgtd", &["--version"]);
    let inside = format!(
        "`cargo xtask compare`, {}: commonhold {}, tgt {tgt}; {}, kernel {}, {} cores.\n\n{}",
        machine.date,
        machine.commit,
        machine.system,
        machine.kernel,
        machine.cores,
        grid.markdown()
    );
    let new = page::replace(&old, SIDE_BY_SIDE, &inside);
    std::fs::write(&path, new.context("docs/sceptic.md has no place for the table")?)?;
    eprintln!("wrote the table of docs/sceptic.md");
    Ok(())
}

/// Page, pictures and all samples.
fn write(report: &Report, docs: &Path) -> Result<()> {
    let pictures = docs.join("benchmarks");
    std::fs::create_dir_all(&pictures)?;
    let drawn = charts::draw(report);
    for picture in &drawn {
        std::fs::write(pictures.join(&picture.name), &picture.svg)?;
    }
    let json = serde_json::to_string_pretty(report)? + "\n";
    std::fs::write(pictures.join("results.json"), json)?;
    let path = docs.join("benchmarks.md");
    let old = std::fs::read_to_string(&path).unwrap_or_default();
    std::fs::write(&path, page::write(report, &drawn, &old))?;
    Ok(())
}

#[allow(clippy::print_stdout, reason = "what the task is for")]
fn show(report: &Report, output: Output) -> Result<()> {
    if output == Output::Json {
        println!("{}", serde_json::to_string_pretty(report)?);
        return Ok(());
    }
    for backing in [Backing::Memory, Backing::PageCache] {
        if !report.patterns(backing).is_empty() {
            println!("\n{}, median (least-most)", backing.name());
            println!("{}", table::throughput(report, backing).terminal());
            println!("{}", table::costs(report, backing).terminal());
        }
    }
    if let Some(files) = &report.files {
        println!("\nfile volumes, median (least-most)\n{}", table::files(files).terminal());
        if let Some(floor) = table::floor(files) {
            println!("\nsmall files beside a server that does nothing\n{}", floor.terminal());
        }
    }
    println!("\n{}", table::goals(report).terminal());
    println!("{}", table::summary(report));
    for why in &report.skipped {
        println!("note: {why}");
    }
    Ok(())
}
