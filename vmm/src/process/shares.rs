//! The process that serves shared directories: the only one of a machine with any privilege
//! on the host's files, and with nothing else.
//!
//! It runs as the machine's creator (root keeps the capabilities that file ownership needs
//! and loses all others), in namespaces of its own, and its root directory holds the shared
//! directories alone. Read-only shares are read-only mounts: the host's kernel refuses.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use nix::sys::signal::Signal;
use nix::unistd::{ForkResult, Pid, fork};
use serde::{Deserialize, Serialize};

use super::{Failure, While, affinity, fds};
use crate::StopReason;
use crate::control::{Channel, Report};
use crate::devices::VirtioDevice;
use crate::devices::fs::Share;
use crate::jail::{self, Limits, Role, Root, RootFile};
use crate::launch::ShareSpec;
use crate::poll::Poller;
use crate::transport::{MemoryCache, Transport, VhostUser};

/// The size of the root directory, which holds nothing but mount points.
const ROOT_SIZE: u64 = 1 << 20;

/// The poller's owner of the channel to the machine's process.
const CHANNEL: u32 = 0;

/// What comes with the socket of each shared directory's device.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ShareSocket {
    /// The CPU that the guest keeps to, if it does.
    pub(super) cpu: Option<usize>,
}

/// Make the process. The returned channel ends with it, and it with the channel.
pub(super) fn spawn(
    specs: &[ShareSpec],
    directories: Vec<OwnedFd>,
) -> Result<(Pid, Channel), Failure> {
    let (ours, theirs) = Channel::pair().while_doing("make a channel")?;
    // SAFETY: this process has a single thread, so the child may do everything.
    match unsafe { fork() }.while_doing("make the shared directories' process")? {
        ForkResult::Parent { child } => Ok((child, ours)),
        ForkResult::Child => {
            // The machine's own files and channels are none of this process's business.
            let mut keep: Vec<_> = directories.iter().map(AsFd::as_fd).collect();
            keep.push(theirs.as_fd());
            std::mem::forget(ours);
            fds::close_others(&keep);
            super::report_panics(&theirs);
            let reason = match Server::start(&theirs, specs, directories) {
                Ok(mut server) => server.serve(),
                Err(failure) => Err(failure),
            };
            if let Err(failure) = reason {
                let reason = StopReason::Failed(failure.to_string());
                // If the machine is gone, nobody is left to be told.
                let _ = theirs.send(&Report::Stopped(reason), &[]);
            }
            // SAFETY: ends the process without running what the parent registered for its
            // own end.
            unsafe { libc::_exit(0) }
        }
    }
}

struct Server<'a> {
    channel: &'a Channel,
    poller: Poller,
    transports: Vec<VhostUser>,
}

impl<'a> Server<'a> {
    fn start(
        channel: &'a Channel,
        specs: &[ShareSpec],
        directories: Vec<OwnedFd>,
    ) -> Result<Self, Failure> {
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).while_doing("bind to the parent")?;
        let places = directories
            .iter()
            .map(Place::of)
            .collect::<Result<Vec<_>, _>>()?;
        drop(directories);
        jail::unshare_for_files()?;
        let mut shares = Vec::new();
        let mut sources = Vec::new();
        for (index, place) in places.iter().enumerate() {
            sources.push(place.open_again()?);
            let share = Share::prepare(&mount_point(index));
            shares.push(share.while_doing("prepare a shared directory")?);
        }
        let root = Root::new(ROOT_SIZE)?;
        for (index, ((spec, place), source)) in specs.iter().zip(&places).zip(sources).enumerate() {
            let mut target = PathBuf::from(mount_point(index));
            if !place.directory {
                target.extend(place.path.file_name());
            }
            root.add(RootFile::Tree {
                source,
                target,
                read_only: spec.read_only,
            })?;
        }
        root.add(RootFile::OwnDescriptors)?;
        root.enter()?;
        Root::freeze()?;
        jail::limit(Limits {
            descriptors: None,
            processes: None,
        })?;
        jail::keep_file_capabilities()?;

        let poller = Poller::new().while_doing("make an event poll")?;
        poller
            .watch(channel.as_fd(), 0)
            .while_doing("watch the machine's channel")?;
        let cache = MemoryCache::default();
        let mut transports = Vec::new();
        for (index, (spec, share)) in specs.iter().zip(shares).enumerate() {
            let device = share.open(&spec.tag).while_doing("share a directory")?;
            let device: Box<dyn VirtioDevice> = Box::new(device);
            let received = channel.receive::<ShareSocket>().map_err(Failure::Control)?;
            let (socket, mut fds) = received.ok_or(Failure::Launch)?;
            let stream = fds.pop().ok_or(Failure::Launch)?;
            if let Some(cpu) = socket.cpu {
                affinity::go_to(cpu)?;
            }
            let own = poller.for_owner(index as u32 + 1);
            transports.push(VhostUser::new(
                UnixStream::from(stream),
                device,
                own,
                cache.clone(),
            )?);
        }
        jail::confine(Role::Shares)?;
        Ok(Self {
            channel,
            poller,
            transports,
        })
    }

    /// Serve until the machine ends.
    fn serve(&mut self) -> Result<(), Failure> {
        let mut ready = Vec::new();
        loop {
            self.poller
                .wait(&mut ready)
                .while_doing("wait for events")?;
            for event in &ready {
                let Some(index) = event.owner.checked_sub(CHANNEL + 1) else {
                    // Nothing comes after the sockets but the end.
                    self.channel.receive::<()>().map_err(Failure::Control)?;
                    return Ok(());
                };
                if let Some(transport) = self.transports.get_mut(index as usize) {
                    transport.transport_event(*event)?;
                }
            }
        }
    }
}

fn mount_point(index: usize) -> String {
    format!("/{index}")
}

/// Where a directory is: its descriptor belongs to the mount namespace of the creator, from
/// which nothing can be mounted in another one.
struct Place {
    path: PathBuf,
    directory: bool,
    identity: (u64, u64),
}

impl Place {
    fn of(directory: &OwnedFd) -> Result<Self, Failure> {
        use std::os::fd::AsRawFd;
        let what = "find a shared directory";
        let path = fs::read_link(format!("/proc/self/fd/{}", directory.as_raw_fd()));
        let opened = File::from(directory.try_clone().while_doing(what)?);
        let metadata = opened.metadata().while_doing(what)?;
        Ok(Self {
            path: path.while_doing(what)?,
            directory: metadata.is_dir(),
            identity: (metadata.dev(), metadata.ino()),
        })
    }

    /// Open it in the mount namespace that the process is in now.
    fn open_again(&self) -> Result<File, Failure> {
        let what = "open a shared directory again";
        let flags = libc::O_PATH | libc::O_NOFOLLOW;
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(flags)
            .open(&self.path);
        let directory = opened.while_doing(what)?;
        let metadata = directory.metadata().while_doing(what)?;
        if (metadata.dev(), metadata.ino()) == self.identity {
            Ok(directory)
        } else {
            Err(io::Error::other("another one has taken its place")).while_doing(what)
        }
    }
}
