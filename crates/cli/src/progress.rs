//! Waiting for work that goes on after its request was answered, with a bar for who watches.

use std::time::{Duration, Instant};

use api::operation::Operation;
use api::{ApiError, Client};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::failure::Failure;

/// The first pause between two looks, and the longest.
const PAUSE_MIN: Duration = Duration::from_millis(30);
const PAUSE_MAX: Duration = Duration::from_millis(1000);

const BYTES: &str =
    "{msg} [{wide_bar}] {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}";

/// A bar on standard error; draws nothing where that is no terminal.
pub(crate) struct Bar {
    bar: ProgressBar,
    pause: Duration,
}

impl Bar {
    pub(crate) fn new(message: String) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        bar.set_style(ProgressStyle::default_spinner());
        bar.set_message(message);
        Self { bar, pause: PAUSE_MIN }
    }

    /// Sleep, longer each time.
    pub(crate) async fn pause(&mut self) {
        self.bar.tick();
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 3 / 2).min(PAUSE_MAX);
    }

    /// For bytes that pass through here; of so many, where that is known.
    pub(crate) fn of_bytes(message: String, total: Option<u64>) -> Self {
        let bar = Self::new(message);
        if let Some(total) = total {
            bar.bar.set_length(total);
        }
        bar.styled(
            total.map_or("{spinner} {msg} {binary_bytes} {binary_bytes_per_sec}", |_| BYTES),
        );
        bar
    }

    /// So many more bytes have passed.
    pub(crate) fn passed(&self, bytes: usize) {
        self.bar.inc(bytes as u64);
    }

    fn styled(&self, template: &str) {
        // A template that is wrong would be our own bug; the default bar then serves.
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style);
        }
    }

    /// Show how far the work is.
    fn show(&self, operation: &Operation) {
        let Some(progress) = operation.progress else {
            return;
        };
        if self.bar.length() != Some(progress.total_bytes) {
            self.bar.set_length(progress.total_bytes);
            self.styled(BYTES);
        }
        self.bar.set_position(progress.done_bytes);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Is a status word one of those that end by themselves (`creating`, `attaching`, ...)?
pub(crate) fn is_passing(status: &str) -> bool {
    status.ends_with("ing")
}

/// Wait for an operation's end, whatever it is.
async fn ended(client: &Client, mut seen: Operation) -> Result<Operation, Failure> {
    let id = seen.id.to_string();
    let mut bar = Bar::new(seen.kind.clone());
    while !seen.finished {
        bar.show(&seen);
        bar.pause().await;
        seen = client.operation_show(&id).await?;
    }
    Ok(seen)
}

/// How long a daemon that is replaced may not answer.
const SILENCE_MAX: Duration = Duration::from_secs(120);

/// The same for one in which the service itself falls silent for a while.
pub(crate) async fn through_silence(
    client: &Client,
    mut seen: Operation,
) -> Result<Operation, Failure> {
    let id = seen.id.to_string();
    let mut bar = Bar::new(seen.kind.clone());
    let mut heard = Instant::now();
    while !seen.finished {
        bar.pause().await;
        match client.operation_show(&id).await {
            Ok(now) => (seen, heard) = (now, Instant::now()),
            Err(error) if matches!(error.status, None | Some(502..=504)) => {
                if heard.elapsed() > SILENCE_MAX {
                    return Err(error.into());
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    outcome(seen)
}

/// Wait for an operation's end; its failure is ours.
pub(crate) async fn operation(client: &Client, id: &str) -> Result<Operation, Failure> {
    outcome(ended(client, client.operation_show(id).await?).await?)
}

fn outcome(seen: Operation) -> Result<Operation, Failure> {
    match (seen.state.as_str(), &seen.fault) {
        ("succeeded", _) => Ok(seen),
        (state, None) => Err(Failure::work(format!("the {} {state}", seen.kind))),
        (state, Some(why)) => {
            let failure = Failure::work(format!("the {} {state}: {why}", seen.kind));
            Err(match (failure, seen.hint) {
                (Failure::Work { message, .. }, Some(hint)) => Failure::Work { message, hint },
                (failure, _) => failure,
            })
        }
    }
}

/// Wait until an operation that was asked to stop has; any other end is our failure.
pub(crate) async fn stopped(client: &Client, seen: Operation) -> Result<Operation, Failure> {
    let seen = ended(client, seen).await?;
    if seen.state == "cancelled" {
        return Ok(seen);
    }
    Err(Failure::work(format!("the {} {} before it could be stopped", seen.kind, seen.state)))
}

/// Show how far the operation behind a volume is; one that cannot be seen is no failure of the
/// work itself.
pub(crate) async fn follow(client: &Client, bar: &Bar, id: &str) {
    if let Ok(seen) = client.operation_show(id).await {
        bar.show(&seen);
    }
}

/// Look until it is gone, or no longer on its way to be. `look` gives the status word.
pub(crate) async fn gone<F>(what: &str, look: impl Fn() -> F) -> Result<(), Failure>
where
    F: Future<Output = Result<(String, Option<String>), ApiError>>,
{
    let mut bar = Bar::new(format!("{what} is going"));
    loop {
        match look().await {
            Err(error) if error.status == Some(404) => return Ok(()),
            Err(error) => return Err(error.into()),
            Ok((status, why)) if !is_passing(&status) => {
                let why = why.unwrap_or_else(|| format!("it is {status}"));
                return Err(Failure::work(format!("{what} is still there: {why}")));
            }
            Ok(_) => bar.pause().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_end_by_themselves_are_told_from_those_that_stay() {
        for word in ["creating", "attaching", "detaching", "deleting", "reverting", "fencing"] {
            assert!(is_passing(word), "{word}");
        }
        for word in ["available", "in-use", "attached", "error", "succeeded"] {
            assert!(!is_passing(word), "{word}");
        }
    }
}
