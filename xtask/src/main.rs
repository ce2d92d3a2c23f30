//! The project's tasks as code: `cargo xtask <task>`.
//!
//! Entry point: [`Task`], one variant per task; each lives in the module of its name.
//!
//! Invariant: a task that cannot do a part of its work says which part and why; it never passes in
//! silence.

mod bench;
mod fuzz;
mod lab;
mod openapi;
mod peers;
mod source;
mod steps;
mod test;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;

use steps::{Board, Outcome};

/// Tasks of the project.
#[derive(Parser)]
#[command(name = "cargo xtask")]
enum Task {
    /// Check what the compiler does not: arrows between crates, lengths, words, walls
    Tidy,
    /// Quick checks, all tests, then end to end with real peers; ends with a table
    Test {
        /// Leave out the end-to-end tests with peers
        #[arg(long)]
        no_peers: bool,
    },
    /// Write docs/openapi.json from the code, or compare the two
    Openapi {
        /// Change nothing; fail when the committed document differs
        #[arg(long)]
        check: bool,
    },
    /// End to end with the clients of a stock kernel, in virtual machines (needs root and QEMU)
    Lab {
        /// One of them; all when not given
        which: Option<lab::Lab>,
    },
    /// Every codec of outside bytes under fuzzing: a fixed slice, or as long as you like
    Fuzz {
        /// One target; all of them when not given
        target: Option<String>,
        /// Seconds for each target, whose finds are kept; a fixed slice when not given
        #[arg(long)]
        seconds: Option<u64>,
    },
    /// The slow simulated campaigns, of the store and of the whole target, from many seeds
    Crash {
        /// How many seeds
        #[arg(long, default_value_t = 1000, env = "CRASH_SEEDS")]
        seeds: u32,
    },
    /// Takeovers of a volume among simulated hosts that pause, crash and are cut off
    Takeovers {
        /// How many takeovers from one host to another
        #[arg(long, default_value_t = 50_000)]
        takeovers: u32,
        /// The first seed
        #[arg(long, default_value_t = 0)]
        seed: u32,
    },
    /// Takeovers among guards in processes and networks of their own, and how long a preempt drains
    Guards {
        /// How many takeovers
        #[arg(long, default_value_t = 1000)]
        takeovers: u32,
        #[arg(long, default_value_t = 1)]
        seed: u32,
        /// The longest fault
        #[arg(long, default_value_t = 10_000)]
        pause_ms: u32,
        /// How many preempts of a host with 256 writes under way
        #[arg(long, default_value_t = 500)]
        drains: u32,
    },
    /// Measure the daemon beside tgt and nbdkit; --help lists its options
    #[command(disable_help_flag = true)]
    Bench {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Ask the daemon and tgt the same questions about reservations; --help lists its options
    #[command(disable_help_flag = true)]
    Compare {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// The soak: mixed load, everything that an operator may do, restarts, kills; no loss, no leak
    Soak {
        #[arg(long, default_value_t = 3600)]
        seconds: u32,
        #[arg(long, default_value_t = 1)]
        seed: u32,
    },
    /// Sixteen initiators count by COMPARE AND WRITE, and the sums are exact
    Counters {
        /// How often each initiator adds one
        #[arg(long, default_value_t = 3000)]
        increments: u32,
        #[arg(long, default_value_t = 1)]
        seed: u32,
    },
    /// The file service is killed under NFS clients, which lose nothing and keep their locks
    NfsRestarts {
        /// How many times
        #[arg(long, default_value_t = 100)]
        rounds: u32,
        #[arg(long, default_value_t = 1)]
        seed: u32,
    },
    /// Many NFS clients at once, each with an open file and locks, also beside one that floods
    NfsClients {
        #[arg(long, default_value_t = 500)]
        clients: u32,
        /// How long each part takes
        #[arg(long, default_value_t = 20)]
        seconds: u32,
    },
}

/// The workspace's directory: the parent of this crate's.
fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().map_or_else(|| here.to_path_buf(), Path::to_path_buf)
}

fn main() -> ExitCode {
    let root = workspace();
    let mut board = Board::default();
    match Task::parse() {
        Task::Tidy => board.run("tidy", || tidy::check(&root)),
        Task::Test { no_peers } => test::run(&mut board, &root, !no_peers),
        Task::Openapi { check } => board.run("openapi", || openapi::run(&root, check)),
        Task::Fuzz { target, seconds } => {
            fuzz::run(&mut board, &root, target.as_deref(), seconds);
        }
        Task::Lab { which } => {
            for which in which.map_or(lab::Lab::ALL.to_vec(), |one| vec![one]) {
                board.run(which.name(), || lab::run(&root, which));
            }
        }
        Task::Bench { arguments } => bench::run(&mut board, &root, "bench", &arguments),
        Task::Compare { arguments } => bench::run(&mut board, &root, "compare", &arguments),
        Task::Crash { seeds } => board.run("crash", || crash(&root, seeds)),
        Task::Takeovers { takeovers, seed } => {
            board.run("takeovers", || simulated_takeovers(&root, takeovers, seed));
        }
        Task::Guards { takeovers, seed, pause_ms, drains } => board.run("guards", || {
            let settings = [
                ("COMMONHOLD_GUARD_ROUNDS", takeovers),
                ("COMMONHOLD_GUARD_SEED", seed),
                ("COMMONHOLD_GUARD_PAUSE_MS", pause_ms),
                ("COMMONHOLD_GUARD_P99_MS", 1_000),
                ("COMMONHOLD_DRAINS", drains),
                ("COMMONHOLD_DRAIN_P99_MS", 20),
            ];
            campaign(&root, "guard", &settings)
        }),
        Task::Soak { seconds, seed } => board.run("soak", || {
            let settings = [("COMMONHOLD_SOAK_SECONDS", seconds), ("COMMONHOLD_SOAK_SEED", seed)];
            campaign(&root, "soak", &settings)
        }),
        Task::Counters { increments, seed } => board.run("counters", || {
            let settings =
                [("COMMONHOLD_COUNTERS", increments), ("COMMONHOLD_COUNTERS_SEED", seed)];
            campaign(&root, "counters", &settings)
        }),
        Task::NfsRestarts { rounds, seed } => board.run("nfs-restarts", || {
            let settings = [("COMMONHOLD_NFS_ROUNDS", rounds), ("COMMONHOLD_NFS_SEED", seed)];
            campaign(&root, "nfs_restart", &settings)
        }),
        Task::NfsClients { clients, seconds } => board.run("nfs-clients", || {
            let settings =
                [("COMMONHOLD_NFS_CLIENTS", clients), ("COMMONHOLD_NFS_CLIENTS_SECONDS", seconds)];
            campaign(&root, "nfs_crowd", &settings)
        }),
    }
    board.close()
}

/// The same tests as in `cargo test`, optimised and with more seeds.
fn crash(root: &Path, seeds: u32) -> Outcome {
    let tests = ["--test", "store_crash", "--test", "target"];
    let mut command = steps::cargo(root, &["test", "--release", "-p", "sim"]);
    command.args(tests).args(["--", "--nocapture"]);
    for name in ["COMMONHOLD_CRASH_SEEDS", "COMMONHOLD_TARGET_SEEDS"] {
        command.env(name, seeds.to_string());
    }
    steps::execute(&mut command)
}

/// The simulated takeovers, optimised and from more seeds.
fn simulated_takeovers(root: &Path, takeovers: u32, seed: u32) -> Outcome {
    let mut command = steps::cargo(root, &["test", "--release", "-p", "sim"]);
    command.args(["--test", "takeover", "--", "--nocapture"]);
    command.env("COMMONHOLD_TAKEOVERS", takeovers.to_string());
    command.env("COMMONHOLD_TAKEOVER_SEED", seed.to_string());
    steps::execute(&mut command)
}

/// A test of `cargo test`, optimised and longer, against the binary of a release.
fn campaign(root: &Path, test: &str, settings: &[(&str, u32)]) -> Outcome {
    let mut command = steps::cargo(root, &["test", "--release", "-p", "cli", "--test", test]);
    command.args(["--", "--nocapture", "--test-threads=1"]);
    command.envs(settings.iter().map(|(name, value)| (name, value.to_string())));
    steps::execute(&mut command)
}
