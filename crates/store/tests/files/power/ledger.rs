//! What one client was promised: each step that it took, and how its files were then.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

/// A file's directory (0 or 1) and name.
pub(super) type Key = (usize, String);

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Expected {
    pub(super) is_directory: bool,
    pub(super) mode: u32,
    /// The version of its content that is durable; 0 is none.
    pub(super) durable: u64,
    /// Versions that were written since and may be lost.
    pub(super) volatile: BTreeSet<u64>,
}

pub(super) type Files = BTreeMap<Key, Expected>;

/// A file as it is found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Found {
    pub(super) is_directory: bool,
    pub(super) mode: u32,
    pub(super) version: u64,
}

#[derive(Clone, Debug, Default)]
struct Step {
    files: Files,
    /// Between this step's begin and its answer these may be as before, as after, or half done.
    touched: Vec<Key>,
    what: String,
}

/// The steps of one client, the last of which may not have been answered.
pub(super) struct Ledger(Mutex<(Vec<Step>, usize)>);

/// Of the answered and the begun step, the last ones.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    answered: usize,
    begun: usize,
}

impl Moment {
    /// The image was taken between the two.
    pub(super) fn until(self, later: Self) -> Self {
        Self { begun: later.begun, ..self }
    }
    /// Steps that were answered.
    pub(super) fn steps(self) -> usize {
        self.answered
    }
}

impl Ledger {
    pub(super) fn new() -> Self {
        Self(Mutex::new((vec![Step::default()], 0)))
    }
    pub(super) fn now(&self) -> Moment {
        let inner = self.0.lock().unwrap();
        Moment { answered: inner.1, begun: inner.0.len() - 1 }
    }
    pub(super) fn files(&self) -> Files {
        self.0.lock().unwrap().0.last().unwrap().files.clone()
    }
    pub(super) fn begin(&self, what: String, touched: Vec<Key>, files: Files) {
        self.0.lock().unwrap().0.push(Step { files, touched, what });
    }
    pub(super) fn answered(&self) {
        let mut inner = self.0.lock().unwrap();
        inner.1 = inner.0.len() - 1;
    }

    /// Whether what is found is what the client was promised, at one moment of those.
    pub(super) fn check(&self, moment: Moment, found: &BTreeMap<Key, Found>) -> Result<(), String> {
        let inner = self.0.lock().unwrap();
        let steps = &inner.0[moment.answered..=moment.begun];
        let mut why = Vec::new();
        for (at, step) in steps.iter().enumerate() {
            let touched = steps.get(at + 1).map_or(&[][..], |next| &next.touched);
            let wrong = differences(&step.files, found, touched);
            if wrong.is_empty() {
                return Ok(());
            }
            why.push(format!("after {}: {wrong:?}", step.what));
        }
        Err(why.join("\n"))
    }
}

fn differences(expected: &Files, found: &BTreeMap<Key, Found>, touched: &[Key]) -> Vec<String> {
    let keys: BTreeSet<_> = expected.keys().chain(found.keys()).collect();
    let mut wrong = Vec::new();
    for key in keys {
        let fits = match (expected.get(key), found.get(key)) {
            (Some(expected), Some(found)) => {
                expected.is_directory == found.is_directory
                    && expected.mode == found.mode
                    && (expected.durable == found.version
                        || expected.volatile.contains(&found.version))
            }
            (None, None) => true,
            _ => false,
        };
        if !fits && !touched.contains(key) {
            wrong.push(format!("{key:?}: {:?} is {:?}", expected.get(key), found.get(key)));
        }
    }
    wrong
}

/// The test of the tests: a ledger notices what is lost, what comes back, and what is old.
#[test]
fn a_ledger_notices_what_breaks_a_promise() {
    let ledger = Ledger::new();
    let key = |name: &str| (0, name.to_owned());
    let file = |durable| Expected { mode: 0o600, durable, ..Expected::default() };
    let found = |version| Found { is_directory: false, mode: 0o600, version };
    ledger.begin("create a".to_owned(), vec![key("a")], [(key("a"), file(1))].into());
    let before = ledger.now();
    ledger.answered();
    let after = ledger.now();
    ledger.begin("write a".to_owned(), vec![key("a")], [(key("a"), file(2))].into());
    ledger.answered();
    let last = ledger.now();
    let there = BTreeMap::from([(key("a"), found(1))]);
    assert!(ledger.check(before, &BTreeMap::new()).is_ok());
    assert!(ledger.check(after, &there).is_ok());
    assert!(ledger.check(after, &BTreeMap::new()).is_err());
    assert!(ledger.check(last, &there).is_err());
    assert!(ledger.check(after.until(last), &there).is_ok());
    let other = BTreeMap::from([(key("a"), found(2)), (key("b"), found(1))]);
    assert!(ledger.check(last, &other).is_err());
}
