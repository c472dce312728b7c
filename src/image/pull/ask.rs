//! Questions to registries that fetch no image.

use super::{most_telling, runtime};
use crate::image::error::ImageError;
use crate::image::local;
use crate::image::reference::Reference;
use crate::image::registry::{Access, Credentials, RegistryError, Session, endpoints};
use crate::settings::Settings;

/// The document that a registry has under a name; none when it has none.
pub fn index(settings: &Settings, reference: &Reference) -> Result<Option<Vec<u8>>, ImageError> {
    let runtime = runtime()?;
    let mut errors = Vec::new();
    for endpoint in endpoints(reference, settings, None) {
        let found = runtime.block_on(async {
            let session = Session::open(&endpoint, reference, Access::Pull).await?;
            let limit = settings.limits.manifest_bytes;
            session.manifest(reference, limit).await
        });
        match found {
            Ok(found) => return Ok(Some(found.bytes)),
            Err(RegistryError::ManifestUnknown { .. }) => {}
            Err(error) => errors.push(error.into()),
        }
    }
    most_telling(errors).map_or(Ok(None), Err)
}

/// Every tag that a registry has of this repository.
pub fn tags(settings: &Settings, repository: &Reference) -> Result<Vec<Reference>, ImageError> {
    tags_as(None, settings, repository)
}

/// The same as somebody in particular.
pub fn tags_as(
    credentials: Option<&Credentials>,
    settings: &Settings,
    repository: &Reference,
) -> Result<Vec<Reference>, ImageError> {
    const MOST: usize = 10_000;
    let runtime = runtime()?;
    let mut errors = Vec::new();
    for endpoint in endpoints(repository, settings, credentials) {
        let listed = runtime.block_on(async {
            let session = Session::open(&endpoint, repository, Access::Pull).await?;
            session.tags(MOST, settings.limits.manifest_bytes).await
        });
        match listed {
            Ok(tags) => {
                let name = repository.canonical_name();
                return tags
                    .iter()
                    .map(|tag| Ok(format!("{name}:{tag}").parse()?))
                    .collect();
            }
            Err(error) => errors.push(error.into()),
        }
    }
    Err(most_telling(errors).unwrap_or_else(|| local::not_found(&repository.to_string())))
}
