//! A pull that is killed at any moment leaves a store that works.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::server::{Content, Server};
use super::{TestImage, layer};
use crate::image::digest::Digest;
use crate::image::{self, Silent};
use crate::settings::Settings;
use crate::store::{Paths, Store};

const ROOT: &str = "HULL_TEST_CRASH_ROOT";
const NAME: &str = "HULL_TEST_CRASH_NAME";
const ROUNDS: u64 = 40;

/// Not a test by itself: the process that [`killed_pulls_leave_a_store_that_works`] kills.
#[test]
#[ignore = "started by another test"]
fn child() {
    let root = std::env::var_os(ROOT).expect("this is started by another test");
    let name = std::env::var(NAME).unwrap();
    let store = Store::open(&Paths::under(root.as_ref())).unwrap();
    let settings = Settings::default();
    image::pull(&store, &settings, &name.parse().unwrap(), None, &Silent).unwrap();
}

#[test]
fn killed_pulls_leave_a_store_that_works() {
    let layers: Vec<_> = ["a", "b", "c", "d"]
        .iter()
        .map(|name| layer(&[(name, 60_000), ("x", 10)]))
        .collect();
    let image = TestImage::new("amd64", &layers);
    let mut content = Content::default();
    content.image("x", &image);
    let server = Server::good(content);
    let directory = tempfile::tempdir().unwrap();
    let paths = Paths::under(directory.path());
    let start = || {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "image::tests::crash::child", "--ignored"])
            .env(ROOT, directory.path())
            .env(NAME, server.reference("x").to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    };
    let begun = Instant::now();
    assert!(start().wait().unwrap().success());
    let whole = begun.elapsed();
    let (mut unfinished, mut repaired) = (0, 0);
    for round in 0..ROUNDS {
        let store = Store::open(&paths).unwrap();
        for image in image::list(&store).unwrap() {
            store.remove_image(&image.id).unwrap();
        }
        store.collect_garbage().unwrap();
        drop(store);
        let mut child = start();
        // The moments are spread over what a whole pull takes, and a little beyond.
        let spread = Digest::of(round.to_string()).as_bytes()[0];
        std::thread::sleep(
            whole
                .mul_f64(f64::from(spread) / 230.0)
                .min(Duration::from_secs(5)),
        );
        let _ = child.kill();
        child.wait().unwrap();

        let store = Store::open(&paths).unwrap();
        repaired += usize::from(!store.repairs().is_empty());
        let images = image::list(&store).unwrap();
        unfinished += usize::from(images.is_empty());
        // What is visible is whole, without making anything anew.
        for found in images {
            for (layer, blob) in found.layers.iter().zip(&found.blobs) {
                assert!(store.layer_path(layer).is_file());
                let bytes = std::fs::read(store.blob_path(blob)).unwrap();
                assert_eq!(Digest::of(bytes), *blob);
            }
        }
        let left = std::fs::read_dir(paths.tmp()).unwrap().count();
        assert_eq!(left, 0, "temporary files stay");
        if unfinished > 0 && store.images().unwrap().is_empty() {
            let files = std::fs::read_dir(paths.layers()).unwrap().count();
            assert_eq!(files, 0, "layers without an image stay");
        }
    }
    assert!(unfinished > 0, "no pull was killed in time");
    println!("{unfinished} of {ROUNDS} killed before the end, {repaired} repaired");
    assert!(start().wait().unwrap().success());
    let store = Store::open(&paths).unwrap();
    let found = image::find(&store, &server.reference("x").to_string(), None)
        .unwrap()
        .unwrap();
    assert_eq!(found.layer_files(&store).unwrap().len(), 4);
}
