//! One binary takes another's place in the same process, so that whoever watches over it notices
//! nothing but a pause.
//!
//! ```text
//!  asked -> the binary is looked at, runs, reads all forms -> everything ends as on SIGTERM
//!        -> main: exec, with the same arguments --------> the new one: sockets go on listening
//!                   '- cannot -> exec of the old binary -> the old one: says why
//!                                   '- cannot -> an end, with the reason
//! ```
//!
//! What the next program has to know is in its environment ([`Handover`]); sockets are left open
//! for it. No other thread is there any more when the program is replaced, and nothing is open but
//! what the next one gets.

use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use env::handover;
use model::id::OperationId;
use model::node::{Binary, CatalogFormat, DiskFormat, reads_all};
use model::order::OrderError;
use node::{Kept, Purpose, Sockets};
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;

use super::FileHome;
use crate::failure::Failure;

/// Where the next program finds what it has to know.
const HANDOVER: &str = "COMMONHOLD_HANDOVER";
/// The program that runs, although its file may be another by now.
const SELF: &str = "/proc/self/exe";
/// How long a binary may take to say what it is, and how much it may say.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
const ANSWER_BYTES_MAX: u64 = 64 << 10;
/// Programs of this machine begin with this.
const ELF: [u8; 4] = *b"\x7fELF";
/// Others may write to a file: group, and everybody.
const WRITABLE: u32 = 0o022;
const EXECUTABLE: u32 = 0o111;
/// In a directory with this, as /tmp, each may take away only what is its own.
const STICKY: u32 = 0o1000;

/// What `commonhold formats` prints.
#[derive(Serialize, Deserialize)]
pub(crate) struct Formats {
    version: String,
    catalog: Vec<CatalogFormat>,
    /// What else it reads; one that does not say reads nothing for sure.
    #[serde(default)]
    disk: Vec<DiskFormat>,
}

impl Formats {
    pub(crate) fn own() -> Self {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Self { version, catalog: control::catalog_formats(), disk: node::disk_formats() }
    }
}

/// What was asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Wish {
    pub(super) operation: OperationId,
    pub(super) binary: PathBuf,
}

/// A socket as the next program finds it.
#[derive(Serialize, Deserialize)]
struct Left {
    purpose: Purpose,
    asked: std::net::SocketAddr,
    number: i32,
}

/// What one program tells the next.
#[derive(Serialize, Deserialize)]
struct Note {
    /// Of the process, which both are: programs that it starts are none.
    process: u32,
    operation: OperationId,
    /// Why it is the same program again.
    failure: Option<String>,
    sockets: Vec<Left>,
}

/// What the program before has left.
#[derive(Default)]
pub(crate) struct Handover {
    /// The upgrade that this is the end of, and why it has failed where it has.
    pub(super) upgrade: Option<(OperationId, Option<String>)>,
    pub(crate) sockets: Sockets,
}

impl Handover {
    /// To be called once, at the beginning.
    pub(crate) fn take() -> Self {
        let note = std::env::var(HANDOVER).ok().and_then(|text| serde_json::from_str(&text).ok());
        let Some(note) = note.filter(|note: &Note| note.process == std::process::id()) else {
            return Self::default();
        };
        let adopt = |left: Left| match handover::adopt(left.number) {
            Ok(listener) => Some(Kept { purpose: left.purpose, asked: left.asked, listener }),
            Err(why) => {
                eprintln!("the socket on {} is not taken over: {why}", left.asked);
                None
            }
        };
        let came = note.sockets.into_iter().filter_map(adopt).collect();
        Self { upgrade: Some((note.operation, note.failure)), sockets: Sockets::after(came) }
    }
}

/// The program that is to come, once everything of this one has ended.
pub(crate) struct Successor {
    pub(super) wish: Wish,
    pub(super) sockets: Sockets,
    /// Where file volumes are mounted for this process alone.
    pub(super) data: PathBuf,
}

impl Successor {
    /// Replaces this program; it returns only when nothing can.
    pub(crate) fn begin(self) -> Failure {
        let Self { wish, sockets, data } = self;
        if let Err(why) = FileHome::unmount(&data) {
            eprintln!("file volumes stay mounted: {why}");
        }
        let kept = sockets.take();
        let left = kept.iter().filter_map(|one| {
            let number = handover::keep(&one.listener).ok()?;
            Some(Left { purpose: one.purpose, asked: one.asked, number })
        });
        let mut note = Note {
            process: std::process::id(),
            operation: wish.operation,
            failure: None,
            sockets: left.collect(),
        };
        let why = replace_by(&wish.binary, &note);
        let failure = format!("{} could not be run: {why}", wish.binary.display());
        eprintln!("{failure}; the old one goes on");
        note.failure = Some(failure.clone());
        let again = replace_by(Path::new(SELF), &note);
        Failure::Serve {
            message: format!("{failure}, and the old one could not be run again: {again}"),
            hint: Some("Mend the binary, and start the daemon.".to_owned()),
        }
    }
}

/// Runs a program in this process, with this one's arguments; why it could not.
fn replace_by(binary: &Path, note: &Note) -> io::Error {
    let note = match serde_json::to_string(note) {
        Ok(note) => note,
        Err(why) => return why.into(),
    };
    let mut arguments = std::env::args_os();
    let mut command = std::process::Command::new(binary);
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    // The token that it makes was shown when this program started.
    command.args(arguments.filter(|one| one != "--new-token"));
    command.env(HANDOVER, note).exec()
}

/// The file that this program was started from, which may be gone or another by now.
pub(super) fn own_program() -> PathBuf {
    let path = std::env::current_exe().unwrap_or_default();
    // So the kernel calls one that is gone, as when an upgrade failed and the old one came back.
    let name = path.to_str().and_then(|path| path.strip_suffix(" (deleted)"));
    name.map(PathBuf::from).unwrap_or(path)
}

/// Looks at a binary that is to take this one's place. `own` is the file of this one, which is
/// meant when none is named; what lies in `kept_out`, clients may have written.
pub(super) async fn check(
    own: &Path,
    named: Option<String>,
    kept_out: &[PathBuf],
) -> Result<Binary, OrderError> {
    let path = named.map_or_else(|| own.to_owned(), PathBuf::from);
    let unfit = |why: String| OrderError::Refused { why: format!("{}: {why}", path.display()) };
    let (named, kept_out) = (path.clone(), kept_out.to_vec());
    // A file system that does not answer holds up nobody else.
    let look = tokio::task::spawn_blocking(move || {
        let path = std::fs::canonicalize(named).map_err(|why| why.to_string())?;
        is_ours(&path, &kept_out).map(|()| path)
    });
    let path = look.await.unwrap_or_else(|why| Err(why.to_string())).map_err(unfit)?;
    let said = answer(&path, "--version").await.map_err(unfit)?;
    let no_commonhold = || unfit("it is no commonhold".to_owned());
    let version = said.trim().strip_prefix("commonhold ").ok_or_else(no_commonhold)?.to_owned();
    let said = answer(&path, "formats").await.map_err(unfit)?;
    let formats: Formats = serde_json::from_str(&said)
        .map_err(|_| unfit("it does not say which catalogs it can read".to_owned()))?;
    reads_all(&version, &node::disk_formats(), &formats.disk)
        .map_err(|lacking| unfit(lacking.to_string()))?;
    let path = path.to_str().ok_or_else(|| unfit("its path is no text".to_owned()))?.to_owned();
    Ok(Binary { path, version, catalog: formats.catalog })
}

/// Whether a file is a program that only root, or who runs this daemon, can have put there.
fn is_ours(path: &Path, kept_out: &[PathBuf]) -> Result<(), String> {
    let inside = kept_out.iter().filter_map(|place| std::fs::canonicalize(place).ok());
    if let Some(place) = inside.into_iter().find(|place| path.starts_with(place)) {
        return Err(format!("it lies in {}, where clients write", place.display()));
    }
    let no_program = || "it is no program".to_owned();
    // To open a device does something with it; a pipe waits for who writes into it.
    if !std::fs::metadata(path).map_err(|why| why.to_string())?.is_file() {
        return Err(no_program());
    }
    let mut head = [0; ELF.len()];
    let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
    let opened = std::fs::File::options().read(true).custom_flags(nonblocking).open(path);
    let read = opened.and_then(|mut file| {
        // Another may lie there by now.
        let metadata = file.metadata()?;
        if metadata.is_file() {
            io::Read::read_exact(&mut file, &mut head)?;
        }
        Ok(metadata)
    });
    let metadata = read.map_err(|why| why.to_string())?;
    let (mode, owner) = (metadata.mode(), metadata.uid());
    if !metadata.is_file() || mode & EXECUTABLE == 0 || head != ELF {
        return Err(no_program());
    }
    if !is_trusted(owner) {
        return Err("it belongs neither to root nor to who runs the daemon".to_owned());
    }
    if mode & WRITABLE != 0 {
        return Err("others than its owner may write to it".to_owned());
    }
    path.ancestors().skip(1).try_for_each(is_kept)
}

/// Whether a user is root, or who runs this daemon.
fn is_trusted(user: u32) -> bool {
    user == 0 || user == rustix::process::geteuid().as_raw()
}

/// Whether nobody else can put another file into the place of one in this directory: what was
/// looked at is what is run later.
fn is_kept(directory: &Path) -> Result<(), String> {
    let metadata = std::fs::metadata(directory).map_err(|why| why.to_string())?;
    let is_open = metadata.mode() & WRITABLE != 0 && metadata.mode() & STICKY == 0;
    if is_open || !is_trusted(metadata.uid()) {
        let place = directory.display();
        return Err(format!("others than root may put another file there: see to {place}"));
    }
    Ok(())
}

/// What a binary says when it is asked.
async fn answer(path: &Path, question: &str) -> Result<String, String> {
    let mut command = tokio::process::Command::new(path);
    command.arg(question).env_remove(HANDOVER).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|why| format!("it cannot be run: {why}"))?;
    let said = child.stdout.take();
    let ask = async {
        let mut text = String::new();
        if let Some(said) = said {
            said.take(ANSWER_BYTES_MAX).read_to_string(&mut text).await?;
        }
        Ok::<_, io::Error>((text, child.wait().await?))
    };
    match tokio::time::timeout(ANSWER_LIMIT, ask).await {
        Ok(Ok((text, status))) if status.success() => Ok(text),
        Ok(Ok((_, status))) => Err(format!("asked for '{question}', it ends with {status}")),
        Ok(Err(why)) => Err(format!("asked for '{question}', it does not answer: {why}")),
        Err(_) => Err(format!("asked for '{question}', it does not answer in time")),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[tokio::test]
    async fn a_file_that_is_no_commonhold_or_that_others_can_change_is_never_run() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        let write = |name: &str, content: &[u8], mode: u32| {
            std::fs::write(at(name), content).unwrap();
            std::fs::set_permissions(at(name), std::fs::Permissions::from_mode(mode)).unwrap();
        };
        let marker = at("was-run");
        let script = format!("#!/bin/sh\ntouch {}\necho commonhold 9.9.9\n", marker.display());
        write("garbage", &[0x5a; 4096], 0o755);
        write("script", script.as_bytes(), 0o755);
        write("empty", b"", 0o755);
        let pipe = rustix::fs::Mode::from_raw_mode(0o755);
        rustix::fs::mknodat(rustix::fs::CWD, at("pipe"), rustix::fs::FileType::Fifo, pipe, 0)
            .unwrap();
        let program = std::fs::read("/bin/true").unwrap();
        write("no-mode", &program, 0o644);
        write("open", &program, 0o757);
        write("other", &program, 0o755);
        std::fs::create_dir(at("pool")).unwrap();
        write("pool/inside", &program, 0o755);
        std::fs::create_dir(at("shared")).unwrap();
        write("shared/program", &program, 0o755);
        let shared = std::fs::Permissions::from_mode(0o777);
        std::fs::set_permissions(at("shared"), shared).unwrap();
        let why = async |name: &str| {
            let named = Some(at(name).to_str().unwrap().to_owned());
            check(Path::new(SELF), named, &[at("pool")]).await.unwrap_err().to_string()
        };
        for (name, word) in [
            ("garbage", "no program"),
            ("pipe", "no program"),
            ("pool", "where clients write"),
            ("script", "no program"),
            ("empty", "fill whole buffer"),
            ("no-mode", "no program"),
            ("open", "others than its owner"),
            ("pool/inside", "where clients write"),
            ("shared/program", "others than root may put another file there"),
            ("other", "no commonhold"),
            ("nowhere", "No such file"),
        ] {
            let why = why(name).await;
            assert!(why.contains(word) && why.contains(name), "{name}: {why}");
        }
        assert!(!marker.exists(), "a script was run");
    }
}
