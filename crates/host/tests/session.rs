//! The initiator over real sockets, against the target's machine.
#![allow(clippy::unwrap_used, reason = "a test that meets one has failed")]

mod disk;

use bytes::Bytes;
use disk::{TARGET, serve};
use host::{
    Command, Credentials, Data, HostError, Initiator, LogicalUnit, Options, TmfFunction,
    TmfResponse,
};
use iscsi::target::{Authorization, Settings};
use tokio::net::TcpListener;

const HOST: &str = "iqn.2026-11.io.commonhold:host-1";

/// Start a target on a thread of its own; its address.
fn start(settings: Settings, authorization: Authorization) -> std::net::SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            serve(TcpListener::from_std(listener).unwrap(), settings, authorization).await;
        });
    });
    address
}

fn options() -> Options {
    Options::new(HOST, Some(TARGET.to_owned()))
}

#[tokio::test]
async fn blocks_come_back_from_many_tasks_at_once() {
    let address = start(Settings::default(), Authorization::Open);
    let session = Initiator::connect(address, options()).await.unwrap();
    let unit = LogicalUnit::open(&session, 0).await.unwrap();
    assert_eq!((unit.blocks(), unit.block_bytes()), (131_072, 512));
    let tasks: Vec<_> = (0..200u32)
        .map(|number| {
            let unit = unit.clone();
            tokio::spawn(async move {
                let blocks = 1 + number * 7 % 600;
                let data = Bytes::from(vec![number.to_be_bytes()[3] | 1; blocks as usize * 512]);
                unit.write(u64::from(number) * 600, data.clone(), false).await.unwrap();
                assert!(unit.read(u64::from(number) * 600, blocks).await.unwrap() == data);
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    unit.sync().await.unwrap();
    assert_eq!(session.ping(Bytes::from_static(b"hello")).await.unwrap(), &b"hello"[..]);
    session.logout().await.unwrap();
    let after = unit.test_unit_ready().await;
    assert!(matches!(after, Err(HostError::Lost(_))), "{after:?}");
}

#[tokio::test]
async fn discovery_and_refusals() {
    let chap = Authorization::Chap {
        user: "host-1".to_owned(),
        secret: "a long secret".to_owned(),
        mutual: None,
    };
    let address = start(Settings::default(), chap);
    let targets = Initiator::discover(address, options()).await.unwrap();
    assert_eq!(targets.len(), 1);
    assert_eq!((targets[0].name.as_str(), targets[0].addresses.len()), (TARGET, 1));
    let refused = Initiator::connect(address, options()).await.unwrap_err();
    assert!(matches!(refused, HostError::LoginRefused { class: 2, detail: 1, .. }), "{refused}");
    let proof = Credentials { user: "host-1".to_owned(), secret: "a long secret".to_owned() };
    let session = Initiator::connect(address, Options { chap: Some(proof), ..options() }).await;
    assert_eq!(session.unwrap().tsih(), 1);
    let other = Options { target: Some(format!("{TARGET}-x")), ..options() };
    let refused = Initiator::connect(address, other).await.unwrap_err();
    assert!(matches!(refused, HostError::LoginRefused { class: 2, detail: 3, .. }));
    let nowhere = Initiator::connect("127.0.0.1:1", options()).await.unwrap_err();
    assert!(matches!(nowhere, HostError::Unreachable(_)));
}

#[tokio::test]
async fn faults_on_purpose() {
    let address = start(Settings::default(), Authorization::Open);
    let session = Initiator::connect(address, options()).await.unwrap();
    let unit = LogicalUnit::open(&session, 0).await.unwrap();
    let write = || {
        let mut cdb = [0; 10];
        (cdb[0], cdb[8]) = (0x2a, 1);
        let data = Data::Out(vec![Bytes::from(vec![7; 512])]);
        Command { withhold: true, ..Command::new(0, &cdb, data) }
    };
    // Withheld and then aborted: nothing is written.
    let pending = session.start(write()).await.unwrap();
    assert_eq!(pending.abort().await.unwrap(), TmfResponse::Complete);
    assert_eq!(pending.outcome().await, Err(HostError::Aborted));
    assert_eq!(unit.read(0, 1).await.unwrap(), vec![0; 512]);
    // Withheld and then sent.
    let pending = session.start(write()).await.unwrap();
    unit.test_unit_ready().await.unwrap();
    pending.release().await.unwrap();
    assert_eq!(pending.outcome().await.unwrap().status, 0);
    assert_eq!(unit.read(0, 1).await.unwrap(), vec![7; 512]);
    let reset = session.task_management(TmfFunction::LogicalUnitReset, 0).await.unwrap();
    assert_eq!(reset, TmfResponse::Complete);
    let error = unit.run(&[0xff; 10], Data::None).await.unwrap_err();
    assert_eq!(error, HostError::Status { status: 2, key: 5, asc: 0x20, ascq: 0 });
    // The socket goes away under a command.
    let pending = session.start(write()).await.unwrap();
    session.cut().await;
    assert!(matches!(pending.outcome().await, Err(HostError::Lost(_))));
}
