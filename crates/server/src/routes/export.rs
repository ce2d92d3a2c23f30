//! Exports of file volumes.

use api::export::{AccessRule, Export, UpdateExport};
use axum::extract::State;
use control::{AccessRuleGiven, ExportChange, ExportView};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Answer, Refusals, found};
use crate::Shared;
use crate::auth::Signed;
use crate::extract::{Json, Path};

pub(super) fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new().routes(routes!(export_show, export_update))
}

/// How a file volume is handed out.
#[utoipa::path(
    get, path = "/v1/exports/{volume}", tag = "export",
    responses((status = 200, description = "The export", body = Export), Refusals)
)]
async fn export_show(
    State(app): State<Shared>,
    signed: Signed,
    Path(volume): Path<String>,
) -> Answer<Export> {
    found(view(app.control.export_get(&signed.caller, &volume).await?))
}

/// Change who may mount a file volume, and as whom, while it is mounted. It counts when this is
/// answered.
#[utoipa::path(
    patch, path = "/v1/exports/{volume}", tag = "export",
    responses((status = 200, description = "Changed", body = Export), Refusals)
)]
async fn export_update(
    State(app): State<Shared>,
    signed: Signed,
    Path(volume): Path<String>,
    Json(change): Json<UpdateExport>,
) -> Answer<Export> {
    let change = ExportChange {
        network: change.network,
        access: change.access.map(given),
        durability: change.durability.map(Into::into),
    };
    found(view(app.control.export_update(&signed.caller, &volume, change).await?))
}

/// Access rules as the use cases take them.
pub(super) fn given(rules: Vec<AccessRule>) -> Vec<AccessRuleGiven> {
    let given = |rule: AccessRule| AccessRuleGiven {
        client: rule.client,
        mode: rule.mode.into(),
        squash: rule.squash.into(),
        anonymous_uid: rule.anonymous_uid,
        anonymous_gid: rule.anonymous_gid,
    };
    rules.into_iter().map(given).collect()
}

fn view(export: ExportView) -> Export {
    let rule = |rule: AccessRuleGiven| AccessRule {
        client: rule.client,
        mode: rule.mode.into(),
        squash: rule.squash.into(),
        anonymous_uid: rule.anonymous_uid,
        anonymous_gid: rule.anonymous_gid,
    };
    Export {
        volume_id: export.volume,
        volume_name: export.volume_name,
        network_id: export.network,
        network: export.network_name,
        path: export.path,
        resources: export.resources,
        durability: export.durability.into(),
        access: export.access.into_iter().map(rule).collect(),
        fault: export.fault,
    }
}
