//! Deleting blobs and layers that nothing needs any more.
//!
//! Each file is judged and deleted in a transaction that has the database to itself, and files
//! are put in place and claimed in such a transaction too. So a command that is just about to use
//! one either claimed it before (and it stays) or finds it gone (and fetches it again).

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use rusqlite::Connection;

use super::{Digest, Store, StoreError};

/// What was deleted.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Freed {
    /// Blobs and layers.
    pub files: u64,
    /// Bytes that they took on the disk.
    pub bytes: u64,
}

const LAYER_IN_USE: &str = "SELECT EXISTS (SELECT 1 FROM image_layer WHERE diff_id = ?1)
     OR EXISTS (SELECT 1 FROM image WHERE fixup = ?1)
     OR EXISTS (SELECT 1 FROM layer_refs WHERE layer = ?1)";

/// A blob also stays while somebody claims the layer in it, so that the layer can be made anew.
const BLOB_IN_USE: &str = "SELECT EXISTS (SELECT 1 FROM image_layer WHERE blob = ?1)
     OR EXISTS (SELECT 1 FROM blob JOIN layer_refs ON layer_refs.layer = blob.diff_id
                WHERE blob.digest = ?1)";

impl Store {
    /// Deletes every blob and layer that no image has and nobody claims.
    pub fn collect_garbage(&self) -> Result<Freed, StoreError> {
        let mut freed = Freed::default();
        let layers = self.paths.layers();
        for layer in self.present(&layers, "SELECT diff_id FROM layer")? {
            let path = self.layer_path(&layer);
            self.delete_unused(
                &layer,
                &path,
                LAYER_IN_USE,
                "DELETE FROM layer WHERE diff_id = ?1",
                &mut freed,
            )?;
        }
        let blobs = self.paths.blobs();
        for blob in self.present(&blobs, "SELECT digest FROM blob")? {
            let path = self.blob_path(&blob);
            self.delete_unused(
                &blob,
                &path,
                BLOB_IN_USE,
                "DELETE FROM blob WHERE digest = ?1",
                &mut freed,
            )?;
        }
        Ok(freed)
    }

    /// Everything that a table or a directory knows; after a crash one may know more.
    fn present(&self, directory: &Path, query: &str) -> Result<BTreeSet<Digest>, StoreError> {
        let mut known = self.read(|db| {
            db.prepare(query)?
                .query_map([], |row| row.get(0))?
                .collect::<Result<BTreeSet<_>, _>>()
        })?;
        let listing = fs::read_dir(directory)
            .and_then(|entries| entries.collect::<io::Result<Vec<_>>>())
            .map_err(|source| StoreError::io("list", directory, source))?;
        known.extend(listing.iter().filter_map(|entry| {
            let name = entry.file_name();
            let hex = name.to_str()?.trim_end_matches(".erofs");
            format!("sha256:{hex}").parse::<Digest>().ok()
        }));
        Ok(known)
    }

    fn delete_unused(
        &self,
        digest: &Digest,
        path: &Path,
        in_use: &str,
        forget: &str,
        freed: &mut Freed,
    ) -> Result<(), StoreError> {
        let used = |db: &Connection| db.query_row(in_use, [digest], |row| row.get::<_, bool>(0));
        if self.read(used)? {
            return Ok(());
        }
        let mut deleted = Ok(0);
        self.write(|tx| {
            if used(tx)? {
                return Ok(());
            }
            deleted = delete(path);
            if deleted.is_ok() {
                tx.execute(forget, [digest])?;
            }
            Ok(())
        })?;
        let bytes = deleted.map_err(|source| StoreError::io("delete", path, source))?;
        if bytes > 0 {
            freed.files += 1;
            freed.bytes += bytes;
        }
        Ok(())
    }
}

/// Deletes a file and tells what it took; nothing when it is not there.
fn delete(path: &Path) -> io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let size = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata.blocks() * 512,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    fs::remove_file(path)?;
    Ok(size)
}
