//! Manifests, indexes and configurations: reading them with suspicion.
//!
//! They come from registries and archives that nobody vouches for. Everything later code relies
//! on is checked here once: the kind of document, the digests, that there is one diff-id per
//! layer, that every layer is of a kind we can read.

use oci_spec::image::{Descriptor, ImageConfiguration, ImageIndex, ImageManifest};
use serde::Deserialize;
use serde_json::Value;

use super::digest::Digest;
use super::error::ImageError;
use crate::arch::Platform;

/// OCI image manifest.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// OCI image index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// OCI image configuration.
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// Docker's image manifest.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker's index.
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Docker's image configuration.
pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

/// Content by digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// What it is.
    pub media_type: String,
}

/// What a registry may answer when asked for a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// One image.
    Manifest(Manifest),
    /// Images for several platforms.
    Index(Vec<Entry>),
}

/// One image: a configuration and layers, bottom first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The configuration.
    pub config: Blob,
    /// The compressed layers.
    pub layers: Vec<Blob>,
}

/// One image of an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its manifest.
    pub manifest: Blob,
    /// What it is for, where the index says so.
    pub platform: Option<Platform>,
    /// The name that image archives give it.
    pub name: Option<String>,
}

/// An image configuration and what it was checked for.
#[derive(Debug, Clone)]
pub struct Config {
    /// The whole configuration.
    pub parsed: ImageConfiguration,
    /// Digests of the uncompressed layers, bottom first.
    pub diff_ids: Vec<Digest>,
    /// What the image claims to be for.
    pub platform: Platform,
}

/// Reads a manifest or index. `media_type` is what the carrier said it is, if anything.
pub fn parse(bytes: &[u8], media_type: Option<&str>) -> Result<Document, ImageError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Head {
        schema_version: Option<u32>,
        media_type: Option<String>,
        manifests: Option<serde::de::IgnoredAny>,
        layers: Option<serde::de::IgnoredAny>,
    }
    let fail = |reason: String| ImageError::document("image manifest", reason);
    let head: Head = serde_json::from_slice(bytes).map_err(|error| fail(error.to_string()))?;
    if head.schema_version != Some(2) {
        return Err(fail(format!(
            "schema version {} is not supported, only 2 is",
            head.schema_version
                .map_or("none".to_owned(), |version| version.to_string())
        )));
    }
    let essence = |text: &str| text.split(';').next().unwrap_or_default().trim().to_owned();
    let kind = head.media_type.as_deref().or(media_type).map(essence);
    match (
        kind.as_deref(),
        head.manifests.is_some(),
        head.layers.is_some(),
    ) {
        (_, true, true) => Err(fail("it is an index and an image at once".to_owned())),
        (None | Some(OCI_INDEX | DOCKER_LIST | ""), true, false) => {
            let index: ImageIndex =
                serde_json::from_slice(bytes).map_err(|error| fail(error.to_string()))?;
            index
                .manifests()
                .iter()
                .map(entry)
                .collect::<Result<_, _>>()
                .map(Document::Index)
        }
        (None | Some(OCI_MANIFEST | DOCKER_MANIFEST | ""), false, true) => {
            let manifest: ImageManifest =
                serde_json::from_slice(bytes).map_err(|error| fail(error.to_string()))?;
            Ok(Document::Manifest(Manifest {
                config: blob(manifest.config())?,
                layers: manifest
                    .layers()
                    .iter()
                    .map(blob)
                    .collect::<Result<_, _>>()?,
            }))
        }
        (Some(kind), _, _) if !kind.is_empty() => Err(fail(format!(
            "{kind:?} is neither an image nor an index of images, or its content is not what \
             that name promises"
        ))),
        _ => Err(fail("it has neither layers nor manifests".to_owned())),
    }
}

fn blob(descriptor: &Descriptor) -> Result<Blob, ImageError> {
    Ok(Blob {
        digest: descriptor
            .digest()
            .as_ref()
            .parse()
            .map_err(|error| ImageError::document("image manifest", error))?,
        size: descriptor.size(),
        media_type: descriptor.media_type().to_string(),
    })
}

fn entry(descriptor: &Descriptor) -> Result<Entry, ImageError> {
    let platform = descriptor.platform().as_ref().and_then(|platform| {
        Platform::claimed(
            &platform.os().to_string(),
            &platform.architecture().to_string(),
            platform.variant().as_deref(),
        )
        .ok()
    });
    let annotation = |key: &str| descriptor.annotations().as_ref()?.get(key).cloned();
    Ok(Entry {
        manifest: blob(descriptor)?,
        platform,
        name: annotation("io.containerd.image.name")
            .or_else(|| annotation("org.opencontainers.image.ref.name")),
    })
}

/// The entry of an index that serves `wanted` best.
pub fn select<'a>(entries: &'a [Entry], wanted: &Platform) -> Result<&'a Entry, ImageError> {
    let ranked = entries
        .iter()
        .filter_map(|entry| Some((entry.platform.as_ref()?.rank(wanted)?, entry)))
        .min_by_key(|(rank, _)| *rank);
    if let Some((_, entry)) = ranked {
        return Ok(entry);
    }
    if let [only] = entries
        && only.platform.is_none()
    {
        return Ok(only);
    }
    let known = entries.iter().filter_map(|entry| entry.platform.as_ref());
    let mut available: Vec<String> = known
        .filter(|platform| platform.os != "unknown")
        .take(32)
        .map(Platform::to_string)
        .collect();
    if available.is_empty() {
        available.push("no platform at all".to_owned());
    }
    Err(ImageError::NoSuchPlatform {
        wanted: wanted.clone(),
        available: available.join(", "),
    })
}

/// Refuses layers that cannot be fetched from a registry or read as an archive.
pub fn check_layers(manifest: &Manifest, limit: usize) -> Result<(), ImageError> {
    if manifest.layers.len() > limit {
        return Err(ImageError::document(
            "image manifest",
            format!(
                "{} layers, and the limit is {limit} (limits.layers in the settings)",
                manifest.layers.len()
            ),
        ));
    }
    let kind = &manifest.config.media_type;
    if kind != OCI_CONFIG && kind != DOCKER_CONFIG {
        return Err(ImageError::document(
            "image manifest",
            format!("its configuration is a {kind:?}, so it is no container image"),
        ));
    }
    for layer in &manifest.layers {
        match layer.media_type.as_str() {
            "application/vnd.oci.image.layer.v1.tar"
            | "application/vnd.oci.image.layer.v1.tar+gzip"
            | "application/vnd.oci.image.layer.v1.tar+zstd"
            | "application/vnd.docker.image.rootfs.diff.tar"
            | "application/vnd.docker.image.rootfs.diff.tar.gzip"
            | "application/vnd.docker.image.rootfs.diff.tar.zstd" => {}
            kind => {
                let why = if kind.contains("foreign") || kind.contains("nondistributable") {
                    "is a layer that registries do not hold (Windows base images have them)"
                } else {
                    "is of a kind that hull cannot read"
                };
                return Err(ImageError::document(
                    "image manifest",
                    format!("layer {} {why}: {kind:?}", layer.digest.short()),
                ));
            }
        }
    }
    Ok(())
}

/// Reads an image configuration that must describe this many layers.
pub fn parse_config(bytes: &[u8], layers: usize) -> Result<Config, ImageError> {
    let fail = |reason: String| ImageError::document("image configuration", reason);
    let parsed: ImageConfiguration =
        serde_json::from_slice(bytes).map_err(|error| fail(error.to_string()))?;
    let diff_ids = parsed
        .rootfs()
        .diff_ids()
        .iter()
        .map(|text| {
            text.parse()
                .map_err(|error| fail(format!("rootfs.diff_ids: {error}")))
        })
        .collect::<Result<Vec<Digest>, _>>()?;
    if diff_ids.len() != layers {
        return Err(fail(format!(
            "it describes {} layers, and the image has {layers}",
            diff_ids.len()
        )));
    }
    let platform = Platform::claimed(
        &parsed.os().to_string(),
        &parsed.architecture().to_string(),
        parsed.variant().as_deref(),
    )?;
    Ok(Config {
        parsed,
        diff_ids,
        platform,
    })
}

/// A manifest for an image that came without one.
pub fn compose(config: &[u8], layers: &[Blob]) -> Vec<u8> {
    let descriptor = |media_type: &str, digest: &Digest, size: u64| serde_json::json!({"mediaType": media_type, "digest": digest, "size": size});
    let layers: Vec<Value> = layers
        .iter()
        .map(|layer| descriptor(&layer.media_type, &layer.digest, layer.size))
        .collect();
    serde_json::json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor(OCI_CONFIG, &Digest::of(config), config.len() as u64),
        "layers": layers,
    })
    .to_string()
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn digest(text: &str) -> String {
        Digest::of(text).to_string()
    }

    fn manifest(layer_type: &str) -> String {
        format!(
            r#"{{"schemaVersion":2,"config":{{"mediaType":"{OCI_CONFIG}","digest":"{}","size":2}},
            "layers":[{{"mediaType":"{layer_type}","digest":"{}","size":7}}]}}"#,
            digest("c"),
            digest("l")
        )
    }

    fn index(platforms: &[&str]) -> String {
        let entries: Vec<String> = platforms
            .iter()
            .map(|platform| {
                let parts: Vec<&str> = platform.split('/').collect();
                let variant = parts.get(2).map(|v| format!(r#","variant":"{v}""#));
                format!(
                    r#"{{"mediaType":"{OCI_MANIFEST}","digest":"{}","size":3,"platform":
                    {{"os":"{}","architecture":"{}"{}}}}}"#,
                    digest(platform),
                    parts[0],
                    parts[1],
                    variant.unwrap_or_default()
                )
            })
            .collect();
        format!(
            r#"{{"schemaVersion":2,"manifests":[{}]}}"#,
            entries.join(",")
        )
    }

    #[test]
    fn manifests_and_indexes_are_told_apart_by_their_content() {
        let layer = "application/vnd.oci.image.layer.v1.tar+gzip";
        let Document::Manifest(found) = parse(manifest(layer).as_bytes(), None).unwrap() else {
            panic!("not a manifest");
        };
        assert_eq!(found.layers[0].size, 7);
        assert_eq!(found.config.digest, Digest::of("c"));
        check_layers(&found, 1).unwrap();
        let text = index(&["linux/amd64", "linux/arm64/v8", "unknown/unknown"]);
        let Document::Index(entries) = parse(text.as_bytes(), Some(DOCKER_LIST)).unwrap() else {
            panic!("not an index");
        };
        let wanted: Platform = "arm64".parse().unwrap();
        let chosen = select(&entries, &wanted).unwrap();
        assert_eq!(chosen.manifest.digest, Digest::of("linux/arm64/v8"));
        let error = select(&entries, &"s390x".parse().unwrap())
            .unwrap_err()
            .to_string();
        assert!(error.contains("linux/s390x") && error.ends_with("linux/amd64, linux/arm64"));
    }

    #[test]
    fn the_best_variant_is_selected() {
        let text = index(&[
            "linux/arm/v5",
            "linux/arm/v6",
            "linux/arm/v7",
            "linux/amd64",
        ]);
        let Document::Index(entries) = parse(text.as_bytes(), None).unwrap() else {
            panic!("not an index");
        };
        for (wanted, expected) in [
            ("arm/v7", Some("linux/arm/v7")),
            ("arm/v6", Some("linux/arm/v6")),
            ("arm64", Some("linux/arm/v7")),
            ("amd64/v3", Some("linux/amd64")),
            ("riscv64", None),
        ] {
            let chosen = select(&entries, &wanted.parse().unwrap()).ok();
            assert_eq!(
                chosen.map(|entry| entry.manifest.digest),
                expected.map(Digest::of),
                "{wanted}"
            );
        }
    }

    #[test]
    fn documents_that_make_no_sense_are_refused() {
        let both = r#"{"schemaVersion":2,"manifests":[],"layers":[],"config":{}}"#;
        for (text, kind, reason) in [
            ("", None, "EOF"),
            ("[]", None, "invalid"),
            ("{}", None, "schema version none"),
            (r#"{"schemaVersion":1}"#, None, "schema version 1"),
            (
                r#"{"schemaVersion":2}"#,
                None,
                "neither layers nor manifests",
            ),
            (r#"{"schemaVersion":"2"}"#, None, "invalid type"),
            (both, None, "at once"),
            (r#"{"schemaVersion":2,"layers":[]}"#, None, "missing field"),
            (
                r#"{"schemaVersion":2,"layers":[]}"#,
                Some(OCI_INDEX),
                "neither an image",
            ),
            (
                r#"{"schemaVersion":2,"manifests":[]}"#,
                Some("text/html"),
                "text/html",
            ),
            (
                r#"{"schemaVersion":2,"manifests":[{"mediaType":"x","digest":"md5:1","size":1}]}"#,
                None,
                "digest",
            ),
        ] {
            let error = parse(text.as_bytes(), kind).unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn layers_of_unknown_kinds_and_numbers_are_refused() {
        for kind in [
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
            "application/vnd.oci.image.layer.nondistributable.v1.tar",
            "application/vnd.cncf.helm.chart.content.v1.tar+gzip",
        ] {
            let Document::Manifest(found) = parse(manifest(kind).as_bytes(), None).unwrap() else {
                panic!("not a manifest");
            };
            let error = check_layers(&found, 9).unwrap_err().to_string();
            assert!(error.contains(kind), "{error}");
            assert!(
                check_layers(&found, 0)
                    .unwrap_err()
                    .to_string()
                    .contains("limit is 0")
            );
        }
    }

    #[test]
    fn configurations_must_fit_their_layers() {
        let config = |ids: &str| {
            format!(
                r#"{{"os":"linux","architecture":"arm64","variant":"v8","rootfs":{{"type":"layers","diff_ids":[{ids}]}}}}"#
            )
        };
        let one = format!("\"{}\"", digest("x"));
        let good = parse_config(config(&one).as_bytes(), 1).unwrap();
        assert_eq!(good.diff_ids, [Digest::of("x")]);
        assert_eq!(good.platform.to_string(), "linux/arm64");
        for (text, layers, reason) in [
            (config(&one), 2, "describes 1 layers, and the image has 2"),
            (config("\"sha256:00\""), 1, "rootfs.diff_ids"),
            (config("7"), 1, "invalid type"),
            ("{}".to_owned(), 0, "missing field"),
            (
                r#"{"os":"","architecture":"a b","rootfs":{"type":"layers","diff_ids":[]}}"#
                    .to_owned(),
                0,
                "not a platform",
            ),
        ] {
            let error = parse_config(text.as_bytes(), layers)
                .unwrap_err()
                .to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn hostile_documents_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes, None);
            let _ = parse_config(&bytes, 0);
        }
    }
}
