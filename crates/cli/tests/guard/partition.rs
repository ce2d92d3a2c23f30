//! The scenario that clusters with a shared disk are told by: heartbeats are lost, a tie-breaker is
//! asked, and one of two hosts was only delayed. Two machines have a cable to the disk and one to a
//! switch, whose address is the tie-breaker.
//!
//! ```text
//!      G
//!   h0[o]-----[switch]-----[o]h1
//!      |                    |
//!      +-------[disk]-------+
//! ```

use rustix::process::Signal;

use crate::agents::Fleet;
use crate::network::{self, Bridge, Network, WITNESS};
use crate::observer::{self, Observer};
use crate::service::Service;
use crate::stage::{Stage, wait_for};
use crate::writer::Orders;
use crate::{is_gone, pause};

/// By then the heartbeat has timed out, and who was to take over has.
const SETTLED_MS: u64 = 2_000;
const TIMED_OUT_MS: u64 = 1_000;

struct Scene {
    fleet: Fleet,
    network: Network,
    observer: Observer,
}

impl Scene {
    /// Step 1: each host sends heartbeats to the other, and the group runs on the first.
    fn begin() -> Self {
        let network = Network::new(2);
        let service = Service::start_at(network::PORTAL);
        let policy = serde_json::json!({ "witness": WITNESS });
        let fleet = Fleet::over(service, network.processes(), policy);
        let initiator = "iqn.2026-11.org.example:observer".to_owned();
        fleet.service.json(&["host", "create", "observer", "--initiator", &initiator]);
        let made = fleet.service.json(&["attachment", "create", "v", "--host", "observer"]);
        let made = &made["attachments"][0];
        let word = |path: &str| made.pointer(path).unwrap().as_str().unwrap().to_owned();
        let observer = Observer {
            portal: fleet.service.portal.clone(),
            target: word("/attachment/connection/target"),
            initiator,
            credentials: (word("/credentials/user"), word("/credentials/secret")),
        };
        let scene = Self { fleet, network, observer };
        scene.hears(0);
        scene.hears(1);
        scene
    }

    fn hears(&self, host: usize) {
        wait_for("heartbeats", || self.fleet.silence_ms(host).filter(|age| *age < TIMED_OUT_MS));
    }

    /// Step 3: the heartbeat times out.
    fn times_out(&self, host: usize) {
        wait_for("the heartbeat's timeout", || {
            self.fleet.silence_ms(host).filter(|age| *age > TIMED_OUT_MS)
        });
    }

    fn runs(&self) -> [usize; 2] {
        [0, 1].map(|host| self.fleet.diary(host).runs)
    }

    fn permit(&self, host: usize) {
        wait_for("the fence", || (self.fleet.standing(host) == "fenced").then_some(()));
        self.fleet.service.json(&["group", "permit", "g", &format!("h{host}")]);
        wait_for("the standby", || (self.fleet.standing(host) == "standby").then_some(()));
    }

    fn is_ended(&self, host: usize) {
        wait_for("the end of the group there", || {
            self.fleet.marked(host).iter().all(|id| is_gone(*id)).then_some(())
        });
    }
}

/// The ideal case, a host that is cut off: first from the switch alone, then from everything.
fn a_host_is_cut_off(scene: &Scene) {
    let Scene { fleet, network, observer } = scene;
    let process = fleet.diary(0).process.unwrap();
    // 2. The cable between h0 and the switch is disconnected.
    network.link(Bridge::Switch, 0, false);
    // 3. Neither host hears the other.
    scene.times_out(0);
    scene.times_out(1);
    // 4. The tie-breaker would end h0's service, and yet it reaches the disk, and nobody gains by
    // a failover: h1 sees on the disk that the owner lives.
    pause(SETTLED_MS);
    fleet.still_writes(0, process);
    assert_eq!(scene.runs(), [1, 0]);
    // 4'. The other outcome: the disk is out of h0's reach as well, so it stops by itself, and h1,
    // which reaches the tie-breaker, survives.
    network.link(Bridge::Hub, 0, false);
    // 5. h1 performs a failover.
    fleet.writes(1, 0);
    let picture = observer.picture();
    // 6. The cables are back: the group is active in one place all the time.
    network.link(Bridge::Hub, 0, true);
    network.link(Bridge::Switch, 0, true);
    scene.is_ended(0);
    pause(300);
    observer.check(&picture, &fleet.diary(1));
    assert_eq!(scene.runs(), [1, 1]);
    scene.permit(0);
}

/// Who does not reach the tie-breaker does not take over, however silent the owner is.
fn nobody_survives_without_an_answer(scene: &Scene) {
    let Scene { fleet, network, .. } = scene;
    let process = fleet.diary(1).process.unwrap();
    network.link(Bridge::Switch, 0, false);
    scene.times_out(0);
    pause(SETTLED_MS);
    fleet.signal(1, Signal::STOP);
    pause(SETTLED_MS);
    let runs = scene.runs();
    fleet.signal(1, Signal::CONT);
    assert_eq!(runs, [1, 1], "h0 has no answer of the tie-breaker");
    fleet.still_writes(1, process);
    network.link(Bridge::Switch, 0, true);
    scene.hears(0);
}

/// The inconvenient case: the owner is a machine that was delayed, and goes on.
fn a_host_is_delayed(scene: &Scene) {
    let Scene { fleet, observer, .. } = scene;
    let delayed = fleet.diary(1);
    // 2. h1 is delayed: neither heartbeats nor I/O.
    fleet.signal(1, Signal::STOP);
    // 3., 4. h0 does not hear it, has the tie-breaker's answer, and takes the disk by a
    // reservation; 5. the group starts there.
    fleet.writes(0, 1);
    let picture = observer.picture();
    // 6. h1 goes on: its I/O does not reach the disk, and the group stays where it is.
    fleet.signal(1, Signal::CONT);
    scene.is_ended(1);
    pause(500);
    observer.check(&picture, &fleet.diary(0));
    let late = fleet.diary(1);
    let taken = late.acknowledged.len() - delayed.acknowledged.len();
    assert!(late.key == delayed.key && taken <= 64, "{taken} writes of a fenced host were taken");
    assert_eq!(scene.runs(), [2, 1]);
    wait_for("the fence", || (fleet.standing(1) == "fenced").then_some(()));
    fleet.still_writes(0, fleet.diary(0).process.unwrap());
}

#[test]
fn a_partition_and_a_delayed_host_leave_one_owner_and_its_data() {
    const TEST: &str = "partition::a_partition_and_a_delayed_host_leave_one_owner_and_its_data";
    if !network::is_inside() {
        // Without networks there is no partition.
        network::enter(TEST);
        return;
    }
    let scene = Scene::begin();
    a_host_is_cut_off(&scene);
    nobody_survives_without_an_answer(&scene);
    a_host_is_delayed(&scene);
}

/// The same without exclusive control, as a cluster does it that trusts its heartbeats: both write,
/// and the check that the test above relies on must say so.
#[test]
fn without_a_reservation_the_delayed_host_writes_on_and_the_check_says_so() {
    let stage = Stage::new();
    let writer = |host: usize, key: u64| {
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "the_command", "--nocapture"]);
        command.env(Orders::VARIABLE, stage.orders(host).encode());
        command.env("COMMONHOLD_GUARD_KEY", format!("{key:#x}"));
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        Killed(command.spawn().unwrap())
    };
    let first = writer(0, 0xA);
    stage.writes(0, 0);
    first.signal(Signal::STOP);
    let _second = writer(1, 0xB);
    stage.writes(1, 0);
    let (picture, owner) = (stage.picture(), stage.diary(1));
    first.signal(Signal::CONT);
    wait_for("a stale block", || observer::stale(&picture, &stage.picture(), &owner));
}

struct Killed(std::process::Child);

impl Killed {
    fn signal(&self, signal: Signal) {
        let id = rustix::process::Pid::from_raw(self.0.id().try_into().unwrap()).unwrap();
        rustix::process::kill_process(id, signal).unwrap();
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
