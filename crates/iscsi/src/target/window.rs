//! The command window (RFC 7143 4.2.2.1): which CmdSN is due, which may wait, which is ignored.
//!
//! MaxCmdSN = ExpCmdSN - 1 + width - live. Taking a command moves ExpCmdSN up and adds a live
//! task, so MaxCmdSN stays; a task's end moves it up. It never goes back, as the standard demands.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use bytes::Bytes;

use crate::pdu::frame::Frame;

/// Most data of requests that wait for their turn.
const HELD_BYTES_MAX: usize = 256 << 10;

/// Where a CmdSN stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    Due,
    /// Inside the window, but an earlier one is missing.
    Early,
    /// Before or behind the window: to be ignored silently.
    Outside,
}

#[derive(Debug)]
pub(super) struct Window {
    expected: u32,
    width: u32,
    live: u32,
    /// Requests that came early, by their distance from `origin`; None: cancelled meanwhile.
    held: BTreeMap<u32, Option<Frame>>,
    held_bytes: usize,
    origin: u32,
}

impl Window {
    pub(super) fn new(first: u32, width: u32) -> Self {
        let width = width.clamp(1, 1 << 16);
        Self {
            expected: first,
            width,
            live: 0,
            held: BTreeMap::new(),
            held_bytes: 0,
            origin: first,
        }
    }

    pub(super) fn expected(&self) -> u32 {
        self.expected
    }

    pub(super) fn max(&self) -> u32 {
        self.expected.wrapping_add(self.width.saturating_sub(self.live)).wrapping_sub(1)
    }

    pub(super) fn place(&self, cmd_sn: u32) -> Place {
        let room = self.width.saturating_sub(self.live);
        match cmd_sn.wrapping_sub(self.expected) {
            0 if room > 0 => Place::Due,
            ahead if ahead < room => Place::Early,
            _ => Place::Outside,
        }
    }

    /// The due number was taken.
    pub(super) fn advance(&mut self) {
        self.expected = self.expected.wrapping_add(1);
    }

    pub(super) fn task_starts(&mut self) {
        self.live += 1;
    }

    pub(super) fn task_ends(&mut self) {
        self.live = self.live.saturating_sub(1);
    }

    /// Keep an early request; the first of its number stays. False: they bring too much data.
    ///
    /// On one connection requests come in order (RFC 7143 4.2.2.1), so nobody honest needs much
    /// room here. What is kept is a copy: it does not hold the receive buffer.
    #[must_use]
    pub(super) fn hold(&mut self, mut frame: Frame) -> bool {
        let at = frame.header.cmd_sn().wrapping_sub(self.origin);
        if let Entry::Vacant(place) = self.held.entry(at) {
            let bytes = frame.data.len();
            if self.held_bytes + bytes > HELD_BYTES_MAX {
                return false;
            }
            self.held_bytes += bytes;
            frame.data = Bytes::copy_from_slice(&frame.data);
            frame.ahs = Bytes::copy_from_slice(&frame.ahs);
            place.insert(Some(frame));
        }
        true
    }

    /// The request that has become due by the last advance, if it was held. `Some(None)`: its
    /// number counts, but it was cancelled.
    pub(super) fn take_held(&mut self) -> Option<Option<Frame>> {
        if self.held.is_empty() {
            return None;
        }
        let due = self.held.remove(&self.expected.wrapping_sub(self.origin))?;
        self.held_bytes -= due.as_ref().map_or(0, |frame| frame.data.len());
        Some(due)
    }

    /// Cancel a held command by its tag. True when there was one.
    pub(super) fn cancel(&mut self, itt: u32) -> bool {
        let of_task = |frame: &Option<Frame>| frame.as_ref().is_some_and(|f| f.header.itt() == itt);
        match self.held.values_mut().find(|frame| of_task(frame)) {
            Some(place) => {
                let frame = place.take();
                self.held_bytes -= frame.map_or(0, |frame| frame.data.len());
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Place, Window};

    #[test]
    fn the_window_wraps_and_never_goes_back() {
        let mut window = Window::new(u32::MAX - 1, 4);
        assert_eq!(window.max(), 1);
        for (cmd_sn, place) in [
            (u32::MAX - 2, Place::Outside),
            (u32::MAX - 1, Place::Due),
            (u32::MAX, Place::Early),
            (1, Place::Early),
            (2, Place::Outside),
        ] {
            assert_eq!(window.place(cmd_sn), place, "{cmd_sn}");
        }
        for _ in 0..4 {
            assert_eq!(window.place(window.expected()), Place::Due);
            window.advance();
            window.task_starts();
            assert_eq!(window.max(), 1);
        }
        assert_eq!(window.place(window.expected()), Place::Outside, "the window is closed");
        window.task_ends();
        assert_eq!(window.max(), 2);
        assert_eq!(window.place(2), Place::Due);
    }
}
