//! `image prune`: taking away what nobody uses.

use super::error::ImageError;
use super::filter::Filter;
use super::local;
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

/// Removes images that no container uses: those without a name, or with `all` every one.
pub fn prune(
    store: &Store,
    filter: &Filter,
    all: bool,
    users: Users<'_>,
) -> Result<Pruned, ImageError> {
    let mut pruned = Pruned::default();
    for image in local::list(store)? {
        let wanted = (all || image.names.is_empty()) && filter.matches(&image);
        if !wanted || !users(&image.id)?.is_empty() {
            continue;
        }
        store.remove_image(&image.id)?;
        let untagged = image
            .names
            .iter()
            .chain(&image.digests)
            .cloned()
            .map(Removed::Untagged);
        pruned.removed.extend(untagged);
        pruned.removed.push(Removed::Deleted(image.id));
    }
    note_removed(store, &pruned.removed)?;
    pruned.freed = store.collect_garbage()?.bytes;
    Ok(pruned)
}
