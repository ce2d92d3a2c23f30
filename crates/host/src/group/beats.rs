//! The beats of one group: sent straight to the agents of the other hosts, and heard by way of the
//! own agent, which has the port.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;

use ::guard::group::{BEAT_BYTES, Beat, Peers, Role};
use api::agent::AgentGroup;
use model::group::{PeerReport, Wanted};
use model::id::{GroupId, HostId};
use tokio::net::UnixDatagram;

use super::home::{Home, Order};

/// Signs of life, out and in.
pub(super) struct Beats {
    /// `None`: it cannot be read, and nothing is sent or heard.
    key: Option<[u8; 32]>,
    template: Beat,
    peers: Vec<(HostId, Vec<SocketAddr>)>,
    heard: Peers,
    v4: Option<UdpSocket>,
    v6: Option<UdpSocket>,
    socket: UnixDatagram,
}

impl Beats {
    /// `life` is greater than that of any warden of this group before on this host.
    ///
    /// # Errors
    /// The socket of the own agent cannot be made.
    pub(super) fn open(home: &Home, order: &Order, life: u64) -> std::io::Result<Self> {
        let path = home.beats();
        env::whole::forget(&path)?;
        let template = Beat {
            group: *order.group.id.0.as_bytes(),
            host: *order.host.0.as_bytes(),
            life,
            sequence: 0,
            role: Role::Out,
            volume_age_ms: None,
            generation: 0,
            is_open: false,
        };
        let sender = |any: &str| {
            let socket = UdpSocket::bind(any).ok()?;
            socket.set_nonblocking(true).ok()?;
            Some(socket)
        };
        let mut beats = Self {
            key: None,
            template,
            peers: Vec::new(),
            heard: Peers::default(),
            v4: sender("0.0.0.0:0"),
            v6: sender("[::]:0"),
            socket: UnixDatagram::bind(path)?,
        };
        beats.follow(order);
        Ok(beats)
    }

    /// The order has changed.
    pub(super) fn follow(&mut self, order: &Order) {
        self.key = key_of(&order.group);
        self.template.generation = order.group.generation;
        self.template.is_open = order.group.wanted == Wanted::Started && !order.group.frozen;
        let others = order.group.hosts.iter().filter(|peer| peer.host_id != order.host);
        self.peers = others
            .map(|peer| {
                let addresses = peer.addresses.iter().filter_map(|one| one.parse::<IpAddr>().ok());
                let ports = addresses.filter(|_| peer.port != 0);
                (peer.host_id, ports.map(|one| SocketAddr::new(one, peer.port)).collect())
            })
            .collect();
    }

    /// Tell every other host. What does not arrive is told again soon.
    pub(super) fn send(&mut self, role: Role, volume_age_ms: Option<u64>) {
        self.template.sequence += 1;
        self.template.role = role;
        self.template.volume_age_ms =
            volume_age_ms.map(|age_ms| u32::try_from(age_ms).unwrap_or(u32::MAX - 1));
        let Some(key) = &self.key else { return };
        let bytes = self.template.encode(key);
        for address in self.peers.iter().flat_map(|(_, addresses)| addresses) {
            let socket = if address.is_ipv4() { &self.v4 } else { &self.v6 };
            if let Some(socket) = socket {
                let _ = socket.send_to(&bytes, address);
            }
        }
    }

    /// Wait for a datagram. Dropping the future loses nothing.
    pub(super) async fn arrived(&self) -> Vec<u8> {
        let mut room = [0; BEAT_BYTES + 1];
        match self.socket.recv(&mut room).await {
            Ok(bytes) => room[..bytes].to_vec(),
            Err(error) => {
                tracing::warn!(%error, "no beats can be heard");
                std::future::pending().await
            }
        }
    }

    pub(super) fn hear(&mut self, now_ms: u64, bytes: &[u8]) {
        let beat = self.key.as_ref().and_then(|key| Beat::decode(bytes, key));
        if let Some(beat) = beat.filter(|beat| beat.group == self.template.group) {
            self.heard.hear(now_ms, beat);
        }
    }

    pub(super) fn heard(&self) -> &Peers {
        &self.heard
    }

    pub(super) fn reports(&self, now_ms: u64) -> Vec<PeerReport> {
        let of = |(host, _): &(HostId, Vec<SocketAddr>)| PeerReport {
            host: *host,
            heartbeat_age_ms: self.heard.age_ms(now_ms, host.0.as_bytes()),
        };
        self.peers.iter().map(of).collect()
    }
}

/// 32 bytes, hexadecimal.
fn key_of(group: &AgentGroup) -> Option<[u8; 32]> {
    let key = key_in(&group.heartbeat_key);
    if key.is_none() {
        tracing::error!(group = group.name, "the key of the heartbeats cannot be read");
    }
    key
}

fn key_in(digits: &str) -> Option<[u8; 32]> {
    let mut key = [0; 32];
    if digits.len() != 2 * key.len() || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, pair) in key.iter_mut().zip(digits.as_bytes().chunks(2)) {
        let text = std::str::from_utf8(pair).ok()?;
        *byte = u8::from_str_radix(text, 16).ok()?;
    }
    Some(key)
}

/// Which group a datagram says that it is for.
pub struct GroupOf(pub Option<GroupId>);

impl GroupOf {
    #[must_use]
    pub fn datagram(bytes: &[u8]) -> Self {
        Self(Beat::group_of(bytes).map(|id| GroupId(uuid::Uuid::from_bytes(id))))
    }
}

/// Give a datagram to the group's warden, which proves it. Nobody may be there.
pub fn hand_on(socket: &UnixDatagram, directory: &Path, bytes: &[u8]) {
    let _ = socket.try_send_to(bytes, Home::new(directory.to_path_buf()).beats());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_cannot_be_read_is_not_one_of_zeros() {
        assert_eq!(key_in(&"0a".repeat(32)), Some([10; 32]));
        for digits in ["", "zz", &"0a".repeat(31), &"0g".repeat(32), &"+a".repeat(32)] {
            assert_eq!(key_in(digits), None, "{digits}");
        }
    }
}
