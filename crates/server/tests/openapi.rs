//! The committed OpenAPI document is the one that the code makes.

use std::path::Path;

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");

#[test]
fn the_committed_document_is_up_to_date() {
    let made = server::openapi_json();
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        std::fs::write(DOCUMENT, &made).unwrap();
    }
    let committed = std::fs::read_to_string(Path::new(DOCUMENT)).unwrap();
    assert!(
        committed == made,
        "docs/openapi.json is not what the code makes; \
         run `UPDATE_OPENAPI=1 cargo test -p server --test openapi` and look at the difference"
    );
}

/// Every operation says who may call it, what it answers, and how it refuses.
#[test]
fn every_operation_is_complete() {
    let document: serde_json::Value = serde_json::from_str(&server::openapi_json()).unwrap();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let mut ids = std::collections::BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (verb, operation) in item.as_object().unwrap() {
            let what = format!("{verb} {path}");
            let id = operation["operationId"].as_str().unwrap();
            assert!(ids.insert(id.to_owned()), "{what}: {id} is there twice");
            assert!(operation["summary"].is_string(), "{what} has no summary");
            if path.starts_with("/v1/") {
                assert!(operation["security"][0]["token"].is_array(), "{what} needs no token");
                assert!(operation["responses"]["401"].is_object(), "{what} has no 401");
            }
            if verb == "patch" {
                assert!(operation["requestBody"].is_object(), "{what} takes no body");
            }
            let parameters = |place: &str| -> Vec<&str> {
                let all = operation["parameters"].as_array().into_iter().flatten();
                let there = all.filter(|parameter| parameter["in"] == place);
                there.filter_map(|parameter| parameter["name"].as_str()).collect()
            };
            assert_eq!(path.matches('{').count(), parameters("path").len(), "{what}");
            if id.ends_with("_list") {
                for name in ["limit", "marker"] {
                    assert!(parameters("query").contains(&name), "{what} has no {name}");
                }
            }
        }
    }
    assert!(ids.len() > 50, "{}", ids.len());
    // A reference that leads nowhere breaks every generator.
    let text = document.to_string();
    for reference in text.split("\"#/components/").skip(1) {
        let (kind, name) = reference.split('"').next().unwrap().split_once('/').unwrap();
        let there = document["components"][kind].get(name).is_some();
        assert!(there, "{name} is referred to and not there");
    }
}
