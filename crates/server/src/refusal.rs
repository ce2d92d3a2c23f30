//! Refusals: every answer that is not a success, in the contract's shape.
//!
//! docs/http-status-codes.md says what each status means to whom.

use api::error::{ErrorBody, ErrorDetail};
use axum::Json;
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use control::{ControlError, ErrorKind, NodeReference};
use serde_json::{Value, json};

/// Seconds after which trying again makes sense.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("2");

/// A refused request.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
    pub(crate) message: String,
    pub(crate) hint: &'static str,
    pub(crate) details: Option<Value>,
}

impl Refusal {
    pub(crate) fn new(
        status: StatusCode,
        code: &'static str,
        message: impl Into<String>,
        hint: &'static str,
    ) -> Self {
        Self { status, code, message: message.into(), hint, details: None }
    }

    /// 400: the request cannot be understood.
    pub(crate) fn bad_request(
        code: &'static str,
        message: impl Into<String>,
        hint: &'static str,
    ) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message, hint)
    }

    /// 500, without what went wrong inside: that is for the log.
    pub(crate) fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "the service failed while it handled the request",
            "Try again; if it lasts, give the operator the request id (X-Request-Id).",
        )
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = ErrorBody {
            error: ErrorDetail {
                code: self.code.to_owned(),
                message: self.message,
                hint: Some(self.hint.to_owned()),
                details: self.details,
            },
        };
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        match self.status {
            // RFC 9110 15.5.2: a 401 names the scheme.
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, RETRY_AFTER_SECONDS);
            }
            _ => {}
        }
        response
    }
}

impl From<ControlError> for Refusal {
    fn from(error: ControlError) -> Self {
        let status = match error.kind() {
            ErrorKind::Invalid => StatusCode::BAD_REQUEST,
            ErrorKind::Unauthorized => StatusCode::UNAUTHORIZED,
            ErrorKind::Forbidden => StatusCode::FORBIDDEN,
            ErrorKind::NotFound => StatusCode::NOT_FOUND,
            // A quota is a state of the project that the caller, or the operator, can change.
            ErrorKind::Conflict | ErrorKind::OverQuota => StatusCode::CONFLICT,
            ErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            ErrorKind::NoSpace => StatusCode::INSUFFICIENT_STORAGE,
            ErrorKind::Internal => {
                tracing::error!(code = error.code(), %error, "a request failed inside");
                return Self { code: error.code(), hint: error.hint(), ..Self::internal() };
            }
        };
        Self {
            status,
            code: error.code(),
            message: error.to_string(),
            hint: error.hint(),
            details: details(&error),
        }
    }
}

/// The values that the sentence speaks of, for programs.
fn details(error: &ControlError) -> Option<Value> {
    Some(match error {
        ControlError::NotFound { kind, name } | ControlError::NameTaken { kind, name } => {
            json!({ "resource": kind.word(), "name": name })
        }
        ControlError::Ambiguous { kind, name, candidates } => {
            let candidates: Vec<Value> = candidates
                .iter()
                .map(|found| json!({ "id": found.id, "name": found.name, "project_id": found.project }))
                .collect();
            json!({ "resource": kind.word(), "name": name, "candidates": candidates })
        }
        ControlError::Invalid { field, .. } => json!({ "field": field }),
        ControlError::Forbidden { needs, .. } => json!({ "needs": needs.word() }),
        ControlError::QuotaExceeded { what, limit, used, asked } => {
            json!({ "quota": what, "limit": limit, "used": used, "asked": asked })
        }
        ControlError::NoSpace { class, needed, free } => json!({
            "class": class, "needed_bytes": needed.bytes(), "free_bytes": free.bytes(),
        }),
        ControlError::NoPool { class, kind } | ControlError::PoolUnavailable { class, kind } => {
            json!({ "class": class, "kind": kind })
        }
        ControlError::WrongKind { volume, is, .. } => json!({ "volume": volume, "kind": is }),
        ControlError::VolumeReferenced { volume, references, .. } => {
            json!({ "volume": volume, "references": references })
        }
        ControlError::ClientsConnected { volume, clients, .. } => {
            json!({ "volume": volume, "clients": clients })
        }
        ControlError::SizeNotAvailable { available, .. } => {
            let sizes: Vec<u64> = available.iter().map(|size| size.bytes()).collect();
            json!({ "available_sizes_bytes": sizes })
        }
        ControlError::BelowUsed { used, .. } => json!({ "used_bytes": used.bytes() }),
        ControlError::VolumeInUse { volume, hosts, .. }
        | ControlError::NotMultiattach { volume, hosts }
        | ControlError::RetypeWhileShared { volume, hosts } => {
            json!({ "volume": volume, "hosts": hosts })
        }
        ControlError::VolumeHasDependents { volume, snapshots, clones } => {
            json!({ "volume": volume, "snapshots": snapshots, "clones": clones })
        }
        ControlError::SnapshotHasClones { snapshot, clones } => {
            json!({ "snapshot": snapshot, "clones": clones })
        }
        ControlError::VolumeBusy { volume, status, .. } => {
            json!({ "volume": volume, "status": status })
        }
        ControlError::SnapshotBusy { snapshot, state, .. } => {
            json!({ "snapshot": snapshot, "state": state })
        }
        ControlError::FilesystemNotClusterAware { volume, content, place } => {
            json!({ "volume": volume, "content": content, "place": place })
        }
        ControlError::RetypeNeedsMove { fits, .. } => json!({ "fits": fits }),
        other => return of_groups(other),
    })
}

/// The same of groups and agents.
fn of_groups(error: &ControlError) -> Option<Value> {
    Some(match error {
        ControlError::InitiatorNew { host, iqn, known } => {
            json!({ "host": host, "initiator": iqn, "initiators": known })
        }
        ControlError::GroupHostUnknown { group, host, hosts } => {
            json!({ "group": group, "host": host, "hosts": hosts })
        }
        ControlError::GroupHosts { group, hosts, .. } => json!({ "group": group, "hosts": hosts }),
        ControlError::GroupHostFenced { group, host }
        | ControlError::GroupHostRuns { group, host, .. }
        | ControlError::GroupHostAway { group, host, .. } => {
            json!({ "group": group, "host": host })
        }
        ControlError::GroupFrozen { group }
        | ControlError::GroupRuns { group, .. }
        | ControlError::GroupNotStopped { group, .. }
        | ControlError::GroupNowhereToMove { group } => json!({ "group": group }),
        other => return of_nodes(other),
    })
}

/// The same of nodes.
fn of_nodes(error: &ControlError) -> Option<Value> {
    Some(match error {
        ControlError::NoOtherNode { node, volumes } => {
            json!({ "node": node, "file_volumes": volumes })
        }
        ControlError::NodeMounted { node, volumes } => {
            json!({ "node": node, "volumes": volumes })
        }
        ControlError::NodeReferenced { node, references, clients, .. } => {
            let references: Vec<Value> = references
                .iter()
                .map(|one| {
                    let NodeReference { project, volume, kind, name } = one;
                    json!({ "project": project, "volume": volume, "kind": kind, "name": name })
                })
                .collect();
            json!({ "node": node, "references": references, "clients": clients })
        }
        ControlError::NoFileService { node, .. } => json!({ "node": node }),
        ControlError::NodeAnswers { volume, node } => json!({ "volume": volume, "node": node }),
        ControlError::NotAdopted { address, .. } => json!({ "address": address }),
        ControlError::NodeBusy { node, work } => {
            let work: Vec<Value> = work
                .iter()
                .map(|one| json!({ "operation": one.operation, "what": one.what }))
                .collect();
            json!({ "node": node, "operations": work })
        }
        _ => return None,
    })
}

/// 404 for a path that the contract does not have.
pub(crate) async fn unknown_route(uri: Uri) -> Refusal {
    Refusal::new(
        StatusCode::NOT_FOUND,
        "unknown_route",
        format!("there is nothing at '{}'", uri.path()),
        "See /docs for the paths that there are.",
    )
}

/// 405 for a path that the contract has, with another method.
pub(crate) async fn method_not_allowed(method: Method, uri: Uri) -> Refusal {
    Refusal::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        format!("'{}' does not take {method}", uri.path()),
        "See /docs for the methods of each path; the Allow header names those of this one.",
    )
}
