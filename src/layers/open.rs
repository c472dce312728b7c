//! Getting the layers of an image or a container, and what is known of each.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::ffi::OsStrExt;

use guest_agent::protocol::{Layering, Task};

use super::merge::{self, Merged};
use super::{Band, Layer, LayersError, Outline, Sharing, Stack};
use crate::container::Container;
use crate::container::files::Files;
use crate::image::digest::Digest;
use crate::image::erofs::{Inode, ReadError, Reader};
use crate::image::layer;
use crate::image::{self, Image, ImageError};
use crate::settings::Settings;
use crate::store::{LayerRecord, Store, StoreError};

/// A stack and what its files can be read from.
#[derive(Debug)]
pub struct Open {
    /// What there is to tell.
    pub stack: Stack,
    pub(super) readers: Vec<Reader>,
    pub(super) merged: Merged,
}

impl Open {
    /// Every path that a container sees, without the `/` at its beginning, and what is there.
    pub fn files(&self) -> impl Iterator<Item = (&[u8], &Reader, &Inode)> {
        let merged = self.merged.iter();
        merged.map(|(path, node)| (path.as_slice(), &self.readers[node.layer], &node.inode))
    }
}

/// A layer before it is looked into.
struct Source {
    reader: Reader,
    implicit: BTreeSet<Vec<u8>>,
    layer: Layer,
}

/// What to call an image that was asked for by `asked`: that name where it is one of its own.
pub fn name_of(image: &Image, asked: &str) -> String {
    let tagged = format!("{asked}:latest");
    let own = |name: &&String| **name == asked || **name == tagged;
    let name = image.names.iter().find(own).or(image.names.first());
    name.cloned().unwrap_or_else(|| asked.to_owned())
}

/// The layers of an image.
pub fn open_image(store: &Store, name: &str, image: &Image) -> Result<Open, LayersError> {
    let sources = sources(store, image)?;
    let others = others(store, image)?;
    merge_all(name, image, sources, &others)
}

/// The layers of a container's image, with what the container wrote on top.
pub fn open_container(
    store: &Store,
    settings: &Settings,
    container: &Container,
) -> Result<Open, LayersError> {
    let gone = || LayersError::NoImage(container.name.clone());
    let image = image::find(store, &container.config.image_id, None)?.ok_or_else(gone)?;
    let mut sources = sources(store, &image)?;
    let number = sources.len() + 1;
    sources.push(writable(store, settings, container, number)?);
    let others = others(store, &image)?;
    let mut open = merge_all(&container.name, &image, sources, &others)?;
    open.stack.container = Some(container.id.clone());
    Ok(open)
}

/// All images that have names; nothing looks into a layer for it.
pub fn outlines(store: &Store) -> Result<Vec<Outline>, LayersError> {
    let mut outlines = Vec::new();
    for image in image::list(store)? {
        if image.names.is_empty() {
            continue;
        }
        let size = |digest: &Digest| -> Result<Band, LayersError> {
            let record = store.layer(digest)?;
            let size = record.map_or(0, |record| record.content_size);
            Ok(Band {
                digest: *digest,
                size,
            })
        };
        let layers: Vec<Band> = image.layers.iter().map(size).collect::<Result<_, _>>()?;
        outlines.push(Outline {
            id: image.id,
            platform: image.platform.to_string(),
            size: layers.iter().map(|layer| layer.size).sum(),
            names: image.names,
            layers,
        });
    }
    Ok(outlines)
}

fn sources(store: &Store, image: &Image) -> Result<Vec<Source>, LayersError> {
    // Makes files anew that are missing.
    image.layer_files(store)?;
    let steps = steps(image);
    let mut sources = Vec::with_capacity(image.layers.len());
    for (index, (digest, blob)) in image.layers.iter().zip(&image.blobs).enumerate() {
        let path = store.layer_path(digest);
        let file = File::open(&path).map_err(|cause| StoreError::io("open", &path, cause))?;
        let reader = Reader::open(file).map_err(|cause| broken(Some(digest), cause))?;
        let record = store.layer(digest)?;
        let step = steps.get(index).cloned().unwrap_or_default();
        sources.push(Source {
            reader,
            implicit: implicit(record.as_ref()),
            layer: Layer {
                digest: Some(*digest),
                blob: Some(*blob),
                compressed: store.blob_size(blob)?,
                step: step.text,
                created: step.created,
                settings: step.settings,
                ..empty(index + 1)
            },
        });
    }
    Ok(sources)
}

/// What a container wrote, as one more layer. It comes from a guest as an archive.
fn writable(
    store: &Store,
    settings: &Settings,
    container: &Container,
    number: usize,
) -> Result<Source, LayersError> {
    let files = Files::open(store, container)?;
    let mut archive = files.read(Task::Layer(Layering::default()))?;
    let work = store.temp_file("layers")?;
    let limits = image::convert::limits(&settings.limits);
    let converted = layer::convert(&mut archive, work.file(), &limits);
    let converted = converted.map_err(|cause| ImageError::Layer {
        layer: format!("of container {}", container.name),
        cause,
    })?;
    archive.finish()?;
    files.close()?;
    let file = work.file().try_clone();
    let file = file.map_err(|cause| StoreError::io("open", work.path(), cause))?;
    let record = LayerRecord {
        diff_id: converted.diff_id,
        content_size: converted.content_size,
        implicit_dirs: converted.implicit_dirs,
    };
    Ok(Source {
        reader: Reader::open(file).map_err(|cause| broken(None, cause))?,
        implicit: implicit(Some(&record)),
        layer: Layer {
            step: container.config.argv().join(" "),
            ..empty(number)
        },
    })
}

fn empty(number: usize) -> Layer {
    Layer {
        number,
        digest: None,
        blob: None,
        compressed: None,
        size: 0,
        wasted: 0,
        step: String::new(),
        created: None,
        settings: Vec::new(),
        images: Vec::new(),
        added: 0,
        changed: 0,
        hidden: 0,
        changes: Vec::new(),
    }
}

fn implicit(record: Option<&LayerRecord>) -> BTreeSet<Vec<u8>> {
    let directories = record.map(|record| record.implicit_dirs.as_slice());
    let strip = |path: &std::path::PathBuf| {
        let bytes = path.as_os_str().as_bytes();
        bytes.strip_prefix(b"/").unwrap_or(bytes).to_vec()
    };
    directories.unwrap_or_default().iter().map(strip).collect()
}

/// A step of the history that made a layer, and those after it that made none.
#[derive(Debug, Clone, Default)]
struct Step {
    text: String,
    created: Option<String>,
    settings: Vec<String>,
}

fn steps(image: &Image) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for step in image.config.history().as_deref().unwrap_or_default() {
        let text = step.created_by().clone().unwrap_or_default();
        match (step.empty_layer().unwrap_or(false), steps.last_mut()) {
            (true, Some(last)) => last.settings.push(text),
            // Nothing is below the first layer.
            (true, None) => {}
            (false, _) => steps.push(Step {
                text,
                created: step.created().clone(),
                settings: Vec::new(),
            }),
        }
    }
    steps
}

/// Other images that have names, with their layers: the steps of a build have none.
fn others(store: &Store, own: &Image) -> Result<BTreeMap<String, BTreeSet<Digest>>, LayersError> {
    let images = image::list(store)?;
    let others = images.into_iter().filter(|image| image.id != own.id);
    let named = others.filter_map(|image| {
        let name = image.names.first()?;
        let name = match image.platform == own.platform {
            true => name.clone(),
            false => format!("{name} ({})", image.platform),
        };
        Some((name, image.layers.into_iter().collect()))
    });
    Ok(named.collect())
}

fn merge_all(
    name: &str,
    image: &Image,
    sources: Vec<Source>,
    others: &BTreeMap<String, BTreeSet<Digest>>,
) -> Result<Open, LayersError> {
    let mut merged = Merged::new();
    let (mut readers, mut layers, mut directories) = (Vec::new(), Vec::new(), Vec::new());
    for source in sources {
        readers.push(source.reader);
        layers.push(source.layer);
        directories.push(source.implicit);
    }
    for (index, layer) in layers.iter_mut().enumerate() {
        let applied = merge::apply(&mut merged, &readers, index, &directories[index]);
        let applied = applied.map_err(|cause| broken(layer.digest.as_ref(), cause))?;
        let count = |what| {
            let own = applied.changes.iter().filter(|change| change.what == what);
            own.count()
        };
        layer.added = count(super::What::Added);
        layer.changed = count(super::What::Changed);
        layer.hidden = applied.hidden;
        layer.size = applied.size;
        layer.changes = applied.changes;
        let having = others
            .iter()
            .filter(|(_, own)| layer.digest.is_some_and(|digest| own.contains(&digest)));
        layer.images = having.map(|(name, _)| name.clone()).collect();
    }
    let seen = merge::seen_bytes(&merged, layers.len());
    for (index, layer) in layers.iter_mut().enumerate() {
        layer.wasted = layer.size.saturating_sub(seen[index]);
        for change in &mut layer.changes {
            let node = merged.get(&change.path);
            change.seen = match node {
                Some(node) => node.layer == index && change.file.is_some(),
                None => false,
            };
        }
    }
    let stack = Stack {
        name: name.to_owned(),
        id: image.id,
        container: None,
        platform: image.platform.to_string(),
        size: layers.iter().map(|layer| layer.size).sum(),
        wasted: layers.iter().map(|layer| layer.wasted).sum(),
        visible: merged.len(),
        shared: shared(&layers, others),
        layers,
    };
    Ok(Open {
        stack,
        readers,
        merged,
    })
}

fn shared(layers: &[Layer], others: &BTreeMap<String, BTreeSet<Digest>>) -> Vec<Sharing> {
    let common = |(name, own): (&String, &BTreeSet<Digest>)| {
        let common = layers
            .iter()
            .filter(|layer| layer.digest.is_some_and(|digest| own.contains(&digest)));
        let sizes: Vec<u64> = common.map(|layer| layer.size).collect();
        (!sizes.is_empty()).then(|| Sharing {
            image: name.clone(),
            layers: sizes.len(),
            size: sizes.iter().sum(),
        })
    };
    others.iter().filter_map(common).collect()
}

fn broken(layer: Option<&Digest>, cause: ReadError) -> LayersError {
    LayersError::Layer {
        layer: layer.map_or_else(|| "of the container".to_owned(), Digest::short),
        cause,
    }
}
