//! An image in docker's JSON shape.

use serde_json::{Map, Value, json};

use super::local::Image;
use crate::store::Store;

/// Everything about an image, as docker's API has it.
pub fn inspect_value(store: &Store, image: &Image) -> Value {
    let raw: Value = serde_json::from_slice(&image.raw_config).unwrap_or_default();
    let text = |key: &str| {
        raw.get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let comment = image
        .config
        .history()
        .as_ref()
        .and_then(|history| history.last().and_then(|last| last.comment().clone()));
    let mut layers: Vec<String> = image
        .layers
        .iter()
        .map(|layer| store.layer_path(layer).display().to_string())
        .collect();
    layers.reverse();
    let parent = store.parent(&image.id).ok().flatten();
    let parent = parent.map_or_else(String::new, |parent| parent.to_string());
    let mut value = json!({
        "Id": image.id,
        "RepoTags": image.names,
        "RepoDigests": image.digests,
        "Parent": parent,
        "Comment": comment.unwrap_or_else(|| text("comment")),
        "Created": image.created.clone().unwrap_or_default(),
        "DockerVersion": text("docker_version"),
        "Author": text("author"),
        "Config": config(&raw),
        "Architecture": image.platform.architecture,
    });
    let rest = json!({
        "Os": image.platform.os,
        "Size": image.size,
        "GraphDriver": {"Data": {"LowerDir": layers.join(":")}, "Name": "erofs"},
        "RootFS": {"Type": "layers", "Layers": image.layers},
        "Metadata": {"LastTagTime": stored(image)},
    });
    if let (Value::Object(value), Value::Object(rest)) = (&mut value, rest) {
        if let Some(variant) = &image.platform.variant {
            value.insert("Variant".to_owned(), Value::from(variant.clone()));
        }
        value.extend(rest);
    }
    value
}

/// When the image came here.
fn stored(image: &Image) -> String {
    let time = jiff::Timestamp::from_second(image.stored).unwrap_or_default();
    format!("{time:.9}")
}

/// The container configuration in an image, with docker's fields that are always there.
fn config(raw: &Value) -> Value {
    let mut config = Map::new();
    for (key, default) in [
        ("Hostname", json!("")),
        ("Domainname", json!("")),
        ("User", json!("")),
        ("AttachStdin", json!(false)),
        ("AttachStdout", json!(false)),
        ("AttachStderr", json!(false)),
        ("ExposedPorts", Value::Null),
        ("Tty", json!(false)),
        ("OpenStdin", json!(false)),
        ("StdinOnce", json!(false)),
        ("Env", Value::Null),
        ("Cmd", Value::Null),
        ("Healthcheck", Value::Null),
        ("Image", json!("")),
        ("Volumes", Value::Null),
        ("WorkingDir", json!("")),
        ("Entrypoint", Value::Null),
        ("OnBuild", Value::Null),
        ("Labels", Value::Null),
    ] {
        config.insert(key.to_owned(), default);
    }
    if let Some(Value::Object(given)) = raw.get("config") {
        for (key, value) in given {
            config.insert(key.clone(), sorted(value));
        }
    }
    // These are left out where an image has none.
    for key in ["ExposedPorts", "Healthcheck"] {
        if config.get(key).is_some_and(Value::is_null) {
            config.shift_remove(key);
        }
    }
    Value::Object(config)
}

/// Maps in the order that Go prints them.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut items: Vec<_> = map.iter().collect();
            items.sort_by_key(|(key, _)| *key);
            items
                .into_iter()
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect()
        }
        other => other.clone(),
    }
}
