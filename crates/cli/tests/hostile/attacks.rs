//! What a hostile peer does, each for a few seconds.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use host::{Credentials, Initiator, Options};
use iscsi::pdu::login::{LoginRequest, Stage};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::raw::{Session, connect, data_out, pdu, push, silent_nop};

/// Most that one command moves, and that one Data-Out brings.
const LARGEST: u32 = 4 << 20;
const SEGMENT: u32 = 256 << 10;
/// Commands of a session.
const WINDOW: u32 = 128;

/// What attackers know.
#[derive(Clone)]
pub(crate) struct Victim {
    pub(crate) portal: SocketAddr,
    pub(crate) api: SocketAddr,
    pub(crate) target: String,
    /// A host that was let in, and is not nice.
    pub(crate) iqn: String,
    pub(crate) credentials: Credentials,
}

impl Victim {
    fn options(&self, port: u16) -> Options {
        let mut options = Options::new(self.iqn.clone(), Some(self.target.clone()));
        let [high, low] = port.to_be_bytes();
        options.isid = [0x80, 0, 0, 0, high, low];
        options.chap = Some(self.credentials.clone());
        // The largest values that the protocol can name: the target decides.
        options.max_recv_data_segment_bytes = (1 << 24) - 1;
        options.max_burst_bytes = (1 << 24) - 1;
        options.max_outstanding_r2t = u16::MAX;
        options
    }

    async fn sessions(&self, count: u16) -> Vec<Session> {
        let mut sessions = Vec::new();
        for port in 0..count {
            sessions.extend(Session::open(self.portal, self.options(port)).await);
        }
        assert!(!sessions.is_empty(), "no session was had");
        sessions
    }
}

/// Many connections from some addresses, each with these first bytes.
async fn flood(to: SocketAddr, count: u32, bytes: impl Fn(u32) -> Vec<u8>) -> Vec<TcpStream> {
    let mut open = Vec::new();
    for number in 0..count {
        let source = [127, 0, 0, 10 + u8::try_from(number % 20).unwrap()];
        let Some(stream) = connect(source, to).await else { continue };
        // One that was closed at once takes nothing, and that is as good.
        let _ = stream.try_write(&bytes(number));
        open.push(stream);
    }
    open
}

async fn linger() {
    tokio::time::sleep(Duration::from_secs(2)).await;
}

/// A login request with a text that goes on, or not.
fn login(continues: bool, text: &[u8]) -> Vec<u8> {
    let request = LoginRequest {
        transit: false,
        continues,
        current: Some(Stage::Operational),
        next: None,
        version_max: 0,
        version_min: 0,
        isid: [0x80, 0, 0, 0, 0, 1],
        tsih: 0,
        itt: 1,
        cid: 0,
        cmd_sn: 1,
        exp_stat_sn: 0,
    };
    pdu(request.encode(), text)
}

/// Connections that never say a word.
pub(crate) async fn silence(victim: Victim) {
    let open = flood(victim.portal, 3000, |_| Vec::new()).await;
    linger().await;
    drop(open);
}

/// Nearly a whole login request, and never the rest.
pub(crate) async fn half_pdus(victim: Victim) {
    let request = login(false, &[b'x'; 8192]);
    let open = flood(victim.portal, 3000, |_| request[..8000].to_vec()).await;
    linger().await;
    drop(open);
}

/// Bytes that mean nothing.
pub(crate) async fn garbage(victim: Victim) {
    let bytes = |seed: u32| {
        (0..4096_u32).map(|n| (n.wrapping_mul(seed | 1) >> 3).to_le_bytes()[0]).collect()
    };
    let open = flood(victim.portal, 3000, bytes).await;
    linger().await;
    drop(open);
}

/// The first PDU announces the most data there can be, and the longest additional headers.
pub(crate) async fn largest_header(victim: Victim) {
    let mut request = login(false, &[]);
    request[4..8].fill(0xff);
    request.resize(48 + 4096, b'x');
    let open = flood(victim.portal, 1000, |_| request.clone()).await;
    linger().await;
    drop(open);
}

/// A login whose text goes on and on, from many connections, which read no answer.
pub(crate) async fn endless_text(victim: Victim) {
    let open = flood(victim.portal, 400, |_| Vec::new()).await;
    let part = login(true, &[b'x'; 8000]);
    let mut writers = tokio::task::JoinSet::new();
    for mut stream in open {
        let part = part.clone();
        writers.spawn(async move {
            for _ in 0..200 {
                if !push(&mut stream, &part).await {
                    break;
                }
            }
            linger().await;
        });
    }
    while writers.join_next().await.is_some() {}
}

/// Small requests that are answered at length, many in one piece, and nothing is read.
pub(crate) async fn unread_logins(victim: Victim) {
    let keys: String = (0..1000).map(|number| format!("X-{number:04}=1\0")).collect();
    let name = "InitiatorName=iqn.2026-11.org.example:none\0SessionType=Discovery\0";
    let mut requests = login(false, format!("{name}{}", &keys[..7000]).as_bytes());
    for _ in 0..50 {
        requests.extend(login(false, &keys.as_bytes()[..8000]));
    }
    let mut writers = tokio::task::JoinSet::new();
    for stream in flood(victim.portal, 300, |_| Vec::new()).await {
        let (requests, mut stream) = (requests.clone(), stream);
        writers.spawn(async move {
            while push(&mut stream, &requests).await {}
            linger().await;
        });
    }
    let ended = async { while writers.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(Duration::from_secs(8), ended).await;
}

/// The wrong secret, again and again.
pub(crate) async fn wrong_secrets(victim: Victim) {
    for number in 0..400 {
        let mut options = victim.options(number);
        options.chap.as_mut().unwrap().secret = format!("wrong-secret-{number}");
        assert!(Initiator::connect(victim.portal, options).await.is_err());
    }
}

/// Ever new initiator ports, whose sessions stay.
pub(crate) async fn many_sessions(victim: Victim) {
    let mut open = Vec::new();
    for port in 0..1500 {
        open.extend(Initiator::connect(victim.portal, victim.options(port)).await.ok());
    }
    linger().await;
    drop(open);
}

/// All commands of a window bring all data that was asked for, but for the last piece.
pub(crate) async fn withheld_ends(victim: Victim) {
    let piece = Bytes::from(vec![0xee; usize::try_from(SEGMENT).unwrap()]);
    let mut writers = tokio::task::JoinSet::new();
    for mut session in victim.sessions(3).await {
        let piece = piece.clone();
        writers.spawn(async move {
            for itt in 0..WINDOW {
                let write = session.write(itt, LARGEST, &[]);
                if !push(&mut session.stream, &write).await {
                    return;
                }
            }
            while let Some(asked) = session.next_r2t().await {
                let end = asked.offset + asked.length;
                let last = if end == LARGEST { end - SEGMENT } else { end };
                for (sn, offset) in (0..).zip((asked.offset..last).step_by(piece.len())) {
                    if !push(&mut session.stream, &data_out(&asked, sn, offset, &piece)).await {
                        return;
                    }
                }
            }
            linger().await;
        });
    }
    while writers.join_next().await.is_some() {}
}

/// The largest reads, all of a window at once; no answer is taken.
pub(crate) async fn unread_answers(victim: Victim) {
    let mut open = Vec::new();
    for mut session in victim.sessions(4).await {
        let mut reads = Vec::new();
        for itt in 0..WINDOW {
            reads.extend(session.read(itt, LARGEST));
        }
        push(&mut session.stream, &reads).await;
        open.push(session);
    }
    linger().await;
    linger().await;
}

/// Data in tiny pieces, with much between them that is read and forgotten: each piece is a slice
/// of a receive buffer of its own.
pub(crate) async fn crumbs(victim: Victim) {
    let mut sessions = victim.sessions(1).await;
    let session = &mut sessions[0];
    let (crumb, padding) = (Bytes::from_static(&[0xcc; 512]), silent_nop(&[0; 60 << 10]));
    let write = session.write(1, 2 << 20, &[]);
    assert!(push(&mut session.stream, &write).await);
    while let Some(asked) = session.next_r2t().await {
        let end = (asked.offset + asked.length).min((2 << 20) - 512);
        for (sn, offset) in (0..).zip((asked.offset..end).step_by(crumb.len())) {
            let mut bytes = data_out(&asked, sn, offset, &crumb);
            bytes.extend_from_slice(&padding);
            if !push(&mut session.stream, &bytes).await {
                return;
            }
        }
    }
    linger().await;
}

/// Commands ahead of their turn, each with as much data as a PDU may bring.
pub(crate) async fn out_of_turn(victim: Victim) {
    let mut open = victim.sessions(4).await;
    let data = vec![0xdd; usize::try_from(SEGMENT).unwrap()];
    for session in &mut open {
        // The first number never comes.
        let _ = session.write(0, SEGMENT, &[]);
        for itt in 1..WINDOW {
            let write = session.write(itt, SEGMENT, &data);
            if !push(&mut session.stream, &write).await {
                break;
            }
        }
    }
    linger().await;
}

/// Heads that never end, and bodies that never come.
pub(crate) async fn slow_requests(victim: Victim) {
    let head = |number: u32| {
        let mut head = b"POST /v1/volumes HTTP/1.1\r\nhost: x\r\n".to_vec();
        if number.is_multiple_of(2) {
            head.extend(b"content-type: application/json\r\ncontent-length: 1000000\r\n\r\n");
        }
        head.resize(head.len() + 30_000, b'{');
        head
    };
    let open = flood(victim.api, 1200, head).await;
    let mut served = connect([127, 0, 0, 200], victim.api).await;
    if let Some(stream) = &mut served {
        let _ = push(stream, b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n").await;
        let mut answer = [0; 64];
        let read = tokio::time::timeout(Duration::from_secs(10), stream.read(&mut answer)).await;
        assert!(matches!(read, Ok(Ok(1..))), "the API answers nobody");
    }
    linger().await;
    drop(open);
}
