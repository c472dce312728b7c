//! The tables of images: configurations, layers, names.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::lease::claim_layer;
use super::names::set_name;
use super::{Digest, Lease, Store, StoreError, TempFile};

pub(super) const SCHEMA: &str = "
CREATE TABLE image (
    id TEXT NOT NULL PRIMARY KEY,
    platform TEXT NOT NULL,
    config BLOB NOT NULL,
    manifest BLOB NOT NULL,
    manifest_type TEXT NOT NULL,
    size INTEGER NOT NULL,
    stored INTEGER NOT NULL,
    fixup TEXT
);
CREATE TABLE image_layer (
    image TEXT NOT NULL REFERENCES image (id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    diff_id TEXT NOT NULL,
    blob TEXT NOT NULL,
    PRIMARY KEY (image, position)
) WITHOUT ROWID;
CREATE INDEX image_layer_diff_id ON image_layer (diff_id);
CREATE INDEX image_layer_blob ON image_layer (blob);
CREATE TABLE layer (
    diff_id TEXT NOT NULL PRIMARY KEY,
    content_size INTEGER NOT NULL,
    implicit_dirs BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE blob (
    digest TEXT NOT NULL PRIMARY KEY,
    diff_id TEXT NOT NULL,
    size INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX blob_diff_id ON blob (diff_id);
CREATE TABLE name (
    reference TEXT NOT NULL,
    platform TEXT NOT NULL,
    image TEXT NOT NULL REFERENCES image (id) ON DELETE CASCADE,
    PRIMARY KEY (reference, platform)
) WITHOUT ROWID;
CREATE INDEX name_image ON name (image);
CREATE TABLE repo_digest (
    repository TEXT NOT NULL,
    digest TEXT NOT NULL,
    image TEXT NOT NULL REFERENCES image (id) ON DELETE CASCADE,
    PRIMARY KEY (repository, digest, image)
) WITHOUT ROWID;
CREATE INDEX repo_digest_image ON repo_digest (image);
CREATE TABLE layer_refs (
    layer TEXT NOT NULL,
    owner TEXT NOT NULL,
    PRIMARY KEY (layer, owner)
) WITHOUT ROWID;
CREATE INDEX layer_refs_owner ON layer_refs (owner);
";

/// An image as the store keeps it.
#[derive(Debug, Clone)]
pub struct ImageRecord {
    /// The digest of the configuration.
    pub id: Digest,
    /// The platform in normal form, as text.
    pub platform: String,
    /// The configuration, to the byte.
    pub config: Vec<u8>,
    /// The manifest, to the byte.
    pub manifest: Vec<u8>,
    /// The manifest's media type.
    pub manifest_type: String,
    /// Bytes that the layers unpack to.
    pub size: u64,
    /// When the image came here, in seconds since 1970.
    pub stored: i64,
    /// The layer that goes on top of the others to put directory attributes right.
    pub fixup: Option<Digest>,
    /// The layers, bottom first, as pairs of diff-id and compressed blob.
    pub layers: Vec<(Digest, Digest)>,
}

/// What is known of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerRecord {
    /// The digest of the uncompressed archive.
    pub diff_id: Digest,
    /// Bytes of the files in it.
    pub content_size: u64,
    /// Directories that it uses but does not describe.
    pub implicit_dirs: Vec<PathBuf>,
}

/// The names to give an image together with storing it.
#[derive(Debug, Clone, Default)]
pub struct NewNames {
    /// The platform that the names stand for: what was asked for or listed in an index, which
    /// need not be what the image's configuration claims. The latter when not set.
    pub platform: Option<String>,
    /// Canonical references with tags.
    pub references: Vec<String>,
    /// Repository and digest.
    pub digests: Vec<(String, Digest)>,
    /// The image that a build made it of.
    pub parent: Option<Digest>,
    /// What else a build would have to repeat exactly to get the same image again.
    pub step: Option<Digest>,
}

impl Store {
    /// Claims the layer in `blob`, and tells whether both its files are here.
    pub fn claim_blob(
        &self,
        lease: &Lease<'_>,
        blob: &Digest,
        diff_id: &Digest,
    ) -> Result<Option<LayerRecord>, StoreError> {
        if !self.blob_path(blob).is_file() || !self.layer_path(diff_id).is_file() {
            return Ok(None);
        }
        let owner = lease.owner();
        self.write(|tx| {
            let verified = tx
                .query_row(
                    "SELECT 1 FROM blob WHERE digest = ?1 AND diff_id = ?2",
                    [blob, diff_id],
                    |_| Ok(()),
                )
                .optional()?;
            let layer = layer(tx, diff_id)?;
            // The files may have gone since; nothing deletes any while this transaction lasts.
            let here = self.blob_path(blob).is_file() && self.layer_path(diff_id).is_file();
            if verified.is_none() || layer.is_none() || !here {
                return Ok(None);
            }
            claim_layer(tx, diff_id, &owner)?;
            Ok(layer)
        })
    }

    /// Puts a verified blob and the layer made from it in place and claims the layer.
    pub fn add_layer(
        &self,
        lease: &Lease<'_>,
        blob: (Digest, u64, TempFile),
        layer: &LayerRecord,
        image: TempFile,
    ) -> Result<(), StoreError> {
        let (digest, size, file) = blob;
        let owner = lease.owner();
        self.place(
            vec![
                (file, self.blob_path(&digest)),
                (image, self.layer_path(&layer.diff_id)),
            ],
            |tx| {
                insert_layer(tx, layer)?;
                tx.execute(
                    "INSERT OR REPLACE INTO blob (digest, diff_id, size) VALUES (?1, ?2, ?3)",
                    params![digest, layer.diff_id, size],
                )?;
                claim_layer(tx, &layer.diff_id, &owner)
            },
        )
    }

    /// Puts a layer in place that was made from other layers rather than from a blob.
    pub fn add_made_layer(
        &self,
        lease: &Lease<'_>,
        layer: &LayerRecord,
        image: TempFile,
    ) -> Result<(), StoreError> {
        let owner = lease.owner();
        self.place(vec![(image, self.layer_path(&layer.diff_id))], |tx| {
            insert_layer(tx, layer)?;
            claim_layer(tx, &layer.diff_id, &owner)
        })
    }

    /// Claims a layer that was made from other layers, and tells whether its file is here.
    pub fn claim_made_layer(
        &self,
        lease: &Lease<'_>,
        diff_id: &Digest,
    ) -> Result<bool, StoreError> {
        let owner = lease.owner();
        self.write(|tx| {
            let here = layer(tx, diff_id)?.is_some() && self.layer_path(diff_id).is_file();
            if here {
                claim_layer(tx, diff_id, &owner)?;
            }
            Ok(here)
        })
    }

    /// Renames whole files to their final names and records them, in one transaction.
    fn place(
        &self,
        files: Vec<(TempFile, PathBuf)>,
        record: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<()>,
    ) -> Result<(), StoreError> {
        for (temp, _) in &files {
            temp.file()
                .sync_data()
                .map_err(|source| StoreError::io("write", temp.path(), source))?;
        }
        let mut renamed = Ok(());
        self.write(|tx| {
            for (temp, target) in files {
                if let Err(source) = temp.persist(&target) {
                    renamed = Err(StoreError::io("create", &target, source));
                    return Ok(());
                }
            }
            record(tx)
        })?;
        renamed
    }

    /// What is known of a layer.
    pub fn layer(&self, diff_id: &Digest) -> Result<Option<LayerRecord>, StoreError> {
        self.read(|db| layer(db, diff_id))
    }

    /// The size of a compressed blob.
    pub fn blob_size(&self, digest: &Digest) -> Result<Option<u64>, StoreError> {
        self.read(|db| {
            db.query_row("SELECT size FROM blob WHERE digest = ?1", [digest], |row| {
                row.get(0)
            })
            .optional()
        })
    }

    /// Stores an image, whose layers the caller has claimed, and its names; true when the image
    /// was not here before.
    pub fn add_image(&self, image: &ImageRecord, names: &NewNames) -> Result<bool, StoreError> {
        self.write(|tx| {
            let known = tx
                .query_row("SELECT 1 FROM image WHERE id = ?1", [image.id], |_| Ok(()))
                .optional()?
                .is_some();
            tx.execute(
                "INSERT INTO image (id, platform, config, manifest, manifest_type, size, stored, fixup)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
                 ON CONFLICT (id) DO UPDATE SET manifest = ?4, manifest_type = ?5, fixup = ?8",
                params![
                    image.id, image.platform, image.config, image.manifest,
                    image.manifest_type, image.size, image.stored, image.fixup
                ],
            )?;
            tx.execute("DELETE FROM image_layer WHERE image = ?1", [image.id])?;
            for (position, (diff_id, blob)) in image.layers.iter().enumerate() {
                tx.execute(
                    "INSERT INTO image_layer (image, position, diff_id, blob)
                     VALUES (?1, ?2, ?3, ?4)",
                    params![image.id, position, diff_id, blob],
                )?;
            }
            for reference in &names.references {
                let platform = names.platform.as_ref().unwrap_or(&image.platform);
                set_name(tx, reference, platform, &image.id)?;
            }
            for (repository, digest) in &names.digests {
                tx.execute(
                    "INSERT OR IGNORE INTO repo_digest (repository, digest, image)
                     VALUES (?1, ?2, ?3)",
                    params![repository, digest, image.id],
                )?;
            }
            super::builds::record(tx, &image.id, names)?;
            Ok(!known)
        })
    }

    /// Deletes an image with all its names. Its layers go with the next
    /// [`Store::collect_garbage`].
    pub fn remove_image(&self, id: &Digest) -> Result<(), StoreError> {
        self.write(|tx| tx.execute("DELETE FROM image WHERE id = ?1", [id]))?;
        Ok(())
    }

    /// The image with this identifier.
    pub fn image(&self, id: &Digest) -> Result<Option<ImageRecord>, StoreError> {
        self.read(|db| {
            let image = db
                .query_row(&format!("{IMAGE} WHERE id = ?1"), [id], image_row)
                .optional()?;
            image.map(|image| with_layers(db, image)).transpose()
        })
    }

    /// All images, newest arrival first.
    pub fn images(&self) -> Result<Vec<ImageRecord>, StoreError> {
        self.read(|db| {
            let images = db
                .prepare(&format!("{IMAGE} ORDER BY stored DESC, id"))?
                .query_map([], image_row)?
                .collect::<Result<Vec<_>, _>>()?;
            images
                .into_iter()
                .map(|image| with_layers(db, image))
                .collect()
        })
    }

    /// The identifiers that begin with these hexadecimal digits.
    pub fn image_ids(&self, prefix: &str) -> Result<Vec<Digest>, StoreError> {
        // The range `prefix..prefix + 'g'` is what begins with the prefix, 'g' following 'f'.
        self.read(|db| {
            db.prepare("SELECT id FROM image WHERE id >= ?1 AND id < ?2 ORDER BY id")?
                .query_map(
                    [format!("sha256:{prefix}"), format!("sha256:{prefix}g")],
                    |row| row.get(0),
                )?
                .collect()
        })
    }
}

const IMAGE: &str =
    "SELECT id, platform, config, manifest, manifest_type, size, stored, fixup FROM image";

fn image_row(row: &Row<'_>) -> rusqlite::Result<ImageRecord> {
    Ok(ImageRecord {
        id: row.get(0)?,
        platform: row.get(1)?,
        config: row.get(2)?,
        manifest: row.get(3)?,
        manifest_type: row.get(4)?,
        size: row.get(5)?,
        stored: row.get(6)?,
        fixup: row.get(7)?,
        layers: Vec::new(),
    })
}

fn with_layers(db: &Connection, mut image: ImageRecord) -> rusqlite::Result<ImageRecord> {
    image.layers = db
        .prepare_cached("SELECT diff_id, blob FROM image_layer WHERE image = ?1 ORDER BY position")?
        .query_map([image.id], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    Ok(image)
}

fn layer(db: &Connection, diff_id: &Digest) -> rusqlite::Result<Option<LayerRecord>> {
    db.query_row(
        "SELECT diff_id, content_size, implicit_dirs FROM layer WHERE diff_id = ?1",
        [diff_id],
        |row| {
            Ok(LayerRecord {
                diff_id: row.get(0)?,
                content_size: row.get(1)?,
                implicit_dirs: split_paths(row.get_ref(2)?.as_bytes()?),
            })
        },
    )
    .optional()
}

fn insert_layer(tx: &Transaction<'_>, layer: &LayerRecord) -> rusqlite::Result<()> {
    tx.execute(
        "INSERT OR REPLACE INTO layer (diff_id, content_size, implicit_dirs)
         VALUES (?1, ?2, ?3)",
        params![
            layer.diff_id,
            layer.content_size,
            join_paths(&layer.implicit_dirs)
        ],
    )?;
    Ok(())
}

/// Paths one after the other, each ended by the one byte that no path contains.
fn join_paths(paths: &[PathBuf]) -> Vec<u8> {
    paths
        .iter()
        .flat_map(|path| path.as_os_str().as_bytes().iter().copied().chain([0]))
        .collect()
}

fn split_paths(bytes: &[u8]) -> Vec<PathBuf> {
    let paths = bytes
        .split(|&byte| byte == 0)
        .filter(|path| !path.is_empty());
    paths
        .map(|path| PathBuf::from(OsStr::from_bytes(path)))
        .collect()
}
