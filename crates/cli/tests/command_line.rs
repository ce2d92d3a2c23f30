//! The binary from outside, without a service: exit codes, streams, generated files.
#![allow(clippy::unwrap_used, reason = "a test that meets one has failed")]

use std::process::{Command, Output};

fn commonhold(home: &std::path::Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_commonhold"))
        .args(arguments)
        .env_clear()
        .env("XDG_CONFIG_HOME", home)
        .output()
        .unwrap()
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn nobody_there_is_said_with_a_hint_and_its_exit_code() {
    let home = tempfile::tempdir().unwrap();
    // Port 1 of loopback: nothing listens there.
    let output = commonhold(home.path(), &["--url", "http://127.0.0.1:1", "volume", "list"]);
    let (stdout, stderr) = texts(&output);
    assert_eq!(output.status.code(), Some(6), "{stderr}");
    assert!(stdout.is_empty());
    assert!(stderr.starts_with("error: ") && stderr.contains("\nhint: "), "{stderr}");
}

#[test]
fn usage_errors_exit_with_two() {
    let home = tempfile::tempdir().unwrap();
    for arguments in [
        &["volume", "create", "v"][..],
        &["volume", "create", "v", "--size", "many"],
        &["--url", "ftp://x", "volume", "list"],
        &["serve"],
        &["serve", "--data", "d", "--listen", "somewhere"],
        &["serve", "--data", "d", "--log", "=what="],
        &["serve", "--data", "d", "--role", "control", "--portals", "127.0.0.1:0"],
        &["serve", "--data", "d", "--role", "node"],
        &["--config", "/no/such/file", "volume", "list"],
    ] {
        let output = commonhold(home.path(), arguments);
        let (_, stderr) = texts(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
        assert!(stderr.starts_with("error: "), "{arguments:?}: {stderr}");
    }
}

#[test]
fn config_show_says_where_values_come_from() {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join("commonhold")).unwrap();
    let file = home.path().join("commonhold/client.toml");
    std::fs::write(&file, "url = 'http://127.0.0.1:9'\ntoken = 'hush'\n").unwrap();
    let output = commonhold(home.path(), &["config", "show", "--workers", "3", "-o", "plain"]);
    let (stdout, stderr) = texts(&output);
    assert!(output.status.success(), "{stderr}");
    let line = |name: &str| stdout.lines().find(|line| line.starts_with(name)).unwrap();
    assert!(line("url").contains(&format!("http://127.0.0.1:9\tfile {}", file.display())));
    assert!(line("token").contains("(set)") && !stdout.contains("hush"), "{stdout}");
    assert!(line("workers").contains("3\tflag --workers"), "{stdout}");
    assert!(line("listen").contains("127.0.0.1:7700\tdefault"), "{stdout}");
    assert!(line("data").contains("(not set)\t-"), "{stdout}");
}

#[test]
fn completions_and_manual_pages_are_generated() {
    let home = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let (script, _) = texts(&commonhold(home.path(), &["completion", shell]));
        assert!(script.contains("clear-reservations"), "{shell}");
    }
    let pages = home.path().join("man");
    let output = commonhold(home.path(), &["man", pages.to_str().unwrap()]);
    assert!(output.status.success());
    let page = std::fs::read_to_string(pages.join("commonhold-attachment-fence.1")).unwrap();
    assert!(page.contains("Cut the host off"), "{page}");
    assert!(!pages.join("commonhold-openapi.1").exists());
}
