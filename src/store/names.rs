//! What images are called: names of this machine's, and digests of registries'.

use rusqlite::{Connection, Row, Transaction, params};

use super::{Digest, Store, StoreError};

/// A name in the local name table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameRecord {
    /// The canonical reference with its tag.
    pub reference: String,
    /// The platform of the image that it stands for.
    pub platform: String,
    /// That image.
    pub image: Digest,
}

/// Under which digest a registry knows an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepoDigest {
    /// The canonical name of the repository.
    pub repository: String,
    /// The digest of the manifest or index that was asked for.
    pub digest: Digest,
    /// The image that it led to.
    pub image: Digest,
}

impl Store {
    /// Gives an image a name, which another image of the same platform then loses.
    pub fn set_name(
        &self,
        reference: &str,
        platform: &str,
        image: &Digest,
    ) -> Result<(), StoreError> {
        self.write(|tx| set_name(tx, reference, platform, image))
    }

    /// Notes under which digest a repository knows an image.
    pub fn add_repo_digest(
        &self,
        repository: &str,
        digest: &Digest,
        image: &Digest,
    ) -> Result<(), StoreError> {
        self.write(|tx| {
            tx.execute(
                "INSERT OR IGNORE INTO repo_digest (repository, digest, image)
                 VALUES (?1, ?2, ?3)",
                params![repository, digest, image],
            )
        })?;
        Ok(())
    }

    /// Takes a name, for one platform, from the table.
    pub fn remove_name(&self, reference: &str, platform: &str) -> Result<(), StoreError> {
        self.write(|tx| {
            tx.execute(
                "DELETE FROM name WHERE reference = ?1 AND platform = ?2",
                [reference, platform],
            )
        })?;
        Ok(())
    }

    /// Takes a repository's digest of an image from the table.
    pub fn remove_repo_digest(&self, entry: &RepoDigest) -> Result<(), StoreError> {
        self.write(|tx| {
            tx.execute(
                "DELETE FROM repo_digest WHERE repository = ?1 AND digest = ?2 AND image = ?3",
                params![entry.repository, entry.digest, entry.image],
            )
        })?;
        Ok(())
    }

    /// The names with this canonical reference, one per platform.
    pub fn names_like(&self, reference: &str) -> Result<Vec<NameRecord>, StoreError> {
        self.read(|db| {
            db.prepare(
                "SELECT reference, platform, image FROM name
                 WHERE reference = ?1 ORDER BY platform",
            )?
            .query_map([reference], name_row)?
            .collect()
        })
    }

    /// All names of all images.
    pub fn names(&self) -> Result<Vec<NameRecord>, StoreError> {
        self.read(|db| {
            db.prepare("SELECT reference, platform, image FROM name ORDER BY reference, platform")?
                .query_map([], name_row)?
                .collect()
        })
    }

    /// The names of one image.
    pub fn names_of(&self, image: &Digest) -> Result<Vec<NameRecord>, StoreError> {
        self.read(|db| {
            db.prepare(
                "SELECT reference, platform, image FROM name WHERE image = ?1 ORDER BY reference",
            )?
            .query_map([image], name_row)?
            .collect()
        })
    }

    /// All digests of all repositories.
    pub fn repo_digests(&self) -> Result<Vec<RepoDigest>, StoreError> {
        self.read(|db| digests(db, "", []))
    }

    /// The digests under which repositories know one image.
    pub fn repo_digests_of(&self, image: &Digest) -> Result<Vec<RepoDigest>, StoreError> {
        self.read(|db| digests(db, "WHERE image = ?1", [image]))
    }

    /// The images that a repository's digest led to.
    pub fn repo_digests_at(
        &self,
        repository: &str,
        digest: &Digest,
    ) -> Result<Vec<RepoDigest>, StoreError> {
        let digest = digest.to_string();
        self.read(|db| {
            digests(
                db,
                "WHERE repository = ?1 AND digest = ?2",
                [repository, &digest],
            )
        })
    }
}

fn digests<P: rusqlite::Params>(
    db: &Connection,
    condition: &str,
    values: P,
) -> rusqlite::Result<Vec<RepoDigest>> {
    let order = "ORDER BY repository, digest";
    db.prepare(&format!(
        "SELECT repository, digest, image FROM repo_digest {condition} {order}"
    ))?
    .query_map(values, |row| {
        Ok(RepoDigest {
            repository: row.get(0)?,
            digest: row.get(1)?,
            image: row.get(2)?,
        })
    })?
    .collect()
}

fn name_row(row: &Row<'_>) -> rusqlite::Result<NameRecord> {
    Ok(NameRecord {
        reference: row.get(0)?,
        platform: row.get(1)?,
        image: row.get(2)?,
    })
}

pub(super) fn set_name(
    tx: &Transaction<'_>,
    reference: &str,
    platform: &str,
    image: &Digest,
) -> rusqlite::Result<()> {
    tx.execute(
        "INSERT OR REPLACE INTO name (reference, platform, image) VALUES (?1, ?2, ?3)",
        params![reference, platform, image],
    )?;
    Ok(())
}
