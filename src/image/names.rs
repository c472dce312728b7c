//! Naming images and taking names and images away.

use super::digest::Digest;
use super::error::ImageError;
use super::local::{self, Image};
use super::reference::Reference;
use crate::arch::Platform;
use crate::events::Note;
use crate::store::{NameRecord, Store, StoreError};

/// A container that was made from an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The container's identifier.
    pub container: String,
    /// Whether it runs.
    pub running: bool,
}

/// Finds the containers made from an image; the store of images knows no containers.
pub type Users<'a> = &'a dyn Fn(&Digest) -> Result<Vec<User>, StoreError>;

/// What [`remove`] did, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removed {
    /// A name or a repository's digest went.
    Untagged(String),
    /// An image went.
    Deleted(Digest),
}

impl Removed {
    /// An image that went, after its names.
    pub(super) fn with_names(image: &Image) -> impl Iterator<Item = Self> {
        let names = image.names.iter().chain(&image.digests);
        let untagged = names.cloned().map(Self::Untagged);
        untagged.chain([Self::Deleted(image.id)])
    }
}

impl std::fmt::Display for Removed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Untagged(name) => write!(f, "Untagged: {name}"),
            Self::Deleted(id) => write!(f, "Deleted: {id}"),
        }
    }
}

/// Gives the image `source` the name `target`.
pub fn tag(
    store: &Store,
    source: &str,
    target: &Reference,
    platform: Option<&Platform>,
) -> Result<(), ImageError> {
    if target.digest().is_some() {
        return Err(ImageError::Usage(
            "refusing to create a tag with a digest reference".to_owned(),
        ));
    }
    let image = local::get(store, source, platform)?;
    let canonical = target.clone().with_default_tag().canonical();
    // The new name stands for the platform that the old one stood for.
    let old = source
        .parse::<Reference>()
        .map(|name| name.with_default_tag().canonical());
    let names = store.names_of(&image.id)?;
    let named = names
        .into_iter()
        .find(|name| old.as_ref() == Ok(&name.reference));
    let platform = named.map_or_else(|| image.platform.to_string(), |name| name.platform);
    store.set_name(&canonical, &platform, &image.id)?;
    let note = Note::new("tag").with("name", target.clone().with_default_tag());
    Ok(store.note("image", &image.id.to_string(), &note)?)
}

/// The tags that a repository has here.
pub fn local_tags(store: &Store, repository: &Reference) -> Result<Vec<Reference>, ImageError> {
    let names = store.names()?;
    let mut tags: Vec<Reference> = names
        .iter()
        .filter_map(|name| name.reference.parse::<Reference>().ok())
        .filter(|name| name.canonical_name() == repository.canonical_name())
        .collect();
    tags.dedup();
    Ok(tags)
}

/// Writes down what was taken away.
pub(super) fn note_removed(store: &Store, removed: &[Removed]) -> Result<(), StoreError> {
    for one in removed {
        match one {
            Removed::Untagged(name) => {
                store.note("image", name, &Note::new("untag").with("name", name))?;
            }
            Removed::Deleted(id) => {
                let id = id.to_string();
                store.note("image", &id, &Note::new("delete").with("name", &id))?;
            }
        }
    }
    Ok(())
}

/// Takes away a name, and the image with its last one, as `docker rmi` does.
pub fn remove(
    store: &Store,
    name: &str,
    platform: Option<&Platform>,
    force: bool,
    users: Users<'_>,
) -> Result<Vec<Removed>, ImageError> {
    let removed = take_away(store, name, platform, force, users)?;
    note_removed(store, &removed)?;
    Ok(removed)
}

fn take_away(
    store: &Store,
    name: &str,
    platform: Option<&Platform>,
    force: bool,
    users: Users<'_>,
) -> Result<Vec<Removed>, ImageError> {
    let image = local::get(store, name, platform)?;
    let names = store.names_of(&image.id)?;
    let reference = name.parse::<Reference>().ok();
    let canonical = reference
        .as_ref()
        .map(|it| it.clone().with_default_tag().canonical());
    let by_name: Vec<&NameRecord> = names
        .iter()
        .filter(|name| Some(&name.reference) == canonical.as_ref())
        .collect();
    let by_digest = reference.as_ref().and_then(Reference::digest).filter(|_| {
        // `repository@digest`, rather than digits that happen to begin an identifier.
        by_name.is_empty()
    });
    let mut removed = Vec::new();
    match (by_name.as_slice(), by_digest) {
        ([], Some(digest)) => {
            let repository = reference.as_ref().map(Reference::canonical_name);
            let entries = store.repo_digests_of(&image.id)?;
            if names.is_empty() && entries.len() <= 1 {
                delete(store, &image, name, force, users, &mut removed)?;
                return Ok(removed);
            }
            for entry in entries {
                if entry.digest == digest && Some(&entry.repository) == repository.as_ref() {
                    store.remove_repo_digest(&entry)?;
                    removed.push(Removed::Untagged(name.to_owned()));
                }
            }
        }
        ([], None) => {
            let mut repositories: Vec<String> = names
                .iter()
                .filter_map(|name| repository(&name.reference))
                .collect();
            repositories.dedup();
            if repositories.len() > 1 && !force {
                return Err(ImageError::Conflict(format!(
                    "unable to delete {} (must be forced) - image is referenced in multiple \
                     repositories",
                    image.id.short()
                )));
            }
            delete(store, &image, &image.id.short(), force, users, &mut removed)?;
        }
        ([one], _) if names.len() == 1 => {
            let shown = shown(&one.reference);
            if store.has_children(&image.id)? {
                // Builds still need it; it goes with the last of them.
                store.remove_name(&one.reference, &one.platform)?;
                removed.push(Removed::Untagged(shown));
                return Ok(removed);
            }
            if let (Some(user), false) = (users(&image.id)?.first(), force) {
                return Err(ImageError::Conflict(format!(
                    "unable to remove repository reference \"{shown}\" (must force) - container \
                     {} is using its referenced image {}",
                    short(&user.container),
                    image.id.short()
                )));
            }
            delete(store, &image, &shown, force, users, &mut removed)?;
        }
        (several, _) => {
            for one in several {
                store.remove_name(&one.reference, &one.platform)?;
                removed.push(Removed::Untagged(shown(&one.reference)));
            }
        }
    }
    Ok(removed)
}

/// Deletes an image with everything that names it, unless a container needs it.
fn delete(
    store: &Store,
    image: &Image,
    shown: &str,
    force: bool,
    users: Users<'_>,
    removed: &mut Vec<Removed>,
) -> Result<(), ImageError> {
    for user in users(&image.id)? {
        let (how, kind) = match (user.running, force) {
            (true, false) | (true, true) => ("cannot be forced", "running"),
            (false, false) => ("must be forced", "stopped"),
            (false, true) => continue,
        };
        return Err(ImageError::Conflict(format!(
            "unable to delete {shown} ({how}) - image is being used by {kind} container {}",
            short(&user.container)
        )));
    }
    if store.has_children(&image.id)? {
        return Err(ImageError::Conflict(format!(
            "unable to delete {shown} (cannot be forced) - image has dependent child images"
        )));
    }
    let mut parent = store.parent(&image.id)?;
    store.remove_image(&image.id)?;
    removed.extend(Removed::with_names(image));
    // The steps that led to it go too, as far as nothing else needs them.
    while let Some(id) = parent {
        let needed = store.has_children(&id)?
            || !store.names_of(&id)?.is_empty()
            || !store.repo_digests_of(&id)?.is_empty()
            || !users(&id)?.is_empty();
        if needed {
            break;
        }
        parent = store.parent(&id)?;
        store.remove_image(&id)?;
        removed.push(Removed::Deleted(id));
    }
    store.collect_garbage()?;
    Ok(())
}

fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

fn shown(canonical: &str) -> String {
    canonical
        .parse::<Reference>()
        .map_or_else(|_| canonical.to_owned(), |reference| reference.to_string())
}

fn repository(canonical: &str) -> Option<String> {
    Some(canonical.parse::<Reference>().ok()?.canonical_name())
}
