//! What only PID 1 of a guest does: clock, random numbers, loopback.

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// Sets the wall clock, in nanoseconds since the epoch.
pub fn set_clock(nanoseconds: u64) -> nix::Result<()> {
    let time = libc::timespec {
        tv_sec: (nanoseconds / 1_000_000_000) as libc::time_t,
        tv_nsec: (nanoseconds % 1_000_000_000) as libc::c_long,
    };
    // SAFETY: the structure outlives the call.
    Errno::result(unsafe { libc::clock_settime(libc::CLOCK_REALTIME, &raw const time) })?;
    Ok(())
}

/// The most that one call mixes in.
const ENTROPY_LEN: usize = 256;

#[repr(C)]
struct PoolInfo {
    entropy_bits: libc::c_int,
    len: libc::c_int,
    bytes: [u8; ENTROPY_LEN],
}

/// Mixes bytes into the pool of `random` (`/dev/urandom`) and counts them as random.
pub fn add_entropy(random: BorrowedFd<'_>, bytes: &[u8]) -> nix::Result<()> {
    /// `_IOW('R', 0x03, int[2])`
    const RNDADDENTROPY: libc::Ioctl = 0x4008_5203;
    let bytes = bytes.get(..ENTROPY_LEN).unwrap_or(bytes);
    let mut info = PoolInfo {
        entropy_bits: bytes.len() as libc::c_int * 8,
        len: bytes.len() as libc::c_int,
        bytes: [0; ENTROPY_LEN],
    };
    info.bytes[..bytes.len()].copy_from_slice(bytes);
    // SAFETY: the kernel reads the two numbers and `len` bytes, which the structure has.
    Errno::result(unsafe { libc::ioctl(random.as_raw_fd(), RNDADDENTROPY, &raw const info) })?;
    Ok(())
}

/// Brings the loopback interface up.
pub fn loopback_up() -> nix::Result<()> {
    let socket = socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    // SAFETY: all-zero bytes are a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads one ifreq, which outlives the call.
    Errno::result(unsafe {
        libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request)
    })?;
    Ok(())
}

/// Lets the kernel look for a disk's partitions again.
pub fn reread_partitions(disk: BorrowedFd<'_>) -> nix::Result<()> {
    /// `_IO(0x12, 95)`
    const BLKRRPART: libc::Ioctl = 0x125f;
    // SAFETY: BLKRRPART ignores its argument.
    Errno::result(unsafe { libc::ioctl(disk.as_raw_fd(), BLKRRPART, 0) })?;
    Ok(())
}

/// Freezes a file system: what it has is on its disk and whole, and nothing more is written.
pub fn freeze(root: BorrowedFd<'_>) -> nix::Result<()> {
    /// `_IOWR('X', 119, int)`
    const FIFREEZE: libc::Ioctl = 0xc004_5877;
    // SAFETY: FIFREEZE ignores its argument.
    Errno::result(unsafe { libc::ioctl(root.as_raw_fd(), FIFREEZE, 0) })?;
    Ok(())
}
