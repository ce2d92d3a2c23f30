//! Persistent reservations of a volume, as its owner and the operator see them.

use api::reservation::{Registrant, Reservations};

use super::Context;
use crate::failure::Failure;
use crate::output::{self, Column, Format, Listed, moment, note, or_dash};

impl Listed for Registrant {
    const WORD: &'static str = "registrants";
    const COLUMNS: &'static [Column<Self>] = &[
        ("host", |registrant| or_dash(registrant.host_name.as_ref())),
        ("holder", |registrant| if registrant.holder { "yes" } else { "no" }.to_owned()),
        ("key", |registrant| registrant.key.clone()),
        ("last command", |registrant| {
            registrant.last_command_age_ms.map_or_else(|| "-".to_owned(), age)
        }),
        ("session", |registrant| if registrant.session { "yes" } else { "no" }.to_owned()),
        ("isid", |registrant| registrant.isid.clone()),
        ("iqn", |registrant| registrant.iqn.clone()),
    ];
}

/// How long ago, to one digit after the point.
fn age(milliseconds: u64) -> String {
    let (seconds, tenth) = (milliseconds / 1000, milliseconds % 1000 / 100);
    match seconds {
        0..60 => format!("{seconds}.{tenth} s ago"),
        60..3600 => format!("{} min ago", seconds / 60),
        _ => format!("{} h ago", seconds / 3600),
    }
}

/// What stands above the registrants.
fn summary(reservations: &Reservations) -> String {
    let kind = match (&reservations.reservation_type, reservations.type_code) {
        (Some(kind), Some(code)) => format!("{kind} (type {code})"),
        (Some(kind), None) => kind.clone(),
        (None, _) => "none".to_owned(),
    };
    let lost = if reservations.lost { "\nstate        lost: replace or clear it" } else { "" };
    let kept = if reservations.persist_through_power_loss { "yes" } else { "no" };
    format!(
        "reservation  {kind}\ngeneration   {}\npower loss   kept: {kept}{lost}\n",
        reservations.generation
    )
}

fn history(reservations: &Reservations) -> String {
    let line = |change: &api::reservation::ReservationChange| {
        format!("{}  {}  {}: {}\n", moment(&change.at), change.action, change.by, change.what)
    };
    reservations.history.iter().map(line).collect()
}

/// `volume reservations`.
pub(super) async fn show(context: &Context, volume: &str) -> Result<(), Failure> {
    let reservations = context.client.volume_reservations(volume).await?;
    match context.format {
        Format::Json => context.show(&reservations),
        Format::Plain => output::list(context.format, &reservations.registrants),
        Format::Table => {
            output::write(&(summary(&reservations) + "\n"))?;
            output::list(context.format, &reservations.registrants)?;
            if reservations.history.is_empty() {
                return Ok(());
            }
            output::write(&format!("\nhistory, newest first\n{}", history(&reservations)))
        }
    }
}

/// `volume clear-reservations`.
pub(super) async fn clear(context: &Context, volume: &str) -> Result<(), Failure> {
    context.client.volume_reservations_clear(volume).await?;
    note(&format!("Cleared all reservations and registrations of {volume}."));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_and_the_summary_read_like_sentences() {
        assert_eq!(age(1_250), "1.2 s ago");
        assert_eq!(age(125_000), "2 min ago");
        assert_eq!(age(7_200_000), "2 h ago");
        let none = summary(&Reservations::default());
        assert!(none.starts_with("reservation  none\ngeneration   0\n"), "{none}");
        let held = summary(&Reservations {
            reservation_type: Some("Write Exclusive - Registrants Only".into()),
            type_code: Some(5),
            lost: true,
            ..Reservations::default()
        });
        assert!(held.contains("Registrants Only (type 5)") && held.contains("lost"), "{held}");
    }
}
