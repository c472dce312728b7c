//! Names of extended attributes: which of the guest's is which of the host's.
//!
//! `trusted.` ones are for privileged programs: overlayfs, and so docker or BuildKit in a
//! container, keeps there what it has to know of its directories. The guest's kernel asks the
//! guest's programs for that privilege; the host's would ask this process, which has none. So they
//! are kept as `user.` ones, by names that the guest cannot say.

use std::borrow::Cow;
use std::ffi::{CStr, CString};
use std::io;

/// What the guest's names begin with.
const TRUSTED: &[u8] = b"trusted.";

/// What the same ones begin with on the host.
const KEPT: &[u8] = b"user.hull.trusted.";

/// Where overlayfs writes what a file was copied from, which it can do without.
const ORIGIN: &CStr = c"trusted.overlay.origin";

/// The most bytes that the names of a file's attributes have.
pub(super) const MOST: u32 = 65536;

/// The host's name of an attribute that the guest named, if the guest may name it.
pub(super) fn on_host(name: &CStr) -> Option<Cow<'_, CStr>> {
    let bytes = name.to_bytes();
    if bytes.starts_with(KEPT) {
        return None;
    }
    match bytes.strip_prefix(TRUSTED) {
        Some(rest) => CString::new([KEPT, rest].concat()).ok().map(Cow::Owned),
        None => Some(Cow::Borrowed(name)),
    }
}

/// The guest's names, each with a zero after it, of those that the host listed.
pub(super) fn in_guest(listed: &[u8]) -> Vec<u8> {
    let mut names = Vec::with_capacity(listed.len());
    for name in listed.split_inclusive(|byte| *byte == 0) {
        match name.strip_prefix(KEPT) {
            Some(rest) => {
                names.extend(TRUSTED);
                names.extend(rest);
            }
            None => names.extend(name),
        }
    }
    names
}

/// Whether nothing is lost if the host refused to keep `name` on a file of this mode: only files
/// and directories have `user.` attributes, and of all others overlayfs has but this one.
pub(super) fn dispensable(name: &CStr, mode: u32, refused: &io::Error) -> bool {
    name == ORIGIN
        && !matches!(mode & libc::S_IFMT, libc::S_IFREG | libc::S_IFDIR)
        && refused.raw_os_error() == Some(libc::EPERM)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn privileged_names_are_kept_by_others_that_nobody_can_say() {
        let host = |name| on_host(name).map(Cow::into_owned);
        assert_eq!(host(c"user.a"), Some(c"user.a".to_owned()));
        assert_eq!(
            host(c"trusted.overlay.opaque"),
            Some(c"user.hull.trusted.overlay.opaque".to_owned())
        );
        assert_eq!(host(c"user.hull.trusted.overlay.opaque"), None);
        assert_eq!(
            in_guest(b"user.a\0user.hull.trusted.b\0security.c\0"),
            b"user.a\0trusted.b\0security.c\0"
        );
        assert_eq!(in_guest(b""), b"");
    }

    #[test]
    fn only_the_origin_of_what_cannot_have_attributes_is_forgotten() {
        let refused = io::Error::from_raw_os_error(libc::EPERM);
        assert!(dispensable(ORIGIN, libc::S_IFLNK | 0o777, &refused));
        assert!(!dispensable(ORIGIN, libc::S_IFREG | 0o644, &refused));
        assert!(!dispensable(c"trusted.a", libc::S_IFLNK, &refused));
        let full = io::Error::from_raw_os_error(libc::ENOSPC);
        assert!(!dispensable(ORIGIN, libc::S_IFLNK, &full));
    }
}
