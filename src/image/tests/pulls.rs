//! Pulls that come to a good end: what is fetched, from whom, and how often.

use std::sync::Arc;

use super::pulling::{amd64, assert_nothing_left, content, image, pull, server};
use super::server::{Content, Reply, Server};
use super::{Heard, Home, TestImage, index, layer};
use crate::arch::Platform;
use crate::image::digest::Digest;
use crate::image::{self, PullPolicy, Reference, Silent};
use crate::settings::Registry;
use crate::store::Store;

#[test]
fn a_good_registry_gives_a_whole_image_once() {
    let (home, image) = (Home::new(), image());
    let server = Server::good(content(&image));
    let reference = server.reference("x");
    let heard = Heard::default();
    let pulled = image::pull(
        &home.store,
        &home.settings,
        &reference,
        Some(&amd64()),
        &heard,
    )
    .unwrap();
    assert!(pulled.is_new);
    assert_eq!(pulled.image.id, image.id());
    assert_eq!(pulled.digest, Digest::of(&image.manifest));
    assert_eq!(pulled.image.names, [format!("{reference}:latest")]);
    assert_eq!(
        pulled.image.digests,
        [format!("{reference}@{}", pulled.digest)]
    );
    assert_eq!(pulled.image.size, 150_010);
    let ids: Vec<Digest> = image.layers.iter().map(|layer| layer.diff_id).collect();
    assert_eq!(pulled.image.layers, ids);
    assert_eq!(home.files(), (3, 3, 0));
    let heard = heard.0.into_inner().unwrap();
    assert_eq!(heard[0], "latest: Pulling from x");
    assert_eq!(
        heard
            .iter()
            .filter(|line| line.ends_with("Pull complete"))
            .count(),
        3
    );
    assert_eq!(
        heard.last().unwrap(),
        &format!("Status: Downloaded newer image for {reference}:latest")
    );

    let requests = server.seen("/blobs/").len();
    let again = pull(&home, &reference).unwrap();
    assert!(!again.is_new);
    assert_eq!(
        server.seen("/blobs/").len(),
        requests,
        "content that is here was fetched again"
    );

    // By digest, it is the same image.
    let by_digest = reference.at_digest(again.digest);
    assert!(!pull(&home, &by_digest).unwrap().is_new);
    let found = image::find(&home.store, &by_digest.to_string(), None)
        .unwrap()
        .unwrap();
    assert_eq!(found.id, image.id());
    for name in [
        found.id.to_string(),
        found.id.short(),
        format!("sha256:{}", found.id.short()),
    ] {
        assert_eq!(
            image::find(&home.store, &name, None).unwrap().unwrap().id,
            found.id,
            "{name}"
        );
    }
}

#[test]
fn a_missing_layer_file_is_made_anew() {
    let (home, image) = (Home::new(), image());
    let server = Server::good(content(&image));
    let pulled = pull(&home, &server.reference("x")).unwrap().image;
    let files = pulled.layer_files(&home.store).unwrap();
    let before = std::fs::read(&files[1]).unwrap();
    std::fs::remove_file(&files[1]).unwrap();
    assert_eq!(pulled.layer_files(&home.store).unwrap(), files);
    assert_eq!(std::fs::read(&files[1]).unwrap(), before);
}

#[test]
fn mirrors_are_tried_in_order_and_a_lying_one_is_passed_over() {
    let image = image();
    let missing = Server::start(|_| Reply::new(404, ""));
    let lying = server(&image, usize::MAX, |_, mut good| {
        good.body.reverse();
        good
    });
    let good = Server::good(content(&image));
    let after = Server::start(|_| Reply::new(500, ""));
    let mut home = Home::new();
    let mirrors = [&missing, &lying, &good, &after].map(Server::url).to_vec();
    home.settings.registries.insert(
        "127.0.0.1:1".to_owned(),
        Registry {
            mirrors,
            insecure: false,
        },
    );
    let reference: Reference = "127.0.0.1:1/x".parse().unwrap();
    let pulled = pull(&home, &reference).unwrap();
    assert_eq!(pulled.image.names, ["127.0.0.1:1/x:latest"]);
    assert!(!missing.seen("manifests").is_empty() && !lying.seen("/blobs/").is_empty());
    assert!(after.seen("").is_empty());

    // When no address has it, the one that answered is quoted rather than the silent one.
    let error = pull(&home, &"127.0.0.1:1/y".parse().unwrap())
        .unwrap_err()
        .to_string();
    assert!(!error.contains("cannot reach"), "{error}");
}

#[test]
fn platforms_are_chosen_and_live_beside_each_other() {
    let (amd, arm) = (image(), TestImage::new("arm64", &[layer(&[("arm", 9)])]));
    let mut content = Content::default();
    content.parts("x", &amd);
    content.parts("x", &arm);
    content.latest("x", &index(&[("amd64", &amd), ("arm64", &arm)]));
    content.image("single", &arm);
    let server = Server::good(content);
    let mut home = Home::new();
    home.settings.defaults.platform = Some("linux/amd64".to_owned());
    let (store, settings) = (&home.store, &home.settings);
    let arm64: Platform = "arm64".parse().unwrap();
    let name = server.reference("x").to_string();
    let ensure = |name: &str, platform: Option<&Platform>| {
        image::ensure(
            store,
            settings,
            name,
            platform,
            PullPolicy::Missing,
            &Silent,
        )
    };
    assert_eq!(ensure(&name, Some(&arm64)).unwrap().id, arm.id());
    assert_eq!(ensure(&name, None).unwrap().id, amd.id());
    assert_eq!(
        image::find(store, &name, Some(&arm64)).unwrap().unwrap().id,
        arm.id()
    );
    assert_eq!(
        image::find(store, &name, Some(&amd64()))
            .unwrap()
            .unwrap()
            .id,
        amd.id()
    );
    let error = ensure(&name, Some(&"s390x".parse().unwrap()))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("no matching manifest for linux/s390x"),
        "{error}"
    );

    // An image for one other platform is taken when nobody asked for a platform, and not else.
    let single = server.reference("single").to_string();
    let error = ensure(&single, Some(&amd64())).unwrap_err().to_string();
    assert!(
        error.contains("its platform (linux/arm64) does not match"),
        "{error}"
    );
    assert_eq!(ensure(&single, None).unwrap().id, arm.id());
    assert_eq!(ensure(&single, None).unwrap().id, arm.id());
}

#[test]
fn two_pulls_of_one_image_fetch_each_layer_once() {
    let image = image();
    let server = Arc::new(Server::good(content(&image)));
    let home = Home::new();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| pull(&home, &server.reference("x")).unwrap());
        }
    });
    for layer in &image.layers {
        let requests = server.seen(&Digest::of(&layer.blob).to_string());
        assert_eq!(requests.len(), 1);
    }
    assert_eq!(home.files(), (3, 3, 0));
}

#[test]
fn pulls_and_removals_do_not_harm_each_other() {
    let image = image();
    let server = Server::good(content(&image));
    let (home, reference) = (Home::new(), server.reference("x"));
    let nobody = |_: &_| Ok(Vec::new());
    let filter = image::Filter::default();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                // Each has the store to itself, as another process would.
                let store = Store::open(home.store.paths()).unwrap();
                for _ in 0..10 {
                    image::pull(&store, &home.settings, &reference, None, &Silent).unwrap();
                }
            });
        }
        scope.spawn(|| {
            let store = Store::open(home.store.paths()).unwrap();
            for _ in 0..20 {
                image::prune(&store, &filter, true, &nobody).unwrap();
            }
        });
    });
    // Whatever is visible in the end is whole.
    for found in image::list(&home.store).unwrap() {
        for (layer, blob) in found.layers.iter().zip(&found.blobs) {
            assert!(home.store.layer_path(layer).is_file() && home.store.blob_path(blob).is_file());
        }
    }
    image::prune(&home.store, &filter, true, &nobody).unwrap();
    assert_nothing_left(&home);
}

#[test]
fn a_directory_keeps_its_attributes_under_a_layer_that_passes_through_it() {
    let lower = {
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_mode(0o700);
        header.set_uid(7);
        header.set_size(0);
        archive
            .append_data(&mut header, "d/", std::io::empty())
            .unwrap();
        archive.into_inner().unwrap()
    };
    let lower = super::TestLayer {
        diff_id: Digest::of(&lower),
        blob: lower,
    };
    let layers = [lower, layer(&[("d/x", 3)])];
    let image = TestImage::changed(
        "amd64",
        &layers,
        |_| {},
        |manifest| {
            manifest["layers"][0]["mediaType"] = "application/vnd.oci.image.layer.v1.tar".into();
        },
    );
    let (home, server) = (Home::new(), Server::good(content(&image)));
    let pulled = pull(&home, &server.reference("x")).unwrap().image;
    let files = pulled.layer_files(&home.store).unwrap();
    assert_eq!(files.len(), 3);
    assert_eq!(files[2], home.store.layer_path(&pulled.fixup.unwrap()));
    let read = |path: &std::path::Path| {
        let file = std::fs::File::open(path).unwrap();
        let reader = image::erofs::Reader::open(file).unwrap();
        reader.lookup(b"d").unwrap().unwrap()
    };
    let (fixed, lower) = (read(&files[2]), read(&files[0]));
    assert_eq!((fixed.mode, fixed.uid), (lower.mode, lower.uid));
    assert_ne!(read(&files[1]).mode, lower.mode);
    // It goes with its image, and comes back when it is lost.
    let before = std::fs::read(&files[2]).unwrap();
    std::fs::remove_file(&files[2]).unwrap();
    assert_eq!(pulled.layer_files(&home.store).unwrap(), files);
    assert_eq!(std::fs::read(&files[2]).unwrap(), before);
    let nobody = |_: &_| Ok(Vec::new());
    image::prune(&home.store, &image::Filter::default(), true, &nobody).unwrap();
    assert_nothing_left(&home);
}
