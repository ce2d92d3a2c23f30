//! A service and a person who types every verb, and keeps count of them.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::Value;

use crate::service::Service;

pub(crate) struct Desk {
    pub(crate) service: Service,
    /// Verbs typed so far, as their manual pages are called: `volume-create`.
    typed: BTreeSet<String>,
    /// All there are, by the manual pages of the leaves.
    all: BTreeSet<String>,
}

impl Desk {
    pub(crate) fn new() -> Self {
        let service = Service::start();
        let pages = service.path("man");
        assert!(service.run(&["man", pages.to_str().unwrap()]).status.success());
        let names: BTreeSet<String> = std::fs::read_dir(&pages)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter_map(|name| Some(name.strip_prefix("commonhold-")?.strip_suffix(".1")?.into()))
            .collect();
        // What other pages go on from is a group; `volume-type` goes on from `volume` too.
        let is_group =
            |name: &str| names.iter().any(|other| other.starts_with(&format!("{name}-")));
        // The verbs of `guard` and the agent have stories of their own, with several hosts:
        // `tests/guard`.
        let elsewhere = |name: &str| name.starts_with("guard-") || name == "host-run";
        let mine = |name: &&String| !is_group(name) && !elsewhere(name);
        let all = names.iter().filter(mine).cloned().collect();
        // The service runs, and the pages are there.
        let typed = ["serve", "man"].map(str::to_owned).into();
        Self { service, typed, all }
    }

    /// Verbs that are refused here do not count by themselves.
    pub(crate) fn count(&mut self, arguments: &[&str]) {
        let verbs = (1..=3).rev().map(|words| arguments[..words.min(arguments.len())].join("-"));
        let verb = verbs.into_iter().find(|verb| self.all.contains(verb));
        self.typed.insert(verb.unwrap_or_else(|| panic!("no verb: {arguments:?}")));
    }

    /// A verb that must succeed, its JSON.
    pub(crate) fn json(&mut self, arguments: &[&str]) -> Value {
        self.count(arguments);
        self.service.json(arguments)
    }

    /// A verb that must succeed; what it prints for people.
    pub(crate) fn table(&mut self, arguments: &[&str]) -> String {
        self.count(arguments);
        let output = self.service.run(&[arguments, &["--wait"]].concat());
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// A verb that only looks: all three forms must have each of these words.
    pub(crate) fn shows(&mut self, arguments: &[&str], words: &[&str]) -> Value {
        let value = self.json(arguments);
        let plain = self.table(&[arguments, &["-o", "plain"]].concat());
        let texts = [self.table(arguments), plain, value.to_string()];
        for text in texts {
            for word in words {
                assert!(text.contains(word), "{arguments:?}: no {word} in {text}");
            }
        }
        value
    }

    /// A verb that must be refused with this exit code and a sentence with this word.
    pub(crate) fn refused(&self, arguments: &[&str], code: i32, word: &str) {
        let (got, error) = self.service.refused(arguments);
        assert!(got == code && error.contains(word), "{arguments:?}: {got}, not {code}: {error}");
        assert!(error.contains("\nhint: "), "{arguments:?}: {error}");
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.service.path(name)
    }

    /// Every verb has been typed.
    pub(crate) fn assert_complete(&self) {
        let left: Vec<_> = self.all.difference(&self.typed).collect();
        assert!(left.is_empty(), "never typed: {left:?}");
    }
}

pub(crate) fn word<'a>(value: &'a Value, path: &str) -> &'a str {
    value.pointer(path).and_then(Value::as_str).unwrap_or_else(|| panic!("no {path} in {value}"))
}

pub(crate) fn names(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|item| word(item, "/name")).collect()
}
