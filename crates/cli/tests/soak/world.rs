//! The service, its volumes, and the hosts that sit at them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use api::attachment::{CreateAttachments, Mode};
use api::host::CreateHost;
use api::pool::CreatePool;
use api::volume::CreateVolume;
use api::volume_type::{CreateGrant, CreateVolumeType};
use api::{ApiError, Client, Size};
use host::{Credentials, HostError, Initiator, LogicalUnit, Options};
use model::size::ByteSize;
use tokio::task::JoinHandle;

use crate::dice::Dice;
use crate::lane::{End, Figures, Lane};
use crate::ledger::{BLOCK, Bounds, Ledger};
use crate::service::Service;
use crate::watch::LogWatch;

pub(crate) const HOSTS: usize = 4;
pub(crate) const LANES_PER_HOST: usize = 2;
/// The pool that is to be full, and its class and type.
pub(crate) const TINY: &str = "tiny";
const TINY_BYTES: u64 = 14 << 20;
pub(crate) const MULTI: &str = "ssd-multiattach";
pub(crate) const SINGLE: &str = "ssd";
/// Blocks of one READ when a whole volume is checked.
const READ_BLOCKS: usize = 2048;
/// Longest wait for anything that the service does in the background.
const SETTLE_LIMIT: Duration = Duration::from_secs(60);

/// What went wrong, as a sentence.
pub(crate) type Told<T> = Result<T, String>;

/// A snapshot and what it may hold.
pub(crate) struct Picture {
    pub(crate) name: String,
    pub(crate) bounds: Bounds,
}

/// One attachment, with the session and the load of its host.
pub(crate) struct Seat {
    pub(crate) attachment: String,
    pub(crate) read_only: bool,
    target: String,
    credentials: Credentials,
    pub(crate) session: Initiator,
    pub(crate) unit: LogicalUnit,
    halt: Arc<AtomicBool>,
    lanes: Vec<JoinHandle<Told<End>>>,
}

/// One volume and all that is known of it.
pub(crate) struct Shelf {
    pub(crate) name: String,
    pub(crate) multiattach: bool,
    pub(crate) ledger: Arc<Mutex<Ledger>>,
    /// What the content must be when a host sees it next, where the ledger cannot say.
    pub(crate) pending: Option<Bounds>,
    pub(crate) seats: BTreeMap<usize, Seat>,
    pub(crate) pictures: Vec<Picture>,
    /// The hosts that are registered, all of them to last through a loss of power.
    pub(crate) registered: BTreeSet<usize>,
}

pub(crate) struct World {
    pub(crate) service: Option<Service>,
    pub(crate) client: Client,
    token: String,
    pub(crate) dice: Dice,
    pub(crate) shelves: Vec<Shelf>,
    pub(crate) figures: Arc<Figures>,
    pub(crate) log: LogWatch,
    /// Names are never used twice.
    names: u64,
}

pub(crate) fn iqn(host: usize) -> String {
    format!("iqn.2026-11.org.example:soak-{host}")
}

fn size(bytes: u64) -> Option<Size> {
    Some(Size(ByteSize(bytes)))
}

/// What the service refused, with the hint.
pub(crate) fn told(error: ApiError) -> String {
    format!("{} ({}): {:?}", error.message, error.code, error.hint)
}

/// Look again and again until there is an answer.
pub(crate) async fn until<T, F>(what: &str, look: impl Fn() -> F) -> Told<T>
where
    F: Future<Output = Told<Option<T>>>,
{
    let limit = Instant::now() + SETTLE_LIMIT;
    loop {
        if let Some(found) = look().await? {
            return Ok(found);
        }
        if Instant::now() > limit {
            return Err(format!("{what}: not within {SETTLE_LIMIT:?}"));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

impl World {
    pub(crate) async fn start(seed: u64) -> Told<Self> {
        let service = Service::start();
        let token = service.token.clone().ok_or("the first start shows no token")?;
        let client = Client::new(&service.url, Some(token.clone())).map_err(told)?;
        let path = service.path(TINY).display().to_string();
        let mut world = Self {
            service: Some(service),
            client,
            token,
            dice: Dice(seed),
            shelves: Vec::new(),
            figures: Arc::default(),
            log: LogWatch::default(),
            names: 0,
        };
        world.prepare(path).await.map_err(told)?;
        let client = world.client.clone();
        until("the small pool opens", || async {
            let pool = client.pool_show(TINY).await.map_err(told)?;
            Ok((pool.state == "online" && pool.usage.is_some()).then_some(()))
        })
        .await?;
        for (name, of_type, bytes) in [
            ("a", MULTI, 16 << 20),
            ("b", MULTI, 12 << 20),
            ("single", SINGLE, 8 << 20),
            (TINY, TINY, 12 << 20),
        ] {
            world.volume_create(name, of_type, bytes).await?;
        }
        Ok(world)
    }

    async fn prepare(&mut self, path: String) -> Result<(), ApiError> {
        let client = &self.client;
        for host in 0..HOSTS {
            let body = CreateHost {
                name: format!("h{host}"),
                initiators: vec![iqn(host)],
                ..CreateHost::default()
            };
            client.host_create(&body).await?;
        }
        let (name, class) = (TINY.to_owned(), TINY.to_owned());
        let pool = CreatePool { name, class, path, capacity: size(TINY_BYTES), ..<_>::default() };
        client.pool_create(&pool).await?;
        let (name, class) = (TINY.to_owned(), TINY.to_owned());
        let of_type = CreateVolumeType { name, class, multiattach: true, ..<_>::default() };
        client.volume_type_create(&of_type).await?;
        for name in [MULTI, TINY] {
            let grant = CreateGrant { project: "default".into(), acknowledge_data_loss: true };
            client.grant_create(name, &grant).await?;
        }
        Ok(())
    }

    pub(crate) fn service(&self) -> &Service {
        self.service.as_ref().expect("it runs, but for the moment of a restart")
    }

    pub(crate) fn new_name(&mut self, word: &str) -> String {
        self.names += 1;
        format!("{word}{}", self.names)
    }

    async fn volume_create(&mut self, name: &str, of_type: &str, bytes: u64) -> Told<()> {
        let body = CreateVolume {
            name: name.to_owned(),
            size: size(bytes),
            volume_type: Some(of_type.to_owned()),
            ..CreateVolume::default()
        };
        self.client.volume_create(&body).await.map_err(told)?;
        self.volume_rests(name).await?;
        let shelf = Shelf::new(self.names, name, of_type != SINGLE, bytes);
        self.names += 1;
        self.shelves.push(shelf);
        Ok(())
    }

    /// Wait until nothing is done to the volume any more; its size in bytes.
    pub(crate) async fn volume_rests(&self, name: &str) -> Told<u64> {
        until(&format!("the volume {name} rests"), || async {
            let volume = self.client.volume_show(name).await.map_err(told)?;
            match volume.status.as_str() {
                "error" => Err(format!("the volume {name} is in error: {:?}", volume.fault)),
                "available" | "in-use" => Ok(Some(volume.size_bytes)),
                _ => Ok(None),
            }
        })
        .await
    }

    /// Attach, log in, and start the load.
    pub(crate) async fn attach(&mut self, index: usize, host: usize, read_only: bool) -> Told<()> {
        let shelf = &self.shelves[index];
        let body = CreateAttachments {
            volume: shelf.name.clone(),
            hosts: vec![format!("h{host}")],
            mode: if read_only { Mode::ReadOnly } else { Mode::ReadWrite },
            accept_data_loss: false,
        };
        let made = self.client.attachment_create(&body).await.map_err(told)?;
        let made = made.attachments.into_iter().next().ok_or("no attachment in the answer")?;
        let id = made.attachment.id.to_string();
        let connection = until("the attachment is there", || async {
            let now = self.client.attachment_show(&id).await.map_err(told)?;
            match now.state.as_str() {
                "attached" => Ok(now.connection),
                "attaching" => Ok(None),
                other => Err(format!("the attachment is {other}: {:?}", now.fault)),
            }
        })
        .await?;
        let chap = made.credentials.ok_or("no credentials in the answer")?;
        let credentials = Credentials { user: chap.user, secret: chap.secret };
        let portal = self.service().portal.clone();
        let (session, unit) = log_in(&portal, host, &connection.target, &credentials).await?;
        let seat = Seat {
            attachment: id,
            read_only,
            target: connection.target,
            credentials,
            session,
            unit,
            halt: Arc::default(),
            lanes: Vec::new(),
        };
        self.shelves[index].seats.insert(host, seat);
        self.admit(index).await?;
        self.start_lanes(index, host);
        Ok(())
    }

    /// Log in again, after the session was lost.
    pub(crate) async fn log_in_again(&mut self, index: usize, host: usize) -> Told<()> {
        let portal = self.service().portal.clone();
        let seat = self.shelves[index].seats.get_mut(&host).ok_or("no such seat")?;
        let opened = log_in(&portal, host, &seat.target, &seat.credentials).await?;
        (seat.session, seat.unit) = opened;
        Ok(())
    }

    /// The credentials of a host that was fenced open nothing any more.
    pub(crate) async fn must_be_out(&self, host: usize, seat: &Seat) -> Told<()> {
        match log_in(&self.service().portal, host, &seat.target, &seat.credentials).await {
            Err(why) if why.contains("refused with status 02") => Ok(()),
            Err(why) => Err(format!("a fenced host got another answer than a refusal: {why}")),
            Ok(_) => Err("a fenced host could log in".into()),
        }
    }

    /// Check the whole content, where only a picture says what it must be.
    pub(crate) async fn admit(&mut self, index: usize) -> Told<()> {
        let shelf = &mut self.shelves[index];
        let Some(bounds) = shelf.pending.take() else { return Ok(()) };
        let seat = shelf.seats.values().next().ok_or("nobody sits there")?;
        let content = whole(&seat.unit, bounds.blocks()).await?;
        let found = bounds.check(&content).map_err(|why| format!("{}: {why}", shelf.name))?;
        shelf.ledger.lock().unwrap().become_picture(&bounds, found);
        Ok(())
    }

    pub(crate) fn lane(&mut self, index: usize, host: usize, number: usize, by: usize) -> Lane {
        let dice = Dice(u64::try_from(self.dice.below(1 << 40)).expect("it is small"));
        let shelf = &self.shelves[index];
        let seat = &shelf.seats[&by];
        Lane {
            name: format!("lane {number} of h{host} at {}", shelf.name),
            unit: seat.unit.clone(),
            ledger: Arc::clone(&shelf.ledger),
            number: host * LANES_PER_HOST + number,
            lanes: HOSTS * LANES_PER_HOST,
            read_only: seat.read_only,
            dice,
            halt: Arc::clone(&seat.halt),
            figures: Arc::clone(&self.figures),
        }
    }

    pub(crate) fn start_lanes(&mut self, index: usize, host: usize) {
        if let Some(seat) = self.shelves[index].seats.get_mut(&host) {
            seat.halt = Arc::default();
        }
        let lanes: Vec<Lane> =
            (0..LANES_PER_HOST).map(|number| self.lane(index, host, number, host)).collect();
        if let Some(seat) = self.shelves[index].seats.get_mut(&host) {
            seat.lanes = lanes.into_iter().map(|lane| tokio::spawn(lane.run())).collect();
        }
    }

    /// Let the load of one host come to its end.
    pub(crate) async fn stop_lanes(&mut self, index: usize, host: usize) -> Told<()> {
        let Some(seat) = self.shelves[index].seats.get_mut(&host) else { return Ok(()) };
        seat.stop(End::Asked).await
    }

    /// A client of the service as it runs now.
    pub(crate) fn connect(&mut self) -> Told<()> {
        self.client = Client::new(&self.service().url, Some(self.token.clone())).map_err(told)?;
        Ok(())
    }
}

impl Shelf {
    pub(crate) fn new(number: u64, name: &str, multiattach: bool, bytes: u64) -> Self {
        let blocks = usize::try_from(bytes).expect("it is small") / BLOCK;
        Self {
            name: name.to_owned(),
            multiattach,
            ledger: Arc::new(Mutex::new(Ledger::of_volume(number, blocks))),
            pending: None,
            seats: BTreeMap::new(),
            pictures: Vec::new(),
            registered: BTreeSet::new(),
        }
    }

    pub(crate) fn blocks(&self) -> usize {
        self.ledger.lock().unwrap().blocks()
    }

    pub(crate) fn writers(&self) -> usize {
        self.seats.values().filter(|seat| !seat.read_only).count()
    }
}

impl Seat {
    /// Wait for the lanes; each must have come to this end.
    pub(crate) async fn stop(&mut self, expected: End) -> Told<()> {
        if expected == End::Asked {
            self.halt.store(true, std::sync::atomic::Ordering::Relaxed);
        }
        for lane in self.lanes.drain(..) {
            let limit = tokio::time::timeout(SETTLE_LIMIT, lane).await;
            let ended = limit.map_err(|_| "a lane does not end")?;
            let ended = ended.map_err(|error| error.to_string())??;
            if ended != expected {
                return Err(format!("a lane ended with {ended:?} instead of {expected:?}"));
            }
        }
        Ok(())
    }
}

async fn log_in(
    portal: &str,
    host: usize,
    target: &str,
    credentials: &Credentials,
) -> Told<(Initiator, LogicalUnit)> {
    let mut options = Options::new(iqn(host), Some(target.to_owned()));
    options.chap = Some(credentials.clone());
    let failed = |error: HostError| format!("h{host} at {target}: {error}");
    let session = Initiator::connect(portal, options).await.map_err(failed)?;
    let unit = LogicalUnit::open(&session, 0).await.map_err(failed)?;
    Ok((session, unit))
}

/// The first blocks of a volume.
pub(crate) async fn whole(unit: &LogicalUnit, blocks: usize) -> Told<Vec<u8>> {
    let mut content = Vec::with_capacity(blocks * BLOCK);
    for lba in (0..blocks).step_by(READ_BLOCKS) {
        let count = u32::try_from(READ_BLOCKS.min(blocks - lba)).expect("it is small");
        let lba = u64::try_from(lba).expect("it is small");
        let data = past_attentions(|| unit.read(lba, count)).await;
        content.extend_from_slice(&data.map_err(|error| format!("READ at {lba}: {error}"))?);
    }
    Ok(content)
}

/// Run a command until its end is no unit attention.
pub(crate) async fn past_attentions<T, F>(command: impl Fn() -> F) -> Result<T, HostError>
where
    F: Future<Output = Result<T, HostError>>,
{
    loop {
        match command().await {
            Err(HostError::Status { key: 6, .. }) => {}
            other => return other,
        }
    }
}
