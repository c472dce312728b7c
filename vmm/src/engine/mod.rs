//! CPU engines: how the guest's kernel is executed.

pub(crate) mod kvm;
pub(crate) mod tcg;
pub(crate) mod uml;

use std::ffi::CString;
use std::os::fd::RawFd;

/// Free memory is reported to the host in pieces of 2 MiB: what a huge page of the host is, and
/// half of what the guest's kernel would choose.
const REPORTING: &str = "page_reporting.page_reporting_order=9";

/// A program that runs the guest, ready to be executed in the jail.
#[derive(Debug)]
pub(crate) struct GuestProgram {
    /// Its arguments, the name first.
    pub(crate) arguments: Vec<CString>,
    /// Its environment.
    pub(crate) environment: Vec<CString>,
}

/// How an engine gets at a device.
#[derive(Debug, Clone)]
pub(crate) enum Socket {
    /// By a connection that it inherits.
    Inherited(RawFd),
    /// By connecting to a path of the machine's root directory.
    Path(String),
}

/// A device as an engine attaches it.
#[derive(Debug, Clone)]
pub(crate) struct Attachment {
    /// The virtio device type.
    pub(crate) kind: u32,
    /// Its vhost-user socket.
    pub(crate) socket: Socket,
    /// A shared directory's name.
    pub(crate) tag: Option<String>,
    /// A network interface's address.
    pub(crate) mac: Option<[u8; 6]>,
}
