//! CPU architectures: platforms as images name them, emulators, and the choice of where a
//! container's programs run.

pub mod binfmt;
pub mod dispatch;
pub mod emulators;
pub mod platform;

pub use platform::Platform;
