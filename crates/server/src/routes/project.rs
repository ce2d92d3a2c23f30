//! Projects.

use api::Page;
use api::project::{CreateProject, Project, ProjectQuery, QuotaChange, UpdateProject};
use axum::extract::State;
use axum::http::StatusCode;
use control::{ProjectCreate, ProjectFilter, ProjectUpdate, ProjectView};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Answer, Empty, Refusals, created, found, page, paging};
use crate::Shared;
use crate::auth::Signed;
use crate::extract::{Json, Path, Query};

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(project_create, project_list)).routes(routes!(
        project_show,
        project_update,
        project_delete
    ))
}

/// Make a project. For admins.
#[utoipa::path(
    post, path = "/v1/projects", tag = "project",
    responses((status = 201, description = "Made", body = Project), Refusals)
)]
async fn project_create(
    State(app): State<Shared>,
    signed: Signed,
    Json(new): Json<CreateProject>,
) -> Answer<Project> {
    let new = ProjectCreate {
        name: new.name,
        description: new.description.unwrap_or_default(),
        quotas: quotas(new.quota),
    };
    created(view(app.control.project_create(&signed.caller, new).await?))
}

/// The projects that the caller may see.
#[utoipa::path(
    get, path = "/v1/projects", tag = "project", params(ProjectQuery),
    responses((status = 200, description = "A page", body = Page<Project>), Refusals)
)]
async fn project_list(
    State(app): State<Shared>,
    signed: Signed,
    Query(query): Query<ProjectQuery>,
) -> Answer<Page<Project>> {
    let filter = ProjectFilter { name: query.name, paging: paging(query.limit, query.marker) };
    page(app.control.project_list(&signed.caller, &filter).await?, view)
}

/// One project, with what it uses.
#[utoipa::path(
    get, path = "/v1/projects/{project}", tag = "project",
    responses((status = 200, description = "The project", body = Project), Refusals)
)]
async fn project_show(
    State(app): State<Shared>,
    signed: Signed,
    Path(project): Path<String>,
) -> Answer<Project> {
    found(view(app.control.project_get(&signed.caller, &project).await?))
}

/// Change a project. For admins.
#[utoipa::path(
    patch, path = "/v1/projects/{project}", tag = "project",
    responses((status = 200, description = "Changed", body = Project), Refusals)
)]
async fn project_update(
    State(app): State<Shared>,
    signed: Signed,
    Path(project): Path<String>,
    Json(change): Json<UpdateProject>,
) -> Answer<Project> {
    let change = ProjectUpdate {
        name: change.name,
        description: change.description,
        quotas: quotas(change.quota),
    };
    found(view(app.control.project_update(&signed.caller, &project, change).await?))
}

/// Delete an empty project. For admins.
#[utoipa::path(
    delete, path = "/v1/projects/{project}", tag = "project",
    responses((status = 204, description = "Gone"), Refusals)
)]
async fn project_delete(
    State(app): State<Shared>,
    signed: Signed,
    Path(project): Path<String>,
) -> Empty {
    app.control.project_delete(&signed.caller, &project).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn view(found: ProjectView) -> Project {
    Project::new(found.project, found.usage)
}

fn quotas(change: Option<QuotaChange>) -> control::QuotaChange {
    let change = change.unwrap_or_default();
    control::QuotaChange {
        volumes: change.volumes,
        gigabytes: change.gigabytes,
        snapshots: change.snapshots,
        snapshots_per_volume: change.snapshots_per_volume,
    }
}
