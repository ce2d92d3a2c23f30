//! Many volumes and many attachments: how long lists and an attach take, and what an idle volume
//! costs. Small by default, so that it always works; the figures that the documentation names are
//! those of a release build with COMMONHOLD_SCALE=1, which also holds them to their limits:
//!
//! ```text
//! COMMONHOLD_SCALE=1 cargo test --release -p cli --test scale -- --nocapture
//! ```
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test that prints its figures")]

mod figures;
#[path = "../service/mod.rs"]
mod service;

use std::time::{Duration, Instant};

use api::attachment::{Attachment, AttachmentQuery, CreateAttachments};
use api::event::EventQuery;
use api::host::{CreateHost, HostQuery};
use api::project::{QuotaChange, UpdateProject};
use api::volume::{CreateVolume, VolumeQuery};
use api::volume_type::CreateGrant;
use api::{Client, ListQuery};

use figures::{Table, Times, ms, processor_time, resident_bytes};
use service::Service;

/// How much of everything.
#[derive(Clone, Copy)]
struct Scale {
    volumes: usize,
    hosts: usize,
    /// Of each volume.
    attachments: usize,
    /// Single attaches that are measured.
    attaches: usize,
    /// Hosts of the one volume that many have.
    shared: usize,
    /// Are the limits asserted? They mean a release build.
    limits: bool,
}

const SMALL: Scale =
    Scale { volumes: 12, hosts: 6, attachments: 2, attaches: 10, shared: 20, limits: false };
const LARGE: Scale =
    Scale { volumes: 1000, hosts: 1000, attachments: 5, attaches: 300, shared: 1000, limits: true };

const LIST_LIMIT: Duration = Duration::from_millis(100);
const ATTACH_LIMIT: Duration = Duration::from_millis(50);

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_volumes_and_five_thousand_attachments() {
    let scale = match std::env::var("COMMONHOLD_SCALE") {
        Ok(value) if value != "0" => LARGE,
        _ => SMALL,
    };
    let service = Service::start();
    let client = Client::new(&service.url, service.token.clone()).unwrap();
    let idle_bytes = resident_bytes(service.pid());
    prepare(&client, scale).await;
    let hosts_bytes = resident_bytes(service.pid());
    let began = Instant::now();
    volumes(&client, scale).await;
    println!("\n{} volumes made in {} ms", scale.volumes, ms(began.elapsed()));
    let volumes_bytes = resident_bytes(service.pid());
    let began = Instant::now();
    attachments(&client, scale).await;
    let made = scale.volumes * scale.attachments;
    println!("{made} attachments made and attached in {} ms", ms(began.elapsed()));
    let attached_bytes = resident_bytes(service.pid());
    let each = |more: u64, less: u64| more.saturating_sub(less) / scale.volumes as u64;
    println!("memory at start {} KiB, with hosts {} KiB", idle_bytes >> 10, hosts_bytes >> 10);
    println!("memory per idle volume, not attached: {} bytes", each(volumes_bytes, hosts_bytes));
    println!("memory per attached volume: {} bytes", each(attached_bytes, hosts_bytes));

    lists(&service, &client, scale).await;
    attaches(&service, &client, scale).await;
    one_volume_of_many(&client, scale).await;
    restart(service, scale).await;
}

/// Quotas that hold it all, and the hosts.
async fn prepare(client: &Client, scale: Scale) {
    let quota =
        QuotaChange { volumes: Some(10_000), gigabytes: Some(1_000_000), ..QuotaChange::default() };
    let change = UpdateProject { quota: Some(quota), ..UpdateProject::default() };
    client.project_update("default", &change).await.unwrap();
    let grant = CreateGrant { project: "default".into(), acknowledge_data_loss: true };
    client.grant_create("ssd-multiattach", &grant).await.unwrap();
    let names = (0..scale.hosts).map(|n| format!("h{n}"));
    let more = (0..scale.shared).map(|n| format!("s{n}"));
    let client = client.clone();
    sixteen_at_a_time(names.chain(more), move |name| {
        let client = client.clone();
        async move {
            let initiators = vec![format!("iqn.2026-11.test:{name}")];
            let new = CreateHost { name, initiators, ..CreateHost::default() };
            client.host_create(&new).await.unwrap();
        }
    })
    .await;
}

async fn sixteen_at_a_time<T: Send + 'static, F: Future<Output = ()> + Send + 'static>(
    items: impl Iterator<Item = T>,
    call: impl Fn(T) -> F,
) {
    let mut running = tokio::task::JoinSet::new();
    for item in items {
        if running.len() == 16 {
            running.join_next().await.unwrap().unwrap();
        }
        running.spawn(call(item));
    }
    while let Some(done) = running.join_next().await {
        done.unwrap();
    }
}

fn new_volume(name: String) -> CreateVolume {
    CreateVolume {
        name,
        size: Some("1g".parse().map(api::Size).unwrap()),
        volume_type: Some("ssd-multiattach".into()),
        ..CreateVolume::default()
    }
}

async fn volumes(client: &Client, scale: Scale) {
    let worker = client.clone();
    sixteen_at_a_time((0..scale.volumes).map(|n| format!("v{n}")), move |name| {
        let client = worker.clone();
        async move {
            client.volume_create(&new_volume(name)).await.unwrap();
        }
    })
    .await;
    while client
        .every(&VolumeQuery::default())
        .await
        .unwrap()
        .iter()
        .any(|v| v.status != "available")
    {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Volume `n` to the hosts `n`, `n + 1`, ...: every host has as many volumes as every other.
async fn attachments(client: &Client, scale: Scale) {
    let worker = client.clone();
    sixteen_at_a_time(0..scale.volumes, move |number| {
        let client = worker.clone();
        async move {
            let host = |more| format!("h{}", (number + more) % scale.hosts);
            let hosts = (0..scale.attachments).map(host).collect();
            let volume = format!("v{number}");
            let new = CreateAttachments { volume, hosts, ..CreateAttachments::default() };
            client.attachment_create(&new).await.unwrap();
        }
    })
    .await;
    all_attached(client, scale.volumes * scale.attachments).await;
}

async fn all_attached(client: &Client, count: usize) {
    loop {
        let all = client.every(&AttachmentQuery::default()).await.unwrap();
        assert_eq!(all.len(), count);
        if all.iter().all(|attachment| attachment.state == "attached") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

const LIST_ROUNDS: usize = 31;

/// The first page and the whole list, over one connection.
async fn list<Q: ListQuery + Default>(client: &Client, table: &Table, what: &str, limits: bool) {
    let (mut pages, mut wholes, mut count) = (Vec::new(), Vec::new(), 0);
    for _ in 0..LIST_ROUNDS {
        let began = Instant::now();
        client.list(&Q::default()).await.unwrap();
        pages.push(began.elapsed());
        let began = Instant::now();
        count = client.every(&Q::default()).await.unwrap().len();
        wholes.push(began.elapsed());
    }
    let (pages, wholes) = (Times::of(pages), Times::of(wholes));
    table.row(&format!("{what}, a page"), &pages);
    table.row(&format!("{what}, all {count}"), &wholes);
    assert!(!limits || pages.median() < LIST_LIMIT, "a page of {what}");
    assert!(!limits || wholes.median() < LIST_LIMIT, "all {what}");
}

async fn lists(service: &Service, client: &Client, scale: Scale) {
    let table = Table::new("Lists, over REST");
    list::<VolumeQuery>(client, &table, "volumes", scale.limits).await;
    list::<HostQuery>(client, &table, "hosts", scale.limits).await;
    list::<AttachmentQuery>(client, &table, "attachments", scale.limits).await;
    // The audit trail grows without end: nobody reads it whole.
    list::<EventQuery>(client, &table, "events", false).await;
    let table = Table::new("Lists, by the command line, a process each");
    for what in ["volume", "host", "attachment"] {
        let mut times = Vec::new();
        for _ in 0..LIST_ROUNDS {
            let began = Instant::now();
            assert!(service.run(&[what, "list"]).status.success());
            times.push(began.elapsed());
        }
        let times = Times::of(times);
        table.row(&format!("{what} list"), &times);
        assert!(!scale.limits || times.median() < LIST_LIMIT * 2, "{what} list");
    }
}

/// Ask for one attachment and look until it is there: the time for the answer, and for it all.
async fn attach(client: &Client, volume: &str, host: &str) -> (Duration, Duration) {
    let hosts = vec![host.to_owned()];
    let new =
        CreateAttachments { volume: volume.to_owned(), hosts, ..CreateAttachments::default() };
    let began = Instant::now();
    let created = client.attachment_create(&new).await.unwrap();
    let answered = began.elapsed();
    let mut seen: Attachment = created.attachments.into_iter().next().unwrap().attachment;
    let id = seen.id.to_string();
    while seen.state != "attached" {
        tokio::time::sleep(Duration::from_millis(1)).await;
        seen = client.attachment_show(&id).await.unwrap();
    }
    (answered, began.elapsed())
}

/// Single attaches, one after the other, with everything else in place.
async fn attaches(service: &Service, client: &Client, scale: Scale) {
    let table = Table::new("One attach among all of these");
    let (mut answers, mut wholes) = (Vec::new(), Vec::new());
    let before = processor_time(service.pid());
    for number in 0..scale.attaches {
        let host = format!("s{}", number % scale.shared);
        let volume = format!("v{}", (number * 7) % scale.volumes);
        let (answered, whole) = attach(client, &volume, &host).await;
        answers.push(answered);
        wholes.push(whole);
    }
    let spent = processor_time(service.pid()).saturating_sub(before);
    let wholes = Times::of(wholes);
    table.row("answered", &Times::of(answers));
    table.row("attached", &wholes);
    println!(
        "\nprocessor time per attach: {} ms",
        ms(spent / u32::try_from(scale.attaches).unwrap())
    );
    assert!(!scale.limits || wholes.percentile(99) < ATTACH_LIMIT, "the 99th of 100 attaches");

    let table = Table::new("One attach by the command line, with --wait");
    let mut times = Vec::new();
    for number in 0..scale.attaches.min(30) {
        let host = format!("s{}", (number + 1) % scale.shared);
        let volume = format!("v{}", (number * 7 + 3) % scale.volumes);
        let began = Instant::now();
        service.json(&["attachment", "create", &volume, "--host", &host]);
        times.push(began.elapsed());
    }
    table.row("attachment create --wait", &Times::of(times));
}

/// One volume to many hosts, one by one: an attach costs the same whoever has the volume already.
async fn one_volume_of_many(client: &Client, scale: Scale) {
    client.volume_create(&new_volume("shared".into())).await.unwrap();
    while client.volume_show("shared").await.unwrap().status != "available" {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut times = Vec::new();
    for number in 0..scale.shared {
        times.push(attach(client, "shared", &format!("s{number}")).await.1);
    }
    let table = Table::new("One volume to one host after the other");
    let part = (scale.shared / 5).max(1);
    for (index, chunk) in times.chunks(part).enumerate() {
        let first = index * part;
        table.row(&format!("hosts {first} to {}", first + chunk.len()), &Times::of(chunk.to_vec()));
    }
}

/// The daemon comes back with all of it.
async fn restart(service: Service, scale: Scale) {
    let (status, home) = service.end();
    assert!(status.success(), "{status}");
    let began = Instant::now();
    let service = Service::start_in(home, &[]);
    let answers = began.elapsed();
    // What the node was told anew, it has confirmed when the daemon rests.
    let (mut spent, mut still) = (processor_time(service.pid()), 0);
    while still < 10 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let now = processor_time(service.pid());
        still = if now == spent { still + 1 } else { 0 };
        spent = now;
    }
    println!(
        "\na restart answers after {} ms and costs {} ms of processor time",
        ms(answers),
        ms(spent)
    );
    println!(
        "memory after a restart, {} volumes: {} KiB",
        scale.volumes,
        resident_bytes(service.pid()) >> 10
    );
}
