//! Nobody shares an ordinary file system by accident: real ones, made by their own programs.

use crate::peers::{has, succeeds};
use crate::service::Service;

#[test]
fn a_second_writer_of_an_ordinary_file_system_is_refused_or_on_record() {
    let service = Service::start();
    let grant = ["volume-type", "grant", "ssd-multiattach", "default"];
    service.json(&[&grant[..], &["--acknowledge-data-loss"]].concat());
    for host in ["a", "b", "c"] {
        let iqn = format!("iqn.2026-11.org.example:{host}");
        service.json(&["host", "create", host, "--initiator", &iqn]);
    }
    let makers = [
        ("ext4", "64m", vec!["mkfs.ext4", "-qF"]),
        ("XFS", "320m", vec!["mkfs.xfs", "-qf"]),
        ("swap", "16m", vec!["mkswap", "-q"]),
    ];
    for (found, size, maker) in makers {
        if has(maker[0]) {
            one_writer(&service, found, size, &maker);
        }
    }
}

fn one_writer(service: &Service, found: &str, size: &str, maker: &[&str]) {
    let path = service.path(&format!("{found}.img"));
    let path = path.to_str().unwrap();
    let bytes = size.trim_end_matches('m').parse::<u64>().unwrap() << 20;
    std::fs::File::create(path).unwrap().set_len(bytes).unwrap();
    succeeds(maker[0], &[&maker[1..], &[path]].concat());
    let create = ["volume", "create", found, "--size", size, "--image", path];
    service.json(&[&create[..], &["--type", "ssd-multiattach"]].concat());

    let attach = |host: &str, more: &[&str]| {
        service.json(&[&["attachment", "create", found, "--host", host], more].concat())
    };
    attach("a", &[]);
    let (code, error) = service.refused(&["attachment", "create", found, "--host", "b"]);
    assert!(code == 4 && error.contains(found), "{error}");
    for way in ["--mode ro", "cluster file system", "--accept-data-loss"] {
        assert!(error.contains(way), "no {way} in {error}");
    }
    let reader = attach("c", &["--mode", "ro"]);
    assert_eq!(reader["attachments"][0]["attachment"]["mode"], "ro");

    let risky = attach("b", &["--accept-data-loss"]);
    assert_eq!(risky["attachments"][0]["attachment"]["data_loss_accepted_by"], "admin");
    let events = service.json(&["event", "list", "--action", "attachment.create", "--limit", "9"]);
    let recorded = events.as_array().unwrap().iter().any(|event| {
        let detail = event["detail"].as_str().unwrap();
        event["actor"] == "admin"
            && detail.contains("host 'b'")
            && detail.contains("accepted")
            && detail.contains(found)
    });
    assert!(recorded, "{events}");
}
