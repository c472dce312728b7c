//! Who a process of the container runs as.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;

use guest_agent::parse::accounts::{self, Identity};
use guest_agent::protocol::runtime::User;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::unistd::{Gid, Uid, setgid, setgroups, setuid};

use crate::error::{Result, guest, invalid, reason};

/// Larger account files than this are refused.
const MAX_FILE: u64 = 4 << 20;

/// Resolves `user` and `groups` in the caller's root; where `user` is empty, `fallback`.
pub fn resolve(
    user: &str,
    groups: &[String],
    fallback: &User,
    needs_home: bool,
) -> Result<Identity> {
    if !user.is_empty() {
        let (passwd, group) = (read(c"/etc/passwd")?, read(c"/etc/group")?);
        return accounts::resolve(user, groups, &passwd, &group)
            .map_err(|e| invalid(e.to_string()));
    }
    let (uid, gid) = (fallback.uid, fallback.gid);
    let mut all = fallback.additional_gids.clone();
    if !groups.is_empty() {
        let plain = format!("{uid}:{gid}");
        let extra = accounts::resolve(&plain, groups, b"", &read(c"/etc/group")?)
            .map_err(|e| invalid(e.to_string()))?;
        all.extend(extra.groups);
    }
    let home = if needs_home {
        accounts::home_of(uid, &read(c"/etc/passwd")?)
    } else {
        None
    };
    Ok(Identity {
        uid,
        gid,
        groups: all,
        home: home.unwrap_or_else(|| "/".to_owned()),
    })
}

/// Becomes the user; capabilities are the caller's business.
pub fn become_identity(identity: &Identity) -> Result<()> {
    let failed = |e| {
        guest(
            format!("cannot become user {}:{}", identity.uid, identity.gid),
            reason(e),
        )
    };
    let groups: Vec<Gid> = identity.groups.iter().copied().map(Gid::from_raw).collect();
    setgroups(&groups).map_err(failed)?;
    setgid(Gid::from_raw(identity.gid)).map_err(failed)?;
    setuid(Uid::from_raw(identity.uid)).map_err(failed)
}

/// The whole of an account file; empty when there is none.
fn read(path: &std::ffi::CStr) -> Result<Vec<u8>> {
    let shown = path.to_string_lossy();
    // Non-blocking, so that a FIFO in its place does not hold us up.
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let Ok(fd) = open(path, flags, Mode::empty()) else {
        return Ok(Vec::new());
    };
    let size = regular_size(&fd).map_err(|e| guest(format!("cannot read {shown}"), reason(e)))?;
    let Some(size) = size else {
        return Ok(Vec::new());
    };
    if size > MAX_FILE {
        return Err(invalid(format!(
            "{shown} of the image is larger than {MAX_FILE} bytes"
        )));
    }
    let mut content = Vec::with_capacity(size as usize + 1);
    File::from(fd)
        .take(MAX_FILE)
        .read_to_end(&mut content)
        .map_err(|e| guest(format!("cannot read {shown}"), e))?;
    Ok(content)
}

fn regular_size(fd: &OwnedFd) -> nix::Result<Option<u64>> {
    let stat = fstat(fd)?;
    let regular = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFREG;
    Ok(regular.then_some(stat.st_size as u64))
}
