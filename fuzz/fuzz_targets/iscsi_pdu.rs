//! Bytes of a stream into PDUs, and headers into values. Knobs: digests, data limit (2 bytes),
//! size of the pieces in which the stream arrives.
#![no_main]

use bytes::{Bytes, BytesMut};
use iscsi::digest::Digests;
use iscsi::pdu::frame::{Frame, FrameError, Rules, Taken, take};
use iscsi::pdu::{Header, additional, command, data, login, logout, nop, notice};
use iscsi::pdu::{task_management, text};
use libfuzzer_sys::fuzz_target;

/// What a value says is what is decoded from its encoding.
macro_rules! same_again {
    ($header:expr, $($kind:ty),*) => {$({
        let value = <$kind>::decode($header);
        assert_eq!(<$kind>::decode(&value.encode()), value);
    })*};
}

fn decode(header: &Header) {
    same_again!(
        header,
        command::ScsiResponse,
        data::DataOut,
        data::DataIn,
        data::ReadyToTransfer,
        data::Snack,
        logout::LogoutRequest,
        logout::LogoutResponse,
        nop::NopOut,
        nop::NopIn,
        notice::Reject,
        notice::AsyncMessage,
        task_management::TaskManagementRequest,
        task_management::TaskManagementResponse,
        text::TextRequest,
        text::TextResponse
    );
    if let Some(value) = command::ScsiCommand::decode(header) {
        assert_eq!(command::ScsiCommand::decode(&value.encode()), Some(value));
    }
    // A next stage without the Transit bit means nothing and is not written: the second time it
    // has to stand.
    let value = login::LoginRequest::decode(&login::LoginRequest::decode(header).encode());
    assert_eq!(login::LoginRequest::decode(&value.encode()), value);
    let value = login::LoginResponse::decode(&login::LoginResponse::decode(header).encode());
    assert_eq!(login::LoginResponse::decode(&value.encode()), value);
}

fn check(frame: &Frame, rules: Rules) {
    assert_eq!(frame.data.len(), frame.header.data_bytes());
    assert!(frame.data.len() <= rules.data_bytes_max);
    assert_eq!(frame.ahs.len(), frame.header.ahs_bytes());
    decode(&frame.header);
    if let Some(found) = additional::Additional::decode(frame.ahs.clone()) {
        assert_eq!(additional::Additional::decode(found.encode()), Some(found));
    }
}

type Cut = (Vec<(Header, Bytes, Bytes, bool)>, Option<FrameError>);

/// The PDUs of a stream that arrives in pieces, and what ended it.
fn cut(stream: &[u8], piece: usize, rules: Rules) -> Cut {
    let (mut input, mut frames) = (BytesMut::new(), Vec::new());
    for part in stream.chunks(piece.max(1)) {
        input.extend_from_slice(part);
        loop {
            match take(&mut input, rules) {
                Ok(Taken::Whole(frame)) => {
                    check(&frame, rules);
                    frames.push((frame.header, frame.ahs, frame.data, frame.data_intact));
                }
                Ok(Taken::Missing(bytes)) => {
                    assert!(bytes > 0);
                    break;
                }
                Err(error) => return (frames, Some(error)),
            }
        }
    }
    (frames, None)
}

fuzz_target!(|input: &[u8]| {
    let Some((&[digests, high, low, piece], stream)) = input.split_first_chunk::<4>() else {
        return;
    };
    let digests = Digests { header: digests & 1 != 0, data: digests & 2 != 0 };
    let rules = Rules { digests, data_bytes_max: usize::from(u16::from_be_bytes([high, low])) };
    // Where the stream is cut changes nothing.
    let pieces = cut(stream, usize::from(piece), rules);
    assert_eq!(cut(stream, stream.len(), rules), pieces);
});
