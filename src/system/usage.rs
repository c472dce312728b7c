//! What everything takes on the disk.

use std::collections::{BTreeMap, BTreeSet};

use crate::container::record::Container;
use crate::image::digest::Digest;
use crate::image::{self, Image, ImageError};
use crate::store::{Store, StoreError, VolumeRecord};

/// A kind of thing, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Total {
    /// How many there are.
    pub count: usize,
    /// How many are in use.
    pub active: usize,
    /// Bytes on the disk.
    pub size: u64,
    /// Bytes of those that are not in use.
    pub reclaimable: u64,
}

/// An image and what it takes.
#[derive(Debug)]
pub struct ImageUsage {
    /// The image.
    pub image: Image,
    /// Bytes of its layers that other images have too.
    pub shared: u64,
    /// Bytes of its layers that it has alone.
    pub unique: u64,
    /// Containers made from it.
    pub containers: usize,
}

/// Everything.
#[derive(Debug, Default)]
pub struct Usage {
    /// Images.
    pub images: Vec<ImageUsage>,
    /// Containers with what they wrote.
    pub containers: Vec<(Container, u64)>,
    /// Volumes with what is in them and how many containers have them.
    pub volumes: Vec<(VolumeRecord, u64, usize)>,
    /// All images: a layer counts once.
    pub image_total: Total,
    /// All containers.
    pub container_total: Total,
    /// All volumes.
    pub volume_total: Total,
}

/// Measures everything.
pub fn measure(store: &Store) -> Result<Usage, ImageError> {
    let containers = store.containers()?;
    let mut usage = Usage::default();
    images(store, &containers, &mut usage)?;
    volumes(store, &containers, &mut usage)?;
    for container in containers {
        let size = store.container_size(&container)?;
        let total = &mut usage.container_total;
        total.count += 1;
        total.size += size;
        if container.state.status.is_live() {
            total.active += 1;
        } else {
            total.reclaimable += size;
        }
        usage.containers.push((container, size));
    }
    Ok(usage)
}

fn images(store: &Store, containers: &[Container], usage: &mut Usage) -> Result<(), ImageError> {
    let images = image::list(store)?;
    let mut users: BTreeMap<Digest, usize> = BTreeMap::new();
    for image in &images {
        let own: BTreeSet<&Digest> = image.layers.iter().collect();
        for layer in own {
            *users.entry(*layer).or_default() += 1;
        }
    }
    let mut sizes: BTreeMap<Digest, u64> = BTreeMap::new();
    let mut in_use: BTreeSet<Digest> = BTreeSet::new();
    for image in images {
        let id = image.id.to_string();
        let count = containers
            .iter()
            .filter(|c| c.config.image_id == id)
            .count();
        let (mut shared, mut unique) = (0, 0);
        let pairs: BTreeMap<_, _> = image.layers.iter().zip(&image.blobs).collect();
        for (layer, blob) in pairs {
            let size = *sizes
                .entry(*layer)
                .or_insert_with(|| store.layer_size(layer, blob));
            match users.get(layer) {
                Some(1) => unique += size,
                _ => shared += size,
            }
            if count > 0 {
                in_use.insert(*layer);
            }
        }
        let total = &mut usage.image_total;
        total.count += 1;
        total.active += usize::from(count > 0);
        usage.images.push(ImageUsage {
            image,
            shared,
            unique,
            containers: count,
        });
    }
    let total = &mut usage.image_total;
    total.size = sizes.values().sum();
    let unused = sizes.iter().filter(|(layer, _)| !in_use.contains(layer));
    total.reclaimable = unused.map(|(_, size)| size).sum();
    Ok(())
}

fn volumes(store: &Store, containers: &[Container], usage: &mut Usage) -> Result<(), StoreError> {
    for volume in store.volumes()? {
        let has = |container: &&Container| {
            let mut binds = container.config.binds.iter();
            binds.any(|bind| bind.volume.as_ref() == Some(&volume.name))
        };
        let links = containers.iter().filter(has).count();
        let size = store.volume_size(&volume.name)?;
        let total = &mut usage.volume_total;
        total.count += 1;
        total.size += size;
        if links > 0 {
            total.active += 1;
        } else {
            total.reclaimable += size;
        }
        usage.volumes.push((volume, size, links));
    }
    Ok(())
}
