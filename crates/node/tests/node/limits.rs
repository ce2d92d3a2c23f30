//! What strangers can cost us.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::GOOD;
use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn half_open_connections_and_login_floods_end_by_the_login_limit() {
    let limit = Duration::from_secs(2);
    let world = World::start_with(|settings| settings.iscsi.login_limit = limit).await;
    let client = world.host(1).await;
    let begun = Instant::now();
    let mut flood = Vec::new();
    for number in 0..200 {
        let mut stream = TcpStream::connect(world.node.portals()[0]).await.unwrap();
        if number % 2 == 0 {
            // Half a login header, and never the rest of it.
            let _ = stream.write_all(&[0x43, 0x87, 0, 0, 0, 0, 0, 200]).await;
        }
        flood.push(stream);
    }
    assert_eq!(client.ready().await, GOOD, "whoever is in is served");
    let latecomer = world.login(1, 2).await;
    assert_eq!(latecomer.ready().await, GOOD, "and a login among them succeeds");
    for mut stream in flood {
        let mut byte = [0];
        let read = tokio::time::timeout(Duration::from_secs(10), stream.read(&mut byte)).await;
        let read = read.expect("a connection without login stays open");
        assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    }
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!(client.ready().await, GOOD, "a session is no login");
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_login_end_the_connection_at_once() {
    let world = World::start().await;
    for first in [0_u8, 0x01, 0x3F, 0xFF] {
        let mut stream = TcpStream::connect(world.node.portals()[0]).await.unwrap();
        let mut bytes = [0; 48];
        bytes[0] = first;
        stream.write_all(&bytes).await.unwrap();
        let mut rest = Vec::new();
        let read = stream.read_to_end(&mut rest);
        let ended = tokio::time::timeout(Duration::from_secs(5), read).await;
        assert!(ended.is_ok(), "opcode {first:02x}h: the connection stays open");
    }
}
