//! Trees of files as tar archives, both ways, on either side of the vsock.
//!
//! Purpose: one packer and one unpacker for `cp`, `export` and `commit`. The unpacker trusts
//! neither the archive nor the directory that it fills: no name of either leads out of it.

mod numbers;
mod pack;
mod unpack;

pub use numbers::Numbers;
pub use pack::{Member, MemberKind, Packer, Records};
pub use unpack::{Owner, Unpack, unpack};

#[cfg(test)]
mod tests;
