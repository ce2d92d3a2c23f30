//! The binary as `fence_commonhold`, against a service and hosts with real sessions.
#![allow(clippy::unwrap_used, reason = "a test that meets one has failed")]

mod service;

use std::io::Write;
use std::process::{Command, Output, Stdio};

use bytes::Bytes;
use host::{HostError, Initiator, LogicalUnit, Options};
use service::Service;

/// A service with a volume `m` that the hosts `a` and `b` share.
fn shared(more: &[&str]) -> Service {
    let service = Service::start_in(tempfile::tempdir().unwrap(), more);
    service.json(&[
        "volume-type",
        "grant",
        "ssd-multiattach",
        "default",
        "--acknowledge-data-loss",
    ]);
    for volume in ["m", "other"] {
        service.json(&["volume", "create", volume, "--size", "16m", "--type", "ssd-multiattach"]);
    }
    for host in ["a", "b"] {
        service.json(&["host", "create", host, "--initiator", &initiator(host)]);
        service.json(&["attachment", "create", "m", "--host", host]);
    }
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_commonhold"), service.path("fence_commonhold"))
        .unwrap();
    service
}

fn initiator(host: &str) -> String {
    format!("iqn.2026-11.org.example:{host}")
}

/// Runs the agent with these lines on its standard input.
fn agent(service: &Service, lines: &str) -> Output {
    let mut process = Command::new(service.path("fence_commonhold"))
        .env("XDG_CONFIG_HOME", service.home.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // One that needs no input may be gone already.
    let _ = process.stdin.take().unwrap().write_all(lines.as_bytes());
    process.wait_with_output().unwrap()
}

fn code(service: &Service, lines: &str) -> i32 {
    let output = agent(service, lines);
    let code = output.status.code().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(code == 1, said.starts_with("error: "), "{lines}: {code}, {said}");
    code
}

async fn unit(service: &Service, host: &str) -> Result<LogicalUnit, HostError> {
    let attached = service.json(&["attachment", "list", "--host", host, "--volume", "m"]);
    let target = attached[0]["connection"]["target"].as_str().unwrap_or("iqn.none:none");
    let options = Options::new(initiator(host), Some(target.to_owned()));
    let session = Initiator::connect(&service.portal, options).await?;
    LogicalUnit::open(&session, 0).await
}

#[tokio::test]
async fn off_is_answered_when_the_host_can_write_no_more_and_touches_no_other() {
    let service = shared(&["--chap", "off"]);
    let (a, b) = (unit(&service, "a").await.unwrap(), unit(&service, "b").await.unwrap());
    let block = Bytes::from(vec![7; 512]);
    a.write(0, block.clone(), false).await.unwrap();
    assert_eq!(code(&service, "action=status\nplug=a\n"), 0);
    assert_eq!(code(&service, "action=off\nplug=a\nnodename=ignored\n"), 0);
    a.write(0, block.clone(), false).await.unwrap_err();
    assert_eq!(code(&service, "action=status\nplug=a\n"), 2);
    // Again, as a cluster does that did not hear the answer.
    assert_eq!(code(&service, "plug=a\n"), 0, "off is what is meant when nothing is said");
    b.write(8, block.clone(), false).await.unwrap();

    // Back by somebody's word, and to what was named alone.
    assert_eq!(code(&service, "action=on\nplug=a\n"), 1, "what it had is not remembered");
    assert_eq!(code(&service, "action=on\nplug=a\nvolumes=m\n"), 0);
    assert_eq!(code(&service, "action=on\nplug=a\nvolumes=m\n"), 0, "on again");
    unit(&service, "a").await.unwrap().write(0, block, false).await.unwrap();
    assert_eq!(code(&service, "action=status\nplug=a\nvolumes=other\n"), 2);
    assert_eq!(code(&service, "action=off\nplug=a\nvolumes=other\n"), 0);
    assert_eq!(code(&service, "action=status\nplug=a\nvolumes=m\n"), 0, "of another volume");
}

#[test]
fn what_is_not_known_is_never_a_success() {
    let service = shared(&["--chap", "off"]);
    for lines in [
        "action=off\n",
        "action=off\nplug=nobody\n",
        "action=status\nplug=nobody\n",
        "action=off\nplug=a\nvolumes=nothing\n",
        "action=reboot\nplug=a\n",
        "action=off\nplug=a\ntoken=wrong\n",
        "action=off\nplug=a\nurl=http://127.0.0.1:1\n",
        "action=monitor\ntoken_file=/nowhere\n",
    ] {
        assert_eq!(code(&service, lines), 1, "{lines}");
    }
    assert_eq!(code(&service, "action=status\nplug=a\n"), 0, "nothing was cut off");
    assert_eq!(code(&service, "action=monitor\n"), 0);
    let listed = agent(&service, "action=list\n");
    let listed = String::from_utf8(listed.stdout).unwrap();
    let names: Vec<_> = listed.lines().filter_map(|line| line.split(',').next()).collect();
    assert_eq!(names, ["a", "b"]);
    let metadata = agent(&service, "action=metadata\n");
    assert!(metadata.status.success());
    assert!(String::from_utf8(metadata.stdout).unwrap().contains("<action name=\"off\""));
}

#[test]
fn on_does_not_let_a_host_in_with_a_secret_that_nobody_knows() {
    let service = shared(&[]);
    assert_eq!(code(&service, "action=off\nplug=a\n"), 0);
    assert_eq!(code(&service, "action=on\nplug=a\nvolumes=m\n"), 1);
    assert_eq!(code(&service, "action=status\nplug=a\n"), 2, "as if it had not been asked");
}
