//! Directories in the place of archives: the system's `tar` makes and reads them, with owners, modes,
//! times, links, holes, extended attributes and access control lists, as far as who runs it may.
//!
//! ```text
//!   service --tar.zst--> pipe --thread: zstd--> tar -x --> DIR.part --whole--> DIR
//!   DIR --> tar -c --thread: zstd--> pipe --tar.zst--> service
//! ```

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;

use super::lists::{self, Without};

/// The usual level of zstd.
const LEVEL: i32 = 0;
/// How tar ends when a file changed while it was read.
const CHANGED: i32 = 1;

/// Lines that are kept of what tar says.
const LINES_MAX: usize = 20;

/// What a thread and its tar came to: what it said, or why it failed.
pub(super) type Ending = JoinHandle<io::Result<Vec<String>>>;

/// Waits for the end of what [`pack`] began.
pub(super) fn packed(ending: Ending) -> io::Result<Vec<String>> {
    ending.join().unwrap_or_else(|_| Err(io::Error::other("the archive broke off")))
}

fn tar(arguments: &[&str], directory: &Path) -> Command {
    let mut tar = Command::new("tar");
    tar.args(arguments).args(["--numeric-owner", "--xattrs", "--xattrs-include=user.*", "-f", "-"]);
    tar.arg("-C").arg(directory);
    tar
}

/// What tar said: of very many lines, the first ones, and the last.
#[derive(Default)]
struct Said {
    lines: Vec<String>,
    left_out: u64,
    last: String,
}

impl Said {
    fn read(from: impl Read) -> io::Result<Self> {
        let (mut said, mut from, mut line) = (Self::default(), BufReader::new(from), Vec::new());
        while from.read_until(b'\n', &mut line)? > 0 {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            if said.lines.len() < LINES_MAX {
                said.lines.push(text.clone());
            } else {
                said.left_out += 1;
            }
            said.last = text;
            line.clear();
        }
        Ok(said)
    }

    fn all(mut self) -> Vec<String> {
        if self.left_out > 0 {
            self.lines.push(format!("tar: {} more lines like these", self.left_out));
        }
        self.lines
    }
}

/// A tar that runs, and what it says meanwhile: it must not wait for somebody to read that.
struct Running {
    child: Child,
    said: JoinHandle<io::Result<Said>>,
}

impl Running {
    fn new(command: &mut Command) -> io::Result<Self> {
        let spawned = command.stderr(Stdio::piped()).spawn();
        let mut child = spawned.map_err(|why| io::Error::new(why.kind(), format!("tar: {why}")))?;
        let errors = child.stderr.take();
        let said = std::thread::spawn(|| errors.map_or(Ok(Said::default()), Said::read));
        Ok(Self { child, said })
    }

    /// What it said, where it did what it should; else an error with its last words.
    fn end(mut self, allowed: &[i32]) -> io::Result<Vec<String>> {
        let status = self.child.wait()?;
        let said = self.said.join().unwrap_or_else(|_| Ok(Said::default()))?;
        if status.success() || status.code().is_some_and(|code| allowed.contains(&code)) {
            return Ok(said.all());
        }
        Err(io::Error::other(format!("{} (tar: {status})", said.last)))
    }
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
    // Nobody else looks in before all of it has its owners and lists.
    std::fs::DirBuilder::new()
        .mode(0o700)
        .create(&part)
        .map_err(|why| io::Error::new(why.kind(), format!("{}: {why}", part.display())))?;
    let keeps_lists = lists::are_kept(&part)?;
    let (from, into) = io::pipe()?;
    let mut tar = tar(&["-x", "-p", "--acls"], &part);
    let mut running = Running::new(tar.stdin(Stdio::piped()))?;
    let stdin = running.child.stdin.take();
    let ending = std::thread::spawn(move || {
        let copied = match stdin {
            Some(stdin) if keeps_lists => zstd::stream::copy_decode(from, stdin),
            Some(stdin) => zstd::stream::copy_decode(from, Without::new(stdin)),
            None => Ok(()),
        };
        if let Err(why) = &copied
            && why.kind() == io::ErrorKind::Unsupported
        {
            // It has only seen that the archive is cut.
            let _ = running.end(&[]);
            return copied.map(|()| Vec::new());
        }
        // What tar says is why it took no more.
        let said = running.end(&[])?;
        copied.map(|()| said)
    });
    Ok((Unpacking { part, to, ending }, File::from(OwnedFd::from(into))))
}

impl Unpacking {
    /// All of the archive has been given, or not; the file is dropped. Answers with what tar said.
    pub(super) fn end(self, is_whole: bool) -> io::Result<Vec<String>> {
        let done = packed(self.ending).and_then(|said| {
            if !is_whole {
                return Ok(said);
            }
            rustix::fs::syncfs(File::open(&self.part)?)?;
            // An empty directory of that name gives way.
            std::fs::rename(&self.part, &self.to)?;
            Ok(said)
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
    // Lists as the kernel has them: as text, tar gives names for users where it knows any.
    let lists = "--xattrs-include=system.posix_acl_*";
    let mut tar = tar(&["-c", "--exclude=./.snapshots", lists], directory);
    let mut running = Running::new(tar.arg(".").stdout(Stdio::piped()))?;
    let stdout = running.child.stdout.take();
    let ending = std::thread::spawn(move || {
        let copied = match stdout {
            Some(stdout) => zstd::stream::copy_encode(stdout, into, LEVEL),
            None => Ok(()),
        };
        let said = running.end(&[CHANGED])?;
        copied.map(|()| said)
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
