//! Mount options of the OCI specification.
//!
//! Purpose: split `["nosuid", "size=64m", "ro", "rslave"]` into what the kernel's mount
//! calls take separately: attributes of the mount, propagation, options of the file system.

use std::collections::BTreeSet;

/// Attributes of one mount, in the kernel's `MOUNT_ATTR_*` bits.
pub mod attr {
    /// Writes are refused.
    pub const RDONLY: u64 = 0x1;
    /// Set-user-ID bits do not count.
    pub const NOSUID: u64 = 0x2;
    /// Device nodes do not work.
    pub const NODEV: u64 = 0x4;
    /// Programs cannot be run.
    pub const NOEXEC: u64 = 0x8;
    /// Access times are not kept.
    pub const NOATIME: u64 = 0x10;
    /// Access times are always kept.
    pub const STRICTATIME: u64 = 0x20;
    /// The bits that choose how access times are kept.
    pub const ATIME_MASK: u64 = 0x70;
    /// Access times of directories are not kept.
    pub const NODIRATIME: u64 = 0x80;
    /// Symbolic links are not followed.
    pub const NOSYMFOLLOW: u64 = 0x20_0000;
}

/// How mounts spread from a mount to its copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Propagation {
    /// The kernel's `MS_PRIVATE`, `MS_SLAVE`, `MS_SHARED` or `MS_UNBINDABLE`.
    pub flag: u64,
    /// Whether everything below is meant too.
    pub recursive: bool,
}

/// Options, sorted by where they go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Bits of [`attr`].
    pub attributes: u64,
    /// The last propagation that was named.
    pub propagation: Option<Propagation>,
    /// Options of the file system: `key` or `key=value`.
    pub data: Vec<(String, Option<String>)>,
}

impl Options {
    /// The value of a file system option.
    pub fn value(&self, key: &str) -> Option<&str> {
        self.data.iter().rev().find(|(k, _)| k == key)?.1.as_deref()
    }
}

/// Propagation by the name it has in mount options and in `rootfsPropagation`.
pub fn propagation(name: &str) -> Option<Propagation> {
    let (recursive, kind) = match name.strip_prefix('r') {
        Some(rest) => (true, rest),
        None => (false, name),
    };
    let flag = match kind {
        "private" => 1 << 18,
        "slave" => 1 << 19,
        "shared" => 1 << 20,
        "unbindable" => 1 << 17,
        _ => return None,
    };
    Some(Propagation { flag, recursive })
}

/// Sorts `options`; each may itself be a comma-separated list.
pub fn parse<S: AsRef<str>>(options: &[S]) -> Options {
    let mut result = Options::default();
    for option in options.iter().flat_map(|o| o.as_ref().split(',')) {
        apply(option, &mut result);
    }
    // A key given twice counts once, in its last form: the kernel's calls refuse some twice.
    let mut seen = BTreeSet::new();
    result.data.reverse();
    result.data.retain(|(key, _)| seen.insert(key.clone()));
    result.data.reverse();
    result
}

fn apply(option: &str, result: &mut Options) {
    let attributes = &mut result.attributes;
    match option {
        "" | "defaults" | "bind" | "rbind" => {}
        "rw" => *attributes &= !attr::RDONLY,
        "ro" => *attributes |= attr::RDONLY,
        "suid" => *attributes &= !attr::NOSUID,
        "nosuid" => *attributes |= attr::NOSUID,
        "dev" => *attributes &= !attr::NODEV,
        "nodev" => *attributes |= attr::NODEV,
        "exec" => *attributes &= !attr::NOEXEC,
        "noexec" => *attributes |= attr::NOEXEC,
        "atime" | "relatime" | "norelatime" | "nostrictatime" => *attributes &= !attr::ATIME_MASK,
        "noatime" => *attributes = *attributes & !attr::ATIME_MASK | attr::NOATIME,
        "strictatime" => *attributes = *attributes & !attr::ATIME_MASK | attr::STRICTATIME,
        "diratime" => *attributes &= !attr::NODIRATIME,
        "nodiratime" => *attributes |= attr::NODIRATIME,
        "symfollow" => *attributes &= !attr::NOSYMFOLLOW,
        "nosymfollow" => *attributes |= attr::NOSYMFOLLOW,
        other => match (propagation(other), other.split_once('=')) {
            (Some(found), _) => result.propagation = Some(found),
            (None, Some((key, value))) => {
                result.data.push((key.to_owned(), Some(value.to_owned())))
            }
            (None, None) => result.data.push((other.to_owned(), None)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn options_go_where_they_belong() {
        let options = parse(&[
            "nosuid,noexec",
            "size=64m",
            "ro",
            "mode=1777",
            "rslave",
            "size=8m",
            "noswap",
        ]);
        assert_eq!(
            options.attributes,
            attr::NOSUID | attr::NOEXEC | attr::RDONLY
        );
        assert_eq!(
            options.propagation,
            Some(Propagation {
                flag: 1 << 19,
                recursive: true
            })
        );
        assert_eq!(options.value("size"), Some("8m"));
        assert_eq!(options.value("mode"), Some("1777"));
        let keys: Vec<_> = options.data.iter().map(|(k, _)| k.as_str()).collect();
        assert_eq!(keys, ["mode", "size", "noswap"]);
    }

    #[test]
    fn the_later_of_two_opposites_wins() {
        assert_eq!(parse(&["ro", "rw"]).attributes, 0);
        assert_eq!(parse(&["nodev", "dev", "nodev"]).attributes, attr::NODEV);
        assert_eq!(
            parse(&["noatime", "strictatime"]).attributes,
            attr::STRICTATIME
        );
        assert_eq!(parse(&["noatime", "relatime"]).attributes, 0);
        assert_eq!(parse(&["defaults", "rw", "rbind", ""]), Options::default());
    }

    #[test]
    fn propagation_names() {
        assert_eq!(propagation("rprivate").map(|p| p.recursive), Some(true));
        assert_eq!(
            propagation("shared"),
            Some(Propagation {
                flag: 1 << 20,
                recursive: false
            })
        );
        assert_eq!(propagation("ro"), None);
        assert_eq!(propagation(""), None);
    }

    proptest! {
        #[test]
        fn data_keys_are_unique_and_nothing_is_invented(options in proptest::collection::vec("[a-z=,0-9]{0,12}", 0..8)) {
            let parsed = parse(&options);
            let mut keys: Vec<_> = parsed.data.iter().map(|(k, _)| k).collect();
            keys.sort();
            let before = keys.len();
            keys.dedup();
            prop_assert_eq!(before, keys.len());
            for key in keys {
                prop_assert!(options.iter().any(|o| o.contains(key.as_str())));
            }
        }
    }
}
