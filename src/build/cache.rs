//! Carrying the cache elsewhere: `--cache-to` and `--cache-from` with a directory.
//!
//! A cache is an archive of the images of a build's steps, as `save` writes it, and a list of
//! which step gave which image. Images are verified when they are loaded; that a step gives an
//! image is believed, so a cache is as trustworthy as who wrote it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::BuildError;
use crate::image::archive::{self, Selection};
use crate::image::digest::Digest;
use crate::image::{self, Silent};
use crate::settings::Settings;
use crate::store::Store;

const IMAGES: &str = "images.tar";
const STEPS: &str = "steps.json";

/// What a cache says.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Steps {
    /// Changes when the meaning of keys does.
    version: u32,
    /// Steps and the images that they gave.
    steps: BTreeMap<Digest, Digest>,
    /// Images and what they were made of.
    parents: BTreeMap<Digest, Digest>,
}

/// The directory that the value of an option names: `type=local,dest=DIR`.
pub fn directory(option: &str, text: &str, key: &str) -> Result<PathBuf, BuildError> {
    let mut kind = "registry";
    let mut place = None;
    for field in text.split(',') {
        match field.split_once('=') {
            Some(("type", value)) => kind = value,
            Some((name, value)) if name == key => place = Some(value),
            _ => {}
        }
    }
    match (kind, place) {
        ("local", Some(place)) => Ok(place.into()),
        ("local", None) => Err(BuildError::Usage(format!(
            "{option} {text} needs {key}=DIR"
        ))),
        _ => Err(BuildError::Usage(format!(
            "{option} {text} is not there yet, use type=local,{key}=DIR"
        ))),
    }
}

/// Writes the steps of a build into a directory.
pub fn export(
    store: &Store,
    steps: &BTreeMap<Digest, Digest>,
    directory: &Path,
) -> Result<(), BuildError> {
    let failed = |path: &Path| {
        let path = path.display().to_string();
        move |error| BuildError::Io(format!("write the cache {path}"), error)
    };
    fs::create_dir_all(directory).map_err(failed(directory))?;
    let known = store.parents()?;
    let mut content = Steps {
        version: 1,
        ..Steps::default()
    };
    let mut selected = Vec::new();
    for (step, id) in steps {
        let Some(image) = image::find(store, &id.to_string(), None)? else {
            continue;
        };
        content.steps.insert(*step, *id);
        if let Some(parent) = known.get(id) {
            content.parents.insert(*id, *parent);
        }
        selected.push(Selection {
            image,
            names: Vec::new(),
        });
    }
    // Renamed when they are whole: another build may read them meanwhile.
    let images = directory.join(IMAGES);
    let partial = directory.join(format!("{IMAGES}.{}", std::process::id()));
    let file = File::create(&partial).map_err(failed(&partial))?;
    archive::save(store, &selected, io::BufWriter::new(file))?;
    fs::rename(&partial, &images).map_err(failed(&images))?;
    let list = directory.join(STEPS);
    let partial = directory.join(format!("{STEPS}.{}", std::process::id()));
    let text = serde_json::to_vec(&content).map_err(|error| failed(&list)(error.into()))?;
    fs::write(&partial, text).map_err(failed(&partial))?;
    fs::rename(&partial, &list).map_err(failed(&list))
}

/// Takes what a directory has of steps; false when there is no cache.
pub fn import(store: &Store, settings: &Settings, directory: &Path) -> Result<bool, BuildError> {
    let list = directory.join(STEPS);
    let text = match fs::read(&list) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => {
            return Err(BuildError::Io(
                format!("read the cache {}", list.display()),
                error,
            ));
        }
    };
    let content: Steps = serde_json::from_slice(&text).map_err(|error| {
        BuildError::Usage(format!("{} is no cache of builds: {error}", list.display()))
    })?;
    if content.version != 1 {
        return Ok(false);
    }
    let mut missing = false;
    for id in content.steps.values() {
        missing |= store.image(id)?.is_none();
    }
    if missing {
        let path = directory.join(IMAGES);
        let file = File::open(&path)
            .map_err(|error| BuildError::Io(format!("read the cache {}", path.display()), error))?;
        archive::load(store, settings, file, None, &Silent)?;
    }
    store.add_built(&content.steps, &content.parents)?;
    Ok(true)
}
