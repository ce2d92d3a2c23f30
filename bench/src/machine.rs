//! The machine that a run is on, as its own files tell it.

use std::process::Command;

use crate::report::Machine;

/// Read what a reader needs to compare figures; what cannot be read stays empty.
pub(crate) fn look() -> Machine {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let output = Command::new("git").args(["rev-parse", "--short", "HEAD"]).output();
    let commit = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    Machine {
        processor: processor(&read("/proc/cpuinfo")),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        memory_bytes: memory_bytes(&read("/proc/meminfo")),
        system: system(&read("/etc/os-release")),
        kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        load: load(&read("/proc/loadavg")),
        date: jiff::Zoned::now().date().to_string(),
        commit: commit.unwrap_or_default(),
    }
}

/// The kind of file system that a directory is on, and on what that lies.
pub(crate) fn file_system(directory: &std::path::Path) -> String {
    let asked = ["-n", "-o", "FSTYPE,SOURCE", "--target"];
    let output = Command::new("findmnt").args(asked).arg(directory).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let words = text.unwrap_or_default();
    words.split_whitespace().collect::<Vec<_>>().join(" on ")
}

/// The first program of a line such as `fio-3.33` or `nbdkit 1.32.5 (..)`: its version.
pub(crate) fn version(program: &str, arguments: &[&str]) -> String {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let output = Command::new(program).args(arguments).env("PATH", path).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    text.map(|text| version_in(&text)).unwrap_or_default()
}

/// The first run of digits with points in it.
fn version_in(text: &str) -> String {
    let parts = text.split(|c: char| !(c.is_ascii_digit() || c == '.'));
    let found = parts.map(|part| part.trim_matches('.')).find(|part| part.contains('.'));
    found.unwrap_or_default().to_owned()
}

fn processor(cpuinfo: &str) -> String {
    field(cpuinfo, "model name").unwrap_or("unknown").to_owned()
}

fn memory_bytes(meminfo: &str) -> u64 {
    let kib = field(meminfo, "MemTotal").and_then(|text| text.split_whitespace().next());
    kib.and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) << 10
}

/// The value of the first `key : value`.
fn field<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs
        .map(|(name, value)| (name.trim(), value.trim()))
        .find(|(name, _)| *name == key)
        .map(|p| p.1)
}

fn system(release: &str) -> String {
    let line = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    line.unwrap_or("Linux").trim_matches('"').to_owned()
}

fn load(loadavg: &str) -> f64 {
    loadavg.split_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_proc_are_read() {
        assert_eq!(
            processor("processor : 0\nmodel name\t: Some CPU @ 3 GHz\n"),
            "Some CPU @ 3 GHz"
        );
        assert_eq!(memory_bytes("MemTotal:       24000 kB\nMemFree: 1 kB\n"), 24_000 << 10);
        assert_eq!(system("NAME=\"Debian\"\nPRETTY_NAME=\"Debian 12\"\n"), "Debian 12");
        assert!((load("0.25 1.0 2.0 1/99 5\n") - 0.25).abs() < 1e-9);
    }

    #[test]
    fn versions_are_found_in_what_programs_say() {
        assert_eq!(version_in("fio-3.33\n"), "3.33");
        assert_eq!(version_in("nbdkit 1.32.5 (a.b)\n"), "1.32.5");
        assert_eq!(version_in("qemu-img version 7.2.22 (Debian)\n"), "7.2.22");
        assert_eq!(version_in("1.0.85\n"), "1.0.85");
        assert_eq!(version_in("nothing"), "");
    }
}
