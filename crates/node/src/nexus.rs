//! What one logical unit keeps about one I_T nexus: its gate, its unit attentions, its figures.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use model::order::{Access, Mode};
use scsi::nexus::ItNexus;
use scsi::unit_attention::{Queue, UnitAttention};

use tokio::sync::mpsc;

use crate::copies::Copies;
use crate::gate::Gate;
use crate::metrics::AttachmentFigures;

/// What others tell the connection that carries a nexus' session.
#[derive(Clone, Debug)]
pub enum Signal {
    /// Commands whose pass is void are dead: those that wait for data end now.
    Aborted,
    /// Ask the initiator to log out within so many seconds (RFC 7143 11.9.1, event 1).
    RequestLogout { seconds: u16 },
    /// The memory that this connection waited for is its own now.
    MemoryGranted,
    /// End the connection.
    Close { why: &'static str },
}

/// A way to the connection of a session. The receiving end is dropped when the connection has
/// cleaned up after itself: nothing of the session runs any more.
#[derive(Clone, Debug)]
pub struct SessionLink {
    pub tsih: u16,
    pub signals: mpsc::UnboundedSender<Signal>,
}

impl SessionLink {
    /// Tell the connection; one that is gone needs no telling.
    pub fn signal(&self, signal: Signal) {
        let _ = self.signals.send(signal);
    }
    /// End the session and wait until nothing of it runs.
    pub async fn close(&self, why: &'static str) {
        self.signal(Signal::Close { why });
        self.signals.closed().await;
    }
}

/// The state of one I_T nexus at one logical unit. Lives as long as the attachment, over logins.
pub struct NexusState {
    pub nexus: ItNexus,
    /// The attachment through which this nexus reaches the unit.
    pub access: Arc<Access>,
    pub figures: Arc<AttachmentFigures>,
    /// Shared with the state that this one replaced, whose commands may still run.
    pub gate: Arc<Gate>,
    pub copies: Copies,
    attentions: Mutex<Queue>,
    /// The queue is not empty: what the hot path looks at instead of taking the lock.
    has_attention: AtomicBool,
    /// Milliseconds on the node's clock; zero: never.
    last_command_ms: AtomicU64,
    session: Mutex<Option<SessionLink>>,
}

impl NexusState {
    pub(crate) fn new(
        nexus: ItNexus,
        access: Arc<Access>,
        figures: Arc<AttachmentFigures>,
        gate: Arc<Gate>,
    ) -> Self {
        let state = Self {
            nexus,
            access,
            figures,
            gate,
            copies: Copies::default(),
            attentions: Mutex::new(Queue::default()),
            has_attention: AtomicBool::new(false),
            last_command_ms: AtomicU64::new(0),
            session: Mutex::new(None),
        };
        state.attend(UnitAttention::PowerOn);
        state
    }

    /// What the host may do, as the SCSI machine puts it.
    #[must_use]
    pub fn scsi_access(&self) -> scsi::unit::Access {
        match self.access.mode {
            Mode::ReadWrite => scsi::unit::Access::ReadWrite,
            Mode::ReadOnly => scsi::unit::Access::ReadOnly,
        }
    }

    /// Establish a unit attention condition.
    pub fn attend(&self, attention: UnitAttention) {
        let mut queue = self.attentions.lock().expect("no panic while the lock is held");
        queue.push(attention);
        self.has_attention.store(true, Ordering::Release);
    }

    /// Run `judge` with the queue, or with `None` when it is known to be empty.
    pub fn with_attentions<R>(&self, judge: impl FnOnce(Option<&mut Queue>) -> R) -> R {
        if !self.has_attention.load(Ordering::Acquire) {
            return judge(None);
        }
        let mut queue = self.attentions.lock().expect("no panic while the lock is held");
        let result = judge(Some(&mut queue));
        self.has_attention.store(!queue.is_empty(), Ordering::Release);
        result
    }

    /// A command arrived at `now_ms` on the node's clock.
    pub fn touch(&self, now_ms: u64) {
        self.last_command_ms.store(now_ms.max(1), Ordering::Relaxed);
    }

    /// Milliseconds since the last command; `None` when there was none.
    #[must_use]
    pub fn last_command_age_ms(&self, now_ms: u64) -> Option<u64> {
        match self.last_command_ms.load(Ordering::Relaxed) {
            0 => None,
            at => Some(now_ms.saturating_sub(at)),
        }
    }

    /// The session that carries this nexus now.
    #[must_use]
    pub fn session(&self) -> Option<SessionLink> {
        self.session.lock().expect("no panic while the lock is held").clone()
    }

    /// This session carries the nexus from now on; gives the one that did until now.
    pub(crate) fn begin_session(&self, link: SessionLink) -> Option<SessionLink> {
        self.figures.session(true);
        self.session.lock().expect("no panic while the lock is held").replace(link)
    }

    /// The session with this TSIH is over; a newer one is left alone.
    pub(crate) fn end_session(&self, tsih: u16) {
        let mut session = self.session.lock().expect("no panic while the lock is held");
        if session.as_ref().is_some_and(|link| link.tsih == tsih) {
            *session = None;
            self.copies.clear();
        }
        self.figures.session(false);
    }

    /// Tell the session's connection, if there is one.
    pub fn signal(&self, signal: Signal) {
        if let Some(link) = self.session() {
            link.signal(signal);
        }
    }
}
