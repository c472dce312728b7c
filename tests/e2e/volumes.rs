//! Host directories and files in a container.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use crate::harness::Hull;

fn bind(path: &std::path::Path, rest: &str) -> String {
    format!("{}:{rest}", path.display())
}

#[test]
fn a_host_directory_is_read_and_written() {
    let hull = Hull::shared();
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("in"), "from the host").unwrap();
    let out = hull.ok(&[
        "run",
        "--rm",
        "-v",
        &bind(dir.path(), "/deep/er/mnt"),
        "busybox",
        "sh",
        "-c",
        "cat /deep/er/mnt/in; echo from the guest > /deep/er/mnt/out; mkdir /deep/er/mnt/d; \
         mv /deep/er/mnt/in /deep/er/mnt/d/moved",
    ]);
    assert_eq!(out, "from the host");
    assert_eq!(
        fs::read_to_string(dir.path().join("out")).unwrap(),
        "from the guest\n"
    );
    assert!(dir.path().join("d/moved").exists());
}

#[test]
fn read_only_is_enforced_on_the_host() {
    let hull = Hull::shared();
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("f"), "x").unwrap();
    let script =
        "echo y > /mnt/f; rm /mnt/f; mount -o remount,rw /mnt; echo y > /mnt/f; cat /mnt/f";
    let volume = bind(dir.path(), "/mnt:ro");
    let out = hull.run(&[
        "run",
        "--rm",
        "--privileged",
        "-v",
        &volume,
        "busybox",
        "sh",
        "-c",
        script,
    ]);
    assert_eq!(out.stdout, "x", "{out:#?}");
    assert_eq!(fs::read_to_string(dir.path().join("f")).unwrap(), "x");
}

#[test]
fn a_single_file_is_shared_without_its_siblings() {
    let hull = Hull::shared();
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("one"), "1").unwrap();
    fs::write(dir.path().join("secret"), "2").unwrap();
    let volume = bind(&dir.path().join("one"), "/etc/one");
    let out = hull.ok(&[
        "run",
        "--rm",
        "-v",
        &volume,
        "busybox",
        "sh",
        "-c",
        "cat /etc/one; echo 3 > /etc/one",
    ]);
    assert_eq!(out, "1");
    assert_eq!(fs::read_to_string(dir.path().join("one")).unwrap(), "3\n");
}

#[test]
fn links_in_a_share_do_not_lead_out_of_it() {
    let hull = Hull::shared();
    let dir = tempfile::tempdir().unwrap();
    let secret = tempfile::NamedTempFile::new().unwrap();
    fs::write(secret.path(), "host secret").unwrap();
    symlink(secret.path(), dir.path().join("link")).unwrap();
    let up = format!("../../../../../..{}", secret.path().display());
    symlink(up, dir.path().join("up")).unwrap();
    let out = hull.run(&[
        "run",
        "--rm",
        "-v",
        &bind(dir.path(), "/mnt"),
        "busybox",
        "sh",
        "-c",
        "cat /mnt/link /mnt/up; cat /mnt/../../../../etc/passwd",
    ]);
    assert!(!out.stdout.contains("host secret"), "{out:#?}");
}

#[test]
fn a_missing_host_directory_is_made_as_docker_does() {
    let hull = Hull::shared();
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("a/b");
    hull.ok(&[
        "run",
        "--rm",
        "-v",
        &bind(&missing, "/mnt"),
        "busybox",
        "touch",
        "/mnt/x",
    ]);
    assert!(missing.join("x").exists());
    assert_eq!(
        fs::metadata(&missing).unwrap().uid(),
        nix::unistd::geteuid().as_raw()
    );
}

#[test]
fn an_images_links_cannot_move_a_mount_outside_its_root() {
    let hull = Hull::shared();
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("x"), "seen").unwrap();
    // /var/run is often a link to /run; here a link leads far above the root.
    let id = hull.ok(&[
        "create",
        "-v",
        &bind(dir.path(), "/trap/mnt"),
        "busybox",
        "cat",
        "/tmp/mnt/x",
    ]);
    hull.ok(&["rm", &id]);
    let maker = hull.ok(&[
        "create",
        "busybox",
        "sh",
        "-c",
        "ln -s ../../../../../../tmp /trap; sync",
    ]);
    hull.ok(&["start", "-a", &maker]);
    let tar = dir.path().join("fs.tar");
    hull.ok(&["export", "-o", tar.to_str().unwrap(), &maker]);
    hull.ok(&["import", tar.to_str().unwrap(), "trap:1"]);
    let out = hull.ok(&[
        "run",
        "--rm",
        "-v",
        &bind(dir.path(), "/trap/mnt"),
        "trap:1",
        "cat",
        "/tmp/mnt/x",
    ]);
    assert_eq!(out, "seen");
    hull.ok(&["rm", &maker]);
    hull.ok(&["rmi", "trap:1"]);
}
