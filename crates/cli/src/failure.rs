//! What stops a command: a sentence, a hint, and the exit code.

use std::process::ExitCode;

use api::ApiError;

use crate::config::ConfigError;

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The service refused, or could not be asked.
    #[error("{0}")]
    Api(#[from] ApiError),
    /// A setting is missing or unreadable.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// The arguments do not go together.
    #[error("{message}")]
    Usage { message: String, hint: String },
    /// The service took the request, and the work failed afterwards.
    #[error("{message}")]
    Work { message: String, hint: String },
    /// A guard's volume is not, or no longer, this host's; with an exit code of its own.
    #[error("{message}")]
    Guard { message: String, hint: String, code: u8 },
    /// A file or the terminal failed.
    #[error("{what}: {why}")]
    Io { what: String, why: std::io::Error },
    /// The daemon could not start or had to stop.
    #[error("{message}")]
    Serve { message: String, hint: Option<String> },
}

/// Exit codes, as `commonhold help` lists them.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  it failed
  2  the request makes no sense (usage, or refused as invalid)
  3  no such resource
  4  refused because of the state that something is in (conflict)
  5  not allowed (no token, a wrong one, or not enough rights)
  6  the service does not answer";

impl Failure {
    /// Work that ended badly; by far most often the events tell the whole story.
    pub(crate) fn work(message: String) -> Self {
        Self::Work { message, hint: "`event list` tells what happened.".to_owned() }
    }

    /// The process's exit code.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Api(error) => match error.status {
                None if error.is(ApiError::BAD_ADDRESS) => 2,
                None if error.is(ApiError::UNREADABLE) => 1,
                None => 6,
                Some(400 | 413 | 415 | 422) => 2,
                Some(401 | 403) => 5,
                Some(404 | 410) => 3,
                Some(409 | 412 | 423) => 4,
                Some(502..=504) => 6,
                Some(_) => 1,
            },
            Self::Config(_) | Self::Usage { .. } => 2,
            Self::Guard { code, .. } => *code,
            Self::Work { .. } | Self::Io { .. } | Self::Serve { .. } => 1,
        }
    }

    /// What to do next.
    fn hint(&self) -> Option<&str> {
        match self {
            Self::Api(error) if error.status == Some(401) => error.hint.as_deref().or(Some(
                "Give a token with --token, COMMONHOLD_TOKEN or the client's configuration file.",
            )),
            Self::Api(error) => error.hint.as_deref(),
            Self::Config(error) => Some(error.hint()),
            Self::Usage { hint, .. } | Self::Work { hint, .. } | Self::Guard { hint, .. } => {
                Some(hint)
            }
            Self::Serve { hint, .. } => hint.as_deref(),
            Self::Io { .. } => None,
        }
    }

    /// The lines for the terminal.
    pub(crate) fn report(&self) -> String {
        let mut text = format!("error: {self}\n");
        if let Some(hint) = self.hint() {
            text.push_str(&format!("hint: {hint}\n"));
        }
        if let Self::Api(ApiError { request_id: Some(id), status: Some(500..), .. }) = self {
            text.push_str(&format!("The service's log has more under request {id}.\n"));
        }
        text
    }
}

/// Print the failure and give the exit code.
pub(crate) fn end(failure: &Failure) -> ExitCode {
    use std::io::Write;
    // Nothing is left to do when even the terminal is gone.
    let _ = std::io::stderr().write_all(failure.report().as_bytes());
    ExitCode::from(failure.exit_code())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: Option<u16>, code: &str, hint: Option<&str>) -> Failure {
        Failure::Api(ApiError {
            status,
            code: code.into(),
            message: "no volume is called 'x'".into(),
            hint: hint.map(str::to_owned),
            details: None,
            request_id: Some("7".into()),
        })
    }

    #[test]
    fn each_kind_of_refusal_has_its_exit_code() {
        let rows = [
            (Some(400), 2),
            (Some(401), 5),
            (Some(403), 5),
            (Some(404), 3),
            (Some(409), 4),
            (Some(422), 2),
            (Some(500), 1),
            (Some(503), 6),
            (None, 6),
        ];
        for (status, code) in rows {
            assert_eq!(refused(status, "code", None).exit_code(), code, "{status:?}");
        }
        assert_eq!(refused(None, ApiError::BAD_ADDRESS, None).exit_code(), 2);
        assert_eq!(Failure::work("the import failed".into()).exit_code(), 1);
    }

    #[test]
    fn a_report_is_an_error_and_a_hint() {
        let report = refused(Some(404), "not_found", Some("List them.")).report();
        assert_eq!(report, "error: no volume is called 'x'\nhint: List them.\n");
        assert!(refused(Some(401), "unauthorized", None).report().contains("COMMONHOLD_TOKEN"));
        assert!(refused(Some(500), "internal", None).report().contains("request 7"));
    }
}
