//! Exports: how file volumes are handed out over NFS, and to whom.

use api::attachment::Mode;
use api::export::{AccessRule, Durability, Squash, UpdateExport};
use clap::{Subcommand, ValueEnum};
use model::export::NOBODY;

use super::Context;
use crate::failure::Failure;

#[derive(Subcommand, Debug)]
pub(crate) enum ExportCommand {
    /// Who may mount a file volume, and as whom
    #[command(visible_alias = "get")]
    Show { volume: String },
    /// Change that while clients have it mounted; it counts at once
    Update {
        volume: String,
        /// Another network
        #[arg(long)]
        network: Option<String>,
        #[command(flatten)]
        rules: RuleArguments,
        #[arg(long)]
        durability: Option<DurabilityName>,
    },
}

/// Access rules, `--access RULE`.
#[derive(clap::Args, Debug, Default)]
pub(crate) struct RuleArguments {
    /// CLIENT[,rw|ro][,squash=none|root|all][,anon=UID:GID]; may be given several times, and the
    /// first that speaks of a client counts. CLIENT is * (all of the volume's network), an address,
    /// a CIDR, or the name of a host or a network. Takes the place of all rules
    #[arg(long = "access", value_name = "RULE", value_parser = rule)]
    rules: Vec<AccessRule>,
}

impl RuleArguments {
    /// Nothing given is nothing changed.
    pub(crate) fn given(self) -> Option<Vec<AccessRule>> {
        (!self.rules.is_empty()).then_some(self.rules)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DurabilityName {
    /// What was answered survives power loss
    Strict,
    /// Power loss may take the last seconds
    Relaxed,
}

impl From<DurabilityName> for Durability {
    fn from(name: DurabilityName) -> Self {
        match name {
            DurabilityName::Strict => Self::Strict,
            DurabilityName::Relaxed => Self::Relaxed,
        }
    }
}

fn rule(text: &str) -> Result<AccessRule, String> {
    let mut words = text.split(',').map(str::trim);
    let client = words.next().filter(|client| !client.is_empty());
    let mut rule = AccessRule {
        client: client.ok_or("it names no client; * is every one")?.to_owned(),
        mode: Mode::ReadWrite,
        squash: Squash::Root,
        anonymous_uid: NOBODY,
        anonymous_gid: NOBODY,
    };
    for word in words {
        match word.split_once('=') {
            None if word == "rw" => rule.mode = Mode::ReadWrite,
            None if word == "ro" => rule.mode = Mode::ReadOnly,
            Some(("squash", "none")) => rule.squash = Squash::None,
            Some(("squash", "root")) => rule.squash = Squash::Root,
            Some(("squash", "all")) => rule.squash = Squash::All,
            Some(("anon", ids)) => {
                let pair = ids.split_once(':').unwrap_or((ids, ids));
                let number = |id: &str| {
                    id.parse().map_err(|_| format!("'{ids}' is not UID:GID, such as 1000:1000"))
                };
                rule.anonymous_uid = number(pair.0)?;
                rule.anonymous_gid = number(pair.1)?;
            }
            _ => {
                return Err(format!(
                    "'{word}' is none of rw, ro, squash=none, squash=root, squash=all, anon=UID:GID"
                ));
            }
        }
    }
    Ok(rule)
}

impl ExportCommand {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = &context.client;
        match self {
            Self::Show { volume } => context.show(&client.export_show(&volume).await?),
            Self::Update { volume, network, rules, durability } => {
                let durability = durability.map(Into::into);
                let body = UpdateExport { network, access: rules.given(), durability };
                context.show(&client.export_update(&volume, &body).await?)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_a_client_and_words() {
        let usual = rule("*").unwrap();
        assert_eq!((usual.mode, usual.squash), (Mode::ReadWrite, Squash::Root));
        assert_eq!((usual.anonymous_uid, usual.anonymous_gid), (NOBODY, NOBODY));
        let other = rule("fd00::/8, ro,squash=all,anon=33:34").unwrap();
        assert_eq!(other.client, "fd00::/8");
        assert_eq!((other.mode, other.squash), (Mode::ReadOnly, Squash::All));
        assert_eq!((other.anonymous_uid, other.anonymous_gid), (33, 34));
        assert_eq!(rule("web,anon=7").unwrap().anonymous_gid, 7);
        for bad in ["", ",ro", "*,wo", "*,squash=some", "*,anon=a:b", "*,anon="] {
            assert!(rule(bad).is_err(), "{bad}");
        }
    }
}
