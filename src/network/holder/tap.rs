//! TAP devices: a bridge's ports whose other ends are guests.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use nix::errno::Errno;
use nix::libc;

/// The device that makes them.
pub const DEVICE: &str = "/dev/net/tun";

/// The length of the header before each frame, virtio's.
const HEADER_LEN: libc::c_int = 12;

/// What a guest may leave to the kernel and take from it: checksums and large segments.
const OFFLOADS: libc::c_ulong =
    (libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN) as libc::c_ulong;

/// Makes a TAP device in this thread's network namespace. It lives as long as the descriptor.
pub fn create(name: &str) -> io::Result<OwnedFd> {
    let file = File::options()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(DEVICE)?;
    // SAFETY: all-zero bytes are a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte stays zero.
    for (to, from) in request.ifr_name[..libc::IFNAMSIZ - 1]
        .iter_mut()
        .zip(name.bytes())
    {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags =
        (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as libc::c_short;
    let fd = file.as_raw_fd();
    // SAFETY: TUNSETIFF reads and writes one ifreq, which outlives the call.
    Errno::result(unsafe { libc::ioctl(fd, libc::TUNSETIFF, &raw mut request) })?;
    let header = HEADER_LEN;
    // SAFETY: TUNSETVNETHDRSZ reads one int, which outlives the call.
    Errno::result(unsafe { libc::ioctl(fd, libc::TUNSETVNETHDRSZ, &raw const header) })?;
    // SAFETY: TUNSETOFFLOAD takes a number.
    Errno::result(unsafe { libc::ioctl(fd, libc::TUNSETOFFLOAD, OFFLOADS) })?;
    Ok(file.into())
}
