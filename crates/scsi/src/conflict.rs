//! How a command relates to reservations: the classes that the command table assigns and that the
//! reservation machine judges (SPC-5 table 60; SPC-2 5.5.1).

/// The class of a command under a persistent reservation of somebody else.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConflictClass {
    /// Allowed whoever holds what.
    Always,
    /// Allowed under the Write Exclusive types, conflicts under the Exclusive Access types.
    Read,
    /// Conflicts under all. The default for anything not known to be milder.
    Write,
    /// Judged by the reservation machine itself, by service action (PERSISTENT RESERVE OUT,
    /// RESERVE, RELEASE).
    Reservation,
}

/// A command's place in both conflict tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Conflict {
    pub persistent: ConflictClass,
    /// Allowed while another nexus holds an SPC-2 reservation (INQUIRY, REPORT LUNS, REQUEST
    /// SENSE, RELEASE).
    pub under_legacy: bool,
}
