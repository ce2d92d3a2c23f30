//! The log of what runs for long, on standard error.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use crate::failure::Failure;
use crate::settings::LogFormat;

/// `levels`: a level such as info, or levels per part.
pub(crate) fn start(levels: &str, format: LogFormat) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(levels).map_err(|why| Failure::Usage {
        message: format!("'{levels}' does not say what to log: {why}"),
        hint: "Write a level such as info, or levels per part: node=debug,info.".into(),
    })?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    // Colours are for a person at a terminal, not for a file.
    let log = log.with_ansi(io::stderr().is_terminal());
    let started = match format {
        LogFormat::Json => log.json().try_init(),
        LogFormat::Text => log.try_init(),
    };
    started.map_err(|why| Failure::Serve { message: format!("no log: {why}"), hint: None })
}
