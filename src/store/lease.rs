//! Claims on layers: what no image names (yet) but somebody needs.
//!
//! A layer may be deleted when no image has it and nobody claims it. Containers claim their
//! layers for as long as they exist; a command that puts an image together claims each layer as
//! it arrives, through a [`Lease`] that ends with the process, however it ends.

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

    /// Gives back everything that `owner` claimed.
    pub fn release_owner(&self, owner: &str) -> Result<(), StoreError> {
        self.write(|tx| tx.execute("DELETE FROM layer_refs WHERE owner = ?1", [owner]))?;
        Ok(())
    }
}
