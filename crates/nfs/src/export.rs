//! Exports: which file trees are served, where, to whom, and as whom a client acts there.
//!
//! Entry points: [`Exports`], a value that the shell replaces whole when an export or a rule
//! changes (so that a change counts from the next request on), and [`Export::admit`].

use std::net::IpAddr;

use bytes::Bytes;
use model::file::{Caller, FileStore};

use crate::handle::{FileSystemId, HandleKey};
use crate::pseudo::Pseudo;
use crate::rpc::Credential;

/// Uid and gid of nobody, where a rule names no other.
pub const NOBODY: u32 = 65534;

/// Addresses that share their first bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Network {
    pub address: IpAddr,
    /// How many bits are shared; all of them for one machine.
    pub prefix_bits: u8,
}

impl Network {
    /// Whether the address is one of these. An IPv4 address that came in an IPv6 socket is the
    /// IPv4 address that it maps.
    #[must_use]
    pub fn holds(&self, address: IpAddr) -> bool {
        match (self.address.to_canonical(), address.to_canonical()) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => {
                let differs = u32::from(ours) ^ u32::from(theirs);
                differs.checked_shr(32 - u32::from(self.prefix_bits.min(32))).unwrap_or(0) == 0
            }
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => {
                let differs = u128::from(ours) ^ u128::from(theirs);
                differs.checked_shr(128 - u32::from(self.prefix_bits.min(128))).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

/// Whose calls are made nobody's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Squash {
    None,
    Root,
    All,
}

/// What the clients of a network may do with an export.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rule {
    pub network: Network,
    pub read_only: bool,
    pub squash: Squash,
    /// Uid and gid of the squashed.
    pub anonymous: (u32, u32),
}

/// A client let in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Admitted {
    pub caller: Caller,
    pub read_only: bool,
}

/// One served tree.
#[derive(Clone, Debug)]
pub struct Export<F> {
    pub file_system: FileSystemId,
    /// Names from the root, none of them empty.
    pub path: Vec<Bytes>,
    pub store: F,
    /// Signs the handles of its files, wherever it is served; `None` for the server's own key.
    pub keys: Option<HandleKey>,
    /// The first whose network holds the client counts; without one there is no access.
    pub rules: Vec<Rule>,
}

impl<F> Export<F> {
    /// As whom this client acts here; `None` keeps it out.
    #[must_use]
    pub fn admit(&self, peer: IpAddr, credential: &Credential) -> Option<Admitted> {
        let rule = self.rules.iter().find(|rule| rule.network.holds(peer))?;
        let (uid, gid) = rule.anonymous;
        let anonymous = Caller { uid, gid, gids: Vec::new() };
        let caller = match (credential, rule.squash) {
            (Credential::None, _) | (_, Squash::All) => anonymous,
            (Credential::Sys(sys), Squash::Root) if sys.uid == 0 => anonymous,
            (Credential::Sys(sys), squash) => {
                // Root's group opens root's files no less than root's name does.
                let squashed = |id| if squash == Squash::Root && id == 0 { gid } else { id };
                let gids = sys.gids.iter().map(|id| squashed(*id)).collect();
                Caller { uid: sys.uid, gid: squashed(sys.gid), gids }
            }
        };
        Some(Admitted { caller, read_only: rule.read_only })
    }

    /// The path as text, for MOUNT.
    #[must_use]
    pub fn name(&self) -> Bytes {
        let mut name = Vec::new();
        for part in &self.path {
            name.push(b'/');
            name.extend_from_slice(part);
        }
        if name.is_empty() { Bytes::from_static(b"/") } else { name.into() }
    }
}

/// All that is served.
#[derive(Clone, Debug)]
pub struct Exports<F> {
    /// By file system.
    exports: Vec<Export<F>>,
    /// Those whose files cannot be reached yet.
    waiting: Vec<Export<()>>,
    pseudo: Pseudo,
}

/// Why exports cannot be served together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ExportError {
    #[error("two exports have the same file system")]
    SameFileSystem,
    #[error("an export's path is empty, has an empty name, or lies inside another export")]
    Path,
}

impl<F: FileStore> Exports<F> {
    /// # Errors
    /// Two exports cannot be told apart.
    pub fn new(exports: Vec<Export<F>>) -> Result<Self, ExportError> {
        Self::with_waiting(exports, Vec::new())
    }

    /// Exports, and others whose files will be there later: their clients are told to try again,
    /// where a stale handle would make them give up.
    ///
    /// # Errors
    /// Two exports cannot be told apart.
    pub fn with_waiting(
        mut exports: Vec<Export<F>>,
        waiting: Vec<Export<()>>,
    ) -> Result<Self, ExportError> {
        let ready = exports.iter().map(|export| (&export.path[..], export.file_system));
        let later = waiting.iter().map(|export| (&export.path[..], export.file_system));
        let mut all: Vec<(&[Bytes], FileSystemId)> = ready.chain(later).collect();
        all.sort_unstable();
        // In this order what lies inside an export comes right behind it.
        if all.windows(2).any(|pair| pair[1].0.starts_with(pair[0].0)) {
            return Err(ExportError::Path);
        }
        let is_path = |path: &[Bytes]| !path.is_empty() && path.iter().all(|name| is_name(name));
        if !all.iter().all(|(path, _)| is_path(path)) {
            return Err(ExportError::Path);
        }
        let pseudo = Pseudo::new(all.iter().copied());
        all.sort_unstable_by_key(|(_, file_system)| *file_system);
        if all.windows(2).any(|pair| pair[0].1 == pair[1].1) {
            return Err(ExportError::SameFileSystem);
        }
        exports.sort_by_key(|export| export.file_system);
        Ok(Self { exports, waiting, pseudo })
    }

    /// An export that is not ready.
    #[must_use]
    pub fn find_waiting(&self, file_system: FileSystemId) -> Option<&Export<()>> {
        self.waiting.iter().find(|export| export.file_system == file_system)
    }
    /// All that are not ready.
    pub fn iter_waiting(&self) -> impl Iterator<Item = &Export<()>> {
        self.waiting.iter()
    }
    #[must_use]
    pub fn find(&self, file_system: FileSystemId) -> Option<&Export<F>> {
        let found = self.exports.binary_search_by_key(&file_system, |export| export.file_system);
        found.ok().map(|at| &self.exports[at])
    }
    pub fn iter(&self) -> impl Iterator<Item = &Export<F>> {
        self.exports.iter()
    }
    /// Whether any export lets a client of this address in.
    #[must_use]
    pub fn admits(&self, peer: IpAddr) -> bool {
        let ready = self.exports.iter().flat_map(|export| &export.rules);
        let later = self.waiting.iter().flat_map(|export| &export.rules);
        ready.chain(later).any(|rule| rule.network.holds(peer))
    }
    #[must_use]
    pub fn pseudo(&self) -> &Pseudo {
        &self.pseudo
    }
}

/// Whether a name can be one of a directory entry.
#[must_use]
pub fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && name != b"." && name != b".." && !name.contains(&b'/') && !name.contains(&0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::AuthSys;

    fn network(address: &str, prefix_bits: u8) -> Network {
        Network { address: address.parse().unwrap(), prefix_bits }
    }

    #[test]
    fn a_network_holds_the_addresses_of_its_prefix() {
        let cases = [
            ("10.1.2.0", 24, "10.1.2.255", true),
            ("10.1.2.0", 24, "10.1.3.0", false),
            ("10.1.2.3", 32, "10.1.2.3", true),
            ("10.1.2.3", 32, "10.1.2.2", false),
            ("10.1.2.0", 24, "::ffff:10.1.2.9", true),
            ("0.0.0.0", 0, "255.1.1.1", true),
            ("0.0.0.0", 0, "::1", false),
            ("::", 0, "fe80::1", true),
            ("fd00::", 8, "fd12::1", true),
            ("fd00::", 8, "fe12::1", false),
        ];
        for (ours, bits, theirs, holds) in cases {
            assert_eq!(network(ours, bits).holds(theirs.parse().unwrap()), holds, "{theirs}");
        }
    }

    fn export(squash: Squash) -> Export<()> {
        let rule = |address, bits, read_only| Rule {
            network: network(address, bits),
            read_only,
            squash,
            anonymous: (70, 71),
        };
        Export {
            file_system: FileSystemId([1; 16]),
            keys: None,
            path: vec!["a".into()],
            store: (),
            rules: vec![rule("10.0.0.1", 32, true), rule("10.0.0.0", 8, false)],
        }
    }

    fn sys(uid: u32, gid: u32, gids: &[u32]) -> Credential {
        let gids = gids.to_vec();
        Credential::Sys(AuthSys { stamp: 0, machine: Bytes::new(), uid, gid, gids })
    }

    fn who(squash: Squash, credential: &Credential) -> (u32, u32, Vec<u32>) {
        let admitted = export(squash).admit("10.9.9.9".parse().unwrap(), credential).unwrap();
        (admitted.caller.uid, admitted.caller.gid, admitted.caller.gids)
    }

    #[test]
    fn the_first_rule_that_holds_the_client_counts() {
        let read_only = |peer: &str| {
            let admitted = export(Squash::None).admit(peer.parse().unwrap(), &Credential::None);
            admitted.map(|admitted| admitted.read_only)
        };
        assert_eq!(read_only("10.0.0.1"), Some(true));
        assert_eq!(read_only("10.0.0.2"), Some(false));
        assert_eq!(read_only("11.0.0.2"), None);
    }

    #[test]
    fn exports_that_cannot_be_told_apart_are_refused() {
        use crate::memory::Memory;
        let make = |exports: &[(u8, &'static str)]| {
            let export = |(id, path): &(u8, &'static str)| Export {
                file_system: FileSystemId([*id; 16]),
                keys: None,
                path: path.split('/').map(|name| Bytes::from_static(name.as_bytes())).collect(),
                store: Memory::new(0, 0),
                rules: Vec::new(),
            };
            Exports::new(exports.iter().map(export).collect()).map(|exports| exports.iter().count())
        };
        assert_eq!(make(&[(2, "a/b"), (1, "a/c"), (3, "a.b")]), Ok(3));
        assert_eq!(make(&[(1, "a"), (2, "a.b"), (3, "a/c")]).err(), Some(ExportError::Path));
        assert_eq!(make(&[(1, "a"), (1, "b")]).err(), Some(ExportError::SameFileSystem));
        assert_eq!(make(&[(1, "a"), (2, "a")]).err(), Some(ExportError::Path));
        assert_eq!(make(&[(1, "a/../b")]).err(), Some(ExportError::Path));
        assert_eq!(make(&[(1, "")]).err(), Some(ExportError::Path));
    }

    #[test]
    fn squashing_leaves_nothing_of_root() {
        assert_eq!(who(Squash::Root, &sys(0, 0, &[0, 4])), (70, 71, vec![]));
        assert_eq!(who(Squash::Root, &sys(5, 0, &[0, 4])), (5, 71, vec![71, 4]));
        assert_eq!(who(Squash::None, &sys(0, 0, &[0])), (0, 0, vec![0]));
        assert_eq!(who(Squash::All, &sys(5, 6, &[7])), (70, 71, vec![]));
        assert_eq!(who(Squash::None, &Credential::None), (70, 71, vec![]));
    }
}
