//! The typed client: one method per verb of the contract.
//!
//! Entry point: [`Client::new`]. Requests, answers and errors are the types of this crate.
//!
//! Invariant: the token is sent to the configured address only and never shows up in an error
//! or in `Debug`.

mod verbs;

use std::time::Duration;

use reqwest::{Method, Response, Url, header};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{ApiError, ErrorBody};
use crate::page::{ListQuery, Page};

/// What a request brings along as a stream.
pub use reqwest::Body;

/// Longest wait for a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// Longest wait for an answer: longer than the service's own limit, so that its error arrives.
const ANSWER_LIMIT: Duration = Duration::from_secs(90);

/// The same for a stream of a volume's content.
const STREAM_LIMIT: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The name of the header that chooses another project; for admins.
pub const PROJECT_HEADER: &str = "x-project";
/// The name of the header that carries the id of a request.
pub const REQUEST_ID_HEADER: &str = "x-request-id";

/// A client of one service, with one token. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    token: Option<String>,
    project: Option<String>,
}

/// A stream on its way from the service.
#[derive(Debug)]
pub struct Download {
    response: Response,
    client: Client,
}

impl Download {
    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// The stream broke off.
    pub async fn piece(&mut self) -> Result<Option<bytes::Bytes>, ApiError> {
        self.response.chunk().await.map_err(|error| {
            ApiError::local(
                ApiError::UNREACHABLE,
                format!("{}: the stream broke off: {}", self.client.address(), root_cause(&error)),
                "The log of the service says why; try again.",
            )
        })
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("base", &self.base.as_str())
            .field("project", &self.project)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// A client of the service at `address`, for example `http://127.0.0.1:7700`.
    ///
    /// # Errors
    /// [`ApiError::BAD_ADDRESS`] when the address is not an `http` URL.
    pub fn new(address: &str, token: Option<String>) -> Result<Self, ApiError> {
        let bad_address = |why: &str| {
            ApiError::local(
                ApiError::BAD_ADDRESS,
                format!("'{address}' is not the address of a service: {why}"),
                "Write it like http://127.0.0.1:7700.",
            )
        };
        let base = Url::parse(address).map_err(|error| bad_address(&error.to_string()))?;
        if base.cannot_be_a_base() || base.scheme() != "http" {
            return Err(bad_address("it must start with http://"));
        }
        // A proxy from the environment would get the token, and cannot reach loopback anyway. A
        // redirect could carry the request to another address than the configured one.
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_LIMIT)
            .timeout(ANSWER_LIMIT)
            .user_agent(concat!("commonhold/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| bad_address(&error.to_string()))?;
        Ok(Self { http, base, token, project: None })
    }

    /// The same client, working in this project (name or id). Only admins may choose.
    #[must_use]
    pub fn in_project(mut self, project: Option<String>) -> Self {
        self.project = project;
        self
    }

    /// The address of the service.
    #[must_use]
    pub fn address(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// One page of a list.
    ///
    /// # Errors
    /// What the service refused, or why it could not be asked.
    pub async fn list<Q: ListQuery>(&self, query: &Q) -> Result<Page<Q::Item>, ApiError> {
        let path = query.path();
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let request = self.request(Method::GET, &path)?.query(query);
        self.answer(request).await
    }

    /// The whole list, fetched page by page.
    ///
    /// # Errors
    /// What the service refused, or why it could not be asked.
    pub async fn every<Q: ListQuery>(&self, query: &Q) -> Result<Vec<Q::Item>, ApiError> {
        let mut query = query.clone();
        query.whole_pages();
        let mut items = Vec::new();
        loop {
            let page = self.list(&query).await?;
            items.extend(page.items);
            match page.next {
                Some(marker) => query.set_marker(marker),
                None => return Ok(items),
            }
        }
    }

    async fn get<T: DeserializeOwned>(&self, path: &[&str]) -> Result<T, ApiError> {
        self.answer(self.request(Method::GET, path)?).await
    }

    async fn delete<T: DeserializeOwned>(&self, path: &[&str]) -> Result<T, ApiError> {
        self.answer(self.request(Method::DELETE, path)?).await
    }

    async fn post<T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &(impl Serialize + Sync),
    ) -> Result<T, ApiError> {
        self.answer(self.request(Method::POST, path)?.json(body)).await
    }

    /// A verb without parameters.
    async fn act<T: DeserializeOwned>(&self, path: &[&str]) -> Result<T, ApiError> {
        self.answer(self.request(Method::POST, path)?).await
    }

    async fn patch<T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &(impl Serialize + Sync),
    ) -> Result<T, ApiError> {
        self.answer(self.request(Method::PATCH, path)?.json(body)).await
    }

    /// A request with the token. Names may hold any character: each is one segment, escaped.
    fn request(&self, method: Method, path: &[&str]) -> Result<reqwest::RequestBuilder, ApiError> {
        // A URL normalizes these segments away, and the request would go to another resource.
        if let Some(name) = path.iter().find(|name| matches!(**name, "" | "." | "..")) {
            return Err(ApiError::local(
                ApiError::BAD_ADDRESS,
                format!("'{name}' cannot be the name of a resource"),
                "Give the name or the id of the resource.",
            ));
        }
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        let mut request = self.http.request(method, url);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if let Some(project) = &self.project {
            request = request.header(PROJECT_HEADER, project);
        }
        Ok(request)
    }

    async fn text(&self, path: &[&str]) -> Result<String, ApiError> {
        let response = self.send(self.request(Method::GET, path)?).await?;
        response.text().await.map_err(|error| self.unanswered(&error))
    }

    async fn download(&self, request: reqwest::RequestBuilder) -> Result<Download, ApiError> {
        let response = self.send(request.timeout(STREAM_LIMIT)).await?;
        Ok(Download { response, client: self.clone() })
    }

    async fn answer<T: DeserializeOwned>(
        &self,
        request: reqwest::RequestBuilder,
    ) -> Result<T, ApiError> {
        let response = self.send(request).await?;
        let bytes = response.bytes().await.map_err(|error| self.unanswered(&error))?;
        // An answer without a body (204) is `()`.
        let json: &[u8] = if bytes.is_empty() { b"null" } else { &bytes };
        serde_json::from_slice(json).map_err(|error| self.unreadable(&error.to_string()))
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<Response, ApiError> {
        let response = request
            .header(header::ACCEPT, "application/json")
            .send()
            .await
            .map_err(|error| self.unanswered(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let request_id = response
            .headers()
            .get(REQUEST_ID_HEADER)
            .and_then(|id| id.to_str().ok())
            .map(str::to_owned);
        let bytes = response.bytes().await.map_err(|error| self.unanswered(&error))?;
        match serde_json::from_slice::<ErrorBody>(&bytes) {
            Ok(ErrorBody { error }) => Err(ApiError {
                status: Some(status.as_u16()),
                code: error.code,
                message: error.message,
                hint: error.hint,
                details: error.details.map(Box::new),
                request_id,
            }),
            Err(_) => Err(ApiError {
                status: Some(status.as_u16()),
                request_id,
                ..self.unreadable(&format!("status {status} without an error in the body"))
            }),
        }
    }

    fn unreadable(&self, why: &str) -> ApiError {
        ApiError::local(
            ApiError::UNREADABLE,
            format!("{} answered something else than expected: {why}", self.address()),
            "Check that the address is that of a commonhold service of about this version.",
        )
    }

    fn unanswered(&self, error: &reqwest::Error) -> ApiError {
        let address = self.address();
        if error.is_timeout() {
            return ApiError::local(
                ApiError::TIMED_OUT,
                format!("{address} did not answer in time"),
                "The request may have taken effect: look at the resource before trying again.",
            );
        }
        if is_refused(error) {
            return ApiError::local(
                ApiError::UNREACHABLE,
                format!("nothing answers at {address}"),
                "Start the service with `commonhold serve --data DIR`, or give the right address.",
            );
        }
        ApiError::local(
            ApiError::UNREACHABLE,
            format!("{address} cannot be reached: {}", root_cause(error)),
            "Check the address and the network, and that the service runs.",
        )
    }
}

/// Did the machine answer that nobody listens there?
fn is_refused(error: &reqwest::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<std::io::Error>()
            && io.kind() == std::io::ErrorKind::ConnectionRefused
        {
            return true;
        }
        source = cause.source();
    }
    false
}

/// The innermost sentence: the outer ones repeat the address.
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
