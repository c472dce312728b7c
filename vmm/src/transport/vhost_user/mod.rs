//! vhost-user: the guest's kernel (user-mode Linux) or its emulator (QEMU) is the front end
//! on a unix socket, and shares the guest's memory by descriptor.
//!
//! Everything runs on the thread that owns the [`VhostUser`]: socket messages, kicks and the
//! device's own descriptors are reported to one poller.

mod messages;
mod port;

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use vhost::vhost_user::message::VhostUserVirtioFeatures;
use vhost::vhost_user::{BackendReqHandler, Error as VhostError};

use super::Transport;
use super::memory::MemoryCache;
use crate::devices::block::Disk;
use crate::devices::{DeviceError, VirtioDevice};
use crate::poll::{Poller, Ready};
use port::Port;

/// How long a front end may take to send the rest of a message.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(5);

/// A front end that broke the protocol, or a device that cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TransportError {
    /// A message made no sense.
    #[error("the guest's vhost-user connection failed: {0}")]
    Message(VhostError),
    /// The device failed.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The socket failed.
    #[error("the vhost-user socket failed: {0}")]
    Socket(#[from] io::Error),
}

/// Tokens of the descriptors of one transport; kicks follow from [`KICKS`].
const SOCKET: u32 = 0;
const KICKS: u32 = 1;

/// One device behind a socket.
pub(crate) struct VhostUser {
    /// None once the front end is gone.
    link: Option<BackendReqHandler<Mutex<Port>>>,
    port: Arc<Mutex<Port>>,
}

impl std::fmt::Debug for VhostUser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VhostUser").finish_non_exhaustive()
    }
}

impl VhostUser {
    /// Serve a device to the front end on the other end of `stream`. `poller` reports the
    /// transport's descriptors, and must belong to this transport alone.
    pub(crate) fn new(
        stream: UnixStream,
        device: Box<dyn VirtioDevice>,
        poller: Poller,
        cache: MemoryCache,
    ) -> Result<Self, TransportError> {
        // A front end that sends half a message must not hold the others up.
        stream.set_read_timeout(Some(MESSAGE_TIMEOUT))?;
        poller.watch(stream.as_fd(), SOCKET)?;
        let port = Arc::new(Mutex::new(Port::new(device, poller, cache)?));
        let link = Some(BackendReqHandler::from_stream(stream, port.clone()));
        Ok(Self { link, port })
    }

    fn port(&self) -> MutexGuard<'_, Port> {
        self.port.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn socket_event(&mut self) -> Result<(), TransportError> {
        let Some(handler) = &mut self.link else {
            return Ok(());
        };
        let result = handler.handle_request();
        if let Some(failure) = self.port().failure.take() {
            return Err(failure);
        }
        match result {
            Ok(()) => Ok(()),
            // The guest ends; its process is waited for elsewhere.
            Err(VhostError::Disconnected | VhostError::PartialMessage) => {
                self.link = None;
                Ok(())
            }
            Err(VhostError::SocketBroken(error))
                if error.kind() == io::ErrorKind::ConnectionReset =>
            {
                self.link = None;
                Ok(())
            }
            // QEMU enables the queues of network interfaces before it has chosen features, which
            // the library refuses, and does not say it again.
            Err(VhostError::InactiveFeature(VhostUserVirtioFeatures::PROTOCOL_FEATURES)) => {
                self.port().enabled_early = true;
                Ok(())
            }
            Err(error) => Err(TransportError::Message(error)),
        }
    }
}

impl Transport for VhostUser {
    fn transport_event(&mut self, ready: Ready) -> Result<(), TransportError> {
        match ready.token.checked_sub(KICKS) {
            None => self.socket_event(),
            Some(index) => {
                let mut port = self.port();
                port.kick(index as usize)
            }
        }
    }

    fn device_event(&mut self, ready: Ready) -> Result<(), TransportError> {
        self.port().turn(|device, memory, queues| match memory {
            Some(memory) => device.fd_event(ready.token, ready.readiness, memory, queues),
            None => Ok(()),
        })
    }

    fn connect(&mut self, port: u32, stream: UnixStream) -> Result<(), TransportError> {
        self.port()
            .turn(|device, memory, queues| device.connect(port, stream, memory, queues))
    }

    fn attach(&mut self, place: u16, file: Option<File>) -> Result<(), TransportError> {
        self.port()
            .turn(|device, memory, queues| device.attach(place, file, memory, queues))
    }

    fn insert(&mut self, disk: Disk) -> Result<(), TransportError> {
        Ok(self.port().device.insert(disk)?)
    }
}
