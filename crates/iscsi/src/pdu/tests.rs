//! Headers written by hand from the figures of RFC 7143 section 11, so that both of our sides
//! cannot share a mistake, and properties over any bytes.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::additional::Additional;
use super::command::{Attribute, ScsiCommand, ScsiResponse};
use super::data::{DataIn, DataOut, ReadyToTransfer, Snack};
use super::frame::{FrameError, Rules, Taken, take};
use super::login::{LoginRequest, LoginResponse, LoginStatus, Stage};
use super::logout::{LogoutReason, LogoutRequest, LogoutResponse, LogoutResult};
use super::nop::{NopIn, NopOut};
use super::notice::{AsyncEvent, AsyncMessage, Reject, RejectReason};
use super::task_management::{
    TaskManagementRequest, TaskManagementResponse, TmfFunction, TmfResponse,
};
use super::text::{TextRequest, TextResponse};
use super::{Header, NO_TAG, Numbers, Opcode, Residual};
use crate::digest::{Digests, crc32c};
use crate::outbox::Outbox;

/// 48 bytes from hexadecimal digits; blanks are for the reader.
fn hex(text: &str) -> Header {
    let digits: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let bytes: Vec<u8> = (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
        .collect();
    Header(bytes.try_into().unwrap())
}

const NUMBERS: Numbers = Numbers { stat_sn: 0x21, exp_cmd_sn: 0x31, max_cmd_sn: 0x41 };

#[test]
fn commands_by_hand() {
    let write =
        hex("01 a1 0000 00 000000  0001000000000000  0000002a  00001000  00000007  00000009
         2a00 0000 0010 0000 0800 000000000000");
    let value = ScsiCommand {
        immediate: false,
        final_: true,
        read: false,
        write: true,
        attribute: Attribute::Simple,
        lun: 0x0001_0000_0000_0000,
        itt: 0x2a,
        expected_bytes: 4096,
        cmd_sn: 7,
        exp_stat_sn: 9,
        cdb: [0x2a, 0, 0, 0, 0, 0x10, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0],
    };
    assert_eq!(value.encode(), write);
    assert_eq!(ScsiCommand::decode(&write), Some(value));

    let response =
        hex("21 82 00 02 00 000000  0000000000000000  0000002a  00000000  00000021  00000031
         00000041  00000003  00000000  00000200");
    let value = ScsiResponse {
        status: 2,
        itt: 0x2a,
        numbers: NUMBERS,
        exp_data_sn: 3,
        residual: Residual::Under(512),
        ..ScsiResponse::default()
    };
    assert_eq!(value.encode(), response);
    assert_eq!(ScsiResponse::decode(&response), value);
    let both =
        hex("21 94 00 00 00 000000  0000000000000000  0000002a  00000000  00000021  00000031
         00000041  00000003  00000005  00000200");
    let value = ScsiResponse {
        status: 0,
        residual: Residual::Over(512),
        read_residual: Residual::Over(5),
        ..value
    };
    assert_eq!(value.encode(), both);
    assert_eq!(ScsiResponse::decode(&both), value);
}

#[test]
fn data_by_hand() {
    let out = hex("05 80 0000 00 000000  0002000000000000  0000002a  00000011  00000000  00000009
         00000000  00000003  00002000  00000000");
    let value = DataOut {
        final_: true,
        lun: 2 << 48,
        itt: 0x2a,
        ttt: 0x11,
        exp_stat_sn: 9,
        data_sn: 3,
        offset: 0x2000,
    };
    assert_eq!(value.encode(), out);
    assert_eq!(DataOut::decode(&out), value);

    let input =
        hex("25 83 00 00 00 000000  0000000000000000  0000002a  ffffffff  00000021  00000031
         00000041  00000001  00000200  00000010");
    let value = DataIn {
        final_: true,
        status: Some((0, Residual::Under(16))),
        lun: 0,
        itt: 0x2a,
        ttt: NO_TAG,
        numbers: NUMBERS,
        data_sn: 1,
        offset: 512,
    };
    assert_eq!(value.encode(), input);
    assert_eq!(DataIn::decode(&input), value);

    let r2t = hex("31 80 0000 00 000000  0000000000000000  0000002a  00000012  00000021  00000031
         00000041  00000002  00010000  00040000");
    let value = ReadyToTransfer {
        lun: 0,
        itt: 0x2a,
        ttt: 0x12,
        numbers: NUMBERS,
        r2t_sn: 2,
        offset: 65536,
        length: 262_144,
    };
    assert_eq!(value.encode(), r2t);
    assert_eq!(ReadyToTransfer::decode(&r2t), value);
}

#[test]
fn login_by_hand() {
    let request =
        hex("43 87 00 00 00 000000  400001370000 0000  00000001  0001 0000  00000005  00000000
         00000000 00000000 00000000 00000000");
    let value = LoginRequest {
        transit: true,
        continues: false,
        current: Some(Stage::Operational),
        next: Some(Stage::FullFeature),
        version_max: 0,
        version_min: 0,
        isid: [0x40, 0, 1, 0x37, 0, 0],
        tsih: 0,
        itt: 1,
        cid: 1,
        cmd_sn: 5,
        exp_stat_sn: 0,
    };
    assert_eq!(value.encode(), request);
    assert_eq!(LoginRequest::decode(&request), value);

    let response =
        hex("23 40 00 00 00 000000  400001370000 0102  00000001  00000000  00000021  00000031
         00000041  02 01 0000  00000000  00000000");
    let value = LoginResponse {
        transit: false,
        continues: true,
        current: Some(Stage::Security),
        next: Some(Stage::Security),
        version_max: 0,
        version_active: 0,
        isid: [0x40, 0, 1, 0x37, 0, 0],
        tsih: 0x0102,
        itt: 1,
        numbers: NUMBERS,
        status: LoginStatus::AUTHENTICATION_FAILURE,
    };
    assert_eq!(value.encode(), response);
    assert_eq!(LoginResponse::decode(&response), value);
}

#[test]
fn management_by_hand() {
    let request =
        hex("42 85 0000 00 000000  0001000000000000  0000002b  ffffffff  00000007  00000009
         00000006  00000000  00000000  00000000");
    let value = TaskManagementRequest {
        immediate: true,
        function: Some(TmfFunction::LogicalUnitReset),
        lun: 1 << 48,
        itt: 0x2b,
        referenced: NO_TAG,
        cmd_sn: 7,
        exp_stat_sn: 9,
        ref_cmd_sn: 6,
    };
    assert_eq!(value.encode(), request);
    assert_eq!(TaskManagementRequest::decode(&request), value);

    let response =
        hex("22 80 05 00 00 000000  0000000000000000  0000002b  00000000  00000021  00000031
         00000041  00000000  00000000  00000000");
    let value =
        TaskManagementResponse { response: TmfResponse::NotSupported, itt: 0x2b, numbers: NUMBERS };
    assert_eq!(value.encode(), response);
    assert_eq!(TaskManagementResponse::decode(&response), value);

    let request =
        hex("46 81 0000 00 000000  0000000000000000  0000002c  0003 0000  00000007  00000009
         00000000  00000000  00000000  00000000");
    let value = LogoutRequest {
        immediate: true,
        reason: Some(LogoutReason::CloseConnection),
        itt: 0x2c,
        cid: 3,
        cmd_sn: 7,
        exp_stat_sn: 9,
    };
    assert_eq!(value.encode(), request);
    assert_eq!(LogoutRequest::decode(&request), value);

    let response =
        hex("26 80 01 00 00 000000  0000000000000000  0000002c  00000000  00000021  00000031
         00000041  00000000  0002 0014  00000000");
    let value = LogoutResponse {
        result: LogoutResult::CidNotFound,
        itt: 0x2c,
        numbers: NUMBERS,
        time2wait_s: 2,
        time2retain_s: 20,
    };
    assert_eq!(value.encode(), response);
    assert_eq!(LogoutResponse::decode(&response), value);
}

#[test]
fn notices_by_hand() {
    let reject =
        hex("3f 80 02 00 00 000000  0000000000000000  ffffffff  00000000  00000021  00000031
         00000041  00000000  00000000  00000000");
    let value = Reject { reason: RejectReason::DataDigestError, numbers: NUMBERS };
    assert_eq!(value.encode(), reject);
    assert_eq!(Reject::decode(&reject), value);

    let notice =
        hex("32 80 0000 00 000000  0000000000000000  ffffffff  00000000  00000021  00000031
         00000041  01 00 0000  0000 001e  00000000");
    let value = AsyncMessage {
        event: AsyncEvent::RequestLogout,
        lun: 0,
        numbers: NUMBERS,
        parameters: [0, 0, 30],
    };
    assert_eq!(value.encode(), notice);
    assert_eq!(AsyncMessage::decode(&notice), value);

    let nop = hex("40 80 0000 00 000000  0000000000000000  ffffffff  00000013  00000007  00000009
         00000000  00000000  00000000  00000000");
    let value =
        NopOut { immediate: true, lun: 0, itt: NO_TAG, ttt: 0x13, cmd_sn: 7, exp_stat_sn: 9 };
    assert_eq!(value.encode(), nop);
    assert_eq!(NopOut::decode(&nop), value);

    let nop = hex("20 80 0000 00 000000  0000000000000000  00000014  ffffffff  00000021  00000031
         00000041  00000000  00000000  00000000");
    let value = NopIn { lun: 0, itt: 0x14, ttt: NO_TAG, numbers: NUMBERS };
    assert_eq!(value.encode(), nop);
    assert_eq!(NopIn::decode(&nop), value);

    let text = hex("04 c0 0000 00 000000  0000000000000000  00000015  00000016  00000007  00000009
         00000000  00000000  00000000  00000000");
    let value = TextRequest {
        immediate: false,
        final_: true,
        continues: true,
        lun: 0,
        itt: 0x15,
        ttt: 0x16,
        cmd_sn: 7,
        exp_stat_sn: 9,
    };
    assert_eq!(value.encode(), text);
    assert_eq!(TextRequest::decode(&text), value);

    let text = hex("24 40 0000 00 000000  0000000000000000  00000015  00000016  00000021  00000031
         00000041  00000000  00000000  00000000");
    let value = TextResponse {
        final_: false,
        continues: true,
        lun: 0,
        itt: 0x15,
        ttt: 0x16,
        numbers: NUMBERS,
    };
    assert_eq!(value.encode(), text);
    assert_eq!(TextResponse::decode(&text), value);
}

#[test]
fn additional_headers_by_hand() {
    // An extended CDB of 20 bytes: length 5 counts the reserved byte; then a read length.
    let bytes = Bytes::from_static(&[0, 5, 1, 0, 0xa1, 0xa2, 0xa3, 0xa4, 0, 5, 2, 0, 0, 0, 2, 0]);
    let value = Additional {
        cdb_rest: Bytes::from_static(&[0xa1, 0xa2, 0xa3, 0xa4]),
        read_bytes: Some(512),
    };
    assert_eq!(Additional::decode(bytes.clone()), Some(value.clone()));
    assert_eq!(value.encode(), bytes);
    for wrong in [&[0, 9, 1, 0, 1, 2, 3, 4][..], &[0, 5], &[0, 5, 9, 0, 0, 0, 0, 0], &[0, 1, 1, 0]]
    {
        assert_eq!(Additional::decode(Bytes::copy_from_slice(wrong)), None, "{wrong:?}");
    }
}

/// One PDU as bytes.
fn wire(digests: Digests, header: Header, data: &[u8]) -> BytesMut {
    let mut outbox = Outbox::default();
    outbox.set_digests(digests);
    outbox.push(header, &[], &[Bytes::copy_from_slice(data)]);
    outbox.pieces().iter().fold(BytesMut::new(), |mut all, piece| {
        all.extend_from_slice(piece);
        all
    })
}

#[test]
fn a_frame_by_hand() {
    let digests = Digests { header: true, data: true };
    let header = Header::new(Opcode::NopOut, 0x80);
    let bytes = wire(digests, header, b"abcde");
    let mut expected = header.0.to_vec();
    expected[7] = 5;
    let digest = crc32c([&expected[..]]);
    expected.extend_from_slice(&digest);
    expected.extend_from_slice(b"abcde\0\0\0");
    expected.extend_from_slice(&crc32c([&b"abcde\0\0\0"[..]]));
    assert_eq!(bytes, expected);
}

#[test]
fn broken_digests_and_lengths() {
    let rules = Rules { digests: Digests { header: true, data: true }, data_bytes_max: 8 };
    let good = wire(rules.digests, Header::new(Opcode::NopOut, 0x80), b"abcde");
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        match take(&mut bad, rules) {
            Err(FrameError::HeaderDigest) => assert!(at < 52, "{at}"),
            Ok(Taken::Whole(frame)) => assert!(at >= 52 && !frame.data_intact, "{at}"),
            // A broken AHS length asks for bytes that never come; the limit is 1020 of them.
            Ok(Taken::Missing(_)) => assert_eq!(at, 4),
            other => panic!("{at}: {other:?}"),
        }
    }
    let mut long = wire(rules.digests, Header::new(Opcode::NopOut, 0x80), &[0; 9]);
    let error = take(&mut long, rules).unwrap_err();
    assert_eq!(error, FrameError::TooLong { bytes: 9, limit: 8 });
}

proptest! {
    #[test]
    fn decoding_what_was_encoded(header in any::<[u8; 24]>(), rest in any::<[u8; 24]>()) {
        let mut bytes = [0; 48];
        bytes[..24].copy_from_slice(&header);
        bytes[24..].copy_from_slice(&rest);
        let header = Header(bytes);
        // Reserved bits get lost; what is read from the second encoding must be the same value.
        macro_rules! same {
            ($($kind:ident),*) => { $( {
                let value = $kind::decode(&header);
                prop_assert_eq!($kind::decode(&value.encode()), value);
            } )* };
        }
        same!(ScsiResponse, DataOut, DataIn, ReadyToTransfer, Snack, TaskManagementRequest);
        same!(TaskManagementResponse, LogoutRequest, LogoutResponse, NopIn, NopOut);
        same!(TextRequest, TextResponse, Reject, AsyncMessage);
        if let Some(value) = ScsiCommand::decode(&header) {
            prop_assert_eq!(ScsiCommand::decode(&value.encode()), Some(value));
        }
        let value = LoginRequest::decode(&header);
        prop_assert_eq!(LoginRequest::decode(&value.encode()).isid, value.isid);
        let value = LoginResponse::decode(&header);
        prop_assert_eq!(LoginResponse::decode(&value.encode()).status, value.status);
    }

    #[test]
    fn frames_come_back_whole(
        data in prop::collection::vec(any::<u8>(), 0..2000),
        header: bool,
        digest: bool,
        cut in 0usize..2100,
    ) {
        let digests = Digests { header, data: digest };
        let rules = Rules { digests, data_bytes_max: 4096 };
        let sent = Header::new(Opcode::DataOut, 0x80).with_word(16, 77);
        let mut bytes = wire(digests, sent, &data);
        bytes.extend_from_slice(b"next");
        let cut = cut.min(bytes.len() - 5);
        let mut part = BytesMut::from(&bytes[..cut]);
        prop_assert!(matches!(take(&mut part, rules), Ok(Taken::Missing(n)) if n > 0 && cut + n <= bytes.len() - 4));
        let Ok(Taken::Whole(frame)) = take(&mut bytes, rules) else { panic!("no frame") };
        prop_assert_eq!(frame.header.itt(), 77);
        prop_assert_eq!(&frame.data[..], &data[..]);
        prop_assert!(frame.data_intact);
        prop_assert_eq!(&bytes[..], b"next");
    }

    #[test]
    fn additional_headers_of_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        if let Some(found) = Additional::decode(Bytes::from(bytes)) {
            prop_assert!(found.cdb_rest.len() < 64);
        }
    }
}
