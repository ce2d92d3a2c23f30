//! What the client reads of a service's answers, and what a node reads of its own last orders.
//! The first byte chooses the value; 0 tries all of them.
#![no_main]

use api::{
    attachment, error, event, export, host, network, node, operation, page, pool, project,
    reference, reservation, snapshot, token, user, volume, volume_type,
};
use commonhold_fuzz::json::read;
use libfuzzer_sys::fuzz_target;
use model::order;

const ANSWERS: &[fn(&[u8])] = &[
    read::<attachment::CreatedAttachments>,
    read::<attachment::Attachment>,
    read::<attachment::Fenced>,
    read::<event::Event>,
    read::<host::Host>,
    read::<node::Health>,
    read::<operation::Operation>,
    read::<page::Page<volume::Volume>>,
    read::<page::Page<event::Event>>,
    read::<pool::Pool>,
    read::<project::Project>,
    read::<reservation::Reservations>,
    read::<snapshot::Snapshot>,
    read::<token::CreatedToken>,
    read::<user::WhoAmI>,
    read::<volume::Volume>,
    read::<volume_type::VolumeType>,
    read::<order::Access>,
    // Its details are any JSON, fractions too, which are not the same to the last bit.
    |body| drop(serde_json::from_slice::<error::ErrorBody>(body)),
    read::<network::Network>,
    read::<export::Export>,
    read::<reference::Reference>,
];

fuzz_target!(|input: &[u8]| {
    let Some((which, body)) = input.split_first() else { return };
    match ANSWERS.get(usize::from(*which).wrapping_sub(1)) {
        Some(answer) => answer(body),
        None => ANSWERS.iter().for_each(|answer| answer(body)),
    }
});
