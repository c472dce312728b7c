//! Tests of pulling, pushing and archives as a whole, against servers that misbehave.

mod archives;
mod crash;
mod faults;
mod hostile;
mod pulling;
mod pulls;
mod real;
pub mod server;

use std::io::Write;
use std::sync::Mutex;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use super::digest::Digest;
use super::progress::{Progress, Step};
use crate::settings::Settings;
use crate::store::{Paths, Store};

/// A store in a directory of its own, which must be empty of leftovers in the end.
pub struct Home {
    directory: tempfile::TempDir,
    pub store: Store,
    pub settings: Settings,
}

impl Home {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&Paths::under(directory.path())).unwrap();
        Self {
            directory,
            store,
            settings: Settings::default(),
        }
    }

    /// The pieces, for a context of commands.
    pub fn into_parts(self) -> (Store, Settings, tempfile::TempDir) {
        (self.store, self.settings, self.directory)
    }

    /// Files in the store: blobs, layers, temporary ones.
    pub fn files(&self) -> (usize, usize, usize) {
        let count = |path| std::fs::read_dir(path).unwrap().count();
        let paths = self.store.paths();
        (
            count(paths.blobs()),
            count(paths.layers()),
            count(paths.tmp()),
        )
    }
}

/// Progress, remembered.
#[derive(Default)]
pub struct Heard(pub Mutex<Vec<String>>);

impl Progress for Heard {
    fn line(&self, text: &str) {
        self.0.lock().unwrap().push(text.to_owned());
    }

    fn layer(&self, layer: &str, step: Step) {
        if !matches!(step, Step::Downloading(..) | Step::Pushing(..)) {
            self.0
                .lock()
                .unwrap()
                .push(format!("{layer}: {}", step.text()));
        }
    }
}

/// A layer as a registry has it.
#[derive(Clone)]
pub struct TestLayer {
    pub blob: Vec<u8>,
    pub diff_id: Digest,
}

/// A layer with these files; the content of a file is a few bytes or many that do not compress.
pub fn layer(files: &[(&str, usize)]) -> TestLayer {
    let tar = tarball(
        &files
            .iter()
            .map(|(name, size)| (*name, noise(name, *size)))
            .collect::<Vec<_>>(),
    );
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(&tar).unwrap();
    TestLayer {
        blob: encoder.finish().unwrap(),
        diff_id: Digest::of(&tar),
    }
}

pub fn tarball(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive
            .append_data(&mut header, name, content.as_slice())
            .unwrap();
    }
    archive.into_inner().unwrap()
}

/// Bytes that look random and are always the same.
pub fn noise(seed: &str, size: usize) -> Vec<u8> {
    let mut state = u64::from_le_bytes(Digest::of(seed).as_bytes()[..8].try_into().unwrap());
    (0..size)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 56) as u8
        })
        .collect()
}

/// An image's documents.
pub struct TestImage {
    pub config: Vec<u8>,
    pub manifest: Vec<u8>,
    pub layers: Vec<TestLayer>,
}

impl TestImage {
    pub fn new(architecture: &str, layers: &[TestLayer]) -> Self {
        Self::changed(architecture, layers, |_| {}, |_| {})
    }

    /// An image whose configuration and manifest were tampered with.
    pub fn changed(
        architecture: &str,
        layers: &[TestLayer],
        config: impl FnOnce(&mut Value),
        manifest: impl FnOnce(&mut Value),
    ) -> Self {
        let ids: Vec<String> = layers
            .iter()
            .map(|layer| layer.diff_id.to_string())
            .collect();
        let mut document = json!({
            "architecture": architecture, "os": "linux", "created": "2024-05-01T00:00:00Z",
            "config": {"Cmd": ["sh"], "Labels": {"a": "b"}},
            "rootfs": {"type": "layers", "diff_ids": ids},
        });
        config(&mut document);
        let config = document.to_string().into_bytes();
        let layer = |layer: &TestLayer| {
            json!({
                "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
                "digest": Digest::of(&layer.blob), "size": layer.blob.len(),
            })
        };
        let mut document = json!({
            "schemaVersion": 2, "mediaType": super::manifest::OCI_MANIFEST,
            "config": {
                "mediaType": super::manifest::OCI_CONFIG,
                "digest": Digest::of(&config), "size": config.len(),
            },
            "layers": layers.iter().map(layer).collect::<Vec<_>>(),
        });
        manifest(&mut document);
        let manifest = document.to_string().into_bytes();
        Self {
            config,
            manifest,
            layers: layers.to_vec(),
        }
    }

    pub fn id(&self) -> Digest {
        Digest::of(&self.config)
    }
}

/// An index of images by platform.
pub fn index(images: &[(&str, &TestImage)]) -> Vec<u8> {
    let entries: Vec<Value> = images
        .iter()
        .map(|(architecture, image)| {
            json!({
                "mediaType": super::manifest::OCI_MANIFEST,
                "digest": Digest::of(&image.manifest), "size": image.manifest.len(),
                "platform": {"os": "linux", "architecture": architecture},
            })
        })
        .collect();
    json!({"schemaVersion": 2, "mediaType": super::manifest::OCI_INDEX, "manifests": entries})
        .to_string()
        .into_bytes()
}
