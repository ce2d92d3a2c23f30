//! The file service over loopback and a file system in memory, so that suites of others (pynfs,
//! the tools of libnfs) can be run against it without a control plane. Nothing is on disk.
//!
//! `cargo run -p node --example serve -- PORT [LEASE_SECONDS]`, then for example
//! `nfs-ls 'nfs://127.0.0.1/export?nfsport=PORT&mountport=PORT'` or
//! `testserver.py 127.0.0.1:PORT/export --maketree all`.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use bytes::Bytes;
use nfs::export::{Export, NOBODY, Network, Rule, Squash};
use nfs::handle::FileSystemId;
use nfs::memory::{Forgotten, Memory};
use node::files::{FileService, FileSettings, Kept, Served};

fn export() -> Served<Memory> {
    let anywhere = Network { address: IpAddr::V4(Ipv4Addr::UNSPECIFIED), prefix_bits: 0 };
    let anonymous = (NOBODY, NOBODY);
    let rule = Rule { network: anywhere, read_only: false, squash: Squash::None, anonymous };
    let export = Export {
        file_system: FileSystemId(*b"served in memory"),
        keys: None,
        path: vec![Bytes::from_static(b"export")],
        store: Memory::new(1_700_000_000, 1 << 30),
        rules: vec![rule],
    };
    Served { export, portals: Vec::new() }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let port: u16 = arguments.next().map_or(Ok(20_490), |text| text.parse())?;
    let lease_seconds: u64 = arguments.next().map_or(Ok(60), |text| text.parse())?;
    let lease_ms = lease_seconds * 1000;
    let portals = vec![(Ipv4Addr::LOCALHOST, port).into()];
    let settings = FileSettings { portals, lease_ms, grace_ms: lease_ms, ..Default::default() };
    let (clients, records) = (Vec::new(), Box::new(Forgotten));
    let kept = Kept { secret: [7; 32], boot: std::process::id(), clients, records };
    let service = FileService::start(settings, kept, Arc::new(env::RealClock::default()))?;
    service.serve(&[export()], &[]).await?;
    service.open()?;
    std::future::pending::<()>().await;
    Ok(())
}
