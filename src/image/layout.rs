//! Images in a directory, in the form of the OCI image layout: `index.json` leads to manifests,
//! and those to content that is called by its digest.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::assemble::{self, Parts};
use super::convert::{self, Expected};
use super::digest::Digest;
use super::error::ImageError;
use super::local::Image;
use super::manifest::{self, Document};
use crate::settings::Settings;
use crate::store::{Lease, NewNames, Store};

const INDEX: &str = "index.json";
const MARK: &str = "oci-layout";

fn blob(directory: &Path, digest: &Digest) -> PathBuf {
    directory.join("blobs/sha256").join(digest.hex())
}

fn failed(what: &str, path: &Path) -> impl Fn(io::Error) -> ImageError {
    let what = format!("{what} {}", path.display());
    move |error| ImageError::io(what.clone(), error)
}

/// The index; none when there is no layout.
pub fn index(directory: &Path, limit: u64) -> Result<Option<Vec<u8>>, ImageError> {
    let path = directory.join(INDEX);
    match read(&path, limit) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        found => found.map(Some).map_err(failed("read", &path)),
    }
}

fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > limit {
        true => Err(io::Error::other(format!("longer than {limit} bytes"))),
        false => Ok(bytes),
    }
}

/// Writes content that is not there yet; whole, or not at all.
fn write(path: &Path, mut content: impl Read) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let partial = path.with_file_name(format!("{name}.{}", std::process::id()));
    let mut file = File::create(&partial)?;
    io::copy(&mut content, &mut file)?;
    fs::rename(partial, path)
}

/// Writes images and an index of them.
pub fn save(
    store: &Store,
    directory: &Path,
    images: &[Image],
    index: &Value,
) -> Result<(), ImageError> {
    let blobs = directory.join("blobs/sha256");
    fs::create_dir_all(&blobs).map_err(failed("create", &blobs))?;
    let put = |digest: &Digest, content: &mut dyn Read| {
        let path = blob(directory, digest);
        match path.exists() {
            true => Ok(()),
            false => write(&path, content).map_err(failed("write", &path)),
        }
    };
    for image in images {
        let Document::Manifest(found) =
            manifest::parse(&image.manifest, Some(&image.manifest_type))?
        else {
            return Err(ImageError::document("image manifest", "it is an index"));
        };
        for layer in &found.layers {
            let path = store.blob_path(&layer.digest);
            let mut file = File::open(&path).map_err(failed("read", &path))?;
            put(&layer.digest, &mut file)?;
        }
        put(&image.id, &mut image.raw_config.as_slice())?;
        put(&Digest::of(&image.manifest), &mut image.manifest.as_slice())?;
    }
    let mark = directory.join(MARK);
    write(&mark, &br#"{"imageLayoutVersion":"1.0.0"}"#[..]).map_err(failed("write", &mark))?;
    let path = directory.join(INDEX);
    write(&path, index.to_string().as_bytes()).map_err(failed("write", &path))
}

/// Takes one image over, without a name; everything of it is verified.
pub fn load(
    store: &Store,
    settings: &Settings,
    directory: &Path,
    digest: &Digest,
) -> Result<Image, ImageError> {
    let small = |digest: &Digest| {
        let path = blob(directory, digest);
        let bytes = read(&path, settings.limits.manifest_bytes).map_err(failed("read", &path))?;
        match Digest::of(&bytes) {
            actual if actual == *digest => Ok(bytes),
            actual => Err(ImageError::Digest {
                what: path.display().to_string(),
                expected: *digest,
                actual,
            }),
        }
    };
    let bytes = small(digest)?;
    let Document::Manifest(found) = manifest::parse(&bytes, None)? else {
        return Err(ImageError::document("image manifest", "it is an index"));
    };
    manifest::check_layers(&found, settings.limits.layers)?;
    let config = small(&found.config.digest)?;
    let parsed = manifest::parse_config(&config, found.layers.len())?;
    let lease = Lease::begin(store)?;
    let limits = convert::limits(&settings.limits);
    let mut layers = Vec::new();
    for (layer, diff_id) in found.layers.iter().zip(&parsed.diff_ids) {
        let _lock = store.lock_digest(&layer.digest, || {})?;
        if convert::claim(store, &lease, &layer.digest, diff_id)?.is_none() {
            let path = blob(directory, &layer.digest);
            let mut file = File::open(&path).map_err(failed("read", &path))?;
            let expected = Expected {
                blob: Some(layer),
                diff_id: Some(diff_id),
            };
            convert::add_layer(store, &lease, &limits, &mut file, expected)?;
        }
        layers.push((*diff_id, layer.digest));
    }
    let parts = Parts {
        config,
        parsed,
        layers,
        manifest: bytes,
        manifest_type: manifest::OCI_MANIFEST.to_owned(),
    };
    Ok(assemble::store(store, &lease, parts, &NewNames::default())?.0)
}
