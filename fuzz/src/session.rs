//! A target's connection and an initiator, without sockets.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::BytesMut;
use iscsi::initiator::{Initiator, Options};
use iscsi::target::{
    Authorization, Connection, Directory, Disorder, Event, Settings, TargetRecord,
};

pub const TARGET: &str = "iqn.2026-11.io.commonhold:volume-1";
pub const HOST: &str = "iqn.2026-11.io.commonhold:host-1";
/// Command window of [`settings`] when it is narrow.
pub const NARROW: u32 = 4;

/// A directory that knows one target and one host.
pub struct Book {
    pub authorization: Authorization,
}

impl Book {
    #[must_use]
    pub fn open() -> Self {
        Self { authorization: Authorization::Open }
    }
    /// The host must prove a secret, and may ask for ours.
    #[must_use]
    pub fn chap() -> Self {
        let mutual = Some(("target".to_owned(), "another secret".to_owned()));
        let (user, secret) = ("host".to_owned(), "a secret of a host".to_owned());
        Self { authorization: Authorization::Chap { user, secret, mutual } }
    }
}

impl Directory for Book {
    fn visible_targets(&self, _: &str) -> Vec<TargetRecord> {
        let portals = vec![("192.0.2.1:3260".to_owned(), 1), ("[2001:db8::1]:3260".to_owned(), 2)];
        vec![TargetRecord { name: TARGET.to_owned(), portals }]
    }
    fn authorize(&self, initiator: &str, target: Option<&str>) -> Authorization {
        match target {
            _ if initiator != HOST => Authorization::Forbidden,
            Some(name) if name != TARGET => Authorization::NoSuchTarget,
            _ => self.authorization.clone(),
        }
    }
}

/// Settings of the portal; narrow: with small bursts and few commands, where tasks fail alone.
#[must_use]
pub fn settings(narrow: bool) -> Settings {
    if !narrow {
        return Settings::default();
    }
    Settings {
        window: NARROW,
        max_burst_bytes: 2048,
        first_burst_bytes: 1024,
        max_recv_data_segment_bytes: 1024,
        max_outstanding_r2t: 2,
        initial_r2t: true,
        text_bytes_max: 512,
        data_out_disorder: Disorder::FailTask,
        ..Settings::default()
    }
}

fn nonce() -> iscsi::target::Nonce {
    Box::new(|bytes| bytes.fill(7))
}

/// A connection that was just accepted.
#[must_use]
pub fn connection(settings: Settings) -> Connection {
    let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 3260);
    Connection::new(Arc::new(settings), address, address, nonce())
}

/// An initiator that has queued its first Login Request.
#[must_use]
pub fn initiator(discovery: bool) -> Initiator {
    Initiator::new(Options::new(HOST, (!discovery).then(|| TARGET.to_owned())), nonce())
}

/// Carry bytes both ways until the login is through. What went up is appended to `up`, what went
/// down to `down`.
pub fn log_in(
    target: &mut Connection,
    initiator: &mut Initiator,
    up: &mut Vec<u8>,
    down: &mut Vec<u8>,
) {
    let (mut to_target, mut to_initiator) = (BytesMut::new(), BytesMut::new());
    while target.session().is_none() {
        for piece in initiator.outgoing().drain(..) {
            to_target.extend_from_slice(&piece);
            up.extend_from_slice(&piece);
        }
        let mut events = Vec::new();
        let received = target.receive(&mut to_target, &Book::open(), &mut events);
        received.expect("our own initiator keeps the protocol");
        if events.iter().any(|event| matches!(event, Event::SessionOpening { .. })) {
            target.session_ready(1);
        }
        for piece in target.outgoing().drain(..) {
            to_initiator.extend_from_slice(&piece);
            down.extend_from_slice(&piece);
        }
        let received = initiator.receive(&mut to_initiator, &mut Vec::new());
        received.expect("our own target keeps the protocol");
    }
}
