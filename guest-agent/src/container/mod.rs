//! From a merged root to a running process.
//!
//! Purpose: namespaces, mounts, devices, user, capabilities and limits of a container, from
//! the OCI specification. Apart from [`spawn`] and [`cgroup`], everything here runs in the
//! forked child, which may fail or hang without harm to the agent.

pub mod caps;
pub mod cgroup;
pub mod copy_up;
pub mod dev;
pub mod init;
pub mod launch;
pub mod masks;
pub mod mounts;
pub mod program;
pub mod pty;
pub mod relay;
pub mod report;
pub mod root;
pub mod rootfs;
pub mod spawn;
pub mod user;
pub mod work;
