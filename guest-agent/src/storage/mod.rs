//! From block devices to the container's merged root.
//!
//! Purpose: find the disks that the host names by serial, mount every layer, and stack
//! them under the writable layer. Nothing here knows processes or namespaces.

pub mod binfmt;
pub mod devices;
pub mod filesystem;
pub mod layers;

/// Where the merged root is mounted in the agent's own tree.
pub const MERGED: &std::ffi::CStr = c"/merged";
/// Where the writable layer is mounted.
pub const WRITABLE: &std::ffi::CStr = c"/writable";
/// Where the emulators image is mounted.
pub const EMULATORS: &std::ffi::CStr = c"/emulators";
/// Layers are mounted on numbered directories in here.
pub const LAYERS: &str = "/layers";
/// Trees that the host brought are directories in here.
pub const TREES: &str = "/writable/trees";
