//! End to end with real peers. A test whose peer is missing says so and ends; the closing line of
//! `cargo xtask test` for the packages tells which could not be installed.

#[path = "../service/mod.rs"]
mod service;

use std::process::{Command, Output};

use serde_json::Value;
use service::Service;

/// The initiator name that our peers use.
const NAME: &str = "iqn.2026-11.org.example:peer";

/// Is the program there? Says so when not.
fn has(program: &str) -> bool {
    let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output().unwrap();
    if !found.status.success() {
        println!("skipped: {program} is not installed");
    }
    found.status.success()
}

/// A service with one volume attached to the peers' name; the attachment's JSON.
fn attached(mode: &str) -> (Service, Value) {
    let service = Service::start();
    service.json(&["volume", "create", "v", "--size", "64m"]);
    service.json(&["host", "create", "peer", "--initiator", NAME]);
    let created = service.json(&["attachment", "create", "v", "--host", "peer", "--mode", mode]);
    (service, created["attachments"][0].clone())
}

fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    value.pointer(path).and_then(Value::as_str).unwrap()
}

/// The address as libiscsi takes it, with this secret.
fn address(attachment: &Value, secret: &str) -> String {
    let user = text(attachment, "/credentials/user");
    let portal = text(attachment, "/attachment/connection/portals/0");
    let target = text(attachment, "/attachment/connection/target");
    format!("iscsi://{user}%{secret}@{portal}/{target}/0")
}

fn run(program: &str, arguments: &[&str]) -> Output {
    Command::new(program).args(arguments).output().unwrap()
}

fn succeeds(program: &str, arguments: &[&str]) -> String {
    let output = run(program, arguments);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {said}{error}");
    said
}

#[test]
fn libiscsi_discovers_and_logs_in_with_chap() {
    if !has("iscsi-ls") || !has("iscsi-inq") {
        return;
    }
    let (service, attachment) = attached("rw");
    let target = text(&attachment, "/attachment/connection/target");
    let portal = format!("iscsi://{}", service.portal);
    assert!(succeeds("iscsi-ls", &["-i", NAME, &portal]).contains(target));
    // Another name sees nothing of it.
    let other = run("iscsi-ls", &["-i", "iqn.2026-11.org.example:other", &portal]);
    assert!(!String::from_utf8_lossy(&other.stdout).contains(target));

    let good = address(&attachment, text(&attachment, "/credentials/secret"));
    assert!(succeeds("iscsi-inq", &["-i", NAME, &good]).contains("Vendor"));
    let bad = address(&attachment, "wrong-secret-000");
    assert!(!run("iscsi-inq", &["-i", NAME, &bad]).status.success());
    let stranger = run("iscsi-inq", &["-i", "iqn.2026-11.org.example:other", &good]);
    assert!(!stranger.status.success());
}

#[test]
fn qemu_img_copies_in_and_out() {
    if !has("qemu-img") {
        return;
    }
    let (service, attachment) = attached("rw");
    let (image, back) = (service.path("in.img"), service.path("out.img"));
    let (image, back) = (image.to_str().unwrap(), back.to_str().unwrap());
    // Every sector says where it belongs, so that a misplaced one shows.
    let bytes: Vec<u8> = (0..(64_u64 << 20) / 8).flat_map(u64::to_be_bytes).collect();
    std::fs::write(image, &bytes).unwrap();
    let secret = text(&attachment, "/credentials/secret");
    let user = text(&attachment, "/credentials/user");
    let target = text(&attachment, "/attachment/connection/target");
    let volume = format!(
        "driver=iscsi,transport=tcp,portal={},target={target},lun=0,user={user},password={secret},\
         initiator-name={NAME}",
        service.portal
    );
    let convert = ["convert", "-n", "-f", "raw", image, "--target-image-opts", &volume];
    let output = run("qemu-img", &convert);
    if String::from_utf8_lossy(&output.stderr).contains("Unknown driver") {
        println!("skipped: qemu-img has no iSCSI driver (package qemu-block-extra)");
        return;
    }
    succeeds("qemu-img", &convert);
    succeeds("qemu-img", &["convert", "--image-opts", &volume, "-O", "raw", back]);
    assert_eq!(std::fs::read(back).unwrap(), bytes);
}

#[test]
fn a_read_only_attachment_is_refused_writes_by_the_target() {
    if !has("iscsi-dd") && !has("qemu-io") {
        return;
    }
    let (_service, attachment) = attached("ro");
    let address = address(&attachment, text(&attachment, "/credentials/secret"));
    if has("iscsi-readcapacity16") {
        succeeds("iscsi-readcapacity16", &["-i", NAME, &address]);
    }
    if has("qemu-io") {
        let target = text(&attachment, "/attachment/connection/target");
        let options = format!(
            "driver=iscsi,transport=tcp,portal={},target={target},lun=0,user={},password={},\
             initiator-name={NAME}",
            text(&attachment, "/attachment/connection/portals/0"),
            text(&attachment, "/credentials/user"),
            text(&attachment, "/credentials/secret"),
        );
        let write = run("qemu-io", &["--image-opts", &options, "-c", "write 0 4k"]);
        let said = String::from_utf8_lossy(&write.stdout).into_owned()
            + &String::from_utf8_lossy(&write.stderr);
        assert!(!said.contains("wrote 4096/4096"), "{said}");
    }
}
