//! The programs that people use: libiscsi's tools, qemu-img, fio.

use std::process::Command;

use crate::peers::{Access, NAME, has, run, said, succeeds};
use crate::service::Service;

const OTHER: &str = "iqn.2026-11.org.example:other";

#[test]
fn libiscsi_discovers_its_own_targets_only_and_logs_in_with_chap() {
    if !has("iscsi-ls") || !has("iscsi-inq") {
        return;
    }
    let service = Service::start();
    let mine = Access::new(&service, "mine", "16m", &[NAME]);
    let others = Access::new(&service, "others", "16m", &[OTHER]);
    let portal = format!("iscsi://{}", service.portal);
    for (name, seen, hidden) in [(NAME, &mine, &others), (OTHER, &others, &mine)] {
        let list = succeeds("iscsi-ls", &["-i", name, &portal]);
        assert!(list.contains(&seen.target) && !list.contains(&hidden.target), "{name}: {list}");
    }
    let list = said(&run("iscsi-ls", &["-i", "iqn.2026-11.org.example:stranger", &portal]));
    assert!(!list.contains("iqn.2026-11.io.commonhold"), "{list}");

    assert!(succeeds("iscsi-inq", &["-i", NAME, &mine.url()]).contains("Vendor"));
    for (name, url) in [
        (NAME, mine.url_with("wrong-secret-000")),
        (OTHER, mine.url()),
        (NAME, others.url()),
        (NAME, format!("iscsi://{}/{}/0", mine.portal, mine.target)),
        (NAME, format!("iscsi://{}%{}@{}/{}x/0", mine.user, mine.secret, mine.portal, mine.target)),
    ] {
        let output = run("iscsi-inq", &["-i", name, &url]);
        assert!(!output.status.success(), "{name} {url}: {}", said(&output));
    }
    assert!(service.log().to_lowercase().contains("login"), "refusals are logged");
    assert!(!service.log().contains(&mine.secret));
}

#[test]
fn qemu_img_copies_in_and_out() {
    if !has("qemu-img") {
        return;
    }
    let service = Service::start();
    let access = Access::new(&service, "v", "32m", &[NAME]);
    let path = |name: &str| service.path(name).to_str().unwrap().to_owned();
    let (image, back, again) = (path("in.img"), path("out.img"), path("again.qcow2"));
    // Every 8 bytes say where they belong, so that misplaced ones show; the end stays empty.
    let mut bytes: Vec<u8> = (0..(24_u64 << 20) / 8).flat_map(u64::to_be_bytes).collect();
    bytes.resize(32 << 20, 0);
    std::fs::write(&image, &bytes).unwrap();
    let volume = access.image_options();
    let convert = ["convert", "-n", "-f", "raw", &image, "--target-image-opts", &volume];
    let output = run("qemu-img", &convert);
    if said(&output).contains("Unknown driver") {
        println!("skipped: qemu-img has no iSCSI driver (package qemu-block-extra)");
        return;
    }
    assert!(output.status.success(), "{}", said(&output));
    let compare = ["compare", "--image-opts", "driver=raw,file.driver=file,file.filename="];
    let local = format!("{}{image}", compare[2]);
    succeeds("qemu-img", &["compare", "--image-opts", &local, &volume]);
    succeeds("qemu-img", &["convert", "--image-opts", &volume, "-O", "raw", &back]);
    assert!(std::fs::read(&back).unwrap() == bytes, "the bytes came back changed");

    // The secret from elsewhere than the command line.
    let secret = path("secret");
    std::fs::write(&secret, &access.secret).unwrap();
    let object = format!("secret,id=s,file={secret}");
    let options = volume.replace(&format!("password={}", access.secret), "password-secret=s");
    let arguments = ["convert", "--object", &object, "--image-opts", &options, "-O", "qcow2"];
    succeeds("qemu-img", &[&arguments[..], &[&again]].concat());
    succeeds("qemu-img", &["compare", &image, &again]);
    std::fs::write(&secret, "wrong-secret-000").unwrap();
    let output = run("qemu-img", &[&arguments[..], &[&again]].concat());
    assert!(!output.status.success());
}

#[test]
fn a_read_only_attachment_is_refused_writes_by_the_target() {
    if !has("qemu-io") {
        return;
    }
    let service = Service::start();
    service.json(&["volume", "create", "v", "--size", "16m"]);
    service.json(&["host", "create", "reader", "--initiator", NAME]);
    let reader = Access::attach(&service, "v", "reader", "ro");
    let options = reader.image_options();
    if said(&run("qemu-io", &["-r", "--image-opts", &options, "-c", "read 0 4k"]))
        .contains("Unknown driver")
    {
        println!("skipped: qemu-io has no iSCSI driver (package qemu-block-extra)");
        return;
    }
    let read = succeeds("qemu-io", &["-r", "--image-opts", &options, "-c", "read 0 4k"]);
    assert!(read.contains("read 4096/4096"), "{read}");
    let write = said(&run("qemu-io", &["--image-opts", &options, "-c", "write 0 4k"]));
    assert!(!write.contains("wrote 4096/4096"), "{write}");
}

/// The fio of the distributions has no libiscsi engine: `COMMONHOLD_FIO` names one that has. The
/// engine does not pass credentials on, so that this service asks for none.
#[test]
fn fio_verifies_what_it_wrote() {
    let Some(fio) = std::env::var_os("COMMONHOLD_FIO") else {
        println!("skipped: COMMONHOLD_FIO does not name a fio with the libiscsi engine");
        return;
    };
    let service = Service::start_in(tempfile::tempdir().unwrap(), &["--chap", "off"]);
    let access = Access::new(&service, "v", "32m", &["iqn.2019-04.org.fio:fio"]);
    let url = format!("iscsi://{}/{}/0", access.portal, access.target);
    let output = Command::new(&fio)
        .args(["--name=v", "--ioengine=libiscsi", "--rw=randwrite", "--bsrange=512-64k"])
        .args(["--size=32m", "--iodepth=16", "--verify=crc32c", "--do_verify=1", "--thread"])
        // fio takes a colon for the end of a file's name.
        .current_dir(service.home.path())
        .arg(format!("--filename={}", url.replace(':', "\\:")))
        .output()
        .unwrap();
    let text = said(&output);
    assert!(output.status.success() && text.contains("err= 0"), "{text}");
    for direction in ["READ: bw=", "WRITE: bw="] {
        assert!(text.contains(direction), "{text}");
    }
}
