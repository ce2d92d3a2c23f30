//! What a campaign counted and measured.

use std::collections::BTreeMap;

use crate::campaign::Fault;

const DAY_US: u64 = 86_400_000_000;

/// Microseconds from a fault to the claim, and from there to the survivor's first write.
#[derive(Clone, Copy)]
pub(crate) struct Took {
    detection: u64,
    takeover: u64,
}

impl Took {
    /// The winner's guard has logged when it claimed.
    pub(crate) fn of(log: &str, begun_us: u64, wrote_us: u64) -> Self {
        let claimed = log.lines().rfind(|line| line.contains("Ask(Claim"));
        let claimed_us = claimed.map(of_day).unwrap();
        let since = |later_us: u64, earlier_us: u64| (later_us + DAY_US - earlier_us) % DAY_US;
        Self {
            detection: since(claimed_us, begun_us % DAY_US),
            takeover: since(wrote_us % DAY_US, claimed_us),
        }
    }
}

/// `2026-11-26T12:00:00.123456Z ...`: the microseconds of the day.
fn of_day(line: &str) -> u64 {
    let number = |from: usize, to: usize| line[from..to].parse::<u64>().unwrap();
    ((number(11, 13) * 60 + number(14, 16)) * 60 + number(17, 19)) * 1_000_000 + number(20, 26)
}

#[derive(Default)]
pub(crate) struct Figures {
    /// Of each fault: takeovers, and how often the owner stayed.
    counts: BTreeMap<Fault, [usize; 2]>,
    took: Vec<Took>,
    pub(crate) pictures: usize,
}

impl Figures {
    pub(crate) fn moved(&mut self, fault: Fault, took: Took) {
        self.counts.entry(fault).or_default()[0] += 1;
        self.took.push(took);
    }

    pub(crate) fn stayed(&mut self, fault: Fault) {
        self.counts.entry(fault).or_default()[1] += 1;
    }

    pub(crate) fn takeovers(&self) -> usize {
        self.took.len()
    }

    /// Print it; milliseconds from a fault to the survivor's first write, in 99 of 100.
    pub(crate) fn tell(&self) -> u64 {
        eprintln!(
            "{} takeovers; the volume was read whole {} times",
            self.took.len(),
            self.pictures
        );
        for (fault, [moved, stayed]) in &self.counts {
            eprintln!("{fault:?}: moved {moved}, stayed {stayed}");
        }
        self.line("from the fault to the claim", |took| took.detection);
        self.line("from the claim to the survivor's first write", |took| took.takeover);
        self.line("both", |took| took.detection + took.takeover)
    }

    fn line(&self, what: &str, of: fn(&Took) -> u64) -> u64 {
        let mut ms: Vec<u64> = self.took.iter().map(|took| of(took) / 1000).collect();
        ms.sort_unstable();
        let at = |part: usize| ms[(ms.len() * part / 100).min(ms.len() - 1)];
        let (median, p99, most) = (at(50), at(99), at(100));
        eprintln!("{what}: median {median} ms, p99 {p99} ms, most {most} ms");
        p99
    }
}
