//! Placement: which pool takes a new volume, by rules about the volumes that lie there and the
//! hosts that use them.
//!
//! A rule is `KEY OPERATOR PATTERN`: `volume==db*` wants a pool that holds a volume of such a
//! name, `role!=cache` one without a volume whose label `role` is `cache`. `host==web-*` and
//! `host.rack==4` speak of the hosts that such volumes are attached to, by name and by label. With
//! `~` behind it the rule is a wish: it decides among pools, and never refuses one.

use serde::{Deserialize, Serialize};

use crate::id::PoolId;
use crate::size::ByteSize;
use crate::text::Metadata;

/// Most rules of one volume.
pub const RULES_MAX: usize = 32;
/// Most characters of one rule.
pub const RULE_CHARS_MAX: usize = 512;

/// How a rule speaks of the pool.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operator {
    /// `==`: it must hold a match.
    Affinity,
    /// `!=`: it must hold none.
    AntiAffinity,
    /// `==~`: better one that holds a match.
    SoftAffinity,
    /// `!=~`: better one that holds none.
    SoftAntiAffinity,
}

/// In the order in which they are looked for: the longer ones first.
const OPERATORS: [(&str, Operator); 4] = [
    ("==~", Operator::SoftAffinity),
    ("!=~", Operator::SoftAntiAffinity),
    ("==", Operator::Affinity),
    ("!=", Operator::AntiAffinity),
];

/// What of a volume the pattern is held against: its name; the names of its hosts; a label of its
/// hosts, whose key follows. Every other key is a label of the volume's own.
const VOLUME_KEY: &str = "volume";
const HOST_KEY: &str = "host";
const HOST_LABEL: &str = "host.";

/// One rule, checked.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rule {
    /// `volume`, `host`, `host.` with the key of a host's label, or the key of a volume's label.
    key: String,
    operator: Operator,
    /// `*` stands for any characters.
    pattern: String,
}

/// Why a text is no rule.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RuleError {
    #[error(
        "'{0}' is not a rule; write volume==NAME, host==NAME, LABEL!=VALUE or host.LABEL!=VALUE, \
         with ==, !=, ==~ or !=~ and * for any characters"
    )]
    Unreadable(String),
    #[error("a rule has at most {RULE_CHARS_MAX} characters")]
    TooLong,
}

impl std::str::FromStr for Rule {
    type Err = RuleError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.chars().count() > RULE_CHARS_MAX {
            return Err(RuleError::TooLong);
        }
        let unreadable = || RuleError::Unreadable(text.to_owned());
        // The operator is the first one in the text: patterns may hold its characters.
        let at = [text.find("=="), text.find("!=")].into_iter().flatten().min();
        let (key, rest) = text.split_at(at.ok_or_else(unreadable)?);
        let found = OPERATORS.iter().find(|(sign, _)| rest.starts_with(sign));
        let (sign, operator) = found.ok_or_else(unreadable)?;
        let (key, pattern) = (key.trim(), rest[sign.len()..].trim());
        let bad = |text: &str| text.is_empty() || text.chars().any(char::is_control);
        if bad(key) || bad(pattern) || key == HOST_LABEL {
            return Err(unreadable());
        }
        Ok(Self { key: key.to_owned(), operator: *operator, pattern: pattern.to_owned() })
    }
}

impl std::fmt::Display for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sign = OPERATORS.iter().find(|(_, operator)| *operator == self.operator);
        write!(f, "{}{}{}", self.key, sign.map_or("==", |(sign, _)| sign), self.pattern)
    }
}

impl TryFrom<String> for Rule {
    type Error = RuleError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Rule> for String {
    fn from(rule: Rule) -> Self {
        rule.to_string()
    }
}

/// A name with labels, that a pattern is held against.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Labelled {
    pub name: String,
    pub labels: Metadata,
}

/// A volume that lies in a pool.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Neighbour {
    pub volume: Labelled,
    /// The hosts that it is attached to.
    pub hosts: Vec<Labelled>,
}

/// A pool that could take the volume.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Candidate {
    pub pool: PoolId,
    /// For the reason.
    pub name: String,
    pub free: ByteSize,
    /// The project's volumes there.
    pub neighbours: Vec<Neighbour>,
}

/// The choice, and why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Placed {
    pub pool: PoolId,
    /// A sentence without its end.
    pub why: String,
}

/// Why no pool takes the volume.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub struct Unplaceable(
    /// Each pool with the first rule that it breaks.
    pub Vec<String>,
);

/// Does the text match a pattern in which `*` stands for any characters?
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    let mut rest = rest;
    for part in parts {
        // The earliest place leaves the most for those that follow.
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

impl Rule {
    const fn is_soft(&self) -> bool {
        matches!(self.operator, Operator::SoftAffinity | Operator::SoftAntiAffinity)
    }

    fn is_kept_by(&self, candidate: &Candidate) -> bool {
        let fits = |text: &String| matches(&self.pattern, text);
        let label = |one: &Labelled, key: &str| one.labels.get(key).is_some_and(fits);
        let is_match = |neighbour: &Neighbour| match self.key.as_str() {
            VOLUME_KEY => fits(&neighbour.volume.name),
            HOST_KEY => neighbour.hosts.iter().any(|host| fits(&host.name)),
            key => match key.strip_prefix(HOST_LABEL) {
                Some(key) => neighbour.hosts.iter().any(|host| label(host, key)),
                None => label(&neighbour.volume, key),
            },
        };
        let holds = candidate.neighbours.iter().any(is_match);
        match self.operator {
            Operator::Affinity | Operator::SoftAffinity => holds,
            Operator::AntiAffinity | Operator::SoftAntiAffinity => !holds,
        }
    }
}

/// The pool that keeps all rules that must be kept and most of the wishes; among equals the one
/// with the most room, and among those the first.
///
/// # Errors
/// No candidate keeps all that must be kept.
pub fn place(rules: &[Rule], candidates: &[Candidate]) -> Result<Placed, Unplaceable> {
    let broken = |candidate: &Candidate| {
        rules.iter().find(|rule| !rule.is_soft() && !rule.is_kept_by(candidate)).cloned()
    };
    let wishes = |candidate: &Candidate| {
        rules.iter().filter(|rule| rule.is_soft() && rule.is_kept_by(candidate)).count()
    };
    let fitting: Vec<&Candidate> =
        candidates.iter().filter(|candidate| broken(candidate).is_none()).collect();
    let mut best: Option<&Candidate> = None;
    for candidate in &fitting {
        let rank = |one: &Candidate| (wishes(one), one.free);
        if best.is_none_or(|best| rank(candidate) > rank(best)) {
            best = Some(candidate);
        }
    }
    let Some(best) = best else {
        let breaks = |candidate: &Candidate| {
            let rule = broken(candidate).map_or_else(String::new, |rule| rule.to_string());
            format!("pool '{}' breaks {rule}", candidate.name)
        };
        return Err(Unplaceable(candidates.iter().map(breaks).collect()));
    };
    let mut why = match fitting.len() {
        1 => "the only pool that can take it".to_owned(),
        many => format!("the most room of {many} pools"),
    };
    let kept: Vec<String> =
        rules.iter().filter(|rule| rule.is_kept_by(best)).map(ToString::to_string).collect();
    let missed: Vec<String> =
        rules.iter().filter(|rule| !rule.is_kept_by(best)).map(ToString::to_string).collect();
    if !kept.is_empty() {
        why.push_str(&format!("; keeps {}", kept.join(", ")));
    }
    if !missed.is_empty() {
        why.push_str(&format!("; no pool keeps {} as well", missed.join(", ")));
    }
    Ok(Placed { pool: best.pool, why })
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn rule(text: &str) -> Rule {
        text.parse().unwrap()
    }

    fn candidate(number: u128, free: u64, neighbours: &[(&str, &str)]) -> Candidate {
        let labelled = |name: &str, role: &str| Labelled {
            name: name.to_owned(),
            labels: Metadata::from([("role".to_owned(), role.to_owned())]),
        };
        // Each is attached to the host `on-NAME`, in the rack of that name.
        let host = |name: &str| Labelled {
            name: format!("on-{name}"),
            labels: Metadata::from([("rack".to_owned(), name.to_owned())]),
        };
        let neighbour = |(name, role): &(&str, &str)| Neighbour {
            volume: labelled(name, role),
            hosts: vec![host(name)],
        };
        Candidate {
            pool: PoolId(Uuid::from_u128(number)),
            name: format!("p{number}"),
            free: ByteSize(free),
            neighbours: neighbours.iter().map(neighbour).collect(),
        }
    }

    #[test]
    fn rules_parse_print_and_refuse() {
        for text in
            ["volume==db*", "role!=cache", "volume==~a", "role!=~a==b", "host==db*", "host.rack!=4"]
        {
            assert_eq!(rule(text).to_string(), text);
        }
        assert_eq!(rule(" role == a b ").to_string(), "role==a b");
        for bad in ["", "volume", "==a", "volume==", "volume=a", "volume==~", "a!b", "host.==a"] {
            assert!(bad.parse::<Rule>().is_err(), "{bad}");
        }
        assert_eq!("a".repeat(513).parse::<Rule>(), Err(RuleError::TooLong));
    }

    #[test]
    fn stars_stand_for_any_characters() {
        for (pattern, text, yes) in [
            ("db", "db", true),
            ("db", "db1", false),
            ("db*", "db1", true),
            ("*", "", true),
            ("*1", "db1", true),
            ("*1", "db12", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("ab*ba", "aba", false),
            ("a**b", "ab", true),
        ] {
            assert_eq!(matches(pattern, text), yes, "{pattern} {text}");
        }
    }

    #[test]
    fn hard_rules_refuse_and_wishes_decide() {
        let all = [
            candidate(1, 10, &[("db-1", "db")]),
            candidate(2, 30, &[("cache", "cache")]),
            candidate(3, 20, &[]),
        ];
        let chosen = |texts: &[&str]| {
            let rules: Vec<Rule> = texts.iter().map(|text| rule(text)).collect();
            place(&rules, &all).map(|placed| placed.pool.0.as_u128())
        };
        assert_eq!(chosen(&[]), Ok(2), "the most room");
        assert_eq!(chosen(&["volume==db-*"]), Ok(1));
        assert_eq!(chosen(&["role!=cache"]), Ok(3));
        assert_eq!(chosen(&["role!=cache", "volume!=~db*"]), Ok(3));
        assert_eq!(chosen(&["role!=cache", "volume==~db*"]), Ok(1), "a wish beats room");
        assert_eq!(chosen(&["volume==~nowhere"]), Ok(2), "a wish never refuses");
        assert_eq!(chosen(&["host==on-db*"]), Ok(1), "where such a host has a volume");
        assert_eq!(chosen(&["host!=on-cache"]), Ok(3));
        assert_eq!(chosen(&["host.rack==~db-1"]), Ok(1));
        assert_eq!(chosen(&["host.rack!=*", "host!=~on-*"]), Ok(3));
        assert_eq!(chosen(&["host.role==db"]).map_err(|error| error.0.len()), Err(3));
        let refused = chosen(&["volume==db*", "role!=db"]).unwrap_err();
        assert_eq!(refused.0.len(), 3);
        assert_eq!(refused.0[0], "pool 'p1' breaks role!=db");
        let why = place(&[rule("role!=~db")], &all).unwrap().why;
        assert_eq!(why, "the most room of 3 pools; keeps role!=~db");
    }

    #[test]
    fn whatever_the_rules_the_choice_keeps_them_and_none_is_better() {
        // A small linear congruential sequence: the same cases every time.
        let mut state = 0x9e37_79b9_u32;
        let mut next = |below: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 16) % below
        };
        let words = ["a", "b", "ab"];
        for _ in 0..3_000 {
            let candidates: Vec<Candidate> = (0..1 + next(4))
                .map(|number| {
                    let count = next(3);
                    let neighbours: Vec<(&str, &str)> = (0..count)
                        .map(|_| (words[next(3) as usize], words[next(3) as usize]))
                        .collect();
                    candidate(number.into(), next(3).into(), &neighbours)
                })
                .collect();
            let rules: Vec<Rule> = (0..next(4))
                .map(|_| {
                    let key = ["volume", "role", "host.rack"][next(3) as usize];
                    let sign = ["==", "!=", "==~", "!=~"][next(4) as usize];
                    rule(&format!("{key}{sign}{}", ["a", "a*", "*b", "z"][next(4) as usize]))
                })
                .collect();
            let keeps_hard = |one: &Candidate| {
                rules.iter().filter(|rule| !rule.is_soft()).all(|rule| rule.is_kept_by(one))
            };
            let rank = |one: &Candidate| {
                let soft = rules.iter().filter(|rule| rule.is_soft() && rule.is_kept_by(one));
                (soft.count(), one.free)
            };
            match place(&rules, &candidates) {
                Err(error) => {
                    assert!(!candidates.iter().any(keeps_hard), "{rules:?}");
                    assert_eq!(error.0.len(), candidates.len());
                }
                Ok(placed) => {
                    let best = candidates.iter().find(|one| one.pool == placed.pool).unwrap();
                    assert!(keeps_hard(best), "{rules:?}");
                    for other in candidates.iter().filter(|one| keeps_hard(one)) {
                        assert!(rank(other) <= rank(best), "{rules:?}");
                    }
                }
            }
        }
    }
}
