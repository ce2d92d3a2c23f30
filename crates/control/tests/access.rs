//! Who may do and see what; lists, pages and the audit trail.

mod world;

use control::{
    ControlError, ErrorKind, EventFilter, GrantCreate, HostCreate, HostFilter, Paging, PoolCreate,
    PoolFilter, ProjectCreate, ProjectFilter, TokenCreate, TokenFilter, UserUpdate, VolumeDelete,
    VolumeFilter, VolumeTypeCreate, VolumeTypeFilter,
};
use model::order::{IoMode, Mode, OrderError};
use model::size::ByteSize;
use model::user::Role;
use world::{CASCADE, attach, code, eventually, race, volume, world};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn tokens_open_until_they_expire_or_are_revoked() {
    let w = world().await;
    assert_eq!(code(w.control.authenticate("", "").await), "token_missing");
    assert_eq!(code(w.control.authenticate("ch_nonsense", "").await), "token_unknown");
    let new = TokenCreate { expires_in_seconds: Some(0), ..TokenCreate::default() };
    let dead = w.control.token_create(&w.admin, new).await.unwrap();
    let refused = w.control.authenticate(&dead.secret, "").await.unwrap_err();
    assert_eq!((refused.code(), refused.kind()), ("token_expired", ErrorKind::Unauthorized));
    let live = w.control.token_create(&w.admin, TokenCreate::default()).await.unwrap();
    let caller = w.control.authenticate(&live.secret, "203.0.113.9").await.unwrap();
    assert_eq!((caller.role, caller.from.as_str()), (Role::Admin, "203.0.113.9"));
    let list = w.control.token_list(&w.admin, &TokenFilter::default()).await.unwrap();
    assert!(!format!("{list:?} {live:?}").contains(&live.secret));
    w.control.token_delete(&w.admin, &live.token.id.to_string()).await.unwrap();
    assert_eq!(code(w.control.authenticate(&live.secret, "").await), "token_unknown");
    let renewed = w.control.operator_token_renew().await.unwrap();
    w.control.authenticate(&renewed.secret, "").await.expect("a new one for the operator");
    let needle = renewed.secret.as_bytes();
    for file in ["catalog.db", "catalog.db-wal"] {
        let bytes = std::fs::read(w.dir.path().join(file)).unwrap();
        let holds = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
        assert!(!holds(needle), "only the hash is kept, not in {file} either");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn roles_bound_what_one_may_do() {
    let w = world().await;
    let reader = w.member_of("p", Role::Reader).await;
    let member = w.member_of("p", Role::Member).await;
    let made = w.volume(&member, "v", "ssd").await;
    w.control.volume_get(&reader, "v").await.expect("readers read");
    for refused in [
        w.control.volume_create(&reader, volume("w", 1, "ssd")).await,
        w.control.volume_delete(&reader, "v", VolumeDelete::default()).await,
        w.control.volume_retype(&reader, "v", "hdd").await,
    ] {
        assert_eq!(code(refused), "forbidden");
    }
    let call = attach("v", &["h"], Mode::ReadWrite);
    assert_eq!(code(w.control.attachment_create(&reader, call).await), "forbidden");
    assert_eq!(code(w.control.pool_list(&member, &PoolFilter::default()).await), "forbidden");
    let project = ProjectCreate { name: "q".into(), ..ProjectCreate::default() };
    assert_eq!(code(w.control.project_create(&member, project).await), "forbidden");
    let grant = GrantCreate { project: "p".into(), acknowledge_data_loss: true };
    let refused = w.control.volume_type_grant(&member, "ssd-multiattach", grant).await;
    assert_eq!(code(refused), "forbidden");
    let id = made.volume.id.to_string();
    assert_eq!(code(w.control.volume_reservations_clear(&member, &id).await), "forbidden");
    w.control.volume_reservations_clear(&w.admin, &id).await.expect("the operator may");
    assert_eq!(w.control.volume_reservations(&member, &id).await.unwrap().generation, 7);
    let other = TokenCreate { user: Some("p-reader".into()), ..TokenCreate::default() };
    assert_eq!(code(w.control.token_create(&member, other).await), "forbidden");
    let demote = UserUpdate { role: Some(Role::Member), ..UserUpdate::default() };
    assert_eq!(code(w.control.user_update(&w.admin, "admin", demote).await), "last_admin");
    assert_eq!(code(w.control.user_delete(&w.admin, "admin").await), "last_admin");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn another_projects_resources_are_invisible() {
    let w = world().await;
    let mine = w.member_of("mine", Role::Member).await;
    let theirs = w.member_of("theirs", Role::Member).await;
    let view = w.volume(&theirs, "v", "ssd").await;
    let host = w.host(&theirs, "h").await;
    let call = attach("v", &["h"], Mode::ReadWrite);
    let made = w.control.attachment_create(&theirs, call).await.unwrap();
    let attachment = made[0].view.attachment.id.to_string();
    let id = view.volume.id.to_string();
    for name in ["v", id.as_str()] {
        assert_eq!(code(w.control.volume_get(&mine, name).await), "volume_not_found");
        assert_eq!(code(w.control.volume_delete(&mine, name, CASCADE).await), "volume_not_found");
        assert_eq!(code(w.control.volume_reservations(&mine, name).await), "volume_not_found");
    }
    assert_eq!(code(w.control.host_get(&mine, &host.id.to_string()).await), "host_not_found");
    let refused = w.control.attachment_fence(&mine, &attachment).await;
    assert_eq!(code(refused), "attachment_not_found");
    assert_eq!(code(w.control.project_get(&mine, "theirs").await), "project_not_found");
    let peek = VolumeFilter { project: Some("theirs".into()), ..VolumeFilter::default() };
    assert_eq!(code(w.control.volume_list(&mine, &peek).await), "project_not_found");
    assert!(w.control.volume_list(&mine, &VolumeFilter::default()).await.unwrap().items.is_empty());
    assert!(w.control.host_list(&mine, &HostFilter::default()).await.unwrap().items.is_empty());
    let events = w.control.event_list(&mine, &EventFilter::default()).await.unwrap().items;
    assert!(events.iter().all(|event| event.project == mine.project));
    let projects = w.control.project_list(&mine, &ProjectFilter::default()).await.unwrap();
    assert_eq!(projects.items.len(), 1);
    // Two projects may use the same names, and the operator sees both.
    w.volume(&mine, "v", "ssd").await;
    let all = VolumeFilter { name: Some("v".into()), ..VolumeFilter::default() };
    assert_eq!(w.control.volume_list(&w.admin, &all).await.unwrap().items.len(), 2);
    assert_eq!(code(w.control.volume_get(&w.admin, "v").await), "ambiguous_name");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn private_types_are_granted_on_the_record() {
    let w = world().await;
    let member = w.member_of("p", Role::Member).await;
    let types = async || {
        let page = w.control.volume_type_list(&member, &VolumeTypeFilter::default()).await;
        page.unwrap().items.into_iter().map(|kind| kind.name).collect::<Vec<_>>()
    };
    assert_eq!(types().await, ["ssd", "hdd", "file", "file-packages"]);
    let refused = w.control.volume_create(&member, volume("v", 1, "ssd-multiattach")).await;
    assert_eq!(code(refused), "volume_type_not_found");
    let blind = GrantCreate { project: "p".into(), acknowledge_data_loss: false };
    let refused = w.control.volume_type_grant(&w.admin, "ssd-multiattach", blind).await;
    assert_eq!(code(refused), "invalid_value");
    w.grant_multiattach("p").await;
    w.grant_multiattach("p").await;
    assert_eq!(types().await, ["ssd", "hdd", "ssd-multiattach", "file", "file-packages"]);
    let all = Paging::default();
    let grants = w.control.volume_type_grants(&w.admin, "ssd-multiattach", &all);
    let grants = grants.await.unwrap().items;
    assert_eq!((grants.len(), grants[0].grant.acknowledged_by.as_deref()), (1, Some("admin")));
    w.volume(&member, "v", "ssd-multiattach").await;
    w.control.volume_type_revoke(&w.admin, "ssd-multiattach", "p").await.unwrap();
    let refused = w.control.volume_create(&member, volume("w", 1, "ssd-multiattach")).await;
    assert_eq!(code(refused), "volume_type_not_found");
    w.volume_is(&member, "v", "available").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn lists_of_none_one_and_a_thousand() {
    let w = world().await;
    let list = async |limit: Option<u32>, marker: Option<String>| {
        let filter = HostFilter { paging: Paging { limit, marker }, ..HostFilter::default() };
        w.control.host_list(&w.admin, &filter).await
    };
    let page = list(None, None).await.unwrap();
    assert_eq!((page.items.len(), page.next), (0, None));
    let host = async |n: usize| {
        let name = format!("h{n:04}");
        let new = HostCreate { name, ..HostCreate::default() };
        w.control.host_create(&w.admin, new).await.unwrap();
    };
    host(0).await;
    let page = list(Some(1), None).await.unwrap();
    assert_eq!((page.items.len(), page.next), (1, None));
    for n in 1..1000 {
        host(n).await;
    }
    let page = list(Some(1000), None).await.unwrap();
    assert_eq!((page.items.len(), page.next), (1000, None));
    let (mut names, mut marker) = (Vec::new(), None);
    loop {
        let page = list(Some(300), marker).await.unwrap();
        names.extend(page.items.into_iter().map(|host| host.host.name));
        match page.next {
            Some(next) => marker = Some(next),
            None => break,
        }
    }
    let expected: Vec<String> = (0..1000).map(|n| format!("h{n:04}")).collect();
    assert_eq!(names, expected, "each once, in the order of creation");
    let page = list(None, None).await.unwrap();
    assert_eq!((page.items.len(), page.next.is_some()), (100, true));
    assert_eq!(code(list(Some(0), None).await), "invalid_value");
    assert_eq!(code(list(Some(1001), None).await), "invalid_value");
    assert_eq!(code(list(None, Some("x".into())).await), "invalid_value");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_audit_trail_says_who_what_when_from_where_and_how_it_ended() {
    let w = world().await;
    let member = w.member_of("p", Role::Member).await;
    let id = w.volume(&member, "v", "ssd").await.volume.id.to_string();
    let of =
        async |filter: EventFilter| w.control.event_list(&w.admin, &filter).await.unwrap().items;
    let about = EventFilter { resource_id: Some(id.clone()), ..EventFilter::default() };
    let events = of(about.clone()).await;
    let told: Vec<_> = events
        .iter()
        .map(|e| (e.action.as_str(), e.result.word(), e.actor_name.as_str(), e.from.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            ("volume.created", "done", "system", ""),
            ("volume.create", "accepted", "p-member", "198.51.100.7"),
        ]
    );
    let by = EventFilter { actor: Some("p-member".into()), ..EventFilter::default() };
    assert_eq!(of(by).await.len(), 1);
    let at_ms = events[0].at_ms;
    let before = EventFilter { until_ms: Some(at_ms), ..about.clone() };
    assert!(of(before).await.iter().all(|event| event.at_ms < at_ms));
    let since = EventFilter { since_ms: Some(at_ms), ..about };
    assert!(of(since).await.iter().all(|event| event.at_ms >= at_ms));
    let refused = model::order::Notice::LoginRefused {
        iqn: "iqn.2026-11.test:x".into(),
        target: "t".into(),
        from: "192.0.2.99".into(),
        why: "wrong secret".into(),
    };
    w.control.notice(refused).await.unwrap();
    let logins = EventFilter { action: Some("target.login".into()), ..EventFilter::default() };
    let logins = of(logins).await;
    assert_eq!((logins.len(), logins[0].from.as_str()), (1, "192.0.2.99"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_used_cannot_be_deleted() {
    let w = world().await;
    let member = w.member_of("p", Role::Member).await;
    w.volume(&member, "v", "ssd").await;
    let kept = w.control.project_delete(&w.admin, "p").await.unwrap_err();
    assert!(
        matches!(&kept, ControlError::InUse { by, .. } if by == "1 volumes, 1 users"),
        "{kept}"
    );
    assert_eq!(code(w.control.pool_delete(&w.admin, "local-ssd", false).await), "in_use");
    w.control.pool_delete(&w.admin, "local-hdd", false).await.expect("nothing lies in it");
    eventually("the pool is gone", async || {
        let left = w.control.pool_get(&w.admin, "local-hdd").await;
        matches!(left, Err(ControlError::NotFound { .. })).then_some(())
    })
    .await;
    assert_eq!(code(w.control.volume_create(&member, volume("w", 1, "hdd")).await), "no_pool");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn unique_names_have_one_winner() {
    let w = world().await;
    let made = race((0..16).map(|n| {
        let (control, admin) = (w.control.clone(), w.admin.clone());
        let initiators = vec!["IQN.2026-11.test:same".to_owned()];
        let new = HostCreate { name: format!("h{n}"), initiators, ..HostCreate::default() };
        async move { control.host_create(&admin, new).await }
    }))
    .await;
    let (good, bad): (Vec<_>, Vec<_>) = made.into_iter().partition(Result::is_ok);
    assert_eq!(good.len(), 1);
    assert!(bad.into_iter().all(|refused| code(refused) == "initiator_taken"));
    let hosts = w.control.host_list(&w.admin, &HostFilter::default()).await.unwrap();
    assert_eq!(hosts.items.len(), 1, "the losers left nothing behind");
    let made = race((0..16).map(|_| {
        let (control, admin) = (w.control.clone(), w.admin.clone());
        let new = ProjectCreate { name: "p".into(), ..ProjectCreate::default() };
        async move { control.project_create(&admin, new).await }
    }))
    .await;
    assert_eq!(made.iter().filter(|made| made.is_ok()).count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_pool_that_cannot_be_opened_says_why_and_is_tried_again() {
    let w = world().await;
    w.node.fail("OpenPool", OrderError::Failed { why: "no such disk".into() });
    let new = PoolCreate {
        node: None,
        name: "broken".into(),
        class: "nvme".into(),
        path: "/pools/nvme".into(),
        driver: model::pool::Driver::Local,
        io: IoMode::Direct,
        capacity: None,
    };
    assert_eq!(w.control.pool_create(&w.admin, new.clone()).await.unwrap().state.word(), "opening");
    let is = async |state: &str| {
        eventually(state, async || {
            let pool = w.control.pool_get(&w.admin, "broken").await.ok()?;
            (pool.state.word() == state).then_some(pool)
        })
        .await
    };
    assert_eq!(is("error").await.fault.as_deref(), Some("the node failed: no such disk"));
    let kind = VolumeTypeCreate {
        name: "nvme".into(),
        class: "nvme".into(),
        public: true,
        ..VolumeTypeCreate::default()
    };
    w.control.volume_type_create(&w.admin, kind).await.unwrap();
    let refused = w.control.volume_create(&w.admin, volume("v", 1, "nvme")).await.unwrap_err();
    assert_eq!((refused.code(), refused.kind()), ("pool_unavailable", ErrorKind::Unavailable));
    w.node.heal("OpenPool");
    assert_eq!(is("online").await.fault, None);
    w.volume(&w.admin, "v", "nvme").await;
    for (path, capacity) in [("pools/x", None), ("/pools/../x", None), ("/x", Some(ByteSize(0)))] {
        let bad = PoolCreate { name: "x".into(), path: path.into(), capacity, ..new.clone() };
        assert_eq!(code(w.control.pool_create(&w.admin, bad).await), "invalid_value");
    }
}
