//! Volumes and snapshots: quotas, sizes, sources, growth, dependence, images.

mod world;

use control::{
    ControlError, ErrorKind, HostCreate, OperationFilter, ProjectUpdate, QuotaChange,
    SnapshotCreate, SnapshotFilter, VolumeCreate, VolumeDelete, VolumeExport, VolumeSource,
    VolumeTypeUpdate, VolumeUpdate,
};
use model::order::{ImageFormat, Mode, OrderError};
use model::size::ByteSize;
use model::text::Metadata;
use model::user::Role;
use world::{CASCADE, World, attach, code, eventually, race, revert, volume, world};

async fn snapshot(w: &World, volume: &str, name: &str) -> String {
    let new =
        SnapshotCreate { volume: volume.into(), name: name.into(), ..SnapshotCreate::default() };
    let made = w.control.snapshot_create(&w.admin, new).await.expect("a snapshot");
    let id = made.snapshot.id.to_string();
    eventually("the snapshot is there", async || {
        let view = w.control.snapshot_get(&w.admin, &id).await.ok()?;
        (view.snapshot.state.word() == "available").then_some(())
    })
    .await;
    id
}

async fn set_quotas(w: &World, quotas: QuotaChange) {
    let change = ProjectUpdate { quotas, ..ProjectUpdate::default() };
    w.control.project_update(&w.admin, "default", change).await.expect("quotas");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn quotas_hold_under_a_race() {
    let w = world().await;
    set_quotas(&w, QuotaChange { volumes: Some(5), ..QuotaChange::default() }).await;
    let made = race((0..24).map(|n| {
        let (control, admin) = (w.control.clone(), w.admin.clone());
        async move { control.volume_create(&admin, volume(&format!("v{n}"), 1, "ssd")).await }
    }))
    .await;
    let (good, bad): (Vec<_>, Vec<_>) = made.into_iter().partition(Result::is_ok);
    assert_eq!(good.len(), 5);
    assert!(bad.into_iter().all(|refused| code(refused) == "quota_exceeded"));
    for view in good {
        let id = view.unwrap().volume.id.to_string();
        w.volume_is(&w.admin, &id, "available").await;
    }

    // Growth counts like volumes do: 5 GiB are used, 8 are allowed, each asks for one more.
    set_quotas(&w, QuotaChange { gigabytes: Some(8), ..QuotaChange::default() }).await;
    let volumes = w.control.volume_list(&w.admin, &Default::default()).await.unwrap().items;
    let grown =
        race(volumes.into_iter().map(|view| {
            let (control, admin) = (w.control.clone(), w.admin.clone());
            async move {
                control.volume_resize(&admin, &view.volume.id.to_string(), ByteSize::gib(2)).await
            }
        }))
        .await;
    assert_eq!(grown.iter().filter(|grown| grown.is_ok()).count(), 3);
    let refused = grown.into_iter().find_map(Result::err).unwrap();
    assert_eq!((refused.code(), refused.kind()), ("quota_exceeded", ErrorKind::OverQuota));
    assert!(refused.to_string().contains("8 GiB"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn snapshot_quotas_hold_under_a_race() {
    let w = world().await;
    let id = w.volume(&w.admin, "v", "ssd").await.volume.id.to_string();
    set_quotas(&w, QuotaChange { snapshots_per_volume: Some(3), ..QuotaChange::default() }).await;
    let made = race((0..12).map(|n| {
        let (control, admin) = (w.control.clone(), w.admin.clone());
        let name = format!("s{n}");
        let new = SnapshotCreate { volume: id.clone(), name, ..SnapshotCreate::default() };
        async move { control.snapshot_create(&admin, new).await }
    }))
    .await;
    assert_eq!(made.iter().filter(|made| made.is_ok()).count(), 3);
    let usage = w.control.project_get(&w.admin, "default").await.unwrap().usage;
    assert_eq!((usage.volumes, usage.snapshots, usage.bytes), (1, 3, 1 << 30));
    eventually("the node has three", async || (w.node.snapshots() == 3).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn bad_input_is_refused_and_changes_nothing() {
    let w = world().await;
    let sized = |size| VolumeCreate { size: Some(ByteSize(size)), ..volume("v", 1, "ssd") };
    let too_many: Metadata = (0..65).map(|n| (n.to_string(), String::new())).collect();
    let cases = [
        (sized(0), "invalid_value"),
        (sized(u64::MAX), "invalid_value"),
        (sized((64 << 40) + 1), "invalid_value"),
        (VolumeCreate { size: None, ..volume("v", 1, "ssd") }, "invalid_value"),
        (volume("", 1, "ssd"), "invalid_value"),
        (volume(&"x".repeat(256), 1, "ssd"), "invalid_value"),
        (volume("bell\u{7}", 1, "ssd"), "invalid_value"),
        (VolumeCreate { metadata: too_many, ..volume("v", 1, "ssd") }, "invalid_value"),
        (volume("v", 1, "nvme"), "volume_type_not_found"),
        (volume("v", 1, "ssd-multiattach"), "volume_type_not_found"),
        (
            VolumeCreate { project: Some("nowhere".into()), ..volume("v", 1, "ssd") },
            "project_not_found",
        ),
        (
            VolumeCreate { source: VolumeSource::Snapshot("none".into()), ..volume("v", 1, "ssd") },
            "snapshot_not_found",
        ),
    ];
    for (new, expected) in cases {
        assert_eq!(code(w.control.volume_create(&w.admin, new).await), expected);
    }
    assert!(w.control.volume_list(&w.admin, &Default::default()).await.unwrap().items.is_empty());
    let odd = w.control.volume_create(&w.admin, sized(1)).await.expect("rounded up");
    assert_eq!(odd.volume.size, ByteSize(1 << 20));

    let host = |name: &str, iqn: &str| HostCreate {
        name: name.into(),
        initiators: vec![iqn.into()],
        ..HostCreate::default()
    };
    let bad = w.control.host_create(&w.admin, host("h", "not an iqn")).await;
    assert_eq!(code(bad), "invalid_value");
    let host_a = host("a", "IQN.2026-11.test:A");
    let made = w.control.host_create(&w.admin, host_a).await.unwrap();
    assert_eq!(made.initiators, ["iqn.2026-11.test:a"]);
    let taken = w.control.host_create(&w.admin, host("b", "iqn.2026-11.test:a")).await;
    assert_eq!(code(taken), "initiator_taken");
    let same = w.control.host_create(&w.admin, host("a", "iqn.2026-11.test:c")).await;
    assert_eq!(code(same), "name_taken");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_pool_without_room_is_said_with_numbers() {
    let w = world().await;
    w.node.set_space(ByteSize::gib(10), ByteSize::gib(7));
    let refused = w.control.volume_create(&w.admin, volume("v", 4, "ssd")).await.unwrap_err();
    assert_eq!((refused.code(), refused.kind()), ("no_space", ErrorKind::NoSpace));
    assert!(refused.to_string().contains("4 GiB") && refused.to_string().contains("3 GiB"));
    let id = w.volume(&w.admin, "v", "ssd").await.volume.id.to_string();
    w.node.set_space(ByteSize::gib(10), ByteSize::gib(10));
    let new = SnapshotCreate { volume: id.clone(), name: "s".into(), ..Default::default() };
    assert_eq!(code(w.control.snapshot_create(&w.admin, new.clone()).await), "no_space");
    w.node.set_space(ByteSize::gib(10), ByteSize::gib(9));
    let full = OrderError::NoSpace { needed: ByteSize(5 << 20), free: ByteSize(4 << 20) };
    w.node.fail("CreateSnapshot", full);
    let made = w.control.snapshot_create(&w.admin, new).await.unwrap().snapshot.id.to_string();
    eventually("it fails with the numbers", async || {
        let snapshot = w.control.snapshot_get(&w.admin, &made).await.ok()?.snapshot;
        let fault = snapshot.fault?;
        (snapshot.state.word() == "error" && fault.contains("5 MiB") && fault.contains("4 MiB"))
            .then_some(())
    })
    .await;
    w.control.snapshot_delete(&w.admin, &made).await.expect("and can be deleted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn volumes_grow_while_attached_and_never_shrink() {
    let w = world().await;
    let view = w.volume(&w.admin, "v", "ssd").await;
    let id = view.volume.id.to_string();
    w.hosts(&w.admin, 1).await;
    let call = attach("v", &["host-1"], Mode::ReadWrite);
    w.control.attachment_create(&w.admin, call).await.unwrap();
    w.attached(&w.admin, &id, 1).await;
    let growing = w.control.volume_resize(&w.admin, &id, ByteSize::gib(3)).await.unwrap();
    assert_eq!(growing.volume.status.word(), "extending");
    w.control.volume_resize(&w.admin, &id, ByteSize::gib(3)).await.expect("the same again");
    let grown = w.volume_is(&w.admin, &id, "in-use").await;
    assert_eq!(grown.volume.size, ByteSize::gib(3));
    assert_eq!(w.node.size_of(view.volume.id), Some(ByteSize::gib(3)));
    let smaller = w.control.volume_resize(&w.admin, &id, ByteSize::gib(2)).await;
    assert_eq!(code(smaller), "volume_shrink");
    w.node.fail("ResizeVolume", OrderError::Refused { why: "because".into() });
    w.control.volume_resize(&w.admin, &id, ByteSize::gib(9)).await.unwrap();
    let kept = w.volume_is(&w.admin, &id, "in-use").await;
    assert_eq!(kept.volume.size, ByteSize::gib(3));
    assert_eq!(kept.volume.fault.as_deref(), Some("the node refuses: because"));
    for refused in [
        w.control.volume_delete(&w.admin, &id, CASCADE).await,
        w.control.volume_revert(&w.admin, &id, revert("none")).await,
    ] {
        let error = refused.unwrap_err();
        assert_eq!(error.code(), "volume_in_use");
        assert!(error.to_string().contains("host-1"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_clones_depend_on_stays_and_they_are_named() {
    let w = world().await;
    let base = w.volume(&w.admin, "base", "ssd").await.volume.id.to_string();
    let snap = snapshot(&w, &base, "monday").await;
    let from = |source| VolumeCreate {
        name: format!("clone of {source:?}").replace('"', "'"),
        source,
        ..VolumeCreate::default()
    };
    let of_snapshot = from(VolumeSource::Snapshot("monday".into()));
    let one = w.control.volume_create(&w.admin, of_snapshot).await.unwrap().volume;
    assert_eq!((one.size, one.pool), (ByteSize::gib(1), one.pool));
    let of_volume = from(VolumeSource::Volume("base".into()));
    let two = w.control.volume_create(&w.admin, of_volume).await.unwrap().volume;
    let (one, two) = (one.id.to_string(), two.id.to_string());
    w.volume_is(&w.admin, &one, "available").await;
    w.volume_is(&w.admin, &two, "available").await;
    assert_eq!(w.node.snapshots(), 2, "the second one is hidden");
    let shown = w.control.snapshot_list(&w.admin, &SnapshotFilter::default()).await.unwrap();
    assert_eq!(shown.items.len(), 1);

    let kept = w.control.snapshot_delete(&w.admin, &snap).await.unwrap_err();
    assert_eq!(kept.code(), "snapshot_has_clones");
    assert!(kept.to_string().contains("clone of Snapshot('monday')"), "{kept}");
    let kept = w.control.volume_delete(&w.admin, &base, VolumeDelete::default()).await.unwrap_err();
    assert_eq!(kept.code(), "volume_has_dependents");
    let sentence = kept.to_string();
    assert!(sentence.contains("'monday'") && sentence.contains("clone of Volume('base')"));
    assert_eq!(
        code(w.control.volume_delete(&w.admin, &base, CASCADE).await),
        "volume_has_dependents"
    );

    for clone in [&one, &two] {
        w.control.volume_delete(&w.admin, clone, VolumeDelete::default()).await.unwrap();
        w.volume_gone(&w.admin, clone).await;
    }
    eventually("the hidden snapshot went along", async || (w.node.snapshots() == 1).then_some(()))
        .await;
    let snapshots_left = w.control.volume_delete(&w.admin, &base, VolumeDelete::default()).await;
    assert_eq!(code(snapshots_left), "volume_has_dependents");
    w.control.volume_delete(&w.admin, &base, CASCADE).await.unwrap();
    w.volume_gone(&w.admin, &base).await;
    assert_eq!((w.node.volumes(), w.node.snapshots()), (0, 0));
    w.node.assert_was_asked_nothing_wrong();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hidden_snapshot_that_the_node_kept_goes_with_the_source() {
    let w = world().await;
    let base = w.volume(&w.admin, "base", "ssd").await.volume.id.to_string();
    let source = VolumeSource::Volume(base.clone());
    let new = VolumeCreate { name: "clone".into(), source, ..VolumeCreate::default() };
    let clone = w.control.volume_create(&w.admin, new).await.unwrap().volume.id.to_string();
    w.volume_is(&w.admin, &clone, "available").await;
    w.node.fail("DeleteSnapshot", OrderError::Refused { why: "not now".into() });
    w.control.volume_delete(&w.admin, &clone, VolumeDelete::default()).await.unwrap();
    w.volume_gone(&w.admin, &clone).await;
    eventually("the node refused", async || (w.node.sent("DeleteSnapshot") > 0).then_some(()))
        .await;
    w.control.volume_delete(&w.admin, &base, VolumeDelete::default()).await.unwrap();
    let kept = w.volume_is(&w.admin, &base, "error").await;
    assert!(kept.volume.fault.unwrap().contains("could not be deleted"));
    w.node.heal("DeleteSnapshot");
    w.control.volume_delete(&w.admin, &base, VolumeDelete::default()).await.expect("again");
    w.volume_gone(&w.admin, &base).await;
    assert_eq!((w.node.volumes(), w.node.snapshots()), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn clone_and_delete_of_the_source_raced_never_leave_an_orphan() {
    let w = world().await;
    for round in 0..6 {
        let base = w.volume(&w.admin, &format!("b{round}"), "ssd").await.volume.id.to_string();
        let (control, admin, id) = (w.control.clone(), w.admin.clone(), base.clone());
        let delete = tokio::spawn(async move { control.volume_delete(&admin, &id, CASCADE).await });
        let new = VolumeCreate {
            name: format!("c{round}"),
            source: VolumeSource::Volume(base.clone()),
            ..VolumeCreate::default()
        };
        let clone = w.control.volume_create(&w.admin, new).await;
        match (clone, delete.await.unwrap()) {
            (Ok(clone), Err(ControlError::VolumeHasDependents { .. })) => {
                w.volume_is(&w.admin, &clone.volume.id.to_string(), "available").await;
            }
            (Err(ControlError::VolumeBusy { .. } | ControlError::NotFound { .. }), Ok(_)) => {
                w.volume_gone(&w.admin, &base).await
            }
            other => panic!("{other:?}"),
        }
    }
    w.node.assert_was_asked_nothing_wrong();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_volume_reverts_to_its_own_snapshots_only() {
    let w = world().await;
    let one = w.volume(&w.admin, "one", "ssd").await.volume.id.to_string();
    let two = w.volume(&w.admin, "two", "ssd").await.volume.id.to_string();
    let snap = snapshot(&w, &one, "s").await;
    assert_eq!(code(w.control.volume_revert(&w.admin, &two, revert(&snap)).await), "invalid_value");
    let view = w.control.volume_revert(&w.admin, &one, revert(&snap)).await.unwrap();
    assert_eq!(view.volume.status.word(), "reverting");
    w.volume_is(&w.admin, &one, "available").await;
    assert_eq!(w.node.sent("RevertVolume"), 1);

    // Its deletion is an operation that ends when the node has merged the bytes.
    let id = w.control.volume_get(&w.admin, &one).await.unwrap().volume.id;
    w.node.work(id, 1, 10);
    w.control.snapshot_delete(&w.admin, &snap).await.unwrap();
    let running = OperationFilter { state: Some("running".into()), ..Default::default() };
    let merge = eventually("the merge is shown", async || {
        w.control.operation_list(&w.admin, &running).await.ok()?.items.pop()
    })
    .await;
    assert_eq!(merge.progress.map(|p| (p.done, p.total)), Some((1, 10)));
    let merge = merge.id.to_string();
    let refused = w.control.operation_cancel(&w.admin, &merge).await;
    assert_eq!(code(refused), "operation_not_cancellable");
    w.node.work_ended(id);
    eventually("the merge ends", async || {
        let state = w.control.operation_get(&w.admin, &merge).await.ok()?.state;
        (state.word() == "succeeded").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn images_come_and_go_with_progress_cancel_and_a_final_state() {
    let w = world().await;
    let member = w.member_of("p", Role::Member).await;
    let image = |path: &str| VolumeCreate {
        source: VolumeSource::Image { path: path.into(), format: ImageFormat::Qcow2 },
        ..volume("v", 2, "ssd")
    };
    for path in ["/etc/shadow", "../catalog.db", "a/../../catalog.db", "./x/.."] {
        let refused = w.control.volume_create(&member, image(path)).await;
        assert_eq!(code(refused), "image_path_forbidden", "{path}");
    }
    let sized = |path: &str| VolumeCreate { name: "sized".into(), size: None, ..image(path) };
    let missing = w.control.volume_create(&member, sized("missing.raw")).await;
    assert_eq!(code(missing), "bad_image", "refused at once, and no volume is left behind");
    let made = w.control.volume_create(&member, sized("disk.qcow2")).await.unwrap();
    assert_eq!(made.volume.size, ByteSize(5 << 20), "what the node says that the image needs");
    w.volume_is(&member, &made.volume.id.to_string(), "available").await;
    w.node.stall("work");
    let made = w.control.volume_create(&member, image("disk.qcow2")).await.unwrap();
    let (id, operation) = (made.volume.id.to_string(), made.operation.unwrap().to_string());
    eventually("progress is shown", async || {
        let progress = w.control.operation_get(&member, &operation).await.ok()?.progress?;
        (progress.total == 4).then_some(())
    })
    .await;
    w.control.operation_cancel(&member, &operation).await.unwrap();
    w.control.operation_cancel(&member, &operation).await.expect("asking twice is asking once");
    let failed = w.volume_is(&member, &id, "error").await;
    assert_eq!(failed.volume.fault.as_deref(), Some("the work was cancelled"));
    let ended = w.control.operation_get(&member, &operation).await.unwrap();
    assert_eq!((ended.state.word(), ended.finished_ms.is_some()), ("cancelled", true));
    w.control
        .volume_delete(&member, &id, VolumeDelete::default())
        .await
        .expect("what failed can be deleted");
    w.volume_gone(&member, &id).await;

    w.node.release("work");
    let made = w.control.volume_create(&member, image("disk.qcow2")).await.unwrap();
    let id = made.volume.id.to_string();
    w.volume_is(&member, &id, "available").await;
    let export = VolumeExport { path: "out.raw".into(), format: ImageFormat::Raw };
    let operation = w.control.volume_export(&member, &id, export.clone()).await.unwrap();
    w.volume_is(&member, &id, "available").await;
    let operation = operation.id.to_string();
    let ended = w.control.operation_get(&member, &operation).await.unwrap();
    assert_eq!(ended.state.word(), "succeeded");
    let late = w.control.operation_cancel(&member, &operation).await;
    assert_eq!(code(late), "operation_finished");

    w.node.fail("ImportImage", OrderError::BadImage { why: "its header lies".into() });
    let made = w.control.volume_create(&member, image("lies.qcow2")).await.unwrap();
    let failed = w.volume_is(&member, &made.volume.id.to_string(), "error").await;
    assert!(failed.volume.fault.unwrap().contains("its header lies"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn names_may_repeat_and_ambiguous_ones_are_refused_with_the_candidates() {
    let w = world().await;
    let one = w.volume(&w.admin, "twin", "ssd").await.volume.id.to_string();
    let two = w.volume(&w.admin, "twin", "ssd").await.volume.id.to_string();
    match w.control.volume_get(&w.admin, "twin").await.unwrap_err() {
        ControlError::Ambiguous { candidates, .. } => {
            let ids: Vec<String> = candidates.into_iter().map(|c| c.id).collect();
            assert_eq!(ids, [one.clone(), two]);
        }
        other => panic!("{other}"),
    }
    let change = VolumeUpdate { name: Some(" single ".into()), ..VolumeUpdate::default() };
    w.control.volume_update(&w.admin, &one, change).await.unwrap();
    assert_eq!(w.control.volume_get(&w.admin, "single").await.unwrap().volume.id.to_string(), one);
    w.control.volume_get(&w.admin, "twin").await.expect("one of that name is left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_type_in_use_keeps_its_promises() {
    let w = world().await;
    w.volume(&w.admin, "v", "ssd").await;
    let flip = VolumeTypeUpdate { multiattach: Some(true), ..VolumeTypeUpdate::default() };
    let refused = w.control.volume_type_update(&w.admin, "ssd", flip.clone()).await;
    assert_eq!(code(refused), "type_in_use");
    assert_eq!(code(w.control.volume_type_delete(&w.admin, "ssd").await), "in_use");
    let describe = VolumeTypeUpdate { description: Some("fast".into()), ..Default::default() };
    w.control.volume_type_update(&w.admin, "ssd", describe).await.expect("no promise");
    w.control.volume_type_update(&w.admin, "hdd", flip).await.expect("not in use");
}
