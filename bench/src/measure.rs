//! The run: servers are started, patterns go over them in turn, and a report comes out.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use tempfile::TempDir;

use crate::goals::CONNECTIONS;
use crate::load::{Generator, INITIATORS};
use crate::machine;
use crate::pattern::{Cores, Pattern};
use crate::process::{bind, cpu_us, has_program, threads_cpu_us};
use crate::report::{Backing, Idle, NBDKIT, Report, Row, Sample, TGT, Taken};
use crate::servers::{self, Hosts, Places, Running};
use crate::{safety, sessions};

/// Patterns that are also measured over other numbers of connections.
const SCALED: [&str; 2] = ["rr4k-32", "rw4k-32"];
const IDLE_SESSIONS: u8 = 16;

/// What to measure.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) patterns: Vec<Pattern>,
    pub(crate) backings: Vec<Backing>,
    pub(crate) servers: Vec<String>,
    pub(crate) rounds: u32,
    pub(crate) seconds: f64,
    pub(crate) volume_bytes: u64,
    /// Everything but the cost of safety.
    pub(crate) block: bool,
    pub(crate) safety: bool,
    /// Connections to one volume and idle servers as well.
    pub(crate) whole: bool,
    pub(crate) safety_pairs: u32,
    pub(crate) safety_slice_s: f64,
    pub(crate) idle_s: f64,
    pub(crate) disk: PathBuf,
    pub(crate) command: String,
}

impl Plan {
    /// What is measured with this backing: the patterns, and in memory the further connections.
    /// Where server and load run is told apart in memory alone: what it costs is the same on disk.
    fn patterns(&self, backing: Backing) -> Vec<Pattern> {
        let mut patterns = self.patterns.clone();
        patterns.retain(|one| backing == Backing::Memory || one.cores == Cores::Any);
        if self.whole && backing == Backing::Memory {
            let scaled = SCALED.iter().filter_map(|name| name.parse::<Pattern>().ok());
            for pattern in scaled.flat_map(|base| CONNECTIONS.map(|count| base.over(count))) {
                if !patterns.contains(&pattern) {
                    patterns.push(pattern);
                }
            }
        }
        patterns
    }

    fn steps(&self) -> u64 {
        let patterns: usize = self.backings.iter().map(|one| self.patterns(*one).len()).sum();
        let runs = patterns * self.servers.len() * self.rounds as usize;
        let runs = if self.block { runs } else { 0 };
        let pairs = if self.safety { self.safety_pairs as usize } else { 0 };
        (runs + pairs) as u64
    }
}

/// Measure all of the plan.
pub(crate) async fn run(plan: &Plan) -> Result<Report> {
    let places = Places::find()?;
    let (generator, hint) = Generator::find()?;
    let begin = Instant::now();
    let mut report = Report {
        machine: machine::look(),
        command: plan.command.clone(),
        generator: generator.name(),
        rounds: plan.rounds,
        seconds: plan.seconds,
        volume_bytes: plan.volume_bytes,
        ..Report::default()
    };
    report.skipped.extend(hint);
    let bar = ProgressBar::new(plan.steps());
    let style = "{elapsed_precise} [{bar:30}] {pos}/{len} {msg}  (ends in {eta})";
    bar.set_style(ProgressStyle::with_template(style)?.progress_chars("=> "));
    bar.enable_steady_tick(Duration::from_millis(250));
    let on = |backing| Run { plan, places: &places, generator: &generator, backing, bar: &bar };
    if plan.block {
        for backing in &plan.backings {
            on(*backing).all(&mut report).await?;
        }
    }
    if plan.safety {
        on(Backing::Memory).safety(&mut report).await?;
    }
    bar.finish_and_clear();
    report.minutes = begin.elapsed().as_secs_f64() / 60.0;
    Ok(report)
}

struct Run<'a> {
    plan: &'a Plan,
    places: &'a Places,
    generator: &'a Generator,
    backing: Backing,
    bar: &'a ProgressBar,
}

impl Run<'_> {
    async fn all(&self, report: &mut Report) -> Result<()> {
        self.bar.set_message(format!("{}: starting and filling", self.backing.name()));
        let running = self.start(report).await?;
        for one in &running {
            if !report.servers.iter().any(|known| known.name == one.server.name) {
                report.servers.push(one.server.clone());
            }
        }
        for pattern in self.plan.patterns(self.backing) {
            self.pattern(pattern, &running, report).await?;
        }
        if self.plan.whole && self.backing == Backing::Memory {
            report.idle = self.idle(&running).await?;
        }
        Ok(())
    }

    /// The cost of safety, alone on the machine.
    async fn safety(&self, report: &mut Report) -> Result<()> {
        let hosts = Hosts { initiators: &[&INITIATORS] };
        let bytes = self.plan.volume_bytes;
        let ours = servers::start_ours(self.places, self.home()?, bytes, hosts)?;
        sessions::fill(&ours.address, bytes).await?;
        let (pairs, slice_s) = (self.plan.safety_pairs, self.plan.safety_slice_s);
        let progress = |message: String| {
            self.bar.set_message(message);
            self.bar.inc(1);
        };
        let taken = Taken { machine: report.machine.clone(), command: report.command.clone() };
        report.safety = Some(safety::measure(&ours, taken, (pairs, slice_s), progress).await?);
        Ok(())
    }

    fn home(&self) -> Result<TempDir> {
        let parent = match self.backing {
            Backing::Memory => PathBuf::from("/dev/shm"),
            Backing::PageCache => self.plan.disk.clone(),
        };
        std::fs::create_dir_all(&parent)?;
        let named = tempfile::Builder::new().prefix("commonhold-bench-").tempdir_in(&parent);
        named.with_context(|| format!("no directory in {}", parent.display()))
    }

    async fn start(&self, report: &mut Report) -> Result<Vec<Running>> {
        let (places, bytes) = (self.places, self.plan.volume_bytes);
        let mut running = Vec::new();
        for name in &self.plan.servers {
            let program = match name.as_str() {
                TGT => "tgtd",
                NBDKIT => "nbdkit",
                _ => {
                    let hosts = Hosts { initiators: &[&INITIATORS] };
                    let ours = servers::start_ours(places, self.home()?, bytes, hosts)?;
                    sessions::fill(&ours.address, bytes).await?;
                    running.push(ours);
                    continue;
                }
            };
            if !has_program(program) {
                let why = format!("{name}: {program} is not installed");
                if !report.skipped.contains(&why) {
                    report.skipped.push(why);
                }
                continue;
            }
            let home = self.home()?;
            running.push(match program {
                "tgtd" => servers::start_tgt(places, home, bytes, false)?,
                _ => servers::start_nbdkit(places, home, bytes)?,
            });
        }
        ensure!(!running.is_empty(), "no server is left to measure");
        Ok(running)
    }

    /// All rounds of one pattern: in each round every server once, each time another one first.
    async fn pattern(
        &self,
        pattern: Pattern,
        running: &[Running],
        report: &mut Report,
    ) -> Result<()> {
        let mut rows: Vec<Row> = running.iter().map(|one| self.row(pattern, one)).collect();
        for round in 0..self.plan.rounds as usize {
            for turn in 0..running.len() {
                let at = (round + turn) % running.len();
                let name = &running[at].server.name;
                let of = format!("round {} of {}", round + 1, self.plan.rounds);
                self.bar.set_message(format!("{} {pattern}, {of}: {name}", self.backing.name()));
                let sample = self.once(pattern, &running[at]).await;
                self.bar.inc(1);
                let context = || format!("{name} with {pattern} ({})", self.backing.name());
                rows[at].samples.push(sample.with_context(context)?);
            }
        }
        let line = crate::table::line(&rows);
        self.bar.suspend(|| eprintln!("{line}"));
        report.rows.extend(rows);
        Ok(())
    }

    fn row(&self, pattern: Pattern, running: &Running) -> Row {
        let (pattern, server) = (pattern.to_string(), running.server.name.clone());
        Row { backing: self.backing, pattern, server, samples: Vec::new() }
    }

    async fn once(&self, pattern: Pattern, running: &Running) -> Result<Sample> {
        let (seconds, bytes) = (self.plan.seconds, self.plan.volume_bytes);
        if let Some((core, _)) = pattern.cores.bound() {
            bind(running.pid, &core.to_string())?;
        }
        let before = cpu_us(running.pid)?;
        let moved = self.generator.run(&running.address, pattern, seconds, bytes).await;
        let spent_us = cpu_us(running.pid)? - before;
        if pattern.cores.bound().is_some() {
            bind(running.pid, &format!("0-{}", machine::look().cores.saturating_sub(1)))?;
        }
        let moved = moved?;
        let iops = moved.ios / moved.seconds;
        Ok(Sample {
            iops,
            bytes_per_s: iops * f64::from(pattern.block_bytes),
            p50_us: moved.p50_us,
            p99_us: moved.p99_us,
            server_us: spent_us / moved.ios,
            server_cores: spent_us / 1e6 / moved.seconds,
        })
    }

    /// All iSCSI servers at the same time, each with sessions that say nothing.
    async fn idle(&self, running: &[Running]) -> Result<Vec<Idle>> {
        self.bar.set_message(format!("idle for {} s", self.plan.idle_s));
        let mut sitting = Vec::new();
        for one in running.iter().filter(|one| one.server.name != NBDKIT) {
            sitting.push((one, sessions::log_in_many(&one.address, IDLE_SESSIONS).await?));
        }
        // What the logins and the last load left to do is over.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let begin = Instant::now();
        let before: Vec<f64> =
            sitting.iter().map(|(one, _)| threads_cpu_us(one.pid)).collect::<Result<_>>()?;
        tokio::time::sleep(Duration::from_secs_f64(self.plan.idle_s)).await;
        let mut found = Vec::new();
        for ((one, sessions), before) in sitting.iter().zip(before) {
            found.push(Idle {
                server: one.server.name.clone(),
                sessions: u32::try_from(sessions.len())?,
                seconds: begin.elapsed().as_secs_f64(),
                cpu_ms: (threads_cpu_us(one.pid)? - before) / 1e3,
            });
        }
        Ok(found)
    }
}
