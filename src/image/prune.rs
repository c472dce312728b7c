//! `image prune`: taking away what nobody uses.

use std::collections::BTreeSet;

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

/// Removes images that no container uses: those without a name, or with `all` every one. An
/// image that a build made another one of goes only after that one.
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
    let parents = store.parents()?;
    remove_where(store, users, !all, |image| {
        let nameless = image.names.is_empty() && image.digests.is_empty();
        nameless && parents.contains_key(&image.id) && filter.matches(image)
    })
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
            store.remove_image(&image.id)?;
            pruned.removed.extend(Removed::with_names(&image));
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
