//! Debian's rpcbind is told where NFS is, and its clients find it by that. In a network and with a
//! `/run` of its own: rpcbind has one port and one socket, which may be in use by the machine's.

use std::process::{Child, Command};
use std::time::{Duration, Instant};

use crate::peers::{has, run, said, succeeds};
use crate::service::Service;

/// Set for the run of a test that is in a network of its own.
const APART: &str = "COMMONHOLD_TEST_APART";
/// Not on loopback, whose portals are told to nobody.
const ADDRESS: &str = "192.0.2.1";

/// Runs this program's test of that name again, in namespaces of its own; false where it is there.
fn goes_apart(test: &str) -> bool {
    if std::env::var_os(APART).is_some() {
        return false;
    }
    let mut apart = Command::new("unshare");
    apart.args(["--net", "--mount", "--propagation", "private"]);
    apart.arg(std::env::current_exe().unwrap()).args([test, "--exact", "--nocapture"]);
    assert!(apart.env(APART, "1").status().unwrap().success());
    true
}

/// rpcbind, ended with the test.
struct Rpcbind(Child);

impl Rpcbind {
    fn start() -> Self {
        let paths = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
        let started = Self(Command::new("rpcbind").arg("-f").env("PATH", paths).spawn().unwrap());
        until("rpcbind does not answer", || run("rpcinfo", &["-p"]).status.success());
        started
    }
}

impl Drop for Rpcbind {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn until(or: &str, so: impl Fn() -> bool) {
    let limit = Instant::now() + Duration::from_secs(20);
    while !so() {
        assert!(Instant::now() < limit, "{or}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The programs of ours that rpcbind knows: number, version, protocol and port.
fn known() -> Vec<String> {
    let all = succeeds("rpcinfo", &["-p", ADDRESS]);
    let words = |line: &str| line.split_whitespace().take(4).collect::<Vec<_>>().join(" ");
    let is_ours = |line: &String| line.starts_with("100003 ") || line.starts_with("100005 ");
    all.lines().map(words).filter(is_ours).collect()
}

#[test]
fn rpcinfo_and_showmount_find_what_they_may() {
    if !["rpcbind", "rpcinfo", "showmount", "unshare", "ip"].into_iter().all(has) {
        return;
    }
    if !rustix::process::geteuid().is_root() {
        println!("skipped: a network of its own, and file volumes, need root");
        return;
    }
    if goes_apart("rpcbind::rpcinfo_and_showmount_find_what_they_may") {
        return;
    }
    succeeds("mount", &["-t", "tmpfs", "tmpfs", "/run"]);
    succeeds("ip", &["link", "set", "lo", "up"]);
    succeeds("ip", &["address", "add", &format!("{ADDRESS}/24"), "dev", "lo"]);
    let _rpcbind = Rpcbind::start();
    let portal = format!("{ADDRESS}:2049");
    let home = tempfile::tempdir().unwrap();
    let service = Service::start_in(home, &["--nfs-portals", &portal]);
    let ours = ["100003 3 tcp 2049", "100003 4 tcp 2049", "100005 3 tcp 2049"];
    until("rpcbind is not told", || known() == ours);
    for (program, version) in [("nfs", "3"), ("nfs", "4"), ("mountd", "3")] {
        let found = succeeds("rpcinfo", &["-t", ADDRESS, program, version]);
        assert!(found.contains("ready and waiting"), "{found}");
    }

    let files = service.path("files");
    std::fs::create_dir(&files).unwrap();
    let files = files.to_str().unwrap();
    service
        .json(&["pool", "create", "files", "--class", "file", "--driver", "dir", "--path", files]);
    service.json(&["network", "update", "default", "--client", "192.0.2.0/24"]);
    let create = ["volume", "create", "--kind", "file", "--size", "64m"];
    service.json(&[&create[..], &["for-all"]].concat());
    service.json(&[&create[..], &["for-us", "--access", &format!("{ADDRESS},ro")]].concat());
    service.json(&[&create[..], &["for-another", "--access", "192.0.2.2,rw"]].concat());
    let list = succeeds("showmount", &["--no-headers", "-e", ADDRESS]);
    let mut paths: Vec<_> = list.lines().filter_map(|line| line.split(' ').next()).collect();
    paths.sort_unstable();
    assert_eq!(paths, ["/default/for-all", "/default/for-us"], "{list}");
    // Nobody is let in: not even told what there is.
    service.json(&["network", "update", "default", "--client", "192.0.2.2"]);
    let refused = run("showmount", &["-e", ADDRESS]);
    assert!(!refused.status.success() && !said(&refused).contains("for-"), "{}", said(&refused));

    let (status, _home) = service.end();
    assert!(status.success(), "{status}");
    assert!(known().is_empty(), "what is gone is still told: {:?}", known());
}
