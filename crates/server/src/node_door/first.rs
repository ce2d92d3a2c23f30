//! The first contact: what stands at an address that an operator has typed.
//!
//! Anything may: another server, a control plane, nothing. What is found is said, because the
//! operator has to find the mistake with it.

use api::ErrorBody;
use control::NotAdopted;
use reqwest::{Response, StatusCode, header};
use uuid::Uuid;

use super::far::root_cause;
use super::wire::{Adopted, Turned};

/// The most that is read of an answer that may be anybody's.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Why no answer came.
pub(super) fn unheard(error: &reqwest::Error) -> NotAdopted {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(one) = cause {
        if let Some(http) = one.downcast_ref::<hyper::Error>()
            && (http.is_parse() || http.is_incomplete_message())
        {
            let found = format!(
                "it does not speak HTTP, or it does so behind TLS, and a door has none ({http})"
            );
            return NotAdopted::NoNode { found };
        }
        cause = one.source();
    }
    NotAdopted::Silent { why: root_cause(error) }
}

/// What the answer says.
pub(super) async fn heard(mut response: Response) -> Result<Uuid, NotAdopted> {
    let no_node = |found: String| NotAdopted::NoNode { found };
    let refused = |why: String| NotAdopted::Refused { why };
    let status = response.status();
    let asks_for_login = response.headers().contains_key(header::WWW_AUTHENTICATE);
    let target = response.headers().get(header::LOCATION);
    let target = target.and_then(|target| target.to_str().ok()).map(str::to_owned);
    let mut body = Vec::new();
    while let Ok(Some(piece)) = response.chunk().await
        && body.len() <= ANSWER_BYTES_MAX
    {
        body.extend_from_slice(&piece);
    }
    match status {
        StatusCode::OK => match serde_json::from_slice::<Adopted>(&body) {
            Ok(adopted) => Ok(adopted.identity),
            Err(_) => Err(no_node("an HTTP server, which answers something else".to_owned())),
        },
        // A door gives nothing but the status to who has not its secret.
        StatusCode::UNAUTHORIZED if body.is_empty() && !asks_for_login => {
            Err(refused("the secret is not its own".to_owned()))
        }
        StatusCode::CONFLICT => match serde_json::from_slice::<Turned>(&body) {
            Ok(turned) => Err(refused(turned.to_string())),
            Err(_) => Err(no_node("an HTTP server, which says 409 Conflict".to_owned())),
        },
        status if status.is_redirection() => {
            let target = target.unwrap_or_else(|| "elsewhere".to_owned());
            Err(no_node(format!("an HTTP server, which sends on to {target}")))
        }
        status if serde_json::from_slice::<ErrorBody>(&body).is_ok() => Err(no_node(format!(
            "a control plane of Commonhold, or a release of it that has no nodes of other machines \
             ({status})"
        ))),
        status => Err(no_node(format!("an HTTP server, which says {status}"))),
    }
}
