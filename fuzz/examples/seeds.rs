//! Writes the seed corpus: small inputs that reach past the first check of each target.
//! `cargo run --example seeds` in the directory `fuzz`.

use std::fs;
use std::path::Path;

use bytes::{Bytes, BytesMut};
use commonhold_fuzz::session::{self, Book};
use commonhold_fuzz::unit::{PORTS, nexus, reserve_out};
use iscsi::initiator::{Command, Data};
use iscsi::pdu::logout::LogoutReason;
use iscsi::target::{Answer, DataOut, Event, TmfFunction};
use scsi::reservations::{Request, Reservations};
use scsi::sense::Status;
use scsi::transport_id::TransportId;

struct Corpus<'a> {
    target: &'a str,
    written: usize,
}

impl<'a> Corpus<'a> {
    fn of(target: &'a str) -> Self {
        Self { target, written: 0 }
    }
    fn add(&mut self, knobs: &[u8], parts: &[&[u8]]) {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(self.target);
        fs::create_dir_all(&directory).expect("the corpus can be written");
        let path = directory.join(format!("seed-{:02}", self.written));
        fs::write(path, [knobs, &parts.concat()].concat()).expect("the corpus can be written");
        self.written += 1;
    }
}

/// A session's bytes up and down: login, all kinds of requests; where the login ends.
fn recorded(digests: bool) -> (Vec<u8>, Vec<u8>, [usize; 2]) {
    let mut target = session::connection(session::settings(false));
    let mut initiator = session::initiator(false);
    let (mut up, mut down) = (Vec::new(), Vec::new());
    session::log_in(&mut target, &mut initiator, &mut up, &mut down);
    let login = [up.len(), down.len()];
    let read = [0x28, 0, 0, 0, 0, 0, 0, 0, 4, 0];
    let write = [0x2a, 0, 0, 0, 0, 0, 0, 0, 8, 0];
    initiator.submit(Command::new(0, &read, Data::In(2048)));
    initiator.submit(Command::new(0, &write, Data::Out(vec![Bytes::from(vec![5; 4096])])));
    initiator.submit(Command::new(0, &[0; 6], Data::None));
    initiator.ping(Bytes::from_static(b"ping"));
    initiator.send_targets("");
    if digests {
        initiator.task_management(TmfFunction::AbortTaskSet, 0, None);
        initiator.logout(LogoutReason::CloseSession);
    }
    let (mut to_target, mut to_initiator) = (BytesMut::new(), BytesMut::new());
    for _ in 0..4 {
        for piece in initiator.outgoing().drain(..) {
            up.extend_from_slice(&piece);
            to_target.extend_from_slice(&piece);
        }
        let mut events = Vec::new();
        let _ = target.receive(&mut to_target, &Book::open(), &mut events);
        for event in events {
            match event {
                Event::Command { task, data: DataOut::Pending, .. } => target.accept(task),
                Event::Command { task, read: true, .. } => {
                    target.respond(task, Answer::good_with(vec![Bytes::from(vec![1; 2048])]));
                }
                Event::Command { task, .. } | Event::DataArrived { task, .. } => {
                    target.respond(task, Answer::status(Status::Good));
                }
                Event::Logout { itt, .. } => target.logout_done(itt),
                _ => {}
            }
        }
        for piece in target.outgoing().drain(..) {
            down.extend_from_slice(&piece);
            to_initiator.extend_from_slice(&piece);
        }
        let _ = initiator.receive(&mut to_initiator, &mut Vec::new());
    }
    (up, down, login)
}

fn iscsi() {
    let (up, down, [up_login, down_login]) = recorded(false);
    let (up_end, down_end, _) = recorded(true);
    let mut pdus = Corpus::of("iscsi_pdu");
    for stream in [&up, &down, &up_end[up_login..].to_vec(), &down_end[down_login..].to_vec()] {
        pdus.add(&[0, 0xff, 0xff, 100], &[stream]);
        pdus.add(&[3, 0x10, 0, 7], &[stream]);
    }
    let mut target = Corpus::of("iscsi_target");
    let mut initiator = Corpus::of("iscsi_initiator");
    for choices in [0, 0x55, 0x1b] {
        target.add(&[0, 255, choices], &[&up]);
        target.add(&[2, 9, choices], &[&up_end]);
        target.add(&[1, 31, choices], &[&up_end[up_login..]]);
        target.add(&[3, 3, choices], &[&up[up_login..]]);
    }
    for piece in [5, 255] {
        initiator.add(&[0, piece], &[&down]);
        initiator.add(&[1, piece], &[&down_end[down_login..]]);
    }
    let offer = [0x3f; 28];
    let mut texts = Corpus::of("iscsi_text");
    for text in [
        "InitiatorName=iqn.2026-11.io.commonhold:host-1\0SessionType=Normal\0AuthMethod=CHAP,None\0",
        "HeaderDigest=CRC32C,None\0DataDigest=None\0MaxRecvDataSegmentLength=262144\0",
        "MaxBurstLength=0x100000\0FirstBurstLength=65536\0InitialR2T=No\0ImmediateData=Yes\0",
        "MaxOutstandingR2T=8\0DefaultTime2Wait=2\0DefaultTime2Retain=0\0ErrorRecoveryLevel=0\0",
        "MaxConnections=1\0DataPDUInOrder=Yes\0DataSequenceInOrder=Yes\0X-com.example=1\0",
        "SendTargets=All\0TargetName=eui.02004567A425678D\0TargetAddress=192.0.2.1:3260,1\0",
    ] {
        texts.add(&offer, &[&[40], text.as_bytes()]);
    }
    let mut chap = Corpus::of("iscsi_chap");
    let names = "\u{1}InitiatorName=iqn.2026-11.io.commonhold:host-1\0\
        TargetName=iqn.2026-11.io.commonhold:volume-1\0SessionType=Normal\0AuthMethod=CHAP,None\0";
    let answer = "\u{1}CHAP_N=host\0CHAP_R=0x22972b14de9086326240f315f9d0f9b4\0";
    for algorithm in ["\0CHAP_A=5\0", "\0CHAP_A=7,5\0", "\0CHAP_A=6\0"] {
        let back = "CHAP_I=7\0CHAP_C=0bBwcHBwcHBwcHBwcHBwcHBw==\0";
        let parts: [&[u8]; 6] = [
            names.as_bytes(),
            &[0xff],
            algorithm.as_bytes(),
            &[0xff],
            answer.as_bytes(),
            back.as_bytes(),
        ];
        chap.add(&[], &parts);
    }
}

fn scsi() {
    let mut cdbs = Corpus::of("scsi_cdb");
    for row in scsi::commands::rows().take(60) {
        let mut cdb = row.usage.to_vec();
        cdb[0] = row.opcode;
        cdb[1..].fill(0);
        cdb[1] = row.service_action.unwrap_or(0);
        let last = cdb.len().saturating_sub(2);
        cdb[last] = 8;
        cdbs.add(&[0, 30, 0xcc, 3, 0, 0, 0, 16, 0, 0], &[&cdb]);
    }
    let knobs = [0, 30, 0xcc, 3];
    let mut lists = Corpus::of("scsi_parameter_lists");
    let descriptor = [0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 8, 0, 0, 0, 0];
    lists.add(&knobs, &[&[0], &[0, 22, 0, 16, 0, 0, 0, 0], &descriptor]);
    lists.add(&knobs, &[&[1], &[0, 0, 0, 0, 0x0a, 10, 0, 0x10, 0, 0, 0, 0, 0, 0, 0, 0]]);
    lists.add(&knobs, &[&[2], &[0; 8], &[0x0a, 10, 4, 0x10, 0, 0, 0, 0, 0, 0, 0, 0]]);
    let id = TransportId::Port(nexus(2).initiator).encode();
    lists.add(&knobs, &[&[4], &id]);
    lists.add(&knobs, &[&[4], &TransportId::Device(session::HOST.to_owned()).encode()]);
    // EXTENDED COPY: a header, two units by their NAA names, one segment from block to block.
    let mut header = [0; 16];
    (header[0], header[3], header[11]) = (1, 64, 28);
    let mut unit = [0; 32];
    (unit[0], unit[4], unit[5], unit[7], unit[8], unit[30]) = (0xE4, 1, 3, 16, 0x60, 2);
    let mut segment = [0; 28];
    (segment[0], segment[3], segment[7], segment[11]) = (2, 0x18, 1, 8);
    lists.add(&knobs, &[&[5], &header, &unit, &unit, &segment]);
    // SANITIZE, OVERWRITE: three passes, inverted, with four bytes.
    lists.add(&knobs, &[&[6], &[0x83, 0, 0, 4], b"\xA5\x5A\x00\xFF"]);
    let mut states = Corpus::of("reservation_record");
    let mut state = Reservations::default();
    for (who, action, kind, key, action_key, bits) in
        [(0, 0, 0, 0, 1, 1), (1, 6, 0, 0, 2, 0), (0, 1, 5, 1, 0, 0), (1, 4, 7, 2, 1, 0)]
    {
        let (cdb, list) = reserve_out(action, kind, key, action_key, bits);
        lists.add(&knobs, &[&[3], &cdb, &list]);
        let request = Request::parse(&cdb, &list).expect("a request");
        if let Ok(change) = state.apply(&nexus(who), &request, &PORTS) {
            state = change.next;
        }
        let record = state.to_record();
        let length = u16::try_from(record.len()).unwrap_or(0).to_le_bytes();
        let steps = [9, 0, 0, 0, 3, 0, 0, 9, 4, 7, 3, 1, 0, 0, 0, 0xf0, 0, 0, 0, 0, 0];
        states.add(&length, &[&record, &steps]);
    }
    let ids = [&[0; 2][..], &u16::try_from(id.len()).unwrap_or(0).to_be_bytes(), &id].concat();
    let more = u8::try_from(ids.len()).unwrap_or(0);
    states.add(&[0, 0], &[&[0, 0, 0, 0, 3, 8, more], &ids]);
}

fn store() {
    let mut records = Corpus::of("store_record");
    records.add(&[1, 1], &[&[0, 0, 0, 0, 0, 0, 0, 1], &[0; 15], &[7]]);
    records.add(&[0, 1], &[&[0, 0, 0, 0, 0, 0, 0, 2], &[9; 16]]);
    let mut volume = vec![0; 52];
    volume[19] = 1;
    records.add(&[2, 1], &[&[0, 0, 0, 0, 0, 0, 0, 2], &volume]);
    records.add(&[2, 0], &[b"CMHDREC\n\0\x01\0\x03"]);
    let mut maps = Corpus::of("store_map");
    maps.add(&[2], &[&[0, 5, 1, 0, 70, 2, 0x3e, 0xff, 1, 0, 5, 0]]);
    maps.add(&[1], &[&[0; 64], &[0x55; 64]]);
    maps.add(&[0], &[b"CMHDMAP\n\0\x01"]);
    let mut carried = Corpus::of("carried");
    let trees = [0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0, 1];
    carried.add(&[0], &[&[7; 16], &[0; 8], &[0; 2], &[1; 48], &[0; 2], &trees]);
    carried.add(&[0], &[&[7; 76], &trees, &[9; 16], &[0, 0, 0, 2, 0, 1, b'a']]);
    carried.add(&[1], &[&[5; 56]]);
    carried.add(&[2], &[&[0; 32]]);
    carried.add(&[2], &[&[0; 52]]);
    carried.add(&[3], &[&[0, 0, 0, 1, 0, 0, 0, 2, 8, 9, 0, 0, 0, 1, 7, 0, 0, 0, 0]]);
    carried.add(&[4], &[&[0; 4096]]);
    carried.add(&[9], &[&[1; 32], &[2; 32]]);
    let piece = |origin: u8, far: u32, bytes: &[u8]| {
        let length = u16::try_from(bytes.len()).unwrap_or(0);
        [&[origin], &far.to_be_bytes()[..], &length.to_be_bytes(), bytes].concat()
    };
    let mut probes = Corpus::of("probe");
    let size = 0x10_0000_u32.to_be_bytes();
    let partition = [0, 0, 0, 0, 0x83, 0, 0, 0, 0, 8, 0, 0, 0, 0, 1, 0];
    let mut table = partition.to_vec();
    table.extend([0; 48]);
    table.extend([0x55, 0xaa]);
    for pieces in [
        vec![piece(0, 0x438, &[0x53, 0xef])],
        vec![piece(0, 0, b"XFSB")],
        vec![piece(0, 0x10040, b"_BHRfS_M")],
        vec![piece(0, 446, &table), piece(2, 0x438, &[0x53, 0xef])],
        vec![piece(0, 510, &[0x55, 0xaa]), piece(0, 512, b"EFI PART\0\0\x01\0\x5c\0\0\0")],
        vec![piece(0, 512, b"LABELONE"), piece(0, 536, b"LVM2 001")],
        vec![piece(1, 0x10000, &0xa92b_4efc_u32.to_le_bytes())],
        vec![piece(0, 0xff6, b"SWAPSPACE2")],
        vec![piece(0, 3, b"NTFS    "), piece(0, 510, &[0x55, 0xaa])],
    ] {
        probes.add(&size, &[&pieces.concat()]);
    }
    let mut images = Corpus::of("qcow2");
    for (version, l2) in [(3_u32, 0x600_u64), (3, 0x4000_0000_0000_0600), (2, 1 << 63 | 0x600)] {
        let mut image = vec![0; 0x800];
        image[0..4].copy_from_slice(b"QFI\xfb");
        image[4..8].copy_from_slice(&version.to_be_bytes());
        image[20..24].copy_from_slice(&9_u32.to_be_bytes());
        image[24..32].copy_from_slice(&4096_u64.to_be_bytes());
        image[36..40].copy_from_slice(&1_u32.to_be_bytes());
        image[40..48].copy_from_slice(&0x200_u64.to_be_bytes());
        image[100..104].copy_from_slice(&104_u32.to_be_bytes());
        image[0x200..0x208].copy_from_slice(&(1_u64 << 63 | 0x400).to_be_bytes());
        image[0x408..0x410].copy_from_slice(&l2.to_be_bytes());
        images.add(&[0], &[&image]);
    }
}

fn api() {
    let mut bodies = Corpus::of("api_json");
    for body in [
        r#"{"name":"web","size":"10g","volume_type":"ssd","metadata":{"a":"b"}}"#,
        r#"{"name":"web","source":{"snapshot":"one"}}"#,
        r#"{"size":1048576}"#,
        r#"{"name":"h","initiators":["iqn.2026-11.io.example:a"],"addresses":["192.0.2.1"]}"#,
        r#"{"name":"p","class":"ssd","path":"/srv/p","io":"cached","capacity":"1 TiB"}"#,
        r#"{"name":"p","quota":{"volumes":3,"gigabytes":null}}"#,
        r#"{"path":"/tmp/a.qcow2","format":"qcow2"}"#,
        r#"{"limit":"10","marker":"x"}"#,
        "12.5 GiB",
        "18446744073709551615",
    ] {
        bodies.add(&[0], &[body.as_bytes()]);
    }
    let mut answers = Corpus::of("answers_json");
    for body in [
        r#"{"status":"ok","version":"0.1.0"}"#,
        r#"{"error":{"code":"busy","message":"m","hint":"h","details":{"a":[1,null]}}}"#,
        r#"{"items":[],"next":"x"}"#,
        r#"{"attachment":"0191d2f0-0000-7000-8000-000000000001",
            "volume":"0191d2f0-0000-7000-8000-000000000002",
            "host":"0191d2f0-0000-7000-8000-000000000003","host_name":"h",
            "initiators":["iqn.2026-11.io.example:a"],"mode":"rw",
            "chap":{"user":"u","secret":"s","target_user":"t","target_secret":"v"}}"#,
        r#"{"items":[{"id":"0191d2f0-0000-7000-8000-000000000002","name":"v","description":"",
            "project_id":"0191d2f0-0000-7000-8000-000000000004","size_bytes":1048576,
            "volume_type_id":"0191d2f0-0000-7000-8000-000000000005","type":"ssd",
            "multiattach":false,"pool_id":"0191d2f0-0000-7000-8000-000000000006",
            "status":"available","attachments":[],"origin":{"from":"blank"},
            "metadata":{"a":"b"},"created_at":"2026-11-25T20:00:00Z"}]}"#,
    ] {
        answers.add(&[0], &[body.as_bytes()]);
    }
}

/// The NULL call of NFSv3 in one record, then in two fragments; and a few calls with arguments.
fn nfs() {
    let words = [7, 0, 2, 100_003, 3, 0, 0, 0, 0, 0];
    let call: Vec<u8> = words.into_iter().flat_map(u32::to_be_bytes).collect();
    let mut records = Corpus::of("nfs_rpc");
    records.add(&[255, 40], &[&0x8000_0028_u32.to_be_bytes(), &call]);
    let (first, last) = (8_u32.to_be_bytes(), 0x8000_0020_u32.to_be_bytes());
    records.add(&[255, 3], &[&first, &call[..8], &last, &call[8..]]);
    let mut calls = Corpus::of("nfs_call");
    let name = [0, 0, 0, 1, b'a', 0, 0, 0];
    // GETATTR; LOOKUP and REMOVE of a name; then GETATTR of version 4.
    calls.add(&[1 << 3 | 1, 0], &[]);
    calls.add(&[3 << 3 | 1, 8], &[&name, &[12 << 3 | 1, 8], &name]);
    let getattr = [9, 1, 0x18].into_iter().flat_map(u32::to_be_bytes).collect::<Vec<u8>>();
    calls.add(&[23 << 3 | 1, 12], &[&getattr]);
}

fn main() {
    nfs();
    iscsi();
    scsi();
    store();
    api();
}
