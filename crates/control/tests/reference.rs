//! References: who uses a volume keeps it, under every order of events.

mod world;

use control::{Caller, ReferenceCreate, ReferenceFilter, VolumeCreate, VolumeDelete, VolumeUpdate};
use model::reference::ReferenceKind;
use model::user::Role;
use model::volume::VolumeKind;
use world::{World, code, volume, world};

fn file(name: &str) -> VolumeCreate {
    VolumeCreate { kind: Some(VolumeKind::File), volume_type: None, ..volume(name, 1, "") }
}

async fn made(w: &World, caller: &Caller, name: &str) -> String {
    let made = w.control.volume_create(caller, file(name)).await.expect("a file volume");
    let id = made.volume.id.to_string();
    w.volume_is(caller, &id, "available").await;
    id
}

fn mount(volume: &str, name: &str) -> ReferenceCreate {
    let kind = ReferenceKind::Mount;
    ReferenceCreate { volume: volume.to_owned(), name: name.to_owned(), kind, project: None }
}

async fn of(w: &World, volume: &str) -> Vec<String> {
    let filter = ReferenceFilter { volume: Some(volume.to_owned()), ..ReferenceFilter::default() };
    let page = w.control.reference_list(&w.admin, &filter).await.expect("a list");
    page.items.into_iter().map(|view| view.reference.name).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_volume_in_use_is_kept_and_the_refusal_names_every_user() {
    let w = world().await;
    let id = made(&w, &w.admin, "tree").await;
    let one = w.control.reference_create(&w.admin, mount("tree", "/srv")).await.unwrap();
    assert_eq!(one.reference.volume.map(|id| id.to_string()), Some(id.clone()));
    let again = w.control.reference_create(&w.admin, mount(&id, "/srv")).await.unwrap();
    assert_eq!(again.reference.id, one.reference.id);
    assert!(again.reference.last_seen_ms >= one.reference.last_seen_ms);
    for n in 0..12 {
        let kind = ReferenceKind::Container;
        let new = ReferenceCreate { kind, ..mount("tree", &format!("c{n}")) };
        w.control.reference_create(&w.admin, new).await.unwrap();
    }
    let force = VolumeDelete { cascade: true, force: true, lost: false };
    let error = w.control.volume_delete(&w.admin, "tree", force).await.unwrap_err();
    assert_eq!(error.code(), "volume_referenced");
    let says = error.to_string();
    assert!(says.contains("mount '/srv'") && says.contains("container 'c11'"), "{says}");
    let shown = w.control.volume_get(&w.admin, "tree").await.unwrap().file.unwrap();
    assert_eq!(shown.references.len(), 13);
    for name in of(&w, "tree").await {
        w.control.reference_delete(&w.admin, &name).await.unwrap();
        w.control.reference_delete(&w.admin, &name).await.expect("gone already");
    }
    w.control.volume_delete(&w.admin, "tree", VolumeDelete::default()).await.unwrap();
    w.volume_gone(&w.admin, &id).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_reservation_becomes_a_reference_when_the_volume_is_made() {
    let w = world().await;
    let reserved = w.control.reference_create(&w.admin, mount("later", "/a")).await.unwrap();
    assert_eq!(reserved.reference.volume, None);
    let other = w.member_of("other", Role::Member).await;
    let theirs = made(&w, &other, "later").await;
    let still = w.control.reference_get(&w.admin, "/a").await.unwrap();
    assert_eq!(still.reference.volume, None, "another project's volume is another volume");
    w.control.volume_delete(&other, &theirs, VolumeDelete::default()).await.unwrap();
    let id = made(&w, &w.admin, "later").await;
    let view = w.control.reference_get(&w.admin, "/a").await.unwrap();
    assert_eq!(view.reference.volume.map(|id| id.to_string()), Some(id));
    let refused = w.control.volume_delete(&w.admin, "later", VolumeDelete::default()).await;
    assert_eq!(code(refused), "volume_referenced");
    for bad in ["a", "no/path", ""] {
        assert_eq!(
            code(w.control.reference_create(&w.admin, mount(bad, "/a")).await),
            "invalid_value"
        );
    }
    w.volume(&w.admin, "block", "ssd").await;
    assert_eq!(
        code(w.control.reference_create(&w.admin, mount("block", "/a")).await),
        "wrong_kind"
    );
    let reader = w.member_of("default", Role::Reader).await;
    assert_eq!(code(w.control.reference_create(&reader, mount("later", "/b")).await), "forbidden");
    assert_eq!(code(w.control.reference_delete(&reader, "/a").await), "forbidden");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn references_follow_a_rename_and_meet_reservations_there() {
    let w = world().await;
    made(&w, &w.admin, "old").await;
    w.control.reference_create(&w.admin, mount("old", "/a")).await.unwrap();
    // The same user reserved the new name, and so did another one.
    w.control.reference_create(&w.admin, mount("new", "/a")).await.unwrap();
    w.control.reference_create(&w.admin, mount("new", "/b")).await.unwrap();
    let change = VolumeUpdate { name: Some("new".into()), ..VolumeUpdate::default() };
    w.control.volume_update(&w.admin, "old", change).await.unwrap();
    assert_eq!(of(&w, "old").await, [""; 0]);
    assert_eq!(of(&w, "new").await, ["/a", "/b"]);
    let shown = w.control.volume_get(&w.admin, "new").await.unwrap().file.unwrap();
    assert_eq!(shown.references, ["mount '/a'", "mount '/b'"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_a_deletion_and_a_reference_at_the_same_time_one_wins() {
    let w = world().await;
    for round in 0..20 {
        let name = format!("raced-{round}");
        let id = made(&w, &w.admin, &name).await;
        let (control, admin) = (w.control.clone(), w.admin.clone());
        let of = id.clone();
        let delete = tokio::spawn(async move {
            control.volume_delete(&admin, &of, VolumeDelete::default()).await.is_ok()
        });
        let (control, admin) = (w.control.clone(), w.admin.clone());
        let of = id.clone();
        let refer = tokio::spawn(async move {
            control.reference_create(&admin, mount(&of, "/a")).await.is_ok()
        });
        let (deleted, referred) = (delete.await.expect("no panic"), refer.await.expect("no panic"));
        assert!(deleted != referred, "round {round}: deleted {deleted}, referred {referred}");
        if deleted {
            w.volume_gone(&w.admin, &id).await;
        } else {
            w.control.reference_delete(&w.admin, "/a").await.unwrap();
        }
    }
    w.node.assert_was_asked_nothing_wrong();
}
