//! The same questions for every target, from outside, over iSCSI alone: what must hold, and what
//! was found. Cases have the numbers of `docs/sceptic.md`; each begins with a server that nobody
//! has used before.

mod attentions;
mod client;
mod durable;
mod fencing;
mod identity;
mod strangers;
mod suite;

use anyhow::{Context, Result, bail, ensure};
use client::{CLEAR, Client, GOOD, name};
use tempfile::TempDir;

use crate::process::has_program;
use crate::report::{OURS, TGT};
use crate::servers::{self, Address, Hosts, Places, Running};
use crate::table::Grid;

const VOLUME_BYTES: u64 = 128 << 20;
const HOSTS: [&str; 3] = [
    "iqn.2026-11.org.example:host-1",
    "iqn.2026-11.org.example:host-2",
    "iqn.2026-11.org.example:host-3",
];
/// The two names of libiscsi's suite are one host.
const SUITE: [&str; 2] = [
    "iqn.2007-10.com.github:sahlberg:libiscsi:iscsi-test",
    "iqn.2007-10.com.github:sahlberg:libiscsi:iscsi-test-2",
];

/// What a target did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Found {
    pub(crate) holds: bool,
    pub(crate) told: String,
}

impl Found {
    fn new(holds: bool, told: impl Into<String>) -> Self {
        Self { holds, told: told.into() }
    }

    /// All is well unless something is in the list.
    fn unless(wrong: Vec<String>, well: &str) -> Self {
        let told = if wrong.is_empty() { well.to_owned() } else { wrong.join("; ") };
        Self { holds: wrong.is_empty(), told }
    }

    fn cell(&self) -> String {
        format!("{}: {}", if self.holds { "yes" } else { "**no**" }, self.told)
    }
}

/// A question.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Case {
    NothingLands,
    LateData,
    OthersGoOn,
    StrangersWrites,
    StrangersReads,
    SamePort,
    TwoPorts,
    KeptReservations,
    KeptWrites,
    AllRegistrants,
    Attentions,
    Types,
    SixteenAtOnce,
    FullStatus,
    Capabilities,
    Counters,
}

/// Number, and what must hold.
const CASES: [(Case, &str, &str); 16] = [
    (Case::NothingLands, "1", "no write of the victim lands after PREEMPT AND ABORT is answered"),
    (Case::LateData, "2", "data that the victim sends after that are dropped"),
    (Case::OthersGoOn, "3", "another registrant's commands are not disturbed by it"),
    (Case::StrangersWrites, "4", "a stranger writes and erases nothing: 18 commands, six types"),
    (Case::StrangersReads, "4", "a stranger reads under the types that allow it, and no others"),
    (Case::SamePort, "5", "who logs in again is who he was; another ISID is a stranger"),
    (Case::TwoPorts, "6", "two ports of one name are two"),
    (Case::KeptReservations, "7", "reservations with APTPL outlive kill -9"),
    (Case::AllRegistrants, "8", "an all-registrants reservation ends with the last registrant"),
    (Case::Attentions, "9", "each change tells whom it concerns, once, with the right code"),
    (Case::Types, "10", "the type counts for RELEASE and not for PREEMPT of a registrant"),
    (Case::SixteenAtOnce, "11", "16 paths register at the same time"),
    (Case::FullStatus, "-", "READ FULL STATUS names each registrant and the holder"),
    (Case::Capabilities, "-", "REPORT CAPABILITIES: persistence, other ports, all ports"),
    (Case::Counters, "-", "16 sessions count with COMPARE AND WRITE, exactly"),
    (Case::KeptWrites, "-", "writes with FUA outlive kill -9"),
];

/// A target with nothing reserved.
#[derive(Debug)]
pub(crate) struct World {
    places: Places,
    /// None: somebody else's target, which we cannot kill.
    running: Option<Running>,
    address: Address,
}

impl World {
    fn start(places: &Places, server: &str) -> Result<Self> {
        let home = tempfile::Builder::new().prefix("commonhold-compare-").tempdir()?;
        let running = start(places, server, home)?;
        let address = running.address.clone();
        Ok(Self { places: places.clone(), running: Some(running), address })
    }

    /// A session of this host from this port, its unit attentions taken.
    async fn login(&self, host: usize, port: u8) -> Result<Client> {
        let name = HOSTS.get(host - 1).context("no such host")?;
        let client = Client::connect(&self.address, name, port).await?;
        client.attentions().await?;
        Ok(client)
    }

    /// Nothing registered, nothing reserved.
    async fn clear(&self) -> Result<()> {
        const REGISTER_AND_IGNORE: u8 = 6;
        let client = self.login(1, 99).await?;
        for (action, keys) in [(REGISTER_AND_IGNORE, (0, 0xF)), (CLEAR, (0xF, 0))] {
            let answer = client.reserve_out(action, 0, keys, false).await?;
            ensure!(answer == GOOD, "clearing, service action {action}: {}", name(answer));
        }
        Ok(())
    }

    fn kill_and_restart(&mut self) -> Result<()> {
        let running = self.running.take().context("not ours to kill")?;
        let running = running.kill_and_restart(&self.places, VOLUME_BYTES)?;
        self.address = running.address.clone();
        self.running = Some(running);
        Ok(())
    }

    async fn ask(&mut self, case: Case) -> Result<Found> {
        match case {
            Case::NothingLands => fencing::nothing_lands_after_the_fence(self).await,
            Case::LateData => fencing::late_data_is_dropped(self).await,
            Case::OthersGoOn => fencing::others_go_on(self).await,
            Case::StrangersWrites => strangers::writes_nothing(self).await,
            Case::StrangersReads => strangers::reads_as_the_type_says(self).await,
            Case::SamePort => identity::the_same_port_comes_back(self).await,
            Case::TwoPorts => identity::two_ports_of_one_name(self).await,
            Case::KeptReservations => durable::reservations_outlive_a_kill(self).await,
            Case::KeptWrites => durable::writes_outlive_a_kill(self).await,
            Case::AllRegistrants => identity::all_registrants(self).await,
            Case::Attentions => attentions::each_change_tells_whom_it_concerns(self).await,
            Case::Types => identity::types_that_count_and_types_that_do_not(self).await,
            Case::SixteenAtOnce => identity::sixteen_at_once(self).await,
            Case::FullStatus => durable::full_status(self).await,
            Case::Capabilities => durable::capabilities(self).await,
            Case::Counters => durable::counters(self).await,
        }
    }
}

fn start(places: &Places, server: &str, home: TempDir) -> Result<Running> {
    match server {
        OURS => {
            let [one, two, three] = &HOSTS;
            let hosts = Hosts { initiators: &[&[one], &[two], &[three], &SUITE] };
            servers::start_ours(places, home, VOLUME_BYTES, hosts)
        }
        TGT => servers::start_tgt(places, home, VOLUME_BYTES, true),
        other => bail!("{other} is no iSCSI target"),
    }
}

/// `iscsi://host:port/target/lun`, without credentials.
pub(crate) fn parse_url(url: &str) -> Option<Address> {
    let mut parts = url.strip_prefix("iscsi://")?.splitn(3, '/');
    let (portal, target, lun) = (parts.next()?, parts.next()?, parts.next()?.parse().ok()?);
    let (portal, target) = (portal.to_owned(), target.to_owned());
    portal.contains(':').then_some(Address::Iscsi { portal, target, lun })
}

/// What was found, and what of it we did not hold ourselves.
pub(crate) struct Comparison {
    pub(crate) grid: Grid,
    pub(crate) broken: Vec<String>,
}

/// Ask all targets everything. `urls`: further targets, whose data are destroyed.
pub(crate) async fn run(urls: &[String], with_suite: bool) -> Result<Comparison> {
    let places = Places::find()?;
    let mut names = vec![OURS.to_owned()];
    if has_program("tgtd") {
        names.push(TGT.to_owned());
    } else {
        eprintln!("tgt is left out: tgtd is not installed (Debian: tgt)");
    }
    names.extend(urls.iter().cloned());
    let mut rows: Vec<Vec<String>> = CASES
        .iter()
        .map(|(_, number, holds)| vec![(*number).to_owned(), (*holds).to_owned()])
        .collect();
    let mut broken = Vec::new();
    let mut suites = vec!["-".to_owned(), "libiscsi's suite, one process per test".to_owned()];
    for name in &names {
        for (row, (case, ..)) in rows.iter_mut().zip(CASES) {
            let found = ask(&places, name, case).await;
            let broke_off = |why| Found::new(false, format!("it broke off: {why:#}"));
            let found = found.unwrap_or_else(broke_off);
            if name == OURS && !found.holds {
                broken.push(row[1].clone());
            }
            eprintln!("{name}: {}: {}", row[1], found.cell());
            row.push(found.cell());
        }
        if with_suite {
            let world = world(&places, name)?;
            let found = suite::run(&places, &world.address).await?;
            let cell = found.map_or_else(|| "not installed".to_owned(), |found| found.told);
            eprintln!("{name}: {}: {cell}", suites[1]);
            suites.push(cell);
        }
    }
    if with_suite {
        rows.push(suites);
    }
    let mut head = vec!["case".to_owned(), "what must hold".to_owned()];
    head.extend(names);
    let numbers_from = head.len();
    Ok(Comparison { grid: Grid { head, rows, numbers_from }, broken })
}

fn world(places: &Places, name: &str) -> Result<World> {
    if let Some(address) = parse_url(name) {
        return Ok(World { places: places.clone(), running: None, address });
    }
    World::start(places, name)
}

async fn ask(places: &Places, name: &str, case: Case) -> Result<Found> {
    let mut world = world(places, name)?;
    if world.running.is_none() {
        world.clear().await?;
    }
    world.ask(case).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_portal_target_and_lun() {
        let address = Address::Iscsi {
            portal: "127.0.0.1:3260".into(),
            target: "iqn.2001-04.org.example:a".into(),
            lun: 1,
        };
        assert_eq!(parse_url("iscsi://127.0.0.1:3260/iqn.2001-04.org.example:a/1"), Some(address));
        for url in ["", "iscsi://", "iscsi://a/b/0", "http://a:1/b/0", "iscsi://a:1/b/x"] {
            assert_eq!(parse_url(url), None, "{url}");
        }
    }

    #[test]
    fn a_finding_says_yes_or_no_first() {
        assert_eq!(Found::unless(Vec::new(), "all").cell(), "yes: all");
        let wrong = vec!["a".to_owned(), "b".to_owned()];
        assert_eq!(Found::unless(wrong, "all").cell(), "**no**: a; b");
    }
}
