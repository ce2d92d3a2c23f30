//! Directories in the place of archives: the system's `tar` makes and reads them, with owners, modes,
//! times, links, holes and extended attributes, as far as who runs it may.
//!
//! ```text
//!   service --tar.zst--> pipe --thread: zstd--> tar -x --> DIR.part --whole--> DIR
//!   DIR --> tar -c --thread: zstd--> pipe --tar.zst--> service
//! ```

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;

/// The usual level of zstd.
const LEVEL: i32 = 0;
/// How tar ends when a file changed while it was read.
const CHANGED: i32 = 1;

/// What a thread and its tar came to.
pub(super) type Ending = JoinHandle<io::Result<()>>;

/// Waits for the end of what [`pack`] began.
pub(super) fn packed(ending: Ending) -> io::Result<()> {
    ending.join().unwrap_or_else(|_| Err(io::Error::other("the archive broke off")))
}

fn tar(arguments: &[&str], directory: &Path) -> Command {
    let mut tar = Command::new("tar");
    tar.args(arguments).args(["--numeric-owner", "--xattrs", "--xattrs-include=user.*", "-f", "-"]);
    tar.arg("-C").arg(directory).stderr(Stdio::piped());
    tar
}

fn spawn(command: &mut Command) -> io::Result<Child> {
    command.spawn().map_err(|why| io::Error::new(why.kind(), format!("tar: {why}")))
}

/// Its last words, where it did not do what it should.
fn ended(mut child: Child, allowed: &[i32]) -> io::Result<()> {
    let mut said = String::new();
    if let Some(mut errors) = child.stderr.take() {
        errors.read_to_string(&mut said)?;
    }
    let status = child.wait()?;
    if status.success() || status.code().is_some_and(|code| allowed.contains(&code)) {
        return Ok(());
    }
    let last = said.trim().lines().last().unwrap_or_default();
    Err(io::Error::other(format!("{last} (tar: {status})")))
}

/// A directory that is being filled.
pub(super) struct Unpacking {
    part: PathBuf,
    to: PathBuf,
    ending: Ending,
}

/// Begins to fill a directory, which has its name when it is whole; the archive goes into the file.
pub(super) fn unpack(to: &Path) -> io::Result<(Unpacking, File)> {
    // Without the slash that may stand at its end.
    let to: PathBuf = to.components().collect();
    let mut part = to.clone().into_os_string();
    part.push(".part");
    let part = PathBuf::from(part);
    std::fs::create_dir(&part)
        .map_err(|why| io::Error::new(why.kind(), format!("{}: {why}", part.display())))?;
    let (from, into) = io::pipe()?;
    let mut child = spawn(tar(&["-x", "-p"], &part).stdin(Stdio::piped()))?;
    let stdin = child.stdin.take();
    let ending = std::thread::spawn(move || {
        let copied = match stdin {
            Some(stdin) => zstd::stream::copy_decode(from, stdin),
            None => Ok(()),
        };
        // What tar says is why it took no more.
        ended(child, &[]).and(copied)
    });
    Ok((Unpacking { part, to, ending }, File::from(OwnedFd::from(into))))
}

impl Unpacking {
    /// All of the archive has been given, or not; the file is dropped.
    pub(super) fn end(self, is_whole: bool) -> io::Result<()> {
        let done = packed(self.ending).and_then(|()| {
            if !is_whole {
                return Ok(());
            }
            rustix::fs::syncfs(File::open(&self.part)?)?;
            // An empty directory of that name gives way.
            std::fs::rename(&self.part, &self.to)
        });
        if !is_whole || done.is_err() {
            // What is not whole is of no use; that it stays is no reason to say something else.
            let _ = std::fs::remove_dir_all(&self.part);
        }
        done
    }
}

/// A directory as an archive, and what comes of it.
pub(super) fn pack(directory: &Path) -> io::Result<(File, Ending)> {
    let (from, into) = io::pipe()?;
    let mut tar = tar(&["-c", "--exclude=./.snapshots"], directory);
    let mut child = spawn(tar.arg(".").stdout(Stdio::piped()))?;
    let stdout = child.stdout.take();
    let ending = std::thread::spawn(move || {
        let copied = match stdout {
            Some(stdout) => zstd::stream::copy_encode(stdout, into, LEVEL),
            None => Ok(()),
        };
        ended(child, &[CHANGED]).and(copied)
    });
    Ok((File::from(OwnedFd::from(from)), ending))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;

    #[test]
    fn a_directory_goes_into_an_archive_and_comes_out_of_it() {
        let home = tempfile::tempdir().unwrap();
        let (from, to) = (home.path().join("from"), home.path().join("to"));
        std::fs::create_dir_all(from.join("d")).unwrap();
        std::fs::create_dir(from.join(".snapshots")).unwrap();
        std::fs::write(from.join("d/f"), "text").unwrap();
        std::fs::set_permissions(from.join("d/f"), PermissionsExt::from_mode(0o640)).unwrap();
        std::fs::hard_link(from.join("d/f"), from.join("g")).unwrap();
        std::os::unix::fs::symlink("nowhere", from.join("s")).unwrap();
        let (mut archive, ending) = pack(&from).unwrap();
        let mut bytes = Vec::new();
        archive.read_to_end(&mut bytes).unwrap();
        packed(ending).unwrap();
        // An empty directory is taken, with a slash behind its name as well.
        std::fs::create_dir(&to).unwrap();
        let (unpacking, mut file) = unpack(&to.join("")).unwrap();
        file.write_all(&bytes).unwrap();
        drop(file);
        unpacking.end(true).unwrap();
        let found = std::fs::metadata(to.join("g")).unwrap();
        assert_eq!((found.mode() & 0o7777, found.nlink()), (0o640, 2));
        assert_eq!(std::fs::read_to_string(to.join("d/f")).unwrap(), "text");
        assert_eq!(std::fs::read_link(to.join("s")).unwrap(), Path::new("nowhere"));
        assert!(!to.join(".snapshots").exists());
        // One that is cut leaves nothing.
        let other = home.path().join("other");
        let (unpacking, mut file) = unpack(&other).unwrap();
        file.write_all(&bytes[..bytes.len() / 2]).unwrap();
        drop(file);
        assert!(unpacking.end(true).is_err());
        let (unpacking, file) = unpack(&other).unwrap();
        drop(file);
        let _ = unpacking.end(false);
        let left: Vec<_> = std::fs::read_dir(home.path()).unwrap().collect();
        assert_eq!(left.len(), 2, "{left:?}");
        let (archive, ending) = pack(&home.path().join("none")).unwrap();
        drop(archive);
        assert!(packed(ending).unwrap_err().to_string().contains("tar"));
    }
}
