//! What the file service counts.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use nfs::v4::state::Counts;

/// What calls are told apart by.
const KINDS: [&str; 4] = ["3", "4", "mount", "other"];

/// Why a connection was not let in, or was ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Turned {
    /// No export lets its address in.
    Stranger,
    /// There are as many connections as there may be.
    Connections,
    /// Its address has as many as one may have.
    Address,
    /// The kernel gave none.
    Accept,
    /// A record was longer than the limit.
    Record,
    /// It kept something half done.
    Stuck,
}

const TURNED: [(Turned, &str); 6] = [
    (Turned::Stranger, "stranger"),
    (Turned::Connections, "connections"),
    (Turned::Address, "address"),
    (Turned::Accept, "accept"),
    (Turned::Record, "record"),
    (Turned::Stuck, "stuck"),
];

#[derive(Default)]
pub(super) struct Figures {
    calls: [AtomicU64; KINDS.len()],
    received_bytes: AtomicU64,
    reply_bytes: AtomicU64,
    turned: [AtomicU64; TURNED.len()],
}

/// What is so at the moment.
pub(super) struct Now {
    pub connections: usize,
    pub held_bytes: u64,
    pub threads: usize,
    pub exports: usize,
    pub state: Counts,
}

impl Figures {
    pub(super) fn call(&self, program: u32, version: u32, bytes: (usize, usize)) {
        let kind = match (program, version) {
            (nfs::v3::PROGRAM, 3) => 0,
            (nfs::v3::PROGRAM, 4) => 1,
            (nfs::mount::PROGRAM, _) => 2,
            _ => 3,
        };
        self.calls[kind].fetch_add(1, Relaxed);
        let (received, reply) = bytes;
        self.received_bytes.fetch_add(super::output::as_u64(received), Relaxed);
        self.reply_bytes.fetch_add(super::output::as_u64(reply), Relaxed);
    }

    pub(super) fn turn_away(&self, turned: Turned) {
        let at = TURNED.iter().position(|(known, _)| *known == turned).unwrap_or(0);
        self.turned[at].fetch_add(1, Relaxed);
    }

    #[cfg(test)]
    pub(super) fn turned(&self, turned: Turned) -> u64 {
        let at = TURNED.iter().position(|(known, _)| *known == turned).unwrap();
        self.turned[at].load(Relaxed)
    }

    /// The service's part of the metrics page.
    pub(super) fn page(&self, now: &Now) -> String {
        let mut text = String::new();
        let mut family = |name: &str, kind: &str, help: &str, values: &[(String, u64)]| {
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
            for (labels, value) in values {
                let _ = writeln!(text, "{name}{labels} {value}");
            }
        };
        let one = |value| [(String::new(), value)];
        let labelled = |label: &str, names: &[&str], counts: &[AtomicU64]| -> Vec<(String, u64)> {
            let pair = |(name, count): (&&str, &AtomicU64)| {
                (format!("{{{label}=\"{name}\"}}"), count.load(Relaxed))
            };
            names.iter().zip(counts).map(pair).collect()
        };
        let gauges = [
            ("connections", "Connections of NFS clients.", now.connections),
            ("threads", "Threads that serve NFS.", now.threads),
            ("exports", "Exports that are served, counted once for each portal.", now.exports),
            ("clients", "NFSv4 clients that are known.", now.state.clients),
            ("sessions", "NFSv4.1 sessions.", now.state.sessions),
            ("states", "NFSv4 opens and lock owners.", now.state.entries),
            ("grace", "1 while clients may reclaim after a restart.", now.state.in_grace.into()),
        ];
        for (name, help, value) in gauges {
            let value = super::output::as_u64(value);
            family(&format!("commonhold_nfs_{name}"), "gauge", help, &one(value));
        }
        let help = "Bytes of calls and replies that are held.";
        family("commonhold_nfs_held_bytes", "gauge", help, &one(now.held_bytes));
        let help = "Calls, by version of NFS.";
        let calls = labelled("version", &KINDS, &self.calls);
        family("commonhold_nfs_calls_total", "counter", help, &calls);
        let help = "Bytes of calls.";
        let received = self.received_bytes.load(Relaxed);
        family("commonhold_nfs_received_bytes_total", "counter", help, &one(received));
        let help = "Bytes of replies.";
        let sent = self.reply_bytes.load(Relaxed);
        family("commonhold_nfs_reply_bytes_total", "counter", help, &one(sent));
        let help = "Connections that were refused or ended, by reason.";
        let names = TURNED.map(|(_, name)| name);
        let turned = labelled("reason", &names, &self.turned);
        family("commonhold_nfs_refused_total", "counter", help, &turned);
        text
    }
}
