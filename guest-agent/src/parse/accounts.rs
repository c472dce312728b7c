//! `/etc/passwd` and `/etc/group` of the image, read as docker reads them.
//!
//! Purpose: turn `USER` (`name`, `uid`, `name:group`, `uid:gid`) into numbers with the
//! same results and the same sentences as docker, without the C library's lookups.

/// Where user and group numbers end, for docker and so for us.
const MAX_ID: i64 = i32::MAX as i64;

/// Who a process runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// User number.
    pub uid: u32,
    /// Primary group number.
    pub gid: u32,
    /// Supplementary groups; the primary group comes first, as docker does it.
    pub groups: Vec<u32>,
    /// Home directory, `/` where the files name none.
    pub home: String,
}

/// Why a user or a group has no number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccountError {
    /// A user's name that `/etc/passwd` does not have.
    #[error("unable to find user {0}: no matching entries in passwd file")]
    NoUser(String),
    /// A group's name that `/etc/group` does not have.
    #[error("unable to find group {0}: no matching entries in group file")]
    NoGroup(String),
    /// A number that is negative or too large.
    #[error("uids and gids must be in range 0-{MAX_ID}")]
    Range,
}

struct User<'a> {
    name: &'a [u8],
    uid: i64,
    gid: i64,
    home: &'a [u8],
}

struct Group<'a> {
    name: &'a [u8],
    gid: i64,
    members: &'a [u8],
}

/// Resolves `user` and the extra `groups` against the two files' content (empty where the
/// image has no such file).
pub fn resolve(
    user: &str,
    groups: &[String],
    passwd: &[u8],
    group: &[u8],
) -> Result<Identity, AccountError> {
    let mut fields = user.split(':');
    let user_field = fields.next().unwrap_or_default();
    let group_field = fields.next().unwrap_or_default();

    let user_number = user_field.parse::<i64>().ok();
    let entry = users(passwd).find(|u| match user_field {
        "" => u.uid == 0,
        name => u.name == name.as_bytes() || user_number == Some(u.uid),
    });
    let (mut uid, mut gid, mut home, mut name) = (0, 0, "/".to_owned(), None);
    if let Some(entry) = entry {
        (uid, gid) = (entry.uid, entry.gid);
        home = String::from_utf8_lossy(entry.home).into_owned();
        name = Some(entry.name);
    } else if !user_field.is_empty() {
        uid = user_number.ok_or_else(|| AccountError::NoUser(user_field.to_owned()))?;
    }

    let mut supplementary = Vec::new();
    if !group_field.is_empty() {
        gid = group_number(group_field, group)?;
    } else if let Some(name) = name.filter(|n| !n.is_empty()) {
        let of_user =
            self::groups(group).filter(|g| g.members.split(|b| *b == b',').any(|m| m == name));
        for entry in of_user {
            supplementary.push(in_range(entry.gid)?);
        }
    }
    for extra in groups {
        supplementary.push(in_range(group_number(extra, group)?)?);
    }

    let (uid, gid) = (in_range(uid)?, in_range(gid)?);
    let mut all = vec![gid];
    for number in supplementary {
        if !all.contains(&number) {
            all.push(number);
        }
    }
    Ok(Identity {
        uid,
        gid,
        groups: all,
        home,
    })
}

/// The home directory that `/etc/passwd` gives to a number, if any.
pub fn home_of(uid: u32, passwd: &[u8]) -> Option<String> {
    let entry = users(passwd).find(|u| u.uid == i64::from(uid))?;
    Some(String::from_utf8_lossy(entry.home).into_owned())
}

fn group_number(field: &str, group: &[u8]) -> Result<i64, AccountError> {
    let number = field.parse::<i64>().ok();
    groups(group)
        .find(|g| g.name == field.as_bytes() || number == Some(g.gid))
        .map(|g| g.gid)
        .or(number)
        .ok_or_else(|| AccountError::NoGroup(field.to_owned()))
}

fn in_range(id: i64) -> Result<u32, AccountError> {
    if (0..=MAX_ID).contains(&id) {
        Ok(id as u32)
    } else {
        Err(AccountError::Range)
    }
}

fn lines(file: &[u8]) -> impl Iterator<Item = &[u8]> {
    file.split(|b| *b == b'\n')
        .map(<[u8]>::trim_ascii)
        .filter(|l| !l.is_empty())
}

/// Docker takes a field that is no number for zero, because such files exist.
fn number(field: Option<&[u8]>) -> i64 {
    field
        .and_then(|f| std::str::from_utf8(f).ok())
        .and_then(|f| f.parse().ok())
        .unwrap_or(0)
}

fn users(file: &[u8]) -> impl Iterator<Item = User<'_>> {
    lines(file).map(|line| {
        let mut fields = line.split(|b| *b == b':');
        let name = fields.next().unwrap_or_default();
        let uid = number(fields.nth(1));
        let gid = number(fields.next());
        let home = fields.nth(1).unwrap_or_default();
        User {
            name,
            uid,
            gid,
            home,
        }
    })
}

fn groups(file: &[u8]) -> impl Iterator<Item = Group<'_>> {
    lines(file).map(|line| {
        let mut fields = line.split(|b| *b == b':');
        let name = fields.next().unwrap_or_default();
        let gid = number(fields.nth(1));
        Group {
            name,
            gid,
            members: fields.next().unwrap_or_default(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\n\
        daemon:x:1:1::/usr/sbin:/usr/sbin/nologin\n\
        app:x:1000:1001:App:/home/app:/bin/sh\n\
        7:x:77:77::/seven:\n\
        short:x:5\n";
    const GROUP: &[u8] = b"root:x:0:\nwheel:x:10:root,app\napp:x:1001:\nvideo:x:44:app\n99:x:98:\n";

    fn who(user: &str) -> Result<Identity, AccountError> {
        resolve(user, &[], PASSWD, GROUP)
    }

    #[track_caller]
    fn is(user: &str, uid: u32, gid: u32, groups: &[u32], home: &str) {
        let expected = Identity {
            uid,
            gid,
            groups: groups.to_vec(),
            home: home.to_owned(),
        };
        assert_eq!(who(user), Ok(expected), "{user:?}");
    }

    #[test]
    fn names_and_numbers_resolve_as_in_docker() {
        is("", 0, 0, &[0, 10], "/root");
        is("0", 0, 0, &[0, 10], "/root");
        is("root", 0, 0, &[0, 10], "/root");
        is("app", 1000, 1001, &[1001, 10, 44], "/home/app");
        is("1000", 1000, 1001, &[1001, 10, 44], "/home/app");
        // An explicit group replaces the primary one and drops the supplementary ones.
        is("app:wheel", 1000, 10, &[10], "/home/app");
        is("app:12345", 1000, 12345, &[12345], "/home/app");
        is(":video", 0, 44, &[44], "/root");
        // Numbers that the files do not know are taken as they are, with group 0.
        is("4242", 4242, 0, &[0], "/");
        is("4242:4343", 4242, 4343, &[4343], "/");
        // A user whose name is a number is found by that name.
        is("7", 77, 77, &[77], "/seven");
        is("short", 5, 0, &[0], "");
        is("app:99", 1000, 98, &[98], "/home/app");
    }

    #[test]
    fn what_is_unknown_is_refused_in_dockers_words() {
        let text = |user| who(user).unwrap_err().to_string();
        assert_eq!(
            text("nobody"),
            "unable to find user nobody: no matching entries in passwd file"
        );
        assert_eq!(
            text("app:none"),
            "unable to find group none: no matching entries in group file"
        );
        assert_eq!(text("-1"), "uids and gids must be in range 0-2147483647");
        assert_eq!(
            text("2147483648"),
            "uids and gids must be in range 0-2147483647"
        );
        assert_eq!(
            text("0:4294967296"),
            "uids and gids must be in range 0-2147483647"
        );
    }

    #[test]
    fn extra_groups_join_once() {
        let extra = [
            "video".to_owned(),
            "10".to_owned(),
            "555".to_owned(),
            "555".to_owned(),
        ];
        let identity = resolve("app", &extra, PASSWD, GROUP).unwrap();
        assert_eq!(identity.groups, [1001, 10, 44, 555]);
        let missing = resolve("app", &["nix".to_owned()], PASSWD, GROUP).unwrap_err();
        assert_eq!(missing, AccountError::NoGroup("nix".to_owned()));
    }

    #[test]
    fn an_image_without_the_files_knows_numbers_only() {
        assert_eq!(resolve("5:6", &[], b"", b"").unwrap().groups, [6]);
        assert_eq!(resolve("", &[], b"", b"").unwrap().uid, 0);
        assert!(resolve("root", &[], b"", b"").is_err());
    }

    proptest! {
        #[test]
        fn any_file_is_read_without_a_panic(
            user in ".{0,20}", extra in ".{0,8}",
            passwd in proptest::collection::vec(any::<u8>(), 0..300),
            group in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let _ = resolve(&user, &[extra], &passwd, &group);
        }

        #[test]
        fn every_listed_user_is_found(
            entries in proptest::collection::btree_map("[a-z][a-z0-9_-]{0,12}", 0..=i32::MAX as u32, 1..20),
        ) {
            let passwd: String =
                entries.iter().map(|(n, id)| format!("{n}:x:{id}:{id}:{n}:/home/{n}:/bin/sh\n")).collect();
            for (name, id) in &entries {
                let identity = resolve(name, &[], passwd.as_bytes(), b"").unwrap();
                prop_assert_eq!((identity.uid, identity.gid), (*id, *id));
            }
        }
    }
}
