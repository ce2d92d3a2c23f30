//! What the node saw by itself, kept until the control plane has heard it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use model::node::{Heard, NoticeMark};
use model::order::Notice;
use tokio::sync::Notify;

/// So many are kept for a control plane that is away.
const KEPT: usize = 4096;
/// So many are told at once.
const TOLD: usize = 256;
/// How long somebody who asks waits for the next one.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Default)]
struct State {
    /// How many there were before those that are kept.
    forgotten: u64,
    kept: VecDeque<Notice>,
}

pub(super) struct Notices {
    boot: u64,
    state: Mutex<State>,
    came: Notify,
    /// The node ends: nobody is kept waiting.
    ending: AtomicBool,
}

impl Notices {
    pub(super) fn new(boot: u64) -> Self {
        let ending = AtomicBool::new(false);
        Self { boot, state: Mutex::default(), came: Notify::new(), ending }
    }

    pub(super) fn end(&self) {
        self.ending.store(true, Ordering::Relaxed);
        self.came.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while the lock is held")
    }

    pub(super) fn push(&self, notice: Notice) {
        let mut state = self.lock();
        if state.kept.len() == KEPT {
            state.kept.pop_front();
            state.forgotten += 1;
        }
        state.kept.push_back(notice);
        drop(state);
        self.came.notify_waiters();
    }

    /// Those behind the mark; of an earlier start's mark, all.
    fn behind(&self, after: NoticeMark) -> Heard {
        let state = self.lock();
        let count = if after.boot == self.boot { after.count } else { 0 };
        let lost = count < state.forgotten;
        let skipped = usize::try_from(count.saturating_sub(state.forgotten)).unwrap_or(usize::MAX);
        let notices: Vec<Notice> = state.kept.iter().skip(skipped).take(TOLD).cloned().collect();
        let count = count.max(state.forgotten) + notices.len() as u64;
        Heard { notices, mark: NoticeMark { boot: self.boot, count }, lost }
    }

    /// Those behind the mark, as soon as there are some; none after a while.
    pub(super) async fn after(&self, mark: NoticeMark) -> Heard {
        let look = async {
            loop {
                let came = self.came.notified();
                tokio::pin!(came);
                came.as_mut().enable();
                let heard = self.behind(mark);
                if !heard.notices.is_empty() || self.ending.load(Ordering::Relaxed) {
                    return heard;
                }
                came.await;
            }
        };
        tokio::time::timeout(PATIENCE, look).await.unwrap_or_else(|_| self.behind(mark))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(number: usize) -> Notice {
        let text = number.to_string();
        let (target, from, why) = (text.clone(), text.clone(), text.clone());
        Notice::LoginRefused { iqn: text, target, from, why }
    }

    #[tokio::test]
    async fn each_notice_is_told_once_and_what_was_forgotten_is_said() {
        let notices = Notices::new(3);
        for number in 0..10 {
            notices.push(notice(number));
        }
        let heard = notices.after(NoticeMark::default()).await;
        assert_eq!((heard.notices.len(), heard.lost), (10, false));
        notices.push(notice(10));
        let next = notices.after(heard.mark).await;
        assert_eq!(next.notices, [notice(10)]);
        for number in 11..=KEPT + 20 {
            notices.push(notice(number));
        }
        let (mut mark, mut count, mut lost) = (next.mark, 0, false);
        while count < KEPT {
            let heard = notices.after(mark).await;
            lost |= heard.lost;
            count += heard.notices.len();
            mark = heard.mark;
        }
        assert!(lost && count == KEPT);
        assert_eq!(mark.count, KEPT as u64 + 21);
    }
}
