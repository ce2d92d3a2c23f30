use std::io::Write;
use std::os::unix::fs::PermissionsExt;

use super::*;

const NAME: &str = "commonhold-mpatha";
/// Long enough for a program that is not slow on purpose.
const PATIENCE: Duration = Duration::from_secs(3);

/// A device mapper with room for one device.
struct Mapper(tempfile::TempDir);

impl Mapper {
    fn new() -> Self {
        let mapper = Self(tempfile::tempdir().unwrap());
        for directory in ["blocks", "nodes"] {
            std::fs::create_dir(mapper.path(directory)).unwrap();
        }
        mapper.uses(0);
        // Written by another process: a file that some thread's child has open for writing cannot
        // be run.
        let program = mapper.path("dmsetup");
        let mut writes = std::process::Command::new("tee");
        writes.arg(&program).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut writes = writes.spawn().unwrap();
        writes.stdin.take().unwrap().write_all(include_bytes!("dmsetup")).unwrap();
        assert!(writes.wait().unwrap().success());
        std::fs::set_permissions(program, std::fs::Permissions::from_mode(0o700)).unwrap();
        mapper
    }
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
    fn says(&self, file: &str) -> String {
        std::fs::read_to_string(self.path(file)).unwrap_or_default()
    }
    fn is(&self, wrong: &str) {
        std::fs::write(self.path(wrong), "").unwrap();
    }
    fn uses(&self, count: u32) {
        std::fs::write(self.path("users"), count.to_string()).unwrap();
    }
    fn gate(&self) -> Gate {
        let means = Means {
            program: self.path("dmsetup"),
            blocks: self.path("blocks"),
            nodes: self.path("nodes"),
            closing: PATIENCE,
            patience: PATIENCE,
            udev: Duration::from_millis(200),
        };
        let (open, shut) = ("0 2048 linear 253:0 0".to_owned(), "0 2048 error".to_owned());
        Gate { name: NAME.to_owned(), sectors: 2048, open, shut, means }
    }
}

/// `dmsetup` could not be run, and the gate that it was to shut counted as none.
#[test]
fn a_gate_that_nothing_is_known_of_is_not_taken_for_none_or_open() {
    let state = |table| state_of(table).ok();
    assert_eq!(state("0 2048 linear 253:0 0\n"), Some(GateState::Open));
    assert_eq!(state("0 2048 error \n"), Some(GateState::Shut));
    assert_eq!(state(""), Some(GateState::Shut));
    assert_eq!(state("0 2048 crypt x\n"), None);
}

#[test]
fn the_size_of_a_gate_is_that_of_its_table() {
    assert_eq!(sectors_of("0 2048 linear 253:0 0\n"), Some(2048));
    assert_eq!(sectors_of(""), None);
    let mapper = Mapper::new();
    let gate = |sectors| Gate { sectors, ..mapper.gate() };
    assert!(gate(4096).is_larger(&gate(2048)));
    assert!(!gate(2048).is_larger(&gate(2048)) && !gate(1024).is_larger(&gate(2048)));
}

#[tokio::test]
async fn a_gate_opens_closes_and_goes() {
    let mapper = Mapper::new();
    let gate = mapper.gate();
    for (turn, expected) in [
        (Turn::Open, GateState::Open),
        (Turn::Open, GateState::Open),
        (Turn::Close, GateState::Closed),
        (Turn::Open, GateState::Open),
        (Turn::Close, GateState::Closed),
        (Turn::Shut, GateState::None),
        (Turn::Close, GateState::Closed),
        (Turn::Shut, GateState::None),
        (Turn::Shut, GateState::None),
    ] {
        gate.turn(turn).await.unwrap();
        assert_eq!(gate.state().await.unwrap(), expected, "{turn:?}");
    }
    std::fs::remove_file(mapper.path("dmsetup")).unwrap();
    std::fs::create_dir_all(mapper.path("blocks/dm-0/dm")).unwrap();
    for (file, text) in [("dm/name", NAME), ("dm/suspended", "0"), ("dev", "1:3")] {
        std::fs::write(mapper.path("blocks/dm-0").join(file), text).unwrap();
    }
    assert!(gate.state().await.is_err(), "it is there, and nothing is known of it");
    assert!(gate.turn(Turn::Shut).await.is_err());
}

/// udev was slow, and its ten seconds ended the guard and its command.
#[tokio::test]
async fn a_gate_that_has_turned_has_turned_though_nobody_tells_of_it_in_time() {
    let tried = [
        ("create", &[][..], Turn::Open, GateState::Open),
        ("suspend", &[Turn::Open][..], Turn::Close, GateState::Closed),
        ("resume", &[Turn::Open, Turn::Close][..], Turn::Open, GateState::Open),
        ("remove", &[Turn::Open][..], Turn::Shut, GateState::None),
    ];
    let each = tried.map(|(verb, before, turn, expected)| async move {
        let mapper = Mapper::new();
        let gate = mapper.gate();
        for turn in before {
            gate.turn(*turn).await.unwrap();
        }
        mapper.is(&format!("hangs-{verb}"));
        gate.turn(turn).await.unwrap();
        assert_eq!(gate.state().await.unwrap(), expected, "{verb}");
        assert_eq!(mapper.path("nodes").join(NAME).exists(), expected != GateState::None);
    });
    futures::future::join_all(each).await;
}

#[tokio::test]
async fn a_gate_that_does_not_close_in_time_is_open() {
    let mapper = Mapper::new();
    let gate = Gate {
        means: Means { closing: Duration::from_millis(300), ..mapper.gate().means },
        ..mapper.gate()
    };
    gate.turn(Turn::Open).await.unwrap();
    mapper.is("stuck-suspend");
    let error = gate.turn(Turn::Close).await.unwrap_err();
    assert!(error.to_string().contains("in time"), "{error}");
    assert_eq!(gate.state().await.unwrap(), GateState::Open);
    assert!(mapper.says("log").lines().any(|line| line.starts_with("resume")));
}

#[tokio::test]
async fn a_gate_has_its_name_before_anything_uses_it_though_udev_stands_still() {
    let mapper = Mapper::new();
    mapper.is("no-udev");
    mapper.gate().turn(Turn::Open).await.unwrap();
    assert!(mapper.path("nodes").join(NAME).exists());
    assert!(mapper.says("log").contains("mknodes"));
    mapper.gate().turn(Turn::Shut).await.unwrap();
    std::fs::create_dir(mapper.path("nodes").join(NAME)).unwrap();
    let refused = mapper.gate().turn(Turn::Open).await.unwrap_err().to_string();
    assert!(refused.contains("something else has that name"), "{refused}");
}

/// A mount that was left on a shut gate saw the volume again when this host took it anew.
#[tokio::test]
async fn a_shut_gate_that_somebody_has_open_is_never_opened_again() {
    let mapper = Mapper::new();
    let gate = mapper.gate();
    gate.turn(Turn::Open).await.unwrap();
    mapper.uses(1);
    gate.turn(Turn::Shut).await.unwrap();
    assert_eq!(gate.state().await.unwrap(), GateState::Shut);
    let refused = gate.turn(Turn::Open).await.unwrap_err().to_string();
    assert!(refused.contains(NAME) && refused.contains("still open"), "{refused}");
    assert!(mapper.says("table").contains("error"));
    mapper.uses(0);
    gate.turn(Turn::Open).await.unwrap();
    assert!(mapper.says("table").contains("linear"));
    assert!(!mapper.says("log").contains("load commonhold-mpatha --table 0 2048 linear"));
}

/// A second `attack` was refused, and had shut the gate of a service that was well.
#[tokio::test]
async fn what_an_earlier_run_has_left_in_use_keeps_the_next_one_out() {
    let mapper = Mapper::new();
    let gate = mapper.gate();
    let in_use = |way| matches!(way, Err(GateError::InUse { users: 1, .. }));
    for task in [Task::Hold, Task::Attack] {
        gate.turn(Turn::Open).await.unwrap();
        gate.make_way(task).await.unwrap();
        assert_eq!(gate.state().await.unwrap(), GateState::None, "nobody has it open");
    }
    gate.turn(Turn::Open).await.unwrap();
    mapper.uses(1);
    gate.make_way(Task::Defend).await.unwrap();
    assert!(in_use(gate.make_way(Task::Attack).await));
    assert_eq!(gate.state().await.unwrap(), GateState::Open, "the service may be well");
    assert!(in_use(gate.make_way(Task::Hold).await));
    assert_eq!(gate.state().await.unwrap(), GateState::Shut, "nothing of a command is well");
    for task in [Task::Hold, Task::Attack, Task::Defend] {
        assert!(in_use(gate.make_way(task).await));
        assert_eq!(gate.state().await.unwrap(), GateState::Shut);
    }
    mapper.uses(0);
    gate.make_way(Task::Defend).await.unwrap();
    assert_eq!(gate.state().await.unwrap(), GateState::None);
}
