//! No secret is in a list, a log or a metric: only in the answer that hands it out.

use std::io::Write;
use std::sync::{Arc, Mutex};

use api::attachment::CreateAttachments;
use api::token::CreateToken;
use tracing_subscriber::fmt::MakeWriter;

use crate::verbs::host;
use crate::world::{World, volume};

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;
    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_shown_once_and_never_logged() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(log.clone())
        .finish();
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let world = World::start().await;
    let admin = &world.admin;
    let made = admin.token_create(&CreateToken::default()).await.unwrap();
    volume(admin, "v", "ssd").await;
    host(admin, "h").await;
    let attach =
        CreateAttachments { volume: "v".into(), hosts: vec!["h".into()], ..Default::default() };
    let attached = admin.attachment_create(&attach).await.unwrap();
    let credentials = attached.attachments[0].credentials.clone().unwrap();
    assert!(!format!("{attached:?} {made:?} {admin:?}").contains(&credentials.secret));
    // The same request again finds the attachment, and does not tell the secret again.
    let again = admin.attachment_create(&attach).await.unwrap();
    assert!(again.attachments[0].credentials.is_none());
    // A token in the wrong place is an error whose text does not repeat it.
    let misplaced = world.raw("GET", &format!("/v1/volumes?token={}", made.secret), None).await;
    assert_eq!(misplaced.status, 400);

    let secrets = [&world.token, &made.secret, &credentials.secret, &credentials.target_secret];
    let id = attached.attachments[0].attachment.id;
    let mut texts = vec![admin.metrics().await.unwrap()];
    for list in [
        "projects",
        "users",
        "tokens",
        "volume-types",
        "pools",
        "volumes",
        "snapshots",
        "hosts",
        "attachments",
        "operations",
        "events",
    ] {
        let raw = world.raw("GET", &format!("/v1/{list}"), None).await;
        assert_eq!(
            (raw.status, &raw.headers["cache-control"]),
            (200, &"no-store".parse().unwrap())
        );
        texts.push(raw.body.to_string());
    }
    texts.push(world.raw("GET", &format!("/v1/attachments/{id}"), None).await.body.to_string());
    texts.push(String::from_utf8_lossy(&log.0.lock().unwrap()).into_owned());
    assert!(texts.last().unwrap().contains("answered"), "the log is not empty");
    for text in &texts {
        for secret in secrets {
            assert!(!text.contains(secret.as_str()), "a secret is in {text}");
        }
    }
}
