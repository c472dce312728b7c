//! The kernel in memory, and what it reads about the machine: Linux's protocol for booting
//! arm64 kernels.

use std::fs::File;
use std::io::Seek;

use linux_loader::loader::{KernelLoader, pe::PE};
use vm_memory::{Bytes, GuestAddress};

use super::super::{KvmError, Software};
use super::MEMORY;
use super::tree::{Description, Initramfs};
use crate::devices::{Memory, rng};
use crate::trace;

/// Kernel, initramfs and device tree all lie in the first gigabyte of memory, which every
/// kernel maps in one piece.
const REACH: u64 = 1 << 30;
/// The room for the device tree.
const TREE: u64 = 256 << 10;
const PAGE: u64 = 4096;

/// How many random bytes the kernel begins with.
const SEED: usize = 64;

/// Where the kernel's header has the size that it takes in memory.
const IMAGE_SIZE: u64 = 16;

/// How the kernel starts.
#[derive(Debug)]
pub(super) struct Start {
    pub(super) entry: GuestAddress,
    pub(super) tree: GuestAddress,
}

/// Load everything.
pub(super) fn load(
    memory: &Memory,
    memory_mib: u32,
    software: &Software<'_>,
    description: Description<'_>,
) -> Result<Start, KvmError> {
    let mut kernel = duplicate(software.kernel)?;
    let loaded = PE::load(memory, Some(GuestAddress(MEMORY)), &mut kernel, None);
    let loaded = match loaded {
        Ok(loaded) => loaded,
        // The only one that a good kernel can give.
        Err(error) if error.to_string().contains("read kernel image") => {
            return Err(KvmError::TooSmall(memory_mib));
        }
        Err(error) => return Err(KvmError::Kernel(error.to_string())),
    };
    let size: u64 = memory
        .read_obj(GuestAddress(loaded.kernel_load.0 + IMAGE_SIZE))
        .map_err(failed)?;
    let kernel_end = loaded
        .kernel_load
        .0
        .saturating_add(size)
        .max(loaded.kernel_end);
    let end = MEMORY + (u64::from(memory_mib) << 20).min(REACH);
    let tree = end.saturating_sub(TREE);
    let mut initramfs = duplicate(software.initramfs)?;
    let length = initramfs.metadata()?.len();
    let start = tree
        .checked_sub(length)
        .map(|start| start & !(PAGE - 1))
        .filter(|start| *start > kernel_end)
        .ok_or(KvmError::TooSmall(memory_mib))?;
    memory
        .read_exact_volatile_from(GuestAddress(start), &mut initramfs, length as usize)
        .map_err(failed)?;
    let mut seed = [0; SEED];
    rng::fill(&mut seed)?;
    let blob = description
        .tree(Initramfs { start, length }, &seed)
        .map_err(failed)?;
    if blob.len() as u64 > TREE {
        return Err(KvmError::TooManyDevices);
    }
    memory
        .write_slice(&blob, GuestAddress(tree))
        .map_err(failed)?;
    if let Some(tracer) = trace::get() {
        tracer.loaded(software.kernel.metadata()?.len() + length);
    }
    Ok(Start {
        entry: loaded.kernel_load,
        tree: GuestAddress(tree),
    })
}

/// A handle with the position at the start: the same descriptor may have been read before.
fn duplicate(file: &File) -> Result<File, KvmError> {
    let mut file = file.try_clone()?;
    file.rewind()?;
    Ok(file)
}

fn failed(error: impl std::fmt::Display) -> KvmError {
    KvmError::Description(error.to_string())
}
