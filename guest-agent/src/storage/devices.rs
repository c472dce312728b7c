//! Block devices by the serial that the host gave them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::fd::AsFd;
use std::path::Path;

use guest_agent::protocol::BlockDevice;

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use crate::error::{Result, guest, reason};
use crate::sys::system;

/// What the kernel reads ahead, in KiB. By itself it takes virtio's disks for rotating ones
/// and reads 8 MiB ahead, which fills the guest's memory with what nobody asked for; much less
/// than this, and a program that starts waits for the host again and again.
const READ_AHEAD: &str = "512";

/// The guest's virtio disks.
#[derive(Debug, Default)]
pub struct Devices {
    nodes: BTreeMap<String, String>,
}

impl Devices {
    /// Looks at every virtio disk that the kernel has.
    pub fn scan() -> Result<Self> {
        let mut devices = Self::default();
        let entries = fs::read_dir("/sys/block").map_err(|e| guest("cannot list /sys/block", e))?;
        for entry in entries.flatten() {
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|n| n.starts_with("vd")) else {
                continue;
            };
            let disk = Path::new("/sys/block").join(name);
            // A disk that reads ahead more than it should works all the same.
            let _ = fs::write(disk.join("queue/read_ahead_kb"), READ_AHEAD);
            if let Ok(serial) = fs::read_to_string(disk.join("serial")) {
                devices.insert(serial.trim(), &format!("/dev/{name}"));
            }
        }
        Ok(devices)
    }

    /// Adds a disk under a serial.
    pub fn insert(&mut self, serial: &str, node: &str) {
        self.nodes.insert(serial.to_owned(), node.to_owned());
    }

    /// Finds the partitions of the disks that these are on: there were none before.
    pub fn find_partitions(&self, parts: &[BlockDevice]) -> Result<()> {
        let serials: BTreeSet<&str> = parts.iter().map(|part| part.serial.as_str()).collect();
        for serial in serials {
            let node = self.node(&BlockDevice {
                serial: serial.to_owned(),
                partition: None,
            })?;
            let failed = |e| guest(format!("cannot find the partitions of {node}"), reason(e));
            let disk = open(
                node.as_str(),
                OFlag::O_RDONLY | OFlag::O_CLOEXEC,
                Mode::empty(),
            );
            let disk = disk.map_err(failed)?;
            system::reread_partitions(disk.as_fd()).map_err(failed)?;
        }
        Ok(())
    }

    /// The device node of a disk or of one of its partitions.
    pub fn node(&self, device: &BlockDevice) -> Result<String> {
        let Some(disk) = self.nodes.get(&device.serial) else {
            let message = format!("no disk with serial {:?} is attached", device.serial);
            return Err(guest("cannot assemble the root", message));
        };
        Ok(match device.partition {
            None => disk.clone(),
            Some(number) if disk.ends_with(|c: char| c.is_ascii_digit()) => {
                format!("{disk}p{number}")
            }
            Some(number) => format!("{disk}{number}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_named_as_the_kernel_names_them() {
        let mut devices = Devices::default();
        devices.insert("layers", "/dev/vda");
        devices.insert("loop", "/dev/loop3");
        let node = |serial: &str, partition| {
            devices
                .node(&BlockDevice {
                    serial: serial.to_owned(),
                    partition,
                })
                .unwrap()
        };
        assert_eq!(node("layers", None), "/dev/vda");
        assert_eq!(node("layers", Some(17)), "/dev/vda17");
        assert_eq!(node("loop", Some(2)), "/dev/loop3p2");
        let missing = BlockDevice {
            serial: "none".to_owned(),
            partition: None,
        };
        assert!(
            devices
                .node(&missing)
                .unwrap_err()
                .message
                .contains("\"none\"")
        );
    }
}
