//! Which role takes which setting, and what a node cannot do without.
//!
//! Invariant: a setting that its role has no use for is refused; it is never passed over in
//! silence.

use super::{
    BUFFERS, CAPACITY, CHAP, CLIENT_FILE, EVENT_DAYS, IO, LISTEN, LOGINS, LOGINS_PER_ADDRESS,
    METRICS, NFS_LEASE, NFS_PORTALS, NFS_RPCBIND, PORTALS, Role, SERVE, SESSIONS, ServeArguments,
    WORKERS,
};
use crate::config::{ConfigError, Key, Layers, Origin};

const ALL: &str = "all";
const NODE: &str = "node";
const ALL_AND_NODE: &str = "all and node";
const ALL_AND_CONTROL: &str = "all and control";

/// The roles that take a setting, where not every role does.
const TAKERS: [(&Key, &str); 15] = [
    (&PORTALS, ALL_AND_NODE),
    (&NFS_PORTALS, ALL_AND_NODE),
    (&NFS_LEASE, ALL_AND_NODE),
    (&NFS_RPCBIND, ALL_AND_NODE),
    (&CAPACITY, ALL_AND_NODE),
    (&WORKERS, ALL_AND_NODE),
    (&SESSIONS, ALL_AND_NODE),
    (&LOGINS, ALL_AND_NODE),
    (&LOGINS_PER_ADDRESS, ALL_AND_NODE),
    (&BUFFERS, ALL_AND_NODE),
    (&CHAP, ALL_AND_CONTROL),
    (&EVENT_DAYS, ALL_AND_CONTROL),
    (&CLIENT_FILE, ALL_AND_CONTROL),
    (&IO, ALL),
    // The others have theirs at the API.
    (&METRICS, NODE),
];

/// What a role does anyway that does not take the setting: to say so is no mistake.
const TRUE_ANYWAY: [(&Key, Role, &str); 2] =
    [(&NFS_PORTALS, Role::Control, "none"), (&CLIENT_FILE, Role::Node, "false")];

/// What a node must be told: the defaults are on loopback, where neither a control plane nor hosts
/// and clients of other machines come.
const NODE_NEEDS: [&Key; 3] = [&LISTEN, &PORTALS, &NFS_PORTALS];

/// The roles that take it, if this one is not among them.
fn others(role: Role, key: &Key, text: &str) -> Option<&'static str> {
    let (_, takers) = TAKERS.iter().find(|(one, _)| one.name == key.name)?;
    let is_true = |(one, of, word): &(&Key, Role, &str)| {
        one.name == key.name && *of == role && *word == text.trim()
    };
    let takes = takers.split(" and ").any(|word| word == role.word());
    (!takes && !TRUE_ANYWAY.iter().any(is_true)).then_some(*takers)
}

/// Refuse what this role has no use for, and a node that is not told where it is found.
pub(super) fn check(
    role: Role,
    layers: &Layers,
    arguments: &ServeArguments,
) -> Result<(), ConfigError> {
    let mut missing = Vec::new();
    for (key, flag) in SERVE.iter().zip(arguments.flags()) {
        let given = layers.find(key, flag).filter(|value| value.origin != Origin::Default);
        let needed = role == Role::Node && NODE_NEEDS.iter().any(|one| one.name == key.name);
        match given {
            None if needed => missing.push(key.name),
            None => {}
            Some(value) => {
                if let Some(takers) = others(role, key, &value.text) {
                    let (name, origin, role) = (key.name, value.origin, role.word());
                    return Err(ConfigError::OtherRole { name, origin, role, takers });
                }
            }
        }
    }
    if missing.is_empty() { Ok(()) } else { Err(ConfigError::NodeUntold { missing }) }
}

/// Refuse to make a new token where no catalog is that could know it.
pub(super) fn check_new_token(role: Role) -> Result<(), ConfigError> {
    let origin = Origin::Flag("--new-token".to_owned());
    let (name, takers) = ("new token", ALL_AND_CONTROL);
    let refused = || ConfigError::OtherRole { name, origin, role: role.word(), takers };
    if role == Role::Node { Err(refused()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(role: Role, file: &str) -> Result<(), String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("serve.toml");
        std::fs::write(&path, file).unwrap();
        let layers = Layers::read(Some(&path), &[], &SERVE).unwrap();
        check(role, &layers, &ServeArguments::default()).map_err(|error| error.to_string())
    }

    const TOLD: &str = "listen = '10.0.0.2:1'\nportals = '10.0.0.2:2'\nnfs_portals = 'none'\n";

    #[test]
    fn a_setting_that_only_another_role_takes_is_refused_and_not_passed_over() {
        for (key, takers) in TAKERS {
            let text = format!("{TOLD}{} = '1'\n", key.name);
            let alone = format!("{} = '1'\n", key.name);
            // Of the two portals the file above has a word already.
            let of_node = if TOLD.contains(key.name) { TOLD } else { &text };
            for (role, file) in
                [(Role::All, &*alone), (Role::Control, &alone), (Role::Node, of_node)]
            {
                let answer = checked(role, file);
                if takers.split(" and ").any(|word| word == role.word()) {
                    assert_eq!(answer, Ok(()), "{role:?} {}", key.name);
                } else {
                    let said = answer.expect_err(key.name);
                    assert!(said.contains("serve.toml") && said.contains(takers), "{said}");
                }
            }
        }
        assert_eq!(checked(Role::Node, &format!("{TOLD}client_file = false")), Ok(()));
        assert_eq!(checked(Role::Control, "nfs_portals = 'none'"), Ok(()));
        assert!(check_new_token(Role::Node).is_err() && check_new_token(Role::Control).is_ok());
    }

    #[test]
    fn a_node_is_told_where_it_is_found() {
        assert_eq!(checked(Role::Node, TOLD), Ok(()));
        let said = checked(Role::Node, "listen = '10.0.0.2:1'").unwrap_err();
        assert!(said.contains("portals, nfs_portals") && !said.contains("listen"), "{said}");
        assert_eq!(checked(Role::Control, ""), Ok(()));
        assert_eq!(checked(Role::All, ""), Ok(()));
    }
}
