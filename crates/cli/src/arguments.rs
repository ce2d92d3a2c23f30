//! The command line: what may be typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::commands::attachment::AttachmentCommand;
use crate::commands::event::EventCommand;
use crate::commands::export::ExportCommand;
use crate::commands::group::GroupCommand;
use crate::commands::host::HostCommand;
use crate::commands::network::NetworkCommand;
use crate::commands::node::NodeCommand;
use crate::commands::operation::OperationCommand;
use crate::commands::pool::PoolCommand;
use crate::commands::project::ProjectCommand;
use crate::commands::reference::ReferenceCommand;
use crate::commands::snapshot::SnapshotCommand;
use crate::commands::token::TokenCommand;
use crate::commands::user::UserCommand;
use crate::commands::volume::VolumeCommand;
use crate::commands::volume_type::VolumeTypeCommand;
use crate::failure::EXIT_CODES;
use crate::guard::GuardCommand;
use crate::output::Format;
use crate::settings::ServeArguments;

/// Block volumes over iSCSI that several hosts can share safely.
#[derive(Parser, Debug)]
#[command(name = "commonhold", version, propagate_version = true, after_long_help = EXIT_CODES)]
pub(crate) struct CommandLine {
    #[command(flatten)]
    pub(crate) global: GlobalArguments,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every verb. Their ids differ from the names that resources use for themselves.
#[derive(Args, Debug)]
#[command(next_help_heading = "Options of every verb")]
pub(crate) struct GlobalArguments {
    /// Read settings from this file [env: COMMONHOLD_CONFIG]
    #[arg(id = "config_file", long = "config", global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Address of the service [env: COMMONHOLD_URL]
    #[arg(id = "service_url", long = "url", global = true, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// Token to show to the service [env: COMMONHOLD_TOKEN]
    #[arg(id = "service_token", long = "token", global = true, value_name = "TOKEN")]
    pub(crate) token: Option<String>,
    /// Work in this project, for admins [env: COMMONHOLD_PROJECT]
    #[arg(id = "service_project", long = "project", global = true, value_name = "PROJECT")]
    pub(crate) project: Option<String>,
    /// Form of the results
    #[arg(id = "output_format", long = "output", short, global = true, default_value = "table")]
    pub(crate) output: Format,
    /// Wait until the work has ended (the default on a terminal)
    #[arg(long, global = true, overrides_with = "no_wait")]
    pub(crate) wait: bool,
    /// Return as soon as the service has taken the request
    #[arg(long, global = true)]
    pub(crate) no_wait: bool,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Run the service: control plane and storage node in one process, or one of them (--role)
    Serve {
        #[command(flatten)]
        settings: Box<ServeArguments>,
        /// Make a new token for the operator and print it: for when the first one is lost
        #[arg(long)]
        new_token: bool,
    },
    /// See the main job: two hosts share a volume over iSCSI, and one is fenced
    Demo,
    /// One owner of a shared volume at a time: run a command while it is held, take it over
    #[command(subcommand)]
    Guard(GuardCommand),
    /// Volumes: create, grow, retype, revert, import, export, reservations
    #[command(subcommand)]
    Volume(VolumeCommand),
    /// Attachments: make a volume reachable to hosts, detach, fence
    #[command(subcommand)]
    Attachment(AttachmentCommand),
    /// Snapshots of volumes
    #[command(subcommand)]
    Snapshot(SnapshotCommand),
    /// Networks: who may be a client of file volumes, and where they are served
    #[command(subcommand)]
    Network(NetworkCommand),
    /// Exports: who may mount a file volume, and as whom
    #[command(subcommand)]
    Export(ExportCommand),
    /// References: what uses file volumes, and keeps them from being deleted
    #[command(subcommand)]
    Reference(ReferenceCommand),
    /// Hosts: the machines that use volumes
    #[command(subcommand)]
    Host(HostCommand),
    /// Groups: a service on exactly one of several hosts, moved when its host fails
    #[command(subcommand)]
    Group(GroupCommand),
    /// Volume types: what may be asked for, and grants of private ones
    #[command(subcommand)]
    VolumeType(VolumeTypeCommand),
    /// Nodes: the machines that serve volumes
    #[command(subcommand)]
    Node(NodeCommand),
    /// Pools: where bytes lie
    #[command(subcommand)]
    Pool(PoolCommand),
    /// Projects and their limits
    #[command(subcommand)]
    Project(ProjectCommand),
    /// Users and their roles
    #[command(subcommand)]
    User(UserCommand),
    /// API tokens
    #[command(subcommand)]
    Token(TokenCommand),
    /// Long work: import, export, merge
    #[command(subcommand)]
    Operation(OperationCommand),
    /// The audit trail
    #[command(subcommand, alias = "events")]
    Event(EventCommand),
    /// Who the token stands for
    Whoami,
    /// Is the service well?
    Health,
    /// Settings and where each comes from
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print the completion script of a shell
    Completion { shell: clap_complete::Shell },
    /// Write the manual pages into a directory
    Man { directory: PathBuf },
    /// Print the OpenAPI document of the REST door
    #[command(hide = true)]
    Openapi,
    /// Print which catalogs this binary reads: `node upgrade` asks before it runs one
    #[command(hide = true)]
    Formats,
}

#[derive(Subcommand, Debug)]
pub(crate) enum ConfigCommand {
    /// Every setting, its value, and whether flag, environment, file or default gave it
    Show(Box<ServeArguments>),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    use super::*;

    fn parse(line: &str) -> Result<CommandLine, clap::Error> {
        CommandLine::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_command_line_is_consistent() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn every_resource_has_its_verbs() {
        let verbs = [
            ("volume", "create list show update rename resize retype revert export delete"),
            ("volume", "reservations clear-reservations backup restore"),
            ("attachment", "create list show update delete fence"),
            ("snapshot", "create list show update rename delete schedule"),
            ("network", "create list show update delete"),
            ("export", "show update"),
            ("reference", "create list show delete"),
            ("host", "create list show update delete run"),
            ("group", "create list show start stop move freeze unfreeze permit history delete"),
            ("volume-type", "create list show update delete grant revoke grants"),
            ("node", "list show volumes restart upgrade evacuate"),
            ("pool", "create list show update delete"),
            ("project", "create list show update delete"),
            ("user", "create list show update delete"),
            ("token", "create list show update delete"),
            ("operation", "list show cancel"),
            ("event", "list show"),
            ("guard", "hold attack defend status release permit"),
        ];
        let command = CommandLine::command();
        for (resource, verbs) in verbs {
            let resource = command.find_subcommand(resource).unwrap();
            for verb in verbs.split(' ') {
                assert!(resource.find_subcommand(verb).is_some(), "{} {verb}", resource.get_name());
            }
        }
    }

    #[test]
    fn lines_that_make_sense_are_taken() {
        for line in [
            "commonhold volume create v --size 10g --type ssd --metadata a=b --metadata c=d=e",
            "commonhold volume create v --image a.qcow2 --image-format raw --wait",
            "commonhold volume create v --from-snapshot s",
            "commonhold attachment create v --host a --host b --mode ro -o json",
            "commonhold attachment detach 1 2",
            "commonhold events list --since 2026-11-21T09:00:00Z --limit 5",
            "commonhold token create --expires-in 30d",
            "commonhold project update p --volumes 5 --project other",
            "commonhold volume-type grant t p --acknowledge-data-loss",
            "commonhold serve --data d --listen [::1]:7700",
            "commonhold config show --data d",
            "commonhold --url http://h:1 --token t volume list --no-wait",
            "commonhold completion fish",
            "commonhold guard hold --device iscsi://h/iqn.2026-11.io:v -- service --foreground",
            "commonhold guard attack --device /dev/sdb --takeover-ms 2000",
        ] {
            assert!(parse(line).is_ok(), "{line}: {}", parse(line).unwrap_err());
        }
        let waits = |line| parse(line).map(|line| (line.global.wait, line.global.no_wait)).unwrap();
        assert_eq!(waits("commonhold volume list --wait"), (true, false));
        assert_eq!(waits("commonhold volume list --no-wait"), (false, true));
    }

    #[test]
    fn lines_that_make_none_are_refused_with_the_reason() {
        for (line, kind) in [
            ("commonhold volume create", ErrorKind::MissingRequiredArgument),
            ("commonhold volume create v --size ten", ErrorKind::ValueValidation),
            ("commonhold volume resize v 18446744073709551616", ErrorKind::ValueValidation),
            ("commonhold volume create v --metadata a", ErrorKind::ValueValidation),
            ("commonhold volume create v --image a --from-volume b", ErrorKind::ArgumentConflict),
            ("commonhold volume create v --image-format raw", ErrorKind::MissingRequiredArgument),
            ("commonhold attachment create v", ErrorKind::MissingRequiredArgument),
            ("commonhold attachment create v --host h --mode wo", ErrorKind::InvalidValue),
            ("commonhold event list --limit 0", ErrorKind::ValueValidation),
            ("commonhold event list --all --limit 5", ErrorKind::ArgumentConflict),
            ("commonhold event list --since yesterday", ErrorKind::ValueValidation),
            ("commonhold token create --expires-in soon", ErrorKind::ValueValidation),
            ("commonhold volume list --output xml", ErrorKind::InvalidValue),
            ("commonhold volumes", ErrorKind::InvalidSubcommand),
            ("commonhold guard hold --device /dev/sdb", ErrorKind::MissingRequiredArgument),
            ("commonhold guard hold --device d --writer iqn -- c", ErrorKind::ValueValidation),
        ] {
            let error = parse(line).err().map(|error| error.kind());
            assert_eq!(error, Some(kind), "{line}");
        }
    }
}
