//! Versioned, length-bounded frames and the requests they carry.
//!
//! A connection carries one request. The host opens a vsock connection to [`AGENT_PORT`],
//! sends one [`FrameKind::Request`] frame and reads one [`FrameKind::Response`] frame.
//! After a successful [`Request::Start`] or [`Request::Exec`] the same connection is the
//! process's standard streams until [`FrameKind::Exit`]; after [`Request::Work`] it
//! carries what that produces. Signals and resizes travel on connections of their own, so a
//! process that does not read its standard input cannot hold them up.
//!
//! The agent listens (a restored snapshot drops connections, listeners live on). When its
//! listener stands it connects once to [`READY_PORT`] on the host and closes: readiness is
//! an event, never polled.

mod bytes;
mod frame;
mod message;
mod network;
pub mod runtime;
mod work;

pub use frame::{
    Frame, FrameError, FrameKind, HEADER_LEN, MAX_PAYLOAD, decode_header, encode_header,
    read_frame, write_frame,
};
pub use message::*;
pub use network::*;
pub use work::*;

/// Changes whenever an older peer could misread a frame or a message.
pub const VERSION: u32 = 6;

/// The vsock port on which the agent listens in the guest.
pub const AGENT_PORT: u32 = 1024;

/// The vsock port on the host (CID 2) that the agent connects to once when it listens.
pub const READY_PORT: u32 = 1025;
