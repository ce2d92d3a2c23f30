//! Agents: the daemons that speak for hosts.

use api::agent::{AgentAttachment, AgentGroup, Assignments, Beat, CreateAgent, CreatedAgent, Peer};
use axum::extract::State;
use axum::http::StatusCode;
use control::{AgentCreate, HostView};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Answer, Empty, Refusals, created, found};
use crate::Shared;
use crate::auth::{Signed, SignedAgent};
use crate::extract::{Json, Path};

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(agent_create))
        .routes(routes!(agent_delete))
        .routes(routes!(beat))
}

/// Make a host and its agent known, or known anew. The answer holds the agent's token, this once;
/// an earlier one is void.
#[utoipa::path(
    post, path = "/v1/agents", tag = "agent",
    responses((status = 201, description = "Known", body = CreatedAgent), Refusals)
)]
async fn agent_create(
    State(app): State<Shared>,
    signed: Signed,
    Json(new): Json<CreateAgent>,
) -> Answer<CreatedAgent> {
    let new = AgentCreate {
        host: new.host,
        initiators: new.initiators,
        addresses: new.addresses,
        version: new.version,
        project: signed.project,
    };
    let made = app.control.agent_create(&signed.caller, new).await?;
    created(CreatedAgent { host: host(made.host), secret: made.secret })
}

/// Make the token of a host's agent void. What the host has attached stays.
#[utoipa::path(
    delete, path = "/v1/agents/{host}", tag = "agent",
    responses((status = 204, description = "Void"), Refusals)
)]
async fn agent_delete(
    State(app): State<Shared>,
    signed: Signed,
    Path(host): Path<String>,
) -> Empty {
    app.control.agent_delete(&signed.caller, &host).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A sign of life of an agent, with the agent's own token: what it says of its groups, for what
/// its host is to have.
#[utoipa::path(
    post, path = "/v1/beats", tag = "agent",
    responses((status = 200, description = "What the host is to have", body = Assignments), Refusals)
)]
async fn beat(
    State(app): State<Shared>,
    signed: SignedAgent,
    Json(beat): Json<Beat>,
) -> Answer<Assignments> {
    let beat = control::Beat {
        version: beat.version,
        addresses: beat.addresses,
        port: beat.port,
        reports: beat.reports,
    };
    found(assignments(app.control.beat(&signed.0, beat).await?))
}

/// The view of a host.
pub(super) fn host(view: HostView) -> api::host::Host {
    let agent = view.agent.map(|agent| api::agent::Agent::new(&agent, view.now_ms));
    api::host::Host::new(view.host, agent)
}

fn assignments(made: control::Assignments) -> Assignments {
    let attachment = |one: control::AgentAttachment| {
        Some(AgentAttachment {
            id: one.attachment.id,
            volume_id: one.attachment.volume,
            volume_name: one.volume_name,
            size_bytes: one.size.0,
            mode: one.attachment.mode.into(),
            connection: one.attachment.connection?.into(),
            credentials: one.chap.map(Into::into),
        })
    };
    let host = made.host.id;
    Assignments {
        host_id: host,
        host_name: made.host.name,
        initiators: made.host.initiators,
        attachments: made.attachments.into_iter().filter_map(attachment).collect(),
        groups: made.groups.into_iter().map(|one| group(host, one)).collect(),
    }
}

fn group(host: model::id::HostId, one: control::AgentGroup) -> AgentGroup {
    let peers = one.peers.into_iter().map(|(host_id, host_name, agent)| {
        let (addresses, port) =
            agent.map_or_else(Default::default, |agent| (agent.addresses, agent.port));
        let addresses = addresses.iter().map(ToString::to_string).collect();
        Peer { host_id, host_name, addresses, port }
    });
    AgentGroup {
        hosts: peers.collect(),
        permitted: one.group.permits.get(&host).copied().unwrap_or_default(),
        id: one.group.id,
        name: one.group.name,
        volume_id: one.group.volume,
        resources: one.group.resources,
        policy: one.group.policy,
        wanted: one.group.wanted,
        frozen: one.group.frozen,
        generation: one.group.generation,
        forgiven: one.group.forgiven,
        owner_id: one.group.owner,
        moved: one.group.moved,
        heartbeat_key: one.heartbeat_key,
    }
}
