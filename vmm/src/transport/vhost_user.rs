//! vhost-user: the guest's kernel (user-mode Linux) or its emulator (QEMU) is the front end
//! on a unix socket, and shares the guest's memory by descriptor.
//!
//! Everything runs on the thread that owns the [`VhostUser`]: socket messages, kicks and the
//! device's own descriptors are reported to one poller.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use vhost::vhost_user::message::{
    VhostTransferStateDirection, VhostTransferStatePhase, VhostUserConfigFlags, VhostUserInflight,
    VhostUserLog, VhostUserMemoryRegion, VhostUserProtocolFeatures, VhostUserShMemConfig,
    VhostUserSharedMsg, VhostUserSingleMemoryRegion, VhostUserVirtioFeatures,
    VhostUserVringAddrFlags, VhostUserVringState,
};
use vhost::vhost_user::{
    BackendReqHandler, Error as VhostError, GpuBackend, Result as VhostResult,
    VhostUserBackendReqHandlerMut,
};
use virtio_queue::QueueT;
use vm_memory::GuestAddress;

use super::Transport;
use super::memory::{MappedMemory, MemoryCache};
use crate::devices::{DeviceError, F_EVENT_IDX, Interrupt, Memory, VirtQueue, VirtioDevice};
use crate::poll::{Poller, Ready};

/// How long a front end may take to send the rest of a message.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest configuration space.
const MAX_CONFIG: u32 = 4096;

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
        let count = device.queues();
        let queues = (0..count)
            .map(|_| VirtQueue::new())
            .collect::<Result<Vec<_>, _>>();
        let port = Arc::new(Mutex::new(Port {
            device,
            queues: queues.map_err(DeviceError::Queue)?,
            rings: (0..count).map(|_| Ring::default()).collect(),
            mapped: MappedMemory::default(),
            poller,
            cache,
            acked: 0,
            enabled_early: false,
            failure: None,
        }));
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

    fn attach(&mut self, file: File) -> Result<(), TransportError> {
        self.port()
            .turn(|device, memory, queues| device.attach(file, memory, queues))
    }
}

/// What the transport knows of a queue.
#[derive(Debug, Default)]
struct Ring {
    kick: Option<File>,
    enabled: bool,
    placed: bool,
    watched: bool,
}

/// The device, its queues and the guest's memory: what messages change.
struct Port {
    device: Box<dyn VirtioDevice>,
    queues: Vec<VirtQueue>,
    rings: Vec<Ring>,
    mapped: MappedMemory,
    poller: Poller,
    cache: MemoryCache,
    acked: u64,
    /// Queues were enabled before there was a choice of features.
    enabled_early: bool,
    /// A device failure that happened inside of a message's handler.
    failure: Option<TransportError>,
}

impl Port {
    fn kick(&mut self, index: usize) -> Result<(), TransportError> {
        self.turn(|device, memory, queues| match memory {
            Some(memory) if queues.get(index).is_some_and(VirtQueue::ready) => {
                device.queue_event(index, memory, queues)
            }
            _ => Ok(()),
        })
    }

    /// Let the device work for a limited time, and come back to it when that was too short.
    fn turn(
        &mut self,
        work: impl FnOnce(
            &mut dyn VirtioDevice,
            Option<&Memory>,
            &mut [VirtQueue],
        ) -> Result<(), DeviceError>,
    ) -> Result<(), TransportError> {
        let Self {
            device,
            queues,
            mapped,
            rings,
            ..
        } = self;
        for queue in queues.iter_mut() {
            queue.begin_turn();
        }
        work(device.as_mut(), mapped.memory.as_ref(), queues)?;
        for (queue, ring) in queues.iter().zip(rings) {
            if queue.interrupted()
                && let Some(mut kick) = ring.kick.as_ref()
            {
                // As if the guest had notified.
                kick.write_all(&1u64.to_ne_bytes())?;
            }
        }
        Ok(())
    }

    fn at(&mut self, index: u32) -> VhostResult<(&mut VirtQueue, &mut Ring)> {
        let index = index as usize;
        match (self.queues.get_mut(index), self.rings.get_mut(index)) {
            (Some(queue), Some(ring)) => Ok((queue, ring)),
            _ => Err(VhostError::InvalidParam),
        }
    }

    /// Start a queue once everything about it is known, or stop it.
    fn update(&mut self, index: u32) -> VhostResult<()> {
        let poller = self.poller.clone();
        let memory = self.mapped.memory.clone();
        let (queue, ring) = self.at(index)?;
        let complete = ring.enabled && ring.placed && ring.kick.is_some();
        if !complete {
            queue.ring.set_ready(false);
            return Ok(());
        }
        if queue.ring.ready() {
            return Ok(());
        }
        queue.ring.set_ready(true);
        if !memory.is_some_and(|memory| queue.ring.is_valid(&memory)) {
            queue.ring.set_ready(false);
            return Err(VhostError::InvalidParam);
        }
        if let Some(kick) = &ring.kick
            && !ring.watched
        {
            poller
                .watch_edges(kick.as_fd(), KICKS + index)
                .map_err(VhostError::ReqHandlerError)?;
            ring.watched = true;
        }
        // What the guest made available before.
        if let Err(failure) = self.kick(index as usize) {
            self.failure = Some(failure);
        }
        Ok(())
    }
}

impl VhostUserBackendReqHandlerMut for Port {
    fn set_owner(&mut self) -> VhostResult<()> {
        Ok(())
    }

    fn reset_owner(&mut self) -> VhostResult<()> {
        Ok(())
    }

    fn reset_device(&mut self) -> VhostResult<()> {
        Ok(())
    }

    fn get_features(&mut self) -> VhostResult<u64> {
        Ok(self.device.features() | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits())
    }

    fn set_features(&mut self, features: u64) -> VhostResult<()> {
        if features & !self.get_features()? != 0 {
            return Err(VhostError::InvalidParam);
        }
        self.acked = features;
        self.device.negotiated(features);
        for queue in &mut self.queues {
            queue.ring.set_event_idx(features & F_EVENT_IDX != 0);
        }
        // Without protocol features there is no message that enables a queue.
        let implied = features & VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits() == 0;
        if implied || self.enabled_early {
            for index in 0..self.rings.len() as u32 {
                self.at(index)?.1.enabled = true;
                self.update(index)?;
            }
        }
        Ok(())
    }

    fn set_mem_table(
        &mut self,
        regions: &[VhostUserMemoryRegion],
        files: Vec<File>,
    ) -> VhostResult<()> {
        if self.queues.iter().any(VirtQueue::ready) {
            return Err(VhostError::InvalidOperation(
                "memory changes under a running queue",
            ));
        }
        self.mapped = self
            .cache
            .map(regions, files)
            .map_err(VhostError::ReqHandlerError)?;
        Ok(())
    }

    fn set_vring_num(&mut self, index: u32, num: u32) -> VhostResult<()> {
        let (queue, _) = self.at(index)?;
        let num = u16::try_from(num).map_err(|_| VhostError::InvalidParam)?;
        if num == 0 || num > queue.ring.max_size() || !num.is_power_of_two() {
            return Err(VhostError::InvalidParam);
        }
        queue.ring.set_size(num);
        Ok(())
    }

    fn set_vring_addr(
        &mut self,
        index: u32,
        _flags: VhostUserVringAddrFlags,
        descriptor: u64,
        used: u64,
        available: u64,
        _log: u64,
    ) -> VhostResult<()> {
        let place = |user| {
            let guest = self.mapped.guest_address(user);
            guest.map(GuestAddress).ok_or(VhostError::InvalidParam)
        };
        let (descriptor, used, available) = (place(descriptor)?, place(used)?, place(available)?);
        let memory = self.mapped.memory.clone().ok_or(VhostError::InvalidParam)?;
        let (queue, ring) = self.at(index)?;
        let ring_error = |_| VhostError::InvalidParam;
        queue
            .ring
            .try_set_desc_table_address(descriptor)
            .map_err(ring_error)?;
        queue
            .ring
            .try_set_avail_ring_address(available)
            .map_err(ring_error)?;
        queue
            .ring
            .try_set_used_ring_address(used)
            .map_err(ring_error)?;
        // The used index is where the guest's memory says: the message for the base carries
        // the available index only.
        let order = std::sync::atomic::Ordering::Relaxed;
        let next = queue.ring.used_idx(&memory, order).map_err(ring_error)?;
        queue.ring.set_next_used(next.0);
        ring.placed = true;
        Ok(())
    }

    fn set_vring_base(&mut self, index: u32, base: u32) -> VhostResult<()> {
        self.at(index)?.0.ring.set_next_avail(base as u16);
        Ok(())
    }

    fn get_vring_base(&mut self, index: u32) -> VhostResult<VhostUserVringState> {
        let poller = self.poller.clone();
        let (queue, ring) = self.at(index)?;
        queue.ring.set_ready(false);
        queue.interrupt = None;
        if let Some(kick) = ring.kick.take()
            && std::mem::take(&mut ring.watched)
        {
            poller
                .unwatch(kick.as_fd())
                .map_err(VhostError::ReqHandlerError)?;
        }
        let next = queue.ring.next_avail();
        Ok(VhostUserVringState::new(index, u32::from(next)))
    }

    fn set_vring_kick(&mut self, index: u8, fd: Option<File>) -> VhostResult<()> {
        let poller = self.poller.clone();
        let (queue, ring) = self.at(index.into())?;
        if let Some(old) = ring.kick.take()
            && std::mem::take(&mut ring.watched)
        {
            poller
                .unwatch(old.as_fd())
                .map_err(VhostError::ReqHandlerError)?;
        }
        queue.ring.set_ready(false);
        ring.kick = fd;
        self.update(index.into())
    }

    fn set_vring_call(&mut self, index: u8, fd: Option<File>) -> VhostResult<()> {
        let (queue, _) = self.at(index.into())?;
        queue.interrupt = match fd {
            Some(file) => {
                // A guest that does not read its interrupts must not hold the device up.
                let flags = fcntl(&file, FcntlArg::F_GETFL).map_err(from_errno)?;
                let flags = OFlag::from_bits_retain(flags) | OFlag::O_NONBLOCK;
                fcntl(&file, FcntlArg::F_SETFL(flags)).map_err(from_errno)?;
                let interrupt = Interrupt::new(file);
                // What has been used so far may have been told to another descriptor that
                // nobody listens to any more.
                if queue.ready()
                    && let Err(failure) = interrupt.trigger()
                {
                    self.failure = Some(failure.into());
                    return Ok(());
                }
                Some(interrupt)
            }
            None => None,
        };
        Ok(())
    }

    fn set_vring_err(&mut self, _index: u8, _fd: Option<File>) -> VhostResult<()> {
        Ok(())
    }

    fn get_protocol_features(&mut self) -> VhostResult<VhostUserProtocolFeatures> {
        Ok(VhostUserProtocolFeatures::MQ | VhostUserProtocolFeatures::CONFIG)
    }

    fn set_protocol_features(&mut self, _features: u64) -> VhostResult<()> {
        Ok(())
    }

    fn get_queue_num(&mut self) -> VhostResult<u64> {
        Ok(self.queues.len() as u64)
    }

    fn set_vring_enable(&mut self, index: u32, enable: bool) -> VhostResult<()> {
        self.at(index)?.1.enabled = enable;
        self.update(index)
    }

    fn get_config(
        &mut self,
        offset: u32,
        size: u32,
        _flags: VhostUserConfigFlags,
    ) -> VhostResult<Vec<u8>> {
        if size > MAX_CONFIG {
            return Err(VhostError::InvalidParam);
        }
        let mut data = vec![0; size as usize];
        self.device.read_config(offset as usize, &mut data);
        Ok(data)
    }

    fn set_config(&mut self, _: u32, _: &[u8], _: VhostUserConfigFlags) -> VhostResult<()> {
        Err(VhostError::InvalidOperation(
            "the configuration space is read-only",
        ))
    }

    fn set_gpu_socket(&mut self, _: GpuBackend) -> VhostResult<()> {
        Err(unsupported())
    }

    fn get_shared_object(&mut self, _: VhostUserSharedMsg) -> VhostResult<File> {
        Err(unsupported())
    }

    fn get_inflight_fd(&mut self, _: &VhostUserInflight) -> VhostResult<(VhostUserInflight, File)> {
        Err(unsupported())
    }

    fn set_inflight_fd(&mut self, _: &VhostUserInflight, _: File) -> VhostResult<()> {
        Err(unsupported())
    }

    fn get_max_mem_slots(&mut self) -> VhostResult<u64> {
        Err(unsupported())
    }

    fn add_mem_region(&mut self, _: &VhostUserSingleMemoryRegion, _: File) -> VhostResult<()> {
        Err(unsupported())
    }

    fn remove_mem_region(&mut self, _: &VhostUserSingleMemoryRegion) -> VhostResult<()> {
        Err(unsupported())
    }

    fn set_device_state_fd(
        &mut self,
        _: VhostTransferStateDirection,
        _: VhostTransferStatePhase,
        _: File,
    ) -> VhostResult<Option<File>> {
        Err(unsupported())
    }

    fn check_device_state(&mut self) -> VhostResult<()> {
        Err(unsupported())
    }

    fn get_shmem_config(&mut self) -> VhostResult<VhostUserShMemConfig> {
        Err(unsupported())
    }

    fn set_log_base(&mut self, _: &VhostUserLog, _: File) -> VhostResult<()> {
        Err(unsupported())
    }
}

fn unsupported() -> VhostError {
    VhostError::InvalidOperation("not offered")
}

fn from_errno(errno: nix::errno::Errno) -> VhostError {
    VhostError::ReqHandlerError(errno.into())
}
