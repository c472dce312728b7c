//! Images: names, platforms, archives in and out, history, removal.

use std::fs;

use crate::archive::{Layer, oci_layout, tar_directory};
use crate::harness::Hull;

#[test]
fn images_are_listed_tagged_inspected_and_removed() {
    let hull = Hull::fresh();
    hull.ok(&["pull", "-q", "busybox"]);
    hull.ok(&["tag", "busybox", "local/copy:v1"]);
    let list = hull.ok(&["images"]);
    assert!(list.starts_with("REPOSITORY"), "{list}");
    assert!(
        list.contains("busybox") && list.contains("local/copy"),
        "{list}"
    );
    assert_eq!(
        hull.field("busybox", "{{.Architecture}}/{{.Os}}"),
        "amd64/linux"
    );
    assert_eq!(
        hull.field("local/copy:v1", "{{.Id}}"),
        hull.field("busybox", "{{.Id}}")
    );
    let history = hull.ok(&["history", "--no-trunc", "busybox"]);
    assert!(history.starts_with("IMAGE"), "{history}");
    let removed = hull.ok(&["rmi", "local/copy:v1"]);
    assert_eq!(removed, "Untagged: local/copy:v1");
    let removed = hull.ok(&["rmi", "busybox"]);
    assert!(removed.contains("Deleted: sha256:"), "{removed}");
    assert_eq!(hull.ok(&["images", "-q"]), "");
    let layers = fs::read_dir(hull.root().join("layers")).unwrap().count();
    assert_eq!(layers, 0, "the layers went with their last image");
}

#[test]
fn an_image_in_use_is_not_removed() {
    let hull = Hull::fresh();
    let id = hull.ok(&["create", "busybox"]);
    let error = hull.fails(&["rmi", "busybox"], 1);
    assert!(error.contains(&id[..12]), "{error}");
    hull.ok(&["rm", &id]);
    hull.ok(&["rmi", "busybox"]);
}

#[test]
fn a_saved_image_loads_elsewhere_and_is_the_same() {
    let (here, there) = (Hull::shared(), Hull::fresh());
    let dir = tempfile::tempdir().unwrap();
    let tar = dir.path().join("saved.tar");
    let tar = tar.to_str().unwrap();
    here.ok(&["save", "-o", tar, "debian"]);
    let said = there.ok(&["load", "-i", tar]);
    assert!(said.contains("Loaded image: debian:latest"), "{said}");
    assert_eq!(
        there.field("debian", "{{.Id}}"),
        here.field("debian", "{{.Id}}")
    );
    assert_eq!(
        there.ok(&["run", "--rm", "debian", "echo", "moved"]),
        "moved"
    );
}

#[test]
fn an_exported_container_imports_as_an_image_of_one_layer() {
    let hull = Hull::shared();
    let id = hull.ok(&["create", "busybox"]);
    let archive = hull.run_binary(&["export", &id]);
    hull.ok(&["rm", &id]);
    let change = "ENTRYPOINT [\"/bin/echo\",\"imported\"]";
    let done = hull.feed(&["import", "--change", change, "-", "flat:1"], &archive);
    assert_eq!(done.code, 0, "{done:#?}");
    assert_eq!(
        hull.ok(&["run", "--rm", "flat:1", "image"]),
        "imported image"
    );
    assert_eq!(hull.field("flat:1", "{{len .RootFS.Layers}}"), "1");
    hull.ok(&["rmi", "flat:1"]);
}

#[test]
fn an_image_goes_to_the_registry_and_comes_back() {
    let hull = Hull::fresh();
    let settings = std::env::var("HULL_CONFIG").unwrap_or_else(|_| {
        crate::harness::repository()
            .join("target/demo/config.toml")
            .display()
            .to_string()
    });
    let text = fs::read_to_string(settings).unwrap();
    let registry = text
        .split("http://")
        .nth(1)
        .unwrap()
        .split(['"', '\''])
        .next()
        .unwrap();
    let name = format!("{registry}/pushed/box:{}", std::process::id());
    hull.ok(&["pull", "-q", "busybox"]);
    hull.ok(&["tag", "busybox", &name]);
    hull.ok(&["push", "-q", &name]);
    let id = hull.field("busybox", "{{.Id}}");
    hull.ok(&["rmi", &name, "busybox"]);
    hull.ok(&["pull", "-q", &name]);
    assert_eq!(hull.field(&name, "{{.Id}}"), id);
    assert_eq!(hull.ok(&["run", "--rm", &name, "echo", "back"]), "back");
}

#[test]
fn dangling_images_are_pruned() {
    let hull = Hull::fresh();
    let dir = tempfile::tempdir().unwrap();
    for content in ["one", "two"] {
        let layer = Layer::new().file("f", content.as_bytes()).finish();
        let layout = oci_layout(&dir.path().join(content), "again:1", &[layer], &["/f"]);
        let tar = dir.path().join(format!("{content}.tar"));
        tar_directory(&layout, &tar);
        hull.ok(&["load", "-q", "-i", tar.to_str().unwrap()]);
    }
    let dangling = hull.ok(&["images", "-q", "-f", "dangling=true"]);
    assert_eq!(
        dangling.lines().count(),
        1,
        "the second load took the first one's name"
    );
    let pruned = hull.ok(&["image", "prune", "-f"]);
    assert!(pruned.contains("Total reclaimed space"), "{pruned}");
    assert_eq!(hull.ok(&["images", "-q"]).lines().count(), 1);
}

#[test]
fn the_same_layer_gives_the_same_bytes_every_time() {
    let (one, two) = (Hull::fresh(), Hull::fresh());
    let mut images = Vec::new();
    for hull in [&one, &two] {
        hull.ok(&["pull", "-q", "busybox"]);
        let mut files: Vec<_> = fs::read_dir(hull.root().join("layers"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| {
                (
                    path.file_name().unwrap().to_owned(),
                    crate::archive::sha256(&fs::read(path).unwrap()),
                )
            })
            .collect();
        files.sort();
        assert!(!files.is_empty());
        images.push(files);
        for file in fs::read_dir(hull.root().join("layers")).unwrap() {
            let checked = std::process::Command::new("fsck.erofs")
                .arg(file.unwrap().path())
                .output()
                .expect("erofs-utils is installed by make test");
            assert!(checked.status.success(), "{checked:?}");
        }
    }
    assert_eq!(images[0], images[1]);
}

#[test]
fn the_tree_shows_all_platforms_of_a_name() {
    let hull = Hull::shared();
    let tree = hull.ok(&["images", "--tree", "busybox"]);
    let lines: Vec<&str> = tree.lines().collect();
    assert!(lines[0].starts_with("IMAGE"), "{tree}");
    assert!(lines[1].starts_with("busybox:latest"), "{tree}");
    for platform in ["linux/amd64", "linux/arm64"] {
        let has = |line: &&str| line.contains("─ ") && line.contains(platform);
        assert!(lines.iter().any(has), "{tree}");
    }
}
