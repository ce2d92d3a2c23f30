//! Groups that are changed while they exist: what may change when, and how a host goes.

mod world;

use control::{ControlError, GroupCreate, GroupUpdate, GroupView};
use model::group::{Policy, PolicyChange, Report, Reservation, Standing, Wanted};
use model::user::Role;
use world::cluster::{Cluster, cluster, group};
use world::{code, race};

fn names(seen: &GroupView) -> Vec<&str> {
    seen.hosts.iter().map(|host| host.name.as_str()).collect()
}

fn texts(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn ordered(hosts: &[&str]) -> GroupUpdate {
    GroupUpdate { hosts: Some(texts(hosts)), ..GroupUpdate::default() }
}

fn without(host: &str) -> GroupUpdate {
    GroupUpdate { remove_hosts: texts(&[host]), ..GroupUpdate::default() }
}

async fn update(c: &Cluster, change: GroupUpdate) -> Result<GroupView, ControlError> {
    c.w.control.group_update(&c.w.admin, "db", change).await
}

/// A word of the newest generation.
async fn says(c: &Cluster, agent: usize, standing: Standing) {
    let generation = c.seen().await.group.generation;
    let report = c.report(standing, 1);
    c.beat(agent, vec![Report { generation, ..report }]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_not_given_stays_and_the_same_again_changes_nothing() {
    let c = cluster().await;
    c.beat(0, vec![c.report(Standing::Running, 1)]).await;
    let before = c.seen().await.group;
    let change = GroupUpdate {
        name: Some(" pg ".to_owned()),
        hosts: Some(texts(&["beta", "alpha"])),
        policy: PolicyChange { failback: Some(true), ..PolicyChange::default() },
        ..GroupUpdate::default()
    };
    let made = update(&c, change.clone()).await.unwrap();
    assert_eq!((made.group.name.as_str(), names(&made)), ("pg", vec!["beta", "alpha"]));
    assert_eq!(made.group.policy, Policy { failback: true, ..Policy::default() });
    let (new, old) = (made.group.clone(), before.clone());
    assert_eq!((new.generation, new.forgiven, new.moved), (2, old.forgiven, old.moved));
    assert_eq!((new.wanted, new.owner, new.resources), (old.wanted, old.owner, old.resources));
    let again = c.w.control.group_update(&c.w.admin, "pg", change).await.unwrap();
    assert_eq!(again.group, made.group);
    let history = c.history().await;
    assert_eq!(history.iter().filter(|line| line.starts_with("group.update")).count(), 1);
    assert!(history[0].contains("name 'db' to 'pg'; the order beta, alpha"), "{history:?}");
    let told = c.beat(0, Vec::new()).await.groups.remove(0);
    assert_eq!((told.group.generation, told.peers[0].1.as_str()), (2, "beta"));

    let reader = c.w.member_of("default", Role::Reader).await;
    let nothing = GroupUpdate::default();
    assert_eq!(code(c.w.control.group_update(&reader, "pg", nothing).await), "forbidden");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_bad_update_is_refused_whole() {
    let c = cluster().await;
    let other =
        GroupCreate { name: "other".to_owned(), ..group("other", "second", &["alpha", "gamma"]) };
    c.w.volume(&c.w.admin, "second", "ssd-multiattach").await;
    c.w.control.group_create(&c.w.admin, other).await.unwrap();
    let before = c.seen().await.group;
    let named = |name: &str| GroupUpdate { name: Some(name.to_owned()), ..GroupUpdate::default() };
    let times = PolicyChange { freeze_ms: Some(600), ..PolicyChange::default() };
    let early = vec!["export:/srv".parse().unwrap()];
    for (change, expected) in [
        (named("other"), "name_taken"),
        (named(""), "invalid_value"),
        (ordered(&["alpha"]), "invalid_value"),
        (ordered(&["alpha", "alpha"]), "invalid_value"),
        (ordered(&["alpha", "nobody"]), "host_not_found"),
        (without("nobody"), "host_not_found"),
        (without("beta"), "group_hosts"),
        (
            GroupUpdate { add_hosts: texts(&["gamma"]), ..ordered(&["alpha", "beta"]) },
            "invalid_value",
        ),
        (GroupUpdate { policy: times, ..GroupUpdate::default() }, "invalid_value"),
        (GroupUpdate { resources: Some(early), ..named("new") }, "invalid_value"),
    ] {
        assert_eq!(code(update(&c, change.clone()).await), expected, "{change:?}");
        assert_eq!(c.seen().await.group, before, "{change:?}");
    }
    let error = update(&c, without("beta")).await.unwrap_err().to_string();
    assert!(error.contains("it has 'alpha', 'beta'"), "{error}");
    update(&c, without("gamma")).await.expect("it is out already");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_new_host_is_let_in_and_one_that_was_cut_off_is_not() {
    let c = cluster().await;
    let told = c.beat(1, Vec::new()).await;
    let cut_off = told.attachments[0].attachment.id.to_string();
    c.w.control.attachment_fence(&c.w.admin, &cut_off).await.unwrap();
    let change = GroupUpdate { add_hosts: texts(&["gamma", "beta"]), ..GroupUpdate::default() };
    let made = update(&c, change).await.unwrap();
    assert_eq!(names(&made), ["alpha", "beta", "gamma"]);
    c.w.attached(&c.w.admin, "shared", 2).await;
    let told = c.beat(2, Vec::new()).await;
    assert_eq!((told.groups.len(), told.attachments.len()), (1, 1));
    assert!(c.beat(1, Vec::new()).await.attachments.is_empty(), "that takes a permission");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_host_that_stands_by_leaves_when_it_has_heard_of_it() {
    let c = cluster().await;
    update(&c, GroupUpdate { add_hosts: texts(&["gamma"]), ..GroupUpdate::default() })
        .await
        .unwrap();
    for (agent, standing) in
        [(0, Standing::Running), (1, Standing::Standby), (2, Standing::Standby)]
    {
        says(&c, agent, standing).await;
    }
    let error = update(&c, without("alpha")).await.unwrap_err();
    assert_eq!(error.code(), "group_host_runs");
    assert!(error.to_string().contains("'alpha' said last that it runs it"), "{error}");
    c.w.control.group_move(&c.w.admin, "db", Some("beta")).await.unwrap();

    let made = update(&c, without("beta")).await.unwrap();
    assert_eq!(made.group.owner, None, "nobody is moved to a host that goes");
    let leaving = |seen: &GroupView| seen.hosts.iter().filter(|host| host.is_leaving).count();
    assert_eq!((names(&made), leaving(&made)), (vec!["alpha", "gamma", "beta"], 1));
    assert_eq!(update(&c, without("beta")).await.unwrap().group, made.group, "the same again");
    let to_it = c.w.control.group_move(&c.w.admin, "db", Some("beta")).await;
    assert_eq!(code(to_it), "group_host_away");
    let told = |mut answer: control::Assignments| answer.groups.remove(0).group.wanted;
    assert_eq!(told(c.beat(1, Vec::new()).await), Wanted::Stopped);
    assert_eq!(told(c.beat(0, Vec::new()).await), Wanted::Started);
    // It has the order, and is not at its end.
    says(&c, 1, Standing::Standby).await;
    assert_eq!(leaving(&c.seen().await), 1);
    let generation = c.seen().await.group.generation;
    let rests = Report { generation, ..c.report(Standing::Stopped, 0) };
    let told = c.beat(1, vec![rests]).await;
    assert_eq!((told.groups.len(), told.attachments.len()), (0, 1), "it stays attached");
    assert_eq!(names(&c.seen().await), ["alpha", "gamma"]);
    assert!(c.history().await[0].contains("host 'beta' has left"), "{:?}", c.history().await);
    let attachment = told.attachments[0].attachment.id.to_string();
    c.w.control.attachment_delete(&c.w.admin, &attachment).await.expect("nothing needs it");
    c.w.control.host_get(&c.w.admin, "beta").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_host_that_is_not_heard_goes_by_force_alone_and_comes_back_as_a_new_one() {
    let c = cluster().await;
    update(&c, GroupUpdate { add_hosts: texts(&["gamma"]), ..GroupUpdate::default() })
        .await
        .unwrap();
    c.beat(1, Vec::new()).await;
    c.w.control.agent_delete(&c.w.admin, "beta").await.unwrap();
    let error = update(&c, without("beta")).await.unwrap_err();
    assert_eq!(error.code(), "group_host_runs");
    assert!(error.to_string().contains("it has no agent"), "{error}");
    let forced = GroupUpdate { force: true, ..without("beta") };
    assert_eq!(names(&update(&c, forced).await.unwrap()), ["alpha", "gamma"]);
    // One that was never told to start it cannot run it.
    assert_eq!(names(&update(&c, ordered(&["alpha", "beta"])).await.unwrap()), ["alpha", "beta"]);
    assert_eq!(c.seen().await.hosts[1].told, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_hosts_must_agree_on_changes_only_while_nobody_may_run_it() {
    let c = cluster().await;
    c.beat(0, vec![c.report(Standing::Running, 1)]).await;
    c.beat(1, vec![c.report(Standing::Standby, 0)]).await;
    let resources = GroupUpdate {
        resources: Some(vec!["unit:pg.service".parse().unwrap()]),
        ..GroupUpdate::default()
    };
    let of = |policy| GroupUpdate { policy, ..GroupUpdate::default() };
    let usual = PolicyChange::default;
    let changes = [
        resources,
        of(PolicyChange { takeover_ms: Some(900), ..usual() }),
        of(PolicyChange { freeze_ms: Some(300), ..usual() }),
        of(PolicyChange { reservation: Some(Reservation::ExclusiveAccess), ..usual() }),
    ];
    let refused = async |why: &str| {
        for change in changes.clone() {
            let error = update(&c, change).await.unwrap_err();
            assert_eq!(error.code(), "group_not_stopped");
            assert!(error.to_string().contains(why), "{error}");
        }
    };
    refused("stop it first: commonhold group stop db").await;
    c.w.control.group_stop(&c.w.admin, "db").await.unwrap();
    refused("'alpha' said last that it runs it").await;
    says(&c, 0, Standing::Stopped).await;
    refused("'beta' has not said that it heard of the stop").await;
    says(&c, 1, Standing::Stopped).await;
    for change in changes {
        update(&c, change).await.unwrap();
    }
    let group = c.seen().await.group;
    assert_eq!((group.resources.len(), group.policy.takeover_ms), (1, 900));
    assert_eq!(group.generation, 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn hosts_that_are_added_and_taken_out_at_once_do_not_lose_each_other() {
    let c = cluster().await;
    let spare = ["d", "e", "f", "g"];
    for name in spare {
        c.w.host(&c.w.admin, name).await;
    }
    let adds = spare.map(|name| {
        let (control, admin) = (c.w.control.clone(), c.w.admin.clone());
        let change = GroupUpdate { add_hosts: texts(&[name]), ..GroupUpdate::default() };
        async move { control.group_update(&admin, "db", change).await.map(|_| ()) }
    });
    assert!(race(adds).await.iter().all(Result::is_ok));
    let seen = c.seen().await;
    let mut all = names(&seen);
    all.sort_unstable();
    assert_eq!(all, ["alpha", "beta", "d", "e", "f", "g"]);
    assert_eq!(seen.group.generation, 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_beat_under_way_left_words_of_a_host_that_had_been_taken_out() {
    let c = std::sync::Arc::new(cluster().await);
    let spare = GroupUpdate { add_hosts: texts(&["gamma"]), ..GroupUpdate::default() };
    update(&c, spare).await.unwrap();
    for round in 0..10 {
        let ends = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let (beating, end) = (c.clone(), ends.clone());
        let beats = tokio::spawn(async move {
            while !end.load(std::sync::atomic::Ordering::Relaxed) {
                for standing in [Standing::Running, Standing::Fenced] {
                    beating.beat(1, vec![beating.report(standing, 1)]).await;
                }
            }
        });
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        update(&c, GroupUpdate { force: true, ..without("beta") }).await.unwrap();
        ends.store(true, std::sync::atomic::Ordering::Relaxed);
        beats.await.unwrap();
        let again = GroupUpdate { add_hosts: texts(&["beta"]), ..GroupUpdate::default() };
        let seen = update(&c, again).await.unwrap();
        let beta = seen.hosts.iter().find(|host| host.name == "beta").expect("it is in again");
        assert_eq!((&beta.said, beta.told), (&None, None), "round {round}");
    }
}
