//! `docker run`, but every container is its own microVM, of any CPU architecture.
//!
//! The library holds everything; [`cli`] is a thin command line over it. Arrows point one
//! way: `cli` → `page`, `serve` → `build`, `compare` → `layers` → `container` → `image`, `network`, `arch` → `store`, and from here to the crates `vmm` and
//! `guest-agent` (protocol only).

pub mod arch;
pub mod build;
pub mod cli;
pub mod compare;
pub mod container;
pub mod doctor;
pub mod events;
pub mod frames;
pub mod hash;
pub mod human;
pub mod id;
pub mod image;
pub mod layers;
pub mod network;
pub mod page;
pub mod sentence;
pub mod serve;
pub mod settings;
pub mod store;
pub mod system;
pub mod time;
pub mod units;
