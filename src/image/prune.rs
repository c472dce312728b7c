//! `image prune`: taking away what nobody uses.

use std::collections::{BTreeMap, BTreeSet};

use super::digest::Digest;
use super::error::ImageError;
use super::filter::Filter;
use super::local::{self, Image};
use super::names::{Removed, Users, note_removed};
use crate::store::Store;

/// What a prune took away.
#[derive(Debug, Clone, Default)]
pub struct Pruned {
    /// Names and images, in order.
    pub removed: Vec<Removed>,
    /// Bytes that this freed on the disk.
    pub freed: u64,
}

/// Removes images that no container and no running build uses: those without a name, or with `all`
/// every one. An image that a build made another one of goes only after that one.
pub fn prune(
    store: &Store,
    filter: &Filter,
    all: bool,
    users: Users<'_>,
) -> Result<Pruned, ImageError> {
    remove_where(store, users, true, |image| {
        (all || image.names.is_empty()) && filter.matches(image)
    })
}

/// Removes what builds left and nobody needs: steps that lead to no image with a name, or with
/// `all` every step, so that the next build repeats it.
pub fn prune_builds(
    store: &Store,
    filter: &Filter,
    all: bool,
    users: Users<'_>,
) -> Result<Pruned, ImageError> {
    let (parents, uses) = (store.parents()?, store.build_uses()?);
    remove_where(store, users, !all, |image| {
        let nameless = image.names.is_empty() && image.digests.is_empty();
        let built = parents.contains_key(&image.id) || uses.contains_key(&image.id);
        nameless && built && filter.matches(image)
    })
}

/// What builds may keep.
#[derive(Debug, Clone, Copy, Default)]
pub struct Budget {
    /// The most bytes, of steps that lead to no image with a name and of caches of commands.
    pub bytes: Option<u64>,
    /// What no build has used since then goes, in seconds since 1970.
    pub used_since: Option<i64>,
}

/// Removes what builds left and nobody needs until the rest is within a budget; what was not
/// used for the longest time goes first. Images in `keep` stay.
pub fn shrink_builds(
    store: &Store,
    filter: &Filter,
    budget: Budget,
    keep: &BTreeSet<Digest>,
    users: Users<'_>,
) -> Result<Pruned, ImageError> {
    let (images, parents, uses) = (local::list(store)?, store.parents()?, store.build_uses()?);
    let mut caches = store.build_caches()?;
    caches.sort_by_key(|cache| std::cmp::Reverse(cache.used));
    let mut children: BTreeMap<Digest, usize> = BTreeMap::new();
    for parent in parents.values() {
        *children.entry(*parent).or_default() += 1;
    }
    let mut candidates: BTreeMap<Digest, &Image> = BTreeMap::new();
    // Layers, how often candidates have them, and their sizes; none that others have, too.
    let mut layers: BTreeMap<Digest, (usize, u64)> = BTreeMap::new();
    let mut others: BTreeSet<Digest> = BTreeSet::new();
    for image in &images {
        let nameless = image.names.is_empty() && image.digests.is_empty();
        let built = parents.contains_key(&image.id) || uses.contains_key(&image.id);
        let wanted = keep.contains(&image.id) || !users(&image.id)?.is_empty();
        match nameless && built && !wanted && filter.matches(image) {
            true => drop(candidates.insert(image.id, image)),
            false => others.extend(&image.layers),
        }
    }
    for image in candidates.values() {
        for (layer, blob) in image.layers.iter().zip(&image.blobs) {
            if !others.contains(layer) {
                let size = || (0, store.layer_size(layer, blob));
                layers.entry(*layer).or_insert_with(size).0 += 1;
            }
        }
    }
    let mut total: u64 = layers.values().map(|(_, size)| size).sum();
    total += caches.iter().map(|cache| cache.size).sum::<u64>();
    let stored: BTreeMap<Digest, i64> = images.iter().map(|it| (it.id, it.stored)).collect();
    let used = |id: &Digest| uses.get(id).max(stored.get(id)).copied().unwrap_or(0);
    let is_leaf = |children: &BTreeMap<Digest, usize>, id: &Digest| {
        children.get(id).is_none_or(|count| *count == 0)
    };
    let mut ready: BTreeSet<(i64, Digest)> = candidates
        .keys()
        .filter(|id| is_leaf(&children, id))
        .map(|id| (used(id), *id))
        .collect();
    let mut pruned = Pruned::default();
    loop {
        let image = ready.first().copied();
        let cache = caches.last().map(|cache| cache.used);
        let oldest = image.map(|(used, _)| used).into_iter().chain(cache).min();
        let Some(oldest) = oldest else { break };
        let too_old = budget.used_since.is_some_and(|since| oldest < since);
        let too_much = budget.bytes.is_some_and(|bytes| total > bytes);
        if !too_old && !too_much {
            break;
        }
        if cache == Some(oldest) {
            if let Some(cache) = caches.pop()
                && store.remove_build_cache(&cache)?
            {
                pruned.freed += cache.size;
                total -= cache.size;
            }
            continue;
        }
        let Some((_, id)) = ready.pop_first() else {
            break;
        };
        let Some(image) = candidates.remove(&id) else {
            continue;
        };
        if !store.prune_image(&id)? {
            continue;
        }
        pruned.removed.extend(Removed::with_names(image));
        for layer in &image.layers {
            if let Some((count, size)) = layers.get_mut(layer) {
                *count -= 1;
                if *count == 0 {
                    total -= *size;
                }
            }
        }
        if let Some(parent) = parents.get(&id) {
            if let Some(count) = children.get_mut(parent) {
                *count -= 1;
            }
            if candidates.contains_key(parent) && is_leaf(&children, parent) {
                ready.insert((used(parent), *parent));
            }
        }
    }
    if !pruned.removed.is_empty() {
        note_removed(store, &pruned.removed)?;
        pruned.freed += store.collect_garbage()?.bytes;
    }
    Ok(pruned)
}

fn remove_where(
    store: &Store,
    users: Users<'_>,
    keep_parents: bool,
    unwanted: impl Fn(&Image) -> bool,
) -> Result<Pruned, ImageError> {
    let mut pruned = Pruned::default();
    let mut left = local::list(store)?;
    loop {
        let parents: BTreeSet<Digest> = store.parents()?.into_values().collect();
        let mut kept = Vec::new();
        let before = pruned.removed.len();
        for image in left {
            let is_parent = keep_parents && parents.contains(&image.id);
            if is_parent || !unwanted(&image) || !users(&image.id)?.is_empty() {
                kept.push(image);
                continue;
            }
            match store.prune_image(&image.id)? {
                true => pruned.removed.extend(Removed::with_names(&image)),
                false => kept.push(image),
            }
        }
        // What was only a parent may be next.
        if pruned.removed.len() == before {
            break;
        }
        left = kept;
    }
    note_removed(store, &pruned.removed)?;
    pruned.freed = store.collect_garbage()?.bytes;
    Ok(pruned)
}
