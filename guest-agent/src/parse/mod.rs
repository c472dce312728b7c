//! Pure parsers of what an image or the host's specification contains.
//!
//! Purpose: everything here reads bytes that a hostile image may have chosen, touches no
//! system call, and never panics; it is what the property tests and fuzz targets drive.

pub mod accounts;
pub mod binfmt;
pub mod elf;
pub mod mount_options;
pub mod shebang;
