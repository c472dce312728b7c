//! What a registry has under a reference: through indexes to the manifest for one platform, and
//! what that says the image consists of.

use std::collections::BTreeMap;

use super::Task;
use crate::arch::Platform;
use crate::image::digest::Digest;
use crate::image::error::ImageError;
use crate::image::manifest::{self, Blob, Config, Document, Manifest};
use crate::image::registry::{Fetched, Session};

/// How deep indexes may lie in indexes.
const INDEX_DEPTH: u32 = 3;

/// What the registry has under the reference, for one platform.
pub(super) struct Resolved {
    pub(super) top: Digest,
    pub(super) document: Fetched,
    pub(super) manifest: Manifest,
    pub(super) config: Vec<u8>,
    pub(super) parsed: Config,
    /// The platform that an index lists the image under.
    pub(super) listed: Option<Platform>,
}

pub(super) struct Job {
    pub(super) blob: Blob,
    pub(super) diff_id: Digest,
}

impl Task<'_> {
    /// Finds the manifest for the platform, and its configuration.
    pub(super) async fn resolve(&self, session: &Session) -> Result<Resolved, ImageError> {
        let limits = &self.settings.limits;
        let wanted = self
            .platform
            .cloned()
            .unwrap_or_else(|| self.settings.platform());
        let mut document = session
            .manifest(&self.reference, limits.manifest_bytes)
            .await?;
        let top = document.digest;
        let mut listed = None;
        for _ in 0..=INDEX_DEPTH {
            let entries = match manifest::parse(&document.bytes, document.media_type.as_deref())? {
                Document::Index(entries) => entries,
                Document::Manifest(found) => {
                    manifest::check_layers(&found, limits.layers)?;
                    let digest = found.config.digest;
                    let config = match self.store.image(&digest)? {
                        Some(image) => image.config,
                        None => session.small_blob(&digest, limits.manifest_bytes).await?,
                    };
                    let parsed = manifest::parse_config(&config, found.layers.len())?;
                    self.check_platform(&parsed.platform, listed.as_ref())?;
                    return Ok(Resolved {
                        top,
                        document,
                        manifest: found,
                        config,
                        parsed,
                        listed,
                    });
                }
            };
            let entry = manifest::select(&entries, &wanted)?;
            listed = entry.platform.clone().or(listed);
            let reference = self.reference.at_digest(entry.manifest.digest);
            document = session.manifest(&reference, limits.manifest_bytes).await?;
        }
        Err(ImageError::document(
            "image manifest",
            "indexes of indexes without an end",
        ))
    }

    /// Refuses an image for another platform than was asked for, unless an index listed it.
    fn check_platform(
        &self,
        actual: &Platform,
        listed: Option<&Platform>,
    ) -> Result<(), ImageError> {
        match (self.platform, listed) {
            (Some(wanted), None) if !actual.serves(wanted) => Err(ImageError::PlatformMismatch {
                reference: self.reference.to_string(),
                actual: Box::new(actual.clone()),
                wanted: Box::new(wanted.clone()),
            }),
            _ => Ok(()),
        }
    }
}

/// Each layer once, with what it must contain.
pub(super) fn jobs(resolved: &Resolved) -> Result<Vec<Job>, ImageError> {
    let mut seen = BTreeMap::new();
    let mut jobs = Vec::new();
    for (blob, diff_id) in resolved
        .manifest
        .layers
        .iter()
        .zip(&resolved.parsed.diff_ids)
    {
        match seen.insert(blob.digest, *diff_id) {
            None => jobs.push(Job {
                blob: blob.clone(),
                diff_id: *diff_id,
            }),
            Some(before) if before == *diff_id => {}
            Some(_) => {
                return Err(ImageError::document(
                    "image configuration",
                    format!("it gives layer {} two contents", blob.digest.short()),
                ));
            }
        }
    }
    Ok(jobs)
}
