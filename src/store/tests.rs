use std::fs;
use std::io::Write;

use super::*;

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&Paths::under(dir.path())).unwrap();
    (dir, store)
}

/// Adds a layer whose blob and EROFS image are just these texts.
fn add_layer(store: &Store, lease: &Lease<'_>, text: &str) -> (Digest, Digest) {
    let blob = Digest::of(format!("blob {text}"));
    let diff_id = Digest::of(text);
    let file = store.temp_file("blob").unwrap();
    file.file().write_all(text.as_bytes()).unwrap();
    let image = store.temp_file("layer").unwrap();
    let record = LayerRecord {
        diff_id,
        content_size: 3,
        implicit_dirs: vec!["/".into(), "/a b".into()],
    };
    store
        .add_layer(lease, (blob, 9, file), &record, image)
        .unwrap();
    (diff_id, blob)
}

fn image(text: &str, layers: Vec<(Digest, Digest)>) -> ImageRecord {
    ImageRecord {
        id: Digest::of(text),
        platform: "linux/amd64".to_owned(),
        config: text.into(),
        manifest: b"{}".into(),
        manifest_type: "m".to_owned(),
        size: 3,
        stored: 1,
        fixup: None,
        layers,
    }
}

fn names(reference: &str) -> NewNames {
    NewNames {
        references: vec![reference.to_owned()],
        ..NewNames::default()
    }
}

#[test]
fn directories_are_private() {
    use std::os::unix::fs::PermissionsExt;
    let (dir, store) = store();
    for path in [
        store.paths().layers(),
        store.paths().blobs(),
        store.paths().tmp(),
    ] {
        assert_eq!(
            fs::metadata(path).unwrap().permissions().mode() & 0o777,
            0o700
        );
    }
    drop(dir);
}

#[test]
fn an_image_keeps_its_layers_and_loses_them_with_its_last_name() {
    let (_dir, store) = store();
    let lease = Lease::begin(&store).unwrap();
    let shared = add_layer(&store, &lease, "shared");
    let own = add_layer(&store, &lease, "own");
    assert!(
        store
            .add_image(&image("one", vec![shared, own]), &names("r/one:a"))
            .unwrap()
    );
    assert!(
        store
            .add_image(&image("two", vec![shared]), &names("r/two:a"))
            .unwrap()
    );
    assert!(
        !store
            .add_image(&image("two", vec![shared]), &names("r/two:b"))
            .unwrap()
    );
    drop(lease);
    assert_eq!(store.collect_garbage().unwrap(), Freed::default());
    let one = store.image(&Digest::of("one")).unwrap().unwrap();
    assert_eq!(one.layers, [shared, own]);
    assert_eq!(store.names_of(&Digest::of("two")).unwrap().len(), 2);

    store.remove_image(&one.id).unwrap();
    let freed = store.collect_garbage().unwrap();
    assert!(freed.files >= 1);
    assert!(!store.layer_path(&own.0).exists() && !store.blob_path(&own.1).exists());
    assert!(store.layer_path(&shared.0).exists() && store.blob_path(&shared.1).exists());
    assert_eq!(store.layer(&own.0).unwrap(), None);
    assert!(store.names_like("r/one:a").unwrap().is_empty());
}

#[test]
fn an_image_is_seen_whole_or_not_at_all() {
    let (dir, store) = store();
    let lease = Lease::begin(&store).unwrap();
    let layers = vec![add_layer(&store, &lease, "one")];
    let record = image("busy", layers);
    let other = Store::open(&Paths::under(dir.path())).unwrap();
    std::thread::scope(|scope| {
        let changes = scope.spawn(|| {
            for _ in 0..300 {
                other.add_image(&record, &names("r")).unwrap();
                other.remove_image(&record.id).unwrap();
            }
        });
        while !changes.is_finished() {
            let listed = store.images().unwrap().into_iter();
            for found in listed.chain(store.image(&record.id).unwrap()) {
                assert_eq!(found.layers, record.layers);
            }
        }
    });
}

#[test]
fn claims_keep_layers_without_an_image() {
    let (_dir, store) = store();
    let lease = Lease::begin(&store).unwrap();
    let (layer, blob) = add_layer(&store, &lease, "x");
    store.collect_garbage().unwrap();
    assert!(store.claim_blob(&lease, &blob, &layer).unwrap().is_some());
    assert!(store.claim_blob(&lease, &blob, &blob).unwrap().is_none());
    assert!(store.claim_layers(&[layer], "container:1").unwrap());
    drop(lease);
    store.collect_garbage().unwrap();
    assert!(store.layer_path(&layer).exists() && store.blob_path(&blob).exists());
    assert!(!store.claim_layers(&[layer, blob], "container:2").unwrap());
    store.release_owner("container:1").unwrap();
    store.collect_garbage().unwrap();
    assert!(!store.layer_path(&layer).exists() && !store.blob_path(&blob).exists());
    assert!(!store.claim_layers(&[layer], "container:1").unwrap());
}

#[test]
fn what_a_killed_command_left_is_removed_and_reported() {
    let (dir, store) = store();
    let lease = Lease::begin(&store).unwrap();
    let (layer, _) = add_layer(&store, &lease, "half an image");
    let temp = store.temp_file("blob").unwrap();
    temp.file().write_all(b"half a layer").unwrap();
    // A kill closes descriptors but runs no destructor.
    let (lease_name, temp_name) = (lease.owner(), temp.name());
    std::mem::forget(lease);
    std::mem::forget(temp);
    let tmp = store.paths().tmp();
    for name in [&lease_name, &temp_name] {
        fs::copy(tmp.join(name), tmp.join("copy")).unwrap();
        fs::rename(tmp.join("copy"), tmp.join(name)).unwrap();
    }
    let store = Store::open(&Paths::under(dir.path())).unwrap();
    let repairs = store.repairs();
    assert_eq!(repairs.len(), 2, "{repairs:?}");
    assert!(repairs[1].contains("removed 1 unused layer"), "{repairs:?}");
    assert!(
        repairs[0].contains("removed 1 unfinished file (12 bytes)"),
        "{repairs:?}"
    );
    assert!(!store.layer_path(&layer).exists());
    assert_eq!(fs::read_dir(tmp).unwrap().count(), 0);
    assert!(Store::open(store.paths()).unwrap().repairs().is_empty());
}

#[test]
fn orphans_of_a_kill_between_rename_and_commit_are_found() {
    let (_dir, store) = store();
    let orphan = Digest::of("orphan");
    fs::write(store.layer_path(&orphan), b"x").unwrap();
    fs::write(store.blob_path(&orphan), b"x").unwrap();
    assert_eq!(store.collect_garbage().unwrap().files, 2);
    assert!(!store.layer_path(&orphan).exists() && !store.blob_path(&orphan).exists());
}

#[test]
fn one_name_stands_for_one_image_per_platform() {
    let (_dir, store) = store();
    let arm = ImageRecord {
        platform: "linux/arm64".to_owned(),
        ..image("arm", Vec::new())
    };
    store
        .add_image(&image("amd", Vec::new()), &names("r:a"))
        .unwrap();
    store.add_image(&arm, &names("r:a")).unwrap();
    store
        .add_image(&image("newer", Vec::new()), &names("r:a"))
        .unwrap();
    let found = store.names_like("r:a").unwrap();
    assert_eq!(found.len(), 2);
    assert_eq!(found[0].image, Digest::of("newer"));
    assert_eq!(found[1].image, arm.id);
    assert!(store.names_of(&Digest::of("amd")).unwrap().is_empty());
    store.remove_name("r:a", "linux/arm64").unwrap();
    assert_eq!(store.names().unwrap().len(), 1);
}

#[test]
fn images_are_found_by_the_beginning_of_their_id() {
    let (_dir, store) = store();
    store
        .add_image(&image("one", Vec::new()), &NewNames::default())
        .unwrap();
    let id = Digest::of("one");
    assert_eq!(store.image_ids(&id.hex()[..4]).unwrap(), [id]);
    assert_eq!(store.image_ids(&id.hex()).unwrap(), [id]);
    assert!(store.image_ids("g").unwrap().is_empty());
}

#[test]
fn a_damaged_database_is_left_alone_and_explained() {
    let dir = tempfile::tempdir().unwrap();
    let paths = Paths::under(dir.path());
    drop(Store::open(&paths).unwrap());
    // What the log still has would mend it.
    fs::remove_file(paths.database().with_extension("db-wal")).unwrap();
    let garbage = b"no database, but longer than the header of one".repeat(100);
    fs::write(paths.database(), &garbage).unwrap();
    let message = Store::open(&paths).unwrap_err().to_string();
    assert!(message.contains("begin anew"), "{message}");
    assert_eq!(fs::read(paths.database()).unwrap(), garbage);
}
