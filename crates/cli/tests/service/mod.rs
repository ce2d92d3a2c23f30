//! A service in a process of its own, on free ports of loopback and a directory of its own.
//!
//! Several test programs use this module, and none uses all of it.
#![allow(dead_code, unreachable_pub)]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const BINARY: &str = env!("CARGO_BIN_EXE_commonhold");
const LOOPBACK: &str = "127.0.0.1:0";

/// `commonhold serve`, killed when dropped.
pub struct Service {
    process: Child,
    pub home: tempfile::TempDir,
    pub url: String,
    pub portal: String,
    pub token: Option<String>,
}

impl Service {
    pub fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), &[])
    }

    /// Without file volumes, unless `more` says where they are served.
    pub fn start_in(home: tempfile::TempDir, more: &[&str]) -> Self {
        let without: &[&str] = match more.contains(&"--nfs-portals") {
            true => &[],
            false => &["--nfs-portals", "none"],
        };
        Self::spawn(BINARY, home, LOOPBACK, Some(LOOPBACK), &[more, without].concat())
    }

    /// Of another binary, which may be replaced while it runs.
    pub fn start_of(binary: &Path, home: tempfile::TempDir, more: &[&str]) -> Self {
        Self::spawn(binary.to_str().unwrap(), home, LOOPBACK, Some(LOOPBACK), more)
    }

    /// With doors that other hosts reach, and no file volumes.
    pub fn start_at(portal: &str) -> Self {
        let (address, _) = portal.rsplit_once(':').unwrap();
        let listen = format!("{address}:0");
        let home = tempfile::tempdir().unwrap();
        Self::spawn(BINARY, home, &listen, Some(portal), &["--nfs-portals", "none"])
    }

    /// A control plane without a node of its own.
    pub fn control_plane() -> Self {
        let home = tempfile::tempdir().unwrap();
        Self::spawn(BINARY, home, LOOPBACK, None, &["--role", "control"])
    }

    /// With no word about file volumes: what there is then depends on the machine.
    pub fn with_defaults(home: tempfile::TempDir) -> Self {
        Self::spawn(BINARY, home, LOOPBACK, Some(LOOPBACK), &[])
    }

    fn spawn(
        binary: &str,
        home: tempfile::TempDir,
        listen: &str,
        portal: Option<&str>,
        more: &[&str],
    ) -> Self {
        let mut process = Command::new(binary)
            .args(["serve", "--listen", listen])
            .args(portal.iter().flat_map(|portal| ["--portals", portal]))
            .arg("--data")
            .arg(home.path().join("data"))
            .args(more)
            .env("XDG_CONFIG_HOME", home.path())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(home.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let mut said = [const { String::new() }; 3];
        // The pipe closes when the process ends: nobody waits for a service that failed.
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let words = ["API", "portal", "token"];
        while let Some(Ok(line)) = lines.next() {
            let mut parts = line.split_whitespace();
            let (word, value) = (parts.next().unwrap(), parts.next().unwrap());
            if let Some(index) = words.iter().position(|known| *known == word) {
                said[index] = value.to_owned();
            }
            // The token's line is the last of a first start, the client's that of the others.
            if word == "token" || (word == "client" && home.path().join("started").exists()) {
                break;
            }
        }
        std::fs::write(home.path().join("started"), "").unwrap();
        let [url, portal, token] = said;
        let service =
            Self { process, home, url, portal, token: (!token.is_empty()).then_some(token) };
        let (address, _) = listen.rsplit_once(':').unwrap();
        assert!(service.url.starts_with(&format!("http://{address}:")), "{}", service.log());
        service
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.home.path().join("log")).unwrap_or_default()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Run a verb; it finds the service by the settings that `serve` left.
    pub fn run(&self, arguments: &[&str]) -> Output {
        verb(self.home.path(), arguments)
    }

    /// A verb that must succeed; its JSON.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(&[&["-o", "json", "--wait"], arguments].concat());
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {error}\n{}", self.log());
        serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
    }

    /// A verb that must fail: its exit code and what it said.
    pub fn refused(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.run(&[arguments, &["--wait"]].concat());
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{arguments:?} succeeded");
        assert!(error.starts_with("error: "), "{arguments:?}: {error}");
        (output.status.code().unwrap(), error)
    }

    /// Resident memory of the process.
    pub fn resident_bytes(&self) -> u64 {
        let pages = std::fs::read_to_string(format!("/proc/{}/statm", self.process.id())).unwrap();
        pages.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
    }

    /// SIGTERM, and what the process ended with.
    pub fn end(self) -> (ExitStatus, tempfile::TempDir) {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").arg(&pid).status().unwrap().success());
        self.ended()
    }

    /// What the process ended with, which has been told to.
    pub fn ended(mut self) -> (ExitStatus, tempfile::TempDir) {
        let limit = Instant::now() + Duration::from_secs(30);
        let status = loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < limit, "no end on SIGTERM:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        };
        (status, std::mem::replace(&mut self.home, tempfile::tempdir().unwrap()))
    }

    /// kill -9.
    pub fn kill(mut self) -> tempfile::TempDir {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        std::mem::replace(&mut self.home, tempfile::tempdir().unwrap())
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub fn verb(home: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_commonhold"))
        .args(arguments)
        .env("XDG_CONFIG_HOME", home)
        .output()
        .unwrap()
}

/// `commonhold serve --role node` on free ports, without files; killed when dropped.
pub struct Far {
    process: Child,
    pub door: String,
    pub secret: PathBuf,
}

impl Far {
    pub fn start(home: &Path) -> Self {
        std::fs::create_dir_all(home).unwrap();
        let mut process = Command::new(BINARY)
            .args(["serve", "--role", "node", "--listen", LOOPBACK, "--portals", LOOPBACK])
            .args(["--nfs-portals", "none", "--data"])
            .arg(home.join("data"))
            .env("XDG_CONFIG_HOME", home)
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(home.join("log")).unwrap())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut lines = lines.map_while(Result::ok);
        let door = lines.find_map(|line| Some(line.strip_prefix("door")?.trim().to_owned()));
        let door = door.unwrap_or_else(|| panic!("it does not start: see {}", home.display()));
        Self { process, door, secret: home.join("data/node/secret") }
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
