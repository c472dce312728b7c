//! The command line: it parses, asks, prints; what it does is done elsewhere.

pub mod context;
pub mod format;
pub mod human;
pub mod image;
