//! System calls that nix does not offer, wrapped safely.
//!
//! Purpose: all unsafe code of the agent is here, each call argued on its own; everything
//! else is safe Rust.

pub mod borrow;
pub mod cred;
pub mod io;
pub mod mount;
pub mod network;
pub mod system;
pub mod task;
pub mod xattr;

use nix::errno::Errno;

/// Turns the C convention (-1 and errno) into a result.
fn check(value: libc::c_long) -> nix::Result<libc::c_long> {
    Errno::result(value)
}
