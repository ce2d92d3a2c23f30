//! The crate graph: what the manifests say equals what ARCHITECTURE.md draws, and every arrow
//! points to a crate that the drawing lists before.

use std::collections::{BTreeMap, BTreeSet};

use super::Page;

/// Crate -> the crates of ours that it uses. Test-only arrows stand under `<crate> tests`.
type Graph = BTreeMap<String, BTreeSet<String>>;

pub(super) fn check(pages: &[Page]) -> Vec<String> {
    let text = |path: &str| pages.iter().find(|page| page.path == path).map(|page| &page.text);
    let Some(drawing) = text("ARCHITECTURE.md") else {
        return vec!["ARCHITECTURE.md is missing".into()];
    };
    let (drawn, mut wrong) = read_drawing(drawing);
    let mut built = Graph::new();
    for page in pages.iter().filter(|page| page.path.ends_with("/Cargo.toml")) {
        if let Some(name) = page.crate_name() {
            match read_manifest(name, &page.text) {
                Ok(arrows) => built.extend(arrows),
                Err(why) => wrong.push(format!("{}: {why}", page.path)),
            }
        }
    }
    wrong.extend(compare(&drawn, &built));
    wrong
}

/// The fenced block `arrows`: a line per crate, `name -> one, two`.
fn read_drawing(text: &str) -> (Graph, Vec<String>) {
    let (mut graph, mut wrong) = (Graph::new(), Vec::new());
    let block = text.lines().skip_while(|line| *line != "```arrows").skip(1);
    for line in block.take_while(|line| *line != "```") {
        let Some((from, to)) = line.split_once("->") else {
            wrong.push(format!("ARCHITECTURE.md: '{line}' is not 'crate -> crates'"));
            continue;
        };
        let from = from.split_whitespace().collect::<Vec<_>>().join(" ");
        let to: BTreeSet<String> =
            to.split(',').map(|name| name.trim().to_owned()).filter(|n| !n.is_empty()).collect();
        for name in to.iter().filter(|name| !graph.contains_key(*name)) {
            wrong.push(format!("ARCHITECTURE.md: {from} -> {name} does not point down"));
        }
        graph.insert(from, to);
    }
    if graph.is_empty() {
        wrong.push("ARCHITECTURE.md has no arrows block".into());
    }
    (graph, wrong)
}

fn read_manifest(name: &str, text: &str) -> Result<Graph, toml::de::Error> {
    let manifest: toml::Table = text.parse()?;
    // Ours are those taken from the workspace that name a directory beside this one: the
    // comparison drops every name that is no crate of the drawing.
    let names = |key: &str| -> BTreeSet<String> {
        let table = manifest.get(key).and_then(toml::Value::as_table);
        table.map(|table| table.keys().cloned().collect()).unwrap_or_default()
    };
    let mut graph = Graph::new();
    graph.insert(name.to_owned(), names("dependencies"));
    graph.insert(format!("{name} tests"), names("dev-dependencies"));
    Ok(graph)
}

fn compare(drawn: &Graph, built: &Graph) -> Vec<String> {
    let ours: BTreeSet<&String> = built.keys().filter(|name| !name.contains(' ')).collect();
    let mut wrong = Vec::new();
    let none = BTreeSet::new();
    for name in drawn.keys().filter(|name| !built.contains_key(*name)) {
        wrong.push(format!("ARCHITECTURE.md draws {name}, which is no crate"));
    }
    for (name, uses) in built {
        if !drawn.contains_key(name) && !name.contains(' ') {
            wrong.push(format!("ARCHITECTURE.md does not draw the crate {name}"));
        }
        let uses: BTreeSet<String> = uses.iter().filter(|n| ours.contains(n)).cloned().collect();
        let drawn = drawn.get(name).unwrap_or(&none);
        for new in uses.difference(drawn) {
            wrong.push(format!("{name} -> {new} is in the manifest, not in ARCHITECTURE.md"));
        }
        for gone in drawn.difference(&uses) {
            wrong.push(format!("{name} -> {gone} is in ARCHITECTURE.md, not in the manifest"));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::super::tests::page;
    use super::*;

    const LOW: &str = "[dependencies]\nserde.workspace = true\n";
    const HIGH: &str = "[dependencies]\nlow.workspace = true\n[dev-dependencies]\nlow = {}\n";

    fn findings(drawing: &str) -> Vec<String> {
        check(&[
            page("ARCHITECTURE.md", &format!("text\n```arrows\n{drawing}```\nmore -> text\n")),
            page("crates/high/Cargo.toml", HIGH),
            page("crates/low/Cargo.toml", LOW),
        ])
    }

    #[test]
    fn the_drawing_and_the_manifests_agree() {
        assert_eq!(findings("low ->\nhigh -> low\nhigh tests -> low\n"), Vec::<String>::new());
    }

    #[test]
    fn each_difference_is_named() {
        let all = findings("low ->\nhigh ->\nroof -> low\n").join("\n");
        assert!(all.contains("high -> low is in the manifest"), "{all}");
        assert!(all.contains("high tests -> low is in the manifest"), "{all}");
        assert!(all.contains("draws roof, which is no crate"), "{all}");
        let all = findings("high -> low\nlow -> high\n").join("\n");
        assert!(all.contains("high -> low does not point down"), "{all}");
        assert!(all.contains("low -> high is in ARCHITECTURE.md, not in the manifest"), "{all}");
        assert!(findings("").join("\n").contains("no arrows block"));
        assert!(check(&[])[0].contains("ARCHITECTURE.md is missing"));
    }
}
