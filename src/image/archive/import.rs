//! `import`: an image of one layer from an archive of files.

use std::fs::File;
use std::io::{Read, Seek};

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::open;
use crate::arch::Platform;
use crate::events::Note;
use crate::image::assemble::{self, Parts};
use crate::image::change;
use crate::image::convert::{self, Expected};
use crate::image::error::ImageError;
use crate::image::local::Image;
use crate::image::reference::Reference;
use crate::settings::Settings;
use crate::store::{Lease, NewNames, Store};

/// What an imported image is to be.
#[derive(Debug, Clone, Default)]
pub struct Import {
    /// Its name, if any.
    pub reference: Option<Reference>,
    /// Its platform; the settings' when not set.
    pub platform: Option<Platform>,
    /// Instructions to apply, as in `CMD ["sh"]`.
    pub changes: Vec<String>,
    /// A comment for its history.
    pub message: Option<String>,
    /// Where the files come from, for its history.
    pub source: String,
}

/// Makes an image of the files in the archive that `input` is at the beginning of.
pub fn import(
    store: &Store,
    settings: &Settings,
    mut input: File,
    import: &Import,
) -> Result<Image, ImageError> {
    let mut config = Map::new();
    for instruction in &import.changes {
        change::apply(&mut config, instruction)?;
    }
    if import
        .reference
        .as_ref()
        .is_some_and(|reference| reference.digest().is_some())
    {
        return Err(ImageError::Usage(
            "cannot import digest reference".to_owned(),
        ));
    }
    let lease = Lease::begin(store)?;
    let limits = convert::limits(&settings.limits);
    let read = |source| ImageError::io("read the archive", source);
    let (start, stream) = open::peek(&input).map_err(read)?;
    let expected = Expected::default();
    let layer = match open::program(&start) {
        Some(program) => {
            drop(stream);
            // The program reads from the file's own position, so a pipe cannot go back.
            let back = -i64::try_from(start.len()).unwrap_or(0);
            input.seek_relative(back).map_err(|_| {
                ImageError::Usage(
                    "an archive of this compression must be a file, not a pipe".to_owned(),
                )
            })?;
            let mut running = program.start(input)?;
            convert::add_layer(store, &lease, &limits, &mut running, expected)?
        }
        None => {
            let mut stream: Box<dyn Read> = Box::new(stream);
            convert::add_layer(store, &lease, &limits, &mut stream, expected)?
        }
    };
    let platform = import
        .platform
        .clone()
        .unwrap_or_else(|| settings.platform());
    let created = Timestamp::now().to_string();
    let comment = import.message.clone().filter(|message| !message.is_empty());
    let comment = comment.unwrap_or_else(|| format!("Imported from {}", import.source));
    let mut image = json!({
        "architecture": platform.architecture,
        "os": platform.os,
        "created": created,
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [layer.layer.diff_id]},
        "history": [{"created": created, "comment": comment}],
    });
    if let (Some(variant), Value::Object(image)) = (&platform.variant, &mut image) {
        image.insert("variant".to_owned(), Value::from(variant.clone()));
    }
    let parts = Parts::without_manifest(image.to_string().into_bytes(), &[layer])?;
    let reference = import.reference.clone().map(Reference::with_default_tag);
    let names = NewNames {
        references: reference.iter().map(Reference::canonical).collect(),
        ..NewNames::default()
    };
    let image = assemble::store(store, &lease, parts, &names)?.0;
    let id = image.id.to_string();
    let name = image.names.first().unwrap_or(&id);
    store.note("image", &id, &Note::new("import").with("name", name))?;
    Ok(image)
}
