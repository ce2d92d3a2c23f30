//! Bad input at the door: a clear error with code and hint, and nothing changed.

use std::io::Write;
use std::net::TcpStream;

use api::host::HostQuery;
use api::token::CreateToken;
use api::user::Role;
use api::volume::VolumeQuery;
use api::{ApiError, Client};
use serde_json::json;

use crate::verbs::host;
use crate::world::{Raw, World, answer, new_volume, refused, volume};

/// Every refusal has the one shape.
fn check(raw: &Raw, status: u16, code: &str) {
    let error = &raw.body["error"];
    assert_eq!((raw.status, error["code"].as_str()), (status, Some(code)), "{}", raw.body);
    for field in ["message", "hint"] {
        assert!(error[field].as_str().is_some_and(|text| !text.is_empty()), "{}", raw.body);
    }
    assert!(raw.headers.contains_key("x-request-id"));
    assert_eq!(raw.headers["content-type"], "application/json");
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_not_as_agreed() {
    let world = World::start().await;
    for (body, code, says) in [
        ("{\"name\": \"v\", \"si", "malformed_json", "EOF"),
        ("", "malformed_json", "EOF"),
        ("{\"name\": \"v\"} {}", "malformed_json", "trailing"),
        ("\u{0}\u{1}", "malformed_json", "expected value"),
        ("[]", "invalid_request", "CreateVolume"),
        ("{}", "invalid_request", "name"),
        ("{\"name\": 7}", "invalid_request", "name: invalid type"),
        ("{\"name\": \"v\", \"sise\": \"1g\"}", "invalid_request", "unknown field `sise`"),
        ("{\"name\": \"v\", \"size\": 18446744073709551616}", "invalid_request", "larger than any"),
        (
            "{\"name\": \"v\", \"size\": \"18446744073709551616\"}",
            "invalid_request",
            "larger than any",
        ),
        ("{\"name\": \"v\", \"size\": -1}", "invalid_request", "negative"),
        ("{\"name\": \"v\", \"size\": \"ten\"}", "invalid_request", "size: 'ten' is not a size"),
        ("{\"name\": \"v\", \"size\": 0}", "invalid_value", "0"),
        ("{\"name\": \"v\", \"size\": 18446744073709551615}", "invalid_value", "largest volume"),
        ("{\"name\": \"\", \"size\": 1}", "invalid_value", "name"),
        (
            "{\"name\": \"v\", \"size\": 1, \"source\": {\"tape\": \"x\"}}",
            "invalid_request",
            "tape",
        ),
    ] {
        let raw = world.raw("POST", "/v1/volumes", Some(body)).await;
        check(&raw, 400, code);
        let message = raw.body["error"]["message"].as_str().unwrap();
        assert!(message.contains(says), "{body}: {message}");
    }
    let unmarked = world.request("POST", "/v1/volumes").bearer_auth(&world.token).body("{}");
    check(&answer(unmarked).await, 415, "not_json");
    assert!(world.admin.every(&VolumeQuery::default()).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_too_large() {
    let world = World::start().await;
    let fits = json!({ "name": "v", "size": 1, "tail": "x".repeat(1_000_000) }).to_string();
    check(&world.raw("POST", "/v1/volumes", Some(&fits)).await, 400, "invalid_request");
    let large = json!({ "name": "v", "size": 1, "description": "x".repeat(1 << 20) }).to_string();
    check(&world.raw("POST", "/v1/volumes", Some(&large)).await, 413, "body_too_large");
    let long = "x".repeat(256);
    let name = json!({ "name": long, "size": "1g" }).to_string();
    check(&world.raw("POST", "/v1/volumes", Some(&name)).await, 400, "invalid_value");
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_methods_and_queries_that_are_not_there() {
    let world = World::start().await;
    check(&world.raw("GET", "/v1/disks", None).await, 404, "unknown_route");
    check(&world.raw("GET", "/", None).await, 404, "unknown_route");
    let raw = world.raw("PUT", "/v1/volumes", Some("{}")).await;
    check(&raw, 405, "method_not_allowed");
    let allowed = raw.headers["allow"].to_str().unwrap();
    for method in ["GET", "POST"] {
        assert!(allowed.split(',').any(|one| one == method), "{allowed}");
    }
    check(&world.raw("GET", "/v1/volumes?limit=ten", None).await, 400, "invalid_query");
    check(&world.raw("GET", "/v1/volumes?sort=name", None).await, 400, "invalid_query");
    check(&world.raw("GET", "/v1/volumes?limit=0", None).await, 400, "invalid_value");
    check(&world.raw("GET", "/v1/volumes?limit=1001", None).await, 400, "invalid_value");
    check(&world.raw("GET", "/v1/volumes?marker=x", None).await, 400, "invalid_value");
    check(&world.raw("GET", "/v1/volumes/%ff", None).await, 400, "invalid_path");
    check(&world.raw("GET", "/v1/volumes/no-such", None).await, 404, "volume_not_found");
    let local = world.admin.volume_show("..").await.unwrap_err();
    assert!(local.is(ApiError::BAD_ADDRESS), "{local:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_open_nothing() {
    let world = World::start().await;
    let raw = answer(world.request("GET", "/v1/volumes")).await;
    check(&raw, 401, "token_missing");
    assert_eq!(raw.headers["www-authenticate"], "Bearer");
    let basic = world.request("GET", "/v1/volumes").basic_auth("admin", Some("admin"));
    check(&answer(basic).await, 401, "token_missing");
    // Whoever has no token learns nothing about the body either.
    let blind = world.request("POST", "/v1/volumes").bearer_auth("ch_x").body("{");
    check(&answer(blind).await, 401, "token_unknown");
    let new = CreateToken { expires_in_seconds: Some(0), ..CreateToken::default() };
    let expired = world.admin.token_create(&new).await.unwrap();
    let client = Client::new(&world.address, Some(expired.secret)).unwrap();
    refused(client.whoami().await, 401, "token_expired");
}

#[tokio::test(flavor = "multi_thread")]
async fn projects_and_roles_keep_apart() {
    let world = World::start().await;
    world.project("red").await;
    world.project("blue").await;
    let red = world.user("red", Role::Member).await;
    let blue = world.user("blue", Role::Member).await;
    let reader = world.user("red", Role::Reader).await;
    let theirs = host(&blue, "theirs").await;
    volume(&red, "v", "ssd").await;
    let attach = api::attachment::CreateAttachments {
        volume: "v".into(),
        hosts: vec![theirs.id.to_string()],
        ..Default::default()
    };
    refused(red.attachment_create(&attach).await, 404, "host_not_found");
    refused(red.host_delete(&theirs.id.to_string()).await, 404, "host_not_found");
    assert!(red.every(&HostQuery::default()).await.unwrap().is_empty());
    refused(reader.volume_create(&new_volume("w", "ssd")).await, 403, "forbidden");
    refused(
        red.volume_create(&new_volume("w", "ssd-multiattach")).await,
        404,
        "volume_type_not_found",
    );
    refused(red.pool_show("local-ssd").await, 403, "forbidden");

    // Only an admin works in other projects.
    let query = VolumeQuery::default();
    let sneaky = red.clone().in_project(Some("blue".into()));
    refused(sneaky.every(&query).await, 404, "project_not_found");
    assert_eq!(red.clone().in_project(Some("red".into())).every(&query).await.unwrap().len(), 1);
    let chosen = world.admin.clone().in_project(Some("blue".into()));
    assert!(chosen.every(&query).await.unwrap().is_empty());
    chosen.volume_create(&new_volume("mine", "ssd")).await.unwrap();
    assert_eq!(blue.every(&query).await.unwrap().len(), 1);
    let raw = world.raw("GET", "/v1/volumes?project=red", None).await;
    assert_eq!(raw.body["items"].as_array().unwrap().len(), 1);
    check(&world.raw("GET", "/v1/volumes?project=green", None).await, 404, "project_not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_of_use_cases_carry_their_values() {
    let world = World::start().await;
    for _ in 0..2 {
        volume(&world.admin, "twin", "ssd").await;
    }
    let error = world.admin.volume_show("twin").await.unwrap_err();
    assert_eq!((error.status, error.code.as_str()), (Some(409), "ambiguous_name"));
    assert_eq!(error.details.unwrap()["candidates"].as_array().unwrap().len(), 2);

    let quota = api::project::QuotaChange { volumes: Some(2), ..Default::default() };
    let change = api::project::UpdateProject { quota: Some(quota), ..Default::default() };
    world.admin.project_update("default", &change).await.unwrap();
    let error = world.admin.volume_create(&new_volume("third", "ssd")).await.unwrap_err();
    assert_eq!((error.status, error.code.as_str()), (Some(409), "quota_exceeded"));
    assert_eq!(error.details.unwrap()["limit"], "2");

    world.node.go_away(true);
    let raw = world
        .raw("GET", &format!("/v1/volumes/{}/reservations", volume_id(&world).await), None)
        .await;
    check(&raw, 503, "node_unreachable");
    assert!(raw.headers.contains_key("retry-after"));
    world.node.go_away(false);
}

async fn volume_id(world: &World) -> String {
    let query = VolumeQuery { limit: Some(1), ..VolumeQuery::default() };
    world.admin.list(&query).await.unwrap().items[0].id.to_string()
}

/// Bytes that are not HTTP end that connection and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn noise_on_the_socket() {
    let world = World::start().await;
    let address = world.address.trim_start_matches("http://").to_owned();
    for noise in
        [&b"\x16\x03\x01\x00\xa5"[..], b"GET / HTTP/9.9\r\n\r\n", b"\r\n\r\n\r\n", b"POST "]
    {
        TcpStream::connect(&address).unwrap().write_all(noise).unwrap();
    }
    assert_eq!(world.admin.health().await.unwrap().status, "ok");
    world.stop().await;
}
