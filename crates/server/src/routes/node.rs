//! Nodes, for admins alone.

use api::Page;
use api::node::{
    CreateNode, DeleteNode, EvacuateNode, Evacuation, FileService, Node, NodePool, NodeQuery,
    NodeVolume, NodeVolumeQuery, RestartNode, UpdateNode, UpgradeNode,
};
use api::operation::Operation;
use axum::extract::State;
use axum::http::StatusCode;
use control::{
    NodeCreate, NodeEvacuation, NodeUpdate, NodeUpgrade, NodeView, NodeVolumeFilter, NodeVolumeView,
};
use model::node::FileServiceReport;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Answer, Empty, Refusals, accepted, created, found, page, paging};
use crate::Shared;
use crate::auth::Signed;
use crate::extract::{Json, Path, Query};

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(node_create, node_list))
        .routes(routes!(node_show, node_update, node_delete))
        .routes(routes!(node_volumes))
        .routes(routes!(node_restart))
        .routes(routes!(node_upgrade))
        .routes(routes!(node_evacuate))
}

/// Make a node of another machine known, and have it take orders from here alone. For admins.
///
/// The machine runs `commonhold serve --role node`; its daemon has made the secret.
#[utoipa::path(
    post, path = "/v1/nodes", tag = "node",
    responses((status = 201, description = "The node", body = Node), Refusals)
)]
async fn node_create(
    State(app): State<Shared>,
    signed: Signed,
    Json(new): Json<CreateNode>,
) -> Answer<Node> {
    let new = NodeCreate { name: new.name, address: new.address, secret: new.secret };
    created(view(app.control.node_create(&signed.caller, new).await?))
}

/// Change where a node is found, and whether new volumes are placed on it. For admins.
#[utoipa::path(
    patch, path = "/v1/nodes/{node}", tag = "node",
    responses((status = 200, description = "Changed", body = Node), Refusals)
)]
async fn node_update(
    State(app): State<Shared>,
    signed: Signed,
    Path(node): Path<String>,
    Json(change): Json<UpdateNode>,
) -> Answer<Node> {
    let change = NodeUpdate { takes_volumes: change.takes_volumes, address: change.address };
    found(view(app.control.node_update(&signed.caller, &node, change).await?))
}

/// Forget a node of another machine that has no pools any more, and let it go. For admins.
#[utoipa::path(
    delete, path = "/v1/nodes/{node}", tag = "node", params(DeleteNode),
    responses((status = 204, description = "Forgotten"), Refusals)
)]
async fn node_delete(
    State(app): State<Shared>,
    signed: Signed,
    Path(node): Path<String>,
    Query(how): Query<DeleteNode>,
) -> Empty {
    app.control.node_delete(&signed.caller, &node, how.force).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The nodes. For admins.
#[utoipa::path(
    get, path = "/v1/nodes", tag = "node", params(NodeQuery),
    responses((status = 200, description = "A page", body = Page<Node>), Refusals)
)]
async fn node_list(
    State(app): State<Shared>,
    signed: Signed,
    Query(query): Query<NodeQuery>,
) -> Answer<Page<Node>> {
    let paging = paging(query.limit, query.marker);
    page(app.control.node_list(&signed.caller, &paging).await?, view)
}

/// One node. For admins.
#[utoipa::path(
    get, path = "/v1/nodes/{node}", tag = "node",
    responses((status = 200, description = "The node", body = Node), Refusals)
)]
async fn node_show(
    State(app): State<Shared>,
    signed: Signed,
    Path(node): Path<String>,
) -> Answer<Node> {
    found(view(app.control.node_get(&signed.caller, &node).await?))
}

/// The volumes that a node serves. For admins.
#[utoipa::path(
    get, path = "/v1/nodes/{node}/volumes", tag = "node", params(NodeVolumeQuery),
    responses((status = 200, description = "A page", body = Page<NodeVolume>), Refusals)
)]
async fn node_volumes(
    State(app): State<Shared>,
    signed: Signed,
    Path(node): Path<String>,
    Query(query): Query<NodeVolumeQuery>,
) -> Answer<Page<NodeVolume>> {
    let filter =
        NodeVolumeFilter { project: query.project, paging: paging(query.limit, query.marker) };
    page(app.control.node_volumes(&signed.caller, &node, &filter).await?, volume)
}

/// Start a node's file service anew; block volumes notice nothing. For admins.
///
/// Clients wait, and reclaim what they hold. Refused while references to its file volumes exist,
/// unless it is forced.
#[utoipa::path(
    post, path = "/v1/nodes/{node}/restart", tag = "node",
    responses((status = 202, description = "Asked", body = Operation), Refusals)
)]
async fn node_restart(
    State(app): State<Shared>,
    signed: Signed,
    Path(node): Path<String>,
    Json(how): Json<RestartNode>,
) -> Answer<Operation> {
    accepted(app.control.node_restart(&signed.caller, &node, how.force).await?.into())
}

/// Have a node's daemon go on with another binary, in the same process. For admins.
///
/// The binary is looked at first: a commonhold that knows the catalog, no older than the running
/// one unless it is forced. Refused while references to file volumes of the node exist, unless it
/// is forced. The operation ends when the new one serves.
#[utoipa::path(
    post, path = "/v1/nodes/{node}/upgrade", tag = "node",
    responses((status = 202, description = "Asked", body = Operation), Refusals)
)]
async fn node_upgrade(
    State(app): State<Shared>,
    signed: Signed,
    Path(node): Path<String>,
    Json(how): Json<UpgradeNode>,
) -> Answer<Operation> {
    let how = NodeUpgrade { binary: how.binary, force: how.force };
    accepted(app.control.node_upgrade(&signed.caller, &node, how).await?.into())
}

/// Have other nodes take the file volumes of this one. For admins.
///
/// One after the other: clients wait, the tree is carried to a pool of another node with all that
/// its handles need, and is served there; no new volumes are placed on this node. Refused while
/// references to them exist or clients have them mounted, unless it is forced; and while there is no
/// other node. Block volumes stay.
#[utoipa::path(
    post, path = "/v1/nodes/{node}/evacuate", tag = "node",
    responses((status = 202, description = "Asked", body = Evacuation), Refusals)
)]
async fn node_evacuate(
    State(app): State<Shared>,
    signed: Signed,
    Path(node): Path<String>,
    Json(how): Json<EvacuateNode>,
) -> Answer<Evacuation> {
    let begun = app.control.node_evacuate(&signed.caller, &node, how.force).await?;
    let NodeEvacuation { operation, block_volumes } = begun;
    accepted(Evacuation { operation: operation.into(), block_volumes })
}

fn view(found: NodeView) -> Node {
    let NodeView { node, report, since_ms, pools, block_volumes, file_volumes, now_ms } = found;
    let state = if report.is_some() { "online" } else { "offline" };
    let (mut block_portals, mut sessions, mut files) = (Vec::new(), 0, None);
    if let Some(report) = report {
        (block_portals, sessions, files) =
            (report.block_portals, report.sessions, Some(report.files));
    }
    let (file_service, file_service_fault) = match files {
        Some(Ok(files)) => (Some(file_service(files, now_ms)), None),
        Some(Err(why)) => (None, Some(why)),
        None => (None, None),
    };
    let pool = |pool: model::pool::Pool| NodePool {
        id: pool.id,
        name: pool.name,
        driver: pool.driver.into(),
        state: pool.state.word().to_owned(),
    };
    Node {
        id: node.id,
        name: node.name,
        state: state.to_owned(),
        since: api::timestamp_ms(since_ms),
        address: node.address,
        takes_volumes: node.takes_volumes,
        version: node.version,
        boot: node.boot,
        block_portals,
        sessions,
        pools: pools.into_iter().map(pool).collect(),
        block_volumes,
        file_volumes,
        file_service,
        file_service_fault,
    }
}

fn file_service(report: FileServiceReport, now_ms: u64) -> FileService {
    let FileServiceReport { boot, age_ms, portals, lease_ms, in_grace, clients, connections } =
        report;
    let since = api::timestamp_ms(now_ms.saturating_sub(age_ms));
    FileService { boot, since, portals, lease_ms, in_grace, clients, connections }
}

fn volume(found: NodeVolumeView) -> NodeVolume {
    let NodeVolumeView { volume, project_name, resource, attachments, clients, references } = found;
    NodeVolume {
        id: volume.id,
        project_id: volume.project,
        project_name,
        kind: volume.kind().word().to_owned(),
        size_bytes: volume.size.bytes(),
        status: volume.status.word().to_owned(),
        name: volume.name,
        resource,
        attachments,
        clients,
        references,
    }
}
