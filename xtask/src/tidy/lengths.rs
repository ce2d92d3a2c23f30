//! Short things, and a ratchet: nothing grows past the limits, and what is over them today is
//! listed with its size in `xtask/lengths.toml`, where sizes may only become smaller.

use std::collections::BTreeMap;

use super::Page;
use crate::source::Source;

const FUNCTION_LINES_MAX: usize = 70;
const FILE_CODE_LINES_MAX: usize = 600;
const ALLOWED: &str = "xtask/lengths.toml";

/// `path` or `path:function` -> lines.
type Sizes = BTreeMap<String, usize>;

pub(super) fn check(pages: &[Page]) -> Vec<String> {
    let allowed = match read_allowed(pages) {
        Ok(allowed) => allowed,
        Err(why) => return vec![format!("{ALLOWED}: {why}")],
    };
    let mut over = Sizes::new();
    for page in pages.iter().filter(|page| page.is_rust()) {
        measure(page, &mut over);
    }
    compare(&over, &allowed)
}

fn read_allowed(pages: &[Page]) -> Result<Sizes, toml::de::Error> {
    let page = pages.iter().find(|page| page.path == ALLOWED);
    page.map_or_else(|| Ok(Sizes::new()), |page| toml::from_str(&page.text))
}

/// Note what is over a limit. Tests at the file's end do not count as the file's code.
fn measure(page: &Page, over: &mut Sizes) {
    let source = Source::new(&page.text);
    for function in source.functions() {
        if function.lines > FUNCTION_LINES_MAX {
            let name = format!("{}:{}", page.path, function.name);
            let longest = over.entry(name).or_default();
            *longest = (*longest).max(function.lines);
        }
    }
    let lines = source.lines();
    let code = lines.iter().zip(source.test_lines());
    let count = code.filter(|(line, test)| !test && !line.trim().is_empty()).count();
    if count > FILE_CODE_LINES_MAX {
        over.insert(page.path.clone(), count);
    }
}

fn compare(over: &Sizes, allowed: &Sizes) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, lines) in over {
        let limit = if name.contains(':') { FUNCTION_LINES_MAX } else { FILE_CODE_LINES_MAX };
        match allowed.get(name) {
            None => wrong.push(format!("{name} has {lines} lines, the limit is {limit}")),
            Some(most) if lines > most => {
                wrong.push(format!("{name} grew to {lines} lines, {ALLOWED} allows {most}"));
            }
            Some(most) if lines < most => {
                wrong.push(format!("{name} shrank to {lines} lines: write that into {ALLOWED}"));
            }
            Some(_) => {}
        }
    }
    for name in allowed.keys().filter(|name| !over.contains_key(*name)) {
        wrong.push(format!("{name} is within the limit: take it out of {ALLOWED}"));
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::super::tests::page;
    use super::*;

    fn function(lines: usize) -> String {
        format!("fn long() {{\n{}}}\n", "    step();\n".repeat(lines - 2))
    }

    fn findings(text: &str, allowed: &str) -> Vec<String> {
        check(&[page("crates/a/src/lib.rs", text), page(ALLOWED, allowed)])
    }

    #[test]
    fn the_limits_are_seventy_and_six_hundred() {
        assert!(findings(&function(70), "").is_empty());
        assert_eq!(
            findings(&function(71), ""),
            ["crates/a/src/lib.rs:long has 71 lines, the limit is 70"]
        );
        let file = |lines| "// why\n\nstatic A: u8 = 1;\n".repeat(lines);
        assert!(findings(&file(600), "").is_empty());
        assert_eq!(
            findings(&file(601), ""),
            ["crates/a/src/lib.rs has 601 lines, the limit is 600"]
        );
        let tests = format!("{}#[cfg(test)]\nmod tests {{\n    use x;\n}}\n", file(600));
        assert!(findings(&tests, "").is_empty());
    }

    #[test]
    fn the_allow_list_may_only_shrink() {
        let allow = |lines| format!("\"crates/a/src/lib.rs:long\" = {lines}\n");
        assert!(findings(&function(80), &allow(80)).is_empty());
        assert!(findings(&function(81), &allow(80))[0].contains("grew to 81"));
        assert!(findings(&function(79), &allow(80))[0].contains("shrank to 79"));
        assert!(findings(&function(70), &allow(80))[0].contains("take it out"));
        assert!(findings("", "not toml")[0].contains(ALLOWED));
    }
}
