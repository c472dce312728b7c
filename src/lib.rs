//! `docker run`, but every container is its own microVM, of any CPU architecture.

pub mod image;
