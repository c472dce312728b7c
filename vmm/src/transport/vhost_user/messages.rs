//! The messages of a front end.

use std::fs::File;
use std::os::fd::AsFd;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use vhost::vhost_user::message::{
    VhostTransferStateDirection, VhostTransferStatePhase, VhostUserConfigFlags, VhostUserInflight,
    VhostUserLog, VhostUserMemoryRegion, VhostUserProtocolFeatures, VhostUserShMemConfig,
    VhostUserSharedMsg, VhostUserSingleMemoryRegion, VhostUserVirtioFeatures,
    VhostUserVringAddrFlags, VhostUserVringState,
};
use vhost::vhost_user::{
    Error as VhostError, GpuBackend, Result as VhostResult, VhostUserBackendReqHandlerMut,
};
use virtio_queue::QueueT;
use vm_memory::GuestAddress;

use super::port::Port;
use crate::devices::{F_EVENT_IDX, Interrupt, VirtQueue};

/// The longest configuration space.
const MAX_CONFIG: u32 = 4096;

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
        // The protocol's own bit is none of the device's.
        self.device.negotiated(features & self.device.features());
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
