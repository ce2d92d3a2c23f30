//! The committed OpenAPI document equals what the code serves.

use std::path::Path;

use crate::steps::{self, Outcome};

const DOCUMENT: &str = "docs/openapi.json";

/// Write the document, or with `check` only compare.
pub(crate) fn run(root: &Path, check: bool) -> Outcome {
    let mut command = steps::cargo(root, &["run", "--quiet", "-p", "cli", "--", "openapi"]);
    let output = match command.output() {
        Ok(output) if output.status.success() => output.stdout,
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            return Outcome::Failed(format!("{}: {said}", steps::sentence(&command)));
        }
        Err(why) => return Outcome::Failed(format!("{}: {why}", steps::sentence(&command))),
    };
    let path = root.join(DOCUMENT);
    if !check {
        return match std::fs::write(&path, &output) {
            Ok(()) => Outcome::Passed(format!("wrote {DOCUMENT}")),
            Err(why) => Outcome::Failed(format!("{DOCUMENT}: {why}")),
        };
    }
    if std::fs::read(&path).is_ok_and(|committed| committed == output) {
        return Outcome::passed();
    }
    Outcome::Failed(format!("{DOCUMENT} differs from the code: run cargo xtask openapi, commit it"))
}
