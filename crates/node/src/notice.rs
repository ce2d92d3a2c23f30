//! What the node saw by itself: a bounded stream that the control plane reads.

use std::sync::Arc;

use model::order::Notice;
use tokio::sync::broadcast;

/// Where notices go. A reader that lags loses the oldest ones and is told how many.
#[derive(Clone)]
pub struct Notices {
    sender: Arc<broadcast::Sender<Notice>>,
}

impl Default for Notices {
    fn default() -> Self {
        Self { sender: Arc::new(broadcast::Sender::new(4096)) }
    }
}

impl Notices {
    /// Tell whoever listens; nobody listening is no error.
    pub fn send(&self, notice: Notice) {
        tracing::info!(?notice, "notice");
        let _ = self.sender.send(notice);
    }

    /// A new reader, from now on.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Notice> {
        self.sender.subscribe()
    }
}
