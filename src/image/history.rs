//! How an image came to be, step by step.

use jiff::Timestamp;

use super::digest::Digest;
use super::error::ImageError;
use super::local::Image;
use crate::store::Store;

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryStep {
    /// The image that the step made, where it is here: the last one's, and those of builds.
    pub image: Option<Digest>,
    /// When.
    pub created: Option<Timestamp>,
    /// By what.
    pub created_by: String,
    /// Bytes of the files that it added.
    pub size: u64,
    /// What was said about it.
    pub comment: String,
}

/// The steps of an image, the last one first.
pub fn history(store: &Store, image: &Image) -> Result<Vec<HistoryStep>, ImageError> {
    let mut sizes = Vec::with_capacity(image.layers.len());
    for layer in &image.layers {
        sizes.push(store.layer(layer)?.map_or(0, |layer| layer.content_size));
    }
    let mut sizes = sizes.into_iter();
    let mut steps = Vec::new();
    for step in image.config.history().as_deref().unwrap_or_default() {
        let is_empty = step.empty_layer().unwrap_or(false);
        steps.push(HistoryStep {
            image: None,
            created: step.created().as_deref().and_then(|text| text.parse().ok()),
            created_by: step.created_by().clone().unwrap_or_default(),
            size: if is_empty {
                0
            } else {
                sizes.next().unwrap_or(0)
            },
            comment: step.comment().clone().unwrap_or_default(),
        });
    }
    // A configuration may say less than it has layers.
    steps.extend(sizes.map(|size| HistoryStep {
        image: None,
        created: image.created.as_deref().and_then(|text| text.parse().ok()),
        created_by: String::new(),
        size,
        comment: String::new(),
    }));
    steps.reverse();
    // A build makes an image of every step, until its base.
    let mut made = Some(image.id);
    for step in &mut steps {
        let Some(id) = made else { break };
        step.image = Some(id);
        made = store.parent(&id)?;
    }
    Ok(steps)
}
