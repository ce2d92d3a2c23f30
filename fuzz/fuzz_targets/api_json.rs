//! Bodies of the REST door's requests, and sizes as people write them. The first byte chooses the
//! request; 0 tries all of them.
#![no_main]

use api::{
    attachment, export, host, network, pool, project, reference, reservation, snapshot, token,
    user, volume, volume_type,
};
use commonhold_fuzz::json::read;
use libfuzzer_sys::fuzz_target;
use model::size::ByteSize;

const REQUESTS: &[fn(&[u8])] = &[
    read::<attachment::CreateAttachments>,
    read::<host::CreateHost>,
    read::<host::UpdateHost>,
    read::<pool::CreatePool>,
    read::<pool::UpdatePool>,
    read::<project::CreateProject>,
    read::<project::UpdateProject>,
    read::<reservation::ReservationChange>,
    read::<snapshot::CreateSnapshot>,
    read::<snapshot::UpdateSnapshot>,
    read::<token::CreateToken>,
    read::<user::CreateUser>,
    read::<user::UpdateUser>,
    read::<volume::CreateVolume>,
    read::<volume::UpdateVolume>,
    read::<volume::ResizeVolume>,
    read::<volume::DeleteVolume>,
    read::<volume::RetypeVolume>,
    read::<volume::RevertVolume>,
    read::<volume::ExportVolume>,
    read::<volume_type::CreateVolumeType>,
    read::<volume_type::UpdateVolumeType>,
    read::<volume_type::CreateGrant>,
    read::<attachment::UpdateAttachment>,
    read::<token::UpdateToken>,
    read::<attachment::AttachmentQuery>,
    read::<volume::VolumeQuery>,
    read::<network::CreateNetwork>,
    read::<network::UpdateNetwork>,
    read::<export::UpdateExport>,
    read::<reference::CreateReference>,
];

fn size(text: &str) {
    let Ok(size) = text.parse::<ByteSize>() else { return };
    assert_eq!(size.bytes().to_string().parse(), Ok(size));
    assert!(size.gib_ceil() >= size.bytes() >> 30);
    // What is shown is a size too; it is exact where it shows no fraction.
    let shown = size.to_string();
    if !shown.contains('.') {
        assert_eq!(shown.parse(), Ok(size), "{shown}");
    }
    let json = serde_json::to_string(text).expect("a text can be written");
    let read: api::Size = serde_json::from_str(&json).expect("a size in a request");
    assert_eq!(read.0, size);
}

fuzz_target!(|input: &[u8]| {
    let Some((which, body)) = input.split_first() else { return };
    match REQUESTS.get(usize::from(*which).wrapping_sub(1)) {
        Some(request) => request(body),
        None => REQUESTS.iter().for_each(|request| request(body)),
    }
    if let Ok(text) = std::str::from_utf8(body) {
        size(text);
    }
});
