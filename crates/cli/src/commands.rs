//! One file per resource: its verbs, and what they print.
//!
//! Every verb is one call of the client, a wait where one was asked for, and one thing printed.

pub(crate) mod attachment;
mod backup;
pub(crate) mod event;
pub(crate) mod export;
pub(crate) mod group;
pub(crate) mod host;
pub(crate) mod network;
pub(crate) mod node;
pub(crate) mod operation;
pub(crate) mod pool;
pub(crate) mod project;
pub(crate) mod reference;
pub(crate) mod reservation;
pub(crate) mod schedule;
pub(crate) mod snapshot;
pub(crate) mod token;
pub(crate) mod user;
pub(crate) mod volume;
pub(crate) mod volume_type;

use std::collections::BTreeMap;

use api::{Client, ListQuery};

use crate::failure::Failure;
use crate::output::{self, Format, Listed};

/// What every verb needs.
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) format: Format,
    /// Wait for work that goes on after the request was answered?
    pub(crate) wait: bool,
}

impl Context {
    /// The whole list.
    async fn list<Q: ListQuery>(&self, query: &Q) -> Result<(), Failure>
    where
        Q::Item: Listed,
    {
        output::list(self.format, &self.client.every(query).await?)
    }

    fn show(&self, item: &impl serde::Serialize) -> Result<(), Failure> {
        output::show(self.format, item)
    }
}

/// Free key and value pairs, `--metadata key=value`.
#[derive(clap::Args, Debug, Default)]
pub(crate) struct MetadataArguments {
    /// A free pair kept with it; may be given several times
    #[arg(long = "metadata", visible_alias = "label", value_name = "KEY=VALUE", value_parser = pair)]
    pairs: Vec<(String, String)>,
}

impl MetadataArguments {
    fn all(self) -> BTreeMap<String, String> {
        self.pairs.into_iter().collect()
    }

    /// For updates: nothing given is nothing changed.
    fn given(self) -> Option<BTreeMap<String, String>> {
        (!self.pairs.is_empty()).then(|| self.all())
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write it as KEY=VALUE".to_owned()),
    }
}

/// A size as the service reads it.
fn size(text: &str) -> Result<api::Size, model::size::SizeError> {
    text.parse().map(api::Size)
}
