//! API tokens: the secret is printed once, when the token is made.

use api::token::{CreateToken, Token, TokenQuery, UpdateToken};
use clap::Subcommand;

use super::Context;
use crate::failure::Failure;
use crate::output::{self, Column, Format, Listed, moment, note, or_dash};

#[derive(Subcommand, Debug)]
pub(crate) enum TokenCommand {
    /// Make a token; its secret is shown this once
    Create {
        /// Whose token; your own when left out
        #[arg(long)]
        user: Option<String>,
        /// What it is for
        #[arg(long)]
        description: Option<String>,
        /// How long it is good for, such as 12h or 30d; for ever when left out
        #[arg(long, value_name = "TIME", value_parser = seconds)]
        expires_in: Option<u64>,
    },
    /// All tokens that you may see, without their secrets
    List,
    /// One token, without its secret
    #[command(visible_alias = "get")]
    Show { token: String },
    /// Change what a token is for, or when it ends; its secret stays
    Update {
        token: String,
        #[arg(long)]
        description: Option<String>,
        /// How long it is good for from now on, such as 12h or 30d
        #[arg(long, value_name = "TIME", value_parser = seconds)]
        expires_in: Option<u64>,
    },
    /// Revoke tokens: they are refused from then on
    Delete {
        #[arg(required = true)]
        tokens: Vec<String>,
    },
}

/// A time span as people write it: a number with s, m, h or d.
fn seconds(text: &str) -> Result<u64, String> {
    let wrong = || "write a number and a unit: 90s, 30m, 12h or 30d".to_owned();
    let unit = text.chars().next_back().ok_or_else(wrong)?;
    let number: u64 = text[..text.len() - unit.len_utf8()].parse().map_err(|_| wrong())?;
    let factor = match unit {
        's' => 1,
        'm' => 60,
        'h' => 60 * 60,
        'd' => 24 * 60 * 60,
        _ => return Err(wrong()),
    };
    number.checked_mul(factor).filter(|seconds| *seconds > 0).ok_or_else(wrong)
}

impl Listed for Token {
    const WORD: &'static str = "tokens";
    const COLUMNS: &'static [Column<Self>] = &[
        ("id", |token| token.id.to_string()),
        ("user id", |token| token.user_id.to_string()),
        ("description", |token| token.description.clone()),
        ("created", |token| moment(&token.created_at)),
        ("expires", |token| or_dash(token.expires_at.as_ref().map(moment))),
        ("revoked", |token| if token.revoked { "yes" } else { "no" }.to_owned()),
    ];
}

impl TokenCommand {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let client = &context.client;
        match self {
            Self::Create { user, description, expires_in } => {
                let body = CreateToken { user, description, expires_in_seconds: expires_in };
                let created = client.token_create(&body).await?;
                if context.format == Format::Json {
                    return context.show(&created);
                }
                context.show(&created.token)?;
                note("The token's secret follows; it is not shown again.");
                output::write(&format!("{}\n", created.secret))
            }
            Self::List => context.list(&TokenQuery::default()).await,
            Self::Show { token } => context.show(&client.token_show(&token).await?),
            Self::Update { token, description, expires_in } => {
                let body = UpdateToken { description, expires_in_seconds: expires_in };
                context.show(&client.token_update(&token, &body).await?)
            }
            Self::Delete { tokens } => {
                for token in tokens {
                    client.token_delete(&token).await?;
                    note(&format!("Revoked the token {token}."));
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_spans_need_a_number_and_a_unit() {
        assert_eq!(seconds("90s"), Ok(90));
        assert_eq!(seconds("30d"), Ok(30 * 86_400));
        for text in ["", "d", "30", "-1d", "1w", "0s", "99999999999999999999d", "3é"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
