//! Case 9: who is told what by a change of reservations, each once and in order.

use anyhow::Result;

use super::client::{
    CLEAR, Client, GOOD, PREEMPT, PREEMPT_AND_ABORT, REGISTER, REGISTRANTS_ONLY, RELEASE,
    WRITE_EXCLUSIVE,
};
use super::{Found, World};

const PREEMPTED: (u8, u8) = (0x2A, 0x03);
const RELEASED: (u8, u8) = (0x2A, 0x04);
const REGISTRATION_PREEMPTED: (u8, u8) = (0x2A, 0x05);
const CLEARED: (u8, u8) = (0x2F, 0x00);

const KEYS: [u64; 3] = [0xA, 0xB, 0xC];

/// What is held by whom, what the first then does, and what the three are told.
struct Row {
    name: &'static str,
    holder: usize,
    kind: u8,
    /// Service action, type, and the key that it names.
    action: (u8, u8, u64),
    told: [&'static [(u8, u8)]; 3],
}

/// SPC-5 5.13.11.
const ROWS: [Row; 8] = [
    Row {
        name: "CLEAR",
        holder: 0,
        kind: REGISTRANTS_ONLY,
        action: (CLEAR, 0, 0),
        told: [&[], &[PREEMPTED], &[PREEMPTED]],
    },
    Row {
        name: "PREEMPT of a registrant",
        holder: 0,
        kind: REGISTRANTS_ONLY,
        action: (PREEMPT, REGISTRANTS_ONLY, 0xB),
        told: [&[], &[REGISTRATION_PREEMPTED], &[]],
    },
    Row {
        name: "PREEMPT of the holder, another type",
        holder: 1,
        kind: REGISTRANTS_ONLY,
        action: (PREEMPT, 6, 0xB),
        told: [&[], &[REGISTRATION_PREEMPTED], &[RELEASED]],
    },
    Row {
        name: "PREEMPT AND ABORT",
        holder: 1,
        kind: REGISTRANTS_ONLY,
        action: (PREEMPT_AND_ABORT, REGISTRANTS_ONLY, 0xB),
        told: [&[], &[REGISTRATION_PREEMPTED, CLEARED], &[]],
    },
    Row {
        name: "RELEASE of type 5",
        holder: 0,
        kind: REGISTRANTS_ONLY,
        action: (RELEASE, REGISTRANTS_ONLY, 0),
        told: [&[], &[RELEASED], &[RELEASED]],
    },
    Row {
        name: "RELEASE of type 1",
        holder: 0,
        kind: WRITE_EXCLUSIVE,
        action: (RELEASE, WRITE_EXCLUSIVE, 0),
        told: [&[], &[], &[]],
    },
    Row {
        name: "the holder of type 5 unregisters",
        holder: 0,
        kind: REGISTRANTS_ONLY,
        action: (REGISTER, 0, 0),
        told: [&[], &[RELEASED], &[RELEASED]],
    },
    Row {
        name: "the holder of type 1 unregisters",
        holder: 0,
        kind: WRITE_EXCLUSIVE,
        action: (REGISTER, 0, 0),
        told: [&[], &[], &[]],
    },
];

async fn wrong(row: &Row, clients: &[Client; 3]) -> Result<Option<String>> {
    for (client, key) in clients.iter().zip(KEYS) {
        client.register(key).await?;
    }
    clients[row.holder].reserve(KEYS[row.holder], row.kind).await?;
    let (action, kind, key) = row.action;
    let answer = clients[0].reserve_out(action, kind, (0xA, key), false).await?;
    if answer != GOOD {
        return Ok(Some(format!("{}: {}", row.name, super::client::name(answer))));
    }
    for ((client, told), who) in clients.iter().zip(row.told).zip(["A", "B", "C"]) {
        let found = client.attentions().await?;
        if found != told {
            let found = found.iter().map(|(asc, ascq)| format!("{asc:02X}h/{ascq:02X}h"));
            let found = found.collect::<Vec<_>>().join(", ");
            let found = if found.is_empty() { "nothing".to_owned() } else { found };
            return Ok(Some(format!("{}: {who} is told {found}", row.name)));
        }
    }
    Ok(None)
}

pub(super) async fn each_change_tells_whom_it_concerns(world: &World) -> Result<Found> {
    let mut list = Vec::new();
    for row in &ROWS {
        let clients =
            [world.login(1, 1).await?, world.login(2, 1).await?, world.login(3, 1).await?];
        list.extend(wrong(row, &clients).await?);
        world.clear().await?;
    }
    Ok(Found::unless(list, &format!("{0} of {0} changes as SPC-5 says", ROWS.len())))
}
