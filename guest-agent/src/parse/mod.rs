//! Pure parsers of what an image or the host's specification contains.
//!
//! Purpose: everything here reads bytes that a hostile image may have chosen, touches no
//! system call, and never panics; it is what the property tests and fuzz targets drive.

pub mod accounts;
#[cfg(feature = "agent")]
pub mod binfmt;
#[cfg(feature = "agent")]
pub mod elf;
#[cfg(feature = "agent")]
pub mod mount_options;
#[cfg(feature = "agent")]
pub mod shebang;
