//! One running service, and clients of it.

use std::sync::Arc;
use std::time::Duration;

use api::project::CreateProject;
use api::token::CreateToken;
use api::user::{CreateUser, Role};
use api::volume::{CreateVolume, Volume};
use api::{ApiError, Client, Size};
use control::{Control, PoolCreate, Settings};
use env::{OsRandom, RealClock};
use model::order::IoMode;
use model::pool::Driver;
use model::size::ByteSize;
use serde_json::Value;
use server::MetricsSource;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::fake_node::FakeNode;

/// Few places, so that a test can take them all.
pub(crate) const CONNECTIONS: usize = 200;
const LIMITS: server::Limits = server::Limits { connections: CONNECTIONS, descriptors: u64::MAX };

struct NodeMetrics;

impl MetricsSource for NodeMetrics {
    fn metrics(&self) -> String {
        "# TYPE commonhold_sessions gauge\ncommonhold_sessions 2\n# EOF\n".to_owned()
    }
}

pub(crate) struct World {
    pub(crate) address: String,
    pub(crate) token: String,
    pub(crate) admin: Client,
    pub(crate) node: Arc<FakeNode>,
    pub(crate) http: reqwest::Client,
    stop: oneshot::Sender<()>,
    served: JoinHandle<()>,
    _dir: TempDir,
}

/// A raw answer: status, body as JSON (or `null`), headers.
pub(crate) struct Raw {
    pub(crate) status: u16,
    pub(crate) body: Value,
    pub(crate) headers: reqwest::header::HeaderMap,
}

impl World {
    pub(crate) async fn start() -> Self {
        let dir = TempDir::new().unwrap();
        let node = Arc::new(FakeNode::default());
        let local = Some(node.clone() as Arc<dyn control::NodeLink>);
        let links = control::NodeLinks { local, doors: None };
        let clock = Arc::new(RealClock::default());
        let settings = Settings::below(dir.path());
        let (control, token) =
            Control::open(settings, links, clock, Arc::new(OsRandom)).await.unwrap();
        let token = token.unwrap();
        let operator = control.authenticate(&token, "").await.unwrap();
        for (class, driver) in
            [("ssd", Driver::Local), ("hdd", Driver::Local), ("file", Driver::Dir)]
        {
            let pool = PoolCreate {
                node: None,
                name: format!("local-{class}"),
                class: class.to_owned(),
                path: format!("/pools/{class}"),
                driver,
                io: IoMode::Cached,
                capacity: None,
            };
            control.pool_ensure(&operator, pool).await.unwrap();
        }
        control.reconcile().await.unwrap();
        control.start();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel();
        let served =
            tokio::spawn(server::serve(listener, LIMITS, control, Arc::new(NodeMetrics), async {
                let _ = stopped.await;
            }));
        let admin = Client::new(&address, Some(token.clone())).unwrap();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { address, token, admin, node, http, stop, served, _dir: dir }
    }

    /// Stop the service; it must end by itself.
    pub(crate) async fn stop(self) {
        drop(self.admin);
        self.stop.send(()).unwrap();
        tokio::time::timeout(Duration::from_secs(25), self.served).await.unwrap().unwrap();
    }

    pub(crate) async fn project(&self, name: &str) {
        let new = CreateProject { name: name.to_owned(), ..CreateProject::default() };
        self.admin.project_create(&new).await.unwrap();
    }

    /// A client of a new user in the project.
    pub(crate) async fn user(&self, project: &str, role: Role) -> Client {
        let name = format!("{project}-{role:?}");
        let new = CreateUser { name: name.clone(), project: project.to_owned(), role };
        self.admin.user_create(&new).await.unwrap();
        let new = CreateToken { user: Some(name), ..CreateToken::default() };
        let made = self.admin.token_create(&new).await.unwrap();
        Client::new(&self.address, Some(made.secret)).unwrap()
    }

    /// A request as bytes, with the admin's token.
    pub(crate) async fn raw(&self, method: &str, path: &str, body: Option<&str>) -> Raw {
        let mut request = self.request(method, path).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_owned());
        }
        answer(request).await
    }

    pub(crate) fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        self.http.request(method, format!("{}{path}", self.address))
    }
}

pub(crate) async fn answer(request: reqwest::RequestBuilder) -> Raw {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let headers = response.headers().clone();
    let bytes = response.bytes().await.unwrap();
    let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
    Raw { status, body, headers }
}

/// The refusal must be this one, and must say what to do next.
pub(crate) fn refused<T: std::fmt::Debug>(result: Result<T, ApiError>, status: u16, code: &str) {
    let error = result.expect_err(code);
    assert_eq!((error.status, error.code.as_str()), (Some(status), code), "{error:?}");
    assert!(!error.message.is_empty());
    assert!(error.hint.is_some_and(|hint| !hint.is_empty()));
    assert!(error.request_id.is_some());
}

pub(crate) fn new_volume(name: &str, volume_type: &str) -> CreateVolume {
    CreateVolume {
        name: name.to_owned(),
        size: Some(Size(ByteSize::gib(1))),
        volume_type: Some(volume_type.to_owned()),
        ..CreateVolume::default()
    }
}

/// Make a volume and wait until it is there.
pub(crate) async fn volume(client: &Client, name: &str, volume_type: &str) -> Volume {
    let made = client.volume_create(&new_volume(name, volume_type)).await.unwrap();
    settled(client, &made, "available").await
}

pub(crate) async fn settled(client: &Client, volume: &Volume, status: &str) -> Volume {
    let id = volume.id.to_string();
    eventually(status, async || {
        let now = client.volume_show(&id).await.unwrap();
        (now.status == status).then_some(now)
    })
    .await
}

/// Ask until there is an answer; twenty seconds at the most.
pub(crate) async fn eventually<T>(what: &str, ask: impl AsyncFn() -> Option<T>) -> T {
    for _ in 0..1000 {
        if let Some(answer) = ask().await {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("never came true: {what}");
}
