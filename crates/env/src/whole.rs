//! Small files, read and replaced whole.
//!
//! Entry points: [`read`], [`replace`], [`show`], [`append_twice`],
//! [`forget`], [`is_program`]. A reader finds the old content or the new one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// For its owner alone: such files may hold secrets.
const MODE: u32 = 0o600;

/// `None` when it is not there.
///
/// # Errors
/// It is there and cannot be read.
pub fn read(path: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Durable when it returns.
///
/// # Errors
/// It may be the old content or the new one.
pub fn replace(path: &Path, text: &str) -> io::Result<()> {
    write(path, text)?.sync_all()?;
    publish(path)?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

/// Whole, but a loss of power may bring the old content back.
///
/// # Errors
/// It may be the old content or the new one.
pub fn show(path: &Path, text: &str) -> io::Result<()> {
    write(path, text)?;
    publish(path)
}

/// Like [`append_twice`], and it is made where it is not there.
///
/// # Errors
/// It cannot be made.
pub fn append_twice_or_new(path: &Path) -> io::Result<(File, File)> {
    let file = OpenOptions::new().append(true).create(true).mode(MODE).open(path)?;
    Ok((file.try_clone()?, file))
}

/// Remove a directory with all that is in it.
///
/// # Errors
/// Some of it stays.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    fs::remove_dir_all(path)
}

/// The file, open for appending, as standard output and error of a program.
///
/// # Errors
/// It is not there.
pub fn append_twice(path: &Path) -> io::Result<(File, File)> {
    let file = OpenOptions::new().append(true).open(path)?;
    Ok((file.try_clone()?, file))
}

/// Remove what may not be there.
///
/// # Errors
/// It is there and stays.
pub fn forget(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Whether a program of this name is where programs are.
#[must_use]
pub fn is_program(name: &str) -> bool {
    const USUAL: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':')
        .chain(USUAL.split(':'))
        .any(|directory| Path::new(directory).join(name).is_file())
}

fn write(path: &Path, text: &str) -> io::Result<File> {
    let new = path.with_extension("new");
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(MODE).open(&new)?;
    file.write_all(text.as_bytes())?;
    Ok(file)
}

fn publish(path: &Path) -> io::Result<()> {
    fs::rename(path.with_extension("new"), path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_nothing_else_is_left() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("order.json");
        assert_eq!(read(&path).unwrap(), None);
        replace(&path, "one").unwrap();
        show(&path, "two").unwrap();
        assert_eq!(read(&path).unwrap().as_deref(), Some("two"));
        let names = fs::read_dir(home.path()).unwrap().count();
        assert_eq!(names, 1);
    }
}
