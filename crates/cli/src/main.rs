//! The binary `commonhold`: the daemon, and the verbs that speak to it.
//!
//! Entry points: [`arguments::CommandLine`] says what may be typed, [`run`] does it.
//!
//! Invariant: verbs reach the service through `api::Client` only; what they can do, any client of
//! the REST door can do.

mod agent;
mod arguments;
mod client_file;
mod commands;
mod config;
mod demo;
mod failure;
mod fence_agent;
mod guard;
mod log;
mod output;
mod progress;
mod serve;
mod settings;

use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, Parser};

use arguments::{Command, CommandLine, ConfigCommand, GlobalArguments};
use commands::Context;
use commands::host::HostCommand;
use failure::Failure;
use settings::{ServeArguments, ServeSettings};

// Large receive buffers come and go with every write. glibc gives each back to the kernel, which
// fills it with zeros, page by page, for the next one; this allocator keeps them for a while.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long the end of the daemon waits for threads that wait for a disk.
const LAST_THREADS: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    if fence_agent::is_called() {
        return fence_agent::main();
    }
    let line = CommandLine::parse();
    match run(line) {
        Ok(code) => code,
        Err(failure) => failure::end(&failure),
    }
}

fn run(line: CommandLine) -> Result<ExitCode, Failure> {
    let CommandLine { global, command } = line;
    if let Command::Guard(verb) = command {
        let runtime = runtime()?;
        let end = runtime.block_on(verb.run(global.output));
        // A device that hangs as it opens, or in a command, is left behind.
        runtime.shutdown_background();
        return end;
    }
    done(&global, command).map(|()| ExitCode::SUCCESS)
}

/// The verbs that say by their failure alone how they ended.
fn done(global: &GlobalArguments, command: Command) -> Result<(), Failure> {
    match command {
        Command::Config(ConfigCommand::Show(arguments)) => {
            output::list(global.output, &settings::all(global, &arguments)?)
        }
        Command::Completion { shell } => {
            let mut script = Vec::new();
            let name = "commonhold";
            clap_complete::generate(shell, &mut CommandLine::command(), name, &mut script);
            output::write(&String::from_utf8_lossy(&script))
        }
        Command::Man { directory } => write_manual(&directory),
        Command::Openapi => output::write(&server::openapi_json()),
        Command::Formats => output::show(output::Format::Json, &serve::Formats::own()),
        Command::Serve { settings, new_token } => serve(global, &settings, new_token),
        Command::Demo => {
            let stage = demo::Stage::new()?;
            busy_runtime()?.block_on(demo::run(stage))
        }
        Command::Host(HostCommand::Run(arguments)) => {
            runtime()?.block_on(agent::run(global, arguments))
        }
        Command::Host(HostCommand::Warden { directory }) => {
            let runtime = runtime()?;
            let end = runtime.block_on(agent::be_warden(directory));
            // A call that hangs in the kernel is left behind.
            runtime.shutdown_background();
            end
        }
        verb => runtime()?.block_on(speak(global, verb)),
    }
}

/// The daemon. Where another program is to take its place, nothing of this one runs any more.
fn serve(
    global: &GlobalArguments,
    arguments: &ServeArguments,
    new_token: bool,
) -> Result<(), Failure> {
    let handover = serve::Handover::take();
    let settings = ServeSettings::read(global, arguments, new_token)?;
    let home = serve::FileHome::find(&settings, &handover.sockets);
    let runtime = runtime()?;
    let ended = runtime.block_on(serve::run(&settings, &home, new_token, handover));
    runtime.shutdown_timeout(LAST_THREADS);
    match ended? {
        None => Ok(()),
        Some(successor) => Err(successor.begin()),
    }
}

/// The daemon and its two hosts at once.
fn busy_runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let failed = |why| Failure::Io { what: "the runtime cannot start".to_owned(), why };
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(failed)
}

/// One thread is plenty for a verb.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let failed = |why| Failure::Io { what: "the runtime cannot start".to_owned(), why };
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)
}

fn write_manual(directory: &Path) -> Result<(), Failure> {
    let failed = |why| Failure::Io { what: directory.display().to_string(), why };
    std::fs::create_dir_all(directory).map_err(failed)?;
    clap_mangen::generate_to(CommandLine::command(), directory).map_err(failed)
}

/// The verbs that ask the service.
async fn speak(global: &GlobalArguments, verb: Command) -> Result<(), Failure> {
    let (client, project) = settings::client(global)?;
    let context = Context {
        client,
        format: global.output,
        wait: global.wait || (!global.no_wait && std::io::stderr().is_terminal()),
    };
    match verb {
        Command::Volume(verb) => verb.run(&context).await,
        Command::Attachment(verb) => verb.run(&context).await,
        Command::Snapshot(verb) => verb.run(&context).await,
        Command::Network(verb) => verb.run(&context).await,
        Command::Export(verb) => verb.run(&context).await,
        Command::Reference(verb) => verb.run(&context).await,
        Command::Group(verb) => verb.run(&context).await,
        Command::Host(verb) => verb.run(&context).await,
        Command::VolumeType(verb) => verb.run(&context).await,
        Command::Node(verb) => verb.run(&context, project).await,
        Command::Pool(verb) => verb.run(&context).await,
        Command::Project(verb) => verb.run(&context).await,
        Command::User(verb) => verb.run(&context, project).await,
        Command::Token(verb) => verb.run(&context).await,
        Command::Operation(verb) => verb.run(&context, global.wait).await,
        Command::Event(verb) => verb.run(&context).await,
        Command::Whoami => output::show(context.format, &context.client.whoami().await?),
        Command::Health => output::show(context.format, &context.client.health().await?),
        // `run` has done these: they ask nobody.
        Command::Serve { .. }
        | Command::Demo
        | Command::Guard(_)
        | Command::Config(_)
        | Command::Completion { .. }
        | Command::Man { .. }
        | Command::Openapi
        | Command::Formats => Ok(()),
    }
}
