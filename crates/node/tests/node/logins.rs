//! Sessions that replace one another, and what ends with a session.

use std::sync::Arc;
use std::time::Duration;

use host::HostError;

use crate::client::{BLOCK, Client, GOOD};
use crate::world::{SHORT, World};

#[tokio::test(flavor = "multi_thread")]
async fn a_login_from_the_same_port_replaces_the_session() {
    let world = World::start().await;
    let old = world.host(1).await;
    world.backend.hold_data();
    let pending = old.start_write(0, vec![1; BLOCK]).await;
    world.backend.holds(1).await;
    let opened = {
        let portal = world.node.portals()[0];
        let target = node::book::target_name(world.volume);
        let mut options = host::Options::new(crate::world::iqn(1), Some(target));
        options.isid = crate::world::isid(1);
        tokio::spawn(host::Initiator::connect(portal, options))
    };
    tokio::time::sleep(SHORT).await;
    assert!(!opened.is_finished(), "the old session's write can still land");
    world.backend.lift();
    let new = Client::new(opened.await.unwrap().unwrap());
    assert!(matches!(pending.outcome().await, Err(HostError::Lost(_))));
    assert_eq!(new.attentions().await.last(), Some(&(0x29, 0x07)));
    assert_eq!(new.write(0, vec![2; BLOCK]).await, GOOD);
    assert_eq!(world.node.sessions(world.volume).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_logins_from_one_port_at_once_one_session_is_left() {
    let world = Arc::new(World::start().await);
    world.attach(1).await;
    for round in 0..10 {
        let tasks: Vec<_> = (0..6)
            .map(|_| {
                let world = Arc::clone(&world);
                tokio::spawn(async move { world.connect(1, 1).await })
            })
            .collect();
        let mut opened = Vec::new();
        for task in tasks {
            opened.extend(task.await.unwrap());
        }
        let mut alive = 0;
        for session in &opened {
            // A session that was replaced ends at once; the last one goes on.
            let ping = session.ping(bytes::Bytes::from_static(b"x"));
            let pong = tokio::time::timeout(Duration::from_secs(5), ping).await.unwrap();
            tokio::time::sleep(Duration::from_millis(10)).await;
            let again = session.ping(bytes::Bytes::from_static(b"y"));
            let again = tokio::time::timeout(Duration::from_secs(5), again).await.unwrap();
            alive += usize::from(pong.is_ok() && again.is_ok());
        }
        assert_eq!(alive, 1, "round {round}: two sessions of one nexus");
        world.order(world.fence_order(1)).await.unwrap();
        for session in &opened {
            let ping = session.ping(bytes::Bytes::from_static(b"z"));
            let pong = tokio::time::timeout(Duration::from_secs(5), ping).await.unwrap();
            assert!(pong.is_err(), "round {round}: a session survived the fence");
        }
        world.attach(1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_legacy_reservation_ends_with_its_session_and_with_a_reset() {
    let world = World::start().await;
    let (a, b) = (world.host(1).await, world.host(2).await);
    let reserve = [0x16, 0, 0, 0, 0, 0];
    assert_eq!(a.run(&reserve, host::Data::None).await, GOOD);
    assert_eq!(b.write(0, vec![1; BLOCK]).await, crate::client::CONFLICT);
    a.session.cut().await;
    let mut got = b.write(0, vec![1; BLOCK]).await;
    for _ in 0..100 {
        if got == GOOD {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        got = b.write(0, vec![1; BLOCK]).await;
    }
    assert_eq!(got, GOOD);
    assert_eq!(b.run(&reserve, host::Data::None).await, GOOD);
    let a = Client::new(world.connect(1, 1).await.unwrap());
    let write = vec![1; BLOCK];
    assert_eq!(a.write(0, write.clone()).await, (2, 6, 0x29, 0x07));
    assert_eq!(a.write(0, write.clone()).await, crate::client::CONFLICT);
    a.task_management(host::TmfFunction::LogicalUnitReset).await;
    assert_eq!(a.attentions().await, [(0x29, 0x03)]);
    assert_eq!(a.write(0, write).await, GOOD);
}

/// A PDU written by hand: opcode and flags, the task tag at its place, and padded text.
fn pdu(opcode: u8, flags: u8, itt: u8, text: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 48];
    (bytes[0], bytes[1], bytes[7]) = (opcode, flags, u8::try_from(text.len()).unwrap());
    // ISID of a login; of a text request the LUN, which is reserved.
    bytes[8] = if opcode == 0x43 { 0x80 } else { 0 };
    bytes[19] = itt;
    if opcode == 0x04 {
        bytes[20..24].copy_from_slice(&[0xFF; 4]);
    }
    bytes[27] = 1; // CmdSN
    bytes.extend_from_slice(text);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_sent_right_behind_the_login_is_not_left_lying() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let world = World::start().await;
    world.attach(1).await;
    let mut stream = tokio::net::TcpStream::connect(world.node.portals()[0]).await.unwrap();
    let keys = format!("InitiatorName={}\0SessionType=Discovery\0", crate::world::iqn(1));
    let mut bytes = pdu(0x43, 0x87, 1, keys.as_bytes());
    bytes.extend(pdu(0x04, 0x80, 2, b"SendTargets=All\0"));
    stream.write_all(&bytes).await.unwrap();
    let mut answers = Vec::new();
    for _ in 0..2 {
        let mut header = [0; 48];
        let read = stream.read_exact(&mut header);
        tokio::time::timeout(Duration::from_secs(10), read).await.unwrap().unwrap();
        let length = usize::from(header[6]) << 8 | usize::from(header[7]);
        let mut data = vec![0; length.next_multiple_of(4)];
        stream.read_exact(&mut data).await.unwrap();
        answers.push((header[0], data));
    }
    assert_eq!([answers[0].0, answers[1].0], [0x23, 0x24], "login response, text response");
    let told = String::from_utf8_lossy(&answers[1].1).into_owned();
    assert!(told.contains(&node::book::target_name(world.volume)), "{told}");
}
