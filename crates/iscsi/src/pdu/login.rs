//! Login Request and Login Response (RFC 7143 11.12, 11.13).

use super::{CONTINUE, FINAL, Header, Numbers, Opcode};

/// The stages of a login (RFC 7143 11.12.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Stage {
    Security = 0,
    Operational = 1,
    FullFeature = 3,
}

impl Stage {
    fn decode(code: u8) -> Option<Self> {
        match code & 3 {
            0 => Some(Self::Security),
            1 => Some(Self::Operational),
            3 => Some(Self::FullFeature),
            _ => None,
        }
    }
}

/// Status class and detail (RFC 7143 11.13.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LoginStatus(pub u8, pub u8);

/// Every status that the standard names, with its meaning.
pub const LOGIN_STATUS: [(LoginStatus, &str); 17] = [
    (LoginStatus::SUCCESS, "success"),
    (LoginStatus(1, 1), "target moved temporarily"),
    (LoginStatus(1, 2), "target moved permanently"),
    (LoginStatus::INITIATOR_ERROR, "initiator error"),
    (LoginStatus::AUTHENTICATION_FAILURE, "authentication failure"),
    (LoginStatus::AUTHORIZATION_FAILURE, "authorization failure"),
    (LoginStatus::NOT_FOUND, "target not found"),
    (LoginStatus(2, 4), "target removed"),
    (LoginStatus::UNSUPPORTED_VERSION, "unsupported version"),
    (LoginStatus::TOO_MANY_CONNECTIONS, "too many connections"),
    (LoginStatus::MISSING_PARAMETER, "missing parameter"),
    (LoginStatus(2, 8), "connection cannot be included in this session"),
    (LoginStatus::SESSION_TYPE, "session type not supported"),
    (LoginStatus::NO_SUCH_SESSION, "session does not exist"),
    (LoginStatus::INVALID_REQUEST, "invalid request during login"),
    (LoginStatus::TARGET_ERROR, "target error"),
    (LoginStatus(3, 1), "service unavailable"),
];

impl LoginStatus {
    pub const SUCCESS: Self = Self(0, 0);
    pub const INITIATOR_ERROR: Self = Self(2, 0);
    pub const AUTHENTICATION_FAILURE: Self = Self(2, 1);
    pub const AUTHORIZATION_FAILURE: Self = Self(2, 2);
    pub const NOT_FOUND: Self = Self(2, 3);
    pub const UNSUPPORTED_VERSION: Self = Self(2, 5);
    pub const TOO_MANY_CONNECTIONS: Self = Self(2, 6);
    pub const MISSING_PARAMETER: Self = Self(2, 7);
    pub const SESSION_TYPE: Self = Self(2, 9);
    pub const NO_SUCH_SESSION: Self = Self(2, 10);
    pub const INVALID_REQUEST: Self = Self(2, 11);
    pub const TARGET_ERROR: Self = Self(3, 0);
    pub const SERVICE_UNAVAILABLE: Self = Self(3, 1);
    pub const OUT_OF_RESOURCES: Self = Self(3, 2);

    /// The standard's words for it.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        if self == Self::OUT_OF_RESOURCES {
            return "out of resources";
        }
        LOGIN_STATUS.iter().find(|row| row.0 == self).map_or("unknown status", |row| row.1)
    }
}

/// Login Request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LoginRequest {
    /// T: the initiator is ready to go to `next`.
    pub transit: bool,
    /// C: the text goes on in the next request.
    pub continues: bool,
    /// None: a reserved stage.
    pub current: Option<Stage>,
    /// None: a reserved stage. Meaningless without `transit`.
    pub next: Option<Stage>,
    pub version_max: u8,
    pub version_min: u8,
    pub isid: [u8; 6],
    pub tsih: u16,
    pub itt: u32,
    pub cid: u16,
    pub cmd_sn: u32,
    pub exp_stat_sn: u32,
}

fn isid(header: &Header) -> [u8; 6] {
    let mut isid = [0; 6];
    isid.copy_from_slice(&header.0[8..14]);
    isid
}

fn flags(transit: bool, continues: bool, current: Option<Stage>, next: Option<Stage>) -> u8 {
    let code = |stage: Option<Stage>| stage.map_or(0, |stage| stage as u8);
    (if transit { FINAL | code(next) } else { 0 })
        | (if continues { CONTINUE } else { 0 })
        | code(current) << 2
}

impl LoginRequest {
    #[must_use]
    pub fn decode(header: &Header) -> Self {
        Self {
            transit: header.flag(FINAL),
            continues: header.flag(CONTINUE),
            current: Stage::decode(header.0[1] >> 2),
            next: Stage::decode(header.0[1]),
            version_max: header.0[2],
            version_min: header.0[3],
            isid: isid(header),
            tsih: header.half(14),
            itt: header.itt(),
            cid: header.half(20),
            cmd_sn: header.cmd_sn(),
            exp_stat_sn: header.exp_stat_sn(),
        }
    }
    /// Login requests are always immediate.
    #[must_use]
    pub fn encode(&self) -> Header {
        let flags = flags(self.transit, self.continues, self.current, self.next);
        let mut header = Header::new(Opcode::LoginRequest, flags)
            .with_immediate(true)
            .with_byte(2, self.version_max)
            .with_byte(3, self.version_min)
            .with_half(14, self.tsih)
            .with_word(16, self.itt)
            .with_half(20, self.cid)
            .with_word(24, self.cmd_sn)
            .with_word(28, self.exp_stat_sn);
        header.0[8..14].copy_from_slice(&self.isid);
        header
    }
}

/// Login Response.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LoginResponse {
    pub transit: bool,
    pub continues: bool,
    pub current: Option<Stage>,
    pub next: Option<Stage>,
    pub version_max: u8,
    pub version_active: u8,
    pub isid: [u8; 6],
    pub tsih: u16,
    pub itt: u32,
    pub numbers: Numbers,
    pub status: LoginStatus,
}

impl LoginResponse {
    #[must_use]
    pub fn decode(header: &Header) -> Self {
        Self {
            transit: header.flag(FINAL),
            continues: header.flag(CONTINUE),
            current: Stage::decode(header.0[1] >> 2),
            next: Stage::decode(header.0[1]),
            version_max: header.0[2],
            version_active: header.0[3],
            isid: isid(header),
            tsih: header.half(14),
            itt: header.itt(),
            numbers: header.numbers(),
            status: LoginStatus(header.0[36], header.0[37]),
        }
    }
    #[must_use]
    pub fn encode(&self) -> Header {
        let flags = flags(self.transit, self.continues, self.current, self.next);
        let mut header = Header::new(Opcode::LoginResponse, flags)
            .with_byte(2, self.version_max)
            .with_byte(3, self.version_active)
            .with_half(14, self.tsih)
            .with_word(16, self.itt)
            .with_numbers(&self.numbers)
            .with_byte(36, self.status.0)
            .with_byte(37, self.status.1);
        header.0[8..14].copy_from_slice(&self.isid);
        header
    }
}
