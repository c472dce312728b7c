//! Claims on layers and images: what no image names (yet) but somebody needs.
//!
//! A layer may be deleted when no image has it and nobody claims it. Containers claim their
//! layers for as long as they exist; a command that puts an image together claims each layer as
//! it arrives, through a [`Lease`] that ends with the process, however it ends.
//!
//! The file of a lease lists the images that its command goes on from, so that no prune takes
//! them in between. A line is written before the image is looked for, and prunes read the files
//! in the transaction that deletes: one of both sees the other.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};

use rusqlite::{OptionalExtension, Transaction, params};

use super::{Digest, Store, StoreError, TempFile};

const KIND: &str = "lease";

/// The claims of one running command; dropped, or its process killed, they are void.
#[derive(Debug)]
pub struct Lease<'a> {
    store: &'a Store,
    file: TempFile,
}

impl<'a> Lease<'a> {
    /// Begins a lease without claims.
    pub fn begin(store: &'a Store) -> Result<Self, StoreError> {
        Ok(Self {
            store,
            file: store.temp_file(KIND)?,
        })
    }

    /// The owner of its claims.
    pub fn owner(&self) -> String {
        self.file.name()
    }

    fn list(&self, image: &Digest) -> Result<(), StoreError> {
        let line = format!("{image}\n");
        let written = self.file.file().write_all(line.as_bytes());
        written.map_err(|cause| StoreError::io("write", self.file.path(), cause))
    }

    /// Whether a temporary file of this name is a lease.
    pub(super) fn is_file(name: &str) -> bool {
        name.starts_with(KIND)
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        // On failure the claims stay until the next open finds the lease's file without a holder.
        let _ = self.store.release_owner(&self.owner());
    }
}

/// Claims a layer for `owner`, inside a transaction of the caller's.
///
/// For `src/store/containers.rs`: an owner is any text unique to its holder, as in
/// `container:ID`, and must be given back with [`Store::release_owner`].
pub fn claim_layer(tx: &Transaction<'_>, layer: &Digest, owner: &str) -> rusqlite::Result<()> {
    tx.execute(
        "INSERT OR IGNORE INTO layer_refs (layer, owner) VALUES (?1, ?2)",
        params![layer, owner],
    )?;
    Ok(())
}

impl Store {
    /// Claims all of `layers` for `owner`, or none of them and false when one is gone.
    pub fn claim_layers(&self, layers: &[Digest], owner: &str) -> Result<bool, StoreError> {
        self.write(|tx| {
            for layer in layers {
                let known = tx
                    .query_row(
                        "SELECT 1 FROM layer WHERE diff_id = ?1",
                        [layer],
                        |_| Ok(()),
                    )
                    .optional()?;
                if known.is_none() {
                    tx.execute("DELETE FROM layer_refs WHERE owner = ?1", [owner])?;
                    return Ok(false);
                }
                claim_layer(tx, layer, owner)?;
            }
            Ok(true)
        })
    }

    /// Keeps an image from being pruned as long as the lease lasts, whether it is here already or
    /// is about to be; tells whether it is.
    pub fn use_image(&self, lease: &Lease<'_>, image: &Digest) -> Result<bool, StoreError> {
        lease.list(image)?;
        self.write(|tx| {
            tx.query_row("SELECT 1 FROM image WHERE id = ?1", [image], |_| Ok(()))
                .optional()
                .map(|found| found.is_some())
        })
    }

    /// Deletes an image with all its names, as [`Store::remove_image`] does, unless a command that
    /// runs goes on from it; tells whether it is gone.
    pub fn prune_image(&self, image: &Digest) -> Result<bool, StoreError> {
        let mut used = Ok(false);
        self.write(|tx| {
            used = self.listed().map(|listed| listed.contains(image));
            if matches!(used, Ok(false)) {
                tx.execute("DELETE FROM image WHERE id = ?1", [image])?;
            }
            Ok(())
        })?;
        Ok(!used?)
    }

    /// The images that leases list.
    fn listed(&self) -> Result<BTreeSet<Digest>, StoreError> {
        let directory = self.paths.tmp();
        let fail = |cause| StoreError::io("list", &directory, cause);
        let mut listed = BTreeSet::new();
        for entry in fs::read_dir(&directory).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            if !entry.file_name().to_str().is_some_and(Lease::is_file) {
                continue;
            }
            match fs::read_to_string(entry.path()) {
                Ok(text) => {
                    listed.extend(text.lines().filter_map(|line| line.parse::<Digest>().ok()))
                }
                // It has just ended.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(cause) => return Err(StoreError::io("read", &entry.path(), cause)),
            }
        }
        Ok(listed)
    }

    /// Gives back everything that `owner` claimed.
    pub fn release_owner(&self, owner: &str) -> Result<(), StoreError> {
        self.write(|tx| tx.execute("DELETE FROM layer_refs WHERE owner = ?1", [owner]))?;
        Ok(())
    }
}
