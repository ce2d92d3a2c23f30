//! What clients can cost the service.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::world::{CONNECTIONS, World};

fn address(world: &World) -> SocketAddr {
    world.address.strip_prefix("http://").unwrap().parse().unwrap()
}

/// A connection from another address of this machine than the usual one.
async fn connect_from(source: &str, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(source.parse().unwrap()).unwrap();
    socket.connect(to).await.unwrap()
}

/// The first bytes of an answer; empty where the connection was closed without one.
async fn answer(stream: &mut TcpStream) -> String {
    let mut head = vec![0; 4096];
    let read = tokio::time::timeout(Duration::from_secs(10), stream.read(&mut head)).await;
    let length = read.expect("no answer and no end").unwrap_or(0);
    String::from_utf8_lossy(&head[..length]).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_heads_from_one_address_keep_nobody_else_out() {
    let world = World::start().await;
    let to = address(&world);
    let mut slow = Vec::new();
    for _ in 0..2 * CONNECTIONS {
        let mut stream = connect_from("127.0.0.2:0", to).await;
        // It may be closed already.
        let _ = stream.write_all(b"GET /v1/volumes HTTP/1.1\r\nhost: ").await;
        slow.push(stream);
    }
    let mut other = connect_from("127.0.0.3:0", to).await;
    other.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    assert!(answer(&mut other).await.starts_with("HTTP/1.1 "), "the other address is served");
    let mut closed = 0;
    for stream in &mut slow {
        let mut byte = [0];
        let read = tokio::time::timeout(Duration::from_millis(20), stream.read(&mut byte)).await;
        closed += usize::from(matches!(read, Ok(Ok(0) | Err(_))));
    }
    assert_eq!(closed, 2 * CONNECTIONS - CONNECTIONS * 3 / 4);
    // Their places are free again when they go.
    drop(slow);
    drop(other);
    for _ in 0..3 * CONNECTIONS {
        let mut stream = connect_from("127.0.0.2:0", to).await;
        stream.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        if answer(&mut stream).await.starts_with("HTTP/1.1 ") {
            return;
        }
    }
    panic!("the address stays shut out");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_without_end_is_refused() {
    let world = World::start().await;
    let mut stream = TcpStream::connect(address(&world)).await.unwrap();
    stream.write_all(b"GET /v1/volumes HTTP/1.1\r\nhost: x\r\nlong: ").await.unwrap();
    let mut sent = 0;
    while sent < 1 << 20 && stream.write_all(&[b'a'; 1024]).await.is_ok() {
        sent += 1024;
        let mut head = [0; 64];
        let early = tokio::time::timeout(Duration::from_millis(1), stream.read(&mut head)).await;
        if let Ok(Ok(length)) = early {
            let head = String::from_utf8_lossy(&head[..length]).into_owned();
            assert!(length == 0 || head.starts_with("HTTP/1.1 431"), "{head}");
            return;
        }
    }
    assert!(sent < 512 << 10, "{sent} bytes of a head were taken");
}

#[tokio::test(flavor = "multi_thread")]
async fn made_up_methods_make_no_new_metrics() {
    let world = World::start().await;
    for number in 0..50 {
        let raw = world.raw(&format!("MADEUP{number}"), "/v1/volumes", None).await;
        assert_eq!(raw.status, 405);
    }
    let page = world.http.get(format!("{}/metrics", world.address)).send().await.unwrap();
    let page = page.text().await.unwrap();
    assert!(!page.contains("MADEUP"), "{page}");
    assert!(page.contains("method=\"other\""), "{page}");
}
