//! Documents and archives that are out to harm.

use serde_json::{Value, json};

use super::server::{Content, Server};
use super::{Home, TestImage, TestLayer, layer, tarball};
use crate::image::digest::Digest;
use crate::image::{self, Silent};

/// Pulls `latest` from a server with this content and expects a refusal that says `expected`.
fn refused(content: Content, expected: &str) {
    let home = Home::new();
    let server = Server::good(content);
    let platform = "linux/amd64".parse().unwrap();
    let result = image::pull(
        &home.store,
        &home.settings,
        &server.reference("x"),
        Some(&platform),
        &Silent,
    );
    let error = result.unwrap_err().to_string();
    assert!(error.contains(expected), "{expected:?} is not in {error:?}");
    assert!(!error.contains('\n'), "{error:?}");
    home.store.collect_garbage().unwrap();
    assert_eq!(home.files(), (0, 0, 0));
    assert!(home.store.images().unwrap().is_empty());
}

fn image(config: impl FnOnce(&mut Value), manifest: impl FnOnce(&mut Value)) -> Content {
    let mut content = Content::default();
    content.image(
        "x",
        &TestImage::changed("amd64", &[layer(&[("a", 10)])], config, manifest),
    );
    content
}

fn latest(document: &[u8]) -> Content {
    let mut content = Content::default();
    content.latest("x", document);
    content
}

#[test]
fn manifests_that_make_no_sense() {
    refused(latest(b"<html>"), "invalid image manifest");
    refused(latest(b"{}"), "schema version none");
    refused(
        latest(&vec![b' '; (4 << 20) + 1]),
        "larger than 4194304 bytes",
    );
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    refused(latest(deep.as_bytes()), "invalid image manifest");
    refused(
        image(|_| {}, |it| it["layers"] = json!({})),
        "invalid image manifest",
    );
    refused(
        image(|_| {}, |it| it["layers"][0]["size"] = json!(-1)),
        "invalid image manifest",
    );
    refused(
        image(
            |_| {},
            |it| it["layers"][0]["digest"] = json!("sha256:../../x"),
        ),
        "invalid image manifest",
    );
    refused(
        image(|_| {}, |it| it["layers"][0]["digest"] = json!("sha512:00")),
        "digest",
    );
    refused(
        image(|_| {}, |it| it["layers"][0]["size"] = json!(11)),
        "sends more",
    );
    refused(
        image(
            |_| {},
            |it| it["config"]["mediaType"] = json!("application/vnd.cncf.helm.config"),
        ),
        "no container image",
    );
    refused(
        image(
            |_| {},
            |it| it["config"]["digest"] = Digest::of("other").to_string().into(),
        ),
        "does not have",
    );
}

#[test]
fn ten_thousand_layers() {
    let many = image(
        |config| {
            let id = config["rootfs"]["diff_ids"][0].clone();
            config["rootfs"]["diff_ids"] = vec![id; 10_000].into();
        },
        |manifest| {
            let layer = manifest["layers"][0].clone();
            manifest["layers"] = vec![layer; 10_000].into();
        },
    );
    refused(many, "10000 layers, and the limit is 198");
}

#[test]
fn configurations_that_make_no_sense() {
    refused(
        image(|it| it["rootfs"]["diff_ids"] = json!([]), |_| {}),
        "describes 0 layers",
    );
    refused(
        image(|it| it["rootfs"]["diff_ids"] = json!(["x"]), |_| {}),
        "rootfs.diff_ids",
    );
    refused(
        image(|it| it["rootfs"] = json!(7), |_| {}),
        "invalid image configuration",
    );
    refused(
        image(|it| it["config"]["Env"] = json!("A=1"), |_| {}),
        "invalid image configuration",
    );
    refused(
        image(|it| it["config"]["Cmd"] = json!([1]), |_| {}),
        "invalid image configuration",
    );
    refused(
        image(|it| it["os"] = json!("li\nnux"), |_| {}),
        "is not a platform",
    );
    refused(
        image(|it| it["architecture"] = Value::Null, |_| {}),
        "invalid image configuration",
    );
}

#[test]
fn one_layer_with_two_contents() {
    let other = Digest::of("other").to_string();
    let twice = image(
        |config| {
            let first = config["rootfs"]["diff_ids"][0].clone();
            config["rootfs"]["diff_ids"] = json!([first, other]);
        },
        |manifest| {
            let layer = manifest["layers"][0].clone();
            manifest["layers"] = json!([layer, layer]);
        },
    );
    refused(twice, "two contents");
}

#[test]
fn the_same_layer_twice_is_no_attack() {
    let home = Home::new();
    let (base, top) = (layer(&[("a", 10)]), layer(&[("b", 10)]));
    let mut content = Content::default();
    content.image(
        "x",
        &TestImage::new("amd64", &[base.clone(), top.clone(), base.clone()]),
    );
    let server = Server::good(content);
    let reference = server.reference("x");
    let pulled = image::pull(&home.store, &home.settings, &reference, None, &Silent).unwrap();
    assert_eq!(
        pulled.image.layers,
        [base.diff_id, top.diff_id, base.diff_id]
    );
    let files = pulled.image.layer_files(&home.store).unwrap();
    assert_eq!(
        files,
        [top.diff_id, base.diff_id].map(|id| home.store.layer_path(&id))
    );
}

#[test]
fn layers_that_break_the_rules() {
    let bad = |entries: &[(&str, Vec<u8>)]| {
        let mut tar = tarball(&[("padding", vec![0; 10])]);
        // A name with `..` has to be forged: the tar crate writes none.
        for (name, _) in entries {
            tar = tarball(&[("AAAAAAAAAAAA", vec![0; 10])]);
            tar[..name.len()].copy_from_slice(name.as_bytes());
            tar[name.len()..12].fill(0);
            let sum: u32 = (0..512)
                .map(|i| {
                    if (148..156).contains(&i) {
                        32
                    } else {
                        u32::from(tar[i])
                    }
                })
                .sum();
            tar[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
        let layer = TestLayer {
            diff_id: Digest::of(&tar),
            blob: tar,
        };
        let mut content = Content::default();
        let image = TestImage::changed(
            "amd64",
            &[layer],
            |_| {},
            |manifest| {
                manifest["layers"][0]["mediaType"] =
                    json!("application/vnd.oci.image.layer.v1.tar");
            },
        );
        content.image("x", &image);
        content
    };
    refused(bad(&[("../evil", Vec::new())]), "is refused");
    let mut truncated = TestImage::new("amd64", &[layer(&[("a", 5000)])]);
    let blob = truncated.layers[0].blob[..3000].to_vec();
    truncated = TestImage::new(
        "amd64",
        &[TestLayer {
            diff_id: truncated.layers[0].diff_id,
            blob,
        }],
    );
    let mut content = Content::default();
    content.image("x", &truncated);
    refused(content, "damaged or truncated");
}

#[test]
fn limits_hold() {
    let mut home = Home::new();
    let mut content = Content::default();
    content.image(
        "x",
        &TestImage::new("amd64", &[layer(&[("a", 5000), ("b", 1)])]),
    );
    let server = Server::good(content);
    let reference = server.reference("x");
    let pull = |home: &Home| {
        image::pull(&home.store, &home.settings, &reference, None, &Silent).map(|_| ())
    };
    home.settings.limits.layer_bytes = 4096;
    assert!(
        pull(&home)
            .unwrap_err()
            .to_string()
            .contains("more than 4096 bytes")
    );
    home.settings.limits = crate::settings::Limits {
        layer_files: 1,
        ..Default::default()
    };
    assert!(pull(&home).unwrap_err().to_string().contains("more than 1"));
    home.settings.limits = crate::settings::Limits {
        layers: 0,
        ..Default::default()
    };
    assert!(
        pull(&home)
            .unwrap_err()
            .to_string()
            .contains("the limit is 0")
    );
    assert_eq!(home.files(), (0, 0, 0));
    home.settings.limits = crate::settings::Limits::default();
    pull(&home).unwrap();
}
