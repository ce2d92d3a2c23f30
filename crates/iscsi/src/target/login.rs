//! The login phase of the target (RFC 7143 6.3, 11.12, 11.13).
//!
//! ```text
//!  first request: who, what for, may they?      refusal at any point: status, then close
//!        |
//!        v            AuthMethod        CHAP_A            CHAP_N CHAP_R
//!  Proof:      Needed ---------> Method -------> Challenged ------------> Given
//!                 (open targets start at Given)                             |
//!  Stage:  Security ------------------- T, NSG=1 -------------------> Operational
//!             |                                                             |
//!             +--------------- T, NSG=3 ---------> Opening <--- T, NSG=3 ---+
//! ```
//!
//! Invariant: no stage is left, and none but Security is entered, before the proof is given.

use bytes::Bytes;

use super::{Authorization, Directory, Nonce, SessionInfo, Settings};
use crate::chap::{self, Algorithm, Challenge};
use crate::keys::text::{self, Gathering, Pair};
use crate::keys::{Negotiation, Offer, Parameters, TextError};
use crate::name;
use crate::outbox::Outbox;
use crate::pdu::frame::Frame;
use crate::pdu::login::{LoginRequest, LoginResponse, LoginStatus, Stage};
use crate::pdu::{Numbers, Opcode};

/// Largest data segment in the login phase, both ways: the default of the key.
pub(super) const LOGIN_SEGMENT_BYTES: usize = 8192;

/// How far the initiator has proven who it is.
#[derive(Debug)]
enum Proof {
    Needed,
    /// CHAP was chosen; its algorithm comes next.
    Method,
    Challenged(Challenge),
    Given,
}

/// What one request led to.
#[derive(Debug)]
pub(super) enum Outcome {
    /// A response is queued; the login goes on.
    GoesOn,
    /// All is agreed; the shell has the last word.
    Opening,
    /// A refusal is queued.
    Refused { why: String },
    /// The PDU was no Login Request.
    NotLogin,
}

/// A refusal on its way to the response.
struct Refusal(LoginStatus, String);

fn refuse<T>(status: LoginStatus, why: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal(status, why.into()))
}

impl From<TextError> for Refusal {
    fn from(error: TextError) -> Self {
        Self(LoginStatus::INITIATOR_ERROR, error.to_string())
    }
}

/// What the surroundings lend to a step.
pub(super) struct Surroundings<'a> {
    pub(super) settings: &'a Settings,
    pub(super) directory: &'a dyn Directory,
    pub(super) nonce: &'a mut Nonce,
    pub(super) outbox: &'a mut Outbox,
}

/// Facts of the first request.
struct Identity {
    session: SessionInfo,
    authorization: Authorization,
    proof: Proof,
    negotiation: Negotiation,
    stage: Stage,
}

/// One login.
pub(super) struct Login {
    identity: Option<Identity>,
    gathering: Gathering,
    /// The part of our answer that did not fit into one response.
    unsent: Bytes,
    stat_sn: u32,
    cmd_sn: u32,
    /// MaxCmdSN minus ExpCmdSN: the initiator must know its window before the first response of
    /// the full feature phase.
    window_ahead: u32,
    last: Option<LoginRequest>,
}

impl Login {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            identity: None,
            gathering: Gathering::new(settings.text_bytes_max),
            unsent: Bytes::new(),
            stat_sn: 0,
            cmd_sn: 0,
            window_ahead: settings.window.max(1) - 1,
            last: None,
        }
    }

    /// The session, as far as the login has come.
    pub(super) fn session(&self) -> Option<&SessionInfo> {
        self.identity.as_ref().map(|identity| &identity.session)
    }

    /// Take one PDU.
    pub(super) fn step(&mut self, frame: &Frame, around: &mut Surroundings<'_>) -> Outcome {
        if frame.header.opcode() != Some(Opcode::LoginRequest) {
            return Outcome::NotLogin;
        }
        let request = LoginRequest::decode(&frame.header);
        if self.last.is_none() {
            // The initiator's ExpStatSN has no meaning yet; starting from it spares a number.
            (self.stat_sn, self.cmd_sn) = (request.exp_stat_sn, request.cmd_sn);
        }
        let previous = self.last.replace(request);
        let turn = check(&request, previous.as_ref(), self.identity.as_ref())
            .and_then(|()| self.turn(&request, &frame.data, around));
        match turn {
            Ok(outcome) => outcome,
            Err(Refusal(status, why)) => {
                self.respond(around.outbox, status, false, false, Bytes::new());
                Outcome::Refused { why: format!("{} ({why})", status.meaning()) }
            }
        }
    }

    /// Gather the text, answer it, and grant the transit where it may be granted.
    fn turn(
        &mut self,
        request: &LoginRequest,
        segment: &[u8],
        around: &mut Surroundings<'_>,
    ) -> Result<Outcome, Refusal> {
        if !self.unsent.is_empty() {
            if !segment.is_empty() {
                return refuse(LoginStatus::INVALID_REQUEST, "text while our answer goes on");
            }
            return self.reply(request, around);
        }
        let Some(pairs) = self.gathering.add(segment, request.continues)? else {
            self.respond(around.outbox, LoginStatus::SUCCESS, false, false, Bytes::new());
            return Ok(Outcome::GoesOn);
        };
        let mut answer = Vec::new();
        if self.identity.is_none() {
            self.identity = Some(identify(request, &pairs, around, &mut answer)?);
        }
        let Some(identity) = &mut self.identity else {
            return refuse(LoginStatus::TARGET_ERROR, "no identity");
        };
        match identity.stage {
            Stage::Security => identity.secure(&pairs, around.nonce, &mut answer)?,
            _ => identity.negotiation.answer(&pairs, &mut answer)?,
        }
        self.unsent = answer.into();
        self.reply(request, around)
    }

    /// Send the next part of the answer; with its last part, move on if the initiator asks to.
    fn reply(
        &mut self,
        request: &LoginRequest,
        around: &mut Surroundings<'_>,
    ) -> Result<Outcome, Refusal> {
        let Some(identity) = &mut self.identity else {
            return refuse(LoginStatus::TARGET_ERROR, "no identity");
        };
        let last = self.unsent.len() <= LOGIN_SEGMENT_BYTES;
        let transit = last && request.transit && identity.may_leave()?;
        if transit && request.next == Some(Stage::FullFeature) {
            return Ok(Outcome::Opening);
        }
        if transit {
            identity.stage = Stage::Operational;
        }
        let part = self.unsent.split_to(self.unsent.len().min(LOGIN_SEGMENT_BYTES));
        self.respond(around.outbox, LoginStatus::SUCCESS, transit, !last, part);
        Ok(Outcome::GoesOn)
    }

    /// The shell agreed: send the last response. Gives what the full feature phase starts with.
    pub(super) fn open(
        mut self,
        tsih: u16,
        outbox: &mut Outbox,
    ) -> Option<(SessionInfo, Parameters, Numbers)> {
        if let Some(identity) = &mut self.identity {
            identity.session.tsih = tsih;
        }
        let part = std::mem::take(&mut self.unsent);
        self.respond(outbox, LoginStatus::SUCCESS, true, false, part);
        let identity = self.identity?;
        let numbers = Numbers { stat_sn: self.stat_sn, exp_cmd_sn: self.cmd_sn, max_cmd_sn: 0 };
        Some((identity.session, *identity.negotiation.parameters(), numbers))
    }

    /// The shell refused.
    pub(super) fn refuse(&mut self, status: LoginStatus, outbox: &mut Outbox) {
        self.respond(outbox, status, false, false, Bytes::new());
    }

    fn respond(
        &mut self,
        outbox: &mut Outbox,
        status: LoginStatus,
        transit: bool,
        continues: bool,
        part: Bytes,
    ) {
        let Some(request) = self.last else { return };
        let tsih = match self.session() {
            Some(session) if transit && session.tsih != 0 => session.tsih,
            _ => request.tsih,
        };
        let response = LoginResponse {
            transit,
            continues,
            current: request.current,
            next: request.next,
            version_max: 0,
            version_active: 0,
            isid: request.isid,
            tsih,
            itt: request.itt,
            numbers: Numbers {
                stat_sn: self.stat_sn,
                exp_cmd_sn: self.cmd_sn,
                max_cmd_sn: self.cmd_sn.wrapping_add(self.window_ahead),
            },
            status,
        };
        self.stat_sn = self.stat_sn.wrapping_add(1);
        outbox.push(response.encode(), &[], &[part]);
    }
}

/// The rules for the header of a request (RFC 7143 11.12).
fn check(
    request: &LoginRequest,
    previous: Option<&LoginRequest>,
    identity: Option<&Identity>,
) -> Result<(), Refusal> {
    if request.version_min > 0 {
        return refuse(LoginStatus::UNSUPPORTED_VERSION, "only version 0 is known");
    }
    let same = |p: &LoginRequest| (p.isid, p.tsih, p.cid, p.itt);
    if previous.is_some_and(|previous| same(previous) != same(request)) {
        return refuse(LoginStatus::INVALID_REQUEST, "ISID, TSIH, CID or tag changed on the way");
    }
    if request.transit && request.continues {
        return refuse(LoginStatus::INITIATOR_ERROR, "T and C are both set");
    }
    let expected = identity.map(|identity| identity.stage);
    match request.current {
        Some(Stage::Security | Stage::Operational)
            if expected.is_none() || expected == request.current => {}
        _ => return refuse(LoginStatus::INVALID_REQUEST, "this is not the current stage"),
    }
    let legal = match (request.current, request.next) {
        (Some(Stage::Security), Some(Stage::Operational | Stage::FullFeature)) => true,
        (Some(Stage::Operational), Some(Stage::FullFeature)) => true,
        _ => !request.transit,
    };
    if legal { Ok(()) } else { refuse(LoginStatus::INVALID_REQUEST, "no way to that stage") }
}

/// The keys of the first request: who wants what, and may they?
fn identify(
    request: &LoginRequest,
    pairs: &[Pair],
    around: &Surroundings<'_>,
    answer: &mut Vec<u8>,
) -> Result<Identity, Refusal> {
    let normal = |key: &str, value: &str| {
        name::normalize(value).or_else(|why| {
            refuse(LoginStatus::INITIATOR_ERROR, format!("{key} is no iSCSI name: {why}"))
        })
    };
    let Some(initiator) = text::find(pairs, "InitiatorName") else {
        return refuse(LoginStatus::MISSING_PARAMETER, "InitiatorName is missing");
    };
    let initiator = normal("InitiatorName", initiator)?;
    let target = match (text::find(pairs, "SessionType"), text::find(pairs, "TargetName")) {
        (Some("Discovery"), _) => None,
        (None | Some("Normal"), Some(target)) => Some(normal("TargetName", target)?),
        (None | Some("Normal"), None) => {
            return refuse(LoginStatus::MISSING_PARAMETER, "TargetName is missing");
        }
        (Some(_), _) => {
            return refuse(
                LoginStatus::SESSION_TYPE,
                "SessionType is neither Discovery nor Normal",
            );
        }
    };
    let authorization = around.directory.authorize(&initiator, target.as_deref());
    let proof = match &authorization {
        Authorization::NoSuchTarget => return refuse(LoginStatus::NOT_FOUND, "no such target"),
        Authorization::Forbidden => {
            return refuse(LoginStatus::AUTHORIZATION_FAILURE, "the initiator has no access");
        }
        Authorization::Open => Proof::Given,
        Authorization::Chap { .. } => Proof::Needed,
    };
    let stage = request.current.unwrap_or(Stage::Security);
    if stage == Stage::Operational && matches!(proof, Proof::Needed) {
        let why = "CHAP is required, but the login skips the security stage";
        return refuse(LoginStatus::AUTHENTICATION_FAILURE, why);
    }
    if target.is_some() {
        text::append(answer, "TargetPortalGroupTag", around.settings.portal_group_tag);
        if let Some(alias) = &around.settings.target_alias {
            text::append(answer, "TargetAlias", alias);
        }
    }
    let negotiation = Negotiation::new(offer(around.settings), target.is_none());
    let (isid, tsih, cid) = (request.isid, request.tsih, request.cid);
    let session = SessionInfo { initiator, isid, tsih, cid, target };
    Ok(Identity { session, authorization, proof, negotiation, stage })
}

fn offer(settings: &Settings) -> Offer {
    Offer {
        header_digest: settings.header_digest.list(),
        data_digest: settings.data_digest.list(),
        initial_r2t: settings.initial_r2t,
        immediate_data: settings.immediate_data,
        max_recv_bytes: settings.max_recv_data_segment_bytes,
        max_burst_bytes: settings.max_burst_bytes,
        first_burst_bytes: settings.first_burst_bytes,
        max_outstanding_r2t: settings.max_outstanding_r2t.max(1),
        time2wait_s: settings.time2wait_s,
        time2retain_s: settings.time2retain_s,
    }
}

impl Identity {
    /// May the current stage be left? A transit that comes while CHAP is on its way is not
    /// granted yet; one without any attempt at CHAP ends the login.
    fn may_leave(&self) -> Result<bool, Refusal> {
        match self.proof {
            Proof::Given => Ok(true),
            Proof::Method | Proof::Challenged(_) => Ok(false),
            Proof::Needed => refuse(LoginStatus::AUTHENTICATION_FAILURE, "CHAP is required"),
        }
    }

    /// The security stage.
    fn secure(
        &mut self,
        pairs: &[Pair],
        nonce: &mut Nonce,
        answer: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        if let Some(list) = text::find(pairs, "AuthMethod") {
            self.choose_method(list, answer)?;
        }
        if let Some(list) = text::find(pairs, "CHAP_A") {
            self.challenge(list, nonce, answer)?;
        }
        if text::find(pairs, "CHAP_R").is_some() {
            self.verify(pairs, answer)?;
        }
        for (key, _) in pairs {
            if !key.starts_with("CHAP_") && key != "AuthMethod" {
                self.negotiation.answer_in_security(key, answer)?;
            }
        }
        Ok(())
    }

    fn choose_method(&mut self, list: &str, answer: &mut Vec<u8>) -> Result<(), Refusal> {
        let offered = |method: &str| list.split(',').any(|m| m == method);
        match (&self.proof, &self.authorization) {
            (Proof::Given, Authorization::Open) if offered("None") => {
                text::append(answer, "AuthMethod", "None");
            }
            (Proof::Needed, Authorization::Chap { .. }) if offered("CHAP") => {
                text::append(answer, "AuthMethod", "CHAP");
                self.proof = Proof::Method;
            }
            (Proof::Method | Proof::Challenged(_), _) => {
                return refuse(LoginStatus::INITIATOR_ERROR, "AuthMethod comes twice");
            }
            _ => {
                let why = format!("no common authentication method in {list:.80}");
                return refuse(LoginStatus::AUTHENTICATION_FAILURE, why);
            }
        }
        Ok(())
    }

    fn challenge(
        &mut self,
        list: &str,
        nonce: &mut Nonce,
        answer: &mut Vec<u8>,
    ) -> Result<(), Refusal> {
        if !matches!(self.proof, Proof::Method) {
            return refuse(LoginStatus::INITIATOR_ERROR, "CHAP_A out of turn");
        }
        let Some(algorithm) = Algorithm::choose(list) else {
            return refuse(LoginStatus::AUTHENTICATION_FAILURE, "no common CHAP algorithm");
        };
        let challenge = Challenge::new(algorithm, nonce);
        text::append(answer, "CHAP_A", algorithm.number());
        text::append(answer, "CHAP_I", challenge.identifier);
        text::append(answer, "CHAP_C", chap::encode(&challenge.bytes));
        self.proof = Proof::Challenged(challenge);
        Ok(())
    }

    /// The response to our challenge, and the initiator's own challenge where it sends one.
    fn verify(&mut self, pairs: &[Pair], answer: &mut Vec<u8>) -> Result<(), Refusal> {
        let (Proof::Challenged(challenge), Authorization::Chap { user, secret, mutual }) =
            (&self.proof, &self.authorization)
        else {
            return refuse(LoginStatus::INITIATOR_ERROR, "CHAP_R out of turn");
        };
        let response = text::find(pairs, "CHAP_R").and_then(chap::decode).unwrap_or_default();
        // Evaluate both, so that the time taken does not tell which one was wrong.
        let named = text::find(pairs, "CHAP_N") == Some(user.as_str());
        let met = challenge.is_met(secret, &response);
        if !(named & met) {
            return refuse(LoginStatus::AUTHENTICATION_FAILURE, "wrong CHAP name or secret");
        }
        match (text::find(pairs, "CHAP_I"), text::find(pairs, "CHAP_C")) {
            (None, None) => {}
            (Some(identifier), Some(theirs)) => {
                let Some((name, own_secret)) = mutual else {
                    let why = "mutual CHAP is asked for, but the target has no secret";
                    return refuse(LoginStatus::AUTHENTICATION_FAILURE, why);
                };
                let proof = prove(challenge, identifier, theirs, own_secret, secret)?;
                text::append(answer, "CHAP_N", name);
                text::append(answer, "CHAP_R", chap::encode(&proof));
            }
            _ => return refuse(LoginStatus::INITIATOR_ERROR, "CHAP_I and CHAP_C go together"),
        }
        self.proof = Proof::Given;
        Ok(())
    }
}

/// Our own response to the initiator's challenge. A challenge that is our own thrown back, or a
/// secret used in both directions, would let an attacker have us compute its answers
/// (RFC 7143 9.2.1).
fn prove(
    ours: &Challenge,
    identifier: &str,
    theirs: &str,
    own_secret: &str,
    secret: &str,
) -> Result<Vec<u8>, Refusal> {
    let identifier = text::number(identifier).and_then(|n| u8::try_from(n).ok());
    let theirs = chap::decode(theirs).filter(|c| chap::CHALLENGE_BYTES.contains(&c.len()));
    let (Some(identifier), Some(theirs)) = (identifier, theirs) else {
        return refuse(LoginStatus::AUTHENTICATION_FAILURE, "CHAP_I or CHAP_C is malformed");
    };
    if theirs == ours.bytes {
        return refuse(LoginStatus::AUTHENTICATION_FAILURE, "our own challenge came back");
    }
    if own_secret == secret {
        return refuse(LoginStatus::AUTHENTICATION_FAILURE, "one secret serves both directions");
    }
    Ok(ours.algorithm.respond(identifier, own_secret.as_bytes(), &theirs))
}
