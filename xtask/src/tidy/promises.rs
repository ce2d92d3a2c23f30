//! What the page for the sceptic names exists: tests by their names, files by their paths.

use std::collections::BTreeSet;

use super::Page;

const PAGE: &str = "docs/sceptic.md";

pub(super) fn check(pages: &[Page]) -> Vec<String> {
    let Some(page) = pages.iter().find(|page| page.path == PAGE) else {
        return vec![format!("{PAGE} is missing")];
    };
    let functions: BTreeSet<&str> = pages
        .iter()
        .filter(|page| page.is_rust())
        .flat_map(|page| page.text.split("fn ").skip(1))
        .filter_map(|rest| rest.split_once('(').map(|(name, _)| name))
        .collect();
    let mut wrong = Vec::new();
    for (number, line) in (1..).zip(page.text.lines()) {
        for word in line.split('`').skip(1).step_by(2) {
            if is_test(word) && !functions.contains(word) {
                wrong.push(format!("{PAGE}:{number}: there is no test {word}"));
            }
            if is_path(word) && !pages.iter().any(|page| page.path.starts_with(word)) {
                wrong.push(format!("{PAGE}:{number}: there is no file {word}"));
            }
        }
    }
    wrong
}

/// A sentence in one word: our tests are called so.
fn is_test(word: &str) -> bool {
    word.matches('_').count() >= 2
        && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

fn is_path(word: &str) -> bool {
    ["crates/", "tests/", "docs/", "fuzz/"].iter().any(|start| word.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::super::tests::page;
    use super::*;

    fn findings(text: &str) -> Vec<String> {
        let test = page("crates/a/tests/a.rs", "#[test]\nfn what_is_promised_holds() {}\n");
        check(&[page(PAGE, text), test])
    }

    #[test]
    fn only_what_exists_may_be_named() {
        assert!(findings("| `what_is_promised_holds` | `crates/a/tests/a.rs` |\n").is_empty());
        assert_eq!(
            findings("a\n| `what_was_promised_holds` |\n"),
            ["docs/sceptic.md:2: there is no test what_was_promised_holds"]
        );
        assert_eq!(
            findings("`crates/b/tests` and `cargo test -p a`\n"),
            ["docs/sceptic.md:1: there is no file crates/b/tests"]
        );
        assert_eq!(check(&[]), ["docs/sceptic.md is missing"]);
    }
}
