//! `docker run`, but every container is its own microVM, of any CPU architecture.

pub mod arch;
pub mod cli;
pub mod image;
pub mod settings;
pub mod store;
