//! What all loads of small files have in common: clients at the same time, each with programs that
//! do one step after another.

use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use super::load::moved;
use crate::load::Moved;

/// A client's connection. Each of its programs has a slot, and in that one request at a time.
pub(super) trait Client: Send + 'static {
    fn programs(&self) -> usize;
    /// May the program begin another step?
    fn may_begin(&self, slot: usize) -> bool;
    /// Gives out the next request of the program's step. It goes out with those that are given
    /// out before the next answer is waited for.
    fn send(&mut self, slot: usize) -> Result<()>;
    /// The next answer: to which program, and whether its step is over.
    fn receive(&mut self) -> Result<(usize, bool)>;
    /// Leaves nothing behind.
    fn finish(self) -> Result<()>;
}

/// Every program does step after step until the time is over, or it may begin no other: how long
/// each took, in microseconds.
pub(super) fn drive(client: &mut impl Client, limit: Duration) -> Result<Vec<f64>> {
    let (begin, mut latencies_us) = (Instant::now(), Vec::new());
    let mut since = vec![begin; client.programs()];
    let mut under_way = 0;
    for (slot, since) in since.iter_mut().enumerate() {
        if client.may_begin(slot) {
            *since = Instant::now();
            client.send(slot)?;
            under_way += 1;
        }
    }
    while under_way > 0 {
        let (slot, is_over) = client.receive()?;
        if is_over {
            let now = Instant::now();
            latencies_us.push((now - since[slot]).as_secs_f64() * 1e6);
            since[slot] = now;
            if now - begin >= limit || !client.may_begin(slot) {
                under_way -= 1;
                continue;
            }
        }
        client.send(slot)?;
    }
    Ok(latencies_us)
}

/// All clients at once, each in a thread; `cpu` tells the server's CPU time, and is asked right
/// before and after.
pub(super) fn together<C: Client>(
    clients: Vec<C>,
    seconds: f64,
    cpu: impl Fn() -> Result<f64>,
) -> Result<(Moved, f64)> {
    let barrier = || Arc::new(Barrier::new(clients.len() + 1));
    let (ready, over) = (barrier(), barrier());
    let start = |mut client: C| {
        let (ready, over) = (Arc::clone(&ready), Arc::clone(&over));
        std::thread::spawn(move || {
            ready.wait();
            let found = drive(&mut client, Duration::from_secs_f64(seconds));
            over.wait();
            found.and_then(|latencies_us| client.finish().map(|()| latencies_us))
        })
    };
    let threads: Vec<_> = clients.into_iter().map(start).collect();
    let before = cpu()?;
    let begin = Instant::now();
    ready.wait();
    over.wait();
    let took = begin.elapsed().as_secs_f64();
    let spent_us = cpu()? - before;
    let mut all = Vec::new();
    for thread in threads {
        let found = thread.join().map_err(|_| anyhow!("a client of the load broke down"))?;
        all.extend(found?);
    }
    Ok((moved(all, took), spent_us))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Steps of two requests, answered in order; notes what is under way when an answer is awaited.
    struct Notes {
        left: Vec<u32>,
        under_way: Vec<(usize, bool)>,
        second: Vec<bool>,
        seen: Vec<usize>,
    }

    impl Client for Notes {
        fn programs(&self) -> usize {
            self.left.len()
        }
        fn may_begin(&self, slot: usize) -> bool {
            self.left[slot] > 0
        }
        fn send(&mut self, slot: usize) -> Result<()> {
            assert!(self.under_way.iter().all(|(other, _)| *other != slot), "one at a time");
            self.under_way.push((slot, self.second[slot]));
            self.second[slot] = !self.second[slot];
            Ok(())
        }
        fn receive(&mut self) -> Result<(usize, bool)> {
            self.seen.push(self.under_way.len());
            let (slot, is_over) = self.under_way.remove(0);
            self.left[slot] -= u32::from(is_over);
            Ok((slot, is_over))
        }
        fn finish(self) -> Result<()> {
            Ok(())
        }
    }

    fn notes(left: &[u32]) -> Notes {
        let second = vec![false; left.len()];
        Notes { left: left.to_vec(), under_way: Vec::new(), second, seen: Vec::new() }
    }

    #[test]
    fn every_program_has_one_request_under_way_until_it_has_done_its_steps() {
        let mut client = notes(&[3, 1, 0]);
        let latencies_us = drive(&mut client, Duration::MAX).unwrap();
        assert_eq!(latencies_us.len(), 4, "steps, not requests");
        assert_eq!(client.left, [0, 0, 0]);
        assert_eq!(client.seen, [2, 2, 2, 2, 1, 1, 1, 1]);
    }

    #[test]
    fn when_the_time_is_over_each_program_ends_its_step() {
        let mut client = notes(&[9, 9]);
        assert_eq!(drive(&mut client, Duration::ZERO).unwrap().len(), 2);
        assert_eq!((client.left, client.under_way.len()), (vec![8, 8], 0));
    }

    #[test]
    fn what_all_clients_did_is_counted_together() {
        let spent = std::cell::Cell::new(0.0);
        let cpu = || Ok(spent.replace(spent.get() + 7.0));
        let (moved, spent_us) = together(vec![notes(&[2]), notes(&[3, 4])], 60.0, cpu).unwrap();
        assert_eq!((moved.ios, spent_us), (9.0, 7.0));
    }
}
