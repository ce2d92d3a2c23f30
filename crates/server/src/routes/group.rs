//! Groups: a service on one of several hosts.

use api::Page;
use api::group::{
    CreateGroup, DeleteGroup, Group, GroupHost, GroupQuery, HostReport, MoveGroup, Owner, PeerAge,
    PermitHost, UpdateGroup,
};
use axum::extract::State;
use axum::http::StatusCode;
use control::{GroupCreate, GroupFilter, GroupHostView, GroupUpdate, GroupView, Said};
use model::group::Wanted;
use model::id::HostId;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Answer, Empty, Refusals, accepted, created, found, page, paging};
use crate::Shared;
use crate::auth::Signed;
use crate::extract::{Json, Path, Query};

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(group_create, group_list))
        .routes(routes!(group_show, group_update, group_delete))
        .routes(routes!(group_start))
        .routes(routes!(group_stop))
        .routes(routes!(group_move))
        .routes(routes!(group_freeze))
        .routes(routes!(group_unfreeze))
        .routes(routes!(group_permit))
}

/// Make a group; its volume is attached to its hosts where it is not yet.
#[utoipa::path(
    post, path = "/v1/groups", tag = "group",
    responses((status = 201, description = "Made", body = Group), Refusals)
)]
async fn group_create(
    State(app): State<Shared>,
    signed: Signed,
    Json(new): Json<CreateGroup>,
) -> Answer<Group> {
    let new = GroupCreate {
        name: new.name,
        volume: new.volume,
        hosts: new.hosts,
        resources: new.resources,
        policy: new.policy,
        wanted: if new.start { Wanted::Started } else { Wanted::Stopped },
    };
    created(view(app.control.group_create(&signed.caller, new).await?))
}

/// The groups that the caller may see.
#[utoipa::path(
    get, path = "/v1/groups", tag = "group", params(GroupQuery),
    responses((status = 200, description = "A page", body = Page<Group>), Refusals)
)]
async fn group_list(
    State(app): State<Shared>,
    signed: Signed,
    Query(query): Query<GroupQuery>,
) -> Answer<Page<Group>> {
    let filter = GroupFilter {
        name: query.name,
        volume: query.volume,
        host: query.host,
        project: signed.project,
        paging: paging(query.limit, query.marker),
    };
    page(app.control.group_list(&signed.caller, &filter).await?, view)
}

/// One group: what is wanted of it, and what its hosts say, with the age of that.
#[utoipa::path(
    get, path = "/v1/groups/{group}", tag = "group",
    responses((status = 200, description = "The group", body = Group), Refusals)
)]
async fn group_show(
    State(app): State<Shared>,
    signed: Signed,
    Path(group): Path<String>,
) -> Answer<Group> {
    found(view(app.control.group_get(&signed.caller, &group).await?))
}

/// Change a group. Nothing moves because of it.
#[utoipa::path(
    patch, path = "/v1/groups/{group}", tag = "group",
    responses((status = 202, description = "The hosts will be told", body = Group), Refusals)
)]
async fn group_update(
    State(app): State<Shared>,
    signed: Signed,
    Path(group): Path<String>,
    Json(change): Json<UpdateGroup>,
) -> Answer<Group> {
    let change = GroupUpdate {
        name: change.name,
        hosts: change.hosts,
        add_hosts: change.add_hosts,
        remove_hosts: change.remove_hosts,
        resources: change.resources,
        policy: change.policy,
        force: change.force,
    };
    accepted(view(app.control.group_update(&signed.caller, &group, change).await?))
}

/// Have it run on one of its hosts. Asked for again, it forgives hosts their failures.
#[utoipa::path(
    post, path = "/v1/groups/{group}/start", tag = "group",
    responses((status = 202, description = "The hosts will be told", body = Group), Refusals)
)]
async fn group_start(
    State(app): State<Shared>,
    signed: Signed,
    Path(group): Path<String>,
) -> Answer<Group> {
    accepted(view(app.control.group_start(&signed.caller, &group).await?))
}

/// Have it run nowhere.
#[utoipa::path(
    post, path = "/v1/groups/{group}/stop", tag = "group",
    responses((status = 202, description = "The hosts will be told", body = Group), Refusals)
)]
async fn group_stop(
    State(app): State<Shared>,
    signed: Signed,
    Path(group): Path<String>,
) -> Answer<Group> {
    accepted(view(app.control.group_stop(&signed.caller, &group).await?))
}

/// Have another host own it.
#[utoipa::path(
    post, path = "/v1/groups/{group}/move", tag = "group",
    responses((status = 202, description = "The hosts will be told", body = Group), Refusals)
)]
async fn group_move(
    State(app): State<Shared>,
    signed: Signed,
    Path(group): Path<String>,
    Json(to): Json<MoveGroup>,
) -> Answer<Group> {
    let moved = app.control.group_move(&signed.caller, &group, to.host.as_deref()).await?;
    accepted(view(moved))
}

/// Have the hosts watch and report, and change nothing.
#[utoipa::path(
    post, path = "/v1/groups/{group}/freeze", tag = "group",
    responses((status = 202, description = "The hosts will be told", body = Group), Refusals)
)]
async fn group_freeze(
    State(app): State<Shared>,
    signed: Signed,
    Path(group): Path<String>,
) -> Answer<Group> {
    accepted(view(app.control.group_freeze(&signed.caller, &group).await?))
}

/// Have the hosts act again.
#[utoipa::path(
    post, path = "/v1/groups/{group}/unfreeze", tag = "group",
    responses((status = 202, description = "The hosts will be told", body = Group), Refusals)
)]
async fn group_unfreeze(
    State(app): State<Shared>,
    signed: Signed,
    Path(group): Path<String>,
) -> Answer<Group> {
    accepted(view(app.control.group_unfreeze(&signed.caller, &group).await?))
}

/// Let a host that was fenced try again, once nothing of its old life is left.
#[utoipa::path(
    post, path = "/v1/groups/{group}/permit", tag = "group",
    responses((status = 202, description = "The host will be told", body = Group), Refusals)
)]
async fn group_permit(
    State(app): State<Shared>,
    signed: Signed,
    Path(group): Path<String>,
    Json(permit): Json<PermitHost>,
) -> Answer<Group> {
    accepted(view(app.control.group_permit(&signed.caller, &group, &permit.host).await?))
}

/// Forget a group that runs nowhere. Its volume stays attached.
#[utoipa::path(
    delete, path = "/v1/groups/{group}", tag = "group", params(DeleteGroup),
    responses((status = 204, description = "Gone"), Refusals)
)]
async fn group_delete(
    State(app): State<Shared>,
    signed: Signed,
    Path(group): Path<String>,
    Query(how): Query<DeleteGroup>,
) -> Empty {
    app.control.group_delete(&signed.caller, &group, how.force).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn view(seen: GroupView) -> Group {
    let owner = owner(&seen);
    let name = |id: HostId| seen.host(id).map(|host| host.name.clone()).unwrap_or_default();
    let wanted_owner = seen.group.owner.map(name);
    let hosts = seen.hosts.iter().map(|host| GroupHost {
        id: host.id,
        name: host.name.clone(),
        up: host.is_up,
        leaving: host.is_leaving,
        report: host.said.as_ref().map(|said| report(&seen, said)),
    });
    Group {
        owner,
        wanted_owner,
        hosts: hosts.collect(),
        id: seen.group.id,
        name: seen.group.name,
        project_id: seen.group.project,
        volume_id: seen.group.volume,
        volume_name: seen.volume_name,
        state: seen.state,
        wanted: seen.group.wanted,
        frozen: seen.group.frozen,
        generation: seen.group.generation,
        resources: seen.group.resources,
        policy: seen.group.policy,
        created_at: api::timestamp_ms(seen.group.created_ms),
    }
}

fn report(seen: &GroupView, said: &Said) -> HostReport {
    let peers = said.report.peers.iter().map(|peer| PeerAge {
        host_id: peer.host,
        host_name: seen.host(peer.host).map(|host| host.name.clone()).unwrap_or_default(),
        heartbeat_age_ms: peer.heartbeat_age_ms,
    });
    HostReport {
        standing: said.report.standing,
        epoch: said.report.epoch,
        generation: said.report.generation,
        since: api::timestamp_ms(said.since_ms()),
        why: said.report.why.clone(),
        resources: said.report.resources.clone(),
        error: said.report.error.clone(),
        peers: peers.collect(),
        paths: said.report.paths.clone(),
        age_ms: said.age_ms(seen.now_ms),
    }
}

/// The owner in its own words; in its last ones where its peers see it and it is not heard.
fn owner(seen: &GroupView) -> Option<Owner> {
    let GroupHostView { id, name, said, .. } = seen.host(seen.owner?)?;
    let said = said.as_ref()?;
    Some(Owner {
        host_id: *id,
        host_name: name.clone(),
        epoch: said.report.epoch,
        since: api::timestamp_ms(said.since_ms()),
        why: said.report.why.clone(),
        age_ms: said.age_ms(seen.now_ms),
    })
}
