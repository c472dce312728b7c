//! The machine of a container: its size, its disks, the directories that it shares.

use std::fs;

use guest_agent::protocol::Share;
use vmm::{DirShare, Disk, MachineConfig};

use super::LaunchError;
use crate::arch::dispatch::Plan;
use crate::container::assets;
use crate::container::limits;
use crate::container::record::{Bind, Container};
use crate::store::Store;

/// Describes it.
pub(super) fn machine(
    store: &Store,
    container: &Container,
    place: Plan,
    disks: Vec<Disk>,
) -> Result<MachineConfig, LaunchError> {
    let config = &container.config;
    for bind in &config.binds {
        // As docker: a missing directory is made, but not one that a volume's options name.
        let made_by_us = |name| bind.source == store.paths().volume_data(name);
        if bind.volume.as_deref().is_none_or(made_by_us) && !bind.source.exists() {
            fs::create_dir_all(&bind.source).map_err(|source| LaunchError::Volume {
                path: bind.source.clone(),
                source,
            })?;
        }
    }
    let share = |(number, bind): (usize, &Bind)| DirShare {
        tag: share_tag(number),
        source: bind.source.clone(),
        read_only: bind.read_only,
    };
    Ok(MachineConfig {
        name: container.short_id().to_owned(),
        engine: place.engine,
        arch: place.guest,
        memory_mib: u32::try_from(config.memory >> 20).unwrap_or(u32::MAX),
        cpus: config.cpus,
        kernel: assets::kernel(place.engine, place.guest)?,
        initramfs: assets::initramfs(place.guest)?,
        disks,
        disk_limits: config.disk_limits,
        network_limits: config.network_limits,
        host_limits: limits::of_host(config),
        trace_boot: false,
        verbose: false,
        no_jail: config.no_jail,
        shares: config.binds.iter().enumerate().map(share).collect(),
        interfaces: Vec::new(),
        console: Some(store.paths().console_log(&container.id)),
        qemu: None,
    })
}

fn share_tag(number: usize) -> String {
    format!("share{number}")
}

/// The shared directories, as the agent is told of them.
pub(super) fn shares(binds: &[Bind]) -> Vec<Share> {
    let share = |(number, bind): (usize, &Bind)| Share {
        tag: share_tag(number),
        subpath: bind.source.is_file().then(|| {
            bind.source
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned()
        }),
        destination: bind.target.clone(),
        read_only: bind.read_only,
        copy_up: bind.copy_up,
        fill: None,
    };
    binds.iter().enumerate().map(share).collect()
}
