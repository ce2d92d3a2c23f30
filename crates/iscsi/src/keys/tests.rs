use proptest::prelude::*;

use super::table::{self, Agreed, Kind, Position};
use super::text::{Gathering, Pair, append, number, parse};
use super::{Negotiation, Offer, Proposal, TextError};

fn offer() -> Offer {
    Offer {
        header_digest: &["None", "CRC32C"],
        data_digest: &["None", "CRC32C"],
        initial_r2t: false,
        immediate_data: true,
        max_recv_bytes: 262_144,
        max_burst_bytes: 1 << 20,
        first_burst_bytes: 262_144,
        max_outstanding_r2t: 8,
        time2wait_s: 2,
        time2retain_s: 0,
    }
}

fn answer(discovery: bool, text: &str) -> Result<Vec<String>, TextError> {
    let pairs: Vec<Pair> = parse(text.replace(' ', "\0").as_bytes())?;
    let mut reply = Vec::new();
    Negotiation::new(offer(), discovery).answer(&pairs, &mut reply)?;
    let text = String::from_utf8(reply).unwrap();
    Ok(text.split_terminator('\0').map(str::to_owned).collect())
}

#[test]
fn each_key_by_its_rule() {
    let ours = "MaxRecvDataSegmentLength=262144";
    for (theirs, expected) in [
        ("InitialR2T=Yes", "InitialR2T=Yes"),
        ("InitialR2T=No", "InitialR2T=No"),
        ("ImmediateData=No", "ImmediateData=No"),
        ("ImmediateData=yes", "ImmediateData=Reject"),
        ("HeaderDigest=CRC32C,None", "HeaderDigest=CRC32C"),
        ("HeaderDigest=None,CRC32C", "HeaderDigest=None"),
        ("DataDigest=MD5", "DataDigest=Reject"),
        ("MaxBurstLength=16776192", "MaxBurstLength=1048576"),
        ("MaxBurstLength=0x400", "MaxBurstLength=1024"),
        ("MaxBurstLength=511", "MaxBurstLength=Reject"),
        ("MaxBurstLength=16777216", "MaxBurstLength=Reject"),
        ("MaxBurstLength=-1", "MaxBurstLength=Reject"),
        ("MaxOutstandingR2T=0", "MaxOutstandingR2T=Reject"),
        ("MaxOutstandingR2T=16", "MaxOutstandingR2T=8"),
        ("MaxConnections=4", "MaxConnections=1"),
        ("ErrorRecoveryLevel=2", "ErrorRecoveryLevel=0"),
        ("ErrorRecoveryLevel=3", "ErrorRecoveryLevel=Reject"),
        ("DefaultTime2Wait=0", "DefaultTime2Wait=2"),
        ("DefaultTime2Wait=7", "DefaultTime2Wait=7"),
        ("DefaultTime2Retain=20", "DefaultTime2Retain=0"),
        ("DataPDUInOrder=No", "DataPDUInOrder=Yes"),
        ("IFMarker=Yes", "IFMarker=No"),
        ("OFMarkInt=2048~8192", "OFMarkInt=Reject"),
        ("TaskReporting=FastAbort,RFC3720", "TaskReporting=RFC3720"),
        ("X-com.example.key=1", "X-com.example.key=NotUnderstood"),
        ("SendTargets=All", "SendTargets=Reject"),
        ("AuthMethod=None", "AuthMethod=Reject"),
    ] {
        assert_eq!(answer(false, theirs).unwrap(), [expected, ours], "{theirs}");
    }
    assert_eq!(answer(true, "MaxBurstLength=65536").unwrap(), ["MaxBurstLength=Irrelevant", ours]);
    assert_eq!(answer(false, "MaxRecvDataSegmentLength=65536").unwrap(), [ours]);
    let wrong = TextError::Declaration("MaxRecvDataSegmentLength".to_owned());
    assert_eq!(answer(false, "MaxRecvDataSegmentLength=100"), Err(wrong));
}

#[test]
fn the_first_burst_stays_within_the_burst() {
    let answers = answer(false, "FirstBurstLength=262144 MaxBurstLength=65536").unwrap();
    assert_eq!(answers[..2], ["MaxBurstLength=65536", "FirstBurstLength=65536"]);
}

#[test]
fn a_key_is_negotiated_once() {
    let twice = TextError::Twice("InitialR2T".to_owned());
    assert_eq!(answer(false, "InitialR2T=Yes InitialR2T=No"), Err(twice.clone()));
    let mut negotiation = Negotiation::new(offer(), false);
    let pairs = parse(b"InitialR2T=Yes\0").unwrap();
    negotiation.answer(&pairs, &mut Vec::new()).unwrap();
    assert_eq!(negotiation.answer(&pairs, &mut Vec::new()), Err(twice));
}

#[test]
fn both_sides_come_to_the_same_parameters() {
    let theirs = Offer {
        header_digest: &["CRC32C", "None"],
        initial_r2t: true,
        max_burst_bytes: 65_536,
        first_burst_bytes: 32_768,
        max_recv_bytes: 131_072,
        ..offer()
    };
    let (mut proposal, mut reply) = (Proposal::new(theirs), Vec::new());
    let mut negotiation = Negotiation::new(offer(), false);
    negotiation.answer(&parse(&proposal.text(false)).unwrap(), &mut reply).unwrap();
    proposal.take(&parse(&reply).unwrap()).unwrap();
    let (a, b) = (proposal.parameters(), negotiation.parameters());
    assert_eq!((a.peer_max_recv_bytes, b.peer_max_recv_bytes), (262_144, 131_072));
    assert_eq!(super::Parameters { peer_max_recv_bytes: 131_072, ..*a }, *b);
    assert_eq!((a.header_digest, a.initial_r2t, a.max_burst_bytes), ("CRC32C", true, 65_536));
}

#[test]
fn an_answer_beyond_the_offer_is_refused() {
    for wrong in
        ["MaxBurstLength=2097152", "InitialR2T=Maybe", "HeaderDigest=MD5", "ErrorRecoveryLevel=1"]
    {
        let mut proposal = Proposal::new(offer());
        let pairs = parse(wrong.as_bytes()).unwrap();
        assert!(matches!(proposal.take(&pairs), Err(TextError::NotOffered { .. })), "{wrong}");
    }
    let pairs = parse(b"MaxBurstLength=Reject").unwrap();
    let refused = TextError::Refused("MaxBurstLength".to_owned());
    assert_eq!(Proposal::new(offer()).take(&pairs), Err(refused));
}

#[test]
fn texts_that_are_none() {
    assert_eq!(parse(b"InitialR2T\0"), Err(TextError::Form));
    assert_eq!(parse(b"=Yes\0"), Err(TextError::Form));
    assert_eq!(parse(b"a b=Yes\0"), Err(TextError::Form));
    assert_eq!(parse(b"a=\xff\0"), Err(TextError::Form));
    assert_eq!(parse(format!("{}=1\0", "k".repeat(64)).as_bytes()), Err(TextError::Length));
    assert_eq!(parse(format!("k={}\0", "v".repeat(8193)).as_bytes()), Err(TextError::Length));
    assert_eq!(
        parse(b"a=1\0b=\0\0\0"),
        Ok(vec![("a".into(), "1".into()), ("b".into(), String::new())])
    );
    assert_eq!(
        (number("0x10"), number("10"), number("+1"), number("0x+1")),
        (Some(16), Some(10), None, None)
    );
}

#[test]
fn gathering_is_bounded() {
    let mut gathering = Gathering::new(10);
    assert_eq!(gathering.add(b"abc", true), Ok(None));
    assert_eq!(gathering.add(b"=12\0", false), Ok(Some(vec![("abc".into(), "12".into())])));
    assert_eq!(gathering.add(b"abcdefgh", true), Ok(None));
    assert_eq!(gathering.add(b"=12", false), Err(TextError::TooMuch(10)));
}

proptest! {
    #[test]
    fn any_bytes_parse_or_do_not(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        if let Ok(pairs) = parse(&bytes) {
            let mut again = Vec::new();
            for (key, value) in &pairs {
                append(&mut again, key, value);
            }
            prop_assert_eq!(parse(&again), Ok(pairs));
        }
    }

    #[test]
    fn what_is_agreed_lies_within_both_offers(theirs in 0u32..20_000_000, ours in 512u32..1 << 24) {
        let (low, high) = (512, (1 << 24) - 1);
        let agreed = table::agree(Kind::Minimum(low, high), Position::Number(ours), &theirs.to_string());
        match agreed {
            Some(Agreed::Number(n)) => prop_assert!(n <= ours && n <= theirs && n >= low),
            other => prop_assert!(other.is_none() && !(low..=high).contains(&theirs)),
        }
    }

    #[test]
    fn any_pairs_are_answered(key in "[A-Za-z0-9.]{1,30}", value in "\\PC{0,40}", row in 0..table::ROWS.len(), known: bool) {
        let key = if known { table::ROWS[row].key.to_owned() } else { key };
        let mut reply = Vec::new();
        let answered = Negotiation::new(offer(), false).answer(&[(key, value)], &mut reply);
        prop_assert!(answered.is_ok() || matches!(answered, Err(TextError::Declaration(_))));
        prop_assert!(parse(&reply).is_ok());
    }
}
