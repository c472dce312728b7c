//! `save`, `load` and `import`.

use std::fs::File;
use std::io::{Seek, Write};

use serde_json::json;

use super::server::{Content, Server};
use super::{Home, TestImage, layer, tarball};
use crate::image::archive::{self, Import, Loaded};
use crate::image::digest::Digest;
use crate::image::{self, ImageError, Silent};

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    file
}

fn load(home: &Home, bytes: &[u8]) -> Result<Vec<Loaded>, ImageError> {
    archive::load(&home.store, &home.settings, file(bytes), None, &Silent)
}

fn refused(bytes: &[u8], expected: &str) {
    let home = Home::new();
    let error = load(&home, bytes).unwrap_err().to_string();
    assert!(error.contains(expected), "{expected:?} is not in {error:?}");
    assert!(!error.contains('\n'), "{error:?}");
    home.store.collect_garbage().unwrap();
    assert_eq!(home.files(), (0, 0, 0));
}

fn link(name: &str, target: &str) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    builder.append_link(&mut header, name, target).unwrap();
    builder.into_inner().unwrap()
}

fn save(home: &Home, names: &[&str]) -> Vec<u8> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let images = archive::select(&home.store, &names, None).unwrap();
    let mut bytes = Vec::new();
    archive::save(&home.store, &images, &mut bytes).unwrap();
    bytes
}

/// A store with the images `one:a`, `one:b` (the same) and `two:c`, which share a layer.
fn filled() -> (Home, TestImage, TestImage) {
    let home = Home::new();
    let shared = layer(&[("shared", 5000)]);
    let one = TestImage::new("amd64", &[shared.clone(), layer(&[("one", 10)])]);
    let two = TestImage::new("amd64", &[shared, layer(&[("two", 20)])]);
    let mut content = Content::default();
    content.image("one", &one);
    content.image("two", &two);
    let server = Server::good(content);
    for (name, tags) in [("one", &["one:a", "one:b"][..]), ("two", &["two:c"])] {
        let reference = server.reference(name);
        image::pull(&home.store, &home.settings, &reference, None, &Silent).unwrap();
        for tag in tags {
            image::tag(
                &home.store,
                &reference.to_string(),
                &tag.parse().unwrap(),
                None,
            )
            .unwrap();
        }
        let nobody = |_: &_| Ok(Vec::new());
        image::remove(&home.store, &reference.to_string(), None, false, &nobody).unwrap();
    }
    (home, one, two)
}

#[test]
fn what_is_saved_is_loaded() {
    let (from, one, two) = filled();
    let bytes = save(&from, &["one", "two:c"]);
    assert_eq!(
        bytes,
        save(&from, &["one", "two:c"]),
        "the same images, another archive"
    );
    let gzip = {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&bytes).unwrap();
        encoder.finish().unwrap()
    };
    let zstd = zstd::encode_all(bytes.as_slice(), 1).unwrap();
    for bytes in [bytes, gzip, zstd] {
        let to = Home::new();
        let loaded = load(&to, &bytes).unwrap();
        let names: Vec<_> = loaded.iter().flat_map(|one| one.names.clone()).collect();
        assert_eq!(names, ["one:a", "one:b", "two:c"]);
        assert_eq!(
            loaded.iter().map(|it| it.image.id).collect::<Vec<_>>(),
            [one.id(), two.id()]
        );
        // The manifest came along, so that a push gives the digest that the pull had.
        assert_eq!(loaded[0].image.manifest, one.manifest);
        assert_eq!(to.files(), (3, 3, 0));
        let layers = loaded[0].image.layer_files(&to.store).unwrap();
        let before = image::get(&from.store, "one:a", None).unwrap();
        for (left, right) in layers.iter().zip(before.layer_files(&from.store).unwrap()) {
            assert_eq!(std::fs::read(left).unwrap(), std::fs::read(right).unwrap());
        }
    }
    let by_id = save(&from, &[&one.id().short()]);
    let to = Home::new();
    let loaded = load(&to, &by_id).unwrap();
    assert!(loaded[0].names.is_empty() && loaded[0].image.names.is_empty());
}

#[test]
fn archives_of_old_docker_and_layouts_without_names() {
    let data = tarball(&[("file", b"content".to_vec())]);
    let config = json!({
        "architecture": "amd64", "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [Digest::of(&data), Digest::of(&data)]},
    });
    let config = config.to_string().into_bytes();
    let manifest = json!([{
        "Config": "cafe.json", "RepoTags": ["old:1"], "Layers": ["l1/layer.tar", "l2/layer.tar"],
    }]);
    // Old docker wrote a layer once and links for its other places.
    let mut bytes = tarball(&[
        ("cafe.json", config.clone()),
        ("l1/layer.tar", data.clone()),
        ("manifest.json", manifest.to_string().into_bytes()),
    ]);
    bytes.truncate(bytes.len() - 1024);
    bytes.extend(link("l2/layer.tar", "../l1/layer.tar"));
    let home = Home::new();
    let loaded = load(&home, &bytes).unwrap();
    assert_eq!(loaded[0].names, ["old:1"]);
    assert_eq!(loaded[0].image.layers.len(), 2);
    assert_eq!(home.files(), (1, 1, 0));

    let image = TestImage::new("arm64", &[layer(&[("x", 3)])]);
    let blob = |bytes: &[u8]| format!("blobs/sha256/{}", Digest::of(bytes).hex());
    let index = super::index(&[("arm64", &image)]);
    let layout = tarball(&[
        ("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
        ("index.json", index),
        (&blob(&image.manifest), image.manifest.clone()),
        (&blob(&image.config), image.config.clone()),
        (&blob(&image.layers[0].blob), image.layers[0].blob.clone()),
    ]);
    let loaded = load(&home, &layout).unwrap();
    assert_eq!(loaded[0].image.id, image.id());
    assert!(loaded[0].names.is_empty());
    let input = file(&layout);
    let s390x = "s390x".parse().unwrap();
    let error = archive::load(&home.store, &home.settings, input, Some(&s390x), &Silent);
    assert!(
        error
            .unwrap_err()
            .to_string()
            .contains("no image for linux/s390x")
    );
}

#[test]
fn hostile_archives_are_refused() {
    refused(b"", "it is empty, or no tar archive");
    refused(
        &tarball(&[("x", vec![1])]),
        "neither manifest.json nor index.json",
    );
    refused(&vec![7; 4096], "invalid image archive");
    refused(
        &tarball(&[("manifest.json", b"{".to_vec())]),
        "invalid manifest.json",
    );
    refused(
        &tarball(&[("manifest.json", b"[7]".to_vec())]),
        "invalid manifest.json",
    );
    let named = |config: &str, layer: &str| {
        json!([{"Config": config, "Layers": [layer]}])
            .to_string()
            .into_bytes()
    };
    refused(
        &tarball(&[("manifest.json", named("../../etc/passwd", "x"))]),
        "it has no",
    );
    refused(
        &tarball(&[("manifest.json", named("/etc/passwd", "x"))]),
        "it has no",
    );
    let twice = tarball(&[
        ("manifest.json", b"[]".to_vec()),
        ("./manifest.json", b"[]".to_vec()),
    ]);
    refused(&twice, "twice");
    refused(
        &tarball(&[
            ("manifest.json", named("c", "l")),
            ("c", vec![b' '; (4 << 20) + 1]),
        ]),
        "larger than 4194304 bytes",
    );
    let config = json!({
        "architecture": "amd64", "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [Digest::of("promised")]},
    });
    let config = config.to_string().into_bytes();
    let wrong = tarball(&[
        ("manifest.json", named("c", "l")),
        ("c", config.clone()),
        ("l", tarball(&[("file", vec![1])])),
    ]);
    refused(&wrong, "is corrupt: its digest is");
    refused(
        &tarball(&[("manifest.json", named("c", "gone")), ("c", config)]),
        "it has no \"gone\"",
    );
    let mut cut = tarball(&[("manifest.json", vec![b' '; 5000])]);
    cut.truncate(2000);
    refused(&cut, "invalid image archive");
}

#[test]
fn links_cannot_lead_out_or_around() {
    refused(
        &link("manifest.json", "/etc/passwd"),
        "leads out of the archive",
    );
    refused(
        &link("manifest.json", "../../etc/passwd"),
        "leads out of the archive",
    );
    refused(
        &link("manifest.json", "manifest.json"),
        "neither manifest.json",
    );
}

#[test]
fn a_spooled_archive_has_a_limit() {
    let mut home = Home::new();
    home.settings.limits.layer_bytes = 10_000;
    let bomb = zstd::encode_all(vec![0; 1 << 20].as_slice(), 1).unwrap();
    let error = load(&home, &bomb).unwrap_err().to_string();
    assert!(error.contains("more than 10000 bytes"), "{error}");
    assert_eq!(home.files(), (0, 0, 0));
}

#[test]
fn files_are_imported_with_changes() {
    let home = Home::new();
    let tar = tarball(&[("etc/hostname", b"imported\n".to_vec())]);
    let import = Import {
        reference: Some("imp:1".parse().unwrap()),
        platform: Some("arm64".parse().unwrap()),
        changes: vec!["CMD [\"sh\"]".to_owned(), "ENV A=1".to_owned()],
        message: None,
        source: "-".to_owned(),
    };
    let image = archive::import(&home.store, &home.settings, file(&tar), &import).unwrap();
    assert_eq!(image.names, ["imp:1"]);
    assert_eq!(image.platform.to_string(), "linux/arm64");
    assert_eq!(image.layers, [Digest::of(&tar)]);
    let steps = image::history(&home.store, &image).unwrap();
    assert_eq!(steps[0].comment, "Imported from -");
    assert_eq!(steps[0].size, 9);
    let config = image.config.config().clone().unwrap();
    assert_eq!(config.cmd().clone().unwrap(), ["sh"]);
    let again = Import {
        changes: vec!["RUN x".to_owned()],
        ..import
    };
    assert!(archive::import(&home.store, &home.settings, file(&tar), &again).is_err());
    let broken = file(
        b"this is no tar archive, and longer than a block of one would be"
            .repeat(20)
            .as_slice(),
    );
    let again = Import {
        changes: Vec::new(),
        ..again
    };
    assert!(archive::import(&home.store, &home.settings, broken, &again).is_err());
    assert_eq!(home.files(), (1, 1, 0));
}

#[test]
fn names_come_and_go() {
    let (home, one, _) = filled();
    let nobody = |_: &_| Ok(Vec::new());
    let remove = |name: &str, force: bool, users: image::Users<'_>| {
        image::remove(&home.store, name, None, force, users)
            .map(|removed| removed.iter().map(ToString::to_string).collect::<Vec<_>>())
            .map_err(|error| error.to_string())
    };
    assert_eq!(
        remove("one:a", false, &nobody).unwrap(),
        ["Untagged: one:a"]
    );
    assert_eq!(
        remove("one:a", false, &nobody).unwrap_err(),
        "No such image: one:a"
    );
    image::tag(&home.store, "one:b", &"other:x".parse().unwrap(), None).unwrap();
    let short = one.id().short();
    let error = remove(&short, false, &nobody).unwrap_err();
    assert!(
        error.contains("referenced in multiple repositories"),
        "{error}"
    );
    assert_eq!(
        remove("other:x", false, &nobody).unwrap(),
        ["Untagged: other:x"]
    );
    let user = |running| {
        move |_: &Digest| {
            Ok(vec![image::User {
                container: "c0ffee00c0ffee00".to_owned(),
                running,
            }])
        }
    };
    let error = remove("one:b", false, &user(false)).unwrap_err();
    assert!(
        error.contains("(must force) - container c0ffee00c0ff is using"),
        "{error}"
    );
    let error = remove(&short, true, &user(true)).unwrap_err();
    assert!(
        error.contains("(cannot be forced) - image is being used by running"),
        "{error}"
    );
    let removed = remove("one:b", true, &user(false)).unwrap();
    assert_eq!(removed.last().unwrap(), &format!("Deleted: {}", one.id()));
    assert_eq!(removed[0], "Untagged: one:b");
    // What the other image shares stays.
    assert_eq!(home.files(), (2, 2, 0));
    let filter = image::Filter::default();
    assert!(
        image::prune(&home.store, &filter, false, &nobody)
            .unwrap()
            .removed
            .is_empty()
    );
    assert!(
        image::prune(&home.store, &filter, true, &user(false))
            .unwrap()
            .removed
            .is_empty()
    );
    assert_eq!(
        image::prune(&home.store, &filter, true, &nobody)
            .unwrap()
            .removed
            .len(),
        3
    );
    assert_eq!(home.files(), (0, 0, 0));
}
