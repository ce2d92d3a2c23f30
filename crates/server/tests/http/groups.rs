//! Groups and agents over HTTP: the verbs, the token that opens one of them, and the secrets.

use api::agent::{Beat, CreateAgent};
use api::group::{CreateGroup, DeleteGroup, GroupQuery, MoveGroup, PermitHost, UpdateGroup};
use api::volume_type::CreateGrant;
use api::{ApiError, Client};
use model::group::{GroupState, PathsReport, Report, Standing, Wanted};
use model::id::GroupId;

use crate::world::{World, eventually, refused, volume};

fn report(group: GroupId, standing: Standing, generation: u64) -> Report {
    Report {
        group,
        standing,
        epoch: 4,
        generation,
        owner: None,
        for_ms: 60_000,
        why: "the volume was free".to_owned(),
        resources: Vec::new(),
        error: None,
        peers: Vec::new(),
        paths: Some(PathsReport { portals: 2, sessions: 2, answering: 1, why: None }),
    }
}

async fn enroll(world: &World, name: &str) -> (Client, String) {
    let new = CreateAgent {
        host: name.to_owned(),
        initiators: vec![format!("iqn.2026-11.test:{name}")],
        addresses: vec!["192.0.2.1".to_owned()],
        version: "1.0".to_owned(),
    };
    let made = world.admin.agent_create(&new).await.unwrap();
    assert_eq!(made.host.name, name);
    (Client::new(&world.address, Some(made.secret.clone())).unwrap(), made.secret)
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_are_made_ordered_about_and_reported_on() {
    let world = World::start().await;
    let admin = &world.admin;
    let grant = CreateGrant { project: "default".into(), acknowledge_data_loss: true };
    admin.grant_create("ssd-multiattach", &grant).await.unwrap();
    volume(admin, "shared", "ssd-multiattach").await;
    let (alpha, secret) = enroll(&world, "alpha").await;
    let (beta, _) = enroll(&world, "beta").await;
    let new = db();
    let made = admin.group_create(&new).await.unwrap();
    assert_eq!((made.wanted, made.state, made.owner), (Wanted::Started, GroupState::Unknown, None));
    assert_eq!((made.policy.takeover_ms, made.resources), (500, new.resources.clone()));

    let beat = |port, reports| Beat { version: "1.0".into(), addresses: vec![], port, reports };
    let told = eventually("alpha is let in", async || {
        let told = alpha.beat(&beat(7801, Vec::new())).await.unwrap();
        (!told.attachments.is_empty()).then_some(told)
    })
    .await;
    assert_eq!((told.host_name.as_str(), told.groups.len()), ("alpha", 1));
    let credentials = told.attachments[0].credentials.clone().unwrap();
    let key = told.groups[0].heartbeat_key.clone();
    assert!(!format!("{told:?}").contains(&credentials.secret), "{told:?}");
    assert!(!format!("{told:?}").contains(&key), "{told:?}");
    let port = told.groups[0].hosts.iter().find(|peer| peer.host_name == "alpha").unwrap().port;
    assert_eq!((port, told.groups[0].permitted), (7801, 0));

    alpha.beat(&beat(7801, vec![report(made.id, Standing::Running, 1)])).await.unwrap();
    beta.beat(&beat(7802, vec![report(made.id, Standing::Standby, 1)])).await.unwrap();
    let seen = admin.group_show("db").await.unwrap();
    let owner = seen.owner.clone().unwrap();
    assert_eq!(
        (seen.state, owner.host_name.as_str(), owner.epoch),
        (GroupState::Running, "alpha", 4)
    );
    assert!(owner.age_ms < 5_000 && owner.since < jiff::Timestamp::now());
    assert_eq!(seen.hosts[1].report.as_ref().unwrap().standing, Standing::Standby);
    let paths = seen.hosts[1].report.as_ref().unwrap().paths.as_ref().unwrap();
    assert_eq!((paths.portals, paths.sessions, paths.answering), (2, 2, 1));
    let host = admin.host_show("alpha").await.unwrap().agent.unwrap();
    assert!(host.up && host.port == 7801 && host.version == "1.0");
    let text = world.raw("GET", "/v1/groups/db", None).await.body.to_string();
    assert!(!text.contains(&key) && !text.contains(&credentials.secret));

    assert_eq!(admin.group_freeze("db").await.unwrap().generation, 2);
    refused(admin.group_stop("db").await, 409, "group_frozen");
    admin.group_unfreeze("db").await.unwrap();
    let to = MoveGroup { host: Some("beta".to_owned()) };
    let moved = admin.group_move("db", &to).await.unwrap();
    assert_eq!((moved.wanted_owner.as_deref(), moved.generation), (Some("beta"), 4));
    let to = MoveGroup { host: Some("nobody".to_owned()) };
    refused(admin.group_move("db", &to).await, 409, "group_host_unknown");
    let permit = PermitHost { host: "beta".to_owned() };
    let permitted = admin.group_permit("db", &permit).await.unwrap().generation;
    let told = beta.beat(&beat(7802, Vec::new())).await.unwrap();
    assert_eq!((told.groups[0].permitted, told.groups[0].moved), (permitted, 4));
    assert_eq!(admin.group_start("db").await.unwrap().generation, permitted + 1);
    refused(admin.group_delete("db", &DeleteGroup::default()).await, 409, "group_runs");
    updated(admin).await;
    assert_eq!(admin.group_stop("db").await.unwrap().wanted, Wanted::Stopped);
    let query = GroupQuery { host: Some("beta".to_owned()), ..GroupQuery::default() };
    assert_eq!(admin.every(&query).await.unwrap().len(), 1);
    admin.group_delete("db", &DeleteGroup { force: true }).await.unwrap();
    assert_eq!(alpha.beat(&beat(7801, Vec::new())).await.unwrap().groups, []);

    only_beats(&world, &alpha, &secret).await;
    admin.agent_delete("alpha").await.unwrap();
    refused(alpha.beat(&beat(7801, Vec::new())).await, 401, "token_unknown");
}

/// Its order and policy at once and once, its resources not while it is started.
async fn updated(admin: &Client) {
    let before = admin.group_show("db").await.unwrap().generation;
    let change = |text: &str| serde_json::from_str::<UpdateGroup>(text).unwrap();
    let order = change(r#"{"hosts": ["beta", "alpha"], "policy": {"failback": true}}"#);
    for _same_again in 0..2 {
        let updated = admin.group_update("db", &order).await.unwrap();
        assert_eq!((updated.generation, updated.policy.failback), (before + 1, true));
        assert_eq!((updated.hosts[0].name.as_str(), updated.hosts[0].leaving), ("beta", false));
    }
    let resources = change(r#"{"resources": []}"#);
    refused(admin.group_update("db", &resources).await, 409, "group_not_stopped");
    let fewer = change(r#"{"remove_hosts": ["beta"]}"#);
    refused(admin.group_update("db", &fewer).await, 409, "group_hosts");
    let both = change(r#"{"hosts": ["beta", "alpha"], "add_hosts": ["gamma"]}"#);
    refused(admin.group_update("db", &both).await, 400, "invalid_value");
}

fn db() -> CreateGroup {
    CreateGroup {
        name: "db".to_owned(),
        volume: "shared".to_owned(),
        hosts: vec!["alpha".to_owned(), "beta".to_owned()],
        resources: vec!["mount:/srv/db,fs=ext4".parse().unwrap()],
        start: true,
        ..CreateGroup::default()
    }
}

/// Every other route refuses an agent's token, and the one that takes it takes no user's.
async fn only_beats(world: &World, agent: &Client, secret: &str) {
    refused(agent.whoami().await, 403, "token_of_agent");
    let document = world.raw("GET", "/v1/openapi.json", None).await.body;
    let paths = document["paths"].as_object().unwrap();
    let mut asked = 0;
    for (path, item) in paths.iter().filter(|(path, _)| path.starts_with("/v1/")) {
        for method in item.as_object().unwrap().keys() {
            if path == "/v1/beats" {
                continue;
            }
            let path = path.replace(['{', '}'], "");
            let request = world.request(&method.to_uppercase(), &path).bearer_auth(secret);
            let request = request.header("content-type", "application/json").body("{}");
            let status = crate::world::answer(request).await.status;
            assert_eq!(status, 403, "{method} {path}");
            asked += 1;
        }
    }
    assert!(asked > 50, "{asked}");
    let beat: Result<_, ApiError> = world.admin.beat(&Beat::default()).await;
    refused(beat, 401, "token_unknown");
}
