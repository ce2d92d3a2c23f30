//! Words and marks that have no place in the repository.

use super::Page;

/// Written in two halves, so that this list does not find itself.
const FORBIDDEN: [(&str, &str); 8] = [
    (concat!("/wo", "rk/"), "a path of one machine"),
    (concat!("/tm", "p/plan"), "a path of one machine"),
    (concat!("/tm", "p/t/"), "a path of one machine"),
    (concat!("://cra", "tes.io"), "a package registry's host"),
    (concat!("index.cra", "tes.io"), "a package registry's host"),
    (concat!("static.cra", "tes.io"), "a package registry's host"),
    (concat!("registry.np", "mjs"), "a package registry's host"),
    (concat!("pypi", ".org"), "a package registry's host"),
];

/// Marks of unfinished work: allowed only with the number of an issue, as in `(#12)`.
const MARKS: [&str; 4] =
    [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X"), concat!("HA", "CK")];

pub(super) fn check(page: &Page) -> Vec<String> {
    let mut wrong = Vec::new();
    for (number, line) in (1..).zip(page.text.lines()) {
        let here = format!("{}:{number}", page.path);
        if line.ends_with([' ', '\t', '\r']) {
            wrong.push(format!("{here}: white space at the end of the line"));
        }
        for (word, why) in FORBIDDEN.iter().filter(|(word, _)| line.contains(word)) {
            wrong.push(format!("{here}: '{word}' is {why}"));
        }
        for mark in MARKS.iter().filter(|mark| has_word(line, mark)) {
            if !names_an_issue(line) {
                wrong.push(format!("{here}: {mark} without an issue's number, as in {mark}(#12)"));
            }
        }
    }
    if page.path.ends_with("/src/lib.rs") || page.path.ends_with("/src/main.rs") {
        let mut head = page.text.lines().take_while(|line| line.starts_with("//!"));
        if !head.any(|line| line.starts_with("//! Invariant:")) {
            wrong.push(format!("{}: the head has no 'Invariant:' line", page.path));
        }
    }
    if !page.text.is_empty() && !page.text.ends_with('\n') {
        wrong.push(format!("{}: the last line has no end", page.path));
    }
    wrong
}

fn has_word(line: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        !line[..at].ends_with(is_part) && !line[at + word.len()..].starts_with(is_part)
    })
}

fn names_an_issue(line: &str) -> bool {
    line.split('#').skip(1).any(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::super::tests::page;
    use super::*;

    fn findings(text: &str) -> Vec<String> {
        check(&page("docs/page.md", text))
    }

    #[test]
    fn each_kind_of_word_is_found_with_its_line() {
        let mark = MARKS[0];
        assert_eq!(findings("a fine line\n"), Vec::<String>::new());
        assert!(findings("ok\nnot ok \n")[0].starts_with("docs/page.md:2: white space"));
        assert!(findings(&format!("see {}main\n", FORBIDDEN[0].0))[0].contains("one machine"));
        assert!(findings(&format!("// {mark}: later\n"))[0].contains("without an issue"));
        assert!(findings(&format!("// {mark}(#12): later\n")).is_empty());
        assert!(findings(&format!("a{mark}b {mark}_LIST\n")).is_empty());
        assert!(findings("no end")[0].contains("no end"));
    }

    #[test]
    fn a_crates_head_says_its_invariant() {
        let with = "//! Role.\n//!\n//! Invariant: none.\n\nmod a;\n";
        assert!(check(&page("crates/a/src/lib.rs", with)).is_empty());
        let without = "//! Role.\n\n// Invariant: none.\n";
        assert!(check(&page("crates/a/src/lib.rs", without))[0].contains("no 'Invariant:'"));
        assert!(check(&page("crates/a/src/other.rs", without)).is_empty());
    }
}
