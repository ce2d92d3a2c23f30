//! Agents: whom an enrolment makes an agent speak for, and what its token may not change.

mod world;

use control::{AgentCreate, Beat, HostCreate};
use model::group::{PeerReport, Report, Standing};
use model::user::Role;
use world::cluster::{cluster, group};
use world::{code, world};

fn iqn(name: &str) -> String {
    format!("iqn.2026-11.test:{name}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_enrolment_took_over_a_host_of_another_project_that_has_the_name() {
    let w = world().await;
    let stranger = w.member_of("other", Role::Member).await;
    let new = |project: &str, host: &str| AgentCreate {
        host: host.to_owned(),
        project: Some(project.to_owned()),
        ..AgentCreate::default()
    };
    let theirs = w.control.agent_create(&stranger, new("other", "alpha")).await.unwrap();
    let id = theirs.host.host.id.to_string();
    // The operator sees the hosts of all projects, and means the ones of this project.
    let ours = w.control.agent_create(&w.admin, new("default", "alpha")).await.unwrap();
    assert_ne!(ours.host.host.id, theirs.host.host.id);
    assert_ne!(ours.host.host.project, theirs.host.host.project);
    w.control.agent_authenticate(&theirs.secret, "").await.expect("their token is good");
    let by_id = w.control.agent_create(&w.admin, new("default", &id)).await;
    assert_eq!(code(by_id), "host_not_found");
    let again = w.control.agent_create(&w.admin, new("other", &id)).await.unwrap();
    assert_eq!(again.host.host.id, theirs.host.host.id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_agent_changed_the_addresses_that_the_operator_gave_its_host() {
    let w = world().await;
    let addresses = vec!["192.0.2.7".to_owned()];
    let host = HostCreate { name: "alpha".into(), addresses, ..HostCreate::default() };
    w.control.host_create(&w.admin, host).await.unwrap();
    let elsewhere = || vec!["198.51.100.1".to_owned()];
    let new =
        AgentCreate { host: "alpha".into(), addresses: elsewhere(), ..AgentCreate::default() };
    let made = w.control.agent_create(&w.admin, new).await.unwrap();
    let agent = w.control.agent_authenticate(&made.secret, "").await.unwrap();
    let beat = Beat { addresses: vec!["198.51.100.2".to_owned()], port: 7, ..Beat::default() };
    for (at, seen) in [(1, "198.51.100.1"), (2, "198.51.100.2")] {
        let view = w.control.host_get(&w.admin, "alpha").await.unwrap();
        assert_eq!(view.host.addresses[0].to_string(), "192.0.2.7", "exports let it in by them");
        let agent_at = view.agent.unwrap().addresses;
        assert_eq!((agent_at.len(), agent_at[0].to_string().as_str()), (1, seen), "{at}");
        w.control.beat(&agent, beat.clone()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_enrolment_gave_a_host_any_initiator_name_that_the_agent_brought() {
    let w = world().await;
    for name in ["alpha", "beta"] {
        let new = HostCreate {
            name: name.to_owned(),
            initiators: vec![iqn(name)],
            ..HostCreate::default()
        };
        w.control.host_create(&w.admin, new).await.unwrap();
    }
    let bare = HostCreate { name: "bare".to_owned(), ..HostCreate::default() };
    w.control.host_create(&w.admin, bare).await.unwrap();
    let bring = async |host: &str, names: &[&str]| {
        let initiators = names.iter().map(|name| iqn(name)).collect();
        let new = AgentCreate { host: host.to_owned(), initiators, ..AgentCreate::default() };
        w.control.agent_create(&w.admin, new).await.map(|made| made.host.host.initiators)
    };
    // Another host's.
    for host in ["alpha", "bare", "new"] {
        assert_eq!(code(bring(host, &["beta"]).await), "initiator_taken", "{host}");
    }
    assert_eq!(code(bring("alpha", &["alpha", "beta"]).await), "initiator_taken");
    // Nobody's: it may be another machine under that name.
    let error = bring("alpha", &["stranger"]).await.unwrap_err();
    assert_eq!(error.code(), "initiator_new");
    assert!(error.to_string().contains(&format!("it has '{}'", iqn("alpha"))), "{error}");
    let kept = w.control.host_get(&w.admin, "alpha").await.unwrap();
    assert_eq!((kept.host.initiators, kept.agent), (vec![iqn("alpha")], None));
    // One that the host has proves it, and brings another one along; a host without any has none
    // to prove.
    assert_eq!(bring("alpha", &["alpha", "second"]).await.unwrap(), [iqn("alpha"), iqn("second")]);
    assert_eq!(bring("bare", &["bare"]).await.unwrap(), [iqn("bare")]);
    assert_eq!(bring("bare", &[]).await.unwrap(), [iqn("bare")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_peers_of_each_group_of_a_host_are_told_in_one_answer() {
    let c = cluster().await;
    c.w.volume(&c.w.admin, "second", "ssd-multiattach").await;
    let second = group("second", "second", &["gamma", "alpha"]);
    c.w.control.group_create(&c.w.admin, second).await.unwrap();
    let mut told = c.beat(0, Vec::new()).await.groups;
    told.sort_by(|a, b| a.group.name.cmp(&b.group.name));
    let peers = |at: usize| -> Vec<(&str, bool)> {
        told[at].peers.iter().map(|(_, name, agent)| (name.as_str(), agent.is_some())).collect()
    };
    assert_eq!(peers(0), [("alpha", true), ("beta", true)]);
    assert_eq!(peers(1), [("gamma", true), ("alpha", true)], "alpha is in both");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_a_dismissed_agent_had_said_stayed_in_memory() {
    let c = cluster().await;
    let hears = |age_ms| Report {
        peers: vec![PeerReport { host: c.ids[0], heartbeat_age_ms: Some(age_ms) }],
        paths: None,
        ..c.report(Standing::Standby, 0)
    };
    let shown = async || {
        let said = c.seen().await.hosts[1].said.clone().expect("its words");
        said.report.peers[0].heartbeat_age_ms
    };
    c.beat(1, vec![hears(1)]).await;
    c.beat(1, vec![hears(2)]).await;
    assert_eq!(shown().await, Some(2));
    c.w.control.agent_delete(&c.w.admin, "beta").await.unwrap();
    assert_eq!(shown().await, Some(1), "what is left is what is in the catalog");
    let seen = c.seen().await;
    assert_eq!((seen.hosts[1].is_up, seen.hosts[1].silent_ms), (false, None));
    // Dismissed again: nothing happens, and nothing is told.
    let before = events(&c).await;
    c.w.control.agent_delete(&c.w.admin, "beta").await.unwrap();
    assert_eq!(events(&c).await, before);
}

async fn events(c: &world::cluster::Cluster) -> usize {
    let filter = control::EventFilter::default();
    c.w.control.event_list(&c.w.admin, &filter).await.expect("events").items.len()
}
