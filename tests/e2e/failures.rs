//! What goes wrong is told in one sentence, with docker's exit code, and leaves nothing behind.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::thread;

use crate::archive::{Layer, oci_layout, sha256, tar_directory};
use crate::harness::Hull;

/// Nothing may be left of a command that failed: no container, no temporary file.
#[track_caller]
fn assert_clean(hull: &Hull) {
    assert_eq!(hull.ok(&["ps", "-a", "-q"]), "");
    let left: Vec<_> = fs::read_dir(hull.root().join("tmp")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn missing_programs_give_127_and_unexecutable_ones_126() {
    let hull = Hull::fresh();
    hull.ok(&["pull", "-q", "busybox"]);
    for program in ["no-such-program", "/no/such/program", "./relative"] {
        let error = hull.fails(&["run", "--rm", "busybox", program], 127);
        assert!(error.contains(program), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
    for program in ["/etc", "/etc/passwd"] {
        let error = hull.fails(&["run", "--rm", "busybox", program], 126);
        assert!(
            error.contains("permission denied") || error.contains("is a directory"),
            "{error}"
        );
    }
    assert_clean(&hull);
    // Without --rm the container stays, as docker's does, with its exit code.
    hull.fails(
        &["run", "--name", "stays", "busybox", "no-such-program"],
        127,
    );
    assert_eq!(
        hull.field("stays", "{{.State.Status}} {{.State.ExitCode}}"),
        "created 127"
    );
}

#[test]
fn unknown_users_and_groups_are_named() {
    let hull = Hull::fresh();
    for user in ["nobody-here", "0:no-group"] {
        let error = hull.fails(&["run", "--rm", "-u", user, "busybox", "true"], 125);
        assert!(error.contains("no matching entries"), "{error}");
    }
    assert_clean(&hull);
}

#[test]
fn an_unreachable_registry_and_an_unknown_image_are_named() {
    let hull = Hull::fresh();
    // A port that nobody listens on: bound once, then closed.
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let error = hull.fails(
        &["run", "--rm", &format!("127.0.0.1:{port}/x"), "true"],
        125,
    );
    assert!(error.contains(&format!("127.0.0.1:{port}")), "{error}");
    let error = hull.fails(&["run", "--rm", "no-such-image:1", "true"], 125);
    assert!(error.contains("no-such-image"), "{error}");
    let error = hull.fails(&["run", "--rm", "UPPER", "true"], 125);
    assert!(error.contains("invalid reference format"), "{error}");
    assert_clean(&hull);
}

/// A registry of one image whose blobs are what `change` makes of them.
fn lying_registry(
    layer: Vec<u8>,
    change: impl Fn(&str, Vec<u8>) -> Vec<u8> + Send + 'static,
) -> u16 {
    let dir = tempfile::tempdir().unwrap();
    let layout = oci_layout(dir.path(), "x", &[layer], &["/x"]);
    let index: serde_json::Value =
        serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
    let manifest = index["manifests"][0]["digest"]
        .as_str()
        .unwrap()
        .replace("sha256:", "");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let _keep = dir;
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut request = Vec::new();
            let mut byte = [0; 1];
            while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
                request.push(byte[0]);
            }
            let request = String::from_utf8_lossy(&request).into_owned();
            let path = request.split(' ').nth(1).unwrap_or("/").to_owned();
            let (digest, kind) = match path.rsplit_once('/') {
                Some((before, _)) if before.ends_with("manifests") => (
                    manifest.clone(),
                    "application/vnd.oci.image.manifest.v1+json",
                ),
                Some((_, name)) => (name.replace("sha256:", ""), "application/octet-stream"),
                None => continue,
            };
            let Ok(whole) = fs::read(layout.join("blobs/sha256").join(&digest)) else {
                let _ = stream.write_all(
                    b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
                );
                continue;
            };
            let length = whole.len();
            let body = if kind.starts_with("application/vnd") {
                whole
            } else {
                change(&digest, whole)
            };
            let length = if body.len() < length {
                length
            } else {
                body.len()
            };
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\
                 Docker-Content-Digest: sha256:{digest}\r\nConnection: close\r\n\r\n"
            );
            let _ = stream.write_all(head.as_bytes());
            if !request.starts_with("HEAD") {
                let _ = stream.write_all(&body);
            }
        }
    });
    port
}

#[test]
fn a_blob_with_the_wrong_digest_is_refused() {
    let hull = Hull::fresh();
    let layer = Layer::new().file("x", &vec![5; 100_000]).finish();
    let digest = sha256(&layer);
    let port = lying_registry(layer, move |asked, mut bytes| {
        if asked == digest {
            bytes[600] ^= 1;
        }
        bytes
    });
    let error = hull.fails(&["pull", &format!("127.0.0.1:{port}/x")], 1);
    assert!(error.contains("digest"), "{error}");
    assert_eq!(hull.ok(&["images", "-q"]), "");
    assert_clean(&hull);
}

#[test]
fn a_layer_that_ends_early_is_refused() {
    let hull = Hull::fresh();
    let layer = Layer::new().file("x", &vec![5; 100_000]).finish();
    let digest = sha256(&layer);
    let port = lying_registry(layer, move |asked, mut bytes| {
        if asked == digest {
            bytes.truncate(50_000);
        }
        bytes
    });
    let error = hull.fails(&["pull", &format!("127.0.0.1:{port}/x")], 1);
    assert!(
        error.lines().last().unwrap().starts_with("hull: "),
        "{error}"
    );
    assert_eq!(hull.ok(&["images", "-q"]), "");
    assert_clean(&hull);
}

fn load_fails(layer: Vec<u8>, what: &str) {
    let hull = Hull::fresh();
    let dir = tempfile::tempdir().unwrap();
    let layout = oci_layout(&dir.path().join("l"), "bad:1", &[layer], &["/x"]);
    let tar = dir.path().join("l.tar");
    tar_directory(&layout, &tar);
    let error = hull.fails(&["load", "-i", tar.to_str().unwrap()], 1);
    assert!(error.contains(what), "{error}");
    assert_eq!(error.lines().count(), 1, "{error}");
    assert_eq!(hull.ok(&["images", "-q"]), "");
    assert_clean(&hull);
}

#[test]
fn archives_that_lead_out_are_refused() {
    load_fails(
        Layer::new()
            .raw_name("../../etc/cron.d/evil", b"x")
            .finish(),
        "..",
    );
    load_fails(Layer::new().raw_name("a/../../b", b"x").finish(), "..");
}

#[test]
fn absolute_names_and_links_stay_inside_the_root() {
    let hull = Hull::shared();
    let dir = tempfile::tempdir().unwrap();
    let layer = Layer::new()
        .raw_name("/absolute/file", b"inside")
        .symlink("out", "/etc")
        .symlink("up", "../../../../..")
        .finish();
    let layout = oci_layout(&dir.path().join("l"), "abs:1", &[layer], &["/x"]);
    let tar = dir.path().join("l.tar");
    tar_directory(&layout, &tar);
    hull.ok(&["load", "-q", "-i", tar.to_str().unwrap()]);
    let id = hull.ok(&["create", "abs:1"]);
    let tree = crate::archive::read_tree(&hull.run_binary(&["export", &id])[..]);
    assert_eq!(tree["absolute/file"].content, sha256(b"inside"));
    hull.ok(&["rm", &id]);
    hull.ok(&["rmi", "abs:1"]);
}

#[test]
fn a_bomb_stops_at_the_limit() {
    let hull = Hull::fresh();
    let dir = tempfile::tempdir().unwrap();
    let settings = dir.path().join("config.toml");
    fs::write(&settings, "[limits]\nlayer-bytes = 1000000\n").unwrap();
    let layer = Layer::new().file("big", &vec![0; 2_000_000]).finish();
    let layout = oci_layout(&dir.path().join("l"), "bomb:1", &[layer], &["/x"]);
    let tar = dir.path().join("l.tar");
    tar_directory(&layout, &tar);
    let output = hull
        .command(&["load", "-i", tar.to_str().unwrap()])
        .env("HULL_CONFIG", settings)
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("more than 1000000 bytes"), "{error}");
    assert_clean(&hull);
}

/// A small file system of its own for a state directory.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn mount(at: &Path, size: &str) -> Self {
        fs::create_dir_all(at).unwrap();
        let done = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(at)
            .status()
            .unwrap();
        assert!(done.success(), "mounting needs root, as make test has it");
        Self(at.to_owned())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_is_told_and_loses_nothing() {
    let outer = Hull::fresh();
    let disk = SmallDisk::mount(&outer.root().join("small"), "100m");
    let hull = Hull::at(&disk.0);
    hull.ok(&["pull", "-q", "busybox"]);
    let error = hull.fails(&["pull", "-q", "python"], 1);
    assert!(
        error.contains("No space left") || error.contains("full"),
        "{error}"
    );
    assert_clean(&hull);
    assert_eq!(
        hull.ok(&["run", "--rm", "busybox", "echo", "still works"]),
        "still works"
    );
}

#[test]
fn a_kernel_that_is_not_built_says_how_to_build_it() {
    let hull = Hull::shared();
    let empty = tempfile::tempdir().unwrap();
    let output = hull
        .command(&["run", "--rm", "busybox", "true"])
        .env("HULL_ASSETS", empty.path())
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(125), "{error}");
    assert!(error.contains("hull kernel build"), "{error}");
}

#[test]
fn a_guest_that_panics_is_reported() {
    let hull = Hull::fresh();
    // What ends any guest: its kernel gives up, here because it was told to rather than kill.
    let script = "echo 2 > /proc/sys/vm/panic_on_oom; head -c 400m /dev/zero | tail";
    let done = hull.run(&[
        "run",
        "--name",
        "panics",
        "--privileged",
        "-m",
        "128m",
        "busybox",
        "sh",
        "-c",
        script,
    ]);
    assert_eq!(done.code, 255, "{done:#?}");
    assert!(
        done.stderr.contains("panic") || done.stderr.contains("crash"),
        "{done:#?}"
    );
    assert_eq!(hull.field("panics", "{{.State.Status}}"), "exited");
    hull.ok(&["rm", "panics"]);
}

#[test]
fn a_container_that_needs_too_much_memory_is_killed_alone() {
    let hull = Hull::shared();
    // tail keeps everything up to the next newline, and there is none.
    let script = "head -c 200m /dev/zero | tail; exit $?";
    let done = hull.run(&[
        "run", "--name", "oom-test", "--memory", "96m", "busybox", "sh", "-c", script,
    ]);
    assert_eq!(done.code, 137, "{done:#?}");
    assert_eq!(hull.field("oom-test", "{{.State.OOMKilled}}"), "true");
    hull.ok(&["rm", "oom-test"]);
}

#[test]
fn files_larger_than_the_memory_are_no_lack_of_it() {
    let hull = Hull::shared();
    // Three read at once, so that nothing that is read stays for long.
    let script = "head -c 128m /dev/zero >/file; for i in 1 2 3; do md5sum </file & done; wait";
    let output = hull.ok(&[
        "run", "--rm", "--memory", "64m", "busybox", "sh", "-c", script,
    ]);
    let zeros = "fde9e0818281836e4fc0edfede2b8762  -";
    assert_eq!(output.lines().collect::<Vec<_>>(), [zeros; 3]);
}

#[test]
fn commands_that_are_not_there_yet_say_so() {
    let hull = Hull::shared();
    for word in ["swarm", "search", "secret"] {
        let error = hull.fails(&[word, "ls"], 125);
        assert!(error.contains("not there yet"), "{error}");
    }
    for option in ["--runtime=runc", "--use-api-socket"] {
        let error = hull.fails(&["run", option, "busybox"], 125);
        assert!(error.contains("not there yet"), "{error}");
    }
    let error = hull.fails(&["frobnicate"], 1);
    assert!(error.contains("frobnicate"), "{error}");
}
