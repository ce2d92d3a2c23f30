//! The native contract: what the REST door takes and gives, and the typed client that speaks it.
//!
//! Entry points: [`Client`], and one module per resource with its parameters and its view. The
//! same types are the OpenAPI document's schemas.
//!
//! Invariant: nothing is decided here. Parameters refuse unknown fields, so that a misspelt word
//! is an error and never a silent default; views hold no secret except in the answers that hand
//! one out once ([`token::CreatedToken`], [`attachment::CreatedAttachment`],
//! [`agent::CreatedAgent`]) or to the one who needs it ([`agent::Assignments`]).

pub mod agent;
pub mod attachment;
mod client;
pub mod error;
pub mod event;
pub mod export;
pub mod group;
pub mod host;
pub mod network;
pub mod node;
pub mod operation;
pub mod page;
pub mod pool;
pub mod project;
pub mod reference;
pub mod reservation;
pub mod schedule;
mod size;
pub mod snapshot;
pub mod token;
pub mod user;
pub mod volume;
pub mod volume_type;

pub use client::{Body, Client, Download, PROJECT_HEADER, REQUEST_ID_HEADER};
pub use error::{ApiError, ErrorBody, ErrorDetail};
pub use page::{ListQuery, Page};
pub use size::Size;

/// The moment so many milliseconds after the Unix epoch; the last one that can be written when
/// the number lies beyond it.
#[must_use]
pub fn timestamp_ms(milliseconds: u64) -> jiff::Timestamp {
    i64::try_from(milliseconds)
        .ok()
        .and_then(|milliseconds| jiff::Timestamp::from_millisecond(milliseconds).ok())
        .unwrap_or(jiff::Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use model::attachment::AttachmentState;
    use model::operation::OperationState;
    use model::pool::PoolState;
    use model::snapshot::SnapshotState;
    use utoipa::PartialSchema;

    use super::*;

    /// The schema's words are the words that the model says, so that the document tells the truth.
    fn same<S: PartialSchema>(mut words: Vec<&str>) {
        let schema = serde_json::to_value(S::schema()).unwrap();
        let mut documented: Vec<&str> =
            schema["enum"].as_array().unwrap().iter().filter_map(|word| word.as_str()).collect();
        words.sort_unstable();
        words.dedup();
        documented.sort_unstable();
        assert_eq!(documented, words);
    }

    #[test]
    fn documented_states_are_the_models() {
        let both = |moves: &[(&'static str, &'static str)]| -> Vec<&'static str> {
            moves.iter().flat_map(|(from, to)| [*from, *to]).collect()
        };
        same::<volume::VolumeStatus>(both(model::volume::MOVES));
        let words = |moves: &[(AttachmentState, AttachmentState)]| -> Vec<&'static str> {
            moves.iter().flat_map(|(from, to)| [from.word(), to.word()]).collect()
        };
        same::<attachment::AttachmentState>(words(model::attachment::MOVES));
        let words = |moves: &[(SnapshotState, SnapshotState)]| -> Vec<&'static str> {
            moves.iter().flat_map(|(from, to)| [from.word(), to.word()]).collect()
        };
        same::<snapshot::SnapshotState>(words(model::snapshot::MOVES));
        let words = |moves: &[(PoolState, PoolState)]| -> Vec<&'static str> {
            moves.iter().flat_map(|(from, to)| [from.word(), to.word()]).collect()
        };
        same::<pool::PoolState>(words(model::pool::MOVES));
        let words = |moves: &[(OperationState, OperationState)]| -> Vec<&'static str> {
            moves.iter().flat_map(|(from, to)| [from.word(), to.word()]).collect()
        };
        same::<operation::OperationState>(words(model::operation::MOVES));
        same::<group::GroupStateWord>(model::group::GroupState::ALL.map(|one| one.word()).to_vec());
        same::<group::StandingWord>(model::group::Standing::ALL.map(|one| one.word()).to_vec());
    }

    #[test]
    fn times_beyond_the_calendar_do_not_panic() {
        assert_eq!(timestamp_ms(0), jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(timestamp_ms(u64::MAX), jiff::Timestamp::MAX);
    }
}
