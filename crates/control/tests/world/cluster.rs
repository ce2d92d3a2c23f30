//! Three hosts with agents that a test plays, a shared volume, and a group.

use control::{
    AgentCaller, AgentCreate, Assignments, Beat, Caller, EventFilter, GroupCreate, GroupView,
};
use model::group::{PeerReport, Policy, Report, ResourceReport, ResourceState, Standing, Wanted};
use model::id::{GroupId, HostId};

use super::{World, world};

pub(crate) fn group(name: &str, volume: &str, hosts: &[&str]) -> GroupCreate {
    let resources = ["mount:/srv/db,fs=ext4", "unit:db.service"];
    GroupCreate {
        name: name.to_owned(),
        volume: volume.to_owned(),
        hosts: hosts.iter().map(|&host| host.to_owned()).collect(),
        resources: resources.iter().map(|text| text.parse().expect("a resource")).collect(),
        policy: Policy::default(),
        wanted: Wanted::Started,
    }
}

/// Three hosts with agents, a shared volume, and a group on the first two.
pub(crate) struct Cluster {
    pub(crate) w: World,
    pub(crate) agents: Vec<AgentCaller>,
    pub(crate) ids: Vec<HostId>,
    pub(crate) group: GroupId,
}

pub(crate) async fn enroll(w: &World, caller: &Caller, name: &str) -> (AgentCaller, HostId) {
    let new = AgentCreate {
        host: name.to_owned(),
        initiators: vec![format!("iqn.2026-11.test:{name}")],
        addresses: vec!["192.0.2.1".to_owned()],
        version: "1.0".to_owned(),
        project: None,
    };
    let made = w.control.agent_create(caller, new).await.expect("an agent");
    let agent = w.control.agent_authenticate(&made.secret, "192.0.2.1").await.expect("its token");
    (agent, made.host.host.id)
}

pub(crate) async fn cluster() -> Cluster {
    let w = world().await;
    w.grant_multiattach("default").await;
    w.volume(&w.admin, "shared", "ssd-multiattach").await;
    let (mut agents, mut ids) = (Vec::new(), Vec::new());
    for name in ["alpha", "beta", "gamma"] {
        let (agent, id) = enroll(&w, &w.admin, name).await;
        agents.push(agent);
        ids.push(id);
    }
    let made = w.control.group_create(&w.admin, group("db", "shared", &["alpha", "beta"])).await;
    let group = made.expect("a group").group.id;
    w.attached(&w.admin, "shared", 2).await;
    Cluster { w, agents, ids, group }
}

impl Cluster {
    pub(crate) fn report(&self, standing: Standing, epoch: u64) -> Report {
        let running = ResourceReport { state: ResourceState::Running, error: None, found_by: None };
        Report {
            group: self.group,
            standing,
            epoch,
            generation: 1,
            owner: None,
            for_ms: 10,
            why: "the volume was free".to_owned(),
            resources: vec![running; 2],
            error: None,
            peers: vec![PeerReport { host: self.ids[1], heartbeat_age_ms: Some(40) }],
            paths: None,
        }
    }
    pub(crate) async fn beat(&self, agent: usize, reports: Vec<Report>) -> Assignments {
        let beat = Beat { version: "1.0".into(), addresses: Vec::new(), port: 7801, reports };
        self.w.control.beat(&self.agents[agent], beat).await.expect("an answer")
    }
    pub(crate) async fn seen(&self) -> GroupView {
        self.w.control.group_get(&self.w.admin, "db").await.expect("the group")
    }
    pub(crate) async fn history(&self) -> Vec<String> {
        let filter =
            EventFilter { resource_id: Some(self.group.to_string()), ..EventFilter::default() };
        let page = self.w.control.event_list(&self.w.admin, &filter).await.expect("events");
        page.items.into_iter().map(|event| format!("{}: {}", event.action, event.detail)).collect()
    }
}
