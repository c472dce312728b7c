//! Images: what a registry or an archive holds, and how a guest gets to read it.

pub mod assemble;
pub mod convert;
pub mod digest;
pub mod erofs;
mod error;
pub mod layer;
mod local;
pub mod manifest;
mod parallel;
mod progress;
mod pull;
pub mod reference;
pub mod registry;

pub use error::ImageError;
pub use local::{Image, find, get, list, load, not_found};
pub use progress::{Progress, Silent, Step};
pub use pull::{PullPolicy, Pulled, ensure, pull};
pub use reference::Reference;
