//! The whole of what hull keeps: what it takes, what can go, what runs after a reboot.

pub mod boot;
pub mod host;
pub mod info;
pub mod prune;
pub mod units;
pub mod usage;
