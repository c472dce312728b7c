//! One virtual machine: CPU engines, boot, virtio devices and the jail around them.
