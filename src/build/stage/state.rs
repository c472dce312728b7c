//! A stage's image as it grows: configuration, layers, and how a step becomes an image.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::arch::Platform;
use crate::build::{BuildError, Builder};
use crate::container::spec::DEFAULT_PATH;
use crate::image::assemble::{self, Parts};
use crate::image::convert::{self, Added};
use crate::image::digest::Digest;
use crate::image::{Image, ImageError};
use crate::store::NewNames;

/// What a step leaves behind.
#[derive(Debug, Clone)]
pub struct State {
    /// The image's whole configuration.
    pub image: Map<String, Value>,
    /// Its layers, the lowest first: diff-id and blob.
    pub layers: Vec<(Digest, Digest)>,
    /// Its id; none before the first step on nothing.
    pub id: Option<Digest>,
    /// What it is for.
    pub platform: Platform,
    /// Layers that are claimed for this build already: the first so many.
    claimed: Vec<Added>,
}

/// A step that is to become an image.
#[derive(Debug, Default)]
pub struct Finished {
    /// For the image's history.
    pub created_by: String,
    /// The layer, if the step makes one.
    pub layer: Option<Added>,
    /// What has to be the same for the result to be the same.
    pub step: Option<Digest>,
}

impl State {
    /// No files, and nothing configured.
    pub fn scratch(platform: &Platform) -> Self {
        let mut image = Map::new();
        image.insert(
            "architecture".to_owned(),
            platform.architecture.clone().into(),
        );
        if let Some(variant) = &platform.variant {
            image.insert("variant".to_owned(), variant.clone().into());
        }
        image.insert("os".to_owned(), platform.os.clone().into());
        // As docker: programs are found even on nothing.
        image.insert("config".to_owned(), json!({"Env": [DEFAULT_PATH]}));
        Self {
            image,
            layers: Vec::new(),
            id: None,
            platform: platform.clone(),
            claimed: Vec::new(),
        }
    }

    /// An image's state.
    pub fn of(image: &Image) -> Result<Self, BuildError> {
        let fail = |error| ImageError::document("the image's configuration", error);
        Ok(Self {
            image: serde_json::from_slice(&image.raw_config).map_err(fail)?,
            layers: image
                .layers
                .iter()
                .copied()
                .zip(image.blobs.iter().copied())
                .collect(),
            id: Some(image.id),
            platform: image.platform.clone(),
            claimed: Vec::new(),
        })
    }

    /// What containers of the image are started with.
    pub fn config(&self) -> Map<String, Value> {
        match self.image.get("config") {
            Some(Value::Object(config)) => config.clone(),
            _ => Map::new(),
        }
    }

    /// Sets what containers are started with.
    pub fn set_config(&mut self, config: Map<String, Value>) {
        self.image.insert("config".to_owned(), config.into());
    }

    /// A text of the configuration.
    pub fn text(&self, key: &str) -> String {
        let config = self.image.get("config");
        let value = config.and_then(|config| config.get(key));
        value.and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    /// A list of the configuration.
    pub fn list(&self, key: &str) -> Vec<String> {
        let config = self.image.get("config");
        let values = config
            .and_then(|config| config.get(key))
            .and_then(Value::as_array);
        let values = values.into_iter().flatten();
        values
            .filter_map(|it| Some(it.as_str()?.to_owned()))
            .collect()
    }

    /// The value of an environment variable.
    pub fn env(&self, name: &str) -> Option<String> {
        let env = self.list("Env").into_iter().rev();
        let mut pairs = env.filter_map(|it| {
            let (key, value) = it.split_once('=')?;
            (key == name).then(|| value.to_owned())
        });
        pairs.next()
    }

    /// Where commands run.
    pub fn working_dir(&self) -> String {
        match self.text("WorkingDir").as_str() {
            "" => "/".to_owned(),
            directory => directory.to_owned(),
        }
    }

    /// Makes an image of what the step left; true when it was here already.
    pub fn finish(&mut self, builder: &Builder<'_>, done: Finished) -> Result<bool, BuildError> {
        let created = Timestamp::from_second(builder.options.epoch)
            .unwrap_or_default()
            .to_string();
        let mut history = json!({"created": created, "created_by": done.created_by});
        match &done.layer {
            Some(added) => {
                self.claim_all(builder)?;
                self.layers.push((added.layer.diff_id, added.blob));
                self.claimed.push(added.clone());
            }
            None => history["empty_layer"] = true.into(),
        }
        let diff_ids: Vec<Digest> = self.layers.iter().map(|(diff_id, _)| *diff_id).collect();
        assemble::derive(&mut self.image, &created, &diff_ids, [history]);
        let bytes = Value::from(self.image.clone()).to_string().into_bytes();
        if bytes.len() as u64 > builder.settings.limits.manifest_bytes {
            return Err(BuildError::Usage(format!(
                "the image's configuration has become too long ({} bytes): what is in ENV, LABEL and its like has a limit (limits.manifest-bytes in the settings)",
                bytes.len()
            )));
        }
        let id = Digest::of(&bytes);
        let known = builder.store.use_image(builder.lease, &id)?;
        if !known || done.step.is_some() {
            self.claim_all(builder)?;
            let parts = Parts::without_manifest(bytes, &self.claimed)?;
            let names = NewNames {
                parent: self.id,
                step: done.step,
                ..NewNames::default()
            };
            assemble::store(builder.store, builder.lease, parts, &names)?;
        }
        builder.note_image(&id, !known);
        self.id = Some(id);
        Ok(known)
    }

    /// Keeps the layers from going while the build needs them.
    fn claim_all(&mut self, builder: &Builder<'_>) -> Result<(), BuildError> {
        for (diff_id, blob) in self.layers.iter().skip(self.claimed.len()) {
            let known = convert::claim(builder.store, builder.lease, blob, diff_id)?;
            let added = known.ok_or_else(|| {
                BuildError::Usage(format!(
                    "a layer of the base image is gone ({}), pull or build the image again",
                    diff_id.short()
                ))
            })?;
            self.claimed.push(added);
        }
        Ok(())
    }
}
