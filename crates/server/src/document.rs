//! The OpenAPI document, and the pages that show it.

use axum::Router;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{OpenApi as Document, RefOr, Required, SecurityRequirement};
use utoipa::{Modify, OpenApi, PartialSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_swagger_ui::SwaggerUi;

use crate::{Shared, routes};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Commonhold",
        version = "1",
        description = "Shared volumes: volumes, the hosts that reach them, and what guards them. \
                       Every error has the body `Error`; docs/http-status-codes.md says what each \
                       status means.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    modifiers(&EveryRequest),
    components(schemas(api::ErrorBody))
)]
struct Head;

/// What holds for every request below /v1: the token, and an admin's choice of a project.
struct EveryRequest;

/// The name of the security scheme.
const TOKEN: &str = "token";

impl Modify for EveryRequest {
    fn modify(&self, document: &mut Document) {
        let bearer = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("A token made by `commonhold token create`."))
            .build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme(TOKEN, SecurityScheme::Http(bearer));
        let refusals = routes::refusals().map(|(name, response)| (name, response.into()));
        components.responses.extend(refusals);
    }
}

fn project_header() -> Parameter {
    ParameterBuilder::new()
        .name("X-Project")
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some("Name or id of another project than the token's own; for admins."))
        .schema(Some(String::schema()))
        .build()
}

/// The routes, and the document that describes them.
pub(crate) fn routes_and_document() -> (Router<Shared>, Document) {
    let (router, mut document) =
        OpenApiRouter::with_openapi(Head::openapi()).merge(routes::all()).split_for_parts();
    for (path, item) in &mut document.paths.paths {
        if !path.starts_with("/v1/") {
            continue;
        }
        let verbs = [&mut item.get, &mut item.post, &mut item.patch, &mut item.delete];
        for operation in verbs.into_iter().flatten() {
            let none: [&str; 0] = [];
            operation.security = Some(vec![SecurityRequirement::new(TOKEN, none)]);
            operation.parameters.get_or_insert_default().push(RefOr::T(project_header()));
        }
    }
    (router, document)
}

/// `/v1/openapi.json`, and the browsable page at `/docs`.
pub(crate) fn pages(document: Document) -> Router<Shared> {
    SwaggerUi::new("/docs").url("/v1/openapi.json", document).into()
}

/// The OpenAPI 3.1 document of the contract, as it is committed in docs/openapi.json.
///
/// # Panics
/// Never: the document holds nothing that JSON cannot.
#[must_use]
pub fn openapi_json() -> String {
    let (_, document) = routes_and_document();
    let mut json = document.to_pretty_json().expect("a document is JSON");
    json.push('\n');
    json
}
