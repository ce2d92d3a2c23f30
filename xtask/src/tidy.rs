//! What the compiler does not check: arrows between crates, lengths, words, walls, and that the
//! page for the sceptic names what exists.

mod arrows;
mod lengths;
mod promises;
mod walls;
mod words;

use std::path::Path;

use crate::source::Source;
use crate::steps::Outcome;

/// A text file of the repository.
pub(crate) struct Page {
    /// From the workspace's directory, with forward slashes.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl Page {
    fn is_rust(&self) -> bool {
        Path::new(&self.path).extension().is_some_and(|extension| extension == "rs")
    }

    /// Only tests in it: the integration tests, and `tests.rs` beside what it tests.
    fn is_test(&self) -> bool {
        self.path.contains("/tests/") || self.path.ends_with("tests.rs")
    }

    /// The crate's name for `crates/<name>/...`.
    fn crate_name(&self) -> Option<&str> {
        self.path.strip_prefix("crates/")?.split('/').next()
    }
}

/// Everything that is wrong, a line each.
pub(crate) fn check(root: &Path) -> Outcome {
    let mut wrong = Vec::new();
    match read_pages(root) {
        Ok(pages) => {
            wrong.extend(arrows::check(&pages));
            wrong.extend(lengths::check(&pages));
            wrong.extend(promises::check(&pages));
            for page in &pages {
                wrong.extend(words::check(page));
                if page.is_rust() {
                    wrong.extend(walls::check(page, &Source::new(&page.text)));
                }
            }
        }
        Err(why) => wrong.push(format!("cannot read the repository: {why}")),
    }
    if wrong.is_empty() {
        return Outcome::passed();
    }
    for line in &wrong {
        eprintln!("tidy: {line}");
    }
    Outcome::Failed(format!("{} findings, see above", wrong.len()))
}

/// All text files but what is built, generated or fetched.
fn read_pages(root: &Path) -> std::io::Result<Vec<Page>> {
    const LEFT_OUT: [&str; 6] =
        ["target", ".git", "tests/lab/state", "fuzz/target", "fuzz/corpus", "fuzz/artifacts"];
    let mut pages = Vec::new();
    let mut directories = vec![root.to_path_buf()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory)? {
            let path = entry?.path();
            let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
            if LEFT_OUT.contains(&name.as_str()) || name.ends_with(".lock") || path.is_symlink() {
                continue;
            }
            if path.is_dir() {
                directories.push(path);
            } else if let Ok(text) = std::fs::read_to_string(&path) {
                pages.push(Page { path: name, text });
            }
        }
    }
    pages.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(pages)
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn page(path: &str, text: &str) -> Page {
        Page { path: path.into(), text: text.into() }
    }

    #[test]
    fn a_page_knows_its_crate_and_whether_it_is_a_test() {
        assert_eq!(page("crates/scsi/src/lib.rs", "").crate_name(), Some("scsi"));
        assert_eq!(page("xtask/src/main.rs", "").crate_name(), None);
        assert!(page("crates/cli/tests/daemon.rs", "").is_test());
        assert!(page("crates/scsi/src/reservations/tests.rs", "").is_test());
        assert!(!page("crates/scsi/src/sense.rs", "").is_test());
    }

    #[test]
    fn the_repository_is_read_without_what_is_built() {
        let pages = read_pages(&crate::workspace()).expect("the workspace is readable");
        assert!(pages.iter().any(|page| page.path == "xtask/src/tidy.rs"));
        assert!(!pages.iter().any(|page| page.path.starts_with("target/")));
    }
}
