//! The servers under test, each in a process of its own on free ports of loopback.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::files::Wait;
use crate::process::{Guard, free_port};
use crate::report::{GANESHA, NBDKIT, OURS, Server, TGT};

/// How a load generator reaches a volume.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Address {
    Iscsi { portal: String, target: String, lun: u64 },
    Nbd { port: u16 },
}

/// A server that runs; it ends when this is dropped. The process goes before its files do.
#[derive(Debug)]
pub(crate) struct Running {
    guard: Guard,
    pub(crate) server: Server,
    pub(crate) address: Address,
    /// Of the process whose CPU time counts.
    pub(crate) pid: u32,
    pub(crate) home: TempDir,
}

/// Where things are.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    /// The daemon's binary.
    pub(crate) commonhold: PathBuf,
    /// `tests/peers` of the repository.
    pub(crate) scripts: PathBuf,
}

impl Places {
    /// The daemon that `COMMONHOLD` names, or the one beside this program.
    pub(crate) fn find() -> Result<Self> {
        let beside = std::env::current_exe()?.with_file_name("commonhold");
        let commonhold = std::env::var_os("COMMONHOLD").map_or(beside, PathBuf::from);
        ensure!(
            commonhold.is_file(),
            "{} is missing: cargo build --release -p cli",
            commonhold.display()
        );
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = root.parent().context("this crate has no parent directory")?;
        Ok(Self { commonhold, scripts: root.join("tests/peers") })
    }
}

/// The initiators that may come. With more than one host the volume is of a multi-attach type.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hosts<'a> {
    /// Each inner list is the names of one host.
    pub(crate) initiators: &'a [&'a [&'a str]],
}

/// Start a daemon with one volume, attached to all these hosts.
pub(crate) fn start_ours(
    places: &Places,
    home: TempDir,
    volume_bytes: u64,
    hosts: Hosts<'_>,
) -> Result<Running> {
    let (mut guard, portal) = serve(places, home.path(), &["--nfs-portals", "none"])?;
    let pid = guard.child().id();
    let verb = |arguments: &[&str]| verb(places, home.path(), arguments);
    let size = volume_bytes.to_string();
    let kind = if hosts.initiators.len() > 1 {
        verb(&["volume-type", "grant", "ssd-multiattach", "default", "--acknowledge-data-loss"])?;
        "ssd-multiattach"
    } else {
        "ssd"
    };
    verb(&["volume", "create", "bench", "--size", &size, "--type", kind])?;
    let names: Vec<String> = (1..=hosts.initiators.len()).map(|n| format!("h{n}")).collect();
    let mut attach = vec!["attachment", "create", "bench"];
    for (name, initiators) in names.iter().zip(hosts.initiators) {
        let mut create = vec!["host", "create", name];
        create.extend(initiators.iter().flat_map(|initiator| ["--initiator", initiator]));
        verb(&create)?;
        attach.extend(["--host", name]);
    }
    let created = verb(&attach)?;
    let target = created.pointer("/attachments/0/attachment/connection/target");
    let target = target.and_then(Value::as_str).context("the attachment tells no target")?;
    let address = Address::Iscsi { portal, target: target.to_owned(), lun: 0 };
    let server = Server {
        name: OURS.to_owned(),
        version: crate::machine::version(&places.commonhold.to_string_lossy(), &["--version"]),
        how: "commonhold serve --chap off, as shipped otherwise".to_owned(),
    };
    Ok(Running { guard, server, address, pid, home })
}

/// Start the daemon on what its directory holds.
fn serve(places: &Places, home: &Path, more: &[&str]) -> Result<(Guard, String)> {
    let log = std::fs::File::create(home.join("log"))?;
    let mut child = Command::new(&places.commonhold)
        .args(["serve", "--chap", "off", "--listen", "127.0.0.1:0", "--portals", "127.0.0.1:0"])
        .arg("--data")
        .arg(home.join("data"))
        .args(more)
        .env("XDG_CONFIG_HOME", home)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .with_context(|| format!("cannot start {}", places.commonhold.display()))?;
    let said = child.stdout.take().context("no output of the daemon")?;
    let guard = Guard::new(child);
    let portal = read_words(said, &["portal"], "client")?;
    match portal.into_iter().next().flatten() {
        Some(portal) => Ok((guard, portal)),
        None => bail!("the daemon did not start: {}", std::fs::read_to_string(home.join("log"))?),
    }
}

/// Values of lines `word value`, until the line `last` or the end.
fn read_words(output: ChildStdout, words: &[&str], last: &str) -> Result<Vec<Option<String>>> {
    let mut found = vec![None; words.len()];
    let mut output = BufReader::new(output);
    let mut line = String::new();
    while output.read_line(&mut line)? > 0 {
        let mut parts = line.split_whitespace();
        if let (Some(word), Some(value)) = (parts.next(), parts.next()) {
            if let Some(at) = words.iter().position(|known| *known == word) {
                found[at] = Some(value.to_owned());
            }
            if word == last {
                break;
            }
        }
        line.clear();
    }
    // A server that goes on talking must not meet a closed pipe.
    std::thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
    Ok(found)
}

fn verb(places: &Places, home: &Path, arguments: &[&str]) -> Result<Value> {
    let output = Command::new(&places.commonhold)
        .args(["-o", "json", "--wait"])
        .args(arguments)
        .env("XDG_CONFIG_HOME", home)
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "commonhold {}: {said}", arguments.join(" "));
    Ok(serde_json::from_slice(&output.stdout).unwrap_or(Value::Null))
}

impl Running {
    /// kill -9, and a start on what is on the disk.
    pub(crate) fn kill_and_restart(self, places: &Places, volume_bytes: u64) -> Result<Self> {
        let Self { guard, server, address, home, .. } = self;
        drop(guard);
        match address {
            Address::Iscsi { target, lun, .. } if server.name == OURS => {
                let (mut guard, portal) = serve(places, home.path(), &["--nfs-portals", "none"])?;
                let pid = guard.child().id();
                let address = Address::Iscsi { portal, target, lun };
                Ok(Self { guard, server, address, pid, home })
            }
            _ => start_tgt(places, home, volume_bytes, true),
        }
    }
}

/// A file of random bytes, whole: no peer gains by holes. One that is there stays.
fn image(home: &Path, bytes: u64) -> Result<PathBuf> {
    const PIECE: usize = 1 << 20;
    let path = home.join("image");
    if path.exists() {
        return Ok(path);
    }
    let mut file = std::fs::File::create(&path)?;
    let mut dice = crate::statistics::Dice(0xC0_FFEE);
    let piece: Vec<u8> = (0..PIECE).map(|_| u8::try_from(dice.below(256)).unwrap_or(0)).collect();
    let mut left = usize::try_from(bytes)?;
    while left > 0 {
        let now = left.min(PIECE);
        file.write_all(&piece[..now])?;
        left -= now;
    }
    file.sync_all()?;
    Ok(path)
}

fn script(
    places: &Places,
    name: &str,
    arguments: &[&str],
    (key, value): (&str, &str),
) -> Result<(Guard, ChildStdout)> {
    let mut child = Command::new(places.scripts.join(name))
        .args(arguments)
        .env(key, value)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start tests/peers/{name}"))?;
    let said = child.stdout.take().context("no output of a script")?;
    Ok((Guard::new(child), said))
}

/// Start tgtd on a file of this size; `thin`: UNMAP and its relatives are on, as with us.
pub(crate) fn start_tgt(places: &Places, home: TempDir, bytes: u64, thin: bool) -> Result<Running> {
    let (file, port) = (image(home.path(), bytes)?, free_port()?);
    let file = file.to_string_lossy();
    let thin = ("TP", if thin { "1" } else { "0" });
    let (guard, said) = script(places, "tgt-start", &[&port.to_string(), &file], thin)?;
    let words = read_words(said, &["pid", "target"], "target")?;
    let [Some(pid), Some(target)] = &words[..] else { bail!("tgt did not start") };
    let server = Server {
        name: TGT.to_owned(),
        version: crate::machine::version("tgtd", &["--version"]),
        how: "tgtd as packaged, backing store rdwr".to_owned(),
    };
    let (pid, target) = (pid.parse()?, target.clone());
    let address = Address::Iscsi { portal: format!("127.0.0.1:{port}"), target, lun: 1 };
    Ok(Running { guard, server, address, pid, home })
}

/// Start nbdkit on a file of this size.
pub(crate) fn start_nbdkit(places: &Places, home: TempDir, bytes: u64) -> Result<Running> {
    let (file, port) = (image(home.path(), bytes)?, free_port()?);
    let file = file.to_string_lossy();
    let arguments = ["nbdkit", &port.to_string(), &file];
    let (guard, said) = script(places, "nbd-start", &arguments, ("THREADS", ""))?;
    let words = read_words(said, &["pid"], "pid")?;
    let [Some(pid)] = &words[..] else { bail!("nbdkit did not start") };
    let server = Server {
        name: NBDKIT.to_owned(),
        version: crate::machine::version("nbdkit", &["--version"]),
        how: "nbdkit as packaged, file plugin, its 16 threads".to_owned(),
    };
    Ok(Running { guard, server, address: Address::Nbd { port }, pid: pid.parse()?, home })
}

/// A file server that runs; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct FileServer {
    _guard: Guard,
    pub(crate) server: Server,
    pub(crate) portal: std::net::SocketAddr,
    /// Of its trees, from the root of what it exports.
    pub(crate) paths: Vec<String>,
    pub(crate) pid: u32,
    _home: TempDir,
}

/// Starts a daemon with a file volume of each of these durabilities, on a directory in `home`.
pub(crate) fn start_file_volumes(
    places: &Places,
    home: TempDir,
    durabilities: &[&str],
) -> Result<FileServer> {
    let (mut guard, _) = serve(places, home.path(), &["--nfs-portals", "127.0.0.1:0"])?;
    let pid = guard.child().id();
    let verb = |arguments: &[&str]| verb(places, home.path(), arguments);
    let trees = home.path().join("trees");
    std::fs::create_dir(&trees)?;
    let trees = trees.to_string_lossy();
    verb(&["pool", "create", "bench", "--class", "file", "--driver", "dir", "--path", &trees])?;
    let (mut portal, mut paths) = (None, Vec::new());
    for name in durabilities {
        verb(&["volume", "create", name, "--kind", "file", "--size", "8g", "--durability", name])?;
        verb(&["export", "update", name, "--access", "*,rw,squash=none"])?;
        let shown = verb(&["volume", "show", name])?;
        let resource = shown.get("resource").and_then(Value::as_str);
        let resource = resource.and_then(|resource| resource.strip_prefix("nfs://"));
        let (address, path) = resource
            .and_then(|resource| resource.split_once('/'))
            .context("the volume tells no resource")?;
        portal = Some(address.parse()?);
        paths.push(format!("/{path}"));
    }
    let server = Server {
        name: OURS.to_owned(),
        version: crate::machine::version(&places.commonhold.to_string_lossy(), &["--version"]),
        how: "commonhold serve, a pool with the driver dir".to_owned(),
    };
    let portal = portal.context("no volume was asked for")?;
    Ok(FileServer { _guard: guard, server, portal, paths, pid, _home: home })
}

/// Starts nfs-ganesha on a directory in `home`.
pub(crate) fn start_ganesha(places: &Places, home: TempDir) -> Result<FileServer> {
    let port = free_port()?;
    let tree = home.path().join("tree");
    std::fs::create_dir(&tree)?;
    let arguments = [&port.to_string(), &*tree.to_string_lossy()];
    let (guard, said) = script(places, "ganesha-start", &arguments, ("LANG", "C"))?;
    let words = read_words(said, &["pid"], "pid")?;
    let [Some(pid)] = &words[..] else { bail!("nfs-ganesha did not start") };
    let server = Server {
        name: GANESHA.to_owned(),
        version: crate::machine::version("ganesha.nfsd", &["-v"]),
        how: "nfs-ganesha as packaged, VFS, NFSv4 alone, no delegations".to_owned(),
    };
    let (portal, paths) = (([127, 0, 0, 1], port).into(), vec!["/bench".to_owned()]);
    Ok(FileServer { _guard: guard, server, portal, paths, pid: pid.parse()?, _home: home })
}

/// A server that does nothing; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Floor {
    _guard: Guard,
    pub(crate) portal: std::net::SocketAddr,
    pub(crate) pid: u32,
}

/// Starts one: this program, in a process of its own.
pub(crate) fn start_floor(wait: Wait) -> Result<Floor> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg("floor")
        .args((wait == Wait::Looks).then_some("--looks"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start the server that does nothing")?;
    let said = child.stdout.take().context("no output of the server that does nothing")?;
    let (pid, guard) = (child.id(), Guard::new(child));
    let words = read_words(said, &["port"], "port")?;
    let [Some(port)] = &words[..] else { bail!("the server that does nothing did not start") };
    let portal = ([127, 0, 0, 1], port.parse::<u16>()?).into();
    Ok(Floor { _guard: guard, portal, pid })
}
