//! Groups: what is wanted, what hosts say, and that nothing a group needs is taken away.

mod world;

use control::{
    AgentCreate, AttachmentUpdate, Beat, EventFilter, GroupCreate, GroupFilter, VolumeCreate,
    VolumeDelete,
};
use model::group::{GroupState, Policy, Report, Resource, Standing, Wanted};
use model::order::Mode;
use model::user::Role;
use model::volume::VolumeKind;
use world::cluster::{cluster, group};
use world::{attach, code, eventually, world};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_agent_learns_what_its_host_is_to_have_and_nothing_of_others() {
    let c = cluster().await;
    let told = c.beat(0, Vec::new()).await;
    assert_eq!((told.host.name.as_str(), told.attachments.len()), ("alpha", 1));
    let volume = &told.attachments[0];
    assert_eq!(volume.volume_name, "shared");
    assert!(volume.attachment.connection.is_some());
    let chap = volume.chap.clone().expect("its secret");
    let group = &told.groups[0];
    assert_eq!((group.group.generation, group.group.wanted), (1, Wanted::Started));
    assert_eq!(group.heartbeat_key.len(), 64);
    let peers: Vec<_> = group.peers.iter().map(|(id, name, _)| (*id, name.as_str())).collect();
    assert_eq!(peers, [(c.ids[0], "alpha"), (c.ids[1], "beta")]);
    assert_eq!(group.peers[0].2.as_ref().expect("its agent").port, 7801);

    let other = c.beat(1, Vec::new()).await;
    assert_ne!(other.attachments[0].chap.as_ref().expect("its own").secret, chap.secret);
    assert_eq!(other.groups[0].heartbeat_key, group.heartbeat_key);
    let stranger = c.beat(2, vec![c.report(Standing::Running, 9)]).await;
    assert!(stranger.attachments.is_empty() && stranger.groups.is_empty());
    assert_eq!(c.seen().await.state, GroupState::Unknown, "gamma has no say in it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_token_of_an_agent_opens_its_beats_alone() {
    let c = cluster().await;
    let control = &c.w.control;
    let new = AgentCreate { host: "alpha".into(), ..AgentCreate::default() };
    let made = control.agent_create(&c.w.admin, new.clone()).await.unwrap();
    assert!(made.secret.starts_with("cha_") && made.secret.len() == 47);
    assert_eq!(code(control.authenticate(&made.secret, "").await), "token_of_agent");
    let old = control.agent_authenticate("cha_old", "").await;
    assert_eq!(code(old), "token_unknown");
    let now = control.agent_authenticate(&made.secret, "").await.unwrap();
    // Enrolled anew: the first one is void.
    let again = control.agent_create(&c.w.admin, new.clone()).await.unwrap();
    assert_eq!(code(control.agent_authenticate(&made.secret, "").await), "token_unknown");
    control.agent_authenticate(&again.secret, "").await.unwrap();
    control.agent_delete(&c.w.admin, "alpha").await.unwrap();
    assert_eq!(code(control.agent_authenticate(&again.secret, "").await), "token_unknown");
    assert_eq!(code(control.beat(&now, Beat::default()).await), "token_unknown");
    assert_eq!(control.host_get(&c.w.admin, "alpha").await.unwrap().agent, None);

    let reader = c.w.member_of("default", Role::Reader).await;
    assert_eq!(code(control.agent_create(&reader, new).await), "forbidden");
    let stranger = c.w.member_of("other", Role::Member).await;
    let id = c.ids[0].to_string();
    assert_eq!(code(control.agent_delete(&stranger, &id).await), "host_not_found");
    // A host of the same name in another project is another host.
    let theirs = AgentCreate { host: "alpha".into(), ..AgentCreate::default() };
    let theirs = control.agent_create(&stranger, theirs).await.unwrap();
    assert_ne!(theirs.host.host.id, c.ids[0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_hosts_say_is_shown_with_its_age_and_kept_in_the_history() {
    let c = cluster().await;
    assert_eq!(c.seen().await.state, GroupState::Unknown);
    c.beat(1, vec![c.report(Standing::Standby, 0)]).await;
    assert_eq!(c.seen().await.state, GroupState::Waiting);
    c.beat(0, vec![c.report(Standing::Running, 7)]).await;
    let seen = c.seen().await;
    assert_eq!((seen.state, seen.owner), (GroupState::Running, Some(c.ids[0])));
    let said = seen.hosts[0].said.clone().expect("its words");
    assert_eq!((said.report.epoch, said.report.resources.len()), (7, 2));
    assert!(said.age_ms(seen.now_ms) < 5_000 && seen.hosts[0].is_up);
    assert_eq!(said.report.peers[0].heartbeat_age_ms, Some(40));

    // The same again is no news; another standing is.
    let before = c.history().await.len();
    c.beat(0, vec![Report { for_ms: 1_010, ..c.report(Standing::Running, 7) }]).await;
    assert_eq!(c.history().await.len(), before);
    let error = Some("the volume was lost".to_owned());
    c.beat(0, vec![Report { error, ..c.report(Standing::Fenced, 7) }]).await;
    c.beat(1, vec![c.report(Standing::Running, 3)]).await;
    let history = c.history().await;
    assert_eq!(history.len(), before + 2);
    assert!(history[0].contains("host 'beta': standby to running, epoch 3"), "{history:?}");
    assert!(history[1].contains("host 'alpha': running to fenced, epoch 7"), "{history:?}");
    assert!(history[1].contains("the volume was lost"), "{history:?}");
    assert!(history.last().unwrap().starts_with("group.create: volume 'shared'"), "{history:?}");
    assert_eq!(c.seen().await.owner, Some(c.ids[1]));

    // A report may not be of any length.
    let why = "x".repeat(100_000);
    c.beat(1, vec![Report { why, ..c.report(Standing::Failed, 3) }]).await;
    assert_eq!(c.seen().await.hosts[1].said.as_ref().unwrap().report.why.len(), 1000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_newer_order_is_known_by_its_generation() {
    let c = cluster().await;
    let (control, admin) = (&c.w.control, &c.w.admin);
    for agent in 0..2 {
        c.beat(agent, vec![c.report(Standing::Standby, 0)]).await;
    }
    let generations = [
        control.group_stop(admin, "db").await.unwrap().group.generation,
        control.group_start(admin, "db").await.unwrap().group.generation,
        control.group_start(admin, "db").await.unwrap().group.generation,
        control.group_freeze(admin, "db").await.unwrap().group.generation,
    ];
    assert_eq!(generations, [2, 3, 4, 5]);
    for frozen in [
        control.group_stop(admin, "db").await,
        control.group_start(admin, "db").await,
        control.group_move(admin, "db", Some("beta")).await,
    ] {
        assert_eq!(code(frozen), "group_frozen");
    }
    assert_eq!(control.group_unfreeze(admin, "db").await.unwrap().group.generation, 6);
    let moved = control.group_move(admin, "db", Some("beta")).await.unwrap().group;
    assert_eq!((moved.owner, moved.moved, moved.generation), (Some(c.ids[1]), 7, 7));
    let nowhere = control.group_move(admin, "db", Some("gamma")).await;
    assert_eq!(code(nowhere), "group_host_unknown");
    let told = c.beat(0, Vec::new()).await;
    assert_eq!((told.groups[0].group.generation, told.groups[0].group.moved), (7, 7));
    let reader = c.w.member_of("default", Role::Reader).await;
    assert_eq!(code(control.group_stop(&reader, "db").await), "forbidden");
    control.group_get(&reader, "db").await.expect("readers may look");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_move_without_a_name_goes_to_the_next_host_that_is_up_and_not_fenced() {
    let c = cluster().await;
    let (control, admin) = (&c.w.control, &c.w.admin);
    c.beat(0, vec![c.report(Standing::Running, 1)]).await;
    c.beat(1, vec![c.report(Standing::Standby, 0)]).await;
    assert_eq!(control.group_move(admin, "db", None).await.unwrap().group.owner, Some(c.ids[1]));
    c.beat(1, vec![c.report(Standing::Fenced, 1)]).await;
    assert_eq!(code(control.group_move(admin, "db", None).await), "group_nowhere_to_move");
    assert_eq!(code(control.group_move(admin, "db", Some("beta")).await), "group_host_fenced");
    let permitted = control.group_permit(admin, "db", "beta").await.unwrap().group;
    assert_eq!(permitted.permits.get(&c.ids[1]), Some(&permitted.generation));
    let told = c.beat(1, vec![c.report(Standing::Standby, 1)]).await;
    assert_eq!(told.groups[0].group.permits, permitted.permits);
    control.group_move(admin, "db", Some("beta")).await.expect("it may");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_fenced_attachment_comes_back_with_the_permission() {
    let c = cluster().await;
    let (control, admin) = (&c.w.control, &c.w.admin);
    let told = c.beat(1, Vec::new()).await;
    let attachment = told.attachments[0].attachment.id.to_string();
    control.attachment_fence(admin, &attachment).await.expect("a fence is never refused");
    eventually("beta is out", async || {
        c.beat(1, vec![]).await.attachments.is_empty().then_some(())
    })
    .await;
    control.group_permit(admin, "db", "beta").await.unwrap();
    let back = async || c.beat(1, vec![]).await.attachments.pop();
    let back = eventually("beta is in again", back).await;
    assert_ne!(back.attachment.id.to_string(), attachment);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_a_group_needs_is_not_taken_away_and_the_refusal_names_it() {
    let c = cluster().await;
    let (control, admin) = (&c.w.control, &c.w.admin);
    let attachment = c.beat(0, vec![]).await.attachments[0].attachment.id.to_string();
    let refusals = [
        control.attachment_delete(admin, &attachment).await.map(|_| ()).unwrap_err(),
        control.host_delete(admin, "alpha").await.unwrap_err(),
        control
            .volume_delete(admin, "shared", VolumeDelete::default())
            .await
            .map(|_| ())
            .unwrap_err(),
    ];
    for error in refusals {
        assert_eq!(error.code(), "in_use");
        assert!(error.to_string().contains("group 'db'"), "{error}");
    }
    assert_eq!(code(control.group_delete(admin, "db", false).await), "group_runs");
    c.beat(0, vec![c.report(Standing::Running, 1)]).await;
    control.group_stop(admin, "db").await.unwrap();
    let error = control.group_delete(admin, "db", false).await.unwrap_err();
    assert!(error.to_string().contains("host 'alpha' said last"), "{error}");
    c.beat(0, vec![Report { generation: 2, ..c.report(Standing::Stopped, 1) }]).await;
    control.group_delete(admin, "db", false).await.unwrap();
    assert_eq!(code(control.group_get(admin, "db").await), "group_not_found");
    let told = c.beat(0, vec![c.report(Standing::Stopped, 1)]).await;
    assert_eq!((told.groups.len(), told.attachments.len()), (0, 1), "it stays attached");
    control.attachment_delete(admin, &attachment).await.expect("nothing needs it now");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_group_that_cannot_be_is_refused_with_the_reason_and_nothing_is_attached() {
    let w = world().await;
    w.grant_multiattach("default").await;
    w.hosts(&w.admin, 3).await;
    w.volume(&w.admin, "shared", "ssd-multiattach").await;
    w.volume(&w.admin, "single", "ssd").await;
    let tree = VolumeCreate {
        kind: Some(VolumeKind::File),
        volume_type: None,
        ..world::volume("tree", 1, "")
    };
    w.control.volume_create(&w.admin, tree).await.unwrap();
    let two = ["host-1", "host-2"];
    let early: Vec<Resource> =
        ["export:/srv", "mount:/srv,fs=ext4"].map(|text| text.parse().unwrap()).to_vec();
    let times = Policy { freeze_ms: 600, ..Policy::default() };
    for (new, expected) in [
        (group("g", "nothing", &two), "volume_not_found"),
        (group("g", "shared", &["host-1", "nobody"]), "host_not_found"),
        (group("g", "shared", &["host-1"]), "invalid_value"),
        (group("g", "shared", &["host-1", "host-1"]), "invalid_value"),
        (group("g", "single", &two), "not_multiattach"),
        (group("g", "tree", &two), "wrong_kind"),
        (group("", "shared", &two), "invalid_value"),
        (GroupCreate { resources: early, ..group("g", "shared", &two) }, "invalid_value"),
        (GroupCreate { policy: times, ..group("g", "shared", &two) }, "invalid_value"),
    ] {
        assert_eq!(code(w.control.group_create(&w.admin, new.clone()).await), expected, "{new:?}");
    }
    let said = async |new| w.control.group_create(&w.admin, new).await.unwrap_err().to_string();
    let sentences = [
        (group("", "shared", &two), "name cannot be used: it must not be empty"),
        (group(".", "shared", &two), "it must not mean a place in a path, and '.' does"),
        (
            group("g", "tree", &two),
            "to run a group is for block volumes, and volume 'tree' is a file",
        ),
        (group("g", "shared", &["host-1"]), "hosts cannot be used: it must be 2 to 16 hosts"),
    ];
    for (new, sentence) in sentences {
        let error = said(new).await;
        assert!(error.contains(sentence), "{error}");
    }
    let none = control::AttachmentFilter::default();
    assert!(w.control.attachment_list(&w.admin, &none).await.unwrap().items.is_empty());
    w.control.group_create(&w.admin, group("g", "shared", &two)).await.unwrap();
    // One group holds the reservation of a volume; a second one would fight with it.
    let second = w.control.group_create(&w.admin, group("h", "shared", &two)).await;
    assert_eq!(code(second), "in_use");
    w.volume(&w.admin, "other", "ssd-multiattach").await;
    let taken = w.control.group_create(&w.admin, group("g", "other", &two)).await;
    assert_eq!(code(taken), "name_taken");
    let stranger = w.member_of("elsewhere", Role::Member).await;
    assert_eq!(code(w.control.group_get(&stranger, "g").await), "group_not_found");
    let of = |host: &str| GroupFilter { host: Some(host.to_owned()), ..GroupFilter::default() };
    let listed = w.control.group_list(&w.admin, &of("host-1")).await.unwrap().items;
    assert_eq!(listed.len(), 1);
    assert!(w.control.group_list(&w.admin, &of("host-3")).await.unwrap().items.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn hosts_that_are_attached_already_stay_and_a_reader_among_them_is_refused() {
    let w = world().await;
    w.grant_multiattach("default").await;
    w.hosts(&w.admin, 2).await;
    w.volume(&w.admin, "shared", "ssd-multiattach").await;
    let one = attach("shared", &["host-1"], Mode::ReadOnly);
    let one = w.control.attachment_create(&w.admin, one).await.unwrap();
    w.attached(&w.admin, "shared", 1).await;
    let new = || group("g", "shared", &["host-1", "host-2"]);
    let error = w.control.group_create(&w.admin, new()).await;
    assert_eq!(code(error), "attached_in_other_mode");
    let id = one[0].view.attachment.id.to_string();
    let rw = control::AttachmentUpdate { mode: Some(Mode::ReadWrite), accept_data_loss: false };
    w.control.attachment_update(&w.admin, &id, rw).await.unwrap();
    w.control.group_create(&w.admin, new()).await.unwrap();
    w.attached(&w.admin, "shared", 2).await;
    w.control.attachment_get(&w.admin, &id).await.expect("the same attachment");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_was_said_and_wanted_outlives_a_restart_of_the_control_plane() {
    let c = cluster().await;
    c.beat(0, vec![c.report(Standing::Running, 7)]).await;
    let wanted = c.w.control.group_stop(&c.w.admin, "db").await.unwrap().group;
    c.w.control.close().await;
    let (control, _) = world::open(c.w.dir.path(), &c.w.node).await;
    let seen = control.group_get(&c.w.admin, "db").await.unwrap();
    assert_eq!(seen.group, wanted);
    let said = seen.hosts[0].said.as_ref().expect("the last words");
    assert_eq!((said.report.standing, said.report.epoch), (Standing::Running, 7));
    let beat =
        Beat { port: 7801, reports: vec![c.report(Standing::Running, 7)], ..Beat::default() };
    let told = control.beat(&c.agents[0], beat).await.unwrap();
    assert_eq!(told.groups[0].group.wanted, Wanted::Stopped);
    // The same words after the restart are no news.
    let filter = EventFilter { action: Some("group.host".into()), ..EventFilter::default() };
    assert_eq!(control.event_list(&c.w.admin, &filter).await.unwrap().items.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_group_was_forgotten_while_a_host_had_not_heard_that_it_was_stopped() {
    let c = cluster().await;
    let (control, admin) = (&c.w.control, &c.w.admin);
    // Both are told to start it; what they do then, nobody has heard yet.
    c.beat(0, vec![]).await;
    c.beat(1, vec![]).await;
    control.group_stop(admin, "db").await.unwrap();
    let refused = async |part: &str| {
        let error = control.group_delete(admin, "db", false).await.unwrap_err();
        assert_eq!(error.code(), "group_runs");
        assert!(error.to_string().contains(part), "{error}");
    };
    refused("host 'alpha' has not said that it heard of the stop").await;
    // A word that was said before the stop, and one of a host that has it and is not at its end.
    c.beat(0, vec![c.report(Standing::Stopped, 0)]).await;
    refused("host 'alpha' has not said").await;
    c.beat(0, vec![Report { generation: 2, ..c.report(Standing::Standby, 0) }]).await;
    refused("host 'alpha' has not said").await;
    c.beat(0, vec![Report { generation: 2, ..c.report(Standing::Stopped, 0) }]).await;
    refused("host 'beta' has not said").await;
    control.agent_delete(admin, "beta").await.unwrap();
    refused("it has no agent").await;
    // It is remembered through a restart.
    c.w.control.close().await;
    let (control, _) = world::open(c.w.dir.path(), &c.w.node).await;
    assert_eq!(code(control.group_delete(admin, "db", false).await), "group_runs");
    control.group_delete(admin, "db", true).await.expect("forced");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_group_that_no_host_was_told_to_start_is_forgotten_at_once() {
    let c = cluster().await;
    let (control, admin) = (&c.w.control, &c.w.admin);
    control.group_stop(admin, "db").await.unwrap();
    c.beat(0, vec![]).await;
    control.group_delete(admin, "db", false).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_move_to_a_host_that_could_not_take_the_group_was_accepted() {
    let c = cluster().await;
    let (control, admin) = (&c.w.control, &c.w.admin);
    c.beat(0, vec![c.report(Standing::Running, 1)]).await;
    c.beat(1, vec![c.report(Standing::Unreachable, 0)]).await;
    let to = async |host: Option<&str>| control.group_move(admin, "db", host).await.unwrap_err();
    let error = to(Some("beta")).await;
    assert_eq!(error.code(), "group_host_away");
    assert!(error.to_string().contains("it cannot reach the volume"), "{error}");
    assert_eq!(to(None).await.code(), "group_nowhere_to_move");
    c.beat(1, vec![c.report(Standing::Fenced, 1)]).await;
    assert_eq!(to(Some("beta")).await.code(), "group_host_fenced");
    c.beat(1, vec![c.report(Standing::Standby, 1)]).await;
    control.agent_delete(admin, "beta").await.unwrap();
    let error = to(Some("beta")).await;
    assert!(error.to_string().contains("cannot take group 'db': it has no agent"), "{error}");
    assert!(error.hint().contains("Start its agent"), "{}", error.hint());
    assert_eq!(c.seen().await.group.generation, 1, "nothing was ordered");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_attachment_that_a_group_needs_was_made_read_only() {
    let c = cluster().await;
    let (control, admin) = (&c.w.control, &c.w.admin);
    let attachment = c.beat(0, vec![]).await.attachments[0].attachment.id.to_string();
    let to = |mode| AttachmentUpdate { mode: Some(mode), accept_data_loss: false };
    let error = control.attachment_update(admin, &attachment, to(Mode::ReadOnly)).await;
    let error = error.unwrap_err();
    assert_eq!(error.code(), "in_use");
    assert!(error.to_string().contains("group 'db'"), "{error}");
    let same = control.attachment_update(admin, &attachment, to(Mode::ReadWrite)).await.unwrap();
    assert_eq!(same.attachment.mode, Mode::ReadWrite);
    control.group_delete(admin, "db", true).await.unwrap();
    control.attachment_update(admin, &attachment, to(Mode::ReadOnly)).await.expect("it is free");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_host_that_tried_to_reach_the_volume_was_news_at_each_beat() {
    let c = cluster().await;
    c.beat(1, vec![c.report(Standing::Standby, 0)]).await;
    let before = c.history().await.len();
    for round in 0..4 {
        let error = Some(format!("the volume cannot be reached: try {round}"));
        let away = Report { error, ..c.report(Standing::Unreachable, 0) };
        c.beat(1, vec![Report { for_ms: 900, ..away }]).await;
        // The moment in which it tries again.
        c.beat(1, vec![Report { for_ms: 300, ..c.report(Standing::Standby, 0) }]).await;
        let said = c.seen().await.hosts[1].said.clone().unwrap();
        assert_eq!(said.report.standing, Standing::Unreachable, "round {round}");
        assert!(said.report.error.is_some());
        assert_eq!(c.seen().await.state, GroupState::Failed);
    }
    assert_eq!(c.history().await.len(), before + 1, "{:?}", c.history().await);
    // It is there again.
    c.beat(1, vec![Report { for_ms: 5_000, ..c.report(Standing::Standby, 0) }]).await;
    assert_eq!(c.seen().await.state, GroupState::Waiting);
    assert!(c.history().await[0].contains("unreachable to standby"), "{:?}", c.history().await);
}
