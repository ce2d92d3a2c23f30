//! Groups from outside: made, shown, refused and ordered about, with agents that this test plays.
#![allow(clippy::unwrap_used, reason = "a test that meets one has failed")]

mod service;

use api::Client;
use api::agent::{Beat, CreateAgent};
use model::group::{Report, Standing};
use serde_json::Value;
use service::Service;

const NODES: [&str; 2] = ["alpha", "beta"];

fn ready() -> Service {
    let service = Service::start();
    let grant = ["volume-type", "grant", "ssd-multiattach", "default", "--acknowledge-data-loss"];
    service.json(&grant);
    service.json(&["volume", "create", "shared", "--size", "16m", "--type", "ssd-multiattach"]);
    for host in NODES {
        let name = format!("iqn.2026-11.org.example:{host}");
        service.json(&["host", "create", host, "--initiator", &name]);
    }
    service
}

const CREATE: [&str; 9] =
    ["group", "create", "db", "--volume", "shared", "--host", "alpha", "--host", "beta"];

#[test]
fn a_group_is_made_shown_and_forgotten() {
    let service = ready();
    let mut line = CREATE.to_vec();
    line.extend([
        "--resource",
        "mount:/srv/db,fs=ext4",
        "--resource",
        "address:10.0.0.9/24,dev=e0",
    ]);
    line.extend(["--takeover-ms", "2000", "--failback"]);
    let made = service.json(&line);
    assert_eq!(
        (made["state"].as_str(), made["wanted"].as_str()),
        (Some("unknown"), Some("stopped"))
    );
    assert_eq!(made["policy"]["takeover_ms"], 2000);
    assert_eq!(made["resources"][0]["path"], "/srv/db");
    assert_eq!(service.json(&["attachment", "list"]).as_array().unwrap().len(), 2);

    let shown = service.run(&["group", "show", "db"]).stdout;
    let shown = String::from_utf8_lossy(&shown).into_owned();
    for part in ["mount:/srv/db,fs=ext4", "STANDING", "alpha", "down", "stopped"] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    let list = service.run(&["group", "list", "-o", "plain"]).stdout;
    assert!(String::from_utf8_lossy(&list).starts_with("db\tshared\tunknown\tstopped\t-\t"));
    let history = service.json(&["group", "history", "db"]);
    assert_eq!(history[0]["action"], "group.create");

    let (code, error) = service.refused(&["host", "delete", "alpha"]);
    assert!(code == 4 && error.contains("group 'db'"), "{error}");
    let (code, error) = service.refused(&["volume", "delete", "shared"]);
    assert!(code == 4 && error.contains("group 'db'"), "{error}");
    service.run(&["group", "delete", "db"]);
    assert_eq!(service.json(&["group", "list"]).as_array().unwrap().len(), 0);
}

#[test]
fn a_group_comes_from_a_file_too() {
    let service = ready();
    let file = service.path("group.toml");
    let text = "name = \"db\"\nvolume = \"shared\"\nhosts = [\"alpha\", \"beta\"]\n\
        [[resources]]\nkind = \"exec\"\nstart = [\"/usr/bin/up\", \"a, b\"]\n\
        [policy]\non_failure = \"move\"\nwitness = \"10.0.0.1\"\n";
    std::fs::write(&file, text).unwrap();
    let made = service.json(&["group", "create", "--file", file.to_str().unwrap()]);
    assert_eq!(made["resources"][0]["start"][1], "a, b");
    assert_eq!(
        (&made["policy"]["on_failure"], &made["policy"]["witness"]),
        (&"move".into(), &"10.0.0.1".into())
    );
    std::fs::write(&file, "{\"name\": \"db\", \"colour\": 1}").unwrap();
    let (code, error) = service.refused(&["group", "create", "--file", file.to_str().unwrap()]);
    assert!(code == 2 && error.contains("colour"), "{error}");
}

#[test]
fn a_group_that_cannot_be_is_refused_with_what_to_do() {
    let service = ready();
    service.json(&["volume", "create", "single", "--size", "16m"]);
    let create = |volume: &'static str, hosts: &[&'static str], more: &[&'static str]| {
        let mut line = vec!["group", "create", "g", "--volume", volume];
        line.extend(hosts.iter().flat_map(|host| ["--host", host]));
        line.extend(more);
        service.refused(&line)
    };
    for (volume, hosts, more, code, part) in [
        ("nothing", &NODES[..], &[][..], 3, "no volume 'nothing'"),
        ("shared", &["alpha", "nobody"], &[], 3, "no host 'nobody'"),
        ("shared", &["alpha"], &[], 2, "2 to 16"),
        ("single", &NODES, &[], 4, "without multi-attach"),
        ("shared", &NODES, &["--resource", "mount:/srv"], 2, "no 'fs='"),
        ("shared", &NODES, &["--resource", "volume:x"], 2, "is no resource"),
        ("shared", &NODES, &["--freeze-ms", "600"], 2, "do not go together"),
    ] {
        let (seen, error) = create(volume, hosts, more);
        assert!(seen == code && error.contains(part), "{seen} {error}");
    }
    service.json(&CREATE);
    let mut start = vec!["group", "start", "db"];
    let (code, error) = service.refused(&start);
    assert!(code == 1 && error.contains("no agent of its hosts is up"), "{error}");
    start[1] = "stop";
    service.refused(&start);
    let (code, error) = service.refused(&["group", "move", "db", "gamma"]);
    assert!(code == 4 && error.contains("'alpha', 'beta'"), "{error}");
}

/// What an agent that obeys at once would say.
async fn play(url: String, token: String, name: &'static str) {
    let member = Client::new(&url, Some(token)).unwrap();
    let new = CreateAgent { host: name.to_owned(), ..CreateAgent::default() };
    let secret = member.agent_create(&new).await.unwrap().secret;
    let agent = Client::new(&url, Some(secret)).unwrap();
    let mut reports = Vec::new();
    loop {
        let beat = Beat { port: 1, reports, ..Beat::default() };
        let Ok(told) = agent.beat(&beat).await else { return };
        reports = told
            .groups
            .iter()
            .map(|group| {
                let owner = group.owner_id.unwrap_or(group.hosts[0].host_id);
                let standing = match (group.wanted.word(), owner == told.host_id) {
                    ("stopped", _) => Standing::Stopped,
                    (_, true) => Standing::Running,
                    (_, false) => Standing::Standby,
                };
                Report {
                    group: group.id,
                    standing,
                    epoch: 1,
                    generation: group.generation,
                    owner: None,
                    for_ms: 1,
                    why: "it was told to".to_owned(),
                    resources: Vec::new(),
                    error: None,
                    peers: Vec::new(),
                    paths: None,
                }
            })
            .collect();
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

fn until_agents_are_up(service: &Service) {
    let up = || {
        let group = service.json(&["group", "show", "db"]);
        group["hosts"].as_array().unwrap().iter().all(|host| host["report"].is_object())
    };
    let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !up() {
        assert!(std::time::Instant::now() < until, "the agents are never seen");
    }
}

#[test]
fn waiting_ends_when_the_hosts_have_done_it() {
    let service = ready();
    service.json(&CREATE);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for name in NODES {
        runtime.spawn(play(service.url.clone(), service.token.clone().unwrap(), name));
    }
    until_agents_are_up(&service);
    let running = service.json(&["group", "start", "db"]);
    assert_eq!(
        (&running["state"], &running["owner"]["host_name"]),
        (&"running".into(), &"alpha".into())
    );
    let moved = service.json(&["group", "move", "db"]);
    assert_eq!(moved["owner"]["host_name"], "beta");
    let frozen = service.json(&["group", "freeze", "db"]);
    assert_eq!(frozen["frozen"], true);
    service.json(&["group", "unfreeze", "db"]);
    let stopped = service.json(&["group", "stop", "db"]);
    assert_eq!(stopped["state"], "stopped");
    service.run(&["group", "delete", "db"]);
    let hosts = service.run(&["host", "list"]).stdout;
    assert!(String::from_utf8_lossy(&hosts).contains("up 0."), "their agents are up");
}

#[test]
fn a_group_is_changed_while_it_runs_and_its_resources_while_it_is_stopped() {
    let service = ready();
    service.json(&["host", "create", "gamma", "--initiator", "iqn.2026-11.org.example:gamma"]);
    let mut line = CREATE.to_vec();
    line.extend(["--resource", "unit:db.service", "--takeover-ms", "2000"]);
    service.json(&line);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for name in ["alpha", "beta", "gamma"] {
        runtime.spawn(play(service.url.clone(), service.token.clone().unwrap(), name));
    }
    until_agents_are_up(&service);
    service.json(&["group", "start", "db"]);
    let names = |group: &Value| -> Vec<String> {
        let hosts = group["hosts"].as_array().unwrap().iter();
        hosts.map(|host| host["name"].as_str().unwrap().to_owned()).collect()
    };
    let update = |more: &[&str]| service.json(&[&["group", "update", "db"], more].concat());
    let changed = update(&["--add-host", "gamma", "--on-failure", "move", "--witness", "10.0.0.1"]);
    assert_eq!(names(&changed), ["alpha", "beta", "gamma"]);
    assert_eq!(changed["policy"]["on_failure"], "move");
    assert_eq!(changed["policy"]["takeover_ms"], 2000, "what is not given stays");
    let same = update(&["--add-host", "gamma", "--witness", "10.0.0.1"]);
    assert_eq!(same["generation"], changed["generation"]);
    let changed = update(&["--witness", "none", "--failback=false"]);
    assert_eq!(changed["policy"]["witness"], Value::Null);
    assert_eq!(service.json(&["attachment", "list"]).as_array().unwrap().len(), 3);
    // A host that stands by goes when it has heard of it, and the owner does not.
    let changed = update(&["--remove-host", "beta"]);
    assert_eq!(names(&changed), ["alpha", "gamma"]);
    update(&["--add-host", "beta"]);
    let refused = |more: &[&str]| service.refused(&[&["group", "update", "db"], more].concat());
    let (code, error) = refused(&["--remove-host", "alpha"]);
    assert!(code == 4 && error.contains("'alpha' said last that it runs it"), "{error}");
    let file = service.path("group.toml");
    let text = "name = \"pg\"\nvolume = \"shared\"\nhosts = [\"gamma\", \"alpha\"]\n\
        [[resources]]\nkind = \"unit\"\nname = \"pg.service\"\n";
    std::fs::write(&file, text).unwrap();
    let from_file = ["--file", file.to_str().unwrap()];
    for more in [&from_file[..], &["--resource", "none"], &["--freeze-ms", "900"]] {
        let (code, error) = refused(more);
        let way_out = "stop it first: commonhold group stop db";
        assert!(code == 4 && error.contains(way_out), "{more:?}: {error}");
    }
    service.json(&["group", "stop", "db"]);
    update(&["--freeze-ms", "900", "--reserve", "exclusive-access"]);
    let changed = update(&from_file);
    assert_eq!(
        (&changed["name"], names(&changed)),
        (&"pg".into(), vec!["gamma".into(), "alpha".into()])
    );
    assert_eq!(changed["resources"][0]["name"], "pg.service");
    assert_eq!(changed["policy"]["freeze_ms"], 900);
    std::fs::write(&file, "volume = \"another\"\n").unwrap();
    let (code, error) = service.refused(&["group", "update", "pg", from_file[0], from_file[1]]);
    assert!(code == 2 && error.contains("'another'"), "{error}");
    let running = service.json(&["group", "start", "pg"]);
    assert_eq!(running["owner"]["host_name"], "gamma");
    let history = service.run(&["group", "history", "pg"]).stdout;
    let history = String::from_utf8_lossy(&history).into_owned();
    for part in ["host 'gamma' is new", "host 'beta' has left", "name 'db' to 'pg'"] {
        assert!(history.contains(part), "{part} in {history}");
    }
}

#[test]
fn an_agent_is_shown_with_its_host_and_dismissed_by_a_verb() {
    let service = ready();
    let member = Client::new(&service.url, Some(service.token.clone().unwrap())).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let new = CreateAgent {
        host: "alpha".to_owned(),
        version: "7.8.9".to_owned(),
        addresses: vec!["192.0.2.5".to_owned()],
        ..CreateAgent::default()
    };
    let secret = runtime.block_on(member.agent_create(&new)).unwrap().secret;
    let shown = service.json(&["host", "show", "alpha"]);
    assert_eq!(
        (&shown["agent"]["version"], &shown["agent"]["up"]),
        (&"7.8.9".into(), &true.into())
    );
    assert!(shown["agent"]["enrolled_at"].is_string());
    assert!(shown["agent"]["last_seen_age_ms"].is_u64());
    for line in [["host", "list"], ["host", "show"]] {
        let more: &[&str] = if line[1] == "show" { &["alpha"] } else { &[] };
        let text = service.run(&[&line[..], more].concat()).stdout;
        let text = String::from_utf8_lossy(&text).into_owned();
        for part in ["7.8.9", "up 0.", &shown["agent"]["enrolled_at"].as_str().unwrap()[..10]] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
    for _again in 0..2 {
        let dismissed = service.json(&["host", "dismiss", "alpha"]);
        assert_eq!((&dismissed["name"], &dismissed["agent"]), (&"alpha".into(), &Value::Null));
    }
    let agent = Client::new(&service.url, Some(secret)).unwrap();
    let error = runtime.block_on(agent.beat(&Beat::default())).unwrap_err();
    assert_eq!(error.status, Some(401));
    let events = service.json(&["event", "list", "--action", "host.dismiss"]);
    assert_eq!(events.as_array().unwrap().len(), 1, "once, and not for one that was gone");
    let (code, error) = service.refused(&["host", "dismiss", "nobody"]);
    assert!(code == 3 && error.contains("'nobody'"), "{error}");
}
