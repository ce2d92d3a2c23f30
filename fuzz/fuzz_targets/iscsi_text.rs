//! Texts into pairs, and pairs into what both sides agree on. Knobs: 16 bytes of our own offer,
//! size of the segments in which the text arrives.
#![no_main]

use arbitrary::Unstructured;
use iscsi::keys::text::{Gathering, Pair, append, number, parse, parse_list};
use iscsi::keys::{Negotiation, Offer, Parameters, Proposal};
use iscsi::name;
use libfuzzer_sys::fuzz_target;

const TEXT_BYTES_MAX: usize = 4096;
const SEGMENT_BYTES: std::ops::RangeInclusive<u32> = 512..=(1 << 24) - 1;

fn offer(knobs: &mut Unstructured<'_>) -> arbitrary::Result<Offer> {
    const DIGESTS: [&[&str]; 4] =
        [&["None"], &["None", "CRC32C"], &["CRC32C", "None"], &["CRC32C"]];
    let flags: u8 = knobs.arbitrary()?;
    let mut bytes = || -> arbitrary::Result<u32> {
        Ok((knobs.arbitrary::<u32>()? & 0xff_ffff).max(*SEGMENT_BYTES.start()))
    };
    let (max_recv_bytes, max_burst_bytes, first) = (bytes()?, bytes()?, bytes()?);
    Ok(Offer {
        header_digest: DIGESTS[usize::from(flags & 3)],
        data_digest: DIGESTS[usize::from(flags >> 2 & 3)],
        initial_r2t: flags & 16 != 0,
        immediate_data: flags & 32 != 0,
        max_recv_bytes,
        max_burst_bytes,
        first_burst_bytes: first.min(max_burst_bytes),
        max_outstanding_r2t: u16::from(knobs.arbitrary::<u8>()?) + 1,
        time2wait_s: 2,
        time2retain_s: 0,
    })
}

/// What is agreed lies within the standard's ranges and our own limits.
fn check(parameters: &Parameters, offer: &Offer) {
    let standard = Parameters::default();
    assert!(SEGMENT_BYTES.contains(&parameters.peer_max_recv_bytes));
    assert!(SEGMENT_BYTES.contains(&parameters.max_burst_bytes));
    assert!(SEGMENT_BYTES.contains(&parameters.first_burst_bytes));
    assert!(parameters.max_burst_bytes <= offer.max_burst_bytes.max(standard.max_burst_bytes));
    assert!(parameters.first_burst_bytes() <= parameters.max_burst_bytes);
    assert!((1..=65_535).contains(&parameters.max_outstanding_r2t));
    assert!(parameters.max_outstanding_r2t <= u32::from(offer.max_outstanding_r2t));
    assert_eq!((parameters.recovery_level, parameters.max_connections), (0, 1));
    for (agreed, ours) in [
        (parameters.header_digest, offer.header_digest),
        (parameters.data_digest, offer.data_digest),
    ] {
        assert!(agreed == "None" || ours.contains(&agreed));
    }
}

fn write(pairs: &[Pair]) -> Vec<u8> {
    let mut text = Vec::new();
    pairs.iter().for_each(|(key, value)| append(&mut text, key, value));
    text
}

fn respond(pairs: &[Pair], offer: Offer, discovery: bool) {
    let mut negotiation = Negotiation::new(offer, discovery);
    let mut reply = Vec::new();
    if negotiation.answer(pairs, &mut reply).is_ok() {
        parse(&reply).expect("an answer can be read, and has each key once");
        assert!(negotiation.answer(pairs, &mut Vec::new()).is_err() || !has_negotiated(pairs));
    }
    check(negotiation.parameters(), &offer);
    assert!(reply.len() <= 64 + write(pairs).len() * 16, "an answer is about as long as its text");
    let mut negotiation = Negotiation::new(offer, discovery);
    for (key, _) in pairs {
        let _ = negotiation.answer_in_security(key, &mut Vec::new());
    }
}

/// Whether a key is there that may come but once in a login.
fn has_negotiated(pairs: &[Pair]) -> bool {
    pairs.iter().any(|(key, _)| iscsi::keys::table::find(key).is_some())
}

/// Two sides that keep the rules agree on the same.
fn agree(ours: Offer, theirs: Offer) {
    let (mut proposal, mut negotiation) = (Proposal::new(theirs), Negotiation::new(ours, false));
    let (offered, mut reply) = (proposal.text(false), Vec::new());
    let pairs = parse(&offered).expect("an offer can be read");
    negotiation.answer(&pairs, &mut reply).expect("an offer can be answered");
    let answers = parse(&reply).expect("an answer can be read");
    // Digests can have nothing in common, which ends the login.
    if proposal.take(&answers).is_ok() {
        let told = Parameters { peer_max_recv_bytes: 0, ..*proposal.parameters() };
        assert_eq!(told, Parameters { peer_max_recv_bytes: 0, ..*negotiation.parameters() });
    }
}

fuzz_target!(|input: &[u8]| {
    let mut knobs = Unstructured::new(input);
    let (Ok(ours), Ok(theirs)) = (offer(&mut knobs), offer(&mut knobs)) else { return };
    let Ok(segment) = knobs.arbitrary::<u8>() else { return };
    let text = knobs.take_rest();
    agree(ours, theirs);

    let list = parse_list(text);
    let pairs = parse(text);
    if let Ok(pairs) = &list {
        assert_eq!(parse_list(&write(pairs)).as_ref(), Ok(pairs));
        for (_, value) in pairs {
            if let Some(number) = number(value) {
                assert_eq!(iscsi::keys::text::number(&number.to_string()), Some(number));
            }
            if let Ok(normal) = name::normalize(value) {
                assert!(normal.len() <= name::NAME_BYTES_MAX);
                assert_eq!(name::normalize(&normal).as_ref(), Ok(&normal));
            }
        }
    }
    if let Ok(pairs) = &pairs {
        respond(pairs, ours, segment & 1 != 0);
        let mut proposal = Proposal::new(theirs);
        let _ = proposal.take(pairs);
        check(proposal.parameters(), &theirs);
    }

    let mut gathering = Gathering::new(TEXT_BYTES_MAX);
    for part in text.chunks(usize::from(segment).max(1)) {
        if gathering.add(part, true).is_err() {
            assert!(text.len() > TEXT_BYTES_MAX);
            return;
        }
    }
    assert_eq!(gathering.add(&[], false).map(Option::unwrap_or_default), pairs);
});
