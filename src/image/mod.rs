//! Images: what a registry or an archive holds, and how a guest gets to read it.

pub mod digest;
pub mod erofs;
pub mod layer;
