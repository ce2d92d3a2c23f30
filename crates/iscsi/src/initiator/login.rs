//! The login phase of the initiator.
//!
//! ```text
//!  Security: Method --AuthMethod=CHAP--> Algorithm --CHAP_A,I,C--> Proof --CHAP_N,R ok--+
//!              |                                                                        |
//!              +-- None ----------------------------------------------------------------+
//!                                                                                       v
//!  Operational: offer everything, T, NSG=3 ------------- T granted -----------> full feature
//! ```
//!
//! Invariant: with `mutual` set there is no way past Proof without the target's own proof.

use bytes::Bytes;

use super::{Fatal, Options};
use crate::chap::{self, Algorithm, Challenge};
use crate::keys::text::{self, Gathering, Pair};
use crate::keys::{Parameters, Proposal};
use crate::outbox::Outbox;
use crate::pdu::frame::Frame;
use crate::pdu::login::{LoginRequest, LoginResponse, LoginStatus, Stage};
use crate::pdu::{Numbers, Opcode};
use crate::target::Nonce;

/// Largest data segment of the login phase.
pub(super) const SEGMENT_BYTES: usize = 8192;
/// A target that asks more often than this is leading us in circles.
const ROUNDS_MAX: u32 = 64;
/// Most bytes of one answer.
const TEXT_BYTES_MAX: usize = 64 << 10;

/// Where the login stands: what the next answer has to bring.
#[derive(Debug)]
enum State {
    Method,
    Algorithm,
    /// Our response is out; the challenge is ours to the target, where we want its proof.
    Proof(Option<Challenge>),
    /// Nothing to say; only the transit is missing.
    Leaving,
    Operational,
}

/// A login that succeeded.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) tsih: u16,
    pub(super) parameters: Parameters,
    pub(super) cmd_sn: u32,
    pub(super) numbers: Numbers,
}

/// What one response led to.
#[derive(Debug)]
pub(super) enum Outcome {
    GoesOn,
    Failed { status: LoginStatus, why: String },
    Done(Done),
}

/// One login.
pub(super) struct Login {
    state: State,
    stage: Stage,
    proposal: Proposal,
    gathering: Gathering,
    nonce: Nonce,
    /// What goes in every request.
    request: LoginRequest,
    rounds: u32,
}

impl Login {
    /// Queue the first request.
    pub(super) fn start(options: &Options, nonce: Nonce, outbox: &mut Outbox) -> Self {
        let stage = if options.skip_security { Stage::Operational } else { Stage::Security };
        let request = LoginRequest {
            transit: false,
            continues: false,
            current: Some(stage),
            next: None,
            version_max: 0,
            version_min: 0,
            isid: options.isid,
            tsih: 0,
            itt: 0,
            cid: options.cid,
            cmd_sn: 1,
            exp_stat_sn: 0,
        };
        let mut login = Self {
            state: State::Operational,
            stage,
            proposal: Proposal::new(options.offer()),
            gathering: Gathering::new(TEXT_BYTES_MAX),
            nonce,
            request,
            rounds: 0,
        };
        let mut out = Vec::new();
        text::append(&mut out, "InitiatorName", &options.initiator);
        match &options.target {
            Some(target) => {
                text::append(&mut out, "SessionType", "Normal");
                text::append(&mut out, "TargetName", target);
            }
            None => text::append(&mut out, "SessionType", "Discovery"),
        }
        if options.skip_security {
            out.extend(login.proposal.text(options.target.is_none()));
            login.send(out, true, outbox);
            return login;
        }
        let methods = match (&options.chap, &options.mutual) {
            (None, _) => "None",
            (Some(_), None) => "CHAP,None",
            (Some(_), Some(_)) => "CHAP",
        };
        text::append(&mut out, "AuthMethod", methods);
        login.state = State::Method;
        login.send(out, options.chap.is_none(), outbox);
        login
    }

    /// Take one PDU.
    pub(super) fn step(
        &mut self,
        frame: &Frame,
        options: &Options,
        outbox: &mut Outbox,
    ) -> Result<Outcome, Fatal> {
        if frame.header.opcode() != Some(Opcode::LoginResponse) {
            return Err(Fatal::Protocol("something else than a Login Response in the login"));
        }
        let response = LoginResponse::decode(&frame.header);
        if response.status != LoginStatus::SUCCESS {
            let (status, why) = (response.status, response.status.meaning().to_owned());
            return Ok(Outcome::Failed { status, why });
        }
        self.request.exp_stat_sn = response.numbers.stat_sn.wrapping_add(1);
        self.rounds += 1;
        if self.rounds > ROUNDS_MAX {
            return Err(Fatal::Protocol("the login does not come to an end"));
        }
        let Some(pairs) = self.gathering.add(&frame.data, response.continues)? else {
            self.send(Vec::new(), false, outbox);
            return Ok(Outcome::GoesOn);
        };
        if let Some(why) = self.answer(&pairs, &response, options, outbox)? {
            return Ok(Outcome::Failed { status: LoginStatus::AUTHENTICATION_FAILURE, why });
        }
        if response.transit && response.next == Some(Stage::FullFeature) {
            if !matches!(self.state, State::Operational) {
                return Err(Fatal::Protocol("the target ends the login before it is through"));
            }
            return Ok(Outcome::Done(Done {
                tsih: response.tsih,
                parameters: *self.proposal.parameters(),
                cmd_sn: self.request.cmd_sn,
                numbers: response.numbers,
            }));
        }
        Ok(Outcome::GoesOn)
    }

    /// Act on a whole text. Gives the reason where the target failed to authenticate.
    fn answer(
        &mut self,
        pairs: &[Pair],
        response: &LoginResponse,
        options: &Options,
        outbox: &mut Outbox,
    ) -> Result<Option<String>, Fatal> {
        match &self.state {
            State::Operational => {
                self.proposal.take(pairs)?;
                if !response.transit {
                    self.send(Vec::new(), true, outbox);
                }
                return Ok(None);
            }
            State::Method => match text::find(pairs, "AuthMethod") {
                Some("CHAP") if options.chap.is_some() => {
                    let mut out = Vec::new();
                    text::append(&mut out, "CHAP_A", Algorithm::list(&options.chap_algorithms));
                    self.state = State::Algorithm;
                    self.send(out, false, outbox);
                    return Ok(None);
                }
                Some("None") | None if options.mutual.is_none() => self.state = State::Leaving,
                _ => return Ok(Some("no common authentication method".to_owned())),
            },
            State::Algorithm => return self.prove(pairs, options, outbox),
            State::Proof(challenge) => {
                if let (Some(challenge), Some(expected)) = (challenge, &options.mutual) {
                    let proof = text::find(pairs, "CHAP_R").and_then(chap::decode);
                    let named = text::find(pairs, "CHAP_N") == Some(expected.user.as_str());
                    let met = challenge.is_met(&expected.secret, &proof.unwrap_or_default());
                    if !(named & met) {
                        return Ok(Some("the target did not prove its secret".to_owned()));
                    }
                }
                self.state = State::Leaving;
            }
            State::Leaving => {}
        }
        self.leave(response, options, outbox);
        Ok(None)
    }

    /// Security is settled: go on to the operational stage, or ask for it.
    fn leave(&mut self, response: &LoginResponse, options: &Options, outbox: &mut Outbox) {
        if response.transit && response.next == Some(Stage::Operational) {
            (self.stage, self.state) = (Stage::Operational, State::Operational);
            let offer = self.proposal.text(options.target.is_none());
            self.send(offer, true, outbox);
        } else {
            self.send(Vec::new(), true, outbox);
        }
    }

    /// Answer the target's challenge, and put our own where its proof is wanted.
    fn prove(
        &mut self,
        pairs: &[Pair],
        options: &Options,
        outbox: &mut Outbox,
    ) -> Result<Option<String>, Fatal> {
        let find = |key| text::find(pairs, key);
        let algorithm = find("CHAP_A").and_then(Algorithm::choose);
        let algorithm = algorithm.filter(|chosen| options.chap_algorithms.contains(chosen));
        let identifier = find("CHAP_I").and_then(text::number).and_then(|n| u8::try_from(n).ok());
        let theirs = find("CHAP_C").and_then(chap::decode);
        let theirs = theirs.filter(|theirs| theirs.len() <= *chap::CHALLENGE_BYTES.end());
        let (Some(algorithm), Some(identifier), Some(theirs), Some(own)) =
            (algorithm, identifier, theirs, &options.chap)
        else {
            return Ok(Some("the target's CHAP challenge cannot be used".to_owned()));
        };
        let proof = algorithm.respond(identifier, own.secret.as_bytes(), &theirs);
        let mut out = Vec::new();
        text::append(&mut out, "CHAP_N", &own.user);
        text::append(&mut out, "CHAP_R", chap::encode(&proof));
        let mut challenge = None;
        if options.mutual.is_some() {
            let ours = Challenge::new(algorithm, &mut *self.nonce);
            text::append(&mut out, "CHAP_I", ours.identifier);
            text::append(&mut out, "CHAP_C", chap::encode(&ours.bytes));
            challenge = Some(ours);
        }
        self.state = State::Proof(challenge);
        self.send(out, true, outbox);
        Ok(None)
    }

    fn send(&mut self, out: Vec<u8>, transit: bool, outbox: &mut Outbox) {
        let next = match self.stage {
            Stage::Security => Stage::Operational,
            _ => Stage::FullFeature,
        };
        let (current, next) = (Some(self.stage), transit.then_some(next));
        self.request = LoginRequest { transit, current, next, ..self.request };
        outbox.push(self.request.encode(), &[], &[Bytes::from(out)]);
    }
}
