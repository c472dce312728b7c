//! What a person means by a word: a path of the host, an image or a layer.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::listing::Listing;
use super::{HashError, directory, layer};
use crate::arch::Platform;
use crate::image::digest::Digest;
use crate::image::{self, Image};
use crate::layers;
use crate::store::Store;

/// Where files come from.
#[derive(Debug, Clone)]
pub enum Source {
    /// A file or directory of the host.
    Path,
    /// All layers of an image, as a container sees them.
    Image(Box<Image>),
    /// One layer.
    Layer(Digest),
}

/// Something that is hashed.
#[derive(Debug, Clone)]
pub struct Subject {
    /// What it was called.
    pub name: String,
    /// What that is.
    pub source: Source,
    /// Its files.
    pub listing: Listing,
}

impl Subject {
    /// The directory that the recipe would be told.
    pub fn directory(&self) -> &[u8] {
        match self.source {
            Source::Path => self.name.as_bytes(),
            Source::Image(_) | Source::Layer(_) => b".",
        }
    }
}

/// What `name` means: a path where it looks like one, else an image, a layer, or a path.
pub fn open(store: &Store, name: &str, platform: Option<&Platform>) -> Result<Subject, HashError> {
    let path = Path::new(name);
    let subject = |source, listing| Subject {
        name: name.to_owned(),
        source,
        listing,
    };
    let looks_like_one = name.starts_with(['/', '.']);
    if !looks_like_one {
        if let Some(image) = image::find(store, name, platform)? {
            let open = layers::open_image(store, name, &image)?;
            let listing = layer::merged(&open)?;
            return Ok(subject(Source::Image(Box::new(image)), listing));
        }
        if let Some(digest) = known_layer(store, name)? {
            let listing = layer::read(store, &digest)?;
            return Ok(subject(Source::Layer(digest), listing));
        }
    }
    match path.as_os_str().as_bytes() {
        [] => Err(HashError::NotFound(name.to_owned())),
        _ if looks_like_one || path.exists() => Ok(subject(Source::Path, directory::read(path)?)),
        _ => Err(HashError::NotFound(name.to_owned())),
    }
}

/// The layer of any image here whose digest, or the beginning of it, this is.
fn known_layer(store: &Store, name: &str) -> Result<Option<Digest>, HashError> {
    const LEAST: usize = 6;
    let digits = name.strip_prefix("sha256:").unwrap_or(name);
    if digits.len() < LEAST || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(None);
    }
    let digits = digits.to_ascii_lowercase();
    let mut found = None;
    for image in image::list(store)? {
        for layer in &image.layers {
            if layer.hex().starts_with(&digits) {
                if found.is_some_and(|other| other != *layer) {
                    return Err(HashError::Ambiguous(name.to_owned()));
                }
                // Makes the layer's file anew where it is missing.
                if found.is_none() {
                    image.layer_files(store)?;
                }
                found = Some(*layer);
            }
        }
    }
    Ok(found)
}
