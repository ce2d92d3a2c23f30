//! Access control lists as bytes: what the kernel keeps, and what archives say.
//!
//! The kernel's form (`include/uapi/linux/posix_acl_xattr.h`) is a version and then, for each
//! entry, tag, permissions and id, little-endian. The text is that of POSIX.1e draft 17, 23.3.

use model::file::{Acl, AclEntry, AclWho};

const VERSION: u32 = 2;
const ENTRY_BYTES: usize = 8;
/// The id of an entry that has none.
const NO_ID: u32 = u32::MAX;

const OWNER: u16 = 0x01;
const USER: u16 = 0x02;
const OWNING_GROUP: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHERS: u16 = 0x20;

/// As the kernel takes it.
pub(crate) fn encode(acl: &Acl) -> Vec<u8> {
    let mut bytes = VERSION.to_le_bytes().to_vec();
    for AclEntry { who, may } in &acl.0 {
        let (tag, id) = match who {
            AclWho::Owner => (OWNER, NO_ID),
            AclWho::User(id) => (USER, *id),
            AclWho::OwningGroup => (OWNING_GROUP, NO_ID),
            AclWho::Group(id) => (GROUP, *id),
            AclWho::Mask => (MASK, NO_ID),
            AclWho::Others => (OTHERS, NO_ID),
        };
        bytes.extend(tag.to_le_bytes());
        bytes.extend(may.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

pub(crate) fn decode(bytes: &[u8]) -> Option<Acl> {
    let (version, entries) = bytes.split_first_chunk()?;
    if u32::from_le_bytes(*version) != VERSION || entries.len() % ENTRY_BYTES != 0 {
        return None;
    }
    let entries = entries.chunks_exact(ENTRY_BYTES).map(|entry| {
        let [tag, tag_high, may, may_high, id @ ..] = entry else { return None };
        let id = u32::from_le_bytes(id.try_into().ok()?);
        let who = match u16::from_le_bytes([*tag, *tag_high]) {
            OWNER => AclWho::Owner,
            USER => AclWho::User(id),
            OWNING_GROUP => AclWho::OwningGroup,
            GROUP => AclWho::Group(id),
            MASK => AclWho::Mask,
            OTHERS => AclWho::Others,
            _ => return None,
        };
        let may = u16::from_le_bytes([*may, *may_high]);
        (may <= 7).then_some(AclEntry { who, may })
    });
    entries.collect::<Option<Vec<_>>>().map(Acl)
}

/// With numbers for users and groups, since a name means somebody else on another machine.
pub(crate) fn text(acl: &Acl) -> String {
    let entry = |AclEntry { who, may }: &AclEntry| {
        let who = match who {
            AclWho::Owner => "user:".to_owned(),
            AclWho::User(id) => format!("user:{id}"),
            AclWho::OwningGroup => "group:".to_owned(),
            AclWho::Group(id) => format!("group:{id}"),
            AclWho::Mask => "mask:".to_owned(),
            AclWho::Others => "other:".to_owned(),
        };
        let bit = |bit, letter| if may & bit == 0 { '-' } else { letter };
        format!("{who}:{}{}{}", bit(4, 'r'), bit(2, 'w'), bit(1, 'x'))
    };
    acl.0.iter().map(entry).collect::<Vec<_>>().join(",")
}

/// Why a text is no list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Unreadable {
    Malformed,
    /// It names a user or group and gives no number.
    Named(String),
}

/// A list as text: with commas or lines between entries, the remarks of `getfacl`, and the numbers
/// that star and bsdtar write behind names.
pub(crate) fn parse(text: &[u8]) -> Result<Acl, Unreadable> {
    let text = std::str::from_utf8(text).map_err(|_| Unreadable::Malformed)?;
    let (mut acl, mut named) = (Acl::default(), None);
    for entry in text.split([',', '\n']) {
        let entry = entry.split('#').next().unwrap_or_default().trim();
        if entry.is_empty() {
            continue;
        }
        let mut fields = entry.split(':');
        let mut field = || fields.next().map(str::trim);
        let (tag, name, may) = match (field(), field(), field()) {
            (Some(tag), Some(name), Some(may)) => (tag, name, may),
            // "other" and "mask" may go without a name's place.
            (Some(tag @ ("other" | "o" | "mask" | "m")), Some(may), None) => (tag, "", may),
            _ => return Err(Unreadable::Malformed),
        };
        let id = [Some(name), field()].into_iter().flatten().find_map(|id| id.parse().ok());
        let who = match (tag, name, id) {
            ("user" | "u", "", _) => AclWho::Owner,
            ("user" | "u", _, Some(id)) => AclWho::User(id),
            ("group" | "g", "", _) => AclWho::OwningGroup,
            ("group" | "g", _, Some(id)) => AclWho::Group(id),
            ("mask" | "m", "", _) => AclWho::Mask,
            ("other" | "o", "", _) => AclWho::Others,
            ("user" | "u" | "group" | "g", name, None) => {
                named = Some(name.to_owned());
                continue;
            }
            _ => return Err(Unreadable::Malformed),
        };
        acl.0.push(AclEntry { who, may: permissions(may).ok_or(Unreadable::Malformed)? });
    }
    match named {
        Some(name) => Err(Unreadable::Named(name)),
        None => Ok(acl),
    }
}

fn permissions(text: &str) -> Option<u16> {
    text.chars().try_fold(0, |may, letter| match letter {
        'r' => Some(may | 4),
        'w' => Some(may | 2),
        'x' => Some(may | 1),
        '-' => Some(may),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list() -> Acl {
        use AclWho::{Group, Mask, Others, Owner, OwningGroup, User};
        let all = [
            (Owner, 7),
            (User(1234), 6),
            (User(0), 4),
            (OwningGroup, 5),
            (Group(77), 0),
            (Mask, 7),
            (Others, 1),
        ];
        Acl(all.map(|(who, may)| AclEntry { who, may }).to_vec())
    }

    #[test]
    fn lists_are_bytes_and_text_and_back() {
        assert_eq!(decode(&encode(&list())), Some(list()));
        let said = text(&list());
        let wanted =
            "user::rwx,user:1234:rw-,user:0:r--,group::r-x,group:77:---,mask::rwx,other::--x";
        assert_eq!(said, wanted);
        assert_eq!(parse(said.as_bytes()), Ok(list()));
        let whole = encode(&list());
        for bad in [&b""[..], &whole[..whole.len() - 1], &[1, 0, 0, 0], &[2, 0, 0, 0, 3, 0, 0, 0]] {
            assert_eq!(decode(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn texts_of_other_programs_are_read() {
        let said = b"user::rwx\nuser:joe:rw-:1234\nuser:0:r--\t#effective:r--\ngroup::r-x\n\
            g:wheel:---:77\nmask::rwx\nother:--x\n";
        assert_eq!(parse(said), Ok(list()));
        let named = parse(b"user::rw-,user:joe:rwx,group::r--,mask::rwx,other::---");
        assert_eq!(named, Err(Unreadable::Named("joe".to_owned())));
        for bad in ["user::rwz", "owner::rwx", "user", "mask:x:rwx", "\u{ff}"] {
            assert_eq!(parse(bad.as_bytes()), Err(Unreadable::Malformed), "{bad}");
        }
        assert_eq!(parse(b"\xff"), Err(Unreadable::Malformed));
    }
}
