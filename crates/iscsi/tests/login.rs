//! The login phase: authentication, every refusal, continued texts, discovery.
#![allow(clippy::unwrap_used, reason = "a test that meets one has failed")]

mod harness;

use harness::{HOST, TARGET, World, connection, nonce, open_book, options, wire};
use iscsi::chap::{self, Algorithm};
use iscsi::initiator::{self, Credentials, Initiator, Options};
use iscsi::keys::text::{find, parse};
use iscsi::outbox::Outbox;
use iscsi::pdu::Header;
use iscsi::pdu::login::{LoginRequest, LoginResponse, LoginStatus, Stage};
use iscsi::target::{Authorization, Connection, Event, Fatal, Settings, TargetRecord};

const SECRET: &str = "a secret of the host";
const OWN: &str = "the target's own one";

fn chap_book(mutual: bool) -> harness::Book {
    let mutual = mutual.then(|| ("portal".to_owned(), OWN.to_owned()));
    let (user, secret) = ("host-1".to_owned(), SECRET.to_owned());
    harness::Book { authorization: Authorization::Chap { user, secret, mutual }, ..open_book() }
}

fn credentials(user: &str, secret: &str) -> Option<Credentials> {
    Some(Credentials { user: user.to_owned(), secret: secret.to_owned() })
}

/// Run a login; the status where it failed.
fn log_in(options: Options, book: harness::Book) -> (World, Option<LoginStatus>) {
    let mut world = World::new(11, Settings::default(), options, book);
    world.run();
    let failed = world.seen.iter().find_map(|event| match event {
        initiator::Event::LoginFailed { status, .. } => Some(*status),
        _ => None,
    });
    (world, failed)
}

#[test]
fn an_open_target_is_entered_from_both_stages() {
    for skip_security in [false, true] {
        let (world, failed) = log_in(Options { skip_security, ..options() }, open_book());
        assert_eq!(failed, None);
        let session = world.target.session().unwrap();
        assert_eq!((session.initiator.as_str(), session.target.as_deref()), (HOST, Some(TARGET)));
        assert_eq!((session.isid, session.tsih), ([0x80, 0, 0, 0, 0, 1], 7));
        assert!(matches!(world.seen[0], initiator::Event::LoggedIn { tsih: 7, .. }));
    }
}

#[test]
fn names_are_compared_in_lower_case() {
    let upper = Options { target: Some(TARGET.to_uppercase().replace("IQN", "iqn")), ..options() };
    let (world, failed) = log_in(upper, open_book());
    assert_eq!(failed, None);
    assert_eq!(world.target.session().unwrap().target.as_deref(), Some(TARGET));
}

#[test]
fn chap_one_way_and_mutual() {
    let one_way = Options { chap: credentials("host-1", SECRET), ..options() };
    let both = Options { mutual: credentials("portal", OWN), ..one_way.clone() };
    for (options, mutual) in [(&one_way, false), (&one_way, true), (&both, true)] {
        let (world, failed) = log_in(options.clone(), chap_book(mutual));
        assert_eq!(failed, None, "{:?}", world.seen);
        assert!(world.target.session().is_some());
    }
}

#[test]
fn chap_refusals() {
    let right = Options { chap: credentials("host-1", SECRET), ..options() };
    let wrong_secret = Options { chap: credentials("host-1", "another secret"), ..options() };
    let wrong_user = Options { chap: credentials("host-2", SECRET), ..options() };
    let skipping = Options { skip_security: true, ..options() };
    let unasked = Options { mutual: credentials("portal", OWN), ..right.clone() };
    for (options, mutual) in [
        (wrong_secret, false),
        (wrong_user, false),
        (options(), false),
        (skipping, false),
        (unasked, false),
    ] {
        let (world, failed) = log_in(options.clone(), chap_book(mutual));
        assert_eq!(failed, Some(LoginStatus::AUTHENTICATION_FAILURE), "{options:?}");
        assert!(world.target.session().is_none() && world.target.finished());
        assert!(world.target_seen.iter().any(|e| matches!(e, Event::LoginRefused { .. })));
        assert!(world.target_seen.iter().any(|e| matches!(e, Event::Close { .. })));
    }
    // The target proves the wrong secret, or none: the initiator turns away.
    for mutual in [credentials("portal", "not the target's"), credentials("other", OWN)] {
        let (world, failed) = log_in(Options { mutual, ..right.clone() }, chap_book(true));
        assert_eq!(failed, Some(LoginStatus::AUTHENTICATION_FAILURE));
        assert!(world.initiator.finished());
    }
    let (_, failed) = log_in(Options { mutual: credentials("portal", OWN), ..right }, open_book());
    assert_eq!(failed, Some(LoginStatus::AUTHENTICATION_FAILURE), "no proof from an open target");
}

#[test]
fn who_and_what_is_refused() {
    let unknown = Options { target: Some("iqn.2026-11.io.commonhold:other".into()), ..options() };
    let stranger = Options { initiator: "iqn.2026-11.io.commonhold:host-2".into(), ..options() };
    let nameless = Options { initiator: "host-1".into(), ..options() };
    for (options, status) in [
        (unknown, LoginStatus::NOT_FOUND),
        (stranger, LoginStatus::AUTHORIZATION_FAILURE),
        (nameless, LoginStatus::INITIATOR_ERROR),
    ] {
        assert_eq!(log_in(options, open_book()).1, Some(status));
    }
}

/// A connection spoken to by hand.
struct Hand {
    target: Connection,
    book: harness::Book,
    request: LoginRequest,
    events: Vec<Event>,
}

impl Hand {
    fn new(book: harness::Book) -> Self {
        let request = LoginRequest {
            transit: false,
            continues: false,
            current: Some(Stage::Security),
            next: None,
            version_max: 0,
            version_min: 0,
            isid: [0, 2, 3, 4, 5, 6],
            tsih: 0,
            itt: 1,
            cid: 9,
            cmd_sn: 100,
            exp_stat_sn: 55,
        };
        let target = connection(Settings::default(), 3);
        Self { target, book, request, events: Vec::new() }
    }

    fn send(&mut self, bytes: &[u8]) -> Result<(), Fatal> {
        self.target.receive(&mut bytes.into(), &self.book, &mut self.events)
    }

    /// Send one request with this text; the response and its text.
    fn ask(&mut self, text: &str) -> (LoginResponse, String) {
        let bytes = wire(self.request.encode(), text.replace(' ', "\0").as_bytes());
        self.send(&bytes).unwrap();
        self.answer()
    }

    fn answer(&mut self) -> (LoginResponse, String) {
        let bytes: Vec<u8> = self.target.outgoing().drain(..).flat_map(|p| p.to_vec()).collect();
        let header = Header(bytes[..48].try_into().unwrap());
        let text = String::from_utf8(bytes[48..48 + header.data_bytes()].to_vec()).unwrap();
        (LoginResponse::decode(&header), text)
    }
}

const WHO: &str = "InitiatorName=iqn.2026-11.io.commonhold:host-1";
const WHAT: &str = "TargetName=iqn.2026-11.io.commonhold:volume-1";

#[test]
fn refusals_by_the_header_and_missing_keys() {
    type Change = fn(&mut LoginRequest);
    let both = format!("{WHO} {WHAT}");
    let twice = format!("{WHO} {WHAT} {WHO}");
    let strange = format!("{WHO} SessionType=Strange");
    let rows: [(Change, &str, LoginStatus); 9] = [
        (|r| r.version_min = 1, &both, LoginStatus::UNSUPPORTED_VERSION),
        (|r| r.current = Some(Stage::FullFeature), &both, LoginStatus::INVALID_REQUEST),
        (
            |r| (r.transit, r.next) = (true, Some(Stage::Security)),
            &both,
            LoginStatus::INVALID_REQUEST,
        ),
        (
            |r| (r.transit, r.continues, r.next) = (true, true, Some(Stage::Operational)),
            &both,
            LoginStatus::INITIATOR_ERROR,
        ),
        (|_| {}, WHAT, LoginStatus::MISSING_PARAMETER),
        (|_| {}, WHO, LoginStatus::MISSING_PARAMETER),
        (|_| {}, &strange, LoginStatus::SESSION_TYPE),
        (|_| {}, &twice, LoginStatus::INITIATOR_ERROR),
        (|_| {}, "nonsense", LoginStatus::INITIATOR_ERROR),
    ];
    for (change, text, status) in rows {
        let mut hand = Hand::new(open_book());
        change(&mut hand.request);
        let (response, _) = hand.ask(text);
        assert_eq!(response.status, status, "{text}");
        assert!(hand.target.finished());
    }
}

#[test]
fn what_may_not_change_on_the_way() {
    type Change = fn(&mut LoginRequest);
    let rows: [Change; 5] = [
        |r| r.isid[5] = 7,
        |r| r.cid = 8,
        |r| r.tsih = 1,
        |r| r.itt = 2,
        |r| r.current = Some(Stage::Operational),
    ];
    for change in rows {
        let mut hand = Hand::new(open_book());
        let (response, text) = hand.ask(&format!("{WHO} {WHAT} AuthMethod=None"));
        assert_eq!((response.status, response.numbers.stat_sn), (LoginStatus::SUCCESS, 55));
        assert_eq!(text, "TargetPortalGroupTag=1\0AuthMethod=None\0");
        change(&mut hand.request);
        assert_eq!(hand.ask("").0.status, LoginStatus::INVALID_REQUEST);
    }
}

#[test]
fn a_login_by_hand() {
    let mut hand = Hand::new(open_book());
    (hand.request.transit, hand.request.next) = (true, Some(Stage::Operational));
    let (response, _) = hand.ask(&format!("{WHO} {WHAT} AuthMethod=CHAP,None"));
    assert!(response.transit && response.next == Some(Stage::Operational));
    (hand.request.current, hand.request.next) =
        (Some(Stage::Operational), Some(Stage::FullFeature));
    let text = "InitialR2T=No MaxBurstLength=65536 OFMarker=No X-a=b".replace(' ', "\0");
    hand.send(&wire(hand.request.encode(), text.as_bytes())).unwrap();
    assert!(hand.target.outgoing().is_empty(), "the shell has the word");
    let opening = Event::SessionOpening {
        initiator: HOST.to_owned(),
        isid: [0, 2, 3, 4, 5, 6],
        tsih: 0,
        cid: 9,
        target: Some(TARGET.to_owned()),
    };
    assert_eq!(hand.events, [opening]);
    hand.target.session_ready(0x0102);
    let (response, text) = hand.answer();
    assert!(response.transit && response.next == Some(Stage::FullFeature));
    assert_eq!((response.tsih, response.numbers.exp_cmd_sn), (0x0102, 100));
    let pairs = parse(text.as_bytes()).unwrap();
    assert_eq!(find(&pairs, "MaxBurstLength"), Some("65536"));
    assert_eq!(find(&pairs, "X-a"), Some("NotUnderstood"));
    assert_eq!(find(&pairs, "MaxRecvDataSegmentLength"), Some("262144"));
}

#[test]
fn the_shell_can_refuse() {
    let mut hand = Hand::new(open_book());
    (hand.request.transit, hand.request.next) = (true, Some(Stage::FullFeature));
    hand.request.tsih = 77;
    let text = format!("{WHO} {WHAT} AuthMethod=None").replace(' ', "\0");
    hand.send(&wire(hand.request.encode(), text.as_bytes())).unwrap();
    hand.target.session_refused((2, 10));
    assert_eq!(hand.answer().0.status, LoginStatus::NO_SUCH_SESSION);
    assert!(hand.target.finished());
    let mut events = Vec::new();
    hand.target.tick(std::time::Duration::from_secs(1), &mut events);
    assert_eq!(events, [Event::Close { why: "the session was refused".to_owned() }]);
}

/// Bring a login by hand to the point where the challenge is out; gives it.
fn challenged(hand: &mut Hand, algorithms: &str) -> Vec<(String, String)> {
    let (response, text) = hand.ask(&format!("{WHO} {WHAT} AuthMethod=CHAP"));
    assert_eq!(response.status, LoginStatus::SUCCESS);
    assert!(text.ends_with("AuthMethod=CHAP\0"));
    let (_, text) = hand.ask(&format!("CHAP_A={algorithms}"));
    parse(text.as_bytes()).unwrap()
}

#[test]
fn chap_by_hand() {
    for (algorithms, algorithm) in [("5", Algorithm::Md5), ("6,7,5", Algorithm::Sha256)] {
        let mut hand = Hand::new(chap_book(true));
        let pairs = challenged(&mut hand, algorithms);
        assert_eq!(find(&pairs, "CHAP_A"), Some(algorithm.number().to_string().as_str()));
        let identifier: u8 = find(&pairs, "CHAP_I").unwrap().parse().unwrap();
        let challenge = chap::decode(find(&pairs, "CHAP_C").unwrap()).unwrap();
        let proof = chap::encode(&algorithm.respond(identifier, SECRET.as_bytes(), &challenge));
        let own = vec![9u8; 20];
        (hand.request.transit, hand.request.next) = (true, Some(Stage::Operational));
        let (response, text) = hand
            .ask(&format!("CHAP_N=host-1 CHAP_R={proof} CHAP_I=200 CHAP_C={}", chap::encode(&own)));
        assert!(response.transit);
        let expected = chap::encode(&algorithm.respond(200, OWN.as_bytes(), &own));
        assert_eq!(text, format!("CHAP_N=portal\0CHAP_R={expected}\0"));
    }
}

#[test]
fn reflection_and_short_challenges_are_refused() {
    for reflect in [true, false] {
        let mut hand = Hand::new(chap_book(true));
        let pairs = challenged(&mut hand, "5");
        let identifier = find(&pairs, "CHAP_I").unwrap();
        let text = find(&pairs, "CHAP_C").unwrap();
        let challenge = chap::decode(text).unwrap();
        let id = identifier.parse().unwrap();
        let proof = chap::encode(&Algorithm::Md5.respond(id, SECRET.as_bytes(), &challenge));
        let own = if reflect { text.to_owned() } else { chap::encode(&[1; 15]) };
        let all = format!("CHAP_N=host-1 CHAP_R={proof} CHAP_I={identifier} CHAP_C={own}");
        assert_eq!(hand.ask(&all).0.status, LoginStatus::AUTHENTICATION_FAILURE);
    }
    let mut book = chap_book(true);
    if let Authorization::Chap { mutual, .. } = &mut book.authorization {
        *mutual = Some(("portal".to_owned(), SECRET.to_owned()));
    }
    let both = Options {
        chap: credentials("host-1", SECRET),
        mutual: credentials("portal", SECRET),
        ..options()
    };
    assert_eq!(log_in(both, book).1, Some(LoginStatus::AUTHENTICATION_FAILURE), "one secret");
}

#[test]
fn chap_out_of_turn() {
    for (texts, status) in [
        (vec!["CHAP_A=5"], LoginStatus::INITIATOR_ERROR),
        (vec!["CHAP_N=host-1 CHAP_R=0x00"], LoginStatus::INITIATOR_ERROR),
        (vec!["AuthMethod=CHAP", "CHAP_N=host-1 CHAP_R=0x00"], LoginStatus::INITIATOR_ERROR),
        (vec!["AuthMethod=CHAP", "CHAP_A=6,8"], LoginStatus::AUTHENTICATION_FAILURE),
        (vec!["AuthMethod=CHAP", "CHAP_A=5", "CHAP_A=5"], LoginStatus::INITIATOR_ERROR),
        (vec!["AuthMethod=CHAP", "AuthMethod=CHAP"], LoginStatus::INITIATOR_ERROR),
        (vec!["AuthMethod=KRB5"], LoginStatus::AUTHENTICATION_FAILURE),
    ] {
        let mut hand = Hand::new(chap_book(false));
        let mut last = hand.ask(&format!("{WHO} {WHAT}")).0;
        for text in &texts {
            assert_eq!(last.status, LoginStatus::SUCCESS);
            last = hand.ask(text).0;
        }
        assert_eq!(last.status, status, "{texts:?}");
    }
}

#[test]
fn texts_in_many_requests_and_many_responses() {
    let mut hand = Hand::new(open_book());
    hand.request.continues = true;
    let whole = format!("{WHO}\0{WHAT}\0AuthMethod=None\0");
    for part in whole.as_bytes().chunks(20) {
        hand.send(&wire(hand.request.encode(), part)).unwrap();
        let (response, text) = hand.answer();
        assert_eq!((response.status, text.as_str()), (LoginStatus::SUCCESS, ""));
    }
    hand.request.continues = false;
    assert_eq!(hand.ask("").1, "TargetPortalGroupTag=1\0AuthMethod=None\0");
    // Five hundred unknown keys give an answer of more than 8192 bytes.
    let keys: String = (0..500).map(|n| format!("X-key-{n:03}=1\0")).collect();
    hand.request.continues = true;
    hand.send(&wire(hand.request.encode(), keys.as_bytes())).unwrap();
    hand.answer();
    hand.request.continues = false;
    let (mut response, mut text) = hand.ask("");
    let mut rounds = 0;
    while response.continues {
        let more = hand.ask("");
        (response, text) = (more.0, text + &more.1);
        rounds += 1;
    }
    assert_eq!((rounds, parse(text.as_bytes()).unwrap().len()), (1, 500));
}

#[test]
fn the_text_of_a_login_is_bounded() {
    let mut hand = Hand::new(open_book());
    hand.request.continues = true;
    let part = [b'x'; 8192];
    let mut last = LoginStatus::SUCCESS;
    for _ in 0..9 {
        assert_eq!(last, LoginStatus::SUCCESS);
        hand.send(&wire(hand.request.encode(), &part)).unwrap();
        last = hand.answer().0.status;
    }
    assert_eq!(last, LoginStatus::INITIATOR_ERROR);
    let mut hand = Hand::new(open_book());
    let long = wire(hand.request.encode(), &[b'x'; 8193]);
    assert!(matches!(hand.send(&long), Err(Fatal::Frame(_))));
}

#[test]
fn nothing_but_logins_before_the_login() {
    let mut hand = Hand::new(open_book());
    assert_eq!(hand.send(&[0; 48]), Err(Fatal::LoginExpected));
    assert_eq!(hand.send(&[0; 48]), Err(Fatal::Closed));
}

#[test]
fn a_login_has_its_time() {
    let mut hand = Hand::new(open_book());
    hand.ask(&format!("{WHO} {WHAT}"));
    let mut events = Vec::new();
    for seconds in [100, 110, 116, 117] {
        hand.target.tick(std::time::Duration::from_secs(seconds), &mut events);
    }
    assert_eq!(events, [Event::Close { why: "the login took too long".to_owned() }]);
}

#[test]
fn discovery_over_many_targets() {
    let record = |n: usize| TargetRecord {
        name: format!("{TARGET}-{n}"),
        portals: vec![("192.0.2.1:3260".to_owned(), 1)],
    };
    let book = harness::Book { targets: (0..400).map(record).collect(), ..open_book() };
    let wishes = Options { max_recv_data_segment_bytes: 1024, target: None, ..options() };
    let (mut world, failed) = log_in(wishes, book);
    assert_eq!(failed, None);
    let one = format!("{TARGET}-7");
    for (value, count) in [("All", 800), (one.as_str(), 2), ("iqn.2026-11.io.x:none", 0)] {
        let itt = world.initiator.send_targets(value).unwrap();
        world.run();
        let Some(initiator::Event::Text { itt: of, pairs }) = world.seen.last() else { panic!() };
        assert_eq!((*of, pairs.len()), (itt, count), "{value}");
    }
    world.submit(&[0; 6], initiator::Data::None);
    world.run();
    let rejected = world.seen.iter().any(|e| matches!(e, initiator::Event::Rejected { .. }));
    assert!(rejected, "a discovery session takes no commands");
}

#[test]
fn send_targets_in_a_normal_session() {
    let mut world = World::logged_in(4);
    for (value, first) in [("", "TargetName"), (TARGET, "TargetName"), ("All", "SendTargets")] {
        world.initiator.send_targets(value).unwrap();
        world.run();
        let Some(initiator::Event::Text { pairs, .. }) = world.seen.last() else { panic!() };
        assert_eq!(pairs[0].0, first, "{value}");
    }
}

#[test]
fn the_initiator_refuses_what_it_cannot_use() {
    let respond = |change: fn(&mut LoginResponse), text: &str| {
        let mut initiator = Initiator::new(options(), nonce(1));
        let mut response = LoginResponse {
            transit: true,
            continues: false,
            current: Some(Stage::Security),
            next: Some(Stage::Operational),
            version_max: 0,
            version_active: 0,
            isid: [0; 6],
            tsih: 0,
            itt: 0,
            numbers: iscsi::pdu::Numbers::default(),
            status: LoginStatus::SUCCESS,
        };
        change(&mut response);
        let mut outbox = Outbox::default();
        outbox.push(response.encode(), &[], &[text.as_bytes().to_vec().into()]);
        let mut input =
            outbox.pieces().iter().flat_map(|p| p.to_vec()).collect::<Vec<_>>()[..].into();
        let mut events = Vec::new();
        let result = initiator.receive(&mut input, &mut events);
        (result.is_err(), events.len())
    };
    assert_eq!(respond(|_| {}, "AuthMethod=None\0"), (false, 0));
    assert_eq!(respond(|_| {}, "AuthMethod=CHAP\0"), (false, 1), "not offered");
    assert_eq!(respond(|r| r.next = Some(Stage::FullFeature), ""), (true, 0), "skips a stage");
    assert_eq!(respond(|r| r.status = LoginStatus(3, 1), ""), (false, 1));
}
