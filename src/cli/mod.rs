//! The command line: it parses, asks, prints; what it does is done elsewhere.

pub mod format;
