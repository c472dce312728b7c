//! An image of several parents: their layers on top of each other.
//!
//! The first image is the base: its command, user, directory and the like stay. Of what the
//! others bring, files and environment count. Where two disagree, the later one wins, and the
//! caller is told.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::assemble::{self, Parts};
use super::convert;
use super::digest::Digest;
use super::erofs::FileType;
use super::error::ImageError;
use super::local::{self, Image};
use super::reference::Reference;
use super::view::{Node, View};
use crate::store::{Lease, NewNames, Store};

/// The most conflicts that are listed.
const LISTED: usize = 100;

/// A stacked image.
#[derive(Debug, Clone)]
pub struct Stacked {
    /// It.
    pub image: Image,
    /// Where the images disagreed, one sentence each.
    pub conflicts: Vec<String>,
    /// Conflicts that are not listed.
    pub more: usize,
}

/// Stacks images, the base first; `created` is the time of the new one.
pub fn stack(
    store: &Store,
    images: &[(String, Image)],
    reference: Option<&Reference>,
    created: &str,
) -> Result<Stacked, ImageError> {
    let Some(((_, base), others)) = images.split_first() else {
        return Err(ImageError::Usage("there is nothing to stack".to_owned()));
    };
    let mut layers: Vec<(Digest, Digest)> = Vec::new();
    let mut known = BTreeSet::new();
    for (name, image) in images {
        if image.platform != base.platform {
            return Err(ImageError::Usage(format!(
                "cannot stack {name}, which is for {}, on an image for {}",
                image.platform, base.platform
            )));
        }
        for (layer, blob) in image.layers.iter().zip(&image.blobs) {
            // What the images have in common lies where it lay first.
            if known.insert(*layer) {
                layers.push((*layer, *blob));
            }
        }
    }
    let document = |image: &Image| -> Result<Map<String, Value>, ImageError> {
        serde_json::from_slice(&image.raw_config)
            .map_err(|error| ImageError::document("the image's configuration", error))
    };
    let mut whole = document(base)?;
    let mut report = Report::default();
    let mut config = object(whole.remove("config"));
    let mut history = list(whole.remove("history"));
    for (name, image) in others {
        let other = document(image)?;
        merge_config(
            &mut config,
            &object(other.get("config").cloned()),
            name,
            &mut report,
        );
    }
    // One step per layer, so that history and layers agree.
    history.retain(|step| step.get("empty_layer") == Some(&Value::Bool(true)));
    let names: Vec<&str> = images.iter().map(|(name, _)| name.as_str()).collect();
    let by = format!("hull image stack {}", names.join(" "));
    let step = json!({"created": created, "created_by": by});
    history.extend(layers.iter().map(|_| step.clone()));
    let diff_ids: Vec<Digest> = layers.iter().map(|(diff_id, _)| *diff_id).collect();
    assemble::derive(&mut whole, created, &diff_ids, history);
    whole.insert("config".to_owned(), config.into());

    let lease = Lease::begin(store)?;
    let mut added = Vec::with_capacity(layers.len());
    for (diff_id, blob) in &layers {
        let claimed = convert::claim(store, &lease, blob, diff_id)?;
        added.push(claimed.ok_or_else(|| local::not_found(&diff_id.to_string()))?);
    }
    let parts = Parts::without_manifest(Value::from(whole).to_string().into_bytes(), &added)?;
    let reference = reference.cloned().map(Reference::with_default_tag);
    let new_names = NewNames {
        references: reference.iter().map(Reference::canonical).collect(),
        ..NewNames::default()
    };
    let (image, _) = assemble::store(store, &lease, parts, &new_names)?;
    files(store, images, &image, &mut report)?;
    Ok(Stacked {
        image,
        conflicts: report.listed,
        more: report.more,
    })
}

#[derive(Debug, Default)]
struct Report {
    listed: Vec<String>,
    more: usize,
}

impl Report {
    fn note(&mut self, text: String) {
        match self.listed.len() < LISTED {
            true => self.listed.push(text),
            false => self.more += 1,
        }
    }
}

fn object(value: Option<Value>) -> Map<String, Value> {
    match value {
        Some(Value::Object(map)) => map,
        _ => Map::new(),
    }
}

fn list(value: Option<Value>) -> Vec<Value> {
    match value {
        Some(Value::Array(items)) => items,
        _ => Vec::new(),
    }
}

/// Adds what another image brings: variables, ports, volumes and labels.
fn merge_config(
    config: &mut Map<String, Value>,
    other: &Map<String, Value>,
    name: &str,
    report: &mut Report,
) {
    let texts = |value: Option<&Value>| -> Vec<String> {
        let items = value.and_then(Value::as_array).into_iter().flatten();
        items
            .filter_map(|it| it.as_str().map(str::to_owned))
            .collect()
    };
    let mut env = texts(config.get("Env"));
    for variable in texts(other.get("Env")) {
        let Some((key, value)) = variable.split_once('=') else {
            continue;
        };
        let prefix = format!("{key}=");
        match env.iter_mut().find(|it| it.starts_with(&prefix)) {
            None => env.push(variable),
            Some(known) if **known == variable => {}
            Some(known) if key == "PATH" => {
                let mut places: Vec<&str> = known.trim_start_matches("PATH=").split(':').collect();
                for place in value.split(':') {
                    if !places.contains(&place) {
                        places.push(place);
                    }
                }
                *known = format!("PATH={}", places.join(":"));
            }
            Some(known) => {
                report.note(format!(
                    "environment: {variable} of {name} replaces {known}"
                ));
                *known = variable;
            }
        }
    }
    if !env.is_empty() {
        config.insert("Env".to_owned(), env.into());
    }
    for key in ["ExposedPorts", "Volumes", "Labels"] {
        let theirs = object(other.get(key).cloned());
        if theirs.is_empty() {
            continue;
        }
        let mut ours = object(config.remove(key));
        for (entry, value) in theirs {
            ours.entry(entry).or_insert(value);
        }
        config.insert(key.to_owned(), ours.into());
    }
    for key in ["Entrypoint", "Cmd", "User", "WorkingDir"] {
        let theirs = other.get(key).filter(|value| !is_nothing(value));
        if let Some(theirs) = theirs
            && config.get(key) != Some(theirs)
            && key == "Entrypoint"
        {
            report.note(format!(
                "entrypoint: {theirs} of {name} is not used, the first image's is"
            ));
        }
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

/// Finds the files of each image that the stack shows otherwise.
fn files(
    store: &Store,
    images: &[(String, Image)],
    stacked: &Image,
    report: &mut Report,
) -> Result<(), ImageError> {
    let whole = Arc::new(View::open(store, stacked)?);
    for (name, image) in images {
        let view = Arc::new(View::open(store, image)?);
        let mut walk = Walk {
            name,
            one: &view,
            whole: &whole,
            report,
        };
        walk.directory("", &view.root()?, &whole.root()?)?;
    }
    Ok(())
}

struct Walk<'a> {
    name: &'a str,
    one: &'a Arc<View>,
    whole: &'a Arc<View>,
    report: &'a mut Report,
}

impl Walk<'_> {
    fn directory(&mut self, path: &str, one: &Node, whole: &Node) -> Result<(), ImageError> {
        for (name, node) in self.one.children(one)? {
            let path = format!("{path}/{}", String::from_utf8_lossy(&name));
            let shown = self.whole.child(whole, &name)?;
            match shown {
                None => self
                    .report
                    .note(format!("{path} of {} is hidden", self.name)),
                Some(shown) if self.same_kind(&node, &shown) => {
                    if node.file_type() == FileType::Directory {
                        self.directory(&path, &node, &shown)?;
                    } else if !self.same(&node, &shown)? {
                        self.report
                            .note(format!("{path} of {} is replaced", self.name));
                    }
                }
                Some(_) => self
                    .report
                    .note(format!("{path} of {} is replaced", self.name)),
            }
        }
        Ok(())
    }

    fn same_kind(&self, one: &Node, other: &Node) -> bool {
        one.file_type() == other.file_type()
    }

    fn same(&self, one: &Node, other: &Node) -> Result<bool, ImageError> {
        if self.one.origin(one) == self.whole.origin(other) {
            return Ok(true);
        }
        let about = |node: &Node| node.inode().map(|it| (it.mode, it.uid, it.gid, it.size));
        if about(one) != about(other) {
            return Ok(false);
        }
        match one.file_type() {
            FileType::Symlink => Ok(self.one.read_link(one)? == self.whole.read_link(other)?),
            FileType::Regular => {
                let same = same_content(self.one.content(one), self.whole.content(other));
                same.map_err(|error| ImageError::io("compare files of images", error))
            }
            _ => Ok(true),
        }
    }
}

fn same_content(mut one: impl Read, mut other: impl Read) -> io::Result<bool> {
    let (mut a, mut b) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    loop {
        let count = one.read(&mut a)?;
        other.read_exact(&mut b[..count])?;
        if a[..count] != b[..count] {
            return Ok(false);
        }
        if count == 0 {
            return Ok(true);
        }
    }
}
