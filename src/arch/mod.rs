//! Processor architectures: how images name them and which of them fits what.

pub mod platform;

pub use platform::Platform;
