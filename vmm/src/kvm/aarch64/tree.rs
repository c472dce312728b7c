//! The device tree: what the machine consists of, as its kernel reads it.

use vm_fdt::{Error, FdtWriter};

use crate::kvm::DeviceSlot;
use crate::transport::mmio::PAGE;

/// The interrupt controller, as other nodes name it.
const CONTROLLER: u32 = 1;

/// Kinds of interrupts, and how they are triggered.
const SHARED: u32 = 0;
const PRIVATE: u32 = 1;
const EDGE: u32 = 1;
const LEVEL: u32 = 4;

/// The timer's private interrupts: secure, not secure, virtual, hypervisor.
const TIMER: [u32; 4] = [13, 14, 11, 10];

/// How the interrupt controller is described.
#[derive(Debug, Clone, Copy)]
pub(super) struct Controller {
    pub(super) compatible: &'static str,
    /// Address and length of its registers: those for all, those of the CPUs.
    pub(super) distributor: (u64, u64),
    pub(super) cpus: (u64, u64),
    /// Which CPUs a private interrupt goes to, where that has to be said.
    pub(super) private_mask: u32,
}

/// Where the initramfs is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Initramfs {
    pub(super) start: u64,
    pub(super) length: u64,
}

/// Everything that the kernel has to know.
#[derive(Debug)]
pub(super) struct Description<'a> {
    /// Start and length.
    pub(super) memory: (u64, u64),
    /// What tells each CPU apart.
    pub(super) cpus: &'a [u64],
    pub(super) controller: Controller,
    pub(super) slots: &'a [DeviceSlot],
    pub(super) arguments: &'a str,
}

impl Description<'_> {
    /// The tree.
    pub(super) fn tree(&self, initramfs: Initramfs, seed: &[u8]) -> Result<Vec<u8>, Error> {
        let mut tree = FdtWriter::new()?;
        let root = tree.begin_node("")?;
        tree.property_string("compatible", "linux,dummy-virt")?;
        tree.property_u32("#address-cells", 2)?;
        tree.property_u32("#size-cells", 2)?;
        tree.property_u32("interrupt-parent", CONTROLLER)?;
        self.chosen(&mut tree, initramfs, seed)?;
        let (start, length) = self.memory;
        let memory = tree.begin_node(&format!("memory@{start:x}"))?;
        tree.property_string("device_type", "memory")?;
        tree.property_array_u64("reg", &[start, length])?;
        tree.end_node(memory)?;
        self.cpus(&mut tree)?;
        let psci = tree.begin_node("psci")?;
        tree.property_string_list(
            "compatible",
            vec!["arm,psci-1.0".into(), "arm,psci-0.2".into()],
        )?;
        tree.property_string("method", "hvc")?;
        tree.end_node(psci)?;
        self.interrupts(&mut tree)?;
        for slot in self.slots {
            let node = tree.begin_node(&format!("virtio_mmio@{:x}", slot.address))?;
            tree.property_string("compatible", "virtio,mmio")?;
            tree.property_array_u64("reg", &[slot.address, PAGE])?;
            tree.property_array_u32("interrupts", &[SHARED, slot.line, EDGE])?;
            tree.property_null("dma-coherent")?;
            tree.end_node(node)?;
        }
        tree.end_node(root)?;
        tree.finish()
    }

    fn chosen(&self, tree: &mut FdtWriter, initramfs: Initramfs, seed: &[u8]) -> Result<(), Error> {
        let node = tree.begin_node("chosen")?;
        tree.property_string("bootargs", self.arguments)?;
        tree.property_u64("linux,initrd-start", initramfs.start)?;
        tree.property_u64("linux,initrd-end", initramfs.start + initramfs.length)?;
        tree.property("rng-seed", seed)?;
        tree.end_node(node)
    }

    fn cpus(&self, tree: &mut FdtWriter) -> Result<(), Error> {
        let node = tree.begin_node("cpus")?;
        tree.property_u32("#address-cells", 2)?;
        tree.property_u32("#size-cells", 0)?;
        for affinity in self.cpus {
            let cpu = tree.begin_node(&format!("cpu@{affinity:x}"))?;
            tree.property_string("device_type", "cpu")?;
            tree.property_string("compatible", "arm,armv8")?;
            tree.property_u64("reg", *affinity)?;
            tree.property_string("enable-method", "psci")?;
            tree.end_node(cpu)?;
        }
        tree.end_node(node)
    }

    fn interrupts(&self, tree: &mut FdtWriter) -> Result<(), Error> {
        let Controller {
            compatible,
            distributor,
            cpus,
            private_mask,
        } = self.controller;
        let node = tree.begin_node(&format!("intc@{:x}", distributor.0))?;
        tree.property_string("compatible", compatible)?;
        tree.property_u32("#interrupt-cells", 3)?;
        tree.property_null("interrupt-controller")?;
        tree.property_array_u64("reg", &[distributor.0, distributor.1, cpus.0, cpus.1])?;
        tree.property_phandle(CONTROLLER)?;
        tree.end_node(node)?;
        let timer = tree.begin_node("timer")?;
        tree.property_string("compatible", "arm,armv8-timer")?;
        let lines = TIMER.map(|line| [PRIVATE, line, private_mask << 8 | LEVEL]);
        tree.property_array_u32("interrupts", lines.as_flattened())?;
        tree.property_null("always-on")?;
        tree.end_node(timer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(devices: usize, cpus: &[u64]) -> Vec<u8> {
        let slots: Vec<_> = (0..devices)
            .map(|index| DeviceSlot {
                address: 0xa00_0000 + index as u64 * PAGE,
                line: index as u32,
            })
            .collect();
        let description = Description {
            memory: (0x4000_0000, 512 << 20),
            cpus,
            controller: Controller {
                compatible: "arm,gic-v3",
                distributor: (0x800_0000, 0x1_0000),
                cpus: (0x802_0000, 0x2_0000),
                private_mask: 0,
            },
            slots: &slots,
            arguments: "quiet -- x",
        };
        let initramfs = Initramfs {
            start: 0x5000_0000,
            length: 0x1000,
        };
        description.tree(initramfs, &[7; 64]).unwrap()
    }

    fn contains(tree: &[u8], text: &str) -> bool {
        let mut bytes = text.as_bytes().to_vec();
        bytes.push(0);
        tree.windows(bytes.len()).any(|part| part == bytes)
    }

    #[test]
    fn everything_is_in_the_tree() {
        let tree = tree(3, &[0, 1, 0x100]);
        assert_eq!(tree[..4], [0xd0, 0x0d, 0xfe, 0xed]);
        for text in [
            "virtio_mmio@a000000",
            "virtio_mmio@a002000",
            "cpu@0",
            "cpu@100",
            "quiet -- x",
            "memory@40000000",
        ] {
            assert!(contains(&tree, text), "{text}");
        }
        assert!(!contains(&tree, "virtio_mmio@a003000"));
    }

    #[test]
    fn the_largest_machine_has_room() {
        let cpus: Vec<u64> = (0..64).map(|n| ((n / 16) << 8) | (n % 16)).collect();
        let tree = tree(crate::kvm::MAX_DEVICES, &cpus);
        assert!(tree.len() < 256 << 10, "{}", tree.len());
    }
}
