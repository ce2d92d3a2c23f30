//! CHAP: binary values, and logins by a peer that does not know the secret. The input is texts
//! that are separated by FFh; each goes out as one Login Request, whose flags are its first byte.
#![no_main]

use bytes::{Bytes, BytesMut};
use commonhold_fuzz::session::{self, Book};
use iscsi::chap;
use iscsi::outbox::Outbox;
use iscsi::pdu::{Header, Opcode};
use iscsi::target::Event;
use libfuzzer_sys::fuzz_target;

fn values(text: &str) {
    for value in text.split(['\0', '=']) {
        if let Some(algorithm) = chap::Algorithm::choose(value) {
            assert!(value.split(',').any(|number| number == algorithm.number().to_string()));
        }
        if let Some(bytes) = chap::decode(value) {
            assert!(!bytes.is_empty() && bytes.len() < value.len());
            assert_eq!(chap::decode(&chap::encode(&bytes)), Some(bytes));
        }
    }
}

fn request(flags: u8, text: &[u8]) -> BytesMut {
    let mut header = Header::new(Opcode::LoginRequest, flags);
    header.0[0] |= 0x40;
    header.0[8..14].copy_from_slice(&[0x80, 0, 0, 0, 0, 1]);
    header.0[19] = 1;
    let mut outbox = Outbox::default();
    outbox.push(header, &[], &[Bytes::copy_from_slice(text)]);
    outbox.pieces().iter().fold(BytesMut::new(), |mut bytes, piece| {
        bytes.extend_from_slice(piece);
        bytes
    })
}

fuzz_target!(|input: &[u8]| {
    let mut target = session::connection(session::settings(false));
    for text in input.split(|byte| *byte == 0xff) {
        let Some((flags, text)) = text.split_first() else { continue };
        if let Ok(text) = std::str::from_utf8(text) {
            values(text);
        }
        let mut events = Vec::new();
        let mut bytes = request(*flags, text);
        let received = target.receive(&mut bytes, &Book::chap(), &mut events);
        let opens = events.iter().any(|event| matches!(event, Event::SessionOpening { .. }));
        assert!(!opens && target.session().is_none(), "nobody comes in without the secret");
        if received.is_err() {
            assert!(target.finished());
            return;
        }
    }
});
